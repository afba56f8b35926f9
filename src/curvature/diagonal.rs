//! The diagonal of F: what Adam and its kin keep. A reference: no interval, for it says nothing of what lies off the diagonal.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Approximation, Curvature, Interval};
use crate::error::{Error, Result, check_count, check_len};
use crate::gradient::GradientBlock;
use crate::inverse::{Bracket, KnownCurvature};
use crate::operator::{self, LinearOperator};
use crate::rng::Key;

/// [`Diagonal`] has no settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// Σ w s ∘ s and its mass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Diagonal {
    sum: Vec<f64>,
    mass: f64,
}

impl Diagonal {
    /// The registry name.
    pub const NAME: &'static str = "diagonal";

    /// The zero diagonal of length `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a dimension of 0.
    pub fn new(dim: usize, _config: &Config, _key: Key) -> Result<Self> {
        check_count("dim", dim)?;
        Ok(Self { sum: vec![0.0; dim], mass: 0.0 })
    }
}

impl Curvature for Diagonal {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.sum.len()
    }

    fn mass(&self) -> f64 {
        self.mass
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        super::check_block(block, self.dim())?;
        self.sum.iter_mut().zip(block.squared_column_norms()).for_each(|(sum, x)| *sum += x);
        self.mass += block.samples() as f64;
        Ok(())
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        self.sum.iter_mut().for_each(|sum| *sum *= 1.0 - gamma);
        self.mass *= 1.0 - gamma;
        Ok(())
    }

    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        if other.dim() != self.dim() {
            let what = format!("merging dimension {} into {}", other.dim(), self.dim());
            return Err(Error::unsupported(what, "use the same dimension"));
        }
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, x)| *sum += x);
        self.mass += other.mass;
        Ok(())
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        if self.mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        Ok(Box::new(DiagonalApproximation(self.sum.iter().map(|sum| sum / self.mass).collect())))
    }

    fn trace(&self) -> Option<f64> {
        (self.mass > 0.0).then(|| self.sum.iter().sum::<f64>() / self.mass)
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(Self::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}

/// diag(F).
struct DiagonalApproximation(Vec<f64>);

impl LinearOperator for DiagonalApproximation {
    fn dim(&self) -> usize {
        self.0.len()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        check_len("x", x.len(), self.dim())?;
        Ok(self.0.iter().zip(x).map(|(a, x)| a * x).collect())
    }
}

impl Approximation for DiagonalApproximation {
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>> {
        check_len("known curvature", known.dim(), self.dim())?;
        known.check_invertible()?;
        let inverse = self.0.iter().enumerate().map(|(i, a)| 1.0 / (a + known.entry(i))).collect();
        Ok(Box::new(operator::Diagonal::new(inverse)?))
    }

    fn interval(&self) -> Option<Interval> {
        None
    }

    fn eigenvalues(&self) -> Result<Vec<f64>> {
        let mut values = self.0.clone();
        values.sort_by(|a, b| b.total_cmp(a));
        Ok(values)
    }

    fn bracket(&self, known: &KnownCurvature, failure: Option<f64>) -> Result<Bracket<'_>> {
        super::bracket(self, known, failure)
    }

    fn trace(&self) -> f64 {
        self.0.iter().sum()
    }
}
