//! Products with tall matrices, whose columns lie far apart in memory: in tiles of rows, and in few passes.

use std::ops::Range;

use faer::linalg::matmul as product;
use faer::{
    Accum, MatMut, MatRef, Par,
    prelude::{Reborrow, ReborrowMut},
};

use super::Real;
use super::matrix::{Matrix, View, check_shape};
use super::products::{CUT, clear_vector_registers, cut_place, inner_cut, middle, product_cut, rows_of};
use super::tiles::TallRows;
use super::vectors::{dot, dot_block};
use crate::error::{Result, check_len};
use crate::par;

/// Tall matrices are worked on in tiles of this many rows (what vector registers hold divides it), and in runs of tiles on one thread.
pub(super) const TILE: usize = 192;
pub(crate) const RUN: usize = 8 * TILE;
/// The most columns of a tile that leave room for it in a cache.
pub(super) const MOST_TILE_COLUMNS: usize = 512;
/// A cache holds this many terms of the rows of a block, to be used twice.
pub(crate) const PASS: usize = 256;

/// A ← A B for B k × n, where A stands: no second tall matrix is taken.
///
/// # Errors
/// [`Error::Shape`] if the sizes do not fit.
pub(crate) fn matmul_in_place<'b>(a: &mut Matrix, b: impl Into<View<'b>>) -> Result<()> {
    let b = b.into();
    check_shape("b", b, a.ncols(), b.ncols())?;
    let (before, after) = (a.ncols(), b.ncols());
    a.set_columns(before.max(after));
    if before.min(after) > 0 {
        multiply_rows(a.faer_mut(), b.faer());
    }
    a.set_columns(after);
    Ok(())
}

/// C += α A B, and ‖C‖² of what it is then (the squares of all entries), got while they are at hand.
///
/// # Errors
/// [`Error::Shape`] if the sizes do not fit.
pub(crate) fn matmul_add_and_square<'a, 'b>(
    c: &mut Matrix,
    alpha: Real,
    a: impl Into<View<'a>>,
    b: impl Into<View<'b>>,
) -> Result<Real> {
    let (a, b) = (a.into(), b.into());
    check_shape("b", b, a.ncols(), b.ncols())?;
    check_shape("c", &*c, a.nrows(), b.ncols())?;
    if is_tall(c, a, b) {
        return Ok(add_tall(c.faer_mut(), alpha, a.faer(), b.faer(), &squared_norm));
    }
    product_cut(c.faer_mut(), Accum::Add, alpha, a.faer(), b.faer());
    Ok(dot(c.as_slice(), c.as_slice()))
}

/// Whether A B is added to C tile by tile.
pub(super) fn is_tall(c: &Matrix, a: View<'_>, b: View<'_>) -> bool {
    c.nrows() > RUN && a.ncols().max(b.ncols()) <= MOST_TILE_COLUMNS
}

fn squared_norm(c: MatRef<'_, Real>) -> Real {
    (0..c.ncols()).map(|j| square_of_column(c, j)).sum()
}

fn square_of_column(a: MatRef<'_, Real>, j: usize) -> Real {
    let terms = a.col(j).try_as_col_major().expect("columns of a matrix are contiguous").as_slice();
    dot_block(terms, terms)
}

/// The right factor of a product: stored, or made a few rows at a time.
#[derive(Clone, Copy)]
enum Right<'a> {
    Stored(MatRef<'a, Real>),
    Made(&'a dyn TallRows),
}

impl Right<'_> {
    fn ncols(&self) -> usize {
        match self {
            Self::Stored(b) => b.ncols(),
            Self::Made(b) => b.ncols(),
        }
    }

    /// Some rows; those that are made stand in `tile`.
    fn rows<'t>(&'t self, range: Range<usize>, tile: &'t mut Matrix) -> MatRef<'t, Real> {
        match self {
            Self::Stored(b) => rows_of(*b, range),
            Self::Made(b) => {
                tile.reshape(range.len(), b.ncols());
                b.fill(range, tile);
                tile.view().faer()
            }
        }
    }
}

/// The rows' products with B and their squared norms, [AᵀB, diag(AᵀA)], for A k × m and B k × n: one pass over A.
///
/// # Errors
/// [`Error::Shape`] if the sizes do not fit.
pub(crate) fn matmul_and_squares(a: &Matrix, b: &Matrix) -> Result<(Matrix, Vec<Real>)> {
    check_shape("b", b, a.nrows(), b.ncols())?;
    Ok(with_squares(a, Right::Stored(b.view().faer())))
}

