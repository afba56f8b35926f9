//! Dataset distillation (Wang, Zhu, Torralba & Efros 2018): v is a handful of training images with fixed labels, a softmax regression θ is
//! trained on them alone, and its loss on real training data is to be small,
//!
//! g(v, θ) = (1/n) Σ_i ℓ(θ; v_i, y_i) + (λ/2)‖θ‖²,   f(v, θ) = (1/N) Σ_real ℓ(θ; x_j, y_j),   n = images a class times classes.
//!
//! v holds image after image, those of class 0 first. With δ_i = p_i − e_{y_i} and W, Q for θ, q as matrices, ∇_{v_i} g = (1/n) Wδ_i and
//! (Jᵀq)_i = (1/n)[Qδ_i + W(diag(p_i) − p_i p_iᵀ)Qᵀv_i]: the derivatives of the model in its inputs.

use serde::{Deserialize, Serialize};

use super::data_cleaning::{DataSet, load::read_folder};
use super::{Baseline, DataSource, HeldOut, OuterGradient, OuterVector, Picture, PictureKind, Problem};
use crate::data;
use crate::dense::{Matrix, axpy, dot};
use crate::error::{Error, Result, check_count, check_finite, check_len, check_positive};
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::model::{FisherKind, Model, Softmax, Weighted};
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// The settings of [`Distillation`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the real data come from. Of the digits, what `train` leaves is the test set.
    pub data: DataSet,
    /// N, the number of real training samples: the outer samples.
    pub train: usize,
    /// Distilled images a class: 1, 5 and 10 in the field.
    pub images_per_class: usize,
    /// λ of (λ/2)‖θ‖².
    pub ridge: f64,
    /// Whether the model has a bias (it is in the ridge). Images have no pixel for it.
    pub intercept: bool,
    /// Where the images start.
    pub initial: InitialImages,
}

/// What distilled images start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialImages {
    /// Random real training images of the class, the habit since Zhao, Mopuri & Bilen (2021).
    Real,
    /// The mean training image of the class, in every one of its places.
    Mean,
    /// Gaussian noise with the mean and the deviation of all training pixels, as in Wang et al. (2018).
    Noise,
}

impl Default for Config {
    fn default() -> Self {
        Self { data: DataSet::Digits, train: 1000, images_per_class: 1, ridge: 1e-2, intercept: true, initial: InitialImages::Real }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("train", self.train)?;
        check_count("images_per_class", self.images_per_class)?;
        check_positive("ridge", self.ridge)
    }
}

/// The most numbers in the images of the baseline that is trained on all real data; larger data go without it.
const MAX_WHOLE: usize = 1 << 23;

/// A distillation problem.
#[derive(Debug, Clone)]
pub struct Distillation {
    model: Softmax,
    /// The labels of the distilled images.
    labels: Targets,
    /// Pixels of an image.
    width: usize,
    intercept: bool,
    /// Real samples, with the intercept's constant.
    train: Samples,
    test: Option<Samples>,
    ridge: f64,
    initial: Vec<f64>,
    /// Random real images, as many as there are distilled ones.
    real: Vec<f64>,
}

impl Distillation {
    /// The registry name.
    pub const NAME: &'static str = "distillation";

