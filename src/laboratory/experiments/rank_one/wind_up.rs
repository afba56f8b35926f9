//! Wind-up. Softmax scores satisfy Σ_k δ_k = 0, so that no row points along x ⊗ 1, and there the inverse of Ĥ ← (1 − γ)Ĥ + γ s sᵀ,
//! Ĥ₀ = βI, grows as (1 − γ)^−k/β; what it grows by is rounding elsewhere. The paper's recursion, written out here and never watched, beside
//! the family, which forms its inverse anew once the trace has grown 1e8-fold; both against a solve in the range of the rows alone, which
//! stays well conditioned.

use super::{RankOne, Truth, timed};
use crate::bounds::{Claim, Measured, Rule, slope_with_limits};
use crate::curvature::{CurvatureConfig, RankOneSmoothedConfig};
use crate::dense::{Cholesky, Matrix, dot, matmul, matvec, relative_error};
use crate::error::{Result, Status};
use crate::experiment::record::Table;
use crate::inverse::KnownCurvature;
use crate::laboratory::experiments::replicates::{Curves, largest, mean};
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Findings, Registered, Rows, cell};
use crate::model::{FisherKind, Weighted};
use crate::samples::Batch;

/// The part's name in the table, and that of its rows that stand for an inverse formed anew.
const PART: &str = "wind-up";
const REBUILD: &str = "rebuild";
/// The table of the growth that is predicted.
const THEORY: &str = "rank-one-wind-up-theory";
/// What the family promises to allow tr P to grow by.
const WATCHED_GROWTH: f64 = 1e8;
/// Places at which growth and error are taken, before the inverse is first formed anew.
const PLACES: usize = 24;
/// The growth between which the slope of the unwatched error is fitted.
const FITTED: (f64, f64) = (1e3, 1e12);

/// The estimators: the recursion alone; the family, against the matrix whose inverse it keeps; and the family against Ĥ, which an inverse
/// formed anew differs from by the start that it is given back.
const UNWATCHED: &str = "never formed anew";
const WATCHED: &str = "watched";
const AGAINST_H: &str = "watched, against Ĥ without the returned start";

/// The first k at which the trace, (p/d)(1 − γ)^−k of its start but for what lies in the range of the rows, exceeds the limit: p of the
/// d = pC directions have no row.
fn first_rebuild(settings: &RankOne, gamma: f64) -> usize {
    ((WATCHED_GROWTH * settings.softmax_classes as f64).ln() / -(-gamma).ln_1p()).ceil() as usize
}

fn updates(settings: &RankOne, gamma: f64) -> usize {
    first_rebuild(settings, gamma) * (2 * settings.wind_ups + 1) / 2
}

pub(super) fn pieces(settings: &RankOne) -> usize {
    settings.gammas.len() * settings.wind_up_replicates
}

/// About 10 µs an update.
pub(super) fn work(settings: &RankOne, piece: usize) -> u64 {
    10 * updates(settings, settings.gammas[piece / settings.wind_up_replicates]) as u64
}

/// P ← P/(1 − γ) − γ y yᵀ/(1 + γ sᵀy) with y = Ps/(1 − γ), as it is printed.
fn recursion(p: &mut Matrix, gamma: f64, s: &[f64]) -> Result<()> {
    let y: Vec<f64> = matvec(&*p, s)?.iter().map(|y| y / (1.0 - gamma)).collect();
    let factor = gamma / (1.0 + gamma * dot(s, &y));
    *p = Matrix::from_fn(s.len(), s.len(), |i, j| p[(i, j)] / (1.0 - gamma) - factor * y[i] * y[j]);
    Ok(())
}

/// An orthonormal basis of the contrasts between classes for every feature (Helmert's, Kronecker the unit vectors): the range of the rows.
fn contrasts(width: usize, classes: usize) -> Matrix {
    Matrix::from_fn(width * classes, width * (classes - 1), |row, column| {
        let (class, contrast) = (row / width, column / width + 1);
        let scale = ((contrast * (contrast + 1)) as f64).sqrt();
        match class.cmp(&contrast) {
            _ if row % width != column % width => 0.0,
            std::cmp::Ordering::Less => 1.0 / scale,
            std::cmp::Ordering::Equal => -(contrast as f64) / scale,
            std::cmp::Ordering::Greater => 0.0,
        }
    })
}

