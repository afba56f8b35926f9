//! The field's references, `diagonal` and `kfac`, against dense matrices that the test builds itself: what each keeps of F, where it
//! is exact, and what it refuses. Histories, saved bytes and threads are the suite's (`testkit/curvature.rs`).

mod support;

use nhgd::curvature::{Curvature, CurvatureConfig, DiagonalConfig, KfacConfig};
use nhgd::dense::Matrix;
use nhgd::error::Error;
use nhgd::gradient::{DenseRows, GradientBlock};
use nhgd::inverse::KnownCurvature;
use nhgd::model::{Activation, FisherKind, Head, Mlp, Model, Weighted};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Targets};
use support::{
    Case, dense_case, dense_solve, fisher, kronecker_case, layered_case, random_dense, random_kronecker, random_layered, refused,
    relative_error, short_normals,
};

const FAMILIES: [&str; 2] = ["diagonal", "kfac"];

fn empty(name: &str, d: usize) -> Box<dyn Curvature> {
    let config = match name {
        "diagonal" => CurvatureConfig::Diagonal(DiagonalConfig::default()),
        _ => CurvatureConfig::Kfac(KfacConfig::default()),
    };
    config.build(d, Key::new(0)).unwrap()
}

fn absorbed(name: &str, cases: &[&Case]) -> Box<dyn Curvature> {
    let mut curvature = empty(name, cases[0].expanded.ncols());
    cases.iter().for_each(|case| curvature.absorb(&case.block).unwrap());
    curvature
}

fn estimate(curvature: &dyn Curvature) -> Matrix {
    curvature.approximate().unwrap().to_dense().unwrap()
}

/// Inputs and deltas of one layer.
type Layer = (Matrix, Matrix);

/// The matrix whose entry (k·p + j, l·p + m) is A_jm B_kl in each layer's block, A = Σ x xᵀ / n and B = Σ δ δᵀ / n over the samples,
/// in plain loops; the flattening order of θ.
fn kronecker_products(layers: &[Layer]) -> Matrix {
    let n = layers[0].0.ncols() as f64;
    let moment = |rows: &Matrix| {
        let entry = |i: usize, j: usize| (0..rows.ncols()).map(|s| rows[(i, s)] * rows[(j, s)]).sum::<f64>() / n;
        Matrix::from_fn(rows.nrows(), rows.nrows(), entry)
    };
    let blocks: Vec<(Matrix, Matrix)> = layers.iter().map(|(inputs, deltas)| (moment(inputs), moment(deltas))).collect();
    let d = blocks.iter().map(|(a, b)| a.nrows() * b.nrows()).sum();
    let mut result = Matrix::zeros(d, d);
    let mut start = 0;
    for (a, b) in &blocks {
        let (p, c) = (a.nrows(), b.nrows());
        for row in 0..p * c {
            for column in 0..p * c {
                result[(start + row, start + column)] = a[(row % p, column % p)] * b[(row / p, column / p)];
            }
        }
        start += p * c;
    }
    result
}

fn random_layers(key: Key, samples: usize, shapes: &[(usize, usize)], r: usize) -> Vec<Layer> {
    let layer = |(l, &(p, c)): (usize, &(usize, usize))| {
        let key = key.child(l as u64);
        (short_normals(key.child(0), p, samples), short_normals(key.child(1), c, samples * r))
    };
    shapes.iter().enumerate().map(layer).collect()
}

/// All pairs of an input and a group of `r` deltas as samples: independent by construction.
fn product_design(inputs: &Matrix, deltas: &Matrix, r: usize) -> Case {
    let (n, groups) = (inputs.ncols(), deltas.ncols() / r);
    let all_inputs = Matrix::from_fn(inputs.nrows(), n * groups, |j, s| inputs[(j, s / groups)]);
    let all_deltas = Matrix::from_fn(deltas.nrows(), n * groups * r, |k, row| deltas[(k, row % (groups * r))]);
    kronecker_case(all_inputs, all_deltas, r)
}

