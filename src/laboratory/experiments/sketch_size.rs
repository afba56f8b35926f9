//! `sketch-size`: how the error of a sketch falls with its size ℓ. Theory: no sketch of rank ℓ beats λ_{ℓ+1}, and Frequent Directions and
//! Nyström stay within factors of the tail Σ_{j>k} λ_j of it, so that the error follows the spectrum: exponential decay gives exponential
//! decay at the same rate, j⁻ᵖ gives ℓ⁻ᵖ (up to a logarithm for p = 1), and on a flat spectrum nothing is gained before ℓ = d.

use serde::{Deserialize, Serialize};

use super::fisher_matrices::{FisherMatrix, Scored};
use super::replicates::Curves;
use crate::bounds::{Claim, Measured, Rule, log_log_slope, mean_with_limits, sketch};
use crate::curvature::{
    Approximation, CurvatureConfig, DiagonalConfig, FrequentDirectionsConfig, KfacConfig, NystromConfig, TestMatrix, WindowConfig,
};
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::Table;
use crate::gradient::GradientBlock;
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Experiment, Findings, Pieces, Registered, Rows, Size, cell, settings_of};
use crate::par;
use crate::rng::Key;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchSize {
    /// The sketch sizes ℓ, ascending.
    pub sizes: Vec<usize>,
    /// Matrices, orders of rows and test matrices of each kind.
    pub replicates: usize,
    /// d of the matrices with prescribed eigenvalues.
    pub dim: usize,
    /// Their rows.
    pub rows: usize,
    /// r of the exponential spectrum λ_j = exp(−r(j − 1)).
    pub rate: f64,
    /// The largest difference of a fitted exponential rate from r, relative to r.
    pub rate_tolerance: f64,
    /// The largest difference of a fitted exponent from that of the spectrum j⁻ᵖ: it must leave room for the logarithm and for a finite d.
    pub exponent_tolerance: f64,
    /// Rates and exponents are fitted from this ℓ on.
    pub fit_from: usize,
    /// Steps of gradient descent to the θ at which images are scored.
    pub steps: usize,
    /// Images of the folder that is given by `--data`.
    pub image_samples: usize,
    /// Replicates of their matrix.
    pub image_replicates: usize,
}

impl Registered for SketchSize {
    const NAME: &'static str = "sketch-size";
    const ABOUT: &'static str = "the error of sketches against their size: it follows the spectrum";

    fn sized(size: Size) -> Self {
        let (sizes, replicates, dim, image_samples, image_replicates) = match size {
            Size::Quick => (vec![4, 8, 12, 16, 24, 32], 12, 160, 400, 6),
            Size::Full => (vec![4, 8, 16, 24, 32, 48, 64], 16, 400, 2000, 4),
        };
        Self {
            sizes,
            replicates,
            dim,
            rows: 4 * dim,
            rate: 0.25,
            rate_tolerance: 0.1,
            exponent_tolerance: 0.25,
            fit_from: 8,
            steps: 100,
            image_samples,
            image_replicates,
        }
    }
}

/// The matrices, in the order of the pieces.
const MATRICES: [&str; 6] = ["exponential", "j⁻¹", "j⁻²", "flat", "digits", "images"];
/// Places in [`MATRICES`]; the images need a folder of data.
const EXPONENTIAL: usize = 0;
const HARMONIC: usize = 1;
const SQUARE: usize = 2;
const FLAT: usize = 3;
const DIGITS: usize = 4;
const IMAGES: usize = 5;

