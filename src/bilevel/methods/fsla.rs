//! FSLA, the fully single loop algorithm (Li, Gu & Huang 2022, AAAI, arXiv 2112.04660): one SGD step on θ, one on the linear
//! system, and one on v along a momentum with recursive variance reduction.
//!
//!   θ' = θ − α_t ∇_θ g(v, θ; B₁);   q' = q − β_t (H(v, θ'; B₂) q − ∇_θ f(v, θ'; C₁));
//!   d ← h(v, θ', q') + (1 − m_t)(d − h(v_−, θ, q)),  both h on (B₃, C₂);   v_− ← v,  v ← v − η_t d
//!
//! with h(v, θ, q) = ∇_v f − Jᵀq and v_− the v of the step before. All step sizes and m_t fall as t^{−1/2}; β is α unless given.
//! Batches of 64 are those of Dagréou, Ablin, Vaiter & Moreau (2022, arXiv 2201.13409). The first d is h itself. A step costs a
//! batch each of inner gradients and Hessian products, two of cross products and three of outer gradients (one of each of the last
//! two less at the first step).

use serde::{Deserialize, Serialize};

use super::parts::{descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::add_scaled;
use crate::error::{Error, Result, Status};
use crate::problem::Problem;
use crate::rng::Key;
use crate::samples::Batch;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Samples of an inner gradient, a Hessian product and a cross product.
    pub batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub outer_batch_size: SampleCount,
    /// α_t, t counting steps.
    pub inner_step_size: StepSize,
    /// β_t; unless given, α_t.
    pub linear_step_size: Option<StepSize>,
    /// η_t.
    pub outer_step_size: StepSize,
    /// m_t, the weight of the new estimate: at most 1, which is no momentum.
    pub momentum: StepSize,
}

impl Default for Config {
    fn default() -> Self {
        let root = StepSize { initial: 0.1, power: 0.5, offset: 1.0 };
        Self {
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: root,
            linear_step_size: None,
            outer_step_size: root,
            momentum: root,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.linear_step_size.map_or(Ok(()), |size| size.validate("linear_step_size"))?;
        self.outer_step_size.validate("outer_step_size")?;
        self.momentum.validate("momentum")?;
        if self.momentum.initial > 1.0 {
            return Err(Error::argument("momentum", "at most 1", self.momentum.initial));
        }
        Ok(())
    }
}

/// The registry name.
pub(super) const NAME: &str = "fsla";

/// q, v_− and d in the state.
const Q: &str = "q";
const EARLIER: &str = "earlier outer_var";
const DIRECTION: &str = "direction";

/// Samples of one estimate: of g and of f.
type Samples<'a> = (Batch<'a>, Batch<'a>);

/// h(v, θ, q) = ∇_v f − Jᵀq.
fn estimate(problem: &dyn Problem, v: &[f64], theta: &[f64], q: &[f64], (inner, outer): Samples<'_>) -> Result<Vec<f64>> {
    let mut h = problem.grad_outer(v, theta, outer)?.v.into_vec();
    add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, inner, q)?, &mut h)?;
    Ok(h)
}

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        let mut state = State::new(outer_var, inner_var);
        state.memory.put(Q, vec![0.0; problem.inner_dim()]);
        state.memory.put(EARLIER, state.outer_var.clone());
        state.memory.put(DIRECTION, vec![0.0; problem.outer_dim()]);
        Ok(state)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: theta, memory, .. } = state;
        let step = *step;
        let (earlier_q, earlier_v) = (memory.take(Q, theta.len())?, memory.take(EARLIER, v.len())?);
        let inner = |purpose| self.batch_size.draw(problem.inner_samples(), key.named(purpose));
        let outer = |purpose| self.outer_batch_size.draw(problem.outer_samples(), key.named(purpose));

        observer.phase(Phase::InnerStep);
        let earlier_theta = theta.clone();
        let gradient = problem.grad_inner(v, theta, inner("inner")?.batch())?;
        if !descend("grad_inner", self.inner_step_size.at(step), &gradient, theta)? {
            return Ok(Status::Diverged { step });
        }

        observer.phase(Phase::OuterGradient);
        let b = problem.grad_outer(v, theta, outer("outer")?.batch())?.theta;

        observer.phase(Phase::InverseProduct);
        let mut residual = problem.hvp(v, theta, inner("hessian")?.batch(), &earlier_q)?;
        add_scaled("grad_outer", -1.0, &b, &mut residual)?;
        let mut q = earlier_q.clone();
        if !descend("hvp", self.linear_step_size.unwrap_or(self.inner_step_size).at(step), &residual, &mut q)? {
            return Ok(Status::Diverged { step });
        }

        observer.phase(Phase::CrossProduct);
        let (cross, outer) = (inner("cross")?, outer("direction")?);
        let samples = (cross.batch(), outer.batch());
        let mut direction = estimate(problem, v, theta, &q, samples)?;
        let mut last = memory.take(DIRECTION, v.len())?;
        // Before the first step there is no direction to correct.
        if step > 0 {
            add_scaled("direction", -1.0, &estimate(problem, &earlier_v, &earlier_theta, &earlier_q, samples)?, &mut last)?;
            add_scaled("direction", 1.0 - self.momentum.at(step), &last, &mut direction)?;
        }

        memory.put(Q, q);
        memory.put(EARLIER, v.clone());
        let status = outer_step(step, self.outer_step_size.at(step), &direction, v, observer);
        memory.put(DIRECTION, direction);
        status
    }
}
