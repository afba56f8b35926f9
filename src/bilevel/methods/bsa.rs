//! Bilevel stochastic approximation, BSA (Ghadimi & Wang 2018, arXiv 1802.02246): a loop of inner SGD, then H⁻¹b by Neumann's
//! series cut off at random, every gradient and product on a batch of its own.
//!
//!   θ ← θ − α_t ∇_θ g(v, θ; B)  K times,   q = N β Π_{i=1…p} (I − β H_i) b,  p uniform on 0…N − 1,   v ← v − η_t (∇_v f − J(B')ᵀq)
//!
//! The published α_t, η_t fall as 1/√t (exponent 1/2), and β stays at 1/L; K = N = 10 and batches of 64 are those of Dagréou,
//! Ablin, Vaiter & Moreau (2022, arXiv 2201.13409), who keep K and N fixed where the paper lets both grow with t. So do we. An
//! outer step costs K batches of inner gradients, one of outer gradients, (N − 1)/2 of Hessian products on average and one of cross
//! products.

use serde::{Deserialize, Serialize};

use super::parts::{InnerSgd, outer_step};
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
    /// K: inner steps an outer step.
    pub inner_steps: u64,
    /// N: terms of Neumann's series; a step takes fewer products than that, 0 to N − 1 with equal probability.
    pub linear_steps: u64,
    /// Samples of an inner gradient, of each Hessian product and of the cross product.
    pub batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub outer_batch_size: SampleCount,
    /// α_t, t counting outer steps.
    pub inner_step_size: StepSize,
    /// β_t; unless given, α_0 at every step.
    pub linear_step_size: Option<StepSize>,
    /// η_t.
    pub outer_step_size: StepSize,
}

impl Default for Config {
    fn default() -> Self {
        let root = StepSize { initial: 0.1, power: 0.5, offset: 1.0 };
        Self {
            inner_steps: 10,
            linear_steps: 10,
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: root,
            linear_step_size: None,
            outer_step_size: root,
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
        self.linear_step_size.map_or(Ok(()), |size| size.validate("linear_step_size"))?;
        self.outer_step_size.validate("outer_step_size")
    }
}

/// The registry name.
pub(super) const NAME: &str = "bsa";

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
        if !sgd.run(problem, v, theta, |_| self.inner_step_size.at(step), key, observer)? {
            return Ok(Status::Diverged { step });
        }

        let series = SeriesEstimator {
            factors: self.linear_steps,
            terms: Terms::OneDrawn,
            step_size: self.linear_step_size.map_or(self.inner_step_size.initial, |size| size.at(step)),
            batch_size: self.batch_size,
            outer_batch_size: self.outer_batch_size,
        };
        let Some(hypergradient) = series.hypergradient(problem, (v, theta), key, observer)? else {
            return Ok(Status::Diverged { step });
        };
        outer_step(step, self.outer_step_size.at(step), &hypergradient, v, observer)
    }
}
