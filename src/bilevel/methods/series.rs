//! Hypergradients by a stochastic Neumann series, each factor I − ςH_j with a batch of its own. The whole sum is that of stocBIO (Ji, Yang &
//! Liang 2021, Algorithm 2), the one term at a random place that of Ghadimi & Wang (2018, Algorithm 3), which has the same mean.

use super::Observer;
use super::parts::finite;
use crate::bilevel::{Phase, SampleCount};
use crate::dense::{add_scaled, axpy};
use crate::error::Result;
use crate::problem::Problem;
use crate::rng::Key;

/// Which part of the series is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// ς Σ_{j=0…N} Π_{i≤j} (I − ςH_i) b.
    All,
    /// Nς Π_{i≤p} (I − ςH_i) b with p drawn from 0, …, N − 1.
    OneDrawn,
}

/// An estimator of the hypergradient, drawn anew for each key: equal keys draw equal batches, at whatever point.
pub(super) struct SeriesEstimator {
    /// Samples of a factor, and of Jᵀq.
    pub(super) batch_size: SampleCount,
    /// Samples of b and ∇_v f.
    pub(super) outer_batch_size: SampleCount,
    /// N.
    pub(super) factors: u64,
    /// Which part of the series is taken.
    pub(super) terms: Terms,
    /// ς.
    pub(super) step_size: f64,
}

impl SeriesEstimator {
    /// ∇_v f − Jᵀq at (v, θ); `None` where the series has left the finite numbers.
    pub(super) fn hypergradient(
        &self,
        problem: &dyn Problem,
        (v, theta): (&[f64], &[f64]),
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<Option<Vec<f64>>> {
        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (b, mut hypergradient) = problem.grad_outer(v, theta, outer.batch())?.into_vecs();

        observer.phase(Phase::InverseProduct);
        let Some(q) = self.inverse_product(problem, (v, theta), b, key.named("series"))? else {
            return Ok(None);
        };

        observer.phase(Phase::CrossProduct);
        let cross = self.batch_size.draw(problem.inner_samples(), key.named("cross"))?;
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, cross.batch(), &q)?, &mut hypergradient)?;
        Ok(Some(hypergradient))
    }

    fn inverse_product(
        &self,
        problem: &dyn Problem,
        (v, theta): (&[f64], &[f64]),
        b: Vec<f64>,
        key: Key,
    ) -> Result<Option<Vec<f64>>> {
        let (factors, scale) = match self.terms {
            Terms::All => (self.factors, self.step_size),
            Terms::OneDrawn => {
                let p = key.named("cut").stream().below(self.factors as usize)?;
                (p as u64, self.factors as f64 * self.step_size)
            }
        };
        let mut term = b;
        let mut sum = (self.terms == Terms::All).then(|| term.clone());
        for k in 0..factors {
            let batch = self.batch_size.draw(problem.inner_samples(), key.child(k))?;
            let product = problem.hvp(v, theta, batch.batch(), &term)?;
            add_scaled("hvp", -self.step_size, &product, &mut term)?;
            if !finite(&term) {
                return Ok(None);
            }
            if let Some(sum) = &mut sum {
                axpy(1.0, &term, sum);
            }
        }
        let mut q = sum.unwrap_or(term);
        q.iter_mut().for_each(|x| *x *= scale);
        Ok(finite(&q).then_some(q))
    }
}
