//! Matrices to be sketched, as streams of rows: with prescribed eigenvalues in random directions, or the Fisher matrix of a softmax model
//! on images, labels drawn once from the model. The order of the rows is random and anew in each replicate; F is the same.

use crate::data;
use crate::dense::{Matrix, eigh};
use crate::error::{Error, Result};
use crate::gradient::GradientBlock;
use crate::inverse::extreme_eigenvalues;
use crate::model::{FisherKind, Model, Softmax, Weighted};
use crate::operator::{FromFn, LinearOperator};
use crate::problem::DataSource;
use crate::rng::Key;
use crate::samples::{Batch, Samples};
use crate::testkit::cases;

/// Products of the Lanczos estimate where F is too large to be formed. Its Rayleigh quotients are at most the norm.
pub const PRODUCTS: usize = 40;

/// What F − F̂ comes to.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// ‖F − F̂‖₂; where F is not formed, from below.
    pub norm: f64,
    /// ‖F − F̂‖_F; NaN where F is not formed.
    pub frobenius: f64,
}

/// F as it is fed, and F itself.
pub struct FisherMatrix {
    /// The rows; F = GᵀG/samples.
    pub rows: GradientBlock,
    /// F; none where it is too large to be formed.
    dense: Option<Matrix>,
}

impl FisherMatrix {
    /// `samples` rows of length `dim` with these eigenvalues, in random directions.
    ///
    /// # Errors
    /// [`Error::Argument`] for more eigenvalues than samples or dimensions.
    pub fn prescribed(eigenvalues: &[f64], samples: usize, dim: usize, key: Key) -> Result<Self> {
        Self::formed(cases::with_spectrum(key, samples, dim, eigenvalues)?.block)
    }

    /// Of rows short enough that F is formed.
    ///
    /// # Errors
    /// Those of the products.
    pub fn formed(rows: GradientBlock) -> Result<Self> {
        let mut dense = rows.scatter()?;
        dense.scale(1.0 / rows.samples() as f64);
        Ok(Self { rows, dense: Some(dense) })
    }

    /// Of rows too long for that.
    pub fn unformed(rows: GradientBlock) -> Self {
        Self { rows, dense: None }
    }

    /// F − F̂ for an F̂ that is known by its products.
    ///
    /// # Errors
    /// Those of the products.
    pub fn minus(&self, estimate: &dyn LinearOperator, key: Key) -> Result<Difference> {
        if let Some(dense) = &self.dense {
            let mut residual = dense.clone();
            residual.add_scaled(-1.0, &estimate.to_dense()?)?;
            let values = eigh(&residual)?.values;
            let norm = values.first().zip(values.last()).map_or(0.0, |(high, low)| high.max(-low));
            return Ok(Difference { norm, frobenius: residual.norm() });
        }
        let samples = self.rows.samples() as f64;
        let residual = FromFn::new(self.rows.dim(), |x: &[f64]| {
            let mut product = self.rows.accumulate(&self.rows.project(&Matrix::column(x.to_vec()))?)?;
            product.scale(1.0 / samples);
            Ok(crate::dense::difference(product.as_slice(), &estimate.apply(x)?))
        });
        let (ends, _) = extreme_eigenvalues(&residual, PRODUCTS, key)?;
        let lost = || Error::Numerical { operation: "estimating a norm", reason: "a product that is not finite".into() };
        let ends = ends.ok_or_else(lost)?;
        Ok(Difference { norm: ends.largest.max(-ends.smallest), frobenius: f64::NAN })
    }
}

/// A softmax model on images with labels that it drew itself.
pub struct Scored {
    model: Softmax,
    samples: Samples,
    theta: Vec<f64>,
    /// The eigenvalues of F, descending, without those that are zero because there are fewer samples than dimensions.
    pub eigenvalues: Vec<f64>,
}

impl Scored {
    /// The embedded digits, all of them, with a bias: d = 650.
    ///
    /// # Errors
    /// None in practice.
    pub fn digits(steps: usize, key: Key) -> Result<Self> {
        Self::new(data::digits()?, steps, key)
    }

    /// `count` random images of the training part of a folder of IDX files, with a bias: d = 7,850 for MNIST. None without a folder.
    ///
    /// # Errors
    /// [`Error::Argument`] for more samples than there are, [`Error::Data`] and [`Error::Io`] for the files.
    pub fn images(source: &DataSource, count: usize, steps: usize, key: Key) -> Result<Option<Self>> {
        let Some(folder) = &source.folder else { return Ok(None) };
        let train = data::read_idx_folder(folder)?.train;
        if count > train.len() {
            return Err(Error::argument("image_samples", format_args!("at most {}", train.len()), count));
        }
        let picked = key.named("images").stream().permutation(train.len());
        Self::new(train.select(&picked[..count])?, steps, key).map(Some)
    }

