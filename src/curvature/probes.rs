//! Probes: q Gaussian columns Θ, drawn independently of the stream and never used to steer anything, carried along as FΘ in the same
//! pass. They bound what a sketch left out: with Z = EΘ for the residual E = F − F̂ and χ² the lower δ-quantile of chi-square(q),
//! λ_max(E) ≤ min over c ≥ 0 of c + ‖Z − cΘ‖₂/√χ² with probability 1 − δ, for |uᵀ(E − cI)Θ| = |λ − c|·‖uᵀΘ‖ at a top eigenvector u of E and
//! ‖uᵀΘ‖² is chi-square(q). Where the spectrum of E is flat a c near it takes most of ‖Z‖ away.

use std::ops::Range;

use crate::dense::{Matrix, PASS, TallRows, axpy, eigh, matmul, matmul_add_here, sum_over_rows};
use crate::error::{Error, Result};
use crate::gradient::GradientBlock;
use crate::par;
use crate::rng::Key;
use crate::special::chi_square_quantile;

/// Θ and the running sum of w s sᵀ Θ.
#[derive(Debug, Clone)]
pub(super) struct Probes {
    theta: Theta,
    product: Matrix,
    /// What the running sum may have rounded away, in the Frobenius norm.
    rounding: f64,
}

/// Where the numbers of Θ are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// In memory, q/ℓ of the sketch's.
    Stored,
    /// Nowhere: they are drawn again where they are needed, some 5 ns each.
    Drawn,
}

#[derive(Debug, Clone)]
enum Theta {
    Stored(Matrix),
    Drawn(Normals),
}

/// Standard normal numbers that are not kept: each unit of rows from a stream of its own.
#[derive(Debug, Clone)]
struct Normals {
    key: Key,
    rows: usize,
    columns: usize,
}

/// Rows that are drawn at once.
const UNIT: usize = PASS;

impl TallRows for Normals {
    fn nrows(&self) -> usize {
        self.rows
    }

    fn ncols(&self) -> usize {
        self.columns
    }

    fn fill(&self, rows: Range<usize>, tile: &mut Matrix) {
        let mut drawn = [0.0; UNIT];
        for unit in rows.start / UNIT..rows.end.div_ceil(UNIT) {
            let first = unit * UNIT;
            let part = rows.start.max(first)..rows.end.min(first + UNIT);
            let mut stream = self.key.child(unit as u64).stream();
            for j in 0..self.columns {
                stream.fill_normal(&mut drawn);
                let place = part.start - rows.start..part.end - rows.start;
                tile.col_mut(j)[place].copy_from_slice(&drawn[part.start - first..part.end - first]);
            }
        }
    }
}

impl Theta {
    fn count(&self) -> usize {
        match self {
            Self::Stored(theta) => theta.ncols(),
            Self::Drawn(normals) => normals.columns,
        }
    }

    /// GΘ.
    fn project(&self, block: &GradientBlock) -> Result<Matrix> {
        match self {
            Self::Stored(theta) => block.project(theta),
            Self::Drawn(normals) => Ok(block.project_made(normals)?.0),
        }
    }

    /// Makes `tile` some rows of Θ.
    fn rows(&self, rows: Range<usize>, tile: &mut Matrix) {
        match self {
            Self::Stored(theta) => tile.copy_rows(theta, rows),
            Self::Drawn(normals) => {
                tile.reshape(rows.len(), normals.columns);
                normals.fill(rows, tile);
            }
        }
    }
}

impl Probes {
    /// `count` probes of dimension `dim`; none for a count of 0.
    ///
    /// # Errors
    /// [`Error::Argument`] for more than d probes, or more than there is memory for.
    pub(super) fn new(dim: usize, count: usize, key: Key, kept: Kept) -> Result<Option<Self>> {
        if count == 0 {
            return Ok(None);
        }
        if count > dim {
            let expected = format!("at most the dimension {dim} (as many columns of F are F)");
            return Err(Error::argument("probes", expected, count));
        }
        super::check_room(dim, count)?;
        let key = key.named("probes");
        let theta = match kept {
            Kept::Stored => Theta::Stored(Matrix::from_columns(dim, count, key.stream().normals(dim * count))?),
            Kept::Drawn => Theta::Drawn(Normals { key, rows: dim, columns: count }),
        };
        Ok(Some(Self { theta, product: Matrix::zeros(dim, count), rounding: 0.0 }))
    }

    pub(super) fn count(&self) -> usize {
        self.theta.count()
    }

    /// What the running sum may have rounded away, in the Frobenius norm.
    #[cfg(test)]
    pub(super) fn rounding(&self) -> f64 {
        self.rounding
    }

    fn round(&mut self, product: f64) {
        self.rounding += 0.5 * f64::EPSILON * (self.product.norm() + product);
    }

