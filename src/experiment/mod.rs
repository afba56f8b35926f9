//! Experiments: what a configuration file says ([`config`]), running it ([`runner`]), and the record that it leaves ([`record`]).

pub mod config;
pub mod hypergradient_errors;
pub mod record;
pub mod runner;
