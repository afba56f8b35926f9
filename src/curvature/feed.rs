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

    /// What a sketch of ℓ columns takes: ℓ samples of every tenth batch. Absorbing m samples costs about mℓ/B gradients on B of them, and
    /// a decaying sketch that has seen many times ℓ is limited by its columns, not by its samples (`docs/scale.md`, the experiment
    /// `curvature-samples`).
    pub(super) fn of_sketch(size: usize) -> Self {
        Self { samples: size, every: Self::EVERY }
    }
}
