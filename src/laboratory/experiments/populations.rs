//! Populations whose Hessian and Fisher matrices are known exactly, model right or wrong: x uniform on finitely many points with a known law
//! of y at each, where every expectation is a finite sum; and Gaussian regression on normal features, where they are closed forms. The
//! sums here are written out from the definitions and share nothing with the models' own scores.

use crate::dense::{Matrix, axpy, difference, dot, matmul, matvec, norm, qr};
use crate::error::{Error, Result, check_count, check_len};
use crate::model::{FisherKind, Gaussian, Model, Softmax, Weighted};
use crate::par::blocks_of;
use crate::rng::{Key, Stream};
use crate::samples::{Batch, Features, Samples, Targets};

/// The law of y at each point.
#[derive(Debug, Clone)]
pub enum Labels {
    /// P(y = c | x_i), classes × points.
    Classes(Matrix),
    /// y ~ N(mean_i, variance).
    Real {
        /// E[y | x_i].
        means: Vec<f64>,
        /// Var[y | x_i].
        variance: f64,
    },
}

/// A model that sees `features`, and the law that labels really have: x uniform on the points.
pub struct Population {
    model: Box<dyn Model>,
    /// σ² of a Gaussian model.
    variance: f64,
    features: Features,
    /// The same as columns.
    points: Matrix,
    labels: Labels,
}

/// Gradient norm to which the minimizer is found.
const GRADIENT_NORM: f64 = 1e-12;
const MOST_NEWTON_STEPS: usize = 100;

impl Population {
    /// Softmax regression on these points (width × points) and this law of labels.
    ///
    /// # Errors
    /// [`Error::Shape`] where points and law differ in number, [`Error::Argument`] for fewer than 2 classes.
    pub fn softmax(points: Matrix, probabilities: Matrix) -> Result<Self> {
        check_len("points with a law", probabilities.ncols(), points.ncols())?;
        let model = Softmax::new(points.nrows(), probabilities.nrows())?;
        Self::new(Box::new(model), f64::NAN, points, Labels::Classes(probabilities))
    }

    /// Gaussian regression with variance `assumed` on these points (width × points) and this law of targets.
    ///
    /// # Errors
    /// [`Error::Shape`] where points and means differ in number, [`Error::Argument`] for a bad variance.
    pub fn gaussian(points: Matrix, assumed: f64, means: Vec<f64>, variance: f64) -> Result<Self> {
        check_len("points with a law", means.len(), points.ncols())?;
        let model = Gaussian::new(points.nrows(), assumed)?;
        Self::new(Box::new(model), assumed, points, Labels::Real { means, variance })
    }

    fn new(model: Box<dyn Model>, variance: f64, points: Matrix, labels: Labels) -> Result<Self> {
        let features = Features::from_f64(points.as_slice().to_vec(), points.ncols(), points.nrows())?;
        Ok(Self { model, variance, features, points, labels })
    }

    /// The model.
    pub fn model(&self) -> &dyn Model {
        self.model.as_ref()
    }

    /// `count` samples with fresh x and y.
    ///
    /// # Errors
    /// [`Error::Argument`] for no samples.
    pub fn draw(&self, count: usize, key: Key) -> Result<Samples> {
        check_count("samples", count)?;
        let indices = key.named("x").stream().indices(self.points.ncols(), count)?;
        let mut stream = key.named("y").stream();
        let targets = match &self.labels {
            Labels::Classes(law) => {
                Targets::classes(indices.iter().map(|&i| draw_class(law.col(i), &mut stream)).collect(), law.nrows())?
            }
            Labels::Real { means, variance } => {
                Targets::real(indices.iter().map(|&i| means[i] + variance.sqrt() * stream.normal()).collect())?
            }
        };
        Samples::new(self.features.select(&indices)?, targets)
    }

