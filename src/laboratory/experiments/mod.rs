//! The experiments, one a file, and their registry; and what they share: [`populations`] whose Hessian is known exactly, and curves
//! read back from tables replicate by replicate.

mod coverage;
mod fisher_consistency;
mod fisher_matrices;
pub mod populations;
mod replicates;
mod sketch_size;

use super::Entry;

/// Every experiment, in the order in which they are run. Adding one is its file and one line here.
pub const REGISTRY: &[Entry] = &[
    Entry::of::<fisher_consistency::FisherConsistency>(),
    Entry::of::<sketch_size::SketchSize>(),
    Entry::of::<coverage::Coverage>(),
];
