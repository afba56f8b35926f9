//! SOBA, the stochastic bilevel algorithm (Dagréou, Ablin, Vaiter & Moreau 2022, NeurIPS, arXiv 2201.13409): inner variable, linear system and
//! outer variable move at once, along directions that are linear in the samples and all taken at the same point.
//!
//!   θ ← θ − α_t ∇_θ g,   q ← q − β_t (H q − ∇_θ f),   v ← v − η_t (∇_v f − Jᵀq),   at (v, θ, q)
//!
//! with ∇_θ g, H q and Jᵀq on one batch of inner samples and both gradients of f on one of outer samples. β is α unless given. All step sizes fall
//! as t^{−1/2} and batches have 64 samples, as in the authors' benchmark (benchopt's `bilevel`); the paper's theorem has the exponents 2/5 and 3/5.
//! A step costs a batch each of inner gradients, Hessian and cross products, and of outer gradients.

use serde::{Deserialize, Serialize};

use super::parts::{descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::{add_scaled, axpy};
use crate::error::{Result, Status};
use crate::par;
use crate::problem::{OuterGradient, Problem};
use crate::rng::Key;

/// The settings of [`Soba`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Samples of ∇_θ g, H q and Jᵀq.
    pub batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub outer_batch_size: SampleCount,
    /// α_t, t counting steps.
    pub inner_step_size: StepSize,
    /// β_t; unless given, α_t.
    pub linear_step_size: Option<StepSize>,
    /// η_t.
    pub outer_step_size: StepSize,
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
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.linear_step_size.map_or(Ok(()), |size| size.validate("linear_step_size"))?;
        self.outer_step_size.validate("outer_step_size")
    }
}

/// The stochastic bilevel algorithm.
#[derive(Debug, Clone)]
pub struct Soba(Config);

impl Soba {
    /// The registry name.
    pub const NAME: &'static str = "soba";

    /// The method with these settings.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) that names the setting.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self(config))
    }
}

/// q in the state.
const Q: &str = "q";

impl Method for Soba {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        let mut state = State::new(outer_var, inner_var);
        state.memory.put(Q, vec![0.0; problem.inner_dim()]);
        Ok(state)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let Self(config) = self;
        let State { step, outer_var: v, inner_var: theta, memory, .. } = state;
        let step = *step;
        let mut q = memory.take(Q, theta.len())?;

        observer.phase(Phase::InnerStep);
        let batch = config.batch_size.draw(problem.inner_samples(), key.named("inner"))?;
        let outer = config.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (inner, outer) =
            par::join(|| problem.inner_products(v, theta, batch.batch(), &q), || problem.grad_outer(v, theta, outer.batch()));
        let (mut inner, OuterGradient { theta: b, v: mut hypergradient }) = (inner?, outer?);

        let alpha = config.inner_step_size.at(step);
        let beta = config.linear_step_size.map_or(alpha, |size| size.at(step));
        axpy(-1.0, &b, &mut inner.hvp);
        if !(descend("hvp", beta, &inner.hvp, &mut q)? && descend("grad_inner", alpha, &inner.gradient, theta)?) {
            return Ok(Status::Diverged { step });
        }
        memory.put(Q, q);
        add_scaled("cross_vjp", -1.0, &inner.cross_vjp, &mut hypergradient)?;
        outer_step(step, config.outer_step_size.at(step), &hypergradient, v, observer)
    }
}
