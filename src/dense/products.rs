//! Products, cut at fixed places: each piece is one sequential call of `faer`.

use std::ops::Range;

use faer::linalg::matmul as product;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par, prelude::ReborrowMut};

use super::Real;
use super::matrix::{Matrix, View, check_shape};
use super::tall::{add_tall, is_tall};
use crate::error::{Result, check_len};
use crate::par;

/// Products larger than this many rows or columns are cut there, whatever the number of threads.
pub(super) const CUT: usize = 256;
/// Products that sum over more terms than this are cut there: few rows and columns, and still work for all threads.
pub(super) const INNER_CUT: usize = 4096;
/// Columns that a rank-one update takes at once.
const COLUMNS: usize = 32;

/// The product A B, for A m × k and B k × n: 2mkn flops.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the inner sizes differ.
pub fn matmul<'a, 'b>(a: impl Into<View<'a>>, b: impl Into<View<'b>>) -> Result<Matrix> {
    let (a, b) = (a.into(), b.into());
    check_shape("b", b, a.ncols(), b.ncols())?;
    let mut c = Matrix::zeros(a.nrows(), b.ncols());
    product_cut(c.faer_mut(), Accum::Replace, 1.0, a.faer(), b.faer());
    Ok(c)
}

/// C += α A B.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the sizes do not fit.
pub fn matmul_add<'a, 'b>(c: &mut Matrix, alpha: Real, a: impl Into<View<'a>>, b: impl Into<View<'b>>) -> Result<()> {
    let (a, b) = (a.into(), b.into());
    check_shape("b", b, a.ncols(), b.ncols())?;
    check_shape("c", &*c, a.nrows(), b.ncols())?;
    if is_tall(c, a, b) {
        add_tall(c.faer_mut(), alpha, a.faer(), b.faer(), &|_| 0.0);
    } else {
        product_cut(c.faer_mut(), Accum::Add, alpha, a.faer(), b.faer());
    }
    Ok(())
}

/// Adds α A B to columns of C that stand in `c` as m × n, column by column: for callers that cut the work themselves.
pub(crate) fn matmul_add_slice(c: &mut [Real], alpha: Real, a: View<'_>, b: View<'_>) -> Result<()> {
    check_shape("b", b, a.ncols(), b.ncols())?;
    check_len("c", c.len(), a.nrows() * b.ncols())?;
    product_cut(MatMut::from_column_major_slice_mut(c, a.nrows(), b.ncols()), Accum::Add, alpha, a.faer(), b.faer());
    Ok(())
}

/// C += α A B in one piece on this thread: for callers that cut the work themselves, into blocks that a cache holds.
pub(crate) fn matmul_add_here<'a, 'b>(c: &mut Matrix, alpha: Real, a: impl Into<View<'a>>, b: impl Into<View<'b>>) -> Result<()> {
    let (a, b) = (a.into(), b.into());
    check_shape("b", b, a.ncols(), b.ncols())?;
    check_shape("c", &*c, a.nrows(), b.ncols())?;
    product::matmul(c.faer_mut(), Accum::Add, a.faer(), b.faer(), alpha, Par::Seq);
    clear_vector_registers();
    Ok(())
}

/// Replacing instead of adding to zeros spares reading memory that was never written.
pub(super) fn product_cut(c: MatMut<'_, Real>, accum: Accum, alpha: Real, a: MatRef<'_, Real>, b: MatRef<'_, Real>) {
    let (m, n) = (c.nrows(), c.ncols());
    if m > CUT && m >= n {
        let half = cut_place(m);
        let (top, bottom) = c.split_at_row_mut(half);
        let (a_top, a_bottom) = a.split_at_row(half);
        par::join(|| product_cut(top, accum, alpha, a_top, b), || product_cut(bottom, accum, alpha, a_bottom, b));
    } else if n > CUT {
        let half = cut_place(n);
        let (left, right) = c.split_at_col_mut(half);
        let (b_left, b_right) = b.split_at_col(half);
        par::join(|| product_cut(left, accum, alpha, a, b_left), || product_cut(right, accum, alpha, a, b_right));
    } else {
        inner_cut(c, accum, 0..a.ncols(), &|c, accum, inner| {
            product::matmul(c, accum, columns_of(a, inner.clone()), rows_of(b, inner), alpha, Par::Seq);
        });
        clear_vector_registers();
    }
}

