//! `nhgd sketch solve` and `bilinear`: products with (F + μI)⁻¹, each with what is certified of its error.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Certification, Output, about_flag, bound_name, certainty_in_words, failure_of};
use crate::cli::Common;
use crate::cli::terminal::{Terminal, say, say_json, say_table};
use crate::curvature::{Approximation, CurvatureConfig, DampedSolver, Sketch};
use crate::data::{NpyRows, NpyWriter};
use crate::dense::{Matrix, dot, norm};
use crate::error::{Error, Result, check_positive};
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

    /// (F + μI)⁻¹v for each column v, with what is known of it: all at once where μ is given.
    fn solve(&mut self, v: &Matrix, damping: Damping) -> Result<Vec<(Vec<f64>, Solution)>> {
        let solver = match self {
            Self::Plain(approximation) => {
                let (damping, q) = plain(*approximation, damping, v)?;
                let one = |q: &[f64]| (q.to_vec(), Solution { norm: norm(q), damping, error: None });
                return Ok((0..q.ncols()).map(|j| one(q.col(j))).collect());
            }
            Self::Certified(solver) => solver,
        };
        let certified: Vec<(f64, Certified)> = match damping {
            Damping::Fixed(damping) => solver.bracket(damping)?.solve_columns(v)?.into_iter().map(|q| (damping, q)).collect(),
            Damping::Auto { .. } => (0..v.ncols()).map(|j| solver.solve(v.col(j), damping)).collect::<Result<_>>()?,
        };
        let one = |(damping, certified): (f64, Certified)| {
            let relative = certified.relative_error();
            let Certified { midpoint, radius, certainty, .. } = certified;
            let solution = Solution { norm: norm(&midpoint), damping, error: Some(ErrorBound { radius, relative, certainty }) };
            (midpoint, solution)
        };
        Ok(certified.into_iter().map(one).collect())
    }
}

/// (F̂ + μI)⁻¹v for each column v where nothing is certified.
fn plain(approximation: &dyn Approximation, damping: Damping, v: &Matrix) -> Result<(f64, Matrix)> {
    let Damping::Fixed(damping) = damping else {
        return Err(Error::unsupported("`--damping auto` for a family without certificates", "give a number"));
    };
    check_positive("--damping", damping)?;
    Ok((damping, approximation.inverse(&KnownCurvature::scalar(v.nrows(), damping)?)?.apply_columns(v)?))
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
    fn json(&self, settings: &CurvatureConfig, allowed: Option<f64>) -> Value {
        let of = |f: &dyn Fn(&ErrorBound) -> Value| self.error.as_ref().map_or(Value::Null, f);
        json!({
            "norm": self.norm,
            "damping": self.damping,
            "error_radius": of(&|e| json!(e.radius)),
            // Null also where nothing but infinity can be said.
            "relative_error": of(&|e| json!(e.relative)),
            "bound": of(&|e| json!(bound_name(settings, e.certainty))),
            "deterministic": of(&|e| json!(e.certainty.is_deterministic())),
            "failure": of(&|e| json!(failure_of(e.certainty, allowed))),
        })
    }

    fn cells(&self, settings: &CurvatureConfig, allowed: Option<f64>) -> [String; 5] {
        let of = |f: &dyn Fn(&ErrorBound) -> String| self.error.as_ref().map_or("unknown".to_owned(), f);
        [
            format!("{:.3e}", self.damping),
            format!("{:.6e}", self.norm),
            of(&|e| format!("{:.3e}", e.radius)),
            of(&|e| format!("{:.3e}", e.relative)),
            of(&|e| format!("{}, {}", bound_name(settings, e.certainty), certainty_in_words(e.certainty, allowed))),
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

/// Right-hand sides that are solved for at once: more bring no speed, and they take memory, some six times theirs.
const MOST_AT_ONCE: usize = 64;
const MOST_BYTES_AT_ONCE: usize = 32 << 20;

pub(super) fn solve(arguments: &SolveArguments, common: &Common) -> Result<()> {
    let SolveArguments { sketch: path, rhs, certification, output } = arguments;
    let damping = certification.damping()?;
    output.check()?;
    let sketch = Sketch::read(path)?;
    let dim = sketch.curvature.dim();
    let mut rhs = open_vectors(rhs, (path, dim))?;
    let approximation = sketch.curvature.approximate()?;
    let Sketch { settings, .. } = sketch;
    let mut solver = Solver::new(&*approximation, certification.failure)?;
    let mut out = NpyWriter::create(&output.out, rhs.shape(), output.existing())?;
    let terminal = Terminal::new()?;
    let (mut solutions, total) = (Vec::new(), rhs.rows());
    let most = (MOST_BYTES_AT_ONCE / (size_of::<f64>() * dim)).clamp(1, MOST_AT_ONCE);
    while let Some(block) = rhs.next_rows(most)? {
        for (q, solution) in solver.solve(&block, damping).map_err(about_flag)? {
            out.push(&q)?;
            solutions.push(solution);
        }
        terminal.progress(solutions.len() as u64, total as u64, "solutions");
    }
    terminal.clear();
    out.finish()?;
    if common.json {
        let list: Vec<Value> = solutions.iter().map(|solution| solution.json(&settings, certification.failure)).collect();
        return say_json(&json!({ "solutions": list, "out": output.out.to_string_lossy() }));
    }
    let mut table = Table::new(["damping", "norm", "error radius", "relative error", "bound"]);
    solutions.iter().try_for_each(|solution| table.push(solution.cells(&settings, certification.failure)))?;
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
    let Sketch { settings, .. } = sketch;
    let (damping, value, ends) = match Solver::new(&*approximation, certification.failure)? {
        Solver::Plain(approximation) => {
            let (damping, q) = plain(approximation, damping, &Matrix::column(v))?;
            (damping, dot(&u, q.as_slice()), None)
        }
        Solver::Certified(mut solver) => {
            let (damping, certified) = solver.solve(&v, damping).map_err(about_flag)?;
            let enclosure = solver.bracket(damping)?.bilinear(&u, &v)?;
            (damping, enclosure.value, Some((enclosure.low, enclosure.high, certified.certainty)))
        }
    };
    if common.json {
        return say_json(&json!({
            "value": value,
            "low": ends.map(|(low, ..)| low),
            "high": ends.map(|(_, high, _)| high),
            "bound": ends.map(|(_, _, certainty)| bound_name(&settings, certainty)),
            "deterministic": ends.map(|(_, _, certainty)| certainty.is_deterministic()),
            "failure": ends.map(|(_, _, certainty)| failure_of(certainty, certification.failure)),
            "damping": damping,
        }));
    }
    match ends {
        None => say(format_args!("{value:e} at damping {damping:e}; `{method}` certifies nothing")),
        Some((low, high, certainty)) => {
            let chance = certainty_in_words(certainty, certification.failure);
            say(format_args!("{value:e} at damping {damping:e}; {chance} between {low:e} and {high:e}"))
        }
    }
}
