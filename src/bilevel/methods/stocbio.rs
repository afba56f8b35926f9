//! stocBIO (Ji, Yang & Liang, "Bilevel optimization: convergence analysis and enhanced design", ICML 2021, arXiv 2010.07962): K steps of SGD
//! on θ, which is kept from one outer step to the next, then b = ∇_θ f on an outer batch and
//!
//! q = ς Σ_{j=0…N} Π_{i≤j} (I − ςH_i) b,   v ← v − η (∇_v f − Jᵀq),
//!
//! with a fresh inner batch for every inner step, every factor and for Jᵀq.
//! Published: constant step sizes; in the benchmark of Dagréou et al. K = N = 10, batches of 64, α = ς = η = 0.1.
//! Departs from the paper: all factors have batches of one size, as in that benchmark, where the analysis has sizes that fall geometrically.

use serde::{Deserialize, Serialize};

use super::parts::{InnerSgd, validate_linear};
use super::series::{SeriesEstimator, Terms};
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
    /// N: factors of Neumann's series.
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
pub(super) const NAME: &str = "stocbio";

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

        let alpha = self.inner_step_size.at(*step);
        let sgd = InnerSgd { steps: self.inner_steps, batch_size: self.batch_size };
        if !sgd.run(problem, v, theta, |_| alpha, key, observer)? {
            return Ok(Status::Diverged { step: *step });
        }

        let estimator = SeriesEstimator {
            batch_size: self.batch_size,
            outer_batch_size: self.outer_batch_size,
            factors: self.linear_steps,
            terms: Terms::All,
            step_size: self.linear_step_size.unwrap_or(self.inner_step_size).at(*step),
        };
        let Some(hypergradient) = estimator.hypergradient(problem, (v, theta), key, observer)? else {
            return Ok(Status::Diverged { step: *step });
        };

        observer.phase(Phase::OuterStep);
        add_scaled("hypergradient", -self.outer_step_size.at(*step), &hypergradient, v)?;
        Ok(Status::Converged {})
    }
}
