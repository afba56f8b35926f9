//! The d × d matrix F itself, summed row by row: the reference that the sketches are compared with. O(d²) memory.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Approximation, Certainty, Curvature, Factorized, Interval};
use crate::dense::{Cholesky, Matrix, dot, eigh, matvec, rank_one_update};
use crate::error::{Error, Result, check_count};
use crate::gradient::GradientBlock;
use crate::inverse::{Bracket, KnownCurvature};
use crate::operator::LinearOperator;
use crate::rng::Key;

/// The settings of [`Dense`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most memory that the d × d matrix may take, in bytes; more is refused with the need.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_bytes: 1 << 30 }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("max_bytes", self.max_bytes)
    }
}

/// Checks that `matrices` d × d matrices fit.
pub(super) fn check_memory(dim: usize, matrices: usize, max_bytes: usize) -> Result<()> {
    check_count("dim", dim)?;
    let needed = dim.saturating_mul(dim).saturating_mul(matrices * size_of::<f64>());
    if needed <= max_bytes {
        return Ok(());
    }
    let expected = format!("at most {max_bytes} bytes for {matrices} d × d matri{}", if matrices == 1 { "x" } else { "ces" });
    Err(Error::argument("max_bytes", expected, format_args!("{needed} bytes at d = {dim}; take a sketch instead")))
}

/// F as a sum of outer products.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dense {
    sum: Matrix,
    mass: f64,
    /// What adding into the running sum may have rounded away, in the Frobenius norm: it grows with every update.
    rounding: f64,
}

impl Dense {
    /// The registry name.
    pub const NAME: &'static str = "dense";

    /// The zero matrix of order `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`] where 8d² bytes exceed `max_bytes`.
    pub fn new(dim: usize, config: &Config, _key: Key) -> Result<Self> {
        check_memory(dim, 1, config.max_bytes)?;
        Ok(Self { sum: Matrix::zeros(dim, dim), mass: 0.0, rounding: 0.0 })
    }

    /// The running sum, not divided by the mass.
    pub(super) fn sum(&self) -> &Matrix {
        &self.sum
    }

    /// S ← keep·S + s sᵀ, and the mass likewise.
    pub(super) fn add_row(&mut self, keep: f64, s: &[f64], mass: f64) {
        rank_one_update(&mut self.sum, keep, 1.0, s);
        self.mass = keep * self.mass + mass;
        // As in `absorb`, row by row; the trace bounds the norm of S at the cost of d.
        self.rounding = keep * self.rounding + 0.5 * f64::EPSILON * (self.sum.trace() + 5.0 * dot(s, s));
    }

    /// Multiplies sum and mass.
    pub(super) fn scale(&mut self, factor: f64) {
        self.sum.scale(factor);
        self.mass *= factor;
        self.rounding *= factor;
        self.round(0.0);
    }

    /// The bound of what rounding may have changed in F, in the 2-norm.
    pub(super) fn rounding(&self) -> f64 {
        (4.0 * (self.dim() as f64).sqrt() * f64::EPSILON * self.sum.trace() + self.rounding) / self.mass
    }

    /// Books the rounding of an update: half an ulp of every entry, and of what formed the added matrix `product`.
    fn round(&mut self, product: f64) {
        self.rounding += 0.5 * f64::EPSILON * (self.sum.norm() + product);
    }
}

impl Curvature for Dense {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.sum.nrows()
    }

    fn mass(&self) -> f64 {
        self.mass
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        super::check_block(block, self.dim())?;
        let scatter = block.scatter()?;
        self.sum.add_scaled(1.0, &scatter)?;
        self.mass += block.samples() as f64;
        // |error of GᵀG| ≤ (rows + 4)·ε/2·|G|ᵀ|G|, whose norm the trace bounds; 4 for the products of a factored row.
        self.round((block.rows() + 4) as f64 * scatter.trace());
        Ok(())
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        self.scale(1.0 - gamma);
        Ok(())
    }

    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        if other.dim() != self.dim() {
            let what = format!("merging dimension {} into {}", other.dim(), self.dim());
            return Err(Error::unsupported(what, "use the same dimension"));
        }
        self.mass += other.mass;
        self.sum.add_scaled(1.0, &other.sum)?;
        self.rounding += other.rounding;
        self.round(0.0);
        Ok(())
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        if self.mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        let mut matrix = self.sum.clone();
        matrix.scale(1.0 / self.mass);
        let rounding = self.rounding();
        let interval = Interval { lo: -rounding, hi: rounding, certainty: Certainty::Deterministic {} };
        Ok(Box::new(DenseApproximation { matrix, interval }))
    }

    fn trace(&self) -> Option<f64> {
        (self.mass > 0.0).then(|| self.sum.trace() / self.mass)
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(Self::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}

/// F itself.
struct DenseApproximation {
    matrix: Matrix,
    interval: Interval,
}

impl LinearOperator for DenseApproximation {
    fn dim(&self) -> usize {
        self.matrix.nrows()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        matvec(&self.matrix, x)
    }
}

impl Approximation for DenseApproximation {
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>> {
        let mut matrix = self.matrix.clone();
        known.add_to(&mut matrix)?;
        Ok(Box::new(Factorized(Cholesky::new(matrix)?)))
    }

    fn interval(&self) -> Option<Interval> {
        Some(self.interval)
    }

    fn eigenvalues(&self) -> Result<Vec<f64>> {
        Ok(eigh(&self.matrix)?.values)
    }

    fn bracket(&self, known: &KnownCurvature, failure: Option<f64>) -> Result<Bracket<'_>> {
        super::bracket(self, known, failure)
    }

    fn trace(&self) -> f64 {
        self.matrix.trace()
    }
}
