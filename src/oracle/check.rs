//! Checks of a model's or problem's derivatives against central differences, against each other, and of the hypergradient against
//! differences of the value function. A check is a number with its tolerance; nothing here decides what to do about it.

use super::{NewtonOptions, exact_hypergradient, inner_solution, value_difference};
use crate::dense::{Matrix, dot, matvec, norm, relative_error};
use crate::error::{Result, check_len};
use crate::model::{FisherIdentity, FisherKind, Model, Weighted};
use crate::problem::{Problem, differences};
use crate::rng::Key;
use crate::samples::{Batch, Samples};

/// The tolerance of analytic derivatives against central differences, relative.
const AGAINST_DIFFERENCES: f64 = 1e-6;
/// The tolerance of what the oracle solves for against a closed form, relative.
const AGAINST_CLOSED_FORM: f64 = 1e-10;
/// The tolerance of two analytic forms of the same quantity, relative.
const IDENTITY: f64 = 1e-11;
/// The same for a Fisher product against the Fisher matrix of the rows: sums of products alone.
const FISHER_PRODUCT: f64 = 1e-12;

/// One quantity compared with an independent computation.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The model or problem.
    pub subject: String,
    /// What was compared with what.
    pub quantity: String,
    /// The relative error found.
    pub error: f64,
    /// The largest error that passes.
    pub tolerance: f64,
    /// What else a reader should know; empty mostly.
    pub note: &'static str,
}

impl Check {
    /// A check of `quantity`.
    pub fn new(subject: impl Into<String>, quantity: impl Into<String>, error: f64, tolerance: f64) -> Self {
        Self { subject: subject.into(), quantity: quantity.into(), error, tolerance, note: "" }
    }

