//! What a laboratory leaves on disk: a CSV an experiment and those that follow from it, the verdicts, the seconds, and the manifest, which
//! says what was run and what its pictures show. Pictures and page are drawn anew from these files alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::picture::Picture;
use super::{Size, Suite, Usage};
use crate::bounds::{Claim, Judgement};
use crate::error::{Error, Result};
use crate::experiment::record::{Table, Writer, cell, kind_in, read_manifest};

/// The version of the layout on disk.
pub const RECORD_VERSION: u32 = 1;

/// Every claim with its rule, what was measured and the verdict: `experiment`, `claim`, `rule`, `predicted`, `measured`, `low`, `high`,
/// `verdict`.
pub const VERDICTS: &str = "verdicts.csv";
/// What was taken, the only clock: `experiment`, `piece`, `row` (a line of the experiment's table, counted from 0; empty for the piece as a
/// whole), `seconds`, and `peak_bytes` (the most bytes in use at once; empty where they were not counted).
pub const TIMINGS: &str = "timings.csv";
/// The column of seconds that a table has besides its own where rows are timed.
pub const SECONDS: &str = "seconds";
/// The column of peaks that it has then, too: NaN where they were not counted.
pub const PEAK_BYTES: &str = "peak_bytes";
/// What kind of manifest it is.
const KIND: &str = "laboratory";

/// An experiment of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// What it shows, in a line.
    pub about: String,
    /// The stems of its tables: its own, then those that follow from it.
    pub tables: Vec<String>,
    /// The stems of those that are short enough to be read on the page.
    #[serde(default)]
    pub shown: Vec<String>,
    /// Its pictures.
    pub pictures: Vec<Picture>,
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `laboratory`.
    pub kind: String,
    /// The collection that the experiments are of.
    #[serde(default)]
    pub suite: Suite,
    /// [`RECORD_VERSION`] when it was written.
    pub record_version: u32,
    /// The version of this crate.
    pub nhgd_version: String,
    /// The plan as TOML, every setting spelled out.
    pub configuration: String,
    /// The size whose settings the plan began with.
    pub size: Size,
    /// Threads used.
    pub threads: usize,
    /// The machine: operating system, architecture, processor, cores.
    pub machine: BTreeMap<String, String>,
    /// The experiments.
    pub experiments: Vec<Report>,
}

impl Manifest {
    /// The manifest of this program, without experiments yet.
    pub fn new(suite: Suite, configuration: String, size: Size, machine: BTreeMap<String, String>) -> Self {
        Self {
            kind: KIND.into(),
            suite,
            record_version: RECORD_VERSION,
            nhgd_version: env!("CARGO_PKG_VERSION").into(),
            configuration,
            size,
            threads: crate::par::threads(),
            machine,
            experiments: Vec::new(),
        }
    }
}

/// A complete record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its manifest.
    pub manifest: Manifest,
    /// The tables of all experiments, by stem.
    pub tables: BTreeMap<String, Table>,
    /// [`VERDICTS`].
    pub verdicts: Table,
    /// [`TIMINGS`].
    pub timings: Table,
}

/// An empty table of verdicts.
pub fn verdict_table() -> Table {
    Table::new(["experiment", "claim", "rule", "predicted", "measured", "low", "high", "verdict"])
}

/// Adds a claim and what became of it.
///
/// # Errors
/// [`Error::Shape`] for another table.
pub fn push_verdict(table: &mut Table, claim: &Claim, judgement: &Judgement) -> Result<()> {
    let Judgement { experiment, claim: statement, predicted, measured, low, high, verdict } = judgement;
    let numbers = [predicted, measured, low, high].map(|number| cell(*number));
    let words = [experiment.clone(), statement.clone(), claim.rule.to_string()];
    table.push(words.into_iter().chain(numbers).chain([verdict.to_string()]))
}

/// An empty table of what was taken.
pub fn timing_table() -> Table {
    Table::new(["experiment", "piece", "row", SECONDS, PEAK_BYTES])
}

