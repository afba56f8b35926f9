//! The curvature that need not be estimated: the Hessian Λ of a regularizer, or Λ' = Λ + μI with the damping. Diagonal for now;
//! another structure is one more variant.

use serde::{Deserialize, Serialize};

use crate::dense::Matrix;
use crate::error::{Error, Result, check_count, check_finite, check_len, check_nonnegative};
use crate::operator::LinearOperator;

/// A known positive semi-definite matrix Λ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form")]
pub struct KnownCurvature(Form);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Form {
    Scalar { dim: usize, value: f64 },
    Diagonal(Vec<f64>),
}

impl TryFrom<Form> for KnownCurvature {
    type Error = Error;

    /// Checks what was read.
    fn try_from(form: Form) -> Result<Self> {
        match form {
            Form::Scalar { dim, value } => Self::scalar(dim, value),
            Form::Diagonal(entries) => Self::diagonal(entries),
        }
    }
}

impl KnownCurvature {
    /// λI of order `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`] for dim = 0 or a λ that is negative or not finite.
    pub fn scalar(dim: usize, lambda: f64) -> Result<Self> {
        check_count("dim", dim)?;
        check_nonnegative("known curvature", lambda)?;
        Ok(Self(Form::Scalar { dim, value: lambda }))
    }

    /// diag(a).
    ///
    /// # Errors
    /// [`Error::Argument`] for a negative or missing entry, [`Error::NotFinite`].
    pub fn diagonal(entries: Vec<f64>) -> Result<Self> {
        check_count("dim", entries.len())?;
        check_finite("known curvature", &entries)?;
        entries.iter().try_for_each(|&a| check_nonnegative("known curvature", a))?;
        Ok(Self(Form::Diagonal(entries)))
    }

    /// Λ + μI.
    ///
    /// # Errors
    /// [`Error::Argument`] for a μ that is negative or not finite.
    pub fn plus(&self, damping: f64) -> Result<Self> {
        check_nonnegative("damping", damping)?;
        self.shifted(damping)
    }

    /// Λ + tI for a t of any sign that leaves Λ positive semi-definite.
    ///
    /// # Errors
    /// [`Error::Argument`] otherwise, and for a sum that is not finite.
    pub fn shifted(&self, t: f64) -> Result<Self> {
        let overflow = || Error::argument("damping", "a sum with the known curvature that is finite", t);
        let finite = |sum: f64| if sum.is_finite() { Ok(sum) } else { Err(overflow()) };
        check_nonnegative("shifted known curvature", finite(self.min_eigenvalue() + t)?)?;
        Ok(Self(match &self.0 {
            Form::Scalar { dim, value } => Form::Scalar { dim: *dim, value: finite(value + t)? },
            Form::Diagonal(entries) => Form::Diagonal(entries.iter().map(|a| finite(a + t)).collect::<Result<_>>()?),
        }))
    }

    /// λ_max(Λ).
    pub fn max_eigenvalue(&self) -> f64 {
        match &self.0 {
            Form::Scalar { value, .. } => *value,
            Form::Diagonal(entries) => entries.iter().copied().fold(0.0, f64::max),
        }
    }

    /// λ_min(Λ).
    pub fn min_eigenvalue(&self) -> f64 {
        match &self.0 {
            Form::Scalar { value, .. } => *value,
            Form::Diagonal(entries) => entries.iter().copied().fold(f64::INFINITY, f64::min),
        }
    }

    /// Whether Λ = 0.
    pub fn is_zero(&self) -> bool {
        (0..self.dim()).all(|i| self.entry(i) == 0.0)
    }

    /// Entry i of the diagonal.
    ///
    /// # Panics
    /// If there is none and the entries are stored.
    pub fn entry(&self, i: usize) -> f64 {
        match &self.0 {
            Form::Scalar { value, .. } => *value,
            Form::Diagonal(entries) => entries[i],
        }
    }

