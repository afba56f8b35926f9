//! The experiment behind the promise: the relative error of each hypergradient estimator, at a fixed v and θ*(v), as the curvature
//! absorbs more and more samples, for each family and Fisher kind; and beside it conjugate gradients against Hessian products.
//! Measured against the problem's closed form where it has one, else against the oracle.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Table, cell};
use crate::bilevel::{self, Sampling};
use crate::bounds::slope_with_limits;
use crate::curvature::CurvatureConfig;
use crate::dense::relative_error;
use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};
use crate::inverse::SolveOptions;
use crate::model::FisherKind;
use crate::oracle::{NewtonOptions, exact_hypergradient, inner_solution_watched};
use crate::problem::{ClosedForm, Problem};
use crate::rng::Key;
use crate::samples::Batch;

/// The settings of the experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The numbers of absorbed samples at which the error is taken, ascending.
    pub rows: Vec<usize>,
    /// The numbers of Hessian products at which conjugate gradients are stopped.
    pub products: Vec<usize>,
    /// Streams of fresh samples for each family and kind.
    pub repetitions: u64,
    /// μ.
    pub damping: f64,
    /// The standard deviation of the entries of the v at which everything is measured.
    pub outer_spread: f64,
    /// The curvature families.
    pub curvatures: Vec<CurvatureConfig>,
    /// The Fisher kinds.
    pub fisher: Vec<FisherKind>,
    /// Where given, the slope of log error against log rows is fitted from this number of rows on, with 95 % limits over the
    /// repetitions: a burn-in to be stated beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slope_from: Option<usize>,
}

/// The confidence of a slope's limits.
const CONFIDENCE: f64 = 0.95;

impl Default for Config {
    fn default() -> Self {
        Self {
            rows: vec![1, 10, 100, 1000],
            products: vec![1, 3, 10, 30, 100],
            repetitions: 3,
            damping: 0.0,
            outer_spread: 1.0,
            curvatures: vec![CurvatureConfig::Window(Default::default()), CurvatureConfig::Nystrom(Default::default())],
            fisher: FisherKind::ALL.to_vec(),
            slope_from: None,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        for (name, counts) in [("rows", &self.rows), ("products", &self.products)] {
            if counts.contains(&0) || counts.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::argument(name, "ascending counts of at least 1", format_args!("{counts:?}")));
            }
        }
        check_count("repetitions", self.repetitions as usize)?;
        check_nonnegative("damping", self.damping)?;
        check_positive("outer_spread", self.outer_spread)?;
        if let Some(from) = self.slope_from {
            if self.rows.iter().filter(|&&rows| rows >= from).count() < 2 {
                return Err(Error::argument("slope_from", "at least 2 of the numbers of rows from there on", from));
            }
            if self.repetitions < 2 {
                return Err(Error::argument("repetitions", "at least 2 for the limits of a slope", self.repetitions));
            }
        }
        self.curvatures.iter().try_for_each(CurvatureConfig::validate)
    }

    /// How many pieces [`Reference::measure`] has: the estimators by Hessian products, then each stream of samples.
    pub fn work(&self) -> u64 {
        1 + self.repetitions * (self.curvatures.len() * self.fisher.len()) as u64
    }
}

/// An empty table for [`Reference::measure`].
pub fn table() -> Table {
    Table::new(["estimator", "curvature", "fisher", "unit", "budget", "repetition", "relative_error"])
}