#[test]
fn kfac_is_exact_where_inputs_and_deltas_are_independent() {
    let mut worst = 0.0_f64;
    for (p, c) in [(1, 1), (3, 1), (1, 4), (7, 3), (20, 5)] {
        for (n, groups, r) in [(1, 1, 1), (2, 5, 1), (13, 7, 1), (5, 3, 4), (65, 2, 2)] {
            let key = Key::new(1).child((p * 10 + c) as u64).child((n * 10 + groups) as u64);
            let case = product_design(&short_normals(key.child(0), p, n), &short_normals(key.child(1), c, groups * r), r);
            let found = estimate(&*absorbed("kfac", &[&case]));
            worst = worst.max(relative_error(found.as_slice(), fisher(&[&case]).as_slice()));
        }
    }
    println!("K-FAC against F of a product design: {worst:.1e}");
    assert!(worst < 1e-12, "{worst:e}");
}

/// Signs of either layer's deltas as factors of the design: the layers' cross moments vanish too.
#[test]
fn kfac_is_exact_where_layers_are_independent_too() {
    let key = Key::new(2);
    let [x, y] = [(3, 4), (2, 3)].map(|(p, n)| short_normals(key.child(p as u64), p, n));
    let [delta, epsilon] = [(2, 3), (4, 2)].map(|(c, n)| short_normals(key.child(10 + c as u64), c, n));
    let n = 4 * 3 * 3 * 2 * 4;
    // The mixed-radix digits of the sample number.
    let digit = |s: usize, before: usize, size: usize| s / before % size;
    let sign = |bit: usize| if bit == 0 { 1.0 } else { -1.0 };
    let first = (
        Matrix::from_fn(3, n, |j, s| x[(j, digit(s, 1, 4))]),
        Matrix::from_fn(2, n, |k, s| sign(digit(s, 72, 2)) * delta[(k, digit(s, 4, 3))]),
    );
    let second = (
        Matrix::from_fn(2, n, |j, s| y[(j, digit(s, 12, 3))]),
        Matrix::from_fn(4, n, |k, s| sign(digit(s, 144, 2)) * epsilon[(k, digit(s, 36, 2))]),
    );
    let case = layered_case(vec![first, second], 1);
    let error = relative_error(estimate(&*absorbed("kfac", &[&case])).as_slice(), fisher(&[&case]).as_slice());
    assert!(error < 1e-12, "{error:e}");
}

/// The negative case of the two tests above.
#[test]
fn kfac_is_not_exact_where_inputs_and_deltas_go_together() {
    let (x, noise) = (short_normals(Key::new(3), 3, 200), short_normals(Key::new(4), 2, 200));
    let deltas = Matrix::from_fn(2, 200, |k, i| x[(k, i)] * x[(2, i)] + 0.1 * noise[(k, i)]);
    let case = kronecker_case(x, deltas, 1);
    assert!(relative_error(estimate(&*absorbed("kfac", &[&case])).as_slice(), fisher(&[&case]).as_slice()) > 0.1);
}

/// F̂, its trace and its products, whatever the rows; and (F̂ + λI)⁻¹ against the dense solve.
#[test]
fn kfac_is_the_kronecker_product_of_its_moments_and_solves_with_it() {
    let mut worst = 0.0_f64;
    for (s, samples) in [1, 2, 63, 64, 65, 127].into_iter().enumerate() {
        for (k, shapes) in [&[(5, 3)][..], &[(1, 1)], &[(4, 3), (3, 5)], &[(6, 1), (1, 6), (2, 2)]].into_iter().enumerate() {
            for r in [1, 3] {
                let key = Key::new(5).child(s as u64).child(k as u64);
                let layers = random_layers(key, samples, shapes, r);
                let expected = kronecker_products(&layers);
                let mut cases = vec![layered_case(layers.clone(), r)];
                if let [(inputs, deltas)] = &layers[..] {
                    cases.push(kronecker_case(inputs.clone(), deltas.clone(), r));
                }
                for case in cases {
                    let curvature = absorbed("kfac", &[&case]);
                    assert_eq!(curvature.mass(), samples as f64);
                    let approximation = curvature.approximate().unwrap();
                    assert!(relative_error(estimate(&*curvature).as_slice(), expected.as_slice()) < 1e-13);
                    assert!((approximation.trace() / expected.trace() - 1.0).abs() < 1e-13);
                    assert!(approximation.interval().is_none());
                    for relative in [1e-6, 1e-2, 1.0, 1e3] {
                        let known = KnownCurvature::scalar(expected.nrows(), relative * expected.trace()).unwrap();
                        let b = key.child(9).stream().normals(expected.nrows());
                        let found = approximation.solve(&known, &b).unwrap();
                        worst = worst.max(relative_error(&found, &dense_solve(&expected, &known, &b)));
                    }
                }
            }
        }
    }
    println!("worst relative error of a solve with K-FAC: {worst:.1e}");
    assert!(worst < 1e-9, "{worst:e}");
}