    /// Σ_i (1/N) x_i x_iᵀ ⊗ W_i, for an outputs × outputs matrix W_i of each point; parameters in the models' order.
    fn sum(&self, outputs: usize, weight: impl Fn(usize) -> Result<Matrix>) -> Result<Matrix> {
        let (p, n) = (self.points.nrows(), self.points.ncols());
        let mut sum = Matrix::zeros(p * outputs, p * outputs);
        for i in 0..n {
            let (x, w) = (self.points.col(i), weight(i)?);
            for column in 0..p * outputs {
                for row in 0..p * outputs {
                    sum[(row, column)] += x[row % p] * x[column % p] * w[(row / p, column / p)] / n as f64;
                }
            }
        }
        Ok(sum)
    }

    /// E[∇²ℓ], without any ridge: Σ (1/N) (diag p − ppᵀ) ⊗ xxᵀ, or Σ (1/N) xxᵀ/σ².
    ///
    /// # Errors
    /// [`Error::Shape`] for a θ of another length.
    pub fn hessian(&self, theta: &[f64]) -> Result<Matrix> {
        check_len("theta", theta.len(), self.model.dim())?;
        match &self.labels {
            Labels::Classes(law) => self.sum(law.nrows(), |i| Ok(covariance(&self.probabilities(i, theta)))),
            Labels::Real { .. } => self.sum(1, |_| Ok(Matrix::column(vec![1.0 / self.variance]))),
        }
    }

    /// E[s sᵀ] over x and the labels of this kind: those of the population's law for `empirical`, those of the model at θ otherwise.
    ///
    /// # Errors
    /// [`Error::Shape`] for a θ of another length.
    pub fn fisher(&self, theta: &[f64], kind: FisherKind) -> Result<Matrix> {
        check_len("theta", theta.len(), self.model.dim())?;
        match &self.labels {
            Labels::Classes(law) => self.sum(law.nrows(), |i| {
                let p = self.probabilities(i, theta);
                let labels = if kind == FisherKind::Empirical { law.col(i) } else { &p };
                // Σ_c P(c) (p − e_c)(p − e_c)ᵀ
                let residual = |k: usize, c: usize| p[k] - f64::from(u8::from(k == c));
                let entry = |k: usize, l: usize| (0..p.len()).map(|c| labels[c] * residual(k, c) * residual(l, c)).sum();
                Ok(Matrix::from_fn(p.len(), p.len(), entry))
            }),
            Labels::Real { means, variance } => self.sum(1, |i| {
                // E (xᵀθ − y)²/σ⁴
                let square = match kind {
                    FisherKind::Empirical => (dot(self.points.col(i), theta) - means[i]).powi(2) + variance,
                    FisherKind::Sampled | FisherKind::Expected => self.variance,
                };
                Ok(Matrix::column(vec![square / self.variance.powi(2)]))
            }),
        }
    }

    /// E‖S − E S‖²_F for the contribution S of one sample: what n · E‖F_n − E F_n‖² is.
    ///
    /// # Errors
    /// [`Error::Shape`] for a θ of another length.
    pub fn scatter(&self, theta: &[f64], kind: FisherKind) -> Result<f64> {
        let mean = self.fisher(theta, kind)?;
        let square = |i: usize| {
            let x4 = dot(self.points.col(i), self.points.col(i)).powi(2);
            let labels = match &self.labels {
                Labels::Classes(law) => {
                    let p = self.probabilities(i, theta);
                    let fourth = |c: usize| {
                        let squares = (0..p.len()).map(|k| (p[k] - f64::from(u8::from(k == c))).powi(2));
                        squares.sum::<f64>().powi(2)
                    };
                    match kind {
                        FisherKind::Empirical => (0..p.len()).map(|c| law[(c, i)] * fourth(c)).sum(),
                        FisherKind::Sampled => (0..p.len()).map(|c| p[c] * fourth(c)).sum(),
                        FisherKind::Expected => covariance(&p).norm().powi(2),
                    }
                }
                Labels::Real { means, variance } => {
                    let bias = (dot(self.points.col(i), theta) - means[i]).powi(2);
                    let fourth = match kind {
                        // E (b + σε)⁴
                        FisherKind::Empirical => bias * bias + 6.0 * bias * variance + 3.0 * variance * variance,
                        FisherKind::Sampled => 3.0 * self.variance.powi(2),
                        FisherKind::Expected => self.variance.powi(2),
                    };
                    fourth / self.variance.powi(4)
                }
            };
            x4 * labels
        };
        let n = self.points.ncols();
        Ok((0..n).map(square).sum::<f64>() / n as f64 - mean.norm().powi(2))
    }

