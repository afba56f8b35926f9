//! What a model sees of data: a [`Batch`] of sample numbers, [`Features`] touched only by X·W, Xᵀ·Δ and gathering rows, and
//! [`Targets`]. A new way of storing rows (sparse, say) is one more variant of the storage here; nothing above notices.

mod block;
mod one_pass;
mod standardization;

use std::ops::Range;

pub use block::Precision;
pub use standardization::Standardization;

use self::block::Buffer;
use crate::dense::{Matrix, View, check_shape, matmul_add};
use crate::error::{Error, Result, check_count, check_finite, check_len};
use crate::par;

/// Samples handled at once in passes over the data: a block of gathered rows stays in a core's cache.
const BLOCK: usize = 128;
/// Samples of one piece of parallel work, which gathers block after block into the same buffer.
const RUN: usize = 512;

/// Which samples an operation uses. Means are over the batch's entries, repeated ones included.
#[derive(Debug, Clone, Copy)]
pub enum Batch<'a> {
    /// Every sample, in order.
    All,
    /// These samples, in this order; repetition is allowed.
    Indices(&'a [usize]),
}

impl<'a> Batch<'a> {
    /// The number of entries, out of `samples` in all.
    pub fn len(self, samples: usize) -> usize {
        match self {
            Self::All => samples,
            Self::Indices(indices) => indices.len(),
        }
    }

    /// The sample at position `position` of the batch.
    ///
    /// # Panics
    /// If there are indices, and none there.
    pub fn index(self, position: usize) -> usize {
        match self {
            Self::All => position,
            Self::Indices(indices) => indices[position],
        }
    }

    /// The first `count` entries.
    pub fn first(self, count: usize, all: &'a [usize]) -> Batch<'a> {
        let indices = match self {
            Self::All => all,
            Self::Indices(indices) => indices,
        };
        Batch::Indices(&indices[..count.min(indices.len())])
    }

    /// The batch's sample numbers.
    pub fn iter(self, samples: usize) -> impl ExactSizeIterator<Item = usize> + 'a {
        (0..self.len(samples)).map(move |position| self.index(position))
    }

    /// Checks that the batch is not empty and that every index lies below `samples`.
    ///
    /// # Errors
    /// [`Error::Argument`] otherwise.
    pub fn check(self, samples: usize) -> Result<()> {
        if self.len(samples) == 0 {
            return Err(Error::argument("batch", "at least 1 sample", "an empty batch"));
        }
        match self {
            Self::All => Ok(()),
            Self::Indices(indices) => match indices.iter().find(|&&i| i >= samples) {
                None => Ok(()),
                Some(i) => Err(Error::argument("batch", format_args!("indices below {samples}"), i)),
            },
        }
    }
}

/// Feature rows x_i, kept as they came until they are used.
#[derive(Debug, Clone)]
pub struct Features {
    storage: Storage,
    samples: usize,
    stored_width: usize,
    intercept: Intercept,
    precision: Precision,
}

#[derive(Debug, Clone)]
enum Storage {
    F64(Vec<f64>),
    F32(Vec<f32>),
    /// A byte b stands for b · scale, which is `meaning[b]`: in double precision a look-up is several times faster than a conversion.
    Bytes {
        values: Vec<u8>,
        scale: f64,
        meaning: Box<[f64; 256]>,
    },
}

/// Whether a constant feature 1 is appended to each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intercept {
    Absent,
    Last,
}

impl Features {
    /// `samples` rows of `width` numbers, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`], or [`Error::Argument`] for an empty table.
    pub fn from_f64(values: Vec<f64>, samples: usize, width: usize) -> Result<Self> {
        check_finite("features", &values)?;
        Self::new(values.len(), Storage::F64(values), samples, width)
    }

