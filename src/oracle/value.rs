//! The exact hypergradient ∇_v f − JᵀH⁻¹b at a given (v, θ), and differences of the value function Φ(v) = f(v, θ*(v)), which know
//! nothing of implicit differentiation.

use super::{NewtonOptions, inner_solution};
use crate::dense::{Cholesky, add_scaled};
use crate::error::{Error, Result, check_finite, check_positive};
use crate::problem::Problem;
use crate::samples::Batch;

/// q = H⁻¹b by factorizing the dense Hessian at (v, θ): d2² memory.
///
/// # Errors
/// [`Error::Numerical`] where H is not positive definite, and whatever the problem itself can meet.
pub fn exact_inverse_hvp(problem: &dyn Problem, v: &[f64], theta: &[f64], b: &[f64]) -> Result<Vec<f64>> {
    Cholesky::new(problem.hessian(v, theta)?)?.solve(b)
}

/// ∇_v f − JᵀH⁻¹∇_θ f at (v, θ), all samples, dense. At θ = θ*(v) it is ∇Φ(v).
///
/// # Errors
/// As [`exact_inverse_hvp`].
pub fn exact_hypergradient(problem: &dyn Problem, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
    let (b, mut hypergradient) = problem.grad_outer(v, theta, Batch::All)?.into_vecs();
    let q = exact_inverse_hvp(problem, v, theta, &b)?;
    add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, Batch::All, &q)?, &mut hypergradient)?;
    Ok(hypergradient)
}

/// (Φ(v + hu) − Φ(v − hu)) / 2h, the inner problem solved anew at both points from `start`.
///
/// # Errors
/// [`Error::Numerical`] where the inner problem cannot be solved, [`Error::Shape`], [`Error::NotFinite`], [`Error::Argument`] for an h
/// that is not positive, and whatever the problem itself can meet.
pub fn value_difference(problem: &dyn Problem, v: &[f64], start: &[f64], u: &[f64], h: f64) -> Result<f64> {
    check_positive("h", h)?;
    check_finite("direction", u)?;
    let value = |t: f64| {
        let mut v = v.to_vec();
        add_scaled("direction", t, u, &mut v)?;
        let solution = inner_solution(problem, &v, start, NewtonOptions { gradient_norm: 1e-11, ..NewtonOptions::default() })?;
        if !solution.status.is_converged() && solution.gradient_norm > 1e-9 {
            return Err(Error::Numerical { operation: "inner solution", reason: solution.status.to_string() });
        }
        problem.f_outer(&v, &solution.theta, Batch::All)
    };
    Ok((value(h)? - value(-h)?) / (2.0 * h))
}
