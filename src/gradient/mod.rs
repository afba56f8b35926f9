//! Blocks of per-sample gradients. A [`GradientBlock`] stands for a matrix G whose rows are √w_i s_i, s_i = ∇_θ ℓ_i, so that
//! GᵀG / samples estimates Σ w_i s_i s_iᵀ / n. Curvatures meet gradients only through the operations here; none of them
//! expands a factored block, but `expand` the few rows it is asked for.
//!
//! `samples` and `rows` are two numbers: the expected Fisher has several rows a sample. Means divide by samples, never by rows.

mod dense_rows;
mod kronecker;
mod layered;
mod tiles;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use dense_rows::DenseRows;
pub use kronecker::{KroneckerRows, weighted_outer};
pub use layered::LayeredRows;

use crate::dense::{Matrix, check_shape};
use crate::error::{Error, Result, check_finite, check_len};

/// Per-sample gradients, as they are or in factored form. In every operation √w is inside the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum GradientBlock {
    /// Rows that are stored.
    Dense(DenseRows),
    /// Rows x_i ⊗ δ_i.
    Kronecker(KroneckerRows),
    /// Rows that are such products layer by layer.
    Layered(LayeredRows),
}

/// Dispatches an operation to the form at hand.
macro_rules! each_form {
    ($block:expr, $rows:ident => $body:expr) => {
        match $block {
            GradientBlock::Dense($rows) => $body,
            GradientBlock::Kronecker($rows) => $body,
            GradientBlock::Layered($rows) => $body,
        }
    };
}

impl GradientBlock {
    /// The number of samples that the rows come from: what means divide by.
    pub fn samples(&self) -> usize {
        each_form!(self, rows => rows.samples())
    }

    /// The number of rows of G.
    pub fn rows(&self) -> usize {
        each_form!(self, rows => rows.rows())
    }

    /// d, the number of columns of G.
    pub fn dim(&self) -> usize {
        each_form!(self, rows => rows.dim())
    }

    /// The memory of the stored factors, in bytes.
    pub fn bytes(&self) -> usize {
        each_form!(self, rows => rows.bytes())
    }

    /// GΩ, for Ω d × ℓ: rows × ℓ, at 2·d·ℓ flops a sample.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::NotFinite`] for Ω, or for a product that overflows.
    pub fn project(&self, omega: &Matrix) -> Result<Matrix> {
        check_shape("omega", omega, self.dim(), omega.ncols())?;
        let product = self.product(omega)?;
        check_product(omega, &product)?;
        Ok(product)
    }

    fn product(&self, omega: &Matrix) -> Result<Matrix> {
        match self {
            Self::Dense(rows) => rows.project(omega),
            Self::Kronecker(rows) => rows.project(omega, 0),
            Self::Layered(rows) => rows.project(omega),
        }
    }

    /// GΩ as by [`project`](Self::project), and the squared Euclidean norm of every row: one pass over rows that are stored.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::NotFinite`] for the rows, for squares that overflow, and as [`project`](Self::project).
    pub fn project_with_norms(&self, omega: &Matrix) -> Result<(Matrix, Vec<f64>)> {
        check_shape("omega", omega, self.dim(), omega.ncols())?;
        let (product, squares) = match self {
            Self::Dense(rows) => rows.project_with_norms(omega)?,
            factored => (factored.product(omega)?, factored.squared_row_norms()),
        };
        self.check_squares(&squares)?;
        check_product(omega, &product)?;
        Ok((product, squares))
    }

    /// Finite squares come from finite entries; where they are not, the entry is looked for.
    fn check_squares(&self, squares: &[f64]) -> Result<()> {
        if squares.iter().all(|square| square.is_finite()) {
            return Ok(());
        }
        self.check_finite()?;
        check_finite("squared norms of gradient rows", squares)
    }

