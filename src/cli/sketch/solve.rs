//! `nhgd sketch solve` and `bilinear`: products with (F + μI)⁻¹, each with what is certified of its error.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Certification, Output};
use crate::cli::Common;
use crate::cli::terminal::{Terminal, say, say_json, say_table};
use crate::curvature::{Approximation, DampedSolver, Sketch};
use crate::data::{NpyRows, NpyWriter};
use crate::dense::{dot, norm};
use crate::error::{Error, Result};
use crate::experiment::record::Table;
use crate::inverse::{Certainty, Certified, Damping, KnownCurvature};

#[derive(Args)]
pub(super) struct SolveArguments {
    /// The sketch
    #[arg(value_name = "S.nhgd")]
    sketch: PathBuf,
    /// A NumPy file of one right-hand side (one-dimensional) or many (as rows)
    #[arg(value_name = "B.npy")]
    rhs: PathBuf,
    #[command(flatten)]
    certification: Certification,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct BilinearArguments {
    /// The sketch
    #[arg(value_name = "S.nhgd")]
    sketch: PathBuf,
    /// A NumPy file with the vector u
    #[arg(value_name = "U.npy")]
    u: PathBuf,
    /// A NumPy file with the vector v
    #[arg(value_name = "V.npy")]
    v: PathBuf,
    #[command(flatten)]
    certification: Certification,
}

/// How a family that certifies nothing, or one that does, is solved with.
enum Solver<'a> {
    Certified(Box<DampedSolver<'a>>),
    Plain(&'a dyn Approximation),
}

impl<'a> Solver<'a> {
    fn new(approximation: &'a dyn Approximation, failure: Option<f64>) -> Result<Self> {
        if approximation.interval().is_none() {
            return Ok(Self::Plain(approximation));
        }
        let known = KnownCurvature::scalar(approximation.dim(), 0.0)?;
        Ok(Self::Certified(Box::new(DampedSolver::new(approximation, known, failure)?)))
    }
}

/// (F̂ + μI)⁻¹v where nothing is certified.
fn plain(approximation: &dyn Approximation, damping: Damping, v: &[f64]) -> Result<(f64, Vec<f64>)> {
    let Damping::Fixed(damping) = damping else {
        return Err(Error::unsupported("`--damping auto` for a family without certificates", "give a number"));
    };
    Ok((damping, approximation.solve(&KnownCurvature::scalar(v.len(), damping)?, v)?))
}

/// Which of a sketch's bounds an interval rests on.
fn bound_name(method: &str, certainty: Certainty) -> &'static str {
    match (certainty, method) {
        (Certainty::Probability { .. }, _) => "probes",
        (_, "nystrom") => "trace",
        (_, "frequent-directions" | "robust-frequent-directions") => "shrinks",
        // Nothing was left out.
        _ => "rounding",
    }
}

/// The probability that was allowed where it was used, else 0.
fn failure_of(certainty: Certainty, allowed: Option<f64>) -> f64 {
    if certainty.is_deterministic() { 0.0 } else { allowed.unwrap_or(0.0) }
}

/// One line of the answer.
struct Solution {
    norm: f64,
    damping: f64,
    error: Option<ErrorBound>,
}

/// What is certified of a solution.
struct ErrorBound {
    radius: f64,
    relative: f64,
    certainty: Certainty,
}

impl Solution {
    fn json(&self, method: &str, allowed: Option<f64>) -> Value {
        let of = |f: &dyn Fn(&ErrorBound) -> Value| self.error.as_ref().map_or(Value::Null, f);
        json!({
            "norm": self.norm,
            "damping": self.damping,
            "error_radius": of(&|e| json!(e.radius)),
            // Null also where nothing but infinity can be said.
            "relative_error": of(&|e| json!(e.relative)),
            "bound": of(&|e| json!(bound_name(method, e.certainty))),
            "deterministic": of(&|e| json!(e.certainty.is_deterministic())),
            "failure": of(&|e| json!(failure_of(e.certainty, allowed))),
        })
    }

