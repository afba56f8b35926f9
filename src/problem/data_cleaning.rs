//! Data cleaning (hyper-cleaning; Franceschi, Donini, Frasconi & Pontil 2017): training labels are partly wrong, a small validation
//! set is clean, and v holds one logit a training sample whose weight is σ(v_i):
//!
//! g(v, θ) = (1/n) Σ σ(v_i) ℓ_i(θ) + (λ/2)‖θ‖²,   f(v, θ) = (1/m) Σ_val ℓ_j(θ),   ℓ the loss of softmax regression
//! or of a network with a softmax output.
//!
//! Column i of J = ∇²_{θv} g is (1/n) σ'(v_i) s_i.

mod config;
pub(super) mod load;
mod tables;

pub use config::{Config, DataSet, FeatureScale, ModelConfig, NetworkConfig};

use super::held_out::Fold;
use super::{Baseline, Constants, HeldOut, InnerProducts, OuterGradient, OuterVector, Problem, SampleTables, WholeRows};
use crate::dense::{Matrix, axpy, dot, norm};
use crate::error::{Error, Result, check_finite, check_len, check_positive};
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::model::{FisherKind, Head, Mlp, Model, Products, Softmax, Weighted};
use crate::reused::Reused;
use crate::rng::Key;
use crate::samples::{Batch, Samples, Targets};

/// What is fitted, and where it starts.
#[derive(Debug, Clone)]
enum Fitted {
    /// From θ = 0.
    Softmax(Softmax),
    Network {
        model: Mlp,
        initial: Vec<f64>,
    },
}

/// A data-cleaning problem. Cheap to clone but for its data.
#[derive(Debug, Clone)]
pub struct DataCleaning {
    model: Fitted,
    train: Samples,
    /// Which training labels really changed.
    flipped: Vec<bool>,
    /// The labels before corruption.
    true_targets: Targets,
    validation: Samples,
    test: Option<Samples>,
    ridge: f64,
    initial_logit: f64,
}

/// σ(40) is 1 to the last bit: the weight of a sample that is simply used.
const CERTAIN: f64 = 40.0;

fn sigmoid(v: f64) -> f64 {
    if v >= 0.0 { 1.0 / (1.0 + (-v).exp()) } else { v.exp() / (1.0 + v.exp()) }
}

/// σ'(v) = σ(v)σ(−v), without cancellation at either end.
fn sigmoid_slope(v: f64) -> f64 {
    sigmoid(v) * sigmoid(-v)
}

impl DataCleaning {
    /// The registry name.
    pub const NAME: &'static str = "data-cleaning";

    /// Builds the problem from training samples (`flipped` marks the wrong labels; `true_targets` are the right ones), a clean
    /// validation set and a test set.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sets do not fit each other, [`Error::Argument`] for a λ that is not positive.
    pub fn new(
        train: Samples,
        true_targets: Targets,
        flipped: Vec<bool>,
        validation: Samples,
        test: Option<Samples>,
        ridge: f64,
        initial_logit: f64,
    ) -> Result<Self> {
        check_positive("ridge", ridge)?;
        check_finite("initial_logit", &[initial_logit])?;
        let (_, classes) = train.targets.as_classes()?;
        let model = Fitted::Softmax(Softmax::new(train.features.width(), classes)?);
        check_len("flipped", flipped.len(), train.len())?;
        check_len("true targets", true_targets.len(), train.len())?;
        check_len("classes", true_targets.as_classes()?.1, classes)?;
        for other in std::iter::once(&validation).chain(&test) {
            check_len("feature width", other.features.width(), train.features.width())?;
            check_len("classes", other.targets.as_classes()?.1, classes)?;
        }
        Ok(Self { model, train, flipped, true_targets, validation, test, ridge, initial_logit })
    }

    /// The same problem with a network in the place of softmax regression, from weights that `key` draws.
    ///
    /// # Errors
    /// [`Error::Argument`] for a hidden width of 0.
    pub fn with_network(self, network: &NetworkConfig, key: Key) -> Result<Self> {
        let (_, classes) = self.train.targets.as_classes()?;
        let model = Mlp::new(self.train.features.width(), &network.hidden, network.activation, Head::Softmax { classes })?;
        let initial = model.initial_theta(key);
        Ok(Self { model: Fitted::Network { model, initial }, ..self })
    }

    fn model(&self) -> &dyn Model {
        match &self.model {
            Fitted::Softmax(model) => model,
            Fitted::Network { model, .. } => model,
        }
    }

    /// The training samples.
    pub fn train(&self) -> &Samples {
        &self.train
    }

    /// Which training labels are wrong.
    pub fn flipped(&self) -> &[bool] {
        &self.flipped
    }

    fn check(&self, v: &[f64], theta: &[f64]) -> Result<()> {
        check_len("outer_var", v.len(), self.outer_dim())?;
        check_len("inner_var", theta.len(), self.inner_dim())?;
        check_finite("inner_var", theta)
    }