    /// The squared Euclidean norm of every row of a block all of whose numbers are finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for an entry, or for a square that overflows.
    pub fn finite_squared_row_norms(&self) -> Result<Vec<f64>> {
        let squares = self.squared_row_norms();
        self.check_squares(&squares)?;
        Ok(squares)
    }

    /// Y += GᵀC, for C rows × ℓ and Y d × ℓ, at 2·d·ℓ flops a sample.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`] for C.
    pub fn accumulate_into(&self, coefficients: &Matrix, y: &mut Matrix) -> Result<()> {
        self.check_accumulated(coefficients, y)?;
        match self {
            Self::Dense(rows) => rows.accumulate_into(coefficients, y),
            Self::Kronecker(rows) => rows.accumulate_into(coefficients, y, 0).map(drop),
            Self::Layered(rows) => rows.accumulate_into(coefficients, y).map(drop),
        }
    }

    fn check_accumulated(&self, coefficients: &Matrix, y: &Matrix) -> Result<()> {
        check_shape("coefficients", coefficients, self.rows(), coefficients.ncols())?;
        check_shape("y", y, self.dim(), coefficients.ncols())?;
        check_finite("coefficients", coefficients.as_slice())
    }

    /// GᵀC, for C rows × ℓ: d × ℓ.
    ///
    /// # Errors
    /// As [`accumulate_into`](Self::accumulate_into).
    pub fn accumulate(&self, coefficients: &Matrix) -> Result<Matrix> {
        let mut y = Matrix::zeros(self.dim(), coefficients.ncols());
        self.accumulate_into(coefficients, &mut y)?;
        Ok(y)
    }

    /// The Gram matrix GGᵀ, rows × rows. For factored rows (XXᵀ) ∘ (ΔΔᵀ): samples²·(p + C) flops instead of samples²·p·C.
    ///
    /// # Errors
    /// [`Error::Shape`] only if the block is inconsistent.
    pub fn gram(&self) -> Result<Matrix> {
        each_form!(self, rows => rows.gram())
    }

