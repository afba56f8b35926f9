//! NHGD with its inverse product refined: the inner loop and the curvature are exactly `nhgd`'s, then a few conjugate gradients on
//! exact Hessian products solve H q = b, preconditioned with P = F̂ + Λ + μI (a sketch as preconditioner: Frangella, Tropp & Udell
//! 2023, arXiv 2110.02820). What the sketch errs, and what the Fisher matrix errs for the Hessian, costs iterations instead of
//! bias:
//!
//!   q ← PCG(H, P⁻¹, b),   v ← v − η_t (∇_v f − Jᵀq)
//!
//! All products of a step share one batch: conjugate gradients need one symmetric matrix. Where the very first direction has no
//! positive curvature, q is NHGD's own P⁻¹b. An outer step costs `nhgd`'s calls and at most `max_products` Hessian products.

use serde::{Deserialize, Serialize};

use super::nhgd::{self, CurvatureRows, Fitted, Start};
use super::parts::{note_solve, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::curvature::CurvatureConfig;
use crate::dense::add_scaled;
use crate::error::{Error, Result, Status, check_nonnegative};
use crate::inverse::{Damping, PcgOptions, SolveOptions, preconditioned_conjugate_gradients};
use crate::model::FisherKind;
use crate::operator::FromFn;
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings: those of NHGD, and of the solve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: inner SGD steps an outer step.
    pub inner_steps: u64,
    /// Samples of an inner gradient.
    pub batch_size: SampleCount,
    /// Samples of b = ∇_θ f.
    pub outer_batch_size: SampleCount,
    /// Samples of the Hessian products, drawn once an outer step.
    pub hessian_samples: SampleCount,
    /// M: samples of the cross product Jᵀq.
    pub cross_samples: SampleCount,
    /// α_k, k counting inner steps from the beginning of the run.
    pub inner_step_size: StepSize,
    /// η_t, t counting outer steps.
    pub outer_step_size: StepSize,
    /// The most Hessian products an outer step, at least 2: one an iteration, and one for the residual of what they found.
    pub max_products: usize,
    /// ‖b − Hq‖/‖b‖ to reach.
    pub tolerance: f64,
    /// μ, added to the known curvature in the preconditioner; H itself stays as it is.
    pub damping: f64,
    /// Which labels the curvature's rows have, as for `nhgd`.
    pub fisher: Option<FisherKind>,
    /// Where the curvature's rows come from.
    pub curvature_rows: CurvatureRows,
    /// How many samples of each batch feed the curvature, as for `nhgd`.
    pub curvature_samples: Option<SampleCount>,
    /// Of the K batches every such one feeds the curvature, as for `nhgd`.
    pub curvature_every: Option<u64>,
    /// γ: what the curvature forgets before each block it absorbs.
    pub curvature_decay: f64,
    /// Whether the curvature is kept from one outer step to the next.
    pub curvature_start: Start,
    /// Whether θ is kept from one outer step to the next.
    pub inner_start: Start,
    /// Whether the curvature takes in the rows of one step while the gradient of the next is computed. The results are the same.
    pub overlap: bool,
    /// The curvature family.
    pub curvature: CurvatureConfig,
}

impl Default for Config {
    fn default() -> Self {
        let nhgd = nhgd::Config::default();
        Self {
            inner_steps: nhgd.inner_steps,
            batch_size: nhgd.batch_size,
            outer_batch_size: nhgd.outer_batch_size,
            hessian_samples: SampleCount::All,
            cross_samples: nhgd.cross_samples,
            inner_step_size: nhgd.inner_step_size,
            outer_step_size: nhgd.outer_step_size,
            max_products: 6,
            tolerance: 1e-3,
            damping: 1e-2,
            fisher: nhgd.fisher,
            curvature_rows: nhgd.curvature_rows,
            curvature_samples: nhgd.curvature_samples,
            curvature_every: nhgd.curvature_every,
            curvature_decay: nhgd.curvature_decay,
            curvature_start: nhgd.curvature_start,
            inner_start: nhgd.inner_start,
            overlap: nhgd.overlap,
            curvature: nhgd.curvature,
        }
    }
}

impl Config {
    /// What NHGD has of these settings.
    fn nhgd(&self) -> nhgd::Config {
        nhgd::Config {
            inner_steps: self.inner_steps,
            batch_size: self.batch_size,
            outer_batch_size: self.outer_batch_size,
            cross_samples: self.cross_samples,
            inner_step_size: self.inner_step_size,
            outer_step_size: self.outer_step_size,
            damping: Damping::Fixed(self.damping),
            fisher: self.fisher,
            curvature_rows: self.curvature_rows,
            curvature_samples: self.curvature_samples,
            curvature_every: self.curvature_every,
            curvature_decay: self.curvature_decay,
            curvature_start: self.curvature_start,
            inner_start: self.inner_start,
            overlap: self.overlap,
            curvature: self.curvature.clone(),
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.nhgd().validate()?;
        self.hessian_samples.validate("hessian_samples")?;
        if self.max_products < 2 {
            return Err(Error::argument("max_products", "at least 2: an iteration and its residual", self.max_products));
        }
        check_nonnegative("tolerance", self.tolerance)
    }
}

/// The registry name.
pub(super) const NAME: &str = "nhgd-pcg";

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, key: Key) -> Result<State> {
        self.nhgd().start(problem, key)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let (config, step, n) = (self.nhgd(), state.step, problem.inner_samples());
        let Some(Fitted { v, theta, curvature, outer }) = config.fit(problem, state, key, observer)? else {
            return Ok(Status::Diverged { step });
        };
        let (b, mut hypergradient) = outer.into_vecs();

        observer.phase(Phase::InverseProduct);
        let (approximation, known) = (curvature.approximate()?, problem.known_curvature(v)?.plus(self.damping)?);
        let preconditioner = approximation.inverse(&known)?;
        let batch = self.hessian_samples.draw(n, key.named("hessian"))?;
        let hessian = FromFn::new(b.len(), |u: &[f64]| problem.hvp(v, theta, batch.batch(), u));
        let solve = SolveOptions { tolerance: self.tolerance, max_iterations: self.max_products - 1 };
        let options = PcgOptions { solve, trial_products: 0, ..PcgOptions::default() };
        let solve = preconditioned_conjugate_gradients(&hessian, preconditioner.as_ref(), &b, options)?.solve;
        note_solve(solve.status, observer);
        let q = if solve.iterations > 0 { solve.solution } else { preconditioner.apply(&b)? };

        observer.phase(Phase::CrossProduct);
        let cross = config.cross_samples.draw(n, key.named("cross"))?;
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, cross.batch(), &q)?, &mut hypergradient)?;

        outer_step(step, config.outer_step_size.at(step), &hypergradient, v, observer)
    }
}
