//! What the theory says of Fisher estimates, on models whose population Hessian is known exactly: at the generating parameter the
//! error falls as n^(−1/2); where the model is wrong, the observed labels' error flattens at a bias that is computed beforehand.
//! Unit weights, no ridge, every row with a fresh x and a fresh label; errors in the Frobenius norm.

use nhgd::bounds::{Slope, log_log_slope, slope_with_limits};
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::{Matrix, dot, matmul, matmul_add, matvec};
use nhgd::model::{FisherKind, Gaussian, Model, Softmax, Weighted};
use nhgd::par;
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Targets};

/// Three and a half decades.
const ROWS: [usize; 8] = [30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000];
const SEEDS: u64 = 40;

/// ‖F_n − H‖ for each number of rows, along one stream; `fresh(m, key)` draws m samples with their observed labels.
fn errors(
    model: &dyn Model,
    theta: &[f64],
    population: &Matrix,
    kind: FisherKind,
    key: Key,
    fresh: &(dyn Fn(usize, Key) -> Samples + Sync),
) -> Vec<f64> {
    let mut estimate = CurvatureConfig::default_of("dense").unwrap().build(model.dim(), key).unwrap();
    let mut absorbed = 0;
    let mut error_at = |&rows: &usize| {
        let key = key.child(rows as u64);
        let samples = fresh(rows - absorbed, key.named("samples"));
        let data = Weighted::ones(&samples, Batch::All);
        estimate.absorb(&model.scores(data, theta, kind, key.named("drawn labels")).unwrap()).unwrap();
        absorbed = rows;
        let mut difference = estimate.approximate().unwrap().to_dense().unwrap();
        difference.add_scaled(-1.0, population).unwrap();
        difference.norm()
    };
    ROWS.iter().map(&mut error_at).collect()
}

/// The slope over the seeds, with 95 % limits, and the geometric mean of the last errors.
fn slope(
    what: &str,
    (model, theta, population): (&dyn Model, &[f64], &Matrix),
    kind: FisherKind,
    fresh: &(dyn Fn(usize, Key) -> Samples + Sync),
) -> (Slope, f64) {
    let stream = |seed| errors(model, theta, population, kind, Key::new(seed), fresh);
    let replicates = par::map((0..SEEDS).collect(), stream);
    let rows = ROWS.map(|rows| rows as f64);
    let slope = slope_with_limits(&rows, &replicates, 0.95).unwrap();
    let mean = |i: usize, f: fn(f64) -> f64| replicates.iter().map(|errors| f(errors[i])).sum::<f64>() / SEEDS as f64;
    let rms: Vec<f64> = (0..ROWS.len()).map(|i| mean(i, |error| error * error).sqrt()).collect();
    let last = mean(ROWS.len() - 1, f64::ln).exp();
    println!(
        "{what}, {}: slope {:.3} [{:.3}, {:.3}], of the root mean square {:.3}, last relative error {:.2e}",
        kind.name(),
        slope.mean,
        slope.lower,
        slope.upper,
        log_log_slope(&rows, &rms).unwrap(),
        last / population.norm()
    );
    (slope, last)
}

/// Slope −0.5 ± 0.05, its limits included.
fn is_one_over_root(slope: Slope) -> bool {
    slope.lower >= -0.55 && slope.upper <= -0.45
}

/// y ~ N(xᵀθ, σ²) with x ~ N(0, Σ), Σ = RRᵀ of eigenvalues 1, 1/2, …, 1/8 in random directions: the population Hessian is Σ/σ².
struct Linear {
    model: Gaussian,
    theta: Vec<f64>,
    root: Matrix,
    population: Matrix,
}

impl Linear {
    const DIM: usize = 8;

    fn new() -> Self {
        let d = Self::DIM;
        let variance = 0.5;
        let normals = Matrix::from_columns(d, d, Key::new(100).stream().normals(d * d)).unwrap();
        let (directions, _) = nhgd::dense::qr(&normals).unwrap();
        let root = Matrix::from_fn(d, d, |i, j| directions[(i, j)] / (j as f64 + 1.0).sqrt());
        let mut population = matmul(&root, root.t()).unwrap();
        population.scale(1.0 / variance);
        Self { model: Gaussian::new(d, variance).unwrap(), theta: Key::new(101).stream().normals(d), root, population }
    }

    /// Fresh rows whose labels come from `truth`.
    fn fresh(&self, truth: &[f64], count: usize, key: Key) -> Samples {
        let d = Self::DIM;
        let normals = Matrix::from_columns(d, count, key.named("x").stream().normals(d * count)).unwrap();
        let features = Features::from_f64(matmul(&self.root, &normals).unwrap().into_vec(), count, d).unwrap();
        labelled(&self.model, features, truth, key)
    }
}

/// The features with labels drawn from the model at `truth`.
fn labelled(model: &dyn Model, features: Features, truth: &[f64], key: Key) -> Samples {
    let placeholder = match model.name() {
        Gaussian::NAME => Targets::real(vec![0.0; features.samples()]).unwrap(),
        _ => Targets::classes(vec![0; features.samples()], CLASSES).unwrap(),
    };
    let unlabelled = Samples::new(features, placeholder).unwrap();
    let targets = model.sample_targets(&unlabelled, Batch::All, truth, key.named("y")).unwrap();
    Samples::new(unlabelled.features, targets).unwrap()
}

