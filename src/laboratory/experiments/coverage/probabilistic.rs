//! Bounds that may fail with a probability δ, in one replicate: everything random in it is drawn anew, and every δ is tried on the same
//! draw. Statements of one replicate count once, however many coordinates they speak of.

use super::deterministic::{FedHypergradient, HYPERGRADIENT_DAMPING, config, quadratic, spectrum};
use super::tally::{Statement, all_of};
use crate::bilevel::certified_nhgd;
use crate::bounds::{BoundedRows, FailureRate, mean_with_limits, quantile_with_limits};
use crate::curvature::Approximation;
use crate::dense::{Matrix, difference, eigh, matmul, norm};
use crate::error::{Error, Result};
use crate::gradient::{DenseRows, GradientBlock};
use crate::inverse::KnownCurvature;
use crate::rng::Key;
use crate::testkit::cases::{Case, with_spectrum};
use crate::testkit::reference::{ResidualRange, dense_solve, fisher, fisher_minus};

/// d, the sketch size and the probes of what is sketched here.
const DIM: usize = 24;
const SIZE: usize = 6;
const PROBES: usize = 4;
/// The name of the spectrum of rank ℓ + 1: of it a Nyström sketch leaves a residual of rank one.
pub const RANK_ONE: &str = "residual of rank one";

/// λ_max(F − F̂) is at most the upper end of the interval.
pub const UPPER: &str = "upper end with probes";
/// ‖c − x‖ is at most the radius, for a random right-hand side and for one along the largest of what the sketch left out.
pub const RADIUS: [&str; 2] = ["radius with probes, random v", "radius with probes, v along the residual"];
/// The hypergradient: its norm, and all of its coordinates at once.
pub const HYPERGRADIENT: [&str; 2] = ["hypergradient norm with probes", "hypergradient coordinates with probes, all"];
/// λ_max, −λ_min and the norm of (F + μI)^{-1/2}(F_n − F)(F + μI)^{-1/2}; the last at δ/2 on each side.
pub const BERNSTEIN: [&str; 3] = ["matrix Bernstein, above", "matrix Bernstein, below", "matrix Bernstein, both sides at δ/2"];
/// The limits that other experiments put around what they measure.
pub const LIMITS: [&str; 3] = ["order-statistic limits", "Clopper-Pearson limits", "Student limits of a normal mean"];

/// A sketch of this family with probes, and what it was fed.
struct Sketched {
    case: Case,
    approximation: Box<dyn Approximation>,
}

impl Sketched {
    fn new(family: &str, spectrum_name: &str, key: Key) -> Result<Self> {
        let eigenvalues = if spectrum_name == RANK_ONE { spectrum("j⁻¹", SIZE + 1) } else { spectrum(spectrum_name, DIM) };
        let case = with_spectrum(key.child(1), DIM + 6, DIM, &eigenvalues)?;
        let mut curvature = config(family, SIZE, PROBES).build(DIM, key.child(2))?;
        curvature.absorb(&case.block)?;
        Ok(Self { approximation: curvature.approximate()?, case })
    }
}

/// The interval of a probed sketch: the smaller of the probes' bound and the trace's, of which only the former can fail.
///
/// # Errors
/// Whatever the family meets.
pub fn interval(family: &str, spectrum_name: &str, deltas: &[f64], key: Key) -> Result<Vec<Statement>> {
    intervals_at(family, spectrum_name, deltas, 1.0, key)
}

/// The same with the bound taken at `inflation` times the δ that it is said to be of: 1, or a planted fault.
pub(super) fn intervals_at(family: &str, spectrum_name: &str, deltas: &[f64], inflation: f64, key: Key) -> Result<Vec<Statement>> {
    let Sketched { case, approximation } = Sketched::new(family, spectrum_name, key)?;
    let estimate = approximation.to_dense()?;
    let range = ResidualRange::new(&fisher_minus(&[(&case, 1.0)], Some(&estimate)), &estimate)?;
    let at = |&delta: &f64| {
        let interval = approximation.interval_at(inflation * delta)?.ok_or_else(without_interval)?;
        Ok(Statement::bound(UPPER, delta, range.high, interval.hi, range.rounding))
    };
    deltas.iter().map(at).collect()
}

fn without_interval() -> Error {
    Error::unsupported("coverage of a family without an interval", "take `nystrom` or `frequent-directions`")
}

/// The radius of an inverse product at μ = λ₁/20.
///
/// # Errors
/// Whatever the family meets.
pub fn radius(family: &str, spectrum_name: &str, deltas: &[f64], key: Key) -> Result<Vec<Statement>> {
    let Sketched { case, approximation } = Sketched::new(family, spectrum_name, key)?;
    let known = KnownCurvature::scalar(DIM, 0.05)?;
    let f = fisher(&[&case]);
    let residual = eigh(&fisher_minus(&[(&case, 1.0)], Some(&approximation.to_dense()?)))?;
    let right_hand_sides = [key.child(3).stream().normals(DIM), residual.vectors.col(0).to_vec()];
    let exact = right_hand_sides.iter().map(|v| dense_solve(&f, &known, v)).collect::<Result<Vec<_>>>()?;
    let mut out = Vec::new();
    for &delta in deltas {
        let bracket = approximation.bracket(&known, Some(delta))?;
        for ((name, v), exact) in RADIUS.into_iter().zip(&right_hand_sides).zip(&exact) {
            let certified = bracket.solve(v)?;
            let error = norm(&difference(&certified.midpoint, exact));
            out.push(Statement::bound(name, delta, error, certified.radius, 4.0 * f64::EPSILON * norm(exact)));
        }
    }
    Ok(out)
}

