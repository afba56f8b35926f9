//! The network against a scalar forward pass that the test writes itself, differences, enumerated labels and dense algebra; and what
//! conjugate gradients make of its indefinite Hessian.

mod support;

use nhgd::dense::{Cholesky, Matrix, difference, dot, eigh, matmul_add, norm};
use nhgd::error::Status;
use nhgd::gradient::{GradientBlock, KroneckerRows};
use nhgd::inverse::{SolveOptions, conjugate_gradients};
use nhgd::model::{Activation, FisherIdentity, FisherKind, Gaussian, Head, Mlp, Model, Softmax, Weighted};
use nhgd::operator::{Diagonal, FromFn, Sum};
use nhgd::oracle::check_model;
use nhgd::par;
use nhgd::problem::differences::directional;
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Targets};
use support::{refused, relative_error};

const ACTIVATIONS: [Activation; 2] = [Activation::Tanh, Activation::Relu];
const HIDDEN: [&[usize]; 11] = [&[], &[1], &[2], &[7], &[64], &[65], &[7, 2], &[2, 65], &[1, 7, 2], &[64, 7, 2], &[7, 7, 65]];
const HEADS: [Head; 4] = [
    Head::Softmax { classes: 2 },
    Head::Softmax { classes: 5 },
    Head::Gaussian { outputs: 1, variance: 0.4 },
    Head::Gaussian { outputs: 3, variance: 2.5 },
];

/// A network with data, a random θ (biases too) and random weights.
struct Case {
    model: Mlp,
    samples: Samples,
    theta: Vec<f64>,
    weights: Vec<f64>,
}

impl Case {
    fn new(n: usize, inputs: usize, hidden: &[usize], activation: Activation, head: Head, key: Key) -> Self {
        let model = Mlp::new(inputs, hidden, activation, head).unwrap();
        let mut stream = key.stream();
        let features = Features::from_f64(stream.normals(n * inputs), n, inputs).unwrap();
        let targets = match head {
            Head::Softmax { classes } => {
                Targets::classes((0..n).map(|_| stream.below(classes).unwrap() as u32).collect(), classes).unwrap()
            }
            Head::Gaussian { outputs: 1, .. } => Targets::real(stream.normals(n)).unwrap(),
            Head::Gaussian { outputs, .. } => Targets::vectors(stream.normals(n * outputs), outputs).unwrap(),
        };
        let mut theta = model.initial_theta(key.named("theta"));
        theta.iter_mut().for_each(|t| *t = 1.5 * *t + 0.1 * stream.normal());
        let weights = (0..n).map(|_| 0.1 + stream.uniform()).collect();
        Self { model, samples: Samples::new(features, targets).unwrap(), theta, weights }
    }

    fn data(&self) -> Weighted<'_> {
        Weighted { samples: &self.samples, batch: Batch::All, weights: Some(&self.weights) }
    }

    fn direction(&self, seed: u64) -> Vec<f64> {
        Key::new(seed).named("direction").stream().normals(self.model.dim())
    }

    /// ∇ℓ of one sample with the given targets for all.
    fn score(&self, targets: &Targets, i: usize) -> Vec<f64> {
        let samples = Samples::new(self.samples.features.clone(), targets.clone()).unwrap();
        self.model.gradient(Weighted::ones(&samples, Batch::Indices(&[i])), &self.theta).unwrap()
    }
}

/// All shapes with both activations and all heads; the number of samples goes round.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (h, hidden) in HIDDEN.iter().enumerate() {
        for activation in ACTIVATIONS {
            for (k, head) in HEADS.into_iter().enumerate() {
                let n = [1, 2, 63, 65, 129, 300][(h + k) % 6];
                let key = Key::new(1).child(h as u64).child(k as u64);
                cases.push(Case::new(n, [1, 3, 7][(h + k) % 3], hidden, activation, head, key));
            }
        }
    }
    cases
}

