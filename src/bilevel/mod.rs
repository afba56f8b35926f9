//! Bilevel methods: estimators of the hypergradient at a given point, methods that use them, and the loop that runs a method.
//! A method is one file of [`methods`]; adding one is its file and one line in the registry there. A run is a pure function of (problem, method,
//! key): a step's randomness is derived from the key and the step's number, never carried along.

mod certified;
mod hypergradient;
pub mod methods;
mod run;
mod schedule;
mod state;

pub use certified::{CertifiedHypergradient, InexactPoint, TotalErrors, certified_nhgd};
pub use hypergradient::{Hypergradient, Sampling, cg, check_estimators, exact, neumann, nhgd, pcg};
pub use methods::{
    AidCgConfig, AmigoConfig, BomeConfig, BsaConfig, CurvatureRows, ExactConfig, F2saConfig, FslaConfig, ItdConfig, MethodConfig,
    MrboConfig, NhgdConfig, NhgdPcgConfig, PzoboConfig, SabaConfig, SobaConfig, SrbaConfig, Start, StocbioConfig, SustainConfig,
    TtsaConfig, VrboConfig,
};
pub use run::{Clock, Ended, Observer, Outcome, Phase, Span, Stop, resume, run};
pub use schedule::{SampleCount, StepSize};
pub use state::{Memory, State};

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
