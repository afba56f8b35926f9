//! The quadratic problem against itself: what the oracle, the estimators and the methods compute from its derivatives, and what
//! its closed forms say.

use nhgd::bilevel::{self, ExactConfig, MethodConfig, SampleCount, Sampling, StepSize, Stop};
use nhgd::bounds::{Slope, slope_with_limits};
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::{Matrix, difference, dot, norm, svd};
use nhgd::model::FisherKind;
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
use nhgd::par;
use nhgd::problem::{DataSource, Prescribed, Problem, Quadratic, QuadraticConfig, Spectrum};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Targets};

mod support;
use support::refused;

fn load(config: &QuadraticConfig, seed: u64) -> Quadratic {
    Quadratic::load(config, &DataSource::default(), Key::new(seed)).unwrap()
}

fn relative(a: &[f64], b: &[f64]) -> f64 {
    norm(&difference(a, b)) / norm(b)
}

/// Inner dimension, outer dimension, samples, outer samples.
const SHAPES: [[usize; 4]; 10] = [
    [1, 1, 1, 1],
    [1, 2, 64, 2],
    [2, 1, 3, 63],
    [63, 2, 127, 64],
    [64, 65, 65, 1],
    [65, 7, 64, 65],
    [127, 64, 63, 127],
    [2, 127, 300, 2],
    [20, 10, 2000, 500],
    [127, 127, 1000, 127],
];

fn config([inner_dim, outer_dim, samples, outer_samples]: [usize; 4]) -> QuadraticConfig {
    QuadraticConfig { inner_dim, outer_dim, samples, outer_samples, misfit: 0.5, ..Default::default() }
}

/// The largest relative errors of θ*(v) by Newton's method and of the exact hypergradient, at a random v.
fn errors(problem: &Quadratic, key: Key) -> (f64, f64) {
    let v = key.stream().normals(problem.outer_dim());
    let (theta, expected) = (problem.inner_solution(&v).unwrap(), problem.hypergradient(&v).unwrap());
    let solution = inner_solution(problem, &v, &problem.initial().1, NewtonOptions::default()).unwrap();
    assert!(solution.status.is_converged());
    let hypergradients = [
        exact_hypergradient(problem, &v, &theta).unwrap(),
        exact_hypergradient(problem, &v, &solution.theta).unwrap(),
        bilevel::exact(problem, &v, &theta, Sampling::default()).unwrap().value,
    ];
    let worst = hypergradients.iter().map(|found| relative(found, &expected)).fold(0.0, f64::max);
    (relative(&solution.theta, &theta), worst)
}

#[test]
fn the_exact_hypergradient_equals_its_closed_form_to_1e_10() {
    let spectra = [Spectrum::Flat {}, Spectrum::Power { exponent: 2.0 }, Spectrum::Exponential { rate: 0.05 }];
    let mut worst = (0.0_f64, 0.0_f64);
    for shape in SHAPES {
        for (spectrum, ridge) in spectra.into_iter().flat_map(|s| [(s, 1e-3), (s, 0.0)]) {
            // Without a ridge only where the features determine θ well: a relative error is about κ(H)·ε, and κ has no bound
            // where there are hardly more samples than features.
            if ridge == 0.0 && 2 * shape[0] > shape[2] {
                continue;
            }
            let config = QuadraticConfig { spectrum, ridge, ..config(shape) };
            let (theta, hypergradient) = errors(&load(&config, 1), Key::new(2));
            assert!(theta < 1e-10 && hypergradient < 1e-10, "{shape:?}, {spectrum:?}, ridge {ridge}: {theta:e}, {hypergradient:e}");
            worst = (worst.0.max(theta), worst.1.max(hypergradient));
        }
    }
    println!("worst relative errors: θ* {:.1e}, hypergradient {:.1e}", worst.0, worst.1);
    // The test can fail: the closed form of a ridge that is larger by a millionth is another one.
    let (problem, other) =
        (load(&config(SHAPES[8]), 1), load(&QuadraticConfig { ridge: 1e-3 * (1.0 + 1e-6), ..config(SHAPES[8]) }, 1));
    let v = Key::new(2).stream().normals(10);
    let found = exact_hypergradient(&problem, &v, &problem.inner_solution(&v).unwrap()).unwrap();
    assert!(relative(&found, &other.hypergradient(&v).unwrap()) > 1e-10);
}

