//! SUSTAIN (Khanduri, Zeng, Hong, Wai, Wang & Yang, "A near-optimal algorithm for stochastic bilevel optimization via double-momentum", NeurIPS
//! 2021, arXiv 2102.07367): one loop in which ∇_θ g and the estimate of the hypergradient by a Neumann series cut at random,
//!
//! q = Nς Π_{i≤p} (I − ςH_i) b,   p uniform on 0, …, N − 1,
//!
//! both carry recursive momentum: d_k = ρ_k x(k) + (1 − ρ_k)(d_{k−1} + x(k) − x(k−1)), the same as x(k) + (1 − ρ_k)(d_{k−1} − x(k−1)); then
//! θ ← θ − α_k d_θ and v ← v − η_k d_v. Batches and p are the same at both points.
//! Published: α_k and η_k fall as k^(−1/3), ρ_k as k^(−2/3); in the benchmark of Dagréou et al. N = 10, ρ_0 = 0.5, batches of 64,
//! α_0 = η_0 = 0.1, and ς = α_0 without decay.

use serde::{Deserialize, Serialize};

use super::double_momentum::{self, DoubleMomentum};
use super::parts::{validate_linear, validate_momentum};
use super::series::{SeriesEstimator, Terms};
use super::{Method, Observer, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::error::{Result, Status, check_count};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// N: the place p where Neumann's series is cut is drawn from 0, …, N − 1.
    pub linear_steps: u64,
    /// Samples of an inner batch.
    pub batch_size: SampleCount,
    /// Samples of an outer batch.
    pub outer_batch_size: SampleCount,
    /// α_k of θ, k counting outer steps.
    pub inner_step_size: StepSize,
    /// ς of Neumann's series; α_0, without its decay, where none is given.
    pub linear_step_size: Option<StepSize>,
    /// η_k of v.
    pub outer_step_size: StepSize,
    /// ρ_k, the weight of what is new in both directions, at most 1.
    pub momentum: StepSize,
}

impl Default for Config {
    fn default() -> Self {
        let decaying = StepSize { initial: 0.1, power: 1.0 / 3.0, offset: 1.0 };
        Self {
            linear_steps: 10,
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: decaying,
            linear_step_size: None,
            outer_step_size: decaying,
            momentum: StepSize { initial: 0.5, power: 2.0 / 3.0, offset: 1.0 },
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("linear_steps", self.linear_steps as usize)?;
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        validate_linear(self.linear_step_size)?;
        self.outer_step_size.validate("outer_step_size")?;
        validate_momentum(self.momentum)
    }
}

/// The registry name.
pub(super) const NAME: &str = "sustain";

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        Ok(double_momentum::init(problem))
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let k = state.step;
        let estimator = SeriesEstimator {
            batch_size: self.batch_size,
            outer_batch_size: self.outer_batch_size,
            factors: self.linear_steps,
            terms: Terms::OneDrawn,
            step_size: self.linear_step_size.unwrap_or(StepSize::constant(self.inner_step_size.initial)).at(k),
        };
        let step_sizes = (self.inner_step_size.at(k), self.outer_step_size.at(k));
        DoubleMomentum { batch_size: self.batch_size, estimator, momentum: self.momentum.at(k), step_sizes }
            .step(problem, state, key, observer)
    }
}
