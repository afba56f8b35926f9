//! Bilevel problems  min_v Φ(v) = f(v, θ*(v)),  θ*(v) = argmin_θ g(v, θ),  g = (1/n) Σ w_i(v) ℓ_i(v, θ) + R(v, θ).
//! One file a problem, behind the [`Problem`] trait; adding one is its file and one line in the registry below. [`Counted`] wraps a
//! problem and counts what methods ask of it.

mod counted;
mod data_cleaning;
pub mod differences;
mod distillation;
mod held_out;
mod outer_vector;
mod picture;
mod poisson_control;
mod quadratic;
mod regularization_selection;
mod tables;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use counted::{Counted, OracleCounts};
pub use data_cleaning::{Config as DataCleaningConfig, DataCleaning, DataSet, FeatureScale, ModelConfig, NetworkConfig};
pub use distillation::{Config as DistillationConfig, Distillation, InitialImages};
pub use outer_vector::OuterVector;
pub use picture::{Picture, PictureKind};
pub use poisson_control::{Config as PoissonControlConfig, PoissonControl, Target as PoissonTarget};
pub use quadratic::{Config as QuadraticConfig, Prescribed, Quadratic, Spectrum};
pub use regularization_selection::{
    Config as RegularizationConfig, DataSet as RegularizationData, InitialInner, InitialStrength, RegularizationSelection, Strength,
};
pub use tables::{SampleTables, TablePoint, TableSide, WholeRows};

use crate::dense::Matrix;
use crate::error::Result;
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::model::FisherKind;
use crate::operator::{FromFn, LinearOperator};
use crate::rng::Key;
use crate::samples::Batch;

/// A bilevel problem. Operations on g take a batch of inner samples, those on f one of outer samples; both are means over the
/// batch plus whatever does not depend on samples (the regularizer R). J = ∇²_{θv} g is d2 × d1.
///
/// The minimum to provide is values, gradients and scores: Hessian and cross products default to central differences of
/// gradients ([`differences`]), and `check` says where a default is in use.
///
/// Every operation refuses a v or θ of another length, numbers that are not finite and a bad batch. Of a v with an entry for each sample, an
/// operation on a batch may look at the batch's entries alone: a run looks at the whole of v and θ after each step.
pub trait Problem: Send + Sync {
    /// The registry name.
    fn name(&self) -> &'static str;

    /// d1, the length of v.
    fn outer_dim(&self) -> usize;

    /// d2, the length of θ.
    fn inner_dim(&self) -> usize;

    /// The number of samples that g is a mean over.
    fn inner_samples(&self) -> usize;

    /// The number of samples that f is a mean over.
    fn outer_samples(&self) -> usize;

    /// Where runs start: (v₀, θ₀).
    fn initial(&self) -> (Vec<f64>, Vec<f64>);

    /// g(v, θ).
    ///
    /// # Errors
    /// See [`Problem`].
    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64>;

    /// ∇_θ g(v, θ).
    ///
    /// # Errors
    /// See [`Problem`].
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>>;

    /// ∇_v g(v, θ).
    ///
    /// # Errors
    /// See [`Problem`].
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>>;

    /// f(v, θ).
    ///
    /// # Errors
    /// See [`Problem`].
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64>;

    /// ∇_θ f and ∇_v f at (v, θ), on the same samples.
    ///
    /// # Errors
    /// See [`Problem`].
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient>;

    /// The rows √w_i(v) s_i for inner samples: GᵀG/m estimates the Hessian of (1/n) Σ w_i ℓ_i.
    ///
    /// # Errors
    /// See [`Problem`].
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock>;

    /// Λ: the Hessian of R in θ, which is known and never sketched.
    ///
    /// # Errors
    /// See [`Problem`].
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature>;

