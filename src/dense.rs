//! Dense linear algebra: a column-major [`Matrix`], views of it, products, factorizations. Shapes and finiteness are checked here,
//! signs and orders are fixed here, and every result has the same bits at every thread count (large products are cut at fixed
//! places, faer itself runs sequentially). The only file that names `faer`.
//!
//! Indexing and the arithmetic of slices ([`dot`], [`axpy`], [`difference`]) panic on positions that are not there and on unequal
//! lengths, as slices do; everything else answers with an [`Error`]. Products carry a NaN along; factorizations refuse it.

use std::ops::{Index, IndexMut, Range};

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::{cholesky::llt, evd, matmul as product, qr::no_pivoting as householder_qr, svd as faer_svd};
use faer::{
    Accum, Conj, MatMut, MatRef, Par,
    prelude::{Reborrow, ReborrowMut},
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_finite, check_len};
use crate::par;

/// The number type of all arithmetic.
pub type Real = f64;

/// Products larger than this many rows or columns are cut there, whatever the number of threads.
const CUT: usize = 256;
/// Products that sum over more terms than this are cut there: few rows and columns, and still work for all threads.
const INNER_CUT: usize = 4096;
/// Tall matrices are worked on in tiles of this many rows (what vector registers hold divides it), and in runs of tiles on one thread.
const TILE: usize = 192;
const RUN: usize = 8 * TILE;
/// The most columns of a tile that leave room for it in a cache.
const MOST_TILE_COLUMNS: usize = 512;
/// A cache holds this many terms of the rows of a block, to be used twice.
const PASS: usize = 256;
/// Long sums are cut into blocks of this many terms.
const SUM_BLOCK: usize = 1 << 16;
/// Columns that a rank-one update takes at once.
const COLUMNS: usize = 32;

/// A column-major matrix: entry (i, j) stands at `i + j * nrows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Matrix {
    nrows: usize,
    ncols: usize,
    data: Vec<Real>,
}

/// A matrix as it was read, its sizes not yet believed.
#[derive(Deserialize)]
struct Stored {
    nrows: usize,
    ncols: usize,
    data: Vec<Real>,
}

impl TryFrom<Stored> for Matrix {
    type Error = Error;

    fn try_from(Stored { nrows, ncols, data }: Stored) -> Result<Self> {
        Self::from_columns(nrows, ncols, data)
    }
}

/// A rectangular part of a matrix, or the transpose of one.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [Real],
    nrows: usize,
    ncols: usize,
    stride: usize,
    orientation: Orientation,
}

#[derive(Debug, Clone, Copy)]
enum Orientation {
    AsStored,
    Transposed,
}

impl Matrix {
    /// The `nrows` × `ncols` matrix of zeros.
    ///
    /// # Panics
    /// As `Vec` does where so many entries exceed the address space.
    pub fn zeros(nrows: usize, ncols: usize) -> Self {
        Self { nrows, ncols, data: vec![0.0; entries(nrows, ncols)] }
    }

    /// The identity.
    pub fn identity(n: usize) -> Self {
        Self::from_fn(n, n, |i, j| if i == j { 1.0 } else { 0.0 })
    }

    /// The matrix with entries f(i, j).
    ///
    /// # Panics
    /// As [`zeros`](Self::zeros).
    pub fn from_fn(nrows: usize, ncols: usize, mut f: impl FnMut(usize, usize) -> Real) -> Self {
        let mut data = Vec::with_capacity(entries(nrows, ncols));
        for j in 0..ncols {
            data.extend((0..nrows).map(|i| f(i, j)));
        }
        Self { nrows, ncols, data }
    }

    /// The matrix whose columns stand one after the other in `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has `nrows * ncols` entries.
    pub fn from_columns(nrows: usize, ncols: usize, data: Vec<Real>) -> Result<Self> {
        check_entries(data.len(), nrows, ncols)?;
        Ok(Self { nrows, ncols, data })
    }

