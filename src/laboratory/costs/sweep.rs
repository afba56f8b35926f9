//! A sweep read back from a table of measured rows: one number a replicate at each place of one variable, whatever the order of the rows.
//! Its exponent is the log-log slope, fitted to each replicate by itself, with limits over the replicates.

use crate::bounds::{Measured, slope_with_limits};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::CONFIDENCE;

/// Places and the numbers there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sweep {
    /// The places, ascending.
    pub(super) x: Vec<f64>,
    /// At each place the numbers of the replicates, in their order.
    pub(super) at: Vec<Vec<f64>>,
}

/// What decides nothing.
pub(super) const UNKNOWN: Measured = Measured { value: f64::NAN, low: f64::NAN, high: f64::NAN };

impl Sweep {
    /// The rows whose cells in the columns of `only` have these values and whose `y` is a number.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] where a column is missing, or a cell holds text for a number.
    pub(super) fn read(rows: &Table, only: &[(&str, &str)], x: &str, y: &str) -> Result<Self> {
        let mut keep = vec![true; rows.len()];
        for (column, value) in only {
            keep.iter_mut().zip(rows.text(column)?).for_each(|(keep, cell)| *keep &= cell == *value);
        }
        let points = rows.numbers(x)?.into_iter().zip(rows.numbers(y)?).zip(keep);
        let mut kept: Vec<(f64, f64)> = points.filter(|((_, y), keep)| *keep && y.is_finite()).map(|(point, _)| point).collect();
        // A stable sort: replicates keep their order.
        kept.sort_by(|a, b| a.0.total_cmp(&b.0));
        let groups = kept.chunk_by(|a, b| a.0 == b.0);
        let place = |group: &[(f64, f64)]| (group[0].0, group.iter().map(|(_, y)| *y).collect::<Vec<f64>>());
        let (x, at) = groups.map(place).unzip();
        Ok(Self { x, at })
    }

    /// The exponent with its limits; unknown for fewer than two places or replicates.
    ///
    /// # Errors
    /// As [`slope_with_limits`].
    pub(super) fn exponent(&self) -> Result<Measured> {
        let replicates = self.at.iter().map(Vec::len).min().unwrap_or(0);
        // What takes no measurable time has no logarithm.
        let measurable = self.at.iter().flatten().all(|y| *y > 0.0);
        if self.x.len() < 2 || replicates < 2 || !measurable {
            return Ok(UNKNOWN);
        }
        let curve = |replicate: usize| self.at.iter().map(|values| values[replicate]).collect();
        let curves: Vec<Vec<f64>> = (0..replicates).map(curve).collect();
        Ok(slope_with_limits(&self.x, &curves, CONFIDENCE)?.into())
    }

    /// The medians.
    pub(super) fn medians(&self) -> Vec<f64> {
        self.at.iter().map(|values| median(values)).collect()
    }

    /// The largest number at each place.
    pub(super) fn largest(&self) -> Vec<f64> {
        self.at.iter().map(|values| values.iter().copied().fold(f64::NAN, f64::max)).collect()
    }
}

/// The middle number, the mean of the two middle ones of an even count; NaN for none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{Rule, Verdict};

    /// Seconds 2·d^`exponent`, a tenth apart between replicates, the places not in order.
    fn planted(exponent: f64) -> Sweep {
        let mut table = Table::new(["family", "d", "seconds"]);
        for d in [1e4, 1e3, 1e5_f64] {
            for level in [0.95, 1.0, 1.05] {
                table.push(["a".to_owned(), d.to_string(), (level * 2.0 * d.powf(exponent)).to_string()]).unwrap();
            }
        }
        table.push(["a", "1e6", "NaN"]).unwrap();
        table.push(["b", "1e6", "1"]).unwrap();
        Sweep::read(&table, &[("family", "a")], "d", "seconds").unwrap()
    }

    #[test]
    fn a_planted_exponent_is_found_and_a_wrong_claim_about_it_fails() {
        let sweep = planted(1.0);
        assert_eq!((sweep.x.as_slice(), sweep.at.len()), (&[1e3, 1e4, 1e5][..], 3));
        assert!(sweep.medians().iter().zip(&sweep.x).all(|(median, d)| (median / (2.0 * d) - 1.0).abs() < 1e-12));
        let claim = Rule::AtMost { bound: 1.05 };
        let linear = sweep.exponent().unwrap();
        assert!((linear.value - 1.0).abs() < 1e-12);
        assert_eq!(claim.verdict(linear), Verdict::Holds);
        assert_eq!(claim.verdict(planted(1.3).exponent().unwrap()), Verdict::Fails);
    }

    #[test]
    fn too_little_decides_nothing() {
        let one = Sweep { x: vec![1.0], at: vec![vec![1.0, 2.0]] };
        let still = Sweep { x: vec![1.0, 2.0], at: vec![vec![0.0, 0.0]; 2] };
        for sweep in [one, still, Sweep { x: vec![], at: vec![] }] {
            assert_eq!(Rule::AtMost { bound: 1.0 }.verdict(sweep.exponent().unwrap()), Verdict::Undecided);
        }
        assert!(median(&[]).is_nan());
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
    }
}
