//! What depends on a sample through its products Wᵀx_i alone: the products themselves, numbers made of them, and sums Σ x_i δ_iᵀ (a gradient,
//! a Hessian product, or both at once), for which each block of rows is gathered once and used twice while a cache holds it.

use std::ops::Range;

use super::block::{Block, Buffer, Weights};
use super::{BLOCK, Batch, Features, RUN};
use crate::dense::{Matrix, matmul_add_here};
use crate::error::{Error, Result};
use crate::par;
use crate::reused::Reused;

impl Features {
    /// (X W)ᵀ over the batch, for W width × c: column i is Wᵀx_i. The columns of W are given in one slice after the other, as many as it has in
    /// each. Costs 2·width·c flops a sample.
    ///
    /// # Errors
    /// As [`gather`](Self::gather), and [`Error::Shape`].
    pub fn project(&self, batch: Batch<'_>, w: &[&[f64]]) -> Result<Matrix> {
        let (n, w) = (batch.len(self.samples), self.weights(w)?);
        let empty = |samples: usize| Reused::with_capacity(samples * w.columns);
        let runs = self.runs(batch, &w, empty, |products, _, _, z| {
            products.extend_from_slice(z.as_slice());
            Ok(())
        })?;
        let mut all = empty(n);
        runs.iter().for_each(|products| all.extend_from_slice(products));
        Matrix::from_reused(w.columns, n, all)
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
        let w = self.weights(w)?;
        let runs = self.runs(batch, &w, Vec::with_capacity, |results, block, _, z| {
            results.extend(block.clone().map(|position| f(position, z.col_mut(position - block.start))));
            Ok(())
        })?;
        let mut all = Vec::with_capacity(batch.len(self.samples));
        all.extend(runs.into_iter().flatten());
        Ok(all)
    }

    /// Σ_i x_i δ_iᵀ over the batch, width × kept, and what `f` returns for each entry. W is given as for [`project`](Self::project); `f` is given a
    /// position in the batch and the c products Wᵀx_i, and replaces them; those in `kept` are δ_i. Costs 2·width·(c + kept) flops a sample.
    ///
    /// # Errors
    /// As [`project`](Self::project), and [`Error::Argument`] for a range beyond the c products.
    pub fn pass<T: Send>(
        &self,
        batch: Batch<'_>,
        w: &[&[f64]],
        kept: Range<usize>,
        f: impl Fn(usize, &mut [f64]) -> T + Sync,
    ) -> Result<(Matrix, Vec<T>)> {
        let w = self.weights(w)?;
        if kept.is_empty() || kept.end > w.columns {
            let expected = format!("a range within the {} products", w.columns);
            return Err(Error::argument("kept", expected, format_args!("{kept:?}")));
        }
        let nothing = |samples: usize| (self.sum(kept.len()), Vec::with_capacity(samples));
        let runs = self.runs(batch, &w, nothing, |(sum, results), block, rows, z| {
            results.extend(block.clone().map(|position| f(position, z.col_mut(position - block.start))));
            rows.accumulate_into(sum, z.rows(kept.clone()), |sum, rows, delta| matmul_add_here(sum, 1.0, rows, delta))
        })?;
        let mut runs = runs.into_iter();
        let (sum, mut results) = runs.next().ok_or_else(|| Error::argument("batch", "at least 1 sample", "none"))?;
        let mut sum = sum.into_matrix()?;
        for (part, more) in runs {
            sum.add_scaled(1.0, &part.into_matrix()?)?;
            results.extend(more);
        }
        Ok((sum, results))
    }

    /// The batch in runs, in parallel: `step` takes each block's positions, rows and products Wᵀx_i into what `start` makes for a run of so many
    /// samples. The runs are in the order of the batch.
    fn runs<S: Send>(
        &self,
        batch: Batch<'_>,
        w: &Weights<'_>,
        start: impl Fn(usize) -> S + Sync,
        step: impl Fn(&mut S, Range<usize>, &Block<'_>, &mut Matrix) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        batch.check(self.samples)?;
        let run = |run: Range<usize>| {
            let (mut buffer, mut state) = (Buffer::default(), start(run.len()));
            for block in par::blocks_of(run, BLOCK) {
                let mut products = Matrix::zeros(w.columns, block.len());
                let rows = self.block(batch, block.clone(), &mut buffer)?;
                rows.project_into(w, products.as_mut_slice())?;
                step(&mut state, block, &rows, &mut products)?;
            }
            Ok(state)
        };
        par::map_blocks(batch.len(self.samples), RUN, run).into_iter().collect()
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
