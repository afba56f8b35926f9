//! Symmetric linear operators known only by their products: the trait, its few forms, and a wrapper that counts.
//! They carry Hessians, sketches and preconditioners alike; no form here knows where its numbers come from.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dense::{Matrix, add_scaled, matvec};
use crate::error::{Result, check_finite, check_len};

/// A symmetric linear map of ℝᵈ. A product is arithmetic: an entry of x that is not finite is refused or carried along.
pub trait LinearOperator: Send + Sync {
    /// d.
    fn dim(&self) -> usize;

    /// A x, for x of length d.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` has another length, or whatever the product itself can meet.
    fn apply(&self, x: &[f64]) -> Result<Vec<f64>>;

    /// A X, column by column.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn apply_columns(&self, x: &Matrix) -> Result<Matrix> {
        let mut result = Matrix::zeros(self.dim(), x.ncols());
        for j in 0..x.ncols() {
            let product = self.apply(x.col(j))?;
            check_len("operator product", product.len(), self.dim())?;
            result.col_mut(j).copy_from_slice(&product);
        }
        Ok(result)
    }

    /// The d × d matrix itself, by d products: for oracles and tests.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn to_dense(&self) -> Result<Matrix> {
        self.apply_columns(&Matrix::identity(self.dim()))
    }
}

/// A symmetric matrix that is stored.
impl LinearOperator for Matrix {
    fn dim(&self) -> usize {
        self.nrows()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        matvec(self, x)
    }
}

/// An operator given by a function.
pub struct FromFn<F> {
    dim: usize,
    apply: F,
}

impl<F: Fn(&[f64]) -> Result<Vec<f64>> + Send + Sync> FromFn<F> {
    /// The operator x ↦ apply(x) of ℝᵈ.
    pub fn new(dim: usize, apply: F) -> Self {
        Self { dim, apply }
    }
}

impl<F: Fn(&[f64]) -> Result<Vec<f64>> + Send + Sync> LinearOperator for FromFn<F> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        check_len("x", x.len(), self.dim)?;
        let y = (self.apply)(x)?;
        check_len("operator product", y.len(), self.dim)?;
        Ok(y)
    }
}

/// diag(a).
#[derive(Debug, Clone, PartialEq)]
pub struct Diagonal(Vec<f64>);

impl Diagonal {
    /// The operator diag(a).
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn new(entries: Vec<f64>) -> Result<Self> {
        check_finite("diagonal", &entries)?;
        Ok(Self(entries))
    }
}

impl LinearOperator for Diagonal {
    fn dim(&self) -> usize {
        self.0.len()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        check_len("x", x.len(), self.dim())?;
        Ok(self.0.iter().zip(x).map(|(a, x)| a * x).collect())
    }
}

/// A + B.
pub struct Sum<A, B>(pub A, pub B);

impl<A: LinearOperator, B: LinearOperator> LinearOperator for Sum<A, B> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut y = self.0.apply(x)?;
        add_scaled("operator product", 1.0, &self.1.apply(x)?, &mut y)?;
        Ok(y)
    }
}

impl<T: LinearOperator + ?Sized> LinearOperator for &T {
    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        (**self).apply(x)
    }

    fn apply_columns(&self, x: &Matrix) -> Result<Matrix> {
        (**self).apply_columns(x)
    }
}

/// An operator that counts its products.
pub struct Counting<A> {
    operator: A,
    products: AtomicU64,
}

impl<A: LinearOperator> Counting<A> {
    /// Wraps `operator`, with the count at 0.
    pub fn new(operator: A) -> Self {
        Self { operator, products: AtomicU64::new(0) }
    }

    /// The number of vectors multiplied so far.
    pub fn products(&self) -> u64 {
        self.products.load(Ordering::Relaxed)
    }
}

impl<A: LinearOperator> LinearOperator for Counting<A> {
    fn dim(&self) -> usize {
        self.operator.dim()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        self.products.fetch_add(1, Ordering::Relaxed);
        self.operator.apply(x)
    }

    fn apply_columns(&self, x: &Matrix) -> Result<Matrix> {
        self.products.fetch_add(x.ncols() as u64, Ordering::Relaxed);
        self.operator.apply_columns(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_agree_with_the_matrix_they_stand_for() {
        let a = Matrix::from_fn(3, 3, |i, j| (1 + i.min(j)) as f64);
        let d = Diagonal::new(vec![1.0, -2.0, 0.5]).unwrap();
        let f = FromFn::new(3, |x: &[f64]| a.apply(x));
        let sum = Counting::new(Sum(&f, &d));
        let dense = sum.to_dense().unwrap();
        assert_eq!(sum.products(), 3);
        for i in 0..3 {
            for j in 0..3 {
                assert_eq!(dense[(i, j)], a[(i, j)] + if i == j { [1.0, -2.0, 0.5][i] } else { 0.0 });
            }
        }
        assert_eq!(sum.apply(&[1.0]).unwrap_err().to_string(), "x: expected length 3, found length 1");
        assert!(Diagonal::new(vec![f64::NAN]).is_err());
        assert!(FromFn::new(2, |_: &[f64]| Ok(vec![0.0])).apply(&[1.0, 2.0]).is_err());
    }
}
