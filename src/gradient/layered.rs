//! Per-sample gradients of a network: for each of its linear layers a block of rows x_i ⊗ δ_i, laid side by side. The Gram matrix is
//! the sum of the layers'; nothing is expanded.
//!
//! **Flattening order.** θ is the layers' weights one after the other, each as [`KroneckerRows`] has it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::KroneckerRows;
use crate::dense::Matrix;
use crate::error::{self, Result, check_count};

/// A block G = [G₁ … G_L] of one [`KroneckerRows`] a layer, all with the same samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayeredRows {
    layers: Vec<KroneckerRows>,
}

impl LayeredRows {
    /// The layers' rows side by side; √w belongs into every layer's deltas.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for no layer, [`Error::Shape`](crate::Error::Shape) if the numbers of samples or rows
    /// differ.
    pub fn new(layers: Vec<KroneckerRows>) -> Result<Self> {
        check_count("layers", layers.len())?;
        for layer in &layers {
            error::check_len("layer samples", layer.samples(), layers[0].samples())?;
            error::check_len("layer rows", layer.rows(), layers[0].rows())?;
        }
        Ok(Self { layers })
    }

    /// The layers' rows.
    pub fn layers(&self) -> &[KroneckerRows] {
        &self.layers
    }

    pub(super) fn samples(&self) -> usize {
        self.layers[0].samples()
    }

    pub(super) fn rows(&self) -> usize {
        self.layers[0].rows()
    }

    pub(super) fn dim(&self) -> usize {
        self.layers.iter().map(KroneckerRows::dim).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers.iter().map(KroneckerRows::bytes).sum()
    }

    /// The layers, each with its range of θ.
    fn placed(&self) -> impl Iterator<Item = (Range<usize>, &KroneckerRows)> {
        self.layers.iter().scan(0, |start, layer| {
            let range = *start..*start + layer.dim();
            *start = range.end;
            Some((range, layer))
        })
    }

    fn sum(&self, term: impl Fn(Range<usize>, &KroneckerRows) -> Result<Matrix>) -> Result<Matrix> {
        let mut terms = self.placed().map(|(range, layer)| term(range, layer));
        let first = terms.next().unwrap_or_else(|| Ok(Matrix::zeros(0, 0)))?;
        terms.try_fold(first, |mut sum, term| {
            sum.add_scaled(1.0, &term?)?;
            Ok(sum)
        })
    }

    pub(super) fn project(&self, omega: &Matrix) -> Result<Matrix> {
        self.sum(|range, layer| layer.project(omega, range.start))
    }

    /// Adds GᵀC to Y, and returns the sum of the squares of what that is then.
    pub(super) fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<f64> {
        self.placed().map(|(range, layer)| layer.accumulate_into(coefficients, y, range.start)).sum()
    }

    pub(super) fn gram(&self) -> Result<Matrix> {
        self.sum(|_, layer| layer.gram())
    }

    pub(super) fn gram_with(&self, diagonal: &[f64]) -> Result<Matrix> {
        self.sum(|range, layer| layer.gram_with(&diagonal[range]))
    }

    /// Layers meet only in the d × d matrix itself, which is for small d.
    pub(super) fn scatter(&self) -> Result<Matrix> {
        let mut expanded = Matrix::zeros(self.dim(), self.rows());
        self.accumulate_into(&Matrix::identity(self.rows()), &mut expanded)?;
        Ok(crate::dense::gram(&expanded))
    }

    pub(super) fn squared_row_norms(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.rows()];
        for layer in &self.layers {
            sums.iter_mut().zip(layer.squared_row_norms()).for_each(|(sum, x)| *sum += x);
        }
        sums
    }

    pub(super) fn squared_column_norms(&self) -> Vec<f64> {
        self.layers.iter().flat_map(KroneckerRows::squared_column_norms).collect()
    }

    pub(super) fn cross_gram(&self, other: &Self) -> Result<Matrix> {
        error::check_len("layers", other.layers.len(), self.layers.len())?;
        let mut pairs = self.layers.iter().zip(&other.layers).map(|(g, h)| g.cross_gram(h));
        let first = pairs.next().unwrap_or_else(|| Ok(Matrix::zeros(0, 0)))?;
        pairs.try_fold(first, |mut sum, term| {
            sum.add_scaled(1.0, &term?)?;
            Ok(sum)
        })
    }

    pub(super) fn expand(&self, range: Range<usize>) -> Matrix {
        let mut expanded = Matrix::zeros(self.dim(), range.len());
        for (place, layer) in self.placed() {
            let part = layer.expand(range.clone());
            (0..range.len()).for_each(|j| expanded.col_mut(j)[place.clone()].copy_from_slice(part.col(j)));
        }
        expanded
    }

    pub(super) fn part(&self, samples: Range<usize>) -> Self {
        Self { layers: self.layers.iter().map(|layer| layer.part(samples.clone())).collect() }
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.layers.iter_mut().for_each(|layer| layer.scale(factor));
    }

    pub(super) fn stack(blocks: &[&Self]) -> Result<Self> {
        let count = blocks[0].layers.len();
        for block in blocks {
            error::check_len("layers", block.layers.len(), count)?;
        }
        let layer = |l: usize| KroneckerRows::stack(&blocks.iter().map(|block| &block.layers[l]).collect::<Vec<_>>());
        Self::new((0..count).map(layer).collect::<Result<_>>()?)
    }

    pub(super) fn check_finite(&self) -> Result<()> {
        self.layers.iter().try_for_each(KroneckerRows::check_finite)
    }
}
