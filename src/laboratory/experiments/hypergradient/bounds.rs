//! Bounds of a hypergradient's error beside the error itself, at θ*(v) and after a few inner steps, by family, Fisher kind and rows. Each
//! is deterministic: a statement about the estimate at hand, so that one violation refutes it. They say different things and are never
//! mixed: what the sketch costs against the matrix as fed; what one Hessian product certifies; the whole distance to ∇Φ.

use super::{Hypergradients, PROBLEMS, Row, Subject, since};
use crate::bilevel::{self, CertifiedHypergradient, Sampling, certified_nhgd};
use crate::bounds::{Claim, InverseErrors, Measured, Rule, SampledErrors, composed};
use crate::curvature::{Approximation, CurvatureConfig, FrequentDirectionsConfig, NystromConfig};
use crate::dense::{Cholesky, Matrix, axpy, difference, eigh, matvec, norm};
use crate::error::{Error, Result};
use crate::experiment::record::Table;
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, Findings, Registered, Rows, cell};
use crate::model::FisherKind;
use crate::oracle::exact_inverse_hvp;
use crate::problem::Problem;
use crate::rng::Key;
use crate::samples::Batch;

/// The part's name in the table.
const PART: &str = "bound";
/// The table of what the bounds exceed the errors by.
const TIGHTNESS: &str = "hypergradient-tightness";
/// The families with a sketch's error; the window's certificate is of rounding alone.
const FAMILIES: [&str; 3] = ["nystrom", "frequent-directions", "robust-frequent-directions"];
/// Where estimates are taken.
const SETTINGS: [&str; 2] = ["θ*", "inner SGD"];
/// The bounds, and what each is of. The first two are about the sketch alone.
const QUANTITIES: [(&str, &str); 5] = [
    ("sketch", "‖ĥ − h‖ with F as fed, from F̂ alone (`norm`)"),
    ("coordinate", "the worst coordinate of ĥ − h (`coordinates`)"),
    ("residual", "‖c − H⁻¹b‖ from one Hessian product (`residual`)"),
    ("total", "‖ĥ − ∇Φ‖ from that and ‖∇_θ g‖ (`total`)"),
    ("composed", "‖ĥ − ∇Φ‖ from measured parts, batches included (`composed`)"),
];
/// What the dense references that errors are taken against may round, relative to their size: not a violation.
const ROUNDING: f64 = 1e-10;

fn config(settings: &Hypergradients, family: &str, subject: &Subject) -> CurvatureConfig {
    let sketch_size = settings.bound_sketch_sizes[subject.index];
    let directions = FrequentDirectionsConfig { sketch_size, ..Default::default() };
    match family {
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size, ..Default::default() }),
        "frequent-directions" => CurvatureConfig::FrequentDirections(directions),
        _ => CurvatureConfig::RobustFrequentDirections(directions),
    }
}

pub(super) fn pieces(settings: &Hypergradients) -> usize {
    PROBLEMS.len() * FAMILIES.len() * FisherKind::ALL.len() * settings.bound_replicates
}

/// Data cleaning: an eigen-decomposition of order d2 and one of order d1 for each bound.
pub(super) fn work(settings: &Hypergradients, piece: usize) -> u64 {
    let points = (settings.bound_rows.len() * SETTINGS.len()) as u64;
    if piece < pieces(settings) / PROBLEMS.len() { 1000 * points } else { 800_000 * points }
}

/// What all estimates at one θ have in common.
struct Place<'a> {
    subject: &'a Subject,
    theta: &'a [f64],
    b: Vec<f64>,
    hessian: Matrix,
    /// H⁻¹b here.
    inverse_hvp: Vec<f64>,
}

impl<'a> Place<'a> {
    fn new(subject: &'a Subject, theta: &'a [f64]) -> Result<Self> {
        let (problem, v) = (subject.problem.as_ref(), &subject.point.v);
        let b = problem.grad_outer(v, theta, Batch::All)?.theta;
        let inverse_hvp = exact_inverse_hvp(problem, v, theta, &b)?;
        Ok(Self { subject, theta, b, hessian: problem.hessian(v, theta)?, inverse_hvp })
    }

    fn problem(&self) -> &dyn Problem {
        self.subject.problem.as_ref()
    }

    fn v(&self) -> &[f64] {
        &self.subject.point.v
    }

