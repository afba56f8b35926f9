//! What every iterative solver is asked and what it answers.

use serde::{Deserialize, Serialize};

use crate::dense::norm;
use crate::error::{Error, Result, Status, check_count, check_finite, check_len, check_nonnegative};

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SolveOptions {
    /// The residual norm to reach, relative to ‖b‖.
    pub tolerance: f64,
    /// The most iterations, of one product each.
    pub max_iterations: usize,
}

impl Default for SolveOptions {
    fn default() -> Self {
        Self { tolerance: 1e-10, max_iterations: 1000 }
    }
}

/// What a solver did. No number in it is NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct SolveReport {
    /// The estimate of A⁻¹b.
    pub solution: Vec<f64>,
    /// The iterations.
    pub iterations: usize,
    /// All products with A: those of the iterations, and what else the solver needed.
    pub products: usize,
    /// ‖b − A x‖ / ‖b‖ as computed from the solution, not by a recursion (0 for b = 0, ∞ where A x leaves the finite numbers).
    pub relative_residual: f64,
    /// How it ended.
    pub status: Status,
}

/// A checked right-hand side over a power of two, so that no square of it overflows or vanishes and no bit of it changes.
pub(super) struct Target {
    /// b / scale, of a norm near 1.
    pub(super) rhs: Vec<f64>,
    /// ‖b‖ / scale.
    pub(super) norm: f64,
    /// The residual norm to reach, over scale.
    pub(super) residual: f64,
    scale: f64,
}

impl Target {
    pub(super) fn new(dim: usize, b: &[f64], options: SolveOptions) -> Result<Self> {
        check_len("rhs", b.len(), dim)?;
        check_finite("rhs", b)?;
        check_nonnegative("tolerance", options.tolerance)?;
        check_count("max_iterations", options.max_iterations)?;
        let length = norm(b);
        if !length.is_finite() {
            return Err(Error::argument("rhs", "a norm that is finite", length));
        }
        let scale = if length > 0.0 { 2.0_f64.powi(length.log2().floor().max(-1000.0) as i32) } else { 1.0 };
        let rhs: Vec<f64> = b.iter().map(|x| x / scale).collect();
        let norm = norm(&rhs);
        Ok(Self { rhs, norm, residual: options.tolerance * norm, scale })
    }

    /// A residual norm relative to ‖b‖.
    pub(super) fn relative(&self, residual: f64) -> f64 {
        match residual {
            _ if !residual.is_finite() => f64::INFINITY,
            _ if self.norm > 0.0 => residual / self.norm,
            _ => residual,
        }
    }

    /// The report of an estimate for `rhs` with its residual norm; one that b itself makes overflow is a breakdown.
    pub(super) fn report(&self, estimate: &[f64], residual: f64, work: (usize, usize), status: Status) -> SolveReport {
        let (iterations, products) = work;
        let solution: Vec<f64> = estimate.iter().map(|x| x * self.scale).collect();
        if solution.iter().all(|x| x.is_finite()) {
            return SolveReport { solution, iterations, products, relative_residual: self.relative(residual), status };
        }
        let status = Status::Breakdown { step: iterations, residual: 1.0 };
        SolveReport { solution: vec![0.0; estimate.len()], iterations, products, relative_residual: 1.0, status }
    }
}