    /// The problem of distilling `train`; of `config`, where the data come from and how many there are plays no part. `key` draws what images
    /// start from.
    ///
    /// # Errors
    /// [`Error::Argument`] that names the setting, or more images of a class than training samples; [`Error::Shape`] if the sets do not fit.
    pub fn new(config: &Config, train: Samples, test: Option<Samples>, key: Key) -> Result<Self> {
        config.validate()?;
        let (_, classes) = train.targets.as_classes()?;
        let (width, per_class) = (train.features.width(), config.images_per_class);
        if let Some(other) = &test {
            check_len("feature width", other.features.width(), width)?;
            check_len("classes", other.targets.as_classes()?.1, classes)?;
        }
        let members = members(&train, per_class, key.named("real images"))?;
        let picked: Vec<usize> = members.iter().flat_map(|all| &all[..per_class]).copied().collect();
        let real = train.features.gather(Batch::Indices(&picked))?.into_vec();
        let initial = match config.initial {
            InitialImages::Real => real.clone(),
            InitialImages::Mean => means(&train, &members, per_class)?,
            InitialImages::Noise => noise(&train, real.len(), key.named("noise"))?,
        };
        let labels = (0..classes as u32).flat_map(|class| std::iter::repeat_n(class, per_class)).collect();
        let labels = Targets::classes(labels, classes)?;
        let intercept = config.intercept;
        let model = Softmax::new(width + usize::from(intercept), classes)?;
        let as_seen = |samples: Samples| Samples::new(with_intercept(samples.features, intercept), samples.targets);
        let (train, test) = (as_seen(train)?, test.map(as_seen).transpose()?);
        Ok(Self { model, labels, width, intercept, train, test, ridge: config.ridge, initial, real })
    }

    /// Reads the data and draws the training samples.
    ///
    /// # Errors
    /// [`Error::Argument`] for more samples than there are, [`Error::Data`] and [`Error::Io`] for the files, and as [`new`](Self::new).
    pub fn load(config: &Config, source: &DataSource, key: Key) -> Result<Self> {
        config.validate()?;
        let (pool, test) = match config.data {
            DataSet::Digits => (data::digits()?, None),
            DataSet::Idx => read_folder(source)?,
        };
        // Without a test set of its own, what is left of the pool is the test set, and must not be empty.
        let most = pool.len() - usize::from(test.is_none());
        if config.train > most {
            return Err(Error::argument("train", format_args!("at most {most} samples"), config.train));
        }
        let order = key.named("split").stream().permutation(pool.len());
        let (train, rest) = order.split_at(config.train);
        let test = test.map_or_else(|| pool.select(rest), Ok)?;
        Self::new(config, pool.select(train)?, Some(test), key)
    }

    /// A small instance for checks: two images for each of three classes.
    pub(super) fn specimen(key: Key) -> Result<Self> {
        let all = data::gaussian_mixture(90, 9, 3, 3.0, key.named("mixture"))?;
        let (train, test): (Vec<usize>, Vec<usize>) = (0..90).partition(|i| i % 3 != 0);
        let config = Config { images_per_class: 2, ridge: 5e-2, ..Config::default() };
        Self::new(&config, all.select(&train)?, Some(all.select(&test)?), key)
    }

    /// The number of distilled images.
    pub fn images(&self) -> usize {
        self.labels.len()
    }

    /// The labels of the distilled images.
    pub fn labels(&self) -> &Targets {
        &self.labels
    }

    fn check(&self, v: &[f64], theta: &[f64]) -> Result<()> {
        check_len("outer_var", v.len(), self.outer_dim())?;
        check_finite("outer_var", v)?;
        check_len("inner_var", theta.len(), self.inner_dim())?;
        check_finite("inner_var", theta)
    }

    /// The distilled images as samples, checked with θ.
    fn distilled(&self, v: &[f64], theta: &[f64]) -> Result<Samples> {
        self.check(v, theta)?;
        let features = Features::from_f64(v.to_vec(), self.images(), self.width)?;
        Samples::new(with_intercept(features, self.intercept), self.labels.clone())
    }

    /// (1/m) Σ over the batch of the columns, the intercept's row left out, put where v_i stands.
    fn scattered(&self, batch: Batch<'_>, columns: &Matrix) -> Vec<f64> {
        let mut result = vec![0.0; self.outer_dim()];
        let share = (columns.ncols() as f64).recip();
        for (position, i) in batch.iter(self.images()).enumerate() {
            axpy(share, &columns.col(position)[..self.width], &mut result[i * self.width..(i + 1) * self.width]);
        }
        result
    }
}

fn with_intercept(features: Features, intercept: bool) -> Features {
    if intercept { features.with_intercept() } else { features }
}