    /// `samples` rows of `width` single-precision numbers, row by row.
    ///
    /// # Errors
    /// As [`from_f64`](Self::from_f64).
    pub fn from_f32(values: Vec<f32>, samples: usize, width: usize) -> Result<Self> {
        if let Some(index) = values.iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite { argument: "features", index, value: values[index].into() });
        }
        Self::new(values.len(), Storage::F32(values), samples, width)
    }

    /// `samples` rows of `width` bytes, row by row; a byte b stands for b · scale.
    ///
    /// # Errors
    /// As [`from_f64`](Self::from_f64), and [`Error::Argument`] for a scale at which 255 is not finite.
    pub fn from_bytes(values: Vec<u8>, samples: usize, width: usize, scale: f64) -> Result<Self> {
        if !(255.0 * scale).is_finite() {
            return Err(Error::argument("scale", "a number whose 255-fold is finite", scale));
        }
        let meaning = Box::new(std::array::from_fn(|b| b as f64 * scale));
        Self::new(values.len(), Storage::Bytes { values, scale, meaning }, samples, width)
    }

    fn new(len: usize, storage: Storage, samples: usize, stored_width: usize) -> Result<Self> {
        check_count("samples", samples)?;
        check_count("width", stored_width)?;
        match samples.checked_mul(stored_width) {
            Some(expected) => check_len("features", len, expected)?,
            None => {
                return Err(Error::shape(
                    "features",
                    format_args!("{samples} × {stored_width} numbers"),
                    format_args!("length {len}"),
                ));
            }
        }
        Ok(Self { storage, samples, stored_width, intercept: Intercept::Absent, precision: Precision::Double })
    }

    /// The same rows with a constant 1 appended, so that a linear model has a bias.
    pub fn with_intercept(mut self) -> Self {
        self.intercept = Intercept::Last;
        self
    }

    /// The same rows, whose products have this precision. What is gathered has every digit that is stored.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The number of rows.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The number of features, the intercept included.
    pub fn width(&self) -> usize {
        self.stored_width + usize::from(self.intercept == Intercept::Last)
    }

    /// The rows at `indices`, in that order, as features of their own.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index out of range or none at all.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        fn pick<T: Copy>(values: &[T], width: usize, indices: &[usize]) -> Vec<T> {
            indices.iter().flat_map(|&i| &values[i * width..(i + 1) * width]).copied().collect()
        }
        Batch::Indices(indices).check(self.samples)?;
        let width = self.stored_width;
        let storage = match &self.storage {
            Storage::F64(values) => Storage::F64(pick(values, width, indices)),
            Storage::F32(values) => Storage::F32(pick(values, width, indices)),
            Storage::Bytes { values, scale, meaning } => {
                Storage::Bytes { values: pick(values, width, indices), scale: *scale, meaning: meaning.clone() }
            }
        };
        Ok(Self { storage, samples: indices.len(), stored_width: width, ..*self })
    }

    /// Appends a row to `out`.
    fn push_row(&self, sample: usize, out: &mut Vec<f64>) {
        let range = sample * self.stored_width..(sample + 1) * self.stored_width;
        match &self.storage {
            Storage::F64(values) => out.extend_from_slice(&values[range]),
            Storage::F32(values) => out.extend(values[range].iter().map(|&x| f64::from(x))),
            Storage::Bytes { values, meaning, .. } => out.extend(values[range].iter().map(|&x| meaning[usize::from(x)])),
        }
        if self.intercept == Intercept::Last {
            out.push(1.0);
        }
    }

    /// The rows at some positions of the batch, as the columns of a matrix that stands in `buffer`.
    fn gather_into<'a>(&self, batch: Batch<'_>, positions: Range<usize>, buffer: &'a mut Vec<f64>) -> Result<View<'a>> {
        let count = positions.len();
        buffer.clear();
        buffer.reserve(count * self.width());
        positions.for_each(|position| self.push_row(batch.index(position), buffer));
        View::from_slice(buffer, self.width(), count)
    }

    /// The batch's rows as the columns of a width × batch matrix.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty batch or an index out of range.
    pub fn gather(&self, batch: Batch<'_>) -> Result<Matrix> {
        batch.check(self.samples)?;
        let n = batch.len(self.samples);
        let mut rows = Vec::new();
        self.gather_into(batch, 0..n, &mut rows)?;
        Matrix::from_columns(self.width(), n, rows)
    }

    /// (X W)ᵀ over the batch, for W width × c: column i is Wᵀx_i. The columns of W are given in one slice after the other, as many as it has in
    /// each. Costs 2·width·c flops a sample.
    ///
    /// # Errors
    /// As [`gather`](Self::gather), and [`Error::Shape`].
    pub fn project(&self, batch: Batch<'_>, w: &[&[f64]]) -> Result<Matrix> {
        batch.check(self.samples)?;
        let (n, w) = (batch.len(self.samples), self.weights(w)?);
        let parts = par::map_blocks(n, RUN, |run| {
            let (mut buffer, mut products) = (Buffer::default(), vec![0.0; run.len() * w.columns]);
            for (block, out) in par::blocks_of(run, BLOCK).zip(products.chunks_mut(BLOCK * w.columns)) {
                self.block(batch, block, &mut buffer)?.project_into(&w, out)?;
            }
            Ok(products)
        });
        let mut all = Vec::with_capacity(n * w.columns);
        for part in parts {
            all.extend(part?);
        }
        Matrix::from_columns(w.columns, n, all)
    }

    /// XᵀΔᵀ = Σ_i x_i δ_iᵀ over the batch, for Δ c × batch with the columns δ_i: width × c.
    ///
    /// # Errors
    /// As [`gather`](Self::gather), and [`Error::Shape`].
    pub fn accumulate(&self, batch: Batch<'_>, delta: &Matrix) -> Result<Matrix> {
        batch.check(self.samples)?;
        let n = batch.len(self.samples);
        check_shape("delta", delta, delta.nrows(), n)?;
        let part = |run: Range<usize>| {
            let (mut buffer, mut sum) = (Buffer::default(), self.sum(delta.nrows()));
            for block in par::blocks_of(run, BLOCK) {
                let rows = self.block(batch, block.clone(), &mut buffer)?;
                rows.accumulate_into(&mut sum, delta.columns(block), |sum, rows, delta| matmul_add(sum, 1.0, rows, delta))?;
            }
            sum.into_matrix()
        };
        let zero = Ok(Matrix::zeros(self.width(), delta.nrows()));
        par::fold_blocks(n, RUN, part, zero, |total: Result<Matrix>, part: Result<Matrix>| {
            let mut total = total?;
            total.add_scaled(1.0, &part?)?;
            Ok(total)
        })
    }
}

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Targets {
    /// Class numbers below `classes`.
    Classes {
        /// y_i, one a sample.
        labels: Vec<u32>,
        /// The number of classes.
        classes: usize,
    },
    /// Real numbers.
    Real {
        /// y_i, one a sample.
        values: Vec<f64>,
    },
    /// Real vectors.
    Vectors {
        /// y_i, one after the other.
        values: Vec<f64>,
        /// The numbers of a sample.
        width: usize,
    },
}

