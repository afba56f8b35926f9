//! The registered models, and softmax regression with a fault at a time.

use nhgd::Result;
use nhgd::dense::Matrix;
use nhgd::gradient::{DenseRows, GradientBlock};
use nhgd::model::{FisherIdentity, FisherKind, Model, Weighted, specimens};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Samples, Targets};
use nhgd::testkit::{self, Report};

use super::caught;

#[test]
fn every_registered_model_conforms() {
    for seed in 0..3 {
        for (model, samples) in specimens(Key::new(seed)).unwrap() {
            let report = testkit::model(model.as_ref(), &samples, Key::new(seed + 10));
            println!("{report}");
            report.assert_passes();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    HvpSign,
    FisherProductSign,
    ClaimsToBeLinear,
    ForgetsWeights,
    WeightsOnce,
    WeightsSquaredInScores,
    DividesByAllSamples,
    LossOfTheFirst,
    ScoreProductsSign,
    ExpectedWithoutProbabilities,
    ExpectedAsOneRow,
    SampledIsObserved,
    SampledFromUniform,
    OneLabelForAll,
    IgnoresTheKey,
    RepeatedSamplesOnce,
    HessianOfLowerTriangle,
    AcceptsNan,
    AcceptsNegativeWeights,
    PanicsOnAnIndex,
    AcceptsEmptyBatches,
    DependsOnThreads,
}

/// A model with a fault.
struct Faulty<'a>(&'a dyn Model, Fault);

impl Faulty<'_> {
    fn is(&self, fault: Fault) -> bool {
        self.1 == fault
    }

    fn scaled(mut x: Vec<f64>, factor: f64) -> Vec<f64> {
        x.iter_mut().for_each(|x| *x *= factor);
        x
    }

    fn weights<'b>(&self, data: Weighted<'b>) -> Weighted<'b> {
        if self.is(Fault::ForgetsWeights) { Weighted { weights: None, ..data } } else { data }
    }
}

