//! What a sketch may lose of a matrix F, from the eigenvalues λ₁ ≥ λ₂ ≥ … ≥ 0 of F alone: before anything is sketched. The families'
//! intervals say afterwards, with what they have seen, what a given sketch did lose (`Approximation::interval`); these say what to
//! expect of its size. Everything is in the unit of F, in exact arithmetic: the families' allowances for rounding come on top.

use crate::error::{Error, Result, check_count, check_finite};

/// Frequent Directions with sketch size ℓ: ‖F − F̂‖ ≤ min over k ≤ ℓ of Σ_{i>k} λ_i/(ℓ + 1 − k), 0 ≼ F − F̂, always (Ghashami, Liberty,
/// Phillips & Woodruff 2016, Theorem 1.1, for m = ℓ + 1 rows before a shrink, whatever the chunks; decay and merges included, F then
/// the decayed and merged matrix).
///
/// # Errors
/// [`Error::Argument`] for a sketch size of 0 or eigenvalues that are no descending spectrum; [`Error::NotFinite`].
pub fn frequent_directions(eigenvalues: &[f64], sketch_size: usize) -> Result<f64> {
    check_count("sketch_size", sketch_size)?;
    let tails = tail_sums(eigenvalues)?;
    let bound = |k: usize| tail(&tails, k) / (sketch_size + 1 - k) as f64;
    Ok((0..=sketch_size).map(bound).fold(f64::INFINITY, f64::min))
}

/// Robust Frequent Directions: ‖F − F̂ − (Δ/2)I‖ ≤ Δ/2, half of [`frequent_directions`], always (Luo, Chen, Zhang, Li & Zhang 2019).
///
/// # Errors
/// As [`frequent_directions`].
pub fn robust_frequent_directions(eigenvalues: &[f64], sketch_size: usize) -> Result<f64> {
    Ok(0.5 * frequent_directions(eigenvalues, sketch_size)?)
}

/// A Nyström sketch with ℓ Gaussian columns: E‖F − F̂‖ ≤ min over 2 ≤ p ≤ ℓ − 2 of (1 + 2(ℓ − p)/(p − 1)) λ_{ℓ−p+1} + (2e²ℓ/(p² − 1)) Σ_{j>ℓ−p} λ_j
/// (Frangella, Tropp & Udell 2023, Proposition 2.2), and at most [`nystrom_trace`], whose bound of tr(F − F̂) ≥ ‖F − F̂‖ is the smaller one
/// on flat spectra.
///
/// F̂ = FΩ(ΩᵀFΩ)⁺ΩᵀF depends on the range of Ω alone and is linear in the stream only through FΩ: the sketch of one pass, decayed or merged,
/// is that of the matrix in the same state.
///
/// # Errors
/// As [`frequent_directions`].
pub fn nystrom(eigenvalues: &[f64], sketch_size: usize) -> Result<f64> {
    let by_trace = nystrom_trace(eigenvalues, sketch_size)?;
    Ok(nystrom_spectral(eigenvalues, &tail_sums(eigenvalues)?, sketch_size).min(by_trace))
}

fn nystrom_spectral(eigenvalues: &[f64], tails: &[f64], sketch_size: usize) -> f64 {
    let size = sketch_size as f64;
    let bound = |excess: usize| {
        let (kept, p) = (sketch_size - excess, excess as f64);
        let next = eigenvalues.get(kept).copied().unwrap_or(0.0);
        let e = std::f64::consts::E;
        (1.0 + 2.0 * kept as f64 / (p - 1.0)) * next + 2.0 * e * e * size / (p * p - 1.0) * tail(tails, kept)
    };
    (2..=sketch_size.saturating_sub(2)).map(bound).fold(f64::INFINITY, f64::min)
}

/// The same sketch: E tr(F − F̂) ≤ min over k ≤ ℓ − 2 of (1 + k/(ℓ − k − 1)) Σ_{j>k} λ_j (Halko, Martinsson & Tropp 2011, Theorem 10.5, of
/// √F), and tr F.
///
/// # Errors
/// As [`frequent_directions`].
pub fn nystrom_trace(eigenvalues: &[f64], sketch_size: usize) -> Result<f64> {
    check_count("sketch_size", sketch_size)?;
    let tails = tail_sums(eigenvalues)?;
    let bound = |k: usize| (1.0 + k as f64 / (sketch_size - k - 1) as f64) * tail(&tails, k);
    Ok((0..sketch_size.saturating_sub(1)).map(bound).fold(tail(&tails, 0), f64::min))
}

