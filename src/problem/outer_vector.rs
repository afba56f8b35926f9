//! Vectors of v's length of which a batch decides only some entries.

use crate::dense::axpy;
use crate::error::{Error, Result, all_finite, check_len};

/// A vector of d1 numbers: a part of a hypergradient. Where v has an entry for each sample, a batch touches few of them, and a step along such a
/// vector costs what the batch does.
#[derive(Debug, Clone, PartialEq)]
pub struct OuterVector(Form);

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Zero(usize),
    /// Every place is below `len`.
    Entries {
        len: usize,
        entries: Vec<(usize, f64)>,
    },
    Dense(Vec<f64>),
}

/// Every number.
impl From<Vec<f64>> for OuterVector {
    fn from(values: Vec<f64>) -> Self {
        Self(Form::Dense(values))
    }
}

impl OuterVector {
    /// So many zeros: f does not depend on v.
    pub fn zero(len: usize) -> Self {
        Self(Form::Zero(len))
    }

    /// Numbers at some places of a vector of `len`, as (place, number); those at the same place add up.
    ///
    /// # Errors
    /// [`Error::Argument`] for a place that is not below `len`.
    pub fn entries(len: usize, entries: Vec<(usize, f64)>) -> Result<Self> {
        match entries.iter().find(|(place, _)| *place >= len) {
            None => Ok(Self(Form::Entries { len, entries })),
            Some((place, _)) => Err(Error::argument("entries", format_args!("places below {len}"), place)),
        }
    }

    /// d1.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Zero(len) | Form::Entries { len, .. } => *len,
            Form::Dense(values) => values.len(),
        }
    }

    /// Whether d1 is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// y ← y + αx for this vector x, under its name. Whether the entries of y that changed are finite.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ.
    pub fn add_to(&self, argument: &'static str, alpha: f64, y: &mut [f64]) -> Result<bool> {
        check_len(argument, self.len(), y.len())?;
        Ok(match &self.0 {
            Form::Zero(_) => true,
            Form::Entries { entries, .. } => {
                entries.iter().for_each(|&(i, x)| y[i] += alpha * x);
                entries.iter().all(|&(i, _)| y[i].is_finite())
            }
            Form::Dense(values) => {
                axpy(alpha, values, y);
                all_finite(y)
            }
        })
    }

    /// x ← x + α·other, under the other's name.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ.
    pub fn add_scaled(&mut self, argument: &'static str, alpha: f64, other: Self) -> Result<()> {
        check_len(argument, other.len(), self.len())?;
        match (&mut self.0, other.0) {
            (_, Form::Zero(_)) => {}
            (mine @ Form::Zero(_), mut form) => {
                match &mut form {
                    Form::Entries { entries, .. } => entries.iter_mut().for_each(|(_, x)| *x *= alpha),
                    Form::Dense(values) => values.iter_mut().for_each(|x| *x *= alpha),
                    Form::Zero(_) => {}
                }
                *mine = form;
            }
            (mine, form) => {
                let mut values = Self(std::mem::replace(mine, Form::Zero(0))).into_vec();
                Self(form).add_to(argument, alpha, &mut values)?;
                *mine = Form::Dense(values);
            }
        }
        Ok(())
    }

    /// All d1 numbers, of a vector that is still needed.
    pub fn to_vec(&self) -> Vec<f64> {
        self.clone().into_vec()
    }

    /// All d1 numbers.
    pub fn into_vec(self) -> Vec<f64> {
        match self.0 {
            Form::Zero(len) => vec![0.0; len],
            Form::Entries { len, entries } => {
                let mut values = vec![0.0; len];
                entries.into_iter().for_each(|(i, x)| values[i] += x);
                values
            }
            Form::Dense(values) => values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms() -> [OuterVector; 3] {
        let entries = vec![(1, 2.0), (3, -1.0), (1, 0.5)];
        [OuterVector::zero(4), OuterVector::entries(4, entries).unwrap(), vec![1.0, -2.0, 3.0, -4.0].into()]
    }

    #[test]
    fn sums_are_those_of_the_dense_vectors() {
        assert_eq!(forms()[1].clone().into_vec(), [0.0, 2.5, 0.0, -1.0]);
        for x in forms() {
            for y in forms() {
                let (dense_x, dense_y) = (x.clone().into_vec(), y.clone().into_vec());
                let expected: Vec<f64> = dense_x.iter().zip(&dense_y).map(|(x, y)| x - 2.0 * y).collect();
                let (mut sum, mut slice) = (x.clone(), dense_x);
                sum.add_scaled("y", -2.0, y.clone()).unwrap();
                assert_eq!(sum.into_vec(), expected);
                assert!(y.add_to("y", -2.0, &mut slice).unwrap());
                assert_eq!(slice, expected);
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows_and_other_lengths_are_refused() {
        for x in forms() {
            let overflows = x != OuterVector::zero(4);
            assert_eq!(x.add_to("x", f64::MAX, &mut [1e308; 4]).unwrap(), !overflows);
            assert_eq!(x.add_to("x", 1.0, &mut [0.0; 3]).unwrap_err().offending_argument(), Some("x"));
            assert!(OuterVector::zero(5).add_scaled("x", 1.0, x).is_err());
        }
        assert!(!forms()[0].is_empty() && OuterVector::zero(0).is_empty());
        let outside = OuterVector::entries(4, vec![(0, 1.0), (4, 1.0)]).unwrap_err();
        assert!(outside.offending_argument() == Some("entries") && outside.to_string().contains("below 4"), "{outside}");
    }
}