/// The slopes of the errors in a table that [`Reference::measure`] filled, one row for each family and Fisher kind; none where the settings
/// ask for none. NaN where an error is 0 or not finite: it has no logarithm.
///
/// # Errors
/// [`Error::Argument`] for another table.
pub fn slopes(config: &Config, errors: &Table) -> Result<Option<Table>> {
    let Some(from) = config.slope_from else { return Ok(None) };
    let mut out = Table::new(["curvature", "fisher", "rows_from", "rows_to", "replicates", "slope", "lower", "upper"]);
    let fitted: Vec<usize> = config.rows.iter().copied().filter(|&rows| rows >= from).collect();
    let (Some(first), Some(last)) = (fitted.first(), fitted.last()) else { return Ok(None) };
    let x: Vec<f64> = fitted.iter().map(|&rows| rows as f64).collect();
    let nhgd = errors.filter("estimator", "nhgd")?;
    for curvature in nhgd.distinct("curvature")? {
        for fisher in nhgd.distinct("fisher")? {
            let rows = nhgd.filter("curvature", &curvature)?.filter("fisher", &fisher)?;
            let replicate = |repetition: u64| -> Result<Vec<f64>> {
                let stream = rows.filter("repetition", &repetition.to_string())?;
                let found = stream.numbers("budget")?.into_iter().zip(stream.numbers("relative_error")?);
                Ok(found.filter(|(budget, _)| *budget >= from as f64).map(|(_, error)| error).collect())
            };
            let replicates = (0..config.repetitions).map(replicate).collect::<Result<Vec<_>>>()?;
            let fitted = slope_with_limits(&x, &replicates, CONFIDENCE).map(|slope| [slope.mean, slope.lower, slope.upper]);
            let counts = [*first, *last, replicates.len()].map(|count| count.to_string());
            let names = [curvature.clone(), fisher];
            out.push(names.into_iter().chain(counts).chain(fitted.unwrap_or([f64::NAN; 3]).map(cell)))?;
        }
    }
    Ok(Some(out))
}

/// v, θ*(v) and ∇Φ(v), in closed form or by the oracle.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// v.
    pub v: Vec<f64>,
    /// θ*(v).
    pub theta: Vec<f64>,
    /// ∇Φ(v).
    pub hypergradient: Vec<f64>,
}

/// The point that every estimate is compared at.
pub struct Reference<'a> {
    problem: &'a dyn Problem,
    config: &'a Config,
    key: Key,
    point: Point,
}

/// A row of the table, and how long an estimate of this budget takes: to absorb all that it has absorbed, and one solve.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The cells.
    pub cells: [String; 7],
    /// Seconds by the clock at hand.
    pub seconds: f64,
}

impl<'a> Reference<'a> {
    /// At a point that is known.
    ///
    /// # Errors
    /// [`Error::Argument`] for bad settings.
    pub fn at(problem: &'a dyn Problem, config: &'a Config, key: Key, point: Point) -> Result<Self> {
        config.validate()?;
        Ok(Self { problem, config, key, point })
    }

    /// The point.
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// Solves the inner problem at a random v; `before_step` is called before each Newton step, and an error of it ends the search.
    ///
    /// # Errors
    /// [`Error::Argument`] for bad settings, [`Error::Numerical`] where the inner problem cannot be solved, and whatever the problem and
    /// `before_step` meet.
    pub fn solve(problem: &'a dyn Problem, config: &'a Config, key: Key, before_step: impl FnMut() -> Result<()>) -> Result<Self> {
        config.validate()?;
        let normals = key.named("outer").stream().normals(problem.outer_dim());
        let v: Vec<f64> = normals.iter().map(|x| config.outer_spread * x).collect();
        if let Some(ClosedForm { theta, hypergradient }) = problem.closed_form(&v)? {
            return Self::at(problem, config, key, Point { v, theta, hypergradient });
        }
        let solution = inner_solution_watched(problem, &v, &problem.initial().1, NewtonOptions::default(), before_step)?;
        if !solution.status.is_converged() {
            return Err(Error::Numerical { operation: "inner solution", reason: solution.status.to_string() });
        }
        let theta = solution.theta;
        let hypergradient = exact_hypergradient(problem, &v, &theta)?;
        Self::at(problem, config, key, Point { v, theta, hypergradient })
    }