/// Zero inputs, zero deltas, one sample many times: singular factors, which Λ' alone makes invertible.
#[test]
fn kfac_of_degenerate_rows_solves_with_the_known_curvature() {
    let (x, delta) = (short_normals(Key::new(6), 4, 30), short_normals(Key::new(7), 3, 30));
    let repeated = |m: &Matrix| Matrix::from_fn(m.nrows(), 30, |i, _| m[(i, 0)]);
    for (inputs, deltas) in [
        (Matrix::zeros(4, 30), delta.clone()),
        (x.clone(), Matrix::zeros(3, 30)),
        (repeated(&x), repeated(&delta)),
        (repeated(&x), delta.clone()),
    ] {
        let layers = vec![(inputs, deltas), (x.clone(), delta.clone())];
        let expected = kronecker_products(&layers);
        let approximation = absorbed("kfac", &[&layered_case(layers, 1)]).approximate().unwrap();
        let known = KnownCurvature::scalar(24, 1e-3).unwrap();
        let b = Key::new(8).stream().normals(24);
        let error = relative_error(&approximation.solve(&known, &b).unwrap(), &dense_solve(&expected, &known, &b));
        assert!(error < 1e-10, "{error:e}");
    }
}

/// One sample is independent of itself: each layer's block of a network's Fisher matrix is a Kronecker product then.
#[test]
fn kfac_of_one_sample_of_a_network_is_the_block_diagonal_of_its_fisher() {
    let model = Mlp::new(3, &[4], Activation::Tanh, Head::Softmax { classes: 3 }).unwrap();
    let features = Features::from_f64(vec![0.3, -1.2, 2.0], 1, 3).unwrap();
    let samples = Samples::new(features, Targets::classes(vec![1], 3).unwrap()).unwrap();
    let theta = model.initial_theta(Key::new(9));
    let data = Weighted { samples: &samples, batch: Batch::All, weights: Some(&[2.5]) };
    let block = model.scores(data, &theta, FisherKind::Expected, Key::new(0)).unwrap();
    let mut curvature = empty("kfac", model.dim());
    curvature.absorb(&block).unwrap();
    let mut expected = model.expected_fisher(data, &theta).unwrap();
    let first = 4 * 4;
    for i in 0..model.dim() {
        for j in 0..model.dim() {
            if (i < first) != (j < first) {
                expected[(i, j)] = 0.0;
            }
        }
    }
    assert!(relative_error(estimate(&*curvature).as_slice(), expected.as_slice()) < 1e-13);
}

/// Checks that a call is refused as unsupported, with the remedy, and changes nothing.
fn unsupported<T>(result: nhgd::Result<T>, remedy: &str) {
    match result.err() {
        Some(error @ Error::Unsupported { .. }) => assert!(error.to_string().contains(remedy), "{error}"),
        other => panic!("expected a refusal with `{remedy}`, found {other:?}"),
    }
}

