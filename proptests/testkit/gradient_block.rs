//! Every form of gradient rows, and the factored one with a fault at a time.

use std::ops::Range;

use nhgd::Result;
use nhgd::dense::{Matrix, matmul_add};
use nhgd::gradient::GradientBlock;
use nhgd::rng::Key;
use nhgd::testkit::cases::{Case, Shape, kronecker_of, layered, layered_of, short_normals, stored_of};
use nhgd::testkit::{self, Report, Rows};

use super::caught;

fn parts(case: Case) -> (GradientBlock, Matrix) {
    (case.block, case.expanded)
}

#[test]
fn factored_rows_conform() {
    for (p, c) in [(1, 1), (3, 1), (1, 4), (7, 3), (20, 5)] {
        let build = |shape: Shape, key: Key| kronecker_of(shape, p, c, key).map(parts);
        testkit::gradient_blocks(&format!("{p} × {c} factors"), build, Key::new(1)).assert_passes();
    }
}

#[test]
fn stored_rows_conform() {
    for d in [1, 2, 63, 65] {
        let build = |shape: Shape, key: Key| stored_of(shape, d, key).map(parts);
        testkit::gradient_blocks(&format!("stored rows of length {d}"), build, Key::new(2)).assert_passes();
    }
}

#[test]
fn layered_rows_conform() {
    for widths in [&[(3, 2)][..], &[(1, 1), (1, 1)], &[(7, 3), (4, 5)], &[(2, 6), (7, 1), (2, 4)]] {
        let build = |shape: Shape, key: Key| layered_of(shape, widths, key).map(parts);
        testkit::gradient_blocks(&format!("layers of {widths:?}"), build, Key::new(4)).assert_passes();
    }
}

/// A dead layer before and behind one that is alive.
#[test]
fn layers_of_zeros_conform() {
    let alive = kronecker_factors(65, 6, 4);
    let dead = (Matrix::zeros(2, 65), Matrix::zeros(3, 130));
    let case = layered(vec![dead.clone(), alive, dead], 2).unwrap();
    testkit::gradient_block("dead layers", &case.block, &case.expanded, Key::new(5)).assert_passes();
}

/// Two rows a sample.
fn kronecker_factors(samples: usize, p: usize, c: usize) -> (Matrix, Matrix) {
    (short_normals(Key::new(6), p, samples), short_normals(Key::new(7), c, 2 * samples))
}

/// The negative case: layers may not change places.
#[test]
fn another_order_of_the_layers_is_noticed() {
    let (a, b) = (kronecker_factors(5, 3, 2), kronecker_factors(5, 4, 2));
    let (case, other) = (layered(vec![a.clone(), b.clone()], 2).unwrap(), layered(vec![b, a], 2).unwrap());
    caught("order of layers", &testkit::gradient_block("layers", &case.block, &other.expanded, Key::new(8)), "G is project(I)");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    OtherOrder,
    OtherOrderInProject,
    Transposed,
    OverwritesY,
    ForgetsRowsInGram,
    IgnoresTheDiagonal,
    HalfOfTheScatter,
    NormsNotSquared,
    ColumnNormsNotSquared,
    TransposesAcross,
    CutsByRows,
    CountsRowsAsSamples,
    KeepsTheFirst,
    ScalesTwice,
    StacksInReverse,
    ForgetsASampleInStack,
    NotSymmetric,
    DependsOnThreads,
    AcceptsAnyShape,
    PanicsOnAnotherShape,
    AcceptsNan,
}

/// Rows with a fault.
#[derive(Clone)]
struct Faulty(GradientBlock, Fault);

impl Faulty {
    fn is(&self, fault: Fault) -> bool {
        self.1 == fault
    }

    /// The first entries of a flattened θ in another order.
    fn shuffled(&self, omega: &Matrix) -> Matrix {
        let d = omega.nrows();
        Matrix::from_fn(d, omega.ncols(), |i, j| omega[((i + 1) % d, j)])
    }
}

