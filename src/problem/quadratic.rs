//! A quadratic bilevel problem with everything in closed form: least squares of unit variance, so that it has samples, scores and
//! stochastic gradients, with targets that depend linearly on v,
//!
//! g(v, θ) = (1/n) Σ ½(x_iᵀθ − y_i(v))² + (λ/2)‖θ‖²,   y_i(v) = a_iᵀv + c_i,
//! f(v, θ) = (1/m) Σ ½(z_jᵀθ − t_j)² + (α/2)‖v‖²,   both up to the constant ½ log 2π.
//!
//! Since x_iᵀθ − a_iᵀv is linear, g is one regression on the joint features (x_i, a_i) at the parameter (θ, −v): H and J are blocks
//! of its Hessian. The closed forms (`closed_form.rs`), from a singular value decomposition of X, know nothing of those derivatives.

mod closed_form;

use serde::{Deserialize, Serialize};

use self::closed_form::Solution;
use super::{ClosedForm, DataSource, OuterGradient, Problem};
use crate::dense::{Matrix, axpy, difference, dot, matmul, matmul_add, norm, qr};
use crate::error::{Error, Result, check_count, check_finite, check_len, check_nonnegative, check_positive};
use crate::gradient::{GradientBlock, KroneckerRows, weighted_outer};
use crate::inverse::KnownCurvature;
use crate::model::{FisherKind, Gaussian, Model, Weighted};
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// The settings of [`Quadratic`], all of whose data are drawn.
///
/// x_i ~ N(0, Σ) with the eigenvalues of `spectrum` in random directions; a_i = Aᵀx_i + misfit · N(0, I) with A_jk ~ N(0, 1/d1);
/// c_i ~ N(0, noise²); z_j as x_i; t_j = z_jᵀθ° + N(0, noise²) with θ° ~ N(0, I).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// d2, the number of inner features.
    pub inner_dim: usize,
    /// d1.
    pub outer_dim: usize,
    /// n, the number of inner samples.
    pub samples: usize,
    /// m, the number of outer samples.
    pub outer_samples: usize,
    /// The eigenvalues of the covariance of the inner features.
    pub spectrum: Spectrum,
    /// The standard deviation of c_i and of the noise in t_j. Without noise the scores vanish at a perfect fit, and with them the
    /// empirical Fisher matrix; at 1 the model is well specified.
    pub noise: f64,
    /// The standard deviation of what of a_i is no linear function of x_i: 0 leaves the model well specified at every v.
    pub misfit: f64,
    /// λ of (λ/2)‖θ‖²; 0 is allowed where the features have full rank.
    pub ridge: f64,
    /// α of (α/2)‖v‖².
    pub penalty: f64,
}

/// Eigenvalues λ_1 ≥ λ_2 ≥ …, the largest of them 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Spectrum {
    /// λ_j = 1.
    Flat {},
    /// λ_j = j^(−exponent).
    Power {
        /// The exponent.
        exponent: f64,
    },
    /// λ_j = exp(−rate · (j − 1)).
    Exponential {
        /// The rate.
        rate: f64,
    },
}

impl Spectrum {
    fn validate(self) -> Result<()> {
        match self {
            Self::Flat {} => Ok(()),
            Self::Power { exponent } => check_nonnegative("exponent", exponent),
            Self::Exponential { rate } => check_nonnegative("rate", rate),
        }
    }

