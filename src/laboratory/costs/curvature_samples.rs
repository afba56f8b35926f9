//! `curvature-samples`: how many samples of each batch the curvature needs. On data cleaning, at a fixed v, inner SGD runs once, and beside it
//! estimates that take the first m samples of every batch, the same ones for all m, and one of each family that takes so many of every s-th. In
//! the end each estimate gives a hypergradient, held against the exact one at the same θ; and each has its price in units of a gradient. The
//! default that users should get is the least price whose error is within a stated margin of that with all samples.

use serde::{Deserialize, Serialize};

use super::sweep::{UNKNOWN, median};
use super::usage::once;
use crate::bilevel::{self, Sampling};
use crate::bounds::{Claim, Measured, Rule, mean_with_limits};
use crate::curvature::{Curvature, CurvatureConfig, NystromConfig, WindowConfig};
use crate::dense::{axpy, relative_error};
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::Table;
use crate::inverse::SolveOptions;
use crate::laboratory::picture::{Axis, Band, Drawing, Layer, Panel, Picture};
use crate::laboratory::record::SECONDS;
use crate::laboratory::{
    Bench, CONFIDENCE, Concurrency, Experiment, Findings, Pieces, Registered, Rows, Size, Usage, cell, rounded, settings_of,
};
use crate::model::FisherKind;
use crate::problem::{DataCleaning, DataCleaningConfig, Problem};
use crate::samples::Batch;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CurvatureSamples {
    /// Samples m of each batch that the curvature takes, ascending; the last one is the batch.
    samples: Vec<usize>,
    /// What is proposed for each family, in the order `window`, `nystrom`: m samples of every s-th batch.
    proposed: [(usize, usize); 2],
    /// How much larger the error may be than that with all samples.
    margin: f64,
    /// Which labels the rows of each family have.
    fisher: [FisherKind; 2],
    /// Inner steps.
    inner_steps: usize,
    /// α.
    inner_step_size: f64,
    /// The standard deviation of the entries of v.
    outer_spread: f64,
    /// μ.
    damping: f64,
    /// m of the window.
    window: usize,
    /// ℓ of the sketch.
    sketch_size: usize,
    /// Independent draws of everything.
    replicates: usize,
    /// The problem.
    cleaning: DataCleaningConfig,
}

/// The families.
const FAMILIES: [&str; 2] = ["window", "nystrom"];
/// What stands in the place of a family for the gradient of a batch.
const GRADIENT: &str = "gradient";
const COLUMNS: [&str; 5] = ["family", "samples", "every", "replicate", "relative_error"];
/// Errors over those with all samples, and prices.
const TRADE_OFF: &str = "curvature-samples-trade-off";
/// The least m within the margin.
const CHOICE: &str = "curvature-samples-choice";
/// The largest d2 whose Hessian is factorized; conjugate gradients reach this residual for larger ones.
const MOST_DENSE: usize = 1_500;
const RESIDUAL: f64 = 1e-8;

impl Registered for CurvatureSamples {
    const NAME: &'static str = "curvature-samples";
    const ABOUT: &'static str =
        "the error of the hypergradient and the price of the curvature against the samples it takes of each batch";

    fn sized(size: Size) -> Self {
        let quick = Self {
            samples: vec![2, 4, 8, 16, 32, 64, 128],
            // The sketch's own `Feed`.
            proposed: [(16, 1), (32, 10)],
            margin: 0.1,
            fisher: [FisherKind::Sampled, FisherKind::Expected],
            inner_steps: 100,
            inner_step_size: 0.5,
            outer_spread: 1.0,
            damping: 1e-2,
            window: 1024,
            sketch_size: 64,
            replicates: 8,
            cleaning: DataCleaningConfig::default(),
        };
        match size {
            Size::Quick => quick,
            Size::Full => Self { samples: vec![1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128], replicates: 32, ..quick },
        }
    }
}

impl CurvatureSamples {
    fn batch(&self) -> usize {
        self.samples.last().copied().unwrap_or(0)
    }

