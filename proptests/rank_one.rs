//! The paper's dense families, `rank-one` and `rank-one-smoothed`: the inverse that follows row by row against dense algebra carried
//! to 32 digits, what is lost as β falls, how a batch mean must be scaled, and what happens when the inverse winds up.

mod support;

use nhgd::bilevel::{self, MethodConfig, NhgdConfig, Observer, SampleCount, State, Stop};
use nhgd::curvature::{
    BatchScaling, Curvature, CurvatureConfig, OnKnownCurvature, RankOneConfig, RankOneSmoothedConfig, UpdateRows, load,
};
use nhgd::dense::{Cholesky, Matrix, eigh, matmul, matvec};
use nhgd::error::{Error, Status};
use nhgd::gradient::GradientBlock;
use nhgd::inverse::KnownCurvature;
use nhgd::model::{FisherKind, Model, Softmax, Weighted};
use nhgd::problem::{DataCleaningConfig, DataSource, ProblemConfig};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples};
use support::{
    Case, Twofold, dense_case, dense_solve, fisher, random_dense, random_kronecker, refused, relative_error, short_normals,
};

const SIZES: [usize; 6] = [1, 2, 63, 64, 65, 127];

fn rank_one(beta: f64) -> CurvatureConfig {
    CurvatureConfig::RankOne(RankOneConfig { beta, ..Default::default() })
}

fn smoothed(beta: f64, gamma: f64) -> CurvatureConfig {
    CurvatureConfig::RankOneSmoothed(RankOneSmoothedConfig { beta, gamma, ..Default::default() })
}

fn build(config: &CurvatureConfig, d: usize) -> Box<dyn Curvature> {
    config.build(d, Key::new(0)).unwrap()
}

/// The estimate after the rows of `g`, in blocks of `chunk`.
fn absorbed(config: &CurvatureConfig, g: &Matrix, chunk: usize) -> Box<dyn Curvature> {
    let mut curvature = build(config, g.ncols());
    for rows in nhgd::par::blocks(g.nrows(), chunk) {
        curvature.absorb(&dense_case(g.rows(rows).to_matrix(), 1).block).unwrap();
    }
    curvature
}

/// The inverse that is kept.
fn inverse(curvature: &dyn Curvature) -> Matrix {
    let approximation = curvature.approximate().unwrap();
    approximation.inverse(&KnownCurvature::scalar(curvature.dim(), 0.0).unwrap()).unwrap().to_dense().unwrap()
}

fn estimate(curvature: &dyn Curvature) -> Matrix {
    curvature.approximate().unwrap().to_dense().unwrap()
}

fn check_symmetric_and_finite(matrix: &Matrix) {
    let n = matrix.nrows();
    assert!((0..n).all(|i| (0..n).all(|j| matrix[(i, j)].to_bits() == matrix[(j, i)].to_bits() && matrix[(i, j)].is_finite())));
}

/// (βI + Σ w s sᵀ)⁻¹ b for the rows of G with 32 digits in the residuals: nothing of the sum is rounded before it is applied.
fn exact_solve(g: &Matrix, weights: &[f64], beta: f64, b: &[f64]) -> Vec<f64> {
    let (n, d) = (g.nrows(), g.ncols());
    let scaled = Matrix::from_fn(n, d, |i, j| weights[i].sqrt() * g[(i, j)]);
    let mut a = matmul(scaled.t(), &scaled).unwrap();
    (0..d).for_each(|i| a[(i, i)] += beta);
    let factor = Cholesky::new(a).unwrap();
    let mut x = factor.solve(b).unwrap();
    for _ in 0..6 {
        let mut products = Vec::with_capacity(n);
        for i in 0..n {
            let mut product = Twofold::default();
            (0..d).for_each(|j| product.add_product(g[(i, j)], x[j]));
            products.push(product);
        }
        let residual: Vec<f64> = (0..d)
            .map(|j| {
                let mut r = Twofold::default();
                r.add(b[j]);
                r.add_product(-beta, x[j]);
                for i in 0..n {
                    let weighted = weights[i] * g[(i, j)];
                    r.add_product(-weighted, products[i].0);
                    r.add_product(-weighted, products[i].1);
                }
                r.value()
            })
            .collect();
        factor.solve(&residual).unwrap().iter().zip(&mut x).for_each(|(correction, x)| *x += correction);
    }
    x
}
/// Right-hand sides: anywhere, in the span of the rows, and the largest eigenvector of F.
fn right_hand_sides(g: &Matrix, key: Key) -> Vec<Vec<f64>> {
    let (n, d) = (g.nrows(), g.ncols());
    let span = |key: Key| matvec(g.t(), &key.stream().normals(n)).unwrap();
    let top = eigh(&fisher(&[&dense_case(g.clone(), 1)])).unwrap().vectors.col(0).to_vec();
    vec![key.child(0).stream().normals(d), span(key.child(1)), span(key.child(2)), top]
}