    /// Adds a block, of whose rows the squared norms are known.
    pub(super) fn absorb(&mut self, block: &GradientBlock, squared_norms: &[f64]) -> Result<()> {
        let projected = self.theta.project(block)?;
        block.accumulate_into(&projected, &mut self.product)?;
        let rows = block.rows() as f64;
        let squares: f64 = squared_norms.iter().sum();
        // ‖GᵀGΘ‖_F ≤ ‖G‖_F ‖GΘ‖_F.
        let added = (squares.sqrt() * projected.norm()).min(self.product.norm());
        self.round(rows.sqrt() * added);
        Ok(())
    }

    pub(super) fn decay(&mut self, gamma: f64) {
        self.product.scale(1.0 - gamma);
        self.rounding *= 1.0 - gamma;
        self.round(0.0);
    }

    /// Adds the other's sum; both must have the same Θ.
    pub(super) fn merge(&mut self, other: &Self) -> Result<()> {
        self.product.add_scaled(1.0, &other.product)?;
        self.rounding += other.rounding;
        self.round(0.0);
        Ok(())
    }

    /// What the probes say of F − F̂ for F̂ = CCᵀ/m, C = `columns` and m = `divisor`. Rows of Z are made where they are summed: nothing of the
    /// probes' size is taken.
    pub(super) fn residual(&self, mass: f64, columns: &Matrix, divisor: f64) -> Result<ProbedResidual> {
        let (q, d) = (self.count(), self.product.nrows());
        let mut seen = match &self.theta {
            Theta::Stored(theta) => matmul(columns.t(), theta)?,
            Theta::Drawn(_) => sum_over_rows(d, (columns.ncols(), q), &|rows, sum| {
                let mut theta = Matrix::zeros(0, 0);
                for rows in par::blocks_of(rows, UNIT) {
                    self.theta.rows(rows.clone(), &mut theta);
                    matmul_add_here(sum, 1.0, columns.rows(rows).t(), &theta)?;
                }
                Ok(())
            })?,
        };
        seen.scale(-1.0 / divisor);
        // [Θ, Z]ᵀ[Θ, Z]
        let products = sum_over_rows(d, (2 * q, 2 * q), &|rows, sum| {
            let (mut both, mut z) = (Matrix::zeros(0, 0), Matrix::zeros(0, 0));
            for rows in par::blocks_of(rows, UNIT) {
                z.copy_rows(&self.product, rows.clone());
                z.scale(1.0 / mass);
                matmul_add_here(&mut z, 1.0, columns.rows(rows.clone()), &seen)?;
                self.theta.rows(rows, &mut both);
                both.set_columns(2 * q);
                (0..q).for_each(|j| axpy(1.0, z.col(j), both.col_mut(q + j)));
                matmul_add_here(sum, 1.0, both.t(), &both)?;
            }
            Ok(())
        })?;
        let part = |i: usize, j: usize| Matrix::from_fn(q, q, |a, b| products[(i * q + a, j * q + b)]);
        let (theta, square) = (part(0, 0), part(1, 1));
        let trace = columns.norm().powi(2) / divisor;
        let size = self.product.norm() / mass + trace * theta.trace().sqrt();
        let slack = self.rounding / mass + 4.0 * (d as f64).sqrt() * f64::EPSILON * size;
        let cross = Matrix::from_fn(q, q, |i, j| products[(q + i, j)] + products[(q + j, i)]);
        Ok(ProbedResidual { square, cross, theta, slack })
    }
}

/// How a family's probes are saved. The order of the variants is the layout of the bytes: the first two are those of version 1, which knew no
/// probes that are not stored.
pub(super) mod saved {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Normals, Probes, Theta};
    use crate::dense::{Matrix, check_shape};
    use crate::rng::Key;

    #[derive(Serialize)]
    enum Written<'a> {
        Absent,
        Stored { theta: &'a Matrix, product: &'a Matrix, rounding: f64 },
        Drawn { key: Key, product: &'a Matrix, rounding: f64 },
    }

    #[derive(Deserialize)]
    enum Read {
        Absent,
        Stored { theta: Matrix, product: Matrix, rounding: f64 },
        Drawn { key: Key, product: Matrix, rounding: f64 },
    }

    pub(in crate::curvature) fn serialize<S: Serializer>(probes: &Option<Probes>, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match probes {
            None => Written::Absent,
            Some(Probes { theta: Theta::Stored(theta), product, rounding }) => {
                Written::Stored { theta, product, rounding: *rounding }
            }
            Some(Probes { theta: Theta::Drawn(Normals { key, .. }), product, rounding }) => {
                Written::Drawn { key: *key, product, rounding: *rounding }
            }
        };
        written.serialize(serializer)
    }

    pub(in crate::curvature) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Probes>, D::Error> {
        Ok(match Read::deserialize(deserializer)? {
            Read::Absent => None,
            Read::Stored { theta, product, rounding } => {
                check_shape("probes", &theta, product.nrows(), product.ncols()).map_err(serde::de::Error::custom)?;
                Some(Probes { theta: Theta::Stored(theta), product, rounding })
            }
            Read::Drawn { key, product, rounding } => {
                let normals = Normals { key, rows: product.nrows(), columns: product.ncols() };
                Some(Probes { theta: Theta::Drawn(normals), product, rounding })
            }
        })
    }
}

