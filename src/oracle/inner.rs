//! The exact inner solution θ*(v) by damped Newton steps (Nocedal & Wright 2006, ch. 3 and 7): a dense factorization where the
//! Hessian is small, conjugate gradients on Hessian products where it is not. Where g is not convex, an indefinite Hessian is shifted or
//! left after its directions of positive curvature, so that every step descends: what is found is a stationary point, as a rule a local minimum.

use crate::dense::{Cholesky, Matrix, axpy, dot, norm};
use crate::error::{Error, Result, Status, check_len, check_positive};
use crate::inverse::{SolveOptions, conjugate_gradients};
use crate::operator::FromFn;
use crate::problem::Problem;
use crate::samples::Batch;

/// When Newton's method stops, and what it may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewtonOptions {
    /// The norm of ∇_θ g to reach.
    pub gradient_norm: f64,
    /// The most Newton steps.
    pub max_steps: usize,
    /// The largest d2 whose Hessian is formed and factorized.
    pub max_dense_dim: usize,
}

impl Default for NewtonOptions {
    fn default() -> Self {
        Self { gradient_norm: 1e-10, max_steps: 100, max_dense_dim: 2000 }
    }
}

/// θ*(v), and how close.
#[derive(Debug, Clone, PartialEq)]
pub struct InnerSolution {
    /// The minimizer found.
    pub theta: Vec<f64>,
    /// ‖∇_θ g‖ there.
    pub gradient_norm: f64,
    /// Newton steps taken.
    pub steps: usize,
    /// How it ended: converged, at the limit of steps, or at rounding's.
    pub status: Status,
}

/// Minimizes g(v, ·) from `start`.
///
/// # Errors
/// [`Error::Shape`], [`Error::Argument`] for bad options, and whatever the problem itself can meet.
pub fn inner_solution(problem: &dyn Problem, v: &[f64], start: &[f64], options: NewtonOptions) -> Result<InnerSolution> {
    inner_solution_watched(problem, v, start, options, || Ok(()))
}

/// As [`inner_solution`]; `before_step` is called before each Newton step, and an error of it ends the search.
///
/// # Errors
/// As [`inner_solution`], and those of `before_step`.
pub fn inner_solution_watched(
    problem: &dyn Problem,
    v: &[f64],
    start: &[f64],
    options: NewtonOptions,
    mut before_step: impl FnMut() -> Result<()>,
) -> Result<InnerSolution> {
    check_len("start", start.len(), problem.inner_dim())?;
    check_positive("gradient_norm", options.gradient_norm)?;
    let mut theta = start.to_vec();
    let mut value = problem.f_inner(v, &theta, Batch::All)?;
    let mut gradient = problem.grad_inner(v, &theta, Batch::All)?;
    let mut steps = 0;
    let mut status = Status::Converged {};
    while norm(&gradient) > options.gradient_norm {
        before_step()?;
        if steps == options.max_steps {
            status = Status::StepLimit { limit: steps, residual: norm(&gradient) };
            break;
        }
        let direction = newton_direction(problem, v, &theta, &gradient, options)?;
        let Some((next, next_value, next_gradient)) = line_search(problem, v, &theta, value, &gradient, &direction)? else {
            status = Status::Breakdown { step: steps, residual: norm(&gradient) };
            break;
        };
        (theta, value, gradient) = (next, next_value, next_gradient);
        steps += 1;
    }
    Ok(InnerSolution { gradient_norm: norm(&gradient), theta, steps, status })
}

/// −H⁻¹∇g where H is positive definite, else another direction of descent.
fn newton_direction(problem: &dyn Problem, v: &[f64], theta: &[f64], gradient: &[f64], options: NewtonOptions) -> Result<Vec<f64>> {
    let rhs: Vec<f64> = gradient.iter().map(|g| -g).collect();
    if problem.inner_dim() <= options.max_dense_dim {
        return positive_factor(problem.hessian(v, theta)?)?.solve(&rhs);
    }
    let hessian = FromFn::new(problem.inner_dim(), |u: &[f64]| problem.hvp(v, theta, Batch::All, u));
    // Superlinear convergence: the forcing term falls with the gradient.
    let forcing = SolveOptions { tolerance: norm(gradient).sqrt().min(0.1), max_iterations: 2000 };
    let report = conjugate_gradients(&hessian, &rhs, forcing)?;
    match report.status {
        // Nocedal & Wright, Alg. 7.1: the iterate before a direction of negative curvature descends; before the first there is none.
        Status::NegativeCurvature { .. } if report.iterations == 0 => Ok(rhs),
        _ => Ok(report.solution),
    }
}

