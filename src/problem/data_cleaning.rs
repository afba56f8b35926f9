//! Data cleaning (hyper-cleaning; Franceschi, Donini, Frasconi & Pontil 2017): training labels are partly wrong, a small validation
//! set is clean, and v holds one logit a training sample whose weight is σ(v_i):
//!
//! g(v, θ) = (1/n) Σ σ(v_i) ℓ_i(θ) + (λ/2)‖θ‖²,   f(v, θ) = (1/m) Σ_val ℓ_j(θ),   ℓ the loss of softmax regression.
//!
//! Column i of J = ∇²_{θv} g is (1/n) σ'(v_i) s_i.

use serde::{Deserialize, Serialize};

use super::{Baseline, Constants, DataSource, OuterGradient, Problem};
use crate::data::{self, corrupt_labels};
use crate::dense::{Matrix, axpy, dot, norm};
use crate::error::{Error, Result, check_count, check_finite, check_len, check_positive};
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::model::{FisherKind, Model, Softmax, Weighted};
use crate::rng::Key;
use crate::samples::{Batch, Samples, Targets};

/// The settings of [`DataCleaning`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the data come from.
    pub data: DataSet,
    /// The number of training samples, some of them corrupted.
    pub train: usize,
    /// The number of clean validation samples.
    pub validation: usize,
    /// The probability that a training label is replaced by a uniformly drawn one.
    pub corruption: f64,
    /// λ of (λ/2)‖θ‖².
    pub ridge: f64,
    /// Whether the model has a bias (it is in the ridge).
    pub intercept: bool,
    /// Where every v_i starts.
    pub initial_logit: f64,
}

/// The data sets at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSet {
    /// The embedded UCI digits: train and validation are drawn from its 1,797 samples, the rest is the test set.
    Digits,
    /// A folder of IDX files (MNIST and its kin): train and validation are drawn from its training part.
    Idx,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: DataSet::Digits,
            train: 1000,
            validation: 100,
            corruption: 0.5,
            ridge: 1e-3,
            intercept: true,
            initial_logit: 0.0,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("train", self.train)?;
        check_count("validation", self.validation)?;
        check_positive("ridge", self.ridge)?;
        check_finite("initial_logit", &[self.initial_logit])?;
        if !(0.0..=1.0).contains(&self.corruption) {
            return Err(Error::argument("corruption", "a probability in [0, 1]", self.corruption));
        }
        Ok(())
    }
}