    /// A vector as a matrix of one column.
    pub fn column(data: Vec<Real>) -> Self {
        Self { nrows: data.len(), ncols: 1, data }
    }

    /// The number of rows.
    pub fn nrows(&self) -> usize {
        self.nrows
    }

    /// The number of columns.
    pub fn ncols(&self) -> usize {
        self.ncols
    }

    /// Column j.
    ///
    /// # Panics
    /// If there is none.
    pub fn col(&self, j: usize) -> &[Real] {
        &self.data[j * self.nrows..(j + 1) * self.nrows]
    }

    /// Column j, to be changed.
    ///
    /// # Panics
    /// If there is none.
    pub fn col_mut(&mut self, j: usize) -> &mut [Real] {
        &mut self.data[j * self.nrows..(j + 1) * self.nrows]
    }

    /// All entries, column by column.
    pub fn as_slice(&self) -> &[Real] {
        &self.data
    }

    /// All entries, column by column, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [Real] {
        &mut self.data
    }

    /// All entries, column by column, without a copy.
    pub fn into_vec(self) -> Vec<Real> {
        self.data
    }

    /// The whole matrix as a view.
    pub fn view(&self) -> View<'_> {
        View::of(&self.data, self.nrows, self.ncols)
    }

    /// The transpose, as a view.
    pub fn t(&self) -> View<'_> {
        self.view().t()
    }

    /// Some adjacent columns.
    ///
    /// # Panics
    /// If they are not there.
    pub fn columns(&self, range: Range<usize>) -> View<'_> {
        View::of(&self.data[range.start * self.nrows..range.end * self.nrows], self.nrows, range.len())
    }

    /// Some adjacent rows.
    ///
    /// # Panics
    /// If they are not there.
    pub fn rows(&self, range: Range<usize>) -> View<'_> {
        assert!(range.start <= range.end && range.end <= self.nrows, "rows {range:?} of a matrix with {} rows", self.nrows);
        let data = if range.is_empty() || self.ncols == 0 { &[][..] } else { &self.data[range.start..] };
        View { data, nrows: range.len(), ncols: self.ncols, stride: self.nrows, orientation: Orientation::AsStored }
    }

    /// Adds `alpha * other`, entry by entry.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ.
    pub fn add_scaled(&mut self, alpha: Real, other: &Matrix) -> Result<()> {
        check_shape("other", other.view(), self.nrows, self.ncols)?;
        axpy(alpha, &other.data, &mut self.data);
        Ok(())
    }

    /// Multiplies every entry.
    pub fn scale(&mut self, alpha: Real) {
        self.data.iter_mut().for_each(|x| *x *= alpha);
    }

    /// The sum of the diagonal.
    pub fn trace(&self) -> Real {
        (0..self.nrows.min(self.ncols)).map(|i| self[(i, i)]).sum()
    }

    /// The Frobenius norm.
    pub fn norm(&self) -> Real {
        norm(&self.data)
    }

    /// Drops the last columns, or adds columns of zeros; no more memory is taken than they need.
    pub(crate) fn set_columns(&mut self, ncols: usize) {
        let length = entries(self.nrows, ncols);
        self.data.reserve_exact(length.saturating_sub(self.data.len()));
        self.data.resize(length, 0.0);
        self.ncols = ncols;
    }

    /// Copies the strict lower triangle onto the upper one.
    fn mirror(&mut self) {
        for j in 0..self.ncols {
            for i in 0..j {
                self.data[i + j * self.nrows] = self.data[j + i * self.nrows];
            }
        }
    }

    fn faer_mut(&mut self) -> MatMut<'_, Real> {
        MatMut::from_column_major_slice_mut(&mut self.data, self.nrows, self.ncols)
    }
}

impl Index<(usize, usize)> for Matrix {
    type Output = Real;
    fn index(&self, (i, j): (usize, usize)) -> &Real {
        &self.col(j)[i]
    }
}

