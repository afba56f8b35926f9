//! The error of each estimator at θ*(v), no damping, all data in b and in the cross product, so that only the estimate of H⁻¹b differs. To
//! first order in F_n − F the error of an estimate from n fresh rows is Jᵀ H⁻¹(F_n − F)q, so that on the quadratic problem, where the
//! labels' moments are known, n E‖ĥ − ∇Φ‖² tends to a constant that is a sum over the samples.

use super::{Hypergradients, PROBLEMS, Row, Subject, since};
use crate::bilevel::{self, Sampling};
use crate::bounds::{Claim, Measured, Rule};
use crate::curvature::{CurvatureConfig, DenseConfig, FrequentDirectionsConfig, NystromConfig, WindowConfig};
use crate::dense::{Cholesky, dot, matmul, matvec, norm, relative_error};
use crate::error::{Error, Result};
use crate::experiment::hypergradient_errors::{Config, Estimate, Reference};
use crate::experiment::record::Table;
use crate::inverse::{NeumannStep, SolveOptions};
use crate::laboratory::experiments::replicates::{Curves, largest, mean};
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, Findings, Registered, Rows, cell};
use crate::model::FisherKind;
use crate::samples::Batch;

/// The parts' names in the table.
const BY_ROWS: &str = "rows";
const BY_PRODUCTS: &str = "products";
/// The table of what is predicted.
const THEORY: &str = "hypergradient-theory";
/// The family without a sketch, which every stream of rows is measured with.
const REFERENCE: &str = "dense";
/// What families of full size may differ by, in errors relative to each other.
const SAME: f64 = 1e-6;
/// How far the constant of the sampling error may be off.
const CONSTANT_TOLERANCE: f64 = 0.25;
/// How far the error of observed labels may be off their bias.
const BIAS_TOLERANCE: f64 = 0.1;
/// What a dense solve or conjugate gradients that have converged may err by.
const CLOSED_FORM: f64 = 1e-9;
/// Hessian products after which conjugate gradients have converged on the quadratic problem, a product a dimension and half as many again.
const CONVERGED: usize = 30;

fn families(samples: usize, sketch_size: usize) -> [CurvatureConfig; 4] {
    [
        CurvatureConfig::Dense(DenseConfig::default()),
        CurvatureConfig::Window(WindowConfig { samples }),
        CurvatureConfig::Nystrom(NystromConfig { sketch_size, ..Default::default() }),
        CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size, ..Default::default() }),
    ]
}

/// The three tables: the reference on many streams, every other family on a few of the same, and data cleaning.
fn configs(settings: &Hypergradients) -> [Config; 3] {
    let most = |rows: &[usize]| rows.last().copied().unwrap_or(1);
    let quadratic = families(most(&settings.rows), settings.quadratic.inner_dim);
    let base = Config { rows: settings.rows.clone(), products: settings.cg_products.clone(), ..Default::default() };
    [
        Config { repetitions: settings.replicates as u64, curvatures: quadratic[..1].to_vec(), ..base.clone() },
        Config { repetitions: settings.family_replicates as u64, curvatures: quadratic[1..].to_vec(), ..base.clone() },
        Config {
            rows: settings.cleaning_rows.clone(),
            repetitions: settings.cleaning_replicates as u64,
            curvatures: families(most(&settings.cleaning_rows), settings.sketch_size).to_vec(),
            ..base
        },
    ]
}

/// The pieces of each table, conjugate gradients on a problem once, and Neumann's series on each problem.
fn shares(settings: &Hypergradients) -> [usize; 4] {
    let [reference, others, cleaning] = configs(settings).map(|config| config.work() as usize);
    [reference, others - 1, cleaning, PROBLEMS.len()]
}

pub(super) fn pieces(settings: &Hypergradients) -> usize {
    shares(settings).iter().sum()
}

/// About 0.3 µs a row of the quadratic problem, 60 µs a row of digits and their solves.
pub(super) fn work(settings: &Hypergradients, piece: usize) -> u64 {
    let [reference, others, cleaning, _] = shares(settings);
    let most = |rows: &[usize]| rows.last().copied().unwrap_or(1) as u64;
    match piece {
        _ if piece < reference + others => most(&settings.rows) / 3,
        _ if piece < reference + others + cleaning => 60 * most(&settings.cleaning_rows) + 300_000,
        _ => 500_000,
    }
}

