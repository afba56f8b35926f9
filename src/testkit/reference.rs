//! The suites' own arithmetic, independent of what they examine: sums carried to about 32 digits (Dekker 1971: error-free product and
//! sum), the Fisher matrix of expanded rows, and a dense solve refined until rounding stops it.

use super::cases::Case;
use crate::dense::{Cholesky, Matrix, eigh};
use crate::error::Result;
use crate::inverse::KnownCurvature;

/// A sum of about 32 digits: a number and what rounding took from it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Twofold(pub f64, pub f64);

impl Twofold {
    /// Adds a number.
    pub fn add(&mut self, x: f64) {
        let sum = self.0 + x;
        let back = sum - self.0;
        self.1 += (self.0 - (sum - back)) + (x - back);
        self.0 = sum;
    }

    /// Adds a product, its rounding included.
    pub fn add_product(&mut self, a: f64, b: f64) {
        let product = a * b;
        self.add(product);
        self.add(a.mul_add(b, -product));
    }

    /// The sum, rounded once.
    pub fn value(self) -> f64 {
        self.0 + self.1
    }
}

/// Σ weight · GᵀG / Σ weight · samples − `minus`, each entry rounded once; of `minus`, which is symmetric, the lower triangle is
/// read; 0 × 0 for no parts.
pub fn fisher_minus(parts: &[(&Case, f64)], minus: Option<&Matrix>) -> Matrix {
    let d = parts.first().map_or(0, |(case, _)| case.expanded.ncols());
    let mass: f64 = parts.iter().map(|(case, weight)| weight * case.samples as f64).sum();
    let entry = |i: usize, j: usize| {
        let mut sum = Twofold::default();
        for (case, weight) in parts {
            let mut part = Twofold::default();
            case.expanded.col(i).iter().zip(case.expanded.col(j)).for_each(|(&a, &b)| part.add_product(a, b));
            sum.add_product(part.0, *weight);
            sum.add_product(part.1, *weight);
        }
        if let Some(minus) = minus {
            sum.add_product(minus[(i, j)], -mass);
        }
        sum.value() / mass
    };
    let lower = Matrix::from_fn(d, d, |i, j| if i < j { 0.0 } else { entry(i, j) });
    Matrix::from_fn(d, d, |i, j| lower[(i.max(j), i.min(j))])
}

/// F = Σ GᵀG / Σ samples.
pub fn fisher(cases: &[&Case]) -> Matrix {
    fisher_minus(&cases.iter().map(|case| (*case, 1.0)).collect::<Vec<_>>(), None)
}

/// (A + Λ')⁻¹b for a symmetric A by a dense factorization, refined with residuals of 32 digits.
///
/// # Errors
/// As [`Cholesky::new`].
pub fn dense_solve(a: &Matrix, known: &KnownCurvature, b: &[f64]) -> Result<Vec<f64>> {
    let d = b.len();
    let mut sum = a.clone();
    known.add_to(&mut sum)?;
    let factor = Cholesky::new(sum)?;
    let mut x = factor.solve(b)?;
    for _ in 0..4 {
        let residual: Vec<f64> = (0..d)
            .map(|i| {
                let mut r = Twofold::default();
                r.add(b[i]);
                (0..d).for_each(|j| r.add_product(-a[(i, j)], x[j]));
                r.add_product(-known.entry(i), x[i]);
                r.value()
            })
            .collect();
        factor.solve(&residual)?.iter().zip(&mut x).for_each(|(correction, x)| *x += correction);
    }
    Ok(x)
}

/// The extreme eigenvalues of F − F̂, and the rounding of this computation itself: F̂ is known by products alone, whose sums of up
/// to d terms round.
#[derive(Debug, Clone, Copy)]
pub struct ResidualRange {
    /// The least eigenvalue.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// What either may be off by.
    pub rounding: f64,
}

impl ResidualRange {
    /// Of `residual` = F − F̂, for F̂ = `approximated`.
    ///
    /// # Errors
    /// As [`eigh`].
    pub fn new(residual: &Matrix, approximated: &Matrix) -> Result<Self> {
        let values = eigh(residual)?.values;
        let (low, high) = (values.last().copied().unwrap_or(0.0), values.first().copied().unwrap_or(0.0));
        let rounding = 2.0 * (approximated.nrows() as f64).sqrt() * f64::EPSILON * (approximated.trace() + high.abs());
        Ok(Self { low, high, rounding })
    }
}