/// Σ_{j>k} λ_j for each k.
fn tail_sums(eigenvalues: &[f64]) -> Result<Vec<f64>> {
    check_spectrum(eigenvalues)?;
    let mut tails: Vec<f64> = eigenvalues
        .iter()
        .rev()
        .scan(0.0, |sum, value| {
            Some({
                *sum += value;
                *sum
            })
        })
        .collect();
    tails.reverse();
    Ok(tails)
}

fn tail(tails: &[f64], k: usize) -> f64 {
    tails.get(k).copied().unwrap_or(0.0)
}

/// Checks that eigenvalues are finite, descending and not negative.
pub(super) fn check_spectrum(eigenvalues: &[f64]) -> Result<()> {
    check_count("eigenvalues", eigenvalues.len())?;
    check_finite("eigenvalues", eigenvalues)?;
    if let Some(pair) = eigenvalues.windows(2).find(|pair| pair[0] < pair[1]) {
        return Err(Error::argument("eigenvalues", "a descending order", format_args!("{} before {}", pair[0], pair[1])));
    }
    match eigenvalues.last() {
        Some(&least) if least < 0.0 => Err(Error::argument("eigenvalues", "numbers of at least 0", least)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::{CurvatureConfig, FrequentDirectionsConfig, NystromConfig};
    use crate::dense::{Matrix, eigh, matmul, qr};
    use crate::gradient::{DenseRows, GradientBlock};
    use crate::par;
    use crate::rng::Key;

    const DIM: usize = 40;

    fn spectra() -> [(&'static str, Vec<f64>); 4] {
        let of = |f: fn(f64) -> f64| (0..DIM).map(|j| f(j as f64)).collect::<Vec<_>>();
        [
            ("0.7ʲ", of(|j| 0.7_f64.powf(j))),
            ("j⁻¹", of(|j| 1.0 / (1.0 + j))),
            ("flat", of(|_| 1.0)),
            ("a head on a flat tail", of(|j| if j < 5.0 { 10.0 } else { 0.01 })),
        ]
    }

    /// Rows in random order and directions whose GᵀG/DIM has the eigenvalues, and that matrix.
    fn matrix(eigenvalues: &[f64], key: Key) -> (GradientBlock, Matrix) {
        let orthogonal = |key: Key| qr(&Matrix::from_columns(DIM, DIM, key.stream().normals(DIM * DIM)).unwrap()).unwrap().0;
        let (left, right) = (orthogonal(key.child(0)), orthogonal(key.child(1)));
        let scaled = Matrix::from_fn(DIM, DIM, |i, j| left[(i, j)] * (eigenvalues[j] * DIM as f64).sqrt());
        let rows = matmul(&scaled, right.t()).unwrap();
        let mut fisher = matmul(rows.t(), &rows).unwrap();
        fisher.scale(1.0 / DIM as f64);
        (DenseRows::new(rows.t().to_matrix(), 1).unwrap().into(), fisher)
    }

    /// ‖F − F̂‖ and tr(F − F̂), F streamed in four pieces.
    fn errors(config: &CurvatureConfig, eigenvalues: &[f64], key: Key) -> (f64, f64) {
        let (rows, mut residual) = matrix(eigenvalues, key);
        let mut sketch = config.build(DIM, key.named("sketch")).unwrap();
        (0..4).for_each(|i| sketch.absorb(&rows.part(10 * i..10 * i + 10)).unwrap());
        residual.add_scaled(-1.0, &sketch.approximate().unwrap().to_dense().unwrap()).unwrap();
        let values = eigh(&residual).unwrap().values;
        (values[0].max(-values[DIM - 1]), residual.trace())
    }

    #[test]
    fn frequent_directions_never_exceed_their_bound() {
        for (name, eigenvalues) in spectra() {
            for size in [1, 2, 4, 9, 20, 39] {
                let bound = frequent_directions(&eigenvalues, size).unwrap();
                let half = robust_frequent_directions(&eigenvalues, size).unwrap();
                // The definition again, term by term.
                let slow = (0..=size).map(|k| eigenvalues[k.min(DIM)..].iter().sum::<f64>() / (size + 1 - k) as f64);
                assert!((bound / slow.fold(f64::INFINITY, f64::min) - 1.0).abs() < 1e-12);
                for seed in 0..5 {
                    let settings = || FrequentDirectionsConfig { sketch_size: size, ..Default::default() };
                    let (plain, _) = errors(&CurvatureConfig::FrequentDirections(settings()), &eigenvalues, Key::new(seed));
                    let (robust, _) = errors(&CurvatureConfig::RobustFrequentDirections(settings()), &eigenvalues, Key::new(seed));
                    assert!(plain <= bound * (1.0 + 1e-9) + 1e-13, "{name}, ℓ = {size}: {plain} above {bound}");
                    assert!(robust <= half * (1.0 + 1e-9) + 1e-13, "{name}, ℓ = {size}: {robust} above {half}");
                }
            }
        }
    }

    /// Means of 200 sketches. Their standard error is below a tenth of the bounds, which are met with room.
    #[test]
    fn nystrom_stays_below_its_expectations() {
        for (name, eigenvalues) in spectra() {
            for size in [2, 4, 8, 16, 30] {
                let config = CurvatureConfig::Nystrom(NystromConfig { sketch_size: size, probes: Some(0), ..Default::default() });
                let found = par::map((0..200).collect(), |seed: u64| errors(&config, &eigenvalues, Key::new(seed)));
                let mean = |f: fn(&(f64, f64)) -> f64| found.iter().map(f).sum::<f64>() / 200.0;
                let (norm, trace) = (mean(|e| e.0), mean(|e| e.1));
                let (norm_bound, trace_bound) = (nystrom(&eigenvalues, size).unwrap(), nystrom_trace(&eigenvalues, size).unwrap());
                let spectral = nystrom_spectral(&eigenvalues, &tail_sums(&eigenvalues).unwrap(), size);
                assert!(norm <= norm_bound && norm <= spectral, "{name}, ℓ = {size}: {norm} above {norm_bound} or {spectral}");
                assert!(trace <= trace_bound, "{name}, ℓ = {size}: {trace} above {trace_bound}");
                // On a flat spectrum the trace bound is an equality up to its constants.
                assert!(name != "flat" || trace_bound < 1.4 * DIM as f64, "{trace_bound}");
            }
        }
    }

    /// The worked values of the formulas, by hand.
    #[test]
    fn small_cases_are_those_of_the_formulas() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
        // ℓ = 2: k = 0 gives 7/3, k = 1 3/2, k = 2 1/1.
        close(frequent_directions(&[4.0, 2.0, 1.0], 2).unwrap(), 1.0);
        close(frequent_directions(&[4.0, 4.0, 4.0, 4.0], 2).unwrap(), 16.0 / 3.0);
        // ℓ = 3: k = 0 gives 7, k = 1 (1 + 1/1)·3.
        close(nystrom_trace(&[4.0, 2.0, 1.0], 3).unwrap(), 6.0);
        // ℓ = 4: p = 2 alone, (1 + 2·2/1)·1 + (8e²/3)·1.
        let e2 = std::f64::consts::E.powi(2);
        close(nystrom_spectral(&[9.0, 8.0, 1.0], &tail_sums(&[9.0, 8.0, 1.0]).unwrap(), 4), 5.0 + 8.0 * e2 / 3.0);
        // Where the rank is below ℓ − 1 nothing is left.
        close(nystrom(&[9.0, 8.0], 4).unwrap(), 0.0);
    }

    #[test]
    fn what_is_no_spectrum_is_refused() {
        for eigenvalues in [&[][..], &[1.0, 2.0], &[1.0, -0.5], &[f64::NAN, 1.0]] {
            for bound in [frequent_directions, robust_frequent_directions, nystrom, nystrom_trace] {
                assert_eq!(bound(eigenvalues, 3).unwrap_err().offending_argument(), Some("eigenvalues"), "{eigenvalues:?}");
            }
        }
        assert_eq!(nystrom(&[1.0], 0).unwrap_err().offending_argument(), Some("sketch_size"));
    }
}
