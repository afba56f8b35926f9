//! Iterative differentiation in reverse mode: the hypergradient of f(v, θ_K(v)) through the K inner steps that made θ_K (Maclaurin,
//! Duvenaud & Adams 2015, arXiv 1502.03492; Franceschi, Donini, Frasconi & Pontil 2017, arXiv 1703.01785; Franceschi et al. 2018,
//! arXiv 1806.04910).
//!
//!   θ_{k+1} = θ_k − α_k ∇_θ g(v, θ_k; B_k);   h = ∇_v f, p = ∇_θ f at θ_K;
//!   for k = K − 1 … K − U:   h ← h − α_k J(θ_k; B_k)ᵀp,   p ← p − α_k H(θ_k; B_k) p;   v ← v − η_t h
//!
//! With U < K (`unrolled_steps`) the sum is truncated (Shaban, Cheng, Hatch & Boots 2019, arXiv 1810.10667). The iterates are kept,
//! not reversed as Maclaurin et al. do: K·d2 numbers of memory, and as many batches. All data in every product is the default, as
//! in the sources.
//!
//! Departs from them: by default θ is kept from one outer step to the next, and the derivative of where an inner loop starts is
//! left out; `inner_start = "cold"` starts every one from θ₀ as they do. An outer step costs K inner gradients, U cross products
//! and U − 1 Hessian ones.

use serde::{Deserialize, Serialize};

use super::nhgd::Start;
use super::parts::{descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::schedule::Drawn;
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::add_scaled;
use crate::error::{Error, Result, Status, check_count};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: inner steps an outer step.
    pub inner_steps: u64,
    /// U: how many of them, the last ones, the derivative goes back through; all, unless given.
    pub unrolled_steps: Option<u64>,
    /// Samples of an inner gradient, and of the products at its point.
    pub batch_size: SampleCount,
    /// Samples of both gradients of f.
    pub outer_batch_size: SampleCount,
    /// α_k, k counting inner steps from the beginning of the run.
    pub inner_step_size: StepSize,
    /// η_t, t counting outer steps.
    pub outer_step_size: StepSize,
    /// Whether θ is kept from one outer step to the next.
    pub inner_start: Start,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 10,
            unrolled_steps: None,
            batch_size: SampleCount::All,
            outer_batch_size: SampleCount::All,
            inner_step_size: StepSize::constant(0.1),
            outer_step_size: StepSize::constant(0.1),
            inner_start: Start::Warm,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        if let Some(steps) = self.unrolled_steps.filter(|steps| !(1..=self.inner_steps).contains(steps)) {
            return Err(Error::argument(
                "unrolled_steps",
                format_args!("between 1 and the {} inner steps", self.inner_steps),
                steps,
            ));
        }
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.outer_step_size.validate("outer_step_size")
    }
}

/// The registry name.
pub(super) const NAME: &str = "itd";

/// One inner step as it was taken, for the way back.
struct Taken {
    theta: Vec<f64>,
    batch: Drawn,
    size: f64,
}

impl Config {
    /// K inner steps, of which the last U are kept. `None` where θ left the finite numbers.
    fn forward(&self, problem: &dyn Problem, state: &mut State, key: Key) -> Result<Option<Vec<Taken>>> {
        let State { step, outer_var: v, inner_var: theta, .. } = state;
        let steps = self.inner_steps;
        let first = steps - self.unrolled_steps.unwrap_or(steps);
        let mut taken = Vec::new();
        for k in 0..steps {
            let batch = self.batch_size.draw(problem.inner_samples(), key.named("inner").child(k).named("batch"))?;
            let size = self.inner_step_size.at(*step * steps + k);
            let gradient = problem.grad_inner(v, theta, batch.batch())?;
            if k >= first {
                taken.push(Taken { theta: theta.clone(), batch, size });
            }
            if !descend("grad_inner", size, &gradient, theta)? {
                return Ok(None);
            }
        }
        Ok(Some(taken))
    }
}

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        Ok(State::new(outer_var, inner_var))
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let diverged = Status::Diverged { step: state.step };
        if self.inner_start == Start::Cold {
            state.inner_var = problem.initial().1;
        }
        observer.phase(Phase::InnerStep);
        let Some(taken) = self.forward(problem, state, key)? else {
            return Ok(diverged);
        };
        let State { step, outer_var: v, inner_var: theta, .. } = state;

        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (mut p, mut hypergradient) = problem.grad_outer(v, theta, outer.batch())?.into_vecs();

        for (left, Taken { theta, batch, size }) in taken.iter().enumerate().rev() {
            observer.phase(Phase::CrossProduct);
            add_scaled("cross_vjp", -size, &problem.cross_vjp(v, theta, batch.batch(), &p)?, &mut hypergradient)?;
            observer.phase(Phase::InverseProduct);
            if left > 0 && !descend("hvp", *size, &problem.hvp(v, theta, batch.batch(), &p)?, &mut p)? {
                return Ok(diverged);
            }
        }

        outer_step(*step, self.outer_step_size.at(*step), &hypergradient, v, observer)
    }
}
