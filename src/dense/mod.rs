//! Dense linear algebra: a column-major [`Matrix`], views of it, products, factorizations. Shapes and finiteness are checked here,
//! signs and orders are fixed here, and every result has the same bits at every thread count (large products are cut at fixed
//! places, faer itself runs sequentially). The only file that names `faer`.
//!
//! Indexing and the arithmetic of slices ([`dot`], [`axpy`], [`difference`]) panic on positions that are not there and on unequal
//! lengths, as slices do; everything else answers with an [`Error`](crate::Error). Products carry a NaN along; factorizations refuse it.

mod factorizations;
mod matrix;
mod products;
pub(crate) mod single;
mod tall;
#[cfg(test)]
mod tests;
mod tiles;
mod vectors;

pub use factorizations::{Cholesky, Eigh, Svd, eigh, qr, svd};
pub use matrix::{Matrix, View, check_shape};
pub use products::{gram, matmul, matmul_add, matvec};
pub(crate) use products::{matmul_add_here, matmul_add_slice, rank_one_update};
pub(crate) use tall::{PASS, RUN, matmul_add_and_square, matmul_and_squares, matmul_in_place, rows_matmul_and_squares};
pub(crate) use tiles::{TallRows, each_run, orthonormalize, sum_over_rows, triangular_factor};
pub(crate) use vectors::add_and_square;
pub use vectors::{CompensatedSum, add_scaled, axpy, difference, dot, norm, relative_error};

/// The number type of all arithmetic.
pub type Real = f64;