pub(super) fn piece(settings: &Hypergradients, subjects: &[Subject; 2], bench: Bench<'_>, piece: usize) -> Result<Rows> {
    let [reference, others, cleaning, _] = shares(settings);
    let [first, second, third] = configs(settings);
    match piece {
        _ if piece < reference => by_reference(&subjects[0], &first, piece, bench),
        // Piece 0 of any table is conjugate gradients.
        _ if piece < reference + others => by_reference(&subjects[0], &second, piece - reference + 1, bench),
        _ if piece < reference + others + cleaning => by_reference(&subjects[1], &third, piece - reference - others, bench),
        _ => neumann(settings, &subjects[piece - reference - others - cleaning], bench),
    }
}

fn by_reference(subject: &Subject, config: &Config, piece: usize, bench: Bench<'_>) -> Result<Rows> {
    let reference = Reference::at(subject.problem.as_ref(), config, subject.key.named("errors"), subject.point.clone())?;
    let mut rows = Rows::default();
    for Estimate { cells, seconds } in reference.estimates(piece as u64, bench.clock)? {
        let [estimator, curvature, fisher, unit, budget, repetition, error] = cells;
        let estimator = if curvature.is_empty() { estimator } else { curvature };
        let names = [unit, subject.name.to_owned(), estimator, fisher, String::new(), String::new()];
        rows.push_timed(names.into_iter().chain([budget, repetition, error, cell(f64::NAN)]), seconds);
    }
    Ok(rows)
}

fn neumann(settings: &Hypergradients, subject: &Subject, bench: Bench<'_>) -> Result<Rows> {
    let (problem, point) = (subject.problem.as_ref(), &subject.point);
    let mut rows = Rows::default();
    for &products in &settings.neumann_products {
        let options = SolveOptions { tolerance: 1e-15, max_iterations: products };
        let begun = (bench.clock)();
        let found = bilevel::neumann(problem, &point.v, &point.theta, Sampling::default(), options, NeumannStep::default())?;
        let row = Row {
            part: BY_PRODUCTS,
            problem: subject.name,
            estimator: "neumann",
            fisher: "",
            setting: "",
            quantity: "",
            x: found.products,
            replicate: 0,
            value: relative_error(&found.value, &point.hypergradient),
            bound: f64::NAN,
        };
        row.push(&mut rows, since(bench, begun));
    }
    Ok(rows)
}

pub(super) fn claims(settings: &Hypergradients) -> Vec<Claim> {
    let mut claims = Vec::new();
    for kind in FisherKind::ALL {
        let predicted = if kind == FisherKind::Empirical { 0.0 } else { -0.5 };
        let wrong = if kind == FisherKind::Empirical { " (a wrong parameter)" } else { "" };
        let claim =
            format!("quadratic, {}{wrong}: slope of log error by log rows from n = {} on", kind.name(), settings.slope_from);
        claims.push((claim, Rule::SlopeWithin { predicted, tolerance: settings.tolerance }));
    }
    for kind in [FisherKind::Sampled, FisherKind::Expected] {
        let claim = format!("quadratic, {}: n E‖ĥ − ∇Φ‖² over its first-order constant, at the largest n", kind.name());
        claims.push((claim, Rule::Agrees { predicted: 1.0, relative: CONSTANT_TOLERANCE }));
    }
    let bias = "quadratic, empirical: error at the largest n over that of all rows' observed labels".to_owned();
    claims.push((bias, Rule::Agrees { predicted: 1.0, relative: BIAS_TOLERANCE }));
    let same = "quadratic: largest relative difference of an error from that of `dense`, families of full size".to_owned();
    claims.push((same, Rule::AtMost { bound: SAME }));
    claims.push(("quadratic: error of `exact` against the closed form".to_owned(), Rule::AtMost { bound: CLOSED_FORM }));
    let cg = format!("quadratic: error of `cg` from {CONVERGED} products on against the closed form");
    claims.push((cg, Rule::AtMost { bound: CLOSED_FORM }));
    claims.into_iter().map(|(claim, rule)| Claim::new(Hypergradients::NAME, claim, rule)).collect()
}