/// The worst relative error of k·P b, P the inverse that was kept.
fn worst_error(curvature: &dyn Curvature, g: &Matrix, beta: f64, key: Key) -> f64 {
    let kept = inverse(curvature);
    check_symmetric_and_finite(&kept);
    let (n, ones) = (g.nrows(), vec![1.0; g.nrows()]);
    let error = |b: &Vec<f64>| {
        let exact: Vec<f64> = exact_solve(g, &ones, beta, b).iter().map(|x| n as f64 * x).collect();
        relative_error(&matvec(&kept, b).unwrap(), &exact)
    };
    right_hand_sides(g, key).iter().map(error).fold(0.0, f64::max)
}

/// `n` rows of short numbers in a space of dimension `rank`, exactly.
fn of_rank(key: Key, n: usize, d: usize, rank: usize) -> Matrix {
    let coarse = |key: Key, m: usize, n: usize| {
        let normals = short_normals(key, m, n);
        Matrix::from_fn(m, n, |i, j| (8.0 * normals[(i, j)]).round() / 8.0)
    };
    matmul(&coarse(key.child(0), n, rank), &coarse(key.child(1), rank, d)).unwrap()
}

/// Streams of a thousand rows, their kind named.
fn streams(key: Key, d: usize) -> Vec<(&'static str, Matrix)> {
    let n = 1000;
    let full = short_normals(key.child(0), n, d);
    vec![
        ("rank-deficient", of_rank(key.child(1), n, d, d.div_ceil(3))),
        ("duplicates", Matrix::from_fn(n, d, |i, j| full[(i % 5, j)])),
        ("zeros between", Matrix::from_fn(n, d, |i, j| if i % 3 == 0 { full[(i, j)] } else { 0.0 })),
        ("wide spectrum", Matrix::from_fn(n, d, |i, j| full[(i, j)] * 0.5_f64.powi((20 * j / d) as i32))),
        ("full rank", full),
    ]
}

#[test]
fn a_thousand_updates_equal_the_dense_inverse_at_beta_1() {
    let mut worst = 0.0_f64;
    for d in SIZES {
        for (kind, g) in streams(Key::new(1).child(d as u64), d) {
            for chunk in [1000, 7] {
                let curvature = absorbed(&rank_one(1.0), &g, chunk);
                assert_eq!((curvature.mass(), curvature.status()), (1000.0, Status::Converged {}));
                let error = worst_error(&*curvature, &g, 1.0, Key::new(2));
                assert!(error < 1e-8, "{kind}, d {d}: {error:e}");
                worst = worst.max(error);
            }
        }
    }
    println!("worst relative error after 1,000 updates at β = 1: {worst:.1e}");
}

/// P loses about ε‖Σ s sᵀ‖/β: the first updates leave rounding of the size ε/β in directions where P ends at 1/‖Σ s sᵀ‖.
#[test]
fn digits_are_lost_in_proportion_as_beta_falls() {
    let (n, d) = (1000, 65);
    let key = Key::new(3);
    for (kind, g) in [("full rank", short_normals(key, n, d)), ("rank 20", of_rank(key, n, d, 20))] {
        let size = n as f64 * eigh(&fisher(&[&dense_case(g.clone(), 1)])).unwrap().values[0];
        let errors = [1.0, 1e-2, 1e-4, 1e-6, 1e-8].map(|beta| {
            let error = worst_error(&*absorbed(&rank_one(beta), &g, n), &g, beta, key);
            let predicted = f64::EPSILON * size / beta;
            println!("{kind}, ‖Σ s sᵀ‖ = {size:.1e}, β = {beta:e}: {error:.1e}, ε‖Σ s sᵀ‖/β = {predicted:.1e}");
            assert!(error < 30.0 * predicted, "{kind}, β {beta:e}: {error:e} above {predicted:e}");
            error
        });
        // The loss is real: four digits from β = 1e-4 to 1e-8, and at 1e-8 the promise of β = 1 is broken.
        assert!(errors[4] > 1e3 * errors[2] && errors[4] > 1e-8, "{kind}: {errors:?}");
    }
}

