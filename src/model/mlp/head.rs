//! What a network's outputs z mean: the likelihood p(y | z), with its derivatives in z, one column a sample. Both heads are
//! exponential families in their natural parameter, so that the Hessian H_out of ℓ in z does not depend on y and equals E_y[∂ℓ ∂ℓᵀ].

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use crate::dense::{Matrix, dot};
use crate::error::{Error, Result, check_count, check_len};
use crate::model::{categorical, gaussian};
use crate::rng::Key;
use crate::samples::{Batch, Samples, Targets};

/// The likelihood of the targets given the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Class labels: p(y = k) ∝ exp(z_k). H_out = diag(p) − ppᵀ.
    Softmax {
        /// The number of classes and outputs.
        classes: usize,
    },
    /// Real numbers or vectors: y ~ N(z, σ²I). H_out = I/σ².
    Gaussian {
        /// The length of a target.
        outputs: usize,
        /// σ², known.
        variance: f64,
    },
}

impl Head {
    pub(super) fn validate(&self) -> Result<()> {
        match *self {
            Self::Softmax { classes } if classes < 2 => Err(Error::argument("classes", "at least 2", classes)),
            Self::Softmax { .. } => Ok(()),
            Self::Gaussian { outputs, variance } => {
                check_count("outputs", outputs)?;
                gaussian::check_variance(variance)
            }
        }
    }

    /// C, the number of outputs.
    pub fn outputs(&self) -> usize {
        match *self {
            Self::Softmax { classes } => classes,
            Self::Gaussian { outputs, .. } => outputs,
        }
    }

    /// Checks kind and width of the targets, that each sample has one, and the labels of the batch.
    pub(super) fn check_targets(&self, samples: &Samples, batch: Batch<'_>) -> Result<()> {
        match *self {
            Self::Softmax { classes } => categorical::labels(samples, batch, classes).map(drop),
            Self::Gaussian { outputs, .. } => {
                let (values, width) = samples.targets.as_vectors()?;
                check_len("target width", width, outputs)?;
                check_len("targets", values.len(), samples.len() * width)?;
                batch.check(samples.len())
            }
        }
    }

    /// ℓ of every column.
    pub(super) fn losses(&self, z: Matrix, targets: &Targets) -> Result<Vec<f64>> {
        match *self {
            Self::Softmax { .. } => Ok(categorical::losses(z, targets.as_classes()?.0.iter().copied())),
            Self::Gaussian { outputs, variance } => {
                let normalizer = 0.5 * outputs as f64 * (TAU.ln() + variance.ln());
                let residuals = residuals(z, targets)?;
                let loss = |i| 0.5 * dot(residuals.col(i), residuals.col(i)) / variance + normalizer;
                Ok((0..residuals.ncols()).map(loss).collect())
            }
        }
    }

    /// ∂ℓ/∂z: p − e_y, or (z − y)/σ².
    pub(super) fn deltas(&self, mut z: Matrix, targets: &Targets) -> Result<Matrix> {
        match *self {
            Self::Softmax { .. } => {
                categorical::softmax_columns(&mut z);
                categorical::subtract_labels(&mut z, targets.as_classes()?.0.iter().copied());
                Ok(z)
            }
            Self::Gaussian { variance, .. } => {
                let mut deltas = residuals(z, targets)?;
                deltas.as_mut_slice().iter_mut().for_each(|d| *d /= variance);
                Ok(deltas)
            }
        }
    }

    /// The random numbers that targets of n samples are drawn with, sample by sample.
    pub(super) fn noise(&self, key: Key, n: usize) -> Vec<f64> {
        let mut stream = key.stream();
        match *self {
            Self::Softmax { .. } => (0..n).map(|_| stream.uniform()).collect(),
            Self::Gaussian { outputs, .. } => stream.normals(n * outputs),
        }
    }

    /// How many of them a sample takes.
    pub(super) fn noise_per_sample(&self) -> usize {
        match *self {
            Self::Softmax { .. } => 1,
            Self::Gaussian { outputs, .. } => outputs,
        }
    }

    /// Targets drawn with the given noise: the class that a uniform number falls into, or z + σε.
    pub(super) fn draw(&self, mut z: Matrix, noise: &[f64]) -> Result<Targets> {
        match *self {
            Self::Softmax { classes } => Targets::classes(drawn_labels(&mut z, noise), classes),
            Self::Gaussian { outputs, variance } => {
                let deviation = variance.sqrt();
                let values = z.as_slice().iter().zip(noise).map(|(z, e)| z + deviation * e).collect();
                if outputs == 1 { Targets::real(values) } else { Targets::vectors(values, outputs) }
            }
        }
    }

    /// ∂ℓ/∂z at the targets drawn with the given noise: p − e_y, or −ε/σ.
    pub(super) fn drawn_deltas(&self, mut z: Matrix, noise: &[f64]) -> Result<Matrix> {
        match *self {
            Self::Softmax { .. } => {
                let labels = drawn_labels(&mut z, noise);
                categorical::subtract_labels(&mut z, labels.into_iter());
                Ok(z)
            }
            Self::Gaussian { variance, .. } => {
                let deviation = variance.sqrt();
                Matrix::from_columns(z.nrows(), z.ncols(), noise.iter().map(|e| -e / deviation).collect())
            }
        }
    }

    /// C columns a sample whose outer products sum to H_out: √p_c (p − e_c), or e_k/σ.
    pub(super) fn expected_deltas(&self, mut z: Matrix) -> Matrix {
        match *self {
            Self::Softmax { .. } => {
                categorical::softmax_columns(&mut z);
                categorical::expected_deltas(&z)
            }
            Self::Gaussian { outputs, variance } => {
                let entry = variance.sqrt().recip();
                Matrix::from_fn(outputs, outputs * z.ncols(), |k, row| if row % outputs == k { entry } else { 0.0 })
            }
        }
    }

    /// Replaces every column t by scale(i) · H_out t.
    pub(super) fn multiply_hessian(&self, mut z: Matrix, t: &mut Matrix, scale: impl Fn(usize) -> f64) {
        match *self {
            Self::Softmax { .. } => {
                categorical::softmax_columns(&mut z);
                categorical::multiply_hessian(&z, t, scale);
            }
            Self::Gaussian { variance, .. } => super::scale_columns(t, |i| scale(i) / variance),
        }
    }

    /// The share of columns whose largest entry is that of the label; `None` where targets are not classes.
    pub(super) fn accuracy(&self, z: &Matrix, targets: &Targets) -> Result<Option<f64>> {
        match self {
            Self::Softmax { .. } => Ok(Some(categorical::accuracy(z, targets.as_classes()?.0.iter().copied()))),
            Self::Gaussian { .. } => Ok(None),
        }
    }
}

/// Replaces z by the probabilities and draws a label from each column.
fn drawn_labels(z: &mut Matrix, uniforms: &[f64]) -> Vec<u32> {
    categorical::softmax_columns(z);
    uniforms.iter().enumerate().map(|(i, &uniform)| categorical::draw(z.col(i), uniform)).collect()
}

/// z − y.
fn residuals(mut z: Matrix, targets: &Targets) -> Result<Matrix> {
    let (values, width) = targets.as_vectors()?;
    check_len("targets", values.len(), z.ncols() * width)?;
    z.as_mut_slice().iter_mut().zip(values).for_each(|(z, y)| *z -= y);
    Ok(z)
}
