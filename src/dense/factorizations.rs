//! Factorizations, with signs and orders fixed.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::{cholesky::llt, evd, qr::no_pivoting as householder_qr, svd as faer_svd};
use faer::{Conj, Par};

use super::Real;
use super::matrix::{Matrix, check_shape};
use crate::error::{Error, Result, check_finite};

/// A = L Lᵀ of a symmetric positive definite matrix.
#[derive(Debug, Clone)]
pub struct Cholesky(Matrix);

impl Cholesky {
    /// Factorizes, reading the lower triangle: n³/3 flops.
    ///
    /// # Errors
    /// [`Error::Shape`] if A is not square, [`Error::NotFinite`], [`Error::Numerical`] if A is not positive definite.
    pub fn new(mut a: Matrix) -> Result<Self> {
        check_square("a", &a)?;
        check_finite("a", a.as_slice())?;
        let n = a.nrows();
        let mut buffer = MemBuffer::new(llt::factor::cholesky_in_place_scratch::<Real>(n, Par::Seq, Default::default()));
        let info = llt::factor::cholesky_in_place(
            a.faer_mut(),
            Default::default(),
            Par::Seq,
            MemStack::new(&mut buffer),
            Default::default(),
        );
        match info {
            Ok(_) => Ok(Self(a)),
            Err(llt::factor::LltError::NonPositivePivot { index }) => Err(Error::Numerical {
                operation: "Cholesky factorization",
                reason: format!("the matrix is not positive definite (pivot {index} of {n}); add damping"),
            }),
        }
    }

    /// The order of the matrix.
    pub fn dim(&self) -> usize {
        self.0.nrows()
    }

    /// Replaces the columns of `rhs` by A⁻¹ rhs: 2n² flops a column.
    ///
    /// # Errors
    /// [`Error::Shape`] if `rhs` has the wrong number of rows, [`Error::NotFinite`].
    pub fn solve_in_place(&self, rhs: &mut Matrix) -> Result<()> {
        check_shape("rhs", &*rhs, self.dim(), rhs.ncols())?;
        check_finite("rhs", rhs.as_slice())?;
        llt::solve::solve_in_place(self.0.view().faer(), rhs.faer_mut(), Par::Seq, MemStack::new(&mut []));
        Ok(())
    }

    /// A⁻¹ b for one right-hand side.
    ///
    /// # Errors
    /// [`Error::Shape`] if `b` has the wrong length, [`Error::NotFinite`].
    pub fn solve(&self, b: &[Real]) -> Result<Vec<Real>> {
        let mut x = Matrix::column(b.to_vec());
        self.solve_in_place(&mut x)?;
        Ok(x.into_vec())
    }
}

/// A = U diag(λ) Uᵀ of a symmetric matrix: λ descending, and in each column of U the entry of largest magnitude (the first one
/// among equals) positive.
#[derive(Debug, Clone)]
pub struct Eigh {
    /// λ, descending.
    pub values: Vec<Real>,
    /// The eigenvectors, as columns.
    pub vectors: Matrix,
}

