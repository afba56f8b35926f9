//! Bias by averaging. For a batch of B independent scores with mean m and E[s sᵀ] = F, the mean row scaled by √B (`corrected`) has
//! E[u uᵀ] = F + (B − 1)m mᵀ, and scaled as the mean that it is (`literal`, the paper's) 1/B of that. Scores have mean zero at the generating
//! parameter, and with labels drawn from the model everywhere; observed labels have none away from it. F and m are exact sums over the
//! population, which share nothing with the models' scores.

use super::{RankOne, Truth, timed};
use crate::bounds::{Claim, Measured, Rule};
use crate::curvature::{
    BatchScaling, CurvatureConfig, DenseConfig, FrequentDirectionsConfig, NystromConfig, RankOneConfig, RankOneSmoothedConfig,
    UpdateRows, WindowConfig,
};
use crate::dense::{dot, relative_error};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::experiments::replicates::{Curves, largest, mean};
use crate::laboratory::picture::{Axis, Band, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, Findings, Registered, Rows, cell};
use crate::model::{FisherKind, Weighted};
use crate::samples::Batch;

/// The part's name in the table.
const PART: &str = "bias";
/// The table of what is predicted.
const THEORY: &str = "rank-one-bias-theory";
/// β of both families: far below what the rows add, and above what rounding takes.
const BETA: f64 = 1e-6;
/// The largest relative difference between families that take one row a sample, β and sketch included, for sketches as large as d.
const SAME: f64 = 1e-4;
/// The half-width of the exponent of the literal scaling.
const SLOPE_TOLERANCE: f64 = 0.03;

/// Where scores are taken, and with which labels.
const PLACES: [(&str, FisherKind); 3] =
    [("generating θ", FisherKind::Empirical), ("θ = 0, observed", FisherKind::Empirical), ("θ = 0, drawn", FisherKind::Sampled)];
/// The reference: F itself, summed sample by sample.
const REFERENCE: &str = "dense";
/// The families that are fed one row a sample, the reference among them.
const PER_SAMPLE: [&str; 5] = [REFERENCE, "window", "nystrom", "frequent-directions", "rank-one, samples"];
/// Those that are fed means.
const AVERAGED: [(&str, BatchScaling); 4] = [
    ("rank-one, corrected", BatchScaling::Corrected),
    ("rank-one, literal", BatchScaling::Literal),
    ("smoothed, corrected", BatchScaling::Corrected),
    ("smoothed, literal", BatchScaling::Literal),
];

fn config(settings: &RankOne, estimator: &str, batch: usize) -> CurvatureConfig {
    let d = settings.softmax_width * settings.softmax_classes;
    let averaged = AVERAGED.into_iter().find(|(name, _)| *name == estimator);
    let rows = if averaged.is_some() { UpdateRows::BatchMean } else { UpdateRows::Samples };
    let batch_scaling = averaged.map_or(BatchScaling::Corrected, |(_, scaling)| scaling);
    match estimator {
        REFERENCE => CurvatureConfig::Dense(DenseConfig::default()),
        "window" => CurvatureConfig::Window(WindowConfig { samples: settings.batches * batch }),
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size: d, ..Default::default() }),
        "frequent-directions" => {
            CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size: d, ..Default::default() })
        }
        _ if estimator.starts_with("smoothed") => {
            let gamma = settings.bias_gamma;
            CurvatureConfig::RankOneSmoothed(RankOneSmoothedConfig { gamma, beta: BETA, rows, batch_scaling, ..Default::default() })
        }
        _ => CurvatureConfig::RankOne(RankOneConfig { beta: BETA, rows, batch_scaling, ..Default::default() }),
    }
}

fn estimators() -> impl Iterator<Item = &'static str> {
    PER_SAMPLE.into_iter().chain(AVERAGED.map(|(name, _)| name))
}

fn theta(truth: &Truth, place: usize) -> Vec<f64> {
    if place == 0 { truth.theta.clone() } else { vec![0.0; truth.theta.len()] }
}

/// tr E[u uᵀ] / tr F for the batch size B: (1 + (B − 1)‖m‖²/tr F)/B where the mean is taken literally.
fn predicted(truth: &Truth, place: usize, scaling: BatchScaling, batch: usize) -> Result<f64> {
    let (theta, kind) = (theta(truth, place), PLACES[place].1);
    // Drawn labels have scores of mean zero at every θ.
    let mean = if kind == FisherKind::Empirical { truth.population.gradient(&theta) } else { vec![0.0] };
    let corrected = 1.0 + (batch as f64 - 1.0) * dot(&mean, &mean) / truth.population.fisher(&theta, kind)?.trace();
    Ok(match scaling {
        BatchScaling::Corrected => corrected,
        BatchScaling::Literal => corrected / batch as f64,
    })
}

