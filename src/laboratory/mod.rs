//! The laboratory: statements as experiments at scale, those of the theory ([`experiments`]) and those of what things cost ([`costs`]), a
//! [`Suite`] each. An [`Experiment`] states its claims and their rules before
//! anything is measured, cuts its work into pieces (a replicate, a setting) that depend on nothing but their number and a
//! [`Key`], and says as data which pictures its tables make. The [`runner`] does the pieces in parallel and can be interrupted; what is left
//! on disk is a [`record`], from which the pictures are drawn by those who know how.

pub mod checkpoint;
pub mod costs;
pub mod experiments;
pub mod memory;
pub mod picture;
pub mod plan;
pub mod record;
pub mod runner;
mod suite;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::memory::Memory;
use self::picture::Picture;
pub use self::suite::Suite;
use crate::bounds::{Claim, Measured};
use crate::error::{Error, Result};
use crate::experiment::record::Table;
use crate::problem::DataSource;
use crate::rng::Key;

/// The confidence of all limits in the laboratory.
pub const CONFIDENCE: f64 = 0.95;

/// A measured number as it stands in a table: five digits, more than any replicate knows.
pub fn rounded(value: f64) -> String {
    format!("{value:.4e}")
}

/// A computed number as it stands in a table: seven significant digits. Measurements are taken from the tables, and rounding
/// keeps order, so that what was at most a bound still is.
pub fn cell(value: f64) -> String {
    crate::experiment::record::cell(format!("{value:.6e}").parse().unwrap_or(value))
}

/// How much of an experiment is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// Everything in two or three minutes: enough to see the effects.
    Quick,
    /// Everything in twenty-five to forty minutes: enough to decide the claims.
    Full,
}

impl Size {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// What an experiment works with besides its settings.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// Names every random number of the experiment.
    pub key: Key,
    /// Where data are found that are not embedded.
    pub source: &'a DataSource,
    /// The time since some moment, for rows that carry seconds; nothing else may depend on it.
    pub clock: &'a (dyn Fn() -> Duration + Sync),
    /// The memory in use and left, for rows that carry peaks and for what would not fit; nothing else may depend on it.
    pub memory: Memory<'a>,
}

/// What a row took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds.
    pub seconds: f64,
    /// The most bytes in use at once; none where nobody counts them.
    pub peak_bytes: Option<u64>,
}

/// The rows of one piece, cells in the order of the experiment's columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    cells: Vec<Vec<String>>,
    /// What rows took, by their places, ascending; a row that is not timed has none.
    usages: Vec<(usize, Usage)>,
}

impl Rows {
    /// Adds a row.
    pub fn push<S: ToString>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.cells.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    /// Adds a row that took so many seconds. They end in `timings.csv`, never among the cells.
    pub fn push_timed<S: ToString>(&mut self, cells: impl IntoIterator<Item = S>, seconds: f64) {
        self.push_used(cells, Usage { seconds, peak_bytes: None });
    }

    /// Adds a row with what it took: seconds and memory, which end in `timings.csv`, never among the cells.
    pub fn push_used<S: ToString>(&mut self, cells: impl IntoIterator<Item = S>, usage: Usage) {
        self.usages.push((self.cells.len(), usage));
        self.push(cells);
    }

    /// The rows.
    pub fn cells(&self) -> &[Vec<String>] {
        &self.cells
    }

    /// What rows took, by their places, ascending.
    pub fn usages(&self) -> &[(usize, Usage)] {
        &self.usages
    }
}

/// An experiment made ready: what piece i adds to the table. A pure function of settings, key and i, the seconds of timed rows apart.
pub type Pieces<'a> = Box<dyn Fn(usize) -> Result<Rows> + Send + Sync + 'a>;

/// What a complete table says.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// For each claim, in the order of [`Experiment::claims`], what was measured.
    pub measured: Vec<Measured>,
    /// Tables that follow from it, by file stem: theory curves, quantiles, slopes.
    pub tables: Vec<(String, Table)>,
}

/// How pieces may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Several at once.
    Parallel,
    /// One after the other, because their seconds are part of the finding.
    Alone,
}

/// An experiment with its settings. To add one: a file that implements this and [`Registered`], and its line in the registry of its suite,
/// [`experiments::REGISTRY`] or [`costs::REGISTRY`].
pub trait Experiment: Send + Sync {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Argument`] that names the setting as the configuration does.
    fn validate(&self) -> Result<()>;

    /// What will be decided, and how: from the settings alone.
    fn claims(&self) -> Vec<Claim>;

    /// The columns of the table.
    fn columns(&self) -> &'static [&'static str];

    /// The number of pieces.
    fn pieces(&self) -> usize;

    /// What a piece costs, roughly, in microseconds of one core. Only the time left depends on it.
    fn work(&self, piece: usize) -> u64;

    /// How its pieces may be run.
    fn concurrency(&self) -> Concurrency {
        Concurrency::Parallel
    }

    /// Does once what all pieces need. Done again by every session that goes on with an interrupted run.
    ///
    /// # Errors
    /// [`Error::Data`] for missing data, and whatever the computation meets.
    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>>;

    /// Takes the measurements that the claims are about from the table of all pieces, rows in the order of the pieces. Where rows carry what
    /// they took, the table has the columns [`SECONDS`](record::SECONDS) and [`PEAK_BYTES`](record::PEAK_BYTES) besides, NaN where a row has none.
    ///
    /// # Errors
    /// [`Error::Argument`] for another table, and whatever the computation meets.
    fn measure(&self, bench: Bench<'_>, rows: &Table) -> Result<Findings>;

    /// The stems of tables that are short enough to be read on the page.
    fn shown(&self) -> &'static [&'static str] {
        &[]
    }

    /// What to draw.
    fn pictures(&self) -> Vec<Picture>;

    /// The settings as TOML, every one spelled out.
    ///
    /// # Errors
    /// [`Error::Numerical`] for settings that TOML cannot hold.
    fn settings(&self) -> Result<toml::Table>;
}

/// An experiment that a registry can build.
pub trait Registered: Experiment + Serialize + DeserializeOwned + 'static {
    /// Its name on the command line, in configurations and of its table.
    const NAME: &'static str;
    /// What it shows, in a line.
    const ABOUT: &'static str;

    /// Its settings at this size.
    fn sized(size: Size) -> Self;
}

/// [`Experiment::settings`] of settings that serialize.
///
/// # Errors
/// [`Error::Numerical`].
pub fn settings_of<T: Serialize>(settings: &T) -> Result<toml::Table> {
    toml::Table::try_from(settings).map_err(|e| Error::Numerical { operation: "writing TOML", reason: e.to_string() })
}

/// A line of the registry.
pub struct Entry {
    /// [`Registered::NAME`].
    pub name: &'static str,
    /// [`Registered::ABOUT`].
    pub about: &'static str,
    sized: fn(Size) -> Box<dyn Experiment>,
    build: fn(toml::Table) -> std::result::Result<Box<dyn Experiment>, toml::de::Error>,
}

impl Entry {
    /// The line of an experiment.
    pub const fn of<E: Registered>() -> Self {
        Self {
            name: E::NAME,
            about: E::ABOUT,
            sized: |size| Box::new(E::sized(size)),
            build: |settings| Ok(Box::new(E::deserialize(settings)?)),
        }
    }

    /// The experiment at this size.
    pub fn sized(&self, size: Size) -> Box<dyn Experiment> {
        (self.sized)(size)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}
