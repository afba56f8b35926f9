//! The update of the paper's Algorithm 1 (Kong, Chen, Zhang & Mou 2026), literally: the inverse of (βI + Σ_{j≤k} s_j s_jᵀ)/k, kept as
//! k·P and updated for each row. The reference that the sketches stand against: O(d²) memory, O(d²) a row, and no Λ' can be added.

use serde::{Deserialize, Serialize};

use super::sherman_morrison::{BatchScaling, DenseInverse, OnKnownCurvature, Settings, UpdateRows, Weighting, check_beta};
use crate::error::{Result, check_count};
use crate::rng::Key;

/// The settings of [`RankOne`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// β: P begins as I/β. The smaller against ‖Σ s sᵀ‖, the fewer digits survive.
    pub beta: f64,
    /// What an update is made with.
    pub rows: UpdateRows,
    /// How the mean row of a block is scaled.
    pub batch_scaling: BatchScaling,
    /// What to do about a Λ' that is not zero.
    pub known_curvature: OnKnownCurvature,
    /// The most memory that the two d × d matrices may take, in bytes; more is refused with the need.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            beta: 1.0,
            rows: UpdateRows::Samples,
            batch_scaling: BatchScaling::Corrected,
            known_curvature: OnKnownCurvature::Refuse,
            max_bytes: 1 << 30,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_beta(self.beta)?;
        check_count("max_bytes", self.max_bytes)
    }
}

/// Every row counts alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {}

impl Weighting for Mean {
    const NAME: &'static str = "rank-one";

    fn keep(&self) -> f64 {
        1.0
    }

    fn start(&self, beta: f64) -> (f64, f64) {
        (beta, 0.0)
    }
}

/// The inverse of (βI + Σ s sᵀ)/k.
pub type RankOne = DenseInverse<Mean>;

impl RankOne {
    /// The registry name.
    pub const NAME: &'static str = Mean::NAME;

    /// P = I/β of order `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a β that is not positive, or where 16d² bytes exceed `max_bytes`.
    pub fn new(dim: usize, config: &Config, _key: Key) -> Result<Self> {
        config.validate()?;
        let Config { beta, rows, batch_scaling, known_curvature, max_bytes } = *config;
        Self::begin(dim, Mean {}, Settings { beta, rows, batch_scaling, known_curvature }, max_bytes)
    }
}
