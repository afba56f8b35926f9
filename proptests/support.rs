//! The testkit's cases and oracles, for tests: what cannot fail is unwrapped, and a refusal is checked by name.

// Each suite is a crate of its own and uses a part of this file.
#![allow(dead_code, unused_imports)]

use nhgd::dense::Matrix;
use nhgd::error::Error;
use nhgd::inverse::KnownCurvature;
use nhgd::rng::Key;
use nhgd::testkit::cases::{self, Shape};
use nhgd::testkit::reference;

pub use nhgd::dense::relative_error;
pub use nhgd::testkit::cases::{Case, short_normals};
pub use nhgd::testkit::reference::{Twofold, fisher, fisher_minus};

/// Rows x_i ⊗ δ_i.
pub fn kronecker_case(inputs: Matrix, deltas: Matrix, r: usize) -> Case {
    cases::kronecker(inputs, deltas, r).unwrap()
}

/// Rows [x₁ ⊗ δ₁, x₂ ⊗ δ₂, …] of several layers, given as (inputs, deltas).
pub fn layered_case(layers: Vec<(Matrix, Matrix)>, r: usize) -> Case {
    cases::layered(layers, r).unwrap()
}

/// Random rows of layers with p inputs and c outputs each.
pub fn random_layered(key: Key, samples: usize, widths: &[(usize, usize)], r: usize) -> Case {
    cases::layered_of(Shape { rows_per_sample: r, ..Shape::random(samples) }, widths, key).unwrap()
}

/// The rows of `expanded` as they are.
pub fn dense_case(expanded: Matrix, r: usize) -> Case {
    cases::stored(expanded, r).unwrap()
}

/// Random rows x_i ⊗ δ_i of `samples` samples.
pub fn random_kronecker(key: Key, samples: usize, p: usize, c: usize, r: usize) -> Case {
    cases::kronecker_of(Shape { rows_per_sample: r, ..Shape::random(samples) }, p, c, key).unwrap()
}

/// Random stored rows.
pub fn random_dense(key: Key, samples: usize, d: usize, r: usize) -> Case {
    cases::stored_of(Shape { rows_per_sample: r, ..Shape::random(samples) }, d, key).unwrap()
}

/// (F + Λ')⁻¹b by a refined dense factorization.
pub fn dense_solve(f: &Matrix, known: &KnownCurvature, b: &[f64]) -> Vec<f64> {
    reference::dense_solve(f, known, b).unwrap()
}

/// Rows of `n` samples whose GᵀG/n has the given eigenvalues (rounding apart).
pub fn with_spectrum(key: Key, n: usize, d: usize, eigenvalues: &[f64]) -> Case {
    cases::with_spectrum(key, n, d, eigenvalues).unwrap()
}

/// Checks that a call was refused and that the error names `argument`.
#[track_caller]
pub fn refused<T>(result: nhgd::Result<T>, argument: &str) {
    let error = result.err().unwrap_or_else(|| panic!("accepted; expected a refusal that names `{argument}`"));
    let named = error.offending_argument().map_or_else(|| matches!(error, Error::Unsupported { .. }), |a| a == argument);
    assert!(named && error.to_string().contains(argument), "expected a refusal that names `{argument}`, found: {error}");
}
