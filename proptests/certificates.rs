//! Certificates against the exact inverse products that they speak of: thousands of random cases over adversarial spectra, the
//! ellipsoid's surface attained, probabilities counted, and what happens to an interval when a sketch grows, decays or merges.

mod support;

use nhgd::bilevel::certified_nhgd;
use nhgd::curvature::{
    Approximation, Curvature, CurvatureConfig, DampedSolver, FrequentDirectionsConfig, Nystrom, NystromConfig, WindowConfig,
};
use nhgd::dense::{Matrix, difference, dot, eigh, norm, qr};
use nhgd::inverse::{
    Bound, Bracket, Certainty, Damping, Interval, KnownCurvature, SolveOptions, certify_estimate, conjugate_gradients,
    residual_bound, smallest,
};
use nhgd::model::FisherKind;
use nhgd::operator::FromFn;
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
use nhgd::par;
use nhgd::problem::{DataCleaning, DataCleaningConfig, DataSource, Problem, ProblemConfig, QuadraticConfig};
use nhgd::rng::Key;
use nhgd::samples::Batch;
use nhgd::special::beta_quantile;
use support::{
    Case, dense_case, dense_solve, fisher, fisher_minus, random_dense, random_kronecker, refused, relative_error, with_spectrum,
};

const SKETCHES: [&str; 3] = ["nystrom", "frequent-directions", "robust-frequent-directions"];

fn config(name: &str, size: usize, probes: usize) -> CurvatureConfig {
    let directions = FrequentDirectionsConfig { sketch_size: size, probes };
    match name {
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size: size, probes: Some(probes), ..Default::default() }),
        "frequent-directions" => CurvatureConfig::FrequentDirections(directions),
        "robust-frequent-directions" => CurvatureConfig::RobustFrequentDirections(directions),
        "window" => CurvatureConfig::Window(WindowConfig { samples: 1 << 20 }),
        _ => CurvatureConfig::default_of(name).unwrap(),
    }
}

fn absorbed(mut curvature: Box<dyn Curvature>, cases: &[&Case]) -> Box<dyn Curvature> {
    cases.iter().for_each(|case| curvature.absorb(&case.block).unwrap());
    curvature
}

/// Spectra of d eigenvalues that are hard for one sketch or another.
fn spectrum(kind: usize, d: usize) -> Vec<f64> {
    (0..d)
        .map(|j| match kind {
            0 => 1.0,
            1 => 0.5_f64.powi(j as i32),
            2 => 1.0 / (1 + j) as f64,
            3 => f64::from(u8::from(j == 0)) + 1e-6,
            4 => [1.0, 1e-3, 1e-6][3 * j / d],
            5 => {
                if j < d.div_ceil(3) {
                    1.0
                } else {
                    0.0
                }
            }
            _ => 1.0 / ((1 + j) * (1 + j)) as f64,
        })
        .collect()
}

/// The least and the greatest eigenvalue of F − F̂.
fn residual_range(case: &Case, approximation: &dyn Approximation) -> (f64, f64) {
    let values = eigh(&fisher_minus(&[(case, 1.0)], Some(&approximation.to_dense().unwrap()))).unwrap().values;
    (values[values.len() - 1], values[0])
}

/// One random case: everything that a bracket says, against a solve with 32 digits in its residuals. Returns the number of statements.
fn check_case(index: u64) -> usize {
    let key = Key::new(100).child(index);
    let mut stream = key.stream();
    let d = 1 + stream.below(18).unwrap();
    let kind = stream.below(7).unwrap();
    let scale = 10.0_f64.powi(stream.below(17).unwrap() as i32 - 8);
    let eigenvalues: Vec<f64> = spectrum(kind, d).iter().map(|x| x * scale).collect();
    let case = with_spectrum(key.child(1), d + stream.below(10).unwrap(), d, &eigenvalues);
    let size = 1 + stream.below(d).unwrap();
    let name = ["nystrom", "frequent-directions", "robust-frequent-directions", "window", "dense"][stream.below(5).unwrap()];
    let approximation = absorbed(config(name, size, 0).build(d, key.child(2)).unwrap(), &[&case]).approximate().unwrap();
    let f = fisher(&[&case]);
    let mu = scale * 10.0_f64.powf(-6.0 * stream.uniform());
    let known = if stream.uniform() < 0.5 {
        KnownCurvature::scalar(d, mu).unwrap()
    } else {
        KnownCurvature::diagonal((0..d).map(|_| mu * (1.0 + 3.0 * stream.uniform())).collect()).unwrap()
    };
    let v = if stream.uniform() < 0.5 { stream.normals(d) } else { f.clone().as_slice()[..d].to_vec() };
    let v = if norm(&v) > 0.0 { v } else { vec![1.0; d] };
    let exact = dense_solve(&f, &known, &v);
    let bracket = approximation.bracket(&known, None).unwrap();
    let certified = bracket.solve(&v).unwrap();
    let what = format!("case {index}: {name}, d {d}, ℓ {size}, spectrum {kind}, scale {scale:e}, μ {mu:e}");

    let error = norm(&difference(&certified.midpoint, &exact));
    assert!(certified.certainty.is_deterministic());
    assert!(error <= certified.radius, "{what}: {error:e} above {:e}", certified.radius);
    for (j, bound) in bracket.coordinates(&certified).unwrap().iter().enumerate() {
        let error = (certified.midpoint[j] - exact[j]).abs();
        assert!(error <= *bound, "{what}: coordinate {j}: {error:e} above {bound:e}");
    }
    let u = stream.normals(d);
    let enclosure = bracket.bilinear(&u, &v).unwrap();
    let value = dot(&u, &exact);
    let slack = 1e-15 * norm(&u) * norm(&exact);
    assert!(enclosure.low - slack <= value && value <= enclosure.high + slack, "{what}: {value:e} outside {enclosure:?}");
    let rows = random_dense(key.child(3), 3, d, 1);
    for (i, bound) in bracket.rows(&rows.block, &certified).unwrap().iter().enumerate() {
        let row: Vec<f64> = (0..d).map(|j| rows.expanded[(i, j)]).collect();
        let error = dot(&row, &difference(&certified.midpoint, &exact)).abs();
        assert!(error <= *bound * (1.0 + 1e-12) + slack, "{what}: row {i}: {error:e} above {bound:e}");
    }

    // Any other estimate: x_U, and one that is far off, with the residual on the streamed matrix itself.
    for estimate in [certified.upper.clone(), stream.normals(d)] {
        let error = norm(&difference(&estimate, &exact));
        assert!(error <= certified.radius_of(&estimate) * (1.0 + 1e-12), "{what}");
        let mut product = nhgd::dense::matvec(&f, &estimate).unwrap();
        product.iter_mut().enumerate().for_each(|(i, p)| *p += known.entry(i) * estimate[i]);
        let residual = difference(&v, &product);
        // What the residual itself has lost to rounding here.
        let slack = 1e-14 * (norm(&v) + (f.trace() + known.max_eigenvalue()) * norm(&estimate)) / known.min_eigenvalue();
        let energy = bracket.energy_bound(&residual).unwrap();
        assert!(error <= energy.radius * (1.0 + 1e-9) + slack, "{what}: {error:e} above the energy bound {:e}", energy.radius);
        let best = bracket.bound_of(&v, &estimate, Some(&residual)).unwrap();
        assert!(error <= best.radius * (1.0 + 1e-9) + slack, "{what}: {error:e} above the smallest, {best:?}");
        assert!(best.radius <= energy.radius.min(certified.radius_of(&estimate)), "{what}: {best:?} is not the smallest");
        let plain = residual_bound(&residual, &known).unwrap();
        assert!(error <= plain.radius * (1.0 + 1e-9) + slack, "{what}: residual bound");
        let (refined, bound, ellipsoid) = bracket.refine(&estimate, &residual).unwrap();
        assert!(norm(&difference(&refined, &exact)) <= bound.radius + slack, "{what}: refined");
        assert!(error <= ellipsoid.radius * (1.0 + 1e-9) + slack, "{what}: ellipsoid of the residual");
    }
    9 + d
}

