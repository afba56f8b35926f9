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
use super::vectors::dot_block;
use crate::error::Result;
use crate::par;

/// Tall matrices are worked on in tiles of this many rows (what vector registers hold divides it), and in runs of tiles on one thread.
pub(super) const TILE: usize = 192;
pub(super) const RUN: usize = 8 * TILE;
/// The most columns of a tile that leave room for it in a cache.
pub(super) const MOST_TILE_COLUMNS: usize = 512;
/// A cache holds this many terms of the rows of a block, to be used twice.
pub(super) const PASS: usize = 256;

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

/// The rows' products with B and their squared norms, [AᵀB, diag(AᵀA)], for A k × m and B k × n: one pass over A.
///
/// # Errors
/// [`Error::Shape`] if the sizes do not fit.
pub(crate) fn matmul_and_squares(a: &Matrix, b: &Matrix) -> Result<(Matrix, Vec<Real>)> {
    check_shape("b", b, a.nrows(), b.ncols())?;
    let mut both = Matrix::zeros(a.ncols(), b.ncols() + 1);
    products_and_squares(both.faer_mut(), a.view().faer(), b.view().faer());
    let squares = both.col(b.ncols()).to_vec();
    both.set_columns(b.ncols());
    Ok((both, squares))
}

/// C += α A B for a tall C. Columns of a tall matrix lie far apart, so that a product reads and writes it badly: each tile is formed
/// in a small matrix and then added column by column.
pub(super) fn add_tall(c: MatMut<'_, Real>, alpha: Real, a: MatRef<'_, Real>, b: MatRef<'_, Real>) {
    if c.nrows() > RUN {
        let half = middle(c.nrows(), RUN);
        let (top, bottom) = c.split_at_row_mut(half);
        let (a_top, a_bottom) = a.split_at_row(half);
        par::join(|| add_tall(top, alpha, a_top, b), || add_tall(bottom, alpha, a_bottom, b));
        return;
    }
    let (mut rows, mut sum) = (Matrix::zeros(TILE, a.ncols()), Matrix::zeros(TILE, c.ncols()));
    each_tile(c, |mut c, range| {
        let (mut rows, mut sum) = (rows.faer_mut().subrows_mut(0, range.len()), sum.faer_mut().subrows_mut(0, range.len()));
        rows.copy_from(rows_of(a, range));
        product::matmul(sum.rb_mut(), Accum::Replace, rows.rb(), b, alpha, Par::Seq);
        c += sum.rb();
    });
    clear_vector_registers();
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
fn products_and_squares(both: MatMut<'_, Real>, a: MatRef<'_, Real>, b: MatRef<'_, Real>) {
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
        for inner in par::blocks_of(inner, PASS) {
            let a = rows_of(a, inner.clone());
            product_cut(products.rb_mut(), accum, 1.0, a.transpose(), rows_of(b, inner));
            for i in 0..m {
                let terms = a.col(i).try_as_col_major().expect("columns of a matrix are contiguous").as_slice();
                let sum = dot_block(terms, terms);
                squares[(i, 0)] = if let Accum::Add = accum { squares[(i, 0)] + sum } else { sum };
            }
            accum = Accum::Add;
        }
    });
}
