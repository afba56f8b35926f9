//! The streaming randomized Nyström sketch: Y = FΩ is linear in F, so absorbing, decaying and merging are exact in real
//! arithmetic, at 4·d·ℓ flops a row. The approximation is the shifted, rank-revealing one of Tropp, Yurtsever, Udell & Cevher
//! (2017, Algorithm 3), with the shift recorded and its rounding allowed for in the interval; probes tighten its upper end.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::probes::Probes;
use super::recovery::{Factored, difference_range, is_worthwhile, recover};
use super::{Approximation, Certainty, Curvature, Interval, LowRank};
use crate::dense::{CompensatedSum, Matrix, check_shape, dot, eigh, gram, matmul, matmul_add, matmul_in_place, qr};
use crate::error::{Error, Result, check_count, check_len};
use crate::gradient::{DenseRows, GradientBlock};
use crate::rng::Key;

/// The settings of [`Nystrom`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// ℓ: the number of test vectors, at most d.
    pub sketch_size: usize,
    /// How Ω is drawn. F̂ depends on its range alone, and it is kept orthonormal: the cost is the same.
    pub test_matrix: TestMatrix,
    /// q: Gaussian probes for a tighter interval, at q/ℓ of the sketch's cost; ℓ/4 where nothing is said, 0 for none.
    pub probes: Option<usize>,
}

/// How the test matrix Ω is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestMatrix {
    /// Independent standard normal entries.
    #[default]
    Gaussian,
    /// In each row min(ℓ, 8) random signs at random places (Tropp, Yurtsever, Udell & Cevher 2019, section 3.3).
    SparseSign,
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

impl TestMatrix {
    fn draw(self, dim: usize, size: usize, key: Key) -> Result<Matrix> {
        let mut stream = key.stream();
        match self {
            Self::Gaussian => Matrix::from_columns(dim, size, stream.normals(dim * size)),
            Self::SparseSign => {
                let mut omega = Matrix::zeros(dim, size);
                for i in 0..dim {
                    for j in stream.permutation(size).into_iter().take(8) {
                        omega[(i, j)] = if stream.uniform() < 0.5 { -1.0 } else { 1.0 };
                    }
                }
                Ok(omega)
            }
        }
    }
}