impl IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut Real {
        &mut self.col_mut(j)[i]
    }
}

impl<'a> View<'a> {
    fn of(data: &'a [Real], nrows: usize, ncols: usize) -> Self {
        Self { data, nrows, ncols, stride: nrows, orientation: Orientation::AsStored }
    }

    /// A slice of `nrows * ncols` entries, column by column.
    ///
    /// # Errors
    /// [`Error::Shape`] if the slice has another length.
    pub fn from_slice(data: &'a [Real], nrows: usize, ncols: usize) -> Result<Self> {
        check_entries(data.len(), nrows, ncols)?;
        Ok(Self::of(data, nrows, ncols))
    }

    /// The number of rows.
    pub fn nrows(&self) -> usize {
        match self.orientation {
            Orientation::AsStored => self.nrows,
            Orientation::Transposed => self.ncols,
        }
    }

    /// The number of columns.
    pub fn ncols(&self) -> usize {
        match self.orientation {
            Orientation::AsStored => self.ncols,
            Orientation::Transposed => self.nrows,
        }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        let orientation = match self.orientation {
            Orientation::AsStored => Orientation::Transposed,
            Orientation::Transposed => Orientation::AsStored,
        };
        Self { orientation, ..self }
    }

    /// A copy as a matrix of its own.
    pub fn to_matrix(self) -> Matrix {
        let view = self.faer();
        Matrix::from_fn(self.nrows(), self.ncols(), |i, j| view[(i, j)])
    }

    fn faer(self) -> MatRef<'a, Real> {
        let stored = if self.nrows * self.ncols == 0 {
            MatRef::from_column_major_slice(&[], self.nrows, self.ncols)
        } else {
            MatRef::from_column_major_slice_with_stride(self.data, self.nrows, self.ncols, self.stride)
        };
        match self.orientation {
            Orientation::AsStored => stored,
            Orientation::Transposed => stored.transpose(),
        }
    }
}

impl<'a> From<&'a Matrix> for View<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        matrix.view()
    }
}

/// `nrows * ncols`; what overflows is more than there can be, and left for `Vec` to refuse.
fn entries(nrows: usize, ncols: usize) -> usize {
    nrows.saturating_mul(ncols)
}

fn check_entries(found: usize, nrows: usize, ncols: usize) -> Result<()> {
    match nrows.checked_mul(ncols) {
        Some(expected) => check_len("data", found, expected),
        None => Err(Error::shape("data", format_args!("{nrows} × {ncols} entries"), format_args!("length {found}"))),
    }
}

/// Checks the shape of a matrix argument.
///
/// # Errors
/// [`Error::Shape`] for another one.
pub fn check_shape<'a>(argument: &'static str, found: impl Into<View<'a>>, nrows: usize, ncols: usize) -> Result<()> {
    let found = found.into();
    if (found.nrows(), found.ncols()) == (nrows, ncols) {
        return Ok(());
    }
    Err(Error::shape(argument, format_args!("{nrows} × {ncols}"), format_args!("{} × {}", found.nrows(), found.ncols())))
}

/// The product A B, for A m × k and B k × n: 2mkn flops.
///
/// # Errors
/// [`Error::Shape`] if the inner sizes differ.
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
/// [`Error::Shape`] if the sizes do not fit.
pub fn matmul_add<'a, 'b>(c: &mut Matrix, alpha: Real, a: impl Into<View<'a>>, b: impl Into<View<'b>>) -> Result<()> {
    let (a, b) = (a.into(), b.into());
    check_shape("b", b, a.ncols(), b.ncols())?;
    check_shape("c", &*c, a.nrows(), b.ncols())?;
    if c.nrows > RUN && a.ncols().max(b.ncols()) <= MOST_TILE_COLUMNS {
        add_tall(c.faer_mut(), alpha, a.faer(), b.faer());
    } else {
        product_cut(c.faer_mut(), Accum::Add, alpha, a.faer(), b.faer());
    }
    Ok(())
}

