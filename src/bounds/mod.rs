//! What the theory claims, as formulas and statistics that a measurement can be held against.
//!
//! - Formulas, each with its source and its assumptions as checks: [`sampling`], [`sgd_path`], [`sketch`], [`preconditioning`],
//!   [`hypergradient`], [`rate`].
//! - Statistics: rates as log-log [`slope`]s with limits, failure rates and quantiles with exact limits ([`coverage`]), the growth of
//!   [`tail`]s; and the [`verdict`] that a rule stated beforehand draws from them.
//! - The error [`mod@budget`] of a hypergradient, measured against the oracle.
//!
//! The certificates of a sketch in the Löwner order, and of products with its inverse, are with the solves that they certify:
//! `inverse::{Interval, Bracket}`. Nothing here runs a method.

pub mod budget;
pub mod coverage;
pub mod hypergradient;
pub mod preconditioning;
pub mod rate;
pub mod sampling;
pub mod sgd_path;
pub mod sketch;
pub mod slope;
pub mod tail;
pub mod verdict;

pub use budget::{Budget, BudgetLine, BudgetPoint, BudgetTerm, budget};
pub use coverage::{FailureRate, Quantile, quantile_with_limits};
pub use hypergradient::{InverseErrors, SampledErrors, composed};
pub use rate::{OuterConstants, OuterDescent, SampleComplexity, Smoothness};
pub use sampling::{BoundedRows, Sandwich};
pub use sgd_path::{Drift, InnerSgd, Iterates, PathBound, PathRows, RowTail, SgdPath, self_concordant_modulus};
pub use slope::{Slope, log_log_slope, mean_with_limits, slope_with_limits};
pub use tail::{TailGrowth, tail_growth};
pub use verdict::{Claim, Judgement, Measured, Rule, Verdict};
