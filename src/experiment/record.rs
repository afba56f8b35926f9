//! What a run leaves on disk, and nothing else: tables as CSV, pictures, and `manifest.json`, written last, whose presence means
//! that the record is complete. Every file is written to a temporary one in the same folder, synced and renamed. Reports are
//! rebuilt from these files alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file::{is_partial, write_atomically};

/// The version of the layout on disk.
pub const RECORD_VERSION: u32 = 1;

/// The file whose presence means that a record is complete.
pub const MANIFEST: &str = "manifest.json";
/// Metrics and oracle counts of every recorded step; no clock in it, so that equal runs give equal bytes.
/// Columns: `method`, `seed`, `step`, the manifest's `metrics`, the manifest's `counts`.
pub const ROWS: &str = "rows.csv";
/// Seconds of every recorded step, cumulative: `method`, `seed`, `step`, `seconds`, then one column a phase.
pub const TIMINGS: &str = "timings.csv";
/// Relative errors of hypergradient estimators: `estimator`, `curvature`, `fisher`, `unit` (`rows` or `products`), `budget`,
/// `repetition`, `relative_error`.
pub const HYPERGRADIENT_ERRORS: &str = "hypergradient_errors.csv";
/// Slopes of log relative error against log rows, with 95 % limits over the repetitions: `curvature`, `fisher`, `rows_from`,
/// `rows_to`, `replicates`, `slope`, `lower`, `upper`.
pub const HYPERGRADIENT_SLOPES: &str = "hypergradient_slopes.csv";
/// Derivative and estimator checks: `subject`, `quantity`, `error`, `tolerance`, `verdict` (`ok` or `FAILED`), `note`.
pub const CHECKS: &str = "checks.csv";
/// What there was to see after the last step of each run of the first seed, a row for each row of a picture, from the top: `method`, `seed`,
/// `step`, `picture` (its number), `title`, `kind` (`image` or `map`), `unit`, `values` (numbers with a space between).
pub const PICTURES: &str = "pictures.csv";

/// When the phases of the last outer step of each run of the first seed went on, and what went on beside what: `method`, `step`, `lane`
/// (0, or 1 for what went on beside), `phase`, `begin`, `end` (seconds from the beginning of the step).
pub const TIMELINE: &str = "timeline.csv";

/// Where an unfinished run stands; gone once the record is complete.
pub const CHECKPOINT: &str = "checkpoint.nhgd";

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`RECORD_VERSION`] when it was written.
    pub record_version: u32,
    /// The version of this crate.
    pub nhgd_version: String,
    /// A short title: the configuration's name.
    pub title: String,
    /// The configuration as TOML, defaults included.
    pub configuration: String,
    /// The seeds that were run.
    pub seeds: Vec<u64>,
    /// Threads used.
    pub threads: usize,
    /// The machine: operating system, architecture, processor, cores.
    pub machine: BTreeMap<String, String>,
    /// The metric columns of `rows.csv`, in order.
    pub metrics: Vec<String>,
    /// The oracle-count columns of `rows.csv`, in order.
    pub counts: Vec<String>,
    /// The values of `method` that are baselines: one row a seed, no steps.
    pub baselines: Vec<String>,
    /// Runs that failed, stopped or gave notice of something, by `method/seed`, with the reason.
    pub incidents: BTreeMap<String, String>,
}

