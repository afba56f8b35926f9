//! Robust Frequent Directions (Luo, Chen, Zhang, Li & Zhang 2017, arXiv 1705.05067): the buffer of Frequent Directions with half of what was
//! lost put back on the diagonal, F̂ = BᵀB/n + (Δ/2)I. The residual then lies within ±(Δ/2)I: half the error in the worst case.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use super::frequent_directions::Config;
use super::frequent_directions::FrequentDirections;
use super::{Approximation, Curvature, Feed};
use crate::error::Result;
use crate::gradient::GradientBlock;
use crate::rng::Key;

/// Frequent Directions, corrected on the diagonal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RobustFrequentDirections(FrequentDirections);

impl RobustFrequentDirections {
    /// The registry name.
    pub const NAME: &'static str = "robust-frequent-directions";

    /// An empty sketch for d = `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a sketch size of 0 or above d.
    pub fn new(dim: usize, config: &Config, key: Key) -> Result<Self> {
        FrequentDirections::new(dim, config, key).map(Self)
    }

    /// ℓ.
    pub fn sketch_size(&self) -> usize {
        self.0.sketch_size()
    }
}

impl Curvature for RobustFrequentDirections {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn mass(&self) -> f64 {
        self.0.mass()
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        self.0.absorb(block)
    }

    fn feed(&self) -> Option<Feed> {
        self.0.feed()
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        self.0.decay(gamma)
    }

    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        self.0.merge(&other.0)
    }

    fn grow(&mut self, size: usize) -> Result<()> {
        self.0.grow(size)
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        Ok(Box::new(self.0.approximation(|lost| 0.5 * lost)?))
    }

    fn trace(&self) -> Option<f64> {
        self.0.trace()
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(Self::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}
