//! BOME (Liu, Ye, Wright, Stone & Liu 2022, "BOME! Bilevel optimization made easy: a simple first-order approach", arXiv
//! 2209.08709): descent on f under the constraint g(v, θ) ≤ min g(v, ·), held by a dynamic barrier. The minimizer is θ after K
//! steps of gradient descent, θ_K, taken for constant: q̂ = g(v, θ) − g(v, θ_K) has the gradient (∇_θ g(v, θ), ∇_v g(v, θ) − ∇_v
//! g(v, θ_K)). No second derivative is asked for.
//!
//!   λ = max(φ − ⟨∇f, ∇q̂⟩, 0)/‖∇q̂‖²,  φ = κ‖∇q̂‖²;   θ ← θ − α_t (∇_θ f + λ ∇_θ q̂),   v ← v − η_t (∇_v f + λ ∇_v q̂)
//!
//! so that the direction d makes q̂ fall: ⟨∇q̂, d⟩ ≥ φ. Of the paper's two choices of φ this is ‖∇q̂‖² (the other asks for values
//! of g); step sizes are constant, κ = 0.5 (its η) and all data are used, as published. Departs from the paper: θ and v have step
//! sizes of their own, α that of the K steps too, as in the benchmark of Dagréou, Ablin, Vaiter & Moreau (2022, arXiv 2201.13409);
//! with `batch_size` drawn, both ends of q̂ share a batch. An outer step costs K + 3 batches of inner gradients and one of outer
//! ones.

use serde::{Deserialize, Serialize};

use super::parts::{InnerSgd, descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::{add_scaled, dot};
use crate::error::{Result, Status, check_count, check_len, check_positive};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: steps from θ to θ_K.
    pub inner_steps: u64,
    /// Samples of each inner gradient.
    pub batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub outer_batch_size: SampleCount,
    /// α_t, of the K steps and of the step on θ; t counting outer steps.
    pub inner_step_size: StepSize,
    /// η_t.
    pub outer_step_size: StepSize,
    /// κ: how fast the barrier makes q̂ fall.
    pub barrier: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 10,
            batch_size: SampleCount::All,
            outer_batch_size: SampleCount::All,
            inner_step_size: StepSize::constant(0.1),
            outer_step_size: StepSize::constant(0.1),
            barrier: 0.5,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.outer_step_size.validate("outer_step_size")?;
        check_positive("barrier", self.barrier)
    }

    /// λ, which makes ⟨∇q̂, ∇f + λ∇q̂⟩ at least φ; 0 where q̂ is stationary.
    fn multiplier(&self, squared_norm: f64, inner_product: f64) -> f64 {
        if squared_norm > 0.0 { (self.barrier - inner_product / squared_norm).max(0.0) } else { 0.0 }
    }
}

/// The registry name.
pub(super) const NAME: &str = "bome";

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
        let alpha = self.inner_step_size.at(step);

        let mut solution = theta.clone();
        let sgd = InnerSgd { steps: self.inner_steps, batch_size: self.batch_size };
        if !sgd.run(problem, v, &mut solution, |_| alpha, key, observer)? {
            return Ok(Status::Diverged { step });
        }

        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (mut d_theta, mut d_v) = problem.grad_outer(v, theta, outer.batch())?.into_vecs();

        observer.phase(Phase::CrossProduct);
        let batch = self.batch_size.draw(problem.inner_samples(), key.named("barrier"))?;
        let q_theta = problem.grad_inner(v, theta, batch.batch())?;
        let mut q_v = problem.grad_v(v, theta, batch.batch())?;
        add_scaled("grad_v", -1.0, &problem.grad_v(v, &solution, batch.batch())?, &mut q_v)?;

        check_len("grad_inner", q_theta.len(), d_theta.len())?;
        check_len("grad_v", q_v.len(), d_v.len())?;
        let squared_norm = dot(&q_theta, &q_theta) + dot(&q_v, &q_v);
        let lambda = self.multiplier(squared_norm, dot(&d_theta, &q_theta) + dot(&d_v, &q_v));
        add_scaled("grad_inner", lambda, &q_theta, &mut d_theta)?;
        add_scaled("grad_v", lambda, &q_v, &mut d_v)?;

        observer.phase(Phase::InnerStep);
        if !descend("grad_inner", alpha, &d_theta, theta)? {
            return Ok(Status::Diverged { step });
        }
        outer_step(step, self.outer_step_size.at(step), &d_v, v, observer)
    }
}
