//! The suite of bilevel methods: a run is a pure function of problem, method and key, its state is all that the next step needs, what
//! it asks of the problem is counted, and it makes progress in Φ as the oracle computes it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Report;
use crate::bilevel::{self, Ended, Method, Outcome, State, Stop};
use crate::dense::Matrix;
use crate::error::{Error, Result, Status};
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::model::FisherKind;
use crate::oracle::{NewtonOptions, inner_solution};
use crate::par;
use crate::problem::{Baseline, Counted, InnerProducts, OracleCounts, OuterGradient, Problem};
use crate::rng::Key;
use crate::samples::Batch;

/// What a method claims, with its settings, on the problem that it is tried on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MethodClaims {
    /// Outer steps of the run whose progress is measured.
    pub steps: u64,
    /// Φ after them is at most this share of Φ before.
    pub reduction: f64,
    /// Whether it draws samples or labels.
    pub randomness: Randomness,
}

/// Whether a method draws anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Randomness {
    /// Another key gives another run.
    Drawn,
    /// The key does not matter.
    Absent,
}

/// Steps of the runs whose bits are compared.
const FEW: u64 = 4;

struct Suite<'a> {
    method: &'a dyn Method,
    problem: &'a dyn Problem,
    claims: MethodClaims,
    key: Key,
}

/// A method with settings that suit `problem`, which should be small: its inner problem is solved exactly.
pub fn method(method: &dyn Method, problem: &dyn Problem, claims: MethodClaims, key: Key) -> Report {
    let mut report = Report::new(method.name());
    let suite = Suite { method, problem, claims, key };
    report.part("runs end with their steps", "purity", |report| suite.purity(report));
    report.part("steps can be taken one by one", "saved states", |report| suite.steps(report));
    report.part("oracle calls are counted", "counts", |report| suite.counts(report));
    report.part("runs make progress", "Φ", |report| suite.progress(report));
    report
}