/// Far below β ≈ ε‖Σ s sᵀ‖ P is no longer positive definite: that is noticed and reported, and P formed anew.
#[test]
fn an_inverse_that_rounding_has_spoiled_is_formed_anew_and_reported() {
    let g = short_normals(Key::new(4), 300, 20);
    for beta in [1e-18, 1e-30, 1e-300] {
        let curvature = absorbed(&rank_one(beta), &g, 50);
        assert!(matches!(curvature.status(), Status::WindUp { rebuilds, growth } if rebuilds >= 1 && growth == 1.0), "β {beta:e}");
        let error = worst_error(&*curvature, &g, beta, Key::new(5));
        assert!(error < 1e-8, "β {beta:e}: {error:e}");
        assert_eq!(load(&curvature.save().unwrap()).unwrap().status(), curvature.status());
    }
    // Rank-deficient: β is below the rounding of Σ s sᵀ, and a start of 1e-8 of its trace takes its place.
    let g = of_rank(Key::new(5), 300, 20, 5);
    let curvature = absorbed(&rank_one(1e-20), &g, 300);
    assert!(!curvature.status().is_converged() && curvature.status().to_string().contains("raise beta"));
    check_symmetric_and_finite(&inverse(&*curvature));
    let b = &right_hand_sides(&g, Key::new(6))[3];
    let f = fisher(&[&dense_case(g.clone(), 1)]);
    let back = matvec(&f, &matvec(&inverse(&*curvature), b).unwrap()).unwrap();
    assert!(relative_error(&back, b) < 1e-6, "F F̂⁻¹ b = b in the range of F");
}

/// (βI + Σ s sᵀ)/k as it stands in the paper, weights and several rows a sample included.
#[test]
fn rank_one_is_the_mean_with_beta_over_k() {
    for (samples, p, c, r) in [(1, 5, 3, 1), (70, 4, 5, 1), (70, 4, 5, 5), (200, 21, 3, 1)] {
        let case = random_kronecker(Key::new(7).child(samples as u64), samples, p, c, r);
        let (f, d) = (fisher(&[&case]), p * c);
        let mut curvature = build(&rank_one(0.3), d);
        curvature.absorb(&case.block).unwrap();
        let approximation = curvature.approximate().unwrap();
        let known = KnownCurvature::scalar(d, 0.3 / samples as f64).unwrap();
        let mut expected = f.clone();
        known.add_to(&mut expected).unwrap();
        assert!(relative_error(estimate(&*curvature).as_slice(), expected.as_slice()) < 1e-14);
        assert!((approximation.trace() / expected.trace() - 1.0).abs() < 1e-13);
        let b = Key::new(8).stream().normals(d);
        let zero = KnownCurvature::diagonal(vec![0.0; d]).unwrap();
        assert!(relative_error(&approximation.solve(&zero, &b).unwrap(), &dense_solve(&f, &known, &b)) < 1e-10);
        let interval = approximation.interval().unwrap();
        let shift = known.entry(0);
        assert!(interval.lo <= -shift && -shift <= interval.hi && interval.hi - interval.lo < 1e-12 * expected.trace());
    }
}

