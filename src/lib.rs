#![forbid(unsafe_code)]
//! Natural hypergradient descent.
pub mod bilevel;
#[cfg(feature = "cli")]
pub mod cli;
pub mod curvature;
pub mod data;
pub mod dense;
pub mod error;
#[cfg(feature = "io")]
pub mod experiment;
pub mod gradient;
pub mod inverse;
pub mod model;
pub mod operator;
pub mod oracle;
pub mod par;
pub mod problem;
#[cfg(feature = "plot")]
pub mod report;
pub mod rng;
pub mod samples;

pub use error::{Error, Result, Status};