    /// Error and bound of each quantity, in the order of [`QUANTITIES`], relative to the size of what is estimated.
    fn errors(
        &self,
        settings: &Hypergradients,
        fed: &Matrix,
        approximation: &dyn Approximation,
        key: Key,
    ) -> Result<[(f64, f64); 5]> {
        let missing = || Error::unsupported("a problem without certificates", "take one with `cross_rows` and `constants`");
        let found = certified_nhgd(self.problem(), self.v(), self.theta, approximation, settings.damping, None)?;
        let CertifiedHypergradient { value, coordinates, norm: whole, residual, total, inverse_hvp, .. } = found;
        let (coordinates, whole) = (coordinates.ok_or_else(missing)?, whole.ok_or_else(missing)?);
        let exact = &self.subject.point.hypergradient;

        let as_fed = self.with_matrix(fed.clone(), settings.damping)?;
        let off = difference(&value, &as_fed);
        let size = norm(&as_fed);
        let worst = (0..off.len()).max_by(|&i, &j| (off[i].abs() - coordinates[i]).total_cmp(&(off[j].abs() - coordinates[j])));
        let worst = worst.map_or((0.0, 0.0), |j| (off[j].abs(), coordinates[j]));
        let (composed_error, composed_bound) = self.composed(settings, approximation, key)?;
        let of_q = norm(&difference(&inverse_hvp.midpoint, &self.inverse_hvp));
        let relative = |(error, bound): (f64, f64), size: f64| (error / size, bound / size);
        Ok([
            relative((norm(&off), whole), size),
            relative(worst, size),
            relative((of_q, residual.ok_or_else(missing)?.radius), norm(&self.inverse_hvp)),
            relative((norm(&difference(&value, exact)), total.ok_or_else(missing)?), norm(exact)),
            relative((composed_error, composed_bound), norm(exact)),
        ])
    }

    /// ∇_v f − Jᵀ(F + Λ + μI)⁻¹b for a matrix F as it is.
    fn with_matrix(&self, mut matrix: Matrix, damping: f64) -> Result<Vec<f64>> {
        self.problem().known_curvature(self.v())?.plus(damping)?.add_to(&mut matrix)?;
        let q = Cholesky::new(matrix)?.solve(&self.b)?;
        let mut h = self.problem().grad_outer(self.v(), self.theta, Batch::All)?.v.into_vec();
        axpy(-1.0, &self.problem().cross_vjp(self.v(), self.theta, Batch::All, &q)?, &mut h);
        Ok(h)
    }

    /// ‖ĥ − ∇Φ‖ and its bound for an estimate with b and the cross product from batches, every part of the bound measured.
    fn composed(&self, settings: &Hypergradients, approximation: &dyn Approximation, key: Key) -> Result<(f64, f64)> {
        let (problem, v, theta, damping) = (self.problem(), self.v(), self.theta, settings.damping);
        let draw = |name: &str, count, of| key.named(name).stream().indices(of, count);
        let outer = draw("outer batch", settings.sampled[0], problem.outer_samples())?;
        let inner = draw("cross samples", settings.sampled[1], problem.inner_samples())?;
        let sampling = Sampling { outer: Batch::Indices(&outer), inner: Batch::Indices(&inner) };
        let found = bilevel::nhgd(problem, v, theta, sampling, approximation, damping)?;
        let q = &found.inverse_hvp;

        let mut estimate = approximation.to_dense()?;
        problem.known_curvature(v)?.add_to(&mut estimate)?;
        let batch = problem.grad_outer(v, theta, sampling.outer)?;
        let all = problem.grad_outer(v, theta, Batch::All)?;
        let mut residual = difference(&batch.theta, &matvec(&estimate, q)?);
        axpy(-damping, q, &mut residual);
        estimate.add_scaled(-1.0, &self.hessian)?;
        let values = eigh(&estimate)?.values;
        let inverse = InverseErrors {
            damping,
            curvature: values.iter().fold(0.0, |largest: f64, x| largest.max(x.abs())),
            right_hand_side: norm(&difference(&batch.theta, &self.b)),
            residual: norm(&residual),
        };
        let cross = |batch| problem.cross_vjp(v, theta, batch, q);
        let sampled = SampledErrors {
            outer_gradient: norm(&difference(&batch.v.to_vec(), &all.v.to_vec())),
            cross: norm(&difference(&cross(sampling.inner)?, &cross(Batch::All)?)),
        };
        let missing = || Error::unsupported("a problem without constants", "take one that has them");
        let constants = problem.constants(v)?.ok_or_else(missing)?;
        let columns = problem.cross_rows(v, theta)?.ok_or_else(missing)?;
        // ‖J‖ ≤ ‖J‖_F.
        let cross_norm = columns.squared_row_norms().iter().sum::<f64>().sqrt();
        let suboptimality = norm(&difference(theta, &self.subject.point.theta));
        let bound = composed(&constants, inverse, sampled, norm(q), cross_norm, suboptimality)?;
        Ok((norm(&difference(&found.value, &self.subject.point.hypergradient)), bound.hypergradient))
    }
}

