//! Nyström sketches whose test matrix is of signs and never stored: against the dense formula with that matrix written out, at every form of
//! rows, size and history that the stored one is held to.

mod support;

use std::any::Any;

use nhgd::curvature::{Approximation, Curvature, CurvatureConfig, Nystrom, NystromConfig, TestMatrix, load};
use nhgd::dense::{Matrix, eigh, matmul, svd};
use nhgd::error::Error;
use nhgd::inverse::KnownCurvature;
use nhgd::par;
use nhgd::rng::Key;
use nhgd::testkit::cases::{self, Shape};
use nhgd::testkit::reference::ResidualRange;
use support::{Case, dense_case, dense_solve, fisher, fisher_minus, random_dense, random_kronecker, relative_error, with_spectrum};

fn config(test_matrix: TestMatrix, sketch_size: usize) -> NystromConfig {
    NystromConfig { sketch_size, test_matrix, probes: Some(0) }
}

fn absorbed(config: &NystromConfig, d: usize, key: Key, cases: &[&Case]) -> Nystrom {
    let mut sketch = Nystrom::new(d, config, key).unwrap();
    cases.iter().for_each(|case| sketch.absorb(&case.block).unwrap());
    sketch
}

fn signs(size: usize, d: usize, key: Key, cases: &[&Case]) -> Nystrom {
    absorbed(&config(TestMatrix::Sign, size), d, key, cases)
}

/// F^{1/2}ΠF^{1/2}, Π the projector onto the range of F^{1/2}Ω: FΩ(ΩᵀFΩ)⁺ΩᵀF without the inverse of its core. With F = VSVᵀ the range is that of
/// S^{1/2}VᵀΩ, directions below 1e-9 of the largest left out.
fn dense_formula(f: &Matrix, omega: &Matrix) -> Matrix {
    let eigen = eigh(f).unwrap();
    let d = f.nrows();
    let half = Matrix::from_fn(d, d, |i, j| eigen.vectors[(i, j)] * eigen.values[j].max(0.0).sqrt());
    let seen = svd(&matmul(half.t(), omega).unwrap()).unwrap();
    let kept = seen.values.iter().take_while(|&&value| value > 1e-9 * seen.values[0]).count();
    let part = matmul(&half, seen.u.columns(0..kept)).unwrap();
    matmul(&part, part.t()).unwrap()
}

#[track_caller]
fn contained(what: &str, parts: &[(&Case, f64)], approximation: &dyn Approximation) {
    let approximated = approximation.to_dense().unwrap();
    let range = ResidualRange::new(&fisher_minus(parts, Some(&approximated)), &approximated).unwrap();
    let interval = approximation.interval().unwrap();
    assert!(
        interval.lo - range.rounding <= range.low && range.high <= interval.hi + range.rounding,
        "{what}: spectrum [{:e}, {:e}] outside {interval:?}",
        range.low,
        range.high
    );
}

/// A case of each form of rows, d ≥ 60.
fn forms(shape: Shape, key: Key) -> [Case; 3] {
    [
        cases::stored_of(shape, 65, key).unwrap(),
        cases::kronecker_of(shape, 20, 3, key).unwrap(),
        cases::layered_of(shape, &[(13, 4), (5, 7)], key).unwrap(),
    ]
}

