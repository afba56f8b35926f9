//! What softmax regression's derivatives of single samples are made of: every one is x_i ⊗ a vector of `classes` numbers.

use super::{Softmax, categorical};
use crate::dense::{Matrix, dot};
use crate::error::Result;
use crate::samples::{Batch, Samples};

/// The factors of a batch, one column or number a sample.
pub(crate) struct Factors {
    /// δ_i of ∇ℓ_i = x_i ⊗ δ_i: p_i − e_y.
    pub(crate) gradient: Matrix,
    /// τ_i of ∇²ℓ_i q = x_i ⊗ τ_i: (diag(p_i) − p_i p_iᵀ) Qᵀx_i.
    pub(crate) hvp: Matrix,
    /// ∇ℓ_iᵀq.
    pub(crate) products: Vec<f64>,
}

impl Softmax {
    /// The factors of the batch's samples at θ, with q: one pass over the data, 4·width·classes flops a sample.
    pub(crate) fn factors(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Factors> {
        let labels = self.labels(samples, batch)?;
        let (p, mut hvp) = self.probabilities_and_products(samples, batch, theta, q)?;
        let labels = || batch.iter(samples.len()).map(|i| labels[i]);
        let mut gradient = p.clone();
        categorical::subtract_labels(&mut gradient, labels());
        let products = (0..p.ncols()).map(|i| dot(gradient.col(i), hvp.col(i))).collect();
        categorical::multiply_hessian(&p, &mut hvp, |_| 1.0);
        Ok(Factors { gradient, hvp, products })
    }

    /// δ_i of ∇ℓ_i = x_i ⊗ δ_i, one column a sample.
    pub(crate) fn gradient_factors(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Matrix> {
        let labels = self.labels(samples, batch)?;
        let mut delta = self.probabilities(samples, batch, theta)?;
        categorical::subtract_labels(&mut delta, batch.iter(samples.len()).map(|i| labels[i]));
        Ok(delta)
    }
}