/// A ← A B for B k × n, where A stands: no second tall matrix is taken.
///
/// # Errors
/// [`Error::Shape`] if the sizes do not fit.
pub(crate) fn matmul_in_place<'b>(a: &mut Matrix, b: impl Into<View<'b>>) -> Result<()> {
    let b = b.into();
    check_shape("b", b, a.ncols, b.ncols())?;
    let (before, after) = (a.ncols, b.ncols());
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
    check_shape("b", b, a.nrows, b.ncols)?;
    let mut both = Matrix::zeros(a.ncols, b.ncols + 1);
    products_and_squares(both.faer_mut(), a.view().faer(), b.view().faer());
    let squares = both.data.split_off(a.ncols * b.ncols);
    both.ncols -= 1;
    Ok((both, squares))
}

/// Adds α A B to columns of C that stand in `c` as m × n, column by column: for callers that cut the work themselves.
pub(crate) fn matmul_add_slice(c: &mut [Real], alpha: Real, a: View<'_>, b: View<'_>) -> Result<()> {
    check_shape("b", b, a.ncols(), b.ncols())?;
    check_len("c", c.len(), a.nrows() * b.ncols())?;
    product_cut(MatMut::from_column_major_slice_mut(c, a.nrows(), b.ncols()), Accum::Add, alpha, a.faer(), b.faer());
    Ok(())
}

