//! F̂ = RᵀR/m + αI for a block of rows R: the approximation that `window` and every sketch hand out, solved with by Woodbury.

use std::sync::Arc;

use super::probes::ProbedResidual;
use super::{Approximation, Certainty, Interval};
use crate::dense::{Matrix, axpy};
use crate::error::{Result, check_finite, check_len, check_nonnegative, check_positive};
use crate::gradient::GradientBlock;
use crate::inverse::{Bracket, KnownCurvature, Parts, RowSpace, Woodbury};
use crate::operator::LinearOperator;

/// RᵀR/m.
#[derive(Debug, Clone)]
struct Core {
    rows: Arc<GradientBlock>,
    mass: f64,
}

/// F̂ = RᵀR/m + αI.
#[derive(Debug, Clone)]
pub struct LowRank {
    core: Core,
    /// α.
    shift: f64,
    interval: Option<Interval>,
    /// What probes say of F − RᵀR/m.
    probed: Option<ProbedResidual>,
}

impl LowRank {
    /// The approximation RᵀR/m with an interval for its residual.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a mass that is not positive, [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn new(rows: GradientBlock, mass: f64, interval: Option<Interval>) -> Result<Self> {
        Self::shared(Arc::new(rows), mass, interval)
    }

    /// The same of rows that others hold too.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn shared(rows: Arc<GradientBlock>, mass: f64, interval: Option<Interval>) -> Result<Self> {
        check_positive("mass", mass)?;
        rows.check_finite()?;
        Ok(Self { core: Core { rows, mass }, shift: 0.0, interval, probed: None })
    }

    /// The same with what probes say of its residual.
    pub fn with_probes(self, probed: Option<ProbedResidual>) -> Self {
        Self { probed, ..self }
    }

    /// The same with αI added, and its interval moved.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for an α that is negative or not finite.
    pub fn with_shift(self, shift: f64) -> Result<Self> {
        check_nonnegative("shift", shift)?;
        let moved = shift - self.shift;
        let interval = self.interval.map(|i| Interval { lo: i.lo - moved, hi: i.hi - moved, ..i });
        Ok(Self { shift, interval, ..self })
    }

    /// The rows R.
    pub fn rows(&self) -> &GradientBlock {
        &self.core.rows
    }
}

impl LinearOperator for Core {
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

impl LinearOperator for LowRank {
    fn dim(&self) -> usize {
        self.core.dim()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        Ok(self.apply_columns(&Matrix::column(x.to_vec()))?.into_vec())
    }

    fn apply_columns(&self, x: &Matrix) -> Result<Matrix> {
        let mut y = self.core.apply_columns(x)?;
        if self.shift > 0.0 {
            axpy(self.shift, x.as_slice(), y.as_mut_slice());
        }
        Ok(y)
    }
}

impl Approximation for LowRank {
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>> {
        Ok(Box::new(Woodbury::new(&self.core.rows, self.core.mass, &known.plus(self.shift)?)?))
    }

    fn interval(&self) -> Option<Interval> {
        self.interval
    }

    fn interval_at(&self, failure: f64) -> Result<Option<Interval>> {
        let (Some(interval), Some(probed)) = (self.interval, &self.probed) else { return Ok(self.interval) };
        let hi = probed.upper_end(failure)? - self.shift;
        Ok(Some(if hi < interval.hi {
            Interval { hi, certainty: Certainty::Probability { at_least: 1.0 - failure }, ..interval }
        } else {
            interval
        }))
    }

    fn row_space(&self) -> Result<Option<RowSpace<'_>>> {
        RowSpace::new(&self.core.rows, self.core.mass, self.shift).map(Some)
    }

    fn bracket(&self, known: &KnownCurvature, failure: Option<f64>) -> Result<Bracket<'_>> {
        let (lower, upper, certainty) = super::bracket_ends(self, known, failure, self.shift)?;
        let Core { rows, mass } = &self.core;
        let parts = Parts {
            estimate: &self.core,
            trace: self.trace(),
            lower_inverse: Box::new(Woodbury::new(rows, *mass, &lower)?),
            upper_inverse: Box::new(Woodbury::new(rows, *mass, &upper)?),
            row_space: Box::new(|| RowSpace::new(rows, *mass, 0.0).map(Some)),
        };
        Bracket::new(parts, (lower, upper), certainty)
    }

    fn trace(&self) -> f64 {
        self.core.rows.squared_row_norms().iter().sum::<f64>() / self.core.mass + self.shift * self.dim() as f64
    }
}