/// Duplicate, zero and linearly dependent features: the ridge alone determines what they leave open.
#[test]
fn degenerate_features_have_the_closed_form_too_and_need_a_ridge() {
    let (n, d2, d1) = (40, 5, 3);
    let random = Key::new(3).stream().normals(n * (d2 + d1));
    let joint = |x: &dyn Fn(usize, usize) -> f64| -> Samples {
        let entry = |k: usize| if k % (d2 + d1) < d2 { x(k / (d2 + d1), k % (d2 + d1)) } else { random[k] };
        let features = Features::from_f64((0..n * (d2 + d1)).map(entry).collect(), n, d2 + d1).unwrap();
        Samples::new(features, Targets::real(Key::new(4).stream().normals(n)).unwrap()).unwrap()
    };
    let outer = || {
        let features = Features::from_f64(Key::new(5).stream().normals(20 * d2), 20, d2).unwrap();
        Samples::new(features, Targets::real(Key::new(6).stream().normals(20)).unwrap()).unwrap()
    };
    let at = |i: usize, j: usize| random[i * (d2 + d1) + j];
    let cases: [&dyn Fn(usize, usize) -> f64; 4] = [
        &|i, j| at(i, j.min(d2 - 2)),                // the last feature twice
        &|i, j| if j == 0 { 0.0 } else { at(i, j) }, // a feature that is always 0
        &|i, j| at(i % 2, j),                        // two different rows
        &|_, _| 0.0,                                 // nothing at all
    ];
    for (case, x) in cases.into_iter().enumerate() {
        let problem = Quadratic::new(joint(x), outer(), 1e-2, 0.1).unwrap();
        let (theta, hypergradient) = errors_or_zero(&problem);
        assert!(theta < 1e-10 && hypergradient < 1e-10, "case {case}: {theta:e}, {hypergradient:e}");
        refused(Quadratic::new(joint(x), outer(), 0.0, 0.1), "ridge");
    }
}

/// As [`errors`], absolute: θ*(v) may be 0.
fn errors_or_zero(problem: &Quadratic) -> (f64, f64) {
    let v = Key::new(2).stream().normals(problem.outer_dim());
    let theta = problem.inner_solution(&v).unwrap();
    let solved = inner_solution(problem, &v, &problem.initial().1, NewtonOptions::default()).unwrap().theta;
    let found = exact_hypergradient(problem, &v, &solved).unwrap();
    (norm(&difference(&solved, &theta)), norm(&difference(&found, &problem.hypergradient(&v).unwrap())))
}

/// Values alone: ∇_θ g vanishes at θ*(v), f there is the least value and the gap, and the gap's differences are the hypergradient.
#[test]
fn the_closed_forms_are_those_of_the_values() {
    for shape in SHAPES {
        let problem = load(&config(shape), 7);
        let v = Key::new(8).stream().normals(problem.outer_dim());
        let value = |v: &[f64]| problem.f_outer(v, &problem.inner_solution(v).unwrap(), Batch::All).unwrap();
        let theta = problem.inner_solution(&v).unwrap();
        let scale = norm(&problem.grad_inner(&v, &vec![0.0; theta.len()], Batch::All).unwrap());
        assert!(norm(&problem.grad_inner(&v, &theta, Batch::All).unwrap()) < 1e-12 * (1.0 + scale), "{shape:?}");
        let gap = problem.value_gap(&v).unwrap();
        assert!((value(&v) - problem.least_value() - gap).abs() < 1e-11 * (1.0 + value(&v).abs()), "{shape:?}");
        assert!((value(problem.minimizer()) - problem.least_value()).abs() < 1e-11 * (1.0 + problem.least_value().abs()));
        assert!(gap > 0.0 && norm(&problem.hypergradient(problem.minimizer()).unwrap()) == 0.0);
        let u = Key::new(9).stream().normals(v.len());
        let at = |t: f64| -> Vec<f64> { v.iter().zip(&u).map(|(v, u)| v + t * u).collect() };
        let slope = (value(&at(0.5)) - value(&at(-0.5))) / 1.0;
        let expected = dot(&problem.hypergradient(&v).unwrap(), &u);
        assert!((slope - expected).abs() < 1e-10 * (1.0 + value(&v).abs()), "exact for a quadratic: {slope}, {expected}");
    }
}

