//! What the suites share and the library must not decide: gradient rows expanded here, sums carried to about 32 digits, a
//! dense solve refined until rounding stops it, and matrices of prescribed spectrum.

// Each suite is a crate of its own and uses a part of this file.
#![allow(dead_code)]

use nhgd::dense::{Cholesky, Matrix, norm, qr};
use nhgd::error::Error;
use nhgd::gradient::{DenseRows, GradientBlock, KroneckerRows, LayeredRows};
use nhgd::inverse::KnownCurvature;
use nhgd::rng::Key;

/// A block and the rows it stands for, expanded by the test.
#[derive(Clone)]
pub struct Case {
    pub block: GradientBlock,
    /// G, rows × d.
    pub expanded: Matrix,
    pub samples: usize,
}

/// Normal numbers of 24 bits, so that a product of two of them is exact and an expanded row x ⊗ δ carries no rounding.
pub fn short_normals(key: Key, m: usize, n: usize) -> Matrix {
    let values = key.stream().normals(m * n).into_iter().map(|x| f64::from(x as f32)).collect();
    Matrix::from_columns(m, n, values).unwrap()
}

/// Rows x_i ⊗ δ_i: entry k·p + j of row i is x[j, i / r] δ[k, i].
pub fn kronecker_case(inputs: Matrix, deltas: Matrix, r: usize) -> Case {
    let p = inputs.nrows();
    let expanded = Matrix::from_fn(deltas.ncols(), p * deltas.nrows(), |i, c| inputs[(c % p, i / r)] * deltas[(c / p, i)]);
    let samples = inputs.ncols();
    Case { block: KroneckerRows::new(inputs, deltas, r).unwrap().into(), expanded, samples }
}

/// Rows [x₁ ⊗ δ₁, x₂ ⊗ δ₂, …] of several layers, given as (inputs, deltas): the layers' entries one after the other.
pub fn layered_case(layers: Vec<(Matrix, Matrix)>, r: usize) -> Case {
    let parts: Vec<Case> = layers.iter().map(|(inputs, deltas)| kronecker_case(inputs.clone(), deltas.clone(), r)).collect();
    let rows = parts[0].expanded.nrows();
    let columns = parts.iter().flat_map(|part| (0..part.expanded.ncols()).map(|j| part.expanded.col(j)));
    let data: Vec<f64> = columns.flatten().copied().collect();
    let expanded = Matrix::from_columns(rows, data.len() / rows, data).unwrap();
    let layers = layers.into_iter().map(|(inputs, deltas)| KroneckerRows::new(inputs, deltas, r).unwrap()).collect();
    Case { block: LayeredRows::new(layers).unwrap().into(), expanded, samples: parts[0].samples }
}

/// Random rows of layers with p inputs and c outputs each.
pub fn random_layered(key: Key, samples: usize, shapes: &[(usize, usize)], r: usize) -> Case {
    let layer = |(l, &(p, c)): (usize, &(usize, usize))| {
        let key = key.child(l as u64);
        (short_normals(key.child(0), p, samples), short_normals(key.child(1), c, samples * r))
    };
    layered_case(shapes.iter().enumerate().map(layer).collect(), r)
}

/// The rows of `expanded` as they are.
pub fn dense_case(expanded: Matrix, r: usize) -> Case {
    let samples = expanded.nrows() / r;
    Case { block: DenseRows::new(expanded.t().to_matrix(), r).unwrap().into(), expanded, samples }
}

/// Random rows x_i ⊗ δ_i of `samples` samples.
pub fn random_kronecker(key: Key, samples: usize, p: usize, c: usize, r: usize) -> Case {
    kronecker_case(short_normals(key.child(0), p, samples), short_normals(key.child(1), c, samples * r), r)
}

/// Random stored rows.
pub fn random_dense(key: Key, samples: usize, d: usize, r: usize) -> Case {
    dense_case(short_normals(key, samples * r, d), r)
}

/// A sum of about 32 digits (Dekker 1971: error-free product and sum).
#[derive(Clone, Copy, Default)]
pub struct Twofold(f64, f64);