/// ℓ_i and z_i by loops over numbers: θ[k·(p + 1) + j] weighs input j for unit k, and j = p is the bias.
fn scalar_forward(case: &Case, theta: &[f64], i: usize) -> (f64, Vec<f64>) {
    let mut a = case.samples.features.gather(Batch::Indices(&[i])).unwrap().into_vec();
    let mut at = 0;
    let widths = case.model.widths();
    for (l, &c) in widths[1..].iter().enumerate() {
        let p = a.len();
        let unit = |k: usize| {
            let weights = &theta[at + k * (p + 1)..at + (k + 1) * (p + 1)];
            weights[p] + (0..p).map(|j| weights[j] * a[j]).sum::<f64>()
        };
        let z: Vec<f64> = (0..c).map(unit).collect();
        at += c * (p + 1);
        a = match case.model.activation() {
            _ if l + 2 == widths.len() => z,
            Activation::Tanh => z.iter().map(|z| z.tanh()).collect(),
            Activation::Relu => z.iter().map(|z| z.max(0.0)).collect(),
        };
    }
    assert_eq!(at, theta.len());
    let loss = match (case.model.head(), &case.samples.targets) {
        (Head::Softmax { .. }, Targets::Classes { labels, .. }) => {
            -(a[labels[i] as usize].exp() / a.iter().map(|z| z.exp()).sum::<f64>()).ln()
        }
        (Head::Gaussian { outputs, variance }, targets) => {
            let y = &targets.as_vectors().unwrap().0[i * outputs..(i + 1) * outputs];
            let density = |(z, y): (&f64, &f64)| {
                (-(z - y) * (z - y) / (2.0 * variance)).exp() / (2.0 * std::f64::consts::PI * variance).sqrt()
            };
            -a.iter().zip(y).map(|pair| density(pair).ln()).sum::<f64>()
        }
        _ => unreachable!(),
    };
    (loss, a)
}

/// The mean by scalar loops.
fn scalar_loss(case: &Case, theta: &[f64]) -> f64 {
    let n = case.samples.len();
    (0..n).map(|i| case.weights[i] * scalar_forward(case, theta, i).0).sum::<f64>() / n as f64
}

#[test]
fn losses_and_outputs_equal_the_scalar_forward_pass() {
    for case in cases() {
        let losses = case.model.losses(&case.samples, Batch::All, &case.theta).unwrap();
        let z = case.model.outputs(&case.samples, Batch::All, &case.theta).unwrap();
        for (i, found) in losses.iter().enumerate() {
            let (loss, outputs) = scalar_forward(&case, &case.theta, i);
            assert!((found - loss).abs() < 1e-12 * (1.0 + loss.abs()));
            assert!(relative_error(z.col(i), &outputs) < 1e-13);
        }
        let mean = case.model.loss(case.data(), &case.theta).unwrap();
        let expected = scalar_loss(&case, &case.theta);
        assert!((mean - expected).abs() < 1e-12 * (1.0 + expected.abs()));
        let accuracy = case.model.accuracy(&case.samples, Batch::All, &case.theta).unwrap();
        let expected = case.samples.targets.as_classes().ok().map(|(labels, _)| {
            let right = |i: &usize| {
                let z = scalar_forward(&case, &case.theta, *i).1;
                z.iter().all(|x| *x <= z[labels[*i] as usize])
            };
            (0..labels.len()).filter(right).count() as f64 / labels.len() as f64
        });
        assert_eq!(accuracy, expected);
    }
}

/// Central differences of the scalar loss for the gradient, of the gradient for the Hessian. At kinks of ReLU there is no derivative:
/// the seeds are such that no difference straddles one.
#[test]
fn gradient_and_hessian_product_equal_central_differences() {
    let (mut first, mut second, mut without) = (0.0_f64, 0.0_f64, f64::INFINITY);
    for (k, case) in cases().iter().enumerate() {
        let (model, theta, data) = (&case.model, &case.theta, case.data());
        let u = case.direction(k as u64);
        let gradient = model.gradient(data, theta).unwrap();
        let slope = directional(theta, &u, |t| Ok(vec![scalar_loss(case, t)])).unwrap()[0];
        let scale = norm(&gradient) * norm(&u) / (u.len() as f64).sqrt();
        first = first.max((dot(&gradient, &u) - slope).abs() / scale);

        let hvp = model.hvp(data, theta, &u).unwrap();
        let bend = directional(theta, &u, |t| model.gradient(data, t)).unwrap();
        second = second.max(relative_error(&hvp, &bend));
        // The comparison must see what the Gauss–Newton product leaves out (nothing where every ReLU unit is off).
        if model.widths().len() > 2 && model.activation() == Activation::Tanh {
            without = without.min(relative_error(&model.fisher_product(data, theta, &u).unwrap(), &bend));
        }
    }
    println!("against differences: gradient {first:.1e}, Hessian product {second:.1e}; Gauss–Newton off by {without:.1e} at least");
    assert!(first < 1e-6 && second < 1e-6, "{first:e} {second:e}");
    assert!(without > 1e-3, "{without:e}");
}

