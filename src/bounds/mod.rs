//! What the theory claims, as formulas and statistics that a measurement can be held against: here the rates, as log-log
//! [`slope`]s with limits. Nothing here runs a method or draws a random number.

pub mod slope;

pub use slope::{Slope, log_log_slope, slope_with_limits};