/// lim n E‖ĥ − ∇Φ‖²/‖∇Φ‖² of the quadratic problem: with e_i = JᵀH⁻¹x_i · x_iᵀq over its samples, m₄ · mean ‖e_i‖² − ‖mean e_i‖², where
/// m₄ = E δ⁴ is 3 for labels drawn from a Gaussian of unit variance and 1 for their expectation.
fn constant(subject: &Subject, kind: FisherKind) -> Result<f64> {
    let (problem, point) = (subject.problem.as_ref(), &subject.point);
    let (v, theta) = (&point.v, &point.theta);
    let missing = || Error::unsupported("a problem without the columns of its J", "take the quadratic problem");
    let columns = problem.cross_rows(v, theta)?.ok_or_else(missing)?;
    let factor = Cholesky::new(problem.hessian(v, theta)?)?;
    let mut solved = columns.expand(0..columns.rows())?;
    factor.solve_in_place(&mut solved)?;
    let q = factor.solve(&problem.grad_outer(v, theta, Batch::All)?.theta)?;
    let x = problem.scores(v, theta, Batch::All, FisherKind::Expected, subject.key)?;
    let x = x.expand(0..x.rows())?;
    let mut e = matmul(solved.t(), &x)?;
    for i in 0..x.ncols() {
        let inner = dot(x.col(i), &q);
        e.col_mut(i).iter_mut().for_each(|e| *e *= inner);
    }
    let n = x.ncols() as f64;
    let mean = norm(&matvec(&e, &vec![1.0 / n; x.ncols()])?);
    let fourth = if kind == FisherKind::Expected { 1.0 } else { 3.0 };
    Ok((fourth * e.norm().powi(2) / n - mean * mean) / norm(&point.hypergradient).powi(2))
}

/// The relative error of an estimate from all samples with this kind, which no number of fresh rows removes.
fn bias(subject: &Subject, kind: FisherKind) -> Result<f64> {
    let (problem, point) = (subject.problem.as_ref(), &subject.point);
    let mut all = CurvatureConfig::Dense(DenseConfig::default()).build(problem.inner_dim(), subject.key)?;
    all.absorb(&problem.scores(&point.v, &point.theta, Batch::All, kind, subject.key)?)?;
    let found = bilevel::nhgd(problem, &point.v, &point.theta, Sampling::default(), all.approximate()?.as_ref(), 0.0)?;
    Ok(relative_error(&found.value, &point.hypergradient))
}

fn curves(rows: &Table, problem: &str, family: &str, kind: FisherKind) -> Result<Curves> {
    let only = [("part", BY_ROWS), ("problem", problem), ("estimator", family), ("fisher", kind.name())];
    Curves::read(rows, &only, "x", "value")
}

pub(super) fn measure(settings: &Hypergradients, subjects: &[Subject; 2], rows: &Table) -> Result<Findings> {
    let mut findings = Findings::default();
    let from = settings.slope_from as f64;
    let quadratic = |kind| curves(rows, PROBLEMS[0], REFERENCE, kind);
    let last = settings.rows.len() - 1;
    for kind in FisherKind::ALL {
        findings.measured.push(quadratic(kind)?.between(from, f64::INFINITY).slope()?.into());
    }
    let mut theory = Table::new(["problem", "fisher", "x", "value"]);
    for kind in [FisherKind::Sampled, FisherKind::Expected] {
        let constant = constant(&subjects[0], kind)?;
        let own = quadratic(kind)?;
        let ratios: Vec<f64> = own.at(last).iter().map(|error| own.x[last] * error * error / constant).collect();
        findings.measured.push(mean(&ratios)?);
        for n in own.x {
            theory.push([PROBLEMS[0].to_owned(), kind.name().to_owned(), cell(n), cell((constant / n).sqrt())])?;
        }
    }
    for (subject, counts) in subjects.iter().zip([&settings.rows, &settings.cleaning_rows]) {
        let kind = FisherKind::Empirical;
        let floor = bias(subject, kind)?;
        for n in counts {
            theory.push([subject.name.to_owned(), kind.name().to_owned(), n.to_string(), cell(floor)])?;
        }
    }
    let floor = bias(&subjects[0], FisherKind::Empirical)?;
    let ratios: Vec<f64> = quadratic(FisherKind::Empirical)?.at(last).iter().map(|error| error / floor).collect();
    findings.measured.push(mean(&ratios)?);

    let mut differences = Vec::new();
    for kind in FisherKind::ALL {
        let reference = quadratic(kind)?;
        for family in ["window", "nystrom", "frequent-directions"] {
            let own = curves(rows, PROBLEMS[0], family, kind)?;
            // The first streams of the reference are theirs.
            let pairs = own.y.iter().flatten().zip(reference.y.iter().flatten());
            differences.extend(pairs.map(|(own, reference)| (own / reference - 1.0).abs()));
        }
    }
    findings.measured.push(Measured::exactly(largest(differences)));
    let solved = rows.filter("part", BY_PRODUCTS)?.filter("problem", PROBLEMS[0])?;
    findings.measured.push(Measured::exactly(largest(solved.filter("estimator", "exact")?.numbers("value")?)));
    let cg = solved.filter("estimator", "cg")?;
    let converged = cg.numbers("x")?.into_iter().zip(cg.numbers("value")?).filter(|(x, _)| *x >= CONVERGED as f64);
    findings.measured.push(Measured::exactly(largest(converged.map(|(_, error)| error))));
    findings.tables.push((THEORY.to_owned(), theory));
    Ok(findings)
}

