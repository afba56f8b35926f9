//! Regularization selection against dense algebra, differences of the value function, its own data written out as files, and what it is for.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use nhgd::dense::{Cholesky, Matrix, axpy, difference, dot, matvec, norm};
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution, value_difference};
use nhgd::problem::{
    DataSource, FeatureScale, InitialInner, InitialStrength, Problem, RegularizationConfig, RegularizationData,
    RegularizationSelection, Strength,
};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Targets};

mod support;
use support::refused;

fn relative(a: &[f64], b: &[f64]) -> f64 {
    norm(&difference(a, b)) / norm(b)
}

fn load(config: &RegularizationConfig, seed: u64) -> RegularizationSelection {
    RegularizationSelection::load(config, &DataSource::default(), Key::new(seed)).unwrap()
}

fn random_samples(n: usize, width: usize, classes: usize, key: Key) -> Samples {
    let mut stream = key.stream();
    let features = Features::from_f64(stream.normals(n * width), n, width).unwrap();
    // Every class at least once.
    let labels = (0..n).map(|i| if i < classes { i as u32 } else { stream.below(classes).unwrap() as u32 }).collect();
    Samples::new(features, Targets::classes(labels, classes).unwrap()).unwrap()
}

/// The same problem written out sample by sample: probabilities of all classes, from θ column by column (one column, or one a class).
struct Dense<'a> {
    train: &'a Samples,
    validation: &'a Samples,
    strength: Strength,
    classes: usize,
}

impl Dense<'_> {
    fn columns(&self) -> usize {
        if self.classes == 2 { 1 } else { self.classes }
    }

    /// x_i, and p_c − 1{y = c} for the classes that have a column, with the probabilities.
    fn sample(&self, samples: &Samples, i: usize, theta: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let x = samples.features.gather(Batch::Indices(&[i])).unwrap().into_vec();
        let label = samples.targets.as_classes().unwrap().0[i] as usize;
        let mut logits: Vec<f64> = theta.chunks(x.len()).map(|w| dot(w, &x)).collect();
        if self.classes == 2 {
            logits.insert(0, 0.0);
        }
        let total: f64 = logits.iter().map(|z| z.exp()).sum();
        let p: Vec<f64> = logits.iter().map(|z| z.exp() / total).collect();
        let residual: Vec<f64> = p.iter().enumerate().map(|(c, p)| p - if c == label { 1.0 } else { 0.0 }).collect();
        let skip = self.classes - self.columns();
        (x, residual[skip..].to_vec(), p[skip..].to_vec())
    }

    fn strength_of(&self, j: usize, width: usize) -> usize {
        match self.strength {
            Strength::Feature => j % width,
            Strength::Class => j / width,
        }
    }

    /// −JᵀH⁻¹b, with H, J and b assembled entry by entry.
    fn hypergradient(&self, v: &[f64], theta: &[f64]) -> Vec<f64> {
        let (d2, width) = (theta.len(), self.train.features.width());
        let strength = |j: usize| v[self.strength_of(j, width)].exp();
        let mut h = Matrix::from_fn(d2, d2, |i, j| if i == j { strength(j) } else { 0.0 });
        for i in 0..self.train.len() {
            let (x, _, p) = self.sample(self.train, i, theta);
            for (a, b) in (0..d2).flat_map(|a| (0..d2).map(move |b| (a, b))) {
                let (k, l) = (a / width, b / width);
                let curvature = if k == l { p[k] } else { 0.0 } - p[k] * p[l];
                h[(a, b)] += curvature * x[a % width] * x[b % width] / self.train.len() as f64;
            }
        }
        let mut b = vec![0.0; d2];
        for i in 0..self.validation.len() {
            let (x, residual, _) = self.sample(self.validation, i, theta);
            (0..d2).for_each(|j| b[j] += residual[j / width] * x[j % width] / self.validation.len() as f64);
        }
        let q = Cholesky::new(h).unwrap().solve(&b).unwrap();
        let entry = |j: usize, s: usize| if self.strength_of(j, width) == s { strength(j) * theta[j] } else { 0.0 };
        let jacobian = Matrix::from_fn(d2, v.len(), entry);
        matvec(jacobian.t(), &q).unwrap().iter().map(|x| -x).collect()
    }
}