/// faer's product kernels return with the upper halves of the vector registers in use (they lack a `vzeroupper`), and on x86 every
/// call of `exp` or `tanh` that follows then takes some 200 ns instead of 5 to 20. A function compiled for these registers clears
/// them when it returns: here the smallest one at hand, of 17 ns.
pub(super) fn clear_vector_registers() {
    const SMALL: [Real; 64] = [1.0; 64];
    std::hint::black_box(MatRef::from_column_major_slice(std::hint::black_box(&SMALL[..]), 64, 1).norm_max());
}

/// The middle, rounded up to a multiple of the block size.
pub(super) fn cut_place(n: usize) -> usize {
    middle(n, CUT)
}

pub(super) fn middle(n: usize, block: usize) -> usize {
    (n / 2).div_ceil(block) * block
}

/// Sums the products over parts of the range of `inner` terms: a tree of fixed shape, its right halves added to the left ones.
pub(super) fn inner_cut(
    mut c: MatMut<'_, Real>,
    accum: Accum,
    inner: Range<usize>,
    part: &(impl Fn(MatMut<'_, Real>, Accum, Range<usize>) + Sync),
) {
    if inner.len() <= INNER_CUT {
        return part(c, accum, inner);
    }
    let half = inner.start + middle(inner.len(), INNER_CUT);
    let mut right = Matrix::zeros(c.nrows(), c.ncols());
    par::join(
        || inner_cut(c.rb_mut(), accum, inner.start..half, part),
        || inner_cut(right.faer_mut(), Accum::Replace, half..inner.end, part),
    );
    c += right.view().faer();
}

fn columns_of(a: MatRef<'_, Real>, range: Range<usize>) -> MatRef<'_, Real> {
    a.subcols(range.start, range.len())
}

pub(super) fn rows_of(a: MatRef<'_, Real>, range: Range<usize>) -> MatRef<'_, Real> {
    a.subrows(range.start, range.len())
}

/// The Gram matrix A Aᵀ of the rows of A (m × k), computed as the symmetric matrix it is: m²k flops.
pub fn gram<'a>(a: impl Into<View<'a>>) -> Matrix {
    let a = a.into();
    let mut c = Matrix::zeros(a.nrows(), a.nrows());
    gram_cut(c.faer_mut(), a.faer());
    c.mirror();
    c
}

/// C ← β C + α x xᵀ: 4n² flops. A C that is symmetric to the bit stays so.
///
/// # Panics
/// If C is not of the order of x.
pub(crate) fn rank_one_update(c: &mut Matrix, beta: Real, alpha: Real, x: &[Real]) {
    let n = x.len();
    assert_eq!((c.nrows(), c.ncols()), (n, n), "the callers' invariant");
    par::for_chunks(c.as_mut_slice(), n * COLUMNS, |block, columns| {
        for (j, column) in columns.chunks_exact_mut(n).enumerate() {
            let x_j = x[block * COLUMNS + j];
            column.iter_mut().zip(x).for_each(|(c, x_i)| *c = beta * *c + alpha * (x_i * x_j));
        }
    });
}

fn gram_cut(c: MatMut<'_, Real>, a: MatRef<'_, Real>) {
    let n = c.nrows();
    if n > CUT {
        let half = cut_place(n);
        let (upper_left, _, lower_left, lower_right) = c.split_at_mut(half, half);
        let (top, bottom) = a.split_at_row(half);
        par::join(
            || product_cut(lower_left, Accum::Replace, 1.0, bottom, top.transpose()),
            || par::join(|| gram_cut(upper_left, top), || gram_cut(lower_right, bottom)),
        );
    } else {
        inner_cut(c, Accum::Replace, 0..a.ncols(), &|c, accum, inner| {
            let a = columns_of(a, inner);
            triangular::matmul(
                c,
                BlockStructure::TriangularLower,
                accum,
                a,
                BlockStructure::Rectangular,
                a.transpose(),
                BlockStructure::Rectangular,
                1.0,
                Par::Seq,
            );
        });
        clear_vector_registers();
    }
}

/// The product A x.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the sizes do not fit.
pub fn matvec<'a>(a: impl Into<View<'a>>, x: &[Real]) -> Result<Vec<Real>> {
    let a = a.into();
    check_len("x", x.len(), a.ncols())?;
    Ok(matmul(a, View::from_slice(x, x.len(), 1)?)?.into_vec())
}