#[test]
fn the_hessian_product_is_linear_and_symmetric() {
    for (k, case) in cases().iter().enumerate() {
        let (u, v) = (case.direction(k as u64), case.direction(1000 + k as u64));
        let product = |u: &[f64]| case.model.hvp(case.data(), &case.theta, u).unwrap();
        let (hu, hv) = (product(&u), product(&v));
        let scale = norm(&hu) * norm(&v) + norm(&hv) * norm(&u);
        assert!((dot(&hu, &v) - dot(&hv, &u)).abs() < 1e-14 * scale);
        let both: Vec<f64> = u.iter().zip(&v).map(|(u, v)| 2.0 * u - 3.0 * v).collect();
        let expected: Vec<f64> = hu.iter().zip(&hv).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
        let scale = 2.0 * norm(&hu) + 3.0 * norm(&hv);
        let error = norm(&difference(&product(&both), &expected)) / scale;
        // A saturated softmax takes a difference of nearly equal numbers: hence not to the last digit.
        assert!(error < 1e-12, "{error:e}");
        assert!(product(&vec![0.0; u.len()]).iter().all(|x| *x == 0.0));
    }
}

#[test]
fn the_fisher_product_is_that_of_the_expected_rows() {
    let mut worst = 0.0_f64;
    for (k, case) in cases().iter().enumerate() {
        let u = case.direction(k as u64);
        let rows = case.model.scores(case.data(), &case.theta, FisherKind::Expected, Key::new(0)).unwrap();
        assert_eq!(rows.rows(), rows.samples() * case.model.head().outputs());
        let mut by_rows = rows.accumulate(&rows.project(&Matrix::column(u.clone())).unwrap()).unwrap();
        by_rows.scale(1.0 / case.samples.len() as f64);
        let product = case.model.fisher_product(case.data(), &case.theta, &u).unwrap();
        worst = worst.max(relative_error(&product, by_rows.as_slice()));
    }
    println!("Gauss–Newton product against the expected rows: {worst:.1e}");
    assert!(worst < 1e-12, "{worst:e}");
}

/// Σ_i r_i ∇²z_i is what the Hessian has beyond the Gauss–Newton matrix: nothing where every residual r is 0.
#[test]
fn where_residuals_vanish_the_hessian_is_the_expected_fisher() {
    for activation in ACTIVATIONS {
        let head = Head::Gaussian { outputs: 2, variance: 0.7 };
        let mut case = Case::new(30, 3, &[5, 4], activation, head, Key::new(2));
        let distance = |case: &Case| {
            let fisher = case.model.expected_fisher(case.data(), &case.theta).unwrap();
            relative_error(case.model.hessian(case.data(), &case.theta).unwrap().as_slice(), fisher.as_slice())
        };
        assert!(distance(&case) > 0.1, "{}", distance(&case));
        let z = case.model.outputs(&case.samples, Batch::All, &case.theta).unwrap();
        case.samples.targets = Targets::vectors(z.into_vec(), 2).unwrap();
        assert!(distance(&case) < 1e-13, "{}", distance(&case));
    }
}

#[test]
fn the_hessian_is_indefinite_where_the_fisher_is_not() {
    for activation in ACTIVATIONS {
        for head in HEADS {
            let case = Case::new(40, 4, &[6, 5], activation, head, Key::new(3));
            let hessian = eigh(&case.model.hessian(case.data(), &case.theta).unwrap()).unwrap().values;
            let fisher = eigh(&case.model.expected_fisher(case.data(), &case.theta).unwrap()).unwrap().values;
            let (most, least) = (hessian[0], hessian[hessian.len() - 1]);
            println!("{}: Hessian in [{least:.3}, {most:.3}], Fisher from {:.1e}", case.model.name(), fisher[fisher.len() - 1]);
            assert!(least < -1e-2 * most, "{least} of {most}");
            assert!(fisher[fisher.len() - 1] > -1e-13 * fisher[0]);
        }
    }
}