impl Model for Faulty<'_> {
    fn name(&self) -> &'static str {
        "faulty"
    }
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn losses(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let losses = match (batch, self.1) {
            (Batch::Indices(&[]), Fault::AcceptsEmptyBatches) => return Ok(vec![]),
            (Batch::Indices(indices), Fault::PanicsOnAnIndex) => {
                indices.iter().for_each(|&i| assert!(i < samples.len()));
                self.0.losses(samples, batch, theta)?
            }
            _ if self.is(Fault::AcceptsNan) && !theta.iter().all(|x| x.is_finite()) => return Ok(vec![f64::NAN; 1]),
            _ => self.0.losses(samples, batch, theta)?,
        };
        Ok(if self.is(Fault::LossOfTheFirst) { vec![losses[0]; losses.len()] } else { losses })
    }
    fn gradient(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let gradient = self.0.gradient(self.weights(data), theta)?;
        Ok(match self.1 {
            Fault::DividesByAllSamples => Self::scaled(gradient, data.len() as f64 / data.samples.len() as f64),
            Fault::WeightsOnce if data.weights.is_some() => self.0.gradient(Weighted { weights: None, ..data }, theta)?,
            Fault::DependsOnThreads => Self::scaled(gradient, 1.0 + 1e-15 * nhgd::par::threads() as f64),
            Fault::RepeatedSamplesOnce => match data.batch {
                Batch::Indices(indices) if data.weights.is_none() => {
                    let mut once = indices.to_vec();
                    once.sort_unstable();
                    once.dedup();
                    self.0.gradient(Weighted { batch: Batch::Indices(&once), ..data }, theta)?
                }
                Batch::Indices(indices) => {
                    let mut weights = data.weights.unwrap_or(&[]).to_vec();
                    for position in 1..indices.len().min(weights.len()) {
                        if indices[..position].contains(&indices[position]) {
                            weights[position] = 0.0;
                        }
                    }
                    self.0.gradient(Weighted { weights: Some(&weights), ..data }, theta)?
                }
                Batch::All => gradient,
            },
            _ => gradient,
        })
    }
    fn score_products(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Vec<f64>> {
        let products = self.0.score_products(samples, batch, theta, q)?;
        Ok(if self.is(Fault::ScoreProductsSign) { Self::scaled(products, -1.0) } else { products })
    }
    fn scores(&self, data: Weighted<'_>, theta: &[f64], kind: FisherKind, key: Key) -> Result<GradientBlock> {
        let d = self.dim();
        let key = if self.is(Fault::IgnoresTheKey) { Key::new(5) } else { key };
        match (self.1, kind) {
            (Fault::WeightsSquaredInScores, _) => {
                data.check_nonnegative()?;
                let squared: Option<Vec<f64>> = data.weights.map(|w| w.iter().map(|w| w * w).collect());
                self.0.scores(Weighted { weights: squared.as_deref(), ..data }, theta, kind, key)
            }
            (Fault::AcceptsNegativeWeights, _) => {
                let clamped: Option<Vec<f64>> = data.weights.map(|w| w.iter().map(|w| w.max(0.0)).collect());
                self.0.scores(Weighted { weights: clamped.as_deref(), ..data }, theta, kind, key)
            }
            (Fault::SampledIsObserved, FisherKind::Sampled) => self.0.scores(data, theta, FisherKind::Empirical, key),
            (Fault::SampledFromUniform, FisherKind::Sampled) => {
                // Labels of another θ: those of a coin.
                let drawn = self.0.sample_targets(data.samples, data.batch, &vec![0.0; d], key)?;
                let indices: Vec<usize> = data.batch.iter(data.samples.len()).collect();
                let relabelled = Samples::new(data.samples.features.select(&indices)?, drawn)?;
                self.0.scores(Weighted { samples: &relabelled, batch: Batch::All, ..data }, theta, FisherKind::Empirical, key)
            }
            (Fault::OneLabelForAll, FisherKind::Sampled) => {
                let first = data.batch.iter(data.samples.len()).next().unwrap_or(0);
                let drawn = self.0.sample_targets(data.samples, Batch::Indices(&[first]), theta, key)?;
                let indices: Vec<usize> = data.batch.iter(data.samples.len()).collect();
                let same = drawn.select(&vec![0; indices.len()])?;
                let relabelled = Samples::new(data.samples.features.select(&indices)?, same)?;
                self.0.scores(Weighted { samples: &relabelled, batch: Batch::All, ..data }, theta, FisherKind::Empirical, key)
            }
            (Fault::ExpectedWithoutProbabilities, FisherKind::Expected) => {
                let mut block = self.0.scores(data, theta, kind, key)?;
                block.scale(1.1);
                Ok(block)
            }
            (Fault::ExpectedAsOneRow, FisherKind::Expected) => {
                // Every row a sample of its own: means would divide by rows.
                let rows = self.0.scores(data, theta, kind, key)?.project(&Matrix::identity(d))?;
                Ok(DenseRows::new(rows.t().to_matrix(), 1)?.into())
            }
            _ => self.0.scores(data, theta, kind, key),
        }
    }
    fn sample_targets(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], key: Key) -> Result<Targets> {
        self.0.sample_targets(samples, batch, theta, if self.is(Fault::IgnoresTheKey) { Key::new(5) } else { key })
    }
    fn hvp(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        let product = self.0.hvp(self.weights(data), theta, u)?;
        Ok(if self.is(Fault::HvpSign) { Self::scaled(product, -1.0) } else { product })
    }
    fn hessian(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Matrix> {
        let hessian = self.0.hessian(data, theta)?;
        if self.is(Fault::HessianOfLowerTriangle) {
            return Ok(Matrix::from_fn(self.dim(), self.dim(), |i, j| if i >= j { hessian[(i, j)] } else { 0.0 }));
        }
        Ok(hessian)
    }
    fn fisher_product(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        let product = self.0.fisher_product(self.weights(data), theta, u)?;
        Ok(if self.is(Fault::FisherProductSign) { Self::scaled(product, -1.0) } else { product })
    }
    fn fisher_identity(&self) -> FisherIdentity {
        if self.is(Fault::ClaimsToBeLinear) { FisherIdentity::Hessian } else { self.0.fisher_identity() }
    }
    fn accuracy(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Option<f64>> {
        self.0.accuracy(samples, batch, theta)
    }
}

fn faulty(fault: Fault) -> Report {
    // Only a network can be wrong about being linear.
    let name = if fault == Fault::ClaimsToBeLinear { "mlp-tanh-softmax" } else { "softmax" };
    let (model, samples) = specimens(Key::new(0)).unwrap().into_iter().find(|(model, _)| model.name() == name).unwrap();
    testkit::model(&Faulty(model.as_ref(), fault), &samples, Key::new(1))
}

#[test]
fn wrong_models_are_rejected_by_the_claim_that_they_break() {
    for (fault, claim) in [
        (Fault::HvpSign, "Hessian product = differences of the gradient"),
        (Fault::FisherProductSign, "expected Fisher = Fisher product"),
        (Fault::FisherProductSign, "the Fisher product is the Fisher matrix times u"),
        (Fault::ClaimsToBeLinear, "expected Fisher = Hessian"),
        (Fault::ForgetsWeights, "gradient = differences of the loss"),
        (Fault::ForgetsWeights, "the gradient is the weighted mean over the batch"),
        (Fault::ForgetsWeights, "the Hessian product is the weighted mean over the batch"),
        (Fault::WeightsOnce, "the gradient is the weighted mean over the batch"),
        (Fault::WeightsSquaredInScores, "weights enter the rows once, as √w"),
        (Fault::WeightsSquaredInScores, "empirical rows are √w s"),
        (Fault::DividesByAllSamples, "the gradient is the weighted mean over the batch"),
        (Fault::LossOfTheFirst, "losses are those of the samples one by one"),
        (Fault::ScoreProductsSign, "score products are sᵀq"),
        (Fault::ExpectedWithoutProbabilities, "expected Fisher = Hessian"),
        (Fault::ExpectedAsOneRow, "scores have the batch's samples, whole rows a sample, and the model's dim"),
        (Fault::SampledIsObserved, "sampled scores have mean 0"),
        (Fault::SampledIsObserved, "the same key draws the same labels, another key others"),
        (Fault::SampledFromUniform, "sampled Fisher matrices have the expected one as their mean"),
        (Fault::OneLabelForAll, "each entry of a batch draws its own label"),
        (Fault::IgnoresTheKey, "the same key draws the same labels, another key others"),
        (Fault::RepeatedSamplesOnce, "the gradient is the weighted mean over the batch"),
        (Fault::HessianOfLowerTriangle, "the Hessian is symmetric"),
        (Fault::AcceptsNan, "a θ that is not finite is refused"),
        (Fault::AcceptsNegativeWeights, "negative weights of score rows are refused"),
        (Fault::PanicsOnAnIndex, "an index that is not there is refused"),
        (Fault::AcceptsEmptyBatches, "an empty batch is refused"),
        (Fault::DependsOnThreads, "the same bits at every thread count"),
    ] {
        caught(fault, &faulty(fault), claim);
    }
}