/// A table of text cells with named columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::Shape`] unless it has a cell for every column.
    pub fn push<S: ToString>(&mut self, cells: impl IntoIterator<Item = S>) -> Result<()> {
        let row: Vec<String> = cells.into_iter().map(|c| c.to_string()).collect();
        crate::error::check_len("table row", row.len(), self.columns.len())?;
        self.rows.push(row);
        Ok(())
    }

    /// The column names.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The cells, row by row.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The cells of a column as text.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such column.
    pub fn text(&self, column: &str) -> Result<Vec<&str>> {
        let index = self.columns.iter().position(|c| c == column);
        let index = index.ok_or_else(|| Error::argument("column", self.columns.join(", "), format_args!("`{column}`")))?;
        Ok(self.rows.iter().map(|row| row[index].as_str()).collect())
    }

    /// The cells of a column as numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such column, or a cell is not a number.
    pub fn numbers(&self, column: &str) -> Result<Vec<f64>> {
        let parse = |cell: &str| {
            cell.parse().map_err(|_| Error::argument("cell", format_args!("a number in `{column}`"), format_args!("`{cell}`")))
        };
        self.text(column)?.into_iter().map(parse).collect()
    }

    /// The rows whose cell in `column` equals `value`.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such column.
    pub fn filter(&self, column: &str, value: &str) -> Result<Self> {
        let keep = self.text(column)?.into_iter().map(|cell| cell == value).collect::<Vec<_>>();
        let rows = self.rows.iter().zip(keep).filter(|(_, keep)| *keep).map(|(row, _)| row.clone()).collect();
        Ok(Self { columns: self.columns.clone(), rows })
    }

    /// The different values of a column, in the order of their first appearance.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such column.
    pub fn distinct(&self, column: &str) -> Result<Vec<String>> {
        let mut seen: Vec<String> = Vec::new();
        for cell in self.text(column)? {
            if !seen.iter().any(|s| s == cell) {
                seen.push(cell.to_owned());
            }
        }
        Ok(seen)
    }

    /// The table as CSV.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let failed = |e: &dyn std::fmt::Display| Error::Numerical { operation: "writing CSV", reason: e.to_string() };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns).map_err(|e| failed(&e))?;
        for row in &self.rows {
            writer.write_record(row).map_err(|e| failed(&e))?;
        }
        writer.into_inner().map_err(|e| failed(&e))
    }

    /// Reads a CSV file with a header line, or where there is none the same packed by gzip, as `.csv.gz`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Data`] if it is not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = match packed(path) {
            None => fs::read(path).map_err(|e| Error::io(path, "reading", e))?,
            Some(packed) => {
                let file = fs::File::open(&packed).map_err(|e| Error::io(&packed, "reading", e))?;
                let mut bytes = Vec::new();
                GzDecoder::new(file).read_to_end(&mut bytes).map_err(|e| Error::data(&packed, e))?;
                bytes
            }
        };
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let bad = |e: csv::Error| Error::data(path, e);
        let columns = reader.headers().map_err(bad)?.iter().map(str::to_owned).collect();
        let rows =
            reader.records().map(|record| Ok(record.map_err(bad)?.iter().map(str::to_owned).collect())).collect::<Result<_>>()?;
        Ok(Self { columns, rows })
    }
}

/// The packed table that stands in the place of this one, if it does.
fn packed(path: &Path) -> Option<PathBuf> {
    let packed = path.with_extension("csv.gz");
    (!path.is_file() && packed.is_file()).then_some(packed)
}

/// Reads a manifest whose `record_version` is this one; `go_on` says how to go on with a record that is not complete. The version is looked
/// at first: another one may hold anything.
///
/// # Errors
/// [`Error::Data`] if the folder holds no complete record of this version, [`Error::Io`] if the manifest cannot be read.
pub(crate) fn read_manifest<M: DeserializeOwned>(folder: &Path, version: u32, go_on: &str) -> Result<M> {
    #[derive(Deserialize)]
    struct Versioned {
        record_version: u32,
    }
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        let hint = if folder.join(CHECKPOINT).exists() { format!("; go on with its run by `{go_on}`") } else { String::new() };
        return Err(Error::data(folder, format_args!("no complete record here: it has no {MANIFEST}{hint}")));
    }
    let bytes = fs::read(&path).map_err(|e| Error::io(&path, "reading", e))?;
    let Versioned { record_version } = serde_json::from_slice(&bytes).map_err(|e| Error::data(&path, e))?;
    if record_version != version {
        return Err(Error::data(&path, format_args!("record version {record_version}; this program reads version {version}")));
    }
    serde_json::from_slice(&bytes).map_err(|e| Error::data(&path, e))
}

/// What kind of record the folder's manifest says that it is; none for that of a run.
pub(crate) fn kind_in(folder: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let bytes = fs::read(folder.join(MANIFEST)).ok()?;
    serde_json::from_slice::<Kind>(&bytes).ok().map(|found| found.kind)
}

/// A number as it stands in a table: the shortest text that reads back to the same bits.
pub fn cell(value: f64) -> String {
    format!("{value:?}")
}

/// A record being written: its folder is new or its run unfinished, its manifest comes last.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    /// Held as long as the record is being written, so that no second process writes it too; the system lets go of it however
    /// this one ends.
    _lock: Option<fs::File>,
}