#[test]
fn every_fisher_kind_has_the_rows_of_its_definition() {
    let (indices, n) = ([3, 3, 29, 0, 17], 5);
    for activation in ACTIVATIONS {
        for head in HEADS {
            let case = Case::new(30, 3, &[4, 2], activation, head, Key::new(4));
            let picked: Vec<f64> = indices.iter().map(|&i| case.weights[i]).collect();
            let data = Weighted { samples: &case.samples, batch: Batch::Indices(&indices), weights: Some(&picked) };
            let identity = Matrix::identity(case.model.dim());
            let rows = |kind| case.model.scores(data, &case.theta, kind, Key::new(5)).unwrap();
            let row = |block: &GradientBlock, i: usize| block.project(&identity).unwrap().rows(i..i + 1).to_matrix().into_vec();

            // Empirical: one-sample gradients, whose sum with coefficients √w is the gradient of the mean.
            let empirical = rows(FisherKind::Empirical);
            assert!(matches!(&empirical, GradientBlock::Layered(rows) if rows.layers().len() == 3));
            for (position, &i) in indices.iter().enumerate() {
                let expected: Vec<f64> = case.score(&case.samples.targets, i).iter().map(|s| s * picked[position].sqrt()).collect();
                assert!(relative_error(&row(&empirical, position), &expected) < 1e-13);
            }
            let roots = Matrix::column(picked.iter().map(|w| w.sqrt() / n as f64).collect());
            let gradient = case.model.gradient(data, &case.theta).unwrap();
            assert!(relative_error(empirical.accumulate(&roots).unwrap().as_slice(), &gradient) < 1e-13);

            // Sampled: the rows of the targets that `sample_targets` draws with the same key.
            let drawn = case.model.sample_targets(&case.samples, data.batch, &case.theta, Key::new(5)).unwrap();
            let sampled = rows(FisherKind::Sampled);
            for (position, &i) in indices.iter().enumerate() {
                let expected = case.score(&drawn.select(&[position; 30]).unwrap(), i);
                let expected: Vec<f64> = expected.iter().map(|s| s * picked[position].sqrt()).collect();
                assert!(relative_error(&row(&sampled, position), &expected) < 1e-12);
            }

            // Expected: by enumeration of labels; for the Gaussian head by targets one deviation from the mean along each output, whose
            // second moment is that of the noise.
            let mut fisher = Matrix::zeros(case.model.dim(), case.model.dim());
            for (position, &i) in indices.iter().enumerate() {
                let z = scalar_forward(&case, &case.theta, i).1;
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                for k in 0..z.len() {
                    let (targets, probability) = match head {
                        Head::Softmax { classes } => (Targets::classes(vec![k as u32; 30], classes).unwrap(), z[k].exp() / total),
                        Head::Gaussian { outputs, variance } => {
                            let mut y = z.clone();
                            y[k] += variance.sqrt();
                            (Targets::vectors(y.repeat(30), outputs).unwrap(), 1.0)
                        }
                    };
                    let s = Matrix::column(case.score(&targets, i));
                    matmul_add(&mut fisher, picked[position] * probability / n as f64, &s, s.t()).unwrap();
                }
            }
            let found = case.model.expected_fisher(data, &case.theta).unwrap();
            assert!(relative_error(found.as_slice(), fisher.as_slice()) < 1e-12);
            assert!(
                relative_error(&case.model.score_products(&case.samples, data.batch, &case.theta, &gradient).unwrap(), &{
                    let product = |i: &usize| dot(&case.score(&case.samples.targets, *i), &gradient);
                    indices.iter().map(product).collect::<Vec<_>>()
                }) < 1e-12
            );
        }
    }
}