/// Ĥ ← (1 − γ)Ĥ + γ Σ_rows s sᵀ for each sample, by its closed form.
#[test]
fn the_smoothed_family_is_its_recursion() {
    for d in SIZES {
        for (gamma, r) in [(0.01, 1), (0.3, 1), (0.3, 3), (0.9, 1)] {
            let (samples, beta) = (150.min((1e7_f64.ln() / -f64::ln_1p(-gamma)) as usize), 0.7);
            let case = random_dense(Key::new(9).child(d as u64), samples, d, r);
            let g = &case.expanded;
            let keep: f64 = 1.0 - gamma;
            let weights: Vec<f64> = (0..samples * r).map(|i| gamma * keep.powi((samples - 1 - i / r) as i32)).collect();
            let start = keep.powi(samples as i32) * beta;
            let expected = Matrix::from_fn(d, d, |i, j| {
                let identity = if i == j { start } else { 0.0 };
                (0..samples * r).map(|k| weights[k] * g[(k, i)] * g[(k, j)]).sum::<f64>() + identity
            });
            for chunk in [samples, 7] {
                let mut curvature = build(&smoothed(beta, gamma), d);
                for range in nhgd::par::blocks(samples, chunk) {
                    let rows = g.rows(range.start * r..range.end * r).to_matrix();
                    curvature.absorb(&dense_case(rows, r).block).unwrap();
                }
                let what = format!("d {d}, γ {gamma}, r {r}, chunks of {chunk}");
                assert_eq!(curvature.status(), Status::Converged {}, "{what}");
                assert!((curvature.mass() - (1.0 - keep.powi(samples as i32)) / gamma).abs() < 1e-11 * curvature.mass(), "{what}");
                assert!(relative_error(estimate(&*curvature).as_slice(), expected.as_slice()) < 1e-12, "{what}");
                let kept = inverse(&*curvature);
                check_symmetric_and_finite(&kept);
                let b = Key::new(10).stream().normals(d);
                let error = relative_error(&matvec(&kept, &b).unwrap(), &exact_solve(g, &weights, start, &b));
                assert!(error < 1e-7, "{what}: {error:e}");
                assert_eq!(curvature.approximate().unwrap().interval(), None);
            }
        }
    }
}

/// One update a block, u = Σ √w s over √B or B.
#[test]
fn a_batch_mean_is_one_update_of_the_stated_scale() {
    let (d, sizes) = (12, [3, 17, 64, 1]);
    let cases: Vec<Case> = sizes.iter().map(|&n| random_kronecker(Key::new(11).child(n as u64), n, 4, 3, 1)).collect();
    for scaling in [BatchScaling::Corrected, BatchScaling::Literal] {
        let means = Matrix::from_fn(sizes.len(), d, |k, j| {
            let n = sizes[k] as f64;
            let sum: f64 = (0..sizes[k]).map(|i| cases[k].expanded[(i, j)]).sum();
            sum / if scaling == BatchScaling::Corrected { n.sqrt() } else { n }
        });
        let (rows, batch_scaling) = (UpdateRows::BatchMean, scaling);
        for (config, reference) in [
            (CurvatureConfig::RankOne(RankOneConfig { rows, batch_scaling, ..Default::default() }), rank_one(1.0)),
            (
                CurvatureConfig::RankOneSmoothed(RankOneSmoothedConfig { rows, batch_scaling, gamma: 0.2, ..Default::default() }),
                smoothed(1.0, 0.2),
            ),
        ] {
            let mut curvature = build(&config, d);
            cases.iter().for_each(|case| curvature.absorb(&case.block).unwrap());
            let expected = absorbed(&reference, &means, 1);
            assert!(relative_error(estimate(&*curvature).as_slice(), estimate(&*expected).as_slice()) < 1e-13);
            assert!(relative_error(inverse(&*curvature).as_slice(), inverse(&*expected).as_slice()) < 1e-12);
            assert_eq!(curvature.approximate().unwrap().interval(), None, "a mean says nothing about its rows");
            let mass = if config.name() == "rank-one" { 85.0 } else { 3.0 * 0.512 + 17.0 * 0.64 + 64.0 * 0.8 + 1.0 };
            assert!((curvature.mass() - mass).abs() < 1e-12);

            let before = curvature.save().unwrap();
            let error = curvature.absorb(&random_kronecker(Key::new(12), 5, 4, 3, 3).block).unwrap_err();
            assert!(matches!(&error, Error::Unsupported { remedy, .. } if remedy.contains("rows = \"samples\"")), "{error}");
            assert_eq!(curvature.save().unwrap(), before, "unchanged");
        }
    }
}

