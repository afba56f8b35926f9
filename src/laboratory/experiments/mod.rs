//! The experiments, one a file, and their registry; and what they share: [`populations`] whose Hessian is known exactly, and curves
//! read back from tables replicate by replicate.

mod convergence;
mod coverage;
mod fisher_consistency;
mod fisher_matrices;
mod hypergradient;
mod logistic;
mod misspecified;
pub mod populations;
mod rank_one;
mod replicates;
mod sgd_path;
mod sketch_size;

use super::Entry;

/// Every experiment, in the order in which they are run. Adding one is its file and one line here.
pub const REGISTRY: &[Entry] = &[
    Entry::of::<fisher_consistency::FisherConsistency>(),
    Entry::of::<sgd_path::SgdPath>(),
    Entry::of::<misspecified::Misspecified>(),
    Entry::of::<sketch_size::SketchSize>(),
    Entry::of::<hypergradient::Hypergradients>(),
    Entry::of::<convergence::Convergence>(),
    Entry::of::<coverage::Coverage>(),
    Entry::of::<rank_one::RankOne>(),
];