    /// G D Gᵀ for a diagonal D of length d, rows × rows.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn gram_with(&self, diagonal: &[f64]) -> Result<Matrix> {
        check_len("diagonal", diagonal.len(), self.dim())?;
        check_finite("diagonal", diagonal)?;
        each_form!(self, rows => rows.gram_with(diagonal))
    }

    /// GᵀG, d × d: for small d only.
    ///
    /// # Errors
    /// [`Error::Shape`] only if the block is inconsistent.
    pub fn scatter(&self) -> Result<Matrix> {
        each_form!(self, rows => rows.scatter())
    }

    /// The squared Euclidean norm of every row.
    pub fn squared_row_norms(&self) -> Vec<f64> {
        each_form!(self, rows => rows.squared_row_norms())
    }

    /// GHᵀ for another block H of the same dimension: rows × rows of H. Factored forms meet without being expanded.
    ///
    /// # Errors
    /// [`Error::Shape`] if the dimensions differ, [`Error::Unsupported`] for two factored forms that do not fit.
    pub fn cross_gram(&self, other: &Self) -> Result<Matrix> {
        check_len("block dimension", other.dim(), self.dim())?;
        match (self, other) {
            (_, Self::Dense(h)) => self.project(h.transposed()),
            (Self::Dense(g), _) => Ok(other.project(g.transposed())?.t().to_matrix()),
            (Self::Kronecker(g), Self::Kronecker(h)) => g.cross_gram(h),
            (Self::Layered(g), Self::Layered(h)) => g.cross_gram(h),
            _ => Err(mixed_forms("multiplying")),
        }
    }

    /// The diagonal of GᵀG, of length d: Σ over the rows of every entry squared.
    pub fn squared_column_norms(&self) -> Vec<f64> {
        each_form!(self, rows => rows.squared_column_norms())
    }

    /// The rows of some adjacent samples; the range is cut to those there are.
    pub fn part(&self, samples: Range<usize>) -> Self {
        let end = samples.end.min(self.samples());
        let samples = samples.start.min(end)..end;
        match self {
            Self::Dense(rows) => Self::Dense(rows.part(samples)),
            Self::Kronecker(rows) => Self::Kronecker(rows.part(samples)),
            Self::Layered(rows) => Self::Layered(rows.part(samples)),
        }
    }

    /// Some rows as they are, as the columns of a d × range matrix: for updates that take one row at a time.
    ///
    /// # Errors
    /// [`Error::Argument`] for rows that are not there.
    pub fn expand(&self, range: Range<usize>) -> Result<Matrix> {
        if range.start > range.end || range.end > self.rows() {
            let expected = format!("a range within the {} rows", self.rows());
            return Err(Error::argument("rows", expected, format_args!("{range:?}")));
        }
        Ok(each_form!(self, rows => rows.expand(range)))
    }

    /// The rows of the last `count` samples (all of them if there are fewer).
    pub fn last_samples(&self, count: usize) -> Self {
        self.part(self.samples() - count.min(self.samples())..self.samples())
    }

    /// Multiplies every row. A factor that is not finite makes a block that everything else refuses.
    pub fn scale(&mut self, factor: f64) {
        each_form!(self, rows => rows.scale(factor));
    }

    /// The blocks one below the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if their dimensions differ, [`Error::Unsupported`] if their forms do, [`Error::Argument`] for none.
    pub fn stack(blocks: &[&Self]) -> Result<Self> {
        let Some(first) = blocks.first() else {
            return Err(Error::argument("blocks", "at least 1 block", 0));
        };
        for block in blocks {
            check_len("block dimension", block.dim(), first.dim())?;
        }
        macro_rules! of_one_form {
            ($variant:ident, $rows:ident) => {{
                let rows: Option<Vec<_>> = blocks.iter().map(|b| if let Self::$variant(r) = b { Some(r) } else { None }).collect();
                Ok(Self::$variant($rows::stack(&rows.ok_or_else(|| mixed_forms("stacking"))?)?))
            }};
        }
        match first {
            Self::Dense(_) => of_one_form!(Dense, DenseRows),
            Self::Kronecker(_) => of_one_form!(Kronecker, KroneckerRows),
            Self::Layered(_) => of_one_form!(Layered, LayeredRows),
        }
    }

    /// Checks that every stored factor is finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn check_finite(&self) -> Result<()> {
        each_form!(self, rows => rows.check_finite())
    }
}

impl From<DenseRows> for GradientBlock {
    fn from(rows: DenseRows) -> Self {
        Self::Dense(rows)
    }
}

impl From<KroneckerRows> for GradientBlock {
    fn from(rows: KroneckerRows) -> Self {
        Self::Kronecker(rows)
    }
}

/// What is not finite in Ω is not finite in the product, which is far smaller.
fn check_product(omega: &Matrix, product: &Matrix) -> Result<()> {
    if check_finite("product", product.as_slice()).is_err() {
        check_finite("omega", omega.as_slice())?;
        check_finite("gradient rows times omega", product.as_slice())?;
    }
    Ok(())
}

fn mixed_forms(operation: &str) -> Error {
    Error::unsupported(format_args!("{operation} gradient blocks of different forms"), "feed one form to one curvature")
}

impl From<LayeredRows> for GradientBlock {
    fn from(rows: LayeredRows) -> Self {
        Self::Layered(rows)
    }
}

/// Checks what the constructors share: a positive number of rows a sample that divides the rows.
fn check_rows(rows: usize, rows_per_sample: usize) -> Result<()> {
    if rows == 0 || rows_per_sample == 0 || !rows.is_multiple_of(rows_per_sample) {
        let found = format!("{rows} rows at {rows_per_sample} a sample");
        return Err(Error::argument("rows_per_sample", "a divisor of a positive number of rows", found));
    }
    Ok(())
}
