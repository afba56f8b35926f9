//! `nhgd sketch build` and `absorb`: gradients from NumPy files into a sketch, a block of rows at a time.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Output, SIZES, settings_of};
use crate::cli::Common;
use crate::cli::terminal::{Terminal, say, say_json};
use crate::curvature::{CurvatureConfig, Sketch, TestMatrix};
use crate::data::NpyRows;
use crate::dense::Matrix;
use crate::error::{Error, Result};
use crate::gradient::DenseRows;
use crate::inverse::KnownCurvature;
use crate::rng::Key;

#[derive(Args)]
pub(super) struct BuildArguments {
    /// NumPy files of n × d numbers, a gradient a row
    #[arg(required = true, value_name = "G.npy")]
    gradients: Vec<PathBuf>,
    /// The curvature family: window, nystrom, frequent-directions, robust-frequent-directions, diagonal, dense
    #[arg(long, value_name = "NAME")]
    method: String,
    #[command(flatten)]
    choices: Choices,
    /// What everything random is drawn from: Ω and probes; sketches to be merged that have either need the same
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// γ in [0, 1): before each file what came before is multiplied by 1 − γ
    #[arg(long, value_name = "GAMMA", default_value_t = 0.0, allow_hyphen_values = true)]
    decay: f64,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    output: Output,
}

/// What can be said of a family's settings.
#[derive(Args, Default)]
struct Choices {
    /// ℓ, the rank that is kept; of `window` the number of rows [default: the family's, 64 or 1024, at most d]
    #[arg(long, value_name = "L")]
    sketch_size: Option<u64>,
    /// Gaussian probes, at most d, which tighten the bounds if a probability of failure is allowed [default: ℓ/4 for nystrom,
    /// else 0]
    #[arg(long, value_name = "Q")]
    probes: Option<u64>,
    /// How the test matrix Ω of nystrom is drawn: gaussian, sparse-sign or sign (which is not stored) [default: gaussian]
    #[arg(long, value_name = "KIND")]
    test_matrix: Option<String>,
}

impl Choices {
    fn test_matrix(&self) -> Result<Option<TestMatrix>> {
        let read = |kind: &String| {
            let wrong = |_| Error::argument("--test-matrix", "gaussian, sparse-sign or sign", format_args!("`{kind}`"));
            serde_json::from_value(json!(kind)).map_err(wrong)
        };
        self.test_matrix.as_ref().map(read).transpose()
    }
}

#[derive(Args)]
pub(super) struct AbsorbArguments {
    /// The sketch
    #[arg(value_name = "S.nhgd")]
    sketch: PathBuf,
    /// NumPy files of n × d numbers, a gradient a row
    #[arg(required = true, value_name = "MORE.npy")]
    gradients: Vec<PathBuf>,
    /// γ, before each file [default: the one the sketch was built with]
    #[arg(long, value_name = "GAMMA", allow_hyphen_values = true)]
    decay: Option<f64>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    output: Output,
}

/// How the files are read.
#[derive(Args)]
struct Reading {
    /// A one-dimensional NumPy file of weights w ≥ 0, one for each row of all files in order
    #[arg(long, value_name = "W.npy")]
    weights: Option<PathBuf>,
    /// Memory for a block of rows, in MiB (one row at least)
    #[arg(long, value_name = "M", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    block_mib: u32,
}

pub(super) fn build(arguments: &BuildArguments, common: &Common) -> Result<()> {
    let BuildArguments { method, seed, decay, reading, output, .. } = arguments;
    check_decay(*decay)?;
    output.check()?;
    let mut files = open(&arguments.gradients, None)?;
    let dim = files.first().map_or(0, NpyRows::columns);
    check_method(method)?;
    let settings = settings(method, &arguments.choices, dim)?;
    let curvature = settings.build(dim, Key::new(*seed).named("sketch"))?;
    let mut sketch = Sketch { curvature, rows: 0, seed: *seed, decay: *decay, settings };
    feed(&mut sketch, &mut files, reading, *decay)?;
    finish(&sketch, output, common)
}

pub(super) fn absorb(arguments: &AbsorbArguments, common: &Common) -> Result<()> {
    let AbsorbArguments { decay, reading, output, .. } = arguments;
    decay.map_or(Ok(()), check_decay)?;
    output.check()?;
    let mut sketch = Sketch::read(&arguments.sketch)?;
    let mut files = open(&arguments.gradients, Some((&arguments.sketch, sketch.curvature.dim())))?;
    let decay = decay.unwrap_or(sketch.decay);
    feed(&mut sketch, &mut files, reading, decay)?;
    finish(&sketch, output, common)
}

fn check_decay(gamma: f64) -> Result<()> {
    if (0.0..1.0).contains(&gamma) { Ok(()) } else { Err(Error::argument("--decay", "a number in [0, 1)", gamma)) }
}

/// Opens all files, so that what is wrong with one shows before any is absorbed.
fn open(paths: &[PathBuf], sketch: Option<(&Path, usize)>) -> Result<Vec<NpyRows>> {
    let files = paths.iter().map(|path| NpyRows::open(path)).collect::<Result<Vec<_>>>()?;
    let first = files.first().map(|file| (file.path(), file.columns()));
    if let Some((path, dim)) = sketch.or(first)
        && let Some(other) = files.iter().find(|file| file.columns() != dim)
    {
        let message = format!("{} columns, but {} has {dim}", other.columns(), path.display());
        return Err(Error::data(other.path(), message));
    }
    Ok(files)
}

