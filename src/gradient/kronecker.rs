//! Per-sample gradients of a linear layer, in factored form: row i is x_i ⊗ δ_i, the layer's input times the derivative of the
//! loss with respect to its output. G (rows × p·C) is never formed; its Gram matrix is (XXᵀ) ∘ (ΔΔᵀ).
//!
//! **Flattening order.** θ is the p × C weight matrix column by column: θ[k·p + j] weighs input j for output k.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::check_rows;
use crate::dense::{Matrix, View, check_shape, dot, gram, matmul, matmul_add_slice};
use crate::error::{self, Error, Result, check_count};
use crate::par;
use crate::reused::Reused;

/// Samples projected at once.
const BLOCK: usize = 128;

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

    /// Ω (p·C × ℓ, column by column) is also p × C·ℓ; so GΩ is one product XᵀΩ and a scalar product with δ for each entry.
    pub(super) fn project(&self, omega: &Matrix) -> Result<Matrix> {
        let (p, c, r, columns) = (self.input_width(), self.output_width(), self.rows_per_sample, omega.ncols());
        let omega = View::from_slice(omega.as_slice(), p, c * columns)?;
        let parts = par::map_blocks(self.samples(), BLOCK, |range| {
            let products = matmul(omega.t(), self.inputs.columns(range.clone()))?;
            // Row by row: entry l of the row of (sample, r) is δᵀ(Ω_lᵀ x).
            let mut rows = Reused::with_capacity(range.len() * r * columns);
            for (i, sample) in range.enumerate() {
                for row in sample * r..(sample + 1) * r {
                    let delta = self.deltas.col(row);
                    rows.extend(products.col(i).chunks_exact(c).map(|z| short_dot(z, delta)));
                }
            }
            Ok(rows)
        });
        let mut rows = Reused::with_capacity(self.rows() * columns);
        for part in parts {
            let part: Result<Reused<f64>> = part;
            rows.extend_from_slice(&part?);
        }
        Ok(View::from_slice(&rows, columns, self.rows())?.t().to_matrix())
    }

    /// Y (p·C × ℓ) is also p × C·ℓ; so GᵀC is one product of X with the matrix of the numbers Σ_row δ_k C_l.
    pub(super) fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<()> {
        let (c, r, columns) = (self.output_width(), self.rows_per_sample, coefficients.ncols());
        let by_row = coefficients.t().to_matrix();
        let mut scaled = Matrix::zeros(c * columns, self.samples());
        par::for_chunks(scaled.as_mut_slice(), c * columns * BLOCK, |block, chunk| {
            for (i, column) in chunk.chunks_exact_mut(c * columns).enumerate() {
                let sample = block * BLOCK + i;
                for row in sample * r..(sample + 1) * r {
                    for (part, coefficient) in column.chunks_exact_mut(c).zip(by_row.col(row)) {
                        part.iter_mut().zip(self.deltas.col(row)).for_each(|(s, d)| *s += coefficient * d);
                    }
                }
            }
        });
        matmul_add_slice(y.as_mut_slice(), 1.0, self.inputs.view(), scaled.t())
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

fn short_dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| a * b).sum()
}
