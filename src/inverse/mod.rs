//! Solving with curvature: the part of it that is known, the low-rank inverse of Woodbury, a path of dampings from one factorization,
//! conjugate gradients, with or without a preconditioner, Neumann's series, and certificates of what a solve with an approximation is
//! worth. Nothing here knows a curvature family or a problem: it sees gradient blocks and linear operators.

mod certificate;
mod cg;
mod damping;
mod known;
mod lanczos;
mod neumann;
mod pcg;
mod row_space;
mod solve;
mod woodbury;

pub use certificate::{
    Bound, Bracket, Certainty, Certified, Enclosure, Interval, Parts, certify_estimate, residual_bound, smallest,
};
pub use cg::conjugate_gradients;
pub use damping::{Damping, DampingRange, choose_damping};
pub use known::KnownCurvature;
pub use lanczos::{SpectralEstimate, extreme_eigenvalues};
pub use neumann::{NeumannReport, NeumannStep, neumann};
pub use pcg::{PcgOptions, PcgReport, preconditioned_conjugate_gradients};
pub use row_space::{Components, PathPoint, RowSpace, damping_grid};
pub use solve::{SolveOptions, SolveReport};
pub use woodbury::Woodbury;
