//! Frequent Directions (Ghashami, Liberty, Phillips & Woodruff 2016): a buffer B of at most ℓ rows stands for all that came. When rows
//! have gathered, the buffer is rotated to its singular directions and every squared singular value is lowered by δ = σ²_{ℓ+1}; the sum D
//! of the δ is all that was lost: 0 ≼ F − BᵀB/n ≼ (D/n)I, whatever the chunks. The shrink works through the small Gram matrix of
//! buffer and new rows, never a tall SVD, so that factored rows are not expanded.
//!
//! Unlike a well-known reference implementation, a query rotates what is still waiting: no row is forgotten.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::probes::{self, Kept, Probes};
use super::{Approximation, Certainty, Curvature, Feed, Interval, LowRank};
use crate::dense::{CompensatedSum, Matrix, eigh, matmul_in_place};
use crate::error::{Error, Result, check_count};
use crate::gradient::{DenseRows, GradientBlock};
use crate::par;
use crate::rng::Key;

/// Times ℓ: the most rows that a shrink takes at once.
const MOST_AT_ONCE: usize = 3;

/// The settings of [`FrequentDirections`] and of its robust form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// ℓ: the rows that a shrink keeps, at most d.
    pub sketch_size: usize,
    /// q: Gaussian probes for a tighter bound where the spectrum is flat; 0 for none.
    pub probes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { sketch_size: 64, probes: 0 }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("sketch_size", self.sketch_size)
    }
}

/// The buffer with what was lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FrequentDirections {
    dim: usize,
    size: usize,
    key: Key,
    /// Bᵀ, d × at most ℓ, not divided by the mass.
    buffer: Matrix,
    /// Rows that no shrink has seen yet, as they came.
    waiting: Vec<GradientBlock>,
    /// D = Σ δ.
    lost: f64,
    mass: f64,
    /// Σ w ‖s‖² = mass · tr F.
    trace: CompensatedSum,
    /// Σ over the shrinks of what they may have rounded and what rounding hid from them.
    rounding: f64,
    #[serde(with = "probes::saved")]
    probes: Option<Probes>,
}

impl FrequentDirections {
    /// The registry name.
    pub const NAME: &'static str = "frequent-directions";

    /// An empty sketch for d = `dim`; `key` draws the probes.
    ///
    /// # Errors
    /// [`Error::Argument`] for a sketch size of 0 or above d.
    pub fn new(dim: usize, config: &Config, key: Key) -> Result<Self> {
        check_count("dim", dim)?;
        config.validate()?;
        let size = config.sketch_size;
        if size > dim {
            return Err(Error::argument("sketch_size", format_args!("at most the dimension {dim}"), size));
        }
        Ok(Self {
            dim,
            size,
            key,
            buffer: Matrix::zeros(dim, 0),
            waiting: Vec::new(),
            lost: 0.0,
            mass: 0.0,
            trace: CompensatedSum::default(),
            rounding: 0.0,
            probes: Probes::new(dim, config.probes, key, Kept::Stored)?,
        })
    }

    /// ℓ.
    pub fn sketch_size(&self) -> usize {
        self.size
    }

    /// Δ = D/n, what was lost in any one direction at most.
    pub fn lost(&self) -> f64 {
        if self.mass > 0.0 { self.lost / self.mass } else { 0.0 }
    }