/// Softmax regression with normal features.
fn softmax(key: Key, n: usize, width: usize, classes: usize) -> (Softmax, Samples, Vec<f64>) {
    let model = Softmax::new(width, classes).unwrap();
    let theta = key.child(0).stream().normals(model.dim());
    let features = Features::from_f64(key.child(1).stream().normals(n * width), n, width).unwrap();
    let blank = Samples::new(features.clone(), nhgd::samples::Targets::classes(vec![0; n], classes).unwrap()).unwrap();
    let targets = model.sample_targets(&blank, Batch::All, &theta, key.child(2)).unwrap();
    (model, Samples::new(features, targets).unwrap(), theta)
}

/// At the generating parameter scores have mean zero: over √B the batch mean estimates F without bias, over B it estimates F/B.
/// Elsewhere the observed labels give the mean's own square B-fold; drawn labels do not.
#[test]
fn the_corrected_batch_mean_is_unbiased_and_the_literal_one_is_b_times_too_small() {
    let (blocks, width, classes) = (3000, 3, 3);
    let relative = |size: usize, factor: f64, kind, batch_scaling| {
        let key = Key::new(13).child(size as u64);
        let (model, samples, mut theta) = softmax(key, blocks * size, width, classes);
        theta.iter_mut().for_each(|t| *t *= factor);
        let f = model.expected_fisher(Weighted::ones(&samples, Batch::All), &theta).unwrap();
        let config = RankOneConfig { beta: 1e-3, rows: UpdateRows::BatchMean, batch_scaling, ..Default::default() };
        let mut curvature = build(&CurvatureConfig::RankOne(config), model.dim());
        for block in 0..blocks {
            let batch: Vec<usize> = (block * size..(block + 1) * size).collect();
            let data = Weighted::ones(&samples, Batch::Indices(&batch));
            curvature.absorb(&model.scores(data, &theta, kind, key.child(3).child(block as u64)).unwrap()).unwrap();
        }
        let ratio = curvature.approximate().unwrap().trace() / f.trace();
        (ratio, relative_error(estimate(&*curvature).as_slice(), f.as_slice()))
    };
    for size in [1, 4, 16, 64] {
        let [corrected, literal] =
            [BatchScaling::Corrected, BatchScaling::Literal].map(|scaling| relative(size, 1.0, FisherKind::Empirical, scaling));
        let off = relative(size, 0.0, FisherKind::Empirical, BatchScaling::Corrected);
        let drawn = relative(size, 0.0, FisherKind::Sampled, BatchScaling::Corrected);
        println!(
            "B = {size}: tr F̂ / tr F corrected {:.3} (error {:.3}), literal {:.4} (error {:.3}), at θ = 0 observed {:.2}, drawn {:.3}",
            corrected.0, corrected.1, literal.0, literal.1, off.0, drawn.0
        );
        assert!((corrected.0 - 1.0).abs() < 0.06 && corrected.1 < 0.1, "B {size}: {corrected:?}");
        assert!((size as f64 * literal.0 - 1.0).abs() < 0.06, "B {size}: {literal:?}");
        assert!((drawn.0 - 1.0).abs() < 0.06 && drawn.1 < 0.1, "B {size}: {drawn:?}");
        if size >= 16 {
            assert!(literal.1 > 0.9 && off.0 > 1.5, "B {size}: {literal:?}, {off:?}");
        }
    }
}

