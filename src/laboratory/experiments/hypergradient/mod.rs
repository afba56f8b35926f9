//! `hypergradient`: the error of every estimator of ∇Φ(v) at θ*(v) against rows, Hessian products and seconds ([`errors`]); bounds of
//! that error against the error itself ([`bounds`]); and where it comes from, as the telescope of the error budget ([`budget`]). On a
//! quadratic problem, whose ∇Φ is a closed form, and on data cleaning with digits, where the oracle has it.

mod bounds;
mod budget;
mod errors;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounds::Claim;
use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};
use crate::experiment::hypergradient_errors::{Point, Reference};
use crate::experiment::record::Table;
use crate::laboratory::picture::Picture;
use crate::laboratory::{Bench, Concurrency, Experiment, Findings, Pieces, Registered, Rows, Size, settings_of};
use crate::problem::{DataCleaningConfig, Problem, ProblemConfig, QuadraticConfig};
use crate::rng::Key;
use crate::samples::Batch;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hypergradients {
    /// The numbers of absorbed rows at which the error is taken on the quadratic problem, ascending.
    pub rows: Vec<usize>,
    /// The slope is fitted from this number of rows on.
    pub slope_from: usize,
    /// The half-width of what still counts as the exponent.
    pub tolerance: f64,
    /// Independent streams of rows on the quadratic problem.
    pub replicates: usize,
    /// Of these, the streams on which every family is measured.
    pub family_replicates: usize,
    /// The quadratic problem; its ridge and damping are those of the estimates.
    pub quadratic: QuadraticConfig,
    /// Data cleaning.
    pub cleaning: DataCleaningConfig,
    /// The numbers of absorbed rows there, ascending.
    pub cleaning_rows: Vec<usize>,
    /// Independent streams of rows there.
    pub cleaning_replicates: usize,
    /// ℓ of the sketches there.
    pub sketch_size: usize,
    /// The numbers of Hessian products of `cg`, ascending.
    pub cg_products: Vec<usize>,
    /// The numbers of Hessian products of `neumann`, ascending.
    pub neumann_products: Vec<usize>,
    /// The numbers of rows at which bounds are taken.
    pub bound_rows: Vec<usize>,
    /// Independent streams for bounds.
    pub bound_replicates: usize,
    /// ℓ of the sketches that bounds are about, on the quadratic problem and on data cleaning.
    pub bound_sketch_sizes: [usize; 2],
    /// Inner SGD steps of bounds and budgets, from θ = 0.
    pub inner_steps: u64,
    /// Samples of an inner step.
    pub batch_size: usize,
    /// α of the inner steps, on the quadratic problem and on data cleaning.
    pub inner_step_sizes: [f64; 2],
    /// μ where there is damping, in bounds and budgets.
    pub damping: f64,
    /// Outer samples of b and inner samples of the cross product, where they are batches.
    pub sampled: [usize; 2],
    /// Independent streams for budgets.
    pub budget_replicates: usize,
}

impl Registered for Hypergradients {
    const NAME: &'static str = "hypergradient";
    const ABOUT: &'static str = "the error of every estimator against rows, products and seconds; its bounds; its budget";