    /// Adds the rows of piece `piece` of [`Config::work`] to the table.
    ///
    /// # Errors
    /// Whatever the problem meets.
    pub fn measure(&self, piece: u64, table: &mut Table) -> Result<()> {
        self.estimates(piece, &|| Duration::ZERO)?.into_iter().try_for_each(|estimate| table.push(estimate.cells))
    }

    /// The rows of piece `piece` with their seconds.
    ///
    /// # Errors
    /// Whatever the problem meets.
    pub fn estimates(&self, piece: u64, clock: &dyn Fn() -> Duration) -> Result<Vec<Estimate>> {
        let Some(stream) = piece.checked_sub(1) else { return self.by_products(clock) };
        let (pair, repetition) = (stream / self.config.repetitions, stream % self.config.repetitions);
        let kinds = self.config.fisher.len().max(1);
        let (curvature, fisher) = (pair as usize / kinds, pair as usize % kinds);
        match (self.config.curvatures.get(curvature), self.config.fisher.get(fisher)) {
            (Some(curvature), Some(&fisher)) => self.by_rows(curvature, fisher, repetition, clock),
            _ => Err(Error::argument("piece", format_args!("below {}", self.config.work()), piece)),
        }
    }

    /// ‖h − ∇Φ‖ / ‖∇Φ‖.
    fn error(&self, found: &[f64]) -> String {
        cell(relative_error(found, &self.point.hypergradient))
    }

    fn by_products(&self, clock: &dyn Fn() -> Duration) -> Result<Vec<Estimate>> {
        let (problem, Point { v, theta, .. }) = (self.problem, &self.point);
        let sampling = Sampling::default();
        let mut out = Vec::new();
        let mut push = |name: &str, products: usize, begun: Duration, found: &bilevel::Hypergradient| {
            let seconds = clock().saturating_sub(begun).as_secs_f64();
            let cells = [name, "", "", "products", &products.to_string(), "0", &self.error(&found.value)].map(str::to_owned);
            out.push(Estimate { cells, seconds });
        };
        let begun = clock();
        let exact = bilevel::exact(problem, v, theta, sampling)?;
        push("exact", exact.products, begun, &exact);
        for &products in &self.config.products {
            // The tolerance is out of reach, so that the number of products decides.
            let options = SolveOptions { tolerance: 1e-15, max_iterations: products };
            let begun = clock();
            push("cg", products, begun, &bilevel::cg(problem, v, theta, sampling, options)?);
        }
        Ok(out)
    }

    fn by_rows(
        &self,
        curvature: &CurvatureConfig,
        fisher: FisherKind,
        repetition: u64,
        clock: &dyn Fn() -> Duration,
    ) -> Result<Vec<Estimate>> {
        let (problem, Point { v, theta, .. }) = (self.problem, &self.point);
        // The same samples and labels for every family and kind.
        let key = self.key.named("stream").child(repetition);
        let mut estimate = curvature.build(problem.inner_dim(), key.named("curvature"))?;
        let (mut absorbed, mut absorbing) = (0, Duration::ZERO);
        let mut out = Vec::new();
        for &rows in &self.config.rows {
            let begun = clock();
            let fresh = key.named("samples").child(rows as u64).stream().indices(problem.inner_samples(), rows - absorbed)?;
            let labels = key.named("labels").child(rows as u64);
            estimate.absorb(&problem.scores(v, theta, Batch::Indices(&fresh), fisher, labels)?)?;
            absorbed = rows;
            absorbing += clock().saturating_sub(begun);
            let begun = clock();
            let approximation = estimate.approximate()?;
            let found = bilevel::nhgd(problem, v, theta, Sampling::default(), approximation.as_ref(), self.config.damping)?;
            let seconds = (absorbing + clock().saturating_sub(begun)).as_secs_f64();
            let (rows, repetition) = (rows.to_string(), repetition.to_string());
            let cells = ["nhgd", estimate.name(), fisher.name(), "rows", &rows, &repetition, &self.error(&found.value)];
            out.push(Estimate { cells: cells.map(str::to_owned), seconds });
        }
        Ok(out)
    }
}
