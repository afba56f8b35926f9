//! What is to be predicted of each sample: a class, a number or a vector.

use super::Batch;
use crate::error::{Error, Result, check_count, check_finite, check_len};

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Targets {
    /// Class numbers below `classes`.
    Classes {
        /// y_i, one a sample.
        labels: Vec<u32>,
        /// The number of classes.
        classes: usize,
    },
    /// Real numbers.
    Real {
        /// y_i, one a sample.
        values: Vec<f64>,
    },
    /// Real vectors.
    Vectors {
        /// y_i, one after the other.
        values: Vec<f64>,
        /// The numbers of a sample.
        width: usize,
    },
}

impl Targets {
    /// Class labels.
    ///
    /// # Errors
    /// [`Error::Argument`] for a label of `classes` or more (with its position), or no classes at all.
    pub fn classes(labels: Vec<u32>, classes: usize) -> Result<Self> {
        check_count("classes", classes)?;
        match labels.iter().position(|&y| y as usize >= classes) {
            None => Ok(Self::Classes { labels, classes }),
            Some(i) => {
                Err(Error::argument("labels", format_args!("labels below {classes}"), format_args!("{} at sample {i}", labels[i])))
            }
        }
    }

    /// Real targets.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn real(values: Vec<f64>) -> Result<Self> {
        check_finite("targets", &values)?;
        Ok(Self::Real { values })
    }

    /// Real vectors of `width` numbers, one after the other.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Argument`] for a width of 0, [`Error::Shape`] if the last vector is cut short.
    pub fn vectors(values: Vec<f64>, width: usize) -> Result<Self> {
        check_finite("targets", &values)?;
        check_count("target width", width)?;
        check_len("targets", values.len(), values.len().div_ceil(width) * width)?;
        Ok(Self::Vectors { values, width })
    }

    /// What the targets are, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Self::Classes { .. } => "class labels",
            Self::Real { .. } => "real numbers",
            Self::Vectors { .. } => "real vectors",
        }
    }

    /// The labels and the number of classes.
    ///
    /// # Errors
    /// [`Error::Argument`] for targets of another kind.
    pub fn as_classes(&self) -> Result<(&[u32], usize)> {
        match self {
            Self::Classes { labels, classes } => Ok((labels, *classes)),
            _ => Err(Error::argument("targets", "class labels", self.kind())),
        }
    }

    /// The real targets.
    ///
    /// # Errors
    /// [`Error::Argument`] for targets of another kind.
    pub fn as_real(&self) -> Result<&[f64]> {
        match self {
            Self::Real { values } => Ok(values),
            _ => Err(Error::argument("targets", "real numbers", self.kind())),
        }
    }

    /// The real vectors, one after the other, and their width; real numbers are vectors of width 1.
    ///
    /// # Errors
    /// [`Error::Argument`] for targets of another kind.
    pub fn as_vectors(&self) -> Result<(&[f64], usize)> {
        match self {
            Self::Real { values } => Ok((values, 1)),
            Self::Vectors { values, width } => Ok((values, *width)),
            Self::Classes { .. } => Err(Error::argument("targets", "real numbers or vectors", self.kind())),
        }
    }

    /// The number of targets.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Real { values } => values.len(),
            Self::Vectors { values, width } => values.len() / width,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets at `indices`, in that order.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index out of range or none at all.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        Batch::Indices(indices).check(self.len())?;
        match self {
            Self::Classes { labels, classes } => {
                Ok(Self::Classes { labels: indices.iter().map(|&i| labels[i]).collect(), classes: *classes })
            }
            Self::Real { values } => Ok(Self::Real { values: indices.iter().map(|&i| values[i]).collect() }),
            Self::Vectors { values, width } => {
                let picked = indices.iter().flat_map(|&i| &values[i * width..(i + 1) * width]).copied().collect();
                Ok(Self::Vectors { values: picked, width: *width })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_picked_in_order_and_know_their_kind() {
        let (classes, real) = (Targets::classes(vec![2, 0, 1], 3).unwrap(), Targets::real(vec![0.5, -1.0, 2.0]).unwrap());
        assert_eq!(classes.select(&[2, 0, 0]).unwrap().as_classes().unwrap(), ([1, 2, 2].as_slice(), 3));
        assert_eq!(real.select(&[2, 0, 0]).unwrap().as_real().unwrap(), [2.0, 0.5, 0.5]);
        assert_eq!((real.len(), real.is_empty()), (3, false));
        assert!(real.select(&[3]).is_err());
        let vectors = Targets::vectors(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2).unwrap();
        assert_eq!(vectors.len(), 3);
        assert_eq!(vectors.select(&[2, 0]).unwrap().as_vectors().unwrap(), ([5.0, 6.0, 1.0, 2.0].as_slice(), 2));
        assert_eq!(real.as_vectors().unwrap(), ([0.5, -1.0, 2.0].as_slice(), 1));
        assert!(vectors.as_real().unwrap_err().to_string().ends_with("real vectors") && classes.as_vectors().is_err());
        assert_eq!(Targets::vectors(vec![0.0; 5], 2).unwrap_err().offending_argument(), Some("targets"));
        assert_eq!(Targets::vectors(vec![0.0; 4], 0).unwrap_err().offending_argument(), Some("target width"));
        assert!(Targets::vectors(vec![f64::NAN; 2], 2).is_err());
        for (error, found) in [(classes.as_real().unwrap_err(), "class labels"), (real.as_classes().unwrap_err(), "real numbers")] {
            assert!(error.to_string().starts_with("targets: expected") && error.to_string().ends_with(found), "{error}");
        }
    }
}