#[test]
fn targets_are_drawn_with_the_network_s_distribution() {
    let n = 40_000;
    let repeated = vec![0; n];
    for head in HEADS {
        let case = Case::new(1, 2, &[3], Activation::Tanh, head, Key::new(6));
        let z = scalar_forward(&case, &case.theta, 0).1;
        let drawn = case.model.sample_targets(&case.samples, Batch::Indices(&repeated), &case.theta, Key::new(1)).unwrap();
        let within = |found: f64, expected: f64, variance: f64| {
            assert!((found - expected).abs() < 5.0 * (variance / n as f64).sqrt(), "{found} against {expected}");
        };
        match head {
            Head::Softmax { .. } => {
                let (labels, total) = (drawn.as_classes().unwrap().0, z.iter().map(|z| z.exp()).sum::<f64>());
                for (k, z) in z.iter().enumerate() {
                    let p = z.exp() / total;
                    within(labels.iter().filter(|&&y| y as usize == k).count() as f64 / n as f64, p, p * (1.0 - p));
                }
            }
            Head::Gaussian { outputs, variance } => {
                let values = drawn.as_vectors().unwrap().0;
                for k in 0..outputs {
                    for l in 0..=k {
                        let z = &z;
                        let noise = |k: usize| (0..n).map(move |i| values[i * outputs + k] - z[k]);
                        within(noise(k).sum::<f64>() / n as f64, 0.0, variance);
                        let moment = noise(k).zip(noise(l)).map(|(a, b)| a * b).sum::<f64>() / n as f64;
                        let (expected, factor) = if k == l { (variance, 2.0) } else { (0.0, 1.0) };
                        within(moment, expected, factor * variance * variance);
                    }
                }
            }
        }
    }
}

fn kronecker_of(block: &GradientBlock) -> &KroneckerRows {
    match block {
        GradientBlock::Kronecker(rows) => rows,
        GradientBlock::Layered(rows) => &rows.layers()[0],
        GradientBlock::Dense(_) => unreachable!(),
    }
}

#[test]
fn without_hidden_layers_it_is_the_generalized_linear_model() {
    for (n, inputs) in [(1, 1), (63, 4), (129, 6), (700, 3)] {
        for head in [Head::Softmax { classes: 4 }, Head::Gaussian { outputs: 1, variance: 0.3 }] {
            let case = Case::new(n, inputs, &[], Activation::Tanh, head, Key::new(7));
            let (model, theta) = (&case.model, &case.theta);
            let with_bias = Samples::new(case.samples.features.clone().with_intercept(), case.samples.targets.clone()).unwrap();
            let linear: Box<dyn Model> = match head {
                Head::Softmax { classes } => Box::new(Softmax::new(inputs + 1, classes).unwrap()),
                Head::Gaussian { variance, .. } => Box::new(Gaussian::new(inputs + 1, variance).unwrap()),
            };
            assert_eq!(model.dim(), linear.dim());
            let (data, other) = (case.data(), Weighted { samples: &with_bias, ..case.data() });
            let u = case.direction(8);
            let same = |a: &[f64], b: &[f64]| assert!(relative_error(a, b) < 1e-14, "{}", relative_error(a, b));
            same(&model.losses(&case.samples, Batch::All, theta).unwrap(), &linear.losses(&with_bias, Batch::All, theta).unwrap());
            same(&model.gradient(data, theta).unwrap(), &linear.gradient(other, theta).unwrap());
            same(
                &model.score_products(&case.samples, Batch::All, theta, &u).unwrap(),
                &linear.score_products(&with_bias, Batch::All, theta, &u).unwrap(),
            );
            same(&model.hvp(data, theta, &u).unwrap(), &linear.hvp(other, theta, &u).unwrap());
            same(&model.fisher_product(data, theta, &u).unwrap(), &linear.hvp(other, theta, &u).unwrap());
            same(model.hessian(data, theta).unwrap().as_slice(), linear.hessian(other, theta).unwrap().as_slice());
            same(model.expected_fisher(data, theta).unwrap().as_slice(), linear.expected_fisher(other, theta).unwrap().as_slice());
            for kind in FisherKind::ALL {
                let (found, expected) = (
                    model.scores(data, theta, kind, Key::new(9)).unwrap(),
                    linear.scores(other, theta, kind, Key::new(9)).unwrap(),
                );
                let (found, expected) = (kronecker_of(&found), kronecker_of(&expected));
                assert_eq!(found.inputs(), expected.inputs());
                same(found.deltas().as_slice(), expected.deltas().as_slice());
            }
            let drawn = |model: &dyn Model, samples| model.sample_targets(samples, Batch::All, theta, Key::new(9)).unwrap();
            match (drawn(model, &case.samples), drawn(linear.as_ref(), &with_bias)) {
                (Targets::Real { values: a }, Targets::Real { values: b }) => same(&a, &b),
                (a, b) => assert_eq!(a, b),
            }
            assert_eq!(
                model.accuracy(&case.samples, Batch::All, theta).unwrap(),
                linear.accuracy(&with_bias, Batch::All, theta).unwrap()
            );
        }
    }
}

