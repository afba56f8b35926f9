//! Products in single precision, for data that have no more: in one piece on this thread, column by column like all matrices.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::products::clear_vector_registers;

/// C ← Aᵀ B for A k × m and B k × n.
///
/// # Panics
/// If a length is not that of its matrix.
pub(crate) fn transpose_times(c: &mut [f32], a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) {
    let (a, b) = (MatRef::from_column_major_slice(a, k, m), MatRef::from_column_major_slice(b, k, n));
    matmul(MatMut::from_column_major_slice_mut(c, m, n), Accum::Replace, a.transpose(), b, 1.0_f32, Par::Seq);
    clear_vector_registers();
}

/// C ← C + A Bᵀ for A m × k and B n × k.
///
/// # Panics
/// If a length is not that of its matrix.
pub(crate) fn add_times_transpose(c: &mut [f32], a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) {
    let (a, b) = (MatRef::from_column_major_slice(a, m, k), MatRef::from_column_major_slice(b, n, k));
    matmul(MatMut::from_column_major_slice_mut(c, m, n), Accum::Add, a, b.transpose(), 1.0_f32, Par::Seq);
    clear_vector_registers();
}
