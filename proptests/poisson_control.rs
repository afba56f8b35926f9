//! Control of Poisson's equation against what is known of it without the crate: an analytic optimum, a dense linear system, finite
//! differences of the equation, the optimum of the continuous problem; and NHGD with the shipped settings against the exact optimum.

use std::f64::consts::PI;

use nhgd::bilevel::{self, Stop};
use nhgd::dense::{Cholesky, Matrix, matvec, norm, relative_error};
use nhgd::model::FisherKind;
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
use nhgd::problem::{DataSource, PoissonControl, PoissonControlConfig, PoissonTarget, Problem};
use nhgd::rng::Key;
use nhgd::samples::Batch;

mod support;
use support::refused;

const TARGETS: [PoissonTarget; 4] =
    [PoissonTarget::Eigenfunction, PoissonTarget::Bump, PoissonTarget::Textbook, PoissonTarget::Indicator];

fn load(config: &PoissonControlConfig) -> PoissonControl {
    PoissonControl::load(config, &DataSource::default(), Key::new(0)).unwrap()
}

fn square(grid: usize, modes: usize, target: PoissonTarget) -> PoissonControlConfig {
    PoissonControlConfig { grid, modes, target, ..Default::default() }
}

/// For t = sin πx sin πy and λ = 2π²: u = λ/(1 + αλ²) t, y = t/(1 + αλ²), and the integrals of t² are mean squares over the grid.
#[test]
fn an_eigenfunction_has_its_analytic_optimum_on_every_grid() {
    let lambda = 2.0 * PI * PI;
    for (grid, modes, preconditioning) in [(1, 1, 1.0), (2, 1, 0.0), (9, 4, 0.5), (16, 16, 0.75)] {
        let config = PoissonControlConfig { preconditioning, penalty: 1e-3, ..square(grid, modes, PoissonTarget::Eigenfunction) };
        let problem = load(&config);
        let factor = 1.0 + config.penalty * lambda * lambda;
        let scaled = |c: f64| -> Vec<f64> { problem.target().iter().map(|t| c * t).collect() };
        let control = problem.minimizer();
        assert!(relative_error(&control, &scaled(lambda / factor)) < 1e-13);
        let theta = problem.inner_solution(&control).unwrap();
        assert!(relative_error(&problem.state(&theta).unwrap(), &scaled(1.0 / factor)) < 1e-13);
        let mean_square = problem.target().iter().map(|t| t * t).sum::<f64>() / (grid * grid) as f64;
        let least = 0.5 * mean_square * config.penalty * lambda * lambda / factor;
        assert!((problem.least_value() / least - 1.0).abs() < 1e-12);
        assert!(norm(&problem.hypergradient(&control).unwrap()) < 1e-15);
        // Another price has another optimum.
        let other = load(&PoissonControlConfig { penalty: 1.001e-3, ..config });
        assert!(relative_error(&other.minimizer(), &control) > 1e-4);
    }
}

/// ∇Φ is affine in v: its matrix by exact hypergradients at the unit vectors, each at θ*(v) by Newton's method, then a dense solve.
#[test]
fn the_optimum_solves_the_linear_system_of_the_oracle() {
    for (target, ridge) in TARGETS.into_iter().zip([0.0, 0.0, 1e-2, 0.3]) {
        let problem = load(&PoissonControlConfig { ridge, ..square(5, 3, target) });
        let n = problem.outer_dim();
        let solved = |v: &[f64]| inner_solution(&problem, v, &problem.initial().1, NewtonOptions::default()).unwrap().theta;
        let gradient = |v: &[f64]| exact_hypergradient(&problem, v, &solved(v)).unwrap();
        let at_zero = gradient(&vec![0.0; n]);
        let unit = |j: usize| -> Vec<f64> { (0..n).map(|i| f64::from(u8::from(i == j))).collect() };
        let columns: Vec<Vec<f64>> = (0..n).map(|j| gradient(&unit(j))).collect();
        let system = Matrix::from_fn(n, n, |i, j| columns[j][i] - at_zero[i]);
        let rhs: Vec<f64> = at_zero.iter().map(|g| -g).collect();
        let best = Cholesky::new(system).unwrap().solve(&rhs).unwrap();
        assert!(relative_error(&problem.minimizer(), &best) < 1e-9, "{target:?}");

        let value = |v: &[f64]| problem.f_outer(v, &solved(v), Batch::All).unwrap();
        assert!((value(&best) / problem.least_value() - 1.0).abs() < 1e-10, "{target:?}");
        let v = Key::new(1).stream().normals(n);
        assert!(((value(&v) - problem.least_value()) / problem.value_gap(&v).unwrap() - 1.0).abs() < 1e-10, "{target:?}");
        assert!(problem.metrics(&v, &solved(&v)).unwrap()[1] > 0.0);
    }
}

/// The five-point Laplacian knows no sines: its state is that of the basis up to O(h²).
#[test]
fn states_converge_to_those_of_finite_differences() {
    let error = |m: usize| {
        let problem = load(&square(m, m, PoissonTarget::Textbook));
        let inverse_square = (m as f64 + 1.0).powi(2);
        let laplacian = Matrix::from_fn(m * m, m * m, |i, j| {
            let apart = (i % m).abs_diff(j % m) + (i / m).abs_diff(j / m);
            inverse_square * [4.0, -1.0, 0.0][apart.min(2)]
        });
        let source = problem.target();
        let by_differences = Cholesky::new(laplacian).unwrap().solve(source).unwrap();
        relative_error(&problem.state(&problem.inner_solution(source).unwrap()).unwrap(), &by_differences)
    };
    let (coarse, fine) = (error(7), error(15));
    println!("{coarse:.2e}, {fine:.2e}");
    assert!(fine < 5e-3 && (3.0..5.0).contains(&(coarse / fine)), "{coarse:e}, {fine:e}");
}