/// The hypergradient of a random quadratic problem against that with the fed matrix.
///
/// # Errors
/// Whatever the family meets.
pub fn hypergradient(family: &str, deltas: &[f64], key: Key) -> Result<Vec<Statement>> {
    let problem = quadratic(key)?;
    let mut stream = key.child(1).stream();
    let (outer, inner) = (stream.normals(problem.outer_dim()), stream.normals(problem.inner_dim()));
    let fed = FedHypergradient::new(&*problem, inner, outer)?;
    let approximation = fed.sketch(&*problem, &config(family, PROBES, PROBES), key.child(2))?;
    let [whole, all] = HYPERGRADIENT;
    let mut out = Vec::new();
    for &delta in deltas {
        let found = certified_nhgd(&*problem, &fed.outer, &fed.inner, &*approximation, HYPERGRADIENT_DAMPING, Some(delta))?;
        let error = difference(&found.value, &fed.value);
        let coordinate = |(error, bound): (&f64, &f64)| Statement::bound(all, delta, error.abs(), *bound, fed.rounding());
        let coordinates: Vec<Statement> = error.iter().zip(found.coordinates.iter().flatten()).map(coordinate).collect();
        out.push(Statement::bound(whole, delta, norm(&error), found.norm.unwrap_or(f64::NAN), fed.rounding()));
        out.push(all_of(all, delta, &coordinates));
    }
    Ok(out)
}

/// A finite population of bounded rows, whitened.
pub struct Population {
    bounded: BoundedRows,
    /// (F + μI)^{-1/2}s for each row, rows × d.
    white: Matrix,
    /// (F + μI)^{-1/2}F(F + μI)^{-1/2}.
    whole: Matrix,
}

impl Population {
    /// 50 rows of length 4 with a decaying spectrum, every tenth twice as long; μ = ‖F‖/50.
    ///
    /// # Errors
    /// None in practice.
    pub fn new(key: Key) -> Result<Self> {
        const ROWS: usize = 50;
        let mut stream = key.stream();
        let length = |i: usize| if i.is_multiple_of(10) { 2.0 } else { 1.0 };
        let rows = Matrix::from_fn(4, ROWS, |j, i| length(i) * stream.normal() / (1 + j) as f64);
        let block: GradientBlock = DenseRows::new(rows.clone(), 1)?.into();
        let mut f = block.scatter()?;
        f.scale(1.0 / ROWS as f64);
        let eigen = eigh(&f)?;
        let damping = eigen.values[0] / 50.0;
        let scaled = Matrix::from_fn(4, 4, |i, j| eigen.vectors[(i, j)] / (eigen.values[j] + damping).sqrt());
        let whitener = matmul(&scaled, eigen.vectors.t())?;
        let whole = matmul(&matmul(&whitener, &f)?, &whitener)?;
        Ok(Self { bounded: BoundedRows::of_rows(&block, damping)?, white: matmul(rows.t(), &whitener)?, whole })
    }

    /// Matrix Bernstein for n rows drawn with replacement.
    ///
    /// # Errors
    /// None in practice.
    pub fn bernstein(&self, n: usize, deltas: &[f64], key: Key) -> Result<Vec<Statement>> {
        let (rows, d) = (self.white.nrows(), self.white.ncols());
        let drawn = key.stream().indices(rows, n)?;
        let picked = Matrix::from_fn(n, d, |i, j| self.white[(drawn[i], j)]);
        let mut deviation = matmul(picked.t(), &picked)?;
        deviation.scale(1.0 / n as f64);
        deviation.add_scaled(-1.0, &self.whole)?;
        let values = eigh(&deviation)?.values;
        let (above, below) = (values[0], -values[d - 1]);
        let [name_above, name_below, name_both] = BERNSTEIN;
        let mut out = Vec::new();
        for &delta in deltas {
            let (one, both) = (self.bounded.deviation(n, delta)?, self.bounded.deviation(n, 0.5 * delta)?);
            out.push(Statement::bound(name_above, delta, above, one, 0.0));
            out.push(Statement::bound(name_below, delta, below, one, 0.0));
            out.push(Statement::bound(name_both, delta, above.max(below), both, 0.0));
        }
        Ok(out)
    }
}

/// Limits with confidence 1 − δ: of the 0.9-quantile of 100 Pareto numbers, of a rate of 5 % in 200 trials, of the mean of 10 normal numbers.
///
/// # Errors
/// None in practice.
pub fn limits(deltas: &[f64], key: Key) -> Result<Vec<Statement>> {
    let mut stream = key.stream();
    // Exponent 1: the p-quantile is 1/(1 − p), and there is no mean.
    let pareto: Vec<f64> = (0..100).map(|_| 1.0 / (1.0 - stream.uniform())).collect();
    let failures = (0..200).filter(|_| stream.uniform() < 0.05).count() as u64;
    let normals = stream.normals(10);
    let outside = |(low, high): (f64, f64), truth: f64| !(low <= truth && truth <= high);
    let mut out = Vec::new();
    for &delta in deltas {
        let confidence = 1.0 - delta;
        let quantile = quantile_with_limits(&pareto, 0.9, confidence)?;
        let rate = FailureRate::new(failures, 200)?.limits(confidence)?;
        let (mean, half) = mean_with_limits("normals", &normals, confidence)?;
        let failed = [outside((quantile.lower, quantile.upper), 10.0), outside(rate, 0.05), mean.abs() > half];
        out.extend(LIMITS.into_iter().zip(failed).map(|(name, failed)| Statement::event(name, delta, failed)));
    }
    Ok(out)
}
