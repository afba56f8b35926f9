//! Logistic regression: P(y = 1 | x; θ) = σ(θᵀx), a GLM with the canonical link, so that its Hessian does not depend on the labels
//! and equals its expected Fisher matrix at every θ: (1/m) Σ w_i p_i(1 − p_i) x_i x_iᵀ. It is softmax regression of two classes with
//! the first logit held at 0: half the parameters, and none that the likelihood leaves open. A bias is a constant feature.

use super::{FisherIdentity, FisherKind, Model, Products, Smoothness, Weighted, categorical};
use crate::dense::Matrix;
use crate::error::{Result, check_count, check_finite, check_len};
use crate::gradient::{GradientBlock, KroneckerRows, weighted_outer};
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// Logistic regression on `width` features; the classes are 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logistic {
    width: usize,
}

/// σ(z) = 1/(1 + e^−z), without overflow.
fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

/// p(1 − p) = σ(z)σ(−z), without cancellation at either end.
fn variance(z: f64) -> f64 {
    sigmoid(z) * sigmoid(-z)
}

/// ∂ℓ/∂z = p − y, without cancellation: −σ(−z) for the class 1.
fn residual(z: f64, label: u32) -> f64 {
    if label == 0 { sigmoid(z) } else { -sigmoid(-z) }
}

/// The label drawn by a uniform number.
fn draw(z: f64, uniform: f64) -> u32 {
    u32::from(uniform < sigmoid(z))
}

impl Logistic {
    /// The registry name.
    pub const NAME: &'static str = "logistic";

    /// The model for `width` features.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for no features.
    pub fn new(width: usize) -> Result<Self> {
        check_count("width", width)?;
        Ok(Self { width })
    }

    fn check_vector(&self, argument: &'static str, vector: &[f64]) -> Result<()> {
        check_len(argument, vector.len(), self.width)?;
        check_finite(argument, vector)
    }

    /// Checks that the data are of this model.
    fn labels<'a>(&self, samples: &'a Samples, batch: Batch<'_>) -> Result<&'a [u32]> {
        check_len("feature width", samples.features.width(), self.width)?;
        categorical::labels(samples, batch, 2)
    }

    /// The logits x_iᵀθ and the labels over the batch.
    fn logits(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<(Vec<f64>, Vec<u32>)> {
        let labels = self.labels(samples, batch)?;
        self.check_vector("theta", theta)?;
        let z = samples.features.project(batch, &[theta])?.into_vec();
        check_finite("logits", &z)?;
        Ok((z, batch.iter(samples.len()).map(|i| labels[i]).collect()))
    }

    /// θ and u, checked.
    fn pair<'a>(&self, theta: &'a [f64], u: &'a [f64]) -> Result<[&'a [f64]; 2]> {
        self.check_vector("theta", theta)?;
        self.check_vector("direction", u)?;
        Ok([theta, u])
    }
}

/// A small instance with random data, for checks.
pub(super) fn specimen(key: Key) -> Result<(Logistic, Samples)> {
    let (n, width) = (40, 6);
    let mut stream = key.stream();
    let features = Features::from_f64(stream.normals(n * width), n, width)?.with_intercept();
    let labels = stream.indices(2, n)?.into_iter().map(|y| y as u32).collect();
    Ok((Logistic::new(width + 1)?, Samples::new(features, Targets::classes(labels, 2)?)?))
}

