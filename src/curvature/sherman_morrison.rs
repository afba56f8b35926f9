//! What the paper's two dense families share (Kong, Chen, Zhang & Mou 2026): A = β'I + Σ w s sᵀ and its inverse P, which follows
//! row by row by the formula of Sherman & Morrison (1950), and the watch over P: wherever no row points, forgetting lets it grow
//! without bound. How the rows are weighed is the families' own affair ([`Weighting`]).
//!
//! Departs from the paper: A is kept beside P, at twice the memory. P cannot be inverted back once it has lost digits, whereas A
//! has all of them: F̂x, merging and forming P anew take A.

use std::borrow::Cow;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::dense::check_memory;
use super::{Approximation, Certainty, Curvature, Dense, Interval};
use crate::dense::{Cholesky, Matrix, dot, matvec, rank_one_update};
use crate::error::{Error, Result, Status, check_finite, check_len, check_positive};
use crate::gradient::{DenseRows, GradientBlock};
use crate::inverse::{Bracket, KnownCurvature};
use crate::operator::LinearOperator;
use crate::par;

/// P is formed anew once its trace is this many times the start's: half of the digits of its smaller entries are gone then.
const GROWTH_LIMIT: f64 = 1e8;
/// Rows that are expanded at once.
const CHUNK: usize = 64;

/// What an update is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateRows {
    /// One update for each sample, with its row (rows, if it has several).
    Samples,
    /// One update for each block, with the mean of its rows, as the paper runs it.
    BatchMean,
}

/// What the sum of the B rows √w s of a block is divided by in [`UpdateRows::BatchMean`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchScaling {
    /// √B: the expectation of u uᵀ is F where the scores have mean zero, and F + (B − 1)·mean·meanᵀ elsewhere.
    Corrected,
    /// B, the paper's: the expectation is F/B where the scores have mean zero.
    Literal,
}

/// What to do about a Λ' that is not zero: an inverse that is kept cannot add it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnKnownCurvature {
    /// Refuse it.
    Refuse,
    /// Take the inverse as it is, as the paper does.
    Ignore,
}

/// How a family weighs its rows.
pub trait Weighting: std::fmt::Debug + Clone + PartialEq + Serialize + Send + Sync + 'static {
    /// The family's registry name.
    const NAME: &'static str;

    /// What is left of A at each update, before its row is added.
    fn keep(&self) -> f64;

    /// What A begins with: the coefficient of I, and the mass that it counts for in the mean F̂.
    fn start(&self, beta: f64) -> (f64, f64);
}

/// The settings that both families have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) beta: f64,
    pub(super) rows: UpdateRows,
    pub(super) batch_scaling: BatchScaling,
    pub(super) known_curvature: OnKnownCurvature,
}

/// Checks that βI has an inverse.
pub(super) fn check_beta(beta: f64) -> Result<()> {
    check_positive("beta", beta)?;
    if beta.recip().is_finite() { Ok(()) } else { Err(Error::argument("beta", "a number whose reciprocal is finite", beta)) }
}

/// A = start·I + S and P = A⁻¹; F̂ = A / (mass of S + mass of the start).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DenseInverse<W> {
    weighting: W,
    settings: Settings,
    /// S with its mass, the number of updates, faded.
    sum: Dense,
    start: f64,
    start_mass: f64,
    /// Samples absorbed, faded.
    samples: f64,
    /// P, symmetric to the bit.
    inverse: Matrix,
    rebuilds: u64,
    growth: f64,
}

impl<W: Weighting> DenseInverse<W> {
    /// Nothing absorbed.
    pub(super) fn begin(dim: usize, weighting: W, settings: Settings, max_bytes: usize) -> Result<Self> {
        check_memory(dim, 2, max_bytes)?;
        let (start, start_mass) = weighting.start(settings.beta);
        check_positive("beta", start)?;
        let mut inverse = Matrix::identity(dim);
        inverse.scale(1.0 / start);
        let sum = Dense::new(dim, &super::DenseConfig { max_bytes }, crate::rng::Key::new(0))?;
        Ok(Self { weighting, settings, sum, start, start_mass, samples: 0.0, inverse, rebuilds: 0, growth: 1.0 })
    }

