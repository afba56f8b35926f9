//! Runs an experiment: checks, baselines, every method at every seed, estimator errors; and gathers the record. Time, progress and
//! interruption come in from outside, so that the same configuration gives the same rows anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::{Config, Run};
use super::hypergradient_errors;
use super::record::{Manifest, RECORD_VERSION, Record, Table, cell};
use crate::bilevel::{self, Ended, Observer, Phase, State, Stop};
use crate::error::{Error, Result};
use crate::model;
use crate::oracle::{self, Check, NewtonOptions, inner_solution};
use crate::par;
use crate::problem::{self, DataSource, OracleCounts, Problem};
use crate::rng::Key;

/// The gradient norm to which baselines are solved.
const BASELINE_GRADIENT_NORM: f64 = 1e-6;

/// What an experiment takes from the world around it.
pub trait Environment {
    /// The time since some moment.
    fn now(&self) -> Duration;

    /// `done` of `total` units of work are done; `what` is being worked on.
    fn progress(&mut self, _done: u64, _total: u64, _what: &str) {}

    /// Whether to stop as soon as possible.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Runs everything that the configuration names.
///
/// # Errors
/// Whatever building the problem or running it meets. A run that diverges is an incident of the record, not an error.
pub fn run(config: &Config, source: &DataSource, machine: BTreeMap<String, String>, world: &mut dyn Environment) -> Result<Record> {
    let mut work = Work { done: 0, total: total_work(config), world };
    work.advance(0, "preparing");
    let checks = if config.checks { Some(check_table(&all_checks(Key::new(config.seeds[0]))?)?) } else { None };
    work.advance(u64::from(config.checks), "checks");

    let mut gathered: Option<Gathered> = None;
    let mut errors = config.hypergradient_errors.as_ref().map(|_| hypergradient_errors::table());
    let mut incidents = BTreeMap::new();
    for &seed in &config.seeds {
        let key = Key::new(seed);
        let problem = config.problem.build(source, key.named("problem"))?;
        let gathered = gathered.get_or_insert_with(|| Gathered::new(problem.as_ref()));
        if config.baselines {
            for baseline in problem.baselines()? {
                if let Some(incident) = run_baseline(gathered, seed, &baseline, &mut work)? {
                    incidents.insert(format!("{}/{seed}", baseline.name), incident);
                }
            }
        }
        for run in &config.runs {
            if let Some(incident) = run_method(gathered, seed, run, problem.as_ref(), config.record_every, &mut work)? {
                incidents.insert(format!("{}/{seed}", run.label), incident);
            }
        }
        if let (Some(settings), Some(table)) = (&config.hypergradient_errors, &mut errors) {
            // One problem is enough: repetitions are over its streams.
            if seed == config.seeds[0] {
                hypergradient_errors::measure(problem.as_ref(), settings, key.named("hypergradient errors"), table, || {
                    work.advance(1, "hypergradient errors");
                })?;
            }
        }
    }

    let gathered = gathered.ok_or_else(|| Error::argument("seeds", "at least 1 seed", 0))?;
    let slopes = match (&config.hypergradient_errors, &errors) {
        (Some(settings), Some(table)) => hypergradient_errors::slopes(settings, table)?,
        _ => None,
    };
    Ok(Record {
        manifest: Manifest {
            record_version: RECORD_VERSION,
            nhgd_version: env!("CARGO_PKG_VERSION").to_owned(),
            title: config.title.clone(),
            configuration: config.to_toml()?,
            seeds: config.seeds.clone(),
            threads: par::threads(),
            machine,
            metrics: gathered.metrics,
            counts: OracleCounts::NAMES.map(str::to_owned).to_vec(),
            baselines: gathered.baselines,
            incidents,
        },
        rows: gathered.rows,
        timings: gathered.timings,
        hypergradient_errors: errors,
        hypergradient_slopes: slopes,
        checks,
    })
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

struct Work<'a> {
    done: u64,
    total: u64,
    world: &'a mut dyn Environment,
}

impl Work<'_> {
    fn advance(&mut self, units: u64, what: &str) {
        self.done += units;
        self.world.progress(self.done, self.total, what);
    }
}

/// The tables as they grow.
struct Gathered {
    metrics: Vec<String>,
    rows: Table,
    timings: Table,
    baselines: Vec<String>,
}

impl Gathered {
    fn new(problem: &dyn Problem) -> Self {
        let metrics: Vec<String> = std::iter::once("f_outer").chain(problem.metric_names()).map(str::to_owned).collect();
        let keys = ["method", "seed", "step"].map(str::to_owned);
        let counts = OracleCounts::NAMES.map(str::to_owned);
        let phases = Phase::ALL.map(|(_, name)| name.to_owned());
        Self {
            rows: Table::new(keys.iter().chain(&metrics).chain(&counts).cloned()),
            timings: Table::new(
                keys.iter().chain(&["seconds".to_owned()]).chain(&phases).chain(&["evaluation".to_owned()]).cloned(),
            ),
            metrics,
            baselines: Vec::new(),
        }
    }

