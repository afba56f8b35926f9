//! Estimates of the Fisher matrix F = Σ w_i s_i s_iᵀ / n, built from a stream of gradient blocks. A family is one file: a
//! [`Curvature`] that absorbs, decays and merges, and hands out an [`Approximation`] F̂ that solves with F̂ + Λ'. Adding one is its
//! file and one line in the registry below.

mod damped;
mod dense;
mod diagonal;
mod feed;
#[cfg(feature = "io")]
mod file;
mod frequent_directions;
mod kfac;
mod low_rank;
mod nystrom;
mod probes;
mod rank_one;
mod rank_one_smoothed;
mod recovery;
mod robust_frequent_directions;
mod saved;
mod sherman_morrison;
mod test_matrix;
mod window;

use std::any::Any;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use damped::DampedSolver;
pub use dense::{Config as DenseConfig, Dense};
pub use diagonal::{Config as DiagonalConfig, Diagonal};
pub use feed::Feed;
#[cfg(feature = "io")]
pub use file::{Sketch, SketchManifest};
pub use frequent_directions::{Config as FrequentDirectionsConfig, FrequentDirections};
pub use kfac::{Config as KfacConfig, Kfac};
pub use low_rank::LowRank;
pub use nystrom::{Config as NystromConfig, Nystrom};
pub use probes::ProbedResidual;
pub use rank_one::{Config as RankOneConfig, RankOne};
pub use rank_one_smoothed::{Config as RankOneSmoothedConfig, RankOneSmoothed};
pub use robust_frequent_directions::RobustFrequentDirections;
#[cfg(feature = "io")]
pub(crate) use saved::checksum;
pub use saved::{load, load_from};
pub use sherman_morrison::{BatchScaling, DenseInverse, OnKnownCurvature, UpdateRows, Weighting};
pub use test_matrix::TestMatrix;
pub use window::{Config as WindowConfig, Window};

use crate::dense::Matrix;
use crate::error::{Error, Result, Status, check_finite, check_len};
use crate::gradient::GradientBlock;
use crate::inverse::{Bracket, KnownCurvature, Parts, RowSpace};
pub use crate::inverse::{Certainty, Interval};
use crate::operator::LinearOperator;
use crate::reused::Reused;
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

    /// The same with a block that nobody else needs: a family that keeps rows as they came does without a copy.
    ///
    /// # Errors
    /// As [`absorb`](Self::absorb).
    fn absorb_owned(&mut self, block: GradientBlock) -> Result<()> {
        self.absorb(&block)
    }

    /// How many of the last samples the estimate rests on, where it is those alone: nothing of what came before them is left. `None` where
    /// every sample leaves its trace.
    fn horizon(&self) -> Option<usize> {
        None
    }

    /// What to take of a long stream of batches where nobody says otherwise: more costs more, and makes the estimate hardly better. `None`
    /// where it is everything.
    fn feed(&self) -> Option<Feed> {
        None
    }

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

    /// Makes the sketch larger, from here on.
    ///
    /// # Errors
    /// [`Error::Argument`] for a size below the present one or above d, [`Error::Unsupported`] for a family without a size to grow.
    fn grow(&mut self, _size: usize) -> Result<()> {
        Err(Error::unsupported(format_args!("growing `{}`", self.name()), "take `nystrom` or `frequent-directions`"))
    }

    /// F̂, from all that was absorbed.
    ///
    /// # Errors
    /// [`Error::Argument`] before anything was absorbed, [`Error::Numerical`] if a factorization fails.
    fn approximate(&self) -> Result<Box<dyn Approximation>>;

    /// What went wrong numerically so far, and was dealt with: [`Status::WindUp`]; [`Status::Converged`] for nothing.
    fn status(&self) -> Status {
        Status::Converged {}
    }

    /// tr F, where the family keeps it; none before anything was absorbed.
    fn trace(&self) -> Option<f64>;

    /// Writes versioned bytes that [`load_from`] turns back into this estimate. No copy of the state is made.
    ///
    /// # Errors
    /// Those of the stream.
    fn save_to(&self, out: &mut dyn Write) -> io::Result<()>;

    /// The same bytes in memory.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    fn save(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let failed = |e: io::Error| Error::Numerical { operation: "saving a curvature", reason: e.to_string() };
        self.save_to(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

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

    /// The same where a probability `failure` of being wrong is allowed: smaller where the family carries probes.
    ///
    /// # Errors
    /// [`Error::Argument`] for a probability outside (0, 1).
    fn interval_at(&self, _failure: f64) -> Result<Option<Interval>> {
        Ok(self.interval())
    }

    /// The eigen-decomposition in the space of the rows, where F̂ = RᵀR/m + αI: for paths of dampings and many quadratic forms.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the decomposition fails.
    fn row_space(&self) -> Result<Option<RowSpace<'_>>> {
        Ok(None)
    }

    /// The eigenvalues of F̂, descending; where F̂ = RᵀR/m + αI those of RᵀR/m that are not zero.
    ///
    /// # Errors
    /// As [`row_space`](Self::row_space).
    fn eigenvalues(&self) -> Result<Vec<f64>> {
        match self.row_space()? {
            Some(space) => Ok(space.eigenvalues()),
            None => Ok(crate::dense::eigh(&self.to_dense()?)?.values),
        }
    }

    /// The bracket that certifies products with (F + Λ')⁻¹, F the matrix as it was fed; deterministic, or with a probability `failure`
    /// of being wrong.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a family without an interval, [`Error::Argument`] for a Λ' too small for the interval, and as
    /// [`inverse`](Self::inverse).
    fn bracket(&self, _known: &KnownCurvature, _failure: Option<f64>) -> Result<Bracket<'_>> {
        Err(Error::unsupported("a certificate of a family that brings none", "build one from its two inverses by `Bracket::new`"))
    }

    /// tr F̂.
    fn trace(&self) -> f64;
}

