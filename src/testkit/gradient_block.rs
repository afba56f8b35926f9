//! The suite of gradient blocks: every operation against dense algebra on the rows that the block stands for. Those rows are known
//! from the definition of the form, and must come out of `project(I)` and of `accumulate(I)`, which are two computations.

use std::ops::Range;

use super::Report;
use super::cases::{Content, SIZES, Shape, short_normals};
use crate::dense::Matrix;
use crate::error::Result;
use crate::gradient::GradientBlock;
use crate::par;
use crate::rng::Key;

/// What a block of gradient rows does: the operations of [`GradientBlock`], so that another form of rows can be held to them before
/// it becomes one. In a GᵀG/samples, √w is inside the rows.
#[allow(missing_docs)] // As in `GradientBlock`.
#[allow(clippy::missing_errors_doc)]
pub trait Rows: Clone + Send + Sync {
    fn samples(&self) -> usize;
    fn rows(&self) -> usize;
    fn dim(&self) -> usize;
    fn project(&self, omega: &Matrix) -> Result<Matrix>;
    fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<()>;
    fn gram(&self) -> Result<Matrix>;
    fn gram_with(&self, diagonal: &[f64]) -> Result<Matrix>;
    fn scatter(&self) -> Result<Matrix>;
    fn squared_row_norms(&self) -> Vec<f64>;
    fn squared_column_norms(&self) -> Vec<f64>;
    fn cross_gram(&self, other: &Self) -> Result<Matrix>;
    fn part(&self, samples: Range<usize>) -> Self;
    fn last_samples(&self, count: usize) -> Self;
    fn scale(&mut self, factor: f64);
    fn stack(blocks: &[&Self]) -> Result<Self>;
    fn check_finite(&self) -> Result<()>;
}

impl Rows for GradientBlock {
    fn samples(&self) -> usize {
        self.samples()
    }
    fn rows(&self) -> usize {
        self.rows()
    }
    fn dim(&self) -> usize {
        self.dim()
    }
    fn project(&self, omega: &Matrix) -> Result<Matrix> {
        self.project(omega)
    }
    fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<()> {
        self.accumulate_into(coefficients, y)
    }
    fn gram(&self) -> Result<Matrix> {
        self.gram()
    }
    fn gram_with(&self, diagonal: &[f64]) -> Result<Matrix> {
        self.gram_with(diagonal)
    }
    fn scatter(&self) -> Result<Matrix> {
        self.scatter()
    }
    fn squared_row_norms(&self) -> Vec<f64> {
        self.squared_row_norms()
    }
    fn squared_column_norms(&self) -> Vec<f64> {
        self.squared_column_norms()
    }
    fn cross_gram(&self, other: &Self) -> Result<Matrix> {
        self.cross_gram(other)
    }
    fn part(&self, samples: Range<usize>) -> Self {
        self.part(samples)
    }
    fn last_samples(&self, count: usize) -> Self {
        self.last_samples(count)
    }
    fn scale(&mut self, factor: f64) {
        self.scale(factor);
    }
    fn stack(blocks: &[&Self]) -> Result<Self> {
        Self::stack(blocks)
    }
    fn check_finite(&self) -> Result<()> {
        self.check_finite()
    }
}

/// What rounding may do to an entry, relative to the magnitudes that it is summed from.
const ROUNDING: f64 = 1e-13;

/// A form of rows at every shape, one column to several blocks wide, at 1, 2 and 4 threads. `build` gives the block of a shape and the
/// rows that it stands for by the definition of the form.
pub fn gradient_blocks<B: Rows>(name: &str, build: impl Fn(Shape, Key) -> Result<(B, Matrix)>, key: Key) -> Report {
    let mut report = Report::new(name);
    for (turn, shape) in Shape::all().enumerate() {
        report.part("blocks are built", format_args!("{shape:?}"), |report| {
            let (block, expanded) = build(shape, key.child(turn as u64))?;
            report.include(gradient_block(&format!("{shape:?}"), &block, &expanded, key.child(turn as u64)));
            Ok(())
        });
    }
    // Past every cut of the work.
    let large = Shape { samples: 2 * SIZES[5] + 47, rows_per_sample: 2, content: Content::Random };
    report.part("blocks are built", format_args!("{large:?}"), |report| {
        let (block, _) = build(large, key)?;
        let reference = par::with_threads(1, || everything(&block, key, 65))??;
        for threads in [2, 4] {
            let found = par::with_threads(threads, || everything(&block, key, 65))?;
            report.holds("the same bits at every thread count", format_args!("{threads} threads"), || {
                Ok(bits(&found?) == bits(&reference))
            });
        }
        Ok(())
    });
    report
}

