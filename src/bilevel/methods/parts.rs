//! What several methods are made of.

use super::Observer;
use crate::bilevel::{Phase, SampleCount};
use crate::dense::add_scaled;
use crate::error::{Result, Status};
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
            if !descend("grad_inner", step_size(k), &problem.grad_inner(v, theta, batch.batch())?, theta)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// x ← x − `size`·`direction`, the direction under its name. Whether x stayed finite.
pub(crate) fn descend(argument: &'static str, size: f64, direction: &[f64], x: &mut [f64]) -> Result<bool> {
    add_scaled(argument, -size, direction, x)?;
    Ok(x.iter().all(|x| x.is_finite()))
}

/// The end of a step: v ← v − `size`·h. A v that is no longer finite is [`Status::Diverged`].
pub(crate) fn outer_step(step: u64, size: f64, h: &[f64], v: &mut [f64], observer: &mut dyn Observer) -> Result<Status> {
    observer.phase(Phase::OuterStep);
    Ok(if descend("hypergradient", size, h, v)? { Status::Converged {} } else { Status::Diverged { step } })
}

/// Tells the observer of a solve that went wrong; reaching its limit of products is what most solves are meant to do.
pub(crate) fn note_solve(status: Status, observer: &mut dyn Observer) {
    if !matches!(status, Status::Converged {} | Status::StepLimit { .. }) {
        observer.notice(status);
    }
}
