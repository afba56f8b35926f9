//! The two ways a computation can fall short, kept apart: an [`Error`] is misuse or a failing environment (nothing was
//! computed); a [`Status`] is the numerical outcome of a computation that did run, with its remedy. Every message is one
//! line that says what was found, what was expected and, where it is not obvious, what to do.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

/// Misuse, or an environment that failed or asked to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages name the fields.
pub enum Error {
    /// A vector, matrix or block has the wrong size.
    #[error("{argument}: expected {expected}, found {found}")]
    Shape { argument: &'static str, expected: String, found: String },
    /// An argument lies outside its domain.
    #[error("{argument}: expected {expected}, found {found}")]
    Argument { argument: &'static str, expected: String, found: String },
    /// A number is NaN or infinite.
    #[error("{argument}: entry {index} is {value}; every entry must be finite")]
    NotFinite { argument: &'static str, index: usize, value: f64 },
    /// A factorization does not exist, in a place where the caller has no use for a [`Status`].
    #[error("{operation}: {reason}")]
    Numerical { operation: &'static str, reason: String },
    /// The combination is not available; `remedy` says what is.
    #[error("{what} is not supported: {remedy}")]
    Unsupported { what: String, remedy: String },
    /// A configuration file is wrong; `line` counts from 1.
    #[error("{}:{line}: {message}", path.display())]
    Config { path: PathBuf, line: usize, message: String },
    /// A data file is missing, damaged or does not fit the others.
    #[error("{}: {message}", path.display())]
    Data { path: PathBuf, message: String },
    /// The operating system refused.
    #[error("{}: {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    /// Someone outside asked to stop; `standing` says how far the work had come.
    #[error("interrupted {standing}")]
    Interrupted { standing: String },
}

impl Error {
    /// A size mismatch: `Error::shape("rhs", "length 3", format!("length {n}"))`.
    pub fn shape(argument: &'static str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::Shape { argument, expected: expected.to_string(), found: found.to_string() }
    }

    /// A value outside its domain.
    pub fn argument(argument: &'static str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::Argument { argument, expected: expected.to_string(), found: found.to_string() }
    }

    /// An unavailable combination and its remedy.
    pub fn unsupported(what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::Unsupported { what: what.to_string(), remedy: remedy.to_string() }
    }

    /// A data file that cannot be used.
    pub fn data(path: impl Into<PathBuf>, message: impl fmt::Display) -> Self {
        Self::Data { path: path.into(), message: message.to_string() }
    }

    /// A refusal of the operating system.
    pub fn io(path: impl Into<PathBuf>, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), action, source }
    }

    /// The name of the offending argument, where there is one.
    pub fn offending_argument(&self) -> Option<&'static str> {
        match self {
            Self::Shape { argument, .. } | Self::Argument { argument, .. } | Self::NotFinite { argument, .. } => Some(argument),
            _ => None,
        }
    }

    /// Whether the data or the environment failed (exit code 1) rather than the use or the configuration (exit code 2).
    pub fn is_environment(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::Io { .. } | Self::Numerical { .. } | Self::Interrupted { .. })
    }
}

/// Checks that a slice has the length `expected`.
pub fn check_len(argument: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::shape(argument, format_args!("length {expected}"), format_args!("length {found}")))
}

/// Whether every number is finite. What is not stays in a sum, so that finite sums say yes at once: sixteen of them, without an exit in their
/// midst. Finite numbers whose sum is not are looked at one by one.
pub(crate) fn all_finite(values: &[f64]) -> bool {
    let (chunks, rest) = values.as_chunks::<16>();
    let sums = chunks.iter().fold([0.0; 16], |sums: [f64; 16], chunk| std::array::from_fn(|i| sums[i] + chunk[i]));
    sums.iter().chain(rest).all(|x| x.is_finite()) || values.iter().all(|x| x.is_finite())
}

