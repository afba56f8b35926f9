//! The collections of experiments, each with a verb of the command line.

use serde::{Deserialize, Serialize};

use super::{Entry, costs, experiments};
use crate::error::{Error, Result};

/// A collection of experiments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// The theory's statements.
    #[default]
    Bounds,
    /// What things cost, and how that grows.
    Costs,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bounds, Self::Costs];

    /// The verb that runs it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Bounds => "bounds",
            Self::Costs => "scale",
        }
    }

    /// The title of its page.
    pub fn title(self) -> &'static str {
        match self {
            Self::Bounds => "The error-bound laboratory",
            Self::Costs => "What it costs, and how that grows",
        }
    }

    /// Its experiments, in the order in which they are run.
    pub fn registry(self) -> &'static [Entry] {
        match self {
            Self::Bounds => experiments::REGISTRY,
            Self::Costs => costs::REGISTRY,
        }
    }

    /// The experiment of this name.
    ///
    /// # Errors
    /// [`Error::Argument`] with all names.
    pub fn entry(self, name: &str) -> Result<&'static Entry> {
        self.registry().iter().find(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.registry().iter().map(|entry| entry.name).collect();
            Error::argument("experiment", format_args!("one of {}", names.join(", ")), format_args!("`{name}`"))
        })
    }
}
