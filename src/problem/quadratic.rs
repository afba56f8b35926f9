//! A quadratic bilevel problem with everything in closed form: least squares of unit variance, so that it has samples, scores and
//! stochastic gradients, with targets that depend linearly on v,
//!
//! g(v, θ) = (1/n) Σ ½(x_iᵀθ − y_i(v))² + (λ/2)‖θ‖²,   y_i(v) = a_iᵀv + c_i,
//! f(v, θ) = (1/m) Σ ½(z_jᵀθ − t_j)² + ½ vᵀPv,   both up to the constant ½ log 2π,
//!
//! P = αI unless its spectrum is prescribed.
//!
//! Since x_iᵀθ − a_iᵀv is linear, g is one regression on the joint features (x_i, a_i) at the parameter (θ, −v): H and J are blocks
//! of its Hessian. The closed forms (`closed_form.rs`), from a singular value decomposition of X, know nothing of those derivatives.

mod closed_form;
mod config;
mod draw;
mod penalty;

pub use config::{Config, Prescribed, Spectrum};

use self::closed_form::Solution;
use self::draw::Drawn;
use self::penalty::Penalty;
use super::held_out::Fold;
use super::{ClosedForm, Constants, DataSource, HeldOut, OuterGradient, Problem};
use crate::dense::{Matrix, axpy, difference, dot, norm};
use crate::error::{Error, Result, check_finite, check_len, check_nonnegative, check_positive};
use crate::gradient::{DenseRows, GradientBlock, KroneckerRows, weighted_outer};
use crate::inverse::KnownCurvature;
use crate::model::{FisherKind, Gaussian, Model, Weighted};
use crate::rng::Key;
use crate::samples::{Batch, Samples};

/// A quadratic bilevel problem with its solution.
#[derive(Debug, Clone)]
pub struct Quadratic {
    /// The features (x_i, a_i) with the targets c_i.
    inner: Samples,
    /// (z_j, t_j).
    outer: Samples,
    /// The regression of `inner`, of width d2 + d1, and of `outer`, of width d2.
    inner_model: Gaussian,
    outer_model: Gaussian,
    ridge: f64,
    penalty: Penalty,
    solution: Solution,
}

impl Quadratic {
    /// The registry name.
    pub const NAME: &'static str = "quadratic";

    /// Builds the problem from joint inner features (x_i, a_i), d2 + d1 numbers a sample, with the targets c_i, and outer samples
    /// (z_j, t_j) of width d2.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the inner features are wider than the outer ones, [`Error::Argument`] for targets that are not real,
    /// a λ that is negative or leaves H singular, or an α that is not positive.
    pub fn new(inner: Samples, outer: Samples, ridge: f64, penalty: f64) -> Result<Self> {
        check_positive("penalty", penalty)?;
        Self::assemble(inner, outer, ridge, Penalty::Scalar(penalty))
    }

    fn assemble(inner: Samples, outer: Samples, ridge: f64, penalty: Penalty) -> Result<Self> {
        check_nonnegative("ridge", ridge)?;
        let (joint, inner_dim) = (inner.features.width(), outer.features.width());
        if joint <= inner_dim {
            return Err(Error::shape("inner features", format_args!("more than the {inner_dim} outer ones"), joint));
        }
        let solution = Solution::new(&inner, &outer, ridge, &penalty)?;
        let (inner_model, outer_model) = (Gaussian::unit_variance(joint)?, Gaussian::unit_variance(inner_dim)?);
        Ok(Self { inner, outer, inner_model, outer_model, ridge, penalty, solution })
    }

    /// Draws the data.
    ///
    /// # Errors
    /// [`Error::Argument`] for settings outside their domain, and as [`new`](Self::new).
    pub fn load(config: &Config, _source: &DataSource, key: Key) -> Result<Self> {
        config.validate()?;
        let Drawn { inner, outer, penalty } = Drawn::new(config, key)?;
        Self::assemble(inner, outer, config.ridge, penalty)
    }

    /// A small instance for checks: correlated features, targets that no θ fits at every v.
    pub(super) fn specimen(key: Key) -> Result<Self> {
        let config =
            Config { inner_dim: 7, outer_dim: 4, samples: 60, outer_samples: 20, misfit: 0.5, ridge: 1e-2, ..Config::default() };
        Self::load(&config, &DataSource::default(), key)
    }

