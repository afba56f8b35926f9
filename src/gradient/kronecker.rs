//! Per-sample gradients of a linear layer, in factored form: row i is x_i ⊗ δ_i, the layer's input times the derivative of the
//! loss with respect to its output. G (rows × p·C) is never formed; its Gram matrix is (XXᵀ) ∘ (ΔΔᵀ).
//!
//! **Flattening order.** θ is the p × C weight matrix column by column: θ[k·p + j] weighs input j for output k.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::check_rows;
use crate::dense::{Matrix, View, add_and_square, check_shape, dot, gram, matmul, matmul_add_here};
use crate::error::{self, Error, Result, check_count};
use crate::par;
use crate::reused::Reused;

/// Samples whose products are formed at once.
const BLOCK: usize = 128;
/// Numbers of a tall matrix that are worked on at once: a core's own cache holds them beside the inputs of a block.
const TILE: usize = 1 << 15;
/// Columns of p entries that are worth a task of their own.
const FEWEST: usize = 5;
/// Into so many tasks a small product is cut.
const TASKS: usize = 16;

/// A block G of rows x_i ⊗ δ_i; the `rows_per_sample` rows of a sample share its x_i, which is stored once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct KroneckerRows {
    /// x_i as the columns, p × samples.
    inputs: Matrix,
    /// √w_i δ_i as the columns, C × rows.
    deltas: Matrix,
    rows_per_sample: usize,
}

/// Rows as they were read, not yet checked.
#[derive(Deserialize)]
struct Stored {
    inputs: Matrix,
    deltas: Matrix,
    rows_per_sample: usize,
}

impl TryFrom<Stored> for KroneckerRows {
    type Error = Error;

    fn try_from(Stored { inputs, deltas, rows_per_sample }: Stored) -> Result<Self> {
        Self::new(inputs, deltas, rows_per_sample)
    }
}

impl KroneckerRows {
    /// The rows `inputs[:, i / r] ⊗ deltas[:, i]`, for r = `rows_per_sample`; √w belongs into `deltas`.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty block, [`Error::Shape`] if the numbers of inputs and deltas do not fit, [`Error::NotFinite`].
    pub fn new(inputs: Matrix, deltas: Matrix, rows_per_sample: usize) -> Result<Self> {
        check_count("input width", inputs.nrows())?;
        check_count("output width", deltas.nrows())?;
        check_rows(deltas.ncols(), rows_per_sample)?;
        check_shape("inputs", &inputs, inputs.nrows(), deltas.ncols() / rows_per_sample)?;
        let block = Self { inputs, deltas, rows_per_sample };
        block.check_finite()?;
        Ok(block)
    }

    /// The inputs x_i, p × samples.
    pub fn inputs(&self) -> &Matrix {
        &self.inputs
    }

    /// The output derivatives √w_i δ_i, C × rows.
    pub fn deltas(&self) -> &Matrix {
        &self.deltas
    }

    fn input_width(&self) -> usize {
        self.inputs.nrows()
    }

    fn output_width(&self) -> usize {
        self.deltas.nrows()
    }

    pub(super) fn samples(&self) -> usize {
        self.inputs.ncols()
    }

    pub(super) fn rows(&self) -> usize {
        self.deltas.ncols()
    }