/// (S + start·I)⁻¹b for a b in the range of the basis V, which is invariant: V(VᵀSV + start·I)⁻¹Vᵀb.
fn solve_in_range(sum: &Matrix, start: f64, basis: &Matrix, b: &[f64]) -> Result<Vec<f64>> {
    let mut core = matmul(basis.t(), &matmul(sum, basis)?)?;
    (0..core.nrows()).for_each(|i| core[(i, i)] += start);
    matvec(basis, &Cholesky::new(core)?.solve(&matvec(basis.t(), b)?)?)
}

pub(super) fn piece(settings: &RankOne, truth: &Truth, bench: Bench<'_>, piece: usize) -> Result<Rows> {
    let (gamma, replicate) = (settings.gammas[piece / settings.wind_up_replicates], piece % settings.wind_up_replicates);
    let key = bench.key.named(PART).named(&gamma.to_string()).child(replicate as u64);
    let (width, classes, count) = (settings.softmax_width, settings.softmax_classes, updates(settings, gamma));
    let d = width * classes;
    let samples = truth.population.draw(count, key.named("samples"))?;
    let data = Weighted::ones(&samples, Batch::All);
    let scores = truth.population.model().scores(data, &truth.theta, FisherKind::Sampled, key.named("labels"))?;

    let basis = contrasts(width, classes);
    let b = matvec(&basis, &key.named("right-hand side").stream().normals(basis.ncols()))?;
    // e_0 ⊗ 1/√C: no row points there.
    let unseen: Vec<f64> = (0..d).map(|i| if i % width == 0 { (classes as f64).sqrt().recip() } else { 0.0 }).collect();
    let none = KnownCurvature::scalar(d, 0.0)?;

    let beta = settings.start;
    let config = RankOneSmoothedConfig { gamma, beta, ..Default::default() };
    let mut curvature = CurvatureConfig::RankOneSmoothed(config).build(d, key)?;
    let mut literal = Matrix::identity(d);
    literal.scale(1.0 / beta);
    let mut sum = Matrix::zeros(d, d);
    let (mut faded, mut given_back) = (beta, beta);

    let mut rows = Rows::default();
    let mut push = |part: &str, estimator: &str, x: usize, value: f64, error: f64, seconds: f64| {
        let names = [part.to_owned(), gamma.to_string(), estimator.to_owned(), x.to_string(), replicate.to_string()];
        rows.push_timed(names.into_iter().chain([value, error].map(cell)), seconds);
    };
    let (mut rebuilt_at, mut rebuilds) = (0, 0);
    for k in 1..=count {
        let block = scores.part(k - 1..k);
        let row = block.expand(0..1)?.into_vec();
        let before = curvature.status();
        let ((), seconds) = timed(bench.clock, || curvature.absorb(&block))?;
        let ((), literal_seconds) = timed(bench.clock, || recursion(&mut literal, gamma, &row))?;
        sum = Matrix::from_fn(d, d, |i, j| (1.0 - gamma) * sum[(i, j)] + gamma * row[i] * row[j]);
        faded *= 1.0 - gamma;
        given_back *= 1.0 - gamma;
        let status = curvature.status();
        if let (true, Status::WindUp { growth, .. }) = (status != before, status) {
            rebuilds += 1;
            push(REBUILD, WATCHED, rebuilds, (k - rebuilt_at) as f64, growth, seconds);
            (rebuilt_at, given_back) = (k, beta);
        }
        if !k.is_multiple_of(first_rebuild(settings, gamma).div_ceil(PLACES)) {
            continue;
        }
        let growth = |inverse: &[f64]| beta * dot(&unseen, inverse);
        let exact = solve_in_range(&sum, faded, &basis, &b)?;
        let found = matvec(&literal, &b)?;
        push(PART, UNWATCHED, k, growth(&matvec(&literal, &unseen)?), relative_error(&found, &exact), literal_seconds);
        let approximation = curvature.approximate()?;
        let (found, grown) = (approximation.solve(&none, &b)?, growth(&approximation.solve(&none, &unseen)?));
        let own = solve_in_range(&sum, given_back, &basis, &b)?;
        push(PART, WATCHED, k, grown, relative_error(&found, &own), seconds);
        push(PART, AGAINST_H, k, grown, relative_error(&found, &exact), seconds);
    }
    Ok(rows)
}

/// A claim about exact algebra: what is left is rounding.
const EXACT: f64 = 1e-6;
/// What the limit leaves of an inverse product in the range of the rows.
const WATCHED_ERROR: f64 = 1e-5;