pub(super) fn pieces(settings: &RankOne) -> usize {
    settings.replicates
}

/// About 2 µs a sample and family.
pub(super) fn work(settings: &RankOne) -> u64 {
    let samples = settings.batches * settings.batch_sizes.iter().sum::<usize>();
    (2 * PLACES.len() * samples * PER_SAMPLE.len()) as u64
}

/// Every estimator at every place and batch size on one stream of samples: tr F̂/tr F, ‖F̂ − F‖/‖F‖, and the seconds of absorbing it.
pub(super) fn piece(settings: &RankOne, truth: &Truth, bench: Bench<'_>, replicate: usize) -> Result<Rows> {
    let mut rows = Rows::default();
    for (index, (place, kind)) in PLACES.into_iter().enumerate() {
        let theta = theta(truth, index);
        let fisher = truth.population.fisher(&theta, kind)?;
        for &batch in &settings.batch_sizes {
            let key = bench.key.named(PART).child(replicate as u64).named(place).child(batch as u64);
            let count = settings.batches * batch;
            let samples = truth.population.draw(count, key.named("samples"))?;
            let data = Weighted::ones(&samples, Batch::All);
            let scores = truth.population.model().scores(data, &theta, kind, key.named("labels"))?;
            let blocks: Vec<_> = (0..settings.batches).map(|i| scores.part(i * batch..(i + 1) * batch)).collect();
            for estimator in estimators() {
                let mut curvature = config(settings, estimator, batch).build(fisher.nrows(), key.named("sketch"))?;
                let absorb = || blocks.iter().try_for_each(|block| curvature.absorb(block));
                let ((), seconds) = timed(bench.clock, absorb)?;
                let estimate = curvature.approximate()?.to_dense()?;
                let error = relative_error(estimate.as_slice(), fisher.as_slice());
                let names = [PART.to_owned(), place.to_owned(), estimator.to_owned(), batch.to_string(), replicate.to_string()];
                let cells = names.into_iter().chain([estimate.trace() / fisher.trace(), error].map(cell));
                rows.push_timed(cells, seconds);
            }
        }
    }
    Ok(rows)
}

pub(super) fn claims(settings: &RankOne) -> Vec<Claim> {
    let largest = settings.batch_sizes.last().copied().unwrap_or_default();
    let agrees = Rule::Agrees { predicted: 1.0, relative: settings.tolerance };
    let mut claims = Vec::new();
    for (place, _) in PLACES {
        claims.push((format!("{place}: one row a sample, tr F̂ / tr F"), agrees));
        for (estimator, scaling) in AVERAGED {
            let formula = match scaling {
                BatchScaling::Corrected => "1 + (B − 1)‖m‖²/tr F",
                BatchScaling::Literal => "(1 + (B − 1)‖m‖²/tr F)/B",
            };
            claims.push((format!("{place}: {estimator}, B = {largest}, tr F̂ / tr F over {formula}"), agrees));
        }
    }
    let slope = Rule::SlopeWithin { predicted: -1.0, tolerance: SLOPE_TOLERANCE };
    claims.push((format!("{}: rank-one, literal: slope of log tr F̂ by log B", PLACES[0].0), slope));
    let same = "one row a sample: largest relative difference of tr F̂ from that of `dense`, all places, B and families".to_owned();
    claims.push((same, Rule::AtMost { bound: SAME }));
    claims.into_iter().map(|(claim, rule)| Claim::new(RankOne::NAME, claim, rule)).collect()
}

fn curves(rows: &Table, place: &str, estimator: &str) -> Result<Curves> {
    Curves::read(rows, &[("part", PART), ("case", place), ("estimator", estimator)], "x", "value")
}

pub(super) fn measure(settings: &RankOne, truth: &Truth, rows: &Table) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut theory = Table::new(["case", "estimator", "x", "value"]);
    let last = settings.batch_sizes.len() - 1;
    for (index, (place, _)) in PLACES.into_iter().enumerate() {
        findings.measured.push(mean(&curves(rows, place, REFERENCE)?.at(last))?);
        for (estimator, scaling) in AVERAGED {
            let prediction = predicted(truth, index, scaling, settings.batch_sizes[last])?;
            let ratios = curves(rows, place, estimator)?.at(last);
            findings.measured.push(mean(&ratios.iter().map(|ratio| ratio / prediction).collect::<Vec<_>>())?);
        }
        for (estimator, scaling) in &AVERAGED[..2] {
            for &batch in &settings.batch_sizes {
                let value = predicted(truth, index, *scaling, batch)?;
                theory.push([place.to_owned(), (*estimator).to_owned(), batch.to_string(), cell(value)])?;
            }
        }
    }
    findings.measured.push(curves(rows, PLACES[0].0, AVERAGED[1].0)?.slope()?.into());
    let mut differences = Vec::new();
    for (place, _) in PLACES {
        let reference = curves(rows, place, REFERENCE)?;
        for estimator in &PER_SAMPLE[1..] {
            let own = curves(rows, place, estimator)?;
            let pairs = own.y.iter().flatten().zip(reference.y.iter().flatten());
            differences.extend(pairs.map(|(own, reference)| (own / reference - 1.0).abs()));
        }
    }
    findings.measured.push(Measured::exactly(largest(differences)));
    findings.tables.push((THEORY.to_owned(), theory));
    Ok(findings)
}

