//! Certified solves with an approximation at a damping that is given, or chosen for the right-hand side at hand.

use super::{Approximation, Interval};
use crate::dense::norm;
use crate::error::Result;
use crate::inverse::{Bracket, Certified, Damping, DampingRange, KnownCurvature, PathPoint, RowSpace, choose_damping};

/// (F + Λ + μI)⁻¹v for many v, and a μ for each where none is given. What is factorized for one is kept for the next.
pub struct DampedSolver<'a> {
    approximation: &'a dyn Approximation,
    known: KnownCurvature,
    failure: Option<f64>,
    interval: Interval,
    /// The row space, where there is one: it serves a whole path of dampings if Λ = λI. Decomposed when first asked for.
    path: Option<RowSpace<'a>>,
    decomposed: bool,
    /// The last bracket and its damping.
    bracket: Option<(f64, Bracket<'a>)>,
}

impl<'a> DampedSolver<'a> {
    /// A solver with Λ = `known`, deterministic or with a probability `failure` of being wrong.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a family without an interval, [`Error::Argument`](crate::Error::Argument) for a
    /// probability outside (0, 1).
    pub fn new(approximation: &'a dyn Approximation, known: KnownCurvature, failure: Option<f64>) -> Result<Self> {
        let interval = super::interval_of(approximation, failure)?;
        Ok(Self { approximation, known, failure, interval, path: None, decomposed: false, bracket: None })
    }

    /// The bracket for one damping.
    ///
    /// # Errors
    /// As [`Approximation::bracket`].
    pub fn bracket(&mut self, damping: f64) -> Result<&Bracket<'a>> {
        let bracket = match self.bracket.take() {
            Some(kept) if kept.0 == damping => kept,
            _ => (damping, self.approximation.bracket(&self.known.plus(damping)?, self.failure)?),
        };
        Ok(&self.bracket.insert(bracket).1)
    }

    /// The damping, and (F + Λ + μI)⁻¹v with its certificate. To choose one costs a Gram matrix of the rows once, then O(ℓ) for each that
    /// is tried; two solves in the end.
    ///
    /// # Errors
    /// As [`Approximation::bracket`] and [`Bracket::solve`]; [`Error::Argument`](crate::Error::Argument) where no damping meets the target.
    pub fn solve(&mut self, v: &[f64], damping: Damping) -> Result<(f64, Certified)> {
        let target = match damping {
            Damping::Fixed(damping) => return Ok((damping, self.bracket(damping)?.solve(v)?)),
            Damping::Auto { target } => target,
        };
        let (interval, trace) = (self.interval, self.approximation.trace());
        if !self.decomposed {
            (self.path, self.decomposed) = (self.approximation.row_space()?, true);
        }
        // F̂ = RᵀR/m + αI: the bracket's ends are those of RᵀR/m.
        let shift = self.path.as_ref().map_or(0.0, RowSpace::shift);
        let moved = Interval { lo: interval.lo + shift, hi: interval.hi + shift, ..interval };
        let mut range = DampingRange::of(self.known.min_eigenvalue(), trace, moved, target)?;
        if let (Some(_), Some(space)) = (self.known.as_scalar(), &self.path) {
            let components = space.components(v)?;
            let ends = (interval.lo, interval.hi);
            let chosen = choose_damping(range, target, |damping| Ok(components.certificate(&self.known, damping, ends)))?;
            let certified = self.bracket(chosen.damping)?.solve(v)?;
            if certified.relative_error() <= target {
                return Ok((chosen.damping, certified));
            }
            // The path does not know what the solves round: go on from there with the certificates themselves.
            range = range.from(chosen.damping);
        }
        let chosen = choose_damping(range, target, |damping| {
            let certified = self.bracket(damping)?.solve(v)?;
            let (norm, radius, relative_error) = (norm(&certified.midpoint), certified.radius, certified.relative_error());
            Ok(Some(PathPoint { damping, norm, radius, relative_error }))
        })?;
        Ok((chosen.damping, self.bracket(chosen.damping)?.solve(v)?))
    }
}