#[test]
fn deterministic_certificates_hold_in_twenty_thousand_cases() {
    let cases = 20_000;
    let statements: usize = par::map((0..cases).collect(), check_case).into_iter().sum();
    println!("{cases} cases, {statements} statements, no violation");
    assert!(statements > 200_000);
}

/// One product with many columns rounds otherwise than many products, and a column decides on refinement for all: the certificates, which
/// measure the rounding, must hold for each.
#[test]
fn columns_that_are_solved_for_together_are_certified_each() {
    for name in ["nystrom", "frequent-directions", "robust-frequent-directions", "window", "dense"] {
        for (seed, mu) in [1e-11, 1e-7, 1e-3, 1.0].into_iter().enumerate() {
            let key = Key::new(210).child(seed as u64);
            let d = 15;
            let case = with_spectrum(key, 40, d, &spectrum(5, d));
            let (f, known) = (fisher(&[&case]), KnownCurvature::scalar(d, mu).unwrap());
            let approximation = absorbed(config(name, 6, 0).build(d, key).unwrap(), &[&case]).approximate().unwrap();
            let bracket = approximation.bracket(&known, None).unwrap();
            let mut columns = key.child(1).stream().normals(6 * d);
            // One among the large eigenvectors, where the identity of Woodbury cancels, and zero.
            columns[2 * d..3 * d].copy_from_slice(f.col(0));
            columns[4 * d..5 * d].fill(0.0);
            let v = Matrix::from_columns(d, 6, columns).unwrap();
            let together = bracket.solve_columns(&v).unwrap();
            assert_eq!(together.len(), 6);
            for (j, certified) in together.iter().enumerate() {
                let exact = dense_solve(&f, &known, v.col(j));
                let (error, alone) = (norm(&difference(&certified.midpoint, &exact)), bracket.solve(v.col(j)).unwrap());
                assert!(error <= certified.radius, "{name}, μ {mu:e}, column {j}: {error:e} above {:e}", certified.radius);
                let both = certified.radius + alone.radius;
                assert!(norm(&difference(&certified.midpoint, &alone.midpoint)) <= both, "{name}, μ {mu:e}, column {j}");
                assert_eq!(certified.certainty, alone.certainty);
            }
            assert!(bracket.solve_columns(&Matrix::zeros(d, 0)).unwrap().is_empty());
            refused(bracket.solve_columns(&Matrix::zeros(d + 1, 2)), "rhs");
            let mut nan = v.clone();
            nan[(3, 1)] = f64::NAN;
            refused(bracket.solve_columns(&nan), "rhs");
        }
    }
}

