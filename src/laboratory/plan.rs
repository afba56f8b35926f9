//! What the laboratory is to do: which experiments, with which settings, from which seed. Settings are those of a size, and a
//! configuration file changes any of them: a table a name of the registry, and `seed`. The plan as TOML is such a file again.

use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Entry, Experiment, Size, Suite};
use crate::error::{Error, Result};
use crate::experiment::source::{Source, Span, find_in_value};

/// The seed where none is given.
const DEFAULT_SEED: u64 = 0;
/// The key of the seed in a configuration.
const SEED: &str = "seed";

/// An experiment of the registry with its settings.
pub struct Chosen {
    /// Its line of the registry.
    pub entry: &'static Entry,
    /// It.
    pub experiment: Box<dyn Experiment>,
}

/// What to do, in the order of the registry.
pub struct Plan {
    /// The collection that the experiments are of.
    pub suite: Suite,
    /// The seed of every random number.
    pub seed: u64,
    /// The experiments.
    pub chosen: Vec<Chosen>,
}

impl Plan {
    /// The experiments of these names at this size, all of them where there are no names.
    ///
    /// # Errors
    /// [`Error::Argument`] for an unknown name.
    pub fn new(suite: Suite, names: &[String], size: Size) -> Result<Self> {
        names.iter().try_for_each(|name| suite.entry(name).map(drop))?;
        let wanted = |entry: &&Entry| names.is_empty() || names.iter().any(|name| name == entry.name);
        let chosen = suite.registry().iter().filter(wanted).map(|entry| Chosen { entry, experiment: entry.sized(size) });
        Ok(Self { suite, seed: DEFAULT_SEED, chosen: chosen.collect() })
    }

    /// The same as a configuration changes it; `path` stands in messages. Without names, the experiments that it has tables for are
    /// meant, or all where it has none.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Config`] with the line for everything wrong in the configuration.
    pub fn parse(suite: Suite, names: &[String], size: Size, text: &str, path: &Path) -> Result<Self> {
        let source = Source { text, path };
        let document = source.document()?;
        let document = document.get_ref();
        let mut tables = Vec::new();
        for (key, value) in document.iter().filter(|(key, _)| key.get_ref() != SEED) {
            let entry = suite.entry(key.get_ref()).map_err(|e| source.error(Some(key.span()), e.to_string()))?;
            let DeValue::Table(table) = value.get_ref() else {
                return Err(source.error(Some(key.span()), format!("`{}` must be a table of settings", entry.name)));
            };
            tables.push((entry, table));
        }
        let named: Vec<String> = tables.iter().map(|(entry, _)| entry.name.to_owned()).collect();
        let mut plan = Self::new(suite, if names.is_empty() { &named } else { names }, size)?;
        if let Some((key, value)) = document.iter().find(|(key, _)| key.get_ref() == SEED) {
            let wrong = || source.error(Some(key.span()), format!("`{SEED}` must be a whole number from 0 to {}", i64::MAX));
            let Ok(Value::Integer(seed)) = decoded(value.clone()) else { return Err(wrong()) };
            plan.seed = u64::try_from(seed).map_err(|_| wrong())?;
        }
        for chosen in &mut plan.chosen {
            if let Some((_, table)) = tables.iter().find(|(entry, _)| entry.name == chosen.entry.name) {
                chosen.change(table, source)?;
            }
        }
        Ok(plan)
    }

    /// The plan as a configuration, every setting spelled out.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    pub fn to_toml(&self) -> Result<String> {
        let failed = |reason: String| Error::Numerical { operation: "writing TOML", reason };
        let seed = i64::try_from(self.seed).map_err(|e| failed(e.to_string()))?;
        let mut document = Table::from_iter([(SEED.to_owned(), Value::Integer(seed))]);
        for chosen in &self.chosen {
            document.insert(chosen.entry.name.to_owned(), Value::Table(chosen.experiment.settings()?));
        }
        toml::to_string(&document).map_err(|e| failed(e.to_string()))
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        self.chosen.iter().try_for_each(|chosen| chosen.experiment.validate())
    }
}

impl Chosen {
    /// Changes settings to those of a table, one after the other, so that what is refused is known by its key.
    fn change(&mut self, table: &DeTable<'_>, source: Source<'_>) -> Result<()> {
        let mut settings = self.experiment.settings()?;
        for (key, value) in table.iter() {
            let value = decoded(value.clone()).map_err(|e| source.decoding(&e, Some(key.span())))?;
            settings.insert(key.get_ref().to_string(), value);
            self.experiment = (self.entry.build)(settings.clone()).map_err(|e| source.decoding(&e, Some(key.span())))?;
        }
        self.experiment
            .validate()
            .map_err(|e| source.error(e.offending_argument().and_then(|name| place(table, name)), e.to_string()))
    }
}

fn decoded(value: Spanned<DeValue<'_>>) -> std::result::Result<Value, toml::de::Error> {
    serde::Deserialize::deserialize(toml::de::ValueDeserializer::from(value))
}

/// Where a setting stands; the table's first one where it is not in it, as when two settings do not go together.
fn place(table: &DeTable<'_>, name: &str) -> Option<Span> {
    find_in_value(&DeValue::Table(table.clone()), name).or_else(|| table.iter().next().map(|(key, _)| key.span()))
}