#[test]
fn hypergradients_are_those_of_dense_algebra_and_of_differences_of_the_value_function() {
    for (classes, strength) in [2, 4].into_iter().flat_map(|c| [Strength::Feature, Strength::Class].map(|s| (c, s))) {
        let (train, validation) = (random_samples(50, 5, classes, Key::new(1)), random_samples(30, 5, classes, Key::new(2)));
        let problem = RegularizationSelection::new(train.clone(), validation.clone(), None, strength, -2.0).unwrap();
        let columns = if classes == 2 { 1 } else { classes };
        assert_eq!(problem.inner_dim(), 5 * columns);
        assert_eq!(problem.outer_dim(), if strength == Strength::Feature { 5 } else { columns });
        let v: Vec<f64> = Key::new(3).stream().normals(problem.outer_dim()).iter().map(|x| x - 2.0).collect();
        let solution = inner_solution(&problem, &v, &problem.initial().1, NewtonOptions::default()).unwrap();
        assert!(solution.status.is_converged());
        let found = exact_hypergradient(&problem, &v, &solution.theta).unwrap();
        let dense = Dense { train: &train, validation: &validation, strength, classes };
        let expected = dense.hypergradient(&v, &solution.theta);
        assert!(relative(&found, &expected) < 1e-10, "{classes} classes, {strength:?}: {:e}", relative(&found, &expected));
        let u = Key::new(4).stream().normals(v.len());
        let slope = value_difference(&problem, &v, &solution.theta, &u, 1e-4).unwrap();
        assert!((slope - dot(&expected, &u)).abs() < 1e-7 * norm(&expected) * norm(&u), "{classes} classes, {strength:?}");
        // Strengths that are a thousandth larger have another hypergradient.
        let other: Vec<f64> = v.iter().map(|v| v + 1e-3).collect();
        assert!(relative(&dense.hypergradient(&other, &solution.theta), &expected) > 1e-5);
    }
}

#[test]
fn the_rows_of_the_cross_derivative_are_its_columns() {
    for (classes, strength) in [2, 3].into_iter().flat_map(|c| [Strength::Feature, Strength::Class].map(|s| (c, s))) {
        let samples = random_samples(20, 4, classes, Key::new(5));
        let problem = RegularizationSelection::new(samples.clone(), samples, None, strength, -1.0).unwrap();
        let mut stream = Key::new(6).stream();
        let (v, theta) = (stream.normals(problem.outer_dim()), stream.normals(problem.inner_dim()));
        let rows = problem.cross_rows(&v, &theta).unwrap().unwrap().expand(0..v.len()).unwrap();
        for s in 0..v.len() {
            let unit: Vec<f64> = (0..v.len()).map(|i| if i == s { 1.0 } else { 0.0 }).collect();
            let column = problem.cross_jvp(&v, &theta, Batch::Indices(&[7]), &unit).unwrap();
            assert!(relative(rows.col(s), &column) < 1e-15, "{classes} classes, {strength:?}, strength {s}");
        }
        let constants = problem.constants(&v).unwrap().unwrap();
        let least = v.iter().copied().fold(f64::INFINITY, f64::min).exp();
        assert!((constants.strong_convexity / least - 1.0).abs() < 1e-15);
    }
}

