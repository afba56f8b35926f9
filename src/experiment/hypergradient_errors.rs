//! The experiment behind the promise: the relative error of each hypergradient estimator, at a fixed v and θ*(v), as the curvature
//! absorbs more and more samples, for each family and Fisher kind; and beside it conjugate gradients against Hessian products.
//! Measured against the problem's closed form where it has one, else against the oracle.

use serde::{Deserialize, Serialize};

use super::record::{Table, cell};
use crate::bilevel::{self, Sampling};
use crate::bounds::slope_with_limits;
use crate::curvature::CurvatureConfig;
use crate::dense::{difference, norm};
use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};
use crate::inverse::CgOptions;
use crate::model::FisherKind;
use crate::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
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

    /// How many pieces of work [`measure`] announces.
    pub fn work(&self) -> u64 {
        1 + self.repetitions * (self.curvatures.len() * self.fisher.len()) as u64
    }
}

/// An empty table for [`measure`].
pub fn table() -> Table {
    Table::new(["estimator", "curvature", "fisher", "unit", "budget", "repetition", "relative_error"])
}

/// θ*(v) and ∇Φ(v).
fn reference_at(problem: &dyn Problem, v: &[f64]) -> Result<ClosedForm> {
    if let Some(closed) = problem.closed_form(v)? {
        return Ok(closed);
    }
    let solution = inner_solution(problem, v, &problem.initial().1, NewtonOptions::default())?;
    if !solution.status.is_converged() {
        return Err(Error::Numerical { operation: "inner solution", reason: solution.status.to_string() });
    }
    Ok(ClosedForm { hypergradient: exact_hypergradient(problem, v, &solution.theta)?, theta: solution.theta })
}

/// The slopes of the errors in a table that [`measure`] filled, one row for each family and Fisher kind; none where the settings
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

/// Measures everything on one problem and adds it to `table`; `advance` is called after each piece of work.
///
/// # Errors
/// [`Error::Numerical`] where the inner problem cannot be solved, and whatever the problem meets.
pub fn measure(problem: &dyn Problem, config: &Config, key: Key, table: &mut Table, mut advance: impl FnMut()) -> Result<()> {
    let normals = key.named("outer").stream().normals(problem.outer_dim());
    let v: Vec<f64> = normals.iter().map(|x| config.outer_spread * x).collect();
    let ClosedForm { theta, hypergradient: reference } = reference_at(problem, &v)?;
    let error = |found: &[f64]| cell(norm(&difference(found, &reference)) / norm(&reference));
    let sampling = Sampling::default();

    let exact = bilevel::exact(problem, &v, &theta, sampling)?;
    table.push(["exact", "", "", "products", &exact.products.to_string(), "0", &error(&exact.value)])?;
    for &products in &config.products {
        // The tolerance is out of reach, so that the number of products decides.
        let options = CgOptions { tolerance: 1e-15, max_iterations: products };
        let estimate = bilevel::cg(problem, &v, &theta, sampling, options)?;
        table.push(["cg", "", "", "products", &products.to_string(), "0", &error(&estimate.value)])?;
    }
    advance();

    for curvature in &config.curvatures {
        for &fisher in &config.fisher {
            for repetition in 0..config.repetitions {
                // The same samples and labels for every family and kind.
                let key = key.named("stream").child(repetition);
                let mut estimate = curvature.build(problem.inner_dim(), key.named("curvature"))?;
                let mut absorbed = 0;
                for &rows in &config.rows {
                    let fresh =
                        key.named("samples").child(rows as u64).stream().indices(problem.inner_samples(), rows - absorbed)?;
                    let labels = key.named("labels").child(rows as u64);
                    estimate.absorb(&problem.scores(&v, &theta, Batch::Indices(&fresh), fisher, labels)?)?;
                    absorbed = rows;
                    let approximation = estimate.approximate()?;
                    let found = bilevel::nhgd(problem, &v, &theta, sampling, approximation.as_ref(), config.damping)?;
                    let cells = [estimate.name(), fisher.name(), "rows"].map(str::to_owned);
                    let row = std::iter::once("nhgd".to_owned()).chain(cells);
                    table.push(row.chain([rows.to_string(), repetition.to_string(), error(&found.value)]))?;
                }
                advance();
            }
        }
    }
    Ok(())
}
