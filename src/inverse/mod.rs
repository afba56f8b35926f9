//! Solving with curvature: the part of it that is known, the low-rank inverse of Woodbury, conjugate gradients, Neumann's series.
//! Nothing here knows a curvature family or a problem: it sees gradient blocks and linear operators.

mod cg;
mod known;
mod lanczos;
mod neumann;
mod solve;
mod woodbury;

pub use cg::conjugate_gradients;
pub use known::KnownCurvature;
pub use lanczos::SpectralEstimate;
pub use neumann::{NeumannReport, NeumannStep, neumann};
pub use solve::{SolveOptions, SolveReport};
pub use woodbury::Woodbury;