/// Relative errors of NHGD's hypergradient against the closed form, one list for each stream of fresh samples.
fn nhgd_errors(problem: &Quadratic, curvature: &CurvatureConfig, kind: FisherKind, rows: &[usize], streams: u64) -> Vec<Vec<f64>> {
    let v = Key::new(20).stream().normals(problem.outer_dim());
    let (theta, expected) = (problem.inner_solution(&v).unwrap(), problem.hypergradient(&v).unwrap());
    let stream = |replicate: u64| {
        let key = Key::new(21).child(replicate);
        let mut estimate = curvature.build(problem.inner_dim(), key.named("curvature")).unwrap();
        let mut absorbed = 0;
        let mut error_at = |&rows: &usize| {
            let key = key.child(rows as u64);
            let fresh = key.named("samples").stream().indices(problem.inner_samples(), rows - absorbed).unwrap();
            estimate.absorb(&problem.scores(&v, &theta, Batch::Indices(&fresh), kind, key.named("labels")).unwrap()).unwrap();
            absorbed = rows;
            let approximation = estimate.approximate().unwrap();
            let found = bilevel::nhgd(problem, &v, &theta, Sampling::default(), approximation.as_ref(), 0.0).unwrap();
            relative(&found.value, &expected)
        };
        rows.iter().map(&mut error_at).collect()
    };
    par::map((0..streams).collect(), stream)
}

const ROWS: [usize; 5] = [1000, 3000, 10_000, 30_000, 100_000];

/// From 50 samples a dimension on; below, (F̂ + Λ)⁻¹ is not yet linear in F̂ − F.
#[test]
fn nhgd_s_hypergradient_approaches_the_closed_form_as_one_over_the_root_of_the_rows() {
    let problem = load(&config([20, 10, 2000, 500]), 0);
    let x = ROWS.map(|rows| rows as f64);
    let dense = CurvatureConfig::default_of("dense").unwrap();
    // As large as the dimension: no sketch error is left.
    let nystrom = CurvatureConfig::Nystrom(nhgd::curvature::NystromConfig { sketch_size: 20, ..Default::default() });
    let slope = |curvature: &CurvatureConfig, kind: FisherKind| -> (Slope, f64) {
        let errors = nhgd_errors(&problem, curvature, kind, &ROWS, 20);
        let last = (errors.iter().map(|errors| errors[ROWS.len() - 1].ln()).sum::<f64>() / 20.0).exp();
        let slope = slope_with_limits(&x, &errors, 0.95).unwrap();
        println!("{} {}: {slope:?}, {last:.2e} at the last", curvature.name(), kind.name());
        (slope, last)
    };
    for (curvature, kind) in [(&dense, FisherKind::Sampled), (&dense, FisherKind::Expected), (&nystrom, FisherKind::Sampled)] {
        let (slope, last) = slope(curvature, kind);
        assert!(slope.covers(-0.5) && (slope.mean + 0.5).abs() < 0.05, "{kind:?}: {slope:?}");
        assert!(!slope.covers(-1.0) && !slope.covers(0.0) && last < 0.03);
    }
    // Observed residuals are not the model's here: their bias stays.
    let (slope, last) = slope(&dense, FisherKind::Empirical);
    assert!(!slope.covers(-0.5) && slope.mean > -0.1 && last > 0.1, "{slope:?}");
}

/// Where the model is well specified at every v and the samples are many, the observed labels do as well.
#[test]
fn the_empirical_fisher_serves_where_the_model_is_well_specified() {
    let config = QuadraticConfig { misfit: 0.0, samples: 400_000, ..config([20, 10, 1, 500]) };
    let rows = [1000, 3000, 10_000, 30_000];
    let dense = CurvatureConfig::default_of("dense").unwrap();
    let errors = nhgd_errors(&load(&config, 0), &dense, FisherKind::Empirical, &rows, 20);
    let slope = slope_with_limits(&rows.map(|rows| rows as f64), &errors, 0.95).unwrap();
    println!("well specified, empirical: {slope:?}");
    assert!((slope.mean + 0.5).abs() < 0.1, "{slope:?}");
}