    /// A row of both tables: the metrics at (v, θ), the counts, the seconds.
    fn record(
        &mut self,
        (label, seed, step): (&str, u64, u64),
        (problem, v, theta): (&dyn Problem, &[f64], &[f64]),
        counts: OracleCounts,
        seconds: &[f64],
    ) -> Result<()> {
        let keys = [label.to_owned(), seed.to_string(), step.to_string()];
        let mut metrics = vec![problem.f_outer(v, theta, crate::samples::Batch::All)?];
        metrics.extend(problem.metrics(v, theta)?);
        let counts = counts.values().map(|count| count.to_string());
        self.rows.push(keys.iter().cloned().chain(metrics.into_iter().map(cell)).chain(counts))?;
        self.timings.push(keys.into_iter().chain(seconds.iter().map(|s| format!("{s:.6}"))))
    }
}

/// Solves a baseline; returns what went wrong, if anything.
fn run_baseline(
    gathered: &mut Gathered,
    seed: u64,
    baseline: &crate::problem::Baseline,
    work: &mut Work<'_>,
) -> Result<Option<String>> {
    let problem = baseline.problem.as_ref();
    let begun = work.world.now();
    let options = NewtonOptions { gradient_norm: BASELINE_GRADIENT_NORM, ..NewtonOptions::default() };
    let solution = inner_solution(problem, &baseline.outer_var, &problem.initial().1, options)?;
    let mut seconds = vec![0.0; Phase::ALL.len() + 2];
    seconds[0] = (work.world.now() - begun).as_secs_f64();
    if !gathered.baselines.iter().any(|name| name == baseline.name) {
        gathered.baselines.push(baseline.name.to_owned());
    }
    gathered.record(
        (baseline.name, seed, 0),
        (problem, &baseline.outer_var, &solution.theta),
        OracleCounts::default(),
        &seconds,
    )?;
    work.advance(BASELINE_WORK, baseline.name);
    Ok(if solution.status.is_converged() { None } else { Some(solution.status.to_string()) })
}

/// Runs a method; returns what went wrong, if anything.
fn run_method(
    gathered: &mut Gathered,
    seed: u64,
    run: &Run,
    problem: &dyn Problem,
    record_every: u64,
    work: &mut Work<'_>,
) -> Result<Option<String>> {
    let begun = work.world.now();
    let mut recorder = Recorder {
        identity: (&run.label, seed),
        schedule: (record_every, run.outer_steps),
        problem,
        gathered,
        work,
        seconds: [0.0; Phase::ALL.len() + 1],
        current: None,
        since: begun,
    };
    let method = run.method.build()?;
    let outcome = bilevel::run(problem, method.as_ref(), Key::new(seed).named("run"), Stop::after(run.outer_steps), &mut recorder)?;
    match outcome.ended {
        Ended::Steps | Ended::Budget => Ok(None),
        Ended::Failed(status) => Ok(Some(format!("after {} outer steps: {status}", outcome.state.step))),
        Ended::Observer => Err(Error::Numerical { operation: "experiment", reason: "interrupted; nothing was written".to_owned() }),
    }
}

/// The index of evaluation among the recorder's seconds.
const EVALUATION: usize = Phase::ALL.len();

/// Watches a run: times its phases, evaluates and records.
struct Recorder<'a, 'w> {
    identity: (&'a str, u64),
    /// Every so many steps, and the last one.
    schedule: (u64, u64),
    problem: &'a dyn Problem,
    gathered: &'a mut Gathered,
    work: &'a mut Work<'w>,
    seconds: [f64; Phase::ALL.len() + 1],
    current: Option<usize>,
    since: Duration,
}

impl Recorder<'_, '_> {
    /// Books the time since the last call to what was going on, and names what goes on now.
    fn switch_to(&mut self, next: Option<usize>) {
        let now = self.work.world.now();
        if let Some(current) = self.current {
            self.seconds[current] += (now - self.since).as_secs_f64();
        }
        (self.current, self.since) = (next, now);
    }
}

impl Observer for Recorder<'_, '_> {
    fn phase(&mut self, phase: Phase) {
        self.switch_to(Phase::ALL.iter().position(|(p, _)| *p == phase));
    }

    fn stepped(&mut self, state: &State, counts: OracleCounts) -> Result<()> {
        self.switch_to(Some(EVALUATION));
        let ((label, seed), (every, last)) = (self.identity, self.schedule);
        if state.step.is_multiple_of(every) || state.step == last {
            let total = self.seconds[..EVALUATION].iter().sum();
            let seconds: Vec<f64> = std::iter::once(total).chain(self.seconds).collect();
            let at = (self.problem, state.outer_var.as_slice(), state.inner_var.as_slice());
            self.gathered.record((label, seed, state.step), at, counts, &seconds)?;
        }
        if state.step > 0 {
            self.work.advance(1, label);
        }
        self.switch_to(None);
        Ok(())
    }

    fn stop(&mut self) -> bool {
        self.work.world.interrupted()
    }
}