const DIRECTIONS: &str = "frequent-directions";
const ROBUST: &str = "robust-frequent-directions";
const GAUSSIAN: &str = "nystrom, Gaussian";
const SPARSE: &str = "nystrom, sparse signs";
const WINDOW: &str = "window";
/// The families with a size that stand for all rows.
const SKETCHES: [&str; 4] = [DIRECTIONS, ROBUST, GAUSSIAN, SPARSE];
/// Whose F̂ ≼ F has rank ℓ at most.
const LOW_RANK: [&str; 3] = [DIRECTIONS, GAUSSIAN, SPARSE];
/// The probability with which a probed certificate may fail.
const FAILURE: f64 = 0.05;
/// How many samples are absorbed at once.
const CHUNK: usize = 64;
/// What rounding may add to an error, of ‖F‖ and of the bound.
const ROUNDING: f64 = 1e-12;
/// How far the flat spectrum's error may be from 1: rounding.
const FLAT_TOLERANCE: f64 = 1e-6;
/// The largest relative difference of the errors of sparse signs from those of Gaussian test matrices.
const ALIKE: f64 = 0.25;
/// The matrices on which these are compared.
const COMPARED: [usize; 3] = [EXPONENTIAL, SQUARE, DIGITS];

/// The settings of a family; none for one that cannot take these rows.
fn config(family: &str, size: usize, rows: &GradientBlock) -> Option<CurvatureConfig> {
    let directions = || FrequentDirectionsConfig { sketch_size: size, ..Default::default() };
    let nystrom = |test_matrix| NystromConfig { sketch_size: size, test_matrix, ..Default::default() };
    match family {
        DIRECTIONS => Some(CurvatureConfig::FrequentDirections(directions())),
        ROBUST => Some(CurvatureConfig::RobustFrequentDirections(directions())),
        GAUSSIAN => Some(CurvatureConfig::Nystrom(nystrom(TestMatrix::Gaussian))),
        SPARSE => Some(CurvatureConfig::Nystrom(nystrom(TestMatrix::SparseSign))),
        WINDOW => Some(CurvatureConfig::Window(WindowConfig { samples: size })),
        "diagonal" => Some(CurvatureConfig::Diagonal(DiagonalConfig {})),
        _ => matches!(rows, GradientBlock::Kronecker(_)).then_some(CurvatureConfig::Kfac(KfacConfig {})),
    }
}

/// What theory says of ‖F − F̂‖ before anything is sketched: always, or in the mean; NaN for a family without a bound.
fn bound(family: &str, eigenvalues: &[f64], size: usize) -> Result<f64> {
    match family {
        DIRECTIONS => sketch::frequent_directions(eigenvalues, size),
        ROBUST => sketch::robust_frequent_directions(eigenvalues, size),
        GAUSSIAN => sketch::nystrom(eigenvalues, size),
        _ => Ok(f64::NAN),
    }
}

/// A matrix that replicates are drawn of.
enum Source {
    Spectrum(Vec<f64>),
    Images(Box<Scored>),
    /// There is no folder.
    Missing,
}

impl SketchSize {
    fn spectrum(&self, matrix: usize) -> Vec<f64> {
        let value = |j: usize| match matrix {
            EXPONENTIAL => (-self.rate * j as f64).exp(),
            HARMONIC => 1.0 / (1 + j) as f64,
            SQUARE => ((1 + j) as f64).powi(-2),
            _ => 1.0,
        };
        (0..self.dim).map(value).collect()
    }

    fn source(&self, matrix: usize, bench: Bench<'_>) -> Result<Source> {
        let key = bench.key.named(MATRICES[matrix]);
        Ok(match MATRICES[matrix] {
            "digits" => Source::Images(Box::new(Scored::digits(self.steps, key)?)),
            "images" => match Scored::images(bench.source, self.image_samples, self.steps, key)? {
                None => Source::Missing,
                Some(scored) => Source::Images(Box::new(scored)),
            },
            _ => Source::Spectrum(self.spectrum(matrix)),
        })
    }

    /// Matrix and replicate of each piece.
    fn plan(&self) -> Vec<(usize, usize)> {
        let replicates = |matrix| if matrix == IMAGES { self.image_replicates } else { self.replicates };
        (0..MATRICES.len()).flat_map(|matrix| (0..replicates(matrix)).map(move |replicate| (matrix, replicate))).collect()
    }