    fn sized(size: Size) -> Self {
        let quick = Self {
            rows: vec![30, 100, 300, 1000, 3000, 10_000, 30_000],
            slope_from: 1000,
            tolerance: 0.08,
            replicates: 100,
            family_replicates: 3,
            quadratic: QuadraticConfig { samples: 2000, misfit: 0.5, ..Default::default() },
            cleaning: DataCleaningConfig { train: 300, ..Default::default() },
            cleaning_rows: vec![10, 30, 100, 300, 1000, 3000],
            cleaning_replicates: 2,
            sketch_size: 128,
            cg_products: vec![1, 3, 10, 30, 100],
            neumann_products: vec![10, 30, 100, 300, 1000],
            bound_rows: vec![100, 1000],
            bound_replicates: 1,
            bound_sketch_sizes: [8, 64],
            inner_steps: 20,
            batch_size: 50,
            inner_step_sizes: [0.1, 0.5],
            damping: 1e-2,
            sampled: [50, 100],
            budget_replicates: 1,
        };
        match size {
            Size::Quick => quick,
            Size::Full => Self {
                rows: [quick.rows, vec![100_000]].concat(),
                replicates: 200,
                family_replicates: 10,
                cleaning: DataCleaningConfig::default(),
                cleaning_rows: [quick.cleaning_rows, vec![10_000]].concat(),
                cleaning_replicates: 3,
                neumann_products: [quick.neumann_products, vec![3000]].concat(),
                bound_rows: vec![30, 300, 3000],
                budget_replicates: 3,
                ..quick
            },
        }
    }
}

/// The columns: which part, on which problem; the estimator, its Fisher kind, the setting and the quantity, where there is one; rows or
/// products; the replicate; an error relative to ‖∇Φ‖ (or what the quantity says), and its bound.
const COLUMNS: [&str; 10] = ["part", "problem", "estimator", "fisher", "setting", "quantity", "x", "replicate", "value", "bound"];

/// The problems.
const PROBLEMS: [&str; 2] = ["quadratic", "digits"];

/// A problem with the point where estimates are compared.
struct Subject {
    name: &'static str,
    index: usize,
    problem: Box<dyn Problem>,
    point: Point,
    key: Key,
}

impl Hypergradients {
    fn subject(&self, index: usize, bench: Bench<'_>) -> Result<Subject> {
        let name = PROBLEMS[index];
        let key = bench.key.named(name);
        let config = match index {
            0 => ProblemConfig::Quadratic(self.quadratic.clone()),
            _ => ProblemConfig::DataCleaning(self.cleaning.clone()),
        };
        let problem = config.build(bench.source, key.named("problem"))?;
        let settings = Default::default();
        let point = Reference::solve(problem.as_ref(), &settings, key.named("errors"), || Ok(()))?.point().clone();
        Ok(Subject { name, index, problem, point, key })
    }

    /// θ after the inner SGD steps from θ = 0, and the batches that were met on the way with the θ where each was.
    fn inner_sgd(&self, subject: &Subject, key: Key) -> Result<(Vec<f64>, Vec<Met>)> {
        let (problem, v) = (subject.problem.as_ref(), &subject.point.v);
        let mut theta = problem.initial().1;
        let mut met = Vec::new();
        for step in 0..self.inner_steps {
            let batch = key.child(step).stream().indices(problem.inner_samples(), self.batch_size)?;
            let gradient = problem.grad_inner(v, &theta, Batch::Indices(&batch))?;
            let next = theta.iter().zip(&gradient).map(|(t, g)| t - self.inner_step_sizes[subject.index] * g).collect();
            met.push(Met { batch, theta: std::mem::replace(&mut theta, next) });
        }
        Ok((theta, met))
    }
}

/// A batch of the inner SGD, and where.
struct Met {
    batch: Vec<usize>,
    theta: Vec<f64>,
}

/// A row of the table.
struct Row<'a> {
    part: &'a str,
    problem: &'a str,
    estimator: &'a str,
    fisher: &'a str,
    setting: &'a str,
    quantity: &'a str,
    x: usize,
    replicate: usize,
    value: f64,
    bound: f64,
}

impl Row<'_> {
    fn push(&self, rows: &mut Rows, seconds: f64) {
        use crate::laboratory::cell;
        let names = [self.part, self.problem, self.estimator, self.fisher, self.setting, self.quantity].map(str::to_owned);
        let counts = [self.x.to_string(), self.replicate.to_string()];
        rows.push_timed(names.into_iter().chain(counts).chain([self.value, self.bound].map(cell)), seconds);
    }
}

/// Seconds since `begun`.
fn since(bench: Bench<'_>, begun: Duration) -> f64 {
    (bench.clock)().saturating_sub(begun).as_secs_f64()
}