/// One block: every operation, and its refusals. `expanded` is G, by the definition of the form.
pub fn gradient_block<B: Rows>(case: &str, block: &B, expanded: &Matrix, key: Key) -> Report {
    let mut report = Report::new(case);
    let g = expanded;
    report.holds("rows, samples and dim are those of G", case, || {
        let whole = block.samples() > 0 && block.rows().is_multiple_of(block.samples());
        Ok((block.rows(), block.dim()) == (g.nrows(), g.ncols()) && whole && block.check_finite().is_ok())
    });
    if !report.passed() {
        return report;
    }
    let (n, d, r) = (g.nrows(), g.ncols(), block.rows() / block.samples());
    // Test vectors are normal: their columns have norms near √size, and 10 covers the tails.
    let size = g.norm();
    let (down, up) = (10.0 * size * (d as f64).sqrt(), 10.0 * size * (n as f64).sqrt());
    let mut close = |claim: &str, scale: f64, found: &mut dyn FnMut() -> Result<Matrix>, expected: Matrix| {
        report.within(claim, case, ROUNDING, || distance(&found()?, &expected, scale));
    };
    close("G is project(I)", size, &mut || block.project(&Matrix::identity(d)), g.clone());
    close("Gᵀ is accumulate(I)", size, &mut || accumulate(block, &Matrix::identity(n)), g.t().to_matrix());
    for width in [0, 1, 3, 65] {
        let (omega, coefficients, start) = operands(key, block, width);
        close("project is GΩ", down, &mut || block.project(&omega), naive(g, &omega));
        let back = naive(&g.t().to_matrix(), &coefficients);
        let sum = Matrix::from_fn(d, width, |i, j| start[(i, j)] + back[(i, j)]);
        close("accumulate is GᵀC", up, &mut || accumulate(block, &coefficients), back);
        let added = &mut || {
            let mut y = start.clone();
            block.accumulate_into(&coefficients, &mut y)?;
            Ok(y)
        };
        close("accumulate_into adds to Y", up + 10.0, added, sum);
    }
    let diagonal = diagonal(key, d);
    let scaled = Matrix::from_fn(d, n, |i, j| diagonal[i] * g[(j, i)]);
    close("gram is GGᵀ", size * size, &mut || block.gram(), naive(g, &g.t().to_matrix()));
    close("gram_with is GDGᵀ", 5.0 * size * size, &mut || block.gram_with(&diagonal), naive(g, &scaled));
    close("scatter is GᵀG", size * size, &mut || block.scatter(), naive(&g.t().to_matrix(), g));
    let norms = Matrix::from_fn(n, 1, |i, _| (0..d).map(|j| g[(i, j)] * g[(i, j)]).sum());
    close("squared_row_norms are ‖g_i‖²", size * size, &mut || Ok(Matrix::column(block.squared_row_norms())), norms);
    let norms = Matrix::from_fn(d, 1, |j, _| g.col(j).iter().map(|x| x * x).sum());
    close(
        "squared_column_norms are those of G's columns",
        size * size,
        &mut || Ok(Matrix::column(block.squared_column_norms())),
        norms,
    );

    let samples = block.samples();
    for range in [0..1, samples / 3..samples / 2 + 1, 0..samples, samples - 1..samples + 3] {
        let rows = g.rows(range.start * r..n.min(range.end * r)).to_matrix();
        let across = naive(g, &rows.t().to_matrix());
        close("part keeps the samples of a range", size, &mut || block.part(range.clone()).project(&Matrix::identity(d)), rows);
        close("cross_gram is GHᵀ", size * size, &mut || block.cross_gram(&block.part(range.clone())), across);
    }
    for count in [1, block.samples().div_ceil(2), block.samples(), block.samples() + 5] {
        let first = n - r * count.min(block.samples());
        let tail = &mut || block.last_samples(count).project(&Matrix::identity(d));
        close("last_samples keeps the newest samples", size, tail, g.rows(first..n).to_matrix());
    }
    let mut halved = block.clone();
    halved.scale(-0.5);
    let half = Matrix::from_fn(n, d, |i, j| -0.5 * g[(i, j)]);
    close("scale multiplies every row", size, &mut || halved.project(&Matrix::identity(d)), half);
    let stacked = &mut || {
        let stacked = B::stack(&[&block.last_samples(1), block, &halved])?;
        let samples = Matrix::column(vec![stacked.samples() as f64; r + 2 * n]);
        let rows = stacked.project(&Matrix::identity(d))?;
        // The number of samples as one more column.
        Matrix::from_columns(r + 2 * n, d + 1, [rows.into_vec(), samples.into_vec()].concat())
    };
    let below = Matrix::from_fn(r + 2 * n, d + 1, |i, j| match i {
        _ if j == d => (1 + 2 * block.samples()) as f64,
        i if i < r => g[(n - r + i, j)],
        i if i < r + n => g[(i - r, j)],
        i => -0.5 * g[(i - r - n, j)],
    });
    close("stack puts one block below the other", size + n as f64, stacked, below);
    report.holds("Gram and scatter matrices are symmetric to the bit", case, || {
        let symmetric = |m: Matrix| m.t().to_matrix() == m;
        Ok(symmetric(block.gram()?) && symmetric(block.scatter()?))
    });
    refusals(&mut report, case, block);
    report
}

