//! Solving with curvature: the part of it that is known, the low-rank inverse of Woodbury, a path of dampings from one factorization,
//! conjugate gradients, and certificates of what a solve with an approximation is worth. Nothing here knows a curvature family or
//! a problem: it sees gradient blocks and linear operators.

mod certificate;
mod cg;
mod damping;
mod known;
mod row_space;
mod woodbury;

pub use certificate::{Bound, Bracket, Certainty, Certified, Enclosure, Interval, Parts, residual_bound, smallest};
pub use cg::{CgOptions, CgReport, conjugate_gradients};
pub use damping::{Damping, DampingRange, choose_damping};
pub use known::KnownCurvature;
pub use row_space::{Components, PathPoint, RowSpace, damping_grid};
pub use woodbury::Woodbury;
