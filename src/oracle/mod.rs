//! The oracle: what the methods estimate, computed exactly. The inner solution by Newton's method to a stated gradient norm, the
//! hypergradient by a dense solve, the value function Φ and its differences, and the checks that compare every derivative with
//! differences.

mod check;
mod inner;
mod value;

pub use check::{Check, check_model, check_problem};
pub use inner::{InnerSolution, NewtonOptions, inner_solution, inner_solution_watched};
pub use value::{exact_hypergradient, exact_inverse_hvp, value_difference};