    /// ∇²_{θθ} g(v, θ) u, the regularizer's part included.
    ///
    /// # Errors
    /// See [`Problem`].
    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        differences::hvp(self, v, theta, batch, u)
    }

    /// Jᵀq, of length d1.
    ///
    /// # Errors
    /// See [`Problem`].
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        differences::cross_vjp(self, v, theta, batch, q)
    }

    /// Ju, of length d2.
    ///
    /// # Errors
    /// See [`Problem`].
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        differences::cross_jvp(self, v, theta, batch, u)
    }

    /// ∇_θ g(v, θ), Hq and Jᵀq, all on the same batch. Methods of one loop ask for nothing else; a problem for which one pass over the batch
    /// serves all three overrides it.
    ///
    /// # Errors
    /// See [`Problem`].
    fn inner_products(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<InnerProducts> {
        Ok(InnerProducts {
            gradient: self.grad_inner(v, theta, batch)?,
            hvp: self.hvp(v, theta, batch, q)?,
            cross_vjp: self.cross_vjp(v, theta, batch, q)?.into(),
        })
    }

    /// The form in which methods that remember every sample's terms keep them. By default whole terms, got one sample at a time; a problem
    /// whose terms are made of fewer numbers overrides it.
    fn tables(&self) -> Box<dyn SampleTables + '_> {
        Box::new(WholeRows(self))
    }

    /// Two problems on the same inner data: the outer samples of the second are every `folds`-th one, starting at the `fold`-th, those of the
    /// first are the rest. What is fitted on the first has the loss `f_outer` of the second on samples that it has not seen: settings are chosen
    /// so, with test data out of sight. `None` for a problem whose f is not a mean over samples that could be held out: its own f is what
    /// settings are chosen by.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for fewer than two folds, a fold that is not there, or more folds than outer samples.
    fn hold_out(&self, _fold: usize, _folds: usize) -> Result<Option<HeldOut>> {
        Ok(None)
    }

    /// The columns of J over all inner samples as rows, one for each coordinate of v: with them every coordinate of a hypergradient has a
    /// certificate of its own. `None` where the problem has no such form.
    ///
    /// # Errors
    /// See [`Problem`].
    fn cross_rows(&self, _v: &[f64], _theta: &[f64]) -> Result<Option<GradientBlock>> {
        Ok(None)
    }

    /// The constants that turn ‖∇_θ g‖ into a bound of what an inexact θ costs; `None` where they are not known, or the losses are not convex in
    /// θ: whoever gives constants says that H ≽ Λ too.
    ///
    /// # Errors
    /// See [`Problem`].
    fn constants(&self, _v: &[f64]) -> Result<Option<Constants>> {
        Ok(None)
    }

    /// ∇²_{θθ} g(v, θ) over all inner samples, as a matrix: for the oracle. By d2 Hessian products unless overridden.
    ///
    /// # Errors
    /// See [`Problem`].
    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        FromFn::new(self.inner_dim(), |u: &[f64]| self.hvp(v, theta, Batch::All, u)).to_dense()
    }

    /// What a run records beside f: names, in the order of [`metrics`](Self::metrics).
    fn metric_names(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The metrics at (v, θ); NaN for one that does not apply. Evaluation: never counted, never used by a method.
    ///
    /// # Errors
    /// See [`Problem`].
    fn metrics(&self, _v: &[f64], _theta: &[f64]) -> Result<Vec<f64>> {
        Ok(Vec::new())
    }

    /// What there is to see at (v, θ): nothing unless overridden. A run records it after its last step. Evaluation, as [`metrics`](Self::metrics).
    ///
    /// # Errors
    /// See [`Problem`].
    fn pictures(&self, _v: &[f64], _theta: &[f64]) -> Result<Vec<Picture>> {
        Ok(Vec::new())
    }

    /// θ*(v) and ∇Φ(v) where the problem knows them by a formula of its own, independent of its derivatives: what the oracle and
    /// estimators are then measured against.
    ///
    /// # Errors
    /// See [`Problem`].
    fn closed_form(&self, _v: &[f64]) -> Result<Option<ClosedForm>> {
        Ok(None)
    }

    /// Problems that a run is measured against, each an inner problem to be solved once at a fixed v.
    ///
    /// # Errors
    /// See [`Problem`].
    fn baselines(&self) -> Result<Vec<Baseline>> {
        Ok(Vec::new())
    }
}

/// Constants of a problem at a given v, valid for every θ. Lipschitz constants are in the 2-norm, as functions of θ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// μ_g: g is strongly convex with this modulus.
    pub strong_convexity: f64,
    /// L_f, of ∇_v f.
    pub outer_gradient: f64,
    /// L_b, of b = ∇_θ f.
    pub right_hand_side: f64,
    /// L_H, of H.
    pub hessian: f64,
    /// L_J, of J.
    pub cross: f64,
}

