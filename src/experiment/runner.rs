//! Runs an experiment: checks, baselines, every method at every seed, estimator errors; and gathers the record. The work is a
//! sequence of pieces, and a checkpoint says how many of them are done: going on from it is the same walk, past what is done. Time,
//! progress, interruption and where checkpoints are kept come in from outside, so that the same configuration gives the same rows
//! anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checkpoint::{Checkpoint, Piece, Position};
use super::config::Config;
use super::hypergradient_errors::{self, Reference};
use super::record::{Record, Table, cell};
use super::recorder::run_method;
use crate::bilevel::{self, Clock, Phase};
use crate::error::{Error, Result};
use crate::model;
use crate::oracle::{self, Check, NewtonOptions, inner_solution_watched};
use crate::problem::{self, Baseline, DataSource, OracleCounts, Problem};
use crate::rng::Key;

/// The gradient norm to which baselines are solved.
const BASELINE_GRADIENT_NORM: f64 = 1e-6;

/// What an experiment takes from the world around it.
pub trait Environment {
    /// The time since some moment.
    fn now(&self) -> Duration;

    /// The same, to be read from any thread; none where phases that go on at the same time need not be told apart.
    fn clock(&self) -> Option<Clock> {
        None
    }

    /// `done` of `total` units of work are done; `what` is being worked on.
    fn progress(&mut self, _done: u64, _total: u64, _what: &str) {}

    /// Whether to stop as soon as possible: within an outer step, a Newton step of a baseline, or the piece at hand.
    fn interrupted(&self) -> bool {
        false
    }

    /// Whether it is time for a checkpoint. Asked after every outer step and every piece.
    fn checkpoint_due(&self) -> bool {
        false
    }

    /// Keeps a checkpoint in the place of the one before: at the beginning, where it is due, and at an interruption.
    ///
    /// # Errors
    /// Whatever keeping it meets; it ends the experiment.
    fn keep(&mut self, _checkpoint: &Checkpoint) -> Result<()> {
        Ok(())
    }
}

/// Runs everything that the configuration names.
///
/// # Errors
/// [`Error::Argument`] for a configuration with a value outside its domain, [`Error::Interrupted`] when asked to stop, after a last
/// checkpoint, and whatever building the problem or running it meets. A run
/// that diverges is an incident of the record, not an error.
pub fn run(config: &Config, source: &DataSource, machine: BTreeMap<String, String>, world: &mut dyn Environment) -> Result<Record> {
    config.validate().map_err(|(_, error)| error)?;
    let checkpoint = Checkpoint::new(config, source)?;
    world.keep(&checkpoint)?;
    go_on(config, checkpoint, source, machine, world)
}

/// Goes on from a checkpoint, to the same tables as if the experiment had never stopped (timings apart).
///
/// # Errors
/// As [`run`], and [`Error::Data`] where the data are not those that the checkpoint was made with.
pub fn resume(
    mut checkpoint: Checkpoint,
    source: &DataSource,
    machine: BTreeMap<String, String>,
    world: &mut dyn Environment,
) -> Result<Record> {
    let config = checkpoint.config()?;
    checkpoint.remember(source);
    go_on(&config, checkpoint, source, machine, world)
}

fn go_on(
    config: &Config,
    checkpoint: Checkpoint,
    source: &DataSource,
    machine: BTreeMap<String, String>,
    world: &mut dyn Environment,
) -> Result<Record> {
    let mut experiment = Experiment { checkpoint, total: total_work(config), world };
    let done = experiment.work(config, source);
    if let Err(Error::Interrupted { .. }) = done {
        experiment.keep()?;
    }
    done?;
    experiment.checkpoint.gathered.into_record(config, machine)
}

/// Derivatives of every registered model and problem, and the estimators on every problem.
///
/// # Errors
/// Whatever the specimens meet: none, as they ship.
pub fn all_checks(key: Key) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (model, samples) in model::specimens(key)? {
        checks.extend(oracle::check_model(model.as_ref(), &samples, key)?);
    }
    for problem in problem::specimens(key)? {
        checks.extend(oracle::check_problem(problem.as_ref(), key)?);
        checks.extend(bilevel::check_estimators(problem.as_ref(), key)?);
    }
    Ok(checks)
}

/// The table `checks.csv`.
///
/// # Errors
/// None in practice: every row has the table's width.
pub fn check_table(checks: &[Check]) -> Result<Table> {
    let mut table = Table::new(["subject", "quantity", "error", "tolerance", "verdict", "note"]);
    for check in checks {
        let verdict = if check.passed() { "ok" } else { "FAILED" };
        let cells = [&check.subject, &check.quantity, &cell(check.error), &cell(check.tolerance), verdict, check.note];
        table.push(cells)?;
    }
    Ok(table)
}

/// Units of work: an outer step is one, a baseline ten.
const BASELINE_WORK: u64 = 10;

fn total_work(config: &Config) -> u64 {
    let steps: u64 = config.runs.iter().map(|run| run.outer_steps).sum();
    // Data cleaning has three baselines; a problem with another number only makes the bar jump.
    let baselines = if config.baselines { 3 * BASELINE_WORK } else { 0 };
    let errors = config.hypergradient_errors.as_ref().map_or(0, hypergradient_errors::Config::work);
    config.seeds.len() as u64 * (steps + baselines) + errors + u64::from(config.checks)
}

