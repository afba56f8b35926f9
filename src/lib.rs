#![forbid(unsafe_code)]
//! Natural hypergradient descent.
pub mod curvature;
pub mod data;
pub mod dense;
pub mod error;
#[cfg(feature = "io")]
pub mod experiment;
pub mod gradient;
pub mod inverse;
pub mod operator;
pub mod par;
#[cfg(feature = "plot")]
pub mod report;
pub mod rng;
pub mod samples;

pub use error::{Error, Result, Status};
