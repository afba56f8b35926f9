//! The configuration of an experiment, as TOML: one problem, the runs to make on it, the seeds. Unknown keys, wrong types and
//! values outside their domain are refused with the line they stand in.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::hypergradient_errors;
use super::source::{Source, Span, find_in_value, find_key, first_difference};
use crate::bilevel::MethodConfig;
use crate::error::{Error, Result, check_count};
use crate::problem::ProblemConfig;

/// An experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the report is called.
    pub title: String,
    /// One repetition of everything for each seed.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
    /// Outer steps between recorded rows (the first and the last are always recorded).
    #[serde(default = "default_record_every")]
    pub record_every: u64,
    /// Whether the problem's baselines are solved too.
    #[serde(default = "default_baselines")]
    pub baselines: bool,
    /// Whether derivatives and estimators are checked first.
    #[serde(default)]
    pub checks: bool,
    /// The problem.
    pub problem: ProblemConfig,
    /// The runs.
    #[serde(default)]
    pub runs: Vec<Run>,
    /// Errors of hypergradient estimators against the oracle, if wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypergradient_errors: Option<hypergradient_errors::Config>,
}

/// One method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The name in records and plots.
    pub label: String,
    /// How many outer steps.
    pub outer_steps: u64,
    /// The method.
    pub method: MethodConfig,
}

fn default_seeds() -> Vec<u64> {
    vec![0]
}

fn default_record_every() -> u64 {
    1
}

fn default_baselines() -> bool {
    true
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Config`] with the line for everything wrong in it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::io(path, "reading the configuration", e))?;
        Self::parse(&text, path)
    }

    /// As [`read`](Self::read), from text; `path` stands in messages.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let source = Source { text, path };
        let document = source.document()?;
        let config = Self::deserialize(toml::de::Deserializer::from(document.clone())).map_err(|e| source.syntax(&e))?;
        config.validate().map_err(|(run, error)| {
            let span = error.offending_argument().and_then(|argument| find_in_run(document.get_ref(), run, argument));
            source.error(span, error.to_string())
        })?;
        Ok(config)
    }

    /// The configuration as TOML, every default spelled out.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Numerical { operation: "writing TOML", reason: e.to_string() })
    }

    /// The first key whose value is not that of `other`, in alphabetical order: its path, the value here and the value there.
    ///
    /// # Errors
    /// As [`to_toml`](Self::to_toml).
    pub fn first_difference(&self, other: &Self) -> Result<Option<(String, String, String)>> {
        let table = |config: &Self| {
            let table = toml::Value::try_from(config);
            table.map_err(|e| Error::Numerical { operation: "writing TOML", reason: e.to_string() })
        };
        Ok(first_difference(&table(self)?, &table(other)?))
    }

    /// Checks every value; an error comes with the number of the run it is in.
    pub(super) fn validate(&self) -> std::result::Result<(), (Option<usize>, Error)> {
        let top = |result: Result<()>| result.map_err(|e| (None, e));
        top(check_count("seeds", self.seeds.len()))?;
        top(check_count("record_every", self.record_every as usize))?;
        top(self.problem.validate())?;
        if let Some(errors) = &self.hypergradient_errors {
            top(errors.validate())?;
        }
        for (i, run) in self.runs.iter().enumerate() {
            let within = |result: Result<()>| result.map_err(|e| (Some(i), e));
            within(check_count("outer_steps", run.outer_steps as usize))?;
            within(run.method.validate())?;
            if run.label.trim().is_empty() || self.runs[..i].iter().any(|other| other.label == run.label) {
                let expected = "a label that is not empty and not used twice";
                return Err((Some(i), Error::argument("label", expected, format_args!("`{}`", run.label))));
            }
        }
        Ok(())
    }
}

/// Where the key `name` stands: in the given run if there is one, else anywhere.
fn find_in_run(document: &DeTable<'_>, run: Option<usize>, name: &str) -> Option<Span> {
    let Some(run) = run else { return find_key(document, name) };
    let Some(DeValue::Array(runs)) = document.get("runs").map(Spanned::get_ref) else { return None };
    runs.get(run).and_then(|run| find_in_value(run.get_ref(), name).or(Some(run.span())))
}
