//! Hypergradients by Neumann's series cut off at random (Ghadimi & Wang 2018, Algorithm 3): an estimate of H⁻¹b from a random
//! number of Hessian products, whose mean is that of the first N terms. What `bsa` and `ttsa` have in common.

use super::parts::descend;
use super::{Observer, Phase};
use crate::bilevel::SampleCount;
use crate::dense::add_scaled;
use crate::error::Result;
use crate::problem::{OuterGradient, Problem};
use crate::rng::Key;

/// q = N β Π_{i=1…p} (I − β H_i) b with p uniform on 0…N − 1, each H_i on a batch of its own. The mean of q is
/// β Σ_{j<N} (I − βH)^j b = (I − (I − βH)^N) H⁻¹b; it takes (N − 1)/2 products on average.
pub(super) struct RandomNeumann {
    /// N.
    pub(super) terms: usize,
    /// β.
    pub(super) step_size: f64,
    /// Samples of a product, and of the cross product.
    pub(super) batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub(super) outer_batch_size: SampleCount,
}

impl RandomNeumann {
    /// ∇_v f − Jᵀq at (v, θ); `None` where q left the finite numbers.
    pub(super) fn hypergradient(
        &self,
        problem: &dyn Problem,
        (v, theta): (&[f64], &[f64]),
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<Option<Vec<f64>>> {
        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let OuterGradient { theta: b, v: mut hypergradient } = problem.grad_outer(v, theta, outer.batch())?;

        observer.phase(Phase::InverseProduct);
        let Some(q) = self.inverse_product(problem, (v, theta), b, key.named("neumann"))? else {
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
        let mut q = b;
        for i in 0..key.named("products").stream().below(self.terms)? {
            let batch = self.batch_size.draw(problem.inner_samples(), key.named("product").child(i as u64))?;
            if !descend("hvp", self.step_size, &problem.hvp(v, theta, batch.batch(), &q)?, &mut q)? {
                return Ok(None);
            }
        }
        q.iter_mut().for_each(|x| *x *= self.terms as f64 * self.step_size);
        Ok(q.iter().all(|x| x.is_finite()).then_some(q))
    }
}
