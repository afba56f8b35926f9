//! Sums over slices.

use serde::{Deserialize, Serialize};

use super::Real;
use crate::error::{Result, check_len};
use crate::par;

/// Long sums are cut into blocks of this many terms.
pub(super) const SUM_BLOCK: usize = 1 << 16;

/// The scalar product. Eight running sums: as accurate as pairwise summation of blocks, and fast; long ones are cut into blocks.
///
/// # Panics
/// If the lengths differ.
pub fn dot(x: &[Real], y: &[Real]) -> Real {
    assert_eq!(x.len(), y.len(), "the lengths of x and y");
    if x.len() <= SUM_BLOCK {
        return dot_block(x, y);
    }
    par::fold_blocks(x.len(), SUM_BLOCK, |block| dot_block(&x[block.clone()], &y[block]), 0.0, |sum, part| sum + part)
}

pub(super) fn dot_block(x: &[Real], y: &[Real]) -> Real {
    let mut sums = [0.0; 8];
    let (xs, ys) = (x.chunks_exact(8), y.chunks_exact(8));
    let rest: Real = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in xs.zip(ys) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<Real>() + rest
}

/// The Euclidean norm; scaled where squares would overflow or vanish.
pub fn norm(x: &[Real]) -> Real {
    let plain = dot(x, x);
    if plain.is_finite() && plain > 1e-280 {
        return plain.sqrt();
    }
    let largest = x.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * x.iter().map(|v| (v / largest) * (v / largest)).sum::<Real>().sqrt()
}

/// y += α x.
///
/// # Panics
/// If the lengths differ.
pub fn axpy(alpha: Real, x: &[Real], y: &mut [Real]) {
    assert_eq!(x.len(), y.len(), "the lengths of x and y");
    y.iter_mut().zip(x).for_each(|(y, x)| *y += alpha * x);
}

/// y += x, and ‖y‖² of what it is then.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn add_and_square(x: &[Real], y: &mut [Real]) -> Real {
    axpy(1.0, x, y);
    dot_block(y, y)
}

/// y += α x for an x that comes from outside, under its name.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn add_scaled(argument: &'static str, alpha: Real, x: &[Real], y: &mut [Real]) -> Result<()> {
    check_len(argument, x.len(), y.len())?;
    axpy(alpha, x, y);
    Ok(())
}

/// x − y.
///
/// # Panics
/// If the lengths differ.
pub fn difference(x: &[Real], y: &[Real]) -> Vec<Real> {
    assert_eq!(x.len(), y.len(), "the lengths of x and y");
    x.iter().zip(y).map(|(a, b)| a - b).collect()
}

/// ‖found − expected‖ / ‖expected‖: 0 where both are zero, ∞ where the lengths differ.
pub fn relative_error(found: &[Real], expected: &[Real]) -> Real {
    if found.len() != expected.len() {
        return Real::INFINITY;
    }
    let error = norm(&difference(found, expected));
    if error == 0.0 { 0.0 } else { error / norm(expected) }
}

/// A sum that carries its rounding error along (Neumaier 1974), and what was added since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CompensatedSum {
    sum: Real,
    correction: Real,
}

impl CompensatedSum {
    /// Adds a term.
    pub fn add(&mut self, term: Real) {
        let total = self.sum + term;
        self.correction += if self.sum.abs() >= term.abs() { (self.sum - total) + term } else { (term - total) + self.sum };
        self.sum = total;
    }

    /// Multiplies what was summed so far.
    pub fn scale(&mut self, factor: Real) {
        self.sum *= factor;
        self.correction *= factor;
    }

    /// The sum.
    pub fn value(&self) -> Real {
        self.sum + self.correction
    }
}