    fn config(&self, family: &str) -> CurvatureConfig {
        match family {
            "window" => CurvatureConfig::Window(WindowConfig { samples: self.window }),
            _ => CurvatureConfig::Nystrom(NystromConfig { sketch_size: self.sketch_size, probes: Some(0), ..Default::default() }),
        }
    }

    fn replicate(&self, replicate: usize, bench: Bench<'_>) -> Result<Rows> {
        let key = bench.key.child(replicate as u64);
        let problem = DataCleaning::load(&self.cleaning, bench.source, key.named("problem"))?;
        let normals = key.named("outer").stream().normals(problem.outer_dim());
        let v: Vec<f64> = normals.iter().map(|x| self.outer_spread * x).collect();
        let mut theta = problem.initial().1;
        let mut estimates: Vec<Estimate> = Vec::new();
        for (place, (family, fisher)) in FAMILIES.into_iter().zip(self.fisher).enumerate() {
            for (samples, every) in self.feeds(place) {
                let curvature = self.config(family).build(problem.inner_dim(), key.named("curvature"))?;
                estimates.push(Estimate { family, fisher, samples, every, curvature, seconds: Vec::new() });
            }
        }
        let mut gradient_seconds = Vec::new();
        for step in 0..self.inner_steps {
            let key = key.named("inner").child(step as u64);
            let indices = key.named("batch").stream().indices(problem.inner_samples(), self.batch())?;
            let (gradient, usage) = once(bench, 0, || problem.grad_inner(&v, &theta, Batch::Indices(&indices)))?;
            gradient_seconds.push(usage.seconds);
            let left = self.inner_steps - 1 - step;
            for Estimate { fisher, samples, every, curvature, seconds, .. } in &mut estimates {
                if !left.is_multiple_of(*every) {
                    continue;
                }
                let rows = Batch::Indices(&indices[..*samples]);
                // Every m draws the same labels for the samples that it shares with the others.
                let absorb = || curvature.absorb(&problem.scores(&v, &theta, rows, *fisher, key.named("labels"))?);
                let ((), usage) = once(bench, 0, absorb)?;
                seconds.push(usage.seconds);
            }
            axpy(-self.inner_step_size, &gradient, &mut theta);
        }
        let sampling = Sampling::default();
        let exact = if problem.inner_dim() <= MOST_DENSE {
            bilevel::exact(&problem, &v, &theta, sampling)?
        } else {
            let options = SolveOptions { tolerance: RESIDUAL, max_iterations: 10_000 };
            bilevel::cg(&problem, &v, &theta, sampling, options)?
        };
        if !exact.status.is_converged() {
            return Err(Error::Numerical { operation: "exact hypergradient", reason: exact.status.to_string() });
        }
        let mut rows = Rows::default();
        let mut push = |family: &str, samples: usize, every: usize, error: f64, seconds: &[f64]| {
            let cells = [family.to_owned(), samples.to_string(), every.to_string(), replicate.to_string(), cell(error)];
            rows.push_used(cells, Usage { seconds: median(seconds), peak_bytes: None });
        };
        push(GRADIENT, self.batch(), 1, 0.0, &gradient_seconds);
        for Estimate { family, samples, every, curvature, seconds, .. } in &estimates {
            let approximation = curvature.approximate()?;
            let found = bilevel::nhgd(&problem, &v, &theta, sampling, approximation.as_ref(), self.damping)?;
            push(family, *samples, *every, relative_error(&found.value, &exact.value), seconds);
        }
        Ok(rows)
    }

    /// m and s of every estimate of a family.
    fn feeds(&self, family: usize) -> Vec<(usize, usize)> {
        let mut feeds: Vec<_> = self.samples.iter().map(|&samples| (samples, 1)).collect();
        if !feeds.contains(&self.proposed[family]) {
            feeds.push(self.proposed[family]);
        }
        feeds
    }

    /// Error over that with all samples, replicate by replicate, as a mean with limits.
    fn ratio(&self, rows: &Table, family: &str, feed: (usize, usize)) -> Result<Measured> {
        let errors = |feed| of_feed(rows, family, feed)?.numbers("relative_error");
        let ratios: Vec<f64> = errors(feed)?.iter().zip(errors((self.batch(), 1))?).map(|(few, all)| few / all).collect();
        match mean_with_limits("ratios", &ratios, CONFIDENCE) {
            Ok((value, half)) => Ok(Measured { value, low: value - half, high: value + half }),
            // An error of exactly zero has no ratio.
            Err(_) => Ok(UNKNOWN),
        }
    }

