//! Inner statistical models: what a bilevel problem needs of a likelihood p(y | x; θ). Weights stand beside the model, never inside
//! it: every mean is (1/m) Σ w_i (…)_i over the m entries of a batch, and a score s_i = ∇_θ ℓ_i is unweighted.

mod categorical;
mod gaussian;
mod logistic;
mod mlp;
mod softmax;

use serde::{Deserialize, Serialize};

pub use gaussian::Gaussian;
pub use logistic::Logistic;
pub use mlp::{Activation, Head, Mlp};
pub use softmax::Softmax;

use crate::dense::Matrix;
use crate::error::{Error, Result, check_len};
use crate::gradient::GradientBlock;
use crate::rng::Key;
use crate::samples::{Batch, Samples, Targets};

/// Which expectation over labels a Fisher estimate takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FisherKind {
    /// The observed labels. Equals the Hessian only in expectation, at the generating parameter, without ridge.
    Empirical,
    /// One label a sample, drawn from the model at θ. Unbiased for the expected Fisher at that θ.
    Sampled,
    /// The exact expectation over labels: several rows a sample.
    Expected,
}

impl FisherKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Empirical, Self::Sampled, Self::Expected];

    /// The name as in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empirical => "empirical",
            Self::Sampled => "sampled",
            Self::Expected => "expected",
        }
    }

    /// What it is, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Empirical => "the observed labels: biased wherever the model is wrong",
            Self::Sampled => "one label a sample drawn from the model: unbiased for the expected Fisher matrix",
            Self::Expected => {
                "the exact expectation over labels: one row a class, or one row an output for two classes and real targets"
            }
        }
    }
}

/// What a model's expected Fisher matrix is, at every θ: a claim that `check` tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FisherIdentity {
    /// The Hessian: generalized linear models with the canonical link, convex.
    Hessian,
    /// The Gauss–Newton matrix JᵀH_outJ alone: models that are not linear in θ, whose Hessian may be indefinite.
    GaussNewton,
}

/// How smooth a loss is, at every θ and for every label, in terms of its features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothness {
    /// ∇ℓ_i is Lipschitz with this times ‖x_i‖².
    pub gradient: f64,
    /// ∇²ℓ_i is Lipschitz with this times ‖x_i‖³.
    pub hessian: f64,
}

/// Some samples with their weights: what a model is evaluated on.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a> {
    /// The data.
    pub samples: &'a Samples,
    /// Which of them.
    pub batch: Batch<'a>,
    /// w_i ≥ 0, one for each entry of the batch; `None` for ones.
    pub weights: Option<&'a [f64]>,
}

impl<'a> Weighted<'a> {
    /// Samples that all have the weight 1.
    pub fn ones(samples: &'a Samples, batch: Batch<'a>) -> Self {
        Self { samples, batch, weights: None }
    }

    /// m, the number of entries of the batch.
    pub fn len(&self) -> usize {
        self.batch.len(self.samples.len())
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// w_i at position `position` of the batch.
    ///
    /// # Panics
    /// If there are weights, and none there.
    pub fn weight(&self, position: usize) -> f64 {
        self.weights.map_or(1.0, |w| w[position])
    }

    /// Checks the batch and the number of the weights, and that they are finite.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Shape`], [`Error::NotFinite`].
    pub fn check(&self) -> Result<()> {
        self.batch.check(self.samples.len())?;
        let Some(weights) = self.weights else { return Ok(()) };
        check_len("weights", weights.len(), self.len())?;
        crate::error::check_finite("weights", weights)
    }

    /// As [`check`](Self::check), and that no weight is negative: where √w is taken.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_nonnegative(&self) -> Result<()> {
        self.check()?;
        match self.weights.and_then(|weights| weights.iter().find(|&&w| w < 0.0)) {
            None => Ok(()),
            Some(w) => Err(Error::argument("weights", "weights of at least 0", w)),
        }
    }
}

/// A model ℓ(θ; x, y) = −log p(y | x; θ). Operations refuse a θ of another length ([`Error::Shape`]), data of another width or
/// kind, bad weights and empty batches.
pub trait Model: Send + Sync {
    /// The registry name.
    fn name(&self) -> &'static str;

    /// d, the length of θ.
    fn dim(&self) -> usize;

