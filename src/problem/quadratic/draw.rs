//! The data of a quadratic problem, drawn: from populations with a given covariance, or whitened so that the samples themselves have the
//! prescribed spectra.

use super::config::{Config, Prescribed};
use super::penalty::Penalty;
use crate::dense::{Matrix, matmul, matmul_add, qr};
use crate::error::Result;
use crate::rng::Key;
use crate::samples::{Features, Samples, Targets};

/// What a problem is made of, beside its ridge.
pub(super) struct Drawn {
    pub(super) inner: Samples,
    pub(super) outer: Samples,
    pub(super) penalty: Penalty,
}

/// The numbers of a settings' data: those of one purpose do not depend on the others.
struct Source<'a> {
    config: &'a Config,
    key: Key,
}

impl Drawn {
    pub(super) fn new(config: &Config, key: Key) -> Result<Self> {
        let source = Source { config, key };
        match &config.prescribed {
            None => source.population(),
            Some(prescribed) => source.prescribed(prescribed),
        }
    }
}

impl Source<'_> {
    fn normals(&self, purpose: &str, rows: usize, columns: usize) -> Result<Matrix> {
        Matrix::from_columns(rows, columns, self.key.named(purpose).stream().normals(rows * columns))
    }

    /// Q diag(values), the columns of Q in uniformly random directions.
    fn directions(&self, purpose: &str, d: usize, values: impl Fn(usize) -> f64) -> Result<Matrix> {
        let (mut q, _) = qr(&self.normals(purpose, d, d)?)?;
        (0..d).for_each(|j| q.col_mut(j).iter_mut().for_each(|q| *q *= values(j)));
        Ok(q)
    }

    /// x = Q diag(√λ) N(0, I) and z alike; a = Aᵀx + misfit · N(0, I).
    fn population(&self) -> Result<Drawn> {
        let Config { inner_dim: d2, outer_dim: d1, samples: n, outer_samples: m, .. } = *self.config;
        let root = self.directions("directions", d2, |j| self.config.spectrum.eigenvalue(j, d2).sqrt())?;
        let x = matmul(&root, &self.normals("inner features", d2, n)?)?;
        let mut map = self.normals("outer map", d1, d2)?;
        map.scale((d1 as f64).sqrt().recip());
        let mut a = self.normals("misfit", d1, n)?;
        a.scale(self.config.misfit);
        matmul_add(&mut a, 1.0, &map, &x)?;
        let z = matmul(&root, &self.normals("outer features", d2, m)?)?;
        Ok(Drawn { inner: self.inner(&x, &a)?, outer: self.outer(z)?, penalty: Penalty::Scalar(self.config.penalty) })
    }

    /// With W = [W_x; W_a] whitened, (1/n) WWᵀ = I: x = U diag(√λ) w_x, a = −JᵀΣ⁻¹x + misfit · w_a and Σ = U diag(λ) Uᵀ give
    /// −(1/n) Σ x_i a_iᵀ = J exactly.
    fn prescribed(&self, prescribed: &Prescribed) -> Result<Drawn> {
        let Config { inner_dim: d2, outer_dim: d1, samples: n, outer_samples: m, spectrum, misfit, penalty, .. } = *self.config;
        let Prescribed { inner_largest, outer, outer_largest, outer_penalty, cross, cross_largest } = *prescribed;
        let eigenvalue = |j: usize| inner_largest * spectrum.eigenvalue(j, d2);
        let white = self.whitened("inner features", if misfit == 0.0 { d2 } else { d2 + d1 }, n)?;
        let white_x = white.rows(0..d2);
        let x = matmul(&self.directions("directions", d2, |j| eigenvalue(j).sqrt())?, white_x)?;
        // JᵀΣ⁻¹x = Jᵀ U diag(1/√λ) w_x
        let inverse_root = self.directions("directions", d2, |j| eigenvalue(j).sqrt().recip())?;
        let jacobian = self.jacobian(|j| cross_largest * cross.eigenvalue(j, d1.min(d2)))?;
        let mut a = matmul(&matmul(jacobian.t(), &inverse_root)?, white_x)?;
        a.scale(-1.0);
        if misfit != 0.0 {
            a.add_scaled(misfit, &white.rows(d2..d2 + d1).to_matrix())?;
        }
        let root = self.directions("outer directions", d2, |j| (outer_largest * outer.eigenvalue(j, d2)).sqrt())?;
        let z = matmul(&root, &self.whitened("outer features", d2, m)?)?;
        let root = self.directions("penalty directions", d1, |j| (penalty * outer_penalty.eigenvalue(j, d1)).sqrt())?;
        Ok(Drawn { inner: self.inner(&x, &a)?, outer: self.outer(z)?, penalty: Penalty::Matrix(matmul(&root, root.t())?) })
    }

    /// d2 × d1 with the given singular values in random directions on both sides.
    fn jacobian(&self, value: impl Fn(usize) -> f64) -> Result<Matrix> {
        let (d2, d1) = (self.config.inner_dim, self.config.outer_dim);
        let left = self.directions("cross directions, inner", d2, |j| if j < d1 { value(j) } else { 0.0 })?;
        let right = self.directions("cross directions, outer", d1, |_| 1.0)?;
        let rank = d1.min(d2);
        matmul(left.columns(0..rank), right.columns(0..rank).t())
    }

    /// d × n with (1/n) WWᵀ = I, its row space in uniformly random directions.
    fn whitened(&self, purpose: &str, d: usize, n: usize) -> Result<Matrix> {
        let (mut q, _) = qr(&self.normals(purpose, n, d)?)?;
        q.scale((n as f64).sqrt());
        Ok(q.t().to_matrix())
    }

    /// The joint features (x_i, a_i) with c_i ~ N(0, noise²).
    fn inner(&self, x: &Matrix, a: &Matrix) -> Result<Samples> {
        let n = x.ncols();
        let joint = (0..n).flat_map(|i| x.col(i).iter().chain(a.col(i))).copied().collect();
        let mut c = self.normals("inner noise", n, 1)?;
        c.scale(self.config.noise);
        Samples::new(Features::from_f64(joint, n, x.nrows() + a.nrows())?, Targets::real(c.into_vec())?)
    }

    /// z_j with t_j = z_jᵀθ° + N(0, noise²).
    fn outer(&self, z: Matrix) -> Result<Samples> {
        let (d2, m) = (z.nrows(), z.ncols());
        let mut t = self.normals("outer noise", m, 1)?;
        t.scale(self.config.noise);
        matmul_add(&mut t, 1.0, z.t(), &self.normals("truth", d2, 1)?)?;
        Samples::new(Features::from_f64(z.into_vec(), m, d2)?, Targets::real(t.into_vec())?)
    }
}