#[test]
fn kfac_refuses_what_has_no_kronecker_form_and_says_what_has() {
    let layered = random_layered(Key::new(17), 6, &[(3, 2), (2, 3)], 1);
    let mut curvature = absorbed("kfac", &[&layered]);
    let before = curvature.save().unwrap();
    unsupported(curvature.absorb(&random_dense(Key::new(17), 6, 12, 1).block), "take `nystrom` or `frequent-directions`");
    unsupported(empty("kfac", 12).absorb(&random_dense(Key::new(17), 6, 12, 1).block), "take `nystrom`");
    refused(curvature.absorb(&random_layered(Key::new(17), 6, &[(12, 1)], 1).block), "layers");
    refused(curvature.absorb(&random_layered(Key::new(17), 6, &[(2, 3), (3, 2)], 1).block), "layer inputs");
    refused(curvature.absorb(&random_layered(Key::new(17), 6, &[(3, 2), (2, 2)], 1).block), "gradient block dimension");
    refused(curvature.absorb(&random_kronecker(Key::new(17), 6, 4, 3, 1).block), "layers");
    // As many weights, as wide inputs: only the outputs differ.
    let mut outputs = absorbed("kfac", &[&random_layered(Key::new(17), 6, &[(2, 1), (2, 2)], 1)]);
    refused(outputs.absorb(&random_layered(Key::new(17), 6, &[(2, 2), (2, 1)], 1).block), "layer outputs");
    for other in [&[(2, 3), (3, 2)][..], &[(12, 1)], &[(3, 2), (2, 2)]] {
        unsupported(curvature.merge(&*absorbed("kfac", &[&random_layered(Key::new(18), 6, other, 1)])), "use the same layers");
    }
    unsupported(curvature.merge(&*empty("kfac", 13)), "use the same layers");
    unsupported(curvature.merge(&*absorbed("diagonal", &[&layered])), "merge estimates of one family");
    assert_eq!(curvature.save().unwrap(), before, "unchanged");

    let approximation = curvature.approximate().unwrap();
    let diagonal = KnownCurvature::diagonal((1..=12).map(f64::from).collect()).unwrap();
    unsupported(approximation.inverse(&diagonal), "take `window` or a sketch");
}

#[test]
fn both_refuse_bad_arguments_by_name_and_stay_as_they_were() {
    let case = random_layered(Key::new(19), 6, &[(3, 2), (2, 3)], 1);
    for name in FAMILIES {
        refused(
            match name {
                "diagonal" => CurvatureConfig::Diagonal(DiagonalConfig::default()).build(0, Key::new(0)),
                _ => CurvatureConfig::Kfac(KfacConfig::default()).build(0, Key::new(0)),
            },
            "dim",
        );
        refused(empty(name, 12).approximate(), "curvature");
        unsupported(empty(name, 12).grow(13), "take `nystrom` or `frequent-directions`");
        let mut curvature = absorbed(name, &[&case]);
        let before = curvature.save().unwrap();
        for gamma in [-1e-9, 1.0, f64::NAN, f64::INFINITY] {
            refused(curvature.decay(gamma), "decay");
        }
        for (factor, argument) in [(f64::NAN, "gradient deltas"), (1e200, "squared norms of gradient rows")] {
            let mut bad = case.block.clone();
            bad.scale(factor);
            refused(curvature.absorb(&bad), argument);
        }
        refused(curvature.absorb(&random_layered(Key::new(19), 6, &[(3, 2)], 1).block), "gradient block dimension");
        unsupported(curvature.merge(&*empty(name, 13)), "use the same");
        assert_eq!(curvature.save().unwrap(), before, "{name} is unchanged");

        let approximation = curvature.approximate().unwrap();
        let known = KnownCurvature::scalar(12, 1.0).unwrap();
        refused(approximation.solve(&known, &[1.0; 11]), "rhs");
        refused(approximation.inverse(&known).map(|inverse| inverse.apply(&[1.0; 11])).unwrap(), "x");
        refused(approximation.inverse(&KnownCurvature::scalar(11, 1.0).unwrap()), "known curvature");
        refused(approximation.inverse(&KnownCurvature::scalar(12, 0.0).unwrap()), "known curvature plus damping");
        refused(approximation.apply(&[1.0; 11]), "x");
        unsupported(approximation.bracket(&known, None), "take `window`, `nystrom` or `frequent-directions`");
    }
    // Any form of rows has a diagonal.
    let mut diagonal = absorbed("diagonal", &[&case]);
    let stored: GradientBlock = DenseRows::new(Matrix::from_fn(12, 3, |i, j| (i + j) as f64), 1).unwrap().into();
    diagonal.absorb(&stored).unwrap();
    assert_eq!(diagonal.mass(), 9.0);
    let zero = dense_case(Matrix::zeros(4, 12), 1);
    let solved = absorbed("diagonal", &[&zero]).approximate().unwrap().solve(&KnownCurvature::scalar(12, 0.5).unwrap(), &[1.0; 12]);
    assert_eq!(solved.unwrap(), [2.0; 12]);
}