/// The point of the ellipsoid farthest from its midpoint is (A + E)⁻¹v for an E of rank one with 0 ≼ E ≼ ΔI: no smaller radius is true,
/// and a bracket whose Δ is halved is caught.
#[test]
fn the_radius_is_attained_by_a_rank_one_residual_and_half_the_width_is_caught() {
    let mut caught = 0;
    for seed in 0..50 {
        let key = Key::new(200).child(seed);
        let (d, size) = (12, 4);
        let case = with_spectrum(key, 30, d, &spectrum(2, d));
        let approximation =
            absorbed(config("frequent-directions", size, 0).build(d, key).unwrap(), &[&case]).approximate().unwrap();
        let known = KnownCurvature::scalar(d, 0.05).unwrap();
        let v = key.child(1).stream().normals(d);
        let bracket = approximation.bracket(&known, None).unwrap();
        let (certified, width) = (bracket.solve(&v).unwrap(), bracket.width());
        let lo = approximation.interval().unwrap().lo;

        let mut a = approximation.to_dense().unwrap();
        (0..d).for_each(|i| a[(i, i)] += 0.05 + lo);
        // The eigenvector of W with the largest eigenvalue is that of A with the least.
        let eigen = eigh(&a).unwrap();
        let direction = eigen.vectors.col(d - 1);
        let radius = certified.radius - certified.rounding;
        let x: Vec<f64> = certified.midpoint.iter().zip(direction).map(|(c, w)| c + radius * w).collect();
        let r = difference(&v, &nhgd::dense::matvec(&a, &x).unwrap());
        let size_of_e = dot(&r, &r) / dot(&r, &x);
        assert!((size_of_e / width - 1.0).abs() < 1e-8, "‖E‖ {size_of_e:e} for Δ {width:e}");
        let mut perturbed = a.clone();
        nhgd::dense::matmul_add(&mut perturbed, 1.0 / dot(&r, &x), &Matrix::column(r.clone()), Matrix::column(r).t()).unwrap();
        let attained = dense_solve(&perturbed, &KnownCurvature::scalar(d, 1e-300).unwrap(), &v);
        let distance = norm(&difference(&attained, &certified.midpoint));
        assert!((distance / radius - 1.0).abs() < 1e-8, "{distance:e} for a radius of {radius:e}");

        let interval = approximation.interval().unwrap();
        let halved = Interval { hi: interval.lo + 0.5 * width, ..interval };
        let narrow = narrowed(&*approximation, &known, halved, &v);
        caught += usize::from(norm(&difference(&attained, &narrow.0)) > narrow.1);
    }
    assert_eq!(caught, 50);
}

/// Midpoint and radius for another interval than the approximation's own.
fn narrowed(approximation: &dyn Approximation, known: &KnownCurvature, interval: Interval, v: &[f64]) -> (Vec<f64>, f64) {
    let (lower, upper) = (known.shifted(interval.lo).unwrap(), known.shifted(interval.hi).unwrap());
    let (x_u, x_l) = (approximation.solve(&lower, v).unwrap(), approximation.solve(&upper, v).unwrap());
    let (a, width) = (lower.min_eigenvalue(), interval.hi - interval.lo);
    let midpoint = x_u.iter().zip(&x_l).map(|(a, b)| 0.5 * (a + b)).collect();
    (midpoint, (width / (2.0 * a * (a + width)) * 0.5 * width * dot(&x_u, &x_l)).sqrt())
}

/// 0 ≼ E ≼ ΔI, (ℓ + 1)Δ ≤ tr E and Δ ≤ Σ_{i>k} λ_i/(ℓ + 1 − k) for every k ≤ ℓ, in any chunks and any order; the robust form within ±Δ/2.
#[test]
fn frequent_directions_keep_their_bounds_in_any_chunks() {
    for d in [1, 2, 9, 24, 63, 64, 65] {
        for kind in if d < 30 { vec![0, 1, 2, 3, 4, 5, 6] } else { vec![0, 2, 5] } {
            for scale in if d < 30 { vec![1e-8, 1.0, 1e8] } else { vec![1.0] } {
                let key = Key::new(300).child(d as u64).child(kind as u64);
                let eigenvalues: Vec<f64> = spectrum(kind, d).iter().map(|x| x * scale).collect();
                let case = with_spectrum(key, 2 * d + 7, d, &eigenvalues);
                let f = fisher(&[&case]);
                let values = eigh(&f).unwrap().values;
                for size in if d < 30 { vec![1, d.div_ceil(4), d.div_ceil(2), d] } else { vec![d.div_ceil(4)] } {
                    for chunk in [if d < 30 { 1 } else { 7 }, 1000] {
                        let pieces = pieces(&case, chunk);
                        let build =
                            |name: &str| absorbed(config(name, size, 0).build(d, key).unwrap(), &pieces.iter().collect::<Vec<_>>());
                        let plain = build("frequent-directions").approximate().unwrap();
                        let interval = plain.interval().unwrap();
                        let (low, high) = residual_range(&case, &*plain);
                        let what = format!("d {d}, spectrum {kind}, scale {scale:e}, ℓ {size}, chunks of {chunk}");
                        let oracle = 1e-13 * f.trace();
                        assert!(
                            interval.lo - oracle <= low && high <= interval.hi + oracle,
                            "{what}: [{low:e}, {high:e}] {interval:?}"
                        );
                        let lost = interval.hi + interval.lo;
                        let remaining = f.trace() - plain.trace();
                        assert!(
                            (size + 1) as f64 * lost <= remaining + oracle,
                            "{what}: (ℓ + 1)Δ = {lost:e}·{} above {remaining:e}",
                            size + 1
                        );
                        for k in 0..=size {
                            let tail: f64 = values.iter().skip(k).map(|x| x.max(0.0)).sum();
                            assert!(lost <= tail / (size + 1 - k) as f64 + oracle, "{what}: k = {k}");
                        }
                        let robust = build("robust-frequent-directions").approximate().unwrap();
                        let (low, high) = residual_range(&case, &*robust);
                        let half = 0.5 * lost + oracle;
                        assert!(-half <= low && high <= half, "{what}: robust [{low:e}, {high:e}] for ±{half:e}");
                    }
                }
            }
        }
    }
}

fn pieces(case: &Case, chunk: usize) -> Vec<Case> {
    let piece = |range: std::ops::Range<usize>| {
        dense_case(Matrix::from_fn(range.len(), case.expanded.ncols(), |i, j| case.expanded[(range.start + i, j)]), 1)
    };
    par::blocks(case.samples, chunk).map(piece).collect()
}

#[test]
fn factored_rows_give_the_same_sketch_as_expanded_ones() {
    let key = Key::new(400);
    for (n, p, c, r) in [(1, 3, 2, 1), (40, 5, 4, 1), (40, 5, 4, 3), (127, 8, 8, 2)] {
        let factored = random_kronecker(key, n, p, c, r);
        let expanded = dense_case(factored.expanded.clone(), r);
        let d = p * c;
        for name in SKETCHES {
            let sketch =
                |case: &Case| absorbed(config(name, d.div_ceil(3), 2).build(d, key).unwrap(), &[case]).approximate().unwrap();
            let (one, other) = (sketch(&factored), sketch(&expanded));
            let (a, b) = (one.to_dense().unwrap(), other.to_dense().unwrap());
            assert!(relative_error(a.as_slice(), b.as_slice()) < 1e-9, "{name}, {n} samples");
            let (a, b) = (one.interval_at(0.1).unwrap().unwrap(), other.interval_at(0.1).unwrap().unwrap());
            assert!((a.hi - b.hi).abs() < 1e-9 * one.trace().max(b.hi), "{name}: {a:?} {b:?}");
        }
    }
}

