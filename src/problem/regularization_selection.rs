//! Regularization selection: one ridge strength a feature, or one a class, chosen on validation data (the field's benchmark problem on
//! IJCNN1 and Covertype: Dagréou, Ablin, Vaiter & Moreau 2022, after Pedregosa 2016),
//!
//! g(v, θ) = (1/n) Σ ℓ_i(θ) + ½ Σ_j exp(v_{s(j)}) θ_j²,   f(θ) = (1/m) Σ_val ℓ_j(θ),
//!
//! ℓ the loss of logistic regression (two classes) or softmax regression, s(j) the strength that coordinate j of θ shares. The Hessian
//! of the regularizer is known: Λ = diag(exp(v_{s(j)})); and J does not depend on samples: J_js = exp(v_s) θ_j where s = s(j), else 0.

mod data;

use std::sync::Arc;

pub use data::{Config, DataSet, InitialInner, InitialStrength, Strength};

use self::data::Parts;
use super::held_out::Fold;
use super::{Baseline, Constants, DataSource, HeldOut, InnerProducts, OuterGradient, OuterVector, Problem};
use crate::dense::{Matrix, dot, norm};
use crate::error::{Error, Result, check_finite, check_len};
use crate::gradient::{GradientBlock, KroneckerRows};
use crate::inverse::KnownCurvature;
use crate::model::{FisherKind, Logistic, Model, Products, Softmax, Weighted};
use crate::rng::Key;
use crate::samples::{Batch, Samples};

/// A regularization-selection problem. Cheap to clone: its data are shared.
#[derive(Clone)]
pub struct RegularizationSelection {
    model: Arc<dyn Model>,
    train: Arc<Samples>,
    validation: Arc<Samples>,
    test: Option<Arc<Samples>>,
    strength: Strength,
    /// (v₀, θ₀).
    initial: (Vec<f64>, Vec<f64>),
}

/// The strengths that every coordinate shares in the baselines, by name.
const SHARED: [(&str, f64); 4] =
    [("strength-1e-4", 1e-4), ("strength-1e-3", 1e-3), ("strength-1e-2", 1e-2), ("strength-1e-1", 1e-1)];

/// The most numbers that the rows of J may take, half a gigabyte: beyond it a problem offers none.
const MAX_CROSS_ROWS: usize = 1 << 26;

impl RegularizationSelection {
    /// The registry name.
    pub const NAME: &'static str = "regularization-selection";

    /// Builds the problem, starting at θ = 0 and the same v everywhere.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sets do not fit each other, [`Error::Argument`] for targets that are not classes,
    /// [`Error::NotFinite`] for v.
    pub fn new(train: Samples, validation: Samples, test: Option<Samples>, strength: Strength, initial: f64) -> Result<Self> {
        check_finite("initial", &[initial])?;
        let (width, (_, classes)) = (train.features.width(), train.targets.as_classes()?);
        for other in std::iter::once(&validation).chain(&test) {
            check_len("feature width", other.features.width(), width)?;
            check_len("classes", other.targets.as_classes()?.1, classes)?;
        }
        let model: Arc<dyn Model> =
            if classes == 2 { Arc::new(Logistic::new(width)?) } else { Arc::new(Softmax::new(width, classes)?) };
        let outer_dim = match strength {
            Strength::Feature => width,
            Strength::Class => model.dim() / width,
        };
        let initial = (vec![initial; outer_dim], vec![0.0; model.dim()]);
        Ok(Self { model, train: Arc::new(train), validation: Arc::new(validation), test: test.map(Arc::new), strength, initial })
    }

    /// Reads the data, splits and scales them.
    ///
    /// # Errors
    /// [`Error::Argument`] for more samples than there are, [`Error::Data`] and [`Error::Io`] for the files.
    pub fn load(config: &Config, source: &DataSource, key: Key) -> Result<Self> {
        config.validate()?;
        let Parts { train, validation, test } = Parts::load(config, source, key)?;
        let mut problem = Self::new(train, validation, test, config.strength, 0.0)?;
        problem.initial = (config.initial.draw(problem.outer_dim(), key), config.initial_inner.draw(problem.inner_dim(), key));
        Ok(problem)
    }

    /// A small instance for checks: 60 digits and 20 validation samples, one strength a feature.
    pub(super) fn specimen(key: Key) -> Result<Self> {
        Self::load(&Config { train: 60, validation: 20, ..Config::default() }, &DataSource::default(), key)
    }

    fn width(&self) -> usize {
        self.train.features.width()
    }

    /// s(j): θ is the width × classes matrix column by column.
    fn group(&self, j: usize) -> usize {
        match self.strength {
            Strength::Feature => j % self.width(),
            Strength::Class => j / self.width(),
        }
    }