/// A data-cleaning problem. Cheap to clone but for its data.
#[derive(Debug, Clone)]
pub struct DataCleaning {
    model: Softmax,
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
        let model = Softmax::new(train.features.width(), classes)?;
        check_len("flipped", flipped.len(), train.len())?;
        check_len("true targets", true_targets.len(), train.len())?;
        check_len("classes", true_targets.as_classes()?.1, classes)?;
        for other in std::iter::once(&validation).chain(&test) {
            check_len("feature width", other.features.width(), train.features.width())?;
            check_len("classes", other.targets.as_classes()?.1, classes)?;
        }
        Ok(Self { model, train, flipped, true_targets, validation, test, ridge, initial_logit })
    }

    /// Reads the data, splits and corrupts them.
    ///
    /// # Errors
    /// [`Error::Argument`] for more samples than there are, [`Error::Data`] and [`Error::Io`] for the files.
    pub fn load(config: &Config, source: &DataSource, key: Key) -> Result<Self> {
        config.validate()?;
        let (pool, test) = match config.data {
            DataSet::Digits => (data::digits()?, None),
            DataSet::Idx => read_folder(source)?,
        };
        // Without a test set of its own, what is left of the pool is the test set, and must not be empty.
        let needed = config.train.saturating_add(config.validation).saturating_add(usize::from(test.is_none()));
        if needed > pool.len() {
            return Err(Error::argument(
                "train",
                format_args!("train + validation below the {} samples there are", pool.len()),
                needed,
            ));
        }
        let order = key.named("split").stream().permutation(pool.len());
        let (train, rest) = order.split_at(config.train);
        let (validation, rest) = rest.split_at(config.validation);
        let pick = |indices: &[usize]| -> Result<Samples> {
            let mut part = pool.select(indices)?;
            if config.intercept {
                part.features = part.features.with_intercept();
            }
            Ok(part)
        };
        let test = match test {
            None => pick(rest)?,
            Some(mut test) => {
                if config.intercept {
                    test.features = test.features.with_intercept();
                }
                test
            }
        };
        let mut noisy = pick(train)?;
        let true_targets = noisy.targets.clone();
        let (labels, classes) = true_targets.as_classes()?;
        let corruption = corrupt_labels(labels, classes, config.corruption, key.named("corruption"))?;
        noisy.targets = Targets::classes(corruption.labels, classes)?;
        Self::new(noisy, true_targets, corruption.flipped, pick(validation)?, Some(test), config.ridge, config.initial_logit)
    }

    /// A small instance for checks: 60 digits, two validation samples a class.
    pub(super) fn specimen(key: Key) -> Result<Self> {
        Self::load(&Config { train: 60, validation: 20, ridge: 1e-2, ..Config::default() }, &DataSource::default(), key)
    }

    /// Two problems on the same training set and without a test set: the validation set of the second is every `folds`-th
    /// validation sample, starting at the `fold`-th, and that of the first is the rest. What is fitted on the first has the loss
    /// `f_outer` of the second on clean samples that it has not seen: settings are chosen so, with the test set out of sight.
    ///
    /// # Errors
    /// [`Error::Argument`] for fewer than two folds, a fold that is not there, or more folds than validation samples.
    pub fn hold_out(&self, fold: usize, folds: usize) -> Result<(Self, Self)> {
        let count = self.validation.len();
        if !(2..=count).contains(&folds) {
            return Err(Error::argument("folds", format_args!("between 2 and the {count} validation samples"), folds));
        }
        if fold >= folds {
            return Err(Error::argument("fold", format_args!("below the {folds} folds"), fold));
        }
        let (held_out, kept): (Vec<usize>, Vec<usize>) = (0..count).partition(|i| i % folds == fold);
        let with = |indices: &[usize]| -> Result<Self> {
            Ok(Self { validation: self.validation.select(indices)?, test: None, ..self.clone() })
        };
        Ok((with(&kept)?, with(&held_out)?))
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
        check_finite("outer_var", v)?;
        check_finite("inner_var", theta)
    }

    /// `f(v_i)` for the batch.
    fn per_sample(&self, v: &[f64], batch: Batch<'_>, f: impl Fn(usize, f64) -> f64) -> Result<Vec<f64>> {
        batch.check(self.train.len())?;
        Ok(batch.iter(self.train.len()).map(|i| f(i, v[i])).collect())
    }

    /// Σ over the batch of `values`, put where v_i stands, over m.
    fn scatter(&self, batch: Batch<'_>, values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut result = vec![0.0; self.outer_dim()];
        let m = batch.len(self.train.len()) as f64;
        batch.iter(self.train.len()).zip(values).for_each(|(i, x)| result[i] += x / m);
        result
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
        let problem =
            Self::new(train, targets, flipped, self.validation.clone(), self.test.clone(), self.ridge, self.initial_logit)?;
        Ok(Baseline { name, problem: Box::new(problem), outer_var: vec![CERTAIN; n] })
    }
}

#[cfg(feature = "io")]
pub(super) fn read_folder(source: &DataSource) -> Result<(Samples, Option<Samples>)> {
    let folder = source
        .folder
        .as_deref()
        .ok_or_else(|| Error::data("IDX data", "no folder given: pass --data DIR or set NHGD_DATA to a folder of IDX files"))?;
    let data = data::read_idx_folder(folder)?;
    Ok((data.train, Some(data.test)))
}

#[cfg(not(feature = "io"))]
pub(super) fn read_folder(_source: &DataSource) -> Result<(Samples, Option<Samples>)> {
    Err(Error::unsupported("reading IDX files", "build with the feature `io`"))
}

impl Problem for DataCleaning {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn outer_dim(&self) -> usize {
        self.train.len()
    }

    fn inner_dim(&self) -> usize {
        self.model.dim()
    }

    fn inner_samples(&self) -> usize {
        self.train.len()
    }

