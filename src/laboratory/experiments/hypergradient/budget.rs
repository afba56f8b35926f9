//! The error budget: at several (v, θ) and settings, the whole error of an estimate as the telescope of `bounds::budget`. Its lines are
//! vectors that sum to the error of the estimator itself against ∇Φ, both computed elsewhere.

use super::{Hypergradients, Met, PROBLEMS, Row, Subject, since};
use crate::bilevel::{self, Sampling};
use crate::bounds::{self, BudgetPoint, BudgetTerm, Claim, Measured, Rule};
use crate::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use crate::dense::{axpy, difference, norm};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::gradient::GradientBlock;
use crate::laboratory::experiments::replicates::largest;
use crate::laboratory::picture::{Drawing, Picture};
use crate::laboratory::{Bench, Findings, Registered, Rows, cell};
use crate::model::FisherKind;
use crate::rng::Key;
use crate::samples::Batch;

/// The part's name in the table.
const PART: &str = "budget";
/// What is recorded beside the terms: the whole error, the sum of the terms' norms, and what the sum of the vectors misses of the error.
const WHOLE: &str = "whole error";
const SUM: &str = "sum of norms";
const MISSED: &str = "missed";
/// Terms that are smaller than this everywhere, relative to ‖∇Φ‖, are left out of the pictures.
const VISIBLE: f64 = 1e-6;
/// What the sum of the vectors may miss, and the surrogate of a canonical link may be.
const EXACT: f64 = 1e-8;

/// Where the estimate is taken and its rows come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    /// At θ*(v), fresh rows there.
    Solution,
    /// After the inner SGD, with the rows of its batches.
    Trajectory,
}

