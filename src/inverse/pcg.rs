//! Conjugate gradients with a sketch as preconditioner: P = F̂ + Λ' for a matrix F + Λ' or a true Hessian. With E = F − F̂ the condition
//! number of P^{-1/2}(F + Λ')P^{-1/2} is at most 1 + ‖E‖/λ_min(Λ'); for Λ' = μI and a Nyström sketch of 2⌈1.5 d_eff(μ)⌉ + 1 columns its
//! expectation is below 28 (Frangella, Tropp & Udell, arXiv 2110.02820). On a spectrum without a head to cut off, a sketch
//! is only a cost: the report says whether it helped.

use std::fmt;

use super::cg::{Coefficients, iterate};
use super::lanczos::extreme_eigenvalues;
use super::solve::{SolveOptions, SolveReport};
use crate::dense::{Matrix, eigh};
use crate::error::{Result, check_len};
use crate::operator::LinearOperator;
use crate::rng::Key;

/// When to stop, and how much to spend on telling what the preconditioner was worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PcgOptions {
    /// When to stop.
    pub solve: SolveOptions,
    /// Products with A itself, without the preconditioner, that estimate its condition; 0 for no comparison.
    pub trial_products: usize,
    /// The start of that estimate.
    pub key: Key,
}

impl Default for PcgOptions {
    fn default() -> Self {
        Self { solve: SolveOptions::default(), trial_products: 20, key: Key::new(0) }
    }
}

/// What the solve did, and what the preconditioner was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct PcgReport {
    /// The solve; the trial's products are in its count.
    pub solve: SolveReport,
    /// The condition number of the preconditioned operator, as the iterations saw it: at most the true one. 1 where there was none.
    pub condition: f64,
    /// That of A itself, as the trial saw it: at most the true one. `None` without a trial, or where A is not positive definite.
    pub plain_condition: Option<f64>,
}

/// Iterations go with the root of the condition: a preconditioner that saves less than a third of them is not worth its solves.
const WORTH: f64 = 1.5;

impl PcgReport {
    /// Whether the preconditioner helps: √(κ(A)/κ(P⁻¹A)) ≥ 1.5, by the estimates; `None` without a trial.
    pub fn helps(&self) -> Option<bool> {
        self.plain_condition.map(|plain| (plain / self.condition).sqrt() >= WORTH)
    }
}

impl fmt::Display for PcgReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} iterations; condition {:.3e}", self.solve.status, self.solve.iterations, self.condition)?;
        match (self.plain_condition, self.helps()) {
            (Some(plain), Some(true)) => write!(f, ", {plain:.3e} without the sketch"),
            (Some(plain), _) => {
                write!(f, ", {plain:.3e} without the sketch: it does not help here (solve without it, or take a larger sketch)")
            }
            (None, _) => Ok(()),
        }
    }
}

/// Solves A x = b, preconditioned with `inverse` ≈ A⁻¹, symmetric positive definite. One product with A and one with `inverse` an
/// iteration.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), [`Error::NotFinite`](crate::Error::NotFinite), [`Error::Argument`](crate::Error::Argument) for bad
/// options, and whatever the products themselves can meet. Negative curvature, of A or of the preconditioner, stagnation and
/// the step limit are a status.
pub fn preconditioned_conjugate_gradients<A: LinearOperator + ?Sized, P: LinearOperator + ?Sized>(
    a: &A,
    inverse: &P,
    b: &[f64],
    options: PcgOptions,
) -> Result<PcgReport> {
    check_len("preconditioner", inverse.dim(), a.dim())?;
    let (mut solve, coefficients) = iterate(a, |r| inverse.apply(r), b, options.solve)?;
    let mut plain_condition = None;
    if options.trial_products > 0 {
        let (estimate, products) = extreme_eigenvalues(a, options.trial_products, options.key)?;
        solve.products += products;
        plain_condition = estimate.filter(|e| e.smallest > 0.0).map(|e| e.largest / e.smallest);
    }
    Ok(PcgReport { condition: condition(&coefficients)?, solve, plain_condition })
}

/// κ of the Lanczos matrix that the coefficients are the factors of: diagonal 1/α_k + β_{k−1}/α_{k−1}, beside it √β_k/α_k.
fn condition(Coefficients { alphas, betas }: &Coefficients) -> Result<f64> {
    let k = alphas.len();
    if k == 0 {
        return Ok(1.0);
    }
    let tridiagonal = Matrix::from_fn(k, k, |i, j| match i.abs_diff(j) {
        0 => 1.0 / alphas[i] + if i > 0 { betas[i - 1] / alphas[i - 1] } else { 0.0 },
        1 => betas[i.min(j)].max(0.0).sqrt() / alphas[i.min(j)],
        _ => 0.0,
    });
    let values = eigh(&tridiagonal)?.values;
    let (largest, smallest) = (values[0], values[k - 1]);
    // Rounding can push the least Ritz value of a long run to zero.
    Ok(if smallest > 0.0 { largest / smallest } else { f64::INFINITY })
}
