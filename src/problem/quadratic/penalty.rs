//! ½ vᵀPv, what the outer function adds to its loss.

use crate::dense::{Matrix, dot, matvec};
use crate::error::Result;

/// A symmetric positive definite P of order d1.
#[derive(Debug, Clone)]
pub(super) enum Penalty {
    /// αI.
    Scalar(f64),
    /// P as it is.
    Matrix(Matrix),
}

impl Penalty {
    /// Pv
    pub(super) fn apply(&self, v: &[f64]) -> Result<Vec<f64>> {
        match self {
            Self::Scalar(alpha) => Ok(v.iter().map(|v| alpha * v).collect()),
            Self::Matrix(p) => matvec(p, v),
        }
    }

    /// vᵀPv
    pub(super) fn quadratic(&self, v: &[f64]) -> Result<f64> {
        match self {
            Self::Scalar(alpha) => Ok(alpha * dot(v, v)),
            Self::Matrix(p) => Ok(dot(v, &matvec(p, v)?)),
        }
    }

    /// Adds P to a matrix.
    pub(super) fn add_to(&self, matrix: &mut Matrix) -> Result<()> {
        match self {
            Self::Scalar(alpha) => (0..matrix.nrows()).for_each(|i| matrix[(i, i)] += alpha),
            Self::Matrix(p) => matrix.add_scaled(1.0, p)?,
        }
        Ok(())
    }
}