    /// ℓ_i for each entry of the batch.
    ///
    /// # Errors
    /// See [`Model`].
    fn losses(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Vec<f64>>;

    /// (1/m) Σ w_i ℓ_i.
    ///
    /// # Errors
    /// See [`Model`].
    fn loss(&self, data: Weighted<'_>, theta: &[f64]) -> Result<f64> {
        data.check()?;
        let losses = self.losses(data.samples, data.batch, theta)?;
        Ok(losses.iter().enumerate().map(|(i, loss)| data.weight(i) * loss).sum::<f64>() / data.len() as f64)
    }

    /// (1/m) Σ w_i s_i. Weights of any sign are allowed.
    ///
    /// # Errors
    /// See [`Model`].
    fn gradient(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Vec<f64>>;

    /// s_iᵀ q for each entry of the batch.
    ///
    /// # Errors
    /// See [`Model`].
    fn score_products(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Vec<f64>>;

    /// The rows √w_i s_i of a Fisher estimate.
    ///
    /// # Errors
    /// See [`Model`].
    fn scores(&self, data: Weighted<'_>, theta: &[f64], kind: FisherKind, key: Key) -> Result<GradientBlock>;

    /// Targets drawn from p(· | x_i; θ), one for each entry of the batch.
    ///
    /// # Errors
    /// See [`Model`].
    fn sample_targets(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], key: Key) -> Result<Targets>;

    /// (1/m) Σ w_i ∇²ℓ_i u.
    ///
    /// # Errors
    /// See [`Model`].
    fn hvp(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>>;

    /// The gradient, the Hessian product and the score products with one q, on one batch. A model for which one pass over the batch serves all
    /// three overrides it.
    ///
    /// # Errors
    /// See [`Model`].
    fn products(&self, data: Weighted<'_>, theta: &[f64], q: &[f64]) -> Result<Products> {
        Ok(Products {
            gradient: self.gradient(data, theta)?,
            hvp: self.hvp(data, theta, q)?,
            score_products: self.score_products(data.samples, data.batch, theta, q)?,
        })
    }

    /// (1/m) Σ w_i ∇²ℓ_i as a d × d matrix: for the oracle.
    ///
    /// # Errors
    /// See [`Model`].
    fn hessian(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Matrix>;

    /// (1/m) Σ w_i E_y[s_i s_iᵀ] as a d × d matrix: for the oracle.
    ///
    /// # Errors
    /// See [`Model`].
    fn expected_fisher(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Matrix> {
        // The expected kind draws nothing: any key will do.
        let mut fisher = self.scores(data, theta, FisherKind::Expected, Key::new(0))?.scatter()?;
        fisher.scale(1.0 / data.len() as f64);
        Ok(fisher)
    }

    /// (1/m) Σ w_i E_y[s_i s_iᵀ] u.
    ///
    /// # Errors
    /// See [`Model`].
    fn fisher_product(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>>;

    /// Constants of every ℓ_i in terms of ‖x_i‖; `None` where they are not known.
    fn smoothness(&self) -> Option<Smoothness> {
        None
    }

    /// What the expected Fisher matrix is.
    fn fisher_identity(&self) -> FisherIdentity;

    /// The share of entries whose most likely target is the given one; `None` where targets are not classes.
    ///
    /// # Errors
    /// See [`Model`].
    fn accuracy(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Option<f64>>;
}

/// What one batch gives at a θ and a vector q.
#[derive(Debug, Clone, PartialEq)]
pub struct Products {
    /// (1/m) Σ w_i s_i, of length d.
    pub gradient: Vec<f64>,
    /// (1/m) Σ w_i ∇²ℓ_i q, of length d.
    pub hvp: Vec<f64>,
    /// s_iᵀq, one for each entry of the batch, without weights.
    pub score_products: Vec<f64>,
}

/// A model with data for it.
pub type Specimen = (Box<dyn Model>, Samples);

/// A small instance of every registered model with data for it, for checks. Adding a model is its file and one line here.
///
/// # Errors
/// Never, for the instances that ship.
pub fn specimens(key: Key) -> Result<Vec<Specimen>> {
    fn boxed<M: Model + 'static>((model, samples): (M, Samples)) -> Specimen {
        (Box::new(model), samples)
    }
    let linear = vec![
        boxed(softmax::specimen(key.named(Softmax::NAME))?),
        boxed(gaussian::specimen(key.named(Gaussian::NAME))?),
        boxed(logistic::specimen(key.named(Logistic::NAME))?),
    ];
    Ok(linear.into_iter().chain(mlp::specimens(key.named(Mlp::NAME))?.map(boxed)).collect())
}