/// Lipschitz constants against quotients of differences between random points.
#[test]
fn the_constants_are_never_exceeded() {
    for (classes, strength) in [2, 3].into_iter().flat_map(|c| [Strength::Feature, Strength::Class].map(|s| (c, s))) {
        let (train, validation) = (random_samples(20, 4, classes, Key::new(7)), random_samples(10, 4, classes, Key::new(8)));
        let problem = RegularizationSelection::new(train, validation, None, strength, -1.0).unwrap();
        let mut stream = Key::new(9).stream();
        let v = stream.normals(problem.outer_dim());
        let constants = problem.constants(&v).unwrap().unwrap();
        let mut largest = [0.0_f64; 3];
        for trial in 0..100 {
            let theta: Vec<f64> = stream.normals(problem.inner_dim()).iter().map(|x| x * 0.5).collect();
            let other: Vec<f64> = theta.iter().zip(stream.normals(theta.len())).map(|(a, b)| a + 0.1 * b).collect();
            let (u, w) = (stream.normals(theta.len()), stream.normals(v.len()));
            let distance = norm(&difference(&theta, &other));
            let quotient =
                |f: &dyn Fn(&[f64]) -> Vec<f64>, scale: f64| norm(&difference(&f(&theta), &f(&other))) / (distance * scale);
            let found = [
                quotient(&|t| problem.grad_outer(&v, t, Batch::All).unwrap().theta, 1.0),
                quotient(&|t| problem.hvp(&v, t, Batch::All, &u).unwrap(), norm(&u)),
                quotient(&|t| problem.cross_jvp(&v, t, Batch::All, &w).unwrap(), norm(&w)),
            ];
            let bounds = [constants.right_hand_side, constants.hessian, constants.cross];
            assert!(found.iter().zip(bounds).all(|(f, b)| *f <= b * (1.0 + 1e-12)), "trial {trial}: {found:?} against {bounds:?}");
            largest.iter_mut().zip(found.iter().zip(bounds)).for_each(|(l, (f, b))| *l = l.max(f / b));
        }
        assert!(largest.iter().all(|&share| share > 1e-3), "of the right order: {largest:?}");
    }
}

/// Φ and its gradient at v, by Newton's method.
fn value_and_gradient(problem: &RegularizationSelection, v: &[f64], start: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
    let theta = inner_solution(problem, v, start, NewtonOptions::default()).unwrap().theta;
    let gradient = exact_hypergradient(problem, v, &theta).unwrap();
    (problem.f_outer(v, &theta, Batch::All).unwrap(), gradient, theta)
}

#[test]
fn features_that_do_not_matter_are_given_the_larger_strengths() {
    let relevant = 5;
    let data = RegularizationData::Sparse { samples: 2300, width: 25, relevant, signal: 1.0 };
    let problem = load(&RegularizationConfig { data, train: 100, validation: 200, intercept: false, ..Default::default() }, 10);
    let (mut v, mut theta) = problem.initial();
    let mut value = f64::INFINITY;
    for _ in 0..60 {
        let (now, gradient, solution) = value_and_gradient(&problem, &v, &theta);
        (value, theta) = (now, solution);
        axpy(-20.0, &gradient, &mut v);
    }
    let mean = |range: std::ops::Range<usize>| v[range.clone()].iter().sum::<f64>() / range.len() as f64;
    assert!(mean(relevant..25) > mean(0..relevant) + 1.0, "{v:?}");
    let test_loss = |theta: &[f64], v: &[f64]| problem.metrics(v, theta).unwrap()[3];
    assert_eq!(problem.metric_names()[3], "test_loss");
    let chosen = test_loss(&theta, &v);
    for baseline in problem.baselines().unwrap() {
        let (shared, _, solution) = value_and_gradient(&problem, &baseline.outer_var, &theta);
        assert!(value < shared, "{}: {value} against {shared}", baseline.name);
        let other = test_loss(&solution, &baseline.outer_var);
        println!("{}: validation {shared:.4} against {value:.4}, test {other:.4} against {chosen:.4}", baseline.name);
        assert!(chosen < other, "{}: on samples that nothing was fitted to", baseline.name);
    }
}

/// Rows as LIBSVM's lines, zeros left out.
fn as_text(samples: &Samples, label: impl Fn(u32) -> String) -> String {
    let rows = samples.features.gather(Batch::All).unwrap();
    let mut text = String::new();
    for (i, &y) in samples.targets.as_classes().unwrap().0.iter().enumerate() {
        write!(text, "{}", label(y)).unwrap();
        rows.col(i).iter().enumerate().filter(|(_, x)| **x != 0.0).for_each(|(j, x)| write!(text, " {}:{x}", j + 1).unwrap());
        text.push('\n');
    }
    text
}