    fn replicate(&self, source: &Source, (matrix, replicate): (usize, usize), key: Key) -> Result<Rows> {
        let key = key.named(MATRICES[matrix]).child(replicate as u64);
        let (fisher, eigenvalues) = match source {
            Source::Missing => return Ok(Rows::default()),
            Source::Spectrum(eigenvalues) => {
                (FisherMatrix::prescribed(eigenvalues, self.rows, self.dim, key.named("rows"))?, eigenvalues)
            }
            Source::Images(scored) => {
                let rows = scored.shuffled(key.named("rows"))?;
                (if matrix == IMAGES { FisherMatrix::unformed(rows) } else { FisherMatrix::formed(rows)? }, &scored.eigenvalues)
            }
        };
        let (largest, trace) = (eigenvalues[0], eigenvalues.iter().sum::<f64>());
        let frobenius = eigenvalues.iter().map(|value| value * value).sum::<f64>().sqrt();
        let mut out = Rows::default();
        let row = |family: &str, size: usize, numbers: [f64; 8]| {
            let names = [MATRICES[matrix].to_owned(), family.to_owned(), replicate.to_string(), size.to_string()];
            names.into_iter().chain(numbers.map(cell))
        };
        for family in SKETCHES.into_iter().chain([WINDOW]) {
            for &size in &self.sizes {
                let key = key.named(family).child(size as u64);
                let Some(config) = config(family, size, &fisher.rows) else { continue };
                let estimate = sketched(&config, &fisher.rows, key)?;
                let error = fisher.minus(&*estimate, key.named("norm"))?;
                // What a window certifies is the matrix of its own rows.
                let [certificate, probed] = if family == WINDOW { [f64::NAN; 2] } else { certificates(&*estimate)? };
                out.push(row(
                    family,
                    size,
                    [
                        error.norm / largest,
                        error.frobenius / frobenius,
                        1.0 - estimate.trace() / trace,
                        certificate / largest,
                        probed / largest,
                        bound(family, eigenvalues, size)? / largest,
                        if family == GAUSSIAN { sketch::nystrom_trace(eigenvalues, size)? / trace } else { f64::NAN },
                        eigenvalues.get(size).copied().unwrap_or(0.0) / largest,
                    ],
                ));
            }
        }
        for family in ["diagonal", "kfac"] {
            // The diagonal of the flat one is the matrix itself.
            if matrix == FLAT {
                continue;
            }
            let Some(config) = config(family, 0, &fisher.rows) else { continue };
            let estimate = sketched(&config, &fisher.rows, key)?;
            let error = fisher.minus(&*estimate, key.named(family))?;
            let numbers = [error.norm / largest, error.frobenius / frobenius, 1.0 - estimate.trace() / trace];
            let [norm, frobenius, trace] = numbers;
            for &size in &self.sizes {
                out.push(row(family, size, [norm, frobenius, trace, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN]));
            }
        }
        Ok(out)
    }
}

/// F̂ of a stream.
fn sketched(config: &CurvatureConfig, rows: &GradientBlock, key: Key) -> Result<Box<dyn Approximation>> {
    let mut sketch = config.build(rows.dim(), key)?;
    par::blocks(rows.samples(), CHUNK).try_for_each(|range| sketch.absorb(&rows.part(range)))?;
    sketch.approximate()
}

/// What the sketch itself says that ‖F − F̂‖ is at most: always, and with the help of probes.
fn certificates(estimate: &dyn Approximation) -> Result<[f64; 2]> {
    let of = |interval: Option<crate::inverse::Interval>| interval.map_or(f64::NAN, |interval| interval.hi.max(-interval.lo));
    Ok([of(estimate.interval()), of(estimate.interval_at(FAILURE)?)])
}