/// The same for a B of which a few rows are made at a time: nothing of its size is taken.
///
/// # Errors
/// [`Error::Shape`] if the sizes do not fit.
pub(crate) fn rows_matmul_and_squares(a: &Matrix, b: &dyn TallRows) -> Result<(Matrix, Vec<Real>)> {
    check_len("b", b.nrows(), a.nrows())?;
    Ok(with_squares(a, Right::Made(b)))
}

fn with_squares(a: &Matrix, b: Right<'_>) -> (Matrix, Vec<Real>) {
    let mut both = Matrix::zeros(a.ncols(), b.ncols() + 1);
    products_and_squares(both.faer_mut(), a.view().faer(), b);
    let squares = both.col(b.ncols()).to_vec();
    both.set_columns(b.ncols());
    (both, squares)
}

/// C += α A B for a tall C. Columns of a tall matrix lie far apart, so that a product reads and writes it badly: each tile is formed
/// in a small matrix and then added column by column. Returns the sum of `measure` over the tiles of the new C.
pub(super) fn add_tall(
    c: MatMut<'_, Real>,
    alpha: Real,
    a: MatRef<'_, Real>,
    b: MatRef<'_, Real>,
    measure: &(impl Fn(MatRef<'_, Real>) -> Real + Sync),
) -> Real {
    if c.nrows() > RUN {
        let half = middle(c.nrows(), RUN);
        let (top, bottom) = c.split_at_row_mut(half);
        let (a_top, a_bottom) = a.split_at_row(half);
        let (above, below) =
            par::join(|| add_tall(top, alpha, a_top, b, measure), || add_tall(bottom, alpha, a_bottom, b, measure));
        return above + below;
    }
    let (mut rows, mut sum) = (Matrix::zeros(TILE, a.ncols()), Matrix::zeros(TILE, c.ncols()));
    let mut measured = 0.0;
    each_tile(c, |mut c, range| {
        let (mut rows, mut sum) = (rows.faer_mut().subrows_mut(0, range.len()), sum.faer_mut().subrows_mut(0, range.len()));
        rows.copy_from(rows_of(a, range));
        product::matmul(sum.rb_mut(), Accum::Replace, rows.rb(), b, alpha, Par::Seq);
        c += sum.rb();
        measured += measure(c.rb());
    });
    clear_vector_registers();
    measured
}

/// Replaces the rows of A, of which the first columns hold what there is, by their products with B.
fn multiply_rows(a: MatMut<'_, Real>, b: MatRef<'_, Real>) {
    if a.nrows() > RUN {
        let half = middle(a.nrows(), RUN);
        let (top, bottom) = a.split_at_row_mut(half);
        par::join(|| multiply_rows(top, b), || multiply_rows(bottom, b));
        return;
    }
    let (mut rows, mut result) = (Matrix::zeros(TILE, b.nrows()), Matrix::zeros(TILE, b.ncols()));
    each_tile(a, |a, range| {
        let (mut rows, mut result) = (rows.faer_mut().subrows_mut(0, range.len()), result.faer_mut().subrows_mut(0, range.len()));
        rows.copy_from(a.rb().subcols(0, b.nrows()));
        product::matmul(result.rb_mut(), Accum::Replace, rows.rb(), b, 1.0, Par::Seq);
        a.subcols_mut(0, b.ncols()).copy_from(result.rb());
    });
    clear_vector_registers();
}

/// Calls `f` with every tile of rows and where it stands.
fn each_tile(mut a: MatMut<'_, Real>, mut f: impl FnMut(MatMut<'_, Real>, Range<usize>)) {
    for range in par::blocks(a.nrows(), TILE) {
        f(a.rb_mut().subrows_mut(range.start, range.len()), range);
    }
}

/// The squares are summed over a few rows of A while the product has left them in the cache.
fn products_and_squares(both: MatMut<'_, Real>, a: MatRef<'_, Real>, b: Right<'_>) {
    let m = both.nrows();
    if m > CUT {
        let half = cut_place(m);
        let (top, bottom) = both.split_at_row_mut(half);
        let (a_left, a_right) = a.split_at_col(half);
        par::join(|| products_and_squares(top, a_left, b), || products_and_squares(bottom, a_right, b));
        return;
    }
    inner_cut(both, Accum::Replace, 0..a.nrows(), &|both, mut accum, inner| {
        let (mut products, mut squares) = both.split_at_col_mut(b.ncols());
        let mut tile = Matrix::zeros(0, 0);
        for inner in par::blocks_of(inner, PASS) {
            let a = rows_of(a, inner.clone());
            product_cut(products.rb_mut(), accum, 1.0, a.transpose(), b.rows(inner, &mut tile));
            for i in 0..m {
                let sum = square_of_column(a, i);
                squares[(i, 0)] = if let Accum::Add = accum { squares[(i, 0)] + sum } else { sum };
            }
            accum = Accum::Add;
        }
    });
}
