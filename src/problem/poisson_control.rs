//! Distributed control of Poisson's equation (Lions 1971; Tröltzsch 2010, ch. 2): v is the source u of −Δy = u on the unit square, y = 0
//! on its edge, and y is to come near a desired state t at little cost,
//!
//! f(v, θ) = ½ mean_i (y_i − t_i)² + (α/2) mean_i v_i²,   g(v, θ) = (1/n) Σ_i ½ r_i² + (λ/2)‖θ‖²,   r_i = (Aθ)_i − v_i.
//!
//! The points i are the n = m² interior ones of a grid of spacing h = 1/(m+1), and v_i is the source there. The state is a sum of p²
//! sines, y = Σ θ_jk φ_jk with φ_jk = (w_jk/λ_jk) sin(jπx) sin(kπy) and λ_jk = π²(j² + k²), so that −Δφ_jk = w_jk sin(jπx) sin(kπy) is
//! column jk of A and r the residual of the equation at the points, a Gaussian model of variance 1.
//!
//! **Scaling.** The sines are orthogonal over the grid for j, k ≤ m: AᵀA/n is diagonal. With w ∝ (λ_jk/λ_11)^(1−s) its entries are
//! (λ_jk/λ_11)^(2−2s), from 1 to p^(4−4s): plain sines (s = 0) have condition p⁴, columns of one length (s = 1) have AᵀA/n = I.
//!
//! **Fisher.** `expected` is AᵀA/n = H − λI exactly and `sampled` is unbiased for it. `empirical` is useless here: without a ridge the
//! residual vanishes at θ*(v), and with it every score, wherever v has no more than the p² sines.
//!
//! J = ∇²_{θv} g is −Aᵀ/n. The closed forms (`closed_form.rs`) know neither A nor any derivative.

mod closed_form;

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use self::closed_form::Spectral;
use super::{ClosedForm, Constants, DataSource, InnerProducts, OuterGradient, Picture, PictureKind, Problem};
use crate::dense::{Matrix, axpy, dot, norm};
use crate::error::{Error, Result, check_count, check_finite, check_len, check_nonnegative, check_positive};
use crate::gradient::{DenseRows, GradientBlock, KroneckerRows, weighted_outer};
use crate::inverse::KnownCurvature;
use crate::model::FisherKind;
use crate::rng::Key;
use crate::samples::{Batch, Features};

/// The settings of [`PoissonControl`]; nothing is random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// m: interior grid points on a side; d1 = n = m².
    pub grid: usize,
    /// p: sines on a side, at most m; d2 = p².
    pub modes: usize,
    /// The desired state.
    pub target: Target,
    /// α, the price of control, in units of y²/u².
    pub penalty: f64,
    /// s in [0, 1]: how far the sines are scaled to columns of one length.
    pub preconditioning: f64,
    /// λ of (λ/2)‖θ‖²; above 0 the state no longer solves the equation exactly.
    pub ridge: f64,
}

/// Desired states on the unit square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// sin(πx) sin(πy), an eigenfunction of −Δ: the best control is a multiple of it, u = λ₁₁/(1 + αλ₁₁²) t.
    Eigenfunction,
    /// A smooth bump off the centre, exp(−‖(x, y) − (0.35, 0.6)‖²/(2·0.15²)).
    Bump,
    /// 10 x(1−x) y(1−y) (Manzoni, Quarteroni & Salsa 2021, section 6.5.1, test case 1).
    Textbook,
    /// 1 on the square [¼, ¾]², 0 elsewhere: no state of the equation, for none jumps.
    Indicator,
}