const ERROR: &str = "‖ĥ − ∇Φ‖ / ‖∇Φ‖ (no unit)";

pub(super) fn pictures(settings: &Hypergradients) -> Vec<Picture> {
    let rows = |problem: &str| {
        Layer::new(Hypergradients::NAME, "x", "value")
            .only("part", BY_ROWS)
            .only("problem", problem)
            .center(Center::RootMeanSquare)
            .band(Band::Quantiles(0.05, 0.95))
    };
    let kinds = |problem: &str, theory: &str| Panel {
        title: problem.to_owned(),
        x: Axis::log("rows n (count)"),
        layers: vec![
            Layer::new(THEORY, "x", "value").only("problem", problem).by("fisher").theory().named(theory),
            rows(problem).only("estimator", REFERENCE).by("fisher").named("{fisher}"),
        ],
        verticals: if problem == PROBLEMS[0] { vec![(settings.slope_from as f64, "fit from here".into())] } else { Vec::new() },
    };
    let by_kind = Picture {
        file: "hypergradient-rows".into(),
        title: "Error of the hypergradient against rows".into(),
        caption: format!(
            "At θ*(v), no damping, fresh rows, the matrix itself (`dense`): root mean square of {} streams (digits: {}) with a band from \
             the 5 % to the 95 % quantile. Broken lines: √(C/n), C a sum over the samples, first order in F_n − F (quadratic, sampled and \
             expected); the error of all samples' observed labels (empirical).",
            settings.replicates, settings.cleaning_replicates
        ),
        drawing: Drawing::Curves { y: Axis::log(ERROR), panels: PROBLEMS.map(|problem| kinds(problem, "predicted")).to_vec() },
    };

    let digits = PROBLEMS[1];
    let family = |kind: FisherKind| Panel {
        title: kind.name().to_owned(),
        x: Axis::log("rows n (count)"),
        layers: vec![rows(digits).only("fisher", kind.name()).by("estimator").named("{estimator}")],
        verticals: Vec::new(),
    };
    let by_family = Picture {
        file: "hypergradient-families".into(),
        title: "Families on data cleaning".into(),
        caption: format!(
            "As before on digits, d = 650, by family and Fisher kind; sketches with ℓ = {}. Without damping, all that a sketch leaves out is \
             taken for zero beside a ridge of {}.",
            settings.sketch_size, settings.cleaning.ridge
        ),
        drawing: Drawing::Curves { y: Axis::log(ERROR), panels: FisherKind::ALL.map(family).to_vec() },
    };

    // One stream: seconds differ from one to the next.
    let all = |part: &str, problem: &str, x: &str| {
        let layer = Layer::new(Hypergradients::NAME, x, "value").only("part", part).only("problem", problem);
        layer.only("replicate", "0").by("estimator").named("{estimator}")
    };
    let products = |problem: &str| Panel {
        title: problem.to_owned(),
        x: Axis::log("products (count)"),
        layers: vec![all(BY_PRODUCTS, problem, "x")],
        verticals: Vec::new(),
    };
    let by_cost = Picture {
        file: "hypergradient-cost".into(),
        title: "Error of the hypergradient against what it costs".into(),
        caption: "At θ*(v), no damping, one stream. Left and middle: estimators with exact Hessian products, each a pass over all data; on \
                  digits `exact` is itself the reference. Right: all estimators against seconds on digits, rows with sampled labels: \
                  absorbing all rows and one solve."
            .into(),
        drawing: Drawing::Curves {
            y: Axis::log(ERROR),
            panels: vec![
                products(PROBLEMS[0]),
                products(digits),
                Panel {
                    title: digits.to_owned(),
                    x: Axis::log("seconds (s)"),
                    layers: vec![
                        all(BY_PRODUCTS, digits, "seconds"),
                        all(BY_ROWS, digits, "seconds").only("fisher", FisherKind::Sampled.name()),
                    ],
                    verticals: Vec::new(),
                },
            ],
        },
    };
    vec![by_kind, by_family, by_cost]
}
