//! The settings of data cleaning: where the data come from, how features are scaled, which model is fitted.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_count, check_finite, check_positive};
use crate::model::Activation;
use crate::samples::Precision;

/// The settings of [`DataCleaning`](super::DataCleaning).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the data come from.
    pub data: DataSet,
    /// The number of training samples, some of them corrupted.
    pub train: usize,
    /// The number of clean validation samples.
    pub validation: usize,
    /// The probability that a training label is replaced by a uniformly drawn one.
    pub corruption: f64,
    /// λ of (λ/2)‖θ‖², biases included.
    pub ridge: f64,
    /// Whether softmax regression has a bias; a network always has its own.
    pub intercept: bool,
    /// Where every v_i starts.
    pub initial_logit: f64,
    /// The scale of the features.
    pub features: FeatureScale,
    /// The precision of products with the features.
    pub precision: Precision,
    /// What is fitted.
    pub model: ModelConfig,
}

/// The data sets at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSet {
    /// The embedded UCI digits: train and validation are drawn from its 1,797 samples, the rest is the test set.
    Digits,
    /// A folder of IDX files (MNIST and its kin): train and validation are drawn from its training part.
    Idx,
}

/// The scale of the features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureScale {
    /// As the data set has them.
    #[default]
    Raw,
    /// Mean 0 and standard deviation 1 over the training samples, as [`Standardization`](crate::samples::Standardization) says.
    Standardized,
}

/// The models at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelConfig {
    /// Softmax regression, from θ = 0.
    #[default]
    Softmax,
    /// A fully connected network, from random weights: θ = 0 would be a saddle. The inner problem is not convex.
    Mlp(NetworkConfig),
}

/// The settings of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// What hidden units do with their sums.
    pub activation: Activation,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { hidden: vec![32], activation: Activation::Tanh }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: DataSet::Digits,
            train: 1000,
            validation: 100,
            corruption: 0.5,
            ridge: 1e-3,
            intercept: true,
            initial_logit: 0.0,
            features: FeatureScale::Raw,
            precision: Precision::Double,
            model: ModelConfig::Softmax,
        }
    }
}

impl Config {
    pub(in crate::problem) fn validate(&self) -> Result<()> {
        check_count("train", self.train)?;
        check_count("validation", self.validation)?;
        check_positive("ridge", self.ridge)?;
        check_finite("initial_logit", &[self.initial_logit])?;
        if !(0.0..=1.0).contains(&self.corruption) {
            return Err(Error::argument("corruption", "a probability in [0, 1]", self.corruption));
        }
        match &self.model {
            ModelConfig::Softmax => Ok(()),
            ModelConfig::Mlp(network) => network.hidden.iter().try_for_each(|&width| check_count("hidden", width)),
        }
    }

    /// Whether a constant feature is appended.
    pub(super) fn has_intercept(&self) -> bool {
        self.intercept && self.model == ModelConfig::Softmax
    }
}