/// Refuses a family that is of no use here, and offers those that are.
fn check_method(method: &str) -> Result<()> {
    if is_of_use(method) {
        return Ok(());
    }
    let names: Vec<&str> = CurvatureConfig::REGISTRY.iter().map(|(name, _)| *name).filter(|name| is_of_use(name)).collect();
    let names = names.join(", ");
    if CurvatureConfig::default_of(method).is_some() {
        return Err(Error::unsupported(format_args!("`{method}` with gradients from files"), format_args!("take one of {names}")));
    }
    Err(Error::argument("--method", format_args!("one of {names}"), format_args!("`{method}`")))
}

/// Whether a family takes rows as they come from a file and can be solved with at any damping: it is tried with d = 1, so that a new
/// family needs nothing here.
fn is_of_use(method: &str) -> bool {
    let tried = || -> Result<()> {
        let mut curvature = settings(method, &Choices::default(), 1)?.build(1, Key::new(0))?;
        curvature.absorb(&DenseRows::new(Matrix::column(vec![1.0]), 1)?.into())?;
        curvature.approximate()?.inverse(&KnownCurvature::scalar(1, 1.0)?).map(drop)
    };
    tried().is_ok()
}

/// The family's settings, with those that were chosen.
fn settings(method: &str, choices: &Choices, dim: usize) -> Result<CurvatureConfig> {
    let unknown = || Error::argument("--method", "a registered family", format_args!("`{method}`"));
    let mut settings = settings_of(&CurvatureConfig::default_of(method).ok_or_else(unknown)?)?;
    let mut set = |names: &[&str], flag: &'static str, value: Option<Value>| -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        let Some(name) = names.iter().find(|name| settings.contains_key(**name)) else {
            return Err(Error::argument(flag, "a method with such a setting", format_args!("`{method}`")));
        };
        settings.insert((*name).to_owned(), value);
        Ok(())
    };
    set(&SIZES, "--sketch-size", choices.sketch_size.map(Value::from))?;
    set(&["probes"], "--probes", choices.probes.map(Value::from))?;
    set(&["test_matrix"], "--test-matrix", choices.test_matrix()?.map(|kind| json!(kind)))?;
    if let (None, Some(default)) = (choices.sketch_size, settings.get("sketch_size").and_then(Value::as_u64)) {
        settings.insert("sketch_size".to_owned(), json!(default.min(dim as u64)));
    }
    let named = serde_json::Map::from_iter([(method.to_owned(), Value::Object(settings))]);
    serde_json::from_value(named.into()).map_err(|e| Error::argument("--method", "settings of the family", e))
}

/// Rows beyond this many at once bring no speed.
const MOST_BLOCK_ROWS: usize = 1024;

/// Absorbs all rows of all files, √w inside, with a decay before each file.
fn feed(sketch: &mut Sketch, files: &mut [NpyRows], reading: &Reading, decay: f64) -> Result<()> {
    let total: usize = files.iter().map(NpyRows::rows).sum();
    let mut weights = reading.weights.as_deref().map(|path| NpyRows::open_numbers(path, "weight")).transpose()?;
    if let Some(weights) = weights.as_ref().filter(|weights| weights.rows() != total) {
        return Err(Error::data(weights.path(), format_args!("{} weights for {total} rows", weights.rows())));
    }
    let bytes = (reading.block_mib as usize) << 20;
    let terminal = Terminal::new()?;
    let fed = || -> Result<()> {
        let mut done = 0;
        for file in files {
            sketch.curvature.decay(decay)?;
            let most = (bytes / (size_of::<f64>() * file.columns())).clamp(1, MOST_BLOCK_ROWS);
            while let Some(mut rows) = file.next_rows(most)? {
                let count = rows.ncols();
                if let Some(weights) = &mut weights {
                    scale_rows(&mut rows, weights)?;
                }
                let block = DenseRows::new(rows, 1)?.into();
                sketch.curvature.absorb(&block).map_err(|error| match error {
                    // Numbers whose squares overflow.
                    Error::NotFinite { .. } => {
                        Error::data(file.path(), format_args!("rows {} to {}: {error}", file.done() - count, file.done() - 1))
                    }
                    other => other,
                })?;
                sketch.rows += count as u64;
                done += count;
                terminal.progress(done as u64, total as u64, &format!("{done} of {total} rows"));
            }
        }
        Ok(())
    };
    let outcome = fed();
    terminal.clear();
    outcome
}

/// Multiplies each row by √w.
fn scale_rows(rows: &mut Matrix, weights: &mut NpyRows) -> Result<()> {
    let before = weights.done();
    let Some(block) = weights.next_rows(rows.ncols())? else { return Ok(()) };
    for (i, &w) in block.as_slice().iter().enumerate() {
        if w < 0.0 {
            return Err(Error::data(weights.path(), format_args!("weight {} (from 0) is {w}; none may be negative", before + i)));
        }
        let root = w.sqrt();
        rows.col_mut(i).iter_mut().for_each(|x| *x *= root);
    }
    Ok(())
}

/// Writes the sketch and says what it is.
pub(super) fn finish(sketch: &Sketch, output: &Output, common: &Common) -> Result<()> {
    sketch.write(&output.out, output.existing())?;
    let (rows, dim, method) = (sketch.rows, sketch.curvature.dim(), sketch.curvature.name());
    if common.json {
        return say_json(&json!({
            "sketch": output.out.to_string_lossy(),
            "method": method,
            "dim": dim,
            "rows": rows,
            "sketch_size": super::sketch_size(&sketch.settings)?,
        }));
    }
    say(format_args!("{}: {method} of {rows} rows in dimension {dim}", output.out.display()))
}
