//! Approximate implicit differentiation with conjugate gradients: HOAG (Pedregosa 2016, arXiv 1602.02355), implicit MAML
//! (Rajeswaran, Finn, Kakade & Levine 2019, arXiv 1909.04630), AID of Grazzi, Franceschi, Pontil & Salzo (2020, arXiv 2006.16218).
//!
//!   θ ← θ − α_k ∇_θ g(v, θ)  K times,   q ← q + CG(H, b − Hq)  in N products,   v ← v − η_t (∇_v f − Jᵀq)
//!
//! θ and q are kept from one outer step to the next. The sources use all data in every product, which is the default here (gradient
//! descent inside); with a `batch_size` it is SGD, and `hessian_samples` are drawn once an outer step.
//!
//! Departs from HOAG: K and N are fixed where it solves to tolerances that decrease with the steps, and η_t is given where it
//! adapts it; from Grazzi et al.: CG starts from the last q, not from 0.

use serde::{Deserialize, Serialize};

use super::parts::{InnerSgd, note_solve, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::{add_scaled, axpy, difference, norm};
use crate::error::{Result, Status, check_count, check_len, check_nonnegative};
use crate::inverse::{SolveOptions, conjugate_gradients};
use crate::operator::{FromFn, LinearOperator};
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: inner steps an outer step.
    pub inner_steps: u64,
    /// N: the most iterations of CG an outer step, of one Hessian product each; two more are for the residual before and after.
    pub linear_steps: usize,
    /// ‖b − Hq‖/‖b‖ to stop at.
    pub tolerance: f64,
    /// Samples of an inner gradient.
    pub batch_size: SampleCount,
    /// Samples of b and ∇_v f.
    pub outer_batch_size: SampleCount,
    /// Samples of the Hessian products, drawn once an outer step.
    pub hessian_samples: SampleCount,
    /// Samples of the cross product Jᵀq.
    pub cross_samples: SampleCount,
    /// α_k, k counting inner steps from the beginning of the run.
    pub inner_step_size: StepSize,
    /// η_t, t counting outer steps.
    pub outer_step_size: StepSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 10,
            linear_steps: 10,
            tolerance: 1e-6,
            batch_size: SampleCount::All,
            outer_batch_size: SampleCount::All,
            hessian_samples: SampleCount::All,
            cross_samples: SampleCount::All,
            inner_step_size: StepSize::constant(0.1),
            outer_step_size: StepSize::constant(0.1),
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        check_count("linear_steps", self.linear_steps)?;
        check_nonnegative("tolerance", self.tolerance)?;
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.hessian_samples.validate("hessian_samples")?;
        self.cross_samples.validate("cross_samples")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.outer_step_size.validate("outer_step_size")
    }

    /// q + H⁻¹(b − Hq) by CG on the correction, and how CG ended.
    fn corrected<A: LinearOperator>(&self, hessian: &A, b: &[f64], mut q: Vec<f64>) -> Result<(Vec<f64>, Status)> {
        check_len("grad_outer", b.len(), q.len())?;
        let residual = difference(b, &hessian.apply(&q)?);
        let (reached, target) = (norm(&residual), self.tolerance * norm(b));
        if reached <= target {
            return Ok((q, Status::Converged {}));
        }
        if !reached.is_finite() {
            return Ok((q, Status::Breakdown { step: 0, residual: f64::INFINITY }));
        }
        let options = SolveOptions { tolerance: target / reached, max_iterations: self.linear_steps };
        let report = conjugate_gradients(hessian, &residual, options)?;
        axpy(1.0, &report.solution, &mut q);
        Ok((q, report.status))
    }
}

/// The registry name.
pub(super) const NAME: &str = "aid-cg";

/// The name of q in the state.
const Q: &str = "q";

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        let mut state = State::new(outer_var, inner_var);
        state.memory.put(Q, vec![0.0; problem.inner_dim()]);
        Ok(state)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: theta, memory, .. } = state;
        let n = problem.inner_samples();

        let sgd = InnerSgd { steps: self.inner_steps, batch_size: self.batch_size };
        let step_size = |k| self.inner_step_size.at(*step * self.inner_steps + k);
        if !sgd.run(problem, v, theta, step_size, key, observer)? {
            return Ok(Status::Diverged { step: *step });
        }

        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (b, mut hypergradient) = problem.grad_outer(v, theta, outer.batch())?.into_vecs();

        observer.phase(Phase::InverseProduct);
        let batch = self.hessian_samples.draw(n, key.named("hessian"))?;
        let hessian = FromFn::new(b.len(), |u: &[f64]| problem.hvp(v, theta, batch.batch(), u));
        let (q, status) = self.corrected(&hessian, &b, memory.take(Q, b.len())?)?;
        note_solve(status, observer);
        if !q.iter().all(|x| x.is_finite()) {
            return Ok(Status::Diverged { step: *step });
        }

        observer.phase(Phase::CrossProduct);
        let cross = self.cross_samples.draw(n, key.named("cross"))?;
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, cross.batch(), &q)?, &mut hypergradient)?;
        memory.put(Q, q);

        outer_step(*step, self.outer_step_size.at(*step), &hypergradient, v, observer)
    }
}