impl Target {
    /// t(x, y).
    pub fn at(self, x: f64, y: f64) -> f64 {
        match self {
            Self::Eigenfunction => (PI * x).sin() * (PI * y).sin(),
            Self::Bump => (-((x - 0.35).powi(2) + (y - 0.6).powi(2)) / (2.0 * 0.15_f64.powi(2))).exp(),
            Self::Textbook => 10.0 * x * (1.0 - x) * y * (1.0 - y),
            Self::Indicator => f64::from([x, y].iter().all(|z| (0.25..=0.75).contains(z))),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { grid: 16, modes: 8, target: Target::Bump, penalty: 1e-4, preconditioning: 0.75, ridge: 0.0 }
    }
}

/// The most numbers that a table of the basis may hold: 1 GiB.
const MAX_NUMBERS: usize = 1 << 27;

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("grid", self.grid)?;
        check_count("modes", self.modes)?;
        check_positive("penalty", self.penalty)?;
        check_nonnegative("ridge", self.ridge)?;
        if self.modes > self.grid {
            return Err(Error::argument("modes", format_args!("at most the {} points on a side", self.grid), self.modes));
        }
        if !(0.0..=1.0).contains(&self.preconditioning) {
            return Err(Error::argument("preconditioning", "a number in [0, 1]", self.preconditioning));
        }
        let table = [self.grid, self.grid, self.modes, self.modes].into_iter().fold(1_usize, usize::saturating_mul);
        if table > MAX_NUMBERS {
            return Err(Error::argument("grid", format_args!("a basis of at most {MAX_NUMBERS} numbers"), table));
        }
        Ok(())
    }
}

/// A control problem with its solution.
#[derive(Debug, Clone)]
pub struct PoissonControl {
    /// Rows a_i: −Δ of every basis function at point i.
    source: Features,
    /// Every basis function at point i.
    state: Features,
    target: Vec<f64>,
    penalty: f64,
    ridge: f64,
    spectral: Spectral,
}

impl PoissonControl {
    /// The registry name.
    pub const NAME: &'static str = "poisson-control";

    /// The problem with these settings and a desired state of one's own, `config.target` aside: t at the m² interior points, x fastest.
    ///
    /// # Errors
    /// [`Error::Argument`] that names the setting, [`Error::Shape`], [`Error::NotFinite`].
    pub fn new(config: &Config, target: Vec<f64>) -> Result<Self> {
        config.validate()?;
        let (m, p) = (config.grid, config.modes);
        check_len("target", target.len(), m * m)?;
        check_finite("target", &target)?;
        let spectral = Spectral::new(config, &target);
        let table = |weight: &dyn Fn(usize) -> f64| {
            let rows = (0..m * m).flat_map(|i| (0..p * p).map(move |mode| (i, mode)));
            Features::from_f64(rows.map(|(i, mode)| weight(mode) * spectral.sine(mode, i)).collect(), m * m, p * p)
        };
        let source = table(&|mode| spectral.weight(mode))?;
        let state = table(&|mode| spectral.weight(mode) / spectral.eigenvalue(mode))?;
        Ok(Self { source, state, target, penalty: config.penalty, ridge: config.ridge, spectral })
    }

    /// The problem with the desired state of the settings.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn load(config: &Config, _source: &DataSource, _key: Key) -> Result<Self> {
        config.validate()?;
        let (m, h) = (config.grid, 1.0 / (config.grid as f64 + 1.0));
        let at = |i: usize| config.target.at((i % m + 1) as f64 * h, (i / m + 1) as f64 * h);
        Self::new(config, (0..m * m).map(at).collect())
    }

    /// A small instance for checks.
    pub(super) fn specimen(key: Key) -> Result<Self> {
        let config = Config { grid: 7, modes: 4, penalty: 1e-3, ridge: 1e-2, ..Config::default() };
        Self::load(&config, &DataSource::default(), key)
    }

    /// m, the interior points on a side.
    pub fn grid(&self) -> usize {
        self.spectral.grid()
    }

    /// t at the points, x fastest.
    pub fn target(&self) -> &[f64] {
        &self.target
    }

    /// y at the points for the coefficients θ.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn state(&self, theta: &[f64]) -> Result<Vec<f64>> {
        self.check_inner("inner_var", theta)?;
        products(&self.state, Batch::All, theta)
    }

    /// v*, the minimizer of Φ, in closed form.
    pub fn minimizer(&self) -> Vec<f64> {
        self.spectral.minimizer()
    }

    /// Φ* = Φ(v*), in closed form.
    pub fn least_value(&self) -> f64 {
        self.spectral.least()
    }

    /// Φ(v) − Φ*, in closed form and without cancellation.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn value_gap(&self, v: &[f64]) -> Result<f64> {
        self.check_outer("outer_var", v)?;
        Ok(self.spectral.gap(v))
    }

    /// θ*(v), in closed form: linear in v.
    ///
    /// # Errors
    /// As [`value_gap`](Self::value_gap).
    pub fn inner_solution(&self, v: &[f64]) -> Result<Vec<f64>> {
        self.check_outer("outer_var", v)?;
        Ok(self.spectral.inner(v))
    }

    /// ∇Φ(v), in closed form.
    ///
    /// # Errors
    /// As [`value_gap`](Self::value_gap).
    pub fn hypergradient(&self, v: &[f64]) -> Result<Vec<f64>> {
        self.check_outer("outer_var", v)?;
        Ok(self.spectral.gradient(v))
    }

    fn check_outer(&self, argument: &'static str, v: &[f64]) -> Result<()> {
        check_len(argument, v.len(), self.outer_dim())?;
        check_finite(argument, v)
    }

    fn check_inner(&self, argument: &'static str, theta: &[f64]) -> Result<()> {
        check_len(argument, theta.len(), self.inner_dim())?;
        check_finite(argument, theta)
    }

    fn check(&self, v: &[f64], theta: &[f64]) -> Result<()> {
        self.check_outer("outer_var", v)?;
        self.check_inner("inner_var", theta)
    }

    /// r_i over the batch.
    fn residuals(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let mut r = products(&self.source, batch, theta)?;
        r.iter_mut().zip(batch.iter(v.len())).for_each(|(r, i)| *r -= v[i]);
        Ok(r)
    }

    /// y_i − t_i over the batch.
    fn misses(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        let mut d = products(&self.state, batch, theta)?;
        d.iter_mut().zip(batch.iter(v.len())).for_each(|(d, i)| *d -= self.target[i]);
        Ok(d)
    }

    /// −(1/m) Σ over the batch of `values`, put where v_i stands.
    fn scattered(&self, batch: Batch<'_>, values: &[f64]) -> Vec<f64> {
        let mut result = vec![0.0; self.outer_dim()];
        let m = values.len() as f64;
        batch.iter(self.outer_dim()).zip(values).for_each(|(i, x)| result[i] -= x / m);
        result
    }
}

