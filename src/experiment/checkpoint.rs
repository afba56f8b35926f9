//! A checkpoint: an experiment between two outer steps, as one file from which it goes on to the same bytes. It says in its first
//! line which format it has and which version of the crate wrote it; the rest carries a checksum. It knows nothing of how the
//! work is done, and nothing of when it is saved.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::gathered::Gathered;
use super::kept::{Format, read_kept};
use super::record::CHECKPOINT;
use crate::bilevel::{Phase, State};
use crate::error::{Error, Result};
use crate::problem::{DataSource, OracleCounts, Problem};
use crate::rng::Key;
use crate::samples::Batch;

/// The version of the layout on disk.
pub const CHECKPOINT_VERSION: u32 = 4;

const FORMAT: Format = Format { name: "nhgd-checkpoint", version: CHECKPOINT_VERSION };

/// A piece of the work of one seed, in the order in which pieces are done: wholly or not at all, except that a run goes on from
/// its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Piece {
    /// The checks (of the first seed).
    Checks,
    /// The baseline of this number.
    Baseline(usize),
    /// The run of this number.
    Run(usize),
    /// This piece of the estimators' errors (of the first seed).
    Errors(u64),
}

/// The number of a seed, and a piece of its work.
pub type Position = (usize, Piece);

/// All that an experiment needs to go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The configuration as TOML, every default spelled out.
    pub configuration: String,
    /// The folder of data that is not embedded, where one was given.
    pub data_folder: Option<String>,
    /// Units of work done, as progress counts them.
    pub done: u64,
    /// The last piece that is done; all before it are.
    pub finished: Option<Position>,
    /// The run that is under way.
    pub running: Option<Running>,
    /// By what the problem of the seed of this number is known again.
    pub(super) problem: Option<(usize, Fingerprint)>,
    pub(super) gathered: Gathered,
}

/// A run under way, between two outer steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Which one.
    pub at: Position,
    /// [`State::to_bytes`].
    pub state: Vec<u8>,
    /// The oracle calls so far.
    pub counts: OracleCounts,
    /// Seconds by phase, then those of evaluation.
    pub seconds: [f64; Phase::ALL.len() + 1],
}

impl Running {
    pub(super) fn new(at: Position, state: &State, counts: OracleCounts, seconds: [f64; Phase::ALL.len() + 1]) -> Result<Self> {
        Ok(Self { at, state: state.to_bytes()?, counts, seconds })
    }
}

impl Checkpoint {
    /// The experiment before any work.
    ///
    /// # Errors
    /// [`Error::Numerical`] for a configuration that TOML cannot hold (a seed of 2⁶³ or more).
    pub fn new(config: &Config, source: &DataSource) -> Result<Self> {
        Ok(Self {
            configuration: config.to_toml()?,
            data_folder: folder_of(source),
            done: 0,
            finished: None,
            running: None,
            problem: None,
            gathered: Gathered::new(config),
        })
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`Error::Config`], for one that this program did not write.
    pub fn config(&self) -> Result<Config> {
        Config::parse(&self.configuration, Path::new(CHECKPOINT))
    }

    /// Whether it holds work that a fresh start would have to do again.
    pub fn holds_work(&self) -> bool {
        self.finished.is_some() || self.running.is_some()
    }

    /// Checks that `config` is the checkpoint's own.
    ///
    /// # Errors
    /// [`Error::Argument`] with the first key that differs and both values.
    pub fn check_config(&self, config: &Config) -> Result<()> {
        match self.config()?.first_difference(config)? {
            None => Ok(()),
            Some((key, own, other)) => {
                let expected = format!("that of the checkpoint, {key} = {own}");
                Err(Error::argument("configuration", expected, format_args!("{key} = {other}")))
            }
        }
    }

    /// The file's bytes: a line with format, its version and the crate's, a checksum, the rest.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        FORMAT.to_bytes(self)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `path` stands in messages.
    ///
    /// # Errors
    /// [`Error::Data`] for another format or version, and for damaged bytes.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        FORMAT.from_bytes(bytes, path)
    }

    /// Reads the checkpoint of an output folder.
    ///
    /// # Errors
    /// [`Error::Argument`] where the record is complete, [`Error::Data`] where there is no checkpoint or one that cannot be used,
    /// [`Error::Io`].
    pub fn read(folder: &Path) -> Result<Self> {
        let (bytes, path) = read_kept(folder)?;
        Self::from_bytes(&bytes, &path)
    }

    /// Remembers the data folder of this session.
    pub(super) fn remember(&mut self, source: &DataSource) {
        self.data_folder = folder_of(source);
    }

    /// Notes by what the problem of seed number `index` is known, or checks that it is the one that was noted.
    pub(super) fn recognize(&mut self, index: usize, problem: &dyn Problem, source: &DataSource) -> Result<()> {
        let found = Fingerprint::of(problem)?;
        match &self.problem {
            Some((noted, expected)) if *noted == index && !expected.agrees_with(&found) => {
                let place = source.folder.clone().unwrap_or_else(|| "data".into());
                Err(Error::data(
                    place,
                    format_args!("not the data that the checkpoint was made with: {}", expected.against(&found)),
                ))
            }
            Some((noted, _)) if *noted == index => Ok(()),
            _ => {
                self.problem = Some((index, found));
                Ok(())
            }
        }
    }
}

/// The folder as text; none where it has no name in Unicode, and must be given anew.
fn folder_of(source: &DataSource) -> Option<String> {
    source.folder.as_deref().and_then(Path::to_str).map(str::to_owned)
}

/// By what a problem is known again: its sizes (d1, d2, inner and outer samples), and f, g and the metrics at one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    sizes: [usize; 4],
    values: Vec<f64>,
}

impl Fingerprint {
    fn of(problem: &dyn Problem) -> Result<Self> {
        let (v, mut theta) = problem.initial();
        // Away from the start, where a loss need not depend on the data: softmax at 0.
        let direction = Key::new(0).named("fingerprint").stream().normals(theta.len());
        crate::dense::axpy(0.1, &direction, &mut theta);
        let mut values = vec![problem.f_inner(&v, &theta, Batch::All)?, problem.f_outer(&v, &theta, Batch::All)?];
        values.extend(problem.metrics(&v, &theta)?);
        let sizes = [problem.outer_dim(), problem.inner_dim(), problem.inner_samples(), problem.outer_samples()];
        Ok(Self { sizes, values })
    }

    /// Equal up to what another processor's rounding may change.
    fn agrees_with(&self, other: &Self) -> bool {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * a.abs() || (a.is_nan() && b.is_nan());
        self.sizes == other.sizes && self.values.len() == other.values.len() && self.values.iter().zip(&other.values).all(close)
    }

    /// What differs, in words.
    fn against(&self, found: &Self) -> String {
        if self.sizes == found.sizes {
            return format!("f, g and metrics at a fixed point were {:?} and are {:?}", self.values, found.values);
        }
        let words = |s: [usize; 4]| format!("d1 = {}, d2 = {}, {} inner and {} outer samples", s[0], s[1], s[2], s[3]);
        format!("it had {}, this has {}", words(self.sizes), words(found.sizes))
    }
}
