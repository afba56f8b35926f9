//! Conformance suites: one each for gradient blocks, [`Curvature`](crate::curvature::Curvature), [`Model`](crate::model::Model),
//! [`Problem`](crate::problem::Problem) and [`Method`](crate::bilevel::Method), to be run from a test on an implementation of your
//! own as on the ones that ship. A suite compares with computations that do not share the code under test, and returns a
//! [`Report`] of named claims; what an implementation does not promise is said in the suite's claims.
//!
//! ```
//! use nhgd::curvature::{CurvatureConfig, WindowConfig};
//! use nhgd::rng::Key;
//! use nhgd::testkit::{self, CurvatureClaims};
//!
//! let build = |dim, key| CurvatureConfig::Window(WindowConfig { samples: 10_000 }).build(dim, key);
//! testkit::curvature("window", &build, &CurvatureClaims::default(), Key::new(0)).assert_passes();
//! ```

pub mod cases;
mod curvature;
mod gradient_block;
mod method;
mod model;
mod problem;
pub mod reference;
mod report;

pub use curvature::{
    Agreement, Build, CurvatureClaims, Formula, History, Intervals, KnownClaim, Load, Merge, RowsClaim, Target, curvature,
};
pub use gradient_block::{Rows, gradient_block, gradient_blocks};
pub use method::{MethodClaims, Randomness, method};
pub use model::model;
pub use problem::{ProblemClaims, problem};
pub use report::{Finding, Report, settings};