pub(super) fn piece(settings: &Hypergradients, subjects: &[Subject; 2], bench: Bench<'_>, piece: usize) -> Result<Rows> {
    let (replicate, piece) = (piece % settings.bound_replicates, piece / settings.bound_replicates);
    let (kind, piece) = (FisherKind::ALL[piece % FisherKind::ALL.len()], piece / FisherKind::ALL.len());
    let (family, subject) = (FAMILIES[piece % FAMILIES.len()], &subjects[piece / FAMILIES.len()]);
    let key = subject.key.named(PART).child(replicate as u64);
    let (problem, v) = (subject.problem.as_ref(), &subject.point.v);
    let near = settings.inner_sgd(subject, key.named("inner"))?.0;
    let mut rows = Rows::default();
    for (setting, theta) in SETTINGS.into_iter().zip([&subject.point.theta, &near]) {
        let place = Place::new(subject, theta)?;
        let mut sketch = config(settings, family, subject).build(problem.inner_dim(), key.named("sketch"))?;
        let mut shadow = CurvatureConfig::Dense(Default::default()).build(problem.inner_dim(), key)?;
        let mut absorbed = 0;
        for &count in &settings.bound_rows {
            let begun = (bench.clock)();
            let key = key.named(setting).child(count as u64);
            let fresh = key.named("samples").stream().indices(problem.inner_samples(), count - absorbed)?;
            let scores = problem.scores(v, theta, Batch::Indices(&fresh), kind, key.named("labels"))?;
            sketch.absorb(&scores)?;
            shadow.absorb(&scores)?;
            absorbed = count;
            let fed = shadow.approximate()?.to_dense()?;
            let errors = place.errors(settings, &fed, sketch.approximate()?.as_ref(), key)?;
            let seconds = since(bench, begun);
            for ((quantity, _), (value, bound)) in QUANTITIES.into_iter().zip(errors) {
                let row = Row {
                    part: PART,
                    problem: subject.name,
                    estimator: family,
                    fisher: kind.name(),
                    setting,
                    quantity,
                    x: count,
                    replicate,
                    value,
                    bound,
                };
                row.push(&mut rows, seconds);
            }
        }
    }
    Ok(rows)
}

pub(super) fn claims() -> Vec<Claim> {
    let claim = |(_, about)| Claim::new(Hypergradients::NAME, format!("bound of {about}: violations"), Rule::NoViolation {});
    QUANTITIES.map(claim).to_vec()
}

pub(super) fn measure(rows: &Table) -> Result<Findings> {
    let own = rows.filter("part", PART)?;
    let mut findings = Findings::default();
    for (quantity, _) in QUANTITIES {
        let own = own.filter("quantity", quantity)?;
        let pairs = own.numbers("value")?.into_iter().zip(own.numbers("bound")?);
        // What is not a number is a violation, too.
        let violations =
            pairs.filter(|(value, bound)| !matches!(value.partial_cmp(&(bound + ROUNDING)), Some(order) if order.is_le()));
        findings.measured.push(Measured::exactly(violations.count() as f64));
    }
    let names = ["problem", "estimator", "fisher", "setting", "quantity", "x"];
    let mut tightness = Table::new(names.into_iter().chain(["ratio"]));
    let text = names.iter().map(|name| own.text(name)).collect::<Result<Vec<_>>>()?;
    for (row, (value, bound)) in own.numbers("value")?.into_iter().zip(own.numbers("bound")?).enumerate() {
        let cells = text.iter().map(|column| column[row].to_owned());
        tightness.push(cells.chain([cell(bound / value)]))?;
    }
    findings.tables.push((TIGHTNESS.to_owned(), tightness));
    Ok(findings)
}

pub(super) fn pictures(settings: &Hypergradients) -> Vec<Picture> {
    let panel = |problem: &str, setting: &str| {
        let layer = |quantity: &str| {
            let layer = Layer::new(TIGHTNESS, "x", "ratio").only("problem", problem).only("setting", setting);
            let layer = layer.only("quantity", quantity).by("quantity").center(Center::Median);
            layer.band(Band::Quantiles(0.05, 0.95)).named("{quantity}")
        };
        Panel {
            title: problem.to_owned(),
            x: Axis::log("rows n (count)"),
            layers: ["sketch", "residual", "total", "composed"].map(layer).to_vec(),
            verticals: Vec::new(),
        }
    };
    let about: Vec<String> = QUANTITIES.iter().map(|(name, about)| format!("{name}: {about}")).collect();
    let picture = |(setting, file, place): (&str, &str, String)| Picture {
        file: file.into(),
        title: format!("How much more the bounds say than is true, {setting}"),
        caption: format!(
            "A bound over the error that it is a bound of, by rows, {place}, μ = {}: median over families, Fisher kinds and streams with a \
             band from the 5 % to the 95 % quantile; 1 is attained. {}. Sketches with ℓ = {} (quadratic) and {} (digits).",
            settings.damping,
            about.join("; "),
            settings.bound_sketch_sizes[0],
            settings.bound_sketch_sizes[1]
        ),
        drawing: Drawing::Curves {
            y: Axis::log("bound / error (no unit)"),
            panels: PROBLEMS.map(|problem| panel(problem, setting)).to_vec(),
        },
    };
    let inner = format!("after {} inner SGD steps from θ = 0", settings.inner_steps);
    vec![
        picture((SETTINGS[0], "hypergradient-bounds-solution", "at θ*(v)".to_owned())),
        picture((SETTINGS[1], "hypergradient-bounds-inner", inner)),
    ]
}