/// Histories of absorbing, decaying, merging and growing: what the interval says of the weighted mean stays true.
#[test]
fn intervals_survive_growth_decay_and_merging() {
    let mut grown_gain = Vec::new();
    for seed in 0..60 {
        let key = Key::new(500).child(seed);
        let d = 10 + (seed as usize % 3) * 15;
        let block = |i: u64| with_spectrum(key.child(i), d + 5, d, &spectrum((seed as usize + i as usize) % 7, d));
        let cases: Vec<Case> = (0..4).map(block).collect();
        for name in SKETCHES {
            let new = || config(name, 4, 3).build(d, key.child(9)).unwrap();
            let mut sketch = absorbed(new(), &[&cases[0]]);
            let mut history = vec![(&cases[0], 1.0)];
            sketch.decay(0.3).unwrap();
            history[0].1 = 0.7;
            let mut other = absorbed(new(), &[&cases[1]]);
            other.decay(0.1).unwrap();
            sketch.merge(&*other).unwrap();
            history.push((&cases[1], 0.9));
            let check = |sketch: &dyn Curvature, history: &[(&Case, f64)], what: &str| {
                let approximation = sketch.approximate().unwrap();
                let interval = approximation.interval().unwrap();
                let values = eigh(&fisher_minus(history, Some(&approximation.to_dense().unwrap()))).unwrap().values;
                let oracle = 1e-14 * approximation.trace();
                assert!(
                    interval.lo - oracle <= values[d - 1] && values[0] <= interval.hi + oracle,
                    "{name}, seed {seed}, {what}: [{:e}, {:e}] outside {interval:?}",
                    values[d - 1],
                    values[0]
                );
                interval.hi
            };
            check(&*sketch, &history, "merged");
            let mut small = sketch.boxed_clone();
            sketch.grow(8).unwrap();
            check(&*sketch, &history, "grown");
            for case in &cases[2..] {
                sketch.absorb(&case.block).unwrap();
                small.absorb(&case.block).unwrap();
                history.push((case, 1.0));
            }
            let (large, small) = (check(&*sketch, &history, "grown and fed"), check(&*small, &history, "not grown"));
            grown_gain.push(small / large.max(f64::MIN_POSITIVE));
            let loaded = nhgd::curvature::load(&sketch.save().unwrap()).unwrap();
            assert_eq!(loaded.approximate().unwrap().interval(), sketch.approximate().unwrap().interval());
            assert!(sketch.grow(7).is_err() && sketch.grow(d + 1).is_err());
        }
    }
    grown_gain.sort_by(f64::total_cmp);
    assert!(grown_gain[grown_gain.len() / 2] > 1.05, "growing pays: {:?}", grown_gain[grown_gain.len() / 2]);
}

/// The negative case of growth: new columns that start at zero break the interval.
#[test]
fn growing_from_zero_would_break_the_interval() {
    let (d, key) = (20, Key::new(501));
    let cases = [with_spectrum(key.child(0), 40, d, &spectrum(2, d)), with_spectrum(key.child(1), 40, d, &spectrum(2, d))];
    let gaussian = Matrix::from_columns(d, 8, key.stream().normals(d * 8)).unwrap();
    let (omega, _) = qr(&gaussian).unwrap();
    let f = fisher(&[&cases[0], &cases[1]]);
    let mut y = nhgd::dense::matmul(&f, &omega).unwrap();
    // The new columns have seen the second half of the stream alone.
    let mut late = nhgd::dense::matmul(&fisher(&[&cases[1]]), &omega).unwrap();
    late.scale(0.5);
    (4..8).for_each(|j| y.col_mut(j).copy_from_slice(late.col(j)));
    // Nyström's formula on that Y by dense algebra.
    let core = nhgd::dense::matmul(omega.t(), &y).unwrap();
    let core = Matrix::from_fn(8, 8, |i, j| 0.5 * (core[(i, j)] + core[(j, i)]));
    let eigen = eigh(&core).unwrap();
    let kept: Vec<usize> = (0..8).filter(|&j| eigen.values[j] > 1e-12).collect();
    let root = Matrix::from_fn(8, kept.len(), |i, j| eigen.vectors[(i, kept[j])] / eigen.values[kept[j]].sqrt());
    let b = nhgd::dense::matmul(&y, &root).unwrap();
    let mut residual = f.clone();
    nhgd::dense::matmul_add(&mut residual, -1.0, &b, b.t()).unwrap();
    let values = eigh(&residual).unwrap().values;
    // Three hundred million times what rounding may do.
    assert!(values[d - 1] < -1e-6 * f.trace(), "{:e}", values[d - 1]);
}