    pub(super) fn dim(&self) -> usize {
        self.input_width() * self.output_width()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.inputs.as_slice()) + size_of_val(self.deltas.as_slice())
    }

    /// GΩ for the d rows of Ω from `first` on. A column of them is p × C, so that P = XᵀΩ is one product for all columns; the column's entries are
    /// then Σ_k δ_k ∘ P_k.
    pub(super) fn project(&self, omega: &Matrix, first: usize) -> Result<Matrix> {
        let (p, c, r, d) = (self.input_width(), self.output_width(), self.rows_per_sample, self.dim());
        let weights = self.deltas.t().to_matrix();
        let cuts: Vec<_> = par::blocks(omega.ncols(), (TILE / d).max(1))
            .flat_map(|columns| par::blocks(self.samples(), BLOCK).map(move |samples| (columns.clone(), samples)))
            .collect();
        let parts = par::map(cuts.clone(), |(columns, samples)| -> Result<Matrix> {
            let mut tile = Matrix::zeros(0, 0);
            let entries = if omega.nrows() == d {
                &omega.as_slice()[columns.start * d..columns.end * d]
            } else {
                tile.reshape(d, columns.len());
                for (j, column) in columns.clone().enumerate() {
                    tile.col_mut(j).copy_from_slice(&omega.col(column)[first..first + d]);
                }
                tile.as_slice()
            };
            let entries = View::from_slice(entries, p, c * columns.len())?;
            let mut products = Matrix::zeros(samples.len(), c * columns.len());
            matmul_add_here(&mut products, 1.0, self.inputs.columns(samples.clone()).t(), entries)?;
            let mut part = Matrix::zeros(samples.len() * r, columns.len());
            for j in 0..products.ncols() {
                let weights = &weights.col(j % c)[samples.start * r..samples.end * r];
                add_weighted(part.col_mut(j / c), weights, products.col(j));
            }
            Ok(part)
        });
        let mut product = Matrix::zeros(self.rows(), omega.ncols());
        for ((columns, samples), part) in cuts.into_iter().zip(parts) {
            let part = part?;
            for (j, column) in columns.enumerate() {
                product.col_mut(column)[samples.start * r..samples.end * r].copy_from_slice(part.col(j));
            }
        }
        Ok(product)
    }

    /// Adds GᵀC to the d rows of Y from `first` on, and returns the sum of the squares of what these are then. A column of them is p × C, so that GᵀC
    /// is one product of X with the numbers Σ δ_k C_l, the sum over the rows of a sample.
    pub(super) fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix, first: usize) -> Result<f64> {
        let (p, c, r, d, height) = (self.input_width(), self.output_width(), self.rows_per_sample, self.dim(), y.nrows());
        let weights = self.deltas.t().to_matrix();
        let columns = c * y.ncols();
        let mut entries = y.as_mut_slice().chunks_exact_mut(height).flat_map(|y| y[first..first + d].chunks_exact_mut(p));
        let group = columns.div_ceil(TASKS).clamp(FEWEST, FEWEST.max(TILE / p));
        let groups = par::blocks(columns, group).map(|range| (range.clone(), entries.by_ref().take(range.len()).collect()));
        let squares = par::map(groups.collect(), |(range, entries): (Range<usize>, Vec<&mut [f64]>)| -> Result<f64> {
            let mut sum = Matrix::zeros(p, range.len());
            let mut scaled = Matrix::zeros(0, 0);
            for samples in par::blocks(self.samples(), BLOCK) {
                let rows = samples.start * r..samples.end * r;
                scaled.reshape(samples.len(), range.len());
                for (j, column) in range.clone().enumerate() {
                    let (weights, coefficients) =
                        (&weights.col(column % c)[rows.clone()], &coefficients.col(column / c)[rows.clone()]);
                    sum_of_products(weights, coefficients, scaled.col_mut(j));
                }
                matmul_add_here(&mut sum, 1.0, self.inputs.columns(samples), &scaled)?;
            }
            Ok(entries.into_iter().enumerate().map(|(j, y)| add_and_square(sum.col(j), y)).sum())
        });
        squares.into_iter().sum()
    }

    pub(super) fn gram(&self) -> Result<Matrix> {
        if self.rows_per_sample == 1 {
            let (mut result, deltas) = (gram(self.inputs.t()), gram(self.deltas.t()));
            result.as_mut_slice().iter_mut().zip(deltas.as_slice()).for_each(|(x, d)| *x *= d);
            return Ok(result);
        }
        Ok(self.hadamard(gram(self.inputs.t()), |i, j, deltas| deltas[(i, j)], &gram(self.deltas.t())))
    }

    /// `inputs[i / r, j / r] * weight(i, j, deltas)`, for a samples × samples matrix of inputs.
    fn hadamard(&self, inputs: Matrix, weight: impl Fn(usize, usize, &Matrix) -> f64 + Sync, deltas: &Matrix) -> Matrix {
        let (n, r) = (self.rows(), self.rows_per_sample);
        let mut result = Matrix::zeros(n, n);
        par::for_chunks(result.as_mut_slice(), n, |j, column| {
            let input = inputs.col(j / r);
            column.iter_mut().enumerate().for_each(|(i, entry)| *entry = input[i / r] * weight(i, j, deltas));
        });
        result
    }

    /// Σ_k (X D_k Xᵀ) ∘ (δ_k δ_kᵀ), D_k the part of D that belongs to output k.
    pub(super) fn gram_with(&self, diagonal: &[f64]) -> Result<Matrix> {
        let mut result = Matrix::zeros(self.rows(), self.rows());
        for (k, part) in diagonal.chunks_exact(self.input_width()).enumerate() {
            let mut scaled = self.inputs.clone();
            for i in 0..scaled.ncols() {
                scaled.col_mut(i).iter_mut().zip(part).for_each(|(x, d)| *x *= d);
            }
            let inputs = matmul(self.inputs.t(), &scaled)?;
            result.add_scaled(1.0, &self.hadamard(inputs, |i, j, deltas| deltas[(k, i)] * deltas[(k, j)], &self.deltas))?;
        }
        Ok(result)
    }

    /// Block (k, l) of GᵀG is X diag(Σ_rows δ_k δ_l) Xᵀ.
    pub(super) fn scatter(&self) -> Result<Matrix> {
        weighted_outer(&self.inputs, self.output_width(), |sample, k, l| {
            let rows = sample * self.rows_per_sample..(sample + 1) * self.rows_per_sample;
            rows.map(|row| self.deltas[(k, row)] * self.deltas[(l, row)]).sum()
        })
    }

    pub(super) fn squared_row_norms(&self) -> Vec<f64> {
        let mut inputs = Reused::with_capacity(self.samples());
        inputs.extend((0..self.samples()).map(|i| dot(self.inputs.col(i), self.inputs.col(i))));
        let delta = |row| dot(self.deltas.col(row), self.deltas.col(row));
        let mut squares = Reused::with_capacity(self.rows());
        squares.extend((0..self.rows()).map(|row| inputs[row / self.rows_per_sample] * delta(row)));
        squares.into_vec()
    }

    /// (XXᵀ) ∘ (ΔΔᵀ) across two blocks.
    pub(super) fn cross_gram(&self, other: &Self) -> Result<Matrix> {
        error::check_len("input width", other.input_width(), self.input_width())?;
        error::check_len("output width", other.output_width(), self.output_width())?;
        let (inputs, mut result) = (matmul(self.inputs.t(), &other.inputs)?, matmul(self.deltas.t(), &other.deltas)?);
        for j in 0..result.ncols() {
            let input = inputs.col(j / other.rows_per_sample);
            result.col_mut(j).iter_mut().enumerate().for_each(|(i, x)| *x *= input[i / self.rows_per_sample]);
        }
        Ok(result)
    }

    /// Entry k·p + j: Σ_i x_ij² Σ_rows δ_k².
    pub(super) fn squared_column_norms(&self) -> Vec<f64> {
        let squared = |m: &Matrix| Matrix::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)] * m[(i, j)]);
        let (inputs, deltas, r) = (squared(&self.inputs), squared(&self.deltas), self.rows_per_sample);
        let summed = Matrix::from_fn(deltas.nrows(), self.samples(), |k, i| (i * r..(i + 1) * r).map(|row| deltas[(k, row)]).sum());
        let mut sums = vec![0.0; self.dim()];
        for i in 0..self.samples() {
            for (part, delta) in sums.chunks_exact_mut(self.input_width()).zip(summed.col(i)) {
                part.iter_mut().zip(inputs.col(i)).for_each(|(sum, x)| *sum += x * delta);
            }
        }
        sums
    }

    pub(super) fn part(&self, samples: Range<usize>) -> Self {
        let r = self.rows_per_sample;
        let deltas = self.deltas.columns(samples.start * r..samples.end * r).to_matrix();
        Self { inputs: self.inputs.columns(samples).to_matrix(), deltas, rows_per_sample: r }
    }

    /// Entry k·p + j of row i is x_j δ_k.
    pub(super) fn expand(&self, range: Range<usize>) -> Matrix {
        let (p, r) = (self.input_width(), self.rows_per_sample);
        Matrix::from_fn(self.dim(), range.len(), |entry, i| {
            let row = range.start + i;
            self.inputs[(entry % p, row / r)] * self.deltas[(entry / p, row)]
        })
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.deltas.scale(factor);
    }

    pub(super) fn stack(blocks: &[&Self]) -> Result<Self> {
        let first = blocks[0];
        for block in blocks {
            error::check_len("rows per sample", block.rows_per_sample, first.rows_per_sample)?;
            error::check_len("input width", block.input_width(), first.input_width())?;
            error::check_len("output width", block.output_width(), first.output_width())?;
        }
        let samples: usize = blocks.iter().map(|b| b.samples()).sum();
        let rows: usize = blocks.iter().map(|b| b.rows()).sum();
        let mut inputs = Reused::with_capacity(first.input_width() * samples);
        let mut deltas = Reused::with_capacity(first.output_width() * rows);
        for block in blocks {
            inputs.extend_from_slice(block.inputs.as_slice());
            deltas.extend_from_slice(block.deltas.as_slice());
        }
        Ok(Self {
            inputs: Matrix::from_reused(first.input_width(), samples, inputs)?,
            deltas: Matrix::from_reused(first.output_width(), rows, deltas)?,
            rows_per_sample: first.rows_per_sample,
        })
    }

    pub(super) fn check_finite(&self) -> Result<()> {
        error::check_finite("gradient inputs", self.inputs.as_slice())?;
        error::check_finite("gradient deltas", self.deltas.as_slice())
    }
}

