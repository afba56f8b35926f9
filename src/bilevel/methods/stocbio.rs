//! stocBiO (Ji, Yang & Liang 2021, ICML, arXiv 2010.07962): inner SGD, then Neumann's series with a fresh batch for each factor.
//!
//!   θ: K steps of SGD on g(v, ·);   q = β Σ_{j=0…M} Π_{i≤j} (I − β H(v, θ; B_i)) b with b = ∇_θ f(v, θ; C);
//!   v ← v − η (∇_v f(v, θ; C) − J(B')ᵀq)
//!
//! Step sizes are constant, as in the paper, K = M = 10 and batches of 64 as in the benchmark of Dagréou, Ablin, Vaiter & Moreau (2022, arXiv
//! 2201.13409); β is α unless given. An outer step costs K batches of inner gradients, M of Hessian products, one of cross products and one of
//! outer gradients.

use serde::{Deserialize, Serialize};

use super::parts::{InnerSgd, descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::{add_scaled, axpy};
use crate::error::{Result, Status, check_count};
use crate::problem::{OuterGradient, Problem};
use crate::rng::Key;

/// The settings of [`StocBio`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: inner SGD steps an outer step.
    pub inner_steps: u64,
    /// M: Hessian products of Neumann's series.
    pub linear_steps: u64,
    /// Samples of an inner gradient, of a Hessian product and of the cross product.
    pub batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub outer_batch_size: SampleCount,
    /// α_k, k counting inner steps from the beginning of the run.
    pub inner_step_size: StepSize,
    /// β_t, t counting outer steps; unless given, α of the first inner step.
    pub linear_step_size: Option<StepSize>,
    /// η_t.
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
        self.linear_step_size.map_or(Ok(()), |size| size.validate("linear_step_size"))?;
        self.outer_step_size.validate("outer_step_size")
    }
}

/// Inner SGD and Neumann's series.
#[derive(Debug, Clone)]
pub struct StocBio(Config);

impl StocBio {
    /// The registry name.
    pub const NAME: &'static str = "stocbio";

    /// The method with these settings.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) that names the setting.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self(config))
    }
}

impl Method for StocBio {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        Ok(State::new(outer_var, inner_var))
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let Self(config) = self;
        let State { step, outer_var: v, inner_var: theta, .. } = state;
        let step = *step;

        let sgd = InnerSgd { steps: config.inner_steps, batch_size: config.batch_size };
        let alpha = |k| config.inner_step_size.at(step * config.inner_steps + k);
        if !sgd.run(problem, v, theta, alpha, key, observer)? {
            return Ok(Status::Diverged { step });
        }

        observer.phase(Phase::OuterGradient);
        let outer = config.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let OuterGradient { theta: b, v: mut hypergradient } = problem.grad_outer(v, theta, outer.batch())?;

        observer.phase(Phase::InverseProduct);
        let beta = config.linear_step_size.map_or(config.inner_step_size.initial, |size| size.at(step));
        // The last factor's product, and the sum of all so far.
        let (mut term, mut q) = (b.clone(), b);
        for j in 0..config.linear_steps {
            let batch = config.batch_size.draw(problem.inner_samples(), key.named("linear").child(j))?;
            let product = problem.hvp(v, theta, batch.batch(), &term)?;
            if !descend("hvp", beta, &product, &mut term)? {
                return Ok(Status::Diverged { step });
            }
            axpy(1.0, &term, &mut q);
        }
        q.iter_mut().for_each(|x| *x *= beta);

        observer.phase(Phase::CrossProduct);
        let cross = config.batch_size.draw(problem.inner_samples(), key.named("cross"))?;
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, cross.batch(), &q)?, &mut hypergradient)?;

        outer_step(step, config.outer_step_size.at(step), &hypergradient, v, observer)
    }
}
