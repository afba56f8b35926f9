//! Which samples an operation uses.

use crate::error::{Error, Result};

/// Which samples an operation uses. Means are over the batch's entries, repeated ones included.
#[derive(Debug, Clone, Copy)]
pub enum Batch<'a> {
    /// Every sample, in order.
    All,
    /// These samples, in this order; repetition is allowed.
    Indices(&'a [usize]),
}

impl<'a> Batch<'a> {
    /// The number of entries, out of `samples` in all.
    pub fn len(self, samples: usize) -> usize {
        match self {
            Self::All => samples,
            Self::Indices(indices) => indices.len(),
        }
    }

    /// The sample at position `position` of the batch.
    ///
    /// # Panics
    /// If there are indices, and none there.
    pub fn index(self, position: usize) -> usize {
        match self {
            Self::All => position,
            Self::Indices(indices) => indices[position],
        }
    }

    /// The first `count` entries.
    pub fn first(self, count: usize, all: &'a [usize]) -> Batch<'a> {
        let indices = match self {
            Self::All => all,
            Self::Indices(indices) => indices,
        };
        Batch::Indices(&indices[..count.min(indices.len())])
    }

    /// The batch's sample numbers.
    pub fn iter(self, samples: usize) -> impl ExactSizeIterator<Item = usize> + 'a {
        (0..self.len(samples)).map(move |position| self.index(position))
    }

    /// Checks that the batch is not empty and that every index lies below `samples`.
    ///
    /// # Errors
    /// [`Error::Argument`] otherwise.
    pub fn check(self, samples: usize) -> Result<()> {
        if self.len(samples) == 0 {
            return Err(Error::argument("batch", "at least 1 sample", "an empty batch"));
        }
        match self {
            Self::All => Ok(()),
            Self::Indices(indices) => match indices.iter().find(|&&i| i >= samples) {
                None => Ok(()),
                Some(i) => Err(Error::argument("batch", format_args!("indices below {samples}"), i)),
            },
        }
    }
}
