//! Second derivatives of a problem by central differences of its gradients: the defaults of [`Problem`], and the yardstick of
//! `check`. The step is ε^{1/3} times the scale of the point over that of the direction.

use super::Problem;
use crate::dense::norm;
use crate::error::{Result, check_finite, check_len};
use crate::samples::Batch;

/// (G(x + hu) − G(x − hu)) / 2h for a vector-valued G; zero for u = 0.
///
/// # Errors
/// Those of G, [`Error::Shape`](crate::Error::Shape) if x and u, or two values of G, differ in length,
/// [`Error::NotFinite`](crate::Error::NotFinite) for u.
pub fn directional(x: &[f64], u: &[f64], g: impl Fn(&[f64]) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    check_len("direction", u.len(), x.len())?;
    check_finite("direction", u)?;
    let size = norm(u);
    if size == 0.0 {
        return Ok(vec![0.0; g(x)?.len()]);
    }
    let largest = |values: &[f64]| values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let h = f64::EPSILON.cbrt() * largest(x).max(1.0) / largest(u);
    let at = |t: f64| -> Vec<f64> { x.iter().zip(u).map(|(x, u)| x + t * u).collect() };
    let (plus, minus) = (g(&at(h))?, g(&at(-h))?);
    check_len("value of G", minus.len(), plus.len())?;
    Ok(plus.iter().zip(&minus).map(|(a, b)| (a - b) / (2.0 * h)).collect())
}

/// ∇²_{θθ} g u from ∇_θ g.
///
/// # Errors
/// Those of [`Problem::grad_inner`].
pub fn hvp<P: Problem + ?Sized>(problem: &P, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
    directional(theta, u, |theta| problem.grad_inner(v, theta, batch))
}

/// Jᵀq from ∇_v g at θ ± hq.
///
/// # Errors
/// Those of [`Problem::grad_v`].
pub fn cross_vjp<P: Problem + ?Sized>(problem: &P, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
    directional(theta, q, |theta| problem.grad_v(v, theta, batch))
}

/// Ju from ∇_θ g at v ± hu.
///
/// # Errors
/// Those of [`Problem::grad_inner`].
pub fn cross_jvp<P: Problem + ?Sized>(problem: &P, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
    directional(v, u, |v| problem.grad_inner(v, theta, batch))
}