    /// exp(v), checked.
    fn strengths(&self, v: &[f64]) -> Result<Vec<f64>> {
        check_len("outer_var", v.len(), self.outer_dim())?;
        check_finite("outer_var", v)?;
        match v.iter().find(|v| !v.exp().is_finite()) {
            None => Ok(v.iter().map(|v| v.exp()).collect()),
            Some(v) => Err(Error::argument("outer_var", "logarithms of finite strengths", v)),
        }
    }

    /// exp(v), with θ checked too.
    fn check(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.check_inner("inner_var", theta)?;
        self.strengths(v)
    }

    fn check_inner(&self, argument: &'static str, x: &[f64]) -> Result<()> {
        check_len(argument, x.len(), self.inner_dim())?;
        check_finite(argument, x)
    }

    fn data<'a>(&'a self, batch: Batch<'a>) -> Weighted<'a> {
        Weighted::ones(&self.train, batch)
    }

    /// Adds Λx to y.
    fn add_known(&self, strengths: &[f64], x: &[f64], y: &mut [f64]) {
        y.iter_mut().zip(x).enumerate().for_each(|(j, (y, x))| *y += strengths[self.group(j)] * x);
    }

    /// exp(v_s) Σ_{s(j) = s} x_j z_j, for every s.
    fn grouped(&self, strengths: &[f64], x: &[f64], z: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; strengths.len()];
        x.iter().zip(z).enumerate().for_each(|(j, (x, z))| sums[self.group(j)] += x * z);
        sums.iter().zip(strengths).map(|(sum, s)| s * sum).collect()
    }
}

