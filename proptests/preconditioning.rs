//! A sketch as preconditioner: the published bound on the condition number, what it saves where a spectrum has a head, and that the
//! report says so where it saves nothing.

mod support;

use nhgd::curvature::{CurvatureConfig, NystromConfig};
use nhgd::dense::{Cholesky, Matrix, difference, eigh, matmul, norm, qr};
use nhgd::error::Status;
use nhgd::inverse::{KnownCurvature, PcgOptions, SolveOptions, conjugate_gradients, preconditioned_conjugate_gradients};
use nhgd::operator::{Counting, Diagonal, FromFn, LinearOperator};
use nhgd::par;
use nhgd::rng::Key;
use support::{fisher, with_spectrum};

fn sketch(size: usize, key: Key, d: usize) -> Box<dyn nhgd::curvature::Curvature> {
    let config = NystromConfig { sketch_size: size, probes: Some(0), ..Default::default() };
    CurvatureConfig::Nystrom(config).build(d, key).unwrap()
}

/// Q diag(λ) Qᵀ and rows with that Fisher matrix.
fn matrix(key: Key, eigenvalues: &[f64]) -> (Matrix, support::Case) {
    let d = eigenvalues.len();
    let case = with_spectrum(key, d, d, eigenvalues);
    (fisher(&[&case]), case)
}

fn options(tolerance: f64) -> SolveOptions {
    SolveOptions { tolerance, max_iterations: 20_000 }
}

/// ℓ = 2⌈1.5 d_eff(μ)⌉ + 1: mean κ of (F̂ + μI)^{-1/2}(F + μI)(F̂ + μI)^{-1/2} over 100 sketches.
#[test]
fn the_published_sketch_size_keeps_the_mean_condition_below_28() {
    let d = 200;
    for (name, mu, eigenvalues) in [
        ("j⁻¹", 0.1, (0..d).map(|j| 1.0 / (1 + j) as f64).collect::<Vec<_>>()),
        ("j⁻²", 1e-2, (0..d).map(|j| 1.0 / ((1 + j) * (1 + j)) as f64).collect()),
        ("0.95ʲ", 0.1, (0..d).map(|j| 0.95_f64.powi(j as i32)).collect()),
        ("flat beyond a head of 5", 0.1, (0..d).map(|j| if j < 5 { 1.0 } else { 0.01 }).collect()),
    ] {
        let effective: f64 = eigenvalues.iter().map(|s| s / (s + mu)).sum();
        let size = 2 * (1.5 * effective).ceil() as usize + 1;
        assert!(size < d, "{name}: a sketch of {size} columns shows nothing");
        let (f, case) = matrix(Key::new(1), &eigenvalues);
        let conditions = par::map((0..100).collect(), |i: u64| {
            let mut sketch = sketch(size, Key::new(2).child(i), d);
            sketch.absorb(&case.block).unwrap();
            let estimate = sketch.approximate().unwrap().to_dense().unwrap();
            let eigen = eigh(&estimate).unwrap();
            let half = Matrix::from_fn(d, d, |i, j| eigen.vectors[(i, j)] / (eigen.values[j].max(0.0) + mu).sqrt());
            let mut damped = f.clone();
            (0..d).for_each(|i| damped[(i, i)] += mu);
            let product = matmul(&matmul(half.t(), &damped).unwrap(), &half).unwrap();
            let values = eigh(&product).unwrap().values;
            values[0] / values[d - 1]
        });
        let mean = conditions.iter().sum::<f64>() / 100.0;
        let worst = conditions.iter().copied().fold(0.0, f64::max);
        println!("{name}: d_eff {effective:.1}, ℓ {size}, mean κ {mean:.2}, worst {worst:.2}");
        assert!(mean < 28.0, "{name}: {mean}");
    }
}

/// 0.9ʲ with κ = 1e6 and ℓ = 120: a tenth of the iterations.
#[test]
fn a_decaying_spectrum_is_solved_in_a_tenth_of_the_iterations() {
    let (d, mu) = (400, 1e-6);
    let eigenvalues: Vec<f64> = (0..d).map(|j| 0.9_f64.powi(j as i32)).collect();
    let (f, case) = matrix(Key::new(3), &eigenvalues);
    let mut damped = f;
    (0..d).for_each(|i| damped[(i, i)] += mu);
    let mut sketch = sketch(120, Key::new(4), d);
    sketch.absorb(&case.block).unwrap();
    let approximation = sketch.approximate().unwrap();
    let inverse = approximation.inverse(&KnownCurvature::scalar(d, mu).unwrap()).unwrap();
    let b = Key::new(5).stream().normals(d);
    let plain = conjugate_gradients(&damped, &b, options(1e-8)).unwrap();
    let found =
        preconditioned_conjugate_gradients(&damped, &*inverse, &b, PcgOptions { solve: options(1e-8), ..Default::default() })
            .unwrap();
    println!("plain {} iterations; with the sketch {}: {found}", plain.iterations, found.solve.iterations);
    assert_eq!(found.solve.status, Status::Converged {});
    assert!(10 * found.solve.iterations <= plain.iterations, "{} and {}", found.solve.iterations, plain.iterations);
    assert_eq!(found.helps(), Some(true));
    let exact = Cholesky::new(damped).unwrap().solve(&b).unwrap();
    assert!(norm(&difference(&found.solve.solution, &exact)) < 1e-2 * norm(&exact));
}

