//! SOBA (Dagréou, Ablin, Vaiter & Moreau, "A framework for bilevel optimization that enables stochastic and global variance reduction
//! algorithms", NeurIPS 2022, arXiv 2201.13409): θ, v and the linear system's variable q change together, each along an unbiased estimate
//! of its direction at the same point:
//!
//! θ ← θ − α_k ∇_θ g,   q ← q − γ_k (Hq − b),   v ← v − η_k (∇_v f − Jᵀq),
//!
//! the three products with g on one inner batch, the two gradients of f on one outer batch; q starts at 0.
//! Published: γ = α, both step sizes fall as k^(−1/2); the authors' benchmark has batches of 64 and α = η = 0.1.
//! Departs from the paper: q has the opposite sign (Hq = b), batches are drawn with replacement.

use serde::{Deserialize, Serialize};

use super::parts::{Directions, validate_linear};
use super::{Method, Observer, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::error::{Result, Status};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Samples of an inner batch.
    pub batch_size: SampleCount,
    /// Samples of an outer batch.
    pub outer_batch_size: SampleCount,
    /// α_k of θ, k counting outer steps.
    pub inner_step_size: StepSize,
    /// γ_k of the linear system; that of θ where none is given.
    pub linear_step_size: Option<StepSize>,
    /// η_k of v.
    pub outer_step_size: StepSize,
}

impl Default for Config {
    fn default() -> Self {
        let decaying = StepSize { initial: 0.1, power: 0.5, offset: 1.0 };
        Self {
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: decaying,
            linear_step_size: None,
            outer_step_size: decaying,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        validate_linear(self.linear_step_size)?;
        self.outer_step_size.validate("outer_step_size")
    }
}

/// The registry name.
pub(super) const NAME: &str = "soba";

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
        let mut q = memory.take("q", problem.inner_dim())?;

        let inner = self.batch_size.draw(problem.inner_samples(), key.named("inner"))?;
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let directions = Directions::at(problem, (v, theta, &q), (inner.batch(), outer.batch()), observer)?;

        let (alpha, eta) = (self.inner_step_size.at(*step), self.outer_step_size.at(*step));
        let gamma = self.linear_step_size.unwrap_or(self.inner_step_size).at(*step);
        let stayed_finite = directions.descend((v, theta, &mut q), (alpha, gamma, eta), observer)?;
        memory.put("q", q);
        Ok(if stayed_finite { Status::Converged {} } else { Status::Diverged { step: *step } })
    }
}