impl Writer {
    /// Creates the folder.
    ///
    /// # Errors
    /// [`Error::Argument`] if something stands there already, [`Error::Data`] if another process writes there, [`Error::Io`] if
    /// it cannot be created.
    pub fn create(folder: &Path) -> Result<Self> {
        if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|e| Error::io(parent, "creating the output folder", e))?;
        }
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                // An empty folder is as good as a new one, and what a killed process left of a write is nothing.
                let empty = fs::read_dir(folder)
                    .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| is_partial(&entry.file_name()))));
                if !empty {
                    let unfinished = folder.join(CHECKPOINT).exists() && !folder.join(MANIFEST).exists();
                    let hint = if unfinished { "; it holds an unfinished run, which `--resume` goes on with" } else { "" };
                    let found = format!("{}, which exists and is not empty{hint}", folder.display());
                    return Err(Error::argument("--out", "a new or empty folder", found));
                }
            }
            Err(e) => return Err(Error::io(folder, "creating the output folder", e)),
        }
        let writer = Self::resume(folder)?;
        writer.clear_leftovers();
        Ok(writer)
    }

    /// The folder of an unfinished run.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such folder, [`Error::Data`] if another process writes there.
    pub fn resume(folder: &Path) -> Result<Self> {
        fs::read_dir(folder).map_err(|e| Error::io(folder, "opening the output folder", e))?;
        // Not every system opens folders and not every file system has locks: then there is no such protection.
        let lock = fs::File::open(folder).ok();
        if let Some(Err(fs::TryLockError::WouldBlock)) = lock.as_ref().map(fs::File::try_lock) {
            return Err(Error::data(folder, "another process is writing there"));
        }
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// A record that exists, to write its pictures anew.
    pub fn existing(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), _lock: None }
    }

    /// The record's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one file: all of it, or nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.folder.join(name), bytes)
    }

    /// Removes what a killed process left of its writes.
    pub fn clear_leftovers(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        // What cannot be removed is in nobody's way.
        entries.filter(|entry| is_partial(&entry.file_name())).for_each(|entry| drop(fs::remove_file(entry.path())));
    }

    /// Completes the record, and removes the checkpoint that is of no more use.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(&self, manifest: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec_pretty(manifest);
        let json = json.map_err(|e| Error::Numerical { operation: "writing the manifest", reason: e.to_string() })?;
        self.write(MANIFEST, &json)?;
        // Beside a manifest it is never looked at.
        let _ = fs::remove_file(self.folder.join(CHECKPOINT));
        Ok(())
    }

    /// Removes the folder with what was written so far, after a failure.
    pub fn abandon(&self) {
        // The failure that led here is the one to report; a folder that cannot be removed adds nothing to it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A complete record, read back.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its manifest.
    pub manifest: Manifest,
    /// `rows.csv`.
    pub rows: Table,
    /// `timings.csv`.
    pub timings: Table,
    /// `hypergradient_errors.csv`, where the record has one.
    pub hypergradient_errors: Option<Table>,
    /// `hypergradient_slopes.csv`, where the record has one.
    pub hypergradient_slopes: Option<Table>,
    /// `checks.csv`, where the record has one.
    pub checks: Option<Table>,
    /// `pictures.csv`, where the record has one.
    pub pictures: Option<Table>,
    /// `timeline.csv`, where the record has one.
    pub timeline: Option<Table>,
}

