//! The outer loop: step, record, until a reason to stop. It reads no clock: time, stopping from outside and recording come in
//! through the [`Observer`].

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Method, State};
use crate::error::{Result, Status, check_len};
use crate::problem::{Counted, OracleCounts, Problem};
use crate::rng::Key;

/// The parts of an outer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// ∇_θ g on a batch, and the step along it.
    InnerStep,
    /// Score rows, and the curvature that takes them in.
    Absorb,
    /// b = ∇_θ f.
    OuterGradient,
    /// q = (F̂ + Λ')⁻¹b, or H⁻¹b.
    InverseProduct,
    /// Jᵀq.
    CrossProduct,
    /// v − η h.
    OuterStep,
}

impl Phase {
    /// All phases, in the order of a step, with their names in records.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::InnerStep, "inner_step"),
        (Self::Absorb, "absorb"),
        (Self::OuterGradient, "outer_gradient"),
        (Self::InverseProduct, "inverse_product"),
        (Self::CrossProduct, "cross_product"),
        (Self::OuterStep, "outer_step"),
    ];
}

/// The time since some moment, read from any thread.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// When a phase went on, on the observer's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The phase.
    pub phase: Phase,
    /// Its beginning.
    pub begin: Duration,
    /// Its end.
    pub end: Duration,
}

/// Watches a run from outside. Every method has a default that does nothing.
pub trait Observer {
    /// A phase begins.
    fn phase(&mut self, _phase: Phase) {}

    /// The clock by which phases that go on at the same time are timed; none where nobody wants to know.
    fn clock(&self) -> Option<Clock> {
        None
    }

    /// Two phases have ended that went on at the same time. The first had been announced by [`phase`](Self::phase). Only
    /// told where there is a [`clock`](Self::clock).
    fn overlapped(&mut self, _spans: [Span; 2]) {}

    /// The μ that a step took, whether it was given or chosen.
    fn damping(&mut self, _damping: f64) {}

    /// The state after `state.step` outer steps (first of all, before any).
    ///
    /// # Errors
    /// Whatever recording meets; it ends the run.
    fn stepped(&mut self, _state: &State, _counts: OracleCounts) -> Result<()> {
        Ok(())
    }

    /// Something went wrong numerically in the step that is being taken, and was dealt with: the run goes on.
    fn notice(&mut self, _status: Status) {}

    /// Whether to stop here: a time limit, a target, an interrupt.
    fn stop(&mut self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {}

/// When a run ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The number of outer steps.
    pub outer_steps: u64,
    /// The most oracle calls, in gradient equivalents.
    pub oracle_budget: Option<u64>,
}

impl Stop {
    /// Stops after so many outer steps.
    pub fn after(outer_steps: u64) -> Self {
        Self { outer_steps, oracle_budget: None }
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ended {
    /// All outer steps were taken.
    Steps,
    /// The oracle budget was spent.
    Budget,
    /// The observer asked for it.
    Observer,
    /// A step ended with this status.
    Failed(Status),
}

/// How a run ended, and where.
pub struct Outcome {
    /// The last state.
    pub state: State,
    /// All oracle calls.
    pub counts: OracleCounts,
    /// Why.
    pub ended: Ended,
}

/// Runs `method` on `problem`: a pure function of both and the key.
///
/// # Errors
/// Whatever problem, method or observer meet.
pub fn run(problem: &dyn Problem, method: &dyn Method, key: Key, stop: Stop, observer: &mut dyn Observer) -> Result<Outcome> {
    let problem = Counted::new(problem);
    let state = method.init(&problem, key.named("init"))?;
    observer.stepped(&state, problem.counts())?;
    go_on(&problem, method, state, key, stop, observer)
}

/// Goes on from a state and the counts that belong to it, to the bits of the run that was never interrupted. The observer is told
/// of what comes after this state; of the state itself it was told before.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) for a state of another problem, and as [`run`].
pub fn resume(
    problem: &dyn Problem,
    method: &dyn Method,
    (state, counts): (State, OracleCounts),
    key: Key,
    stop: Stop,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    check_len("saved outer_var", state.outer_var.len(), problem.outer_dim())?;
    check_len("saved inner_var", state.inner_var.len(), problem.inner_dim())?;
    if let Some(curvature) = &state.curvature {
        check_len("saved curvature", curvature.dim(), problem.inner_dim())?;
    }
    go_on(&Counted::resume(problem, counts), method, state, key, stop, observer)
}

fn go_on(
    problem: &Counted<'_>,
    method: &dyn Method,
    mut state: State,
    key: Key,
    stop: Stop,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let ended = loop {
        if state.step >= stop.outer_steps {
            break Ended::Steps;
        }
        if stop.oracle_budget.is_some_and(|budget| problem.counts().gradient_equivalents() >= budget) {
            break Ended::Budget;
        }
        if observer.stop() {
            break Ended::Observer;
        }
        let step_key = key.named("step").child(state.step);
        let status = method.step(problem, &mut state, step_key, observer)?;
        state.step += 1;
        if !status.is_converged() {
            break Ended::Failed(status);
        }
        if !state.is_finite() {
            break Ended::Failed(Status::Diverged { step: state.step });
        }
        observer.stepped(&state, problem.counts())?;
    };
    Ok(Outcome { state, counts: problem.counts(), ended })
}