#[test]
fn decay_scales_sum_start_and_mass_alike_and_merging_adds_the_rows_alone() {
    let (first, second) = (random_dense(Key::new(14), 40, 9, 1), random_dense(Key::new(15), 25, 9, 1));
    let square = |case: &Case| matmul(case.expanded.t(), &case.expanded).unwrap();
    for (config, gamma) in [(rank_one(0.5), 0.0_f64), (smoothed(0.5, 0.05), 0.05)] {
        let mut one = build(&config, 9);
        one.absorb(&first.block).unwrap();
        let (before, kept) = (estimate(&*one), inverse(&*one));
        one.decay(0.75).unwrap();
        assert!(relative_error(estimate(&*one).as_slice(), before.as_slice()) < 1e-14, "F̂ is a mean");
        assert!(relative_error(inverse(&*one).as_slice(), kept.as_slice()) < 1e-14);
        let mut other = build(&config, 9);
        other.absorb(&second.block).unwrap();
        one.merge(&*other).unwrap();
        one.merge(&*build(&config, 9)).unwrap();
        assert_eq!(one.status(), Status::Converged {});
        check_symmetric_and_finite(&inverse(&*one));
        // A = start·I + S₁/4 + S₂ with the weights of each stream.
        let weighted = |case: &Case| {
            let n = case.samples;
            Matrix::from_fn(n, 9, |i, j| (1.0 - gamma).powi((n - 1 - i) as i32).sqrt() * case.expanded[(i, j)])
        };
        let mass = |n: i32| if gamma == 0.0 { f64::from(n) } else { (1.0 - (1.0 - gamma).powi(n)) / gamma };
        let (start, start_mass) = if gamma == 0.0 {
            (0.5 * 0.25, 0.0)
        } else {
            let left = 0.25 * (1.0 - gamma).powi(40);
            (0.5 / gamma * left, left / gamma)
        };
        let mut a = square(&dense_case(weighted(&first), 1));
        a.scale(0.25);
        a.add_scaled(1.0, &square(&dense_case(weighted(&second), 1))).unwrap();
        (0..9).for_each(|i| a[(i, i)] += start);
        a.scale(1.0 / (0.25 * mass(40) + mass(25) + start_mass));
        assert!((one.mass() - (0.25 * mass(40) + mass(25))).abs() < 1e-12 * one.mass());
        assert!(relative_error(estimate(&*one).as_slice(), a.as_slice()) < 1e-13);
        let product = matmul(&a, &inverse(&*one)).unwrap();
        assert!(relative_error(product.as_slice(), Matrix::identity(9).as_slice()) < 1e-11);
        // And goes on from there.
        one.absorb(&first.block).unwrap();
        let product = matmul(&estimate(&*one), &inverse(&*one)).unwrap();
        assert!(relative_error(product.as_slice(), Matrix::identity(9).as_slice()) < 1e-11);

        let others = [rank_one(0.25), smoothed(0.25, 0.05), smoothed(0.5, 0.04)];
        for other in others.iter().filter(|other| other.name() == config.name()) {
            assert!(matches!(one.merge(&*build(other, 9)), Err(Error::Unsupported { .. })));
        }
        assert!(matches!(one.merge(&*build(&config, 8)), Err(Error::Unsupported { .. })));
    }
}

/// Blocks of softmax scores: Σ_k δ_k = 0, so that one direction in `classes` is never seen.
fn softmax_blocks(key: Key, blocks: usize, size: usize) -> Vec<GradientBlock> {
    let (model, samples, theta) = softmax(key, blocks * size, 5, 3);
    let block = |k: usize| {
        let batch: Vec<usize> = (k * size..(k + 1) * size).collect();
        model.scores(Weighted::ones(&samples, Batch::Indices(&batch)), &theta, FisherKind::Sampled, key.child(k as u64)).unwrap()
    };
    (0..blocks).map(block).collect()
}

