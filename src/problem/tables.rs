//! What SAGA-like methods keep of each sample. A sample's terms in the means ∇_θ g, Hq and Jᵀq (of an inner sample), ∇_θ f and ∇_v f (of
//! an outer one) are linear in a few *coefficients*: of softmax regression's x_i ⊗ δ_i only δ_i need be kept. A problem with such a
//! form implements [`SampleTables`]; [`WholeRows`] serves all others, its coefficients being the terms themselves.

use super::{InnerProducts, OuterGradient, Problem};
use crate::dense::axpy;
use crate::error::{Result, check_len};
use crate::samples::Batch;

/// Which samples a table is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableSide {
    /// Those of g: terms are ∇_θ, Hq and Jᵀq one after the other, 2·d2 + d1 numbers.
    Inner,
    /// Those of f: terms are ∇_θ f and ∇_v f one after the other, d2 + d1 numbers.
    Outer,
}

/// Where terms are taken.
#[derive(Debug, Clone, Copy)]
pub struct TablePoint<'a> {
    /// v.
    pub v: &'a [f64],
    /// θ.
    pub theta: &'a [f64],
    /// q, which Hq and Jᵀq are products with.
    pub q: &'a [f64],
}

/// Coefficients of the terms of single samples, and what they stand for.
pub trait SampleTables {
    /// The number of coefficients of a sample.
    fn width(&self, side: TableSide) -> usize;

    /// The coefficients of the batch's samples at a point, sample after sample.
    ///
    /// # Errors
    /// As [`Problem`]'s operations.
    fn coefficients(&self, side: TableSide, point: TablePoint<'_>, batch: Batch<'_>) -> Result<Vec<f64>>;

    /// The *sum* over the batch of the terms with these coefficients; linear in them.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for another number of coefficients, [`Error::Argument`](crate::Error::Argument) for a bad batch.
    fn expand(&self, side: TableSide, batch: Batch<'_>, coefficients: &[f64]) -> Result<Vec<f64>>;

    /// Adds to a mean of terms what does not depend on samples, and is in no table: the regularizer's part.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for another length.
    fn add_rest(&self, side: TableSide, point: TablePoint<'_>, mean: &mut [f64]) -> Result<()>;
}

/// Tables that keep whole terms, asked for one sample at a time; the regularizer's part is in each of them.
pub struct WholeRows<'a, P: ?Sized>(pub &'a P);

impl<P: Problem + ?Sized> SampleTables for WholeRows<'_, P> {
    fn width(&self, side: TableSide) -> usize {
        let (d1, d2) = (self.0.outer_dim(), self.0.inner_dim());
        match side {
            TableSide::Inner => 2 * d2 + d1,
            TableSide::Outer => d2 + d1,
        }
    }

    fn coefficients(&self, side: TableSide, point: TablePoint<'_>, batch: Batch<'_>) -> Result<Vec<f64>> {
        let samples = self.samples(side);
        batch.check(samples)?;
        let TablePoint { v, theta, q } = point;
        let mut rows = Vec::with_capacity(batch.len(samples) * self.width(side));
        for i in batch.iter(samples) {
            match side {
                TableSide::Inner => {
                    let InnerProducts { gradient, hvp, cross_vjp } = self.0.inner_products(v, theta, Batch::Indices(&[i]), q)?;
                    [gradient, hvp, cross_vjp.into_vec()].iter().for_each(|part| rows.extend_from_slice(part));
                }
                TableSide::Outer => {
                    let OuterGradient { theta, v } = self.0.grad_outer(v, theta, Batch::Indices(&[i]))?;
                    [theta, v.into_vec()].iter().for_each(|part| rows.extend_from_slice(part));
                }
            }
        }
        Ok(rows)
    }

    fn expand(&self, side: TableSide, batch: Batch<'_>, coefficients: &[f64]) -> Result<Vec<f64>> {
        let (samples, width) = (self.samples(side), self.width(side));
        batch.check(samples)?;
        check_len("coefficients", coefficients.len(), batch.len(samples) * width)?;
        let mut sum = vec![0.0; width];
        coefficients.chunks_exact(width).for_each(|row| axpy(1.0, row, &mut sum));
        Ok(sum)
    }

    fn add_rest(&self, side: TableSide, _point: TablePoint<'_>, mean: &mut [f64]) -> Result<()> {
        check_len("mean", mean.len(), self.width(side))
    }
}

impl<P: Problem + ?Sized> WholeRows<'_, P> {
    fn samples(&self, side: TableSide) -> usize {
        match side {
            TableSide::Inner => self.0.inner_samples(),
            TableSide::Outer => self.0.outer_samples(),
        }
    }
}