    /// Replaces the buffer by the rotation of itself and the `parts` below it: columns whose squared norms descend. `lower` is told the
    /// squares σ² and says what is subtracted from each; what is not positive then is dropped. Returns what was subtracted, and what may
    /// have been lost beside it: 4ε·√rows·σ₁² to rounding, and what was dropped because rounding hides it.
    ///
    /// b rows cost d·(b² + 2bℓ + ℓ²) flops for the Gram matrix and 2d(ℓ + b)ℓ for the rotation: d·(4ℓ + b + 3ℓ²/b) a row, least at b = √3·ℓ
    /// and within a seventh of it from ℓ to 3ℓ.
    fn rotate(buffer: &mut Matrix, parts: &[&GradientBlock], lower: impl Fn(&[f64]) -> f64) -> Result<(f64, f64)> {
        let kept = buffer.ncols();
        let starts: Vec<usize> = parts
            .iter()
            .scan(kept, |start, part| {
                *start += part.rows();
                Some(*start - part.rows())
            })
            .collect();
        let total = kept + parts.iter().map(|part| part.rows()).sum::<usize>();
        // The lower triangle of the Gram matrix, block by block.
        let mut gram = Matrix::zeros(total, total);
        let mut place = |row: usize, column: usize, block: &Matrix| {
            (0..block.ncols()).for_each(|j| gram.col_mut(column + j)[row..row + block.nrows()].copy_from_slice(block.col(j)));
        };
        place(0, 0, &crate::dense::gram(buffer.t()));
        for (i, part) in parts.iter().enumerate() {
            place(starts[i], 0, &part.project(buffer)?);
            for (j, earlier) in parts[..i].iter().enumerate() {
                place(starts[i], starts[j], &part.cross_gram(earlier)?);
            }
            place(starts[i], starts[i], &part.gram()?);
        }
        let eigen = eigh(&gram)?;
        let top = eigen.values.first().copied().unwrap_or(0.0).max(0.0);
        let delta = lower(&eigen.values);
        // Below rounding a square is noise, and its direction a division by it.
        let floor = delta.max(top * f64::EPSILON * total as f64);
        let rank = eigen.values.iter().take_while(|&&value| value > floor).count();
        // The largest square that is dropped is lost whole, which may be more than δ.
        let dropped = eigen.values.get(rank).map_or(0.0, |&value| (value - delta).max(0.0));
        let coefficients =
            Matrix::from_fn(total, rank, |i, j| eigen.vectors[(i, j)] * ((eigen.values[j] - delta) / eigen.values[j]).sqrt());
        matmul_in_place(buffer, coefficients.rows(0..kept))?;
        if rank > 0 {
            for (part, &start) in parts.iter().zip(&starts) {
                part.accumulate_into(&coefficients.rows(start..start + part.rows()).to_matrix(), buffer)?;
            }
        }
        Ok((delta, 4.0 * f64::EPSILON * (total as f64).sqrt() * top + dropped))
    }

    /// Shrinks the buffer with what waits and `part` below it.
    fn shrink(&mut self, part: Option<&GradientBlock>) -> Result<()> {
        let size = self.size;
        let waiting = std::mem::take(&mut self.waiting);
        let parts: Vec<_> = waiting.iter().chain(part).collect();
        let lower = |squares: &[f64]| squares.get(size).copied().unwrap_or(0.0).max(0.0);
        let (delta, rounding) = Self::rotate(&mut self.buffer, &parts, lower)?;
        self.lost += delta;
        self.rounding += rounding;
        Ok(())
    }

    /// Shrinks what waits if it has grown to `least` rows.
    fn settle(&mut self, least: usize) -> Result<()> {
        if self.waiting_rows() >= least.max(1) { self.shrink(None) } else { Ok(()) }
    }

    fn waiting_rows(&self) -> usize {
        self.waiting.iter().map(GradientBlock::rows).sum()
    }

    /// Takes rows that are few enough for one shrink: with ℓ they shrink at once, uncopied; fewer wait.
    fn take(&mut self, part: &GradientBlock) -> Result<()> {
        if self.waiting_rows() + part.rows() >= self.size {
            return self.shrink(Some(part));
        }
        self.waiting.push(part.clone());
        Ok(())
    }

    /// Whether rows of this form can stand beside those that wait.
    fn fits(&self, block: &GradientBlock) -> bool {
        self.waiting.last().is_none_or(|last| GradientBlock::stack(&[&last.part(0..1), &block.part(0..1)]).is_ok())
    }