fn refusals<B: Rows>(report: &mut Report, case: &str, block: &B) {
    let (n, d) = (block.rows(), block.dim());
    let claim = "operands of another shape are refused";
    let zeros = Matrix::zeros;
    report.refuses(claim, case, || block.project(&zeros(d + 1, 2)));
    report.refuses(claim, case, || accumulate(block, &zeros(n + 1, 2)));
    report.refuses(claim, case, || block.accumulate_into(&zeros(n, 2), &mut zeros(d, 1)));
    report.refuses(claim, case, || block.accumulate_into(&zeros(n, 2), &mut zeros(d + 1, 2)));
    report.refuses(claim, case, || block.gram_with(&vec![1.0; d + 1]));
    report.refuses(claim, case, || B::stack(&[]));
    let claim = "numbers that are not finite are refused";
    for bad in [f64::NAN, f64::INFINITY] {
        let poisoned = |nrows: usize| Matrix::from_fn(nrows, 1, |i, _| if i == nrows - 1 { bad } else { 1.0 });
        report.refuses(claim, case, || block.project(&poisoned(d)));
        report.refuses(claim, case, || accumulate(block, &poisoned(n)));
        report.refuses(claim, case, || block.gram_with(poisoned(d).as_slice()));
        report.refuses(claim, case, || {
            let mut block = block.clone();
            block.scale(bad);
            block.check_finite()
        });
    }
}

fn accumulate<B: Rows>(block: &B, coefficients: &Matrix) -> Result<Matrix> {
    let mut y = Matrix::zeros(block.dim(), coefficients.ncols());
    block.accumulate_into(coefficients, &mut y)?;
    Ok(y)
}

/// Ω, C and a Y to start from.
fn operands<B: Rows>(key: Key, block: &B, width: usize) -> (Matrix, Matrix, Matrix) {
    let (d, n) = (block.dim(), block.rows());
    (short_normals(key.child(1), d, width), short_normals(key.child(2), n, width), short_normals(key.child(3), d, width))
}

fn diagonal(key: Key, d: usize) -> Vec<f64> {
    key.child(4).stream().normals(d).iter().map(|x| x.abs() + 0.1).collect()
}

/// The results of all operations, in one list.
fn everything<B: Rows>(block: &B, key: Key, width: usize) -> Result<Vec<Matrix>> {
    let (omega, coefficients, mut y) = operands(key, block, width);
    block.accumulate_into(&coefficients, &mut y)?;
    let with = block.gram_with(&diagonal(key, block.dim()))?;
    let norms = Matrix::column(block.squared_row_norms());
    let columns = Matrix::column(block.squared_column_norms());
    let across = block.cross_gram(&block.part(0..block.samples().div_ceil(3)))?;
    Ok(vec![block.project(&omega)?, y, block.gram()?, with, block.scatter()?, norms, columns, across])
}

fn bits(all: &[Matrix]) -> Vec<u64> {
    all.iter().flat_map(|m| m.as_slice()).map(|x| x.to_bits()).collect()
}

/// A B by the triple loop: the oracle of the products, which share their code with what is examined.
fn naive(a: &Matrix, b: &Matrix) -> Matrix {
    let rows = a.t().to_matrix();
    Matrix::from_fn(a.nrows(), b.ncols(), |i, j| rows.col(i).iter().zip(b.col(j)).map(|(x, y)| x * y).sum())
}

/// The largest difference of two entries, relative to `scale`.
fn distance(found: &Matrix, expected: &Matrix, scale: f64) -> Result<f64> {
    crate::dense::check_shape("result", found, expected.nrows(), expected.ncols())?;
    let worst = found.as_slice().iter().zip(expected.as_slice()).map(|(f, e)| (f - e).abs());
    let worst = worst.fold(0.0_f64, |worst, error| if error > worst || error.is_nan() { error } else { worst });
    Ok(if worst == 0.0 { 0.0 } else { worst / scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_sees_a_nan_anywhere() {
        let ones = Matrix::column(vec![1.0; 3]);
        for i in 0..3 {
            let mut poisoned = ones.clone();
            poisoned[(i, 0)] = f64::NAN;
            assert!(distance(&poisoned, &ones, 1.0).unwrap().is_nan());
        }
        assert_eq!(distance(&ones, &ones, 0.0).unwrap(), 0.0);
        assert!(distance(&ones, &Matrix::zeros(2, 1), 1.0).is_err());
    }
}
