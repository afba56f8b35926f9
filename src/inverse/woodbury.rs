//! The inverse of Λ' + GᵀG/m for a block of gradient rows and a diagonal Λ', by the identity of Woodbury (1950) in whichever
//! space is smaller: the rows' (their Gram matrix) or the parameters'. Factorized once, applied often.

use crate::dense::{Cholesky, Matrix, check_shape, norm};
use crate::error::{Result, check_len, check_positive};
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::operator::LinearOperator;

/// The operator (Λ' + GᵀG/m)⁻¹.
///
/// With fewer rows than parameters, Λ'⁻¹ − Λ'⁻¹Gᵀ (mI + GΛ'⁻¹Gᵀ)⁻¹ GΛ'⁻¹: rows²·d + rows³/3 flops to set up (the first term far
/// less for factored rows), 4·rows·d a right-hand side (12 where one step of refinement is needed); otherwise the d × d
/// matrix is factorized.
pub struct Woodbury<'a> {
    space: Space<'a>,
    known: KnownCurvature,
}

/// Where a right-hand side lies among the large eigenvectors of GᵀG, the two terms of the identity cancel to a solution this
/// many times smaller than either, and carry as much more rounding: one step of iterative refinement removes it.
const CANCELLATION: f64 = 100.0;

enum Space<'a> {
    Rows { rows: &'a GradientBlock, mass: f64, capacitance: Cholesky },
    Parameters(Cholesky),
}

impl<'a> Woodbury<'a> {
    /// Factorizes Λ' + GᵀG/m for the rows G, the mass m and Λ' = `known`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Argument`](crate::Error::Argument) for a mass or a Λ' that is not positive,
    /// [`Error::Numerical`](crate::Error::Numerical) if rounding makes the system singular (add damping).
    pub fn new(rows: &'a GradientBlock, mass: f64, known: &KnownCurvature) -> Result<Self> {
        check_len("known curvature", known.dim(), rows.dim())?;
        check_positive("mass", mass)?;
        known.check_invertible()?;
        let space = if rows.rows() <= rows.dim() {
            let mut capacitance = match known.as_scalar() {
                Some(lambda) => {
                    let mut gram = rows.gram()?;
                    gram.scale(1.0 / lambda);
                    gram
                }
                None => rows.gram_with(&(0..rows.dim()).map(|i| 1.0 / known.entry(i)).collect::<Vec<_>>())?,
            };
            (0..capacitance.nrows()).for_each(|i| capacitance[(i, i)] += mass);
            Space::Rows { rows, mass, capacitance: Cholesky::new(capacitance)? }
        } else {
            let mut matrix = rows.scatter()?;
            matrix.scale(1.0 / mass);
            known.add_to(&mut matrix)?;
            Space::Parameters(Cholesky::new(matrix)?)
        };
        Ok(Self { space, known: known.clone() })
    }
}

impl Woodbury<'_> {
    /// Replaces X by Λ'⁻¹X − Λ'⁻¹Gᵀ (mI + GΛ'⁻¹Gᵀ)⁻¹ GΛ'⁻¹X; returns the largest ‖Λ'⁻¹x‖ / ‖result‖ of a column.
    fn subtract(&self, rows: &GradientBlock, capacitance: &Cholesky, x: &mut Matrix) -> Result<f64> {
        self.known.solve_in_place(x)?;
        let before: Vec<f64> = (0..x.ncols()).map(|j| norm(x.col(j))).collect();
        let mut coefficients = rows.project(x)?;
        capacitance.solve_in_place(&mut coefficients)?;
        let mut correction = rows.accumulate(&coefficients)?;
        self.known.solve_in_place(&mut correction)?;
        x.add_scaled(-1.0, &correction)?;
        Ok(before.iter().enumerate().map(|(j, before)| before / norm(x.col(j)).max(f64::MIN_POSITIVE)).fold(0.0, f64::max))
    }
}

impl LinearOperator for Woodbury<'_> {
    fn dim(&self) -> usize {
        self.known.dim()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        Ok(self.apply_columns(&Matrix::column(x.to_vec()))?.into_vec())
    }

    fn apply_columns(&self, rhs: &Matrix) -> Result<Matrix> {
        check_shape("rhs", rhs, self.dim(), rhs.ncols())?;
        let mut x = rhs.clone();
        match &self.space {
            Space::Parameters(factor) => factor.solve_in_place(&mut x)?,
            Space::Rows { rows, mass, capacitance } => {
                let whole = self.subtract(rows, capacitance, &mut x)?;
                if whole > CANCELLATION {
                    // r = b − (Λ' + GᵀG/m) x
                    let mut residual = rows.accumulate(&rows.project(&x)?)?;
                    residual.scale(-1.0 / mass);
                    residual.add_scaled(1.0, rhs)?;
                    residual.add_scaled(-1.0, &self.known.apply_columns(&x)?)?;
                    self.subtract(rows, capacitance, &mut residual)?;
                    x.add_scaled(1.0, &residual)?;
                }
            }
        }
        Ok(x)
    }
}