    /// The block of the rows to update with.
    fn updates<'a>(&self, block: &'a GradientBlock) -> Result<Cow<'a, GradientBlock>> {
        if self.settings.rows == UpdateRows::Samples {
            return Ok(Cow::Borrowed(block));
        }
        if block.rows() != block.samples() {
            let what = format!("the mean row of a block with {} rows a sample", block.rows() / block.samples());
            return Err(Error::unsupported(what, "take rows = \"samples\", or empirical or sampled labels"));
        }
        let mut mean = block.accumulate(&Matrix::from_fn(block.rows(), 1, |_, _| 1.0))?;
        let size = block.samples() as f64;
        mean.scale(match self.settings.batch_scaling {
            BatchScaling::Corrected => 1.0 / size.sqrt(),
            BatchScaling::Literal => 1.0 / size,
        });
        Ok(Cow::Owned(DenseRows::new(mean, 1)?.into()))
    }

    /// A ← keep·A + s sᵀ for one row after the other, `size` samples each, and P after it as long as it is of use; returns the growth
    /// of P. 10d² flops a row.
    fn follow(&mut self, updates: &GradientBlock, size: f64) -> Result<f64> {
        let rows_per_update = updates.rows() / updates.samples();
        let mut growth = self.grown();
        for range in par::blocks(updates.rows(), CHUNK) {
            let rows = updates.expand(range.clone())?;
            for (j, row) in range.enumerate() {
                // However many rows a sample has, it fades what was before it once and counts as one.
                let first = row.is_multiple_of(rows_per_update);
                let (keep, mass) = if first { (self.weighting.keep(), 1.0) } else { (1.0, 0.0) };
                self.sum.add_row(keep, rows.col(j), mass);
                self.start *= keep;
                self.start_mass *= keep;
                self.samples = keep * self.samples + size * mass;
                if within_limit(growth) {
                    update(&mut self.inverse, keep, rows.col(j))?;
                    growth = self.grown();
                }
            }
        }
        Ok(growth)
    }

    /// tr P, relative to the start's.
    fn grown(&self) -> f64 {
        self.inverse.trace() * (self.weighting.start(self.settings.beta).0 / self.inverse.nrows() as f64)
    }

    /// Keeps a sound P. Another one is formed anew from all that was absorbed, and A is given its start back: beginning again at βI
    /// would forget the rows, and leaving A as it is would change nothing, since it is A whose start has faded.
    fn watch(&mut self, growth: f64) -> Result<()> {
        if within_limit(growth) {
            return Ok(());
        }
        if !growth.is_nan() {
            self.growth = self.growth.max(growth.min(f64::MAX));
        }
        self.rebuilds += 1;
        (self.inverse, self.start) = invert(self.sum.sum(), self.weighting.start(self.settings.beta).0)?;
        Ok(())
    }
}

/// Not where it is NaN: so [`update`] marks a P that is not positive definite.
fn within_limit(growth: f64) -> bool {
    growth <= GROWTH_LIMIT
}

/// P ← P' − P's sᵀP' / (1 + sᵀP's) with P' = P/keep, symmetric to the bit. Where rounding left P without a positive sᵀPs, or it
/// overflows, P becomes NaN.
fn update(p: &mut Matrix, keep: f64, s: &[f64]) -> Result<()> {
    let mut z = matvec(&*p, s)?;
    let leverage = dot(s, &z) / keep;
    let sound = leverage >= 0.0 && leverage.is_finite();
    let root = if sound { keep * (1.0 + leverage).sqrt() } else { f64::NAN };
    z.iter_mut().for_each(|z| *z /= root);
    rank_one_update(p, 1.0 / keep, -1.0, &z);
    Ok(())
}

/// (start·I + S)⁻¹ by Cholesky, 7d³/3 flops, and the start: where rounding leaves A not positive definite, one that spares half of
/// the digits.
fn invert(sum: &Matrix, start: f64) -> Result<(Matrix, f64)> {
    let d = sum.nrows();
    let factorize = |start: f64| {
        let mut a = sum.clone();
        (0..d).for_each(|i| a[(i, i)] += start);
        Cholesky::new(a)
    };
    let (factor, start) = match factorize(start) {
        Err(Error::Numerical { .. }) => {
            let least = start.max(sum.trace() / GROWTH_LIMIT);
            (factorize(least)?, least)
        }
        factor => (factor?, start),
    };
    let mut inverse = Matrix::identity(d);
    factor.solve_in_place(&mut inverse)?;
    Ok((Matrix::from_fn(d, d, |i, j| 0.5 * (inverse[(i, j)] + inverse[(j, i)])), start))
}

