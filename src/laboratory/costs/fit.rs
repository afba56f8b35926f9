//! Power laws y = c · x₁^{p₁} · x₂^{p₂} … by ordinary least squares on logarithms, with Student's (1908) limits for what a new measurement at
//! other places would give. Their error is taken to be the same at every place, in ratio; what the law itself misses far away is not in the
//! limits.

use crate::bounds::Measured;
use crate::dense::{Cholesky, Matrix, dot};
use crate::error::{Error, Result, check_len, check_positive};
use crate::special::student_quantile;

/// A fitted power law.
#[derive(Debug, Clone)]
pub struct PowerLaw {
    variables: Vec<Variable>,
    /// ln c at the mean place, then the exponents of the variables that vary.
    coefficients: Vec<f64>,
    /// (XᵀX)⁻¹ of the same order.
    spread: Matrix,
    /// s, of ln y.
    deviation: f64,
    degrees: usize,
}

/// A variable as it was measured.
#[derive(Debug, Clone)]
struct Variable {
    name: &'static str,
    least: f64,
    greatest: f64,
    /// The mean of its logarithms.
    center: f64,
}

impl Variable {
    fn varies(&self) -> bool {
        self.least < self.greatest
    }
}

impl PowerLaw {
    /// Fits y at the places of these variables; one that does not vary has no exponent.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Argument`] for a number that is not positive and finite, or for no more places than coefficients;
    /// [`Error::Numerical`] where the variables vary together only.
    pub fn fit(variables: &[(&'static str, &[f64])], y: &[f64]) -> Result<Self> {
        for &(name, x) in variables {
            check_len(name, x.len(), y.len())?;
            x.iter().try_for_each(|&x| check_positive(name, x))?;
        }
        y.iter().try_for_each(|&y| check_positive("y", y))?;
        let described = |&(name, x): &(&'static str, &[f64])| Variable {
            name,
            least: x.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: x.iter().copied().fold(0.0, f64::max),
            center: x.iter().map(|x| x.ln()).sum::<f64>() / x.len().max(1) as f64,
        };
        let described: Vec<Variable> = variables.iter().map(described).collect();
        let columns: Vec<Vec<f64>> = std::iter::once(vec![1.0; y.len()])
            .chain(
                variables
                    .iter()
                    .zip(&described)
                    .filter(|(_, variable)| variable.varies())
                    .map(|((_, x), variable)| x.iter().map(|x| x.ln() - variable.center).collect()),
            )
            .collect();
        let count = columns.len();
        if y.len() <= count {
            return Err(Error::argument("places", format_args!("at least {} for {count} coefficients", count + 1), y.len()));
        }
        let logs: Vec<f64> = y.iter().map(|y| y.ln()).collect();
        let factor = Cholesky::new(Matrix::from_fn(count, count, |i, j| dot(&columns[i], &columns[j])))?;
        let coefficients = factor.solve(&columns.iter().map(|column| dot(column, &logs)).collect::<Vec<_>>())?;
        let mut spread = Matrix::identity(count);
        factor.solve_in_place(&mut spread)?;
        let fitted = |place: usize| columns.iter().zip(&coefficients).map(|(column, c)| c * column[place]).sum::<f64>();
        let squares: f64 = logs.iter().enumerate().map(|(place, log)| (log - fitted(place)).powi(2)).sum();
        let degrees = y.len() - count;
        Ok(Self { variables: described, coefficients, spread, deviation: (squares / degrees as f64).sqrt(), degrees })
    }

    /// 1 and the centred logarithms of the variables that vary.
    fn row(&self, at: &[f64]) -> Result<Vec<f64>> {
        check_len("place", at.len(), self.variables.len())?;
        let mut row = vec![1.0];
        for (variable, &x) in self.variables.iter().zip(at) {
            check_positive(variable.name, x)?;
            if variable.varies() {
                row.push(x.ln() - variable.center);
            } else if x != variable.least {
                let expected = format!("{}, the only one that was measured", variable.least);
                return Err(Error::argument(variable.name, expected, x));
            }
        }
        Ok(row)
    }

    /// y at a place by the law.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn value(&self, at: &[f64]) -> Result<f64> {
        Ok(dot(&self.row(at)?, &self.coefficients).exp())
    }

    /// y at a place by the law, and limits for a measurement there: ln y ± t(N − k, (1 + confidence)/2) · s · √(1 + xᵀ(XᵀX)⁻¹x).
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Argument`] for a number that is not positive, or another one of a variable that did not vary.
    pub fn at(&self, at: &[f64], confidence: f64) -> Result<Measured> {
        let row = self.row(at)?;
        let log = dot(&row, &self.coefficients);
        let scattered: Vec<f64> = (0..row.len()).map(|j| dot(self.spread.col(j), &row)).collect();
        let quantile = student_quantile(self.degrees as f64, 0.5 * (1.0 + confidence))?;
        let half = quantile * self.deviation * (1.0 + dot(&scattered, &row)).sqrt();
        Ok(Measured { value: log.exp(), low: (log - half).exp(), high: (log + half).exp() })
    }

    /// The exponent of a variable with its limits; none where it did not vary.
    ///
    /// # Errors
    /// As [`student_quantile`].
    pub fn exponent(&self, name: &str, confidence: f64) -> Result<Option<Measured>> {
        let varying = self.variables.iter().filter(|variable| variable.varies());
        let Some(place) = varying.enumerate().find(|(_, variable)| variable.name == name).map(|(place, _)| place) else {
            return Ok(None);
        };
        let half = student_quantile(self.degrees as f64, 0.5 * (1.0 + confidence))?
            * self.deviation
            * self.spread[(place + 1, place + 1)].sqrt();
        let value = self.coefficients[place + 1];
        Ok(Some(Measured { value, low: value - half, high: value + half }))
    }

    /// How many times a place lies beyond what was measured: 1 inside.
    pub fn beyond(&self, at: &[f64]) -> f64 {
        let outside = |(variable, x): (&Variable, &f64)| (x / variable.greatest).max(variable.least / x).max(1.0);
        self.variables.iter().zip(at).map(outside).fold(1.0, f64::max)
    }
}