#[test]
fn the_smoothed_inverse_winds_up_on_softmax_scores_and_is_formed_anew() {
    let (gamma, size, d) = (0.01, 50, 15);
    let blocks = softmax_blocks(Key::new(16), 100, size);
    let mut curvature = build(&smoothed(1.0, gamma), d);
    let mut statuses = vec![curvature.status()];
    // The paper's recursion as it stands, for 5,000 updates.
    let mut literal = Matrix::identity(d);
    for block in &blocks {
        curvature.absorb(block).unwrap();
        let approximation = curvature.approximate().unwrap();
        check_symmetric_and_finite(&inverse(&*curvature));
        // In the range of the rows the inverse stays that of F̂; half of the digits are what the limit leaves.
        let b = matvec(block.expand(0..size).unwrap().view(), &Key::new(17).stream().normals(size)).unwrap();
        let zero = KnownCurvature::scalar(d, 0.0).unwrap();
        let x = approximation.solve(&zero, &b).unwrap();
        assert!(relative_error(&approximation.apply(&x).unwrap(), &b) < 1e-5);
        if curvature.status() != *statuses.last().unwrap() {
            statuses.push(curvature.status());
        }
        for i in 0..size {
            let s = block.expand(i..i + 1).unwrap().into_vec();
            let y: Vec<f64> = matvec(&literal, &s).unwrap().iter().map(|y| y / (1.0 - gamma)).collect();
            let leverage: f64 = s.iter().zip(&y).map(|(s, y)| s * y).sum();
            let factor = gamma / (1.0 + gamma * leverage);
            literal = Matrix::from_fn(d, d, |i, j| literal[(i, j)] / (1.0 - gamma) - factor * y[i] * y[j]);
        }
    }
    println!("5,000 updates at γ = 0.01: {:?}; without a watch the trace is {:.1e}", statuses.last().unwrap(), literal.trace());
    assert!(literal.trace() > 1e20, "the literal recursion winds up");
    assert_eq!(statuses.len(), 3, "{statuses:?}");
    assert!(matches!(statuses[2], Status::WindUp { rebuilds: 2, growth } if (1e8..2e8).contains(&growth)), "{statuses:?}");
    assert!(!statuses[2].remedy().is_empty());
    assert!(inverse(&*curvature).trace() < 1e8 * d as f64);
    assert_eq!(load(&curvature.save().unwrap()).unwrap().status(), curvature.status());
    // The negative case: rows that point everywhere.
    let g = short_normals(Key::new(18), 5000, d);
    assert_eq!(absorbed(&smoothed(1.0, gamma), &g, 50).status(), Status::Converged {});
    // One block long enough to wind up many times over, and a step of forgetting that is itself too long.
    let mut curvature = build(&smoothed(1.0, 0.9), d);
    blocks.iter().take(5).for_each(|block| curvature.absorb(block).unwrap());
    check_symmetric_and_finite(&inverse(&*curvature));
    let mut curvature = build(&rank_one(1.0), d);
    curvature.absorb(&blocks[0]).unwrap();
    assert_eq!(curvature.status(), Status::Converged {});
    curvature.decay(1.0 - 1e-12).unwrap();
    assert!(matches!(curvature.status(), Status::WindUp { rebuilds: 1, growth } if growth > 1e10));
    check_symmetric_and_finite(&inverse(&*curvature));
}

/// A run goes on with a wound-up inverse, and whoever watches it is told.
#[test]
fn a_run_gives_notice_of_a_wind_up_and_goes_on() {
    struct Notices(Vec<(u64, Status)>, u64);
    impl Observer for Notices {
        fn notice(&mut self, status: Status) {
            self.0.push((self.1 + 1, status));
        }
        fn stepped(&mut self, state: &State, _counts: nhgd::problem::OracleCounts) -> nhgd::Result<()> {
            self.1 = state.step;
            Ok(())
        }
    }
    let config = DataCleaningConfig { train: 60, validation: 20, ridge: 1e-2, ..Default::default() };
    let problem = ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(1)).unwrap();
    let run = |gamma, known_curvature| {
        let curvature = RankOneSmoothedConfig { gamma, known_curvature, ..Default::default() };
        let method = MethodConfig::Nhgd(NhgdConfig {
            inner_steps: 4,
            batch_size: SampleCount::Drawn(8),
            curvature: CurvatureConfig::RankOneSmoothed(curvature),
            ..Default::default()
        });
        let mut notices = Notices(Vec::new(), 0);
        let outcome = bilevel::run(problem.as_ref(), method.build()?.as_ref(), Key::new(2), Stop::after(4), &mut notices)?;
        Ok::<_, Error>((notices.0, outcome))
    };
    let (notices, outcome) = run(0.3, OnKnownCurvature::Ignore).unwrap();
    assert!(outcome.state.is_finite() && outcome.ended == bilevel::Ended::Steps);
    assert_eq!(notices.last().map(|n| n.1), outcome.state.curvature.map(|c| c.status()));
    assert!(matches!(notices[0], (2, Status::WindUp { rebuilds: 1, .. })), "{notices:?}");
    assert!(run(0.01, OnKnownCurvature::Ignore).unwrap().0.is_empty(), "too few steps to wind up");
    let error = run(0.3, OnKnownCurvature::Refuse).err().unwrap();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("known_curvature = \"ignore\""), "{error}");
}

