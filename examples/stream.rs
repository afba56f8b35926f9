//! Gradients that no memory holds: 2,500 rows of a million numbers (20 GB) are drawn block by block, absorbed in one pass and thrown away;
//! what is left is a sketch of 64 directions, which answers (F + μI)⁻¹b with a bound on its error.
//!
//! `cargo run --release --example stream -- [nystrom|frequent-directions] [ROWS]`

use std::time::{Duration, Instant};
use std::{env, fs};

use nhgd::curvature::{CurvatureConfig, DampedSolver, FrequentDirectionsConfig, NystromConfig};
use nhgd::dense::{Matrix, matmul_add, norm};
use nhgd::gradient::{DenseRows, GradientBlock};
use nhgd::inverse::{Damping, KnownCurvature};
use nhgd::par;
use nhgd::rng::Key;
use nhgd::{Error, Result};

/// d.
const DIM: usize = 1_000_000;
/// ℓ.
const SKETCH_SIZE: usize = 64;
/// Rows in memory at once.
const BLOCK: usize = 64;
/// The directions that the gradients share; the k-th has the standard deviation 1/k in them.
const RANK: usize = 16;
/// What every entry has for itself: the noise of all d together is 1/10 of the first direction.
const NOISE: f64 = 1e-1;

/// A source of gradients s = U diag(1/k) z + noise.
struct Source {
    key: Key,
    /// U, d × `RANK`, columns of norm about 1.
    directions: Matrix,
    /// Normal numbers, of which every row takes d that follow each other, from a place of its own: far cheaper than to draw them.
    noise: Vec<f64>,
}

impl Source {
    fn new(key: Key) -> Result<Self> {
        let mut directions = Matrix::from_columns(DIM, RANK, key.named("directions").stream().normals(DIM * RANK))?;
        directions.scale(1.0 / (DIM as f64).sqrt());
        let mut noise = key.named("noise").stream().normals(2 * DIM);
        noise.iter_mut().for_each(|x| *x *= NOISE / (DIM as f64).sqrt());
        Ok(Self { key: key.named("rows"), directions, noise })
    }

    /// Rows `first..first + count`, the same whatever the blocks and the threads, in the memory of the last block.
    fn block(&self, first: usize, count: usize, memory: Matrix) -> Result<GradientBlock> {
        let mut drawn = Vec::new();
        for row in first..first + count {
            let mut stream = self.key.child(row as u64).stream();
            drawn.push((stream.below(DIM)?, stream.normals(RANK)));
        }
        let coefficients = Matrix::from_fn(RANK, count, |k, j| drawn[j].1[k] / (k + 1) as f64);
        let mut rows = if memory.ncols() == count { memory } else { Matrix::zeros(DIM, count) };
        par::for_chunks(rows.as_mut_slice(), DIM, |j, row| row.copy_from_slice(&self.noise[drawn[j].0..][..DIM]));
        matmul_add(&mut rows, 1.0, &self.directions, &coefficients)?;
        Ok(DenseRows::new(rows, 1)?.into())
    }
}

/// Runs a part and adds its time to a clock.
fn timed<T>(clock: &mut Duration, part: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let result = part()?;
    *clock += begun.elapsed();
    Ok(result)
}

/// The most memory that this process ever held, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let config = match arguments.first().map_or("nystrom", String::as_str) {
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size: SKETCH_SIZE, ..Default::default() }),
        "frequent-directions" => {
            CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size: SKETCH_SIZE, ..Default::default() })
        }
        other => return Err(Error::argument("method", "`nystrom` or `frequent-directions`", format_args!("`{other}`"))),
    };
    let rows = match arguments.get(1) {
        Some(text) => text.parse().map_err(|_| Error::argument("rows", "a number", format_args!("`{text}`")))?,
        None => 2500,
    };

    let [mut generating, mut absorbing, mut approximating, mut solving] = [Duration::ZERO; 4];
    let source = timed(&mut generating, || Source::new(Key::new(1)))?;
    let mut curvature = timed(&mut absorbing, || config.build(DIM, Key::new(2)))?;
    let mut memory = Matrix::zeros(DIM, 0);
    for range in par::blocks(rows, BLOCK) {
        let block = timed(&mut generating, || source.block(range.start, range.len(), memory))?;
        timed(&mut absorbing, || curvature.absorb(&block))?;
        // Fresh memory for each block would take longer than the arithmetic with it.
        memory = if let GradientBlock::Dense(rows) = block { rows.into_transposed() } else { Matrix::zeros(DIM, 0) };
    }
    let approximation = timed(&mut approximating, || curvature.approximate())?;
    drop((curvature, source, memory));

    let b = Key::new(3).stream().normals(DIM);
    let (damping, answer) = timed(&mut solving, || {
        DampedSolver::new(approximation.as_ref(), KnownCurvature::scalar(DIM, 0.0)?, None)?.solve(&b, Damping::AUTO)
    })?;

    let seconds = |clock: Duration| format!("{:.1} s", clock.as_secs_f64());
    println!("{}: {rows} rows, {:.1} GB, {} threads", config.name(), (rows * DIM * 8) as f64 / 1e9, par::threads());
    println!("generating {}, absorbing {}", seconds(generating), seconds(absorbing));
    println!("approximating {}, solving {}", seconds(approximating), seconds(solving));
    if let Some(interval) = approximation.interval() {
        println!("tr F̂ = {:.4e}, {:.3e} I ≼ F − F̂ ≼ {:.3e} I", approximation.trace(), interval.lo, interval.hi);
    }
    println!("μ = {damping:.3e}: ‖(F + μI)⁻¹b‖ = {:.4e} ± {:.1e}", norm(&answer.midpoint), answer.radius);
    if let Some(bytes) = peak_memory() {
        println!("peak memory {:.2} GB ({:.2} GiB)", bytes as f64 / 1e9, bytes as f64 / (1_u64 << 30) as f64);
    }
    Ok(())
}