/// a_iᵀu over the batch.
fn products(rows: &Features, batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
    Ok(rows.project(batch, &[u])?.into_vec())
}

/// (1/m) Σ z_i a_i over the batch.
fn mean(rows: &Features, batch: Batch<'_>, mut z: Vec<f64>) -> Result<Vec<f64>> {
    let m = z.len() as f64;
    z.iter_mut().for_each(|z| *z /= m);
    Ok(rows.accumulate(batch, &Matrix::from_columns(1, z.len(), z)?)?.into_vec())
}

/// The mean of the squares.
fn mean_square(x: &[f64]) -> f64 {
    dot(x, x) / x.len() as f64
}

impl Problem for PoissonControl {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn outer_dim(&self) -> usize {
        self.target.len()
    }

    fn inner_dim(&self) -> usize {
        self.source.width()
    }

    fn inner_samples(&self) -> usize {
        self.target.len()
    }

    fn outer_samples(&self) -> usize {
        self.target.len()
    }

    /// No control, and the state that it leads to: none.
    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        (vec![0.0; self.outer_dim()], vec![0.0; self.inner_dim()])
    }

    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        Ok(0.5 * mean_square(&self.residuals(v, theta, batch)?) + 0.5 * self.ridge * dot(theta, theta))
    }

    /// (1/m) Aᵀr + λθ
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let mut gradient = mean(&self.source, batch, self.residuals(v, theta, batch)?)?;
        axpy(self.ridge, theta, &mut gradient);
        Ok(gradient)
    }

    /// −(1/m) r_i
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        Ok(self.scattered(batch, &self.residuals(v, theta, batch)?))
    }

    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        Ok(0.5 * mean_square(&self.misses(v, theta, batch)?) + 0.5 * self.penalty * mean_square(v))
    }

    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        let b = mean(&self.state, batch, self.misses(v, theta, batch)?)?;
        let price = self.penalty / v.len() as f64;
        Ok(OuterGradient { theta: b, v: v.iter().map(|v| price * v).collect::<Vec<_>>().into() })
    }

    /// Rows a_i δ_i: δ_i = r_i, a standard normal number, or 1, for E δ_i² = 1.
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        self.check(v, theta)?;
        let inputs = self.source.gather(batch)?;
        let n = inputs.ncols();
        let deltas = match kind {
            FisherKind::Empirical => self.residuals(v, theta, batch)?,
            FisherKind::Sampled => key.stream().normals(n),
            FisherKind::Expected => vec![1.0; n],
        };
        Ok(KroneckerRows::new(inputs, Matrix::from_columns(1, n, deltas)?, 1)?.into())
    }

    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        self.check_outer("outer_var", v)?;
        KnownCurvature::scalar(self.inner_dim(), self.ridge)
    }

    /// (1/m) AᵀAu + λu
    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        self.check_inner("direction", u)?;
        let mut product = mean(&self.source, batch, products(&self.source, batch, u)?)?;
        axpy(self.ridge, u, &mut product);
        Ok(product)
    }

    /// −(1/m) a_iᵀq
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        self.check_inner("direction", q)?;
        Ok(self.scattered(batch, &products(&self.source, batch, q)?))
    }

    /// −(1/m) Σ u_i a_i
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.check(v, theta)?;
        self.check_outer("direction", u)?;
        batch.check(u.len())?;
        mean(&self.source, batch, batch.iter(u.len()).map(|i| -u[i]).collect())
    }

    /// Two products and two sums with the rows of the batch instead of three and two.
    fn inner_products(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<InnerProducts> {
        self.check_inner("direction", q)?;
        let gradient = self.grad_inner(v, theta, batch)?;
        let z = products(&self.source, batch, q)?;
        let cross_vjp = self.scattered(batch, &z).into();
        let mut hvp = mean(&self.source, batch, z)?;
        axpy(self.ridge, q, &mut hvp);
        Ok(InnerProducts { gradient, hvp, cross_vjp })
    }

    /// Row i is −a_i/n.
    fn cross_rows(&self, v: &[f64], theta: &[f64]) -> Result<Option<GradientBlock>> {
        self.check(v, theta)?;
        let mut rows = self.source.gather(Batch::All)?;
        rows.scale(-(v.len() as f64).recip());
        Ok(Some(DenseRows::new(rows, 1)?.into()))
    }

    /// H and J are constant, ∇_v f does not depend on θ, and b has the Hessian diag((w/λ)²) times the mean square of a sine.
    fn constants(&self, v: &[f64]) -> Result<Option<Constants>> {
        self.check_outer("outer_var", v)?;
        if self.ridge == 0.0 {
            return Ok(None);
        }
        let right_hand_side = self.spectral.largest_state_curvature();
        let zero = Constants { strong_convexity: self.ridge, outer_gradient: 0.0, right_hand_side, hessian: 0.0, cross: 0.0 };
        Ok(Some(zero))
    }

    /// (1/n) AᵀA + λI
    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        self.check(v, theta)?;
        let mut hessian = weighted_outer(&self.source.gather(Batch::All)?, 1, |_, _, _| (v.len() as f64).recip())?;
        self.known_curvature(v)?.add_to(&mut hessian)?;
        Ok(hessian)
    }

    fn metric_names(&self) -> Vec<&'static str> {
        vec!["objective", "relative_gap", "hypergradient_norm", "residual"]
    }

    /// Φ(v), (Φ(v) − Φ*)/Φ* and ‖∇Φ(v)‖ by the closed forms, whatever θ; and the root mean square of the equation's residual at (v, θ).
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        let residual = mean_square(&self.residuals(v, theta, Batch::All)?).sqrt();
        let (least, gap) = (self.least_value(), self.value_gap(v)?);
        Ok(vec![least + gap, gap / least, norm(&self.hypergradient(v)?), residual])
    }

    /// The desired and the reached state on one scale, the control and the best one on another.
    fn pictures(&self, v: &[f64], theta: &[f64]) -> Result<Vec<Picture>> {
        self.check(v, theta)?;
        let m = self.grid();
        let map = |title: &str, unit: &str, field: &[f64]| Picture {
            title: title.to_owned(),
            kind: PictureKind::Map,
            unit: unit.to_owned(),
            width: m,
            height: m,
            values: field.chunks(m).rev().flatten().copied().collect(),
        };
        let (state, source) = ("state y (no unit)", "source u = −Δy (no unit)");
        Ok(vec![
            map("desired state", state, &self.target),
            map("state reached", state, &self.state(theta)?),
            map("control found", source, v),
            map("best control", source, &self.minimizer()),
        ])
    }

    fn closed_form(&self, v: &[f64]) -> Result<Option<ClosedForm>> {
        Ok(Some(ClosedForm { theta: self.inner_solution(v)?, hypergradient: self.hypergradient(v)? }))
    }
}