/// The training samples of each class in random order, at least so many.
fn members(train: &Samples, least: usize, key: Key) -> Result<Vec<Vec<usize>>> {
    let (labels, classes) = train.targets.as_classes()?;
    let mut members = vec![Vec::new(); classes];
    key.stream().permutation(train.len()).into_iter().for_each(|i| members[labels[i] as usize].push(i));
    match members.iter().position(|all| all.len() < least) {
        None => Ok(members),
        Some(class) => {
            let expected = format!("at most the {} training samples of class {class}", members[class].len());
            Err(Error::argument("images_per_class", expected, least))
        }
    }
}

/// The mean image of every class, `per_class` times.
fn means(train: &Samples, members: &[Vec<usize>], per_class: usize) -> Result<Vec<f64>> {
    let mut images = Vec::new();
    for all in members {
        let share = Matrix::from_fn(1, all.len(), |_, _| (all.len() as f64).recip());
        let mean = train.features.accumulate(Batch::Indices(all), &share)?;
        (0..per_class).for_each(|_| images.extend_from_slice(mean.as_slice()));
    }
    Ok(images)
}

/// Independent pixels with the mean and the deviation of all training pixels.
fn noise(train: &Samples, count: usize, key: Key) -> Result<Vec<f64>> {
    let (mut sum, mut squares) = (0.0, 0.0);
    let indices: Vec<usize> = (0..train.len()).collect();
    for part in indices.chunks(1024) {
        let pixels = train.features.gather(Batch::Indices(part))?;
        sum += pixels.as_slice().iter().sum::<f64>();
        squares += dot(pixels.as_slice(), pixels.as_slice());
    }
    let n = (train.len() * train.features.width()) as f64;
    let mean = sum / n;
    let deviation = (squares / n - mean * mean).max(0.0).sqrt();
    Ok(key.stream().normals(count).into_iter().map(|z| mean + deviation * z).collect())
}

impl Problem for Distillation {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn outer_dim(&self) -> usize {
        self.images() * self.width
    }

    fn inner_dim(&self) -> usize {
        self.model.dim()
    }

    fn inner_samples(&self) -> usize {
        self.images()
    }

