//! `nhgd sketch`: the curvature families for people who bring their own gradients, in NumPy files. One file a verb; here is what they
//! share: where output goes, how damping is said, which families there are.

mod build;
mod info;
mod merge;
mod solve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::Common;
use crate::curvature::CurvatureConfig;
use crate::error::{Error, Result};
use crate::file::Existing;
use crate::inverse::{Certainty, Damping};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sketch F = Σ w g gᵀ / n of the gradients g in NumPy files, in one pass
    ///
    /// The files hold n × d numbers each, a gradient a row: float32 or float64, little-endian, C order. They may be larger
    /// than memory: a block of rows is read at a time.
    Build(build::BuildArguments),
    /// Add the gradients of more files to a sketch
    Absorb(build::AbsorbArguments),
    /// Solve (F + μI) q = b for one or many right-hand sides, with a bound on the error of each
    Solve(solve::SolveArguments),
    /// Compute uᵀ(F + μI)⁻¹v with an interval that contains the exact value
    Bilinear(solve::BilinearArguments),
    /// Merge sketches of different gradients into the sketch of all of them
    Merge(merge::Arguments),
    /// Show what a sketch holds: its spectrum, what it left out, the effective dimension
    Info(info::Arguments),
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    match &arguments.verb {
        Verb::Build(arguments) => build::build(arguments, common),
        Verb::Absorb(arguments) => build::absorb(arguments, common),
        Verb::Solve(arguments) => solve::solve(arguments, common),
        Verb::Bilinear(arguments) => solve::bilinear(arguments, common),
        Verb::Merge(arguments) => merge::main(arguments, common),
        Verb::Info(arguments) => info::main(arguments, common),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Where a result goes.
#[derive(Args)]
struct Output {
    /// File for the result; appears only when complete, and must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Output {
    fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }

    /// Refuses what is sure to fail, before hours are spent.
    fn check(&self) -> Result<()> {
        check_output("--out", &self.out, self.existing())
    }
}

fn check_output(flag: &'static str, path: &Path, existing: Existing) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wrong = |expected: &str, found: std::fmt::Arguments<'_>| Err(Error::argument(flag, expected, found));
    if path.is_dir() {
        return wrong("a file", format_args!("{}, a folder", path.display()));
    }
    if path.exists() && existing == Existing::Keep {
        return wrong("a new file, or --force to replace it", format_args!("{}, which exists", path.display()));
    }
    if !folder.is_dir() {
        return wrong("a file in a folder that exists", format_args!("{}", path.display()));
    }
    Ok(())
}

/// How much damping, and which certificate.
#[derive(Args)]
struct Certification {
    /// μ: a number, or `auto` for the smallest whose certified relative error meets the target, for each right-hand side anew
    #[arg(long, value_name = "MU|auto", allow_hyphen_values = true)]
    damping: String,
    /// The relative error that `auto` aims at [default: 0.1]
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    target: Option<f64>,
    /// Allow bounds that fail with this probability where the sketch carries probes; the smallest valid bound is reported
    #[arg(long, value_name = "DELTA", allow_hyphen_values = true)]
    failure: Option<f64>,
}

impl Certification {
    fn damping(&self) -> Result<Damping> {
        let damping = match (self.damping.parse().map_err(about_flag)?, self.target) {
            (Damping::Auto { .. }, Some(target)) => Damping::Auto { target },
            (Damping::Fixed(_), Some(target)) => return Err(Error::argument("--target", "`--damping auto` beside it", target)),
            (damping, None) => damping,
        };
        damping.validate("--target")?;
        check_failure(self.failure)?;
        Ok(damping)
    }
}

/// What the library says of the damping, in the words of the flag: nothing else of the curvature is known here, so that λ_min(Λ') is μ.
fn about_flag(error: Error) -> Error {
    match error {
        Error::Argument { argument: "damping", expected, found } => {
            Error::Argument { argument: "--damping", expected: expected.replace("λ_min(Λ')", "μ"), found }
        }
        other => other,
    }
}

/// Which of a sketch's bounds a statement rests on.
fn bound_name(settings: &CurvatureConfig, certainty: Certainty) -> &'static str {
    if certainty.is_deterministic() { settings.bound().unwrap_or("unknown") } else { "probes" }
}

/// The probability of failure that was allowed where it was used, else 0.
fn failure_of(certainty: Certainty, allowed: Option<f64>) -> f64 {
    if certainty.is_deterministic() { 0.0 } else { allowed.unwrap_or(0.0) }
}

/// How certain a statement is, in words.
fn certainty_in_words(certainty: Certainty, allowed: Option<f64>) -> String {
    match certainty {
        Certainty::Deterministic {} => "for certain".to_owned(),
        Certainty::Probability { at_least } => format!("with probability {at_least} (δ = {})", failure_of(certainty, allowed)),
    }
}

fn check_failure(failure: Option<f64>) -> Result<()> {
    match failure {
        Some(failure) if !(failure > 0.0 && failure < 1.0) => Err(Error::argument("--failure", "a probability in (0, 1)", failure)),
        _ => Ok(()),
    }
}

/// Settings that a family has one of, under the name of a flag.
const SIZES: [&str; 2] = ["sketch_size", "samples"];

/// A family's settings as a map, by way of their serialized form: a new family needs nothing here.
fn settings_of(config: &CurvatureConfig) -> Result<Map<String, Value>> {
    let failed = |e: serde_json::Error| Error::Numerical { operation: "reading settings", reason: e.to_string() };
    let mut value = serde_json::to_value(config).map_err(failed)?;
    Ok(value.get_mut(config.name()).and_then(Value::as_object_mut).map(std::mem::take).unwrap_or_default())
}

/// ℓ, or the samples of a window; none for a family without a size.
fn sketch_size(config: &CurvatureConfig) -> Result<Option<u64>> {
    let settings = settings_of(config)?;
    Ok(SIZES.iter().find_map(|name| settings.get(*name)?.as_u64()))
}
