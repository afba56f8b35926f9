//! The streaming randomized Nyström sketch: Y = FΩ is linear in F, so absorbing, decaying and merging are exact in real
//! arithmetic, at 4·d·ℓ flops a row. The approximation is the shifted, rank-revealing one of Tropp, Yurtsever, Udell & Cevher
//! (2017, Algorithm 3), with the shift recorded and its rounding allowed for in the interval.

use serde::{Deserialize, Serialize};

use super::recovery::{Spectral, difference_range, recover};
use super::{Approximation, Certainty, Curvature, Interval, LowRank};
use crate::dense::{CompensatedSum, Matrix, dot, eigh, gram, matmul, qr, svd};
use crate::error::{Error, Result, check_count};
use crate::gradient::{DenseRows, GradientBlock};
use crate::rng::Key;

/// The settings of [`Nystrom`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// ℓ: the number of test vectors, at most d.
    pub sketch_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { sketch_size: 64 }
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
    /// The key that Ω was drawn from: sketches merge only if it is the same.
    key: Key,
    /// d × ℓ, orthonormal columns spanning the range of a Gaussian matrix. F̂ depends on the range alone.
    omega: Matrix,
    /// The running sum, not yet divided by the mass.
    sketch: Matrix,
    mass: f64,
    /// Σ w ‖s‖² = mass · tr F.
    trace: CompensatedSum,
    /// What adding into the running sum may have rounded away, in the Frobenius norm: it grows with every update.
    rounding: f64,
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
        // Beyond this the address space ends; what memory there is, the system knows.
        if dim > isize::MAX as usize / size_of::<f64>() / size {
            return Err(Error::argument("dim", format_args!("a d × {size} sketch that can be addressed"), dim));
        }
        let gaussian = Matrix::from_columns(dim, size, key.stream().normals(dim * size))?;
        let (omega, _) = qr(&gaussian)?;
        Ok(Self { key, omega, sketch: Matrix::zeros(dim, size), mass: 0.0, trace: CompensatedSum::default(), rounding: 0.0 })
    }

    /// ℓ.
    pub fn sketch_size(&self) -> usize {
        self.omega.ncols()
    }

    /// Books the rounding of an update: half an ulp of every entry, and what forming the added matrix itself rounded (its norm
    /// times √rows, as of independent roundings). Without it a long stream leaves its interval: 1e5 equal rows by 5e-10·‖F‖.
    fn round(&mut self, product: f64) {
        self.rounding += 0.5 * f64::EPSILON * (self.sketch.norm() + product);
    }

    /// Y/mass = FΩ and Ω itself.
    pub fn sketch(&self) -> (Matrix, &Matrix) {
        let mut y = self.sketch.clone();
        y.scale(1.0 / self.mass);
        (y, &self.omega)
    }
}

impl Curvature for Nystrom {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.omega.nrows()
    }

    fn mass(&self) -> f64 {
        self.mass
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        super::check_block(block, self.dim())?;
        // Y += Gᵀ(GΩ)
        let projected = block.project(&self.omega)?;
        block.accumulate_into(&projected, &mut self.sketch)?;
        self.mass += block.samples() as f64;
        let squared_norms = block.squared_row_norms();
        squared_norms.iter().for_each(|&s| self.trace.add(s));
        // ‖GᵀGΩ‖_F is at most Σ ‖s‖‖Ωᵀs‖, and at most the whole sum's norm.
        let by_row = projected.t().to_matrix();
        let rows: f64 = squared_norms.iter().enumerate().map(|(i, s)| (s * dot(by_row.col(i), by_row.col(i))).sqrt()).sum();
        let added = rows.min(self.sketch.norm());
        self.round((block.rows() as f64).sqrt() * added);
        Ok(())
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        self.sketch.scale(1.0 - gamma);
        self.mass *= 1.0 - gamma;
        self.trace.scale(1.0 - gamma);
        self.rounding *= 1.0 - gamma;
        self.round(0.0);
        Ok(())
    }

    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        if (other.key, other.dim(), other.sketch_size()) != (self.key, self.dim(), self.sketch_size()) {
            let shape = |s: &Self| format!("d = {}, ℓ = {}, {:?}", s.dim(), s.sketch_size(), s.key);
            let what = format!("merging the sketch ({}) into ({})", shape(other), shape(self));
            return Err(Error::unsupported(what, "build both with the same dimension, sketch size and seed"));
        }
        self.sketch.add_scaled(1.0, &other.sketch)?;
        self.mass += other.mass;
        self.trace.add(other.trace.value());
        self.rounding += other.rounding;
        self.round(0.0);
        Ok(())
    }

    /// ν = √d·ε·‖Y‖₂ + ρ with ρ the rounding of the running sum, Y_ν = Y + νΩ, B = Y_ν (ΩᵀY_ν)₊^{-1/2} = U S Vᵀ,
    /// F̂ = U (S² − ν)₊ Uᵀ; with η = 4ν + 32ελ₁(F̂) and t = tr F − tr F̂, −ηI ≼ F − F̂ ≼ (max(t, 0) + ℓη)I. Costs about 8dℓ² flops.
    /// Where the trace says that F lies inside the sketch, it is recovered without the cost of the shift (`recovery`).
    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        if self.mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        let (y, omega) = self.sketch();
        let (d, size) = (self.dim() as f64, self.sketch_size());
        let shift = d.sqrt() * f64::EPSILON * eigh(&gram(y.t()))?.values[0].max(0.0).sqrt() + self.rounding / self.mass;
        let mut shifted = y.clone();
        shifted.add_scaled(shift, omega)?;

        let mut core = matmul(omega.t(), &shifted)?;
        core = Matrix::from_fn(size, size, |i, j| 0.5 * (core[(i, j)] + core[(j, i)]));
        let eigen = eigh(&core)?;
        let positive = eigen.values.iter().take_while(|&&value| value > 0.0).count();
        let root = Matrix::from_fn(size, positive, |i, j| eigen.vectors[(i, j)] / eigen.values[j].sqrt());
        let factors = svd(&matmul(&shifted, &root)?)?;
        let values: Vec<f64> = factors.values.iter().map(|s| (s * s - shift).max(0.0)).collect();
        let nystrom = Spectral { vectors: factors.u, values };

        let trace = self.trace.value() / self.mass;
        let eta = 4.0 * shift + 32.0 * f64::EPSILON * nystrom.values.first().copied().unwrap_or(0.0);
        let mut interval = Interval {
            lo: -eta,
            hi: (trace - nystrom.trace()).max(0.0) + size as f64 * eta,
            certainty: Certainty::Deterministic {},
        };
        // Nyström's interval, moved by the difference of the two estimates, holds for the other.
        let estimate = match recover(&y, omega, shift, trace, &nystrom)? {
            None => nystrom,
            Some(recovered) => {
                let (least, greatest) = difference_range(&recovered, &nystrom)?;
                (interval.lo, interval.hi) = (interval.lo - greatest - eta, interval.hi - least + eta);
                recovered
            }
        };
        let rows = DenseRows::new(estimate.rows(), 1)?;
        Ok(Box::new(LowRank::new(rows.into(), 1.0, Some(interval))?))
    }

    fn save(&self) -> Result<Vec<u8>> {
        super::encode(Self::NAME, self)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}