/// The continuous optimum for t = 10 x(1−x) y(1−y), whose sine coefficients are 10 c_j c_k with c_j = 8/(jπ)³ for odd j, 0 for even j.
#[test]
fn optimal_controls_converge_to_the_continuous_one() {
    let penalty = 1e-4;
    let at_centre = |most: usize| -> f64 {
        let odd = || (1..=most).step_by(2);
        let c = |j: usize| 8.0 / (PI * j as f64).powi(3) * if j % 4 == 1 { 1.0 } else { -1.0 };
        let gain = |j: usize, k: usize| 1.0 / (PI * PI * (j * j + k * k) as f64);
        let mode = |j, k| 10.0 * c(j) * c(k) * gain(j, k) / (gain(j, k).powi(2) + penalty);
        odd().flat_map(|j| odd().map(move |k| (j, k))).map(|(j, k)| mode(j, k)).sum()
    };
    let exact = at_centre(801);
    assert!((at_centre(401) / exact - 1.0).abs() < 1e-7, "the series is summed far enough");
    let error = |m: usize| {
        let problem = load(&PoissonControlConfig { penalty, ..square(m, m, PoissonTarget::Textbook) });
        (problem.minimizer()[(m * m) / 2] / exact - 1.0).abs()
    };
    let errors = [7, 15, 31].map(error);
    println!("{errors:?}");
    assert!(errors.windows(2).all(|pair| pair[1] < pair[0] / 4.0) && errors[2] < 1e-4, "{errors:?}");
}

#[test]
fn residuals_and_with_them_the_empirical_fisher_matrix_vanish_at_the_solution() {
    let problem = load(&PoissonControlConfig::default());
    let v = problem.minimizer();
    let theta = problem.inner_solution(&v).unwrap();
    let trace = |kind| {
        let rows = problem.scores(&v, &theta, Batch::All, kind, Key::new(1)).unwrap();
        rows.squared_row_norms().iter().sum::<f64>() / rows.samples() as f64
    };
    let hessian = problem.hessian(&v, &theta).unwrap();
    assert!((trace(FisherKind::Expected) / hessian.trace() - 1.0).abs() < 1e-12);
    assert!((trace(FisherKind::Sampled) / hessian.trace() - 1.0).abs() < 0.3);
    assert!(trace(FisherKind::Empirical) < 1e-20 * hessian.trace());
    // Of condition p^(4−4s), from 1.
    let diagonal: Vec<f64> = (0..64).map(|i| hessian[(i, i)]).collect();
    assert!((diagonal[0] - 1.0).abs() < 1e-12 && (diagonal[63] / 8.0 - 1.0).abs() < 1e-12);
    let identity = load(&PoissonControlConfig { preconditioning: 1.0, ..Default::default() }).hessian(&v, &theta).unwrap();
    assert!(relative_error(identity.as_slice(), Matrix::identity(64).as_slice()) < 1e-12);
    assert!(relative_error(&matvec(&hessian, &theta).unwrap(), &theta) > 0.1);
}

#[cfg(feature = "io")]
#[test]
fn nhgd_comes_within_one_per_cent_of_the_optimum_and_the_empirical_fisher_matrix_does_not() {
    use nhgd::experiment::config::Config;
    let text = include_str!("../notebooks-data/poisson-control.toml");
    let config = Config::parse(text, std::path::Path::new("poisson-control.toml")).unwrap();
    for &seed in &config.seeds {
        let problem = config.problem.build(&DataSource::default(), Key::new(seed)).unwrap();
        for run in &config.runs {
            let method = run.method.build().unwrap();
            let stop = Stop::after(run.outer_steps);
            let end = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(seed).named("run"), stop, &mut ()).unwrap().state;
            let gap = problem.metrics(&end.outer_var, &end.inner_var).unwrap()[1];
            assert_eq!(gap < 0.01, run.label != "nhgd-empirical", "{} of seed {seed}: {gap:e}", run.label);
        }
    }
}

#[test]
fn bad_settings_are_refused_by_name() {
    let base = PoissonControlConfig::default;
    let load = |config| PoissonControl::load(&config, &DataSource::default(), Key::new(0));
    refused(load(PoissonControlConfig { grid: 0, ..base() }), "grid");
    refused(load(PoissonControlConfig { grid: 1 << 40, modes: 1 << 30, ..base() }), "grid");
    refused(load(PoissonControlConfig { modes: 0, ..base() }), "modes");
    refused(load(PoissonControlConfig { modes: 17, ..base() }), "modes");
    refused(load(PoissonControlConfig { penalty: 0.0, ..base() }), "penalty");
    refused(load(PoissonControlConfig { ridge: -1.0, ..base() }), "ridge");
    refused(load(PoissonControlConfig { preconditioning: 1.1, ..base() }), "preconditioning");
    refused(load(PoissonControlConfig { preconditioning: f64::NAN, ..base() }), "preconditioning");
    refused(PoissonControl::new(&base(), vec![0.0; 255]), "target");
    refused(PoissonControl::new(&base(), vec![f64::NAN; 256]), "target");
}