/// The sketch Y = Σ w s sᵀ Ω with the mass and the trace that go with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nystrom {
    /// What probes and new columns are drawn from.
    key: Key,
    test_matrix: TestMatrix,
    /// d × ℓ, orthonormal columns spanning the range of a random matrix. F̂ depends on the range alone.
    omega: Matrix,
    /// The running sum, not yet divided by the mass.
    sketch: Matrix,
    mass: f64,
    /// Σ w ‖s‖² = mass · tr F.
    trace: CompensatedSum,
    /// What adding into the running sum may have rounded away, in the Frobenius norm: it grows with every update.
    rounding: f64,
    /// mass · the sum of −lo of the estimates that growths put in the place of what had been fed.
    replaced: f64,
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
        Self::with_test_matrix(&config.test_matrix.draw(dim, size, key)?, config, key)
    }

    /// An empty sketch with a given test matrix, of which only the range matters; probes and growth draw from `key`.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not d × ℓ with ℓ ≤ d, [`Error::NotFinite`].
    pub fn with_test_matrix(omega: &Matrix, config: &Config, key: Key) -> Result<Self> {
        let (dim, size) = (omega.nrows(), config.sketch_size);
        check_shape("test matrix", omega, dim.max(size), size)?;
        let (omega, _) = qr(omega)?;
        Ok(Self {
            key,
            test_matrix: config.test_matrix,
            omega,
            sketch: Matrix::zeros(dim, size),
            mass: 0.0,
            trace: CompensatedSum::default(),
            rounding: 0.0,
            replaced: 0.0,
            probes: Probes::new(dim, config.probes.unwrap_or(size / 4), key)?,
        })
    }

    /// ℓ.
    pub fn sketch_size(&self) -> usize {
        self.omega.ncols()
    }

    /// Its settings, the probes counted.
    pub(super) fn config(&self) -> Config {
        let probes = self.probes.as_ref().map_or(0, Probes::count);
        Config { sketch_size: self.sketch_size(), test_matrix: self.test_matrix, probes: Some(probes) }
    }

    /// Books the rounding of an update: half an ulp of every entry of the sum, whose norm is `total`, and what forming the added matrix
    /// itself rounded (its norm times √rows, as of independent roundings). Without it a long stream leaves its interval: 1e5 equal
    /// rows by 5e-10·‖F‖.
    fn round(&mut self, total: f64, product: f64) {
        self.rounding += 0.5 * f64::EPSILON * (total + product);
    }

    /// Y/mass = FΩ and Ω itself.
    pub fn sketch(&self) -> (Matrix, &Matrix) {
        let mut y = self.sketch.clone();
        y.scale(1.0 / self.mass);
        (y, &self.omega)
    }

    /// F̂ = RᵀR and the interval of F − F̂. The shift ν = √d·ε·‖Y‖₂ + ρ, ρ the rounding of the running sum; Y_ν = Y + νΩ,
    /// B = Y_ν (ΩᵀY_ν)₊^{-1/2}, BᵀB = V S²Vᵀ, Rᵀ = BV ((S² − ν)₊/S²)^{1/2}; with η = 4ν + 32ελ₁(F̂) and t = tr F − tr F̂,
    /// −ηI ≼ F − F̂ ≼ (max(t, 0) + ℓη)I: F̂ has rank ℓ, so that at most ℓ eigenvalues of F − F̂ are negative. About 6dℓ² flops, and
    /// the sketch's memory once more. Where the trace says that F lies inside the sketch, it is recovered without the cost of the shift.
    fn estimate(&self) -> Result<(Matrix, Interval)> {
        if self.mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        let (mut y, omega) = self.sketch();
        let (d, size) = (self.dim() as f64, self.sketch_size());
        let shift = d.sqrt() * f64::EPSILON * eigh(&gram(y.t()))?.values[0].max(0.0).sqrt() + self.rounding / self.mass;
        y.add_scaled(shift, omega)?;
        let core = matmul(omega.t(), &y)?;
        let eigen = eigh(&Matrix::from_fn(size, size, |i, j| 0.5 * (core[(i, j)] + core[(j, i)])))?;
        let positive = eigen.values.iter().take_while(|&&value| value > 0.0).count();
        let root = Matrix::from_fn(size, positive, |i, j| eigen.vectors[(i, j)] / eigen.values[j].sqrt());
        let mut b = y;
        matmul_in_place(&mut b, &root)?;
        // An eigenvalue of BᵀB is one of F̂, so that forming the product costs rounding of ε‖F̂‖ and no more.
        let eigen = eigh(&gram(b.t()))?;
        let rank = eigen.values.iter().take_while(|&&square| square > shift).count();
        let scaled =
            Matrix::from_fn(positive, rank, |i, j| eigen.vectors[(i, j)] * ((eigen.values[j] - shift) / eigen.values[j]).sqrt());
        let values = eigen.values[..rank].iter().map(|square| square - shift).collect();
        matmul_in_place(&mut b, &scaled)?;
        let nystrom = Factored { columns: b, values };

        let trace = self.trace.value() / self.mass;
        let eta = 4.0 * shift + 32.0 * f64::EPSILON * nystrom.values.first().copied().unwrap_or(0.0);
        let below = eta + self.replaced / self.mass;
        let missing = trace - nystrom.trace();
        let interval = Interval { lo: -below, hi: missing.max(0.0) + size as f64 * below, certainty: Certainty::Deterministic {} };
        if !is_worthwhile(missing, trace) {
            return Ok((nystrom.into_columns(), interval));
        }
        // Nyström's interval, moved by the difference of the two estimates, holds for the other.
        Ok(match recover(&self.sketch().0, omega, shift, trace)? {
            None => (nystrom.into_columns(), interval),
            Some(recovered) => {
                let (least, greatest) = difference_range(&recovered, &nystrom)?;
                (recovered.into_columns(), Interval { lo: interval.lo - greatest - eta, hi: interval.hi - least + eta, ..interval })
            }
        })
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
        check_len("gradient block dimension", block.dim(), self.dim())?;
        // Y += Gᵀ(GΩ)
        let (projected, squared_norms) = block.project_with_norms(&self.omega)?;
        block.accumulate_into(&projected, &mut self.sketch)?;
        if let Some(probes) = &mut self.probes {
            probes.absorb(block, &squared_norms)?;
        }
        self.mass += block.samples() as f64;
        squared_norms.iter().for_each(|&s| self.trace.add(s));
        // ‖GᵀGΩ‖_F is at most Σ ‖s‖‖Ωᵀs‖, and at most the whole sum's norm.
        let by_row = projected.t().to_matrix();
        let rows: f64 = squared_norms.iter().enumerate().map(|(i, s)| (s * dot(by_row.col(i), by_row.col(i))).sqrt()).sum();
        let total = self.sketch.norm();
        self.round(total, (block.rows() as f64).sqrt() * rows.min(total));
        Ok(())
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
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
                format!("d = {d}, ℓ = {size}, {probes} probes, {:?} Ω of {:?}", s.test_matrix, s.key)
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
        let mut fresh = self.test_matrix.draw(self.dim(), size - present, self.key.named("growth").child(present as u64))?;
        for _ in 0..2 {
            let overlap = matmul(self.omega.t(), &fresh)?;
            matmul_add(&mut fresh, -1.0, &self.omega, &overlap)?;
            fresh = qr(&fresh)?.0;
        }
        let omega = [self.omega.as_slice(), fresh.as_slice()].concat();
        let omega = Matrix::from_columns(self.dim(), size, omega)?;
        if self.mass > 0.0 {
            let (estimate, interval) = self.estimate()?;
            let rows: GradientBlock = DenseRows::new(estimate, 1)?.into();
            let mut sketch = rows.accumulate(&rows.project(&omega)?)?;
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
        let approximation = LowRank::new(DenseRows::new(estimate, 1)?.into(), 1.0, Some(interval))?;
        let probed = match &self.probes {
            None => None,
            Some(probes) => Some(probes.residual(self.mass, &approximation, approximation.trace())?),
        };
        Ok(Box::new(approximation.with_probes(probed)))
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
