//! AmIGO (Arbel & Mairal, "Amortized implicit differentiation for stochastic bilevel optimization", ICLR 2022, arXiv 2111.14580): SGD on θ and
//! SGD on the linear system, both warm-started from the last outer step:
//!
//! K times θ ← θ − α ∇_θ g;   b = ∇_θ f on one outer batch;   N times q ← q − γ (Hq − b);   v ← v − η (∇_v f − Jᵀq),
//!
//! with a fresh inner batch in every step of both loops and one more for Jᵀq. q starts at 0.
//! Published: constant step sizes; in the benchmark of Dagréou et al. K = N = 10, batches of 64, α = γ = η = 0.1.

use serde::{Deserialize, Serialize};

use super::parts::{InnerSgd, finite, validate_linear};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::add_scaled;
use crate::error::{Result, Status, check_count};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: SGD steps on θ an outer step.
    pub inner_steps: u64,
    /// N: SGD steps on the linear system an outer step.
    pub linear_steps: u64,
    /// Samples of an inner batch.
    pub batch_size: SampleCount,
    /// Samples of an outer batch.
    pub outer_batch_size: SampleCount,
    /// α_k of θ, k counting outer steps: the same for all inner steps of one.
    pub inner_step_size: StepSize,
    /// γ_k of the linear system; that of θ where none is given.
    pub linear_step_size: Option<StepSize>,
    /// η_k of v.
    pub outer_step_size: StepSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 10,
            linear_steps: 10,
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: StepSize::constant(0.1),
            linear_step_size: None,
            outer_step_size: StepSize::constant(0.1),
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        check_count("linear_steps", self.linear_steps as usize)?;
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        validate_linear(self.linear_step_size)?;
        self.outer_step_size.validate("outer_step_size")
    }
}

/// The registry name.
pub(super) const NAME: &str = "amigo";

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        let mut state = State::new(outer_var, inner_var);
        state.memory.put("q", vec![0.0; problem.inner_dim()]);
        Ok(state)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: theta, memory, .. } = state;
        let (n, diverged) = (problem.inner_samples(), Status::Diverged { step: *step });
        let mut q = memory.take("q", problem.inner_dim())?;

        let alpha = self.inner_step_size.at(*step);
        let sgd = InnerSgd { steps: self.inner_steps, batch_size: self.batch_size };
        if !sgd.run(problem, v, theta, |_| alpha, key, observer)? {
            return Ok(diverged);
        }

        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (b, mut hypergradient) = problem.grad_outer(v, theta, outer.batch())?.into_vecs();

        observer.phase(Phase::InverseProduct);
        let gamma = self.linear_step_size.unwrap_or(self.inner_step_size).at(*step);
        for k in 0..self.linear_steps {
            let batch = self.batch_size.draw(n, key.named("linear").child(k))?;
            let product = problem.hvp(v, theta, batch.batch(), &q)?;
            add_scaled("hvp", -gamma, &product, &mut q)?;
            add_scaled("grad_outer.theta", gamma, &b, &mut q)?;
            if !finite(&q) {
                return Ok(diverged);
            }
        }

        observer.phase(Phase::CrossProduct);
        let cross = self.batch_size.draw(n, key.named("cross"))?;
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, cross.batch(), &q)?, &mut hypergradient)?;
        memory.put("q", q);

        observer.phase(Phase::OuterStep);
        add_scaled("hypergradient", -self.outer_step_size.at(*step), &hypergradient, v)?;
        Ok(Status::Converged {})
    }
}
