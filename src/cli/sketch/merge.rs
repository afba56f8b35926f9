//! `nhgd sketch merge`: the sketch of everything that several sketches have absorbed.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::Output;
use crate::cli::Common;
use crate::curvature::Sketch;
use crate::error::{Error, Result};

#[derive(Args)]
pub(super) struct Arguments {
    /// Sketches with the same method, dimension and settings (size, probes, Ω), and of one seed where Ω or probes are drawn from
    /// it; the first one's γ is kept
    #[arg(required = true, num_args = 2.., value_name = "S.nhgd")]
    sketches: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<()> {
    let Arguments { sketches, output } = arguments;
    output.check()?;
    let Some((first, others)) = sketches.split_first() else { return Ok(()) };
    let mut merged = Sketch::read(first)?;
    for path in others {
        let other = Sketch::read(path)?;
        let unlike = |what: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display| {
            Error::data(path, format_args!("{what} {found}, but {} has {expected}; build both alike", first.display()))
        };
        let (a, b) = (&merged.curvature, &other.curvature);
        if a.name() != b.name() {
            return Err(unlike("method", &b.name(), &a.name()));
        }
        if a.dim() != b.dim() {
            return Err(unlike("dimension", &b.dim(), &a.dim()));
        }
        let (expected, found) = (super::settings_of(&merged.settings)?, super::settings_of(&other.settings)?);
        // The size first: what else differs may follow from it.
        for name in super::SIZES.into_iter().chain(expected.keys().map(String::as_str)) {
            if let (Some(expected), Some(found)) = (expected.get(name), found.get(name))
                && expected != found
            {
                return Err(unlike(name, &bare(found), &bare(expected)));
            }
        }
        let drawn = if expected.contains_key("test_matrix") { "another Ω: seed" } else { "other probes: seed" };
        let (seeds, outcome) = ((merged.seed, other.seed), merged.curvature.merge(&*other.curvature));
        outcome.map_err(|error| match error {
            // Where nothing is random another seed does no harm, and the family itself decides.
            Error::Unsupported { .. } if seeds.0 != seeds.1 => unlike(drawn, &seeds.1, &seeds.0),
            error => Error::data(path, error),
        })?;
        merged.rows += other.rows;
    }
    super::build::finish(&merged, output, common)
}

/// A setting as it is said on the command line: without quotation marks.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