impl<W: Weighting> Curvature for DenseInverse<W> {
    fn name(&self) -> &'static str {
        W::NAME
    }

    fn dim(&self) -> usize {
        self.inverse.nrows()
    }

    fn mass(&self) -> f64 {
        self.samples
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        super::check_block(block, self.dim())?;
        let updates = self.updates(block)?;
        let total = self.sum.sum().trace() + updates.squared_row_norms().iter().sum::<f64>();
        check_finite("sum of squared gradient rows", &[total])?;
        let growth = self.follow(&updates, (block.samples() / updates.samples()) as f64)?;
        self.watch(growth)
    }

    /// F̂ stays as it is, but the start fades with the rows: P grows where they do not point, which is watched.
    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        let keep = 1.0 - gamma;
        self.sum.scale(keep);
        self.start *= keep;
        self.start_mass *= keep;
        self.samples *= keep;
        self.inverse.scale(1.0 / keep);
        self.watch(self.grown())
    }

    /// Adds the other's rows, not its start: P is formed anew, 7d³/3 flops.
    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        if (other.dim(), &other.settings, &other.weighting) != (self.dim(), &self.settings, &self.weighting) {
            let shape = |s: &Self| format!("d = {}, {:?}, {:?}", s.dim(), s.weighting, s.settings);
            let what = format!("merging the inverse ({}) into ({})", shape(other), shape(self));
            return Err(Error::unsupported(what, "use the same dimension and settings"));
        }
        let mut sum = self.sum.clone();
        sum.merge(&other.sum)?;
        let (inverse, start) = invert(sum.sum(), self.start)?;
        self.rebuilds += other.rebuilds + u64::from(start != self.start);
        self.growth = self.growth.max(other.growth);
        self.samples += other.samples;
        (self.sum, self.inverse, self.start) = (sum, inverse, start);
        Ok(())
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        let mass = self.sum.mass();
        if mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        let normalizer = mass + self.start_mass;
        let (mut matrix, mut inverse) = (self.sum.sum().clone(), self.inverse.clone());
        (0..self.dim()).for_each(|i| matrix[(i, i)] += self.start);
        matrix.scale(1.0 / normalizer);
        inverse.scale(normalizer);
        check_finite("inverse", inverse.as_slice())?;
        // F̂ = F + start/mass·I. Not where a mean stands for its rows, nor where rows fade: rounding of their weights is not booked.
        let every_row_alike = self.settings.rows == UpdateRows::Samples && self.weighting.keep() == 1.0;
        let interval = every_row_alike.then(|| {
            let shift = self.start / mass;
            let rounding = self.sum.rounding() + 4.0 * f64::EPSILON * shift;
            Interval { lo: -shift - rounding, hi: -shift + rounding, certainty: Certainty::Deterministic {} }
        });
        let (name, on_known) = (W::NAME, self.settings.known_curvature);
        Ok(Box::new(InverseApproximation { name, on_known, matrix, inverse, interval }))
    }

    fn status(&self) -> Status {
        if self.rebuilds == 0 { Status::Converged {} } else { Status::WindUp { rebuilds: self.rebuilds, growth: self.growth } }
    }

    fn trace(&self) -> Option<f64> {
        Curvature::trace(&self.sum)
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(W::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}

/// F̂ and its inverse as it was kept.
struct InverseApproximation {
    name: &'static str,
    on_known: OnKnownCurvature,
    matrix: Matrix,
    inverse: Matrix,
    interval: Option<Interval>,
}

impl LinearOperator for InverseApproximation {
    fn dim(&self) -> usize {
        self.matrix.nrows()
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        matvec(&self.matrix, x)
    }
}

impl Approximation for InverseApproximation {
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>> {
        check_len("known curvature", known.dim(), self.dim())?;
        if self.on_known == OnKnownCurvature::Refuse && !known.is_zero() {
            let what = format!("adding known curvature or damping to the inverse that `{}` keeps", self.name);
            let remedy = "let beta stand in its place with known_curvature = \"ignore\", or take `window`, `nystrom` or `dense`";
            return Err(Error::unsupported(what, remedy));
        }
        Ok(Box::new(&self.inverse))
    }

    fn interval(&self) -> Option<Interval> {
        self.interval
    }

    fn bracket(&self, known: &KnownCurvature, failure: Option<f64>) -> Result<Bracket<'_>> {
        super::bracket(self, known, failure)
    }

    fn trace(&self) -> f64 {
        self.matrix.trace()
    }
}