    /// The minimizer of E ℓ + (λ/2)‖θ‖², by Newton's method to a gradient of norm 1e-12. Where λ = 0 and the model has null directions (softmax), a
    /// tiny ridge of the Newton system alone picks the minimizer near 0.
    ///
    /// # Errors
    /// [`Error::Numerical`] where it is not found.
    pub fn minimizer(&self, ridge: f64) -> Result<Vec<f64>> {
        let mut theta = vec![0.0; self.model.dim()];
        for _ in 0..MOST_NEWTON_STEPS {
            let mut gradient = self.gradient(&theta);
            axpy(ridge, &theta, &mut gradient);
            if norm(&gradient) <= GRADIENT_NORM {
                return Ok(theta);
            }
            let mut hessian = self.hessian(&theta)?;
            let diagonal = ridge + 1e-10 * hessian.trace();
            (0..theta.len()).for_each(|j| hessian[(j, j)] += diagonal);
            let step = crate::dense::Cholesky::new(hessian)?.solve(&gradient)?;
            theta = difference(&theta, &step);
        }
        let reason = format!("no gradient of norm {GRADIENT_NORM:e} after {MOST_NEWTON_STEPS} Newton steps");
        Err(Error::Numerical { operation: "minimizing the expected loss", reason })
    }

    /// E s over x and the labels of the population's law.
    pub fn gradient(&self, theta: &[f64]) -> Vec<f64> {
        let (p, n) = (self.points.nrows(), self.points.ncols());
        let mut sum = vec![0.0; theta.len()];
        for i in 0..n {
            let delta: Vec<f64> = match &self.labels {
                Labels::Classes(law) => difference(&self.probabilities(i, theta), law.col(i)),
                Labels::Real { means, .. } => vec![(dot(self.points.col(i), theta) - means[i]) / self.variance],
            };
            for (k, delta) in delta.iter().enumerate() {
                axpy(delta / n as f64, self.points.col(i), &mut sum[k * p..(k + 1) * p]);
            }
        }
        sum
    }

    /// The model's class probabilities at point i.
    fn probabilities(&self, i: usize, theta: &[f64]) -> Vec<f64> {
        softmax(self.points.col(i), theta)
    }
}

