//! The smoothed update of the paper's experiments (Kong, Chen, Zhang & Mou 2026): Ĥ ← (1 − γ)Ĥ + γ s sᵀ from Ĥ = βI, with the inverse
//! updated for each row. In a direction that no row has, the inverse grows as (1 − γ)^−k: it is watched and formed anew.

use serde::{Deserialize, Serialize};

use super::sherman_morrison::{BatchScaling, DenseInverse, OnKnownCurvature, Settings, UpdateRows, Weighting, check_beta};
use crate::error::{Error, Result, check_count};
use crate::rng::Key;

/// The settings of [`RankOneSmoothed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// γ, in (0, 1): the weight of a new row.
    pub gamma: f64,
    /// β: Ĥ begins as βI.
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
        let super::RankOneConfig { beta, rows, batch_scaling, known_curvature, max_bytes } = Default::default();
        Self { gamma: 0.01, beta, rows, batch_scaling, known_curvature, max_bytes }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        if !(1.0 - self.gamma < 1.0 && self.gamma < 1.0) {
            return Err(Error::argument("gamma", "a number in (0, 1)", self.gamma));
        }
        check_beta(self.beta)?;
        check_count("max_bytes", self.max_bytes)
    }
}

/// Each row outweighs the one before by 1/(1 − γ).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Smoothing {
    gamma: f64,
}

impl Weighting for Smoothing {
    const NAME: &'static str = "rank-one-smoothed";

    fn keep(&self) -> f64 {
        1.0 - self.gamma
    }

    /// Ĥ/γ = Σ (1 − γ)^(k−j) s_j s_jᵀ + (1 − γ)^k (β/γ) I: the start counts for as much as all rows ever will.
    fn start(&self, beta: f64) -> (f64, f64) {
        (beta / self.gamma, 1.0 / self.gamma)
    }
}

/// The inverse of Ĥ ← (1 − γ)Ĥ + γ s sᵀ.
pub type RankOneSmoothed = DenseInverse<Smoothing>;

impl RankOneSmoothed {
    /// The registry name.
    pub const NAME: &'static str = Smoothing::NAME;

    /// Ĥ = βI of order `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a β that is not positive, a γ outside (0, 1), or where 16d² bytes exceed `max_bytes`.
    pub fn new(dim: usize, config: &Config, _key: Key) -> Result<Self> {
        config.validate()?;
        let Config { gamma, beta, rows, batch_scaling, known_curvature, max_bytes } = *config;
        Self::begin(dim, Smoothing { gamma }, Settings { beta, rows, batch_scaling, known_curvature }, max_bytes)
    }
}
