//! Softmax regression: p(y = k | x; θ) ∝ exp(w_kᵀx), a GLM with the canonical link, so that its Hessian does not depend on the
//! labels and equals its expected Fisher matrix at every θ. A bias is a constant feature of the data.
//!
//! θ is the width × classes matrix W column by column, as in [`KroneckerRows`]: θ[k·p + j] weighs feature j for class k.

mod factors;
mod inputs;

use super::categorical::{self, draw, multiply_column, softmax_columns, softmax_in_place, subtract_labels};
use super::{FisherIdentity, FisherKind, Model, Products, Smoothness, Weighted};
use crate::dense::{Matrix, dot};
use crate::error::{Error, Result, check_count, check_finite, check_len};
use crate::gradient::{GradientBlock, KroneckerRows, weighted_outer};
use crate::reused::Reused;
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// Softmax regression of `classes` classes on `width` features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax {
    width: usize,
    classes: usize,
}

impl Softmax {
    /// The registry name.
    pub const NAME: &'static str = "softmax";

    /// The model for `width` features and `classes` classes.
    ///
    /// # Errors
    /// [`Error::Argument`] for no features, fewer than 2 classes, or more parameters than can be counted.
    pub fn new(width: usize, classes: usize) -> Result<Self> {
        check_count("width", width)?;
        if classes < 2 {
            return Err(Error::argument("classes", "at least 2", classes));
        }
        if width.checked_mul(classes).is_none() {
            return Err(Error::argument("width", format_args!("at most {}", usize::MAX / classes), width));
        }
        Ok(Self { width, classes })
    }

    /// The entries of a width × classes matrix, checked.
    fn checked<'a>(&self, argument: &'static str, theta: &'a [f64]) -> Result<&'a [f64]> {
        check_len(argument, theta.len(), self.dim())?;
        check_finite(argument, theta)?;
        Ok(theta)
    }

    fn matrix(&self, argument: &'static str, theta: &[f64]) -> Result<Matrix> {
        Matrix::from_columns(self.width, self.classes, self.checked(argument, theta)?.to_vec())
    }

    /// Checks that the data are of this model; the fields of [`Samples`] and [`Targets`] are anyone's to change.
    fn labels<'a>(&self, samples: &'a Samples, batch: Batch<'_>) -> Result<&'a [u32]> {
        check_len("feature width", samples.features.width(), self.width)?;
        categorical::labels(samples, batch, self.classes)
    }

    /// Class probabilities, classes × m.
    fn probabilities(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Matrix> {
        self.labels(samples, batch)?;
        let mut p = samples.features.project(batch, &[self.checked("theta", theta)?])?;
        softmax_columns(&mut p);
        Ok(p)
    }

    /// Class probabilities and Uᵀx_i, each classes × m, from one pass over the data.
    fn probabilities_and_products(
        &self,
        samples: &Samples,
        batch: Batch<'_>,
        theta: &[f64],
        u: &[f64],
    ) -> Result<(Matrix, Matrix)> {
        self.labels(samples, batch)?;
        let both = samples.features.project(batch, &self.pair(theta, u)?)?;
        let mut p = both.rows(0..self.classes).to_matrix();
        softmax_columns(&mut p);
        Ok((p, both.rows(self.classes..2 * self.classes).to_matrix()))
    }

    /// W and U, whose columns follow one another, checked.
    fn pair<'a>(&self, theta: &'a [f64], u: &'a [f64]) -> Result<[&'a [f64]; 2]> {
        Ok([self.checked("theta", theta)?, self.checked("direction", u)?])
    }
}

/// A small instance with random data, for checks.
pub(super) fn specimen(key: Key) -> Result<(Softmax, Samples)> {
    let (n, width, classes) = (40, 6, 4);
    let mut stream = key.stream();
    let features = Features::from_f64(stream.normals(n * width), n, width)?.with_intercept();
    let labels = stream.indices(classes, n)?.into_iter().map(|y| y as u32).collect();
    Ok((Softmax::new(width + 1, classes)?, Samples::new(features, Targets::classes(labels, classes)?)?))
}

