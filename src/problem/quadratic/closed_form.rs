//! The solution of the quadratic problem, written out: θ* is linear in v and Φ a quadratic, both from a singular value decomposition
//! of the features. No gradient, Hessian or cross product of the problem is used, so that those can be held against it.

use super::penalty::Penalty;
use crate::dense::{Cholesky, Matrix, axpy, difference, dot, matmul, matvec, svd};
use crate::error::{Error, Result};
use crate::samples::{Batch, Samples};

/// θ*(v) = Sv + s, and Φ(v) = least + ½(v − v*)ᵀM(v − v*).
#[derive(Debug, Clone)]
pub(super) struct Solution {
    sensitivity: Matrix,
    offset: Vec<f64>,
    curvature: Matrix,
    minimizer: Vec<f64>,
    least: f64,
}

impl Solution {
    /// With X/√n = U diag(s) Vᵀ, (XᵀX/n + λI)⁻¹Xᵀ/n = V diag(s/(s² + λ)) Uᵀ/√n; then Φ is a quadratic in v whose coefficients
    /// are written out. n·d2·min(n, d2) flops and a few more.
    pub(super) fn new(inner: &Samples, outer: &Samples, ridge: f64, penalty: &Penalty) -> Result<Self> {
        let d2 = outer.features.width();
        let joint = inner.features.gather(Batch::All)?;
        let (n, d1) = (joint.ncols(), joint.nrows() - d2);
        let scale = (n as f64).sqrt().recip();
        let mut x = joint.rows(0..d2).t().to_matrix();
        x.scale(scale);
        let decomposition = svd(&x)?;
        let largest = decomposition.values.first().map_or(0.0, |s| s * s);
        let smallest = if n < d2 { 0.0 } else { decomposition.values.last().map_or(0.0, |s| s * s) };
        // H must be positive definite in floating point too: its Cholesky factorization is what the closed form is compared with.
        if smallest + ridge <= d2 as f64 * f64::EPSILON * (largest + ridge) {
            let expected = "a λ for which XᵀX/n + λI is positive definite";
            return Err(Error::argument("ridge", expected, format_args!("{ridge} (smallest eigenvalue {smallest:e})")));
        }
        // (XᵀX/n + λI)⁻¹Xᵀ/n times [A, c].
        let mut rhs: Vec<f64> = joint.rows(d2..d2 + d1).t().to_matrix().into_vec();
        rhs.extend_from_slice(inner.targets.as_real()?);
        let mut coordinates = matmul(decomposition.u.t(), &Matrix::from_columns(n, d1 + 1, rhs)?)?;
        for j in 0..=d1 {
            let filtered = coordinates.col_mut(j).iter_mut().zip(&decomposition.values);
            filtered.for_each(|(c, s)| *c *= scale * s / (s * s + ridge));
        }
        let solved = matmul(&decomposition.v, &coordinates)?;
        let (sensitivity, offset) = (solved.columns(0..d1).to_matrix(), solved.col(d1).to_vec());

        // Φ(v) = ½‖Dv + e‖² + ½ vᵀPv + ½ log 2π with D = ZS/√m and e = (Zs − t)/√m.
        let z = outer.features.gather(Batch::All)?;
        let root = (z.ncols() as f64).sqrt().recip();
        let mut slope = matmul(z.t(), &sensitivity)?;
        slope.scale(root);
        let mut residual = difference(&matvec(z.t(), &offset)?, outer.targets.as_real()?);
        residual.iter_mut().for_each(|r| *r *= root);
        let mut curvature = matmul(slope.t(), &slope)?;
        penalty.add_to(&mut curvature)?;
        let minus: Vec<f64> = matvec(slope.t(), &residual)?.iter().map(|x| -x).collect();
        let minimizer = Cholesky::new(curvature.clone())?.solve(&minus)?;
        axpy(1.0, &matvec(&slope, &minimizer)?, &mut residual);
        let least = 0.5 * (dot(&residual, &residual) + penalty.quadratic(&minimizer)? + std::f64::consts::TAU.ln());
        Ok(Self { sensitivity, offset, curvature, minimizer, least })
    }

    pub(super) fn inner_dim(&self) -> usize {
        self.sensitivity.nrows()
    }

    pub(super) fn outer_dim(&self) -> usize {
        self.sensitivity.ncols()
    }

    /// v*.
    pub(super) fn minimizer(&self) -> &[f64] {
        &self.minimizer
    }

    /// Φ(v*).
    pub(super) fn least(&self) -> f64 {
        self.least
    }

    /// θ*(v)
    pub(super) fn inner(&self, v: &[f64]) -> Result<Vec<f64>> {
        let mut theta = matvec(&self.sensitivity, v)?;
        axpy(1.0, &self.offset, &mut theta);
        Ok(theta)
    }

    /// ∇Φ(v) = M(v − v*)
    pub(super) fn gradient(&self, v: &[f64]) -> Result<Vec<f64>> {
        matvec(&self.curvature, &difference(v, &self.minimizer))
    }
}