/// 1, 2, 63, 64, 65 and 127 samples; weights, zeros, one row many times, rows on a line.
#[test]
fn the_approximation_is_the_dense_formula_with_the_signs_written_out() {
    let mut worst = [0.0_f64; 2];
    for (turn, shape) in Shape::all().enumerate() {
        let key = Key::new(1).child(turn as u64);
        for case in forms(shape, key) {
            let (f, d) = (fisher(&[&case]), case.expanded.ncols());
            let size = [1, 2, 8, 20][turn % 4];
            let sketch = signs(size, d, key, &[&case]);
            let (y, omega) = sketch.sketch().unwrap();
            let expected = matmul(&f, &omega).unwrap();
            let scale = f.norm().max(f64::MIN_POSITIVE);
            let mut difference = y;
            difference.add_scaled(-1.0, &expected).unwrap();
            let error = difference.norm() / scale;
            assert!(error < 1e-13, "{shape:?}, ℓ {size}: Y is off by {error:e}");
            worst[0] = worst[0].max(error);

            let mut difference = sketch.approximate().unwrap().to_dense().unwrap();
            difference.add_scaled(-1.0, &dense_formula(&f, &omega)).unwrap();
            let error = difference.norm() / scale;
            assert!(error < 1e-10, "{shape:?}, d {d}, ℓ {size}: F̂ is off by {error:e}");
            worst[1] = worst[1].max(error);
            contained(&format!("{shape:?}, ℓ {size}"), &[(&case, 1.0)], &*sketch.approximate().unwrap());
        }
    }
    println!("worst relative difference: Y {:.1e}, F̂ {:.1e}", worst[0], worst[1]);
    // The formula with the signs of another key is another matrix.
    let case = random_dense(Key::new(2), 64, 65, 1);
    let (one, other) = (signs(20, 65, Key::new(3), &[&case]), signs(20, 65, Key::new(4), &[&case]));
    let found = one.approximate().unwrap().to_dense().unwrap();
    let unlike = dense_formula(&fisher(&[&case]), &other.sketch().unwrap().1);
    assert!(relative_error(found.as_slice(), unlike.as_slice()) > 0.1);
}

/// Widths past the tiles of Ω, outputs past them, more samples than share one.
#[test]
fn factored_rows_meet_the_tiles_of_signs_wherever_they_are_cut() {
    for (n, p, c, r) in [(300, 700, 1, 1), (3, 1, 600, 2), (257, 255, 3, 1), (5, 1030, 5, 3), (520, 3, 300, 1)] {
        let key = Key::new(5).child(p as u64);
        let case = random_kronecker(key, n, p, c, r);
        let d = p * c;
        let sketch = signs(7, d, key, &[&case]);
        let (y, omega) = sketch.sketch().unwrap();
        let mut expected = matmul(case.expanded.t(), &matmul(&case.expanded, &omega).unwrap()).unwrap();
        expected.scale(1.0 / n as f64);
        let error = relative_error(y.as_slice(), expected.as_slice());
        assert!(error < 1e-12, "{n} × ({p} × {c}), {r} rows a sample: {error:e}");
    }
}