    /// Whether the error is within the tolerance; an error that is not a number is not.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// The largest error of a gradient over some directions, against central differences of the function, relative to the size
/// ‖gradient‖·‖u‖/√d that the product with a random direction has.
fn gradient_error(key: Key, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> Result<f64>) -> Result<f64> {
    check_len("gradient", gradient.len(), x.len())?;
    let mut worst = 0.0_f64;
    for trial in 0..4 {
        let u = key.child(trial).stream().normals(x.len());
        let slope = differences::directional(x, &u, |x| Ok(vec![f(x)?]))?[0];
        let error = (slope - dot(gradient, &u)).abs();
        let scale = norm(gradient) * norm(&u) / (x.len() as f64).sqrt();
        worst = worst.max(if error == 0.0 { 0.0 } else { error / scale });
    }
    Ok(worst)
}

/// Every derivative of a model at a random θ with random weights.
///
/// # Errors
/// Whatever the model itself can meet.
pub fn check_model(model: &dyn Model, samples: &Samples, key: Key) -> Result<Vec<Check>> {
    let theta = key.named("theta").stream().normals(model.dim());
    let u = key.named("direction").stream().normals(model.dim());
    let mut stream = key.named("weights").stream();
    let weights: Vec<f64> = (0..samples.len()).map(|_| stream.uniform()).collect();
    let data = Weighted { samples, batch: Batch::All, weights: Some(&weights) };
    let n = samples.len() as f64;
    let check = |quantity: &str, error, tolerance| Check::new(model.name(), quantity, error, tolerance);

    let gradient = model.gradient(data, &theta)?;
    let hvp = model.hvp(data, &theta, &u)?;
    let hessian = model.hessian(data, &theta)?;
    let products = model.score_products(samples, Batch::All, &theta, &u)?;
    let mean_product = products.iter().zip(&weights).map(|(p, w)| p * w).sum::<f64>() / n;
    // The empirical rows √w s: their sum with coefficients √w is the gradient again.
    let rows = model.scores(data, &theta, FisherKind::Empirical, key)?;
    let roots = Matrix::column(weights.iter().map(|w| w.sqrt() / n).collect());
    let fisher = model.expected_fisher(data, &theta)?;
    let mut checks = vec![
        check(
            "gradient = differences of the loss",
            gradient_error(key, &theta, &gradient, |t| model.loss(data, t))?,
            AGAINST_DIFFERENCES,
        ),
        check(
            "Hessian product = differences of the gradient",
            relative_error(&hvp, &differences::directional(&theta, &u, |t| model.gradient(data, t))?),
            AGAINST_DIFFERENCES,
        ),
        check("Hessian = Hessian product", relative_error(&matvec(&hessian, &u)?, &hvp), IDENTITY),
        check("score products = gradient", (mean_product - dot(&gradient, &u)).abs() / (norm(&gradient) * norm(&u)), IDENTITY),
        check("score rows = gradient", relative_error(rows.accumulate(&roots)?.as_slice(), &gradient), IDENTITY),
        check(
            "expected Fisher = Fisher product",
            relative_error(&model.fisher_product(data, &theta, &u)?, &matvec(&fisher, &u)?),
            FISHER_PRODUCT,
        ),
    ];
    match model.fisher_identity() {
        FisherIdentity::Hessian => {
            checks.push(check("expected Fisher = Hessian", relative_error(fisher.as_slice(), hessian.as_slice()), IDENTITY));
        }
        // Nothing beyond the line above: there the product is the Gauss–Newton one, which no row enters.
        FisherIdentity::GaussNewton => {}
    }
    Ok(checks)
}

/// Every derivative of a problem at a random (v, θ), and its hypergradient at θ*(v).
///
/// # Errors
/// Whatever the problem itself can meet.
pub fn check_problem(problem: &dyn Problem, key: Key) -> Result<Vec<Check>> {
    let random = |purpose: &str, n: usize| key.named(purpose).stream().normals(n);
    let v = random("outer", problem.outer_dim());
    let theta = random("inner", problem.inner_dim());
    let (u_v, u_theta) = (random("outer direction", v.len()), random("inner direction", theta.len()));
    // A batch with a repeated sample, so that means over batches are checked too.
    let indices = key.named("batch").stream().indices(problem.inner_samples(), problem.inner_samples().min(50))?;
    let batch = Batch::Indices(&indices);
    let all = Batch::All;
    let outer = problem.grad_outer(&v, &theta, all)?;
    let check = |quantity: &str, error, tolerance| Check::new(problem.name(), quantity, error, tolerance);

    let mut checks = vec![
        check(
            "∇θ g = differences of g",
            gradient_error(key, &theta, &problem.grad_inner(&v, &theta, batch)?, |t| problem.f_inner(&v, t, batch))?,
            AGAINST_DIFFERENCES,
        ),
        check(
            "∇v g = differences of g",
            gradient_error(key, &v, &problem.grad_v(&v, &theta, batch)?, |v| problem.f_inner(v, &theta, batch))?,
            AGAINST_DIFFERENCES,
        ),
        check(
            "∇θ f = differences of f",
            gradient_error(key, &theta, &outer.theta, |t| problem.f_outer(&v, t, all))?,
            AGAINST_DIFFERENCES,
        ),
        check(
            "∇v f = differences of f",
            gradient_error(key, &v, &outer.v.to_vec(), |v| problem.f_outer(v, &theta, all))?,
            AGAINST_DIFFERENCES,
        ),
    ];

    // An operation that gives the bits of the default is the default.
    let mut against_default = |quantity: &str, found: &[f64], default: Vec<f64>| {
        let note = if found == default { "default in use: central differences" } else { "" };
        checks.push(Check { note, ..check(quantity, relative_error(found, &default), AGAINST_DIFFERENCES) });
    };
    let hvp = problem.hvp(&v, &theta, batch, &u_theta)?;
    let vjp = problem.cross_vjp(&v, &theta, batch, &u_theta)?;
    let jvp = problem.cross_jvp(&v, &theta, batch, &u_v)?;
    against_default("Hessian product = differences of ∇θ g", &hvp, differences::hvp(problem, &v, &theta, batch, &u_theta)?);
    against_default("Jᵀq = differences of ∇v g", &vjp, differences::cross_vjp(problem, &v, &theta, batch, &u_theta)?);
    against_default("Ju = differences of ∇θ g", &jvp, differences::cross_jvp(problem, &v, &theta, batch, &u_v)?);
    check_len("cross_vjp", vjp.len(), v.len())?;
    check_len("cross_jvp", jvp.len(), theta.len())?;
    let adjoint = (dot(&u_theta, &jvp) - dot(&vjp, &u_v)).abs() / (norm(&u_theta) * norm(&jvp));
    checks.push(check("uᵀJᵀq = qᵀJu", adjoint, if checks.iter().any(|c| !c.note.is_empty()) { 1e-6 } else { IDENTITY }));
    let full = problem.hvp(&v, &theta, all, &u_theta)?;
    checks.push(check("Hessian = Hessian product", relative_error(&matvec(&problem.hessian(&v, &theta)?, &u_theta)?, &full), 1e-9));

    let solution = inner_solution(problem, &v, &theta, NewtonOptions::default())?;
    checks.push(check("‖∇θ g‖ at the inner solution", solution.gradient_norm, NewtonOptions::default().gradient_norm));
    if !solution.status.is_converged() {
        // Without θ*(v) there is no ∇Φ to compare: the check above says why.
        return Ok(checks);
    }
    let hypergradient = exact_hypergradient(problem, &v, &solution.theta)?;
    if let Some(closed) = problem.closed_form(&v)? {
        checks.push(check("inner solution = closed form", relative_error(&solution.theta, &closed.theta), AGAINST_CLOSED_FORM));
        checks.push(check(
            "hypergradient = closed form",
            relative_error(&hypergradient, &closed.hypergradient),
            AGAINST_CLOSED_FORM,
        ));
    }
    let mut worst = 0.0_f64;
    for trial in 0..2 {
        let u = key.named("value").child(trial).stream().normals(v.len());
        let slope = value_difference(problem, &v, &solution.theta, &u, 1e-4)?;
        let scale = norm(&hypergradient) * norm(&u) / (v.len() as f64).sqrt();
        worst = worst.max((slope - dot(&hypergradient, &u)).abs() / scale);
    }
    checks.push(check("∇Φ = differences of Φ", worst, AGAINST_DIFFERENCES));
    Ok(checks)
}
