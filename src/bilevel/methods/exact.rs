//! The reference method: the same inner SGD as NHGD, then the hypergradient at that θ with the exact Hessian over all data: by a dense solve
//! (d2² memory and d2³ work an outer step), or where that is too large by conjugate gradients to a residual that nothing else notices. What
//! NHGD would do if its curvature had no error.

use serde::{Deserialize, Serialize};

use super::parts::InnerSgd;
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::dense::add_scaled;
use crate::error::{Result, Status, check_count, check_positive};
use crate::inverse::{SolveOptions, conjugate_gradients};
use crate::operator::FromFn;
use crate::oracle::{NewtonOptions, exact_inverse_hvp};
use crate::problem::Problem;
use crate::rng::Key;
use crate::samples::Batch;

/// The method with its settings, named as in NHGD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: inner SGD steps an outer step.
    pub inner_steps: u64,
    /// Samples of an inner gradient.
    pub batch_size: SampleCount,
    /// α_k, k counting inner steps from the beginning of the run.
    pub inner_step_size: StepSize,
    /// η_t, t counting outer steps.
    pub outer_step_size: StepSize,
    /// The largest d2 whose Hessian is formed and factorized.
    pub max_dense_dim: usize,
    /// The residual, relative to ‖b‖, to which larger ones are solved.
    pub tolerance: f64,
}

/// Products after which conjugate gradients give up.
const MAX_PRODUCTS: usize = 10_000;

impl Default for Config {
    fn default() -> Self {
        let nhgd = super::nhgd::Config::default();
        Self {
            inner_steps: nhgd.inner_steps,
            batch_size: nhgd.batch_size,
            inner_step_size: nhgd.inner_step_size,
            outer_step_size: nhgd.outer_step_size,
            max_dense_dim: NewtonOptions::default().max_dense_dim,
            tolerance: 1e-8,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        self.batch_size.validate("batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.outer_step_size.validate("outer_step_size")?;
        check_positive("tolerance", self.tolerance)
    }
}

/// The registry name.
pub(super) const NAME: &str = "exact";

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

        let sgd = InnerSgd { steps: self.inner_steps, batch_size: self.batch_size };
        let step_size = |k| self.inner_step_size.at(*step * self.inner_steps + k);
        if !sgd.run(problem, v, theta, step_size, key, observer)? {
            return Ok(Status::Diverged { step: *step });
        }

        observer.phase(Phase::OuterGradient);
        let (b, mut hypergradient) = problem.grad_outer(v, theta, Batch::All)?.into_vecs();

        observer.phase(Phase::InverseProduct);
        let q = if problem.inner_dim() <= self.max_dense_dim {
            exact_inverse_hvp(problem, v, theta, &b)?
        } else {
            let hessian = FromFn::new(problem.inner_dim(), |u: &[f64]| problem.hvp(v, theta, Batch::All, u));
            let options = SolveOptions { tolerance: self.tolerance, max_iterations: MAX_PRODUCTS };
            let report = conjugate_gradients(&hessian, &b, options)?;
            if !report.status.is_converged() {
                return Ok(report.status);
            }
            report.solution
        };

        observer.phase(Phase::CrossProduct);
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, Batch::All, &q)?, &mut hypergradient)?;

        observer.phase(Phase::OuterStep);
        add_scaled("hypergradient", -self.outer_step_size.at(*step), &hypergradient, v)?;
        Ok(Status::Converged {})
    }
}
