//! Sums Σ x_i δ_iᵀ whose δ_i depend on the products Wᵀx_i alone: a gradient, a Hessian product, or both at once. Each block of rows is
//! gathered once and used twice while a cache holds it.

use std::ops::Range;

use super::block::Buffer;
use super::{BLOCK, Batch, Features, RUN};
use crate::dense::{Matrix, matmul_add_here};
use crate::error::{Error, Result};
use crate::par;

impl Features {
    /// Σ_i x_i δ_iᵀ over the batch, width × kept, and what `f` returns for each entry. W is given as for [`project`](Self::project); `f` is given a
    /// position in the batch and the c products Wᵀx_i, and replaces them; those in `kept` are δ_i. Costs 2·width·(c + kept) flops a sample.
    ///
    /// # Errors
    /// As [`gather`](Self::gather), [`Error::Shape`] for W, and [`Error::Argument`] for a range beyond the c products.
    pub fn pass<T: Send>(
        &self,
        batch: Batch<'_>,
        w: &[&[f64]],
        kept: Range<usize>,
        f: impl Fn(usize, &mut [f64]) -> T + Sync,
    ) -> Result<(Matrix, Vec<T>)> {
        batch.check(self.samples)?;
        let w = self.weights(w)?;
        let c = w.columns;
        if kept.is_empty() || kept.end > c {
            return Err(Error::argument("kept", format_args!("a range within the {c} products"), format_args!("{kept:?}")));
        }
        let run = |run: Range<usize>| {
            let (mut buffer, mut sum, mut results) = (Buffer::default(), self.sum(kept.len()), Vec::with_capacity(run.len()));
            for block in par::blocks_of(run, BLOCK) {
                let rows = self.block(batch, block.clone(), &mut buffer)?;
                let mut products = Matrix::zeros(c, block.len());
                rows.project_into(&w, products.as_mut_slice())?;
                results.extend(block.clone().map(|position| f(position, products.col_mut(position - block.start))));
                let delta = products.rows(kept.clone());
                rows.accumulate_into(&mut sum, delta, |sum, rows, delta| matmul_add_here(sum, 1.0, rows, delta))?;
            }
            Ok((sum.into_matrix()?, results))
        };
        let mut parts = par::map_blocks(batch.len(self.samples), RUN, run).into_iter();
        let (mut sum, mut results) = parts.next().ok_or_else(|| Error::argument("batch", "at least 1 sample", "none"))??;
        for part in parts {
            let (part, more) = part?;
            sum.add_scaled(1.0, &part)?;
            results.extend(more);
        }
        Ok((sum, results))
    }

    /// What `f` returns for each entry of the batch, given its position and the c products Wᵀx_i, which it may change. W is given as for
    /// [`project`](Self::project). Costs 2·width·c flops a sample.
    ///
    /// # Errors
    /// As [`project`](Self::project).
    pub fn map_products<T: Send>(
        &self,
        batch: Batch<'_>,
        w: &[&[f64]],
        f: impl Fn(usize, &mut [f64]) -> T + Sync,
    ) -> Result<Vec<T>> {
        batch.check(self.samples)?;
        let w = self.weights(w)?;
        let run = |run: Range<usize>| {
            let (mut buffer, mut results) = (Buffer::default(), Vec::with_capacity(run.len()));
            for block in par::blocks_of(run, BLOCK) {
                let mut products = Matrix::zeros(w.columns, block.len());
                self.block(batch, block.clone(), &mut buffer)?.project_into(&w, products.as_mut_slice())?;
                results.extend(block.clone().map(|position| f(position, products.col_mut(position - block.start))));
            }
            Ok(results)
        };
        let mut all = Vec::with_capacity(batch.len(self.samples));
        for part in par::map_blocks(batch.len(self.samples), RUN, run) {
            let part: Result<Vec<T>> = part;
            all.extend(part?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::relative_error;
    use crate::rng::Key;

    #[test]
    fn one_pass_is_two_passes_with_the_function_between_them() {
        for (n, p, c) in [(1, 1, 1), (2, 3, 2), (63, 300, 4), (129, 7, 10), (1100, 5, 6)] {
            let features = Features::from_f64(Key::new(1).stream().normals(n * p), n, p).unwrap().with_intercept();
            let w = Matrix::from_columns(p + 1, c, Key::new(2).stream().normals((p + 1) * c)).unwrap();
            let indices: Vec<usize> = (0..n + 1).map(|i| (i * 7) % n).collect();
            for batch in [Batch::All, Batch::Indices(&indices)] {
                for kept in [0..c, c / 2..c, 0..1] {
                    let change = |position: usize, z: &mut [f64]| {
                        let first = z[0];
                        z.iter_mut().for_each(|z| *z = z.tanh() * (1.0 + position as f64));
                        first
                    };
                    let (sum, firsts) = features.pass(batch, &[w.as_slice()], kept.clone(), change).unwrap();
                    let mut z = features.project(batch, &[w.as_slice()]).unwrap();
                    let expected: Vec<f64> = (0..z.ncols()).map(|i| change(i, z.col_mut(i))).collect();
                    assert!(relative_error(&firsts, &expected) < 1e-14);
                    assert_eq!(features.map_products(batch, &[w.as_slice()], change).unwrap(), firsts);
                    let expected = features.accumulate(batch, &z.rows(kept).to_matrix()).unwrap();
                    assert!(relative_error(sum.as_slice(), expected.as_slice()) < 1e-13);
                }
            }
        }
    }

    #[test]
    fn bad_shapes_and_ranges_are_refused() {
        let features = Features::from_f64(vec![1.0; 6], 2, 3).unwrap();
        let pass =
            |batch, w: &Matrix, kept| features.pass(batch, &[w.as_slice()], kept, |_, _| ()).unwrap_err().offending_argument();
        assert_eq!(pass(Batch::All, &Matrix::zeros(2, 2), 0..1), Some("w"));
        assert_eq!(pass(Batch::All, &Matrix::zeros(3, 0), 0..1), Some("w"));
        assert_eq!(pass(Batch::All, &Matrix::zeros(3, 2), 0..3), Some("kept"));
        assert_eq!(pass(Batch::All, &Matrix::zeros(3, 2), 1..1), Some("kept"));
        let map = |batch, w: &Matrix| features.map_products(batch, &[w.as_slice()], |_, _| ()).unwrap_err().offending_argument();
        assert_eq!(map(Batch::All, &Matrix::zeros(2, 2)), Some("w"));
        assert_eq!(map(Batch::Indices(&[2]), &Matrix::zeros(3, 2)), Some("batch"));
        assert_eq!(pass(Batch::Indices(&[2]), &Matrix::zeros(3, 2), 0..1), Some("batch"));
        assert_eq!(pass(Batch::Indices(&[]), &Matrix::zeros(3, 2), 0..1), Some("batch"));
    }
}
