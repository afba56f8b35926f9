//! SRBA (Dagréou, Moreau, Vaiter & Ablin, "A lower bound and a near-optimal algorithm for bilevel empirical risk minimization", 2023, arXiv
//! 2302.08766): SOBA's directions estimated recursively, as SARAH does. Every so many steps D is computed from all samples; between,
//!
//! D ← D + D_B(v_k, θ_k, q_k) − D_B(v_{k−1}, θ_{k−1}, q_{k−1})
//!
//! on one pair of batches B, where D = (∇_θ g, Hq − b, ∇_v f − Jᵀq); then θ − α D_θ, q − γ D_q, v − η D_v.
//! Published: constant step sizes, γ = α, and a period of the order of (n + m)/B steps; in the authors' benchmark batches of 64, α = η = 0.1, and half
//! that period. Departs from the paper: q is not projected on a ball (nor is it in that benchmark).

use serde::{Deserialize, Serialize};

use super::parts::{self, Directions, validate_linear};
use super::{Method, Observer, State};
use crate::bilevel::{Memory, SampleCount, StepSize};
use crate::error::{Result, Status, check_count};
use crate::problem::Problem;
use crate::rng::Key;
use crate::samples::Batch;

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
    /// Outer steps from one full pass to the next; (n + m)/batch_size where none is given.
    pub period: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: StepSize::constant(0.1),
            linear_step_size: None,
            outer_step_size: StepSize::constant(0.1),
            period: None,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        validate_linear(self.linear_step_size)?;
        self.outer_step_size.validate("outer_step_size")?;
        self.period.map_or(Ok(()), |period| check_count("period", period as usize))
    }
}

/// The registry name.
pub(super) const NAME: &str = "srba";

/// (v, θ, q).
type Point<'a> = (&'a [f64], &'a [f64], &'a [f64]);

impl Config {
    /// The directions at the point of step `step`: from all samples, or the last ones and how a batch says that they have changed.
    fn directions(
        &self,
        problem: &dyn Problem,
        (point, step): (Point<'_>, u64),
        memory: &mut Memory,
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<Directions> {
        if step.is_multiple_of(parts::period(self.period, problem, self.batch_size)) {
            return Directions::at(problem, point, (Batch::All, Batch::All), observer);
        }
        let (d1, d2) = (problem.outer_dim(), problem.inner_dim());
        let (v, theta, q) = (memory.take("v_before", d1)?, memory.take("theta_before", d2)?, memory.take("q_before", d2)?);
        let last = Directions {
            theta: memory.take("theta_direction", d2)?,
            q: memory.take("q_direction", d2)?,
            v: memory.take("v_direction", d1)?.into(),
        };

        let inner = self.batch_size.draw(problem.inner_samples(), key.named("inner"))?;
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let batches = (inner.batch(), outer.batch());
        let mut directions = Directions::at(problem, point, batches, observer)?;
        directions.add_scaled(-1.0, Directions::at(problem, (&v, &theta, &q), batches, observer)?)?;
        directions.add_scaled(1.0, last)?;
        Ok(directions)
    }
}

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
        let directions = self.directions(problem, ((v, theta, &q), *step), memory, key, observer)?;

        memory.put("v_before", v.clone());
        memory.put("theta_before", theta.clone());
        memory.put("q_before", q.clone());
        let (alpha, eta) = (self.inner_step_size.at(*step), self.outer_step_size.at(*step));
        let gamma = self.linear_step_size.unwrap_or(self.inner_step_size).at(*step);
        let stayed_finite = directions.descend((v, theta, &mut q), (alpha, gamma, eta), observer)?;

        let Directions { theta: theta_direction, q: q_direction, v: v_direction } = directions;
        memory.put("theta_direction", theta_direction);
        memory.put("q_direction", q_direction);
        memory.put("v_direction", v_direction.into_vec());
        memory.put("q", q);
        Ok(if stayed_finite { Status::Converged {} } else { Status::Diverged { step: *step } })
    }
}