pub(super) fn claims(settings: &RankOne) -> Vec<Claim> {
    let agrees = |relative| Rule::Agrees { predicted: 1.0, relative };
    let mut claims = Vec::new();
    for gamma in &settings.gammas {
        claims.push((format!("wind-up, γ = {gamma}: growth of log P a step where no row points, over −log(1 − γ)"), agrees(EXACT)));
        claims.push((format!("wind-up, γ = {gamma}: updates between rebuilds over ⌈log(1e8 d/p)/−log(1 − γ)⌉"), agrees(0.02)));
    }
    let (from, to) = FITTED;
    let slope = Rule::SlopeWithin { predicted: 1.0, tolerance: 0.1 };
    let least = settings.gammas.iter().copied().fold(f64::INFINITY, f64::min);
    let error = format!("wind-up, γ = {least}: slope of log error of the unwatched inverse by log growth, {from:e} to {to:e}");
    claims.push((error, slope));
    let reported = "wind-up: growths reported outside 1e8 to 1e8/(1 − γ)";
    claims.push((reported.to_owned(), Rule::NoViolation {}));
    let watched = "wind-up: largest relative error of the watched inverse of its own matrix, all γ".to_owned();
    claims.push((watched, Rule::AtMost { bound: WATCHED_ERROR }));
    claims.into_iter().map(|(claim, rule)| Claim::new(RankOne::NAME, claim, rule)).collect()
}

fn curves(rows: &Table, gamma: f64, estimator: &str, y: &str) -> Result<Curves> {
    Curves::read(rows, &[("part", PART), ("case", &gamma.to_string()), ("estimator", estimator)], "x", y)
}

pub(super) fn measure(settings: &RankOne, rows: &Table) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut theory = Table::new(["case", "x", "value"]);
    let mut strange = 0;
    for &gamma in &settings.gammas {
        let predicted = first_rebuild(settings, gamma);
        let rate = -(-gamma).ln_1p();
        let growth = curves(rows, gamma, WATCHED, "value")?.between(1.0, predicted as f64 - 1.0);
        // From β onwards, at the last place before the inverse is formed anew.
        let place = growth.x.len() - 1;
        let rates: Vec<f64> = growth.at(place).iter().map(|grown| grown.ln() / growth.x[place] / rate).collect();
        findings.measured.push(mean(&rates)?);

        let rebuilds = rows.filter("part", REBUILD)?.filter("case", &gamma.to_string())?;
        let intervals = |replicate: usize| -> Result<f64> {
            let own = rebuilds.filter("replicate", &replicate.to_string())?.numbers("value")?;
            Ok(own.iter().sum::<f64>() / own.len() as f64 / predicted as f64)
        };
        findings.measured.push(mean(&(0..settings.wind_up_replicates).map(intervals).collect::<Result<Vec<_>>>()?)?);
        let allowed = WATCHED_GROWTH..=WATCHED_GROWTH / (1.0 - gamma) * (1.0 + EXACT);
        strange += rebuilds.numbers("error")?.iter().filter(|growth| !allowed.contains(growth)).count();

        for k in curves(rows, gamma, UNWATCHED, "value")?.x {
            theory.push([gamma.to_string(), cell(k), cell((rate * k).exp())])?;
        }
    }
    let least = settings.gammas.iter().copied().fold(f64::INFINITY, f64::min);
    let rate = -(-least).ln_1p();
    let errors = curves(rows, least, UNWATCHED, "error")?.between(FITTED.0.ln() / rate, FITTED.1.ln() / rate);
    let growth: Vec<f64> = errors.x.iter().map(|k| (rate * k).exp()).collect();
    findings.measured.push(slope_with_limits(&growth, &errors.y, CONFIDENCE)?.into());
    findings.measured.push(Measured::exactly(strange as f64));
    let watched = rows.filter("part", PART)?.filter("estimator", WATCHED)?.numbers("error")?;
    findings.measured.push(Measured::exactly(largest(watched)));
    findings.tables.push((THEORY.to_owned(), theory));
    Ok(findings)
}

fn panels(settings: &RankOne, layers: impl Fn(&str) -> Vec<Layer>) -> Vec<Panel> {
    // The largest and the least γ: what lies between looks alike.
    let mut shown: Vec<f64> = settings.gammas.clone();
    shown.sort_by(|a, b| b.total_cmp(a));
    shown.dedup();
    shown.drain(1..shown.len().max(2) - 1);
    let panel = |gamma: f64| Panel {
        title: format!("γ = {gamma}"),
        x: Axis::linear("updates k (count)"),
        layers: layers(&gamma.to_string()),
        verticals: vec![(first_rebuild(settings, gamma) as f64, String::new())],
    };
    shown.into_iter().map(panel).collect()
}