/// The symmetric p·C × p·C matrix whose block (k, l) is Σ_i weight(i, k, l) x_i x_iᵀ, x_i the columns of `inputs`:
/// C(C+1)/2 products of 2np² flops. `weight` must be symmetric in k and l.
///
/// # Errors
/// [`Error::Shape`] never, for a consistent `inputs`.
pub fn weighted_outer(inputs: &Matrix, outputs: usize, weight: impl Fn(usize, usize, usize) -> f64 + Sync) -> Result<Matrix> {
    let p = inputs.nrows();
    let pairs: Vec<(usize, usize)> = (0..outputs).flat_map(|k| (0..=k).map(move |l| (k, l))).collect();
    let parts = par::map(pairs, |(k, l)| {
        let mut scaled = inputs.clone();
        for i in 0..scaled.ncols() {
            let w = weight(i, k, l);
            scaled.col_mut(i).iter_mut().for_each(|x| *x *= w);
        }
        Ok((k, l, matmul(&scaled, inputs.t())?))
    });
    let mut result = Matrix::zeros(p * outputs, p * outputs);
    for part in parts {
        let (k, l, block) = part?;
        for j in 0..p {
            for i in 0..p {
                // The block is symmetric but for rounding; its mean with its transpose is symmetric to the bit.
                let entry = 0.5 * (block[(i, j)] + block[(j, i)]);
                result[(k * p + i, l * p + j)] = entry;
                result[(l * p + i, k * p + j)] = entry;
            }
        }
    }
    Ok(result)
}

/// Adds to each of a sample's rows of `sum` its weight times the sample's x.
pub(super) fn add_weighted(sum: &mut [f64], weights: &[f64], x: &[f64]) {
    if sum.len() == x.len() {
        return sum.iter_mut().zip(weights).zip(x).for_each(|((sum, weight), x)| *sum += weight * x);
    }
    let r = sum.len() / x.len();
    for ((rows, weights), x) in sum.chunks_exact_mut(r).zip(weights.chunks_exact(r)).zip(x) {
        rows.iter_mut().zip(weights).for_each(|(row, weight)| *row += weight * x);
    }
}

/// For each sample the sum over its rows of x y.
fn sum_of_products(x: &[f64], y: &[f64], sums: &mut [f64]) {
    if x.len() == sums.len() {
        return sums.iter_mut().zip(x).zip(y).for_each(|((sum, x), y)| *sum = x * y);
    }
    let r = x.len() / sums.len();
    for ((sum, x), y) in sums.iter_mut().zip(x.chunks_exact(r)).zip(y.chunks_exact(r)) {
        *sum = x.iter().zip(y).map(|(x, y)| x * y).sum();
    }
}