/// What a claim is about.
#[derive(Clone, Copy)]
enum Question {
    /// Errors above the bound that theory gives beforehand.
    AboveBound(&'static str),
    /// Errors above the certificate.
    AboveCertificate(&'static str),
    /// The largest mean error over the bound of its expectation, in the norm and in the trace.
    Expectation { error: &'static str, bound: &'static str },
    /// The exponential rate at which the error falls.
    Rate(&'static str),
    /// The same of the error divided by ℓ: the bound of a Nyström sketch has a factor (ℓ − p)/(p − 1) before λ_{ℓ−p+1}, and the best p is
    /// about 1/r, whatever ℓ.
    RateByColumn(&'static str),
    /// Its exponent, on this matrix.
    Exponent(usize, &'static str),
    /// The smallest error on the flat spectrum.
    Flat(&'static str),
    /// Errors of sparse signs over those of Gaussian test matrices, on this matrix.
    Alike(usize),
}

impl SketchSize {
    /// Every claim with what it is about.
    fn questions(&self) -> Vec<(Question, Claim)> {
        let claim = |text: String, rule| Claim::new(Self::NAME, text, rule);
        let mut out = Vec::new();
        for (family, formula) in [(DIRECTIONS, "min over k of Σ_{j>k} λ_j/(ℓ + 1 − k)"), (ROBUST, "half of that")] {
            let text = format!("{family}: ‖F − F̂‖ above {formula}, any matrix, ℓ and replicate");
            out.push((Question::AboveBound(family), claim(text, Rule::NoViolation {})));
        }
        for family in SKETCHES {
            let text = format!("{family}: ‖F − F̂‖ above the sketch's own certificate, any matrix, ℓ and replicate");
            out.push((Question::AboveCertificate(family), claim(text, Rule::NoViolation {})));
        }
        for (what, error, bound) in [("‖F − F̂‖", "error", "bound"), ("tr(F − F̂)", "trace_error", "trace_bound")] {
            let text = format!("{GAUSSIAN}: mean {what} over the bound of its expectation, the largest of all matrices and ℓ");
            out.push((Question::Expectation { error, bound }, claim(text, Rule::AtMost { bound: 1.0 })));
        }
        let from = self.fit_from;
        for family in SKETCHES {
            let text = format!("exponential, {family}: slope of ln ‖F − F̂‖ by ℓ from ℓ = {from} on");
            let rule = Rule::SlopeWithin { predicted: -self.rate, tolerance: self.rate_tolerance * self.rate };
            out.push((Question::Rate(family), claim(text, rule)));
        }
        for (matrix, predicted) in [(HARMONIC, -1.0), (SQUARE, -2.0)] {
            for family in SKETCHES {
                let text = format!("{}, {family}: slope of log ‖F − F̂‖ by log ℓ from ℓ = {from} on", MATRICES[matrix]);
                let rule = Rule::SlopeWithin { predicted, tolerance: self.exponent_tolerance };
                out.push((Question::Exponent(matrix, family), claim(text, rule)));
            }
        }
        for family in [GAUSSIAN, SPARSE] {
            let text = format!("exponential, {family}: slope of ln(‖F − F̂‖/ℓ) by ℓ from ℓ = {from} on");
            let rule = Rule::SlopeWithin { predicted: -self.rate, tolerance: self.rate_tolerance * self.rate };
            out.push((Question::RateByColumn(family), claim(text, rule)));
        }
        for family in [DIRECTIONS, ROBUST] {
            let text = format!(
                "j⁻¹, {family}: slope of log ‖F − F̂‖ by log ℓ from ℓ = {from} on, beside that of the bound at d = {}",
                self.dim
            );
            let rule = Rule::SlopeWithin { predicted: self.slope_of_bound(HARMONIC, family), tolerance: self.exponent_tolerance };
            out.push((Question::Exponent(HARMONIC, family), claim(text, rule)));
        }
        for family in LOW_RANK {
            let text = format!("flat, {family}: smallest ‖F − F̂‖/‖F‖ of all ℓ < d");
            out.push((Question::Flat(family), claim(text, Rule::Agrees { predicted: 1.0, relative: FLAT_TOLERANCE })));
        }
        for matrix in COMPARED {
            let text =
                format!("{}: ‖F − F̂‖ with sparse signs over that with a Gaussian Ω, geometric mean over ℓ", MATRICES[matrix]);
            out.push((Question::Alike(matrix), claim(text, Rule::Agrees { predicted: 1.0, relative: ALIKE })));
        }
        out
    }

    /// The log-log slope of what theory gives beforehand, at the same ℓ; NaN, which decides nothing, for settings that are refused.
    fn slope_of_bound(&self, matrix: usize, family: &str) -> f64 {
        let eigenvalues = self.spectrum(matrix);
        let sizes: Vec<usize> = self.sizes.iter().copied().filter(|&size| size >= self.fit_from).collect();
        let bounds: Result<Vec<f64>> = sizes.iter().map(|&size| bound(family, &eigenvalues, size)).collect();
        let x: Vec<f64> = sizes.iter().map(|&size| size as f64).collect();
        bounds.and_then(|bounds| log_log_slope(&x, &bounds)).unwrap_or(f64::NAN)
    }

    fn answer(&self, question: Question, rows: &Table) -> Result<Measured> {
        let curves = |matrix: usize, family: &str| {
            let curves = Curves::read(rows, &[("matrix", MATRICES[matrix]), ("family", family)], "sketch_size", "error")?;
            Ok::<_, Error>(curves.between(self.fit_from as f64, f64::INFINITY))
        };
        match question {
            Question::AboveBound(family) => above(rows, family, "bound"),
            Question::AboveCertificate(family) => above(rows, family, "certificate"),
            Question::Expectation { error, bound } => largest_mean(rows, error, bound),
            Question::Rate(family) => rate(curves(EXPONENTIAL, family)?),
            Question::RateByColumn(family) => {
                let Curves { x, y } = curves(EXPONENTIAL, family)?;
                let by_column = |errors: &Vec<f64>| errors.iter().zip(&x).map(|(error, size)| error / size).collect();
                rate(Curves { y: y.iter().map(by_column).collect(), x })
            }
            Question::Exponent(matrix, family) => Ok(curves(matrix, family)?.slope()?.into()),
            Question::Flat(family) => {
                let flat = rows.filter("matrix", MATRICES[FLAT])?.filter("family", family)?;
                let errors = flat.numbers("error")?.into_iter().zip(flat.numbers("sketch_size")?);
                let smallest = errors.filter(|(_, size)| *size < self.dim as f64).map(|(error, _)| error);
                Ok(Measured::exactly(smallest.fold(f64::INFINITY, f64::min)))
            }
            Question::Alike(matrix) => {
                let (sparse, gaussian) = (curves(matrix, SPARSE)?, curves(matrix, GAUSSIAN)?);
                let ratio = |(one, other): (&Vec<f64>, &Vec<f64>)| {
                    one.iter().zip(other).map(|(a, b)| (a / b).ln()).sum::<f64>() / one.len() as f64
                };
                let logs: Vec<f64> = sparse.y.iter().zip(&gaussian.y).map(ratio).collect();
                let (mean, half) = mean_with_limits("replicates", &logs, CONFIDENCE)?;
                Ok(Measured { value: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() })
            }
        }
    }
}

/// The slope of ln y by x: the log-log slope against eˣ.
fn rate(curves: Curves) -> Result<Measured> {
    let exponentials = curves.x.iter().map(|size| size.exp()).collect();
    Ok(Curves { x: exponentials, ..curves }.slope()?.into())
}

/// Whether one number is at most the other: not where either is none.
fn is_at_most(value: f64, bound: f64) -> bool {
    value <= bound
}

/// How many errors of a family are above what this column says.
fn above(rows: &Table, family: &str, column: &str) -> Result<Measured> {
    let own = rows.filter("family", family)?;
    let pairs = own.numbers("error")?.into_iter().zip(own.numbers(column)?);
    let violations = pairs.filter(|(error, bound)| !is_at_most(*error, bound * (1.0 + ROUNDING) + ROUNDING)).count();
    Ok(Measured::exactly(violations as f64))
}

/// Of all matrices and ℓ of the Gaussian sketch the largest mean over its bound, by its upper limit.
fn largest_mean(rows: &Table, error: &str, bound: &str) -> Result<Measured> {
    let mut worst = Measured::exactly(0.0);
    for matrix in rows.filter("family", GAUSSIAN)?.distinct("matrix")? {
        let read = |column| Curves::read(rows, &[("matrix", &matrix), ("family", GAUSSIAN)], "sketch_size", column);
        let (errors, bounds) = (read(error)?, read(bound)?);
        for i in 0..errors.x.len() {
            let ratios: Vec<f64> = errors.at(i).iter().zip(bounds.at(i)).map(|(error, bound)| error / bound).collect();
            let (value, half) = mean_with_limits("replicates", &ratios, CONFIDENCE)?;
            if value + half > worst.high {
                worst = Measured { value, low: value - half, high: value + half };
            }
        }
    }
    Ok(worst)
}

/// How often each matrix was drawn, and why not where it was not.
fn matrices(rows: &Table) -> Result<Table> {
    let mut table = Table::new(["matrix", "replicates", "note"]);
    for matrix in MATRICES {
        let count = rows.filter("matrix", matrix)?.distinct("replicate")?.len();
        let note = if count > 0 { "" } else { "skipped: no folder of IDX files was given by --data or NHGD_DATA" };
        table.push([matrix, &count.to_string(), note])?;
    }
    Ok(table)
}

/// Certificate over error, with its quantiles over the replicates: `certificate` is the one that holds always, `probed` the one that may fail.
fn tightness(rows: &Table) -> Result<Table> {
    let mut table = Table::new(["matrix", "family", "certificate", "sketch_size", "median", "low", "high"]);
    for matrix in rows.distinct("matrix")? {
        let of_matrix = rows.filter("matrix", &matrix)?;
        for family in SKETCHES {
            let own = of_matrix.filter("family", family)?;
            for size in own.distinct("sketch_size")? {
                let at = own.filter("sketch_size", &size)?;
                for column in ["certificate", "probed"] {
                    let pairs = at.numbers(column)?.into_iter().zip(at.numbers("error")?);
                    let mut ratios: Vec<f64> = pairs.map(|(certificate, error)| certificate / error).collect();
                    ratios.sort_by(f64::total_cmp);
                    let (middle, last) = (ratios.len() / 2, ratios.len() - 1);
                    let names = [matrix.clone(), family.to_owned(), column.to_owned(), size.clone()];
                    table.push(names.into_iter().chain([ratios[middle], ratios[0], ratios[last]].map(cell)))?;
                }
            }
        }
    }
    Ok(table)
}

impl Experiment for SketchSize {
    fn validate(&self) -> Result<()> {
        if self.sizes.first().is_none_or(|&size| size == 0) || self.sizes.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Error::argument("sizes", "ascending counts of at least 1", format_args!("{:?}", self.sizes)));
        }
        let largest = self.sizes.last().copied().unwrap_or(0);
        if largest >= self.dim {
            return Err(Error::argument("dim", format_args!("more than the largest sketch size {largest}"), self.dim));
        }
        if self.rows < self.dim {
            return Err(Error::argument("rows", format_args!("at least dim = {}", self.dim), self.rows));
        }
        for (name, count) in [("replicates", self.replicates), ("image_replicates", self.image_replicates)] {
            if count < 2 {
                return Err(Error::argument(name, "at least 2 for limits", count));
            }
        }
        if self.sizes.iter().filter(|&&size| size >= self.fit_from).count() < 2 {
            return Err(Error::argument("fit_from", "at least 2 of the sizes from there on", self.fit_from));
        }
        check_count("image_samples", self.image_samples)?;
        for (name, number) in
            [("rate", self.rate), ("rate_tolerance", self.rate_tolerance), ("exponent_tolerance", self.exponent_tolerance)]
        {
            check_positive(name, number)?;
        }
        Ok(())
    }

    fn claims(&self) -> Vec<Claim> {
        self.questions().into_iter().map(|(_, claim)| claim).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &[
            "matrix",
            "family",
            "replicate",
            "sketch_size",
            "error",
            "frobenius_error",
            "trace_error",
            "certificate",
            "probed",
            "bound",
            "trace_bound",
            "best",
        ]
    }

    fn pieces(&self) -> usize {
        self.plan().len()
    }

    fn work(&self, piece: usize) -> u64 {
        // A decomposition of 30 d³ flops, or 40 products of 4nd flops, for each of about 5 sketches a size.
        let sketches = 5 * self.sizes.len() as u64;
        let cubed = |d: u64| d.pow(3) / 150;
        sketches
            * match MATRICES[self.plan()[piece].0] {
                "digits" => cubed(650),
                "images" => 500 * self.image_samples as u64,
                _ => cubed(self.dim as u64),
            }
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let sources = (0..MATRICES.len()).map(|matrix| self.source(matrix, bench)).collect::<Result<Vec<_>>>()?;
        let plan = self.plan();
        Ok(Box::new(move |piece| self.replicate(&sources[plan[piece].0], plan[piece], bench.key)))
    }

    fn measure(&self, _bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let measured = self.questions().into_iter().map(|(question, _)| self.answer(question, rows)).collect::<Result<_>>()?;
        let tables = [("matrices", matrices(rows)?), ("tightness", tightness(rows)?)];
        Ok(Findings { measured, tables: tables.map(|(stem, table)| (format!("{}-{stem}", Self::NAME), table)).into() })
    }

    fn pictures(&self) -> Vec<Picture> {
        let size = |matrix: usize| {
            let label = "ℓ (count)";
            if matrix == EXPONENTIAL { Axis::linear(label) } else { Axis::log(label) }
        };
        let errors = |matrix: usize| {
            let layer = |y: &str| Layer::new(Self::NAME, "sketch_size", y).only("matrix", MATRICES[matrix]);
            Panel {
                title: MATRICES[matrix].to_owned(),
                x: size(matrix),
                layers: vec![
                    layer("best").only("family", DIRECTIONS).theory().named("best of rank ℓ"),
                    layer("bound").by("family").theory().named("bound from the spectrum"),
                    layer("error").by("family").center(Center::Geometric).band(Band::Range).named("{family}"),
                ],
                verticals: Vec::new(),
            }
        };
        let tightness = |matrix: usize| {
            let table = format!("{}-tightness", Self::NAME);
            let layer = |certificate: &str| {
                let layer = Layer::new(&table, "sketch_size", "median").only("matrix", MATRICES[matrix]);
                layer.only("certificate", certificate).by("family")
            };
            Panel {
                title: MATRICES[matrix].to_owned(),
                x: Axis::log("sketch size ℓ (count)"),
                layers: vec![
                    layer("probed").theory().named("with probes, δ = 0.05"),
                    layer("certificate").band(Band::Columns("low".into(), "high".into())).named("{family}"),
                ],
                verticals: Vec::new(),
            }
        };
        let replicates = self.replicates;
        let picture = |file: &str, title: &str, y: Axis, panels: Vec<Panel>, caption: String| Picture {
            file: format!("{}{file}", Self::NAME),
            title: title.into(),
            caption,
            drawing: Drawing::Curves { y, panels },
        };
        let error = || Axis::log("‖F − F̂‖₂ / ‖F‖₂ (no unit)");
        let lines = "Geometric mean with a band from the smallest to the largest. Broken lines: the bound that the spectrum gives \
                     beforehand (always for Frequent Directions and its robust form, of the mean for a Gaussian Nyström sketch), and the \
                     next eigenvalue, which no F̂ of rank ℓ beats (the robust form, with its multiple of I, has full rank).";
        vec![
            picture(
                "",
                "Sketch error against sketch size, spectra known",
                error(),
                (0..4).map(errors).collect(),
                format!(
                    "Matrices with prescribed eigenvalues in random directions, d = {}, {} rows, {replicates} of each. {lines} The window \
                     holds the last ℓ rows. On the flat spectrum the diagonal is the matrix itself, and not shown.",
                    self.dim, self.rows
                ),
            ),
            picture(
                "-images",
                "Sketch error against sketch size, Fisher matrices of softmax regression",
                error(),
                (4..6).map(errors).collect(),
                format!(
                    "Left: the embedded digits, d = 650, 1,797 rows, {replicates} orders. Right: {} images of the folder given by --data \
                     (empty without one), {} orders; norms by {} Lanczos products, from below. {lines}",
                    self.image_samples,
                    self.image_replicates,
                    super::fisher_matrices::PRODUCTS
                ),
            ),
            picture(
                "-tightness",
                "How far a sketch's certificate is above its error",
                Axis::log("certificate / ‖F − F̂‖₂ (no unit)"),
                [SQUARE, FLAT, DIGITS].map(tightness).into(),
                format!(
                    "The half-width that a sketch certifies always (lines: median, band: smallest to largest of {replicates}) and, broken, \
                     with ℓ/4 probes and a probability of failure of at most {FAILURE}, which Nyström sketches carry."
                ),
            ),
        ]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Verdict;
    use crate::laboratory::memory::Memory;
    use crate::problem::DataSource;
    use std::time::Duration;

    fn small() -> SketchSize {
        SketchSize {
            sizes: vec![2, 4, 8],
            replicates: 2,
            dim: 40,
            rows: 80,
            fit_from: 2,
            steps: 1,
            ..SketchSize::sized(Size::Quick)
        }
    }

    /// Rows of the matrices with known spectra, whatever the images.
    fn rows(experiment: &SketchSize) -> Table {
        let mut table = Table::new(experiment.columns().iter().copied());
        for (matrix, replicate) in experiment.plan().into_iter().filter(|(matrix, _)| *matrix < 4) {
            let source = Source::Spectrum(experiment.spectrum(matrix));
            let rows = experiment.replicate(&source, (matrix, replicate), Key::new(1)).unwrap();
            rows.cells().iter().for_each(|row| table.push(row).unwrap());
        }
        table
    }

    #[test]
    fn an_error_above_its_bound_or_certificate_is_counted() {
        let experiment = small();
        let table = rows(&experiment);
        let count = |table: &Table, column| above(table, DIRECTIONS, column).unwrap().value;
        assert_eq!((count(&table, "bound"), count(&table, "certificate")), (0.0, 0.0));
        // Half of the certificate is wrong where the certificate is tight.
        let mut halved = Table::new(experiment.columns().iter().copied());
        for row in table.rows() {
            let mut row = row.clone();
            row[7] = cell(0.5 * row[7].parse::<f64>().unwrap());
            halved.push(row).unwrap();
        }
        let violations = above(&halved, DIRECTIONS, "certificate").unwrap();
        assert_eq!(Rule::NoViolation {}.verdict(violations), Verdict::Fails, "{violations:?}");
    }

    #[test]
    fn the_flat_spectrum_keeps_low_rank_at_one_and_the_exponential_rate_is_found() {
        let experiment = small();
        let table = rows(&experiment);
        for family in LOW_RANK {
            let flat = experiment.answer(Question::Flat(family), &table).unwrap().value;
            assert!((flat - 1.0).abs() < 1e-10, "{family}: {flat}");
        }
        let rate = experiment.answer(Question::Rate(DIRECTIONS), &table).unwrap().value;
        assert!((rate + experiment.rate).abs() < 0.3 * experiment.rate, "{rate}");
    }

    #[test]
    fn without_a_folder_the_images_are_skipped_and_the_record_says_so() {
        let experiment = small();
        let (source, clock) = (DataSource::default(), || Duration::ZERO);
        let bench = Bench { key: Key::new(1), source: &source, clock: &clock, memory: Memory::unknown() };
        let missing = experiment.source(IMAGES, bench).unwrap();
        assert_eq!(experiment.replicate(&missing, (IMAGES, 0), Key::new(1)).unwrap(), Rows::default());
        let note = matrices(&rows(&experiment)).unwrap().rows()[IMAGES].clone();
        assert!(note[1] == "0" && note[2].starts_with("skipped"), "{note:?}");
    }
}