    /// λ where Λ = λI.
    pub fn as_scalar(&self) -> Option<f64> {
        match &self.0 {
            Form::Scalar { value, .. } => Some(*value),
            Form::Diagonal(_) => None,
        }
    }

    /// Λ⁻¹ x, column by column, in place.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`], and [`Error::Argument`] where Λ is singular: damping is needed.
    pub fn solve_in_place(&self, x: &mut Matrix) -> Result<()> {
        check_len("rhs", x.nrows(), self.dim())?;
        check_finite("rhs", x.as_slice())?;
        self.check_invertible()?;
        for j in 0..x.ncols() {
            x.col_mut(j).iter_mut().enumerate().for_each(|(i, x)| *x /= self.entry(i));
        }
        Ok(())
    }

    /// Checks that Λ⁻¹ exists and is finite.
    ///
    /// # Errors
    /// [`Error::Argument`] otherwise.
    pub fn check_invertible(&self) -> Result<()> {
        let smallest = self.min_eigenvalue();
        if smallest > 0.0 && smallest.recip().is_finite() {
            return Ok(());
        }
        Err(Error::argument("known curvature plus damping", "a positive smallest eigenvalue (add damping)", smallest))
    }

    /// Adds Λ to the diagonal of a d × d matrix.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn add_to(&self, matrix: &mut Matrix) -> Result<()> {
        crate::dense::check_shape("matrix", &*matrix, self.dim(), self.dim())?;
        (0..self.dim()).for_each(|i| matrix[(i, i)] += self.entry(i));
        Ok(())
    }
}

impl LinearOperator for KnownCurvature {
    fn dim(&self) -> usize {
        match &self.0 {
            Form::Scalar { dim, .. } => *dim,
            Form::Diagonal(entries) => entries.len(),
        }
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        check_len("x", x.len(), self.dim())?;
        Ok(x.iter().enumerate().map(|(i, x)| self.entry(i) * x).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_apply_solve_and_add_alike() {
        let scalar = KnownCurvature::scalar(3, 2.0).unwrap();
        let diagonal = KnownCurvature::diagonal(vec![2.0; 3]).unwrap();
        for known in [&scalar, &diagonal] {
            let damped = known.plus(0.5).unwrap();
            assert_eq!(damped.min_eigenvalue(), 2.5);
            assert_eq!(damped.apply(&[1.0, 2.0, -4.0]).unwrap(), [2.5, 5.0, -10.0]);
            let mut x = Matrix::column(vec![2.5, 5.0, -10.0]);
            damped.solve_in_place(&mut x).unwrap();
            assert_eq!(x.as_slice(), [1.0, 2.0, -4.0]);
            let mut m = Matrix::identity(3);
            known.add_to(&mut m).unwrap();
            assert_eq!(m.trace(), 9.0);
            assert!(known.apply(&[1.0]).is_err() && known.add_to(&mut Matrix::identity(2)).is_err());
        }
        let mixed = KnownCurvature::diagonal(vec![3.0, 0.0]).unwrap();
        assert_eq!(mixed.min_eigenvalue(), 0.0);
        assert!(!mixed.is_zero() && !scalar.is_zero());
        assert!(KnownCurvature::scalar(3, 0.0).unwrap().is_zero() && KnownCurvature::diagonal(vec![0.0; 2]).unwrap().is_zero());
        assert!(mixed.solve_in_place(&mut Matrix::zeros(2, 1)).unwrap_err().to_string().contains("add damping"));
    }

    #[test]
    fn what_is_not_semi_definite_is_refused() {
        assert!(KnownCurvature::scalar(2, -1.0).is_err());
        assert!(KnownCurvature::scalar(0, 1.0).is_err());
        assert!(KnownCurvature::diagonal(vec![1.0, f64::NAN]).is_err());
        assert!(KnownCurvature::diagonal(vec![1.0, -1e-9]).is_err());
        assert!(KnownCurvature::scalar(2, 1.0).unwrap().plus(f64::INFINITY).is_err());
    }
}
