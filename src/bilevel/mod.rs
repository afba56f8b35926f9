//! Bilevel methods: estimators of the hypergradient at a given point, methods that use them, and the loop that runs a method.
//! A method is one file; adding one is its file and one line in the registry below. A run is a pure function of (problem, method,
//! key): a step's randomness is derived from the key and the step's number, never carried along.

mod certified;
mod exact;
mod hypergradient;
mod nhgd;
mod run;
mod schedule;
mod state;

use serde::{Deserialize, Serialize};

pub use certified::{CertifiedHypergradient, InexactPoint, TotalErrors, certified_nhgd};
pub use exact::{Config as ExactConfig, Exact};
pub use hypergradient::{Hypergradient, Sampling, cg, check_estimators, exact, neumann, nhgd};
pub use nhgd::{Config as NhgdConfig, CurvatureRows, Nhgd, Start};
pub use run::{Ended, Observer, Outcome, Phase, Stop, resume, run};
pub use schedule::{SampleCount, StepSize};
pub use state::State;

use crate::error::{Result, Status};
pub use crate::inverse::Damping;
use crate::problem::Problem;
use crate::rng::Key;

/// A bilevel method: a state and how to step it.
pub trait Method: Send + Sync {
    /// The registry name.
    fn name(&self) -> &'static str;

    /// The state before the first step.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) where the settings do not fit the problem.
    fn init(&self, problem: &dyn Problem, key: Key) -> Result<State>;

    /// One outer step. `key` belongs to this step alone; the observer is told of each phase as it begins.
    ///
    /// # Errors
    /// Whatever the problem itself can meet. A numerical outcome other than [`Status::Converged`] ends the run.
    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status>;
}

/// Declares the registry: for each method its variant, its type and its one-line description.
macro_rules! methods {
    ($($variant:ident($module:ident::$method:ident): $about:literal;)*) => {
        /// The configuration of a method.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum MethodConfig {
            $(#[doc = $about] $variant($module::Config),)*
        }

        impl MethodConfig {
            /// Name and description of every method.
            pub const REGISTRY: &'static [(&'static str, &'static str)] = &[$(($method::NAME, $about)),*];

            /// The method's default settings.
            pub fn default_of(name: &str) -> Option<Self> {
                match name {
                    $($method::NAME => Some(Self::$variant($module::Config::default())),)*
                    _ => None,
                }
            }

            /// Checks the settings.
            ///
            /// # Errors
            /// [`Error::Argument`](crate::Error::Argument) that names the setting.
            pub fn validate(&self) -> Result<()> {
                match self { $(Self::$variant(config) => config.validate(),)* }
            }

            /// The method with these settings.
            ///
            /// # Errors
            /// As [`validate`](Self::validate).
            pub fn build(&self) -> Result<Box<dyn Method>> {
                match self { $(Self::$variant(config) => Ok(Box::new($method::new(config.clone())?)),)* }
            }
        }
    };
}

methods! {
    Nhgd(nhgd::Nhgd): "natural hypergradient descent: an inverse Fisher sketch updated alongside the inner SGD";
    Exact(exact::Exact): "the same inner SGD with a dense Hessian solve at each outer step: the reference";
}
