//! What an operation of a family costs, as formulas: floating-point operations, bytes that must move between memory and processor at the
//! least, and the most bytes in use at once. With d parameters, size ℓ (a window's m), blocks of b stored rows, q probes, and r rows a
//! shrink; numbers have 8 bytes. Only the terms that count for large d, and those of ℓ² that count for small ones.
//!
//! | family | absorb a block | approximate | solve |
//! |---|---|---|---|
//! | `window` | 2bd, a copy | 2dℓ, a copy | dℓ² + 4dℓ + ℓ³/3 |
//! | `nystrom` | 4bd(ℓ + q) | 8dℓ² | dℓ² + 4dℓ + ℓ³/3 |
//! | `frequent-directions` | a shrink: d(ℓ + r)(3ℓ + r) + 9(ℓ + r)³ | 3dℓ² + 9ℓ³ | dℓ² + 4dℓ + ℓ³/3 |
//! | `diagonal` | 4bd | d | 3d |
//! | `dense` | bd² | d² | d³/3 + 2d² |

use crate::bounds::log_log_slope;
use crate::curvature::{CurvatureConfig, TestMatrix};
use crate::error::{Error, Result};

/// What an operation costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes to and from memory.
    pub bytes: f64,
    /// The most bytes in use at once, the estimate's own and a block's included.
    pub peak: f64,
}

/// What is done with a curvature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An empty estimate.
    Build,
    /// Rows are added.
    Absorb,
    /// F̂ is formed.
    Approximate,
    /// (F̂ + λI)⁻¹b for one b, factorized anew.
    Solve,
}

impl Operation {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Build, Self::Absorb, Self::Approximate, Self::Solve];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Absorb => "absorb",
            Self::Approximate => "approximate",
            Self::Solve => "solve",
        }
    }
}

/// The rows that a curvature meets: a round of so many blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// d.
    pub dim: usize,
    /// b.
    pub block_rows: usize,
    /// Blocks that are absorbed.
    pub blocks: usize,
}

/// Bytes of a number.
const NUMBER: f64 = 8.0;
/// Matrices of the order of an eigen-decomposition that it holds at once, the decomposed one included.
const EIGEN: f64 = 8.0;
/// Flops of an eigen-decomposition of order n, over n³.
const EIGEN_FLOPS: f64 = 9.0;
/// Times ℓ: the most rows that a shrink of `frequent-directions` takes at once.
const MOST_AT_ONCE: usize = 3;
/// Rows of a tall matrix that a thread works on at once, about; the threads that are counted, for a formula knows no machine.
const TILE_ROWS: f64 = 384.0;
const THREADS: f64 = 2.0;
/// Vectors of length d that a solve holds besides the rows.
const VECTORS: f64 = 6.0;

/// The families with formulas.
pub const FAMILIES: [&str; 6] = ["window", "nystrom", "frequent-directions", "robust-frequent-directions", "diagonal", "dense"];

/// The cost of an operation.
///
/// # Errors
/// [`Error::Unsupported`] for a family without formulas.
pub fn cost(config: &CurvatureConfig, shape: Shape, operation: Operation) -> Result<Cost> {
    let (d, b, blocks) = (shape.dim as f64, shape.block_rows as f64, shape.blocks as f64);
    match config {
        CurvatureConfig::Window(window) => Ok(of_window(window.samples as f64, (d, b, blocks), operation)),
        CurvatureConfig::Nystrom(nystrom) => {
            let (size, probes) = (nystrom.sketch_size, nystrom.probes.unwrap_or(nystrom.sketch_size / 4));
            Ok(of_nystrom((size as f64, probes as f64, nystrom.test_matrix), (d, b, blocks), operation))
        }
        CurvatureConfig::FrequentDirections(directions) | CurvatureConfig::RobustFrequentDirections(directions) => {
            Ok(of_directions(directions.sketch_size, directions.probes as f64, shape, operation))
        }
        CurvatureConfig::Diagonal(_) => Ok(of_diagonal((d, b, blocks), operation)),
        CurvatureConfig::Dense(_) => Ok(of_dense((d, b, blocks), operation)),
        other => {
            let remedy = format!("take one of {}", FAMILIES.join(", "));
            Err(Error::unsupported(format_args!("the cost of `{}`", other.name()), remedy))
        }
    }
}

