//! A stream of stored gradient rows to feed a curvature with: entries uniform on [−½, ½), so that no direction stands out and no sketch
//! holds them all. Where memory allows, blocks are drawn once and taken in turn; of larger ones there is one, which is drawn anew.

use crate::dense::Matrix;
use crate::error::Result;
use crate::gradient::{DenseRows, GradientBlock};
use crate::par;
use crate::rng::Key;

/// The most bytes that blocks which are taken in turn may have.
const KEPT: usize = 1 << 28;
/// Numbers that are drawn from one stream.
const CHUNK: usize = 1 << 16;

/// Blocks without end.
pub(super) struct Source {
    key: Key,
    drawn: u64,
    blocks: Vec<GradientBlock>,
    next: usize,
}

impl Source {
    /// Blocks of `rows` rows of length `dim`, at least `distinct` rows before they repeat.
    pub(super) fn new(dim: usize, rows: usize, distinct: usize, key: Key) -> Result<Self> {
        let count = distinct.div_ceil(rows).max(1);
        let kept = if count.saturating_mul(block_bytes(dim, rows)) <= KEPT { count } else { 1 };
        let mut source = Self { key, drawn: 0, blocks: Vec::new(), next: 0 };
        for _ in 0..kept {
            let block = source.draw(Matrix::zeros(dim, rows))?;
            source.blocks.push(block);
        }
        Ok(source)
    }

    /// Bytes that it holds beside the one block that any stream holds.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.blocks.iter().skip(1).map(|block| block.bytes() as u64).sum()
    }

    /// Whether a block costs nothing.
    pub(super) fn is_kept(&self) -> bool {
        self.blocks.len() > 1
    }

    fn draw(&mut self, mut numbers: Matrix) -> Result<GradientBlock> {
        let key = self.key.child(self.drawn);
        self.drawn += 1;
        par::for_chunks(numbers.as_mut_slice(), CHUNK, |chunk, numbers| {
            let mut stream = key.child(chunk as u64).stream();
            numbers.fill_with(|| stream.uniform() - 0.5);
        });
        Ok(DenseRows::new(numbers, 1)?.into())
    }

    /// The next block.
    pub(super) fn block(&mut self) -> Result<&GradientBlock> {
        let place = self.next % self.blocks.len();
        let is_used = self.next > 0;
        self.next += 1;
        if !self.is_kept() && is_used {
            // In the place of the last one: fresh memory of this size takes longer than to use it.
            if let Some(GradientBlock::Dense(rows)) = self.blocks.pop() {
                let block = self.draw(rows.into_transposed())?;
                self.blocks.push(block);
            }
        }
        Ok(&self.blocks[place])
    }
}

/// The bytes of a block.
fn block_bytes(dim: usize, rows: usize) -> usize {
    dim.saturating_mul(rows).saturating_mul(size_of::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_blocks_come_in_turn_and_large_ones_are_drawn_anew() {
        let mut kept = Source::new(5, 4, 10, Key::new(1)).unwrap();
        let blocks: Vec<GradientBlock> = (0..4).map(|_| kept.block().unwrap().clone()).collect();
        assert!(blocks[0] == blocks[3] && blocks[0] != blocks[1] && blocks[1] != blocks[2]);
        assert_eq!(kept.spare_bytes(), 2 * 5 * 4 * 8);
        let mut large = Source { key: Key::new(1), drawn: 0, blocks: Vec::new(), next: 0 };
        let only = large.draw(Matrix::zeros(5, 4)).unwrap();
        large.blocks.push(only);
        let drawn: Vec<GradientBlock> = (0..3).map(|_| large.block().unwrap().clone()).collect();
        assert_eq!(drawn, blocks[..3], "the same blocks, whether they are kept or not");
        assert_eq!((large.spare_bytes(), large.blocks.len()), (0, 1));
    }
}
