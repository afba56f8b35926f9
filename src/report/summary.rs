//! What each method came to: its metrics, steps, seconds and oracle counts at the last recorded step, summarized over seeds.

use super::number::{self, MISSING, humanised};
use super::series::{self, Stat};
use crate::error::Result;
use crate::experiment::record::{Record, Table};

/// Where one method ended. A [`Stat`] is missing where no seed has a finite value.
#[derive(Debug, Clone)]
pub struct Final {
    pub method: String,
    pub baseline: bool,
    /// How many seeds left a row.
    pub seeds: usize,
    pub steps: Option<Stat>,
    /// In the order of the manifest.
    pub metrics: Vec<Option<Stat>>,
    pub seconds: Option<Stat>,
    /// In the order of the manifest.
    pub counts: Vec<Option<Stat>>,
}

/// Every method of the record: baselines first, as what the others are measured against, otherwise in the order of the record.
pub fn finals(record: &Record) -> Result<Vec<Final>> {
    let is_baseline = |method: &String| record.manifest.baselines.contains(method);
    let mut methods = record.rows.distinct("method")?;
    methods.sort_by_key(|method| !is_baseline(method));
    let last = |method: String| {
        let rows = series::last_rows(&record.rows.filter("method", &method)?)?;
        let timings = series::last_rows(&record.timings.filter("method", &method)?)?;
        let stat = |table: &Table, column: &str| Ok(Stat::of(&table.numbers(column)?));
        Ok(Final {
            baseline: is_baseline(&method),
            seeds: rows.len(),
            steps: stat(&rows, "step")?,
            metrics: record.manifest.metrics.iter().map(|m| stat(&rows, m)).collect::<Result<_>>()?,
            seconds: stat(&timings, "seconds")?,
            counts: record.manifest.counts.iter().map(|c| stat(&rows, c)).collect::<Result<_>>()?,
            method,
        })
    };
    methods.into_iter().map(last).collect()
}

/// A metric's cell.
pub fn value(stat: &Stat) -> String {
    stat.deviation.map_or_else(|| number::significant(stat.mean, 4), |deviation| number::with_deviation(stat.mean, deviation))
}

/// A count's cell: the deviation only where seeds differ.
pub fn count(stat: &Stat) -> String {
    if stat.min == stat.max { number::count(stat.mean) } else { value(stat) }
}

/// The summary as a table of text.
///
/// # Errors
/// [`crate::Error::Argument`] if a table of the record lacks a column or holds a text for a number.
pub fn table(record: &Record) -> Result<Table> {
    let (metrics, counts) = (record.manifest.metrics.iter(), record.manifest.counts.iter());
    let named = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let columns = named(&["method", "seeds", "outer steps"]).into_iter().chain(metrics.map(|m| humanised(m)));
    let mut table = Table::new(columns.chain(named(&["seconds"])).chain(counts.map(|c| humanised(c))));
    for row in finals(record)? {
        let metric = |stat: &Option<Stat>| match stat {
            Some(stat) if stat.count < row.seeds => format!("{} ({} of {} seeds)", value(stat), stat.count, row.seeds),
            Some(stat) => value(stat),
            None => MISSING.to_owned(),
        };
        let whole = |stat: &Option<Stat>| stat.map_or(MISSING.to_owned(), |stat| count(&stat));
        let steps = if row.baseline { MISSING.to_owned() } else { whole(&row.steps) };
        let cells = [row.method.clone(), row.seeds.to_string(), steps].into_iter().chain(row.metrics.iter().map(metric));
        table.push(cells.chain([metric(&row.seconds)]).chain(row.counts.iter().map(whole)))?;
    }
    Ok(table)
}