    /// Checks v, θ and the batch, and gives `f(i, v_i)` for the batch: of v, only these numbers are looked at.
    fn per_sample(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, f: impl Fn(usize, f64) -> f64) -> Result<Reused<f64>> {
        self.check(v, theta)?;
        batch.check(self.train.len())?;
        let mut values = Reused::with_capacity(batch.len(self.train.len()));
        for i in batch.iter(self.train.len()) {
            match v[i] {
                v if v.is_finite() => values.push(f(i, v)),
                value => return Err(Error::NotFinite { argument: "outer_var", index: i, value }),
            }
        }
        Ok(values)
    }

    /// Σ over the batch of `values`, put where v_i stands, over m.
    fn scatter(&self, batch: Batch<'_>, values: impl Iterator<Item = f64>) -> Result<OuterVector> {
        let n = self.train.len();
        let m = batch.len(n) as f64;
        OuterVector::entries(n, batch.iter(n).zip(values).map(|(i, x)| (i, x / m)).collect())
    }

    fn weighted<'a>(&'a self, batch: Batch<'a>, weights: &'a [f64]) -> Weighted<'a> {
        Weighted { samples: &self.train, batch, weights: Some(weights) }
    }

    /// The problem of plain training on `train`: every weight is 1.
    fn plain(&self, name: &'static str, train: Samples) -> Result<Baseline> {
        let n = train.len();
        let targets = train.targets.clone();
        // Which labels are wrong matters only where the noisy ones are used.
        let flipped = if name == "noisy-labels" { self.flipped.clone() } else { vec![false; n] };
        let (model, validation, test) = (self.model.clone(), self.validation.clone(), self.test.clone());
        let problem = Self { model, train, true_targets: targets, flipped, validation, test, ..*self };
        Ok(Baseline { name, problem: Box::new(problem), outer_var: vec![CERTAIN; n] })
    }
}

impl Problem for DataCleaning {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn outer_dim(&self) -> usize {
        self.train.len()
    }

    fn inner_dim(&self) -> usize {
        self.model().dim()
    }

    fn inner_samples(&self) -> usize {
        self.train.len()
    }