/// An estimate to be accounted for.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    path: Path,
    damped: Damped,
    kind: FisherKind,
    family: Family,
    sampled: Sampled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Damped {
    No,
    Yes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Window,
    Nystrom,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sampled {
    Nothing,
    Everything,
}

const AT_SOLUTION: Scenario = Scenario {
    name: "θ*",
    path: Path::Solution,
    damped: Damped::No,
    kind: FisherKind::Sampled,
    family: Family::Window,
    sampled: Sampled::Nothing,
};
const DAMPED: Scenario = Scenario { name: "θ*, μ", damped: Damped::Yes, ..AT_SOLUTION };
const INNER: Scenario = Scenario { name: "SGD", path: Path::Trajectory, ..AT_SOLUTION };
const INNER_DAMPED: Scenario = Scenario { name: "SGD, μ", path: Path::Trajectory, ..DAMPED };
const SCENARIOS: [Scenario; 8] = [
    AT_SOLUTION,
    DAMPED,
    Scenario { name: "θ*, μ, observed", kind: FisherKind::Empirical, ..DAMPED },
    INNER,
    INNER_DAMPED,
    Scenario { name: "SGD, μ, observed", kind: FisherKind::Empirical, ..INNER_DAMPED },
    Scenario { name: "SGD, μ, sketch", family: Family::Nystrom, ..INNER_DAMPED },
    Scenario { name: "SGD, μ, sketch, batch", family: Family::Nystrom, sampled: Sampled::Everything, ..INNER_DAMPED },
];

pub(super) fn pieces(settings: &Hypergradients) -> usize {
    PROBLEMS.len() * settings.budget_replicates
}

/// Data cleaning: a dozen dense solves a scenario.
pub(super) fn work(settings: &Hypergradients, piece: usize) -> u64 {
    let scenarios = SCENARIOS.len() as u64;
    if piece < settings.budget_replicates { 2000 * scenarios } else { 800_000 * scenarios }
}

pub(super) fn piece(settings: &Hypergradients, subjects: &[Subject; 2], bench: Bench<'_>, piece: usize) -> Result<Rows> {
    let (subject, replicate) = (&subjects[piece / settings.budget_replicates], piece % settings.budget_replicates);
    let key = subject.key.named(PART).child(replicate as u64);
    let (theta, met) = settings.inner_sgd(subject, key.named("inner"))?;
    let mut rows = Rows::default();
    for scenario in SCENARIOS {
        let begun = (bench.clock)();
        let lines = account(settings, subject, &scenario, (&theta, &met), key)?;
        let seconds = since(bench, begun);
        for (quantity, value) in lines {
            let row = Row {
                part: PART,
                problem: subject.name,
                estimator: if scenario.family == Family::Window { "window" } else { "nystrom" },
                fisher: scenario.kind.name(),
                setting: scenario.name,
                quantity,
                x: settings.inner_steps as usize * settings.batch_size,
                replicate,
                value,
                bound: f64::NAN,
            };
            row.push(&mut rows, seconds);
        }
    }
    Ok(rows)
}

/// The norms of the terms, the whole error, the sum of norms and what the vectors' sum misses, all relative to ‖∇Φ‖.
fn account(
    settings: &Hypergradients,
    subject: &Subject,
    scenario: &Scenario,
    (near, met): (&[f64], &[Met]),
    key: Key,
) -> Result<Vec<(&'static str, f64)>> {
    let (problem, point) = (subject.problem.as_ref(), &subject.point);
    let theta = if scenario.path == Path::Solution { &point.theta } else { near };
    let blocks = fed(settings, subject, scenario, met, key)?;
    let count = settings.inner_steps as usize * settings.batch_size;
    let family = match scenario.family {
        Family::Window => CurvatureConfig::Window(WindowConfig { samples: count }),
        Family::Nystrom => {
            let sketch_size = settings.bound_sketch_sizes[subject.index];
            CurvatureConfig::Nystrom(NystromConfig { sketch_size, ..Default::default() })
        }
    };
    let mut sketch = family.build(problem.inner_dim(), key.named("sketch"))?;
    let mut shadow = CurvatureConfig::Dense(Default::default()).build(problem.inner_dim(), key)?;
    for block in &blocks {
        sketch.absorb(block)?;
        shadow.absorb(block)?;
    }
    let approximation = sketch.approximate()?;
    let draw = |name: &str, count, of| key.named(name).stream().indices(of, count);
    let outer = draw("outer batch", settings.sampled[0], problem.outer_samples())?;
    let inner = draw("cross samples", settings.sampled[1], problem.inner_samples())?;
    let sampling = match scenario.sampled {
        Sampled::Nothing => Sampling::default(),
        Sampled::Everything => Sampling { outer: Batch::Indices(&outer), inner: Batch::Indices(&inner) },
    };
    let damping = if scenario.damped == Damped::Yes { settings.damping } else { 0.0 };
    let fed = shadow.approximate()?.to_dense()?;
    let at = BudgetPoint {
        outer_var: &point.v,
        inner_var: theta,
        inner_solution: &point.theta,
        damping,
        kind: scenario.kind,
        fresh_samples: count,
        fed: &fed,
        approximation: approximation.as_ref(),
        sampling,
    };
    let budget = bounds::budget(problem, at, key.named("budget"))?;

    // The error as others have it: the estimator itself, against the closed form or the oracle.
    let estimate = bilevel::nhgd(problem, &point.v, theta, sampling, approximation.as_ref(), damping)?;
    let error = difference(&estimate.value, &point.hypergradient);
    let mut missed = error.clone();
    budget.lines.iter().for_each(|line| axpy(-1.0, &line.hypergradient, &mut missed));
    let size = norm(&point.hypergradient);
    let terms = budget.lines.iter().map(|line| (line.term.name(), norm(&line.hypergradient) / size));
    let checks = [(WHOLE, norm(&error)), (SUM, budget.hypergradient_sum()), (MISSED, norm(&missed))];
    Ok(terms.chain(checks.map(|(name, value)| (name, value / size))).collect())
}

/// The blocks that the curvature is fed.
fn fed(settings: &Hypergradients, subject: &Subject, scenario: &Scenario, met: &[Met], key: Key) -> Result<Vec<GradientBlock>> {
    let (problem, point) = (subject.problem.as_ref(), &subject.point);
    let scores = |theta: &[f64], batch: &[usize], step: u64| {
        problem.scores(&point.v, theta, Batch::Indices(batch), scenario.kind, key.named("fed labels").child(step))
    };
    match scenario.path {
        Path::Trajectory => met.iter().zip(0..).map(|(met, step)| scores(&met.theta, &met.batch, step)).collect(),
        Path::Solution => {
            let count = settings.inner_steps as usize * settings.batch_size;
            let drawn = key.named("fed samples").stream().indices(problem.inner_samples(), count)?;
            Ok(vec![scores(&point.theta, &drawn, 0)?])
        }
    }
}

pub(super) fn claims() -> Vec<Claim> {
    let claim = |claim: &str, rule| Claim::new(Hypergradients::NAME, claim, rule);
    vec![
        claim("budget: largest ‖Σ lines − (ĥ − ∇Φ)‖/‖∇Φ‖, all settings", Rule::AtMost { bound: EXACT }),
        claim("budget: errors larger than the sum of the lines' norms", Rule::NoViolation {}),
        claim("budget: largest surrogate line of models with a canonical link", Rule::AtMost { bound: EXACT }),
    ]
}

/// The table of a problem's bars.
fn stem(problem: &str) -> String {
    format!("{}-budget-{problem}", Hypergradients::NAME)
}

pub(super) fn measure(rows: &Table) -> Result<Findings> {
    let own = rows.filter("part", PART)?;
    let of = |quantity: &str| own.filter("quantity", quantity)?.numbers("value");
    let sums = of(WHOLE)?.into_iter().zip(of(SUM)?);
    let violations = sums.filter(|(whole, sum)| *whole > sum + EXACT).count();
    let mut findings = Findings {
        measured: vec![
            Measured::exactly(largest(of(MISSED)?)),
            Measured::exactly(violations as f64),
            Measured::exactly(largest(of(BudgetTerm::Surrogate.name())?)),
        ],
        tables: Vec::new(),
    };
    for problem in PROBLEMS {
        findings.tables.push((stem(problem), bars(&own.filter("problem", problem)?)?));
    }
    Ok(findings)
}

/// The mean length of every term that is seen anywhere, a bar a setting with the whole error beside its name.
fn bars(own: &Table) -> Result<Table> {
    let mean = |setting: &str, quantity: &str| -> Result<f64> {
        let values = own.filter("setting", setting)?.filter("quantity", quantity)?.numbers("value")?;
        Ok(values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut table = Table::new(["setting", "term", "length"]);
    for term in BudgetTerm::ALL {
        let lengths = SCENARIOS.map(|scenario| mean(scenario.name, term.name()));
        let lengths = lengths.into_iter().collect::<Result<Vec<_>>>()?;
        if lengths.iter().all(|length| *length < VISIBLE) {
            continue;
        }
        for (scenario, length) in SCENARIOS.iter().zip(lengths) {
            let whole = mean(scenario.name, WHOLE)?;
            table.push([format!("{} ({whole:.2})", scenario.name), term.name().to_owned(), cell(length)])?;
        }
    }
    Ok(table)
}

pub(super) fn pictures(settings: &Hypergradients) -> Vec<Picture> {
    let picture = |problem: &str| {
        let index = usize::from(problem != PROBLEMS[0]);
        Picture {
            file: stem(problem),
            title: format!("Where the error comes from: {problem}"),
            caption: format!(
                "The norms of the lines of the error budget in units of ‖∇Φ‖, mean of {} streams; in brackets the whole error, which the \
                 lines as vectors sum to. θ*: {} fresh rows at θ*(v). SGD: the {} steps from θ = 0, rows as they were met. μ = {}; sampled \
                 labels unless observed; window unless sketch, `nystrom` with ℓ = {}; batch: {} outer samples for b, {} inner ones for Jᵀq. \
                 Sampling takes fresh rows for all data, staleness the rows as fed for those: at θ*, where nothing is stale, the second is \
                 the difference of two draws. Lines below {VISIBLE:e} everywhere are left out.",
                settings.budget_replicates,
                settings.inner_steps as usize * settings.batch_size,
                settings.inner_steps,
                settings.damping,
                settings.bound_sketch_sizes[index],
                settings.sampled[0],
                settings.sampled[1]
            ),
            drawing: Drawing::Bars {
                table: stem(problem),
                bar: "setting".into(),
                part: "term".into(),
                length: "length".into(),
                label: "‖line‖ / ‖∇Φ‖ (no unit)".into(),
            },
        }
    };
    PROBLEMS.map(picture).to_vec()
}
