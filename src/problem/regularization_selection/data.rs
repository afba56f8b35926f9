//! The settings of regularization selection and the data they name: three sets of samples of one width and the same classes.

#[cfg(feature = "io")]
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::{DataSource, FeatureScale};
use crate::data::{self, softmax_samples};
use crate::dense::Matrix;
use crate::error::{Error, Result, check_count, check_finite, check_nonnegative};
use crate::rng::Key;
use crate::samples::{Samples, Standardization, Targets};

/// The settings of [`RegularizationSelection`](super::RegularizationSelection).
///
/// The training samples are drawn from the data's training file or pool; the validation samples from the validation file if there is
/// one, and else from what is left. The test samples are the test file if there is one, and else what is left, if anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the data come from.
    pub data: DataSet,
    /// The number of training samples.
    pub train: usize,
    /// The number of validation samples.
    pub validation: usize,
    /// Which coordinates of θ share a strength.
    pub strength: Strength,
    /// The scale of the features.
    pub features: FeatureScale,
    /// Whether the model has a bias. It is regularized as a feature of its own.
    pub intercept: bool,
    /// Where v starts.
    pub initial: InitialStrength,
    /// Where θ starts.
    pub initial_inner: InitialInner,
}

/// The data sets at hand. Two classes make a logistic regression, more a softmax regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataSet {
    /// The embedded UCI digits, ten classes, 1,797 samples.
    Digits,
    /// The embedded digits, even ones against odd ones.
    DigitParity,
    /// Drawn: x ~ N(0, I) and P(y = 1 | x) = σ(θ°ᵀx), where only the first features matter: θ°_j = ±signal in turn for them, 0 for the rest.
    Sparse {
        /// The samples of training, validation and test together.
        samples: usize,
        /// The number of features.
        width: usize,
        /// How many of them matter.
        relevant: usize,
        /// |θ°_j| of those.
        signal: f64,
    },
    /// Text files of the LIBSVM collection, plain or gzip, in the folder of `--data` or `NHGD_DATA` (or the working directory).
    Libsvm {
        /// The training file.
        train: PathBuf,
        /// The validation file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        validation: Option<PathBuf>,
        /// The test file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test: Option<PathBuf>,
    },
}

/// Which coordinates of θ share a strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// One a feature, for all classes: d1 is the number of features.
    Feature,
    /// One a class, for all features: d1 is the number of classes; a logistic regression has one.
    Class,
}

/// Where v starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum InitialStrength {
    /// Every v_s is this number: the strengths are its exponential.
    Constant(f64),
    /// Every strength exp(v_s) is uniform on (0, 1).
    Uniform {},
}

/// Where θ starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialInner {
    /// 0.
    Zero,
    /// N(0, I).
    Normal,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: DataSet::Digits,
            train: 800,
            validation: 400,
            strength: Strength::Feature,
            features: FeatureScale::Raw,
            intercept: true,
            initial: InitialStrength::Constant(-2.0),
            initial_inner: InitialInner::Zero,
        }
    }
}

impl Config {
    pub(in crate::problem) fn validate(&self) -> Result<()> {
        check_count("train", self.train)?;
        check_count("validation", self.validation)?;
        if let InitialStrength::Constant(v) = self.initial {
            check_finite("initial", &[v])?;
        }
        if let DataSet::Sparse { samples, width, relevant, signal } = self.data {
            check_count("samples", samples)?;
            check_count("width", width)?;
            check_nonnegative("signal", signal)?;
            if relevant > width {
                return Err(Error::argument("relevant", format_args!("at most the {width} features"), relevant));
            }
        }
        Ok(())
    }
}

impl InitialStrength {
    /// v₀, of length d1.
    pub(super) fn draw(self, outer_dim: usize, key: Key) -> Vec<f64> {
        match self {
            Self::Constant(v) => vec![v; outer_dim],
            Self::Uniform {} => {
                let mut stream = key.named("initial strength").stream();
                // On (0, 1]: the logarithm of 0 is no start.
                (0..outer_dim).map(|_| (1.0 - stream.uniform()).ln()).collect()
            }
        }
    }
}

impl InitialInner {
    /// θ₀, of length d2.
    pub(super) fn draw(self, inner_dim: usize, key: Key) -> Vec<f64> {
        match self {
            Self::Zero => vec![0.0; inner_dim],
            Self::Normal => key.named("initial inner").stream().normals(inner_dim),
        }
    }
}

