//! Estimators of the hypergradient ∇_v f − JᵀH⁻¹b at a given (v, θ), usable alone. They differ in how they come by q ≈ H⁻¹b:
//! a dense solve, conjugate gradients (with or without a sketch as preconditioner) or Neumann's series on Hessian products, or an
//! approximation of the Fisher matrix.

use crate::curvature::{Approximation, CurvatureConfig, NystromConfig};
use crate::dense::{add_scaled, relative_error};
use crate::error::{Result, Status};
use crate::inverse::{self, NeumannStep, PcgOptions, SolveOptions, conjugate_gradients, preconditioned_conjugate_gradients};
use crate::model::FisherKind;
use crate::operator::FromFn;
use crate::oracle::{self, Check};
use crate::problem::Problem;
use crate::rng::Key;
use crate::samples::Batch;

/// Which samples b and the cross product use; all of them by default.
#[derive(Debug, Clone, Copy)]
pub struct Sampling<'a> {
    /// The outer samples of b and ∇_v f.
    pub outer: Batch<'a>,
    /// The inner samples of Jᵀq (and of the Hessian products of CG and Neumann's series).
    pub inner: Batch<'a>,
}

impl Default for Sampling<'_> {
    fn default() -> Self {
        Self { outer: Batch::All, inner: Batch::All }
    }
}

/// A hypergradient and how it was come by.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypergradient {
    /// The estimate of ∇_v f − JᵀH⁻¹b, of length d1.
    pub value: Vec<f64>,
    /// q, the estimate of H⁻¹b, of length d2.
    pub inverse_hvp: Vec<f64>,
    /// Hessian products spent on q.
    pub products: usize,
    /// How the solve ended.
    pub status: Status,
}

fn assemble(
    problem: &dyn Problem,
    (v, theta): (&[f64], &[f64]),
    sampling: Sampling<'_>,
    inverse_product: impl FnOnce(&[f64]) -> Result<(Vec<f64>, usize, Status)>,
) -> Result<Hypergradient> {
    let (b, mut value) = problem.grad_outer(v, theta, sampling.outer)?.into_vecs();
    let (inverse_hvp, products, status) = inverse_product(&b)?;
    add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, sampling.inner, &inverse_hvp)?, &mut value)?;
    Ok(Hypergradient { value, inverse_hvp, products, status })
}

/// q by factorizing the dense Hessian over all inner samples.
///
/// # Errors
/// [`Error::Numerical`](crate::Error::Numerical) where H is not positive definite, and whatever the problem meets.
pub fn exact(problem: &dyn Problem, v: &[f64], theta: &[f64], sampling: Sampling<'_>) -> Result<Hypergradient> {
    assemble(problem, (v, theta), sampling, |b| {
        Ok((oracle::exact_inverse_hvp(problem, v, theta, b)?, problem.inner_dim(), Status::Converged {}))
    })
}

/// q by conjugate gradients on Hessian products.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for bad options, and whatever the problem meets; how CG ended is in the status.
pub fn cg(problem: &dyn Problem, v: &[f64], theta: &[f64], sampling: Sampling<'_>, options: SolveOptions) -> Result<Hypergradient> {
    let hessian = FromFn::new(problem.inner_dim(), |u: &[f64]| problem.hvp(v, theta, sampling.inner, u));
    assemble(problem, (v, theta), sampling, |b| {
        let report = conjugate_gradients(&hessian, b, options)?;
        Ok((report.solution, report.products, report.status))
    })
}

/// q by conjugate gradients on Hessian products, preconditioned with (F̂ + Λ + μI)⁻¹: what the sketch errs is mended by a few products
/// with the Hessian itself. An indefinite Hessian is a status, as in [`cg`].
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for bad options or a Λ + μI that is singular, and whatever the problem meets.
pub fn pcg(
    problem: &dyn Problem,
    v: &[f64],
    theta: &[f64],
    sampling: Sampling<'_>,
    (approximation, damping): (&dyn Approximation, f64),
    options: PcgOptions,
) -> Result<Hypergradient> {
    let known = problem.known_curvature(v)?.plus(damping)?;
    let inverse = approximation.inverse(&known)?;
    let hessian = FromFn::new(problem.inner_dim(), |u: &[f64]| problem.hvp(v, theta, sampling.inner, u));
    assemble(problem, (v, theta), sampling, |b| {
        let report = preconditioned_conjugate_gradients(&hessian, inverse.as_ref(), b, options)?.solve;
        Ok((report.solution, report.products, report.status))
    })
}