impl Twofold {
    pub fn add(&mut self, x: f64) {
        let sum = self.0 + x;
        let back = sum - self.0;
        self.1 += (self.0 - (sum - back)) + (x - back);
        self.0 = sum;
    }

    pub fn add_product(&mut self, a: f64, b: f64) {
        let product = a * b;
        self.add(product);
        self.add(a.mul_add(b, -product));
    }

    pub fn value(self) -> f64 {
        self.0 + self.1
    }
}

/// Σ_cases weight · GᵀG / Σ weight · samples − `minus`, each entry rounded once.
pub fn fisher_minus(parts: &[(&Case, f64)], minus: Option<&Matrix>) -> Matrix {
    let d = parts[0].0.expanded.ncols();
    let mass: f64 = parts.iter().map(|(case, weight)| weight * case.samples as f64).sum();
    Matrix::from_fn(d, d, |i, j| {
        let mut sum = Twofold::default();
        for (case, weight) in parts {
            let mut part = Twofold::default();
            for row in 0..case.expanded.nrows() {
                part.add_product(case.expanded[(row, i)], case.expanded[(row, j)]);
            }
            sum.add_product(part.0, *weight);
            sum.add_product(part.1, *weight);
        }
        if let Some(minus) = minus {
            sum.add_product(minus[(i, j)], -mass);
        }
        sum.value() / mass
    })
}

/// F = Σ GᵀG / Σ samples.
pub fn fisher(cases: &[&Case]) -> Matrix {
    fisher_minus(&cases.iter().map(|case| (*case, 1.0)).collect::<Vec<_>>(), None)
}

/// (F + Λ')⁻¹b by a dense factorization, refined with residuals of 32 digits.
pub fn dense_solve(f: &Matrix, known: &KnownCurvature, b: &[f64]) -> Vec<f64> {
    let d = b.len();
    let mut sum = f.clone();
    known.add_to(&mut sum).unwrap();
    let factor = Cholesky::new(sum).unwrap();
    let mut x = factor.solve(b).unwrap();
    for _ in 0..4 {
        let residual: Vec<f64> = (0..d)
            .map(|i| {
                let mut r = Twofold::default();
                r.add(b[i]);
                (0..d).for_each(|j| r.add_product(-f[(i, j)], x[j]));
                r.add_product(-known.entry(i), x[i]);
                r.value()
            })
            .collect();
        factor.solve(&residual).unwrap().iter().zip(&mut x).for_each(|(correction, x)| *x += correction);
    }
    x
}

/// ‖x − y‖ / ‖y‖.
pub fn relative_error(x: &[f64], y: &[f64]) -> f64 {
    let difference: Vec<f64> = x.iter().zip(y).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(y).max(f64::MIN_POSITIVE)
}

/// Rows of `n` samples whose GᵀG/n has the given eigenvalues (rounding apart), in random directions; n ≥ their number.
pub fn with_spectrum(key: Key, n: usize, d: usize, eigenvalues: &[f64]) -> Case {
    let k = eigenvalues.len();
    assert!(k <= n && k <= d);
    let basis = |key: Key, m: usize| qr(&Matrix::from_columns(m, k, key.stream().normals(m * k)).unwrap()).unwrap().0;
    let (left, right) = (basis(key.child(0), n), basis(key.child(1), d));
    let scaled = Matrix::from_fn(n, k, |i, j| left[(i, j)] * (eigenvalues[j] * n as f64).sqrt());
    dense_case(nhgd::dense::matmul(&scaled, right.t()).unwrap(), 1)
}

/// Checks that a call was refused and that the error names `argument`.
#[track_caller]
pub fn refused<T>(result: nhgd::Result<T>, argument: &str) {
    let error = result.err().unwrap_or_else(|| panic!("accepted; expected a refusal that names `{argument}`"));
    let named = error.offending_argument().map_or_else(|| matches!(error, Error::Unsupported { .. }), |a| a == argument);
    assert!(named && error.to_string().contains(argument), "expected a refusal that names `{argument}`, found: {error}");
}
