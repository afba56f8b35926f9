//! Natural hypergradient descent (Kong, Chen, Zhang & Mou 2026, Algorithm 1) on any curvature family: the inverse of the inner
//! Hessian is replaced by that of a Fisher estimate that is updated while the inner SGD runs.
//!
//! Departs from the paper: the curvature is a family of the registry instead of a dense inverse, the regularizer's Hessian Λ is kept
//! apart from it, rows carry √w, and labels are by default drawn from the model instead of observed. `docs/theory.md` says why.

use serde::{Deserialize, Serialize};

use super::parts::{descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{SampleCount, StepSize};
use crate::curvature::{Curvature, CurvatureConfig, DampedSolver};
use crate::dense::add_scaled;
use crate::error::{Error, Result, Status, check_count};
use crate::inverse::Damping;
use crate::model::FisherKind;
use crate::problem::Problem;
use crate::rng::Key;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// K: inner SGD steps an outer step.
    pub inner_steps: u64,
    /// Samples of an inner gradient.
    pub batch_size: SampleCount,
    /// Samples of b = ∇_θ f.
    pub outer_batch_size: SampleCount,
    /// M: samples of the cross product Jᵀq.
    pub cross_samples: SampleCount,
    /// α_k, k counting inner steps from the beginning of the run.
    pub inner_step_size: StepSize,
    /// η_t, t counting outer steps.
    pub outer_step_size: StepSize,
    /// μ, added to the known curvature; or how to choose it for each b.
    pub damping: Damping,
    /// Which labels the curvature's rows have.
    pub fisher: FisherKind,
    /// Where the curvature's rows come from.
    pub curvature_rows: CurvatureRows,
    /// How many samples of each batch feed the curvature (with fresh rows: how many are drawn).
    pub curvature_samples: SampleCount,
    /// γ: what the curvature forgets before each block it absorbs.
    pub curvature_decay: f64,
    /// Whether the curvature is kept from one outer step to the next.
    pub curvature_start: Start,
    /// Whether θ is kept from one outer step to the next.
    pub inner_start: Start,
    /// The curvature family.
    pub curvature: CurvatureConfig,
}

/// Where the curvature's rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CurvatureRows {
    /// The batches of the inner SGD, at the θ_k where their gradients are taken, as in the paper.
    Trajectory,
    /// Samples drawn afresh at θ_K, once an outer step.
    Fresh,
}

/// What an outer step begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// What the last one left.
    Warm,
    /// The initial value.
    Cold,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 10,
            batch_size: SampleCount::Drawn(128),
            outer_batch_size: SampleCount::All,
            cross_samples: SampleCount::All,
            inner_step_size: StepSize::constant(0.5),
            outer_step_size: StepSize::constant(1.0),
            damping: Damping::Fixed(1e-2),
            fisher: FisherKind::Sampled,
            curvature_rows: CurvatureRows::Trajectory,
            curvature_samples: SampleCount::All,
            curvature_decay: 0.0,
            curvature_start: Start::Warm,
            inner_start: Start::Warm,
            curvature: CurvatureConfig::Window(Default::default()),
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("inner_steps", self.inner_steps as usize)?;
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.cross_samples.validate("cross_samples")?;
        self.curvature_samples.validate("curvature_samples")?;
        self.inner_step_size.validate("inner_step_size")?;
        self.outer_step_size.validate("outer_step_size")?;
        self.damping.validate("damping")?;
        if !(0.0..1.0).contains(&self.curvature_decay) {
            return Err(Error::argument("curvature_decay", "a number in [0, 1)", self.curvature_decay));
        }
        self.curvature.validate()
    }
}

/// The registry name.
pub(super) const NAME: &str = "nhgd";

/// Where an inner loop ended, its curvature included.
pub(super) struct Fitted<'a> {
    pub(super) v: &'a mut Vec<f64>,
    pub(super) theta: &'a mut Vec<f64>,
    pub(super) curvature: &'a mut Box<dyn Curvature>,
}

impl Config {
    fn fresh_curvature(&self, problem: &dyn Problem, key: Key) -> Result<Box<dyn Curvature>> {
        self.curvature.build(problem.inner_dim(), key.named("curvature"))
    }

    /// The state before the first step: the problem's initial point and a curvature that has seen nothing.
    pub(super) fn start(&self, problem: &dyn Problem, key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        Ok(State { curvature: Some(self.fresh_curvature(problem, key)?), ..State::new(outer_var, inner_var) })
    }

    /// K steps of inner SGD, and the curvature that is fed by the way. `None` where θ left the finite numbers.
    pub(super) fn inner_loop<'a>(
        &self,
        problem: &dyn Problem,
        state: &'a mut State,
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<Option<Fitted<'a>>> {
        let State { step, outer_var: v, inner_var: theta, curvature, .. } = state;
        let n = problem.inner_samples();
        if self.inner_start == Start::Cold {
            *theta = problem.initial().1;
        }
        let curvature = match (curvature, self.curvature_start) {
            (Some(kept), Start::Warm) => kept,
            (slot, _) => slot.insert(self.fresh_curvature(problem, key)?),
        };
        let before = curvature.status();

        for k in 0..self.inner_steps {
            let key = key.named("inner").child(k);
            observer.phase(Phase::InnerStep);
            let batch = self.batch_size.draw(n, key.named("batch"))?;
            let gradient = problem.grad_inner(v, theta, batch.batch())?;

            if self.curvature_rows == CurvatureRows::Trajectory {
                observer.phase(Phase::Absorb);
                let rows = batch.first(self.curvature_samples, n);
                curvature.decay(self.curvature_decay)?;
                curvature.absorb(&problem.scores(v, theta, rows.batch(), self.fisher, key.named("labels"))?)?;
            }

            observer.phase(Phase::InnerStep);
            if !descend("grad_inner", self.inner_step_size.at(*step * self.inner_steps + k), &gradient, theta)? {
                return Ok(None);
            }
        }

        if self.curvature_rows == CurvatureRows::Fresh {
            observer.phase(Phase::Absorb);
            let rows = self.curvature_samples.draw(n, key.named("rows"))?;
            curvature.decay(self.curvature_decay)?;
            curvature.absorb(&problem.scores(v, theta, rows.batch(), self.fisher, key.named("labels"))?)?;
        }

        if curvature.status() != before {
            observer.notice(curvature.status());
        }
        Ok(Some(Fitted { v, theta, curvature }))
    }
}

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, key: Key) -> Result<State> {
        self.start(problem, key)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let step = state.step;
        let Some(Fitted { v, theta, curvature }) = self.inner_loop(problem, state, key, observer)? else {
            return Ok(Status::Diverged { step });
        };

        observer.phase(Phase::OuterGradient);
        let outer = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let (b, mut hypergradient) = problem.grad_outer(v, theta, outer.batch())?.into_vecs();

        observer.phase(Phase::InverseProduct);
        let (approximation, known) = (curvature.approximate()?, problem.known_curvature(v)?);
        let (damping, q) = match self.damping {
            Damping::Fixed(damping) => (damping, approximation.solve(&known.plus(damping)?, &b)?),
            auto @ Damping::Auto { .. } => {
                let (damping, certified) = DampedSolver::new(&*approximation, known, None)?.solve(&b, auto)?;
                (damping, certified.midpoint)
            }
        };
        observer.damping(damping);

        observer.phase(Phase::CrossProduct);
        let cross = self.cross_samples.draw(problem.inner_samples(), key.named("cross"))?;
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, cross.batch(), &q)?, &mut hypergradient)?;

        outer_step(step, self.outer_step_size.at(step), &hypergradient, v, observer)
    }
}
