//! Gaussian linear regression with a known variance: y ~ N(xᵀθ, σ²), a GLM with the canonical link, so that its Hessian depends
//! neither on the targets nor on θ and equals its expected Fisher matrix: (1/m) Σ w_i x_i x_iᵀ / σ². A bias is a constant feature
//! of the data. One output: a score is x_i ⊗ δ_i with a single number δ_i.

use std::f64::consts::TAU;

use super::{FisherIdentity, FisherKind, Model, Weighted};
use crate::dense::Matrix;
use crate::error::{Error, Result, check_count, check_finite, check_len, check_positive};
use crate::gradient::{GradientBlock, KroneckerRows, weighted_outer};
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// Linear regression on `width` features with a known variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gaussian {
    width: usize,
    /// σ².
    variance: f64,
}

impl Gaussian {
    /// The registry name.
    pub const NAME: &'static str = "gaussian";

    /// The model for `width` features and the variance σ².
    ///
    /// # Errors
    /// [`Error::Argument`] for no features, or a variance that is not positive and finite or has no finite inverse.
    pub fn new(width: usize, variance: f64) -> Result<Self> {
        check_count("width", width)?;
        check_variance(variance)?;
        Ok(Self { width, variance })
    }

    /// The model of variance 1: ℓ_i = ½(x_iᵀθ − y_i)² + ½ log 2π.
    ///
    /// # Errors
    /// [`Error::Argument`] for no features.
    pub fn unit_variance(width: usize) -> Result<Self> {
        Self::new(width, 1.0)
    }

    /// σ².
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// Checks data and θ, and returns the targets.
    fn check<'a>(&self, samples: &'a Samples, theta: &[f64]) -> Result<&'a [f64]> {
        check_len("feature width", samples.features.width(), self.width)?;
        let targets = samples.targets.as_real()?;
        check_len("targets", targets.len(), samples.len())?;
        self.check_vector("theta", theta)?;
        Ok(targets)
    }

    fn check_vector(&self, argument: &'static str, vector: &[f64]) -> Result<()> {
        check_len(argument, vector.len(), self.width)?;
        check_finite(argument, vector)
    }

    /// x_iᵀu over the batch.
    fn products(&self, samples: &Samples, batch: Batch<'_>, argument: &'static str, u: &[f64]) -> Result<Vec<f64>> {
        self.check_vector(argument, u)?;
        let products = samples.features.project(batch, &[u])?.into_vec();
        check_finite("products of the features", &products)?;
        Ok(products)
    }

    /// x_iᵀθ − y_i over the batch.
    fn residuals(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let targets = self.check(samples, theta)?;
        let mut residuals = self.products(samples, batch, "theta", theta)?;
        residuals.iter_mut().zip(batch.iter(samples.len())).for_each(|(r, i)| *r -= targets[i]);
        check_finite("residuals", &residuals)?;
        Ok(residuals)
    }

    /// (1/m) Σ w_i z_i x_i / σ²
    fn mean(&self, data: Weighted<'_>, mut z: Vec<f64>) -> Result<Vec<f64>> {
        let scale = data.len() as f64 * self.variance;
        z.iter_mut().enumerate().for_each(|(i, z)| *z *= data.weight(i) / scale);
        let rows = Matrix::from_columns(1, z.len(), z)?;
        Ok(data.samples.features.accumulate(data.batch, &rows)?.into_vec())
    }
}

/// Checks that σ² is positive and finite and has a finite inverse.
pub(super) fn check_variance(variance: f64) -> Result<()> {
    check_positive("variance", variance)?;
    if variance.recip().is_finite() {
        return Ok(());
    }
    Err(Error::argument("variance", "a number with a finite inverse", format_args!("{variance:e}")))
}

/// A small instance with random data, for checks; its variance is not 1.
pub(super) fn specimen(key: Key) -> Result<(Gaussian, Samples)> {
    let (n, width) = (40, 6);
    let mut stream = key.stream();
    let features = Features::from_f64(stream.normals(n * width), n, width)?.with_intercept();
    Ok((Gaussian::new(width + 1, 0.3)?, Samples::new(features, Targets::real(stream.normals(n))?)?))
}