/// The digits written out as one file are the problem of the embedded digits, bit by bit; files of their own are used whole.
#[test]
fn data_from_files_are_the_same_data() {
    let dir = tempfile::tempdir().unwrap();
    let source = DataSource { folder: Some(dir.path().to_path_buf()) };
    let digits = nhgd::data::digits().unwrap();
    fs::write(dir.path().join("digits.txt"), as_text(&digits, |y| (y + 1).to_string())).unwrap();
    let libsvm = |validation: Option<&str>, test: Option<&str>| RegularizationData::Libsvm {
        train: "digits.txt".into(),
        validation: validation.map(Into::into),
        test: test.map(Into::into),
    };
    let base = RegularizationConfig { features: FeatureScale::Standardized, ..Default::default() };
    let read =
        RegularizationSelection::load(&RegularizationConfig { data: libsvm(None, None), ..base.clone() }, &source, Key::new(1));
    let (read, embedded) = (read.unwrap(), load(&base, 1));
    let theta = Key::new(2).stream().normals(embedded.inner_dim());
    let v = embedded.initial().0;
    assert_eq!(read.grad_inner(&v, &theta, Batch::All).unwrap(), embedded.grad_inner(&v, &theta, Batch::All).unwrap());
    assert_eq!(read.metrics(&v, &theta).unwrap(), embedded.metrics(&v, &theta).unwrap());

    fs::write(dir.path().join("two.txt"), "3 1:1\n4 64:0.5\n").unwrap();
    let config = RegularizationConfig { data: libsvm(Some("two.txt"), Some("two.txt")), train: 1797, validation: 2, ..base };
    let problem = RegularizationSelection::load(&config, &source, Key::new(1)).unwrap();
    assert_eq!((problem.inner_samples(), problem.outer_samples()), (1797, 2));
    assert!(problem.metrics(&v, &theta).unwrap().iter().all(|x| x.is_finite()));
    let config = RegularizationConfig { data: libsvm(Some("two.txt"), None), ..config };
    let metrics = RegularizationSelection::load(&config, &source, Key::new(1)).unwrap().metrics(&v, &theta).unwrap();
    assert!(metrics[2].is_nan() && metrics[1].is_finite(), "nothing is left for a test");
}

#[test]
fn standardized_features_have_a_second_moment_of_1_on_the_training_samples() {
    let config = RegularizationConfig {
        features: FeatureScale::Standardized,
        intercept: false,
        strength: Strength::Class,
        ..Default::default()
    };
    let problem = load(&config, 3);
    let (v, zero) = (vec![-800.0; 10], vec![0.0; problem.inner_dim()]);
    // H at 0 is (diag(p) − ppᵀ) ⊗ XᵀX/n with p = 1/10: its diagonal is 0.09 times the second moment.
    let hessian = problem.hessian(&v, &zero).unwrap();
    let moments: Vec<f64> = (0..64).map(|j| hessian[(j, j)] / 0.09).collect();
    let constant = moments.iter().filter(|m| **m == 0.0).count();
    assert!((3..10).contains(&constant), "three pixels are blank in every digit: {constant}");
    assert!(moments.iter().all(|m| *m == 0.0 || (m - 1.0).abs() < 1e-5), "{moments:?}");
}

#[test]
fn starts_are_those_of_the_settings_and_depend_on_the_key() {
    let base = RegularizationConfig { train: 50, validation: 20, ..Default::default() };
    assert_eq!(load(&base, 1).initial(), (vec![-2.0; 65], vec![0.0; 650]));
    let drawn = RegularizationConfig { initial: InitialStrength::Uniform {}, initial_inner: InitialInner::Normal, ..base };
    let (v, theta) = load(&drawn, 1).initial();
    assert!(v.iter().all(|v| *v <= 0.0) && v.iter().any(|v| *v > -0.5) && v.iter().any(|v| *v < -1.0));
    // 650 standard normal numbers.
    assert!((norm(&theta) / 650.0_f64.sqrt() - 1.0).abs() < 0.15);
    assert_eq!(load(&drawn, 1).initial(), (v.clone(), theta));
    assert_ne!(load(&drawn, 2).initial().0, v);
}

