//! `nhgd sketch info`: what a sketch holds, as text, JSON or a picture.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{certainty_in_words, check_failure, check_output, failure_of};
use crate::cli::Common;
use crate::cli::terminal::{say, say_json, say_table};
use crate::curvature::{Approximation, Interval, Sketch};
use crate::error::{Error, Result, check_positive};
use crate::experiment::record::Table;
use crate::file::{Existing, write_atomically};
use crate::inverse::{Damping, KnownCurvature, damping_grid};
use crate::report::{SketchCurves, sketch_picture};

#[derive(Args)]
pub(super) struct Arguments {
    /// The sketch
    #[arg(value_name = "S.nhgd")]
    sketch: PathBuf,
    /// Dampings at which to give the effective dimension, separated by commas [default: powers of ten below the largest
    /// eigenvalue]
    #[arg(long, value_name = "MU", value_delimiter = ',', allow_hyphen_values = true)]
    damping: Vec<f64>,
    /// Allow a residual interval that fails with this probability, where the sketch carries probes
    #[arg(long, value_name = "DELTA", allow_hyphen_values = true)]
    failure: Option<f64>,
    /// Draw spectrum, effective dimension and certificate into this file, as SVG; must not exist yet
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace the picture if it exists
    #[arg(long)]
    force: bool,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<()> {
    let Arguments { damping, failure, plot, force, .. } = arguments;
    damping.iter().try_for_each(|&mu| check_positive("--damping", mu))?;
    check_failure(*failure)?;
    let existing = if *force { Existing::Replace } else { Existing::Keep };
    plot.as_deref().map_or(Ok(()), |path| check_output("--plot", path, existing))?;
    let sketch = Sketch::read(&arguments.sketch)?;
    let approximation = sketch.curvature.approximate()?;
    let eigenvalues = approximation.eigenvalues()?;
    let interval = match *failure {
        None => approximation.interval(),
        Some(failure) => approximation.interval_at(failure)?,
    };
    let dampings = if damping.is_empty() { powers_of_ten(&eigenvalues) } else { damping.clone() };
    let effective: Vec<(f64, f64)> = dampings.iter().map(|&mu| (mu, effective_dimension(&eigenvalues, mu))).collect();
    if let Some(path) = plot {
        let curves = SketchCurves {
            failure: interval.map_or(0.0, |i| failure_of(i.certainty, *failure)),
            ..curves(&sketch, &*approximation, &eigenvalues, interval)?
        };
        write_atomically(path, sketch_picture(&curves)?.as_bytes())?;
    }

    let manifest = sketch.manifest();
    let size = super::sketch_size(&sketch.settings)?;
    if common.json {
        let settings = serde_json::to_value(&sketch.settings);
        let settings = settings.map_err(|e| Error::Numerical { operation: "writing settings", reason: e.to_string() })?;
        return say_json(&json!({
            "method": manifest.method,
            "dim": manifest.dim,
            "rows": manifest.rows,
            "mass": manifest.mass,
            "sketch_size": size,
            "seed": manifest.seed,
            "decay": manifest.decay,
            "settings": settings,
            "trace": sketch.curvature.trace(),
            "residual_low": interval.map(|i| i.lo),
            "residual_high": interval.map(|i| i.hi),
            "deterministic": interval.map(|i| i.certainty.is_deterministic()),
            "failure": interval.map(|i| failure_of(i.certainty, *failure)),
            "eigenvalues": eigenvalues,
            "effective_dimension": effective.iter().map(|(mu, value)| json!({ "damping": mu, "value": value })).collect::<Vec<_>>(),
        }));
    }
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let number = |x: f64| format!("{x:.6e}");
    let largest = eigenvalues.iter().take(5).map(|&x| number(x)).collect::<Vec<_>>().join(", ");
    let mut table = Table::new(["what", "value"]);
    for (what, value) in [
        ("method", manifest.method),
        ("dimension", manifest.dim.to_string()),
        ("rows", manifest.rows.to_string()),
        ("mass after decay", manifest.mass.to_string()),
        ("sketch size", size.map_or("none".to_owned(), |size| size.to_string())),
        ("seed", manifest.seed.to_string()),
        ("trace of F", or_none(sketch.curvature.trace().map(number))),
        ("residual F − F̂, least", or_none(interval.map(|i| number(i.lo)))),
        ("residual F − F̂, most", or_none(interval.map(|i| number(i.hi)))),
        ("residual holds", or_none(interval.map(|i| certainty_in_words(i.certainty, *failure)))),
        ("eigenvalues", eigenvalues.len().to_string()),
        ("largest eigenvalues", largest),
    ] {
        table.push([what, &value])?;
    }
    for (mu, value) in effective {
        table.push([format!("effective dimension at μ = {mu:e}"), format!("{value:.3}")])?;
    }
    say_table(&table)?;
    plot.as_ref().map_or(Ok(()), |path| say(path.display()))
}

/// d_eff(μ) = Σ s/(s + μ).
fn effective_dimension(eigenvalues: &[f64], damping: f64) -> f64 {
    eigenvalues.iter().map(|s| s / (s + damping)).sum()
}

/// Seven powers of ten, the last one not below the largest eigenvalue.
fn powers_of_ten(eigenvalues: &[f64]) -> Vec<f64> {
    let Some(largest) = eigenvalues.first().filter(|&&largest| largest > 0.0) else { return Vec::new() };
    let top = largest.log10().ceil() as i32;
    (top - 6..=top).map(|exponent| 10_f64.powi(exponent)).filter(|mu| *mu > 0.0 && mu.is_finite()).collect()
}

/// Dampings of the path, and how far it goes below the largest eigenvalue.
const PATH_POINTS: usize = 97;
const PATH_DEPTH: f64 = 1e-8;

/// What is drawn. The certificate is that of a right-hand side with the covariance of the rows. It hardly depends on the right-hand side:
/// (radius/‖c‖)² is Δ²/(4a(a + Δ)) times a mean of factors between 4a(a + Δ)/(2a + Δ)² and 1.
fn curves(
    sketch: &Sketch,
    approximation: &dyn Approximation,
    eigenvalues: &[f64],
    interval: Option<Interval>,
) -> Result<SketchCurves> {
    let (method, dim, rows) = (sketch.curvature.name(), sketch.curvature.dim(), sketch.rows);
    let mut curves = SketchCurves {
        title: format!("{method} of {rows} rows in dimension {dim}"),
        eigenvalues: eigenvalues.to_vec(),
        residual: interval.map(|i| i.hi),
        target: match Damping::AUTO {
            Damping::Auto { target } => target,
            Damping::Fixed(_) => 0.0,
        },
        ..Default::default()
    };
    let Some(largest) = eigenvalues.first().filter(|&&largest| largest > 0.0) else { return Ok(curves) };
    let path = damping_grid(PATH_DEPTH * largest, *largest, PATH_POINTS)?;
    curves.effective_dimension = path.iter().map(|&mu| (mu, effective_dimension(eigenvalues, mu))).collect();
    let (Some(interval), Some(space)) = (interval, approximation.row_space()?) else { return Ok(curves) };
    let kept: f64 = eigenvalues.iter().sum();
    let outside = (sketch.curvature.trace().unwrap_or(kept) - kept).max(0.0);
    let (components, known) = (space.mean_components(|s| s, outside), KnownCurvature::scalar(dim, 0.0)?);
    // Below, a bracket would be refused.
    let valid = path.iter().filter(|&&mu| -(interval.lo + space.shift()) < 0.5 * mu);
    let point = |&mu: &f64| components.certificate(&known, mu, (interval.lo, interval.hi)).map(|p| (mu, p.relative_error));
    curves.certificate = valid.filter_map(point).collect();
    Ok(curves)
}