impl Model for Softmax {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.width * self.classes
    }

    /// log Σ_k exp(w_kᵀx) − w_yᵀx
    fn losses(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let labels = self.labels(samples, batch)?;
        let z = samples.features.project(batch, &[self.checked("theta", theta)?])?;
        Ok(categorical::losses(z, batch.iter(samples.len()).map(|i| labels[i])))
    }

    /// (1/m) Xᵀ(w ∘ (P − Y))
    fn gradient(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        data.check()?;
        let labels = self.labels(data.samples, data.batch)?;
        let (w, m) = ([self.checked("theta", theta)?], data.len() as f64);
        let residual = |position: usize, z: &mut [f64]| {
            softmax_in_place(z);
            z[labels[data.batch.index(position)] as usize] -= 1.0;
            let weight = data.weight(position) / m;
            z.iter_mut().for_each(|z| *z *= weight);
        };
        Ok(data.samples.features.pass(data.batch, &w, 0..self.classes, residual)?.0.into_vec())
    }

    /// One pass: X[W | Q], then Xᵀ[Δ | E] with the weighted residuals δ_i and ε_i = w_i (diag(p_i) − p_i p_iᵀ) Qᵀx_i.
    fn products(&self, data: Weighted<'_>, theta: &[f64], q: &[f64]) -> Result<Products> {
        data.check()?;
        let labels = self.labels(data.samples, data.batch)?;
        let (both, m) = (self.pair(theta, q)?, data.len() as f64);
        let residuals = |position: usize, z: &mut [f64]| {
            let (p, t) = z.split_at_mut(self.classes);
            let (label, weight) = (labels[data.batch.index(position)] as usize, data.weight(position) / m);
            softmax_in_place(p);
            let at_label = t[label];
            let product = multiply_column(p, t, weight) - at_label;
            p[label] -= 1.0;
            p.iter_mut().for_each(|p| *p *= weight);
            product
        };
        let (sums, score_products) = data.samples.features.pass(data.batch, &both, 0..2 * self.classes, residuals)?;
        let mut gradient = sums.into_vec();
        let hvp = gradient.split_off(self.dim());
        Ok(Products { gradient, hvp, score_products })
    }

    /// (p_i − e_{y_i})ᵀ(Qᵀx_i)
    fn score_products(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Vec<f64>> {
        let labels = self.labels(samples, batch)?;
        let product = |position: usize, z: &mut [f64]| {
            let (p, t) = z.split_at_mut(self.classes);
            softmax_in_place(p);
            dot(p, t) - t[labels[batch.index(position)] as usize]
        };
        samples.features.map_products(batch, &self.pair(theta, q)?, product)
    }

    /// Rows x_i ⊗ √w_i (p_i − e_y); for the expected kind, one for each class c with √(w_i p_ic) (p_i − e_c).
    fn scores(&self, data: Weighted<'_>, theta: &[f64], kind: FisherKind, key: Key) -> Result<GradientBlock> {
        data.check_nonnegative()?;
        let labels = self.labels(data.samples, data.batch)?;
        let inputs = data.samples.features.gather(data.batch)?;
        let mut p = self.probabilities(data.samples, data.batch, theta)?;
        let (deltas, rows_per_sample) = match kind {
            FisherKind::Empirical => {
                subtract_labels(&mut p, data.batch.iter(data.samples.len()).map(|i| labels[i]));
                (p, 1)
            }
            FisherKind::Sampled => {
                let mut stream = key.stream();
                let mut drawn = Reused::with_capacity(p.ncols());
                drawn.extend((0..p.ncols()).map(|i| draw(p.col(i), stream.uniform())));
                subtract_labels(&mut p, drawn.iter().copied());
                (p, 1)
            }
            FisherKind::Expected => (categorical::expected_deltas(&p), self.classes),
        };
        let mut deltas = deltas;
        for row in 0..deltas.ncols() {
            let root = data.weight(row / rows_per_sample).sqrt();
            deltas.col_mut(row).iter_mut().for_each(|d| *d *= root);
        }
        Ok(KroneckerRows::new(inputs, deltas, rows_per_sample)?.into())
    }

    fn sample_targets(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], key: Key) -> Result<Targets> {
        let p = self.probabilities(samples, batch, theta)?;
        let mut stream = key.stream();
        Targets::classes((0..p.ncols()).map(|i| draw(p.col(i), stream.uniform())).collect(), self.classes)
    }

    /// (1/m) Xᵀ(w ∘ (P ∘ Z − (PᵀZ) P)) with Z = XU
    fn hvp(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        data.check()?;
        self.labels(data.samples, data.batch)?;
        let (both, m) = (self.pair(theta, u)?, data.len() as f64);
        let multiply = |position: usize, z: &mut [f64]| {
            let (p, t) = z.split_at_mut(self.classes);
            softmax_in_place(p);
            multiply_column(p, t, data.weight(position) / m);
        };
        Ok(data.samples.features.pass(data.batch, &both, self.classes..2 * self.classes, multiply)?.0.into_vec())
    }

    /// Block (k, l) is (1/m) Σ w_i (p_k 1{k = l} − p_k p_l) x_i x_iᵀ.
    fn hessian(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Matrix> {
        data.check()?;
        let p = self.probabilities(data.samples, data.batch, theta)?;
        let inputs = data.samples.features.gather(data.batch)?;
        let m = data.len() as f64;
        weighted_outer(&inputs, self.classes, |i, k, l| {
            data.weight(i) / m * (if k == l { p[(k, i)] } else { 0.0 } - p[(k, i)] * p[(l, i)])
        })
    }

    /// The Hessian product: see [`FisherIdentity::Hessian`].
    fn fisher_product(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        self.hvp(data, theta, u)
    }

    fn fisher_identity(&self) -> FisherIdentity {
        FisherIdentity::Hessian
    }

    /// diag(p) − ppᵀ ≼ ½; and |D³ℓ_i[u, u, u]| is a third central moment of a variable of range √2·‖x_i‖‖u‖, at most range³/(6√3), which
    /// is 2√2/(6√3)·‖x_i‖³‖u‖³.
    fn smoothness(&self) -> Option<Smoothness> {
        Some(Smoothness { gradient: 0.5, hessian: 2.0 * 2.0_f64.sqrt() / (6.0 * 3.0_f64.sqrt()) })
    }

    fn accuracy(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Option<f64>> {
        let labels = self.labels(samples, batch)?;
        let z = samples.features.project(batch, &[self.checked("theta", theta)?])?;
        Ok(Some(categorical::accuracy(&z, batch.iter(samples.len()).map(|i| labels[i]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{difference, norm};

    fn problem(n: usize, width: usize, classes: usize, seed: u64) -> (Softmax, Samples, Vec<f64>, Vec<f64>) {
        let mut stream = Key::new(seed).stream();
        let features = Features::from_f64(stream.normals(n * width), n, width).unwrap().with_intercept();
        let labels = (0..n).map(|_| stream.below(classes).unwrap() as u32).collect();
        let samples = Samples::new(features, Targets::classes(labels, classes).unwrap()).unwrap();
        let model = Softmax::new(width + 1, classes).unwrap();
        let theta = stream.normals(model.dim());
        let weights = (0..n).map(|_| stream.uniform()).collect();
        (model, samples, theta, weights)
    }

    fn relative(a: &[f64], b: &[f64]) -> f64 {
        norm(&difference(a, b)) / norm(b)
    }

    #[test]
    fn derivatives_equal_central_differences() {
        for (n, width, classes) in [(1, 1, 2), (2, 3, 3), (63, 4, 10), (65, 2, 2), (127, 6, 5)] {
            let (model, samples, theta, weights) = problem(n, width, classes, n as u64);
            let data = Weighted { samples: &samples, batch: Batch::All, weights: Some(&weights) };
            let u = Key::new(99).stream().normals(model.dim());
            let h = 1e-5;
            let at = |t: f64| -> Vec<f64> { theta.iter().zip(&u).map(|(a, b)| a + t * b).collect() };
            let slope = (model.loss(data, &at(h)).unwrap() - model.loss(data, &at(-h)).unwrap()) / (2.0 * h);
            let gradient = model.gradient(data, &theta).unwrap();
            assert!((dot(&gradient, &u) - slope).abs() < 1e-7 * (1.0 + slope.abs()));
            let (plus, minus) = (model.gradient(data, &at(h)).unwrap(), model.gradient(data, &at(-h)).unwrap());
            let bend: Vec<f64> = difference(&plus, &minus).iter().map(|x| x / (2.0 * h)).collect();
            let hvp = model.hvp(data, &theta, &u).unwrap();
            assert!(relative(&hvp, &bend) < 1e-6);
            let hessian = model.hessian(data, &theta).unwrap();
            assert!(relative(&crate::dense::matvec(&hessian, &u).unwrap(), &hvp) < 1e-12);
            let products = model.score_products(&samples, Batch::All, &theta, &u).unwrap();
            let sum: f64 = products.iter().zip(&weights).map(|(a, w)| a * w).sum::<f64>() / n as f64;
            assert!((sum - dot(&gradient, &u)).abs() < 1e-12 * (1.0 + sum.abs()));
        }
    }

    /// Shapes astride the blocks, weights of both signs, at 1, 2 and 4 threads.
    #[test]
    fn one_pass_gives_the_three_products_and_the_same_bits_at_every_thread_count() {
        for (n, width, classes) in [(1, 1, 2), (64, 5, 3), (130, 300, 10), (1100, 7, 4)] {
            let (model, samples, theta, weights) = problem(n, width, classes, 7 + n as u64);
            let q = Key::new(n as u64).stream().normals(model.dim());
            let indices: Vec<usize> = (0..n + 3).map(|i| (i * 13) % n).collect();
            let signed: Vec<f64> = indices.iter().map(|&i| weights[i] - 0.3).collect();
            let picked = Weighted { samples: &samples, batch: Batch::Indices(&indices), weights: Some(&signed) };
            for data in [Weighted::ones(&samples, Batch::All), picked] {
                let found = model.products(data, &theta, &q).unwrap();
                let scores = model.score_products(&samples, data.batch, &theta, &q).unwrap();
                assert!(relative(&found.gradient, &model.gradient(data, &theta).unwrap()) < 1e-12);
                assert!(relative(&found.hvp, &model.hvp(data, &theta, &q).unwrap()) < 1e-12);
                assert!(relative(&found.score_products, &scores) < 1e-12);
                for threads in [1, 2, 4] {
                    let again = crate::par::with_threads(threads, || model.products(data, &theta, &q)).unwrap().unwrap();
                    assert_eq!(again, found, "{threads} threads");
                }
            }
            let name = |e: Error| e.offending_argument();
            let all = Weighted::ones(&samples, Batch::All);
            assert_eq!(name(model.products(all, &theta, &q[1..]).unwrap_err()), Some("direction"));
            assert_eq!(name(model.products(all, &theta, &vec![f64::NAN; q.len()]).unwrap_err()), Some("direction"));
        }
    }

    #[test]
    fn expected_fisher_is_the_hessian_with_weights_too() {
        for (n, width, classes) in [(1, 1, 2), (64, 5, 3), (127, 7, 10)] {
            let (model, samples, theta, weights) = problem(n, width, classes, 5 + n as u64);
            for weights in [None, Some(weights.as_slice())] {
                let data = Weighted { samples: &samples, batch: Batch::All, weights };
                let hessian = model.hessian(data, &theta).unwrap();
                let fisher = model.expected_fisher(data, &theta).unwrap();
                assert!(relative(fisher.as_slice(), hessian.as_slice()) < 1e-12);
                // The classic mistake, squaring the weighted gradient, is far away.
                if let Some(weights) = weights {
                    let squared: Vec<f64> = weights.iter().map(|w| w * w).collect();
                    let wrong = Weighted { weights: Some(&squared), ..data };
                    assert!(relative(model.expected_fisher(wrong, &theta).unwrap().as_slice(), hessian.as_slice()) > 1e-2);
                }
            }
        }
    }

    /// The mean over all labels by enumeration, and the empirical kind with the label in question, row by row.
    #[test]
    fn every_fisher_kind_has_the_rows_of_its_definition() {
        let (model, samples, theta, weights) = problem(30, 3, 4, 8);
        let indices = [3, 3, 29, 0];
        let picked: Vec<f64> = indices.iter().map(|&i| weights[i]).collect();
        let data = Weighted { samples: &samples, batch: Batch::Indices(&indices), weights: Some(&picked) };
        let relabelled = |label: u32| {
            let targets = Targets::classes(vec![label; samples.len()], 4).unwrap();
            Samples::new(samples.features.clone(), targets).unwrap()
        };
        let row = |samples: &Samples, i: usize| -> Vec<f64> {
            model.gradient(Weighted::ones(samples, Batch::Indices(&[i])), &theta).unwrap()
        };

        let d = model.dim();
        let identity = Matrix::identity(d);
        let empirical = model.scores(data, &theta, FisherKind::Empirical, Key::new(0)).unwrap().project(&identity).unwrap();
        for (position, &i) in indices.iter().enumerate() {
            let expected: Vec<f64> = row(&samples, i).iter().map(|s| s * picked[position].sqrt()).collect();
            assert!(relative(&empirical.rows(position..position + 1).to_matrix().into_vec(), &expected) < 1e-12);
        }

        let mut sum = Matrix::zeros(d, d);
        let p = model.probabilities(&samples, data.batch, &theta).unwrap();
        for label in 0..4 {
            let samples = relabelled(label);
            for (position, &i) in indices.iter().enumerate() {
                let s = Matrix::column(row(&samples, i));
                let scale = picked[position] * p[(label as usize, position)] / indices.len() as f64;
                crate::dense::matmul_add(&mut sum, scale, &s, s.t()).unwrap();
            }
        }
        assert!(relative(model.expected_fisher(data, &theta).unwrap().as_slice(), sum.as_slice()) < 1e-12);

        // The sampled kind has the rows of the labels that `sample_targets` draws from the same key.
        let sampled = model.scores(data, &theta, FisherKind::Sampled, Key::new(4)).unwrap().project(&identity).unwrap();
        let drawn = model.sample_targets(&samples, data.batch, &theta, Key::new(4)).unwrap();
        let (labels, _) = drawn.as_classes().unwrap();
        for (position, &i) in indices.iter().enumerate() {
            let expected: Vec<f64> = row(&relabelled(labels[position]), i).iter().map(|s| s * picked[position].sqrt()).collect();
            assert!(relative(&sampled.rows(position..position + 1).to_matrix().into_vec(), &expected) < 1e-12);
        }
    }

    #[test]
    fn labels_are_drawn_with_the_model_s_probabilities() {
        let (model, samples, theta, _) = problem(1, 2, 3, 3);
        let repeated = vec![0; 30_000];
        let p = model.probabilities(&samples, Batch::All, &theta).unwrap();
        let drawn = model.sample_targets(&samples, Batch::Indices(&repeated), &theta, Key::new(1)).unwrap();
        let (labels, _) = drawn.as_classes().unwrap();
        for k in 0..3 {
            let (share, p) = (labels.iter().filter(|&&y| y == k).count() as f64 / 30_000.0, p[(k as usize, 0)]);
            assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / 30_000.0).sqrt(), "{share} against {p}");
        }
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let features = Features::from_f64(vec![1e4, -1e4], 2, 1).unwrap();
        let samples = Samples::new(features, Targets::classes(vec![0, 0], 2).unwrap()).unwrap();
        let model = Softmax::new(1, 2).unwrap();
        let losses = model.losses(&samples, Batch::All, &[1.0, 0.0]).unwrap();
        assert_eq!(losses, [0.0, 1e4]);
        assert!(model.gradient(Weighted::ones(&samples, Batch::All), &[1.0, 0.0]).unwrap().iter().all(|x| x.is_finite()));
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let (model, samples, theta, weights) = problem(5, 2, 3, 1);
        let all = Weighted { samples: &samples, batch: Batch::All, weights: Some(&weights) };
        assert!(Softmax::new(0, 3).is_err() && Softmax::new(2, 1).is_err());
        let name = |e: Error| e.offending_argument();
        assert_eq!(name(model.loss(all, &theta[1..]).unwrap_err()), Some("theta"));
        assert_eq!(name(model.hvp(all, &theta, &[0.0]).unwrap_err()), Some("direction"));
        let short = Weighted { weights: Some(&weights[1..]), ..all };
        assert_eq!(name(model.gradient(short, &theta).unwrap_err()), Some("weights"));
        let negative = [-1.0, 1.0, 1.0, 1.0, 1.0];
        let negative = Weighted { weights: Some(&negative), ..all };
        assert_eq!(name(model.scores(negative, &theta, FisherKind::Empirical, Key::new(0)).unwrap_err()), Some("weights"));
        let mut poisoned = theta.clone();
        poisoned[1] = f64::NAN;
        assert_eq!(name(model.loss(all, &poisoned).unwrap_err()), Some("theta"));
        let other = Softmax::new(3, 4).unwrap();
        assert_eq!(name(other.losses(&samples, Batch::All, &[0.0; 12]).unwrap_err()), Some("classes"));
        let real = Samples::new(samples.features.clone(), Targets::real(vec![0.0; 5]).unwrap()).unwrap();
        assert_eq!(name(model.losses(&real, Batch::All, &theta).unwrap_err()), Some("targets"));
    }
}
