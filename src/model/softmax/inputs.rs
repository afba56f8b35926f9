//! Derivatives of the softmax loss in the features themselves, for problems in which the data are what is sought. With δ_i = p_i − e_y, W and
//! Q the parameter and a direction as width × classes matrices, and A_i = diag(p_i) − p_i p_iᵀ: the score of sample i is x_i ⊗ δ_i, the
//! derivative of its loss in x_i is Wδ_i.

use super::Softmax;
use crate::dense::{Matrix, check_shape, matmul};
use crate::error::{Result, check_finite};
use crate::model::categorical::{self, subtract_labels};
use crate::samples::{Batch, Samples};

impl Softmax {
    /// ∂ℓ_i/∂x_i = Wδ_i as the columns of a width × m matrix.
    ///
    /// # Errors
    /// As [`losses`](crate::model::Model::losses).
    pub fn input_gradients(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Matrix> {
        let labels = self.labels(samples, batch)?;
        let mut delta = self.probabilities(samples, batch, theta)?;
        subtract_labels(&mut delta, batch.iter(samples.len()).map(|i| labels[i]));
        matmul(&self.matrix("theta", theta)?, &delta)
    }

    /// ∂/∂x_i of s_iᵀq, Qδ_i + W A_i Qᵀx_i, as the columns of a width × m matrix.
    ///
    /// # Errors
    /// As [`score_products`](crate::model::Model::score_products).
    pub fn score_product_gradients(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Matrix> {
        let labels = self.labels(samples, batch)?;
        let (mut p, mut z) = self.probabilities_and_products(samples, batch, theta, q)?;
        categorical::multiply_hessian(&p, &mut z, |_| 1.0);
        subtract_labels(&mut p, batch.iter(samples.len()).map(|i| labels[i]));
        let mut gradients = matmul(&self.matrix("direction", q)?, &p)?;
        gradients.add_scaled(1.0, &matmul(&self.matrix("theta", theta)?, &z)?)?;
        Ok(gradients)
    }

    /// The change of the gradient when every x_i of the batch moves by u_i, (1/m) Σ [u_i ⊗ δ_i + x_i ⊗ A_i Wᵀu_i], for U width × m.
    ///
    /// # Errors
    /// As [`losses`](crate::model::Model::losses); [`Error::Shape`](crate::Error::Shape) and
    /// [`Error::NotFinite`](crate::Error::NotFinite) for U.
    pub fn gradient_moved_by(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], u: &Matrix) -> Result<Vec<f64>> {
        let labels = self.labels(samples, batch)?;
        check_shape("direction", u, self.width, batch.len(samples.len()))?;
        check_finite("direction", u.as_slice())?;
        let mut p = self.probabilities(samples, batch, theta)?;
        let mut z = matmul(self.matrix("theta", theta)?.t(), u)?;
        let m = u.ncols() as f64;
        categorical::multiply_hessian(&p, &mut z, |_| m.recip());
        subtract_labels(&mut p, batch.iter(samples.len()).map(|i| labels[i]));
        p.scale(m.recip());
        let mut moved = samples.features.accumulate(batch, &z)?;
        moved.add_scaled(1.0, &matmul(u, p.t())?)?;
        Ok(moved.into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{dot, relative_error};
    use crate::model::{Model, Weighted};
    use crate::rng::Key;
    use crate::samples::{Features, Targets};

    /// Every derivative in x against central differences of what it is the derivative of.
    #[test]
    fn derivatives_in_the_inputs_equal_central_differences() {
        let (n, width, classes) = (9, 4, 3);
        let mut stream = Key::new(1).stream();
        let (x, u) = (stream.normals(n * width), stream.normals(n * width));
        let labels: Vec<u32> = (0..n).map(|i| (i % classes) as u32).collect();
        let model = Softmax::new(width, classes).unwrap();
        let (theta, q) = (stream.normals(model.dim()), stream.normals(model.dim()));
        let at = |t: f64| {
            let moved = x.iter().zip(&u).map(|(x, u)| x + t * u).collect();
            Samples::new(Features::from_f64(moved, n, width).unwrap(), Targets::classes(labels.clone(), classes).unwrap()).unwrap()
        };
        let here = at(0.0);
        let h = 1e-5;
        let slope = |f: &dyn Fn(&Samples) -> Vec<f64>| -> Vec<f64> {
            f(&at(h)).iter().zip(f(&at(-h))).map(|(a, b)| (a - b) / (2.0 * h)).collect()
        };
        let batch = Batch::Indices(&[3, 3, 0, 8]);
        let direction = Matrix::from_fn(width, 4, |j, position| u[batch.index(position) * width + j]);
        let along = |gradients: &Matrix| -> Vec<f64> { (0..4).map(|i| dot(gradients.col(i), direction.col(i))).collect() };

        let losses = along(&model.input_gradients(&here, batch, &theta).unwrap());
        assert!(relative_error(&losses, &slope(&|s| model.losses(s, batch, &theta).unwrap())) < 1e-8);
        let products = along(&model.score_product_gradients(&here, batch, &theta, &q).unwrap());
        assert!(relative_error(&products, &slope(&|s| model.score_products(s, batch, &theta, &q).unwrap())) < 1e-8);
        let moved = model.gradient_moved_by(&here, batch, &theta, &direction).unwrap();
        let gradient = |s: &Samples| model.gradient(Weighted::ones(s, batch), &theta).unwrap();
        assert!(relative_error(&moved, &slope(&gradient)) < 1e-8);
        // The test can fail: another direction has another derivative.
        let other = model.score_product_gradients(&here, batch, &theta, &theta).unwrap();
        assert!(relative_error(&along(&other), &products) > 0.1);

        assert_eq!(
            model.gradient_moved_by(&here, batch, &theta, &Matrix::zeros(width, 3)).unwrap_err().offending_argument(),
            Some("direction")
        );
    }
}