impl Rows for Faulty {
    fn samples(&self) -> usize {
        if self.is(Fault::CountsRowsAsSamples) { self.0.rows() } else { self.0.samples() }
    }
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn project(&self, omega: &Matrix) -> Result<Matrix> {
        match self.1 {
            Fault::PanicsOnAnotherShape => assert_eq!(omega.nrows(), self.dim()),
            Fault::AcceptsAnyShape if omega.nrows() != self.dim() => return Ok(Matrix::zeros(self.rows(), omega.ncols())),
            Fault::AcceptsNan if omega.as_slice().iter().any(|x| x.is_nan()) => {
                return Ok(Matrix::zeros(self.rows(), omega.ncols()));
            }
            _ => {}
        }
        if self.is(Fault::OtherOrder) || self.is(Fault::OtherOrderInProject) {
            return self.0.project(&self.shuffled(omega));
        }
        let mut product = self.0.project(omega)?;
        if self.is(Fault::DependsOnThreads) {
            product.scale(1.0 + 1e-15 * nhgd::par::threads() as f64);
        }
        Ok(product)
    }
    fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<()> {
        match self.1 {
            Fault::OverwritesY => {
                *y = self.0.accumulate(coefficients)?;
                Ok(())
            }
            Fault::OtherOrder => {
                let back = self.0.accumulate(coefficients)?;
                let d = self.dim();
                let shuffled = Matrix::from_fn(d, back.ncols(), |i, j| back[((i + d - 1) % d, j)]);
                y.add_scaled(1.0, &shuffled)
            }
            Fault::Transposed => matmul_add(y, 1.0, self.0.project(&Matrix::identity(self.dim()))?.t(), coefficients)
                .and_then(|()| y.add_scaled(1e-9, &self.0.accumulate(coefficients)?)),
            _ => self.0.accumulate_into(coefficients, y),
        }
    }
    fn gram(&self) -> Result<Matrix> {
        let mut gram = self.0.gram()?;
        let last = gram.nrows() - 1;
        match self.1 {
            Fault::ForgetsRowsInGram => gram[(last, last)] = 0.0,
            Fault::NotSymmetric if last > 0 => gram[(0, last)] *= 1.0 + 1e-15,
            _ => {}
        }
        Ok(gram)
    }
    fn gram_with(&self, diagonal: &[f64]) -> Result<Matrix> {
        let with = self.0.gram_with(diagonal)?;
        if self.is(Fault::IgnoresTheDiagonal) { self.0.gram() } else { Ok(with) }
    }
    fn scatter(&self) -> Result<Matrix> {
        let mut scatter = self.0.scatter()?;
        if self.is(Fault::HalfOfTheScatter) {
            scatter = Matrix::from_fn(self.dim(), self.dim(), |i, j| if i == j { scatter[(i, j)] } else { 0.0 });
        }
        Ok(scatter)
    }
    fn squared_row_norms(&self) -> Vec<f64> {
        let norms = self.0.squared_row_norms();
        if self.is(Fault::NormsNotSquared) { norms.iter().map(|x| x.sqrt()).collect() } else { norms }
    }
    fn squared_column_norms(&self) -> Vec<f64> {
        let norms = self.0.squared_column_norms();
        if self.is(Fault::ColumnNormsNotSquared) { norms.iter().map(|x| x.sqrt()).collect() } else { norms }
    }
    fn cross_gram(&self, other: &Self) -> Result<Matrix> {
        if self.is(Fault::TransposesAcross) { other.0.cross_gram(&self.0) } else { self.0.cross_gram(&other.0) }
    }
    fn part(&self, samples: Range<usize>) -> Self {
        let r = if self.is(Fault::CutsByRows) { self.0.rows() / self.0.samples() } else { 1 };
        Self(self.0.part(samples.start / r..samples.end.div_ceil(r)), self.1)
    }
    fn last_samples(&self, count: usize) -> Self {
        if self.is(Fault::KeepsTheFirst) && count < self.0.samples() {
            // Drop the newest instead of the oldest, by way of the expanded rows.
            let rows = self.0.project(&Matrix::identity(self.dim())).unwrap();
            let r = self.0.rows() / self.0.samples();
            let kept = testkit::cases::stored(rows.rows(0..count * r).to_matrix(), r).unwrap();
            return Self(kept.block, self.1);
        }
        Self(self.0.last_samples(count), self.1)
    }
    fn scale(&mut self, factor: f64) {
        self.0.scale(if self.is(Fault::ScalesTwice) { factor * factor } else { factor });
    }
    fn stack(blocks: &[&Self]) -> Result<Self> {
        let fault = blocks.first().map_or(Fault::AcceptsNan, |block| block.1);
        let mut inner: Vec<&GradientBlock> = blocks.iter().map(|block| &block.0).collect();
        match fault {
            Fault::StacksInReverse => inner.reverse(),
            Fault::ForgetsASampleInStack => inner.truncate(2),
            _ => {}
        }
        Ok(Self(GradientBlock::stack(&inner)?, fault))
    }
    fn check_finite(&self) -> Result<()> {
        self.0.check_finite()
    }
}

fn faulty(fault: Fault) -> Report {
    let build = |shape: Shape, key: Key| {
        let case = kronecker_of(shape, 3, 2, key)?;
        Ok((Faulty(case.block, fault), case.expanded))
    };
    testkit::gradient_blocks(&format!("{fault:?}"), build, Key::new(3))
}

#[test]
fn wrong_rows_are_rejected_by_the_claim_that_they_break() {
    let shapes = "operands of another shape are refused";
    for (fault, claim) in [
        (Fault::OtherOrder, "G is project(I)"),
        (Fault::OtherOrder, "Gᵀ is accumulate(I)"),
        (Fault::OtherOrderInProject, "G is project(I)"),
        (Fault::Transposed, "Gᵀ is accumulate(I)"),
        (Fault::OverwritesY, "accumulate_into adds to Y"),
        (Fault::ForgetsRowsInGram, "gram is GGᵀ"),
        (Fault::IgnoresTheDiagonal, "gram_with is GDGᵀ"),
        (Fault::HalfOfTheScatter, "scatter is GᵀG"),
        (Fault::NormsNotSquared, "squared_row_norms are ‖g_i‖²"),
        (Fault::ColumnNormsNotSquared, "squared_column_norms are those of G's columns"),
        (Fault::TransposesAcross, "cross_gram is GHᵀ"),
        (Fault::CutsByRows, "part keeps the samples of a range"),
        (Fault::CountsRowsAsSamples, "last_samples keeps the newest samples"),
        (Fault::KeepsTheFirst, "last_samples keeps the newest samples"),
        (Fault::ScalesTwice, "scale multiplies every row"),
        (Fault::StacksInReverse, "stack puts one block below the other"),
        (Fault::ForgetsASampleInStack, "stack puts one block below the other"),
        (Fault::NotSymmetric, "Gram and scatter matrices are symmetric to the bit"),
        (Fault::DependsOnThreads, "the same bits at every thread count"),
        (Fault::AcceptsAnyShape, shapes),
        (Fault::PanicsOnAnotherShape, shapes),
        (Fault::AcceptsNan, "numbers that are not finite are refused"),
    ] {
        caught(fault, &faulty(fault), claim);
    }
}
