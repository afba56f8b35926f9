//! What a comparison leaves on disk: tables of what was tried and run, what follows from them, the best settings as configurations of their
//! own, and the manifest, last, which says what its pictures show. Report and pictures are drawn anew from these files alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::experiment::record::{Table, Writer, kind_in, read_manifest};
use crate::laboratory::picture::Picture;

/// The version of the layout on disk.
pub const RECORD_VERSION: u32 = 1;

/// What was tried: `problem`, `method`, `candidate`, `settings`, `score` (the least found, on outer samples that were held out), `share` (of
/// the budget of a reported run, where it was found), `step`, `seconds`, `gradient_equivalents`, `outcome`.
pub const CANDIDATES: &str = "candidates";
/// Reported runs at their end: `problem`, `method`, `seed`, `settings`, `outcome` (`done`, `baseline` or what went wrong), `step`, `seconds`,
/// `gradient_equivalents`, the oracle counts, then the metrics of all problems; a cell is empty where a problem has no such metric.
pub const RUNS: &str = "runs";
/// The same runs on the way: `problem`, `method`, `seed`, `step`, `seconds`, `gradient_equivalents`, `score`, then the metrics.
pub const CURVES: &str = "curves";
/// When runs reached targets: `problem`, `method`, `seed`, `target`, `value`, `reached` (`yes` or `no`), `step`, `seconds`,
/// `gradient_equivalents` (`inf` where not reached).
pub const TARGETS: &str = "targets";
/// Final metrics over seeds: `problem`, `method`, `metric`, `runs`, `mean`, `deviation` (of n − 1), `median`, `low`, `high`.
pub const SUMMARY: &str = "summary";
/// Curves of the score on a common grid: `problem`, `method`, `cost` (`seconds` or `gradient_equivalents`), `at`, `score`, `low`, `high`: median
/// and range over seeds of what each run had reached at that cost.
pub const PROGRESS: &str = "progress";
/// The performance profile (Dolan & Moré 2002): `method`, `cost`, `ratio` τ, `share` of all (problem, seed) that the method brought to the
/// convergence test within τ times the cost of the fastest.
pub const PROFILE: &str = "profile";
const TABLES: [&str; 7] = [CANDIDATES, RUNS, CURVES, TARGETS, SUMMARY, PROGRESS, PROFILE];

const KIND: &str = "comparison";

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `comparison`.
    pub kind: String,
    /// [`RECORD_VERSION`] when it was written.
    pub record_version: u32,
    /// The version of this crate.
    pub nhgd_version: String,
    /// The configuration's title.
    pub title: String,
    /// The configuration as TOML, every default spelled out.
    pub configuration: String,
    /// Threads used.
    pub threads: usize,
    /// The machine: operating system, architecture, processor, cores.
    pub machine: BTreeMap<String, String>,
    /// The pictures.
    pub pictures: Vec<Picture>,
}

/// A complete record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its tables, by stem.
    pub tables: BTreeMap<String, Table>,
    /// The best settings as configurations that `run` takes, by file name; written, and not read back.
    pub best: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of this program.
    pub fn new(title: String, configuration: String, machine: BTreeMap<String, String>, pictures: Vec<Picture>) -> Self {
        Self {
            kind: KIND.into(),
            record_version: RECORD_VERSION,
            nhgd_version: env!("CARGO_PKG_VERSION").into(),
            title,
            configuration,
            threads: crate::par::threads(),
            machine,
            pictures,
        }
    }
}

impl Record {
    /// The table of this stem.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none.
    pub fn table(&self, stem: &str) -> Result<&Table> {
        self.tables.get(stem).ok_or_else(|| Error::argument("table", TABLES.join(", "), format_args!("`{stem}`")))
    }

    /// Writes tables and configurations; the manifest, last, is left to [`Writer::finish`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_tables(&self, writer: &Writer) -> Result<()> {
        for (stem, table) in &self.tables {
            writer.write(&format!("{stem}.csv"), &table.to_csv()?)?;
        }
        self.best.iter().try_for_each(|(file, text)| writer.write(file, text.as_bytes()))
    }

    /// Whether the folder holds a complete record of this kind.
    pub fn is_in(folder: &Path) -> bool {
        kind_in(folder).as_deref() == Some(KIND)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Data`] if the folder holds no complete record of this version, [`Error::Io`] if a file cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest = read_manifest(folder, RECORD_VERSION, "nhgd compare --resume")?;
        let table = |stem: &str| Ok((stem.to_owned(), Table::read(&folder.join(format!("{stem}.csv")))?));
        Ok(Self { manifest, tables: TABLES.into_iter().map(table).collect::<Result<_>>()?, best: BTreeMap::new() })
    }
}