    /// λ_{j+1}.
    fn eigenvalue(self, j: usize) -> f64 {
        match self {
            Self::Flat {} => 1.0,
            Self::Power { exponent } => (j as f64 + 1.0).powf(-exponent),
            Self::Exponential { rate } => (-rate * j as f64).exp(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_dim: 20,
            outer_dim: 10,
            samples: 1000,
            outer_samples: 200,
            spectrum: Spectrum::Power { exponent: 1.0 },
            noise: 1.0,
            misfit: 0.0,
            ridge: 1e-3,
            penalty: 1e-2,
        }
    }
}

/// The most numbers that a problem's data may hold: 2 GiB.
const MAX_NUMBERS: usize = 1 << 28;

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        for (name, count) in [
            ("inner_dim", self.inner_dim),
            ("outer_dim", self.outer_dim),
            ("samples", self.samples),
            ("outer_samples", self.outer_samples),
        ] {
            check_count(name, count)?;
        }
        self.spectrum.validate()?;
        check_positive("noise", self.noise)?;
        check_nonnegative("misfit", self.misfit)?;
        check_nonnegative("ridge", self.ridge)?;
        check_positive("penalty", self.penalty)?;
        let joint = self.inner_dim.saturating_add(self.outer_dim);
        let rows = self.samples.saturating_add(self.outer_samples).saturating_add(joint);
        if rows.saturating_mul(joint) > MAX_NUMBERS {
            let expected = format!("at most {MAX_NUMBERS} numbers in all");
            return Err(Error::argument("samples", expected, format_args!("{rows} rows of {joint}, square matrices included")));
        }
        Ok(())
    }
}

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
    penalty: f64,
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
        check_nonnegative("ridge", ridge)?;
        check_positive("penalty", penalty)?;
        let (joint, inner_dim) = (inner.features.width(), outer.features.width());
        if joint <= inner_dim {
            return Err(Error::shape("inner features", format_args!("more than the {inner_dim} outer ones"), joint));
        }
        let solution = Solution::new(&inner, &outer, ridge, penalty)?;
        let (inner_model, outer_model) = (Gaussian::unit_variance(joint)?, Gaussian::unit_variance(inner_dim)?);
        Ok(Self { inner, outer, inner_model, outer_model, ridge, penalty, solution })
    }

    /// Draws the data.
    ///
    /// # Errors
    /// [`Error::Argument`] for settings outside their domain, and as [`new`](Self::new).
    pub fn load(config: &Config, _source: &DataSource, key: Key) -> Result<Self> {
        config.validate()?;
        let Config { inner_dim: d2, outer_dim: d1, samples: n, outer_samples: m, .. } = *config;
        let normals = |purpose: &str, rows: usize, columns: usize| {
            Matrix::from_columns(rows, columns, key.named(purpose).stream().normals(rows * columns))
        };
        // x = Q diag(√λ) N(0, I), with the columns of Q in uniformly random directions.
        let (mut root, _) = qr(&normals("directions", d2, d2)?)?;
        for j in 0..d2 {
            root.col_mut(j).iter_mut().for_each(|q| *q *= config.spectrum.eigenvalue(j).sqrt());
        }
        let x = matmul(&root, &normals("inner features", d2, n)?)?;
        let mut map = normals("outer map", d1, d2)?;
        map.scale((d1 as f64).sqrt().recip());
        let mut a = normals("misfit", d1, n)?;
        a.scale(config.misfit);
        matmul_add(&mut a, 1.0, &map, &x)?;
        let joint = (0..n).flat_map(|i| x.col(i).iter().chain(a.col(i))).copied().collect();
        let mut c = normals("inner noise", n, 1)?;
        c.scale(config.noise);
        let inner = Samples::new(Features::from_f64(joint, n, d2 + d1)?, Targets::real(c.into_vec())?)?;

        let z = matmul(&root, &normals("outer features", d2, m)?)?;
        let mut t = normals("outer noise", m, 1)?;
        t.scale(config.noise);
        matmul_add(&mut t, 1.0, z.t(), &normals("truth", d2, 1)?)?;
        let outer = Samples::new(Features::from_f64(z.into_vec(), m, d2)?, Targets::real(t.into_vec())?)?;
        Self::new(inner, outer, config.ridge, config.penalty)
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

    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.check(v, theta)?;
        Ok(self.outer_model.loss(Weighted::ones(&self.outer, batch), theta)? + 0.5 * self.penalty * dot(v, v))
    }

    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.check(v, theta)?;
        let b = self.outer_model.gradient(Weighted::ones(&self.outer, batch), theta)?;
        Ok(OuterGradient { theta: b, v: v.iter().map(|v| self.penalty * v).collect() })
    }

    /// The rows of the joint regression without their a_i: x_i ⊗ δ_i.
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        let joint = self.joint(v, theta)?;
        match self.inner_model.scores(self.inner_data(batch), &joint, kind, key)? {
            GradientBlock::Kronecker(rows) => {
                let inputs = rows.inputs().rows(0..self.inner_dim()).to_matrix();
                Ok(KroneckerRows::new(inputs, rows.deltas().clone(), 1)?.into())
            }
            GradientBlock::Dense(_) | GradientBlock::Layered(_) => {
                Err(Error::unsupported("rows of a regression in another form", "use Kronecker-factored rows"))
            }
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
