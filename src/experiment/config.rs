//! The configuration of an experiment, as TOML: one problem, the runs to make on it, the seeds. Unknown keys, wrong types and
//! values outside their domain are refused with the line they stand in.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::hypergradient_errors;
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
        let at = |span: Option<std::ops::Range<usize>>, message: String| {
            let offset = span.map_or(0, |s| s.start).min(text.len());
            let line = text[..offset].matches('\n').count() + 1;
            Error::Config { path: path.to_owned(), line, message }
        };
        let syntax = |e: &toml::de::Error| {
            let message = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
            let offset = e.span().map_or(0, |s| s.start).min(text.len());
            let source = text
                [offset - text[..offset].chars().rev().take_while(|c| *c != '\n').map(char::len_utf8).sum::<usize>()..]
                .lines()
                .next();
            at(e.span(), source.map_or(message.clone(), |source| format!("{message} (in `{}`)", source.trim())))
        };
        let document = DeTable::parse(text).map_err(|e| syntax(&e))?;
        if let Some((key, span)) = non_finite(document.get_ref()) {
            return Err(at(Some(span), format!("`{key}` must be a finite number")));
        }
        let config = Self::deserialize(toml::de::Deserializer::from(document.clone())).map_err(|e| syntax(&e))?;
        config.validate().map_err(|(run, error)| match error.offending_argument() {
            Some(argument) => at(find_key(document.get_ref(), run, argument), error.to_string()),
            None => at(None, error.to_string()),
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
        Ok(first_difference(String::new(), Some(&table(self)?), Some(&table(other)?)))
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

fn first_difference(path: String, a: Option<&toml::Value>, b: Option<&toml::Value>) -> Option<(String, String, String)> {
    use toml::Value::{Array, Table};
    match (a, b) {
        _ if a == b => None,
        (Some(Table(a)), Some(Table(b))) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            keys.into_iter().find_map(|key| first_difference(below(key), a.get(key), b.get(key)))
        }
        (Some(Array(a)), Some(Array(b))) if a.iter().chain(b).all(toml::Value::is_table) => {
            (0..a.len().max(b.len())).find_map(|i| first_difference(format!("{path}[{i}]"), a.get(i), b.get(i)))
        }
        _ => {
            let text = |value: Option<&toml::Value>| value.map_or("(absent)".to_owned(), ToString::to_string);
            Some((path, text(a), text(b)))
        }
    }
}

type Span = std::ops::Range<usize>;

/// The first key whose value is NaN or infinite.
fn non_finite(table: &DeTable<'_>) -> Option<(String, Span)> {
    fn search(key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Option<(String, Span)> {
        match value.get_ref() {
            DeValue::Float(number) if number.as_str().contains("nan") || number.as_str().contains("inf") => {
                Some((key.get_ref().to_string(), value.span()))
            }
            DeValue::Array(values) => values.iter().find_map(|value| search(key, value)),
            DeValue::Table(table) => non_finite(table),
            _ => None,
        }
    }
    table.iter().find_map(|(key, value)| search(key, value))
}

/// Where the key `name` stands: in the given run if there is one, else anywhere.
fn find_key(table: &DeTable<'_>, run: Option<usize>, name: &str) -> Option<Span> {
    fn search(value: &DeValue<'_>, name: &str) -> Option<Span> {
        match value {
            DeValue::Table(table) => within(table, name),
            DeValue::Array(values) => values.iter().find_map(|value| search(value.get_ref(), name)),
            _ => None,
        }
    }
    fn within(table: &DeTable<'_>, name: &str) -> Option<Span> {
        table.iter().find_map(|(key, value)| if key.get_ref() == name { Some(key.span()) } else { search(value.get_ref(), name) })
    }
    match run {
        None => within(table, name),
        Some(run) => match table.get("runs").map(Spanned::get_ref) {
            Some(DeValue::Array(runs)) => runs.get(run).and_then(|run| search(run.get_ref(), name).or(Some(run.span()))),
            _ => None,
        },
    }
}
