//! A laboratory between two pieces, as one file from which it goes on to the same bytes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Rows;
use super::plan::Plan;
use super::{Size, Suite, runner::folder_of};
use crate::error::{Error, Result};
use crate::experiment::kept::{Format, Kept, read_kept};
use crate::experiment::record::CHECKPOINT;
use crate::problem::DataSource;

const FORMAT: Format = Format { name: "nhgd-laboratory", version: 2 };

/// A piece that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// What it gave.
    pub rows: Rows,
    /// The seconds it took.
    pub seconds: f64,
}

/// All that a laboratory needs to go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The collection that the plan is of.
    pub suite: Suite,
    /// The plan as TOML.
    pub configuration: String,
    /// The size it began with.
    pub size: Size,
    /// The folder of data that is not embedded, where one was given.
    pub data_folder: Option<String>,
    /// For each experiment of the plan its pieces, in order.
    pub pieces: Vec<Vec<Option<Done>>>,
}

impl Checkpoint {
    /// The laboratory before any work.
    ///
    /// # Errors
    /// As [`Plan::to_toml`].
    pub fn new(plan: &Plan, size: Size, source: &DataSource) -> Result<Self> {
        let pieces = plan.chosen.iter().map(|chosen| vec![None; chosen.experiment.pieces()]).collect();
        Ok(Self { suite: plan.suite, configuration: plan.to_toml()?, size, data_folder: folder_of(source), pieces })
    }

    /// The plan.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Data`], for one that this program did not write.
    pub fn plan(&self) -> Result<Plan> {
        let plan = Plan::parse(self.suite, &[], self.size, &self.configuration, Path::new(CHECKPOINT))?;
        let sizes: Vec<usize> = plan.chosen.iter().map(|chosen| chosen.experiment.pieces()).collect();
        if sizes != self.pieces.iter().map(Vec::len).collect::<Vec<_>>() {
            return Err(Error::data(CHECKPOINT, "its pieces are not those of its plan"));
        }
        Ok(plan)
    }

    /// Reads what [`to_bytes`](Kept::to_bytes) wrote; `path` stands in messages.
    ///
    /// # Errors
    /// As [`Format::from_bytes`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        FORMAT.from_bytes(bytes, path)
    }

    /// Reads the checkpoint of an output folder.
    ///
    /// # Errors
    /// As [`read_kept`] and [`Format::from_bytes`].
    pub fn read(folder: &Path) -> Result<Self> {
        let (bytes, path) = read_kept(folder)?;
        Self::from_bytes(&bytes, &path)
    }
}

impl Kept for Checkpoint {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        FORMAT.to_bytes(self)
    }

    fn holds_work(&self) -> bool {
        self.pieces.iter().flatten().any(Option::is_some)
    }
}