#[test]
fn held_out_folds_part_the_validation_samples() {
    let problem = load(&RegularizationConfig { train: 60, validation: 30, ..Default::default() }, 4);
    let (v, theta) = (problem.initial().0, Key::new(5).stream().normals(problem.inner_dim()));
    let held_out = problem.hold_out(1, 3).unwrap().unwrap();
    let (fit, judge) = (held_out.fit, held_out.judge);
    assert_eq!((fit.outer_samples(), judge.outer_samples(), fit.inner_samples()), (20, 10, 60));
    let f = |p: &dyn Problem| p.f_outer(&v, &theta, Batch::All).unwrap();
    assert!((20.0 * f(fit.as_ref()) + 10.0 * f(judge.as_ref()) - 30.0 * f(&problem)).abs() < 1e-10 * 30.0 * f(&problem));
    assert_ne!(f(fit.as_ref()), f(judge.as_ref()));
    assert!(fit.metrics(&v, &theta).unwrap()[2].is_nan(), "test samples are out of sight");
    refused(problem.hold_out(0, 1), "folds");
    refused(problem.hold_out(0, 31), "folds");
    refused(problem.hold_out(3, 3), "fold");
}

#[test]
fn bad_settings_are_refused_by_name() {
    let base = RegularizationConfig::default;
    let build = |config: RegularizationConfig| RegularizationSelection::load(&config, &DataSource::default(), Key::new(0));
    refused(build(RegularizationConfig { train: 0, ..base() }), "train");
    refused(build(RegularizationConfig { train: 1798, ..base() }), "train");
    refused(build(RegularizationConfig { validation: 0, ..base() }), "validation");
    refused(build(RegularizationConfig { validation: 998, ..base() }), "validation");
    refused(build(RegularizationConfig { initial: InitialStrength::Constant(f64::NAN), ..base() }), "initial");
    let sparse = |samples, width, relevant, signal| RegularizationConfig {
        data: RegularizationData::Sparse { samples, width, relevant, signal },
        ..base()
    };
    refused(build(sparse(0, 5, 1, 1.0)), "samples");
    refused(build(sparse(2000, 0, 0, 1.0)), "width");
    refused(build(sparse(2000, 5, 6, 1.0)), "relevant");
    refused(build(sparse(2000, 5, 1, f64::NAN)), "signal");
    let problem = load(&RegularizationConfig { train: 50, validation: 20, ..base() }, 1);
    refused(problem.f_inner(&[800.0; 65], &[0.0; 650], Batch::All), "outer_var");
    refused(problem.cross_vjp(&[0.0; 65], &[0.0; 650], Batch::Indices(&[50]), &[0.0; 650]), "batch");
    refused(problem.cross_vjp(&[0.0; 65], &[0.0; 650], Batch::All, &[0.0; 65]), "direction");
}

#[test]
fn a_bad_file_is_one_line_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    let text = r#"
title = "files"
seeds = [0]
[problem.regularization-selection]
data.libsvm = { train = "train.txt" }
train = 2
validation = 1
[[runs]]
label = "nhgd"
outer_steps = 1
[runs.method.nhgd]
"#;
    fs::write(&config, text).unwrap();
    let out = dir.path().join("out");
    let run = |out: &Path| {
        let arguments = ["run", config.to_str().unwrap(), "--out", out.to_str().unwrap(), "--data", dir.path().to_str().unwrap()];
        Command::new(env!("CARGO_BIN_EXE_nhgd")).args(arguments).env_remove("NHGD_DATA").output().unwrap()
    };
    let message = |contents: &str, code: i32| {
        fs::write(dir.path().join("train.txt"), contents).unwrap();
        let output = run(&out);
        let line = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert_eq!((output.status.code(), line.lines().count()), (Some(code), 1), "{line}");
        assert!(!out.exists());
        line
    };
    assert!(message("1 1:1\n2 1:x\n", 1).ends_with("train.txt: line 2: `1:x`: expected a finite number after the colon"));
    assert!(message("1 1:1\n2 1:2\n", 2).contains("validation: expected at most the 0 samples that training leaves"));
    fs::write(dir.path().join("train.txt"), "1 1:1\n2 1:2 3:1\n1 2:1\n2 3:-1\n").unwrap();
    let output = run(&out);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
