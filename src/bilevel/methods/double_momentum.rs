//! One loop with recursive momentum (STORM: Cutkosky & Orabona 2019) on both directions, what MRBO and SUSTAIN have in common:
//!
//! d ← x(now) + (1 − ρ_k)(d − x(before)),   x being ∇_θ g and the hypergradient's estimate,
//!
//! where x at both points is on the same batches, and d = x at the first step. Then θ − α_k d_θ and v − η_k d_v.

use super::series::SeriesEstimator;
use super::{Observer, Phase, State};
use crate::bilevel::SampleCount;
use crate::dense::add_scaled;
use crate::error::{Result, Status};
use crate::problem::Problem;
use crate::rng::Key;

/// The state before the first step, with the names that a step takes.
pub(super) fn init(problem: &dyn Problem) -> State {
    let (v, theta) = problem.initial();
    let mut state = State::new(v.clone(), theta.clone());
    state.memory.put("inner_direction", vec![0.0; theta.len()]);
    state.memory.put("outer_direction", vec![0.0; v.len()]);
    state.memory.put("inner_before", theta);
    state.memory.put("outer_before", v);
    state
}

/// A step's numbers.
pub(super) struct DoubleMomentum {
    /// Samples of ∇_θ g.
    pub(super) batch_size: SampleCount,
    /// The estimator of the hypergradient.
    pub(super) estimator: SeriesEstimator,
    /// ρ_k, in (0, 1].
    pub(super) momentum: f64,
    /// α_k and η_k.
    pub(super) step_sizes: (f64, f64),
}

impl DoubleMomentum {
    /// Takes one step.
    pub(super) fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: theta, memory, .. } = state;
        let (d1, d2) = (problem.outer_dim(), problem.inner_dim());
        let diverged = Status::Diverged { step: *step };
        let mut inner_before = memory.take("inner_before", d2)?;
        let mut outer_before = memory.take("outer_before", d1)?;
        let old_inner = memory.take("inner_direction", d2)?;
        let old_outer = memory.take("outer_direction", d1)?;

        let Some((mut inner, mut outer)) = self.estimates(problem, (v, theta), key, observer)? else {
            return Ok(diverged);
        };
        if *step > 0 {
            let Some((inner_then, outer_then)) = self.estimates(problem, (&outer_before, &inner_before), key, observer)? else {
                return Ok(diverged);
            };
            let keep = 1.0 - self.momentum;
            for (direction, old, then) in [(&mut inner, &old_inner, &inner_then), (&mut outer, &old_outer, &outer_then)] {
                add_scaled("direction", keep, old, direction)?;
                add_scaled("direction", -keep, then, direction)?;
            }
        }

        inner_before.copy_from_slice(theta);
        outer_before.copy_from_slice(v);
        observer.phase(Phase::InnerStep);
        add_scaled("grad_inner", -self.step_sizes.0, &inner, theta)?;
        observer.phase(Phase::OuterStep);
        add_scaled("hypergradient", -self.step_sizes.1, &outer, v)?;
        memory.put("inner_before", inner_before);
        memory.put("outer_before", outer_before);
        memory.put("inner_direction", inner);
        memory.put("outer_direction", outer);
        Ok(if state.is_finite() { Status::Converged {} } else { diverged })
    }

    /// ∇_θ g and the hypergradient's estimate at a point, on the batches of `key`.
    fn estimates(
        &self,
        problem: &dyn Problem,
        (v, theta): (&[f64], &[f64]),
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
        observer.phase(Phase::InnerStep);
        let batch = self.batch_size.draw(problem.inner_samples(), key.named("inner"))?;
        let mut gradient = vec![0.0; theta.len()];
        add_scaled("grad_inner", 1.0, &problem.grad_inner(v, theta, batch.batch())?, &mut gradient)?;
        Ok(self.estimator.hypergradient(problem, (v, theta), key, observer)?.map(|hypergradient| (gradient, hypergradient)))
    }
}