    fn outer_samples(&self) -> usize {
        self.validation.len()
    }

    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        let theta = match &self.model {
            Fitted::Softmax(model) => vec![0.0; model.dim()],
            Fitted::Network { initial, .. } => initial.clone(),
        };
        (vec![self.initial_logit; self.outer_dim()], theta)
    }

    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        let weights = self.per_sample(v, theta, batch, |_, v| sigmoid(v))?;
        Ok(self.model().loss(self.weighted(batch, &weights), theta)? + 0.5 * self.ridge * dot(theta, theta))
    }

    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let weights = self.per_sample(v, theta, batch, |_, v| sigmoid(v))?;
        let mut gradient = self.model().gradient(self.weighted(batch, &weights), theta)?;
        axpy(self.ridge, theta, &mut gradient);
        Ok(gradient)
    }

    /// (1/m) σ'(v_i) ℓ_i
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let slopes = self.per_sample(v, theta, batch, |_, v| sigmoid_slope(v))?;
        let losses = self.model().losses(&self.train, batch, theta)?;
        Ok(self.scatter(batch, slopes.iter().zip(losses).map(|(s, l)| s * l))?.into_vec())
    }

    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.check(v, theta)?;
        check_finite("outer_var", v)?;
        self.model().loss(Weighted::ones(&self.validation, batch), theta)
    }

    /// f does not depend on v.
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.check(v, theta)?;
        check_finite("outer_var", v)?;
        Ok(OuterGradient {
            theta: self.model().gradient(Weighted::ones(&self.validation, batch), theta)?,
            v: OuterVector::zero(v.len()),
        })
    }

    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        let weights = self.per_sample(v, theta, batch, |_, v| sigmoid(v))?;
        self.model().scores(self.weighted(batch, &weights), theta, kind, key)
    }

    fn known_curvature(&self, _v: &[f64]) -> Result<KnownCurvature> {
        KnownCurvature::scalar(self.inner_dim(), self.ridge)
    }

    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        let weights = self.per_sample(v, theta, batch, |_, v| sigmoid(v))?;
        let mut product = self.model().hvp(self.weighted(batch, &weights), theta, u)?;
        axpy(self.ridge, u, &mut product);
        Ok(product)
    }

    /// (1/m) σ'(v_i) s_iᵀq
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        let slopes = self.per_sample(v, theta, batch, |_, v| sigmoid_slope(v))?;
        let products = self.model().score_products(&self.train, batch, theta, q)?;
        Ok(self.scatter(batch, slopes.iter().zip(products).map(|(s, p)| s * p))?.into_vec())
    }

    /// (1/m) Σ σ'(v_i) u_i s_i
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        check_len("direction", u.len(), self.outer_dim())?;
        check_finite("direction", u)?;
        let weights = self.per_sample(v, theta, batch, |i, v| sigmoid_slope(v) * u[i])?;
        self.model().gradient(self.weighted(batch, &weights), theta)
    }

    /// One pass of the model over the batch, where the model has one.
    fn inner_products(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<InnerProducts> {
        let weights = self.per_sample(v, theta, batch, |_, v| sigmoid(v))?;
        let Products { mut gradient, mut hvp, score_products } = self.model().products(self.weighted(batch, &weights), theta, q)?;
        axpy(self.ridge, theta, &mut gradient);
        axpy(self.ridge, q, &mut hvp);
        let products = batch.iter(self.train.len()).zip(score_products).map(|(i, product)| sigmoid_slope(v[i]) * product);
        let cross_vjp = self.scatter(batch, products)?;
        Ok(InnerProducts { gradient, hvp, cross_vjp })
    }

    /// Parts the validation set; neither problem has a test set.
    fn hold_out(&self, fold: usize, folds: usize) -> Result<Option<HeldOut>> {
        let Fold { kept, held_out } = Fold::new(self.validation.len(), fold, folds)?;
        let with = |indices: &[usize]| -> Result<Box<dyn Problem>> {
            Ok(Box::new(Self { validation: self.validation.select(indices)?, test: None, ..self.clone() }))
        };
        Ok(Some(HeldOut { fit: with(&kept)?, judge: with(&held_out)? }))
    }

    fn tables(&self) -> Box<dyn SampleTables + '_> {
        match &self.model {
            Fitted::Softmax(model) => Box::new(tables::Tables::new(self, model)),
            Fitted::Network { .. } => Box::new(WholeRows(self)),
        }
    }

    /// Row i is (1/n) σ'(v_i) s_i.
    fn cross_rows(&self, v: &[f64], theta: &[f64]) -> Result<Option<GradientBlock>> {
        let n = self.train.len() as f64;
        // A row carries √w, so that w is the square of what stands before the score. Observed labels: the key is not used.
        let squares = self.per_sample(v, theta, Batch::All, |_, v| (sigmoid_slope(v) / n).powi(2))?;
        self.model().scores(self.weighted(Batch::All, &squares), theta, FisherKind::Empirical, Key::new(0)).map(Some)
    }

    /// As [`Model::smoothness`] says of a sample, times its weight.
    fn constants(&self, v: &[f64]) -> Result<Option<Constants>> {
        check_len("outer_var", v.len(), self.outer_dim())?;
        check_finite("outer_var", v)?;
        let Some(smooth) = self.model().smoothness() else { return Ok(None) };
        let norms = |samples: &Samples| -> Result<Vec<f64>> {
            let x = samples.features.gather(Batch::All)?;
            Ok((0..x.ncols()).map(|i| norm(x.col(i))).collect())
        };
        let (train, validation) = (norms(&self.train)?, norms(&self.validation)?);
        let n = train.len() as f64;
        let hessian = v.iter().zip(&train).map(|(&v, x)| sigmoid(v) * smooth.hessian * x.powi(3)).sum::<f64>() / n;
        let slope = |(&v, x): (&f64, &f64)| (smooth.gradient * sigmoid_slope(v) * x * x / n).powi(2);
        let cross = v.iter().zip(&train).map(slope).sum::<f64>().sqrt();
        let right_hand_side = validation.iter().map(|x| smooth.gradient * x * x).sum::<f64>() / validation.len() as f64;
        Ok(Some(Constants { strong_convexity: self.ridge, outer_gradient: 0.0, right_hand_side, hessian, cross }))
    }

    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        let weights = self.per_sample(v, theta, Batch::All, |_, v| sigmoid(v))?;
        let mut hessian = self.model().hessian(self.weighted(Batch::All, &weights), theta)?;
        self.known_curvature(v)?.add_to(&mut hessian)?;
        Ok(hessian)
    }

    fn metric_names(&self) -> Vec<&'static str> {
        vec!["validation_accuracy", "test_accuracy", "weight_clean", "weight_flipped"]
    }

    /// Accuracies, and the mean weights of the samples whose label is right and of those whose label is wrong.
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        check_finite("outer_var", v)?;
        let accuracy = |samples: &Samples| Ok::<_, Error>(self.model().accuracy(samples, Batch::All, theta)?.unwrap_or(f64::NAN));
        let mean_weight = |flipped: bool| {
            let weights: Vec<f64> = v.iter().zip(&self.flipped).filter(|(_, f)| **f == flipped).map(|(&v, _)| sigmoid(v)).collect();
            weights.iter().sum::<f64>() / weights.len() as f64
        };
        let test = self.test.as_ref().map_or(Ok(f64::NAN), accuracy)?;
        Ok(vec![accuracy(&self.validation)?, test, mean_weight(false), mean_weight(true)])
    }

    /// Training on all noisy labels, on the validation set alone, and on the true labels (the ceiling), with the same ridge.
    fn baselines(&self) -> Result<Vec<Baseline>> {
        Ok(vec![
            self.plain("noisy-labels", self.train.clone())?,
            self.plain("validation-only", self.validation.clone())?,
            self.plain("true-labels", Samples::new(self.train.features.clone(), self.true_targets.clone())?)?,
        ])
    }
}
