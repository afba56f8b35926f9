//! Natural hypergradient descent (Kong, Chen, Zhang & Mou 2026, Algorithm 1) on any curvature family: the inverse of the inner
//! Hessian is replaced by that of a Fisher estimate that is updated while the inner SGD runs.
//!
//! Departs from the paper: the curvature is a family of the registry instead of a dense inverse, the regularizer's Hessian Λ is kept
//! apart from it, rows carry √w, and labels are by default drawn from the model instead of observed. `docs/theory.md` says why.

use serde::{Deserialize, Serialize};

use super::parts::{both, descend, outer_step};
use super::{Method, Observer, Phase, State};
use crate::bilevel::schedule::{Drawn, SampleCount, StepSize};
use crate::curvature::{Curvature, CurvatureConfig, DampedSolver, Feed};
use crate::dense::add_scaled;
use crate::error::{Error, Result, Status, check_count};
use crate::inverse::Damping;
use crate::model::FisherKind;
use crate::problem::{OuterGradient, Problem};
use crate::reused::Reused;
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
    /// Which labels the curvature's rows have. Where it is not given, one drawn from the model (`sampled`); but all of them (`expected`) where
    /// the curvature asks for it and says how much it takes ([`Curvature::feed`]), if the problem has such rows.
    pub fisher: Option<FisherKind>,
    /// Where the curvature's rows come from.
    pub curvature_rows: CurvatureRows,
    /// m: how many samples of a batch feed the curvature (with fresh rows: how many are drawn). Where neither they nor `curvature_every` are
    /// given, both are what a curvature that is kept asks for ([`Curvature::feed`]); all samples where it asks for nothing, begins anew at
    /// each outer step, or rows are fresh.
    pub curvature_samples: Option<SampleCount>,
    /// s: of the K batches every s-th feeds the curvature, the last one always. 1 where it is not given and the curvature asks for nothing.
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
            fisher: None,
            curvature_rows: CurvatureRows::Trajectory,
            curvature_samples: None,
            curvature_every: None,
            curvature_decay: 0.0,
            curvature_start: Start::Warm,
            inner_start: Start::Warm,
            overlap: true,
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
        self.curvature_samples.map_or(Ok(()), |samples| samples.validate("curvature_samples"))?;
        if let Some(every) = self.curvature_every {
            check_count("curvature_every", every as usize)?;
            if self.curvature_rows == CurvatureRows::Fresh {
                return Err(Error::argument("curvature_every", "none with fresh rows, which are drawn once an outer step", every));
            }
        }
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

/// Where an inner loop ended, with all that follows from its end alone.
pub(super) struct Fitted<'a> {
    pub(super) v: &'a mut Vec<f64>,
    pub(super) theta: &'a mut Vec<f64>,
    pub(super) curvature: &'a mut Box<dyn Curvature>,
    /// b = ∇_θ f and ∇_v f there.
    pub(super) outer: OuterGradient,
}

/// Samples that the curvature has yet to take in, and the θ at which their rows are.
struct Rows<'a> {
    batch: Drawn,
    theta: &'a [f64],
    all_labels: bool,
    labels: Key,
}

/// m, s, and whether rows of all labels are wanted.
struct Fed {
    samples: SampleCount,
    every: u64,
    all_labels: bool,
}

impl Config {
    /// Nobody asks it for a bound, so that it carries no probes unless they are named.
    fn fresh_curvature(&self, problem: &dyn Problem, key: Key) -> Result<Box<dyn Curvature>> {
        self.curvature.without_probes().build(problem.inner_dim(), key.named("curvature"))
    }

    /// The state before the first step: the problem's initial point and a curvature that has seen nothing.
    pub(super) fn start(&self, problem: &dyn Problem, key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        Ok(State { curvature: Some(self.fresh_curvature(problem, key)?), ..State::new(outer_var, inner_var) })
    }

    fn absorb(&self, problem: &dyn Problem, v: &[f64], rows: &Rows<'_>, curvature: &mut dyn Curvature) -> Result<()> {
        let scores = |kind| problem.scores(v, rows.theta, rows.batch.batch(), kind, rows.labels);
        let scores = match self.fisher {
            Some(kind) => scores(kind)?,
            None if rows.all_labels => match scores(FisherKind::Expected) {
                Err(Error::Unsupported { .. }) => scores(FisherKind::Sampled)?,
                expected => expected?,
            },
            None => scores(FisherKind::Sampled)?,
        };
        curvature.decay(self.curvature_decay)?;
        curvature.absorb_owned(scores)
    }