/// Checks that every entry is finite, and names the first one that is not.
pub fn check_finite(argument: &'static str, values: &[f64]) -> Result<()> {
    let clean = values.chunks(1024).take_while(|chunk| all_finite(chunk)).map(<[f64]>::len).sum::<usize>();
    match values[clean..].iter().position(|x| !x.is_finite()).map(|index| clean + index) {
        None => Ok(()),
        Some(index) => Err(Error::NotFinite { argument, index, value: values[index] }),
    }
}

/// Checks that a number is finite and positive.
pub fn check_positive(argument: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(Error::argument(argument, "a positive finite number", value)) }
}

/// Checks that a number is finite and not negative.
pub fn check_nonnegative(argument: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(Error::argument(argument, "a finite number of at least 0", value)) }
}

/// Checks that a count is at least 1.
pub fn check_count(argument: &'static str, value: usize) -> Result<()> {
    if value > 0 { Ok(()) } else { Err(Error::argument(argument, "at least 1", value)) }
}

/// The outcome of a numerical method that ran.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[allow(missing_docs)] // The messages name the fields.
pub enum Status {
    /// The stated tolerance was met.
    Converged {},
    /// The step limit came first; the residual is that of the returned estimate.
    StepLimit { limit: usize, residual: f64 },
    /// A direction p with pᵀHp ≤ 0 was met; the estimate is the one before it.
    NegativeCurvature { step: usize, curvature: f64 },
    /// The iterates left the finite numbers.
    Diverged { step: u64 },
    /// No further progress is possible in floating point (stagnation, overflow, a singular factor).
    Breakdown { step: usize, residual: f64 },
    /// An inverse that is updated row by row had to be formed anew; `growth` is its largest trace, relative to the start's.
    WindUp { rebuilds: u64, growth: f64 },
}

impl Status {
    /// Whether the stated tolerance was met.
    pub fn is_converged(self) -> bool {
        matches!(self, Self::Converged {})
    }

    /// What to do about it; empty where nothing needs doing.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Converged {} => "",
            Self::StepLimit { .. } => "raise the step limit, add damping, or precondition",
            Self::NegativeCurvature { .. } => {
                "add damping above the most negative eigenvalue, or use a Fisher (semi-definite) curvature"
            }
            Self::Diverged { .. } => "take smaller step sizes, or add damping",
            Self::Breakdown { .. } => "add damping, or loosen the tolerance: rounding limits this system",
            Self::WindUp { .. } => "raise beta, forget more slowly, or take a family that adds the known curvature, as `window`",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Converged {} => return write!(f, "converged"),
            Self::StepLimit { limit, residual } => write!(f, "step limit {limit} reached at residual {residual:.3e}")?,
            Self::NegativeCurvature { step, curvature } => write!(f, "negative curvature {curvature:.3e} at step {step}")?,
            Self::Diverged { step } => write!(f, "diverged at step {step}")?,
            Self::Breakdown { step, residual } => write!(f, "breakdown at step {step}, residual {residual:.3e}")?,
            Self::WindUp { rebuilds, growth } => {
                let times = if rebuilds == 1 { "once".to_owned() } else { format!("{rebuilds} times") };
                write!(f, "wind-up: the inverse grew up to {growth:.1e}-fold and was formed anew {times}")?;
            }
        }
        write!(f, " ({})", self.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At every place, also beyond the last whole group of those that are looked at together.
    #[test]
    fn a_number_that_is_not_finite_is_seen_wherever_it_stands() {
        for len in [0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 1024, 1040] {
            let mut values = vec![f64::MAX; len];
            (1..len).step_by(2).for_each(|i| values[i] = -f64::MIN_POSITIVE);
            assert!(all_finite(&values) && check_finite("x", &values).is_ok());
            for place in (0..len).filter(|place| place % 7 == 0 || place + 20 > len) {
                for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    let good = std::mem::replace(&mut values[place], bad);
                    assert!(!all_finite(&values), "{bad} at {place} of {len}");
                    let error = check_finite("x", &values).unwrap_err().to_string();
                    assert!(error.contains(&place.to_string()), "{error}");
                    values[place] = good;
                }
            }
        }
    }
}