/// Past the cuts: blocks of 128 samples, and pieces of more than one block for n above 64 blocks.
#[test]
fn sums_over_many_blocks_equal_the_sums_of_their_parts() {
    for n in [128, 257, 8_192, 8_300] {
        let case = Case::new(n, 2, &[3], Activation::Tanh, Head::Softmax { classes: 3 }, Key::new(10));
        let u = case.direction(1);
        let mut sums = [vec![0.0; u.len()], vec![0.0; u.len()], vec![0.0; u.len()]];
        let all = |data: Weighted<'_>| {
            [
                case.model.gradient(data, &case.theta).unwrap(),
                case.model.hvp(data, &case.theta, &u).unwrap(),
                case.model.fisher_product(data, &case.theta, &u).unwrap(),
            ]
        };
        for range in par::blocks(n, 61) {
            let indices: Vec<usize> = range.clone().collect();
            let part =
                Weighted { samples: &case.samples, batch: Batch::Indices(&indices), weights: Some(&case.weights[range.clone()]) };
            for (sum, part) in sums.iter_mut().zip(all(part)) {
                sum.iter_mut().zip(part).for_each(|(s, x)| *s += x * range.len() as f64 / n as f64);
            }
        }
        for (found, expected) in all(case.data()).iter().zip(&sums) {
            assert!(relative_error(found, expected) < 1e-12);
        }
    }
}

#[test]
fn every_operation_has_the_same_bits_at_every_thread_count() {
    // Wide enough for the products themselves to be cut, and long enough for pieces of several blocks.
    for (n, hidden) in [(300, [300, 20]), (8_300, [5, 4])] {
        for (activation, head) in ACTIVATIONS.into_iter().zip([HEADS[1], HEADS[3]]) {
            let case = Case::new(n, 3, &hidden, activation, head, Key::new(11));
            let u = case.direction(2);
            let everything = || {
                let (model, theta, data, samples) = (&case.model, &case.theta, case.data(), &case.samples);
                let mut all = model.losses(samples, Batch::All, theta).unwrap();
                all.extend(model.gradient(data, theta).unwrap());
                all.extend(model.score_products(samples, Batch::All, theta, &u).unwrap());
                all.extend(model.hvp(data, theta, &u).unwrap());
                all.extend(model.fisher_product(data, theta, &u).unwrap());
                for kind in FisherKind::ALL {
                    let rows = model.scores(data, theta, kind, Key::new(3)).unwrap();
                    all.extend(rows.project(&Matrix::column(u.clone())).unwrap().into_vec());
                }
                all.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let reference = par::with_threads(1, everything).unwrap();
            for threads in [2, 4] {
                assert!(par::with_threads(threads, everything).unwrap() == reference, "{threads} threads");
            }
        }
    }
}

/// x = 1, one unit with weight and bias 0: its sum stands on the kink.
#[test]
fn the_derivative_at_the_kink_is_zero() {
    let model = Mlp::new(1, &[1], Activation::Relu, Head::Gaussian { outputs: 1, variance: 1.0 }).unwrap();
    let samples = Samples::new(Features::from_f64(vec![1.0], 1, 1).unwrap(), Targets::real(vec![3.0]).unwrap()).unwrap();
    let theta = [0.0, 0.0, 2.0, 0.5];
    let data = Weighted::ones(&samples, Batch::All);
    assert_eq!(model.gradient(data, &theta).unwrap(), [0.0, 0.0, 0.0, -2.5]);
    assert_eq!(model.hvp(data, &theta, &[1.0; 4]).unwrap(), [0.0, 0.0, 0.0, 1.0]);
    // Just above: a = 1e-3·2, z = 2a + 0.5.
    let above = [1e-3, 1e-3, 2.0, 0.5];
    let gradient = model.gradient(data, &above).unwrap();
    assert!(relative_error(&gradient, &[2.0 * -2.496, 2.0 * -2.496, 2e-3 * -2.496, -2.496]) < 1e-14);
}

#[test]
fn initial_weights_have_the_variance_of_their_scheme_and_no_bias() {
    let (p, hidden) = (300, [200, 100]);
    for activation in ACTIVATIONS {
        let model = Mlp::new(p, &hidden, activation, HEADS[1]).unwrap();
        let theta = model.initial_theta(Key::new(12));
        assert_eq!(theta, model.initial_theta(Key::new(12)));
        assert_ne!(theta, model.initial_theta(Key::new(13)));
        let mut rest = theta.as_slice();
        for (l, pair) in model.widths().windows(2).enumerate() {
            let (p, c) = (pair[0], pair[1]);
            let (layer, others) = rest.split_at((p + 1) * c);
            rest = others;
            assert!(layer.chunks_exact(p + 1).all(|unit| unit[p] == 0.0));
            let expected = if activation == Activation::Relu && l < 2 { 2.0 / p as f64 } else { 2.0 / (p + c) as f64 };
            let count = (p * c) as f64;
            let found = dot(layer, layer) / count;
            assert!((found / expected - 1.0).abs() < 5.0 * (2.0 / count).sqrt(), "layer {l}: {found} for {expected}");
        }
        assert!(rest.is_empty());
    }
}

/// No linear model can: its accuracy is at most 3/4.
#[test]
fn gradient_descent_from_the_initial_weights_learns_exclusive_or() {
    let features = Features::from_f64(vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], 4, 2).unwrap();
    let samples = Samples::new(features, Targets::classes(vec![0, 1, 1, 0], 2).unwrap()).unwrap();
    for activation in ACTIVATIONS {
        let model = Mlp::new(2, &[8], activation, Head::Softmax { classes: 2 }).unwrap();
        let mut theta = model.initial_theta(Key::new(1));
        let data = Weighted::ones(&samples, Batch::All);
        for _ in 0..2000 {
            let gradient = model.gradient(data, &theta).unwrap();
            theta.iter_mut().zip(gradient).for_each(|(t, g)| *t -= 0.5 * g);
        }
        assert_eq!(model.accuracy(&samples, Batch::All, &theta).unwrap(), Some(1.0));
        assert!(model.loss(data, &theta).unwrap() < 0.05);
    }
}