/// The most bytes that any operation has in use at once: what must fit.
///
/// # Errors
/// As [`cost`].
pub fn peak(config: &CurvatureConfig, shape: Shape) -> Result<f64> {
    Operation::ALL.into_iter().try_fold(0.0_f64, |most, operation| Ok(most.max(cost(config, shape, operation)?.peak)))
}

/// The predicted exponent of what `quantity` takes of a cost, over places of one variable.
///
/// # Errors
/// As [`cost`] and [`log_log_slope`].
pub fn exponent(places: &[usize], quantity: impl Fn(usize) -> Result<f64>) -> Result<f64> {
    let x: Vec<f64> = places.iter().map(|&place| place as f64).collect();
    log_log_slope(&x, &places.iter().map(|&place| quantity(place)).collect::<Result<Vec<_>>>()?)
}

fn counted(flops: f64, numbers_moved: f64, numbers_held: f64) -> Cost {
    Cost { flops, bytes: NUMBER * numbers_moved, peak: NUMBER * numbers_held }
}

/// Solving with ℓ rows of length d beside `held` numbers: a Gram matrix, and two passes over the rows.
fn solve_in_row_space(size: f64, d: f64, held: f64) -> Cost {
    let flops = d * size * size + 4.0 * d * size + size.powi(3) / 3.0;
    counted(flops, 3.0 * d * size + VECTORS * d, held + d * size + VECTORS * d + 2.0 * size * size)
}

fn of_window(size: f64, (d, b, blocks): (f64, f64, f64), operation: Operation) -> Cost {
    let taken = b.min(size);
    match operation {
        Operation::Build => counted(0.0, 0.0, 0.0),
        // The new rows stand beside all old ones before the oldest go.
        Operation::Absorb => counted(2.0 * b * d * blocks, (b + 2.0 * taken) * d * blocks, (size + taken + b) * d),
        // Rows are stacked in memory that grows: the old half of it stands beside the new whole.
        Operation::Approximate => counted(2.0 * d * size, 4.0 * d * size, 2.5 * d * size),
        Operation::Solve => solve_in_row_space(size, d, d * size),
    }
}

/// The numbers of so many small matrices of ℓ columns on each thread.
fn tiles(count: f64, d: f64, size: f64) -> f64 {
    count * THREADS * TILE_ROWS.min(d / THREADS) * size
}

/// The numbers that Ω takes while it is held, those that drawing it takes besides, and its flops: Householder's reflections are found, then
/// applied; signs are not held, and made orthonormal by their Gram matrix.
fn test_matrix(kind: TestMatrix, d: f64, size: f64) -> (f64, f64, f64) {
    match kind {
        TestMatrix::Gaussian | TestMatrix::SparseSign => (d * size, d * size, 6.0 * d * size * size),
        TestMatrix::Sign => (size * size, EIGEN * size * size, d * size * size),
    }
}

fn of_nystrom((size, probes, kind): (f64, f64, TestMatrix), (d, b, blocks): (f64, f64, f64), operation: Operation) -> Cost {
    let (omega, drawing, flops) = test_matrix(kind, d, size);
    let held = omega + d * size + 2.0 * d * probes;
    match operation {
        Operation::Build => counted(flops, 8.0 * d * size, held + drawing),
        Operation::Absorb => counted(
            4.0 * b * d * (size + probes) * blocks,
            (2.0 * b * d + 2.0 * d * size + omega + 3.0 * d * probes) * blocks,
            held + b * d + 6.0 * b * (size + 1.0),
        ),
        Operation::Approximate => counted(
            8.0 * d * size * size + 4.0 * d * probes * (size + probes),
            17.0 * d * size + 6.0 * d * probes,
            // Rows of Y, of what they become, and of signs.
            held + d * size
                + 2.0 * d * probes
                + EIGEN * size * size
                + tiles(if kind == TestMatrix::Sign { 3.0 } else { 2.0 }, d, size),
        ),
        Operation::Solve => solve_in_row_space(size, d, held),
    }
}

