//! Estimates of the Fisher matrix F = Σ w_i s_i s_iᵀ / n, built from a stream of gradient blocks. A family is one file: a
//! [`Curvature`] that absorbs, decays and merges, and hands out an [`Approximation`] F̂ that solves with F̂ + Λ'. Adding one is its
//! file and one line in the registry below.

mod dense;
mod low_rank;
mod nystrom;
mod rank_one;
mod rank_one_smoothed;
mod recovery;
mod sherman_morrison;
mod window;

use std::any::Any;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use dense::{Config as DenseConfig, Dense};
pub use low_rank::LowRank;
pub use nystrom::{Config as NystromConfig, Nystrom};
pub use rank_one::{Config as RankOneConfig, RankOne};
pub use rank_one_smoothed::{Config as RankOneSmoothedConfig, RankOneSmoothed};
pub use sherman_morrison::{BatchScaling, DenseInverse, OnKnownCurvature, UpdateRows, Weighting};
pub use window::{Config as WindowConfig, Window};

use crate::dense::Matrix;
use crate::error::{Error, Result, Status, check_finite, check_len};
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::operator::LinearOperator;
use crate::rng::Key;

/// A streaming estimate of F: a running sum of w s sᵀ and its mass (the number of samples), both decayed alike.
pub trait Curvature: Any + Send + Sync {
    /// The family's registry name.
    fn name(&self) -> &'static str;

    /// d.
    fn dim(&self) -> usize;

    /// The mass: samples absorbed, decayed.
    fn mass(&self) -> f64;

    /// Adds a block of per-sample gradients.
    ///
    /// # Errors
    /// [`Error::Shape`] for another dimension, [`Error::NotFinite`]; the estimate is unchanged then.
    fn absorb(&mut self, block: &GradientBlock) -> Result<()>;

    /// Multiplies sum and mass by 1 − γ, so that what comes later weighs more.
    ///
    /// # Errors
    /// [`Error::Argument`] for a γ outside [0, 1).
    fn decay(&mut self, gamma: f64) -> Result<()>;

    /// Adds what another estimate of the same family and settings has absorbed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if family or settings differ.
    fn merge(&mut self, other: &dyn Curvature) -> Result<()>;

    /// F̂, from all that was absorbed.
    ///
    /// # Errors
    /// [`Error::Argument`] before anything was absorbed, [`Error::Numerical`] if a factorization fails.
    fn approximate(&self) -> Result<Box<dyn Approximation>>;

    /// What went wrong numerically so far, and was dealt with: [`Status::WindUp`]; [`Status::Converged`] for nothing.
    fn status(&self) -> Status {
        Status::Converged {}
    }

    /// Versioned bytes that [`load`] turns back into this estimate.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    fn save(&self) -> Result<Vec<u8>>;

    /// A copy.
    fn boxed_clone(&self) -> Box<dyn Curvature>;
}

/// F̂, ready to be applied and solved with. As a [`LinearOperator`] it is x ↦ F̂x.
pub trait Approximation: LinearOperator {
    /// (F̂ + Λ')⁻¹ as an operator: factorized once, applied often.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Argument`] for a singular Λ', [`Error::Unsupported`] for a Λ' that the family cannot take.
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>>;

    /// (F̂ + Λ')⁻¹ b.
    ///
    /// # Errors
    /// As [`inverse`](Self::inverse), and [`Error::NotFinite`].
    fn solve(&self, known: &KnownCurvature, rhs: &[f64]) -> Result<Vec<f64>> {
        check_len("rhs", rhs.len(), self.dim())?;
        check_finite("rhs", rhs)?;
        self.inverse(known)?.apply(rhs)
    }

    /// An interval for the residual E = F − F̂ against the matrix as it was fed, rounding included.
    fn interval(&self) -> Option<Interval>;

    /// tr F̂.
    fn trace(&self) -> f64;
}

/// lo·I ≼ F − F̂ ≼ hi·I.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub lo: f64,
    /// The upper end.
    pub hi: f64,
    /// How certain it is.
    pub certainty: Certainty,
}

/// What kind of statement an interval is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// Holds always.
    Deterministic {},
    /// Holds with at least this probability.
    Probability {
        /// The probability.
        at_least: f64,
    },
}