#[test]
fn conjugate_gradients_meet_negative_curvature_and_damping_is_the_remedy() {
    for activation in ACTIVATIONS {
        let case = Case::new(60, 5, &[8, 6], activation, Head::Softmax { classes: 3 }, Key::new(14));
        let d = case.model.dim();
        let hessian = FromFn::new(d, |x: &[f64]| case.model.hvp(case.data(), &case.theta, x));
        let b = case.direction(15);
        let report = conjugate_gradients(&hessian, &b, SolveOptions::default()).unwrap();
        let Status::NegativeCurvature { curvature, .. } = report.status else { panic!("{}", report.status) };
        let dense = case.model.hessian(case.data(), &case.theta).unwrap();
        let least = eigh(&dense).unwrap().values[d - 1];
        assert!(least <= curvature && curvature <= 0.0, "{least} {curvature}");
        assert!(report.status.to_string().contains("add damping above the most negative eigenvalue"));
        assert!(report.solution.iter().all(|x| x.is_finite()));

        let damping = 1.1 * -least;
        let damped = Sum(&hessian, Diagonal::new(vec![damping; d]).unwrap());
        let report = conjugate_gradients(&damped, &b, SolveOptions::default()).unwrap();
        assert_eq!(report.status, Status::Converged {});
        let mut matrix = dense;
        (0..d).for_each(|i| matrix[(i, i)] += damping);
        let exact = Cholesky::new(matrix).unwrap().solve(&b).unwrap();
        println!("least eigenvalue {least:.3}; damped: {} iterations", report.iterations);
        assert!(relative_error(&report.solution, &exact) < 1e-7);
    }
}

#[test]
fn checks_of_a_network_pass_and_claim_no_more_than_it_does() {
    for (k, activation) in ACTIVATIONS.into_iter().enumerate() {
        for head in HEADS {
            let case = Case::new(15, 3, &[4], activation, head, Key::new(20 + k as u64));
            let checks = check_model(&case.model, &case.samples, Key::new(21)).unwrap();
            assert!(checks.iter().all(|check| check.passed()), "{checks:?}");
            assert_eq!(case.model.fisher_identity(), FisherIdentity::GaussNewton);
            assert!(checks.iter().all(|check| check.quantity != "expected Fisher = Hessian"));
            assert!(checks.iter().any(|check| check.quantity == "expected Fisher = Fisher product"));
        }
    }
}

