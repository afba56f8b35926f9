//! Probes: q Gaussian columns Θ, drawn independently of the stream and never used to steer anything, carried along as FΘ in the same
//! pass. They bound what a sketch left out: with Z = EΘ for the residual E = F − F̂ and χ² the lower δ-quantile of chi-square(q),
//! λ_max(E) ≤ min over c ≥ 0 of c + ‖Z − cΘ‖₂/√χ² with probability 1 − δ, for |uᵀ(E − cI)Θ| = |λ − c|·‖uᵀΘ‖ at a top eigenvector u of E and
//! ‖uᵀΘ‖² is chi-square(q). Where the spectrum of E is flat a c near it takes most of ‖Z‖ away.

use serde::{Deserialize, Serialize};

use crate::dense::{Matrix, eigh, gram, matmul};
use crate::error::{Error, Result};
use crate::gradient::GradientBlock;
use crate::operator::LinearOperator;
use crate::rng::Key;
use crate::special::chi_square_quantile;

/// Θ and the running sum of w s sᵀ Θ.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Probes {
    theta: Matrix,
    product: Matrix,
    /// What the running sum may have rounded away, in the Frobenius norm.
    rounding: f64,
}

impl Probes {
    /// `count` probes of dimension `dim`; none for a count of 0.
    ///
    /// # Errors
    /// [`Error::Argument`] for more than d probes, or more than there is memory for.
    pub(super) fn new(dim: usize, count: usize, key: Key) -> Result<Option<Self>> {
        if count == 0 {
            return Ok(None);
        }
        if count > dim {
            let expected = format!("at most the dimension {dim} (as many columns of F are F)");
            return Err(Error::argument("probes", expected, count));
        }
        super::check_room(dim, count)?;
        let theta = Matrix::from_columns(dim, count, key.named("probes").stream().normals(dim * count))?;
        Ok(Some(Self { theta, product: Matrix::zeros(dim, count), rounding: 0.0 }))
    }

    pub(super) fn count(&self) -> usize {
        self.theta.ncols()
    }

    fn round(&mut self, product: f64) {
        self.rounding += 0.5 * f64::EPSILON * (self.product.norm() + product);
    }

    /// Adds a block, of whose rows the squared norms are known.
    pub(super) fn absorb(&mut self, block: &GradientBlock, squared_norms: &[f64]) -> Result<()> {
        let projected = block.project(&self.theta)?;
        block.accumulate_into(&projected, &mut self.product)?;
        let rows = block.rows() as f64;
        let squares: f64 = squared_norms.iter().sum();
        // ‖GᵀGΘ‖_F ≤ ‖G‖_F ‖GΘ‖_F.
        let added = (squares.sqrt() * projected.norm()).min(self.product.norm());
        self.round(rows.sqrt() * added);
        Ok(())
    }

    pub(super) fn decay(&mut self, gamma: f64) {
        self.product.scale(1.0 - gamma);
        self.rounding *= 1.0 - gamma;
        self.round(0.0);
    }

    /// Adds the other's sum; both must have the same Θ.
    pub(super) fn merge(&mut self, other: &Self) -> Result<()> {
        self.product.add_scaled(1.0, &other.product)?;
        self.rounding += other.rounding;
        self.round(0.0);
        Ok(())
    }

    /// What the probes say of F − F̂, with F̂'s trace for the allowance for rounding.
    pub(super) fn residual(&self, mass: f64, estimate: &dyn LinearOperator, trace: f64) -> Result<ProbedResidual> {
        let mut z = self.product.clone();
        z.scale(1.0 / mass);
        let size = z.norm();
        z.add_scaled(-1.0, &estimate.apply_columns(&self.theta)?)?;
        let cross = matmul(z.t(), &self.theta)?;
        let q = self.count();
        let slack = self.rounding / mass + 4.0 * (z.nrows() as f64).sqrt() * f64::EPSILON * (size + trace * self.theta.norm());
        Ok(ProbedResidual {
            square: gram(z.t()),
            cross: Matrix::from_fn(q, q, |i, j| cross[(i, j)] + cross[(j, i)]),
            theta: gram(self.theta.t()),
            slack,
        })
    }
}

/// ZᵀZ, ZᵀΘ + ΘᵀZ and ΘᵀΘ for Z = (F − F̂)Θ: all that the bound needs.
#[derive(Debug, Clone)]
pub struct ProbedResidual {
    square: Matrix,
    cross: Matrix,
    theta: Matrix,
    /// What Z may have rounded, in the 2-norm.
    slack: f64,
}

impl ProbedResidual {
    /// An upper bound of λ_max(F − F̂) that fails with probability at most `failure`.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a probability outside (0, 1).
    pub fn upper_end(&self, failure: f64) -> Result<f64> {
        let q = self.theta.nrows();
        let root = chi_square_quantile(q as f64, failure)?.sqrt();
        let bound = |c: f64| -> Result<f64> {
            let mut s = self.square.clone();
            s.add_scaled(-c, &self.cross)?;
            s.add_scaled(c * c, &self.theta)?;
            // Forming the squares rounds where they cancel.
            let rounding = 8.0 * q as f64 * f64::EPSILON * (self.square.trace().sqrt() + c * self.theta.trace().sqrt()).powi(2);
            let norm = (eigh(&s)?.values[0].max(0.0) + rounding).sqrt();
            Ok(c + (norm + self.slack) / root)
        };
        // Convex in c, and never below c: golden sections on [0, bound(0)].
        const SECTION: f64 = 0.618_033_988_749_894_9;
        let (mut low, mut high) = (0.0, bound(0.0)?);
        let mut best = high;
        for _ in 0..60 {
            let (left, right) = (high - SECTION * (high - low), low + SECTION * (high - low));
            let (at_left, at_right) = (bound(left)?, bound(right)?);
            best = best.min(at_left).min(at_right);
            if at_left < at_right {
                high = right;
            } else {
                low = left;
            }
        }
        Ok(best)
    }
}
