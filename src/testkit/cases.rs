//! Gradient blocks to try an implementation on, each with the rows that it stands for, expanded here by the definition of its form:
//! at sizes astride the block sizes, with weights, zero rows, one row many times, rows on a line.

use crate::dense::{Matrix, matmul, qr};
use crate::error::{Error, Result};
use crate::gradient::{DenseRows, GradientBlock, KroneckerRows, LayeredRows};
use crate::rng::Key;

/// Numbers of samples: one, two, and astride a power of two and its double.
pub const SIZES: [usize; 6] = [1, 2, 63, 64, 65, 127];

/// A block and the rows it stands for.
#[derive(Debug, Clone)]
pub struct Case {
    /// The block.
    pub block: GradientBlock,
    /// G, rows × d.
    pub expanded: Matrix,
    /// The number of samples.
    pub samples: usize,
}

/// What a block's rows are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Independent normal numbers.
    Random,
    /// Random rows times √w, with weights w of 0, 1/4, 1 and 9/4 in turn.
    Weighted,
    /// All zero.
    Zero,
    /// One sample's rows again and again.
    Duplicate,
    /// Multiples of one row, some of them zero.
    Line,
}

impl Content {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Random, Self::Weighted, Self::Zero, Self::Duplicate, Self::Line];
}

/// The size and content of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The number of samples.
    pub samples: usize,
    /// Adjacent rows of one sample.
    pub rows_per_sample: usize,
    /// What the rows are like.
    pub content: Content,
}

impl Shape {
    /// Random rows, one a sample.
    pub fn random(samples: usize) -> Self {
        Self { samples, rows_per_sample: 1, content: Content::Random }
    }

    /// Each of [`SIZES`] with each content, one to three rows a sample.
    pub fn all() -> impl Iterator<Item = Self> {
        let each = |(i, samples)| Content::ALL.into_iter().enumerate().map(move |(j, content)| (i + j, samples, content));
        SIZES.into_iter().enumerate().flat_map(each).map(|(turn, samples, content)| Self {
            samples,
            rows_per_sample: 1 + turn % 3,
            content,
        })
    }

    /// The rows of the block.
    pub fn rows(&self) -> usize {
        self.samples * self.rows_per_sample
    }

    /// √w of the sample.
    fn root_weight(&self, sample: usize) -> f64 {
        if self.content == Content::Weighted { [0.0, 0.5, 1.0, 1.5][sample % 4] } else { 1.0 }
    }

    /// What random column `column` of `per_sample` a sample becomes: which column, times what.
    fn source(&self, column: usize, per_sample: usize) -> (usize, f64) {
        match self.content {
            Content::Random | Content::Weighted => (column, 1.0),
            Content::Zero => (column, 0.0),
            Content::Duplicate => (column % per_sample, 1.0),
            Content::Line => (0, [1.0, -2.0, 0.0, 3.0][column % 4]),
        }
    }
}

/// Normal numbers of 24 bits, so that a product of two of them is exact and an expanded row x ⊗ δ carries no rounding.
pub fn short_normals(key: Key, nrows: usize, ncols: usize) -> Matrix {
    let mut stream = key.stream();
    Matrix::from_fn(nrows, ncols, |_, _| f64::from(stream.normal() as f32))
}

/// Rows x_i ⊗ δ_i: entry k·p + j of row i is x\[j, i / r\] δ\[k, i\], for inputs p × samples and deltas C × rows.
///
/// # Errors
/// As [`KroneckerRows::new`].
pub fn kronecker(inputs: Matrix, deltas: Matrix, rows_per_sample: usize) -> Result<Case> {
    let block = KroneckerRows::new(inputs.clone(), deltas.clone(), rows_per_sample)?.into();
    let p = inputs.nrows();
    let entry = |i: usize, column: usize| inputs[(column % p, i / rows_per_sample)] * deltas[(column / p, i)];
    Ok(Case { block, expanded: Matrix::from_fn(deltas.ncols(), p * deltas.nrows(), entry), samples: inputs.ncols() })
}

/// Rows [x₁ ⊗ δ₁, x₂ ⊗ δ₂, …] of several layers, given as (inputs, deltas): the layers' entries one after the other.
///
/// # Errors
/// As [`LayeredRows::new`].
pub fn layered(layers: Vec<(Matrix, Matrix)>, rows_per_sample: usize) -> Result<Case> {
    let (mut rows, mut expanded) = (Vec::new(), Vec::new());
    for (inputs, deltas) in layers {
        expanded.extend(kronecker(inputs.clone(), deltas.clone(), rows_per_sample)?.expanded.into_vec());
        rows.push(KroneckerRows::new(inputs, deltas, rows_per_sample)?);
    }
    let block: GradientBlock = LayeredRows::new(rows)?.into();
    let expanded = Matrix::from_columns(block.rows(), block.dim(), expanded)?;
    Ok(Case { samples: block.samples(), block, expanded })
}

/// The rows of `expanded` as they are.
///
/// # Errors
/// As [`DenseRows::new`].
pub fn stored(expanded: Matrix, rows_per_sample: usize) -> Result<Case> {
    let block: GradientBlock = DenseRows::new(expanded.t().to_matrix(), rows_per_sample)?.into();
    Ok(Case { samples: block.samples(), block, expanded })
}

