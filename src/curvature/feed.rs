//! How much of a long stream an estimate takes where nobody says otherwise.

/// So many samples of every so many batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// m: samples of a batch.
    pub samples: usize,
    /// s: every s-th batch.
    pub every: u64,
}

impl Feed {
    /// Batches of inner SGD differ little from one to the next, and an estimate that is kept sees many of them.
    const EVERY: u64 = 10;

    /// What a sketch of ℓ columns takes: ℓ samples of every tenth batch. Absorbing all of every batch costs some thirty gradients, this a quarter
    /// of one; after 400 batches of 1,024 the error of a hypergradient is between 1.1 and 1.2 times that with all samples (measured on MNIST,
    /// ℓ = 64: `docs/performance.md`), and it falls with more batches.
    pub(super) fn of_sketch(size: usize) -> Self {
        Self { samples: size, every: Self::EVERY }
    }
}