/// The eigen-decomposition of a symmetric matrix, of which the lower triangle is read.
///
/// # Errors
/// [`Error::Shape`] if A is not square, [`Error::NotFinite`], [`Error::Numerical`] if the iteration fails.
pub fn eigh(a: &Matrix) -> Result<Eigh> {
    check_square("a", a)?;
    check_finite("a", a.as_slice())?;
    let n = a.nrows();
    let (mut values, mut vectors) = (vec![0.0; n], Matrix::zeros(n, n));
    if n == 0 {
        return Ok(Eigh { values, vectors });
    }
    let scratch = evd::self_adjoint_evd_scratch::<Real>(n, evd::ComputeEigenvectors::Yes, Par::Seq, Default::default());
    evd::self_adjoint_evd(
        a.view().faer(),
        faer::diag::DiagMut::from_slice_mut(&mut values),
        Some(vectors.faer_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|e| Error::Numerical { operation: "eigen-decomposition", reason: format!("{e:?}") })?;
    check_finite("eigenvalues", &values)?;
    values.reverse();
    let vectors = Matrix::from_fn(n, n, |i, j| vectors[(i, n - 1 - j)]);
    let mut result = Eigh { values, vectors };
    for j in 0..n {
        if leading_sign(result.vectors.col(j)) < 0.0 {
            result.vectors.col_mut(j).iter_mut().for_each(|x| *x = -*x);
        }
    }
    Ok(result)
}

/// A = U diag(s) Vᵀ, thin: s descending, signs fixed by U as in [`Eigh`].
#[derive(Debug, Clone)]
pub struct Svd {
    /// Left singular vectors, m × min(m, n).
    pub u: Matrix,
    /// Singular values, descending.
    pub values: Vec<Real>,
    /// Right singular vectors, n × min(m, n).
    pub v: Matrix,
}

/// The thin singular value decomposition.
///
/// # Errors
/// [`Error::NotFinite`], [`Error::Numerical`] if the iteration fails.
pub fn svd(a: &Matrix) -> Result<Svd> {
    check_finite("a", a.as_slice())?;
    let (m, n) = (a.nrows(), a.ncols());
    let k = m.min(n);
    let (mut u, mut values, mut v) = (Matrix::zeros(m, k), vec![0.0; k], Matrix::zeros(n, k));
    if k == 0 {
        return Ok(Svd { u, values, v });
    }
    let thin = faer_svd::ComputeSvdVectors::Thin;
    let scratch = faer_svd::svd_scratch::<Real>(m, n, thin, thin, Par::Seq, Default::default());
    faer_svd::svd(
        a.view().faer(),
        faer::diag::DiagMut::from_slice_mut(&mut values),
        Some(u.faer_mut()),
        Some(v.faer_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|e| Error::Numerical { operation: "singular value decomposition", reason: format!("{e:?}") })?;
    check_finite("singular values", &values)?;
    for j in 0..k {
        if leading_sign(u.col(j)) < 0.0 {
            u.col_mut(j).iter_mut().for_each(|x| *x = -*x);
            v.col_mut(j).iter_mut().for_each(|x| *x = -*x);
        }
    }
    Ok(Svd { u, values, v })
}

/// A = Q R, thin, with a non-negative diagonal of R: Q m × min(m, n), R min(m, n) × n.
///
/// # Errors
/// [`Error::NotFinite`].
pub fn qr(a: &Matrix) -> Result<(Matrix, Matrix)> {
    check_finite("a", a.as_slice())?;
    let (m, n) = (a.nrows(), a.ncols());
    let k = m.min(n);
    if k == 0 {
        return Ok((Matrix::zeros(m, k), Matrix::zeros(k, n)));
    }
    let (basis, coefficients) = householder(a.clone());
    let block = coefficients.nrows();
    let mut r = Matrix::from_fn(k, n, |i, j| if i <= j { basis[(i, j)] } else { 0.0 });
    let mut q = Matrix::from_fn(m, k, |i, j| if i == j { 1.0 } else { 0.0 });
    let scratch = faer::linalg::householder::apply_block_householder_sequence_on_the_left_in_place_scratch::<Real>(m, block, k);
    faer::linalg::householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
        basis.columns(0..k).faer(),
        coefficients.view().faer(),
        Conj::No,
        q.faer_mut(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
    );
    for i in 0..k {
        if r[(i, i)] < 0.0 {
            (i..n).for_each(|j| r[(i, j)] = -r[(i, j)]);
            q.col_mut(i).iter_mut().for_each(|x| *x = -*x);
        }
    }
    Ok((q, r))
}

/// R of A = Q R alone, for A that is not needed any more: min(m, n) × n, its signs as they come.
///
/// # Errors
/// [`Error::NotFinite`].
pub(super) fn triangular(a: Matrix) -> Result<Matrix> {
    check_finite("a", a.as_slice())?;
    let (k, n) = (a.nrows().min(a.ncols()), a.ncols());
    if k == 0 {
        return Ok(Matrix::zeros(k, n));
    }
    let (factored, _) = householder(a);
    Ok(Matrix::from_fn(k, n, |i, j| if i <= j { factored[(i, j)] } else { 0.0 }))
}

/// R with Householder's vectors below it, and the coefficients of the blocks of reflections.
fn householder(mut a: Matrix) -> (Matrix, Matrix) {
    let (m, n) = (a.nrows(), a.ncols());
    let block = householder_qr::factor::recommended_block_size::<Real>(m, n);
    let mut coefficients = Matrix::zeros(block, m.min(n));
    let scratch = householder_qr::factor::qr_in_place_scratch::<Real>(m, n, block, Par::Seq, Default::default());
    householder_qr::factor::qr_in_place(
        a.faer_mut(),
        coefficients.faer_mut(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    );
    (a, coefficients)
}

pub(super) fn leading_sign(column: &[Real]) -> Real {
    column.iter().fold(0.0_f64, |best, &x| if x.abs() > best.abs() { x } else { best })
}

fn check_square(argument: &'static str, a: &Matrix) -> Result<()> {
    check_shape(argument, a, a.nrows(), a.nrows())
}