impl Problem for RegularizationSelection {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn outer_dim(&self) -> usize {
        self.initial.0.len()
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
        self.initial.clone()
    }

    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        let strengths = self.check(v, theta)?;
        let penalty: f64 = 0.5 * self.grouped(&strengths, theta, theta).iter().sum::<f64>();
        Ok(self.model.loss(self.data(batch), theta)? + penalty)
    }

    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let strengths = self.check(v, theta)?;
        let mut gradient = self.model.gradient(self.data(batch), theta)?;
        self.add_known(&strengths, theta, &mut gradient);
        Ok(gradient)
    }

    /// ½ exp(v_s) Σ_{s(j) = s} θ_j²
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let strengths = self.check(v, theta)?;
        batch.check(self.train.len())?;
        Ok(self.grouped(&strengths, theta, theta).iter().map(|x| 0.5 * x).collect())
    }

    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.check(v, theta)?;
        self.model.loss(Weighted::ones(&self.validation, batch), theta)
    }

    /// f does not depend on v.
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.check(v, theta)?;
        Ok(OuterGradient {
            theta: self.model.gradient(Weighted::ones(&self.validation, batch), theta)?,
            v: OuterVector::zero(v.len()),
        })
    }

    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        self.check(v, theta)?;
        self.model.scores(self.data(batch), theta, kind, key)
    }

    /// diag(exp(v_{s(j)})), or exp(v)·I for a single strength.
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        let strengths = self.strengths(v)?;
        match strengths[..] {
            [only] => KnownCurvature::scalar(self.inner_dim(), only),
            _ => KnownCurvature::diagonal((0..self.inner_dim()).map(|j| strengths[self.group(j)]).collect()),
        }
    }

    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        let strengths = self.check(v, theta)?;
        let mut product = self.model.hvp(self.data(batch), theta, u)?;
        self.add_known(&strengths, u, &mut product);
        Ok(product)
    }

    /// exp(v_s) Σ_{s(j) = s} θ_j q_j
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        let strengths = self.check(v, theta)?;
        batch.check(self.train.len())?;
        self.check_inner("direction", q)?;
        Ok(self.grouped(&strengths, theta, q))
    }

    /// exp(v_s) θ_j u_s at j, s = s(j)
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        let strengths = self.check(v, theta)?;
        batch.check(self.train.len())?;
        check_len("direction", u.len(), self.outer_dim())?;
        check_finite("direction", u)?;
        Ok(theta.iter().enumerate().map(|(j, x)| strengths[self.group(j)] * x * u[self.group(j)]).collect())
    }

    /// The gradient and the Hessian product by one pass of the model over the batch.
    fn inner_products(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<InnerProducts> {
        let strengths = self.check(v, theta)?;
        let Products { mut gradient, mut hvp, .. } = self.model.products(self.data(batch), theta, q)?;
        self.add_known(&strengths, theta, &mut gradient);
        self.add_known(&strengths, q, &mut hvp);
        Ok(InnerProducts { gradient, hvp, cross_vjp: self.grouped(&strengths, theta, q).into() })
    }

    fn hold_out(&self, fold: usize, folds: usize) -> Result<Option<HeldOut>> {
        let Fold { kept, held_out } = Fold::new(self.validation.len(), fold, folds)?;
        let with = |indices: &[usize]| -> Result<Box<dyn Problem>> {
            Ok(Box::new(Self { validation: Arc::new(self.validation.select(indices)?), test: None, ..self.clone() }))
        };
        Ok(Some(HeldOut { fit: with(&kept)?, judge: with(&held_out)? }))
    }

    /// Factored: for one strength a feature, row s is e_s ⊗ exp(v_s)·(θ's entries of feature s); for one a class, (exp(v_s)·θ's column s) ⊗ e_s.
    /// None where the unit vectors of the features would take more than half a gigabyte.
    fn cross_rows(&self, v: &[f64], theta: &[f64]) -> Result<Option<GradientBlock>> {
        let strengths = self.check(v, theta)?;
        let (width, columns) = (self.width(), self.inner_dim() / self.width());
        let entry = |j: usize, k: usize| strengths[self.group(k * width + j)] * theta[k * width + j];
        let (inputs, deltas) = match self.strength {
            Strength::Feature if width.saturating_mul(width) > MAX_CROSS_ROWS => return Ok(None),
            Strength::Feature => (Matrix::identity(width), Matrix::from_fn(columns, width, |k, j| entry(j, k))),
            Strength::Class => (Matrix::from_fn(width, columns, entry), Matrix::identity(columns)),
        };
        Ok(Some(KroneckerRows::new(inputs, deltas, 1)?.into()))
    }

    /// As [`Model::smoothness`] says of a sample. The columns of J are linear in θ and have disjoint supports, so that ‖J(θ) − J(θ')‖ is at
    /// most max exp(v) · ‖θ − θ'‖; and g is as convex as its smallest strength.
    fn constants(&self, v: &[f64]) -> Result<Option<Constants>> {
        let known = self.known_curvature(v)?;
        let Some(smooth) = self.model.smoothness() else { return Ok(None) };
        let mean_power = |samples: &Samples, power: i32| -> Result<f64> {
            let x = samples.features.gather(Batch::All)?;
            Ok((0..x.ncols()).map(|i| norm(x.col(i)).powi(power)).sum::<f64>() / x.ncols() as f64)
        };
        Ok(Some(Constants {
            strong_convexity: known.min_eigenvalue(),
            outer_gradient: 0.0,
            right_hand_side: smooth.gradient * mean_power(&self.validation, 2)?,
            hessian: smooth.hessian * mean_power(&self.train, 3)?,
            cross: known.max_eigenvalue(),
        }))
    }

    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        self.check(v, theta)?;
        let mut hessian = self.model.hessian(self.data(Batch::All), theta)?;
        self.known_curvature(v)?.add_to(&mut hessian)?;
        Ok(hessian)
    }

    fn metric_names(&self) -> Vec<&'static str> {
        vec!["train_accuracy", "validation_accuracy", "test_accuracy", "test_loss", "strength_min", "strength_max", "strength_norm"]
    }

    /// Accuracies, the mean loss on the test samples, and the extremes and the 2-norm of exp(v).
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        let strengths = self.check(v, theta)?;
        let accuracy = |samples: &Samples| Ok::<_, Error>(self.model.accuracy(samples, Batch::All, theta)?.unwrap_or(f64::NAN));
        let loss = |samples: &Samples| self.model.loss(Weighted::ones(samples, Batch::All), theta);
        let (test, test_loss) = match &self.test {
            Some(samples) => (accuracy(samples)?, loss(samples)?),
            None => (f64::NAN, f64::NAN),
        };
        let least = strengths.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = strengths.iter().copied().fold(0.0, f64::max);
        Ok(vec![
            accuracy(&self.train)?,
            accuracy(&self.validation)?,
            test,
            test_loss,
            least,
            largest,
            dot(&strengths, &strengths).sqrt(),
        ])
    }

    /// Training at v₀, and at strengths that all of θ shares: the grid that a search without derivatives would go through.
    fn baselines(&self) -> Result<Vec<Baseline>> {
        let shared = SHARED.map(|(name, strength)| (name, vec![strength.ln(); self.outer_dim()]));
        let start = ("initial-strength", self.initial.0.clone());
        let baseline = |(name, outer_var)| Baseline { name, problem: Box::new(self.clone()), outer_var };
        Ok(std::iter::once(start).chain(shared).map(baseline).collect())
    }
}