fn poisson(side: usize) -> impl LinearOperator {
    FromFn::new(side * side, move |x: &[f64]| {
        let at = |i: isize, j: isize| {
            let inside = (0..side as isize).contains(&i) && (0..side as isize).contains(&j);
            if inside { x[i as usize * side + j as usize] } else { 0.0 }
        };
        let mut y = Vec::with_capacity(side * side);
        for i in 0..side as isize {
            for j in 0..side as isize {
                y.push(4.0 * at(i, j) - at(i - 1, j) - at(i + 1, j) - at(i, j - 1) - at(i, j + 1));
            }
        }
        Ok(y)
    })
}

/// A flat spectrum and the five-point Laplacian have no head to cut off.
#[test]
fn the_report_says_where_a_sketch_does_not_help() {
    let d = 200;
    let (flat, case) = matrix(Key::new(6), &vec![1.0; d]);
    let mut damped = flat;
    (0..d).for_each(|i| damped[(i, i)] += 1e-2);
    let mut nystrom = sketch(40, Key::new(7), d);
    nystrom.absorb(&case.block).unwrap();
    let approximation = nystrom.approximate().unwrap();
    let inverse = approximation.inverse(&KnownCurvature::scalar(d, 1e-2).unwrap()).unwrap();
    let b = Key::new(8).stream().normals(d);
    let found = preconditioned_conjugate_gradients(&damped, &*inverse, &b, PcgOptions::default()).unwrap();
    println!("flat: {found}");
    assert_eq!(found.helps(), Some(false));
    assert!(found.to_string().contains("does not help"));
    assert!(found.solve.status.is_converged());

    let side = 24;
    let d = side * side;
    let operator = poisson(side);
    let eigen = eigh(&operator.to_dense().unwrap()).unwrap();
    let rows = Matrix::from_fn(d, d, |i, j| eigen.vectors[(j, i)] * (eigen.values[i] * d as f64).sqrt());
    let mut nystrom = sketch(60, Key::new(9), d);
    nystrom.absorb(&support::dense_case(rows, 1).block).unwrap();
    let approximation = nystrom.approximate().unwrap();
    let mu = eigen.values[d - 1];
    let inverse = approximation.inverse(&KnownCurvature::scalar(d, mu).unwrap()).unwrap();
    let b = Key::new(10).stream().normals(d);
    let counted = Counting::new(&operator);
    let found = preconditioned_conjugate_gradients(&counted, &*inverse, &b, PcgOptions::default()).unwrap();
    println!("Poisson: {found}");
    assert_eq!(found.helps(), Some(false));
    assert!(found.solve.status.is_converged());
    assert_eq!(counted.products(), found.solve.products as u64, "every product is counted");
}

/// With the exact inverse one iteration is enough, with the identity it is the plain method, bit for bit.
#[test]
fn preconditioned_cg_has_its_two_ends() {
    for d in [1, 2, 63, 64, 65, 127] {
        let (basis, _) = qr(&Matrix::from_columns(d, d, Key::new(d as u64).stream().normals(d * d)).unwrap()).unwrap();
        let scaled = Matrix::from_fn(d, d, |i, j| basis[(i, j)] * (1 + j) as f64);
        let a = matmul(&scaled, basis.t()).unwrap();
        let a = Matrix::from_fn(d, d, |i, j| 0.5 * (a[(i, j)] + a[(j, i)]));
        let b = Key::new(11).stream().normals(d);
        let factor = Cholesky::new(a.clone()).unwrap();
        let inverse = FromFn::new(d, |x: &[f64]| factor.solve(x));
        let settings = PcgOptions { solve: options(1e-10), trial_products: 0, ..Default::default() };
        let exact = preconditioned_conjugate_gradients(&a, &inverse, &b, settings).unwrap();
        assert!(exact.solve.iterations <= 2 && exact.solve.status.is_converged(), "d {d}: {}", exact.solve.iterations);
        assert!((exact.condition - 1.0).abs() < 1e-6 && exact.helps().is_none());
        let identity = Diagonal::new(vec![1.0; d]).unwrap();
        let plain = preconditioned_conjugate_gradients(&a, &identity, &b, settings).unwrap();
        assert_eq!(plain.solve, conjugate_gradients(&a, &b, options(1e-10)).unwrap());
        assert!(d < 63 || (plain.condition / d as f64 - 1.0).abs() < 1e-3, "d {d}: κ {}", plain.condition);
    }
}

#[test]
fn negative_curvature_of_either_matrix_is_a_status() {
    let b = [1.0, 1.0, 1.0];
    let good = Diagonal::new(vec![1.0, 2.0, 3.0]).unwrap();
    let bad = Diagonal::new(vec![1.0, -2.0, 3.0]).unwrap();
    let very_bad = Diagonal::new(vec![-1.0, -2.0, -3.0]).unwrap();
    for (a, p) in [(&bad, &good), (&very_bad, &good), (&good, &very_bad)] {
        let found = preconditioned_conjugate_gradients(a, p, &b, PcgOptions::default()).unwrap();
        assert!(matches!(found.solve.status, Status::NegativeCurvature { .. }), "{:?}", found.solve.status);
        assert!(found.solve.solution.iter().all(|x| x.is_finite()));
    }
    support::refused(
        preconditioned_conjugate_gradients(&good, &Diagonal::new(vec![1.0; 2]).unwrap(), &b, PcgOptions::default()),
        "preconditioner",
    );
    support::refused(preconditioned_conjugate_gradients(&good, &good, &b[..2], PcgOptions::default()), "rhs");
}