pub(super) fn picture(settings: &RankOne) -> Picture {
    let panel = |(place, _): (&str, FisherKind)| {
        let measured = [REFERENCE, AVERAGED[0].0, AVERAGED[1].0].map(|estimator| {
            let layer = Layer::new(RankOne::NAME, "x", "value").only("part", PART).only("case", place).only("estimator", estimator);
            layer.by("estimator").band(Band::Quantiles(0.05, 0.95)).named(if estimator == REFERENCE {
                "one row a sample"
            } else {
                "{estimator}"
            })
        });
        let theory = Layer::new(THEORY, "x", "value").only("case", place).by("estimator").theory().named("predicted");
        Panel {
            title: place.to_owned(),
            x: Axis::log("batch size B (count)"),
            layers: std::iter::once(theory).chain(measured).collect(),
            verticals: Vec::new(),
        }
    };
    Picture {
        file: "rank-one-bias".into(),
        title: "What averaging a batch before squaring does to the estimate".into(),
        caption: format!(
            "tr F̂ over the exact tr F of the same labels, softmax, {} batches of B samples: mean of {} streams with a band from the 5 % \
             to the 95 % quantile. Corrected: the sum of the batch's rows over √B; literal: over B, the paper's. Broken lines: \
             1 + (B − 1)‖m‖²/tr F, and that over B, m the mean score, from exact sums. One row a sample: the family `dense`; window, \
             nystrom, frequent-directions and rank-one fed so lie on the same curve, and the smoothed updates (γ = {}) on those of \
             rank-one.",
            settings.batches, settings.replicates, settings.bias_gamma
        ),
        drawing: Drawing::Curves { y: Axis::log("tr F̂ / tr F (no unit)"), panels: PLACES.into_iter().map(panel).collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::axpy;
    use crate::laboratory::Size;
    use crate::laboratory::experiments::populations::{normal_points, softmax_law};
    use crate::rng::Key;

    /// Two independent samples, all their outcomes: tr E[(s + s')(s + s')ᵀ]/2 and /4 over tr E[s sᵀ], at θ = 0, scores written out.
    #[test]
    fn predictions_are_the_expectations_over_all_pairs() {
        let settings = RankOne { softmax_points: 5, ..RankOne::sized(Size::Quick) };
        let key = Key::new(7);
        let truth = settings.truth(key).unwrap();
        let (points, classes) = (normal_points(5, 4, key.named("points")), 3);
        let law = softmax_law(&points, &truth.theta).unwrap();
        let mut outcomes = Vec::new();
        for i in 0..5 {
            for class in 0..classes {
                let score: Vec<f64> = (0..classes)
                    .flat_map(|k| points.col(i).iter().map(move |x| x * (1.0 / 3.0 - f64::from(u8::from(k == class)))))
                    .collect();
                outcomes.push((law[(class, i)] / 5.0, score));
            }
        }
        let one: f64 = outcomes.iter().map(|(p, s)| p * dot(s, s)).sum();
        let mut pairs = 0.0;
        for (p, s) in &outcomes {
            for (q, t) in &outcomes {
                let mut sum = s.clone();
                axpy(1.0, t, &mut sum);
                pairs += p * q * dot(&sum, &sum);
            }
        }
        let found = |scaling| predicted(&truth, 1, scaling, 2).unwrap();
        assert!((found(BatchScaling::Corrected) - pairs / 2.0 / one).abs() < 1e-14);
        assert!((found(BatchScaling::Literal) - pairs / 4.0 / one).abs() < 1e-14);
        assert!(found(BatchScaling::Corrected) > 1.01, "the mean counts");
        // At the generating parameter, and with drawn labels, it does not.
        for place in [0, 2] {
            assert!((predicted(&truth, place, BatchScaling::Corrected, 64).unwrap() - 1.0).abs() < 1e-14);
        }
    }
}