/// An experiment under way: what is done, as a checkpoint that is always ready to be kept.
pub(super) struct Experiment<'a> {
    pub(super) checkpoint: Checkpoint,
    total: u64,
    pub(super) world: &'a mut dyn Environment,
}

impl Experiment<'_> {
    /// Every piece of every seed, in order.
    fn work(&mut self, config: &Config, source: &DataSource) -> Result<()> {
        self.advance(0, "preparing");
        for (index, &seed) in config.seeds.iter().enumerate() {
            if self.checkpoint.finished.is_some_and(|(done, _)| done > index) {
                continue;
            }
            let key = Key::new(seed);
            let problem = config.problem.build(source, key.named("problem"))?;
            let problem = problem.as_ref();
            self.checkpoint.recognize(index, problem, source)?;
            self.checkpoint.gathered.prepare(problem, &config.runs);

            if config.checks && index == 0 {
                self.piece((index, Piece::Checks), 1, "checks", |experiment| {
                    experiment.checkpoint.gathered.checks = Some(check_table(&all_checks(key)?)?);
                    Ok(())
                })?;
            }
            if config.baselines && self.checkpoint.finished < Some((index, Piece::Run(0))) {
                for (i, baseline) in problem.baselines()?.iter().enumerate() {
                    self.piece((index, Piece::Baseline(i)), BASELINE_WORK, baseline.name, |experiment| {
                        experiment.solve_baseline(seed, baseline)
                    })?;
                }
            }
            for (i, run) in config.runs.iter().enumerate() {
                let at = (index, Piece::Run(i));
                self.piece(at, 0, &run.label, |experiment| {
                    let incident = run_method(experiment, at, (run, seed), problem, config.record_every)?;
                    experiment.checkpoint.gathered.incidents.extend(incident.map(|what| (format!("{}/{seed}", run.label), what)));
                    Ok(())
                })?;
            }
            // One problem is enough: repetitions are over its streams.
            if let Some(settings) = config.hypergradient_errors.as_ref().filter(|_| index == 0) {
                self.measure_errors(problem, settings, key.named("hypergradient errors"))?;
            }
        }
        Ok(())
    }

    /// Does a piece of work unless it is done already; then stops if asked to, or saves if it is time to.
    fn piece(&mut self, at: Position, units: u64, what: &str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.checkpoint.finished >= Some(at) {
            return Ok(());
        }
        work(self)?;
        self.checkpoint.finished = Some(at);
        self.checkpoint.running = None;
        self.advance(units, what);
        if self.world.interrupted() {
            return Err(self.interruption(&format!("after {what}")));
        }
        if self.world.checkpoint_due() { self.keep() } else { Ok(()) }
    }

    fn solve_baseline(&mut self, seed: u64, baseline: &Baseline) -> Result<()> {
        let (problem, v) = (baseline.problem.as_ref(), &baseline.outer_var);
        let begun = self.world.now();
        let options = NewtonOptions { gradient_norm: BASELINE_GRADIENT_NORM, ..NewtonOptions::default() };
        let solution = inner_solution_watched(problem, v, &problem.initial().1, options, || {
            self.check_interrupted(&format!("in the baseline {} of seed {seed}", baseline.name))
        })?;
        let mut seconds = vec![0.0; Phase::ALL.len() + 2];
        seconds[0] = (self.world.now() - begun).as_secs_f64();
        let gathered = &mut self.checkpoint.gathered;
        gathered.name_baseline(baseline.name);
        gathered.record((baseline.name, seed, 0), (problem, v, &solution.theta), f64::NAN, OracleCounts::default(), &seconds)?;
        if !solution.status.is_converged() {
            gathered.incidents.insert(format!("{}/{seed}", baseline.name), solution.status.to_string());
        }
        Ok(())
    }

    fn measure_errors(&mut self, problem: &dyn Problem, settings: &hypergradient_errors::Config, key: Key) -> Result<()> {
        let what = "hypergradient errors";
        // The same again where it was had before: it is not worth its place in a checkpoint.
        let mut reference = None;
        for i in 0..settings.work() {
            self.piece((0, Piece::Errors(i)), 1, what, |experiment| {
                let reference = match &mut reference {
                    Some(known) => known,
                    slot => slot.insert(Reference::solve(problem, settings, key, || {
                        experiment.check_interrupted(&format!("in the reference of the {what}"))
                    })?),
                };
                let table = experiment.checkpoint.gathered.errors.get_or_insert_with(hypergradient_errors::table);
                reference.measure(i, table)
            })?;
        }
        Ok(())
    }

    pub(super) fn advance(&mut self, units: u64, what: &str) {
        self.checkpoint.done += units;
        self.world.progress(self.checkpoint.done, self.total, what);
    }

    pub(super) fn keep(&mut self) -> Result<()> {
        self.world.keep(&self.checkpoint)
    }

    /// The error of an interruption at this place.
    pub(super) fn interruption(&self, place: &str) -> Error {
        let percent = 100 * self.checkpoint.done / self.total.max(1);
        Error::Interrupted { standing: format!("at {percent} %, {place}") }
    }

    fn check_interrupted(&self, place: &str) -> Result<()> {
        if self.world.interrupted() { Err(self.interruption(place)) } else { Ok(()) }
    }
}
