//! The streaming randomized Nyström sketch: Y = FΩ is linear in F, so absorbing, decaying and merging are exact in real
//! arithmetic, at 4·d·ℓ flops a row. The approximation is the shifted, rank-revealing one of Tropp, Yurtsever, Udell & Cevher
//! (2017, Algorithm 3), with the shift recorded and its rounding allowed for in the interval; probes tighten its upper end.

use std::io::{self, Write};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::probes::{self, Kept, Probes};
use super::recovery::{Factored, difference_range, is_worthwhile, recover};
use super::test_matrix::{Omega, TestMatrix};
use super::{Approximation, Certainty, Curvature, Feed, Interval, LowRank};
use crate::dense::{CompensatedSum, Matrix, PASS, check_shape, dot, each_run, eigh, gram, matmul_add_here, matmul_in_place};
use crate::error::{Error, Result, check_count, check_len};
use crate::gradient::{DenseRows, GradientBlock};
use crate::reused::Reused;
use crate::rng::Key;

/// The settings of [`Nystrom`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// ℓ: the number of test vectors, at most d.
    pub sketch_size: usize,
    /// How Ω is drawn. F̂ depends on its range alone, and its columns are orthonormal: the products cost the same. `sign` takes no memory
    /// for it, nor for the probes.
    pub test_matrix: TestMatrix,
    /// q: Gaussian probes for a tighter interval, at q/ℓ of the sketch's cost; ℓ/4 where nothing is said, 0 for none.
    pub probes: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self { sketch_size: 64, test_matrix: TestMatrix::default(), probes: None }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        check_count("sketch_size", self.sketch_size)
    }
}

/// The sketch Y = Σ w s sᵀ Ω with the mass and the trace that go with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nystrom {
    /// What probes and new columns are drawn from.
    key: Key,
    /// Ω, d × ℓ.
    omega: Omega,
    /// The running sum, not yet divided by the mass.
    sketch: Matrix,
    mass: f64,
    /// Σ w ‖s‖² = mass · tr F.
    trace: CompensatedSum,
    /// What adding into the running sum may have rounded away, in the Frobenius norm: it grows with every update.
    rounding: f64,
    /// mass · the sum of −lo of the estimates that growths put in the place of what had been fed.
    replaced: f64,
    #[serde(with = "probes::saved")]
    probes: Option<Probes>,
}

impl Nystrom {
    /// The registry name.
    pub const NAME: &'static str = "nystrom";

    /// An empty sketch for d = `dim`, with Ω drawn from `key`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a sketch size of 0 or above d.
    pub fn new(dim: usize, config: &Config, key: Key) -> Result<Self> {
        check_count("dim", dim)?;
        config.validate()?;
        let size = config.sketch_size;
        if size > dim {
            return Err(Error::argument("sketch_size", format_args!("at most the dimension {dim}"), size));
        }
        super::check_room(dim, size)?;
        Self::with_omega(Omega::draw(config.test_matrix, dim, size, key)?, config, key)
    }

    /// An empty sketch with a given test matrix, of which only the range matters and which is stored; probes and growth draw from `key`.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not d × ℓ with ℓ ≤ d, [`Error::NotFinite`].
    pub fn with_test_matrix(omega: &Matrix, config: &Config, key: Key) -> Result<Self> {
        let (dim, size) = (omega.nrows(), config.sketch_size);
        check_shape("test matrix", omega, dim.max(size), size)?;
        Self::with_omega(Omega::spanned_by(config.test_matrix, omega)?, config, key)
    }

    fn with_omega(omega: Omega, config: &Config, key: Key) -> Result<Self> {
        let (dim, size) = (omega.dim(), omega.size());
        // Who spares the memory of Ω spares that of Θ too.
        let kept = if omega.kind() == TestMatrix::Sign { Kept::Drawn } else { Kept::Stored };
        let probes = Probes::new(dim, config.probes.unwrap_or(size / 4), key, kept)?;
        Ok(Self {
            key,
            sketch: Matrix::zeros(dim, size),
            omega,
            mass: 0.0,
            trace: CompensatedSum::default(),
            rounding: 0.0,
            replaced: 0.0,
            probes,
        })
    }