impl Suite<'_> {
    fn run(&self, key: Key, steps: u64) -> Result<Outcome> {
        let outcome = bilevel::run(self.problem, self.method, key, Stop::after(steps), &mut ())?;
        match outcome.ended {
            Ended::Steps => Ok(outcome),
            other => Err(Error::Numerical { operation: "run", reason: format!("ended as {other:?} after {}", outcome.state.step) }),
        }
    }

    fn bytes(&self, key: Key) -> Result<(Vec<u8>, OracleCounts)> {
        let outcome = self.run(key, FEW)?;
        Ok((outcome.state.to_bytes()?, outcome.counts))
    }

    fn purity(&self, report: &mut Report) -> Result<()> {
        let (key, other) = (self.key, self.key.named("another"));
        let reference = par::with_threads(1, || self.bytes(key))??;
        report.holds("the same key gives the same bits, whatever ran between", "three runs", || {
            let again = self.bytes(key)?;
            self.bytes(other)?;
            Ok(again == reference && self.bytes(key)? == reference)
        });
        report.holds("another key gives another run where something is drawn, and only there", "two keys", || {
            Ok((self.bytes(other)?.0 != reference.0) == (self.claims.randomness == Randomness::Drawn))
        });
        for threads in [2, 4] {
            report.holds("the same bits at every thread count", format_args!("{threads} threads"), || {
                Ok(par::with_threads(threads, || self.bytes(key))?? == reference)
            });
        }
        report.holds("the state is finite and of the problem's size, and starts at its initial point", "states", || {
            let sized = |state: &State| {
                state.is_finite()
                    && (state.outer_var.len(), state.inner_var.len()) == (self.problem.outer_dim(), self.problem.inner_dim())
            };
            let start = self.method.init(self.problem, key)?;
            let initial = (start.outer_var.clone(), start.inner_var.clone()) == self.problem.initial();
            Ok(initial && start.step == 0 && sized(&start) && sized(&self.run(key, FEW)?.state))
        });
        Ok(())
    }

    fn steps(&self, report: &mut Report) -> Result<()> {
        let step_key = |step: u64| self.key.named("step").child(step);
        let step = |state: &mut State, key: Key| {
            let number = state.step;
            match self.method.step(self.problem, state, key, &mut ())? {
                Status::Converged {} if state.step == number => {
                    state.step += 1;
                    Ok(())
                }
                Status::Converged {} => Err(Error::argument("state.step", format_args!("{number}: the loop counts"), state.step)),
                status => Err(Error::Numerical { operation: "step", reason: status.to_string() }),
            }
        };
        report.holds("step, save, load, step equals two steps in one go", "every cut", || {
            let mut whole = self.method.init(self.problem, self.key.named("init"))?;
            let mut cut = self.method.init(self.problem, self.key.named("init"))?;
            let mut equal = true;
            for k in 0..FEW {
                step(&mut whole, step_key(k))?;
                cut = State::from_bytes(&cut.to_bytes()?)?;
                step(&mut cut, step_key(k))?;
                equal &= cut.to_bytes()? == whole.to_bytes()?;
            }
            Ok(equal && whole.to_bytes()? == self.bytes(self.key)?.0)
        });
        report.holds("a step is a function of its state and its key", "one step again", || {
            let saved = self.run(self.key, 1)?.state.to_bytes()?;
            let from = |key: Key| {
                let mut state = State::from_bytes(&saved)?;
                step(&mut state, key)?;
                state.to_bytes()
            };
            let differs = from(step_key(7))? != from(step_key(8))?;
            Ok(from(step_key(7))? == from(step_key(7))? && differs == (self.claims.randomness == Randomness::Drawn))
        });
        Ok(())
    }

    fn counts(&self, report: &mut Report) -> Result<()> {
        let spy = Spy { problem: self.problem, evaluations: AtomicU64::new(0) };
        let counted = Counted::new(&spy);
        // The keys of a run: what a method asks for may depend on what it draws.
        let mut state = self.method.init(&counted, self.key.named("init"))?;
        let mut before = counted.counts();
        for step in 0..FEW {
            self.method.step(&counted, &mut state, self.key.named("step").child(step), &mut ())?;
            state.step += 1;
            let after = counted.counts();
            report.holds("every step asks the problem that it is given, which counts", format_args!("step {step}"), || {
                let asked = |c: &OracleCounts| c.gradient_equivalents();
                Ok(asked(&after) > asked(&before) && after.outer_gradients > before.outer_gradients)
            });
            before = after;
        }
        report.holds("no values or metrics are asked for, which nobody counts", "evaluations", || {
            Ok(spy.evaluations.load(Ordering::Relaxed) == 0)
        });
        report.holds("counts of a run are those of its steps", "run", || Ok(self.run(self.key, FEW)?.counts == before));
        Ok(())
    }

    /// Φ(v) = f(v, θ*(v)).
    fn value(&self, v: &[f64]) -> Result<f64> {
        let start = self.problem.initial().1;
        let solution = inner_solution(self.problem, v, &start, NewtonOptions::default())?;
        if !solution.status.is_converged() {
            return Err(Error::Numerical { operation: "inner solution", reason: solution.status.to_string() });
        }
        self.problem.f_outer(v, &solution.theta, Batch::All)
    }

    fn progress(&self, report: &mut Report) -> Result<()> {
        let before = self.value(&self.problem.initial().0)?;
        let case = format!("{} steps, against the share of Φ that was claimed", self.claims.steps);
        report.within("Φ falls", case, self.claims.reduction, || {
            Ok(self.value(&self.run(self.key, self.claims.steps)?.state.outer_var)? / before)
        });
        Ok(())
    }
}

/// A problem that notices evaluations, which [`Counted`] does not count.
struct Spy<'a> {
    problem: &'a dyn Problem,
    evaluations: AtomicU64,
}

impl Spy<'_> {
    fn evaluated(&self) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
    }
}

impl Problem for Spy<'_> {
    fn name(&self) -> &'static str {
        self.problem.name()
    }
    fn outer_dim(&self) -> usize {
        self.problem.outer_dim()
    }
    fn inner_dim(&self) -> usize {
        self.problem.inner_dim()
    }
    fn inner_samples(&self) -> usize {
        self.problem.inner_samples()
    }
    fn outer_samples(&self) -> usize {
        self.problem.outer_samples()
    }
    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        self.problem.initial()
    }
    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.evaluated();
        self.problem.f_inner(v, theta, batch)
    }
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.problem.grad_inner(v, theta, batch)
    }
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.problem.grad_v(v, theta, batch)
    }
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.evaluated();
        self.problem.f_outer(v, theta, batch)
    }
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.problem.grad_outer(v, theta, batch)
    }
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        self.problem.scores(v, theta, batch, kind, key)
    }
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        self.problem.known_curvature(v)
    }
    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.problem.hvp(v, theta, batch, u)
    }
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        self.problem.cross_vjp(v, theta, batch, q)
    }
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.problem.cross_jvp(v, theta, batch, u)
    }
    fn inner_products(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<InnerProducts> {
        self.problem.inner_products(v, theta, batch, q)
    }
    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        self.problem.hessian(v, theta)
    }
    fn metric_names(&self) -> Vec<&'static str> {
        self.problem.metric_names()
    }
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.evaluated();
        self.problem.metrics(v, theta)
    }
    fn baselines(&self) -> Result<Vec<Baseline>> {
        self.evaluated();
        self.problem.baselines()
    }
}