    /// θ after so many steps of gradient descent from 0; labels drawn there.
    fn new(mut samples: Samples, steps: usize, key: Key) -> Result<Self> {
        samples.features = samples.features.with_intercept();
        let (_, classes) = samples.targets.as_classes()?;
        let model = Softmax::new(samples.features.width(), classes)?;
        let mut theta = vec![0.0; model.dim()];
        for _ in 0..steps {
            let gradient = model.gradient(Weighted::ones(&samples, Batch::All), &theta)?;
            crate::dense::axpy(-STEP, &gradient, &mut theta);
        }
        samples.targets = model.sample_targets(&samples, Batch::All, &theta, key.named("labels"))?;
        let mut scored = Self { model, samples, theta, eigenvalues: Vec::new() };
        scored.eigenvalues = scored.spectrum()?;
        Ok(scored)
    }

    fn spectrum(&self) -> Result<Vec<f64>> {
        let rows = self.block(Batch::All)?;
        let mut square = if rows.rows() < rows.dim() { rows.gram()? } else { rows.scatter()? };
        square.scale(1.0 / rows.samples() as f64);
        Ok(eigh(&square)?.values.into_iter().map(|value| value.max(0.0)).collect())
    }

    fn block(&self, batch: Batch<'_>) -> Result<GradientBlock> {
        // The labels are those drawn before: no key is used.
        self.model.scores(Weighted::ones(&self.samples, batch), &self.theta, FisherKind::Empirical, Key::new(0))
    }

    /// The rows in a random order.
    ///
    /// # Errors
    /// Those of the model.
    pub fn shuffled(&self, key: Key) -> Result<GradientBlock> {
        self.block(Batch::Indices(&key.stream().permutation(self.samples.len())))
    }
}

/// The step size of gradient descent: stable for images with up to 100 pixels lit.
const STEP: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Diagonal;

    #[test]
    fn a_prescribed_matrix_has_its_eigenvalues_and_errors_are_those_of_dense_algebra() {
        let eigenvalues = [3.0, 1.0, 0.25];
        let matrix = FisherMatrix::prescribed(&eigenvalues, 20, 9, Key::new(1)).unwrap();
        let values = eigh(matrix.dense.as_ref().unwrap()).unwrap().values;
        assert!(values.iter().zip(eigenvalues.into_iter().chain([0.0; 6])).all(|(a, b)| (a - b).abs() < 1e-14), "{values:?}");
        // Minus I: eigenvalues 2, 0, −0.75 and −1 six times.
        let identity = Diagonal::new(vec![1.0; 9]).unwrap();
        let exact = matrix.minus(&identity, Key::new(2)).unwrap();
        assert!((exact.norm - 2.0).abs() < 1e-13 && (exact.frobenius - (4.0_f64 + 0.5625 + 6.0).sqrt()).abs() < 1e-13, "{exact:?}");
        let found = FisherMatrix::unformed(matrix.rows).minus(&identity, Key::new(2)).unwrap();
        assert!((found.norm - 2.0).abs() < 1e-12 && found.frobenius.is_nan(), "{found:?}");
    }

    #[test]
    fn an_order_of_the_rows_does_not_change_the_matrix_and_its_spectrum_is_that_of_its_dense_form() {
        let scored = Scored::digits(3, Key::new(1)).unwrap();
        let dense = |key| FisherMatrix::formed(scored.shuffled(key).unwrap()).unwrap().dense.unwrap();
        let (mut one, other) = (dense(Key::new(2)), dense(Key::new(3)));
        let values = eigh(&one).unwrap().values;
        assert!((values[0] / scored.eigenvalues[0] - 1.0).abs() < 1e-12 && scored.eigenvalues.len() == 650);
        let size = one.norm();
        one.add_scaled(-1.0, &other).unwrap();
        assert!(one.norm() < 1e-13 * size);
        assert_ne!(scored.shuffled(Key::new(2)).unwrap(), scored.shuffled(Key::new(3)).unwrap());
    }

    #[test]
    fn images_need_a_folder() {
        assert!(Scored::images(&DataSource::default(), 10, 1, Key::new(1)).unwrap().is_none());
    }
}
