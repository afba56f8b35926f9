//! What the theory claims, as formulas and statistics that a measurement can be held against. Formulas, each with its source and its
//! assumptions: [`sampling`], [`sketch`], [`preconditioning`]. Statistics: rates as log-log [`slope`]s with limits, failure rates and
//! quantiles with exact limits ([`coverage`]), and the [`verdict`] that a rule stated beforehand draws from them. The certificates of a
//! sketch, which need no spectrum, are with the solves that they certify (`inverse::Bracket`). Nothing here runs a method or draws a
//! random number.

pub mod coverage;
pub mod preconditioning;
pub mod sampling;
pub mod sketch;
pub mod slope;
pub mod verdict;

pub use coverage::{FailureRate, Quantile, quantile_with_limits};
pub use sampling::{BoundedRows, Sandwich};
pub use slope::{Slope, log_log_slope, mean_with_limits, slope_with_limits};
pub use verdict::{Claim, Judgement, Measured, Rule, Verdict};