/// The three sets.
pub(super) struct Parts {
    pub(super) train: Samples,
    pub(super) validation: Samples,
    pub(super) test: Option<Samples>,
}

impl Parts {
    /// Reads the data, splits and scales them.
    pub(super) fn load(config: &Config, source: &DataSource, key: Key) -> Result<Self> {
        let mut parts = Pools::read(&config.data, source, key)?.split(config, key)?;
        if config.features == FeatureScale::Standardized {
            let scale = Standardization::of(&parts.train.features)?;
            for part in parts.each() {
                part.features = scale.apply(&part.features)?;
            }
        }
        if config.intercept {
            parts.each().for_each(|part| part.features = part.features.clone().with_intercept());
        }
        Ok(parts)
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Samples> {
        [&mut self.train, &mut self.validation].into_iter().chain(&mut self.test)
    }
}

/// The samples there are, before they are split.
struct Pools {
    train: Samples,
    validation: Option<Samples>,
    test: Option<Samples>,
}

impl Pools {
    fn read(data: &DataSet, source: &DataSource, key: Key) -> Result<Self> {
        let pool = |train: Samples| Self { train, validation: None, test: None };
        match data {
            DataSet::Digits => Ok(pool(data::digits()?)),
            DataSet::DigitParity => {
                let mut digits = data::digits()?;
                let labels = digits.targets.as_classes()?.0.iter().map(|y| y % 2).collect();
                digits.targets = Targets::classes(labels, 2)?;
                Ok(pool(digits))
            }
            &DataSet::Sparse { samples, width, relevant, signal } => {
                let weight = |j: usize| if j.is_multiple_of(2) { signal } else { -signal };
                let truth = Matrix::from_fn(width, 2, |j, class| if class == 1 && j < relevant { weight(j) } else { 0.0 });
                Ok(pool(softmax_samples(&truth, samples, key.named("sparse data"))?))
            }
            DataSet::Libsvm { train, validation, test } => read_files(source, train, validation.as_ref(), test.as_ref()),
        }
    }

    fn split(self, config: &Config, key: Key) -> Result<Parts> {
        let (train, rest) = draw("train", &self.train, config.train, key.named("split"))?;
        // What is left of the file that the validation samples come from, with its numbers.
        let (pool, (validation, left)) = match &self.validation {
            Some(file) => (file, draw("validation", file, config.validation, key.named("validation split"))?),
            None => {
                if config.validation > rest.len() {
                    let expected = format!("at most the {} samples that training leaves", rest.len());
                    return Err(Error::argument("validation", expected, config.validation));
                }
                let (validation, left) = rest.split_at(config.validation);
                (&self.train, (self.train.select(validation)?, left.to_vec()))
            }
        };
        let test = match self.test {
            None if left.is_empty() => None,
            None => Some(pool.select(&left)?),
            file => file,
        };
        Ok(Parts { train, validation, test })
    }
}

/// `count` samples of a pool in random order, and the numbers of the others.
fn draw(argument: &'static str, pool: &Samples, count: usize, key: Key) -> Result<(Samples, Vec<usize>)> {
    if count > pool.len() {
        return Err(Error::argument(argument, format_args!("at most the {} samples there are", pool.len()), count));
    }
    let mut order = key.stream().permutation(pool.len());
    let rest = order.split_off(count);
    Ok((pool.select(&order)?, rest))
}

#[cfg(feature = "io")]
fn read_files(source: &DataSource, train: &Path, validation: Option<&PathBuf>, test: Option<&PathBuf>) -> Result<Pools> {
    let folder = source.folder.clone().unwrap_or_default();
    let files: Vec<PathBuf> = [Some(train), validation.map(PathBuf::as_path), test.map(PathBuf::as_path)]
        .into_iter()
        .flatten()
        .map(|f| folder.join(f))
        .collect();
    let mut read = data::read_libsvm(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>())?.into_iter();
    let train = read.next().ok_or_else(|| Error::argument("train", "a file", "none"))?;
    Ok(Pools { train, validation: validation.and_then(|_| read.next()), test: test.and_then(|_| read.next()) })
}

#[cfg(not(feature = "io"))]
fn read_files(
    _source: &DataSource,
    _train: &std::path::Path,
    _validation: Option<&PathBuf>,
    _test: Option<&PathBuf>,
) -> Result<Pools> {
    Err(Error::unsupported("reading LIBSVM files", "build with the feature `io`"))
}
