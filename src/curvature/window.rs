//! The window: the last m samples' rows, in the form they came, solved with exactly in sample space. No sketch error; absorbing
//! costs a copy of the factors at most, and none where the block is handed over. The idea is M-FAC's (Frantar, Kurtic & Alistarh
//! 2021), here with Kronecker-factored rows.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Approximation, Certainty, Curvature, Interval, LowRank};
use crate::error::{Error, Result, check_count};
use crate::gradient::GradientBlock;
use crate::reused::Reused;
use crate::rng::Key;

/// The settings of [`Window`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// m: how many samples are kept.
    pub samples: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { samples: 1024 }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("samples", self.samples)
    }
}

/// The last m samples' rows. F is the mean over *these* samples: what fell out of the window is no longer part of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Window {
    dim: usize,
    capacity: usize,
    kept: VecDeque<Kept>,
}

/// A block and what decay has left of its weight.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    block: Arc<GradientBlock>,
    weight: f64,
}

impl Window {
    /// The registry name.
    pub const NAME: &'static str = "window";

    /// An empty window for d = `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a size of 0.
    pub fn new(dim: usize, config: &Config, _key: Key) -> Result<Self> {
        check_count("dim", dim)?;
        config.validate()?;
        Ok(Self { dim, capacity: config.samples, kept: VecDeque::new() })
    }

    /// Its settings.
    pub(super) fn config(&self) -> Config {
        Config { samples: self.capacity }
    }

    /// Checks that a block's rows can stand beside those that are kept, so that `approximate` need not fail later.
    fn check_form(&self, block: &GradientBlock) -> Result<()> {
        match self.kept.back() {
            None => Ok(()),
            Some(kept) => GradientBlock::stack(&[&kept.block.last_samples(1), &block.last_samples(1)]).map(drop),
        }
    }

    /// Adds a block at the end and lets go of what is beyond the capacity; only a block that is kept in part is copied.
    fn push(&mut self, block: Arc<GradientBlock>, weight: f64) {
        let block = if block.samples() > self.capacity { Arc::new(block.last_samples(self.capacity)) } else { block };
        self.kept.push_back(Kept { block, weight });
        let mut excess = self.kept.iter().map(|k| k.block.samples()).sum::<usize>().saturating_sub(self.capacity);
        while excess > 0 {
            let Some(oldest) = self.kept.front_mut() else { return };
            let samples = oldest.block.samples();
            if samples <= excess {
                self.kept.pop_front();
            } else {
                oldest.block = Arc::new(oldest.block.last_samples(samples - excess));
            }
            excess = excess.saturating_sub(samples);
        }
    }

    /// All rows, each block's times the root of its weight: the block itself where there is one of weight 1.
    fn rows(&self) -> Result<Arc<GradientBlock>> {
        let scaled = |k: &Kept| {
            if k.weight == 1.0 {
                return Arc::clone(&k.block);
            }
            let mut block = GradientBlock::clone(&k.block);
            block.scale(k.weight.sqrt());
            Arc::new(block)
        };
        let blocks: Vec<_> = self.kept.iter().map(scaled).collect();
        match blocks.as_slice() {
            [] => Err(super::nothing_absorbed()),
            [one] => Ok(Arc::clone(one)),
            several => Ok(Arc::new(GradientBlock::stack(&several.iter().map(Arc::as_ref).collect::<Vec<_>>())?)),
        }
    }
}

impl Curvature for Window {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn mass(&self) -> f64 {
        self.kept.iter().map(|k| k.weight * k.block.samples() as f64).sum()
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        super::check_block(block, self.dim)?;
        self.check_form(block)?;
        self.push(Arc::new(block.last_samples(self.capacity)), 1.0);
        Ok(())
    }

    fn absorb_owned(&mut self, block: GradientBlock) -> Result<()> {
        super::check_block(&block, self.dim)?;
        self.check_form(&block)?;
        self.push(Arc::new(block), 1.0);
        Ok(())
    }

    fn horizon(&self) -> Option<usize> {
        Some(self.capacity)
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        self.kept.iter_mut().for_each(|k| k.weight *= 1.0 - gamma);
        Ok(())
    }

    /// The other window's rows count as the newer ones.
    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        if (other.dim, other.capacity) != (self.dim, self.capacity) {
            let what = format!(
                "merging a window of d = {}, m = {} into d = {}, m = {}",
                other.dim, other.capacity, self.dim, self.capacity
            );
            return Err(Error::unsupported(what, "use the same dimension and window"));
        }
        other.kept.iter().try_for_each(|k| self.check_form(&k.block))?;
        other.kept.iter().for_each(|k| self.push(Arc::clone(&k.block), k.weight));
        Ok(())
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        let (mass, rows) = (self.mass(), self.rows()?);
        // Nothing is left out; only forming the products rounds.
        let trace = Reused::from(rows.squared_row_norms()).iter().sum::<f64>() / mass;
        let rounding = 4.0 * (rows.rows() as f64).sqrt() * f64::EPSILON * trace;
        let interval = Interval { lo: -rounding, hi: rounding, certainty: Certainty::Deterministic {} };
        Ok(Box::new(LowRank::shared(rows, mass, Some(interval))?))
    }

    fn trace(&self) -> Option<f64> {
        let sum = |k: &Kept| k.weight * k.block.squared_row_norms().iter().sum::<f64>();
        (!self.kept.is_empty()).then(|| self.kept.iter().map(sum).sum::<f64>() / self.mass())
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(Self::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}