    /// θ*(v), in closed form: linear in v.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn inner_solution(&self, v: &[f64]) -> Result<Vec<f64>> {
        self.check_outer(v)?;
        self.solution.inner(v)
    }

    /// ∇Φ(v) = M(v − v*), in closed form.
    ///
    /// # Errors
    /// As [`inner_solution`](Self::inner_solution).
    pub fn hypergradient(&self, v: &[f64]) -> Result<Vec<f64>> {
        self.check_outer(v)?;
        self.solution.gradient(v)
    }

    /// Φ(v) − Φ(v*) = ½(v − v*)ᵀM(v − v*), in closed form.
    ///
    /// # Errors
    /// As [`inner_solution`](Self::inner_solution).
    pub fn value_gap(&self, v: &[f64]) -> Result<f64> {
        Ok(0.5 * dot(&difference(v, self.minimizer()), &self.hypergradient(v)?))
    }

    /// v*, the minimizer of Φ.
    pub fn minimizer(&self) -> &[f64] {
        self.solution.minimizer()
    }

    /// Φ(v*).
    pub fn least_value(&self) -> f64 {
        self.solution.least()
    }

    fn check_outer(&self, v: &[f64]) -> Result<()> {
        check_len("outer_var", v.len(), self.outer_dim())?;
        check_finite("outer_var", v)
    }

    fn check(&self, v: &[f64], theta: &[f64]) -> Result<()> {
        self.check_outer(v)?;
        check_len("inner_var", theta.len(), self.inner_dim())?;
        check_finite("inner_var", theta)
    }

    /// The joint parameter (θ, −v), checked.
    fn joint(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        Ok(theta.iter().copied().chain(v.iter().map(|v| -v)).collect())
    }

    fn inner_data<'a>(&'a self, batch: Batch<'a>) -> Weighted<'a> {
        Weighted::ones(&self.inner, batch)
    }

    /// The product of the joint Hessian with (u_θ, −u_v): its θ part is ∇²_θθ g u_θ + J u_v, the ridge left out, and for u_v = 0 its v
    /// part is −Jᵀu_θ.
    fn joint_product(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u_v: &[f64], u_theta: &[f64]) -> Result<Vec<f64>> {
        check_len("direction", u_v.len(), self.outer_dim())?;
        check_len("direction", u_theta.len(), self.inner_dim())?;
        let direction: Vec<f64> = u_theta.iter().copied().chain(u_v.iter().map(|u| -u)).collect();
        self.inner_model.hvp(self.inner_data(batch), &self.joint(v, theta)?, &direction)
    }
}

impl Problem for Quadratic {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn outer_dim(&self) -> usize {
        self.solution.outer_dim()
    }

    fn inner_dim(&self) -> usize {
        self.solution.inner_dim()
    }

    fn inner_samples(&self) -> usize {
        self.inner.len()
    }