impl Model for Gaussian {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.width
    }

    /// (x_iᵀθ − y_i)²/2σ² + ½ log 2πσ²: −log p itself.
    fn losses(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let normalizer = 0.5 * (TAU.ln() + self.variance.ln());
        let loss = |residual: f64| 0.5 * residual * residual / self.variance + normalizer;
        Ok(self.residuals(samples, batch, theta)?.into_iter().map(loss).collect())
    }

    /// (1/m) Xᵀ(w ∘ (Xθ − y))/σ²
    fn gradient(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        data.check()?;
        self.mean(data, self.residuals(data.samples, data.batch, theta)?)
    }

    /// (x_iᵀθ − y_i) x_iᵀq / σ²
    fn score_products(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Vec<f64>> {
        let residuals = self.residuals(samples, batch, theta)?;
        let z = self.products(samples, batch, "direction", q)?;
        Ok(residuals.iter().zip(z).map(|(residual, z)| residual * z / self.variance).collect())
    }

    /// Rows x_i ⊗ √w_i δ_i: δ_i = (x_iᵀθ − y_i)/σ² for a given or a drawn y_i, and 1/σ for the expected kind, whose single row a
    /// sample is enough since E δ_i² = 1/σ².
    fn scores(&self, data: Weighted<'_>, theta: &[f64], kind: FisherKind, key: Key) -> Result<GradientBlock> {
        data.check_nonnegative()?;
        self.check(data.samples, theta)?;
        let deviation = self.variance.sqrt();
        let mut deltas: Vec<f64> = match kind {
            FisherKind::Empirical => {
                self.residuals(data.samples, data.batch, theta)?.into_iter().map(|residual| residual / self.variance).collect()
            }
            // y_i = x_iᵀθ + σε_i, the targets that `sample_targets` draws with this key.
            FisherKind::Sampled => key.stream().normals(data.len()).into_iter().map(|noise| -noise / deviation).collect(),
            FisherKind::Expected => vec![deviation.recip(); data.len()],
        };
        deltas.iter_mut().enumerate().for_each(|(i, delta)| *delta *= data.weight(i).sqrt());
        let inputs = data.samples.features.gather(data.batch)?;
        Ok(KroneckerRows::new(inputs, Matrix::from_columns(1, deltas.len(), deltas)?, 1)?.into())
    }

    fn sample_targets(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], key: Key) -> Result<Targets> {
        self.check(samples, theta)?;
        let means = self.products(samples, batch, "theta", theta)?;
        let noise = key.stream().normals(means.len());
        Targets::real(means.iter().zip(noise).map(|(mean, noise)| mean + self.variance.sqrt() * noise).collect())
    }

    /// (1/m) Xᵀ(w ∘ Xu)/σ²
    fn hvp(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        data.check()?;
        self.check(data.samples, theta)?;
        self.mean(data, self.products(data.samples, data.batch, "direction", u)?)
    }

    /// (1/m) Σ w_i x_i x_iᵀ / σ²
    fn hessian(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Matrix> {
        data.check()?;
        self.check(data.samples, theta)?;
        let inputs = data.samples.features.gather(data.batch)?;
        let scale = data.len() as f64 * self.variance;
        weighted_outer(&inputs, 1, |i, _, _| data.weight(i) / scale)
    }

    /// The Hessian product: see [`FisherIdentity::Hessian`].
    fn fisher_product(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        self.hvp(data, theta, u)
    }

    fn fisher_identity(&self) -> FisherIdentity {
        FisherIdentity::Hessian
    }

    /// None: targets are not classes.
    fn accuracy(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Option<f64>> {
        self.check(samples, theta)?;
        batch.check(samples.len())?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{difference, dot, matmul_add, matvec, norm};

    fn problem(n: usize, width: usize, variance: f64, seed: u64) -> (Gaussian, Samples, Vec<f64>, Vec<f64>) {
        let mut stream = Key::new(seed).stream();
        let features = Features::from_f64(stream.normals(n * width), n, width).unwrap().with_intercept();
        let samples = Samples::new(features, Targets::real(stream.normals(n)).unwrap()).unwrap();
        let model = Gaussian::new(width + 1, variance).unwrap();
        let theta = stream.normals(model.dim());
        let weights = (0..n).map(|_| stream.uniform()).collect();
        (model, samples, theta, weights)
    }

    fn relative(a: &[f64], b: &[f64]) -> f64 {
        norm(&difference(a, b)) / norm(b)
    }

    /// By hand: x = (1, 2) and (0, −1), y = 1 and 3, θ = (0.5, 1), σ² = 4; residuals 1.5 and −4.
    #[test]
    fn a_small_case_has_its_known_answers() {
        let features = Features::from_f64(vec![1.0, 2.0, 0.0, -1.0], 2, 2).unwrap();
        let samples = Samples::new(features, Targets::real(vec![1.0, 3.0]).unwrap()).unwrap();
        let (model, theta) = (Gaussian::new(2, 4.0).unwrap(), [0.5, 1.0]);
        // −log of the normal density of mean 0 and variance 4 at 1.5 and at −4.
        let expected = [1.893_335_713_764_618_6, 3.612_085_713_764_618_6];
        assert!(relative(&model.losses(&samples, Batch::All, &theta).unwrap(), &expected) < 1e-15);
        let weights = [2.0, 1.0];
        let data = Weighted { samples: &samples, batch: Batch::All, weights: Some(&weights) };
        assert_eq!(model.gradient(data, &theta).unwrap(), [0.375, 1.25]);
        assert_eq!(model.score_products(&samples, Batch::All, &theta, &[1.0, 1.0]).unwrap(), [1.125, 1.0]);
        assert_eq!(model.hessian(data, &theta).unwrap().as_slice(), [0.25, 0.5, 0.5, 1.125]);
        assert_eq!(model.hvp(data, &theta, &[1.0, 1.0]).unwrap(), [0.75, 1.625]);
        assert_eq!(model.accuracy(&samples, Batch::All, &theta).unwrap(), None);
        assert_eq!(Gaussian::unit_variance(3).unwrap(), Gaussian::new(3, 1.0).unwrap());
    }

    #[test]
    fn derivatives_equal_central_differences() {
        for (n, width, variance) in [(1, 1, 1.0), (2, 3, 0.25), (63, 4, 1.0), (64, 1, 3.0), (65, 2, 7.5), (127, 6, 0.01)] {
            let (model, samples, theta, weights) = problem(n, width, variance, n as u64);
            let data = Weighted { samples: &samples, batch: Batch::All, weights: Some(&weights) };
            let u = Key::new(99).stream().normals(model.dim());
            let h = 1e-5;
            let at = |t: f64| -> Vec<f64> { theta.iter().zip(&u).map(|(a, b)| a + t * b).collect() };
            let slope = (model.loss(data, &at(h)).unwrap() - model.loss(data, &at(-h)).unwrap()) / (2.0 * h);
            let gradient = model.gradient(data, &theta).unwrap();
            assert!((dot(&gradient, &u) - slope).abs() < 1e-7 * (1.0 + slope.abs()));
            let (plus, minus) = (model.gradient(data, &at(h)).unwrap(), model.gradient(data, &at(-h)).unwrap());
            let bend: Vec<f64> = difference(&plus, &minus).iter().map(|x| x / (2.0 * h)).collect();
            let hvp = model.hvp(data, &theta, &u).unwrap();
            assert!(relative(&hvp, &bend) < 1e-6);
            assert!(relative(&matvec(&model.hessian(data, &theta).unwrap(), &u).unwrap(), &hvp) < 1e-12);
            let products = model.score_products(&samples, Batch::All, &theta, &u).unwrap();
            let sum: f64 = products.iter().zip(&weights).map(|(a, w)| a * w).sum::<f64>() / n as f64;
            assert!((sum - dot(&gradient, &u)).abs() < 1e-12 * (1.0 + sum.abs()));
        }
    }

    /// The empirical and the sampled kind against gradients of single samples; the expected one against the sum, over a fine grid
    /// of targets, of density times score times its transpose.
    #[test]
    fn every_fisher_kind_has_the_rows_of_its_definition() {
        let (model, samples, theta, weights) = problem(30, 3, 0.6, 8);
        let indices = [3, 3, 29, 0];
        let picked: Vec<f64> = indices.iter().map(|&i| weights[i]).collect();
        let data = Weighted { samples: &samples, batch: Batch::Indices(&indices), weights: Some(&picked) };
        let with_targets = |values: Vec<f64>| Samples::new(samples.features.clone(), Targets::real(values).unwrap()).unwrap();
        let gradient = |samples: &Samples, i: usize| -> Vec<f64> {
            model.gradient(Weighted::ones(samples, Batch::Indices(&[i])), &theta).unwrap()
        };
        let d = model.dim();
        let rows = |kind| model.scores(data, &theta, kind, Key::new(4)).unwrap().project(&Matrix::identity(d)).unwrap();

        let (empirical, sampled) = (rows(FisherKind::Empirical), rows(FisherKind::Sampled));
        let drawn = model.sample_targets(&samples, data.batch, &theta, Key::new(4)).unwrap();
        for (position, &i) in indices.iter().enumerate() {
            let scaled = |s: Vec<f64>| -> Vec<f64> { s.iter().map(|s| s * picked[position].sqrt()).collect() };
            let row = |rows: &Matrix| rows.rows(position..position + 1).to_matrix().into_vec();
            assert!(relative(&row(&empirical), &scaled(gradient(&samples, i))) < 1e-12);
            let relabelled = with_targets(vec![drawn.as_real().unwrap()[position]; samples.len()]);
            assert!(relative(&row(&sampled), &scaled(gradient(&relabelled, i))) < 1e-12);
        }

        let mut sum = Matrix::zeros(d, d);
        let step = 0.05;
        for (position, &i) in indices.iter().enumerate() {
            for y in (-400..400).map(|k| f64::from(k) * step) {
                let samples = with_targets(vec![y; samples.len()]);
                let density = (-model.losses(&samples, Batch::Indices(&[i]), &theta).unwrap()[0]).exp();
                let s = Matrix::column(gradient(&samples, i));
                matmul_add(&mut sum, picked[position] * density * step / indices.len() as f64, &s, s.t()).unwrap();
            }
        }
        let fisher = model.expected_fisher(data, &theta).unwrap();
        assert!(relative(fisher.as_slice(), sum.as_slice()) < 1e-12, "the density integrates to 1 and its scores to F");
        assert!(relative(fisher.as_slice(), model.hessian(data, &theta).unwrap().as_slice()) < 1e-12);
        // The classic mistake, squaring the weighted gradient, is far away.
        let squared: Vec<f64> = picked.iter().map(|w| w * w).collect();
        let wrong = Weighted { weights: Some(&squared), ..data };
        assert!(relative(model.expected_fisher(wrong, &theta).unwrap().as_slice(), sum.as_slice()) > 1e-2);
    }

    #[test]
    fn targets_are_drawn_with_the_model_s_mean_and_variance() {
        let (model, samples, theta, _) = problem(1, 2, 2.5, 3);
        let n = 40_000;
        let drawn = model.sample_targets(&samples, Batch::Indices(&vec![0; n]), &theta, Key::new(1)).unwrap();
        let mean = dot(samples.features.gather(Batch::All).unwrap().col(0), &theta);
        let noise: Vec<f64> = drawn.as_real().unwrap().iter().map(|y| y - mean).collect();
        let n = n as f64;
        assert!((noise.iter().sum::<f64>() / n).abs() < 5.0 * (2.5 / n).sqrt());
        assert!((dot(&noise, &noise) / n - 2.5).abs() < 5.0 * 2.5 * (2.0 / n).sqrt());
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let (model, samples, theta, weights) = problem(5, 2, 1.0, 1);
        let all = Weighted { samples: &samples, batch: Batch::All, weights: Some(&weights) };
        let name = |e: Error| e.offending_argument();
        assert_eq!(name(Gaussian::new(0, 1.0).unwrap_err()), Some("width"));
        for variance in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-320] {
            assert_eq!(name(Gaussian::new(2, variance).unwrap_err()), Some("variance"));
        }
        assert_eq!(name(model.loss(all, &theta[1..]).unwrap_err()), Some("theta"));
        assert_eq!(name(model.hvp(all, &theta, &[0.0]).unwrap_err()), Some("direction"));
        assert_eq!(name(model.hvp(all, &theta[1..], &theta).unwrap_err()), Some("theta"));
        assert_eq!(name(model.score_products(&samples, Batch::Indices(&[5]), &theta, &theta).unwrap_err()), Some("batch"));
        assert_eq!(name(model.accuracy(&samples, Batch::Indices(&[]), &theta).unwrap_err()), Some("batch"));
        let short = Weighted { weights: Some(&weights[1..]), ..all };
        assert_eq!(name(model.gradient(short, &theta).unwrap_err()), Some("weights"));
        let negative = [-1.0, 1.0, 1.0, 1.0, 1.0];
        let negative = Weighted { weights: Some(&negative), ..all };
        let poisoned = [f64::NAN, 0.0, 0.0];
        for kind in FisherKind::ALL {
            assert_eq!(name(model.scores(negative, &theta, kind, Key::new(0)).unwrap_err()), Some("weights"));
            assert_eq!(name(model.scores(all, &poisoned, kind, Key::new(0)).unwrap_err()), Some("theta"));
        }
        assert_eq!(name(model.losses(&samples, Batch::All, &[1e308; 3]).unwrap_err()), Some("products of the features"));
        assert_eq!(
            name(Gaussian::new(4, 1.0).unwrap().losses(&samples, Batch::All, &[0.0; 4]).unwrap_err()),
            Some("feature width")
        );
        let classes = Samples::new(samples.features.clone(), Targets::classes(vec![0; 5], 2).unwrap()).unwrap();
        assert_eq!(name(model.losses(&classes, Batch::All, &theta).unwrap_err()), Some("targets"));
        assert_eq!(name(model.hessian(Weighted::ones(&classes, Batch::All), &theta).unwrap_err()), Some("targets"));
        let empty = Weighted::ones(&samples, Batch::Indices(&[]));
        assert_eq!(name(model.gradient(empty, &theta).unwrap_err()), Some("batch"));
    }
}