#[test]
fn the_exact_method_on_all_data_finds_the_minimizer() {
    let problem = load(&QuadraticConfig { spectrum: Spectrum::Flat {}, ..config([6, 4, 300, 100]) }, 11);
    let exact = ExactConfig {
        inner_steps: 30,
        batch_size: SampleCount::All,
        inner_step_size: StepSize::constant(0.6),
        outer_step_size: StepSize::constant(0.5),
        ..Default::default()
    };
    let method = MethodConfig::Exact(exact).build().unwrap();
    let outcome = bilevel::run(&problem, method.as_ref(), Key::new(0), Stop::after(400), &mut ()).unwrap();
    let (v, theta) = (&outcome.state.outer_var, &outcome.state.inner_var);
    assert!(relative(v, problem.minimizer()) < 1e-10);
    let [gap, gradient, distance] = problem.metrics(v, theta).unwrap()[..] else { panic!("three metrics") };
    assert!((0.0..1e-20).contains(&gap) && gradient < 1e-10 && distance < 1e-10, "{gap:e}, {gradient:e}, {distance:e}");
}

#[test]
fn the_data_have_the_covariance_and_noise_of_the_settings() {
    let spectrum = Spectrum::Exponential { rate: 0.7 };
    let config = QuadraticConfig { spectrum, noise: 2.0, misfit: 0.0, ridge: 0.0, samples: 40_000, ..config([4, 2, 1, 50]) };
    let problem = load(&config, 12);
    let hessian = problem.hessian(&[0.0; 2], &[0.0; 4]).unwrap();
    let eigenvalues = nhgd::dense::eigh(&hessian).unwrap().values;
    for (j, found) in eigenvalues.iter().enumerate() {
        let expected = (-0.7 * j as f64).exp();
        assert!((found / expected - 1.0).abs() < 0.05, "{j}: {found}, {expected}");
    }
    // Without misfit the residuals at θ*(v) are the noise alone, at every v: g there is ½ noise² + ½ log 2π.
    for v in [[0.0, 0.0], [3.0, -5.0]] {
        let g = problem.f_inner(&v, &problem.inner_solution(&v).unwrap(), Batch::All).unwrap();
        let variance = 2.0 * g - std::f64::consts::TAU.ln();
        assert!((variance / 4.0 - 1.0).abs() < 0.04, "{variance}");
    }
    let again = load(&config, 12);
    assert_eq!(again.minimizer(), problem.minimizer());
    assert_ne!(load(&config, 13).minimizer(), problem.minimizer());
}

#[test]
fn bad_points_settings_and_data_are_refused_by_name() {
    let build = |change: &dyn Fn(&mut QuadraticConfig)| {
        let mut config = config([4, 3, 20, 10]);
        change(&mut config);
        Quadratic::load(&config, &DataSource::default(), Key::new(0))
    };
    refused(build(&|c| c.inner_dim = 0), "inner_dim");
    refused(build(&|c| c.outer_dim = 0), "outer_dim");
    refused(build(&|c| c.samples = 0), "samples");
    refused(build(&|c| c.outer_samples = 0), "outer_samples");
    refused(build(&|c| c.samples = usize::MAX), "samples");
    refused(build(&|c| c.inner_dim = 1 << 20), "samples");
    refused(build(&|c| c.noise = 0.0), "noise");
    refused(build(&|c| c.misfit = f64::NAN), "misfit");
    refused(build(&|c| c.ridge = -1.0), "ridge");
    refused(build(&|c| (c.ridge, c.samples) = (0.0, 3)), "ridge");
    refused(build(&|c| c.penalty = 0.0), "penalty");
    refused(build(&|c| c.spectrum = Spectrum::Power { exponent: f64::INFINITY }), "exponent");
    refused(build(&|c| c.spectrum = Spectrum::Exponential { rate: -1.0 }), "rate");

    let problem = load(&config([4, 3, 20, 10]), 0);
    let (v, theta) = problem.initial();
    refused(problem.f_inner(&v[1..], &theta, Batch::All), "outer_var");
    refused(problem.grad_v(&v, &theta[1..], Batch::All), "inner_var");
    refused(problem.grad_outer(&[f64::NAN; 3], &theta, Batch::All), "outer_var");
    refused(problem.hvp(&v, &theta, Batch::All, &[1.0]), "direction");
    refused(problem.cross_jvp(&v, &theta, Batch::All, &[1.0]), "direction");
    refused(problem.cross_vjp(&v, &theta, Batch::Indices(&[20]), &theta), "batch");
    refused(problem.scores(&v, &theta, Batch::Indices(&[]), FisherKind::Sampled, Key::new(0)), "batch");
    refused(problem.known_curvature(&v[1..]), "outer_var");
    refused(problem.hypergradient(&v[1..]), "outer_var");
    refused(problem.inner_solution(&[f64::INFINITY; 3]), "outer_var");

    let samples = |width: usize, targets: Targets| {
        Samples::new(Features::from_f64(vec![1.0; 2 * width], 2, width).unwrap(), targets).unwrap()
    };
    let real = || Targets::real(vec![1.0, 2.0]).unwrap();
    let classes = || Targets::classes(vec![0, 1], 2).unwrap();
    refused(Quadratic::new(samples(2, real()), samples(2, real()), 1.0, 1.0), "inner features");
    refused(Quadratic::new(samples(3, classes()), samples(2, real()), 1.0, 1.0), "targets");
    refused(Quadratic::new(samples(3, real()), samples(2, classes()), 1.0, 1.0), "targets");
    refused(Quadratic::new(samples(3, real()), samples(2, real()), f64::NAN, 1.0), "ridge");
}

