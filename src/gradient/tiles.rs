//! Products of gradient blocks with tall matrices that are never stored: Ω is made a few rows at a time, and what is as tall as Y is passed
//! over once.

use std::ops::Range;

use super::kronecker::add_weighted;
use super::{GradientBlock, KroneckerRows};
use crate::dense::{Matrix, PASS, TallRows, matmul_add_and_square, matmul_add_here, rows_matmul_and_squares};
use crate::error::{Result, check_finite, check_len};
use crate::par;

/// Samples that a tile of Ω is made for: more share the work of making it, fewer leave work for all threads.
const SAMPLES: usize = 256;
/// Rows of Ω whose products are summed by one thread.
const ROWS: usize = 16 * PASS;

impl GradientBlock {
    /// GΩ as by [`project_with_norms`](Self::project_with_norms), for an Ω that is made a few rows at a time: 2·d·ℓ flops a sample, and memory of
    /// some rows of Ω beside the result.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape); [`Error::NotFinite`](crate::Error::NotFinite) for the rows, for squares or a product that overflow.
    pub(crate) fn project_made(&self, omega: &dyn TallRows) -> Result<(Matrix, Vec<f64>)> {
        check_len("omega rows", omega.nrows(), self.dim())?;
        let (product, squares) = match self {
            Self::Dense(rows) => rows_matmul_and_squares(rows.transposed(), omega)?,
            Self::Kronecker(rows) => (project_layers(std::slice::from_ref(rows), omega)?, self.squared_row_norms()),
            Self::Layered(rows) => (project_layers(rows.layers(), omega)?, self.squared_row_norms()),
        };
        self.check_squares(&squares)?;
        check_finite("gradient rows times omega", product.as_slice())?;
        Ok((product, squares))
    }

    /// Y += GᵀC as by [`accumulate_into`](Self::accumulate_into), and ‖Y‖² of what it is then (the squares of all entries), got
    /// in the same pass over Y.
    ///
    /// # Errors
    /// As [`accumulate_into`](Self::accumulate_into).
    pub(crate) fn accumulate_and_square(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<f64> {
        self.check_accumulated(coefficients, y)?;
        match self {
            Self::Dense(rows) => matmul_add_and_square(y, 1.0, rows.transposed(), coefficients),
            Self::Kronecker(rows) => rows.accumulate_into(coefficients, y, 0),
            Self::Layered(rows) => rows.accumulate_into(coefficients, y),
        }
    }
}

/// Σ over the layers of their products with their rows of Ω: rows × ℓ.
fn project_layers(layers: &[KroneckerRows], omega: &dyn TallRows) -> Result<Matrix> {
    let (mut start, mut sum) = (0, None::<Matrix>);
    for layer in layers {
        let width = layer.inputs().nrows() * layer.deltas().nrows();
        let product = project_kronecker(layer, omega, start)?;
        start += width;
        sum = Some(match sum {
            None => product,
            Some(mut sum) => {
                sum.add_scaled(1.0, &product)?;
                sum
            }
        });
    }
    Ok(sum.unwrap_or_else(|| Matrix::zeros(0, omega.ncols())))
}

/// Rows x_i ⊗ δ_i times the rows of Ω from `start` on: with Ω_k the p rows that belong to output k, Σ_k diag(δ_k) XᵀΩ_k.
fn project_kronecker(rows: &KroneckerRows, omega: &dyn TallRows, start: usize) -> Result<Matrix> {
    let (inputs, deltas) = (rows.inputs(), rows.deltas());
    let (p, samples, columns) = (inputs.nrows(), inputs.ncols(), omega.ncols());
    let r = deltas.ncols() / samples;
    let weights = deltas.t().to_matrix();
    let parts = par::map_blocks(samples, SAMPLES, |block| {
        let leaf = |range: Range<usize>| -> Result<Matrix> {
            let mut sum = Matrix::zeros(block.len() * r, columns);
            let (mut tile, mut product) = (Matrix::zeros(0, 0), Matrix::zeros(block.len(), columns));
            for range in par::blocks_of(range, PASS) {
                tile.reshape(range.len(), columns);
                omega.fill(start + range.start..start + range.end, &mut tile);
                for (k, entries) in by_output(range.clone(), p) {
                    product.as_mut_slice().fill(0.0);
                    let x = inputs.columns(block.clone()).rows(entries.start - k * p..entries.end - k * p);
                    matmul_add_here(&mut product, 1.0, x.t(), tile.rows(entries.start - range.start..entries.end - range.start))?;
                    let weights = &weights.col(k)[block.start * r..block.end * r];
                    (0..columns).for_each(|l| add_weighted(sum.col_mut(l), weights, product.col(l)));
                }
            }
            Ok(sum)
        };
        par::reduce_blocks(0..p * deltas.nrows(), ROWS, &leaf, &|left: Result<Matrix>, right| {
            let mut left = left?;
            left.add_scaled(1.0, &right?)?;
            Ok(left)
        })
    });
    let mut all = Matrix::zeros(samples * r, columns);
    for (block, part) in par::blocks(samples, SAMPLES).zip(parts) {
        let part = part?;
        (0..columns).for_each(|l| all.col_mut(l)[block.start * r..block.end * r].copy_from_slice(part.col(l)));
    }
    Ok(all)
}

/// The parts of a range of θ that belong to one output each, p entries an output.
fn by_output(range: Range<usize>, p: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (range.start / p..range.end.div_ceil(p)).map(move |k| (k, range.start.max(k * p)..range.end.min((k + 1) * p)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::LayeredRows;
    use crate::rng::Key;

    /// Shapes with one and several rows a sample, past a block of samples and past a tile of columns, to a Y that holds something.
    #[test]
    fn squares_of_the_sum_come_with_its_pass() {
        let normal = |m: usize, n: usize, key: u64| Matrix::from_columns(m, n, Key::new(key).stream().normals(m * n)).unwrap();
        let layer = |n: usize, p: usize, c: usize, r: usize| KroneckerRows::new(normal(p, n, 1), normal(c, n * r, 2), r).unwrap();
        for (n, r) in [(1, 1), (2, 3), (65, 1), (130, 2)] {
            let blocks = [
                GradientBlock::from(layer(n, 70, 3, r)),
                LayeredRows::new(vec![layer(n, 13, 4, r), layer(n, 700, 1, r)]).unwrap().into(),
            ];
            for block in blocks {
                let (coefficients, start) = (normal(n * r, 60, 3), normal(block.dim(), 60, 4));
                let (mut sum, mut other) = (start.clone(), start.clone());
                let square = block.accumulate_and_square(&coefficients, &mut sum).unwrap();
                block.accumulate_into(&coefficients, &mut other).unwrap();
                assert_eq!(sum, other);
                assert!((square / sum.norm().powi(2) - 1.0).abs() < 1e-13, "{n} samples of {r} rows");
                let wrong = normal(n * r + 1, 60, 3);
                assert!(block.accumulate_and_square(&wrong, &mut sum).is_err());
            }
        }
    }
}
