//! Statistics over seeds and repetitions: what a curve, a bar or a cell of the summary shows. Everything is computed from the
//! tables of a record; nothing here draws. Values that are not finite (a metric that a method does not have) are left out, and
//! `count` says how many were kept.

use std::collections::HashMap;

use crate::error::Result;
use crate::experiment::record::Table;

/// A few numbers of one kind, summarized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stat {
    /// How many finite values there were: at least 1.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, √(Σ(x − mean)²/(n − 1)); none for a single value.
    pub deviation: Option<f64>,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Stat {
    /// The arithmetic mean with standard deviation and range; none without a finite value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let kept: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
        let (count, n) = (kept.len(), kept.len() as f64);
        if count == 0 {
            return None;
        }
        let (min, max) = range(&kept);
        // Of equal numbers the mean is that number: a sum would round, and a deviation of 1e-17 appear.
        let mean = if min == max { min } else { kept.iter().sum::<f64>() / n };
        let squares = kept.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
        let deviation = (count > 1).then(|| (squares / (n - 1.0)).sqrt());
        Some(Self { count, mean, deviation, min, max })
    }

    /// The geometric mean exp(mean(ln x)) with the range, values below `floor` > 0 raised to it; none without a finite value.
    pub fn geometric(values: &[f64], floor: f64) -> Option<Self> {
        let kept: Vec<f64> = values.iter().filter(|x| x.is_finite()).map(|x| x.max(floor)).collect();
        let (min, max) = range(&kept);
        let logarithms: Vec<f64> = kept.iter().map(|x| x.ln()).collect();
        let mean = Self::of(&logarithms)?.mean.exp();
        // exp(ln x) can leave the range by a rounding error.
        Some(Self { count: kept.len(), mean: mean.clamp(min, max), deviation: None, min, max })
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)))
}

/// One place of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Where it stands: a step, a budget.
    pub x: f64,
    /// What was found there.
    pub stat: Stat,
}

/// A curve: the values that share an x are summarized by `stat`, in the order of x; places without a finite value are left out.
pub fn curve(xs: &[f64], values: &[f64], stat: impl Fn(&[f64]) -> Option<Stat>) -> Vec<Point> {
    let mut pairs: Vec<(f64, f64)> = xs.iter().copied().zip(values.iter().copied()).filter(|(x, _)| x.is_finite()).collect();
    // A stable sort: equal places keep the order of the table, so that sums are the same every time.
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let groups = pairs.chunk_by(|a, b| a.0 == b.0);
    let point = |group: &[(f64, f64)]| {
        let values: Vec<f64> = group.iter().map(|(_, value)| *value).collect();
        Some(Point { x: group.first()?.0, stat: stat(&values)? })
    };
    groups.filter_map(point).collect()
}

/// The row of the last step of every seed, in the order of the seeds' first appearance; `table` holds one method.
///
/// # Errors
/// [`crate::Error::Argument`] if `seed` or `step` is missing or no number.
pub fn last_rows(table: &Table) -> Result<Table> {
    let (seeds, steps) = (table.text("seed")?, table.numbers("step")?);
    let mut last: Vec<(&str, usize)> = Vec::new();
    for (row, seed) in seeds.into_iter().enumerate() {
        match last.iter_mut().find(|(s, _)| *s == seed) {
            None => last.push((seed, row)),
            Some((_, kept)) if steps[row] >= steps[*kept] => *kept = row,
            Some(_) => {}
        }
    }
    let mut out = Table::new(table.columns().iter().cloned());
    for (_, row) in last {
        out.push(&table.rows()[row])?;
    }
    Ok(out)
}

/// The rows that agree in `columns`, as tables of their own with the values they share, in the order of first appearance.
///
/// # Errors
/// [`crate::Error::Argument`] if a column is missing.
pub fn groups(table: &Table, columns: &[&str]) -> Result<Vec<(Vec<String>, Table)>> {
    let cells = columns.iter().map(|c| table.text(c)).collect::<Result<Vec<_>>>()?;
    let mut places: HashMap<Vec<&str>, usize> = HashMap::new();
    let mut out: Vec<(Vec<String>, Table)> = Vec::new();
    for (row, texts) in table.rows().iter().enumerate() {
        let key: Vec<&str> = cells.iter().map(|column| column[row]).collect();
        let place = *places.entry(key).or_insert(out.len());
        if place == out.len() {
            let shared = cells.iter().map(|column| column[row].to_owned()).collect();
            out.push((shared, Table::new(table.columns().iter().cloned())));
        }
        out[place].1.push(texts)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_equal_hand_computed_values() {
        // 2, 4, 9: mean 5, squares 9 + 1 + 16 = 26, deviation √13.
        let stat = Stat::of(&[2.0, f64::NAN, 4.0, 9.0, f64::INFINITY]).unwrap();
        assert_eq!((stat.count, stat.mean, stat.min, stat.max), (3, 5.0, 2.0, 9.0));
        assert!((stat.deviation.unwrap() - 13f64.sqrt()).abs() < 1e-15);
        assert_eq!(Stat::of(&[7.0]).unwrap().deviation, None);
        assert_eq!(Stat::of(&[0.862; 5]).unwrap().deviation, Some(0.0));
        assert_eq!(Stat::of(&[f64::NAN]), None);
        let stat = Stat::geometric(&[1e-2, 1e-4, 0.0], 1e-6).unwrap();
        assert!((stat.mean / 1e-4 - 1.0).abs() < 1e-12);
        assert_eq!((stat.min, stat.max), (1e-6, 1e-2));
        assert_eq!(Stat::geometric(&[], 1e-6), None);
    }

    #[test]
    fn a_curve_groups_by_place_in_order_and_skips_what_is_missing() {
        let points = curve(&[2.0, 1.0, 2.0, 3.0], &[4.0, 1.0, 6.0, f64::NAN], Stat::of);
        assert_eq!(points.iter().map(|p| (p.x, p.stat.mean, p.stat.count)).collect::<Vec<_>>(), [(1.0, 1.0, 1), (2.0, 5.0, 2)]);
    }

    #[test]
    fn the_last_row_is_that_of_the_largest_step_not_of_the_largest_line() {
        let mut table = Table::new(["seed", "step", "x"]);
        for row in [["7", "10", "a"], ["7", "2", "b"], ["3", "9", "c"], ["3", "10", "d"]] {
            table.push(row).unwrap();
        }
        assert_eq!(last_rows(&table).unwrap().text("x").unwrap(), ["a", "d"]);
        assert!(last_rows(&Table::new(["seed"])).is_err(), "there is no step");
    }

    #[test]
    fn groups_keep_the_order_of_first_appearance() {
        let mut table = Table::new(["a", "b"]);
        for row in [["y", "1"], ["x", "1"], ["y", "2"], ["y", "1"]] {
            table.push(row).unwrap();
        }
        let groups = groups(&table, &["a", "b"]).unwrap();
        let sizes: Vec<_> = groups.iter().map(|(key, table)| (key.join(""), table.len())).collect();
        assert_eq!(sizes, [("y1".into(), 2), ("x1".into(), 1), ("y2".into(), 1)]);
    }
}