/// Eigenvalues of a symmetric map or singular values of any, from its columns.
fn singular_values(rows: usize, columns: usize, product: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let unit = |j: usize| -> Vec<f64> { (0..columns).map(|i| if i == j { 1.0 } else { 0.0 }).collect() };
    let entries = (0..columns).flat_map(|j| product(&unit(j))).collect();
    svd(&Matrix::from_columns(rows, columns, entries).unwrap()).unwrap().values
}

fn prescribed(misfit: f64) -> QuadraticConfig {
    let spectra = Prescribed {
        inner_largest: 2.0,
        outer: Spectrum::Power { exponent: 1.5 },
        outer_largest: 3.0,
        outer_penalty: Spectrum::Condition { number: 50.0 },
        cross: Spectrum::Exponential { rate: 0.5 },
        cross_largest: 0.7,
    };
    QuadraticConfig {
        spectrum: Spectrum::Condition { number: 1e4 },
        penalty: 0.2,
        misfit,
        prescribed: Some(spectra),
        ..config([12, 7, 80, 30])
    }
}

/// The four spectra from the problem's products and gradients, against the formulas of the settings.
#[test]
fn prescribed_spectra_are_those_of_the_samples() {
    for misfit in [0.0, 0.5] {
        let problem = load(&prescribed(misfit), 1);
        let (v, theta) = (vec![0.0; 7], vec![0.0; 12]);
        let at_zero = problem.grad_outer(&v, &theta, Batch::All).unwrap();
        let found = [
            singular_values(12, 12, |u| problem.hvp(&v, &theta, Batch::All, u).unwrap()),
            singular_values(12, 12, |u| difference(&problem.grad_outer(&v, u, Batch::All).unwrap().theta, &at_zero.theta)),
            singular_values(7, 7, |u| {
                difference(&problem.grad_outer(u, &theta, Batch::All).unwrap().v.into_vec(), &at_zero.v.to_vec())
            }),
            singular_values(12, 7, |u| problem.cross_jvp(&v, &theta, Batch::All, u).unwrap()),
        ];
        let expected: [Vec<f64>; 4] = [
            (0..12).map(|j| 2.0 * 1e4_f64.powf(-f64::from(j) / 11.0) + 1e-3).collect(),
            (1..=12).map(|j| 3.0 * f64::from(j).powf(-1.5)).collect(),
            (0..7).map(|j| 0.2 * 50_f64.powf(-f64::from(j) / 6.0)).collect(),
            (0..7).map(|j| 0.7 * (-0.5 * f64::from(j)).exp()).collect(),
        ];
        for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(relative(found, expected) < 1e-11, "spectrum {which}, misfit {misfit}: {found:?} against {expected:?}");
        }
        // Drawn from a population, the spectra are met on average alone.
        let population = load(&QuadraticConfig { prescribed: None, ..prescribed(misfit) }, 1);
        let loose = singular_values(12, 12, |u| population.hvp(&v, &theta, Batch::All, u).unwrap());
        let halved: Vec<f64> = expected[0].iter().map(|x| 0.5 * (x - 1e-3) + 1e-3).collect();
        assert!(relative(&loose, &halved) > 1e-2);
    }
}