    /// ℓ.
    pub fn sketch_size(&self) -> usize {
        self.omega.size()
    }

    /// Its settings, the probes counted.
    pub(super) fn config(&self) -> Config {
        let probes = self.probes.as_ref().map_or(0, Probes::count);
        Config { sketch_size: self.sketch_size(), test_matrix: self.omega.kind(), probes: Some(probes) }
    }

    /// Books the rounding of an update: half an ulp of every entry of the sum, whose norm is `total`, and what forming the added matrix
    /// itself rounded (its norm times √rows, as of independent roundings). Without it a long stream leaves its interval: 1e5 equal
    /// rows by 5e-10·‖F‖.
    fn round(&mut self, total: f64, product: f64) {
        self.rounding += 0.5 * f64::EPSILON * (total + product);
    }

    /// Y/mass = FΩ and Ω, a copy of each.
    ///
    /// # Errors
    /// Never, for a sketch that was built.
    pub fn sketch(&self) -> Result<(Matrix, Matrix)> {
        let mut y = self.sketch.clone();
        y.scale(1.0 / self.mass);
        Ok((y, self.omega.to_matrix()?))
    }

    /// Some rows of Y_ν = Y/mass + νΩ.
    fn shifted_rows(&self, rows: Range<usize>, shift: f64) -> Result<Matrix> {
        let mut part = Matrix::zeros(0, 0);
        part.copy_rows(&self.sketch, rows.clone());
        part.scale(1.0 / self.mass);
        self.omega.add_rows(rows, shift, &mut part)?;
        Ok(part)
    }

    /// Y_ν times a small matrix: the only tall matrix that it takes.
    fn shifted_times(&self, shift: f64, factor: &Matrix) -> Result<Matrix> {
        let mut product = Matrix::zeros(self.dim(), factor.ncols());
        if factor.ncols() == 0 {
            return Ok(product);
        }
        let parts =
            each_run(&mut product, PASS, &|rows, part| matmul_add_here(part, 1.0, &self.shifted_rows(rows, shift)?, factor));
        parts.into_iter().collect::<Result<()>>()?;
        Ok(product)
    }

    /// F̂ = RᵀR and the interval of F − F̂. The shift ν = √d·ε·‖Y‖₂ + ρ, ρ the rounding of the running sum; Y_ν = Y + νΩ,
    /// B = Y_ν (ΩᵀY_ν)₊^{-1/2}, BᵀB = V S²Vᵀ, Rᵀ = BV ((S² − ν)₊/S²)^{1/2}; with η = 4ν + 32ελ₁(F̂) and t = tr F − tr F̂,
    /// −ηI ≼ F − F̂ ≼ (max(t, 0) + ℓη)I: F̂ has rank ℓ, so that at most ℓ eigenvalues of F − F̂ are negative. About 10dℓ² flops, and
    /// the memory of one d × ℓ matrix. Where the trace says that F lies inside the sketch, it is recovered without the cost of the shift.
    fn estimate(&self) -> Result<(Matrix, Interval)> {
        if self.mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        let (d, size) = (self.dim() as f64, self.sketch_size());
        let norm = eigh(&gram(self.sketch.t()))?.values[0].max(0.0).sqrt() / self.mass;
        let shift = d.sqrt() * f64::EPSILON * norm + self.rounding / self.mass;
        // ΩᵀY_ν = ΩᵀY + νI, for the columns of Ω are orthonormal.
        let core = self.omega.transpose_times(&self.sketch)?;
        let symmetric = |i: usize, j: usize| 0.5 * (core[(i, j)] + core[(j, i)]) / self.mass + if i == j { shift } else { 0.0 };
        let eigen = eigh(&Matrix::from_fn(size, size, symmetric))?;
        let positive = eigen.values.iter().take_while(|&&value| value > 0.0).count();
        let root = Matrix::from_fn(size, positive, |i, j| eigen.vectors[(i, j)] / eigen.values[j].sqrt());
        let mut b = self.shifted_times(shift, &root)?;
        // An eigenvalue of BᵀB is one of F̂, so that forming the product costs rounding of ε‖F̂‖ and no more.
        let eigen = eigh(&gram(b.t()))?;
        let rank = eigen.values.iter().take_while(|&&square| square > shift).count();
        let scaled =
            Matrix::from_fn(positive, rank, |i, j| eigen.vectors[(i, j)] * ((eigen.values[j] - shift) / eigen.values[j]).sqrt());
        let values: Vec<f64> = eigen.values[..rank].iter().map(|square| square - shift).collect();

        let trace = self.trace.value() / self.mass;
        let eta = 4.0 * shift + 32.0 * f64::EPSILON * values.first().copied().unwrap_or(0.0);
        let below = eta + self.replaced / self.mass;
        let missing = trace - values.iter().sum::<f64>();
        let interval = Interval { lo: -below, hi: missing.max(0.0) + size as f64 * below, certainty: Certainty::Deterministic {} };
        if is_worthwhile(missing, trace) {
            // What both estimates need is made anew from Y: there is room for one tall matrix beside it.
            drop(b);
            if let Some(recovered) = recover(&self.sketch, self.mass, &self.omega, shift, trace)? {
                let nystrom = |rows: Range<usize>| -> Result<Matrix> {
                    let mut part = self.shifted_rows(rows, shift)?;
                    matmul_in_place(&mut part, &root)?;
                    matmul_in_place(&mut part, &scaled)?;
                    Ok(part)
                };
                // Nyström's interval, moved by the difference of the two estimates, holds for the other.
                let (least, greatest) = difference_range(&recovered, rank, &nystrom)?;
                let moved = Interval { lo: interval.lo - greatest - eta, hi: interval.hi - least + eta, ..interval };
                return Ok((recovered.into_columns(), moved));
            }
            b = self.shifted_times(shift, &root)?;
        }
        matmul_in_place(&mut b, &scaled)?;
        Ok((Factored { columns: b, values }.into_columns(), interval))
    }
}

