//! F̂ = RᵀR/m for a block of rows R: the approximation that `window` and every sketch hand out, solved with by Woodbury.

use super::{Approximation, Interval};
use crate::dense::Matrix;
use crate::error::{Result, check_finite, check_len, check_positive};
use crate::gradient::GradientBlock;
use crate::inverse::{KnownCurvature, Woodbury};
use crate::operator::LinearOperator;

/// F̂ = RᵀR/m.
#[derive(Debug, Clone)]
pub struct LowRank {
    rows: GradientBlock,
    mass: f64,
    interval: Option<Interval>,
}

impl LowRank {
    /// The approximation RᵀR/m with an interval for its residual.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a mass that is not positive, [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn new(rows: GradientBlock, mass: f64, interval: Option<Interval>) -> Result<Self> {
        check_positive("mass", mass)?;
        rows.check_finite()?;
        Ok(Self { rows, mass, interval })
    }

    /// The rows R.
    pub fn rows(&self) -> &GradientBlock {
        &self.rows
    }
}

impl LinearOperator for LowRank {
    fn dim(&self) -> usize {
        self.rows.dim()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        check_len("x", x.len(), self.dim())?;
        check_finite("x", x)?;
        Ok(self.apply_columns(&Matrix::column(x.to_vec()))?.into_vec())
    }

    fn apply_columns(&self, x: &Matrix) -> Result<Matrix> {
        let mut y = self.rows.accumulate(&self.rows.project(x)?)?;
        y.scale(1.0 / self.mass);
        Ok(y)
    }
}

impl Approximation for LowRank {
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>> {
        Ok(Box::new(Woodbury::new(&self.rows, self.mass, known)?))
    }

    fn interval(&self) -> Option<Interval> {
        self.interval
    }

    fn trace(&self) -> f64 {
        self.rows.squared_row_norms().iter().sum::<f64>() / self.mass
    }
}
