//! A block of gathered rows, and the products with it in the precision that the features ask for.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Batch, Features, Intercept, Storage};
use crate::dense::{Matrix, View, matmul_add_slice, single};
use crate::error::{Error, Result};
use crate::reused::Reused;

/// The precision of products with features: X·W and Xᵀ·Δ. Sums over more than 512 rows, and everything else, are in double
/// precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 53 bits.
    #[default]
    Double,
    /// 24 bits, as PyTorch and JAX have it by default: relative errors of some 1e-6, about twice as fast.
    Single,
}

/// Where rows are gathered, block after block.
#[derive(Default)]
pub(super) struct Buffer {
    double: Reused<f64>,
    single: Reused<f32>,
}

/// Rows of features as the columns of a width × count matrix.
pub(super) enum Block<'a> {
    Double(View<'a>),
    Single { rows: &'a [f32], count: usize },
}

/// W, width × c, in the precision of the rows that it is multiplied with: rounded once, not once a block.
pub(super) struct Weights<'a> {
    width: usize,
    /// c.
    pub(super) columns: usize,
    values: Values<'a>,
}

enum Values<'a> {
    Double(Cow<'a, [f64]>),
    Single(Reused<f32>),
}

/// Σ x_i δ_iᵀ, width × c, over the blocks of one run, in the precision of the rows.
pub(super) enum Sum {
    Double(Matrix),
    Single { values: Reused<f32>, width: usize, columns: usize },
}

impl Features {
    /// The rows at some positions of the batch, in the features' precision.
    pub(super) fn block<'a>(&self, batch: Batch<'_>, positions: Range<usize>, buffer: &'a mut Buffer) -> Result<Block<'a>> {
        match self.precision {
            Precision::Double => Ok(Block::Double(self.gather_into(batch, positions, &mut buffer.double)?)),
            Precision::Single => {
                let count = positions.len();
                let rows = buffer.single.empty(count * self.width());
                self.touch(batch, positions.clone());
                positions.for_each(|position| self.push_single(batch.index(position), rows));
                Ok(Block::Single { rows, count })
            }
        }
    }

    /// W for [`Block::project_into`], from its columns, several in a slice.
    pub(super) fn weights<'a>(&self, w: &[&'a [f64]]) -> Result<Weights<'a>> {
        let (width, entries) = (self.width(), w.iter().map(|part| part.len()).sum::<usize>());
        if entries == 0 || w.iter().any(|part| part.len() % width != 0) {
            let lengths: Vec<usize> = w.iter().map(|part| part.len()).collect();
            return Err(Error::shape("w", format_args!("columns of {width} numbers"), format_args!("lengths {lengths:?}")));
        }
        let values = match (self.precision, w) {
            (Precision::Double, [whole]) => Values::Double(Cow::Borrowed(whole)),
            (Precision::Double, parts) => Values::Double(Cow::Owned(parts.concat())),
            (Precision::Single, parts) => {
                let mut values = Reused::with_capacity(entries);
                parts.iter().for_each(|part| values.extend(part.iter().map(|&x| x as f32)));
                Values::Single(values)
            }
        };
        Ok(Weights { width, columns: entries / width, values })
    }

    /// A sum of nothing yet, with so many columns.
    pub(super) fn sum(&self, columns: usize) -> Sum {
        let width = self.width();
        match self.precision {
            Precision::Double => Sum::Double(Matrix::zeros(width, columns)),
            Precision::Single => Sum::Single { values: Reused::zeros(width * columns), width, columns },
        }
    }

    /// Reads a byte of every cache line of rows that lie anywhere in memory, all at once: one after the other, each would be waited for.
    pub(super) fn touch(&self, batch: Batch<'_>, positions: Range<usize>) {
        if let (Batch::Indices(indices), Storage::Bytes { values, .. }) = (batch, &self.storage) {
            let rows = indices[positions].iter().map(|&i| &values[i * self.stored_width..(i + 1) * self.stored_width]);
            std::hint::black_box(rows.flat_map(|row| row.iter().step_by(64)).fold(0, |all, byte| all ^ byte));
        }
    }

    /// Appends a row to `out`.
    fn push_single(&self, sample: usize, out: &mut Vec<f32>) {
        let range = sample * self.stored_width..(sample + 1) * self.stored_width;
        match &self.storage {
            Storage::F64(values) => out.extend(values[range].iter().map(|&x| x as f32)),
            Storage::F32(values) => out.extend_from_slice(&values[range]),
            Storage::Bytes { values, scale, .. } => out.extend(values[range].iter().map(|&x| f32::from(x) * *scale as f32)),
        }
        if self.intercept == Intercept::Last {
            out.push(1.0);
        }
    }
}