/// The parts, each with its number of pieces.
enum Part {
    Errors(usize),
    Bounds(usize),
    Budget(usize),
}

impl Hypergradients {
    fn part(&self, piece: usize) -> Part {
        let (errors, bounds) = (errors::pieces(self), bounds::pieces(self));
        match piece {
            _ if piece < errors => Part::Errors(piece),
            _ if piece < errors + bounds => Part::Bounds(piece - errors),
            _ => Part::Budget(piece - errors - bounds),
        }
    }
}

fn check_ascending(name: &'static str, counts: &[usize]) -> Result<()> {
    if counts.is_empty() || counts[0] == 0 || counts.windows(2).any(|w| w[0] >= w[1]) {
        return Err(Error::argument(name, "ascending counts of at least 1", format_args!("{counts:?}")));
    }
    Ok(())
}

impl Experiment for Hypergradients {
    fn validate(&self) -> Result<()> {
        check_ascending("rows", &self.rows)?;
        check_ascending("cleaning_rows", &self.cleaning_rows)?;
        check_ascending("cg_products", &self.cg_products)?;
        check_ascending("neumann_products", &self.neumann_products)?;
        check_ascending("bound_rows", &self.bound_rows)?;
        if self.rows.iter().filter(|&&n| n >= self.slope_from).count() < 2 {
            return Err(Error::argument("slope_from", "at least 2 of the numbers of rows from there on", self.slope_from));
        }
        if self.replicates < 2 {
            return Err(Error::argument("replicates", "at least 2 for limits", self.replicates));
        }
        if !(1..=self.replicates).contains(&self.family_replicates) {
            let expected = format!("between 1 and the {} replicates", self.replicates);
            return Err(Error::argument("family_replicates", expected, self.family_replicates));
        }
        check_positive("tolerance", self.tolerance)?;
        check_positive("damping", self.damping)?;
        self.inner_step_sizes.iter().try_for_each(|&size| check_nonnegative("inner_step_sizes", size))?;
        for (name, count) in [
            ("cleaning_replicates", self.cleaning_replicates),
            ("sketch_size", self.sketch_size),
            ("bound_replicates", self.bound_replicates),
            ("bound_sketch_sizes", self.bound_sketch_sizes[0].min(self.bound_sketch_sizes[1])),
            ("inner_steps", self.inner_steps as usize),
            ("batch_size", self.batch_size),
            ("sampled", self.sampled[0].min(self.sampled[1])),
            ("budget_replicates", self.budget_replicates),
        ] {
            check_count(name, count)?;
        }
        ProblemConfig::Quadratic(self.quadratic.clone()).validate()?;
        ProblemConfig::DataCleaning(self.cleaning.clone()).validate()
    }

    fn claims(&self) -> Vec<Claim> {
        [errors::claims(self), bounds::claims(), budget::claims()].concat()
    }