impl Model for Logistic {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.width
    }

    /// log(1 + e^∓z), the sign that of the class.
    fn losses(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let (z, labels) = self.logits(samples, batch, theta)?;
        let loss = |(&z, &y): (&f64, &u32)| {
            let against = if y == 0 { z } else { -z };
            against.max(0.0) + (-against.abs()).exp().ln_1p()
        };
        Ok(z.iter().zip(&labels).map(loss).collect())
    }

    /// (1/m) Xᵀ(w ∘ (p − y))
    fn gradient(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        data.check()?;
        let labels = self.labels(data.samples, data.batch)?;
        self.check_vector("theta", theta)?;
        let m = data.len() as f64;
        let weigh = |position: usize, z: &mut [f64]| {
            let logit = z[0];
            z[0] = data.weight(position) / m * residual(logit, labels[data.batch.index(position)]);
            logit
        };
        let (sum, logits) = data.samples.features.pass(data.batch, &[theta], 0..1, weigh)?;
        check_finite("logits", &logits)?;
        Ok(sum.into_vec())
    }

    /// One pass: X[θ | q], then Xᵀ of the weighted residuals and of w ∘ p ∘ (1 − p) ∘ Xq.
    fn products(&self, data: Weighted<'_>, theta: &[f64], q: &[f64]) -> Result<Products> {
        data.check()?;
        let labels = self.labels(data.samples, data.batch)?;
        let (both, m) = (self.pair(theta, q)?, data.len() as f64);
        let weigh = |position: usize, z: &mut [f64]| {
            let (logit, product, weight) = (z[0], z[1], data.weight(position) / m);
            let residual = residual(logit, labels[data.batch.index(position)]);
            (z[0], z[1]) = (weight * residual, weight * variance(logit) * product);
            (logit, residual * product)
        };
        let (sums, results) = data.samples.features.pass(data.batch, &both, 0..2, weigh)?;
        let (logits, score_products): (Vec<f64>, Vec<f64>) = results.into_iter().unzip();
        check_finite("logits", &logits)?;
        Ok(Products { gradient: sums.col(0).to_vec(), hvp: sums.col(1).to_vec(), score_products })
    }

    /// (p_i − y_i) x_iᵀq
    fn score_products(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Vec<f64>> {
        let (z, labels) = self.logits(samples, batch, theta)?;
        self.check_vector("direction", q)?;
        let products = samples.features.project(batch, &[q])?.into_vec();
        Ok(z.iter().zip(&labels).zip(&products).map(|((&z, &y), p)| residual(z, y) * p).collect())
    }

    /// Rows x_i ⊗ √w_i (p_i − y); the expected kind has one row too, since E_y[(p − y)²] = p(1 − p) is a number.
    fn scores(&self, data: Weighted<'_>, theta: &[f64], kind: FisherKind, key: Key) -> Result<GradientBlock> {
        data.check_nonnegative()?;
        let (z, labels) = self.logits(data.samples, data.batch, theta)?;
        let inputs = data.samples.features.gather(data.batch)?;
        let mut deltas: Vec<f64> = match kind {
            FisherKind::Empirical => z.iter().zip(&labels).map(|(&z, &y)| residual(z, y)).collect(),
            FisherKind::Sampled => {
                let mut stream = key.stream();
                z.iter().map(|&z| residual(z, draw(z, stream.uniform()))).collect()
            }
            FisherKind::Expected => z.iter().map(|&z| variance(z).sqrt()).collect(),
        };
        deltas.iter_mut().enumerate().for_each(|(i, d)| *d *= data.weight(i).sqrt());
        Ok(KroneckerRows::new(inputs, Matrix::from_columns(1, deltas.len(), deltas)?, 1)?.into())
    }

    fn sample_targets(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], key: Key) -> Result<Targets> {
        let (z, _) = self.logits(samples, batch, theta)?;
        let mut stream = key.stream();
        Targets::classes(z.iter().map(|&z| draw(z, stream.uniform())).collect(), 2)
    }

    /// (1/m) Xᵀ(w ∘ p ∘ (1 − p) ∘ Xu)
    fn hvp(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        data.check()?;
        self.labels(data.samples, data.batch)?;
        let (both, m) = (self.pair(theta, u)?, data.len() as f64);
        let weigh = |position: usize, z: &mut [f64]| {
            z[1] *= data.weight(position) / m * variance(z[0]);
            z[0]
        };
        let (sum, logits) = data.samples.features.pass(data.batch, &both, 1..2, weigh)?;
        check_finite("logits", &logits)?;
        Ok(sum.into_vec())
    }

    /// (1/m) Σ w_i p_i(1 − p_i) x_i x_iᵀ
    fn hessian(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Matrix> {
        data.check()?;
        let (z, _) = self.logits(data.samples, data.batch, theta)?;
        let inputs = data.samples.features.gather(data.batch)?;
        let m = data.len() as f64;
        weighted_outer(&inputs, 1, |i, _, _| data.weight(i) / m * variance(z[i]))
    }

    /// The Hessian product: see [`FisherIdentity::Hessian`].
    fn fisher_product(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        self.hvp(data, theta, u)
    }

    fn fisher_identity(&self) -> FisherIdentity {
        FisherIdentity::Hessian
    }

    /// p(1 − p) ≤ ¼, and |p(1 − p)(1 − 2p)| ≤ 1/(6√3).
    fn smoothness(&self) -> Option<Smoothness> {
        Some(Smoothness { gradient: 0.25, hessian: 1.0 / (6.0 * 3.0_f64.sqrt()) })
    }

    /// The class 1 where its logit is positive: at 0 the first among equals.
    fn accuracy(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Option<f64>> {
        let (z, labels) = self.logits(samples, batch, theta)?;
        let right = z.iter().zip(&labels).filter(|&(&z, &y)| u32::from(z > 0.0) == y).count();
        Ok(Some(right as f64 / z.len() as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{difference, norm};
    use crate::model::Softmax;

    fn relative(a: &[f64], b: &[f64]) -> f64 {
        norm(&difference(a, b)) / norm(b)
    }

    /// (0, θ) in softmax regression of two classes: another implementation of the same likelihood.
    #[test]
    fn it_is_softmax_regression_with_the_first_logit_at_0() {
        let (model, samples) = specimen(Key::new(1)).unwrap();
        let softmax = Softmax::new(model.width, 2).unwrap();
        let mut stream = Key::new(2).stream();
        let (theta, u) = (stream.normals(model.width), stream.normals(model.width));
        let weights: Vec<f64> = (0..samples.len()).map(|_| stream.uniform()).collect();
        let padded = |x: &[f64]| [vec![0.0; model.width], x.to_vec()].concat();
        let data = Weighted { samples: &samples, batch: Batch::All, weights: Some(&weights) };
        let (full_theta, full_u) = (padded(&theta), padded(&u));
        let lower = |x: Vec<f64>| x[model.width..].to_vec();
        assert!((model.loss(data, &theta).unwrap() - softmax.loss(data, &full_theta).unwrap()).abs() < 1e-14);
        assert!(relative(&model.gradient(data, &theta).unwrap(), &lower(softmax.gradient(data, &full_theta).unwrap())) < 1e-13);
        let hvp = model.hvp(data, &theta, &u).unwrap();
        let all = model.products(data, &theta, &u).unwrap();
        assert!(relative(&all.hvp, &hvp) < 1e-13);
        assert!(relative(&all.gradient, &model.gradient(data, &theta).unwrap()) < 1e-13);
        let scores = softmax.score_products(&samples, Batch::All, &full_theta, &full_u).unwrap();
        assert!(relative(&all.score_products, &scores) < 1e-13);
        assert!(relative(&model.score_products(&samples, Batch::All, &theta, &u).unwrap(), &scores) < 1e-13);
        assert!(relative(&hvp, &lower(softmax.hvp(data, &full_theta, &full_u).unwrap())) < 1e-13);
        assert_eq!(
            model.accuracy(&samples, Batch::All, &theta).unwrap(),
            softmax.accuracy(&samples, Batch::All, &full_theta).unwrap()
        );
        // Another θ is another model: the comparison can fail.
        assert!(relative(&hvp, &lower(softmax.hvp(data, &padded(&u), &full_u).unwrap())) > 1e-3);
    }

    #[test]
    fn extreme_logits_stay_finite_and_keep_their_tails() {
        let features = Features::from_f64(vec![1e3, -1e3, 50.0], 3, 1).unwrap();
        let samples = Samples::new(features, Targets::classes(vec![0, 0, 1], 2).unwrap()).unwrap();
        let model = Logistic::new(1).unwrap();
        let losses = model.losses(&samples, Batch::All, &[1.0]).unwrap();
        assert_eq!(losses[..2], [1e3, 0.0]);
        assert!((losses[2] / (-50.0_f64).exp() - 1.0).abs() < 1e-15, "log(1 + e^−50) is not rounded to 0");
        let tail = model.gradient(Weighted::ones(&samples, Batch::Indices(&[2])), &[1.0]).unwrap()[0];
        assert!((tail / (-50.0 * (-50.0_f64).exp()) - 1.0).abs() < 1e-14, "1 − p is not rounded to 0");
    }

    /// The largest values of p(1 − p) and of its slope over a fine grid of logits.
    #[test]
    fn the_constants_are_attained() {
        let constants = Logistic::new(1).unwrap().smoothness().unwrap();
        let (mut curvature, mut slope) = (0.0_f64, 0.0_f64);
        for z in (-80_000..80_000).map(|i| f64::from(i) * 1e-4) {
            curvature = curvature.max(variance(z));
            slope = slope.max(((variance(z + 1e-4) - variance(z)) / 1e-4).abs());
        }
        assert!(curvature <= constants.gradient && curvature > constants.gradient * (1.0 - 1e-8));
        assert!(slope <= constants.hessian * (1.0 + 1e-8) && slope > constants.hessian * (1.0 - 1e-6));
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let (model, samples) = specimen(Key::new(3)).unwrap();
        let name = |result: Result<Vec<f64>>| result.unwrap_err().offending_argument();
        let all = Weighted::ones(&samples, Batch::All);
        assert!(Logistic::new(0).is_err());
        assert_eq!(name(model.gradient(all, &[0.0])), Some("theta"));
        assert_eq!(name(model.hvp(all, &vec![0.0; model.width], &[0.0])), Some("direction"));
        assert_eq!(name(model.gradient(all, &vec![f64::MAX; model.width])), Some("logits"));
        let three = Samples::new(samples.features.clone(), Targets::classes(vec![2; samples.len()], 3).unwrap()).unwrap();
        assert_eq!(name(model.losses(&three, Batch::All, &vec![0.0; model.width])), Some("classes"));
        let nobody = Weighted::ones(&samples, Batch::Indices(&[]));
        assert_eq!(name(model.gradient(nobody, &vec![0.0; model.width])), Some("batch"));
    }
}