#[test]
fn known_curvature_is_refused_with_its_remedy_or_ignored() {
    let case = random_dense(Key::new(19), 12, 6, 1);
    let b = Key::new(20).stream().normals(6);
    let (rows, batch_scaling) = (UpdateRows::Samples, BatchScaling::Corrected);
    for known_curvature in [OnKnownCurvature::Refuse, OnKnownCurvature::Ignore] {
        for config in [
            CurvatureConfig::RankOne(RankOneConfig { known_curvature, rows, batch_scaling, ..Default::default() }),
            CurvatureConfig::RankOneSmoothed(RankOneSmoothedConfig { known_curvature, rows, batch_scaling, ..Default::default() }),
        ] {
            let mut curvature = build(&config, 6);
            curvature.absorb(&case.block).unwrap();
            let approximation = curvature.approximate().unwrap();
            let zero = approximation.solve(&KnownCurvature::scalar(6, 0.0).unwrap(), &b).unwrap();
            let mut one = vec![0.0; 6];
            one[5] = 1e-300;
            for known in [KnownCurvature::scalar(6, 0.1).unwrap(), KnownCurvature::diagonal(one).unwrap()] {
                match known_curvature {
                    OnKnownCurvature::Ignore => assert_eq!(approximation.solve(&known, &b).unwrap(), zero),
                    OnKnownCurvature::Refuse => {
                        let message = approximation.solve(&known, &b).unwrap_err().to_string();
                        for part in [config.name(), "beta", "known_curvature = \"ignore\"", "`window`"] {
                            assert!(message.contains(part), "{message}");
                        }
                    }
                }
            }
            assert!(approximation.solve(&KnownCurvature::scalar(5, 0.0).unwrap(), &b).is_err());
        }
    }
}

#[test]
fn bad_settings_are_refused_by_name_and_memory_with_the_need() {
    let build = |config: CurvatureConfig| config.build(10, Key::new(0));
    for beta in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-310] {
        refused(build(rank_one(beta)), "beta");
        refused(build(smoothed(beta, 0.1)), "beta");
    }
    refused(build(smoothed(1e308, 1e-10)), "beta");
    for gamma in [0.0, 1.0, -0.1, 1e-17, f64::NAN] {
        refused(build(smoothed(1.0, gamma)), "gamma");
    }
    for max_bytes in [0, 1599] {
        refused(build(CurvatureConfig::RankOne(RankOneConfig { max_bytes, ..Default::default() })), "max_bytes");
        let config = CurvatureConfig::RankOneSmoothed(RankOneSmoothedConfig { max_bytes, ..Default::default() });
        refused(build(config), "max_bytes");
    }
    let config = CurvatureConfig::RankOne(RankOneConfig { max_bytes: 1599, ..Default::default() });
    let message = build(config).err().unwrap().to_string();
    assert!(message.contains("1600 bytes at d = 10"), "{message}");
    assert!(build(CurvatureConfig::RankOne(RankOneConfig { max_bytes: 1600, ..Default::default() })).is_ok());
    let message = CurvatureConfig::default_of("rank-one").unwrap().build(20_000, Key::new(0)).err().unwrap().to_string();
    assert!(message.contains("6400000000 bytes"), "{message}");

    // Sums that overflow though no row does.
    for config in [rank_one(1.0), smoothed(1.0, 0.1)] {
        let mut curvature = config.build(3, Key::new(0)).unwrap();
        let before = curvature.save().unwrap();
        let huge = dense_case(Matrix::from_fn(4, 3, |_, j| if j == 0 { 1.2e154 } else { 1.0 }), 1);
        refused(curvature.absorb(&huge.block), "sum of squared gradient rows");
        assert_eq!(curvature.save().unwrap(), before, "unchanged");
        curvature.absorb(&dense_case(Matrix::from_fn(4, 3, |_, j| if j == 0 { 1e150 } else { 1.0 }), 1).block).unwrap();
        check_symmetric_and_finite(&inverse(&*curvature));
    }
}
