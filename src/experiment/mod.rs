//! Experiments: what a configuration file says ([`config`]), running it ([`runner`]), being interrupted and going on
//! ([`checkpoint`]), and the record that it leaves ([`record`]).

pub mod checkpoint;
pub mod config;
mod gathered;
pub mod hypergradient_errors;
pub mod kept;
pub mod record;
mod recorder;
pub mod runner;
pub mod source;