impl Targets {
    /// Class labels.
    ///
    /// # Errors
    /// [`Error::Argument`] for a label of `classes` or more (with its position), or no classes at all.
    pub fn classes(labels: Vec<u32>, classes: usize) -> Result<Self> {
        check_count("classes", classes)?;
        match labels.iter().position(|&y| y as usize >= classes) {
            None => Ok(Self::Classes { labels, classes }),
            Some(i) => {
                Err(Error::argument("labels", format_args!("labels below {classes}"), format_args!("{} at sample {i}", labels[i])))
            }
        }
    }

    /// Real targets.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn real(values: Vec<f64>) -> Result<Self> {
        check_finite("targets", &values)?;
        Ok(Self::Real { values })
    }

    /// Real vectors of `width` numbers, one after the other.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Argument`] for a width of 0, [`Error::Shape`] if the last vector is cut short.
    pub fn vectors(values: Vec<f64>, width: usize) -> Result<Self> {
        check_finite("targets", &values)?;
        check_count("target width", width)?;
        check_len("targets", values.len(), values.len().div_ceil(width) * width)?;
        Ok(Self::Vectors { values, width })
    }

    /// What the targets are, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Self::Classes { .. } => "class labels",
            Self::Real { .. } => "real numbers",
            Self::Vectors { .. } => "real vectors",
        }
    }

    /// The labels and the number of classes.
    ///
    /// # Errors
    /// [`Error::Argument`] for targets of another kind.
    pub fn as_classes(&self) -> Result<(&[u32], usize)> {
        match self {
            Self::Classes { labels, classes } => Ok((labels, *classes)),
            _ => Err(Error::argument("targets", "class labels", self.kind())),
        }
    }

    /// The real targets.
    ///
    /// # Errors
    /// [`Error::Argument`] for targets of another kind.
    pub fn as_real(&self) -> Result<&[f64]> {
        match self {
            Self::Real { values } => Ok(values),
            _ => Err(Error::argument("targets", "real numbers", self.kind())),
        }
    }

    /// The real vectors, one after the other, and their width; real numbers are vectors of width 1.
    ///
    /// # Errors
    /// [`Error::Argument`] for targets of another kind.
    pub fn as_vectors(&self) -> Result<(&[f64], usize)> {
        match self {
            Self::Real { values } => Ok((values, 1)),
            Self::Vectors { values, width } => Ok((values, *width)),
            Self::Classes { .. } => Err(Error::argument("targets", "real numbers or vectors", self.kind())),
        }
    }

    /// The number of targets.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Real { values } => values.len(),
            Self::Vectors { values, width } => values.len() / width,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets at `indices`, in that order.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index out of range or none at all.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        Batch::Indices(indices).check(self.len())?;
        match self {
            Self::Classes { labels, classes } => {
                Ok(Self::Classes { labels: indices.iter().map(|&i| labels[i]).collect(), classes: *classes })
            }
            Self::Real { values } => Ok(Self::Real { values: indices.iter().map(|&i| values[i]).collect() }),
            Self::Vectors { values, width } => {
                let picked = indices.iter().flat_map(|&i| &values[i * width..(i + 1) * width]).copied().collect();
                Ok(Self::Vectors { values: picked, width: *width })
            }
        }
    }
}

