//! Natural hypergradient descent (NHGD) on matrix-free streaming sketches of the Fisher matrix.
//!
//! # The problem
//!
//! A bilevel problem has an outer variable v and an inner variable θ that is itself the solution of a problem:
//!
//! ```text
//! min_v Φ(v) = f(v, θ*(v)),    θ*(v) = argmin_θ g(v, θ),    g(v, θ) = (1/n) Σ_i w_i(v) ℓ_i(v, θ) + R(v, θ)
//! ```
//!
//! Its gradient, the *hypergradient*, needs an inverse Hessian product: ∇Φ = ∇_v f − Jᵀq with H q = b, where H = ∇²_{θθ} g,
//! J = ∇²_{θv} g and b = ∇_θ f. NHGD (Kong, Chen, Zhang & Mou, 2026) replaces H by an estimate of the Fisher matrix that is
//! updated *while* the inner SGD runs, from gradients that SGD computed anyway. Here that estimate is a [`curvature`] family of
//! your choice, fed with [`gradient`] blocks that are never expanded, and the part Λ of H that is known (a ridge) is kept apart.
//!
//! # Symbols
//!
//! | symbol | code | in other words |
//! |---|---|---|
//! | v, θ | `outer_var`, `inner_var` (in formulas `v`, `theta`) | upper and lower variable |
//! | f, g, Φ | `f_outer`, `f_inner`, value function | upper and lower objective |
//! | H⁻¹b | `inverse_hvp` | ihvp |
//! | Jᵀq; Ju | `cross_vjp`; `cross_jvp` | cross product |
//! | α_k; η | `inner_step_size`; `outer_step_size` | learning rates |
//! | K; M; B | `inner_steps`; `cross_samples`; `batch_size` | |
//! | μ; Λ; Λ' = Λ + μI | `damping`; `known_curvature`; their sum | |
//! | ℓ; m | `sketch_size`; `samples` of a window | |
//! | F; F̂; E = F − F̂ | Fisher matrix as fed; its [`Approximation`](curvature::Approximation); residual | |
//!
//! # An example
//!
//! Clean a training set, half of whose labels were replaced, by weights fitted to a clean validation set:
//!
//! ```
//! use nhgd::bilevel::{self, MethodConfig, NhgdConfig, StepSize, Stop};
//! use nhgd::problem::{DataCleaningConfig, DataSource, ProblemConfig};
//! use nhgd::rng::Key;
//!
//! let config = DataCleaningConfig { train: 200, validation: 50, ..Default::default() };
//! let problem = ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(0))?;
//!
//! let settings = NhgdConfig { outer_step_size: StepSize::constant(500.0), ..Default::default() };
//! let method = MethodConfig::Nhgd(settings).build()?;
//! let outcome = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(1), Stop::after(20), &mut ())?;
//!
//! let metrics = problem.metrics(&outcome.state.outer_var, &outcome.state.inner_var)?;
//! let [_validation, _test, clean, flipped] = metrics[..] else { unreachable!("the metrics of data cleaning") };
//! assert!(clean > flipped + 0.2, "weights tell right labels from wrong ones");
//! # Ok::<(), nhgd::Error>(())
//! ```
//!
//! # Layout
//!
//! Imports go downwards only: [`error`], [`rng`], `file`, [`par`], [`dense`] → [`operator`] → [`samples`] → [`gradient`] → [`inverse`] →
//! {[`model`], [`curvature`], [`data`]} → [`problem`] → [`oracle`] → [`bilevel`] → [`bounds`] → {`experiment`, [`testkit`]} → `laboratory` → `comparison` →
//! `report` → `cli`. A problem, method, model or curvature family is one file and one registry line.
//!
//! Features: `io` (files, configurations, records), `plot` (pictures and the page), `cli` (the command; default). Without them
//! the crate is linear algebra and learning only: it prints nothing and reads no clock and no global state.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod bilevel;
pub mod bounds;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "io")]
pub mod comparison;
pub mod curvature;
pub mod data;
pub mod dense;
pub mod error;
#[cfg(feature = "io")]
pub mod experiment;
#[cfg(feature = "io")]
pub mod file;
pub mod gradient;
pub mod inverse;
#[cfg(feature = "io")]
pub mod laboratory;
pub mod model;
pub mod operator;
pub mod oracle;
pub mod par;
pub mod problem;
#[cfg(feature = "plot")]
pub mod report;
pub mod reused;
pub mod rng;
pub mod samples;
pub mod special;
pub mod testkit;

pub use error::{Error, Result, Status};

/// Compiles and runs the README's example with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
