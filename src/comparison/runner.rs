//! Runs a comparison: for each problem the tuning of every method, then its reported runs, one after the other and alone, since their seconds
//! count. Every run is a piece of its own: a checkpoint holds the pieces that are done, and what was cut short is run anew.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::candidates::Candidate;
use super::config::{Config, MethodEntry, ProblemEntry};
use super::findings;
use super::record::{Manifest, Record};
use super::trial::{self, Budget, Point, Trial};
use crate::error::{Error, Result};
use crate::experiment::kept::{Format, Kept, read_kept};
use crate::experiment::record::CHECKPOINT;
use crate::oracle::{NewtonOptions, inner_solution_watched};
use crate::problem::{DataSource, OracleCounts, Problem};
use crate::rng::Key;
use crate::samples::Batch;

pub use crate::experiment::kept::World;

const FORMAT: Format = Format { name: "nhgd-comparison", version: 1 };
/// The gradient norm to which baselines are solved.
const BASELINE_GRADIENT_NORM: f64 = 1e-6;
/// What a method is given to see how long it takes.
const GLANCE_SECONDS: f64 = 0.5;

/// Where a comparison stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The configuration as TOML.
    configuration: String,
    /// The folder of data that is not embedded, where one was given.
    pub data_folder: Option<String>,
    /// The pieces that are done, in the order of work.
    done: Vec<Vec<(String, Trial)>>,
}

impl Checkpoint {
    /// A comparison before any work.
    ///
    /// # Errors
    /// As [`Config::to_toml`].
    pub fn new(config: &Config, source: &DataSource) -> Result<Self> {
        let data_folder = source.folder.as_deref().and_then(Path::to_str).map(str::to_owned);
        Ok(Self { configuration: config.to_toml()?, data_folder, done: Vec::new() })
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`Error::Config`] for one that this program did not write.
    pub fn config(&self) -> Result<Config> {
        Config::parse(&self.configuration, Path::new(CHECKPOINT))
    }

    /// Reads the checkpoint of an output folder.
    ///
    /// # Errors
    /// As [`read_kept`] and [`Format::from_bytes`].
    pub fn read(folder: &Path) -> Result<Self> {
        let (bytes, path) = read_kept(folder)?;
        FORMAT.from_bytes(&bytes, &path)
    }
}

impl Kept for Checkpoint {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        FORMAT.to_bytes(self)
    }

    fn holds_work(&self) -> bool {
        !self.done.is_empty()
    }
}

/// Tunes and runs everything that the configuration names.
///
/// # Errors
/// [`Error::Argument`] for a configuration with a value outside its domain, [`Error::Interrupted`] when asked to stop, after a last checkpoint,
/// and whatever building the problems meets. What goes wrong with a run is a row of the record.
pub fn run(config: &Config, source: &DataSource, machine: BTreeMap<String, String>, world: &dyn World) -> Result<Record> {
    config.validate()?;
    let checkpoint = Checkpoint::new(config, source)?;
    world.keep(&checkpoint)?;
    go_on(config, checkpoint, source, machine, world)
}

/// Goes on from a checkpoint. Runs that were done are not run again.
///
/// # Errors
/// As [`run`].
pub fn resume(checkpoint: Checkpoint, source: &DataSource, machine: BTreeMap<String, String>, world: &dyn World) -> Result<Record> {
    let config = checkpoint.config()?;
    go_on(&config, checkpoint, source, machine, world)
}

fn go_on(
    config: &Config,
    checkpoint: Checkpoint,
    source: &DataSource,
    machine: BTreeMap<String, String>,
    world: &dyn World,
) -> Result<Record> {
    let mut work = Work { config, source, world, checkpoint, next: 0, units: (0, total_units(config)?) };
    let problems = config.problems.iter().map(|entry| work.problem(entry)).collect::<Result<Vec<_>>>()?;
    let (tables, best, pictures) = findings::conclude(config, &problems)?;
    Ok(Record { manifest: Manifest::new(config.title.clone(), config.to_toml()?, machine, pictures), tables, best })
}

