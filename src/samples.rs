//! What a model sees of data: a [`Batch`] of sample numbers, [`Features`] touched only by X·W, Xᵀ·Δ and gathering rows, and
//! [`Targets`]. A new way of storing rows (sparse, say) is one more variant of the storage here; nothing above notices.

mod batch;
mod block;
mod one_pass;
mod standardization;
mod targets;

use std::ops::Range;

pub use batch::Batch;
pub use block::Precision;
pub use standardization::Standardization;
pub use targets::Targets;

use self::block::Buffer;
use crate::dense::{Matrix, View, check_shape, matmul_add};
use crate::error::{Error, Result, check_count, check_finite, check_len};
use crate::par;
use crate::reused::Reused;

/// Samples handled at once in passes over the data: a block of gathered rows stays in a core's cache.
const BLOCK: usize = 128;
/// Samples of one piece of parallel work, which gathers block after block into the same buffer.
const RUN: usize = 512;

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
    fn gather_into<'a>(&self, batch: Batch<'_>, positions: Range<usize>, buffer: &'a mut Reused<f64>) -> Result<View<'a>> {
        let count = positions.len();
        let rows = buffer.empty(count * self.width());
        self.touch(batch, positions.clone());
        positions.for_each(|position| self.push_row(batch.index(position), rows));
        View::from_slice(rows, self.width(), count)
    }

    /// The batch's rows as the columns of a width × batch matrix.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty batch or an index out of range.
    pub fn gather(&self, batch: Batch<'_>) -> Result<Matrix> {
        batch.check(self.samples)?;
        let n = batch.len(self.samples);
        let mut rows = Reused::default();
        self.gather_into(batch, 0..n, &mut rows)?;
        Matrix::from_reused(self.width(), n, rows)
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
}
