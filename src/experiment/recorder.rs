//! Watches one run of an experiment: times its phases, evaluates and records, saves where it is time to, and passes on the wish to
//! stop.

use std::time::Duration;

use super::checkpoint::{Position, Running};
use super::config::Run;
use super::runner::Experiment;
use crate::bilevel::{self, Clock, Ended, Observer, Phase, Span, State, Stop};
use crate::error::{Result, Status};
use crate::problem::{OracleCounts, Problem};
use crate::rng::Key;

/// The index of evaluation among the recorder's seconds.
const EVALUATION: usize = Phase::ALL.len();

/// The observer of a run.
struct Recorder<'a, 'w> {
    at: Position,
    identity: (&'a str, u64),
    /// Every so many steps, and the last one.
    schedule: (u64, u64),
    problem: &'a dyn Problem,
    experiment: &'a mut Experiment<'w>,
    seconds: [f64; EVALUATION + 1],
    current: Option<usize>,
    since: Duration,
    /// The phases of the step that is being taken: in lane 1 what went on beside lane 0.
    spans: Vec<(usize, Span)>,
    /// The step that is being taken.
    step: u64,
    /// What the method gave notice of: first when, last what.
    noticed: Option<(u64, Status)>,
    /// What the last step took; NaN before any.
    damping: f64,
}

/// Does a run, or the rest of one; returns what went wrong with it, if anything.
pub(super) fn run_method(
    experiment: &mut Experiment<'_>,
    at: Position,
    (run, seed): (&Run, u64),
    problem: &dyn Problem,
    record_every: u64,
) -> Result<Option<String>> {
    let under_way = experiment.checkpoint.running.take_if(|running| running.at == at);
    let mut recorder = Recorder {
        at,
        identity: (&run.label, seed),
        schedule: (record_every, run.outer_steps),
        problem,
        seconds: under_way.as_ref().map_or([0.0; EVALUATION + 1], |running| running.seconds),
        current: None,
        since: experiment.world.now(),
        spans: Vec::new(),
        step: 0,
        noticed: None,
        damping: f64::NAN,
        experiment,
    };
    let method = run.method.build()?;
    let (key, stop) = (Key::new(seed).named("run"), Stop::after(run.outer_steps));
    let outcome = match under_way {
        None => bilevel::run(problem, method.as_ref(), key, stop, &mut recorder)?,
        Some(running) => {
            let from = (State::from_bytes(&running.state)?, running.counts);
            bilevel::resume(problem, method.as_ref(), from, key, stop, &mut recorder)?
        }
    };
    let step = outcome.state.step;
    let noticed = recorder.noticed.map(|(first, status)| format!("since outer step {first}: {status}"));
    match outcome.ended {
        Ended::Steps | Ended::Budget => Ok(noticed),
        Ended::Failed(status) => {
            let failed = format!("after {step} outer steps: {status}");
            Ok(Some(noticed.into_iter().chain([failed]).collect::<Vec<_>>().join("; ")))
        }
        Ended::Observer => {
            let running = Running::new(at, &outcome.state, outcome.counts, recorder.seconds)?;
            experiment.checkpoint.running = Some(running);
            let done = format!("after {step} of {} outer steps", run.outer_steps);
            Err(experiment.interruption(&format!("in `{}` of seed {seed} {done}", run.label)))
        }
    }
}

impl Recorder<'_, '_> {
    /// Books the time since the last call to what was going on, and names what goes on now.
    fn switch_to(&mut self, next: Option<usize>) {
        let now = self.experiment.world.now();
        if let Some(current) = self.current {
            self.seconds[current] += (now - self.since).as_secs_f64();
            if let Some((phase, _)) = Phase::ALL.get(current) {
                self.note(0, Span { phase: *phase, begin: self.since, end: now });
            }
        }
        (self.current, self.since) = (next, now);
    }

    /// A phase of the step, joined to the one before it where that is the same one going on.
    fn note(&mut self, lane: usize, span: Span) {
        match self.spans.last_mut() {
            Some((last, before)) if *last == lane && before.phase == span.phase && before.end == span.begin => {
                before.end = span.end
            }
            _ => self.spans.push((lane, span)),
        }
    }
}

fn index_of(phase: Phase) -> Option<usize> {
    Phase::ALL.iter().position(|(p, _)| *p == phase)
}

impl Observer for Recorder<'_, '_> {
    fn phase(&mut self, phase: Phase) {
        self.switch_to(index_of(phase));
    }

    fn clock(&self) -> Option<Clock> {
        self.experiment.world.clock()
    }

    /// The time of the first counts as its own, that for which the second went on alone as the second's.
    fn overlapped(&mut self, [first, second]: [Span; 2]) {
        let booked = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        for (phase, seconds) in
            [(first.phase, booked(self.since, first.end)), (second.phase, booked(first.end.max(self.since), second.end))]
        {
            if let Some(index) = index_of(phase) {
                self.seconds[index] += seconds;
            }
        }
        self.note(0, first);
        self.note(1, second);
        // What comes until the next phase is announced is the first one's again.
        self.since = self.since.max(first.end).max(second.end);
    }

    fn damping(&mut self, damping: f64) {
        self.damping = damping;
    }

    fn notice(&mut self, status: Status) {
        let first = self.noticed.map_or(self.step, |(first, _)| first);
        self.noticed = Some((first, status));
    }

    fn stepped(&mut self, state: &State, counts: OracleCounts) -> Result<()> {
        self.switch_to(Some(EVALUATION));
        self.step = state.step + 1;
        // A state that was saved does not give notice anew.
        let known = state.curvature.as_ref().map(|c| c.status()).filter(|status| !status.is_converged());
        self.noticed = self.noticed.or(known.map(|status| (state.step, status)));
        let ((label, seed), (every, last)) = (self.identity, self.schedule);
        if state.step.is_multiple_of(every) || state.step == last {
            let total = self.seconds[..EVALUATION].iter().sum();
            let seconds: Vec<f64> = std::iter::once(total).chain(self.seconds).collect();
            let at = (self.problem, state.outer_var.as_slice(), state.inner_var.as_slice());
            let gathered = &mut self.experiment.checkpoint.gathered;
            gathered.record((label, seed, state.step), at, self.damping, counts, &seconds)?;
            // Of the first seed: one is enough to see.
            if state.step == last && self.at.0 == 0 {
                gathered.show((label, seed, state.step), at)?;
                if let Some((_, first)) = self.spans.first() {
                    gathered.time((label, state.step), first.begin, &self.spans)?;
                }
            }
        }
        if state.step > 0 {
            self.experiment.advance(1, label);
        }
        self.switch_to(None);
        self.spans.clear();
        // After the last step the whole run is done, and is saved as such.
        if state.step < last && self.experiment.world.checkpoint_due() {
            self.experiment.checkpoint.running = Some(Running::new(self.at, state, counts, self.seconds)?);
            self.experiment.keep()?;
            // Kept, and out of date with the next step: no reason to hold on to so much memory.
            self.experiment.checkpoint.running = None;
        }
        Ok(())
    }

    fn stop(&mut self) -> bool {
        self.experiment.world.interrupted()
    }
}