/// What was done on a problem.
pub(super) struct Compared<'a> {
    pub(super) entry: &'a ProblemEntry,
    /// The names of a point's values.
    pub(super) names: Vec<String>,
    /// In the order of the configuration.
    pub(super) methods: Vec<Tuned<'a>>,
    /// Name, seed, outcome.
    pub(super) baselines: Vec<(String, u64, Trial)>,
}

/// What was done with a method on a problem.
pub(super) struct Tuned<'a> {
    pub(super) entry: &'a MethodEntry,
    pub(super) candidates: Vec<(Candidate, Trial)>,
    /// None where no candidate came to its end.
    pub(super) chosen: Option<Chosen>,
    pub(super) runs: Vec<(u64, Trial)>,
}

/// What tuning chose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub(super) index: usize,
    pub(super) budget: Budget,
}

/// Work under way.
struct Work<'a> {
    config: &'a Config,
    source: &'a DataSource,
    world: &'a dyn World,
    checkpoint: Checkpoint,
    /// The piece that comes next.
    next: usize,
    /// Done, and of how many.
    units: (u64, u64),
}

/// Units of work: a thousandth of a reported run's budget.
const RUN_UNITS: u64 = 1000;
const BASELINE_UNITS: u64 = 500;

fn total_units(config: &Config) -> Result<u64> {
    let mut total = 0;
    for problem in &config.problems {
        for method in &config.methods {
            total += config.candidates(problem, method)?.len() as u64 * candidate_units(config);
            total += config.seeds_of(method).len() as u64 * RUN_UNITS;
        }
        total += if config.baselines { config.seeds.len() as u64 * BASELINE_UNITS } else { 0 };
    }
    Ok(total)
}

fn candidate_units(config: &Config) -> u64 {
    (config.tuning.share * RUN_UNITS as f64).ceil() as u64
}

