//! One run under a budget: stepped alone, evaluated at equally spaced shares of what it may spend, evaluation apart from its seconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::runner::World;
use crate::bilevel::{self, Ended, MethodConfig, Observer, State, Stop};
use crate::error::{Error, Result, check_count, check_positive};
use crate::problem::{OracleCounts, Problem};
use crate::rng::Key;

/// What a run may spend: whichever is spent first ends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Seconds, without those of evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Oracle calls in gradient equivalents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_equivalents: Option<u64>,
    /// Outer steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer_steps: Option<u64>,
}

impl Budget {
    pub(super) fn validate(&self) -> Result<()> {
        if self == &Self::default() {
            return Err(Error::argument("budget", "`seconds`, `gradient_equivalents` or `outer_steps`", "none"));
        }
        self.seconds.map_or(Ok(()), |seconds| check_positive("seconds", seconds))?;
        self.gradient_equivalents.map_or(Ok(()), |calls| check_count("gradient_equivalents", calls as usize))?;
        self.outer_steps.map_or(Ok(()), |steps| check_count("outer_steps", steps as usize))
    }

    /// A share of it.
    pub(super) fn share(self, share: f64) -> Self {
        let part = |count: u64| ((count as f64 * share).ceil() as u64).max(1);
        Self {
            seconds: self.seconds.map(|seconds| seconds * share),
            gradient_equivalents: self.gradient_equivalents.map(part),
            outer_steps: self.outer_steps.map(part),
        }
    }

    /// The share of it that is spent.
    pub(super) fn spent(&self, seconds: f64, calls: u64, steps: u64) -> f64 {
        let of = |spent: f64, all: Option<f64>| all.map_or(0.0, |all| spent / all);
        of(seconds, self.seconds)
            .max(of(calls as f64, self.gradient_equivalents.map(|all| all as f64)))
            .max(of(steps as f64, self.outer_steps.map(|all| all as f64)))
    }
}

/// What was found at a point of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) step: u64,
    /// Seconds of stepping up to here.
    pub(super) seconds: f64,
    pub(super) counts: OracleCounts,
    /// The share of the budget that was spent.
    pub(super) share: f64,
    /// What the evaluation gave.
    pub(super) values: Vec<f64>,
}

/// A run that came to an end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    /// Its points, the first where the run began; none for a method that does not take the problem.
    pub(super) points: Vec<Point>,
    /// Why it did not spend its budget.
    pub(super) failure: Option<String>,
}

/// What a run is judged by.
pub(super) type Evaluation<'a> = &'a dyn Fn(&[f64], &[f64]) -> Result<Vec<f64>>;

struct Watch<'a> {
    world: &'a dyn World,
    budget: Budget,
    points: u64,
    evaluation: Evaluation<'a>,
    found: Vec<Point>,
    /// Seconds of stepping up to `since`.
    seconds: f64,
    since: Duration,
    share: f64,
    interrupted: bool,
}

/// Runs a method under a budget. What goes wrong with the run itself is part of the outcome.
///
/// # Errors
/// [`Error::Interrupted`], and what building the method meets.
pub(super) fn run(
    problem: &dyn Problem,
    method: &MethodConfig,
    key: Key,
    (budget, points): (Budget, u64),
    evaluation: Evaluation<'_>,
    world: &dyn World,
) -> Result<Trial> {
    let method = method.build()?;
    let (found, since) = (Vec::new(), world.now());
    let mut watch = Watch { world, budget, points, evaluation, found, seconds: 0.0, since, share: 0.0, interrupted: false };
    let stop = Stop::after(u64::MAX);
    let failure = match bilevel::run(problem, method.as_ref(), key, stop, &mut watch) {
        Ok(outcome) => match outcome.ended {
            Ended::Failed(status) => Some(format!("after {} outer steps: {status}", outcome.state.step)),
            Ended::Steps | Ended::Budget | Ended::Observer => None,
        },
        Err(error) => Some(error.to_string()),
    };
    if watch.interrupted {
        return Err(Error::Interrupted { standing: String::new() });
    }
    Ok(Trial { points: watch.found, failure })
}

impl Observer for Watch<'_> {
    fn stepped(&mut self, state: &State, counts: OracleCounts) -> Result<()> {
        let now = self.world.now();
        self.seconds += (now - self.since).as_secs_f64();
        self.since = now;
        let calls = counts.gradient_equivalents();
        self.share = self.budget.spent(self.seconds, calls, state.step);
        let due = self.found.last().is_none_or(|last| {
            let next = ((last.share * self.points as f64).floor() + 1.0) / self.points as f64;
            self.share >= next.min(1.0)
        });
        if due {
            let values = (self.evaluation)(&state.outer_var, &state.inner_var)?;
            if let Some(value) = values.first().filter(|value| !value.is_finite()) {
                return Err(Error::Numerical {
                    operation: "evaluating",
                    reason: format!("it is {value} after {} outer steps", state.step),
                });
            }
            let (step, seconds, share) = (state.step, self.seconds, self.share);
            self.found.push(Point { step, seconds, counts, share, values });
            // The clock stands still while a run is evaluated.
            self.since = self.world.now();
        }
        Ok(())
    }

    fn stop(&mut self) -> bool {
        self.interrupted = self.world.interrupted();
        self.interrupted || self.share >= 1.0
    }
}