impl Record {
    /// Writes the tables; the manifest, last, is left to [`Writer::finish`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_tables(&self, writer: &Writer) -> Result<()> {
        let optional = [
            (HYPERGRADIENT_ERRORS, &self.hypergradient_errors),
            (HYPERGRADIENT_SLOPES, &self.hypergradient_slopes),
            (CHECKS, &self.checks),
            (PICTURES, &self.pictures),
            (TIMELINE, &self.timeline),
        ];
        let optional = optional.into_iter().filter_map(|(name, table)| table.as_ref().map(|table| (name, table)));
        for (name, table) in [(ROWS, &self.rows), (TIMINGS, &self.timings)].into_iter().chain(optional) {
            writer.write(name, &table.to_csv()?)?;
        }
        Ok(())
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Data`] if the folder holds no complete record of this version, [`Error::Io`] if a file cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest: Manifest = read_manifest(folder, RECORD_VERSION, "nhgd run --resume")?;
        let optional = |name: &str| {
            let path = folder.join(name);
            if path.is_file() || packed(&path).is_some() { Table::read(&path).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            rows: Table::read(&folder.join(ROWS))?,
            timings: Table::read(&folder.join(TIMINGS))?,
            hypergradient_errors: optional(HYPERGRADIENT_ERRORS)?,
            hypergradient_slopes: optional(HYPERGRADIENT_SLOPES)?,
            checks: optional(CHECKS)?,
            pictures: optional(PICTURES)?,
            timeline: optional(TIMELINE)?,
            manifest,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            record_version: RECORD_VERSION,
            nhgd_version: "0".into(),
            title: "t".into(),
            configuration: String::new(),
            seeds: vec![1],
            threads: 1,
            machine: BTreeMap::new(),
            metrics: vec![],
            counts: vec![],
            baselines: vec![],
            incidents: BTreeMap::new(),
        }
    }

    #[test]
    fn a_record_reads_back_and_is_incomplete_until_its_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep/run");
        drop(Writer::create(&folder).unwrap());
        let writer = Writer::create(&folder).unwrap();
        assert_eq!(writer.folder(), folder, "an empty folder will do");
        if cfg!(unix) {
            assert!(Writer::create(&folder).unwrap_err().to_string().contains("another process"), "one at a time");
        }
        let mut table = Table::new(["method", "x"]);
        for x in [0.1, -1e-300, 1.0 / 3.0, f64::NAN] {
            table.push(["a, \"b\"".to_owned(), cell(x)]).unwrap();
        }
        assert!(table.push(["only one"]).is_err());
        writer.write(ROWS, &table.to_csv().unwrap()).unwrap();
        assert!(Writer::create(&folder).unwrap_err().to_string().contains("not empty"));
        writer.write(CHECKPOINT, b"").unwrap();
        assert!(Writer::create(&folder).unwrap_err().to_string().contains("--resume"));
        writer.write(TIMINGS, &Table::new(["method"]).to_csv().unwrap()).unwrap();
        assert!(Record::read(&folder).unwrap_err().to_string().contains("no complete record"));
        writer.finish(&manifest()).unwrap();
        assert!(!folder.join(CHECKPOINT).exists());
        let record = Record::read(&folder).unwrap();
        assert_eq!(record.rows, table);
        let numbers = record.rows.numbers("x").unwrap();
        assert_eq!(numbers[..3], [0.1, -1e-300, 1.0 / 3.0]);
        assert!(numbers[3].is_nan());
        assert!(record.rows.numbers("method").is_err() && record.rows.text("y").is_err());
        assert_eq!(record.rows.distinct("method").unwrap().len(), 1);
    }

    /// An optional table too: were it passed over, the record would read back with less in it.
    #[test]
    fn packed_tables_stand_for_those_that_are_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::existing(dir.path());
        let mut table = Table::new(["method", "x"]);
        table.push(["a", "1"]).unwrap();
        for name in [ROWS, TIMINGS, CHECKS] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&table.to_csv().unwrap()).unwrap();
            fs::write(dir.path().join(name).with_extension("csv.gz"), encoder.finish().unwrap()).unwrap();
        }
        writer.finish(&manifest()).unwrap();
        let record = Record::read(dir.path()).unwrap();
        assert_eq!((&record.rows, record.checks.as_ref(), record.hypergradient_errors.as_ref()), (&table, Some(&table), None));
        // A table as it is counts before a packed one.
        writer.write(ROWS, &Table::new(["other"]).to_csv().unwrap()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap().rows.columns(), ["other"]);
    }

    #[test]
    fn a_newer_record_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::existing(dir.path());
        writer.finish(&Manifest { record_version: RECORD_VERSION + 1, ..manifest() }).unwrap();
        let newer = |folder: &Path| Record::read(folder).unwrap_err().to_string().contains("this program reads version 1");
        assert!(newer(dir.path()));
        // Whatever else such a manifest holds.
        fs::write(dir.path().join(MANIFEST), br#"{"record_version": 2, "seeds": "all"}"#).unwrap();
        assert!(newer(dir.path()));
    }

    #[test]
    fn an_unfinished_record_says_how_to_go_on() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CHECKPOINT), b"").unwrap();
        let said = Record::read(dir.path()).unwrap_err().to_string();
        assert!(said.ends_with("go on with its run by `nhgd run --resume`"), "{said}");
    }
}
