//! Per-sample gradients that are stored as they are: the form for a user's own gradients and for the factors of a sketch.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::check_rows;
use crate::dense::{Matrix, dot, gram, matmul, matmul_add, matmul_and_squares};
use crate::error::{self, Error, Result, check_count};
use crate::par;
use crate::reused::Reused;

/// Rows whose norms are one piece of work.
const NORMS: usize = 8;

/// A block G of stored rows. They are kept as the columns of a d × rows matrix, so that a gradient is contiguous.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct DenseRows {
    transposed: Matrix,
    rows_per_sample: usize,
}

/// Rows as they were read, not yet checked.
#[derive(Deserialize)]
struct Stored {
    transposed: Matrix,
    rows_per_sample: usize,
}

impl TryFrom<Stored> for DenseRows {
    type Error = Error;

    fn try_from(Stored { transposed, rows_per_sample }: Stored) -> Result<Self> {
        Self::new(transposed, rows_per_sample)
    }
}

impl DenseRows {
    /// The block whose rows are the columns of `transposed` (d × rows); each sample has `rows_per_sample` adjacent ones.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty block or a wrong number of rows, [`Error::NotFinite`].
    pub fn new(transposed: Matrix, rows_per_sample: usize) -> Result<Self> {
        check_count("dimension", transposed.nrows())?;
        check_rows(transposed.ncols(), rows_per_sample)?;
        let block = Self { transposed, rows_per_sample };
        block.check_finite()?;
        Ok(block)
    }

    /// The same matrix, given back: a stream can fill it with its next block, for fresh memory of this size takes longer than to use it.
    pub fn into_transposed(self) -> Matrix {
        self.transposed
    }

    /// The rows as the columns of a d × rows matrix.
    pub fn transposed(&self) -> &Matrix {
        &self.transposed
    }

    pub(super) fn samples(&self) -> usize {
        self.rows() / self.rows_per_sample
    }

    pub(super) fn rows(&self) -> usize {
        self.transposed.ncols()
    }

    pub(super) fn dim(&self) -> usize {
        self.transposed.nrows()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.transposed.as_slice())
    }

    pub(super) fn project(&self, omega: &Matrix) -> Result<Matrix> {
        matmul(self.transposed.t(), omega)
    }

    pub(super) fn project_with_norms(&self, omega: &Matrix) -> Result<(Matrix, Vec<f64>)> {
        matmul_and_squares(&self.transposed, omega)
    }

    pub(super) fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<()> {
        matmul_add(y, 1.0, &self.transposed, coefficients)
    }

    pub(super) fn gram(&self) -> Result<Matrix> {
        Ok(gram(self.transposed.t()))
    }

    pub(super) fn gram_with(&self, diagonal: &[f64]) -> Result<Matrix> {
        let mut scaled = self.transposed.clone();
        for j in 0..scaled.ncols() {
            scaled.col_mut(j).iter_mut().zip(diagonal).for_each(|(x, d)| *x *= d);
        }
        matmul(self.transposed.t(), &scaled)
    }

    pub(super) fn scatter(&self) -> Result<Matrix> {
        Ok(gram(&self.transposed))
    }

    pub(super) fn squared_row_norms(&self) -> Vec<f64> {
        let mut squares = vec![0.0; self.rows()];
        par::for_chunks(&mut squares, NORMS, |block, squares| {
            for (i, square) in squares.iter_mut().enumerate() {
                let row = self.transposed.col(block * NORMS + i);
                *square = dot(row, row);
            }
        });
        squares
    }

    pub(super) fn squared_column_norms(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.dim()];
        (0..self.rows()).for_each(|i| sums.iter_mut().zip(self.transposed.col(i)).for_each(|(sum, x)| *sum += x * x));
        sums
    }

    pub(super) fn part(&self, samples: Range<usize>) -> Self {
        let r = self.rows_per_sample;
        let transposed = self.transposed.columns(samples.start * r..samples.end * r).to_matrix();
        Self { transposed, rows_per_sample: r }
    }

    pub(super) fn expand(&self, range: Range<usize>) -> Matrix {
        self.transposed.columns(range).to_matrix()
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.transposed.scale(factor);
    }

    pub(super) fn stack(blocks: &[&Self]) -> Result<Self> {
        let rows_per_sample = blocks[0].rows_per_sample;
        for block in blocks {
            error::check_len("rows per sample", block.rows_per_sample, rows_per_sample)?;
        }
        let (dim, rows) = (blocks[0].dim(), blocks.iter().map(|b| b.rows()).sum::<usize>());
        let mut data = Reused::with_capacity(dim * rows);
        blocks.iter().for_each(|b| data.extend_from_slice(b.transposed.as_slice()));
        Ok(Self { transposed: Matrix::from_reused(dim, rows, data)?, rows_per_sample })
    }

    pub(super) fn check_finite(&self) -> Result<()> {
        error::check_finite("gradient rows", self.transposed.as_slice())
    }
}