/// Declares the registry: for each family its variant, its name, its type and its one-line description.
macro_rules! families {
    ($($variant:ident($module:ident::$family:ident): $about:literal;)*) => {
        /// The configuration of a curvature family.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum CurvatureConfig {
            $(#[doc = $about] $variant($module::Config),)*
        }

        impl CurvatureConfig {
            /// Name and description of every family.
            pub const REGISTRY: &'static [(&'static str, &'static str)] = &[$(($family::NAME, $about)),*];

            /// The family's default settings.
            pub fn default_of(name: &str) -> Option<Self> {
                match name {
                    $($family::NAME => Some(Self::$variant($module::Config::default())),)*
                    _ => None,
                }
            }

            /// The family's name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $family::NAME,)* }
            }

            /// Checks the settings.
            ///
            /// # Errors
            /// [`Error::Argument`] that names the setting.
            pub fn validate(&self) -> Result<()> {
                match self { $(Self::$variant(config) => config.validate(),)* }
            }

            /// An empty estimate for d = `dim`; `key` decides what is random about it.
            ///
            /// # Errors
            /// [`Error::Argument`] for settings that do not fit d.
            pub fn build(&self, dim: usize, key: Key) -> Result<Box<dyn Curvature>> {
                self.validate()?;
                match self { $(Self::$variant(config) => Ok(Box::new($family::new(dim, config, key)?)),)* }
            }
        }

        fn load_family(name: &str, payload: &[u8]) -> Result<Option<Box<dyn Curvature>>> {
            match name {
                $($family::NAME => Ok(Some(Box::new(decode::<$family>(payload)?))),)*
                _ => Ok(None),
            }
        }
    };
}

families! {
    Window(window::Window): "the last m samples' rows, solved exactly in sample space";
    Nystrom(nystrom::Nystrom): "a streaming randomized Nyström sketch of all rows";
    Dense(dense::Dense): "the d × d matrix itself: the reference, for small d";
    RankOne(rank_one::RankOne): "the paper's dense inverse of the mean of s sᵀ, updated row by row: for small d";
    RankOneSmoothed(rank_one_smoothed::RankOneSmoothed): "the paper's dense inverse of the smoothed s sᵀ, updated row by row: for small d";
}

/// The version of the bytes that [`Curvature::save`] writes.
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    format: String,
    version: u32,
    family: String,
    /// Of the payload: a changed byte would otherwise pass as another number.
    checksum: u64,
    payload: Vec<u8>,
}

/// FNV-1a: notices a changed byte, and is no protection against a forged one.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn encode<T: Serialize>(family: &str, state: &T) -> Result<Vec<u8>> {
    let failed = |e: postcard::Error| Error::Numerical { operation: "saving a curvature", reason: e.to_string() };
    let payload = postcard::to_stdvec(state).map_err(failed)?;
    let checksum = checksum(&payload);
    let saved = Saved { format: "nhgd-curvature".into(), version: FORMAT_VERSION, family: family.into(), checksum, payload };
    postcard::to_stdvec(&saved).map_err(failed)
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => {
            Err(Error::argument("saved curvature", "bytes that `save` wrote", format_args!("{} bytes more", rest.len())))
        }
        Err(e) => Err(Error::argument("saved curvature", "bytes that `save` wrote", e)),
    }
}

/// Turns the bytes of [`Curvature::save`] back into an estimate.
///
/// # Errors
/// [`Error::Argument`] for bytes of another kind, version or family, or that are cut short.
pub fn load(bytes: &[u8]) -> Result<Box<dyn Curvature>> {
    let saved: Saved = decode(bytes)?;
    if saved.format != "nhgd-curvature" || saved.version != FORMAT_VERSION {
        let expected = format!("nhgd-curvature of version {FORMAT_VERSION}");
        return Err(Error::argument("saved curvature", expected, format_args!("{} of version {}", saved.format, saved.version)));
    }
    if checksum(&saved.payload) != saved.checksum {
        return Err(Error::argument("saved curvature", "bytes that `save` wrote", "damaged ones (the checksum differs)"));
    }
    load_family(&saved.family, &saved.payload)?
        .ok_or_else(|| Error::argument("saved curvature", "a registered family", format_args!("`{}`", saved.family)))
}

/// Checks a block before it is absorbed.
fn check_block(block: &GradientBlock, dim: usize) -> Result<()> {
    check_len("gradient block dimension", block.dim(), dim)?;
    block.check_finite()?;
    // Finite entries whose squares are not would poison the sums.
    check_finite("squared norms of gradient rows", &block.squared_row_norms())
}

fn check_decay(gamma: f64) -> Result<()> {
    if (0.0..1.0).contains(&gamma) { Ok(()) } else { Err(Error::argument("decay", "a number in [0, 1)", gamma)) }
}

/// The other estimate as the same family.
fn same_family<'a, T: Curvature>(this: &T, other: &'a dyn Curvature) -> Result<&'a T> {
    (other as &dyn Any).downcast_ref::<T>().ok_or_else(|| {
        Error::unsupported(format_args!("merging a `{}` into a `{}`", other.name(), this.name()), "merge estimates of one family")
    })
}

/// The error of an estimate that has absorbed nothing.
fn nothing_absorbed() -> Error {
    Error::argument("curvature", "at least one absorbed sample", "none")
}

/// The symmetric operator form of a dense approximation's inverse.
struct Factorized(crate::dense::Cholesky);

impl LinearOperator for Factorized {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        self.0.solve(x)
    }

    fn apply_columns(&self, x: &Matrix) -> Result<Matrix> {
        let mut x = x.clone();
        self.0.solve_in_place(&mut x)?;
        Ok(x)
    }
}