    /// The least m from which on every mean ratio is within the margin.
    fn least(&self, trade_off: &[(usize, Measured)]) -> Option<usize> {
        let within = |ratio: &Measured| ratio.value <= 1.0 + self.margin;
        trade_off.iter().rev().take_while(|(_, ratio)| within(ratio)).map(|(samples, _)| *samples).last()
    }
}

/// The rows of one estimate.
fn of_feed(rows: &Table, family: &str, (samples, every): (usize, usize)) -> Result<Table> {
    rows.filter("family", family)?.filter("samples", &samples.to_string())?.filter("every", &every.to_string())
}

/// An estimate that takes so many samples of every so many batches.
struct Estimate {
    family: &'static str,
    fisher: FisherKind,
    samples: usize,
    every: usize,
    curvature: Box<dyn Curvature>,
    /// Of score rows and their absorption, step by step.
    seconds: Vec<f64>,
}

impl Experiment for CurvatureSamples {
    fn validate(&self) -> Result<()> {
        let ascending = self.samples.windows(2).all(|w| w[0] < w[1]);
        if self.samples.len() < 2 || self.samples[0] == 0 || !ascending {
            return Err(Error::argument(
                "samples",
                "at least 2 ascending counts of at least 1",
                format_args!("{:?}", self.samples),
            ));
        }
        for (samples, every) in self.proposed {
            if !(1..=self.batch()).contains(&samples) || every == 0 {
                let expected = format!("pairs [m, s]: 1 to {} samples of every s-th batch", self.batch());
                return Err(Error::argument("proposed", expected, format_args!("[{samples}, {every}]")));
            }
        }
        for (name, count) in [("inner_steps", self.inner_steps), ("window", self.window), ("sketch_size", self.sketch_size)] {
            check_count(name, count)?;
        }
        if self.replicates < 2 {
            return Err(Error::argument("replicates", "at least 2", self.replicates));
        }
        let positive = [
            ("margin", self.margin),
            ("inner_step_size", self.inner_step_size),
            ("outer_spread", self.outer_spread),
            ("damping", self.damping),
        ];
        positive.into_iter().try_for_each(|(name, value)| check_positive(name, value))?;
        crate::problem::ProblemConfig::DataCleaning(self.cleaning.clone()).validate()
    }

    fn claims(&self) -> Vec<Claim> {
        let claim = |(family, (samples, every)): (&str, (usize, usize))| {
            let batches = if every == 1 { "each batch".to_owned() } else { format!("one batch in {every}") };
            let claim =
                format!("{family}: hypergradient error with {samples} of {} samples of {batches} over that with all", self.batch());
            Claim::new(Self::NAME, claim, Rule::AtMost { bound: 1.0 + self.margin })
        };
        FAMILIES.into_iter().zip(self.proposed).map(claim).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &COLUMNS
    }

    fn pieces(&self) -> usize {
        self.replicates
    }

    /// A sketch of few samples costs some gradients; digits and the exact Hessian a tenth of a second.
    fn work(&self, _piece: usize) -> u64 {
        let rows = self.samples.iter().sum::<usize>();
        100_000 + (self.inner_steps * (rows * self.sketch_size / 20 + 500)) as u64
    }

    fn concurrency(&self) -> Concurrency {
        Concurrency::Alone
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        Ok(Box::new(move |piece| self.replicate(piece, bench)))
    }