    fn outer_samples(&self) -> usize {
        self.validation.len()
    }

    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        (vec![self.initial_logit; self.outer_dim()], vec![0.0; self.inner_dim()])
    }

    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.check(v, theta)?;
        let weights = self.per_sample(v, batch, |_, v| sigmoid(v))?;
        Ok(self.model.loss(self.weighted(batch, &weights), theta)? + 0.5 * self.ridge * dot(theta, theta))
    }

    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let weights = self.per_sample(v, batch, |_, v| sigmoid(v))?;
        let mut gradient = self.model.gradient(self.weighted(batch, &weights), theta)?;
        axpy(self.ridge, theta, &mut gradient);
        Ok(gradient)
    }

    /// (1/m) σ'(v_i) ℓ_i
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let slopes = self.per_sample(v, batch, |_, v| sigmoid_slope(v))?;
        let losses = self.model.losses(&self.train, batch, theta)?;
        Ok(self.scatter(batch, slopes.iter().zip(losses).map(|(s, l)| s * l)))
    }

    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.check(v, theta)?;
        self.model.loss(Weighted::ones(&self.validation, batch), theta)
    }

    /// f does not depend on v.
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.check(v, theta)?;
        Ok(OuterGradient { theta: self.model.gradient(Weighted::ones(&self.validation, batch), theta)?, v: vec![0.0; v.len()] })
    }

    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        self.check(v, theta)?;
        let weights = self.per_sample(v, batch, |_, v| sigmoid(v))?;
        self.model.scores(self.weighted(batch, &weights), theta, kind, key)
    }

    fn known_curvature(&self, _v: &[f64]) -> Result<KnownCurvature> {
        KnownCurvature::scalar(self.inner_dim(), self.ridge)
    }

    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let weights = self.per_sample(v, batch, |_, v| sigmoid(v))?;
        let mut product = self.model.hvp(self.weighted(batch, &weights), theta, u)?;
        axpy(self.ridge, u, &mut product);
        Ok(product)
    }

    /// (1/m) σ'(v_i) s_iᵀq
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let slopes = self.per_sample(v, batch, |_, v| sigmoid_slope(v))?;
        let products = self.model.score_products(&self.train, batch, theta, q)?;
        Ok(self.scatter(batch, slopes.iter().zip(products).map(|(s, p)| s * p)))
    }

    /// (1/m) Σ σ'(v_i) u_i s_i
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        check_len("direction", u.len(), self.outer_dim())?;
        check_finite("direction", u)?;
        let weights = self.per_sample(v, batch, |i, v| sigmoid_slope(v) * u[i])?;
        self.model.gradient(self.weighted(batch, &weights), theta)
    }

    /// Row i is (1/n) σ'(v_i) s_i.
    fn cross_rows(&self, v: &[f64], theta: &[f64]) -> Result<Option<GradientBlock>> {
        self.check(v, theta)?;
        let n = self.train.len() as f64;
        // A row carries √w, so that w is the square of what stands before the score. Observed labels: the key is not used.
        let squares = self.per_sample(v, Batch::All, |_, v| (sigmoid_slope(v) / n).powi(2))?;
        self.model.scores(self.weighted(Batch::All, &squares), theta, FisherKind::Empirical, Key::new(0)).map(Some)
    }

    /// Of softmax regression: ∇²ℓ_i ≼ ½‖x_i‖², since diag(p) − ppᵀ ≼ ½; and |D³ℓ_i[u, u, u]| is a third central moment of a variable of
    /// range √2·‖x_i‖‖u‖, at most range³/(6√3), so that ∇²ℓ_i is Lipschitz with 2√2/(6√3)·‖x_i‖³.
    fn constants(&self, v: &[f64]) -> Result<Option<Constants>> {
        check_len("outer_var", v.len(), self.outer_dim())?;
        check_finite("outer_var", v)?;
        let third = 2.0 * 2.0_f64.sqrt() / (6.0 * 3.0_f64.sqrt());
        let norms = |samples: &Samples| -> Result<Vec<f64>> {
            let x = samples.features.gather(Batch::All)?;
            Ok((0..x.ncols()).map(|i| norm(x.col(i))).collect())
        };
        let (train, validation) = (norms(&self.train)?, norms(&self.validation)?);
        let n = train.len() as f64;
        let hessian = v.iter().zip(&train).map(|(&v, x)| sigmoid(v) * third * x.powi(3)).sum::<f64>() / n;
        let cross = v.iter().zip(&train).map(|(&v, x)| (0.5 * sigmoid_slope(v) * x * x / n).powi(2)).sum::<f64>().sqrt();
        let right_hand_side = validation.iter().map(|x| 0.5 * x * x).sum::<f64>() / validation.len() as f64;
        Ok(Some(Constants { strong_convexity: self.ridge, outer_gradient: 0.0, right_hand_side, hessian, cross }))
    }

    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        self.check(v, theta)?;
        let weights = self.per_sample(v, Batch::All, |_, v| sigmoid(v))?;
        let mut hessian = self.model.hessian(self.weighted(Batch::All, &weights), theta)?;
        self.known_curvature(v)?.add_to(&mut hessian)?;
        Ok(hessian)
    }

    fn metric_names(&self) -> Vec<&'static str> {
        vec!["validation_accuracy", "test_accuracy", "weight_clean", "weight_flipped"]
    }

    /// Accuracies, and the mean weights of the samples whose label is right and of those whose label is wrong.
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let accuracy = |samples: &Samples| Ok::<_, Error>(self.model.accuracy(samples, Batch::All, theta)?.unwrap_or(f64::NAN));
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