const CLASSES: usize = 3;

/// Softmax on a finite population: x uniform on 50 points, so that the population Hessian is a finite sum.
struct Finite {
    model: Softmax,
    theta: Vec<f64>,
    points: Features,
    population: Matrix,
}

impl Finite {
    fn new() -> Self {
        let (count, width) = (50, 3);
        let points = Features::from_f64(Key::new(200).stream().normals(count * width), count, width).unwrap().with_intercept();
        let model = Softmax::new(width + 1, CLASSES).unwrap();
        let theta = Key::new(201).stream().normals(model.dim());
        let every = Samples::new(points.clone(), Targets::classes(vec![0; count], CLASSES).unwrap()).unwrap();
        let population = model.hessian(Weighted::ones(&every, Batch::All), &theta).unwrap();
        Self { model, theta, points, population }
    }

    fn fresh(&self, truth: &[f64], count: usize, key: Key) -> Samples {
        let indices = key.named("x").stream().indices(self.points.samples(), count).unwrap();
        labelled(&self.model, self.points.select(&indices).unwrap(), truth, key)
    }
}

#[test]
fn fisher_estimates_approach_the_population_hessian_as_one_over_the_root_of_the_rows() {
    let (linear, finite) = (Linear::new(), Finite::new());
    for kind in [FisherKind::Empirical, FisherKind::Sampled] {
        let gaussian = (&linear.model as &dyn Model, linear.theta.as_slice(), &linear.population);
        let (found, _) = slope("gaussian", gaussian, kind, &|count, key| linear.fresh(&linear.theta, count, key));
        assert!(is_one_over_root(found), "gaussian {kind:?}: {found:?}");
        let softmax = (&finite.model as &dyn Model, finite.theta.as_slice(), &finite.population);
        let (found, _) = slope("softmax", softmax, kind, &|count, key| finite.fresh(&finite.theta, count, key));
        assert!(is_one_over_root(found), "softmax {kind:?}: {found:?}");
    }
}

/// θ away from the truth by Δ. Of the Gaussian the observed labels then give E r² x xᵀ/σ⁴ with r ~ N(xᵀΔ, σ²), which is
/// H + (ΔᵀΣΔ Σ + 2 ΣΔΔᵀΣ)/σ⁴ (Isserlis 1918); of softmax a finite sum over points and labels.
#[test]
fn a_wrong_model_s_empirical_error_flattens_at_its_bias_and_the_sampled_one_does_not() {
    let linear = Linear::new();
    let theta: Vec<f64> = linear.theta.iter().map(|t| t + 0.3).collect();
    let variance = linear.model.variance();
    let delta = Matrix::column(vec![0.3; Linear::DIM]);
    let mut covariance = linear.population.clone();
    covariance.scale(variance);
    let image = Matrix::column(matvec(&covariance, delta.as_slice()).unwrap());
    let mut bias = covariance.clone();
    bias.scale(dot(delta.as_slice(), image.as_slice()));
    matmul_add(&mut bias, 2.0, &image, image.t()).unwrap();
    bias.scale(1.0 / (variance * variance));
    let gaussian = (&linear.model as &dyn Model, theta.as_slice(), &linear.population);
    flattens("gaussian, wrong θ", gaussian, bias.norm(), &|count, key| linear.fresh(&linear.theta, count, key));

    let finite = Finite::new();
    let theta: Vec<f64> = finite.theta.iter().map(|t| 0.3 * t).collect();
    let (count, d) = (finite.points.samples(), finite.model.dim());
    let (mut bias, mut population) = (Matrix::zeros(d, d), Matrix::zeros(d, d));
    for i in 0..count {
        for y in 0..CLASSES as u32 {
            let point = Samples::new(finite.points.select(&[i]).unwrap(), Targets::classes(vec![y], CLASSES).unwrap()).unwrap();
            let one = Weighted::ones(&point, Batch::All);
            let score = Matrix::column(finite.model.gradient(one, &theta).unwrap());
            let truth = (-finite.model.losses(&point, Batch::All, &finite.theta).unwrap()[0]).exp();
            matmul_add(&mut bias, truth / count as f64, &score, score.t()).unwrap();
            if y == 0 {
                population.add_scaled(1.0 / count as f64, &finite.model.hessian(one, &theta).unwrap()).unwrap();
            }
        }
    }
    bias.add_scaled(-1.0, &population).unwrap();
    let softmax = (&finite.model as &dyn Model, theta.as_slice(), &population);
    flattens("softmax, wrong θ", softmax, bias.norm(), &|count, key| finite.fresh(&finite.theta, count, key));
}

fn flattens(what: &str, at: (&dyn Model, &[f64], &Matrix), bias: f64, fresh: &(dyn Fn(usize, Key) -> Samples + Sync)) {
    let (sampled, last) = slope(what, at, FisherKind::Sampled, fresh);
    assert!(is_one_over_root(sampled) && last < 0.2 * bias, "{what}: {sampled:?}");
    let (empirical, last) = slope(what, at, FisherKind::Empirical, fresh);
    println!("{what}: last empirical error over the bias {:.3}", last / bias);
    assert!(!is_one_over_root(empirical) && !empirical.covers(-0.5), "{what}: {empirical:?}");
    assert!((last / bias - 1.0).abs() < 0.1, "{what}: {last} for the bias {bias}");
}
