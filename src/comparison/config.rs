//! What is compared, as TOML: problems, methods, seeds, the budget of a run and of the tuning. Mistakes are told with the line they stand in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::Budget;
use super::candidates::{Grid, candidates};
use crate::bilevel::MethodConfig;
use crate::error::{Error, Result, check_count};
use crate::experiment::source::{Source, find_key};
use crate::problem::ProblemConfig;
use crate::rng::Key;

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the report is called.
    pub title: String,
    /// The seeds of reported runs.
    pub seeds: Vec<u64>,
    /// What each reported run may spend.
    pub budget: Budget,
    /// Evaluations of a run, equally spaced in its budget.
    #[serde(default = "default_points")]
    pub points: u64,
    /// How settings are chosen.
    #[serde(default)]
    pub tuning: Tuning,
    /// Whether the problems' baselines are solved too.
    #[serde(default = "default_baselines")]
    pub baselines: bool,
    /// The problems.
    pub problems: Vec<ProblemEntry>,
    /// The methods.
    pub methods: Vec<MethodEntry>,
}

/// How settings are chosen: the same for every method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// The seed of the problem on which settings are tried, and of their choice. None of the reported ones.
    pub seed: u64,
    /// The most settings tried for a method on a problem: all of the grid, or as many as this drawn from it.
    pub candidates: usize,
    /// The budget of each, as a share of a reported run's.
    pub share: f64,
    /// One in so many outer samples is held out and judges.
    pub folds: usize,
    /// Whether the point to stop at is chosen too; otherwise every reported run spends its budget.
    pub stopping: bool,
}

/// A problem and how methods are tried on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemEntry {
    /// The name in records and plots.
    pub label: String,
    /// The problem.
    pub problem: ProblemConfig,
    /// What is minimized: `f_outer`, or a metric of the problem. Tuning looks at it where no outer samples can be held out.
    #[serde(default = "default_score")]
    pub score: String,
    /// Metrics and the values to be reached: at least, for those with `accuracy` in their name, at most for all others.
    #[serde(default)]
    pub targets: BTreeMap<String, f64>,
    /// Settings of every method that has them.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
    /// Values to try, for every method that has such a setting.
    #[serde(default)]
    pub grid: Grid,
}

/// A method and what is to be tried of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodEntry {
    /// The name in records and plots.
    pub label: String,
    /// The method, with the settings that differ from its defaults.
    pub method: MethodConfig,
    /// Seeds of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// Values to try besides the problem's, or in their place.
    #[serde(default)]
    pub grid: Grid,
    /// The same for one problem, by its label.
    #[serde(default)]
    pub on: BTreeMap<String, Own>,
}

/// What a method has of its own on a problem.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Own {
    /// Settings.
    pub settings: BTreeMap<String, Value>,
    /// Values to try.
    pub grid: Grid,
}

fn default_points() -> u64 {
    40
}

fn default_baselines() -> bool {
    true
}

fn default_score() -> String {
    "f_outer".to_owned()
}

impl Default for Tuning {
    fn default() -> Self {
        Self { seed: 1_000_000, candidates: 8, share: 0.25, folds: 5, stopping: true }
    }
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
        config.validate().map_err(|error| {
            let span = error.offending_argument().and_then(|argument| find_key(document.get_ref(), argument));
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

    /// Checks every value, and that every candidate is a method with settings in their domains.
    ///
    /// # Errors
    /// [`Error::Argument`] that names the setting.
    pub fn validate(&self) -> Result<()> {
        check_count("seeds", self.seeds.len())?;
        check_count("points", self.points as usize)?;
        check_count("problems", self.problems.len())?;
        check_count("methods", self.methods.len())?;
        check_count("candidates", self.tuning.candidates)?;
        self.budget.validate()?;
        if !(self.tuning.share > 0.0 && self.tuning.share <= 1.0) {
            return Err(Error::argument("share", "a number in (0, 1]", self.tuning.share));
        }
        if self.tuning.folds < 2 {
            return Err(Error::argument("folds", "at least 2", self.tuning.folds));
        }
        unique("problem", self.problems.iter().map(|entry| &entry.label))?;
        unique("method", self.methods.iter().map(|entry| &entry.label))?;
        for method in &self.methods {
            method.method.validate()?;
            if let Some(unknown) = method.on.keys().find(|label| self.problems.iter().all(|p| &p.label != *label)) {
                return Err(Error::argument("on", "the label of a problem", format_args!("`{unknown}`")));
            }
        }
        for problem in &self.problems {
            problem.problem.validate()?;
            if problem.score.contains("test") {
                return Err(Error::argument("score", "nothing that test data decide", format_args!("`{}`", problem.score)));
            }
            let mut known: Vec<String> = Vec::new();
            for method in &self.methods {
                let tried = self.candidates(problem, method)?;
                tried.iter().try_for_each(|candidate| candidate.method.validate())?;
                known.extend(tried.into_iter().flat_map(|candidate| candidate.used));
            }
            if let Some(unknown) = problem.settings.keys().chain(problem.grid.keys()).find(|name| !known.contains(name)) {
                return Err(Error::argument("grid", "settings that some method has", format_args!("`{unknown}`")));
            }
        }
        Ok(())
    }

    /// The candidates of a method on a problem.
    ///
    /// # Errors
    /// [`Error::Argument`] for a setting of its own that the method has not, or of another type.
    pub fn candidates(&self, problem: &ProblemEntry, method: &MethodEntry) -> Result<Vec<super::candidates::Candidate>> {
        let key = Key::new(self.tuning.seed).named("candidates").named(&problem.label).named(&method.label);
        candidates(problem, method, self.tuning.candidates, key)
    }

    /// The seeds of a method's reported runs.
    pub fn seeds_of<'a>(&'a self, method: &'a MethodEntry) -> &'a [u64] {
        method.seeds.as_deref().unwrap_or(&self.seeds)
    }
}

/// Labels are told apart, and are part of file names.
fn unique<'a>(what: &'static str, labels: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen: Vec<&String> = Vec::new();
    for label in labels {
        let plain = !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !plain || seen.contains(&label) {
            let expected = format!("{what}s with labels of letters, digits, `-`, `_` and `.`, none used twice");
            return Err(Error::argument("label", expected, format_args!("`{label}`")));
        }
        seen.push(label);
    }
    Ok(())
}
