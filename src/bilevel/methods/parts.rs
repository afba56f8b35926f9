//! What several methods are made of.

use super::Observer;
use crate::bilevel::{Phase, SampleCount};
use crate::dense::add_scaled;
use crate::error::Result;
use crate::problem::Problem;
use crate::rng::Key;

/// Steps of SGD on g(v, ·), each on a batch of its own.
pub(crate) struct InnerSgd {
    /// K.
    pub(crate) steps: u64,
    /// Samples of a gradient.
    pub(crate) batch_size: SampleCount,
}

impl InnerSgd {
    /// θ ← θ − α_k ∇_θ g(v, θ), K times, `step_size` giving α_k. Whether θ stayed finite.
    pub(crate) fn run(
        &self,
        problem: &dyn Problem,
        v: &[f64],
        theta: &mut [f64],
        step_size: impl Fn(u64) -> f64,
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        observer.phase(Phase::InnerStep);
        for k in 0..self.steps {
            let batch = self.batch_size.draw(problem.inner_samples(), key.named("inner").child(k).named("batch"))?;
            add_scaled("grad_inner", -step_size(k), &problem.grad_inner(v, theta, batch.batch())?, theta)?;
            if !theta.iter().all(|x| x.is_finite()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
