//! How much of a long stream an estimate takes where nobody says otherwise.

/// So many samples of every so many batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// m: samples of a batch.
    pub samples: usize,
    /// s: every s-th batch.
    pub every: u64,
    /// Whether a sample should come with the rows of all its labels, as in the expected Fisher matrix, instead of with one label's: that one is
    /// drawn is most of what makes few samples noisy.
    pub all_labels: bool,
}

impl Feed {
    /// Batches of inner SGD differ little from one to the next, and an estimate that is kept sees many of them.
    const EVERY: u64 = 10;

    /// ℓ samples with a label each, of every tenth batch, where each row costs as much as the next.
    pub(super) fn of_rows(size: usize) -> Self {
        Self { samples: size, every: Self::EVERY, all_labels: false }
    }

    /// ℓ/2 samples with all labels, of every tenth batch, where the rows of a sample share their inputs and cost hardly more than one.
    pub(super) fn of_samples(size: usize) -> Self {
        Self { samples: size.div_ceil(2), every: Self::EVERY, all_labels: true }
    }
}
