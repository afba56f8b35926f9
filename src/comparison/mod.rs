//! Methods side by side: every method on every problem, tuned alike on data that the report does not look at, then run from several seeds
//! under one budget, alone and one after the other.
//!
//! A [`config::Config`] names problems, methods, seeds and a budget. Each method is tuned on each problem with the same number of
//! candidates and the same budget for each, judged by outer samples that were held out; what is chosen, the point to stop at included,
//! is run on the whole problem, whose test data nothing was chosen by. The [`runner`] leaves a [`record`]; [`findings`] are what follows from
//! its runs alone: the summary, times to a target, the performance profile.

pub mod candidates;
pub mod config;
pub mod findings;
pub mod join;
pub mod profile;
pub mod record;
pub mod runner;
mod trial;

pub use trial::Budget;
