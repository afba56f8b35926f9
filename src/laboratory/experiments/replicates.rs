//! Curves read back from a table: the values of one column against another, replicate by replicate, so that limits can respect that the
//! points of a replicate belong together; and what is made of one number a replicate.

use crate::bounds::{Measured, Slope, mean_with_limits, slope_with_limits};
use crate::error::{Error, Result};
use crate::experiment::record::Table;
use crate::laboratory::CONFIDENCE;

/// The curves of several replicates at the same places.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// The places, ascending as the table has them.
    pub x: Vec<f64>,
    /// For each replicate its values there.
    pub y: Vec<Vec<f64>>,
}

impl Curves {
    /// Reads the rows whose cells in the columns of `only` have these values; a column `replicate` tells the curves apart.
    ///
    /// # Errors
    /// [`Error::Argument`] where a column is missing, a cell is no number, or replicates have different places.
    pub fn read(table: &Table, only: &[(&str, &str)], x: &str, y: &str) -> Result<Self> {
        let mut keep = vec![true; table.len()];
        for (column, value) in only {
            keep.iter_mut().zip(table.text(column)?).for_each(|(keep, cell)| *keep &= cell == *value);
        }
        let points = table.text("replicate")?.into_iter().zip(table.numbers(x)?.into_iter().zip(table.numbers(y)?));
        let mut curves: Vec<(&str, Vec<f64>, Vec<f64>)> = Vec::new();
        for ((replicate, (x, y)), _) in points.zip(keep).filter(|(_, keep)| *keep) {
            // The rows of a replicate stand together.
            match curves.last_mut().filter(|(last, ..)| *last == replicate) {
                Some((_, places, values)) => {
                    places.push(x);
                    values.push(y);
                }
                None => curves.push((replicate, vec![x], vec![y])),
            }
        }
        let Some((_, places, _)) = curves.first().cloned() else {
            return Err(Error::argument("table", format_args!("rows with {only:?}"), "none"));
        };
        if let Some((replicate, other, _)) = curves.iter().find(|(_, other, _)| *other != places) {
            let expected = format!("the places {places:?} in every replicate");
            return Err(Error::argument("table", expected, format_args!("{other:?} in replicate {replicate}")));
        }
        Ok(Self { x: places, y: curves.into_iter().map(|(_, _, values)| values).collect() })
    }

    /// What lies at places from `from` to `to`.
    pub fn between(&self, from: f64, to: f64) -> Self {
        let kept: Vec<usize> = (0..self.x.len()).filter(|&i| (from..=to).contains(&self.x[i])).collect();
        let pick = |values: &[f64]| kept.iter().map(|&i| values[i]).collect::<Vec<f64>>();
        Self { x: pick(&self.x), y: self.y.iter().map(|values| pick(values)).collect() }
    }

    /// The values of all replicates at place number `i`.
    pub fn at(&self, i: usize) -> Vec<f64> {
        self.y.iter().map(|values| values[i]).collect()
    }

    /// The log-log slope, fitted to each replicate by itself.
    ///
    /// # Errors
    /// As [`slope_with_limits`].
    pub fn slope(&self) -> Result<Slope> {
        slope_with_limits(&self.x, &self.y, CONFIDENCE)
    }
}

/// The mean of one number a replicate, with its limits.
///
/// # Errors
/// As [`mean_with_limits`].
pub fn mean(values: &[f64]) -> Result<Measured> {
    let (value, half) = mean_with_limits("replicates", values, CONFIDENCE)?;
    Ok(Measured { value, low: value - half, high: value + half })
}

/// The largest of some numbers; NaN, which decides nothing, where one of them is NaN and where there are none.
pub fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
    values.into_iter().reduce(larger).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 4]]) -> Table {
        let mut table = Table::new(["kind", "replicate", "n", "error"]);
        rows.iter().for_each(|row| table.push(row).unwrap());
        table
    }

    #[test]
    fn curves_are_those_of_the_replicates_and_their_slope_is_the_mean_of_theirs() {
        let rows = [
            ["a", "0", "1", "8"],
            ["a", "0", "4", "4"],
            ["b", "0", "1", "7"],
            ["b", "0", "4", "7"],
            ["a", "1", "1", "8"],
            ["a", "1", "4", "2"],
        ];
        let curves = Curves::read(&table(&rows), &[("kind", "a")], "n", "error").unwrap();
        assert_eq!(curves, Curves { x: vec![1.0, 4.0], y: vec![vec![8.0, 4.0], vec![8.0, 2.0]] });
        assert_eq!(curves.at(1), [4.0, 2.0]);
        // Slopes −1/2 and −1.
        assert!((curves.slope().unwrap().mean + 0.75).abs() < 1e-15);
        assert_eq!(curves.between(2.0, 9.0).x, [4.0]);
    }

    #[test]
    fn nothing_and_nan_have_no_largest_number() {
        assert_eq!(largest([-2.0, -1.0, -3.0]), -1.0);
        assert!(largest([]).is_nan() && largest([f64::NAN, 1.0]).is_nan() && largest([1.0, f64::NAN]).is_nan());
        let Measured { value, low, high } = mean(&[1.0, 2.0, 3.0]).unwrap();
        // t(2, 0.975)/√3 = 2.4841.
        assert!(value == 2.0 && (high - 4.484_138).abs() < 1e-5 && (low + 0.484_138).abs() < 1e-5);
    }

    #[test]
    fn other_tables_are_refused() {
        let read = |rows: &[[&str; 4]], x: &str| Curves::read(&table(rows), &[("kind", "a")], x, "error").unwrap_err().to_string();
        assert!(read(&[["b", "0", "1", "1"]], "n").contains("none"));
        assert!(read(&[["a", "0", "1", "1"]], "m").contains("`m`"));
        assert!(read(&[["a", "0", "1", "x"]], "n").contains("`x`"));
        assert!(read(&[["a", "0", "1", "1"], ["a", "1", "2", "1"]], "n").contains("in replicate 1"));
    }
}