/// Rows of every shrink while so many blocks come, with nothing waiting before, the rows of the last part of each, and the most that wait.
fn shrinks(size: usize, shape: Shape) -> (Vec<usize>, usize) {
    let parts = shape.block_rows.div_ceil(MOST_AT_ONCE * size).max(1);
    let part = shape.block_rows.div_ceil(parts);
    let (mut taken, mut waiting, mut most) = (Vec::new(), 0, 0);
    for _ in 0..shape.blocks {
        let mut left = shape.block_rows;
        while left > 0 {
            let rows = part.min(left);
            left -= rows;
            // A part of a block that is cut is a copy, too.
            most = most.max(waiting + if parts > 1 { rows } else { 0 });
            if waiting + rows >= size {
                taken.push(waiting + rows);
                waiting = 0;
            } else {
                waiting += rows;
                most = most.max(waiting);
            }
        }
    }
    (taken, most)
}

fn of_directions(size: usize, probes: f64, shape: Shape, operation: Operation) -> Cost {
    let (d, b, blocks, l) = (shape.dim as f64, shape.block_rows as f64, shape.blocks as f64, size as f64);
    let held = d * l + 2.0 * d * probes;
    match operation {
        Operation::Build => counted(0.0, 0.0, 2.0 * d * probes),
        Operation::Absorb => {
            let (taken, waiting) = shrinks(size, shape);
            let (mut flops, mut moved, mut order) = (4.0 * b * d * probes * blocks + 2.0 * b * d * blocks, 0.0, l);
            for rows in taken {
                let r = rows as f64;
                order = order.max(l + r);
                // The Gram matrix of buffer and rows, then the rotation of both to ℓ rows.
                flops += d * (l + r) * (l + r) + 2.0 * d * (l + r) * l + EIGEN_FLOPS * (l + r).powi(3);
                moved += 7.0 * d * l + 4.0 * r * d;
            }
            counted(flops, moved + (b * d + 3.0 * d * probes) * blocks, held + (waiting as f64 + b) * d + EIGEN * order * order)
        }
        Operation::Approximate => counted(
            3.0 * d * l * l + EIGEN_FLOPS * l.powi(3) + 4.0 * d * probes * (l + probes),
            9.0 * d * l + 6.0 * d * probes,
            held + d * l + 2.0 * d * probes + EIGEN * l * l,
        ),
        Operation::Solve => solve_in_row_space(l, d, held),
    }
}

fn of_diagonal((d, b, blocks): (f64, f64, f64), operation: Operation) -> Cost {
    match operation {
        Operation::Build => counted(0.0, d, d),
        Operation::Absorb => counted(4.0 * b * d * blocks, 4.0 * b * d * blocks, b * d + 2.0 * d),
        Operation::Approximate => counted(d, 2.0 * d, 2.0 * d),
        Operation::Solve => counted(3.0 * d, 6.0 * d, 2.0 * d + VECTORS * d),
    }
}

fn of_dense((d, b, blocks): (f64, f64, f64), operation: Operation) -> Cost {
    let square = d * d;
    match operation {
        Operation::Build => counted(0.0, square, square),
        Operation::Absorb => counted(b * square * blocks, (5.0 * square + 2.0 * b * d) * blocks, 2.0 * square + b * d),
        Operation::Approximate => counted(square, 3.0 * square, 2.0 * square),
        Operation::Solve => counted(d * square / 3.0 + 2.0 * square, 4.0 * square, 3.0 * square + VECTORS * d),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shrink_takes_what_waits_and_a_large_block_is_cut() {
        let shape = |block_rows, blocks| Shape { dim: 10, block_rows, blocks };
        assert_eq!(shrinks(64, shape(32, 2)), (vec![64], 32));
        assert_eq!(shrinks(64, shape(32, 1)), (vec![], 32), "too few to shrink");
        assert_eq!(shrinks(64, shape(64, 1)), (vec![64], 0));
        assert_eq!(shrinks(64, shape(256, 1)), (vec![128, 128], 128), "256 rows are more than 3ℓ");
        assert_eq!(shrinks(10, shape(7, 4)), (vec![14, 14], 7));
    }
}