fn spectra(d: usize) -> [(&'static str, Vec<f64>); 4] {
    [
        ("flat", vec![1.0; d]),
        ("exponential", (0..d).map(|j| 0.3_f64.powi(j as i32)).collect()),
        ("harmonic", (0..d).map(|j| 1.0 / (1 + j) as f64).collect()),
        ("low rank", vec![1.0; d.div_ceil(6)]),
    ]
}

#[test]
fn intervals_contain_the_spectrum_of_the_residual() {
    for d in [1, 2, 5, 20, 33, 64] {
        for (kind, spectrum) in spectra(d) {
            for scale in [1e-8, 1.0, 1e8] {
                let key = Key::new(6).child(d as u64);
                let eigenvalues: Vec<f64> = spectrum.iter().map(|x| x * scale).collect();
                let case = with_spectrum(key, 3 * d + 2, d, &eigenvalues);
                for size in [1, d.div_ceil(6), d.div_ceil(3), d] {
                    for chunk in [3 * d + 2, 3] {
                        let pieces = case.pieces(chunk);
                        let sketch = signs(size, d, key, &pieces.iter().collect::<Vec<_>>());
                        let what = format!("{kind}, d {d}, ℓ {size}, chunks of {chunk}");
                        contained(&what, &[(&case, 1.0)], &*sketch.approximate().unwrap());
                    }
                }
            }
        }
    }
}

/// The negative case of the intervals: not those of a matrix 1e-9 larger or smaller.
#[test]
fn an_interval_does_not_hold_for_another_matrix() {
    let case = with_spectrum(Key::new(7), 40, 30, &[1.0; 4]);
    let approximation = signs(10, 30, Key::new(7), &[&case]).approximate().unwrap();
    contained("the matrix itself", &[(&case, 1.0)], &*approximation);
    let interval = approximation.interval().unwrap();
    for factor in [1.0 - 1e-9, 1.0 + 1e-9] {
        let mut other = fisher(&[&case]);
        other.scale(factor);
        other.add_scaled(-1.0, &approximation.to_dense().unwrap()).unwrap();
        let values = eigh(&other).unwrap().values;
        assert!(values[29] < interval.lo || values[0] > interval.hi, "{factor}: {values:?}, {interval:?}");
    }
}

/// ‖F − F̂‖₂ in the mean of 30 draws, and at its worst, beside Gaussian test matrices.
#[test]
fn signs_are_as_accurate_as_normal_numbers() {
    let d = 120;
    for (kind, spectrum) in [
        ("exponential", (0..d).map(|j| 0.8_f64.powi(j)).collect::<Vec<f64>>()),
        ("square of the harmonic", (0..d).map(|j| 1.0 / ((1 + j) as f64).powi(2)).collect()),
        ("harmonic", (0..d).map(|j| 1.0 / (1 + j) as f64).collect()),
        ("flat after a few", (0..d).map(|j| if j < 5 { 1.0 } else { 1e-3 }).collect()),
    ] {
        let d = d as usize;
        // In random directions, and along the coordinates. There the signs that matter are those of a few rows of Ω: of two of them ℓ are equal
        // or opposite with probability 2^(1 − ℓ), and of as many as ℓ some are nearly dependent. What they mix up goes unseen.
        let along = Matrix::from_fn(d, d, |i, j| if i == j { (spectrum[j] * d as f64).sqrt() } else { 0.0 });
        let cases = [("", with_spectrum(Key::new(8), d, d, &spectrum)), (" along the coordinates", dense_case(along, 1))];
        for ((place, case), size) in cases.iter().flat_map(|case| [8, 24].map(|size| (case, size))) {
            let f = fisher(&[case]);
            let errors = |kind| -> Vec<f64> {
                (0..30)
                    .map(|seed| {
                        let sketch = absorbed(&config(kind, size), d, Key::new(9).child(seed), &[case]);
                        let mut residual = f.clone();
                        residual.add_scaled(-1.0, &sketch.approximate().unwrap().to_dense().unwrap()).unwrap();
                        eigh(&residual).unwrap().values[0]
                    })
                    .collect()
            };
            let (signs, normals) = (errors(TestMatrix::Sign), errors(TestMatrix::Gaussian));
            let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
            let most = |errors: &[f64]| errors.iter().copied().fold(0.0, f64::max);
            let ratios = (mean(&signs) / mean(&normals), most(&signs) / most(&normals));
            println!(
                "{kind}{place}, ℓ {size}: ‖F − F̂‖ is {:.3} of the Gaussian's in the mean, {:.3} at its worst",
                ratios.0, ratios.1
            );
            let allowed = if place.is_empty() || size > 8 { (1.25, 2.0) } else { (3.0, 3.0) };
            assert!(ratios.0 < allowed.0 && ratios.1 < allowed.1, "{kind}{place}, ℓ {size}: {ratios:?}");
        }
    }
}

/// d past the cuts of long sums and of tall factorizations: rows of a long stream, and so few of them that F is recovered.
#[test]
fn long_sketches_have_the_same_bits_at_every_thread_count() {
    let (d, size) = (9001, 6);
    for rows in [&[4, 5, 6, 18, 19, 61, 1][..], &[4][..]] {
        let blocks: Vec<Case> = rows.iter().map(|&rows| random_dense(Key::new(rows as u64), rows, d, 1)).collect();
        let config = CurvatureConfig::Nystrom(NystromConfig { probes: Some(3), ..config(TestMatrix::Sign, size) });
        let run = || {
            let mut curvature = config.build(d, Key::new(1)).unwrap();
            blocks.iter().for_each(|case| curvature.absorb(&case.block).unwrap());
            let approximation = curvature.approximate().unwrap();
            let solution = approximation.solve(&KnownCurvature::scalar(d, 1.0).unwrap(), &vec![1.0; d]).unwrap();
            let ends = [approximation.interval().unwrap(), approximation.interval_at(0.05).unwrap().unwrap()].map(|i| (i.lo, i.hi));
            (curvature.save().unwrap(), solution, ends)
        };
        let reference = par::with_threads(1, run).unwrap();
        for threads in [2, 4] {
            assert!(par::with_threads(threads, run).unwrap() == reference, "{rows:?}, {threads} threads");
        }
        // Ω and Θ take no memory in the file either: Y, the products with three probes, and little else.
        assert!(reference.0.len() < 8 * d * (size + 3) + 2000, "{}", reference.0.len());
        let loaded = load(&reference.0).unwrap();
        assert_eq!(loaded.save().unwrap(), reference.0);
        let solution = loaded.approximate().unwrap().solve(&KnownCurvature::scalar(d, 1.0).unwrap(), &vec![1.0; d]).unwrap();
        assert_eq!(solution, reference.1);
        // What was absorbed is what is solved with: (F̂ + I)x = 1 with F̂ = F where the rows are few.
        if let [case] = &blocks[..] {
            let image = case.block.accumulate(&case.block.project(&Matrix::column(solution.clone())).unwrap()).unwrap();
            let product: Vec<f64> = image.as_slice().iter().zip(&solution).map(|(fx, x)| fx / case.samples as f64 + x).collect();
            let error = relative_error(&product, &vec![1.0; d]);
            assert!(error < 1e-9, "{error:e}");
        }
    }
}

#[test]
fn sketches_merge_decay_and_grow_as_the_dense_formula_says() {
    let (d, key) = (70, Key::new(10));
    let (first, second, third) =
        (random_dense(key.child(1), 50, d, 1), random_kronecker(key.child(2), 40, 10, 7, 2), random_dense(key.child(3), 30, d, 1));
    let mut one = signs(9, d, key, &[&first]);
    one.decay(0.25).unwrap();
    one.merge(&signs(9, d, key, &[&second])).unwrap();
    let parts = [(&first, 0.75), (&second, 1.0)];
    let f = fisher_minus(&parts, None);
    let (y, omega) = one.sketch().unwrap();
    assert!(relative_error(y.as_slice(), matmul(&f, &omega).unwrap().as_slice()) < 1e-12);
    let found = one.approximate().unwrap().to_dense().unwrap();
    assert!(relative_error(found.as_slice(), dense_formula(&f, &omega).as_slice()) < 1e-10);

    // Grown, its range holds the old one, and what it absorbs from then on is whole.
    one.grow(12).unwrap();
    assert_eq!(one.sketch_size(), 12);
    let grown = one.sketch().unwrap().1;
    let again = matmul(&grown, &matmul(grown.t(), &omega).unwrap()).unwrap();
    assert!(relative_error(again.as_slice(), omega.as_slice()) < 1e-12);
    one.absorb(&third.block).unwrap();
    contained("grown", &[(&first, 0.75), (&second, 1.0), (&third, 1.0)], &*one.approximate().unwrap());
    let loaded = load(&one.save().unwrap()).unwrap();
    assert_eq!(loaded.save().unwrap(), one.save().unwrap());
    let loaded = (&*loaded as &dyn Any).downcast_ref::<Nystrom>().unwrap();
    assert_eq!(loaded.sketch().unwrap().1, grown);

    // Another seed, size or kind is another Ω.
    let mut one = signs(9, d, key, &[&first]);
    let before = one.save().unwrap();
    for other in [signs(9, d, Key::new(11), &[]), signs(8, d, key, &[]), absorbed(&config(TestMatrix::Gaussian, 9), d, key, &[])] {
        assert!(matches!(one.merge(&other), Err(Error::Unsupported { .. })));
        assert_eq!(one.save().unwrap(), before, "unchanged");
    }
}

/// ℓ = d: nothing is left out, though random signs may be singular as a square matrix (of order 2, every other time).
#[test]
fn as_many_signs_as_dimensions_keep_all_of_the_matrix() {
    for d in [1, 2, 3, 5, 8, 40] {
        for seed in 0..8 {
            let key = Key::new(12).child(seed);
            let case = random_dense(key, 2 * d + 1, d, 1);
            let approximation = signs(d, d, key, &[&case]).approximate().unwrap();
            let f = fisher(&[&case]);
            assert!(relative_error(approximation.to_dense().unwrap().as_slice(), f.as_slice()) < 1e-11, "d {d}, seed {seed}");
            let (known, b) = (KnownCurvature::scalar(d, 0.1).unwrap(), key.child(1).stream().normals(d));
            let error = relative_error(&approximation.solve(&known, &b).unwrap(), &dense_solve(&f, &known, &b));
            assert!(error < 1e-9, "d {d}, seed {seed}: {error:e}");
        }
    }
}
