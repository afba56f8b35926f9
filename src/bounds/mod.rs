//! What the theory claims, as formulas and statistics that a measurement can be held against: rates, as log-log [`slope`]s with limits;
//! failure rates and quantiles with exact limits ([`coverage`]); and the [`verdict`] that a rule stated beforehand draws from them.
//! Nothing here runs a method or draws a random number.

pub mod coverage;
pub mod slope;
pub mod verdict;

pub use coverage::{FailureRate, Quantile, quantile_with_limits};
pub use slope::{Slope, log_log_slope, mean_with_limits, slope_with_limits};
pub use verdict::{Claim, Judgement, Measured, Rule, Verdict};