fn layer(gamma: &str, estimator: &str, y: &str) -> Layer {
    let layer = Layer::new(RankOne::NAME, "x", y).only("part", PART).only("case", gamma).only("estimator", estimator);
    layer.by("estimator").center(Center::Geometric).band(Band::Range).named("{estimator}")
}

pub(super) fn growth_picture(settings: &RankOne) -> Picture {
    let layers = |gamma: &str| {
        let theory = Layer::new(THEORY, "x", "value").only("case", gamma).theory().named("(1 − γ)^−k");
        vec![theory, layer(gamma, UNWATCHED, "value"), layer(gamma, WATCHED, "value")]
    };
    Picture {
        file: "rank-one-wind-up".into(),
        title: "The smoothed inverse where no row points".into(),
        caption: format!(
            "β eᵀĤ⁻¹e along a direction e = x ⊗ 1 that softmax scores never have, geometric mean of {} streams, β = {}. The paper's \
             recursion as printed beside the family that forms its inverse anew once the trace has grown 1e8-fold; dotted: where that is predicted.",
            settings.wind_up_replicates, settings.start
        ),
        drawing: Drawing::Curves { y: Axis::log("growth (no unit)"), panels: panels(settings, layers) },
    }
}

pub(super) fn error_picture(settings: &RankOne) -> Picture {
    let layers = |gamma: &str| [UNWATCHED, WATCHED, AGAINST_H].map(|estimator| layer(gamma, estimator, "error")).to_vec();
    Picture {
        file: "rank-one-wind-up-error".into(),
        title: "What wind-up does to inverse products in the range of the rows".into(),
        caption: format!(
            "Relative error of Ĥ⁻¹b, b in the range of the rows, against a solve in that range alone: geometric mean of {} streams with a \
             band from the smallest to the largest. Watched: against the matrix whose inverse is kept, and against Ĥ itself, from which \
             it differs by the start β = {} that an inverse formed anew is given back and then forgets. \
             Dotted: where a growth of 1e8 is predicted.",
            settings.wind_up_replicates, settings.start
        ),
        drawing: Drawing::Curves { y: Axis::log("relative error of Ĥ⁻¹b (no unit)"), panels: panels(settings, layers) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::gram;
    use crate::laboratory::Size;
    use crate::rng::Key;

    #[test]
    fn the_basis_is_orthonormal_and_spans_what_softmax_scores_span() {
        let (width, classes) = (4, 3);
        let basis = contrasts(width, classes);
        assert!(relative_error(matmul(basis.t(), &basis).unwrap().as_slice(), Matrix::identity(8).as_slice()) < 1e-15);
        let truth = RankOne::sized(Size::Quick).truth(Key::new(1)).unwrap();
        let samples = truth.population.draw(20, Key::new(2)).unwrap();
        let data = Weighted::ones(&samples, Batch::All);
        let rows = truth.population.model().scores(data, &truth.theta, FisherKind::Sampled, Key::new(3)).unwrap();
        let rows = rows.expand(0..20).unwrap();
        let back = matmul(&basis, &matmul(basis.t(), &rows).unwrap()).unwrap();
        assert!(relative_error(back.as_slice(), rows.as_slice()) < 1e-14);
    }

    #[test]
    fn the_recursion_inverts_the_smoothed_matrix_and_so_does_the_solve_in_the_range() {
        let (d, gamma) = (6, 0.1);
        let basis = contrasts(2, 3);
        let mut stream = Key::new(4).stream();
        let (mut p, mut h) = (Matrix::identity(d), Matrix::identity(d));
        for _ in 0..10 {
            let s = matvec(&basis, &stream.normals(4)).unwrap();
            recursion(&mut p, gamma, &s).unwrap();
            h = Matrix::from_fn(d, d, |i, j| (1.0 - gamma) * h[(i, j)] + gamma * s[i] * s[j]);
        }
        assert!(relative_error(matmul(&h, &p).unwrap().as_slice(), Matrix::identity(d).as_slice()) < 1e-13);
        let b = matvec(&basis, &stream.normals(4)).unwrap();
        assert!(relative_error(&solve_in_range(&h, 0.0, &basis, &b).unwrap(), &matvec(&p, &b).unwrap()) < 1e-13);
        assert!(gram(&basis).trace() > 3.9);
    }
}
