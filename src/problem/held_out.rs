//! Which outer samples are held out in a fold.

use crate::error::{Error, Result};

/// The outer samples of a fold: every `folds`-th, starting at the `fold`-th, is held out.
pub(super) struct Fold {
    /// The samples to fit on.
    pub(super) kept: Vec<usize>,
    /// The samples that judge.
    pub(super) held_out: Vec<usize>,
}

impl Fold {
    /// Parts `count` samples.
    ///
    /// # Errors
    /// [`Error::Argument`] for fewer than two folds, a fold that is not there, or more folds than samples.
    pub(super) fn new(count: usize, fold: usize, folds: usize) -> Result<Self> {
        if !(2..=count).contains(&folds) {
            return Err(Error::argument("folds", format_args!("between 2 and the {count} outer samples"), folds));
        }
        if fold >= folds {
            return Err(Error::argument("fold", format_args!("below the {folds} folds"), fold));
        }
        let (held_out, kept) = (0..count).partition(|i| i % folds == fold);
        Ok(Self { kept, held_out })
    }
}