    fn outer_samples(&self) -> usize {
        self.outer.len()
    }

    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        (vec![0.0; self.outer_dim()], vec![0.0; self.inner_dim()])
    }

    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        let joint = self.joint(v, theta)?;
        Ok(self.inner_model.loss(self.inner_data(batch), &joint)? + 0.5 * self.ridge * dot(theta, theta))
    }

    /// The θ part of the joint gradient, and λθ.
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let mut gradient = self.inner_model.gradient(self.inner_data(batch), &self.joint(v, theta)?)?;
        gradient.truncate(self.inner_dim());
        axpy(self.ridge, theta, &mut gradient);
        Ok(gradient)
    }

    /// −(1/m) Σ (x_iᵀθ − y_i(v)) a_i
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let gradient = self.inner_model.gradient(self.inner_data(batch), &self.joint(v, theta)?)?;
        Ok(gradient[self.inner_dim()..].iter().map(|g| -g).collect())
    }

    /// The columns of J, d1 products with unit vectors.
    fn cross_rows(&self, v: &[f64], theta: &[f64]) -> Result<Option<GradientBlock>> {
        let d1 = self.outer_dim();
        let mut columns = Vec::with_capacity(d1 * self.inner_dim());
        for j in 0..d1 {
            let unit: Vec<f64> = (0..d1).map(|i| if i == j { 1.0 } else { 0.0 }).collect();
            columns.extend(self.cross_jvp(v, theta, Batch::All, &unit)?);
        }
        Ok(Some(DenseRows::new(Matrix::from_columns(self.inner_dim(), d1, columns)?, 1)?.into()))
    }

    /// H and J are constant, and b is Lipschitz with ‖ZᵀZ‖/m ≤ Σ ‖z_j‖²/m.
    fn constants(&self, v: &[f64]) -> Result<Option<Constants>> {
        self.check_outer(v)?;
        if self.ridge == 0.0 {
            return Ok(None);
        }
        let z = self.outer.features.gather(Batch::All)?;
        let right_hand_side = z.as_slice().iter().map(|x| x * x).sum::<f64>() / self.outer.len() as f64;
        let zero = Constants { strong_convexity: self.ridge, outer_gradient: 0.0, right_hand_side, hessian: 0.0, cross: 0.0 };
        Ok(Some(zero))
    }

    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.check(v, theta)?;
        Ok(self.outer_model.loss(Weighted::ones(&self.outer, batch), theta)? + 0.5 * self.penalty.quadratic(v)?)
    }

    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.check(v, theta)?;
        let b = self.outer_model.gradient(Weighted::ones(&self.outer, batch), theta)?;
        Ok(OuterGradient { theta: b, v: self.penalty.apply(v)?.into() })
    }

    /// The rows of the joint regression without their a_i: x_i ⊗ δ_i.
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        let joint = self.joint(v, theta)?;
        match self.inner_model.scores(self.inner_data(batch), &joint, kind, key)? {
            GradientBlock::Kronecker(rows) => {
                let inputs = rows.inputs().rows(0..self.inner_dim()).to_matrix();
                Ok(KroneckerRows::new(inputs, rows.deltas().clone(), 1)?.into())
            }
            _ => Err(Error::unsupported("rows of a regression that are not factored", "use factored rows")),
        }
    }

    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        self.check_outer(v)?;
        KnownCurvature::scalar(self.inner_dim(), self.ridge)
    }

    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        let mut product = self.joint_product(v, theta, batch, &vec![0.0; self.outer_dim()], u)?;
        product.truncate(self.inner_dim());
        axpy(self.ridge, u, &mut product);
        Ok(product)
    }

    /// −(1/m) Σ a_i x_iᵀq
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        let product = self.joint_product(v, theta, batch, &vec![0.0; self.outer_dim()], q)?;
        Ok(product[self.inner_dim()..].iter().map(|x| -x).collect())
    }

    /// −(1/m) Σ x_i a_iᵀu
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        let mut product = self.joint_product(v, theta, batch, u, &vec![0.0; self.inner_dim()])?;
        product.truncate(self.inner_dim());
        Ok(product)
    }

    /// (1/n) Σ x_i x_iᵀ + λI
    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        self.check(v, theta)?;
        let inputs = self.inner.features.gather(Batch::All)?.rows(0..self.inner_dim()).to_matrix();
        let mut hessian = weighted_outer(&inputs, 1, |_, _, _| (self.inner.len() as f64).recip())?;
        self.known_curvature(v)?.add_to(&mut hessian)?;
        Ok(hessian)
    }

    fn hold_out(&self, fold: usize, folds: usize) -> Result<Option<HeldOut>> {
        let Fold { kept, held_out } = Fold::new(self.outer.len(), fold, folds)?;
        let with = |indices: &[usize]| -> Result<Box<dyn Problem>> {
            let outer = self.outer.select(indices)?;
            Ok(Box::new(Self::assemble(self.inner.clone(), outer, self.ridge, self.penalty.clone())?))
        };
        Ok(Some(HeldOut { fit: with(&kept)?, judge: with(&held_out)? }))
    }

    fn metric_names(&self) -> Vec<&'static str> {
        vec!["value_gap", "hypergradient_norm", "inner_distance"]
    }

    /// Φ(v) − Φ(v*), ‖∇Φ(v)‖ and ‖θ − θ*(v)‖, all by the closed forms.
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let distance = norm(&difference(theta, &self.inner_solution(v)?));
        Ok(vec![self.value_gap(v)?, norm(&self.hypergradient(v)?), distance])
    }

    fn closed_form(&self, v: &[f64]) -> Result<Option<ClosedForm>> {
        Ok(Some(ClosedForm { theta: self.inner_solution(v)?, hypergradient: self.hypergradient(v)? }))
    }
}