    /// F̂ = BᵀB/n + shift·I: `shift` of Δ.
    pub(super) fn approximation(&self, shift: impl Fn(f64) -> f64) -> Result<LowRank> {
        if self.mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        let mut rotated = self.buffer.clone();
        let (_, last) = Self::rotate(&mut rotated, &self.waiting.iter().collect::<Vec<_>>(), |_| 0.0)?;
        let rounding = (self.rounding + last) / self.mass;
        let interval = Interval { lo: -rounding, hi: self.lost() + rounding, certainty: Certainty::Deterministic {} };
        // The zero matrix still has one (zero) row: a block is never empty.
        let rows = if rotated.ncols() == 0 { Matrix::zeros(self.dim, 1) } else { rotated };
        let probed = match &self.probes {
            None => None,
            Some(probes) => Some(probes.residual(self.mass, &rows, self.mass)?),
        };
        let plain = LowRank::new(DenseRows::new(rows, 1)?.into(), self.mass, Some(interval))?;
        plain.with_probes(probed).with_shift(shift(self.lost()))
    }
}

impl Curvature for FrequentDirections {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn mass(&self) -> f64 {
        self.mass
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        let squared_norms = super::check_block(block, self.dim)?;
        if let Some(probes) = &mut self.probes {
            probes.absorb(block, &squared_norms)?;
        }
        self.mass += block.samples() as f64;
        squared_norms.iter().for_each(|&s| self.trace.add(s));
        if !self.fits(block) {
            self.settle(1)?;
        }
        let parts = block.rows().div_ceil(MOST_AT_ONCE * self.size);
        if parts == 1 {
            return self.take(block);
        }
        for range in par::blocks(block.samples(), block.samples().div_ceil(parts)) {
            self.take(&block.part(range))?;
        }
        Ok(())
    }

    fn feed(&self) -> Option<Feed> {
        Some(Feed::of_rows(self.sketch_size()))
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        if gamma == 0.0 {
            return Ok(());
        }
        let root = (1.0 - gamma).sqrt();
        self.buffer.scale(root);
        self.waiting.iter_mut().for_each(|block| block.scale(root));
        self.mass *= 1.0 - gamma;
        self.lost *= 1.0 - gamma;
        self.rounding *= 1.0 - gamma;
        self.trace.scale(1.0 - gamma);
        if let Some(probes) = &mut self.probes {
            probes.decay(gamma);
        }
        Ok(())
    }

    /// Stacks the buffers: D = D₁ + D₂ and what the merge itself loses.
    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        let probes = |s: &Self| s.probes.as_ref().map_or(0, Probes::count);
        let same_probes = probes(self) == probes(other) && (probes(self) == 0 || self.key == other.key);
        if (other.dim, other.size) != (self.dim, self.size) || !same_probes {
            let shape = |s: &Self| format!("d = {}, ℓ = {}, {} probes of {:?}", s.dim, s.size, probes(s), s.key);
            let what = format!("merging the sketch ({}) into ({})", shape(other), shape(self));
            return Err(Error::unsupported(what, "build both with the same dimension and sketch size, and probes of one seed"));
        }
        if other.mass == 0.0 {
            return Ok(());
        }
        if let (Some(mine), Some(others)) = (&mut self.probes, &other.probes) {
            mine.merge(others)?;
        }
        self.mass += other.mass;
        self.lost += other.lost;
        self.rounding += other.rounding;
        self.trace.add(other.trace.value());
        self.settle(1)?;
        if other.buffer.ncols() > 0 {
            self.shrink(Some(&DenseRows::new(other.buffer.clone(), 1)?.into()))?;
        }
        self.waiting.extend(other.waiting.iter().cloned());
        self.settle(self.size)
    }

    fn grow(&mut self, size: usize) -> Result<()> {
        super::check_growth(self.size, size, self.dim)?;
        self.size = size;
        Ok(())
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        Ok(Box::new(self.approximation(|_| 0.0)?))
    }

    fn trace(&self) -> Option<f64> {
        (self.mass > 0.0).then(|| self.trace.value() / self.mass)
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(Self::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}