#[test]
fn nystrom_depends_on_the_range_of_its_test_matrix_alone_and_reproduces_what_it_saw() {
    let (d, size) = (30, 7);
    for seed in 0..20 {
        let key = Key::new(600).child(seed);
        let case = with_spectrum(key, 45, d, &spectrum(seed as usize % 3, d));
        let f = fisher(&[&case]);
        let omega = Matrix::from_columns(d, size, key.child(1).stream().normals(d * size)).unwrap();
        let mixing = Matrix::from_columns(size, size, key.child(2).stream().normals(size * size)).unwrap();
        let config = NystromConfig { sketch_size: size, probes: Some(0), ..Default::default() };
        let estimate = |omega: &Matrix| {
            let mut sketch = Nystrom::with_test_matrix(omega, &config, key).unwrap();
            sketch.absorb(&case.block).unwrap();
            sketch.approximate().unwrap().to_dense().unwrap()
        };
        let (one, other) = (estimate(&omega), estimate(&nhgd::dense::matmul(&omega, &mixing).unwrap()));
        assert!(relative_error(one.as_slice(), other.as_slice()) < 1e-9);
        let (seen, exact) = (nhgd::dense::matmul(&one, &omega).unwrap(), nhgd::dense::matmul(&f, &omega).unwrap());
        assert!(relative_error(seen.as_slice(), exact.as_slice()) < 1e-9, "F̂Ω = FΩ");
        let unlike = estimate(&Matrix::from_columns(d, size, key.child(3).stream().normals(d * size)).unwrap());
        assert!(relative_error(one.as_slice(), unlike.as_slice()) > 1e-3, "another range is another sketch");
    }
    refused(
        Nystrom::with_test_matrix(&Matrix::zeros(3, 2), &NystromConfig { sketch_size: 4, ..Default::default() }, Key::new(0)),
        "test matrix",
    );
}

/// In how many of 4,000 replicates the probe bound with each probability of failure is below the truth; ℓ = 6, q = 4.
fn failures_of_probes<const N: usize>(name: &str, eigenvalues: &[f64], deltas: [f64; N]) -> [f64; N] {
    let d = eigenvalues.len();
    let case = with_spectrum(Key::new(700), 40, d, eigenvalues);
    let failed = par::map((0..REPLICATES).collect(), |i| {
        let approximation = absorbed(config(name, 6, 4).build(d, Key::new(701).child(i)).unwrap(), &[&case]).approximate().unwrap();
        let (_, high) = residual_range(&case, &*approximation);
        deltas.map(|delta| high > approximation.interval_at(delta).unwrap().unwrap().hi * (1.0 + 1e-12))
    });
    std::array::from_fn(|k| failed.iter().filter(|failed| failed[k]).count() as f64)
}

const REPLICATES: u64 = 4000;

/// Clopper and Pearson's lower 97.5 % limit of a failure rate: above δ it would refute a bound.
fn least_rate(failures: f64) -> f64 {
    if failures == 0.0 { 0.0 } else { beta_quantile(failures, REPLICATES as f64 - failures + 1.0, 0.025).unwrap() }
}

#[test]
fn probe_bounds_fail_no_more_often_than_they_say() {
    for name in ["nystrom", "frequent-directions"] {
        for kind in [0, 2] {
            let deltas = [0.05, 0.01];
            for (failures, delta) in failures_of_probes(name, &spectrum(kind, 24), deltas).into_iter().zip(deltas) {
                let low = least_rate(failures);
                println!("{name}, spectrum {kind}, δ = {delta}: {failures} of {REPLICATES} failed (rate at least {low:.4})");
                assert!(low <= delta, "{name}, spectrum {kind}: {failures} failures at δ = {delta}");
            }
        }
    }
}

/// Where one direction of the residual stands out, the bound has little to spare: it fails about as often as it says, so that a bound
/// at another level of χ² would be seen.
#[test]
fn probe_bounds_of_a_residual_with_one_direction_fail_about_as_often_as_they_say() {
    let eigenvalues: Vec<f64> = (0..24)
        .map(|j| {
            if j < 6 {
                1e4
            } else if j == 6 {
                1.0
            } else {
                0.01
            }
        })
        .collect();
    let deltas = [0.2, 0.05, 0.01];
    let failures = failures_of_probes("nystrom", &eigenvalues, deltas);
    println!("one direction, δ = {deltas:?}: {failures:?} of {REPLICATES} failed");
    for (failures, delta) in failures.into_iter().zip(deltas) {
        assert!(least_rate(failures) <= delta, "{failures} failures at δ = {delta}");
    }
    assert!(failures[1] > 0.02 * REPLICATES as f64, "{failures:?}: nothing would be noticed");
    // The negative control: the bound of δ = 0.2, taken for one of 0.05.
    assert!(least_rate(failures[0]) > 0.05, "{failures:?}");
}

/// Gaussian rows with eigenvalues j⁻², d = 200, n = 1,000, ℓ = 20, μ = 1e-2: how far the radius is from the error of the midpoint.
#[test]
fn the_certificate_of_frequent_directions_is_tight() {
    let (d, n, size) = (200, 1000, 20);
    let mut ratios = Vec::new();
    let mut widths = Vec::new();
    for seed in 0..20 {
        let key = Key::new(800).child(seed);
        let normals = key.stream().normals(n * d);
        let case = dense_case(Matrix::from_fn(n, d, |i, j| normals[i * d + j] / (1 + j) as f64), 1);
        let approximation =
            absorbed(config("frequent-directions", size, 0).build(d, key).unwrap(), &[&case]).approximate().unwrap();
        let f = nhgd::dense::matmul(case.expanded.t(), &case.expanded).unwrap();
        let f = Matrix::from_fn(d, d, |i, j| f[(i, j)] / n as f64);
        let known = KnownCurvature::scalar(d, 1e-2).unwrap();
        let v = key.child(1).stream().normals(d);
        let certified = approximation.bracket(&known, None).unwrap().solve(&v).unwrap();
        let mut sum = f.clone();
        known.add_to(&mut sum).unwrap();
        let exact = nhgd::dense::Cholesky::new(sum).unwrap().solve(&v).unwrap();
        ratios.push(certified.radius / norm(&difference(&certified.midpoint, &exact)));
        let mut residual = f;
        residual.add_scaled(-1.0, &approximation.to_dense().unwrap()).unwrap();
        widths.push(approximation.interval().unwrap().hi / eigh(&residual).unwrap().values[0]);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        0.5 * (values[9] + values[10])
    };
    let (ratio, width) = (median(&mut ratios), median(&mut widths));
    println!("median radius/error of the midpoint {ratio:.2}, median Δ/‖E‖ {width:.3}");
    assert!(ratio <= 2.7 && width <= 1.1, "{ratio} {width}");
}