/// Declares the registry: for each family its variant, its type, what the interval of its residual rests on without probes, and its
/// one-line description.
macro_rules! families {
    ($($variant:ident($module:ident::$family:ident), $bound:expr, $about:literal;)*) => {
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

            /// What the interval of the family's residual rests on where no probes are used, in a word; none for a family without one.
            pub fn bound(&self) -> Option<&'static str> {
                match self { $(Self::$variant(_) => $bound,)* }
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

        /// What turns a family's saved state back into an estimate.
        fn decoder(name: &str) -> Option<fn(&mut saved::Payload<'_>) -> Result<Box<dyn Curvature>>> {
            match name {
                $($family::NAME => Some(|payload| Ok(Box::new(payload.decode::<$family>()?))),)*
                _ => None,
            }
        }
    };
}

families! {
    Window(window::Window), Some("rounding"), "the last m samples' rows, solved exactly in sample space";
    Nystrom(nystrom::Nystrom), Some("trace"), "a streaming randomized Nyström sketch of all rows";
    FrequentDirections(frequent_directions::FrequentDirections), Some("shrinks"), "a deterministic sketch of all rows with a bound on what it lost";
    RobustFrequentDirections(robust_frequent_directions::RobustFrequentDirections), Some("shrinks"),
        "the same with half of what was lost put back";
    Diagonal(diagonal::Diagonal), None, "the diagonal alone: a reference";
    Kfac(kfac::Kfac), None, "a Kronecker product for each layer: a reference for factored rows";
    Dense(dense::Dense), Some("rounding"), "the d × d matrix itself: the reference, for small d";
    RankOne(rank_one::RankOne), Some("rounding"), "the paper's dense inverse of the mean of s sᵀ, updated row by row: for small d";
    RankOneSmoothed(rank_one_smoothed::RankOneSmoothed), None,
        "the paper's dense inverse of the smoothed s sᵀ, updated row by row: for small d";
}

impl CurvatureConfig {
    /// These settings with no probes where their number is left to the family: for uses that ask for no bound.
    pub fn without_probes(&self) -> Self {
        match self {
            Self::Nystrom(config) => Self::Nystrom(NystromConfig { probes: config.probes.or(Some(0)), ..config.clone() }),
            other => other.clone(),
        }
    }

