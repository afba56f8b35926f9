//! Recovering F itself from Y = FΩ where F lies inside the sketch: rank F ≤ ℓ, which its trace tells.
//!
//! The shift that keeps Nyström's formula stable costs ν(1 + ‖Ω₂Ω₁⁺‖²), Ω₁ the part of Ω in the range of F; where Ω₁ is nearly square
//! that is many digits. With U an orthonormal basis of the range of Y, F = UMUᵀ where M solves M(UᵀΩ) = UᵀY: the symmetric M of
//! least squares errs by about ν‖Ω₁⁺‖, the first power. That is the most that a rounded Y can tell: adding ν‖Ω₁⁺‖·uuᵀ to F, u the
//! direction of the range that Ω sees least, moves Y by no more than its rounding.

use std::ops::Range;

use super::test_matrix::Omega;
use crate::dense::{
    Matrix, RUN, Svd, each_run, eigh, matmul, matmul_add, matmul_add_here, matmul_in_place, orthonormalize, svd, triangular_factor,
};
use crate::error::Result;

/// Whether recovering is worth its second factorization: a trace that is off by more than rounding can explain tells of a tail of F.
pub(super) fn is_worthwhile(missing: f64, trace: f64) -> bool {
    trace > 0.0 && missing.abs() <= 1e-5 * trace
}

/// F̂ = RᵀR in factored form, orthogonal rows.
pub(super) struct Factored {
    /// Rᵀ, d × rank.
    pub(super) columns: Matrix,
    /// Their squared norms, descending: the eigenvalues of F̂.
    pub(super) values: Vec<f64>,
}

impl Factored {
    /// Rᵀ; a zero matrix has one zero row, for a block is never empty.
    pub(super) fn into_columns(self) -> Matrix {
        if self.values.is_empty() { Matrix::zeros(self.columns.nrows(), 1) } else { self.columns }
    }
}

/// F from y = mass · FΩ (`shift` the rounding of FΩ, in the 2-norm), if F's `trace` says that it has no part outside. Costs about 16·d·ℓ²
/// flops, and the memory of one d × ℓ matrix.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite).
pub(super) fn recover(y: &Matrix, mass: f64, omega: &Omega, shift: f64, trace: f64) -> Result<Option<Factored>> {
    let mut factor = triangular_factor((y.nrows(), y.ncols()), &|rows, part| {
        part.copy_rows(y, rows);
        Ok(())
    })?;
    factor.scale(1.0 / mass);
    let range = svd(&factor)?;
    let rank = range.values.iter().take_while(|&&value| value > shift).count();
    if rank == 0 {
        return Ok(None);
    }
    // An SVD is good to some tens of roundings, which Ω₁⁺ would amplify: it only picks the combinations, the QR finds their range.
    let mut basis = Matrix::zeros(y.nrows(), rank);
    let combined = each_run(&mut basis, RUN, &|rows, part| {
        let mut tile = Matrix::zeros(0, 0);
        tile.copy_rows(y, rows);
        matmul_add_here(part, 1.0 / mass, &tile, range.v.columns(0..rank))
    });
    combined.into_iter().collect::<Result<()>>()?;
    orthonormalize(&mut basis)?;
    let seen = omega.transpose_times(&basis)?.t().to_matrix();
    let mut target = matmul(basis.t(), y)?;
    target.scale(1.0 / mass);
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
    let allowance = 16.0 * omega.size() as f64 * shift / smallest;
    if (trace - m.trace()).abs() > allowance {
        return Ok(None);
    }
    let eigen = eigh(&m)?;
    let values: Vec<f64> = eigen.values.into_iter().take_while(|&value| value > 0.0).collect();
    let scaled = Matrix::from_fn(rank, values.len(), |i, j| eigen.vectors[(i, j)] * values[j].sqrt());
    matmul_in_place(&mut basis, &scaled)?;
    Ok(Some(Factored { columns: basis, values }))
}

/// The symmetric M of least squares with M A = T, for A = P diag(a) Zᵀ: with N = PᵀMP and R = PᵀTZ the equations are n_ij a_j = r_ij, and
/// so n_ij a_i = r_ji.
fn symmetric_solution(Svd { u, values: a, v }: &Svd, target: &Matrix) -> Result<Matrix> {
    let r = matmul(&matmul(u.t(), target)?, v)?;
    let n = Matrix::from_fn(a.len(), a.len(), |i, j| (r[(i, j)] * a[j] + r[(j, i)] * a[i]) / (a[i] * a[i] + a[j] * a[j]));
    let m = matmul(&matmul(u, &n)?, u.t())?;
    Ok(Matrix::from_fn(a.len(), a.len(), |i, j| 0.5 * (m[(i, j)] + m[(j, i)])))
}

/// The least and the greatest eigenvalue of A − BBᵀ, from a factorization of both bases at once; `b` makes some rows of B, which has `rank`
/// columns.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite).
pub(super) fn difference_range(
    a: &Factored,
    rank: usize,
    b: &(impl Fn(Range<usize>) -> Result<Matrix> + Sync),
) -> Result<(f64, f64)> {
    let kept = a.values.len();
    let r = triangular_factor((a.columns.nrows(), kept + rank), &|rows, both| {
        let b = b(rows.clone())?;
        (0..kept).for_each(|j| both.col_mut(j).copy_from_slice(&a.columns.col(j)[rows.clone()]));
        (0..rank).for_each(|j| both.col_mut(kept + j).copy_from_slice(b.col(j)));
        Ok(())
    })?;
    let signed = Matrix::from_fn(r.nrows(), kept + rank, |i, j| if j < kept { r[(i, j)] } else { -r[(i, j)] });
    let product = matmul(&signed, r.t())?;
    let symmetric = Matrix::from_fn(r.nrows(), r.nrows(), |i, j| 0.5 * (product[(i, j)] + product[(j, i)]));
    let values = eigh(&symmetric)?.values;
    Ok((values.last().copied().unwrap_or(0.0).min(0.0), values.first().copied().unwrap_or(0.0).max(0.0)))
}