/// The table of the probe bound against the truth.
#[test]
fn probe_bounds_come_close_to_the_truth() {
    let (d, n, size) = (200, 1000, 32);
    for (kind, name) in [(2, "1/j"), (0, "flat")] {
        let case = with_spectrum(Key::new(900), n, d, &spectrum(kind, d));
        for probes in [4, 8, 16] {
            let mut ratios: Vec<[f64; 2]> = par::map((0..9).collect(), |seed| {
                let key = Key::new(901).child(seed);
                let approximation =
                    absorbed(config("nystrom", size, probes).build(d, key).unwrap(), &[&case]).approximate().unwrap();
                let f = nhgd::dense::matmul(case.expanded.t(), &case.expanded).unwrap();
                let mut residual = Matrix::from_fn(d, d, |i, j| f[(i, j)] / n as f64);
                residual.add_scaled(-1.0, &approximation.to_dense().unwrap()).unwrap();
                let truth = eigh(&residual).unwrap().values[0];
                [approximation.interval_at(0.05).unwrap().unwrap().hi / truth, approximation.interval().unwrap().hi / truth]
            });
            ratios.sort_by(|a, b| a[0].total_cmp(&b[0]));
            println!(
                "{name}, q = {probes}: bound at δ = 0.05 over the truth {:.2} (trace bound {:.1})",
                ratios[4][0], ratios[4][1]
            );
            assert!(ratios[4][0] < if kind == 0 { 10.0 } else { 6.0 }, "{name}, q = {probes}: {ratios:?}");
            assert!(ratios[4][0] < ratios[4][1], "tighter than the trace");
        }
    }
}

#[test]
fn the_smallest_bound_pays_for_having_looked_at_the_others() {
    let bound = |name, radius, failure: Option<f64>| Bound {
        name,
        radius,
        certainty: failure.map_or(Certainty::Deterministic {}, |f| Certainty::Probability { at_least: 1.0 - f }),
    };
    let best = smallest(&[bound("a", 2.0, None), bound("b", 1.0, Some(0.01)), bound("c", 1.5, Some(0.02))]).unwrap();
    assert_eq!(best.name, "b");
    assert!(matches!(best.certainty, Certainty::Probability { at_least } if (at_least - 0.97).abs() < 1e-12));
    let best = smallest(&[bound("a", 0.5, None), bound("b", 1.0, Some(0.01)), bound("c", f64::NAN, None)]).unwrap();
    assert_eq!((best.name, best.certainty), ("a", Certainty::Deterministic {}));
    assert!(smallest(&[]).is_none());
}

/// An estimate by a few steps of conjugate gradients on the streamed matrix: the smaller its residual, the more that says beyond the
/// sketch's ellipsoid; the bracket that may fail is charged for where it decides.
#[test]
fn an_iterative_estimate_has_the_smallest_of_all_bounds() {
    let (d, key) = (40, Key::new(950));
    let case = with_spectrum(key, 60, d, &(1..=d).map(|j| 1.0 / j as f64).collect::<Vec<_>>());
    let known = KnownCurvature::scalar(d, 0.05).unwrap();
    let [fd, nystrom] = ["frequent-directions", "nystrom"]
        .map(|name| absorbed(config(name, 8, 4).build(d, key).unwrap(), &[&case]).approximate().unwrap());
    let brackets =
        [fd.bracket(&known, None).unwrap(), nystrom.bracket(&known, None).unwrap(), nystrom.bracket(&known, Some(0.01)).unwrap()];
    let v = key.child(1).stream().normals(d);
    let f = fisher(&[&case]);
    let mut a = f.clone();
    (0..d).for_each(|i| a[(i, i)] += 0.05);
    let exact = dense_solve(&f, &known, &v);
    let mut gained = Vec::new();
    for steps in [1, 3, 10, 30] {
        let options = SolveOptions { tolerance: 1e-14, max_iterations: steps };
        let estimate = conjugate_gradients(&FromFn::new(d, |x: &[f64]| nhgd::dense::matvec(&a, x)), &v, options).unwrap().solution;
        let residual = difference(&v, &nhgd::dense::matvec(&a, &estimate).unwrap());
        let all: Vec<&Bracket<'_>> = brackets.iter().collect();
        let bound = certify_estimate(&all, &v, &estimate, Some(&residual)).unwrap();
        let error = norm(&difference(&estimate, &exact));
        assert!(error <= bound.radius * (1.0 + 1e-9), "{steps} steps: {error:e} above {bound:?}");
        assert!(bound.certainty.is_deterministic() || bound.certainty == Certainty::Probability { at_least: 0.99 }, "{bound:?}");
        let without = certify_estimate(&all, &v, &estimate, None).unwrap();
        assert!(without.name == "ellipsoid" && bound.radius <= without.radius, "{steps} steps: {without:?}");
        gained.push(without.radius / bound.radius);
    }
    // What the residual is worth.
    assert!(gained[0] >= 1.0 && gained[3] > 1e3, "{gained:?}");
    refused(certify_estimate(&[], &v, &exact, None), "brackets");
    refused(certify_estimate(&[&brackets[0]], &v, &exact[1..], None), "estimate");
}

#[test]
fn what_a_certificate_cannot_say_is_refused() {
    let key = Key::new(1000);
    let case = random_dense(key, 20, 8, 1);
    let sketch = absorbed(config("nystrom", 3, 0).build(8, key).unwrap(), &[&case]).approximate().unwrap();
    let lo = sketch.interval().unwrap().lo;
    refused(sketch.bracket(&KnownCurvature::scalar(8, -lo).unwrap(), None), "damping");
    refused(sketch.bracket(&KnownCurvature::scalar(8, 0.0).unwrap(), None), "damping");
    let bracket = sketch.bracket(&KnownCurvature::scalar(8, 1.0).unwrap(), None).unwrap();
    refused(bracket.solve(&[1.0; 7]), "rhs");
    refused(bracket.solve(&[f64::NAN; 8]), "rhs");
    refused(bracket.rows(&random_dense(key, 2, 7, 1).block, &bracket.solve(&[1.0; 8]).unwrap()), "rows");
    let diagonal = absorbed(config("diagonal", 0, 0).build(8, key).unwrap(), &[&case]).approximate().unwrap();
    assert!(
        diagonal.bracket(&KnownCurvature::scalar(8, 1.0).unwrap(), None).err().unwrap().to_string().contains("without an interval")
    );
    let probed = absorbed(config("nystrom", 3, 2).build(8, key).unwrap(), &[&case]).approximate().unwrap();
    refused(probed.interval_at(0.0), "probability");
    refused(probed.interval_at(1.0), "probability");
}

