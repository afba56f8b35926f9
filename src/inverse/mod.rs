//! Solving with curvature: the part of it that is known, the low-rank inverse of Woodbury, conjugate gradients.
//! Nothing here knows a curvature family or a problem: it sees gradient blocks and linear operators.

mod cg;
mod known;
mod woodbury;

pub use cg::{CgOptions, CgReport, conjugate_gradients};
pub use known::KnownCurvature;
pub use woodbury::Woodbury;