    fn outer_samples(&self) -> usize {
        self.train.len()
    }

    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        (self.initial.clone(), vec![0.0; self.inner_dim()])
    }

    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        let images = self.distilled(v, theta)?;
        Ok(self.model.loss(Weighted::ones(&images, batch), theta)? + 0.5 * self.ridge * dot(theta, theta))
    }

    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let images = self.distilled(v, theta)?;
        let mut gradient = self.model.gradient(Weighted::ones(&images, batch), theta)?;
        axpy(self.ridge, theta, &mut gradient);
        Ok(gradient)
    }

    /// (1/m) Wδ_i
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let images = self.distilled(v, theta)?;
        Ok(self.scattered(batch, &self.model.input_gradients(&images, batch, theta)?))
    }

    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.check(v, theta)?;
        self.model.loss(Weighted::ones(&self.train, batch), theta)
    }

    /// f does not depend on v.
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.check(v, theta)?;
        Ok(OuterGradient { theta: self.model.gradient(Weighted::ones(&self.train, batch), theta)?, v: OuterVector::zero(v.len()) })
    }

    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        let images = self.distilled(v, theta)?;
        self.model.scores(Weighted::ones(&images, batch), theta, kind, key)
    }

    fn known_curvature(&self, _v: &[f64]) -> Result<KnownCurvature> {
        KnownCurvature::scalar(self.inner_dim(), self.ridge)
    }

    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        let images = self.distilled(v, theta)?;
        let mut product = self.model.hvp(Weighted::ones(&images, batch), theta, u)?;
        axpy(self.ridge, u, &mut product);
        Ok(product)
    }

    /// (1/m)[Qδ_i + W(diag(p_i) − p_i p_iᵀ)Qᵀv_i]
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        let images = self.distilled(v, theta)?;
        Ok(self.scattered(batch, &self.model.score_product_gradients(&images, batch, theta, q)?))
    }

    /// (1/m) Σ [u_i ⊗ δ_i + v_i ⊗ (diag(p_i) − p_i p_iᵀ)Wᵀu_i]; the intercept's constant does not move.
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        let images = self.distilled(v, theta)?;
        check_len("direction", u.len(), self.outer_dim())?;
        check_finite("direction", u)?;
        batch.check(self.images())?;
        let rows = images.features.width();
        let entry = |j: usize, position: usize| if j < self.width { u[batch.index(position) * self.width + j] } else { 0.0 };
        let moved = Matrix::from_fn(rows, batch.len(self.images()), entry);
        self.model.gradient_moved_by(&images, batch, theta, &moved)
    }

    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        let images = self.distilled(v, theta)?;
        let mut hessian = self.model.hessian(Weighted::ones(&images, Batch::All), theta)?;
        self.known_curvature(v)?.add_to(&mut hessian)?;
        Ok(hessian)
    }

    fn hold_out(&self, fold: usize, folds: usize) -> Result<Option<HeldOut>> {
        let count = self.train.len();
        if !(2..=count).contains(&folds) {
            return Err(Error::argument("folds", format_args!("between 2 and the {count} training samples"), folds));
        }
        if fold >= folds {
            return Err(Error::argument("fold", format_args!("below the {folds} folds"), fold));
        }
        let (held_out, kept): (Vec<usize>, Vec<usize>) = (0..count).partition(|i| i % folds == fold);
        let with = |indices: &[usize]| -> Result<Box<dyn Problem>> {
            Ok(Box::new(Self { train: self.train.select(indices)?, test: None, ..self.clone() }))
        };
        Ok(Some(HeldOut { fit: with(&kept)?, judge: with(&held_out)? }))
    }

    fn metric_names(&self) -> Vec<&'static str> {
        vec!["train_accuracy", "test_accuracy"]
    }

    /// Accuracies on real data.
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let accuracy = |samples: &Samples| Ok::<_, Error>(self.model.accuracy(samples, Batch::All, theta)?.unwrap_or(f64::NAN));
        Ok(vec![accuracy(&self.train)?, self.test.as_ref().map_or(Ok(f64::NAN), accuracy)?])
    }

    /// The distilled images, one of each class after the other; of images that are not square a row of pixels.
    fn pictures(&self, v: &[f64], theta: &[f64]) -> Result<Vec<Picture>> {
        self.check(v, theta)?;
        let side = self.width.isqrt();
        let (width, height) = if side * side == self.width { (side, side) } else { (self.width, 1) };
        let (labels, classes) = self.labels.as_classes()?;
        let per_class = labels.len() / classes;
        let image = |i: usize| Picture {
            title: format!("{}", labels[i]),
            kind: PictureKind::Image,
            unit: "pixel (0 to 1 in real images)".to_owned(),
            width,
            height,
            values: v[i * self.width..(i + 1) * self.width].to_vec(),
        };
        Ok((0..per_class).flat_map(|k| (0..classes).map(move |class| class * per_class + k)).map(image).collect())
    }

    /// Training on as many random real images, and on all of them (the ceiling, where they have at most 2²³ pixels), with the same ridge.
    fn baselines(&self) -> Result<Vec<Baseline>> {
        let random = Baseline { name: "random-real", problem: Box::new(self.clone()), outer_var: self.real.clone() };
        let pixels = self.train.len().saturating_mul(self.width);
        if pixels > MAX_WHOLE {
            return Ok(vec![random]);
        }
        let whole = Self { labels: self.train.targets.clone(), ..self.clone() };
        let images = self.train.features.gather(Batch::All)?.rows(0..self.width).to_matrix().into_vec();
        Ok(vec![random, Baseline { name: "all-real", problem: Box::new(whole), outer_var: images }])
    }
}