/// One factorization for a path: solves, norms and radii of every damping equal those computed anew.
#[test]
fn a_path_of_dampings_equals_its_points_computed_anew() {
    for (seed, name) in ["nystrom", "frequent-directions", "robust-frequent-directions", "window"].into_iter().enumerate() {
        let key = Key::new(1100).child(seed as u64);
        let d = 24;
        let case = with_spectrum(key, 40, d, &spectrum(1, d));
        let approximation = absorbed(config(name, 8, 0).build(d, key).unwrap(), &[&case]).approximate().unwrap();
        let space = approximation.row_space().unwrap().unwrap();
        let v = key.child(1).stream().normals(d);
        let interval = approximation.interval().unwrap();
        let components = space.components(&v).unwrap();
        let f_hat = eigh(&approximation.to_dense().unwrap()).unwrap().values;
        let shift = if name.starts_with("robust") { f_hat[d - 1] } else { 0.0 };
        for mu in nhgd::inverse::damping_grid(1e-6, 1.0, 7).unwrap() {
            let known = KnownCurvature::scalar(d, 0.01).unwrap();
            let rhs = Matrix::column(v.clone());
            let path = space.solve(0.01 + mu, &rhs).unwrap();
            let anew = approximation.solve(&known.plus(mu).unwrap(), &v).unwrap();
            assert!(relative_error(path.as_slice(), &anew) < 1e-11, "{name}, μ {mu:e}");
            let point = components.certificate(&known, mu, (interval.lo, interval.hi)).unwrap();
            let certified = approximation.bracket(&known.plus(mu).unwrap(), None).unwrap().solve(&v).unwrap();
            assert!((point.norm / norm(&certified.midpoint) - 1.0).abs() < 1e-9, "{name}, μ {mu:e}");
            assert!(
                (point.radius - certified.radius).abs() < 1e-6 * certified.radius + 1e-12,
                "{name}, μ {mu:e}: {point:?} {}",
                certified.radius
            );
            let effective: f64 = f_hat.iter().map(|s| (s - shift).max(0.0)).map(|s| s / (s + mu)).sum();
            assert!((space.effective_dimension(mu).unwrap() - effective).abs() < 1e-6, "{name}, μ {mu:e}");
        }
    }
}

/// At a random v and a θ off the minimizer: each coordinate against the hypergradient with the fed matrix itself, and the total bound
/// against ∇Φ by the oracle.
#[test]
fn hypergradients_stay_within_their_certificates() {
    let cleaning = DataCleaningConfig { train: 60, validation: 20, ridge: 0.05, ..Default::default() };
    let quadratic = QuadraticConfig { inner_dim: 15, outer_dim: 6, samples: 90, misfit: 0.5, ridge: 0.05, ..Default::default() };
    for (config, sketch_size) in [(ProblemConfig::DataCleaning(cleaning), 120), (ProblemConfig::Quadratic(quadratic), 6)] {
        check_hypergradients(&*config.build(&DataSource::default(), Key::new(5)).unwrap(), sketch_size);
    }
}

fn check_hypergradients(problem: &dyn Problem, sketch_size: usize) {
    let mut tightest = f64::INFINITY;
    for (seed, name) in SKETCHES.into_iter().chain(["window", "dense"]).enumerate() {
        for distance in [0.0, 1e-3] {
            let key = Key::new(1200).child(seed as u64);
            let v = key.stream().normals(problem.outer_dim());
            let star = inner_solution(problem, &v, &problem.initial().1, NewtonOptions::default()).unwrap().theta;
            let mut theta = star.clone();
            nhgd::dense::axpy(distance, &key.child(1).stream().normals(theta.len()), &mut theta);
            let rows = problem.scores(&v, &theta, Batch::All, FisherKind::Expected, key).unwrap();
            let mut curvature = config(name, sketch_size, 0).build(problem.inner_dim(), key).unwrap();
            curvature.absorb(&rows).unwrap();
            let approximation = curvature.approximate().unwrap();
            let mu = 0.02;
            let found = certified_nhgd(problem, &v, &theta, &*approximation, mu, None).unwrap();

            // The matrix that was fed is that of the likelihood: with Λ + μI it is the damped Hessian.
            let mut hessian = problem.hessian(&v, &theta).unwrap();
            (0..theta.len()).for_each(|i| hessian[(i, i)] += mu);
            let b = problem.grad_outer(&v, &theta, Batch::All).unwrap().theta;
            let q = nhgd::dense::Cholesky::new(hessian).unwrap().solve(&b).unwrap();
            let direct = problem.grad_outer(&v, &theta, Batch::All).unwrap().v.into_vec();
            let fed = difference(&direct, &problem.cross_vjp(&v, &theta, Batch::All, &q).unwrap());
            let coordinates = found.coordinates.clone().unwrap();
            for j in 0..v.len() {
                let error = (found.value[j] - fed[j]).abs();
                assert!(
                    error <= coordinates[j] * (1.0 + 1e-9) + 1e-15,
                    "{name}: coordinate {j}: {error:e} above {:e}",
                    coordinates[j]
                );
            }
            let error = norm(&difference(&found.value, &fed));
            let bound = found.norm.unwrap();
            assert!(error <= bound * (1.0 + 1e-9) + 1e-15, "{name}: {error:e} above {bound:e}");
            assert!(bound <= norm(&coordinates), "{name}");
            let truth = exact_hypergradient(problem, &v, &star).unwrap();
            let error = norm(&difference(&found.value, &truth));
            let total = found.total.unwrap();
            assert!(error <= total, "{name}: {error:e} above the total bound {total:e}");
            tightest = tightest.min(total / error);
            let h = problem.hessian(&v, &theta).unwrap();
            let solved = nhgd::dense::Cholesky::new(h).unwrap().solve(&b).unwrap();
            let error = norm(&difference(&found.inverse_hvp.midpoint, &solved));
            assert!(error <= found.residual.unwrap().radius * (1.0 + 1e-9), "{name}: {error:e} above the residual's bound");
            let surrogate = found.surrogate.unwrap();
            assert!(surrogate < 1e-11 * norm(&b), "{name}: expected Fisher rows are the Hessian here, {surrogate:e}");
            // With no sketch error the damped Hessian's residual is that of the solve.
            if name == "window" || name == "dense" {
                assert!(found.hessian_residual < 1e-9 * norm(&b), "{name}: {:e}", found.hessian_residual);
            }
        }
    }
    println!("{}: total bound over the error, at best {tightest:.1}", problem.name());
}