/// ZᵀZ, ZᵀΘ + ΘᵀZ and ΘᵀΘ for Z = (F − F̂)Θ: all that the bound needs.
#[derive(Debug, Clone)]
pub struct ProbedResidual {
    square: Matrix,
    cross: Matrix,
    theta: Matrix,
    /// What Z may have rounded, in the 2-norm.
    slack: f64,
}

impl ProbedResidual {
    /// An upper bound of λ_max(F − F̂) that fails with probability at most `failure`.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a probability outside (0, 1).
    pub fn upper_end(&self, failure: f64) -> Result<f64> {
        let q = self.theta.nrows();
        let root = chi_square_quantile(q as f64, failure)?.sqrt();
        let bound = |c: f64| -> Result<f64> {
            let mut s = self.square.clone();
            s.add_scaled(-c, &self.cross)?;
            s.add_scaled(c * c, &self.theta)?;
            // Forming the squares rounds where they cancel.
            let rounding = 8.0 * q as f64 * f64::EPSILON * (self.square.trace().sqrt() + c * self.theta.trace().sqrt()).powi(2);
            let norm = (eigh(&s)?.values[0].max(0.0) + rounding).sqrt();
            Ok(c + (norm + self.slack) / root)
        };
        // Convex in c, and never below c: golden sections on [0, bound(0)].
        const SECTION: f64 = 0.618_033_988_749_894_9;
        let (mut low, mut high) = (0.0, bound(0.0)?);
        let mut best = high;
        for _ in 0..60 {
            let (left, right) = (high - SECTION * (high - low), low + SECTION * (high - low));
            let (at_left, at_right) = (bound(left)?, bound(right)?);
            best = best.min(at_left).min(at_right);
            if at_left < at_right {
                high = right;
            } else {
                low = left;
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::DenseRows;

    /// Entry by entry the numbers of each unit's stream, wherever the rows are cut.
    #[test]
    fn numbers_that_are_drawn_again_are_the_same() {
        let normals = Normals { key: Key::new(1), rows: 2 * UNIT + 9, columns: 3 };
        let mut all = Matrix::zeros(normals.rows, 3);
        for unit in 0..3 {
            let numbers = Key::new(1).child(unit as u64).stream().normals(3 * UNIT);
            for i in unit * UNIT..((unit + 1) * UNIT).min(normals.rows) {
                (0..3).for_each(|j| all[(i, j)] = numbers[j * UNIT + i % UNIT]);
            }
        }
        for (start, end) in [(0, normals.rows), (0, 1), (255, 257), (256, 512), (300, 521), (4, 4)] {
            let mut tile = Matrix::zeros(end - start, 3);
            normals.fill(start..end, &mut tile);
            assert_eq!(tile, all.rows(start..end).to_matrix(), "{start}..{end}");
        }
    }

    /// ZᵀZ, ZᵀΘ + ΘᵀZ and ΘᵀΘ by their definition, for both ways to keep Θ.
    #[test]
    fn what_probes_say_of_a_residual_is_its_definition() {
        let (d, q) = (700, 4);
        let random = |key: u64, m: usize, n: usize| Matrix::from_columns(m, n, Key::new(key).stream().normals(m * n)).unwrap();
        let (rows, columns) = (random(1, d, 9), random(2, d, 5));
        let block = GradientBlock::from(DenseRows::new(rows.clone(), 1).unwrap());
        for kept in [Kept::Stored, Kept::Drawn] {
            let mut probes = Probes::new(d, q, Key::new(3), kept).unwrap().unwrap();
            probes.absorb(&block, &block.squared_row_norms()).unwrap();
            let mut theta = Matrix::zeros(0, 0);
            probes.theta.rows(0..d, &mut theta);
            let found = probes.residual(9.0, &columns, 2.0).unwrap();
            let product = |a: &Matrix, factor: f64| {
                let mut product = matmul(a, &matmul(a.t(), &theta).unwrap()).unwrap();
                product.scale(factor);
                product
            };
            let mut z = product(&rows, 1.0 / 9.0);
            z.add_scaled(1.0, &product(&columns, -0.5)).unwrap();
            let agree = |found: &Matrix, expected: Matrix| {
                let error = crate::dense::relative_error(found.as_slice(), expected.as_slice());
                assert!(error < 1e-12, "{kept:?}: {error:e}");
            };
            agree(&found.square, matmul(z.t(), &z).unwrap());
            agree(&found.theta, matmul(theta.t(), &theta).unwrap());
            let cross = matmul(z.t(), &theta).unwrap();
            agree(&found.cross, Matrix::from_fn(q, q, |i, j| cross[(i, j)] + cross[(j, i)]));
        }
    }
}
