//! From settings to a problem: data are read, split, corrupted and scaled.

use super::{Config, DataCleaning, DataSet, FeatureScale, ModelConfig};
use crate::data::{self, corrupt_labels};
use crate::error::{Error, Result};
use crate::problem::DataSource;
use crate::rng::Key;
use crate::samples::{Samples, Standardization, Targets};

impl DataCleaning {
    /// Reads the data, splits, corrupts and scales them.
    ///
    /// # Errors
    /// [`Error::Argument`] for more samples than there are, [`Error::Data`] and [`Error::Io`] for the files.
    pub fn load(config: &Config, source: &DataSource, key: Key) -> Result<Self> {
        config.validate()?;
        let (pool, test) = match config.data {
            DataSet::Digits => (data::digits()?, None),
            DataSet::Idx => read_folder(source)?,
        };
        // Without a test set of its own, what is left of the pool is the test set, and must not be empty.
        let needed = config.train.saturating_add(config.validation).saturating_add(usize::from(test.is_none()));
        if needed > pool.len() {
            return Err(Error::argument(
                "train",
                format_args!("train + validation below the {} samples there are", pool.len()),
                needed,
            ));
        }
        let order = key.named("split").stream().permutation(pool.len());
        let (train, rest) = order.split_at(config.train);
        let (validation, rest) = rest.split_at(config.validation);
        let test = test.map_or_else(|| pool.select(rest), Ok)?;
        let mut parts = [pool.select(train)?, pool.select(validation)?, test];
        if config.features == FeatureScale::Standardized {
            let scale = Standardization::of(&parts[0].features)?;
            for part in &mut parts {
                part.features = scale.apply(&part.features)?;
            }
        }
        let parts = parts.map(|part| Samples { features: part.features.with_precision(config.precision), ..part });
        let [mut noisy, validation, test] = if config.has_intercept() { parts.map(with_intercept) } else { parts };
        let true_targets = noisy.targets.clone();
        let (labels, classes) = true_targets.as_classes()?;
        let corruption = corrupt_labels(labels, classes, config.corruption, key.named("corruption"))?;
        noisy.targets = Targets::classes(corruption.labels, classes)?;
        let problem =
            Self::new(noisy, true_targets, corruption.flipped, validation, Some(test), config.ridge, config.initial_logit)?;
        match &config.model {
            ModelConfig::Softmax => Ok(problem),
            ModelConfig::Mlp(network) => problem.with_network(network, key.named("weights")),
        }
    }

    /// A small instance for checks: 60 digits, two validation samples a class.
    pub(in crate::problem) fn specimen(key: Key) -> Result<Self> {
        Self::load(&Config { train: 60, validation: 20, ridge: 1e-2, ..Config::default() }, &DataSource::default(), key)
    }
}

fn with_intercept(samples: Samples) -> Samples {
    Samples { features: samples.features.with_intercept(), ..samples }
}

#[cfg(feature = "io")]
pub(in crate::problem) fn read_folder(source: &DataSource) -> Result<(Samples, Option<Samples>)> {
    let folder = source
        .folder
        .as_deref()
        .ok_or_else(|| Error::data("IDX data", "no folder given: pass --data DIR or set NHGD_DATA to a folder of IDX files"))?;
    let data = data::read_idx_folder(folder)?;
    Ok((data.train, Some(data.test)))
}

#[cfg(not(feature = "io"))]
pub(in crate::problem) fn read_folder(_source: &DataSource) -> Result<(Samples, Option<Samples>)> {
    Err(Error::unsupported("reading IDX files", "build with the feature `io`"))
}
