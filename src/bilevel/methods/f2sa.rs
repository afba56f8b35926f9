//! F²SA, the fully first-order stochastic approximation (Kwon, Kwon, Wright & Nowak 2023, arXiv 2301.10945): the inner problem as a
//! penalty, L_λ(v, y, z) = f(v, y) + λ (g(v, y) − g(v, z)), whose gradient in v at the y of least f + λg and the z of least g is ∇Φ
//! + O(1/λ). No second derivative is asked for.
//!
//!   K times:  z ← z − γ_t ∇_θ g(v, z; B),   y ← y − α_t (∇_θ f(v, y; C) + λ_t ∇_θ g(v, y; B'));
//!   v ← v − η_t (∇_v f(v, y; C') + λ_t (∇_v g(v, y; B₁) − ∇_v g(v, z; B₂))),   λ_t = λ₀ (1 + t)^{1/7}
//!
//! γ_t falls as t^{−4/7}, α_t and η_t as t^{−5/7}: the published exponents where both f and g are sampled. Unless given, α_t =
//! γ_t/(2λ_t), as in the paper's theorem. K = 10 and batches of 64 are those of the benchmark of Dagréou, Ablin, Vaiter & Moreau
//! (2022, arXiv 2201.13409). The state's θ is z, the estimate of θ*(v). An outer step costs 2K + 2 batches of inner gradients and K
//! + 1 of outer ones.

use serde::{Deserialize, Serialize};

use super::parts::{descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::add_scaled;
use crate::error::{Result, Status, check_count, check_nonnegative, check_positive};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: steps on y and on z an outer step.
    pub inner_steps: u64,
    /// Samples of each inner gradient.
    pub batch_size: SampleCount,
    /// Samples of each outer gradient.
    pub outer_batch_size: SampleCount,
    /// γ_t, of z; t counting outer steps.
    pub inner_step_size: StepSize,
    /// α_t, of y; unless given, γ_t/(2λ_t).
    pub penalized_step_size: Option<StepSize>,
    /// η_t.
    pub outer_step_size: StepSize,
    /// λ₀.
    pub multiplier: f64,
    /// The power of 1 + t that λ_t grows as.
    pub multiplier_power: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 10,
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: StepSize { initial: 0.1, power: 4.0 / 7.0, offset: 1.0 },
            penalized_step_size: None,
            outer_step_size: StepSize { initial: 0.1, power: 5.0 / 7.0, offset: 1.0 },
            multiplier: 1.0,
            multiplier_power: 1.0 / 7.0,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.penalized_step_size.map_or(Ok(()), |size| size.validate("penalized_step_size"))?;
        self.outer_step_size.validate("outer_step_size")?;
        check_positive("multiplier", self.multiplier)?;
        check_nonnegative("multiplier_power", self.multiplier_power)
    }
}

/// The registry name.
pub(super) const NAME: &str = "f2sa";

/// The name of y in the state.
const PENALIZED: &str = "penalized inner_var";

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        let mut state = State::new(outer_var, inner_var);
        state.memory.put(PENALIZED, state.inner_var.clone());
        Ok(state)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: z, memory, .. } = state;
        let step = *step;
        let mut y = memory.take(PENALIZED, z.len())?;
        let lambda = self.multiplier * (1.0 + step as f64).powf(self.multiplier_power);
        let gamma = self.inner_step_size.at(step);
        let alpha = self.penalized_step_size.map_or(gamma / (2.0 * lambda), |size| size.at(step));
        let inner = |key: Key| self.batch_size.draw(problem.inner_samples(), key);
        let outer = |key: Key| self.outer_batch_size.draw(problem.outer_samples(), key);

        observer.phase(Phase::InnerStep);
        for k in 0..self.inner_steps {
            let key = key.named("inner").child(k);
            let gradient = problem.grad_inner(v, z, inner(key.named("batch"))?.batch())?;
            let mut penalized = problem.grad_outer(v, &y, outer(key.named("outer"))?.batch())?.theta;
            let constraint = problem.grad_inner(v, &y, inner(key.named("penalized"))?.batch())?;
            add_scaled("grad_inner", lambda, &constraint, &mut penalized)?;
            if !descend("grad_inner", gamma, &gradient, z)? || !descend("grad_outer", alpha, &penalized, &mut y)? {
                return Ok(Status::Diverged { step });
            }
        }

        observer.phase(Phase::OuterGradient);
        let mut direction = problem.grad_outer(v, &y, outer(key.named("outer"))?.batch())?.v.into_vec();
        observer.phase(Phase::CrossProduct);
        let (upper, lower) = (inner(key.named("upper"))?, inner(key.named("lower"))?);
        add_scaled("grad_v", lambda, &problem.grad_v(v, &y, upper.batch())?, &mut direction)?;
        add_scaled("grad_v", -lambda, &problem.grad_v(v, z, lower.batch())?, &mut direction)?;
        memory.put(PENALIZED, y);

        outer_step(step, self.outer_step_size.at(step), &direction, v, observer)
    }
}
