//! The matrix, views of its parts and transposes, and their shapes.

use std::ops::{Index, IndexMut, Range};

use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::Real;
use super::vectors::{axpy, norm};
use crate::error::{Error, Result, check_len};
use crate::reused::Reused;

/// A column-major matrix: entry (i, j) stands at `i + j * nrows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Matrix {
    nrows: usize,
    ncols: usize,
    data: Reused<Real>,
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
        Self { nrows, ncols, data: Reused::zeros(entries(nrows, ncols)) }
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
        let mut data = Reused::with_capacity(entries(nrows, ncols));
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
        Self::from_reused(nrows, ncols, data.into())
    }

    /// The same of memory that is used again.
    pub(crate) fn from_reused(nrows: usize, ncols: usize, data: Reused<Real>) -> Result<Self> {
        check_entries(data.len(), nrows, ncols)?;
        Ok(Self { nrows, ncols, data })
    }

    /// A vector as a matrix of one column.
    pub fn column(data: Vec<Real>) -> Self {
        Self { nrows: data.len(), ncols: 1, data: data.into() }
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
        self.data.into_vec()
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
        let more = length.saturating_sub(self.data.len());
        self.data.reserve_exact(more);
        self.data.resize(length, 0.0);
        self.ncols = ncols;
    }

    /// Gives the matrix another shape; what it holds then is for the caller to write. Memory is taken only where it grows.
    pub(crate) fn reshape(&mut self, nrows: usize, ncols: usize) {
        let length = entries(nrows, ncols);
        if self.data.capacity() < length {
            self.data = Reused::zeros(length);
        } else {
            self.data.resize(length, 0.0);
        }
        (self.nrows, self.ncols) = (nrows, ncols);
    }

    /// Takes the place of some adjacent rows of another matrix.
    ///
    /// # Panics
    /// If they are not there.
    pub(crate) fn copy_rows(&mut self, other: &Matrix, rows: Range<usize>) {
        self.reshape(rows.len(), other.ncols);
        for j in 0..other.ncols {
            self.col_mut(j).copy_from_slice(&other.col(j)[rows.clone()]);
        }
    }

    /// Copies the strict lower triangle onto the upper one.
    pub(super) fn mirror(&mut self) {
        for j in 0..self.ncols {
            for i in 0..j {
                self.data[i + j * self.nrows] = self.data[j + i * self.nrows];
            }
        }
    }

    pub(super) fn faer_mut(&mut self) -> MatMut<'_, Real> {
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

    /// Some adjacent rows.
    ///
    /// # Panics
    /// If they are not there.
    pub fn rows(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.nrows(), "rows {range:?} of a view with {} rows", self.nrows());
        let (start, nrows, ncols) = match self.orientation {
            Orientation::AsStored => (range.start, range.len(), self.ncols),
            Orientation::Transposed => (range.start * self.stride, self.nrows, range.len()),
        };
        let data = if nrows * ncols == 0 { &[][..] } else { &self.data[start..] };
        Self { data, nrows, ncols, ..self }
    }

    /// A copy as a matrix of its own.
    pub fn to_matrix(self) -> Matrix {
        let view = self.faer();
        Matrix::from_fn(self.nrows(), self.ncols(), |i, j| view[(i, j)])
    }

    pub(super) fn faer(self) -> MatRef<'a, Real> {
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