/// Rows x_i ⊗ δ_i of a shape, for p inputs and C outputs.
///
/// # Errors
/// As [`kronecker`].
pub fn kronecker_of(shape: Shape, inputs: usize, outputs: usize, key: Key) -> Result<Case> {
    let (x, delta) = factors(shape, inputs, outputs, key);
    kronecker(x, delta, shape.rows_per_sample)
}

/// Layered rows of a shape, for the (inputs, outputs) of each layer.
///
/// # Errors
/// As [`layered`].
pub fn layered_of(shape: Shape, widths: &[(usize, usize)], key: Key) -> Result<Case> {
    let layer = |(l, &(inputs, outputs)): (usize, &(usize, usize))| factors(shape, inputs, outputs, key.child(l as u64));
    layered(widths.iter().enumerate().map(layer).collect(), shape.rows_per_sample)
}

/// X and Δ of a shape.
fn factors(shape: Shape, inputs: usize, outputs: usize, key: Key) -> (Matrix, Matrix) {
    let r = shape.rows_per_sample;
    let (x, delta) = (short_normals(key.child(0), inputs, shape.samples), short_normals(key.child(1), outputs, shape.rows()));
    let picked = |from: &Matrix, per_sample: usize, i: usize, column: usize| {
        let (source, factor) = shape.source(column, per_sample);
        factor * from[(i, source)]
    };
    let x = Matrix::from_fn(inputs, shape.samples, |i, sample| picked(&x, 1, i, sample));
    (x, Matrix::from_fn(outputs, shape.rows(), |k, row| shape.root_weight(row / r) * picked(&delta, r, k, row)))
}

/// Stored rows of a shape, of length `dim`.
///
/// # Errors
/// As [`stored`].
pub fn stored_of(shape: Shape, dim: usize, key: Key) -> Result<Case> {
    let r = shape.rows_per_sample;
    let rows = short_normals(key, shape.rows(), dim);
    let entry = |row: usize, j: usize| {
        let (source, factor) = shape.source(row, r);
        shape.root_weight(row / r) * factor * rows[(source, j)]
    };
    stored(Matrix::from_fn(shape.rows(), dim, entry), r)
}

/// Rows of `samples` samples whose GᵀG/samples has the given eigenvalues (rounding apart), in random directions.
///
/// # Errors
/// [`Error::Argument`] for more eigenvalues than samples or dimensions.
pub fn with_spectrum(key: Key, samples: usize, dim: usize, eigenvalues: &[f64]) -> Result<Case> {
    let k = eigenvalues.len();
    if k > samples.min(dim) {
        return Err(Error::argument("eigenvalues", format_args!("at most {}", samples.min(dim)), k));
    }
    let basis = |key: Key, m: usize| qr(&Matrix::from_columns(m, k, key.stream().normals(m * k))?);
    let (left, right) = (basis(key.child(0), samples)?.0, basis(key.child(1), dim)?.0);
    let scaled = Matrix::from_fn(samples, k, |i, j| left[(i, j)] * (eigenvalues[j] * samples as f64).sqrt());
    stored(matmul(&scaled, right.t())?, 1)
}

impl Case {
    /// The same samples, cut into blocks of `chunk`.
    pub fn pieces(&self, chunk: usize) -> Vec<Self> {
        let r = self.expanded.nrows() / self.samples.max(1);
        let piece = |range: std::ops::Range<usize>| {
            let expanded = self.expanded.rows(range.start * r..range.end * r).to_matrix();
            Self { samples: range.len(), block: self.block.part(range), expanded }
        };
        crate::par::blocks(self.samples, chunk).map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_all_sizes_and_contents_and_have_the_content_they_name() {
        assert_eq!(Shape::all().count(), 30);
        for shape in Shape::all() {
            let layered = layered_of(shape, &[(3, 2), (1, 4)], Key::new(1)).unwrap();
            for case in [kronecker_of(shape, 3, 2, Key::new(1)).unwrap(), stored_of(shape, 6, Key::new(1)).unwrap(), layered] {
                let (n, r) = (shape.samples, shape.rows_per_sample);
                assert_eq!((case.samples, case.expanded.nrows(), case.block.rows()), (n, n * r, n * r));
                let row = |i: usize| case.expanded.rows(i..i + 1).to_matrix().into_vec();
                let zero = |i: usize| row(i).iter().all(|&x| x == 0.0);
                match shape.content {
                    Content::Random => assert!(!(0..n * r).any(zero) && (n * r < 2 || row(0) != row(n * r - 1))),
                    Content::Weighted => assert!((0..n * r).all(|i| zero(i) == ((i / r) % 4 == 0))),
                    Content::Zero => assert!((0..n * r).all(zero)),
                    Content::Duplicate => assert!((0..n * r).all(|i| row(i) == row(i % r))),
                    Content::Line => {
                        assert_eq!(crate::dense::svd(&case.expanded).unwrap().values.iter().filter(|&&s| s > 1e-12).count(), 1);
                        assert!(n < 3 || (0..n * r).any(zero));
                    }
                }
            }
        }
    }
}