impl<'a> Work<'a> {
    fn problem(&mut self, entry: &'a ProblemEntry) -> Result<Compared<'a>> {
        let config = self.config;
        let build = |seed: u64| entry.problem.build(self.source, Key::new(seed).named("problem"));
        let whole = build(config.tuning.seed)?;
        let names: Vec<String> = std::iter::once("f_outer").chain(whole.metric_names()).map(str::to_owned).collect();
        let score = position(&names, "score", &entry.score)?;
        entry.targets.keys().try_for_each(|name| position(&names, "targets", name).map(drop))?;

        // Samples can be held out from f alone.
        let held_out = if score == 0 { whole.hold_out(0, config.tuning.folds)? } else { None };
        let fit = held_out.as_ref().map_or(whole.as_ref(), |parts| parts.fit.as_ref());
        let judge = |v: &[f64], theta: &[f64]| match &held_out {
            Some(parts) => Ok(vec![parts.judge.f_outer(v, theta, Batch::All)?]),
            None => Ok(vec![evaluate(whole.as_ref(), v, theta)?[score]]),
        };
        let mut methods = Vec::new();
        for method in &config.methods {
            let mut tried = Vec::new();
            let budget = config.budget.share(config.tuning.share);
            for (index, candidate) in config.candidates(entry, method)?.into_iter().enumerate() {
                let what = format!("{}: tuning {} ({})", entry.label, method.label, index + 1);
                let key = Key::new(config.tuning.seed).named("run");
                let work = |world: &dyn World| {
                    let trial = trial::run(fit, &candidate.method, key, (budget, config.points), &judge, world)?;
                    Ok(vec![(candidate.settings.clone(), trial)])
                };
                let done = self.piece(&what, candidate_units(config), work)?;
                tried.extend(done.into_iter().map(|(_, trial)| (candidate.clone(), trial)));
            }
            let chosen = choose(config, &tried);
            methods.push(Tuned { entry: method, candidates: tried, chosen, runs: Vec::new() });
        }
        drop(held_out);
        drop(whole);
        let baselines = self.reported(entry, &mut methods)?;
        Ok(Compared { entry, names, methods, baselines })
    }

    /// The reported runs of all methods, seed by seed; and the baselines.
    fn reported(&mut self, entry: &ProblemEntry, methods: &mut [Tuned<'a>]) -> Result<Vec<(String, u64, Trial)>> {
        let config = self.config;
        let mut seeds = config.seeds.clone();
        for seed in methods.iter().flat_map(|method| config.seeds_of(method.entry)) {
            if !seeds.contains(seed) {
                seeds.push(*seed);
            }
        }
        let mut baselines = Vec::new();
        for seed in seeds {
            let problem = entry.problem.build(self.source, Key::new(seed).named("problem"))?;
            let problem = problem.as_ref();
            let judge = |v: &[f64], theta: &[f64]| evaluate(problem, v, theta);
            if config.baselines && config.seeds.contains(&seed) {
                let what = format!("{}: baselines, seed {seed}", entry.label);
                let done = self.piece(&what, BASELINE_UNITS, |world| solve_baselines(problem, world))?;
                baselines.extend(done.into_iter().map(|(name, trial)| (name, seed, trial)));
            }
            for method in methods.iter_mut().filter(|method| config.seeds_of(method.entry).contains(&seed)) {
                let Some(chosen) = method.chosen else { continue };
                let what = format!("{}: {}, seed {seed}", entry.label, method.entry.label);
                let (settings, key) = (&method.candidates[chosen.index].0, Key::new(seed).named("run"));
                let done = self.piece(&what, RUN_UNITS, |world| {
                    let trial = trial::run(problem, &settings.method, key, (chosen.budget, config.points), &judge, world)?;
                    Ok(vec![(settings.settings.clone(), trial)])
                })?;
                method.runs.extend(done.into_iter().map(|(_, trial)| (seed, trial)));
            }
        }
        Ok(baselines)
    }

    /// Does a piece, unless it is done already.
    fn piece(
        &mut self,
        what: &str,
        units: u64,
        work: impl FnOnce(&dyn World) -> Result<Vec<(String, Trial)>>,
    ) -> Result<Vec<(String, Trial)>> {
        let index = self.next;
        self.next += 1;
        if let Some(done) = self.checkpoint.done.get(index) {
            self.units.0 += units;
            return Ok(done.clone());
        }
        self.world.progress(self.units.0, self.units.1, what);
        match work(self.world) {
            Ok(done) => {
                self.checkpoint.done.push(done.clone());
                self.units.0 += units;
                self.world.progress(self.units.0, self.units.1, what);
                if self.world.checkpoint_due() {
                    self.world.keep(&self.checkpoint)?;
                }
                Ok(done)
            }
            Err(Error::Interrupted { .. }) => {
                self.world.keep(&self.checkpoint)?;
                let percent = 100 * self.units.0 / self.units.1.max(1);
                Err(Error::Interrupted { standing: format!("at {percent} %, in {what}") })
            }
            Err(error) => Err(error),
        }
    }
}

/// Where a value stands among those of an evaluation.
fn position(names: &[String], setting: &'static str, name: &str) -> Result<usize> {
    let unknown = || Error::argument(setting, format_args!("one of {}", names.join(", ")), format_args!("`{name}`"));
    names.iter().position(|known| known == name).ok_or_else(unknown)
}

fn evaluate(problem: &dyn Problem, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
    let mut values = vec![problem.f_outer(v, theta, Batch::All)?];
    values.extend(problem.metrics(v, theta)?);
    Ok(values)
}

/// The candidate with the least score at any of its points, and the budget up to there: stopping is chosen as settings are, where it is. One
/// that was still falling at the end of its budget has the budget of a reported run.
fn choose(config: &Config, tried: &[(Candidate, Trial)]) -> Option<Chosen> {
    let ended = tried.iter().enumerate().filter(|(_, (_, trial))| trial.failure.is_none());
    let scored = ended.filter_map(|(index, (_, trial))| best_point(trial).map(|best| (index, best, trial.points.len())));
    let scored = scored.min_by(|(_, a, _), (_, b, _)| a.1.values[0].total_cmp(&b.1.values[0]));
    scored.map(|(index, (place, point), points)| {
        let share = config.tuning.share * point.share;
        let spends_all = !config.tuning.stopping || place + 1 == points || share >= 1.0;
        let budget = if spends_all { config.budget } else { config.budget.share(share) };
        Chosen { index, budget }
    })
}

/// The point with the least score after at least a step, and its place.
pub(super) fn best_point(trial: &Trial) -> Option<(usize, &Point)> {
    trial.points.iter().enumerate().filter(|(_, point)| point.step > 0).min_by(|(_, a), (_, b)| a.values[0].total_cmp(&b.values[0]))
}

fn solve_baselines(problem: &dyn Problem, world: &dyn World) -> Result<Vec<(String, Trial)>> {
    let solve = |baseline: crate::problem::Baseline| {
        let (problem, v) = (baseline.problem.as_ref(), &baseline.outer_var);
        let begun = world.now();
        let options = NewtonOptions { gradient_norm: BASELINE_GRADIENT_NORM, ..NewtonOptions::default() };
        let solution = inner_solution_watched(problem, v, &problem.initial().1, options, || match world.interrupted() {
            true => Err(Error::Interrupted { standing: String::new() }),
            false => Ok(()),
        })?;
        let seconds = (world.now() - begun).as_secs_f64();
        let values = evaluate(problem, v, &solution.theta)?;
        let point = Point { step: 0, seconds, counts: OracleCounts::default(), share: 1.0, values };
        let failure = (!solution.status.is_converged()).then(|| solution.status.to_string());
        Ok((baseline.name.to_owned(), Trial { points: vec![point], failure }))
    };
    problem.baselines()?.into_iter().map(solve).collect()
}

/// What would be run, and for how long at most: a row a problem and method.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The problem's label.
    pub problem: String,
    /// The method's label.
    pub method: String,
    /// Settings that are tried.
    pub candidates: usize,
    /// Reported runs.
    pub runs: usize,
    /// The most seconds that a reported run takes, evaluation apart, by a glance at it where the budget does not name them.
    pub seconds_a_run: f64,
    /// The most seconds of tuning and runs.
    pub seconds: f64,
}

/// What a comparison would do. Where its budget is not in seconds, every method is run for a moment to see how fast it is.
///
/// # Errors
/// As [`run`].
pub fn outlook(config: &Config, source: &DataSource, world: &dyn World) -> Result<Vec<Outlook>> {
    config.validate()?;
    let mut rows = Vec::new();
    for problem in &config.problems {
        let built = match config.budget.seconds {
            Some(_) => None,
            None => Some(problem.problem.build(source, Key::new(config.tuning.seed).named("problem"))?),
        };
        for method in &config.methods {
            let candidates = config.candidates(problem, method)?;
            let seconds_a_run = match (&built, candidates.first()) {
                (Some(built), Some(candidate)) => glance(config, built.as_ref(), candidate, world)?,
                _ => config.budget.seconds.unwrap_or(f64::NAN),
            };
            let runs = config.seeds_of(method).len();
            let seconds = seconds_a_run * (runs as f64 + config.tuning.share * candidates.len() as f64);
            let (problem, method) = (problem.label.clone(), method.label.clone());
            rows.push(Outlook { problem, method, candidates: candidates.len(), runs, seconds_a_run, seconds });
        }
    }
    Ok(rows)
}

/// How long a run would take, from a moment of it.
fn glance(config: &Config, problem: &dyn Problem, candidate: &Candidate, world: &dyn World) -> Result<f64> {
    let budget = Budget { seconds: Some(GLANCE_SECONDS), ..config.budget };
    let trial = trial::run(problem, &candidate.method, Key::new(0), (budget, 1), &|_, _| Ok(vec![0.0]), world)?;
    // One that does not run takes no time.
    let Some(last) = trial.points.last().filter(|point| point.step > 0) else { return Ok(0.0) };
    Ok(last.seconds / config.budget.spent(0.0, last.counts.gradient_equivalents(), last.step))
}