    /// These settings as an estimate that was built with them has them by now: its size may have grown, and how many probes it carries may
    /// have been left to the family. As they are where the estimate is of another family.
    pub fn held_by(&self, curvature: &dyn Curvature) -> Self {
        let any = curvature as &dyn Any;
        let held = match self {
            Self::Window(_) => any.downcast_ref().map(|window: &Window| Self::Window(window.config())),
            Self::Nystrom(_) => any.downcast_ref().map(|sketch: &Nystrom| Self::Nystrom(sketch.config())),
            Self::FrequentDirections(built) => any.downcast_ref().map(|sketch: &FrequentDirections| {
                Self::FrequentDirections(FrequentDirectionsConfig { sketch_size: sketch.sketch_size(), ..built.clone() })
            }),
            Self::RobustFrequentDirections(built) => any.downcast_ref().map(|sketch: &RobustFrequentDirections| {
                Self::RobustFrequentDirections(FrequentDirectionsConfig { sketch_size: sketch.sketch_size(), ..built.clone() })
            }),
            _ => None,
        };
        held.unwrap_or_else(|| self.clone())
    }
}

/// [`Approximation::bracket`] for a family whose F̂ + Λ' can be inverted for any Λ'.
fn bracket<'a, A: Approximation>(approximation: &'a A, known: &KnownCurvature, failure: Option<f64>) -> Result<Bracket<'a>> {
    let (lower, upper, certainty) = bracket_ends(approximation, known, failure, 0.0)?;
    let parts = Parts {
        estimate: approximation,
        trace: approximation.trace(),
        lower_inverse: approximation.inverse(&lower)?,
        upper_inverse: approximation.inverse(&upper)?,
        row_space: Box::new(|| approximation.row_space()),
    };
    Bracket::new(parts, (lower, upper), certainty)
}

/// The interval, deterministic or with a probability of being wrong.
fn interval_of(approximation: &dyn Approximation, failure: Option<f64>) -> Result<Interval> {
    let interval = match failure {
        None => approximation.interval(),
        Some(failure) => approximation.interval_at(failure)?,
    };
    let remedy = "take `window`, `nystrom` or `frequent-directions`";
    interval.ok_or_else(|| Error::unsupported("a certificate of a family without an interval", remedy))
}

/// Λ' + (lo + α)I and Λ' + (hi + α)I for an F̂ that is αI and something positive semi-definite.
fn bracket_ends(
    approximation: &dyn Approximation,
    known: &KnownCurvature,
    failure: Option<f64>,
    shift: f64,
) -> Result<(KnownCurvature, KnownCurvature, Certainty)> {
    let interval = interval_of(approximation, failure)?;
    let moved = Interval { lo: interval.lo + shift, hi: interval.hi + shift, ..interval };
    let (lower, upper) = Bracket::ends(known, moved)?;
    Ok((lower, upper, interval.certainty))
}

/// Checks a block before it is absorbed, and returns the squared norms of its rows: finite entries whose squares are not would poison
/// the sums.
fn check_block(block: &GradientBlock, dim: usize) -> Result<Reused<f64>> {
    check_len("gradient block dimension", block.dim(), dim)?;
    block.finite_squared_row_norms().map(Reused::from)
}

/// Checks that a d × `columns` matrix can be allocated: a refusal, where the allocator would end the program.
fn check_room(dim: usize, columns: usize) -> Result<()> {
    let mut trial = Vec::<f64>::new();
    let room = dim.checked_mul(columns).is_some_and(|numbers| trial.try_reserve_exact(numbers).is_ok());
    // An allocation that nobody looks at may be optimized away, and counts as one that succeeded.
    std::hint::black_box(&trial);
    if room { Ok(()) } else { Err(Error::argument("dim", format_args!("memory for d × {columns} numbers"), dim)) }
}

fn check_growth(present: usize, size: usize, dim: usize) -> Result<()> {
    if (present..=dim).contains(&size) {
        return Ok(());
    }
    Err(Error::argument("sketch_size", format_args!("between the present {present} and the dimension {dim}"), size))
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