/// The rows that the certificates use are J, and the constants bound what they say they bound.
#[test]
fn cross_rows_and_constants_of_data_cleaning_are_what_they_say() {
    let config = DataCleaningConfig { train: 40, validation: 15, ..Default::default() };
    let problem = DataCleaning::load(&config, &DataSource::default(), Key::new(6)).unwrap();
    let key = Key::new(1300);
    let v = key.stream().normals(problem.outer_dim());
    let theta = key.child(1).stream().normals(problem.inner_dim());
    let q = key.child(2).stream().normals(problem.inner_dim());
    let rows = problem.cross_rows(&v, &theta).unwrap().unwrap();
    let product = rows.project(&Matrix::column(q.clone())).unwrap();
    assert!(relative_error(product.as_slice(), &problem.cross_vjp(&v, &theta, Batch::All, &q).unwrap()) < 1e-12);
    let constants = problem.constants(&v).unwrap().unwrap();
    assert_eq!(constants.strong_convexity, config.ridge);
    for trial in 0..20 {
        let step: Vec<f64> = key.child(3).child(trial).stream().normals(theta.len()).iter().map(|x| 0.05 * x).collect();
        let moved: Vec<f64> = theta.iter().zip(&step).map(|(a, b)| a + b).collect();
        let length = norm(&step);
        let spectral = |mut m: Matrix, other: &Matrix| {
            m.add_scaled(-1.0, other).unwrap();
            let values = eigh(&m).unwrap().values;
            values[0].max(-values[values.len() - 1])
        };
        let change = spectral(problem.hessian(&v, &moved).unwrap(), &problem.hessian(&v, &theta).unwrap());
        assert!(change <= constants.hessian * length, "H: {change:e}");
        let gradient = |theta: &[f64]| problem.grad_outer(&v, theta, Batch::All).unwrap().theta;
        assert!(norm(&difference(&gradient(&moved), &gradient(&theta))) <= constants.right_hand_side * length);
        let columns = |theta: &[f64]| {
            problem.cross_rows(&v, theta).unwrap().unwrap().accumulate(&Matrix::identity(problem.outer_dim())).unwrap()
        };
        let mut j = columns(&moved);
        j.add_scaled(-1.0, &columns(&theta)).unwrap();
        let change = eigh(&nhgd::dense::gram(j.t())).unwrap().values[0].max(0.0).sqrt();
        assert!(change <= constants.cross * length, "J: {change:e}");
    }
}

/// `auto` meets its target against the exact product and takes no more damping than that needs, for λI and for a diagonal besides.
#[test]
fn a_chosen_damping_is_the_smallest_that_meets_its_target() {
    let mut tried = 0;
    for seed in 0..12 {
        let key = Key::new(1200).child(seed);
        let (d, kind) = (20 + 9 * (seed as usize % 3), seed as usize % 7);
        let scale = [1e-6, 1.0, 1e6][seed as usize % 3];
        let eigenvalues: Vec<f64> = spectrum(kind, d).iter().map(|x| x * scale).collect();
        let case = with_spectrum(key, d + 10, d, &eigenvalues);
        let f = fisher(&[&case]);
        let v = if seed % 2 == 0 { key.stream().normals(d) } else { f.col(1).to_vec() };
        for name in SKETCHES.into_iter().chain(["window", "dense"]) {
            let approximation = absorbed(config(name, 7, 4).build(d, key).unwrap(), &[&case]).approximate().unwrap();
            let diagonal: Vec<f64> = (0..d).map(|j| 1e-4 * scale * (1 + j % 4) as f64).collect();
            for known in [
                KnownCurvature::scalar(d, 0.0).unwrap(),
                KnownCurvature::scalar(d, 1e-3 * scale).unwrap(),
                KnownCurvature::diagonal(diagonal).unwrap(),
            ] {
                for target in [1.0, 0.1, 1e-3] {
                    let solve = |damping| DampedSolver::new(&*approximation, known.clone(), None)?.solve(&v, damping);
                    let (damping, certified) = solve(Damping::Auto { target }).unwrap();
                    let what =
                        format!("{name}, d {d}, spectrum {kind}, scale {scale:e}, {known:?}, target {target}: μ {damping:e}");
                    assert!(certified.relative_error() <= target, "{what}");
                    let exact = dense_solve(&f, &known.plus(damping).unwrap(), &v);
                    assert!(relative_error(&certified.midpoint, &exact) <= target, "{what}");
                    // Unless the range began there, a little less would not have done.
                    let least = known.min_eigenvalue().max(1e-10 * approximation.trace());
                    let total = (known.min_eigenvalue() + damping) / 1.01;
                    if total > least && SKETCHES.contains(&name) {
                        let less = solve(Damping::Fixed(total - known.min_eigenvalue()));
                        assert!(less.is_err() || less.unwrap().1.relative_error() > target, "{what}");
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried > 150, "{tried}");
}
