//! PZOBO, the partial zeroth-order-like bilevel optimizer (Sow, Ji & Liang 2022, "On the convergence theory for Hessian-free
//! bilevel algorithms", NeurIPS, arXiv 2110.07004): the Jacobian of the inner loop's result in v, estimated from differences along
//! Gaussian directions; gradients of f are exact.
//!
//!   θ' = K steps on g(v, ·) from θ,   θ_j = K steps on g(v + μu_j, ·) from θ,   u_j normal,  j ≤ Q;
//!   h = ∇_v f(v, θ') + (1/Q) Σ_j ⟨(θ_j − θ')/μ, ∇_θ f(v, θ')⟩ u_j,   v ← v − η_t h
//!
//! With all data this is PZOBO, the default. With `batch_size` drawn it is PZOBO-S: all Q + 1 loops take the same batches, without
//! which the differences would be noise over μ. Q = 10, μ = 0.1, K = 10 and constant step sizes are those of the benchmark of
//! Dagréou, Ablin, Vaiter & Moreau (2022, arXiv 2201.13409). The mean of h over u is iterative differentiation's direction, up to
//! O(μ); its variance grows as d1/Q. An outer step costs K(Q + 1) batches of inner gradients and one of outer ones.

use serde::{Deserialize, Serialize};

use super::parts::{InnerSgd, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::{axpy, difference, dot};
use crate::error::{Result, Status, check_count, check_len, check_positive};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: inner steps of each loop.
    pub inner_steps: u64,
    /// Q: directions, of one inner loop each.
    pub directions: u64,
    /// μ: how far along a direction v is moved.
    pub smoothing: f64,
    /// Samples of an inner gradient.
    pub batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub outer_batch_size: SampleCount,
    /// α_k, k counting inner steps from the beginning of the run.
    pub inner_step_size: StepSize,
    /// η_t, t counting outer steps.
    pub outer_step_size: StepSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 10,
            directions: 10,
            smoothing: 0.1,
            batch_size: SampleCount::All,
            outer_batch_size: SampleCount::All,
            inner_step_size: StepSize::constant(0.1),
            outer_step_size: StepSize::constant(0.1),
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        check_count("directions", self.directions as usize)?;
        check_positive("smoothing", self.smoothing)?;
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.outer_step_size.validate("outer_step_size")
    }
}

/// The registry name.
pub(super) const NAME: &str = "pzobo";

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        Ok(State::new(outer_var, inner_var))
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: theta, .. } = state;
        let step = *step;
        let sgd = InnerSgd { steps: self.inner_steps, batch_size: self.batch_size };
        let step_size = |k| self.inner_step_size.at(step * self.inner_steps + k);

        let start = theta.clone();
        if !sgd.run(problem, v, theta, step_size, key, observer)? {
            return Ok(Status::Diverged { step });
        }

        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (b, mut hypergradient) = problem.grad_outer(v, theta, outer.batch())?.into_vecs();
        check_len("grad_outer", b.len(), theta.len())?;
        check_len("grad_outer", hypergradient.len(), v.len())?;

        for j in 0..self.directions {
            let direction = key.named("direction").child(j).stream().normals(v.len());
            let (mut moved_v, mut moved) = (v.clone(), start.clone());
            axpy(self.smoothing, &direction, &mut moved_v);
            // The same key, hence the same batches.
            if !sgd.run(problem, &moved_v, &mut moved, step_size, key, observer)? {
                return Ok(Status::Diverged { step });
            }
            let derivative = dot(&difference(&moved, theta), &b) / self.smoothing;
            axpy(derivative / self.directions as f64, &direction, &mut hypergradient);
        }

        outer_step(step, self.outer_step_size.at(step), &hypergradient, v, observer)
    }
}
