//! Tall matrices a few rows at a time: such as are made where they are needed and never stored, sums over the rows of several of them at
//! once, and orthogonal factors in place (tall and skinny QR: Demmel, Grigori, Hoemmen & Langou 2012), so that no second tall matrix is
//! taken.

use std::ops::Range;

use faer::MatMut;
use faer::prelude::Reborrow;

use super::Real;
use super::factorizations::{qr, triangular};
use super::matrix::Matrix;
use super::products::{INNER_CUT, matmul_add_here};
use super::tall::RUN;
use crate::error::Result;
use crate::par;

/// A tall matrix whose rows can be made where they are needed.
pub(crate) trait TallRows: Sync {
    /// The number of rows.
    fn nrows(&self) -> usize;

    /// The number of columns.
    fn ncols(&self) -> usize;

    /// Writes some rows into `tile`, which has their shape.
    fn fill(&self, rows: Range<usize>, tile: &mut Matrix);
}

/// Σ over runs of 0..`rows` of what `add` adds to an m × n matrix of zeros, in a tree of fixed shape.
///
/// # Errors
/// The first one of `add`.
pub(crate) fn sum_over_rows(
    rows: usize,
    (m, n): (usize, usize),
    add: &(impl Fn(Range<usize>, &mut Matrix) -> Result<()> + Sync),
) -> Result<Matrix> {
    let leaf = |rows: Range<usize>| {
        let mut sum = Matrix::zeros(m, n);
        add(rows, &mut sum).map(|()| sum)
    };
    par::reduce_blocks(0..rows, INNER_CUT, &leaf, &|left: Result<Matrix>, right| {
        let mut left = left?;
        left.add_scaled(1.0, &right?)?;
        Ok(left)
    })
}

/// Hands runs of `size` rows of A (the last one has up to twice as many) to `f` as small matrices, in parallel, and puts back what it made of
/// them; the answers stand in the order of the runs, each of which begins at a multiple of `size`.
///
/// # Panics
/// If `f` changes the shape of what it is handed.
pub(crate) fn each_run<T: Send>(a: &mut Matrix, size: usize, f: &(impl Fn(Range<usize>, &mut Matrix) -> T + Sync)) -> Vec<T> {
    runs(a.faer_mut(), 0, size, f)
}

fn runs<T: Send>(
    mut a: MatMut<'_, Real>,
    start: usize,
    size: usize,
    f: &(impl Fn(Range<usize>, &mut Matrix) -> T + Sync),
) -> Vec<T> {
    let (nrows, ncols) = (a.nrows(), a.ncols());
    let count = nrows / size;
    if count > 1 {
        let middle = count.div_ceil(2) * size;
        let (top, bottom) = a.split_at_row_mut(middle);
        let (mut answers, below) = par::join(|| runs(top, start, size, f), || runs(bottom, start + middle, size, f));
        answers.extend(below);
        return answers;
    }
    let mut part = Matrix::zeros(nrows, ncols);
    part.faer_mut().copy_from(a.rb());
    let answer = f(start..start + nrows, &mut part);
    assert_eq!((part.nrows(), part.ncols()), (nrows, ncols), "the shape of a run of rows");
    a.copy_from(part.view().faer());
    vec![answer]
}

/// Rows that are factorized at once: enough that the triangles of all runs are few beside the matrix.
fn factorized_rows(ncols: usize) -> usize {
    RUN.max(32 * ncols)
}

/// R of A = Q R for an A of the given shape whose rows `fill` writes: min(m, n) × n, its signs as they come, at 2mn² flops.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite).
pub(crate) fn triangular_factor(
    (nrows, ncols): (usize, usize),
    fill: &(impl Fn(Range<usize>, &mut Matrix) -> Result<()> + Sync),
) -> Result<Matrix> {
    let leaf = |rows: Range<usize>| {
        let mut part = Matrix::zeros(rows.len(), ncols);
        fill(rows, &mut part)?;
        triangular(part)
    };
    par::reduce_blocks(0..nrows, factorized_rows(ncols), &leaf, &|upper: Result<Matrix>, lower| {
        triangular(stacked(&[upper?, lower?], ncols))
    })
}

/// Replaces the columns of A, m × n with m ≥ n, by an orthonormal basis of a space that holds them: 4mn² flops, and the memory of a
/// thirty-second of A.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite).
pub(crate) fn orthonormalize(a: &mut Matrix) -> Result<()> {
    let n = a.ncols();
    let size = factorized_rows(n);
    if a.nrows() < 2 * size {
        *a = qr(a)?.0;
        return Ok(());
    }
    let triangles = each_run(a, size, &|_, part| {
        let (q, r) = qr(part)?;
        *part = q;
        Ok(r)
    });
    let mut factor = stacked(&triangles.into_iter().collect::<Result<Vec<_>>>()?, n);
    orthonormalize(&mut factor)?;
    let rotated = each_run(a, size, &|rows, part| {
        let place = rows.start / size * n;
        let mut product = Matrix::zeros(part.nrows(), n);
        matmul_add_here(&mut product, 1.0, &*part, factor.rows(place..place + n))?;
        *part = product;
        Ok(())
    });
    rotated.into_iter().collect()
}

/// Matrices of `ncols` columns one below the other.
fn stacked(parts: &[Matrix], ncols: usize) -> Matrix {
    let mut all = Matrix::zeros(parts.iter().map(Matrix::nrows).sum(), ncols);
    let mut start = 0;
    for part in parts {
        (0..ncols).for_each(|j| all.col_mut(j)[start..start + part.nrows()].copy_from_slice(part.col(j)));
        start += part.nrows();
    }
    all
}