/// q by Neumann's series on Hessian products.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for bad options, and whatever the problem meets; how the series ended is in the status.
pub fn neumann(
    problem: &dyn Problem,
    v: &[f64],
    theta: &[f64],
    sampling: Sampling<'_>,
    options: SolveOptions,
    step: NeumannStep,
) -> Result<Hypergradient> {
    let hessian = FromFn::new(problem.inner_dim(), |u: &[f64]| problem.hvp(v, theta, sampling.inner, u));
    assemble(problem, (v, theta), sampling, |b| {
        let report = inverse::neumann(&hessian, b, options, step)?.solve;
        Ok((report.solution, report.products, report.status))
    })
}

/// q = (F̂ + Λ + μI)⁻¹b, with F̂ from any curvature.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for a Λ + μI that is singular, and whatever the problem meets.
pub fn nhgd(
    problem: &dyn Problem,
    v: &[f64],
    theta: &[f64],
    sampling: Sampling<'_>,
    approximation: &dyn Approximation,
    damping: f64,
) -> Result<Hypergradient> {
    let known = problem.known_curvature(v)?.plus(damping)?;
    assemble(problem, (v, theta), sampling, |b| Ok((approximation.solve(&known, b)?, 0, Status::Converged {})))
}

/// Compares each estimator with the oracle's hypergradient at a random v and θ*(v).
///
/// # Errors
/// Whatever the problem meets.
pub fn check_estimators(problem: &dyn Problem, key: Key) -> Result<Vec<Check>> {
    let v = key.named("outer").stream().normals(problem.outer_dim());
    let start = problem.initial().1;
    let theta = oracle::inner_solution(problem, &v, &start, oracle::NewtonOptions::default())?.theta;
    let reference = oracle::exact_hypergradient(problem, &v, &theta)?;
    let sampling = Sampling::default();
    let check = |quantity: &str, estimate: Hypergradient, tolerance: f64| {
        Check::new(problem.name(), quantity, relative_error(&estimate.value, &reference), tolerance)
    };
    let mut checks = vec![
        check("hypergradient `exact` = oracle", exact(problem, &v, &theta, sampling)?, 1e-12),
        check(
            "hypergradient `cg` = oracle",
            cg(problem, &v, &theta, sampling, SolveOptions { tolerance: 1e-12, max_iterations: 10_000 })?,
            1e-8,
        ),
        // Slow by nature, its error the residual's 1e-7 times at most the condition number of H.
        check(
            "hypergradient `neumann` = oracle",
            neumann(
                problem,
                &v,
                &theta,
                sampling,
                SolveOptions { tolerance: 1e-7, max_iterations: 100_000 },
                NeumannStep::default(),
            )?,
            1e-4,
        ),
    ];
    // The expected Fisher of all data is the Hessian of a GLM's likelihood: what is left is rounding.
    let rows = problem.scores(&v, &theta, Batch::All, FisherKind::Expected, key)?;
    for name in ["window", "dense"] {
        let Some(config) = CurvatureConfig::default_of(name) else { continue };
        let mut curvature = config.build(problem.inner_dim(), key)?;
        curvature.absorb(&rows)?;
        let estimate = nhgd(problem, &v, &theta, sampling, curvature.approximate()?.as_ref(), 0.0)?;
        checks.push(check(&format!("hypergradient `nhgd`, {name}, expected Fisher of all rows = oracle"), estimate, 1e-8));
    }
    // Any sketch will do as a preconditioner: here of a few drawn rows, and small.
    let mut curvature = CurvatureConfig::Nystrom(NystromConfig { sketch_size: problem.inner_dim().min(8), ..Default::default() })
        .build(problem.inner_dim(), key)?;
    let few: Vec<usize> = (0..problem.inner_samples().min(64)).collect();
    curvature.absorb(&problem.scores(&v, &theta, Batch::Indices(&few), FisherKind::Sampled, key)?)?;
    let options =
        PcgOptions { solve: SolveOptions { tolerance: 1e-12, max_iterations: 10_000 }, trial_products: 0, ..PcgOptions::default() };
    let estimate = pcg(problem, &v, &theta, sampling, (curvature.approximate()?.as_ref(), 1e-2), options)?;
    checks.push(check("hypergradient `pcg`, preconditioned with a sketch = oracle", estimate, 1e-8));
    Ok(checks)
}