impl Curvature for Nystrom {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.omega.dim()
    }

    fn mass(&self) -> f64 {
        self.mass
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        check_len("gradient block dimension", block.dim(), self.dim())?;
        // Y += Gᵀ(GΩ)
        let (projected, squared_norms) = self.omega.project(block)?;
        let squared_norms = Reused::from(squared_norms);
        let square = block.accumulate_and_square(&projected, &mut self.sketch)?;
        if let Some(probes) = &mut self.probes {
            probes.absorb(block, &squared_norms)?;
        }
        self.mass += block.samples() as f64;
        squared_norms.iter().for_each(|&s| self.trace.add(s));
        // ‖GᵀGΩ‖_F is at most Σ ‖s‖‖Ωᵀs‖, and at most the whole sum's norm.
        let by_row = projected.t().to_matrix();
        let rows: f64 = squared_norms.iter().enumerate().map(|(i, s)| (s * dot(by_row.col(i), by_row.col(i))).sqrt()).sum();
        // Squares that overflow or vanish are summed again, scaled.
        let total = if square.is_finite() && square > 1e-280 { square.sqrt() } else { self.sketch.norm() };
        self.round(total, (block.rows() as f64).sqrt() * rows.min(total));
        Ok(())
    }

    fn feed(&self) -> Option<Feed> {
        Some(Feed::of_samples(self.sketch_size()))
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        if gamma == 0.0 {
            return Ok(());
        }
        self.sketch.scale(1.0 - gamma);
        self.mass *= 1.0 - gamma;
        self.trace.scale(1.0 - gamma);
        self.replaced *= 1.0 - gamma;
        self.rounding *= 1.0 - gamma;
        self.round(self.sketch.norm(), 0.0);
        if let Some(probes) = &mut self.probes {
            probes.decay(gamma);
        }
        Ok(())
    }

    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        let probes = |s: &Self| s.probes.as_ref().map_or(0, Probes::count);
        if other.key != self.key || other.omega != self.omega || probes(other) != probes(self) {
            let shape = |s: &Self| {
                let (d, size, probes) = (s.dim(), s.sketch_size(), probes(s));
                format!("d = {d}, ℓ = {size}, {probes} probes, {:?} Ω of {:?}", s.omega.kind(), s.key)
            };
            let what = format!("merging the sketch ({}) into ({})", shape(other), shape(self));
            return Err(Error::unsupported(what, "build both with the same dimension, sketch size, Ω, probes and seed"));
        }
        self.sketch.add_scaled(1.0, &other.sketch)?;
        self.mass += other.mass;
        self.trace.add(other.trace.value());
        self.rounding += other.rounding;
        self.replaced += other.replaced;
        self.round(self.sketch.norm(), 0.0);
        if let (Some(mine), Some(others)) = (&mut self.probes, &other.probes) {
            mine.merge(others)?;
        }
        Ok(())
    }

    /// The new columns start at F̂Ω_new: since F̂Ω = Y on the old ones, the sketch is then that of F̂ ≼ F, and the interval goes on to hold
    /// (with F's own trace). Starting them at zero would break it.
    fn grow(&mut self, size: usize) -> Result<()> {
        let present = self.sketch_size();
        super::check_growth(present, size, self.dim())?;
        if size == present {
            return Ok(());
        }
        let omega = self.omega.grown(size, self.key)?;
        if self.mass > 0.0 {
            let (estimate, interval) = self.estimate()?;
            let rows: GradientBlock = DenseRows::new(estimate, 1)?.into();
            let mut sketch = rows.accumulate(&omega.project(&rows)?.0)?;
            sketch.scale(self.mass);
            self.sketch = sketch;
            self.replaced += self.mass * -interval.lo;
        } else {
            self.sketch = Matrix::zeros(self.dim(), size);
        }
        self.omega = omega;
        let total = self.sketch.norm();
        self.round(total, (size as f64).sqrt() * total);
        Ok(())
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        let (estimate, interval) = self.estimate()?;
        let probed = match &self.probes {
            None => None,
            Some(probes) => Some(probes.residual(self.mass, &estimate, 1.0)?),
        };
        Ok(Box::new(LowRank::new(DenseRows::new(estimate, 1)?.into(), 1.0, Some(interval))?.with_probes(probed)))
    }

    fn trace(&self) -> Option<f64> {
        (self.mass > 0.0).then(|| self.trace.value() / self.mass)
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(Self::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::load;

    /// The fields of a sketch as version 1 had them.
    #[derive(Serialize)]
    struct Version1 {
        key: Key,
        test_matrix: TestMatrix,
        omega: Matrix,
        sketch: Matrix,
        mass: f64,
        trace: CompensatedSum,
        rounding: f64,
        replaced: f64,
        probes: Option<OldProbes>,
    }

    #[derive(Serialize)]
    struct OldProbes {
        theta: Matrix,
        product: Matrix,
        rounding: f64,
    }

    #[test]
    fn bytes_of_version_1_load_with_the_same_bits() {
        for test_matrix in [TestMatrix::Gaussian, TestMatrix::SparseSign] {
            let config = Config { sketch_size: 4, test_matrix, probes: Some(2) };
            let mut sketch = Nystrom::new(9, &config, Key::new(1)).unwrap();
            let rows = Matrix::from_columns(9, 20, Key::new(2).stream().normals(180)).unwrap();
            let block = GradientBlock::from(DenseRows::new(rows, 1).unwrap());
            sketch.absorb(&block).unwrap();
            let Nystrom { key, omega, sketch: sum, mass, trace, rounding, replaced, probes } = sketch.clone();
            let omega = omega.to_matrix().unwrap();
            // The one block's products with the probes, as version 1 drew and summed them.
            let theta = Matrix::from_columns(9, 2, Key::new(1).named("probes").stream().normals(18)).unwrap();
            let product = block.accumulate(&block.project(&theta).unwrap()).unwrap();
            let probes = probes.map(|held| OldProbes { theta, product, rounding: held.rounding() });
            let old = Version1 { key, test_matrix, omega, sketch: sum, mass, trace, rounding, replaced, probes };
            let mut bytes = Vec::new();
            super::super::saved::write(Nystrom::NAME, &old, &mut bytes).unwrap();
            // The version stands behind the format's length and letters.
            assert_eq!(bytes[15], 2);
            bytes[15] = 1;
            assert_eq!(load(&bytes).unwrap().save().unwrap(), sketch.save().unwrap(), "{test_matrix:?}");
            // A version before the first is none.
            bytes[15] = 0;
            assert!(load(&bytes).err().unwrap().to_string().contains("version 0"));
        }
    }
}