/// Features and their targets.
#[derive(Debug, Clone)]
pub struct Samples {
    /// x_i.
    pub features: Features,
    /// y_i.
    pub targets: Targets,
}

impl Samples {
    /// Pairs features with targets.
    ///
    /// # Errors
    /// [`Error::Shape`] if their numbers differ.
    pub fn new(features: Features, targets: Targets) -> Result<Self> {
        check_len("targets", targets.len(), features.samples())?;
        Ok(Self { features, targets })
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.features.samples()
    }

    /// Whether there are none (never: features refuse to be empty).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples at `indices`, in that order.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index out of range or none at all.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        Self::new(self.features.select(indices)?, self.targets.select(indices)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    #[test]
    fn every_storage_gives_the_products_of_its_rows() {
        for (n, p, c) in [(1, 1, 1), (2, 3, 1), (63, 5, 2), (64, 4, 3), (65, 7, 10), (127, 2, 4), (700, 6, 3)] {
            let bytes: Vec<u8> = (0..n * p).map(|i| (i * 37 % 251) as u8).collect();
            let values: Vec<f64> = bytes.iter().map(|&b| f64::from(b) * 0.25).collect();
            let forms = [
                Features::from_bytes(bytes, n, p, 0.25).unwrap(),
                Features::from_f32(values.iter().map(|&x| x as f32).collect(), n, p).unwrap(),
                Features::from_f64(values.clone(), n, p).unwrap(),
            ];
            let row = |i: usize, j: usize| if j == p { 1.0 } else { values[i * p + j] };
            let indices: Vec<usize> = (0..n + 2).map(|i| (i * 13) % n).collect();
            let w = Matrix::from_columns(p + 1, c, Key::new(1).stream().normals((p + 1) * c)).unwrap();
            for features in forms.map(Features::with_intercept) {
                for batch in [Batch::All, Batch::Indices(&indices)] {
                    let m = batch.len(n);
                    let rows = features.gather(batch).unwrap();
                    assert_eq!(rows, Matrix::from_fn(p + 1, m, |j, i| row(batch.index(i), j)));
                    let z = features.project(batch, &[w.as_slice()]).unwrap();
                    let delta = Matrix::from_columns(c, m, Key::new(2).stream().normals(c * m)).unwrap();
                    let sum = features.accumulate(batch, &delta).unwrap();
                    for k in 0..c {
                        for i in 0..m {
                            let expected: f64 = (0..=p).map(|j| row(batch.index(i), j) * w[(j, k)]).sum();
                            assert!((z[(k, i)] - expected).abs() < 1e-10 * (1.0 + expected.abs()));
                        }
                        for j in 0..=p {
                            let expected: f64 = (0..m).map(|i| row(batch.index(i), j) * delta[(k, i)]).sum();
                            assert!((sum[(j, k)] - expected).abs() < 1e-8);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn bad_tables_and_batches_are_refused() {
        assert!(Features::from_f64(vec![0.0; 5], 2, 3).unwrap_err().to_string().contains("expected length 6, found length 5"));
        assert!(Features::from_f64(vec![], 0, 3).is_err());
        assert!(Features::from_f32(vec![f32::NAN], 1, 1).is_err());
        let features = Features::from_f64(vec![0.0; 6], 2, 3).unwrap();
        for batch in [Batch::Indices(&[]), Batch::Indices(&[0, 2])] {
            assert_eq!(features.gather(batch).unwrap_err().offending_argument(), Some("batch"));
            assert!(features.project(batch, &[&[0.0; 3]]).is_err());
        }
        assert!(features.project(Batch::All, &[&[0.0; 2]]).is_err());
        assert!(features.accumulate(Batch::All, &Matrix::zeros(1, 3)).is_err());
        assert!(Targets::classes(vec![0, 3], 3).unwrap_err().to_string().contains("3 at sample 1"));
        assert!(Samples::new(features, Targets::classes(vec![0], 3).unwrap()).is_err());
        assert!(Targets::real(vec![1.0, f64::NAN]).unwrap_err().to_string().contains("entry 1 is NaN"));
    }

    #[test]
    fn targets_are_picked_in_order_and_know_their_kind() {
        let (classes, real) = (Targets::classes(vec![2, 0, 1], 3).unwrap(), Targets::real(vec![0.5, -1.0, 2.0]).unwrap());
        assert_eq!(classes.select(&[2, 0, 0]).unwrap().as_classes().unwrap(), ([1, 2, 2].as_slice(), 3));
        assert_eq!(real.select(&[2, 0, 0]).unwrap().as_real().unwrap(), [2.0, 0.5, 0.5]);
        assert_eq!((real.len(), real.is_empty()), (3, false));
        assert!(real.select(&[3]).is_err());
        let vectors = Targets::vectors(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2).unwrap();
        assert_eq!(vectors.len(), 3);
        assert_eq!(vectors.select(&[2, 0]).unwrap().as_vectors().unwrap(), ([5.0, 6.0, 1.0, 2.0].as_slice(), 2));
        assert_eq!(real.as_vectors().unwrap(), ([0.5, -1.0, 2.0].as_slice(), 1));
        assert!(vectors.as_real().unwrap_err().to_string().ends_with("real vectors") && classes.as_vectors().is_err());
        assert_eq!(Targets::vectors(vec![0.0; 5], 2).unwrap_err().offending_argument(), Some("targets"));
        assert_eq!(Targets::vectors(vec![0.0; 4], 0).unwrap_err().offending_argument(), Some("target width"));
        assert!(Targets::vectors(vec![f64::NAN; 2], 2).is_err());
        for (error, found) in [(classes.as_real().unwrap_err(), "class labels"), (real.as_classes().unwrap_err(), "real numbers")] {
            assert!(error.to_string().starts_with("targets: expected") && error.to_string().ends_with(found), "{error}");
        }
    }
}
