//! Recovering F itself from Y = FΩ where F lies inside the sketch: rank F ≤ ℓ, which its trace tells.
//!
//! The shift that keeps Nyström's formula stable costs ν(1 + ‖Ω₂Ω₁⁺‖²), Ω₁ the part of Ω in the range of F; where Ω₁ is nearly square
//! that is many digits. With U an orthonormal basis of the range of Y, F = UMUᵀ where M solves M(UᵀΩ) = UᵀY: the symmetric M of
//! least squares errs by about ν‖Ω₁⁺‖, the first power. That is the most that a rounded Y can tell: adding ν‖Ω₁⁺‖·uuᵀ to F, u the
//! direction of the range that Ω sees least, moves Y by no more than its rounding.

use crate::dense::{Matrix, Svd, eigh, matmul, matmul_add, qr, svd};
use crate::error::Result;

/// What a trace may be off by, relative to tr F, for the attempt to be worth its second factorization: more is a tail of F, no
/// rounding.
const WORTHWHILE: f64 = 1e-5;

/// F̂ = UMUᵀ in factored form: orthonormal columns and the eigenvalues that go with them.
pub(super) struct Spectral {
    pub(super) vectors: Matrix,
    pub(super) values: Vec<f64>,
}

impl Spectral {
    pub(super) fn trace(&self) -> f64 {
        self.values.iter().sum()
    }

    /// Rows R with RᵀR = F̂, as the columns of a d × rank matrix; a zero matrix has one zero row.
    pub(super) fn rows(&self) -> Matrix {
        let rank = self.values.iter().filter(|&&value| value > 0.0).count();
        let entry = |i: usize, j: usize| if j < rank { self.values[j].sqrt() * self.vectors[(i, j)] } else { 0.0 };
        Matrix::from_fn(self.vectors.nrows(), rank.max(1), entry)
    }
}

/// F from y = FΩ (`omega` with orthonormal columns, `shift` the rounding of y, in the 2-norm), if F's `trace` says that it has no
/// part outside; `approximation` is Nyström's. Costs about 16·d·ℓ² flops where it is tried.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite).
pub(super) fn recover(y: &Matrix, omega: &Matrix, shift: f64, trace: f64, approximation: &Spectral) -> Result<Option<Spectral>> {
    let missing = (trace - approximation.trace()).abs();
    if missing > WORTHWHILE * trace || trace <= 0.0 {
        return Ok(None);
    }
    let range = svd(y)?;
    let rank = range.values.iter().take_while(|&&value| value > shift).count();
    if rank == 0 {
        return Ok(None);
    }
    // An SVD is good to some tens of roundings, which Ω₁⁺ would amplify: it only picks the combinations, the QR finds their range.
    let (basis, _) = qr(&matmul(y, range.v.columns(0..rank))?)?;
    let (seen, target) = (matmul(basis.t(), omega)?, matmul(basis.t(), y)?);
    let factors = svd(&seen)?;
    let smallest = factors.values.last().copied().unwrap_or(0.0);
    if smallest <= 0.0 {
        return Ok(None);
    }
    let mut m = symmetric_solution(&factors, &target)?;
    let mut residual = target;
    matmul_add(&mut residual, -1.0, &m, &seen)?;
    m.add_scaled(1.0, &symmetric_solution(&factors, &residual)?)?;
    // Times what the worst of many draws needed (4), with a margin. Too large would do no harm: the interval says what it costs.
    let allowance = 16.0 * omega.ncols() as f64 * shift / smallest;
    if (trace - m.trace()).abs() > allowance {
        return Ok(None);
    }
    let eigen = eigh(&m)?;
    let values = eigen.values.iter().map(|value| value.max(0.0)).collect();
    Ok(Some(Spectral { vectors: matmul(&basis, &eigen.vectors)?, values }))
}

/// The symmetric M of least squares with M A = T, for A = P diag(a) Zᵀ: with N = PᵀMP and R = PᵀTZ the equations are n_ij a_j = r_ij, and
/// so n_ij a_i = r_ji.
fn symmetric_solution(Svd { u, values: a, v }: &Svd, target: &Matrix) -> Result<Matrix> {
    let r = matmul(&matmul(u.t(), target)?, v)?;
    let n = Matrix::from_fn(a.len(), a.len(), |i, j| (r[(i, j)] * a[j] + r[(j, i)] * a[i]) / (a[i] * a[i] + a[j] * a[j]));
    let m = matmul(&matmul(u, &n)?, u.t())?;
    Ok(Matrix::from_fn(a.len(), a.len(), |i, j| 0.5 * (m[(i, j)] + m[(j, i)])))
}

/// The least and the greatest eigenvalue of A − B, from a factorization of both bases at once.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite).
pub(super) fn difference_range(a: &Spectral, b: &Spectral) -> Result<(f64, f64)> {
    let (ka, kb) = (a.values.len(), b.values.len());
    let both: Vec<f64> = a.vectors.as_slice().iter().chain(b.vectors.as_slice()).copied().collect();
    let (_, r) = qr(&Matrix::from_columns(a.vectors.nrows(), ka + kb, both)?)?;
    let signed = |j: usize| if j < ka { a.values[j] } else { -b.values[j - ka] };
    let scaled = Matrix::from_fn(r.nrows(), ka + kb, |i, j| r[(i, j)] * signed(j));
    let product = matmul(&scaled, r.t())?;
    let symmetric = Matrix::from_fn(r.nrows(), r.nrows(), |i, j| 0.5 * (product[(i, j)] + product[(j, i)]));
    let values = eigh(&symmetric)?.values;
    Ok((values.last().copied().unwrap_or(0.0).min(0.0), values.first().copied().unwrap_or(0.0).max(0.0)))
}
