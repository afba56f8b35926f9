//! VRBO (Yang, Ji & Liang, "Provably faster algorithms for bilevel optimization", NeurIPS 2021, arXiv 2106.04692, Algorithm 2): both directions
//! are estimated recursively, as SPIDER does. Every so many outer steps d_θ = ∇_θ g and d_v = the hypergradient by N factors of Neumann's
//! series come from all samples. An outer step is v ← v − η d_v, then K steps θ ← θ − α d_θ; at every new point, the first one with the new v
//! and the last θ included,
//!
//! d ← d + x_B(now) − x_B(before),   x being ∇_θ g and stocBIO's estimate of the hypergradient on one draw of batches B.
//!
//! Published: constant step sizes; in the benchmark of Dagréou et al. K = N = 10, batches of 64, α = ς = η = 0.1.
//! That benchmark leaves out the difference that the change of v makes; here it is taken in, as in the paper.

use serde::{Deserialize, Serialize};

use super::parts::{self, finite, validate_linear};
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
    /// K: steps on θ an outer step.
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
    /// Outer steps from one full pass to the next; (n + m)/batch_size where none is given.
    pub period: Option<u64>,
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
            period: None,
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
        self.outer_step_size.validate("outer_step_size")?;
        self.period.map_or(Ok(()), |period| check_count("period", period as usize))
    }
}

/// The registry name.
pub(super) const NAME: &str = "vrbo";

/// A pair of directions, or of what they are estimated by.
struct Pair {
    theta: Vec<f64>,
    v: Vec<f64>,
}

impl Config {
    /// ∇_θ g and the hypergradient's estimate at a point, on the batches of `key`; `None` where the series left the finite numbers.
    fn estimates(
        &self,
        problem: &dyn Problem,
        (v, theta): (&[f64], &[f64]),
        (batch_size, outer_batch_size, step): (SampleCount, SampleCount, u64),
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<Option<Pair>> {
        observer.phase(Phase::InnerStep);
        let batch = batch_size.draw(problem.inner_samples(), key.named("inner"))?;
        let mut gradient = vec![0.0; theta.len()];
        add_scaled("grad_inner", 1.0, &problem.grad_inner(v, theta, batch.batch())?, &mut gradient)?;
        let estimator = SeriesEstimator {
            batch_size,
            outer_batch_size,
            factors: self.linear_steps,
            terms: Terms::All,
            step_size: self.linear_step_size.unwrap_or(self.inner_step_size).at(step),
        };
        Ok(estimator.hypergradient(problem, (v, theta), key, observer)?.map(|v| Pair { theta: gradient, v }))
    }
}

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        let mut state = State::new(outer_var, inner_var);
        state.memory.put("theta_direction", vec![0.0; problem.inner_dim()]);
        state.memory.put("v_direction", vec![0.0; problem.outer_dim()]);
        Ok(state)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: theta, memory, .. } = state;
        let diverged = Status::Diverged { step: *step };
        let mut d = Pair {
            theta: memory.take("theta_direction", problem.inner_dim())?,
            v: memory.take("v_direction", problem.outer_dim())?,
        };
        if step.is_multiple_of(parts::period(self.period, problem, self.batch_size)) {
            let all = (SampleCount::All, SampleCount::All, *step);
            let Some(whole) = self.estimates(problem, (v, theta), all, key.named("all"), observer)? else {
                return Ok(diverged);
            };
            d = whole;
        }

        let (mut v_before, mut theta_before) = (v.clone(), theta.clone());
        observer.phase(Phase::OuterStep);
        add_scaled("hypergradient", -self.outer_step_size.at(*step), &d.v, v)?;
        if !finite(v) {
            return Ok(diverged);
        }

        let drawn = (self.batch_size, self.outer_batch_size, *step);
        for k in 0..=self.inner_steps {
            let key = key.named("recursion").child(k);
            let now = self.estimates(problem, (v, theta), drawn, key, observer)?;
            let before = self.estimates(problem, (&v_before, &theta_before), drawn, key, observer)?;
            let (Some(now), Some(before)) = (now, before) else {
                return Ok(diverged);
            };
            for (d, now, before) in [(&mut d.theta, &now.theta, &before.theta), (&mut d.v, &now.v, &before.v)] {
                add_scaled("direction", 1.0, now, d)?;
                add_scaled("direction", -1.0, before, d)?;
            }
            if k == self.inner_steps {
                break;
            }
            observer.phase(Phase::InnerStep);
            v_before.copy_from_slice(v);
            theta_before.copy_from_slice(theta);
            add_scaled("grad_inner", -self.inner_step_size.at(*step), &d.theta, theta)?;
            if !finite(theta) {
                return Ok(diverged);
            }
        }
        memory.put("theta_direction", d.theta);
        memory.put("v_direction", d.v);
        Ok(Status::Converged {})
    }
}