    /// How many samples of which batches the curvature takes; fresh rows are m of all. Only a curvature that sees many batches can do with
    /// little of each.
    fn fed(&self, curvature: &dyn Curvature) -> Fed {
        let sees_many = self.curvature_rows == CurvatureRows::Trajectory && self.curvature_start == Start::Warm;
        match (self.curvature_samples, self.curvature_every, curvature.feed()) {
            (None, None, Some(Feed { samples, every, all_labels })) if sees_many => {
                Fed { samples: SampleCount::Drawn(samples), every, all_labels }
            }
            (samples, every, _) => {
                Fed { samples: samples.unwrap_or(SampleCount::All), every: every.unwrap_or(1), all_labels: false }
            }
        }
    }

    /// Whether the curvature takes rows of step k: of every s-th, unless nothing is left of them at the end of the inner loop because it
    /// looks at the last samples only and the steps after k bring enough of them.
    fn feeds(&self, k: u64, every: u64, samples: usize, curvature: &dyn Curvature) -> bool {
        let left = self.inner_steps - 1 - k;
        let after = (left / every).saturating_mul(samples as u64);
        left.is_multiple_of(every) && curvature.horizon().is_none_or(|horizon| after < horizon as u64)
    }

    /// K steps of inner SGD, and the curvature that is fed by the way: it takes in the rows of step k while the gradient of step k + 1
    /// is computed, and the last ones beside ∇f. `None` where θ left the finite numbers.
    pub(super) fn fit<'a>(
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
        let Fed { samples: taken, every, all_labels } = self.fed(curvature.as_ref());

        // The rows of the last step, if the curvature has yet to take them in, and the θ of that step.
        let mut pending: Option<(Drawn, Key)> = None;
        let mut last = Reused::default();
        for k in 0..self.inner_steps {
            let key = key.named("inner").child(k);
            let batch = self.batch_size.draw(n, key.named("batch"))?;
            let gradient = || problem.grad_inner(v, theta, batch.batch());
            let gradient = Reused::from(match pending.take() {
                None => {
                    observer.phase(Phase::InnerStep);
                    gradient()?
                }
                Some((batch, labels)) => {
                    let rows = Rows { batch, theta: &last, all_labels, labels };
                    let absorb = || self.absorb(problem, v, &rows, curvature.as_mut());
                    let (gradient, absorbed) = both(self.overlap, (Phase::InnerStep, gradient), (Phase::Absorb, absorb), observer);
                    absorbed?;
                    gradient?
                }
            });
            if self.curvature_rows == CurvatureRows::Trajectory {
                let rows = batch.first(taken, n);
                if self.feeds(k, every, rows.batch().len(n), curvature.as_ref()) {
                    pending = Some((rows, key.named("labels")));
                    last.empty(theta.len()).extend_from_slice(theta);
                }
            }
            observer.phase(Phase::InnerStep);
            if !descend("grad_inner", self.inner_step_size.at(*step * self.inner_steps + k), &gradient, theta)? {
                return Ok(None);
            }
        }
        let rows = match pending {
            Some((batch, labels)) => Rows { batch, theta: &last, all_labels, labels },
            None => {
                let batch = taken.draw(n, key.named("rows"))?;
                Rows { batch, theta: theta.as_slice(), all_labels, labels: key.named("labels") }
            }
        };

        let samples = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let gradient = || problem.grad_outer(v, theta, samples.batch());
        let absorb = || self.absorb(problem, v, &rows, curvature.as_mut());
        let (outer, absorbed) = both(self.overlap, (Phase::OuterGradient, gradient), (Phase::Absorb, absorb), observer);
        absorbed?;
        let outer = outer?;
        if curvature.status() != before {
            observer.notice(curvature.status());
        }
        Ok(Some(Fitted { v, theta, curvature, outer }))
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
        let Some(Fitted { v, theta, curvature, outer }) = self.fit(problem, state, key, observer)? else {
            return Ok(Status::Diverged { step });
        };
        let (b, mut hypergradient) = outer.into_vecs();
        let b = Reused::from(b);

        observer.phase(Phase::InverseProduct);
        let (approximation, known) = (curvature.approximate()?, problem.known_curvature(v)?);
        let (damping, q) = match self.damping {
            Damping::Fixed(damping) => (damping, approximation.solve(&known.plus(damping)?, &b)?),
            auto @ Damping::Auto { .. } => {
                let (damping, certified) = DampedSolver::new(&*approximation, known, None)?.solve(&b, auto)?;
                (damping, certified.midpoint)
            }
        };
        let q = Reused::from(q);
        observer.damping(damping);

        observer.phase(Phase::CrossProduct);
        let cross = self.cross_samples.draw(problem.inner_samples(), key.named("cross"))?;
        add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, cross.batch(), &q)?, &mut hypergradient)?;

        outer_step(step, self.outer_step_size.at(step), &hypergradient, v, observer)
    }
}
