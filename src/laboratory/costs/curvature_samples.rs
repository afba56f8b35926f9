//! `curvature-samples`: how many samples of each batch the curvature needs. On data cleaning, at a fixed v, inner SGD runs once, and beside it
//! estimates that take the first m samples of every batch, the same ones for all m. In the end each estimate gives a hypergradient, held
//! against the exact one at the same θ; and each m has its price in units of a gradient. The default that users should get is the least m whose
//! error is within a stated margin of that with all samples.

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
    /// The m that is proposed for each family, in the order `window`, `nystrom`.
    proposed: [usize; 2],
    /// How much larger the error may be than that with all samples.
    margin: f64,
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
const COLUMNS: [&str; 4] = ["family", "samples", "replicate", "relative_error"];
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
            proposed: [16, 16],
            margin: 0.1,
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
        for family in FAMILIES {
            for &samples in &self.samples {
                let curvature = self.config(family).build(problem.inner_dim(), key.named("curvature"))?;
                estimates.push(Estimate { family, samples, curvature, seconds: Vec::new() });
            }
        }
        let mut gradient_seconds = Vec::new();
        for step in 0..self.inner_steps {
            let key = key.named("inner").child(step as u64);
            let indices = key.named("batch").stream().indices(problem.inner_samples(), self.batch())?;
            let (gradient, usage) = once(bench, 0, || problem.grad_inner(&v, &theta, Batch::Indices(&indices)))?;
            gradient_seconds.push(usage.seconds);
            for Estimate { samples, curvature, seconds, .. } in &mut estimates {
                let rows = Batch::Indices(&indices[..*samples]);
                // Every m draws the same labels for the samples that it shares with the others.
                let absorb = || curvature.absorb(&problem.scores(&v, &theta, rows, FisherKind::Sampled, key.named("labels"))?);
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
        let mut push = |family: &str, samples: usize, error: f64, seconds: &[f64]| {
            let cells = [family.to_owned(), samples.to_string(), replicate.to_string(), cell(error)];
            rows.push_used(cells, Usage { seconds: median(seconds), peak_bytes: None });
        };
        push(GRADIENT, self.batch(), 0.0, &gradient_seconds);
        for Estimate { family, samples, curvature, seconds } in &estimates {
            let approximation = curvature.approximate()?;
            let found = bilevel::nhgd(&problem, &v, &theta, sampling, approximation.as_ref(), self.damping)?;
            push(family, *samples, relative_error(&found.value, &exact.value), seconds);
        }
        Ok(rows)
    }

    /// Error over that with all samples, replicate by replicate, as a mean with limits.
    fn ratio(&self, rows: &Table, family: &str, samples: usize) -> Result<Measured> {
        let own = rows.filter("family", family)?;
        let errors = |samples: usize| own.filter("samples", &samples.to_string())?.numbers("relative_error");
        let ratios: Vec<f64> = errors(samples)?.iter().zip(errors(self.batch())?).map(|(few, all)| few / all).collect();
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

/// An estimate that takes so many samples of each batch.
struct Estimate {
    family: &'static str,
    samples: usize,
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
        if let Some(other) = self.proposed.iter().find(|proposed| !self.samples.contains(proposed)) {
            return Err(Error::argument("proposed", format_args!("some of samples, {:?}", self.samples), other));
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
        let claim = |(family, samples): (&str, usize)| {
            let claim = format!("{family}: hypergradient error with {samples} samples of each {} over that with all", self.batch());
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
        let rows: usize = self.samples.iter().sum();
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
        let mut trade_off = Table::new(["family", "samples", "error_ratio", "low", "high", "relative_error", "gradients"]);
        let mut choice = Table::new(["family", "samples", "of", "error_ratio", "gradients", "gradients_of_all"]);
        let timed = rows.columns().iter().any(|column| column == SECONDS);
        let seconds = |family: &str, samples: usize| -> Result<f64> {
            let own = rows.filter("family", family)?.filter("samples", &samples.to_string())?;
            Ok(if timed { median(&own.numbers(SECONDS)?) } else { f64::NAN })
        };
        let gradient = seconds(GRADIENT, self.batch())?;
        for (family, proposed) in FAMILIES.into_iter().zip(self.proposed) {
            findings.measured.push(self.ratio(rows, family, proposed)?);
            let mut ratios = Vec::new();
            for &samples in &self.samples {
                let ratio = self.ratio(rows, family, samples)?;
                let own = rows.filter("family", family)?.filter("samples", &samples.to_string())?;
                let numbers = [ratio.value, ratio.low, ratio.high, median(&own.numbers("relative_error")?)];
                let price = seconds(family, samples)? / gradient;
                let names = [family.to_owned(), samples.to_string()].into_iter();
                trade_off.push(names.chain(numbers.into_iter().chain([price]).map(rounded)))?;
                ratios.push((samples, ratio));
            }
            if let Some(samples) = self.least(&ratios) {
                let ratio = ratios.iter().find(|(other, _)| *other == samples).map_or(f64::NAN, |(_, ratio)| ratio.value);
                let prices = [seconds(family, samples)? / gradient, seconds(family, self.batch())? / gradient];
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
                "Relative error of the hypergradient with the first m of {} samples of each of {} inner batches over that with all: mean of \
                 {} draws with its 95 % limits; left against m, right against what their score rows and absorbing them take, in units \
                 of a batch's gradient (medians of the same run). μ = {}, `window` of {}, `nystrom` with ℓ = {}; the exact \
                 hypergradient is taken at the same θ.",
                self.batch(),
                self.inner_steps,
                self.replicates,
                self.damping,
                self.window,
                self.sketch_size
            ),
            drawing: Drawing::Curves {
                y: Axis::log("error / error with all (no unit)"),
                panels: vec![panel("samples", "samples m of a batch (count)"), panel("gradients", "price (gradients)")],
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