/// The Cholesky factor of H, or of H + τI with the first τ that makes it positive definite, from small ones doubled (Nocedal & Wright,
/// Alg. 3.3).
fn positive_factor(hessian: Matrix) -> Result<Cholesky> {
    let largest = hessian.norm();
    let mut shift = 0.0;
    loop {
        let mut shifted = hessian.clone();
        (0..shifted.nrows()).for_each(|i| shifted[(i, i)] += shift);
        match Cholesky::new(shifted) {
            // Beyond twice its norm a symmetric matrix is dominated by the shift: something else is wrong.
            Err(Error::Numerical { .. }) if shift <= 2.0 * largest && largest > 0.0 => {
                shift = (2.0 * shift).max(1e-3 * largest / (hessian.nrows() as f64).sqrt());
            }
            outcome => return outcome,
        }
    }
}

type Point = (Vec<f64>, f64, Vec<f64>);

/// Armijo's rule, halving from 1; where rounding hides the decrease of g, a smaller gradient will do.
fn line_search(
    problem: &dyn Problem,
    v: &[f64],
    theta: &[f64],
    value: f64,
    gradient: &[f64],
    direction: &[f64],
) -> Result<Option<Point>> {
    let slope = dot(gradient, direction);
    let mut t = 1.0;
    for _ in 0..40 {
        let mut next = theta.to_vec();
        axpy(t, direction, &mut next);
        let next_value = problem.f_inner(v, &next, Batch::All)?;
        let next_gradient = problem.grad_inner(v, &next, Batch::All)?;
        let hidden = t * slope.abs() <= 1e-12 * value.abs();
        if next_value <= value + 1e-4 * t * slope || (hidden && norm(&next_gradient) < norm(gradient)) {
            return Ok(Some((next, next_value, next_gradient)));
        }
        t *= 0.5;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::eigh;
    use crate::problem::{DataCleaning, DataCleaningConfig, DataSource, ModelConfig, NetworkConfig};
    use crate::rng::Key;

    /// From a point where the Hessian is indefinite, by factorizations and by conjugate gradients, to one where it is not.
    #[test]
    fn a_local_minimum_is_found_where_g_is_not_convex() {
        let network = NetworkConfig { hidden: vec![2], ..Default::default() };
        let model = ModelConfig::Mlp(network);
        let config = DataCleaningConfig { train: 30, validation: 10, ridge: 0.02, model, ..Default::default() };
        let problem = DataCleaning::load(&config, &DataSource::default(), Key::new(4)).unwrap();
        let (v, start) = problem.initial();
        let smallest = |theta: &[f64]| eigh(&problem.hessian(&v, theta).unwrap()).unwrap().values.last().copied().unwrap();
        assert!(smallest(&start) < -1e-3, "{}", smallest(&start));
        for max_dense_dim in [2000, 0] {
            let options = NewtonOptions { gradient_norm: 1e-8, max_dense_dim, ..NewtonOptions::default() };
            let found = inner_solution(&problem, &v, &start, options).unwrap();
            assert!(found.status.is_converged() && found.gradient_norm <= 1e-8, "{:?} {:e}", found.status, found.gradient_norm);
            assert!(smallest(&found.theta) > 0.0, "{}", smallest(&found.theta));
            let value = |theta: &[f64]| problem.f_inner(&v, theta, Batch::All).unwrap();
            assert!(value(&found.theta) < 0.9 * value(&start));
            let short = NewtonOptions { max_steps: 1, ..options };
            assert!(matches!(inner_solution(&problem, &v, &start, short).unwrap().status, Status::StepLimit { .. }));
        }
    }
}