    fn measure(&self, _bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let mut findings = Findings::default();
        let numbers = ["per_batch", "error_ratio", "low", "high", "relative_error", "gradients"];
        let mut trade_off = Table::new(["family", "samples", "every"].into_iter().chain(numbers));
        let mut choice = Table::new(["family", "samples", "of", "error_ratio", "gradients", "gradients_of_all"]);
        let timed = rows.columns().iter().any(|column| column == SECONDS);
        // Seconds a batch.
        let seconds = |family: &str, feed: (usize, usize)| -> Result<f64> {
            let own = of_feed(rows, family, feed)?;
            Ok(if timed { median(&own.numbers(SECONDS)?) / feed.1 as f64 } else { f64::NAN })
        };
        let all = (self.batch(), 1);
        let gradient = seconds(GRADIENT, all)?;
        for (place, family) in FAMILIES.into_iter().enumerate() {
            findings.measured.push(self.ratio(rows, family, self.proposed[place])?);
            let mut ratios = Vec::new();
            let mut feeds = self.feeds(place);
            let per_batch = |(samples, every): (usize, usize)| samples as f64 / every as f64;
            feeds.sort_by(|a, b| per_batch(*a).total_cmp(&per_batch(*b)));
            for feed in feeds {
                let ratio = self.ratio(rows, family, feed)?;
                let error = median(&of_feed(rows, family, feed)?.numbers("relative_error")?);
                let numbers = [per_batch(feed), ratio.value, ratio.low, ratio.high, error, seconds(family, feed)? / gradient];
                let names = [family.to_owned(), feed.0.to_string(), feed.1.to_string()].into_iter();
                trade_off.push(names.chain(numbers.map(rounded)))?;
                if feed.1 == 1 {
                    ratios.push((feed.0, ratio));
                }
            }
            if let Some(samples) = self.least(&ratios) {
                let ratio = ratios.iter().find(|(other, _)| *other == samples).map_or(f64::NAN, |(_, ratio)| ratio.value);
                let prices = [seconds(family, (samples, 1))? / gradient, seconds(family, all)? / gradient];
                let names = [family.to_owned(), samples.to_string(), self.batch().to_string()].into_iter();
                choice.push(names.chain([ratio].into_iter().chain(prices).map(rounded)))?;
            }
        }
        findings.tables = vec![(TRADE_OFF.to_owned(), trade_off), (CHOICE.to_owned(), choice)];
        Ok(findings)
    }

    fn shown(&self) -> &'static [&'static str] {
        &[TRADE_OFF, CHOICE]
    }

    fn pictures(&self) -> Vec<Picture> {
        let layer = |x: &str| {
            Layer::new(TRADE_OFF, x, "error_ratio").by("family").band(Band::Columns("low".into(), "high".into())).named("{family}")
        };
        let panel = |x: &str, label: &str| Panel {
            title: String::new(),
            x: Axis::log(label),
            layers: vec![layer(x)],
            verticals: Vec::new(),
        };
        vec![Picture {
            file: Self::NAME.into(),
            title: "How many samples of a batch the curvature needs".into(),
            caption: format!(
                "Relative error of the hypergradient with the first m of {} samples of each of {} inner batches (the proposed feed: of every \
                 s-th) over that with all: mean of {} draws with its 95 % limits; left against m/s, right against what their score rows \
                 and absorbing them take, in units of a batch's gradient (medians of the same run). μ = {}, `window` of {} with {} \
                 labels, `nystrom` with ℓ = {} and {} ones; the exact hypergradient is taken at the same θ.",
                self.batch(),
                self.inner_steps,
                self.replicates,
                self.damping,
                self.window,
                self.fisher[0].name(),
                self.sketch_size,
                self.fisher[1].name()
            ),
            drawing: Drawing::Curves {
                y: Axis::log("error / error with all (no unit)"),
                panels: vec![panel("per_batch", "samples a batch, m/s (count)"), panel("gradients", "price a batch (gradients)")],
            },
        }]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_number_is_the_one_from_which_on_all_are_within_the_margin() {
        let settings = CurvatureSamples::sized(Size::Quick);
        let ratios = |values: &[f64]| -> Vec<(usize, Measured)> {
            values.iter().enumerate().map(|(place, value)| (1 << place, Measured::exactly(*value))).collect()
        };
        // A lucky small one does not count.
        assert_eq!(settings.least(&ratios(&[1.05, 1.3, 1.1, 1.02, 1.0])), Some(4));
        assert_eq!(settings.least(&ratios(&[0.9, 1.0])), Some(1));
        assert_eq!(settings.least(&ratios(&[1.0, f64::NAN])), None);
    }
}