    fn cells(&self, method: &str) -> [String; 5] {
        let of = |f: &dyn Fn(&ErrorBound) -> String| self.error.as_ref().map_or("unknown".to_owned(), f);
        [
            format!("{:.3e}", self.damping),
            format!("{:.6e}", self.norm),
            of(&|e| format!("{:.3e}", e.radius)),
            of(&|e| format!("{:.3e}", e.relative)),
            of(&|e| match e.certainty {
                Certainty::Deterministic {} => bound_name(method, e.certainty).to_owned(),
                Certainty::Probability { at_least } => format!("{}, probability {at_least}", bound_name(method, e.certainty)),
            }),
        ]
    }
}

/// Opens a file of vectors in the sketch's space.
fn open_vectors(path: &Path, (sketch, dim): (&Path, usize)) -> Result<NpyRows> {
    let vectors = NpyRows::open_vectors(path)?;
    if vectors.columns() == dim {
        return Ok(vectors);
    }
    let message = format!("vectors of length {}, but {} has dimension {dim}", vectors.columns(), sketch.display());
    Err(Error::data(path, message))
}

pub(super) fn solve(arguments: &SolveArguments, common: &Common) -> Result<()> {
    let SolveArguments { sketch: path, rhs, certification, output } = arguments;
    let damping = certification.damping()?;
    output.check()?;
    let sketch = Sketch::read(path)?;
    let (method, dim) = (sketch.curvature.name(), sketch.curvature.dim());
    let mut rhs = open_vectors(rhs, (path, dim))?;
    let approximation = sketch.curvature.approximate()?;
    drop(sketch);
    let mut solver = Solver::new(&*approximation, certification.failure)?;
    let mut out = NpyWriter::create(&output.out, rhs.shape(), output.existing())?;
    let terminal = Terminal::new()?;
    let (mut solutions, total) = (Vec::new(), rhs.rows());
    while let Some(b) = rhs.next_rows(1)? {
        let b = b.as_slice();
        let (damping, q, error) = match &mut solver {
            Solver::Plain(approximation) => {
                let (damping, q) = plain(*approximation, damping, b)?;
                (damping, q, None)
            }
            Solver::Certified(solver) => {
                let (damping, certified) = solver.solve(b, damping)?;
                let relative = certified.relative_error();
                let Certified { midpoint, radius, certainty, .. } = certified;
                (damping, midpoint, Some(ErrorBound { radius, relative, certainty }))
            }
        };
        out.push(&q)?;
        solutions.push(Solution { norm: norm(&q), damping, error });
        terminal.progress(solutions.len() as u64, total as u64, "solutions");
    }
    terminal.clear();
    out.finish()?;
    if common.json {
        let list: Vec<Value> = solutions.iter().map(|solution| solution.json(method, certification.failure)).collect();
        return say_json(&json!({ "solutions": list, "out": output.out.to_string_lossy() }));
    }
    let mut table = Table::new(["damping", "norm", "error radius", "relative error", "bound"]);
    solutions.iter().try_for_each(|solution| table.push(solution.cells(method)))?;
    say_table(&table)
}

pub(super) fn bilinear(arguments: &BilinearArguments, common: &Common) -> Result<()> {
    let BilinearArguments { sketch: path, u, v, certification } = arguments;
    let damping = certification.damping()?;
    let sketch = Sketch::read(path)?;
    let (method, dim) = (sketch.curvature.name(), sketch.curvature.dim());
    let vector = |file: &Path| -> Result<Vec<f64>> {
        let mut vectors = open_vectors(file, (path, dim))?;
        match (vectors.rows(), vectors.next_rows(1)?) {
            (1, Some(vector)) => Ok(vector.into_vec()),
            (rows, _) => Err(Error::data(file, format_args!("{rows} vectors; expected 1"))),
        }
    };
    let (u, v) = (vector(u)?, vector(v)?);
    let approximation = sketch.curvature.approximate()?;
    drop(sketch);
    let (damping, value, ends) = match Solver::new(&*approximation, certification.failure)? {
        Solver::Plain(approximation) => {
            let (damping, q) = plain(approximation, damping, &v)?;
            (damping, dot(&u, &q), None)
        }
        Solver::Certified(mut solver) => {
            let (damping, certified) = solver.solve(&v, damping)?;
            let enclosure = solver.bracket(damping)?.bilinear(&u, &v)?;
            (damping, enclosure.value, Some((enclosure.low, enclosure.high, certified.certainty)))
        }
    };
    if common.json {
        return say_json(&json!({
            "value": value,
            "low": ends.map(|(low, ..)| low),
            "high": ends.map(|(_, high, _)| high),
            "bound": ends.map(|(_, _, certainty)| bound_name(method, certainty)),
            "deterministic": ends.map(|(_, _, certainty)| certainty.is_deterministic()),
            "failure": ends.map(|(_, _, certainty)| failure_of(certainty, certification.failure)),
            "damping": damping,
        }));
    }
    match ends {
        None => say(format_args!("{value:e} at damping {damping:e}; `{method}` certifies nothing")),
        Some((low, high, certainty)) => {
            let chance = match certainty {
                Certainty::Deterministic {} => "for certain".to_owned(),
                Certainty::Probability { at_least } => format!("with probability {at_least}"),
            };
            say(format_args!("{value:e} at damping {damping:e}; {chance} between {low:e} and {high:e}"))
        }
    }
}