#[test]
fn the_closed_forms_hold_with_prescribed_spectra_and_the_minimizer_is_one() {
    for misfit in [0.0, 0.5] {
        let problem = load(&prescribed(misfit), 2);
        let (theta, hypergradient) = errors(&problem, Key::new(3));
        assert!(theta < 1e-10 && hypergradient < 1e-10, "{theta:e}, {hypergradient:e}");
        let value = |v: &[f64]| problem.f_outer(v, &problem.inner_solution(v).unwrap(), Batch::All).unwrap();
        let best = problem.minimizer().to_vec();
        assert!((value(&best) / problem.least_value() - 1.0).abs() < 1e-12);
        let at_best = exact_hypergradient(&problem, &best, &problem.inner_solution(&best).unwrap()).unwrap();
        let away: Vec<f64> = best.iter().map(|v| v + 1.0).collect();
        let far = exact_hypergradient(&problem, &away, &problem.inner_solution(&away).unwrap()).unwrap();
        assert!(norm(&at_best) < 1e-10 * norm(&far), "{:e} against {:e}", norm(&at_best), norm(&far));
        assert!((problem.value_gap(&away).unwrap() - (value(&away) - value(&best))).abs() < 1e-10 * value(&away));
    }
}

#[test]
fn prescribed_spectra_that_cannot_be_are_refused_by_name() {
    let build = |change: &dyn Fn(&mut QuadraticConfig, &mut Prescribed)| {
        let mut config = prescribed(0.5);
        let mut spectra = config.prescribed.take().unwrap();
        change(&mut config, &mut spectra);
        config.prescribed = Some(spectra);
        Quadratic::load(&config, &DataSource::default(), Key::new(0))
    };
    assert!(build(&|c, _| c.samples = 19).is_ok());
    refused(build(&|c, _| c.samples = 18), "samples");
    assert!(build(&|c, _| (c.samples, c.misfit) = (12, 0.0)).is_ok());
    refused(build(&|c, _| (c.samples, c.misfit) = (11, 0.0)), "samples");
    refused(build(&|c, _| c.outer_samples = 11), "outer_samples");
    refused(build(&|c, _| c.spectrum = Spectrum::Condition { number: 1e11 }), "spectrum");
    refused(build(&|c, _| c.spectrum = Spectrum::Condition { number: 0.5 }), "number");
    refused(build(&|_, p| p.outer_penalty = Spectrum::Exponential { rate: 10.0 }), "outer_penalty");
    refused(build(&|_, p| p.cross = Spectrum::Power { exponent: f64::NAN }), "exponent");
    refused(build(&|_, p| p.cross_largest = 0.0), "cross_largest");
    refused(build(&|_, p| p.outer_largest = f64::INFINITY), "outer_largest");
    refused(build(&|_, p| p.inner_largest = -1.0), "inner_largest");
}

#[test]
fn held_out_folds_part_the_outer_samples_and_keep_their_closed_forms() {
    let problem = load(&prescribed(0.0), 4);
    let v = Key::new(5).stream().normals(7);
    let folds = problem.hold_out(2, 3).unwrap().unwrap();
    assert_eq!((folds.fit.outer_samples(), folds.judge.outer_samples()), (20, 10));
    let part = |p: &dyn Problem| p.closed_form(&v).unwrap().unwrap().hypergradient;
    let (fit, judge) = (part(folds.fit.as_ref()), part(folds.judge.as_ref()));
    let mixed: Vec<f64> = fit.iter().zip(&judge).map(|(a, b)| (2.0 * a + b) / 3.0).collect();
    assert!(relative(&mixed, &problem.hypergradient(&v).unwrap()) < 1e-12, "∇Φ is a mean over outer samples");
    assert!(relative(&fit, &judge) > 1e-3);
    refused(problem.hold_out(0, 31), "folds");
}
