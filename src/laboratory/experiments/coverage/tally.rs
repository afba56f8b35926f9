//! Statements and what becomes of them, counted: how many were made, how many failed, and how loose they were as a histogram, so that any
//! number of cases makes a table of the same size.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::{Rows, cell};

/// Bins of a decade: neighbouring ones differ by 12 %.
const PER_DECADE: f64 = 20.0;
/// What is looser than this is counted together.
const LOOSEST: f64 = 1e6;
/// What rounding of the truth may hide: a truth below so many times its own rounding says nothing of tightness.
const RESOLVED: f64 = 1e3;

/// A statement about one case: that something is at most a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Which statement it is.
    pub name: &'static str,
    /// The probability with which it may fail; 0 for never.
    pub delta: f64,
    /// Whether it failed.
    pub failed: bool,
    /// The bound over the truth, where there is a truth beyond rounding.
    pub tightness: Option<f64>,
}

impl Statement {
    /// `truth` is at most `bound`; the truth is known up to `rounding`.
    pub fn bound(name: &'static str, delta: f64, truth: f64, bound: f64, rounding: f64) -> Self {
        let holds = truth <= bound + rounding;
        // A bound or a truth that is no number is a failure.
        let failed = !holds;
        let tightness = (truth > RESOLVED * rounding && bound.is_finite()).then(|| bound / truth);
        Self { name, delta, failed, tightness }
    }

    /// Something that happened or not.
    pub fn event(name: &'static str, delta: f64, failed: bool) -> Self {
        Self { name, delta, failed, tightness: None }
    }
}

/// Of many bounds the statement that none of them fails: that of the worst.
pub fn all_of(name: &'static str, delta: f64, statements: &[Statement]) -> Statement {
    let tightness = statements.iter().filter_map(|statement| statement.tightness).min_by(f64::total_cmp);
    Statement { name, delta, failed: statements.iter().any(|statement| statement.failed), tightness }
}

/// Where a statement is counted: its name, its δ as text, the bin of its tightness.
type Place = (&'static str, String, Option<i64>);

/// Counts of statements.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<Place, (u64, u64)>);

impl Tally {
    /// Counts a statement.
    pub fn add(&mut self, statement: &Statement) {
        let bin = statement.tightness.map(|ratio| (PER_DECADE * ratio.clamp(1.0 / LOOSEST, LOOSEST).log10()).floor() as i64);
        let (count, failures) = self.0.entry((statement.name, cell(statement.delta), bin)).or_default();
        *count += 1;
        *failures += u64::from(statement.failed);
    }

    /// A row for each place, after the `names` of what was examined.
    pub fn rows(&self, names: [&str; 2]) -> Rows {
        let mut rows = Rows::default();
        for ((name, delta, bin), (count, failures)) in &self.0 {
            let bin = bin.map_or_else(String::new, |bin| bin.to_string());
            rows.push(names.into_iter().chain([*name, delta, &bin, &count.to_string(), &failures.to_string()]));
        }
        rows
    }
}

/// The columns of [`Tally::rows`]. `bin` is ⌊20 log₁₀(bound/truth)⌋, from −120 to 120, and empty where the truth is within rounding of nothing, or no number.
pub const COLUMNS: [&str; 7] = ["subject", "case", "statement", "delta", "bin", "count", "failures"];

/// The sums of some rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Statements.
    pub count: u64,
    /// Those that failed.
    pub failures: u64,
    /// Statements by the bin of their tightness.
    bins: BTreeMap<i64, u64>,
}

impl Counts {
    /// Of the rows whose cells in these columns have these values.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for another table.
    pub fn of(table: &Table, only: &[(&str, &str)]) -> Result<Self> {
        let mut own = table.clone();
        for (column, value) in only {
            own = own.filter(column, value)?;
        }
        let mut counts = Self::default();
        let numbers = own.numbers("count")?.into_iter().zip(own.numbers("failures")?);
        for ((count, failures), bin) in numbers.zip(own.text("bin")?) {
            counts.count += count as u64;
            counts.failures += failures as u64;
            if let Ok(bin) = bin.parse() {
                *counts.bins.entry(bin).or_default() += count as u64;
            }
        }
        Ok(counts)
    }

    /// Statements whose tightness is known.
    pub fn resolved(&self) -> u64 {
        self.bins.values().sum()
    }

    /// The p-quantile of bound/truth, up to the width of a bin: the middle of the bin that holds the ⌈np⌉-th smallest. NaN for none.
    pub fn quantile(&self, p: f64) -> f64 {
        let rank = ((self.resolved() as f64 * p).ceil() as u64).max(1);
        let mut seen = 0;
        let bin = self.bins.iter().find(|(_, count)| {
            seen += *count;
            seen >= rank
        });
        bin.map_or(f64::NAN, |(bin, _)| 10.0_f64.powf((*bin as f64 + 0.5) / PER_DECADE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(tally: &Tally) -> Table {
        let mut table = Table::new(COLUMNS);
        tally.rows(["subject", "case"]).cells().iter().for_each(|row| table.push(row).unwrap());
        table
    }

    #[test]
    fn counts_and_quantiles_are_those_of_the_statements() {
        let mut tally = Tally::default();
        let ratios: Vec<f64> = (1..=1000).map(|i| 1.0 + 0.05 * f64::from(i)).collect();
        ratios.iter().for_each(|ratio| tally.add(&Statement::bound("a", 0.0, 1.0, *ratio, 0.0)));
        tally.add(&Statement::bound("a", 0.0, 1.0, 0.5, 0.0));
        tally.add(&Statement::bound("a", 0.0, 1e-16, 1.0, 1e-16));
        tally.add(&Statement::event("b", 0.1, true));
        let counts = Counts::of(&table(&tally), &[("statement", "a")]).unwrap();
        assert_eq!((counts.count, counts.failures, counts.resolved()), (1002, 1, 1001));
        for p in [0.05, 0.5, 0.95] {
            let exact = ratios[(1000.0 * p) as usize];
            assert!((counts.quantile(p) / exact - 1.0).abs() < 0.08, "{p}: {} for {exact}", counts.quantile(p));
        }
        let events = Counts::of(&table(&tally), &[("statement", "b"), ("delta", "0.1")]).unwrap();
        assert_eq!((events.count, events.failures), (1, 1));
        assert!(events.quantile(0.5).is_nan());
    }

    #[test]
    fn what_is_no_number_fails_and_rounding_does_not() {
        let failed = |truth, bound, rounding| Statement::bound("a", 0.0, truth, bound, rounding).failed;
        assert!(failed(f64::NAN, 1.0, 0.0) && failed(1.0, f64::NAN, 0.0) && failed(1.0, 0.9, 0.05));
        assert!(!failed(1.0, 0.9, 0.2) && !failed(1.0, f64::INFINITY, 0.0));
        let one = |truth| Statement::bound("a", 0.0, truth, 2.0, 0.0);
        let all = all_of("all", 0.1, &[one(1.0), one(1.6)]);
        assert_eq!((all.failed, all.tightness, all.delta), (false, Some(1.25), 0.1));
        assert!(all_of("all", 0.1, &[one(1.0), one(3.0)]).failed);
    }
}