/// The class probabilities of a softmax model, θ class by class.
pub fn softmax(x: &[f64], theta: &[f64]) -> Vec<f64> {
    let logits: Vec<f64> = theta.chunks_exact(x.len()).map(|w| dot(x, w)).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|z| (z - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

/// The softmax law of a Θ at these points (width × points), classes × points.
///
/// # Errors
/// [`Error::Shape`] where Θ is not one width a class.
pub fn softmax_law(points: &Matrix, theta: &[f64]) -> Result<Matrix> {
    let classes = theta.len() / points.nrows().max(1);
    check_len("theta", theta.len(), classes * points.nrows())?;
    let law = (0..points.ncols()).flat_map(|i| softmax(points.col(i), theta)).collect();
    Matrix::from_columns(classes, points.ncols(), law)
}

/// Standard normal points (the last of `width` features the constant 1), width × count.
pub fn normal_points(count: usize, width: usize, key: Key) -> Matrix {
    let mut stream = key.stream();
    Matrix::from_fn(width, count, |j, _| if j + 1 == width { 1.0 } else { stream.normal() })
}

/// diag p − ppᵀ
fn covariance(p: &[f64]) -> Matrix {
    Matrix::from_fn(p.len(), p.len(), |k, l| if k == l { p[k] * (1.0 - p[k]) } else { -p[k] * p[l] })
}

/// A class drawn from a law that sums to 1 up to rounding.
fn draw_class(law: &[f64], stream: &mut Stream) -> u32 {
    let uniform = stream.uniform();
    let mut cumulative = 0.0;
    let passed = law.iter().take_while(|&&p| {
        cumulative += p;
        uniform >= cumulative
    });
    passed.count().min(law.len() - 1) as u32
}

/// y ~ N(xᵀθ, σ²) with x ~ N(0, Σ): H = Σ/σ² and all moments of the scores are closed forms.
pub struct Linear {
    model: Gaussian,
    theta: Vec<f64>,
    root: Matrix,
    covariance: Matrix,
}

impl Linear {
    /// Σ = RRᵀ of eigenvalues 1, 1/2, …, 1/d in random directions, θ standard normal.
    ///
    /// # Errors
    /// [`Error::Argument`] for no dimension or a bad variance.
    pub fn new(dim: usize, variance: f64, key: Key) -> Result<Self> {
        let model = Gaussian::new(dim, variance)?;
        let normals = Matrix::from_columns(dim, dim, key.named("directions").stream().normals(dim * dim))?;
        let (directions, _) = qr(&normals)?;
        let root = Matrix::from_fn(dim, dim, |i, j| directions[(i, j)] / (j as f64 + 1.0).sqrt());
        let covariance = matmul(&root, root.t())?;
        Ok(Self { model, theta: key.named("truth").stream().normals(dim), root, covariance })
    }

    /// The model.
    pub fn model(&self) -> &dyn Model {
        &self.model
    }

    /// The generating parameter.
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// Σ/σ².
    pub fn hessian(&self) -> Matrix {
        let mut hessian = self.covariance.clone();
        hessian.scale(1.0 / self.model.variance());
        hessian
    }

    /// E‖S − H‖²_F for the contribution S = δ² xxᵀ of one sample at the truth: E‖x‖⁴ · E δ⁴ − ‖H‖², with E‖x‖⁴ = (tr Σ)² + 2 tr Σ²
    /// (Isserlis 1918) and E δ⁴ = 3/σ⁴ for drawn labels, 1/σ⁴ for expected ones.
    pub fn scatter(&self, kind: FisherKind) -> f64 {
        let fourth = self.covariance.trace().powi(2) + 2.0 * self.covariance.norm().powi(2);
        let labels = if kind == FisherKind::Expected { 1.0 } else { 3.0 };
        (labels * fourth - self.covariance.norm().powi(2)) / self.model.variance().powi(2)
    }

    /// `count` samples with fresh x and y.
    ///
    /// # Errors
    /// [`Error::Argument`] for no samples.
    pub fn draw(&self, count: usize, key: Key) -> Result<Samples> {
        check_count("samples", count)?;
        let d = self.theta.len();
        let normals = Matrix::from_columns(d, count, key.named("x").stream().normals(d * count))?;
        let rows = matmul(&self.root, &normals)?;
        let mut targets = matvec(rows.t(), &self.theta)?;
        axpy(self.model.variance().sqrt(), &key.named("y").stream().normals(count), &mut targets);
        Samples::new(Features::from_f64(rows.into_vec(), count, d)?, Targets::real(targets)?)
    }
}

/// Samples drawn and summed at once: a block of them stays in a core's cache.
const BLOCK: usize = 4096;

/// ‖F_n − target‖ (Frobenius) at each of the ascending numbers n of samples, for each Fisher kind in the order of [`FisherKind::ALL`], along one
/// stream of fresh samples that all kinds share.
///
/// # Errors
/// Those of `draw` and of the model.
pub fn errors_along(
    (model, theta): (&dyn Model, &[f64]),
    target: &Matrix,
    rows: &[usize],
    draw: impl Fn(usize, Key) -> Result<Samples>,
    key: Key,
) -> Result<[Vec<f64>; 3]> {
    let mut sums = FisherKind::ALL.map(|_| Matrix::zeros(theta.len(), theta.len()));
    let mut errors = FisherKind::ALL.map(|_| Vec::new());
    let mut absorbed = 0;
    for &n in rows {
        for block in blocks_of(absorbed..n, BLOCK) {
            let key = key.child(block.start as u64);
            let samples = draw(block.len(), key)?;
            for (kind, sum) in FisherKind::ALL.into_iter().zip(&mut sums) {
                let scores = model.scores(Weighted::ones(&samples, Batch::All), theta, kind, key.named("labels"))?;
                sum.add_scaled(1.0, &scores.scatter()?)?;
            }
        }
        absorbed = n;
        for (sum, errors) in sums.iter().zip(&mut errors) {
            let mut difference = target.clone();
            difference.add_scaled(-1.0 / n as f64, sum)?;
            errors.push(difference.norm());
        }
    }
    Ok(errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::relative_error;

    /// A softmax population of 3 classes and a Gaussian one, both wrong for their models.
    fn populations() -> [Population; 2] {
        let points = normal_points(12, 3, Key::new(1));
        let mut law = softmax_law(&points, &Key::new(2).stream().normals(9)).unwrap();
        law.scale(0.8);
        law.as_mut_slice().iter_mut().for_each(|p| *p += 0.2 / 3.0);
        let means = Key::new(3).stream().normals(12);
        [Population::softmax(points.clone(), law).unwrap(), Population::gaussian(points, 0.7, means, 1.3).unwrap()]
    }

    /// Every point once: where labels do not matter, the models' own sums are those of the population.
    fn enumerated(population: &Population) -> Samples {
        let n = population.points.ncols();
        let targets = match &population.labels {
            Labels::Classes(law) => Targets::classes(vec![0; n], law.nrows()).unwrap(),
            Labels::Real { means, .. } => Targets::real(means.clone()).unwrap(),
        };
        Samples::new(population.features.clone(), targets).unwrap()
    }

    #[test]
    fn the_sums_equal_the_models_own_where_labels_do_not_matter() {
        for population in populations() {
            let (samples, model) = (enumerated(&population), population.model());
            let theta = Key::new(4).stream().normals(model.dim());
            let data = Weighted::ones(&samples, Batch::All);
            let close = |a: Matrix, b: Matrix| assert!(relative_error(a.as_slice(), b.as_slice()) < 1e-13, "{}", model.name());
            close(population.hessian(&theta).unwrap(), model.hessian(data, &theta).unwrap());
            close(population.fisher(&theta, FisherKind::Expected).unwrap(), model.expected_fisher(data, &theta).unwrap());
            close(population.fisher(&theta, FisherKind::Sampled).unwrap(), model.expected_fisher(data, &theta).unwrap());
        }
    }

    /// Observed labels: of softmax every label at every point, weighted by its probability; of Gaussian targets two points with the mean and
    /// variance of the law.
    #[test]
    fn the_fisher_matrix_of_observed_labels_equals_an_enumeration_through_the_model() {
        for population in populations() {
            let n = population.points.ncols();
            let theta = Key::new(4).stream().normals(population.model().dim());
            let copies = match &population.labels {
                Labels::Classes(law) => law.nrows(),
                Labels::Real { .. } => 2,
            };
            let indices: Vec<usize> = (0..n).flat_map(|i| vec![i; copies]).collect();
            let (targets, weights): (Targets, Vec<f64>) = match &population.labels {
                Labels::Classes(law) => {
                    let labels = (0..n * copies).map(|row| (row % copies) as u32).collect();
                    let weights = (0..n * copies).map(|row| law[(row % copies, row / copies)] * copies as f64).collect();
                    (Targets::classes(labels, copies).unwrap(), weights)
                }
                Labels::Real { means, variance } => {
                    let target =
                        |row: usize| means[row / 2] + if row.is_multiple_of(2) { variance.sqrt() } else { -variance.sqrt() };
                    (Targets::real((0..2 * n).map(target).collect()).unwrap(), vec![1.0; 2 * n])
                }
            };
            let samples = Samples::new(population.features.select(&indices).unwrap(), targets).unwrap();
            let data = Weighted { samples: &samples, batch: Batch::All, weights: Some(&weights) };
            let mut found = population.model().scores(data, &theta, FisherKind::Empirical, Key::new(0)).unwrap().scatter().unwrap();
            found.scale(1.0 / (n * copies) as f64);
            let expected = population.fisher(&theta, FisherKind::Empirical).unwrap();
            assert!(relative_error(found.as_slice(), expected.as_slice()) < 1e-13, "{}", population.model().name());
        }
    }

    /// n E‖F_n − target‖² for each kind by simulation, with 99.9 % limits.
    fn simulated(
        draw: impl Fn(usize, Key) -> Result<Samples>,
        at: (&dyn Model, &[f64]),
        targets: impl Fn(FisherKind) -> Matrix,
    ) -> Vec<(FisherKind, f64, f64)> {
        let (n, runs) = (400, 400);
        let of = |(index, kind): (usize, FisherKind)| {
            let target = targets(kind);
            let run = |r: u64| errors_along(at, &target, &[n], &draw, Key::new(7).child(r)).unwrap()[index][0].powi(2) * n as f64;
            let values: Vec<f64> = (0..runs).map(run).collect();
            let (mean, half) = crate::bounds::mean_with_limits("values", &values, 0.999).unwrap();
            (kind, mean, half)
        };
        FisherKind::ALL.into_iter().enumerate().map(of).collect()
    }

    #[test]
    fn fresh_samples_have_the_law_and_the_scatter_that_are_summed() {
        for population in populations() {
            let theta = population.minimizer(0.1).unwrap();
            let at = (population.model(), theta.as_slice());
            let draw = |count, key| population.draw(count, key);
            let mean = |kind| population.fisher(&theta, kind).unwrap();
            let expected = |kind| population.scatter(&theta, kind).unwrap();
            for (kind, found, half) in simulated(draw, at, mean) {
                assert!((found - expected(kind)).abs() < half, "{kind:?}: {found} ± {half} for {}", expected(kind));
            }
            // Another mean is noticed.
            let wrong = |kind| {
                let mut wrong = mean(kind);
                wrong.scale(1.2);
                wrong
            };
            assert!(simulated(draw, at, wrong).into_iter().all(|(kind, found, half)| (found - expected(kind)).abs() > half));
        }
        let linear = Linear::new(4, 0.5, Key::new(8)).unwrap();
        let at = (linear.model(), linear.theta());
        for (kind, found, half) in simulated(|count, key| linear.draw(count, key), at, |_| linear.hessian()) {
            assert!((found - linear.scatter(kind)).abs() < half, "{kind:?}: {found} ± {half} for {}", linear.scatter(kind));
        }
    }

    #[test]
    fn the_minimizer_has_no_gradient_and_less_loss_than_its_neighbours() {
        for population in populations() {
            for ridge in [0.0, 0.1] {
                let theta = population.minimizer(ridge).unwrap();
                let mut gradient = population.gradient(&theta);
                axpy(ridge, &theta, &mut gradient);
                assert!(norm(&gradient) < 1e-11);
                // The gradient by the model, on a large sample: zero within its noise without a ridge, -ridge θ with one.
                let samples = population.draw(200_000, Key::new(9)).unwrap();
                let mut sampled = population.model().gradient(Weighted::ones(&samples, Batch::All), &theta).unwrap();
                axpy(ridge, &theta, &mut sampled);
                assert!(norm(&sampled) < 0.02, "{}", norm(&sampled));
            }
        }
    }
}