/// C += α A B for a tall C. Columns of a tall matrix lie far apart, so that a product reads and writes it badly: each tile is formed
/// in a small matrix and then added column by column.
fn add_tall(c: MatMut<'_, Real>, alpha: Real, a: MatRef<'_, Real>, b: MatRef<'_, Real>) {
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

/// Replacing instead of adding to zeros spares reading memory that was never written.
fn product_cut(c: MatMut<'_, Real>, accum: Accum, alpha: Real, a: MatRef<'_, Real>, b: MatRef<'_, Real>) {
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
fn clear_vector_registers() {
    const SMALL: [Real; 64] = [1.0; 64];
    std::hint::black_box(MatRef::from_column_major_slice(std::hint::black_box(&SMALL[..]), 64, 1).norm_max());
}

/// The middle, rounded up to a multiple of the block size.
fn cut_place(n: usize) -> usize {
    middle(n, CUT)
}

fn middle(n: usize, block: usize) -> usize {
    (n / 2).div_ceil(block) * block
}

/// Sums the products over parts of the range of `inner` terms: a tree of fixed shape, its right halves added to the left ones.
fn inner_cut(
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

fn rows_of(a: MatRef<'_, Real>, range: Range<usize>) -> MatRef<'_, Real> {
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
    assert_eq!((c.nrows, c.ncols), (n, n), "the callers' invariant");
    par::for_chunks(&mut c.data, n * COLUMNS, |block, columns| {
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
/// [`Error::Shape`] if the sizes do not fit.
pub fn matvec<'a>(a: impl Into<View<'a>>, x: &[Real]) -> Result<Vec<Real>> {
    let a = a.into();
    check_len("x", x.len(), a.ncols())?;
    Ok(matmul(a, View::of(x, x.len(), 1))?.into_vec())
}

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
        check_finite("a", &a.data)?;
        let n = a.nrows;
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
        self.0.nrows
    }

    /// Replaces the columns of `rhs` by A⁻¹ rhs: 2n² flops a column.
    ///
    /// # Errors
    /// [`Error::Shape`] if `rhs` has the wrong number of rows, [`Error::NotFinite`].
    pub fn solve_in_place(&self, rhs: &mut Matrix) -> Result<()> {
        check_shape("rhs", &*rhs, self.dim(), rhs.ncols)?;
        check_finite("rhs", &rhs.data)?;
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
    check_finite("a", &a.data)?;
    let n = a.nrows;
    let (mut values, mut vectors) = (vec![0.0; n], Matrix::zeros(n, n));
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
    check_finite("a", &a.data)?;
    let (m, n) = (a.nrows, a.ncols);
    let k = m.min(n);
    let (mut u, mut values, mut v) = (Matrix::zeros(m, k), vec![0.0; k], Matrix::zeros(n, k));
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
    check_finite("a", &a.data)?;
    let (m, n) = (a.nrows, a.ncols);
    let k = m.min(n);
    if k == 0 {
        return Ok((Matrix::zeros(m, k), Matrix::zeros(k, n)));
    }
    let block = householder_qr::factor::recommended_block_size::<Real>(m, n);
    let (mut basis, mut coefficients) = (a.clone(), Matrix::zeros(block, k));
    let scratch = householder_qr::factor::qr_in_place_scratch::<Real>(m, n, block, Par::Seq, Default::default());
    householder_qr::factor::qr_in_place(
        basis.faer_mut(),
        coefficients.faer_mut(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    );
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

fn leading_sign(column: &[Real]) -> Real {
    column.iter().fold(0.0_f64, |best, &x| if x.abs() > best.abs() { x } else { best })
}

fn check_square(argument: &'static str, a: &Matrix) -> Result<()> {
    check_shape(argument, a, a.nrows, a.nrows)
}

/// The scalar product. Eight running sums: as accurate as pairwise summation of blocks, and fast; long ones are cut into blocks.
///
/// # Panics
/// If the lengths differ.
pub fn dot(x: &[Real], y: &[Real]) -> Real {
    assert_eq!(x.len(), y.len(), "the lengths of x and y");
    if x.len() <= SUM_BLOCK {
        return dot_block(x, y);
    }
    par::fold_blocks(x.len(), SUM_BLOCK, |block| dot_block(&x[block.clone()], &y[block]), 0.0, |sum, part| sum + part)
}

fn dot_block(x: &[Real], y: &[Real]) -> Real {
    let mut sums = [0.0; 8];
    let (xs, ys) = (x.chunks_exact(8), y.chunks_exact(8));
    let rest: Real = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in xs.zip(ys) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<Real>() + rest
}

/// The Euclidean norm; scaled where squares would overflow or vanish.
pub fn norm(x: &[Real]) -> Real {
    let plain = dot(x, x);
    if plain.is_finite() && plain > 1e-280 {
        return plain.sqrt();
    }
    let largest = x.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * x.iter().map(|v| (v / largest) * (v / largest)).sum::<Real>().sqrt()
}

/// y += α x.
///
/// # Panics
/// If the lengths differ.
pub fn axpy(alpha: Real, x: &[Real], y: &mut [Real]) {
    assert_eq!(x.len(), y.len(), "the lengths of x and y");
    y.iter_mut().zip(x).for_each(|(y, x)| *y += alpha * x);
}

/// y += α x for an x that comes from outside, under its name.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ.
pub fn add_scaled(argument: &'static str, alpha: Real, x: &[Real], y: &mut [Real]) -> Result<()> {
    check_len(argument, x.len(), y.len())?;
    axpy(alpha, x, y);
    Ok(())
}

/// x − y.
///
/// # Panics
/// If the lengths differ.
pub fn difference(x: &[Real], y: &[Real]) -> Vec<Real> {
    assert_eq!(x.len(), y.len(), "the lengths of x and y");
    x.iter().zip(y).map(|(a, b)| a - b).collect()
}

/// ‖found − expected‖ / ‖expected‖: 0 where both are zero, ∞ where the lengths differ.
pub fn relative_error(found: &[Real], expected: &[Real]) -> Real {
    if found.len() != expected.len() {
        return Real::INFINITY;
    }
    let error = norm(&difference(found, expected));
    if error == 0.0 { 0.0 } else { error / norm(expected) }
}

/// A sum that carries its rounding error along (Neumaier 1974), and what was added since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CompensatedSum {
    sum: Real,
    correction: Real,
}

impl CompensatedSum {
    /// Adds a term.
    pub fn add(&mut self, term: Real) {
        let total = self.sum + term;
        self.correction += if self.sum.abs() >= term.abs() { (self.sum - total) + term } else { (term - total) + self.sum };
        self.sum = total;
    }

    /// Multiplies what was summed so far.
    pub fn scale(&mut self, factor: Real) {
        self.sum *= factor;
        self.correction *= factor;
    }

    /// The sum.
    pub fn value(&self) -> Real {
        self.sum + self.correction
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    const SIZES: [usize; 6] = [1, 2, 63, 64, 65, 127];

    fn random(key: u64, m: usize, n: usize) -> Matrix {
        Matrix::from_columns(m, n, Key::new(key).stream().normals(m * n)).unwrap()
    }

    fn naive(a: &Matrix, b: &Matrix) -> Matrix {
        Matrix::from_fn(a.nrows(), b.ncols(), |i, j| (0..a.ncols()).map(|k| a[(i, k)] * b[(k, j)]).sum())
    }

    fn distance(a: &Matrix, b: &Matrix) -> Real {
        assert_eq!((a.nrows(), a.ncols()), (b.nrows(), b.ncols()));
        norm(&difference(a.as_slice(), b.as_slice())) / a.norm().max(1e-300)
    }

    /// The least of many times, which the load of the machine can only lengthen; without the clearing, tens of times as long on x86.
    #[test]
    fn functions_after_a_product_are_as_fast_as_before() {
        let (a, x) = (random(1, 128, 128), random(2, 256, 1));
        let time = |first: &dyn Fn()| {
            let once = |_| {
                first();
                let start = std::time::Instant::now();
                std::hint::black_box(x.as_slice().iter().map(|x| x.exp()).sum::<Real>());
                start.elapsed().as_secs_f64()
            };
            (0..200).map(once).fold(Real::INFINITY, Real::min)
        };
        let before = time(&|| ());
        let products: [&dyn Fn(); 2] = [&|| drop(matmul(&a, &a).unwrap()), &|| drop(gram(&a))];
        for product in products {
            let after = time(product);
            assert!(after < 6.0 * before, "{after:e} s after a product, {before:e} s before");
        }
    }

    #[test]
    fn products_of_every_orientation_equal_the_triple_loop() {
        for &m in &SIZES {
            for &k in &[1, 3, 64, 127] {
                for &n in &[1, 2, 65] {
                    let (a, b) = (random(1, m, k), random(2, k, n));
                    let expected = naive(&a, &b);
                    assert!(distance(&expected, &matmul(&a, &b).unwrap()) < 1e-13);
                    let (at, bt) = (a.t().to_matrix(), b.t().to_matrix());
                    assert!(distance(&expected, &matmul(at.t(), &b).unwrap()) < 1e-13);
                    assert!(distance(&expected, &matmul(&a, bt.t()).unwrap()) < 1e-13);
                    let rows = m / 2..m;
                    let part = matmul(a.rows(rows.clone()), &b).unwrap();
                    assert!(distance(&expected.rows(rows).to_matrix(), &part) < 1e-13);
                }
            }
            assert!(distance(&naive(&random(3, m, 7), &random(3, m, 7).t().to_matrix()), &gram(&random(3, m, 7))) < 1e-13);
        }
    }

    /// Sizes past every cut: of tall matrices, of long sums, of their passes.
    #[test]
    fn tall_and_long_products_equal_the_triple_loop_with_the_same_bits_at_every_thread_count() {
        let (tall, start) = (random(1, 2 * RUN + TILE + 5, 5), random(2, 2 * RUN + TILE + 5, 7));
        let (wide, narrow, square) = (random(3, 5, 7), random(4, 5, 2), random(5, 5, 5));
        let (long, other) = (random(6, 2 * INNER_CUT + PASS + 3, CUT + 4), random(7, 2 * INNER_CUT + PASS + 3, 3));
        let run = || {
            let mut sum = start.clone();
            matmul_add(&mut sum, -2.0, &tall, &wide).unwrap();
            let in_place = [&wide, &narrow, &square, &Matrix::zeros(5, 0)].map(|b| {
                let mut a = tall.clone();
                matmul_in_place(&mut a, b).unwrap();
                a
            });
            (sum, in_place, matmul(long.t(), &other).unwrap(), matmul_and_squares(&long, &other).unwrap(), gram(long.t()))
        };
        let (sum, in_place, product, (again, squares), long_gram) = par::with_threads(1, run).unwrap();
        let mut expected = naive(&tall, &wide);
        expected.scale(-2.0);
        expected.add_scaled(1.0, &start).unwrap();
        assert!(distance(&expected, &sum) < 1e-14);
        for (found, b) in in_place.iter().zip([&wide, &narrow, &square, &Matrix::zeros(5, 0)]) {
            assert!(distance(&naive(&tall, b), found) < 1e-14);
        }
        let expected = naive(&long.t().to_matrix(), &other);
        assert!(distance(&expected, &product) < 1e-13 && distance(&expected, &again) < 1e-13);
        for (i, square) in squares.iter().enumerate() {
            let expected: Real = long.col(i).iter().map(|x| x * x).sum();
            assert!((square - expected).abs() < 1e-13 * expected);
            assert!((long_gram[(i, i)] - expected).abs() < 1e-13 * expected);
        }
        assert!(distance(&naive(&long.columns(0..2).t().to_matrix(), &long), &long_gram.rows(0..2).to_matrix()) < 1e-13);
        for threads in [2, 4] {
            assert_eq!(
                par::with_threads(threads, run).unwrap(),
                (sum.clone(), in_place.clone(), product.clone(), (again.clone(), squares.clone()), long_gram.clone())
            );
        }
        assert!(matmul_in_place(&mut tall.clone(), &Matrix::zeros(6, 2)).is_err());
        assert!(matmul_and_squares(&long, &tall).is_err());
    }

    #[test]
    fn long_sums_are_those_of_their_blocks_and_have_the_same_bits_at_every_thread_count() {
        let (x, y) = (random(1, 3 * SUM_BLOCK + 11, 1), random(2, 3 * SUM_BLOCK + 11, 1));
        let run = || dot(x.as_slice(), y.as_slice());
        let reference = par::with_threads(1, run).unwrap();
        let mut exact = CompensatedSum::default();
        x.as_slice().iter().zip(y.as_slice()).for_each(|(x, y)| exact.add(x * y));
        assert!((reference - exact.value()).abs() < 1e-15 * x.norm() * y.norm());
        for threads in [2, 4] {
            assert_eq!(par::with_threads(threads, run).unwrap().to_bits(), reference.to_bits());
        }
    }

    #[test]
    fn products_have_the_same_bits_at_every_thread_count() {
        let (a, b) = (random(1, 1030, 70), random(2, 70, 300));
        let run = || (matmul(&a, &b).unwrap(), gram(&a), matmul(b.t(), a.t()).unwrap());
        let reference = par::with_threads(1, run).unwrap();
        assert!(distance(&naive(&a, &a.t().to_matrix()), &reference.1) < 1e-13);
        for threads in [2, 4] {
            assert_eq!(par::with_threads(threads, run).unwrap(), reference);
        }
    }

    #[test]
    fn rank_one_updates_are_outer_products_and_stay_symmetric_to_the_bit() {
        for &n in &SIZES {
            let (mut c, x) = (gram(&random(4, n, 3)), random(5, n, 1));
            let before = c.clone();
            rank_one_update(&mut c, 0.75, -1.5, x.as_slice());
            assert_eq!(c, c.t().to_matrix());
            let expected = Matrix::from_fn(n, n, |i, j| 0.75 * before[(i, j)] - 1.5 * x[(i, 0)] * x[(j, 0)]);
            assert!(distance(&expected, &c) < 1e-15);
            let run = || {
                let mut c = before.clone();
                rank_one_update(&mut c, 0.75, -1.5, x.as_slice());
                c
            };
            for threads in [1, 2, 4] {
                assert_eq!(par::with_threads(threads, run).unwrap(), c);
            }
        }
    }

    #[test]
    fn factorizations_rebuild_their_matrix() {
        for &n in &SIZES {
            let a = random(n as u64, n + 3, n);
            let spd = gram(a.t());
            let x = random(9, n, 2);
            let mut solved = matmul(&spd, &x).unwrap();
            Cholesky::new(spd.clone()).unwrap().solve_in_place(&mut solved).unwrap();
            assert!(distance(&x, &solved) < 1e-6, "{n}");

            let e = eigh(&spd).unwrap();
            assert!(e.values.windows(2).all(|w| w[0] >= w[1]), "descending");
            let scaled = Matrix::from_fn(n, n, |i, j| e.vectors[(i, j)] * e.values[j]);
            assert!(distance(&spd, &matmul(&scaled, e.vectors.t()).unwrap()) < 1e-12);
            assert!(distance(&Matrix::identity(n), &gram(e.vectors.t())) < 1e-12);
            assert!((0..n).all(|j| leading_sign(e.vectors.col(j)) > 0.0));

            for matrix in [a.clone(), a.t().to_matrix()] {
                let s = svd(&matrix).unwrap();
                assert!(s.values.windows(2).all(|w| w[0] >= w[1]), "descending");
                let scaled = Matrix::from_fn(s.u.nrows(), n, |i, j| s.u[(i, j)] * s.values[j]);
                assert!(distance(&matrix, &matmul(&scaled, s.v.t()).unwrap()) < 1e-12);
                let (q, r) = qr(&matrix).unwrap();
                assert!(distance(&matrix, &matmul(&q, &r).unwrap()) < 1e-12);
                assert!(distance(&Matrix::identity(n), &gram(q.t())) < 1e-12);
                assert!((0..n).all(|i| r[(i, i)] >= 0.0));
            }
        }
    }

    #[test]
    fn bad_input_is_an_error_that_names_it() {
        let (a, b) = (random(1, 3, 4), random(2, 3, 4));
        assert_eq!(matmul(&a, &b).unwrap_err().to_string(), "b: expected 4 × 4, found 3 × 4");
        assert!(Matrix::from_columns(2, 2, vec![0.0; 3]).is_err());
        let mut poisoned = Matrix::identity(100);
        poisoned[(57, 3)] = Real::NAN;
        for error in [eigh(&poisoned).unwrap_err(), svd(&poisoned).unwrap_err(), qr(&poisoned).unwrap_err()] {
            assert!(matches!(error, Error::NotFinite { index: 357, .. }), "{error}");
        }
        assert!(matches!(Cholesky::new(poisoned).unwrap_err(), Error::NotFinite { .. }));
        let indefinite = Matrix::from_fn(2, 2, |i, j| if i == j { 1.0 } else { 2.0 });
        assert!(Cholesky::new(indefinite).unwrap_err().to_string().contains("not positive definite"));
        assert!(eigh(&a).is_err());
    }

    #[test]
    fn sums_survive_cancellation_and_extreme_scales() {
        let mut sum = CompensatedSum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|x| sum.add(x));
        assert_eq!(sum.value(), 2.0);
        assert!((norm(&[3e200, 4e200]) / 5e200 - 1.0).abs() < 1e-15);
        assert!((norm(&[3e-200, 4e-200]) / 5e-200 - 1.0).abs() < 1e-15);
        assert_eq!(norm(&[]), 0.0);
    }
}