    fn columns(&self) -> &'static [&'static str] {
        &COLUMNS
    }

    fn pieces(&self) -> usize {
        errors::pieces(self) + bounds::pieces(self) + budget::pieces(self)
    }

    fn work(&self, piece: usize) -> u64 {
        match self.part(piece) {
            Part::Errors(piece) => errors::work(self, piece),
            Part::Bounds(piece) => bounds::work(self, piece),
            Part::Budget(piece) => budget::work(self, piece),
        }
    }

    /// Seconds are part of the finding.
    fn concurrency(&self) -> Concurrency {
        Concurrency::Alone
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let subjects = [self.subject(0, bench)?, self.subject(1, bench)?];
        Ok(Box::new(move |piece| match self.part(piece) {
            Part::Errors(piece) => errors::piece(self, &subjects, bench, piece),
            Part::Bounds(piece) => bounds::piece(self, &subjects, bench, piece),
            Part::Budget(piece) => budget::piece(self, &subjects, bench, piece),
        }))
    }

    fn measure(&self, bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let subjects = [self.subject(0, bench)?, self.subject(1, bench)?];
        let mut findings = Findings::default();
        for part in [errors::measure(self, &subjects, rows)?, bounds::measure(rows)?, budget::measure(rows)?] {
            findings.measured.extend(part.measured);
            findings.tables.extend(part.tables);
        }
        Ok(findings)
    }

    fn pictures(&self) -> Vec<Picture> {
        [errors::pictures(self), bounds::pictures(self), budget::pictures(self)].concat()
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Verdict;
    use crate::laboratory::Size;
    use crate::laboratory::memory::Memory;
    use crate::problem::DataSource;

    fn small() -> Hypergradients {
        Hypergradients {
            rows: vec![1000, 3000],
            replicates: 8,
            family_replicates: 1,
            cleaning: DataCleaningConfig { train: 30, validation: 10, ridge: 1e-2, ..Default::default() },
            bound_rows: vec![40, 400],
            ..Hypergradients::sized(Size::Quick)
        }
    }

    /// The rows of the quadratic problem's bounds and budgets.
    fn rows(settings: &Hypergradients, bench: Bench<'_>, piece: impl Fn(usize) -> Result<Rows>, pieces: usize) -> Table {
        let mut table = Table::new(COLUMNS);
        settings.validate().unwrap();
        assert!((bench.clock)() == Duration::ZERO);
        (0..pieces).for_each(|i| piece(i).unwrap().cells().iter().for_each(|row| table.push(row).unwrap()));
        table
    }

    #[test]
    fn bounds_hold_until_they_are_cut_and_budgets_sum_to_the_error() {
        let settings = small();
        let (source, clock) = (DataSource::default(), || Duration::ZERO);
        let bench = Bench { key: Key::new(5), source: &source, clock: &clock, memory: Memory::unknown() };
        let subjects = [settings.subject(0, bench).unwrap(), settings.subject(1, bench).unwrap()];
        let verdicts = |claims: Vec<Claim>, findings: Findings| -> Vec<Verdict> {
            claims.iter().zip(findings.measured).map(|(claim, measured)| claim.judge(measured).verdict).collect()
        };

        let piece = |piece| bounds::piece(&settings, &subjects, bench, piece);
        let table = rows(&settings, bench, piece, bounds::pieces(&settings) / PROBLEMS.len());
        assert_eq!(verdicts(bounds::claims(), bounds::measure(&table).unwrap()), [Verdict::Holds; 5]);
        let mut cut = Table::new(COLUMNS);
        for row in table.rows() {
            let mut row = row.clone();
            row[9] = (1e-4 * row[9].parse::<f64>().unwrap()).to_string();
            cut.push(row).unwrap();
        }
        assert_eq!(verdicts(bounds::claims(), bounds::measure(&cut).unwrap()), [Verdict::Fails; 5]);

        let piece = |piece| budget::piece(&settings, &subjects, bench, piece);
        let table = rows(&settings, bench, piece, PROBLEMS.len() * settings.budget_replicates);
        assert_eq!(verdicts(budget::claims(), budget::measure(&table).unwrap()), [Verdict::Holds; 3]);
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        let name = |change: fn(&mut Hypergradients)| {
            let mut settings = small();
            change(&mut settings);
            settings.validate().map_err(|e| e.offending_argument()).unwrap_err()
        };
        assert_eq!(name(|s| s.rows = vec![10, 10]), Some("rows"));
        assert_eq!(name(|s| s.slope_from = 3000), Some("slope_from"));
        assert_eq!(name(|s| s.replicates = 1), Some("replicates"));
        assert_eq!(name(|s| s.family_replicates = 9), Some("family_replicates"));
        assert_eq!(name(|s| s.damping = 0.0), Some("damping"));
        assert_eq!(name(|s| s.sampled = [0, 1]), Some("sampled"));
        assert_eq!(name(|s| s.quadratic.ridge = -1.0), Some("ridge"));
    }
}
