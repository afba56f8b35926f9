//! The terms of data cleaning's samples in few numbers. With C classes an inner sample keeps 2C + 1: w_i δ_i and w_i τ_i of ∇_θ = x_i ⊗ w_i δ_i
//! and Hq = x_i ⊗ w_i τ_i, and σ'(v_i) s_iᵀq, which is all of its Jᵀq; an outer one keeps the C of δ_j. The ridge is in no table.

use super::{DataCleaning, sigmoid, sigmoid_slope};
use crate::dense::{Matrix, axpy};
use crate::error::{Result, check_finite, check_len};
use crate::model::{Model, Softmax};
use crate::problem::{Problem, SampleTables, TablePoint, TableSide};
use crate::samples::Batch;

/// The compact tables of a [`DataCleaning`] with softmax regression.
pub(super) struct Tables<'a> {
    problem: &'a DataCleaning,
    model: &'a Softmax,
    classes: usize,
}

impl<'a> Tables<'a> {
    pub(super) fn new(problem: &'a DataCleaning, model: &'a Softmax) -> Self {
        Self { problem, model, classes: model.dim() / problem.train.features.width() }
    }

    /// The first `rows` coefficients of each sample, one column a sample.
    fn columns(coefficients: &[f64], width: usize, rows: usize) -> Result<Matrix> {
        let picked: Vec<f64> = coefficients.chunks_exact(width).flat_map(|sample| &sample[..rows]).copied().collect();
        Matrix::from_columns(rows, coefficients.len() / width, picked)
    }
}

impl SampleTables for Tables<'_> {
    fn width(&self, side: TableSide) -> usize {
        match side {
            TableSide::Inner => 2 * self.classes + 1,
            TableSide::Outer => self.classes,
        }
    }

    fn coefficients(&self, side: TableSide, point: TablePoint<'_>, batch: Batch<'_>) -> Result<Vec<f64>> {
        let (problem, TablePoint { v, theta, q }) = (self.problem, point);
        problem.check(v, theta)?;
        check_finite("outer_var", v)?;
        if side == TableSide::Outer {
            return Ok(self.model.gradient_factors(&problem.validation, batch, theta)?.into_vec());
        }
        let factors = self.model.factors(&problem.train, batch, theta, q)?;
        let mut coefficients = Vec::with_capacity(factors.products.len() * self.width(side));
        for (position, i) in batch.iter(problem.train.len()).enumerate() {
            let weight = sigmoid(v[i]);
            let both = factors.gradient.col(position).iter().chain(factors.hvp.col(position));
            coefficients.extend(both.map(|x| weight * x));
            coefficients.push(sigmoid_slope(v[i]) * factors.products[position]);
        }
        Ok(coefficients)
    }

    fn expand(&self, side: TableSide, batch: Batch<'_>, coefficients: &[f64]) -> Result<Vec<f64>> {
        let (problem, width, d1) = (self.problem, self.width(side), self.problem.outer_dim());
        let samples = match side {
            TableSide::Inner => &problem.train,
            TableSide::Outer => &problem.validation,
        };
        check_len("coefficients", coefficients.len(), batch.len(samples.len()) * width)?;
        // One pass gives ∇_θ and Hq, whose factors stand one after the other.
        let rows = width - width % self.classes;
        let delta = Self::columns(coefficients, width, rows)?;
        let mut terms = samples.features.accumulate(batch, &delta)?.into_vec();
        let sums = terms.len();
        terms.resize(sums + d1, 0.0);
        if side == TableSide::Inner {
            let cross = coefficients.chunks_exact(width).map(|sample| sample[width - 1]);
            batch.iter(samples.len()).zip(cross).for_each(|(i, x)| terms[sums + i] += x);
        }
        Ok(terms)
    }

    fn add_rest(&self, side: TableSide, point: TablePoint<'_>, mean: &mut [f64]) -> Result<()> {
        let (d1, d2, ridge) = (self.problem.outer_dim(), self.problem.inner_dim(), self.problem.ridge);
        if side == TableSide::Outer {
            return check_len("mean", mean.len(), d2 + d1);
        }
        check_len("mean", mean.len(), 2 * d2 + d1)?;
        let (gradient, rest) = mean.split_at_mut(d2);
        axpy(ridge, point.theta, gradient);
        axpy(ridge, point.q, &mut rest[..d2]);
        Ok(())
    }
}