#[test]
fn bad_input_is_refused_by_name() {
    let softmax = Head::Softmax { classes: 3 };
    refused(Mlp::new(0, &[2], Activation::Tanh, softmax), "inputs");
    refused(Mlp::new(2, &[2, 0], Activation::Tanh, softmax), "hidden");
    refused(Mlp::new(2, &[], Activation::Tanh, Head::Softmax { classes: 1 }), "classes");
    refused(Mlp::new(2, &[], Activation::Tanh, Head::Gaussian { outputs: 0, variance: 1.0 }), "outputs");
    for variance in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-320] {
        refused(Mlp::new(2, &[], Activation::Tanh, Head::Gaussian { outputs: 1, variance }), "variance");
    }
    for hidden in [[usize::MAX], [usize::MAX / 3], [usize::MAX - 1]] {
        refused(Mlp::new(2, &hidden, Activation::Tanh, softmax), "widths");
    }
    refused(Mlp::new(usize::MAX, &[], Activation::Tanh, softmax), "widths");

    for head in HEADS {
        let case = Case::new(5, 2, &[3], Activation::Relu, head, Key::new(16));
        let (model, theta, data, samples) = (&case.model, &case.theta, case.data(), &case.samples);
        refused(model.losses(samples, Batch::All, &theta[1..]), "theta");
        refused(model.hvp(data, theta, &theta[1..]), "direction");
        refused(model.fisher_product(data, theta, &[f64::NAN; 1].repeat(model.dim())), "direction");
        refused(model.score_products(samples, Batch::All, theta, &[0.0]), "direction");
        for batch in [Batch::Indices(&[]), Batch::Indices(&[0, 5])] {
            refused(model.losses(samples, batch, theta), "batch");
            refused(model.gradient(Weighted::ones(samples, batch), theta), "batch");
            refused(model.hvp(Weighted::ones(samples, batch), theta, theta), "batch");
            refused(model.scores(Weighted::ones(samples, batch), theta, FisherKind::Expected, Key::new(0)), "batch");
            refused(model.sample_targets(samples, batch, theta, Key::new(0)), "batch");
            refused(model.accuracy(samples, batch, theta), "batch");
        }
        let short = Weighted { weights: Some(&case.weights[1..]), ..data };
        refused(model.gradient(short, theta), "weights");
        refused(model.hvp(short, theta, theta), "weights");
        let negative = [1.0, 1.0, -1.0, 1.0, 1.0];
        let negative = Weighted { weights: Some(&negative), ..data };
        model.gradient(negative, theta).unwrap();
        let mut poisoned = theta.clone();
        poisoned[1] = f64::NAN;
        for kind in FisherKind::ALL {
            refused(model.scores(negative, theta, kind, Key::new(0)), "weights");
            refused(model.scores(data, &poisoned, kind, Key::new(0)), "theta");
        }
        // Finite weights whose outputs are not.
        refused(model.losses(samples, Batch::All, &vec![1e200; model.dim()]), "outputs of the network");
        refused(Mlp::new(3, &[3], Activation::Relu, head).unwrap().losses(samples, Batch::All, &vec![0.0; 100]), "feature width");

        let with = |targets| Samples::new(samples.features.clone(), targets).unwrap();
        match head {
            Head::Softmax { classes } => {
                let other = with(Targets::classes(vec![0; 5], classes + 1).unwrap());
                refused(model.losses(&other, Batch::All, theta), "classes");
                refused(model.losses(&with(Targets::real(vec![0.0; 5]).unwrap()), Batch::All, theta), "targets");
                refused(model.losses(&with(Targets::vectors(vec![0.0; 10], 2).unwrap()), Batch::All, theta), "targets");
            }
            Head::Gaussian { outputs, .. } => {
                let other = with(Targets::vectors(vec![0.0; 5 * (outputs + 1)], outputs + 1).unwrap());
                refused(model.losses(&other, Batch::All, theta), "target width");
                refused(model.losses(&with(Targets::classes(vec![0; 5], 2).unwrap()), Batch::All, theta), "targets");
                let huge = with(Targets::vectors(vec![1e200; 5 * outputs], outputs).unwrap());
                refused(model.losses(&huge, Batch::All, theta), "losses");
            }
        }
    }
}