/// The two gradients of f.
#[derive(Debug, Clone, PartialEq)]
pub struct OuterGradient {
    /// b = ∇_θ f, of length d2.
    pub theta: Vec<f64>,
    /// ∇_v f, of length d1.
    pub v: OuterVector,
}

impl OuterGradient {
    /// ∇_θ f and ∇_v f, every number of them.
    pub fn into_vecs(self) -> (Vec<f64>, Vec<f64>) {
        (self.theta, self.v.into_vec())
    }
}

/// What methods of one loop ask of g at a point and a vector q, on one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct InnerProducts {
    /// ∇_θ g, of length d2.
    pub gradient: Vec<f64>,
    /// Hq, of length d2.
    pub hvp: Vec<f64>,
    /// Jᵀq, of length d1.
    pub cross_vjp: OuterVector,
}

/// A problem whose outer samples were parted in two.
pub struct HeldOut {
    /// The one to fit.
    pub fit: Box<dyn Problem>,
    /// The one whose f judges the fit.
    pub judge: Box<dyn Problem>,
}

/// What a problem knows in closed form at a v.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedForm {
    /// θ*(v), of length d2.
    pub theta: Vec<f64>,
    /// ∇Φ(v), of length d1.
    pub hypergradient: Vec<f64>,
}

/// An inner problem at a fixed v, solved for comparison: its θ* is evaluated with its own metrics.
pub struct Baseline {
    /// The name in records.
    pub name: &'static str,
    /// The problem.
    pub problem: Box<dyn Problem>,
    /// v.
    pub outer_var: Vec<f64>,
}

/// Where data sets that are not embedded are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataSource {
    /// The folder given by `--data` or `NHGD_DATA`.
    pub folder: Option<PathBuf>,
}

/// Declares the registry: for each problem its variant, its type and its one-line description.
macro_rules! problems {
    ($($variant:ident($module:ident::$problem:ident): $about:literal;)*) => {
        /// The configuration of a problem.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum ProblemConfig {
            $(#[doc = $about] $variant($module::Config),)*
        }

        impl ProblemConfig {
            /// Name and description of every problem.
            pub const REGISTRY: &'static [(&'static str, &'static str)] = &[$(($problem::NAME, $about)),*];

            /// The problem's name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $problem::NAME,)* }
            }

            /// Checks the settings.
            ///
            /// # Errors
            /// [`Error::Argument`](crate::Error::Argument) that names the setting.
            pub fn validate(&self) -> Result<()> {
                match self { $(Self::$variant(config) => config.validate(),)* }
            }

            /// Builds the problem; `key` decides what is random about it (splits, corruption).
            ///
            /// # Errors
            /// [`Error::Argument`](crate::Error::Argument) for settings, [`Error::Data`](crate::Error::Data) and
            /// [`Error::Io`](crate::Error::Io) for the data.
            pub fn build(&self, source: &DataSource, key: Key) -> Result<Box<dyn Problem>> {
                self.validate()?;
                match self { $(Self::$variant(config) => Ok(Box::new($problem::load(config, source, key)?)),)* }
            }
        }

        /// A small instance of every registered problem, for checks.
        ///
        /// # Errors
        /// Never, for the instances that ship.
        pub fn specimens(key: Key) -> Result<Vec<Box<dyn Problem>>> {
            Ok(vec![$(Box::new($problem::specimen(key)?)),*])
        }
    };
}

problems! {
    DataCleaning(data_cleaning::DataCleaning): "weights on corrupted training samples, fitted to a clean validation set";
    Quadratic(quadratic::Quadratic): "least squares whose targets depend linearly on v: inner solution and hypergradient in closed form";
    RegularizationSelection(regularization_selection::RegularizationSelection): "ridge strengths, one a feature or one a class, chosen on validation data";
    Distillation(distillation::Distillation): "a few training images, sought so that a model trained on them alone fits the real data";
    PoissonControl(poisson_control::PoissonControl): "the source of Poisson's equation on a square, steered to a desired state: exact optimum in sines";
}