/// Adds what a row of an experiment's table, or without one a piece as a whole, took.
///
/// # Errors
/// [`Error::Shape`] for another table.
pub fn push_timing(timings: &mut Table, experiment: &str, piece: usize, row: Option<usize>, usage: Usage) -> Result<()> {
    let row = row.map_or(String::new(), |row| row.to_string());
    let peak = usage.peak_bytes.map_or(String::new(), |bytes| bytes.to_string());
    timings.push([experiment, &piece.to_string(), &row, &format!("{:.9}", usage.seconds), &peak])
}

/// The table with what its rows took as two more columns, NaN where a row has none; as it is where no row is timed. `timings` may hold
/// other experiments' too.
///
/// # Errors
/// [`Error::Argument`] where it is not such a table.
pub fn with_usage<'a>(table: &'a Table, experiment: &str, timings: &Table) -> Result<Cow<'a, Table>> {
    let own = timings.filter("experiment", experiment)?;
    // Records from before peaks were counted have no such column.
    let counted = own.columns().iter().any(|column| column == PEAK_BYTES);
    let peaks = if counted { own.text(PEAK_BYTES)? } else { vec![""; own.len()] };
    let mut taken = vec![["NaN", "NaN"]; table.len()];
    let mut timed = false;
    for ((row, seconds), peak) in
        own.text("row")?.into_iter().zip(own.text(SECONDS)?).zip(peaks).filter(|((row, _), _)| !row.is_empty())
    {
        let place = row.parse().ok().and_then(|row: usize| taken.get_mut(row));
        let lines = || Error::argument("row", format_args!("a line below {}", table.len()), format_args!("`{row}`"));
        *place.ok_or_else(lines)? = [seconds, if peak.is_empty() { "NaN" } else { peak }];
        timed = true;
    }
    if !timed {
        return Ok(Cow::Borrowed(table));
    }
    let mut out = Table::new(table.columns().iter().map(String::as_str).chain([SECONDS, PEAK_BYTES]));
    for (row, taken) in table.rows().iter().zip(taken) {
        out.push(row.iter().map(String::as_str).chain(taken))?;
    }
    Ok(Cow::Owned(out))
}

impl Record {
    /// The table of this stem.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none.
    pub fn table(&self, stem: &str) -> Result<&Table> {
        let stems = || self.tables.keys().cloned().collect::<Vec<_>>().join(", ");
        self.tables.get(stem).ok_or_else(|| Error::argument("table", stems(), format_args!("`{stem}`")))
    }

    /// The table of this stem, with what its rows took as columns where they are timed.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none, or the record's timings do not fit it.
    pub fn timed_table(&self, stem: &str) -> Result<Cow<'_, Table>> {
        with_usage(self.table(stem)?, stem, &self.timings)
    }

    /// Writes the tables; the manifest, last, is left to [`Writer::finish`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_tables(&self, writer: &Writer) -> Result<()> {
        for (stem, table) in &self.tables {
            writer.write(&format!("{stem}.csv"), &table.to_csv()?)?;
        }
        writer.write(VERDICTS, &self.verdicts.to_csv()?)?;
        writer.write(TIMINGS, &self.timings.to_csv()?)
    }

    /// Whether the folder holds a complete record of this kind rather than that of a run.
    pub fn is_in(folder: &Path) -> bool {
        kind_in(folder).as_deref() == Some(KIND)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Data`] if the folder holds no complete record of this version, [`Error::Io`] if a file cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest: Manifest = read_manifest(folder, RECORD_VERSION, "nhgd bounds --resume` or `nhgd scale --resume")?;
        let stems = manifest.experiments.iter().flat_map(|report| &report.tables);
        let table = |stem: &String| Ok((stem.clone(), Table::read(&folder.join(format!("{stem}.csv")))?));
        Ok(Self {
            tables: stems.map(table).collect::<Result<_>>()?,
            verdicts: Table::read(&folder.join(VERDICTS))?,
            timings: Table::read(&folder.join(TIMINGS))?,
            manifest,
        })
    }
}