impl Block<'_> {
    /// Puts Wᵀx_i into column i of `out`, c numbers each.
    pub(super) fn project_into(&self, w: &Weights<'_>, out: &mut [f64]) -> Result<()> {
        let Weights { width, columns, values } = w;
        match (self, values) {
            (Self::Double(rows), Values::Double(w)) => {
                out.fill(0.0);
                matmul_add_slice(out, 1.0, View::from_slice(w, *width, *columns)?.t(), *rows)
            }
            (Self::Single { rows, count }, Values::Single(w)) => {
                let mut products = Reused::zeros(out.len());
                single::transpose_times(&mut products, w, rows, [*columns, *width, *count]);
                out.iter_mut().zip(products.iter()).for_each(|(out, product)| *out = f64::from(*product));
                Ok(())
            }
            _ => Err(mixed()),
        }
    }

    /// Adds Σ x_i δ_iᵀ to a width × c sum, the columns of Δ being the δ_i; in double precision by `product`, C += A B.
    pub(super) fn accumulate_into(
        &self,
        sum: &mut Sum,
        delta: View<'_>,
        product: impl Fn(&mut Matrix, View<'_>, View<'_>) -> Result<()>,
    ) -> Result<()> {
        match (self, sum) {
            (Self::Double(rows), Sum::Double(sum)) => product(sum, *rows, delta.t()),
            (Self::Single { rows, count }, Sum::Single { values, width, columns }) => {
                let delta = rounded(delta.to_matrix().as_slice());
                single::add_times_transpose(values, rows, &delta, [*width, *count, *columns]);
                Ok(())
            }
            _ => Err(mixed()),
        }
    }
}

impl Sum {
    /// The sum in double precision.
    pub(super) fn into_matrix(self) -> Result<Matrix> {
        match self {
            Self::Double(sum) => Ok(sum),
            Self::Single { values, width, columns } => {
                let mut sum = Reused::with_capacity(values.len());
                sum.extend(values.iter().copied().map(f64::from));
                Matrix::from_reused(width, columns, sum)
            }
        }
    }
}

/// What no caller does: all three come from the same features.
fn mixed() -> Error {
    Error::argument("precision", "one for rows, weights and sums", "two")
}

fn rounded(values: &[f64]) -> Reused<f32> {
    let mut rounded = Reused::with_capacity(values.len());
    rounded.extend(values.iter().map(|&x| x as f32));
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::relative_error;
    use crate::par;
    use crate::rng::Key;

    #[test]
    fn products_in_single_precision_are_those_in_double_precision_to_six_digits() {
        for (n, p, c) in [(1, 1, 1), (2, 3, 2), (63, 300, 4), (64, 784, 20), (65, 7, 10), (1100, 5, 6)] {
            let bytes: Vec<u8> = (0..n * p).map(|i| (i * 37 % 251) as u8).collect();
            let values = Key::new(1).stream().normals(n * p);
            let forms = [
                Features::from_bytes(bytes, n, p, 1.0 / 255.0).unwrap(),
                Features::from_f32(rounded(&values).into_vec(), n, p).unwrap(),
                Features::from_f64(values, n, p).unwrap(),
            ];
            let w = Matrix::from_columns(p + 1, c, Key::new(2).stream().normals((p + 1) * c)).unwrap();
            let indices: Vec<usize> = (0..n + 2).map(|i| (i * 13) % n).collect();
            for double in forms.map(Features::with_intercept) {
                let single = double.clone().with_precision(Precision::Single);
                let all = |features: &Features| {
                    let batch = Batch::Indices(&indices);
                    let z = features.project(batch, &[w.as_slice()]).unwrap();
                    let sum = features.accumulate(batch, &z).unwrap();
                    let (both, _) =
                        features.pass(batch, &[w.as_slice()], 0..c, |_, z| z.iter_mut().for_each(|z| *z = z.tanh())).unwrap();
                    [z, sum, both].map(Matrix::into_vec).concat()
                };
                let (found, expected) = (all(&single), all(&double));
                let error = relative_error(&found, &expected);
                assert!(error < 1e-6, "{n} × {p}: {error:e}");
                assert!(p < 7 || error > 1e-10, "{n} × {p}: nothing was rounded, {error:e}");
                for threads in [1, 2, 4] {
                    assert_eq!(par::with_threads(threads, || all(&single)).unwrap(), found, "{threads} threads");
                }
                // What is gathered stays as it is.
                assert_eq!(single.gather(Batch::All).unwrap(), double.gather(Batch::All).unwrap());
            }
        }
    }
}
