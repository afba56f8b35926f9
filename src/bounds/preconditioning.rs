//! What a sketch is worth as a preconditioner P = F̂ + Λ' of F + Λ': bounds of the condition number, the sketch size that makes it a
//! constant, and the iterations that follow (Frangella, Tropp & Udell 2023).

use super::sketch::check_spectrum;
use crate::error::{Error, Result, check_nonnegative, check_positive};

/// What κ(P^{-1/2}(F + μI)P^{-1/2}) is below in the mean, for Λ' = μI and [`sketch_size`] columns (Frangella, Tropp & Udell 2023, Theorem
/// 1.1; theirs is P/(λ_ℓ + μ) on the range of F̂ and I elsewhere, whose bound of κ is the larger one).
pub const EXPECTED_CONDITION: f64 = 28.0;

/// κ(P^{-1/2}(F + Λ')P^{-1/2}) ≤ 1 + ‖E‖/λ_min(Λ') for 0 ≼ E = F − F̂ and any Λ' ≻ 0: F + Λ' = P + E, and P^{-1/2}EP^{-1/2} lies between 0 and
/// ‖E‖/λ_min(P). Deterministic; ‖E‖ and λ_min(Λ') in the unit of F.
///
/// # Errors
/// [`Error::Argument`] for a negative ‖E‖ or a λ_min that is not positive.
pub fn condition(residual_norm: f64, min_known: f64) -> Result<f64> {
    check_nonnegative("residual_norm", residual_norm)?;
    check_positive("min_known", min_known)?;
    Ok(1.0 + residual_norm / min_known)
}

/// d_eff(μ) = Σ λ/(λ + μ).
///
/// # Errors
/// [`Error::Argument`] for a μ that is not positive or eigenvalues that are no descending spectrum; [`Error::NotFinite`].
pub fn effective_dimension(eigenvalues: &[f64], damping: f64) -> Result<f64> {
    check_spectrum(eigenvalues)?;
    check_positive("damping", damping)?;
    Ok(eigenvalues.iter().map(|value| value / (value + damping)).sum())
}

/// ℓ = 2⌈1.5 d_eff(μ)⌉ + 1 Gaussian columns of a Nyström sketch, with which the expected condition number is below
/// [`EXPECTED_CONDITION`]. It may exceed d, where a sketch of size d is exact.
///
/// # Errors
/// As [`effective_dimension`].
pub fn sketch_size(eigenvalues: &[f64], damping: f64) -> Result<usize> {
    Ok(2 * (1.5 * effective_dimension(eigenvalues, damping)?).ceil() as usize + 1)
}

/// Iterations of conjugate gradients after which ‖x_k − x‖_A ≤ tolerance·‖x_0 − x‖_A: the least k with 2((√κ − 1)/(√κ + 1))^k ≤ tolerance
/// (Chebyshev's bound, Saad 2003, section 6.11.3).
///
/// # Errors
/// [`Error::Argument`] for a κ below 1 or a tolerance outside (0, 1).
pub fn cg_iterations(condition: f64, tolerance: f64) -> Result<usize> {
    if !(condition >= 1.0 && condition.is_finite()) {
        return Err(Error::argument("condition", "a finite number of at least 1", condition));
    }
    super::coverage::check_inside("tolerance", tolerance)?;
    let root = condition.sqrt();
    // ln((√κ + 1)/(√κ − 1)) without cancellation; for κ = 1 one step is exact.
    let rate = (2.0 / (root - 1.0)).ln_1p();
    Ok(if rate.is_finite() { ((2.0 / tolerance).ln() / rate).ceil() as usize } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::{CurvatureConfig, NystromConfig};
    use crate::dense::{Matrix, dot, eigh, matmul, norm};
    use crate::gradient::{DenseRows, GradientBlock};
    use crate::inverse::{SolveOptions, conjugate_gradients};
    use crate::operator::{Diagonal, LinearOperator};
    use crate::par;
    use crate::rng::Key;

    /// On diagonal matrices F and an uneven Λ': κ by its definition, against the bound with the ‖E‖ that the sketch has.
    #[test]
    fn no_condition_number_exceeds_its_bound_and_the_mean_is_below_28() {
        let d = 60;
        for (eigenvalues, mu) in [
            ((0..d).map(|j| 1.0 / (1 + j * j) as f64).collect::<Vec<_>>(), 1e-2),
            ((0..d).map(|j| 0.8_f64.powi(j)).collect(), 1e-3),
        ] {
            let d = d as usize;
            let rows = Matrix::from_fn(d, d, |i, j| if i == j { (eigenvalues[j] * d as f64).sqrt() } else { 0.0 });
            let block: GradientBlock = DenseRows::new(rows, 1).unwrap().into();
            let size = sketch_size(&eigenvalues, mu).unwrap().min(d);
            let measure = |seed: u64, known: &dyn Fn(usize) -> f64| {
                let config = NystromConfig { sketch_size: size, probes: Some(0), ..Default::default() };
                let mut sketch = CurvatureConfig::Nystrom(config).build(d, Key::new(seed)).unwrap();
                sketch.absorb(&block).unwrap();
                let estimate = sketch.approximate().unwrap().to_dense().unwrap();
                let minus = |i, j| if i == j { eigenvalues[i] } else { 0.0 } - estimate[(i, j)];
                let error = eigh(&Matrix::from_fn(d, d, minus)).unwrap().values[0];
                let mut preconditioner = estimate;
                (0..d).for_each(|i| preconditioner[(i, i)] += known(i));
                let eigen = eigh(&preconditioner).unwrap();
                let half = Matrix::from_fn(d, d, |i, j| eigen.vectors[(i, j)] / eigen.values[j].sqrt());
                let weighted = Matrix::from_fn(d, d, |i, j| (eigenvalues[i] + known(i)) * half[(i, j)]);
                let values = eigh(&matmul(half.t(), &weighted).unwrap()).unwrap().values;
                (values[0] / values[d - 1], condition(error.max(0.0), mu).unwrap())
            };
            let uneven = |i: usize| mu * (1.0 + (i % 3) as f64);
            for (found, bound) in par::map((0..40).collect(), |seed| measure(seed, &uneven)) {
                assert!(found <= bound * (1.0 + 1e-9), "{found} above {bound}");
            }
            let conditions = par::map((0..100).collect(), |seed| measure(seed, &|_| mu).0);
            let mean = conditions.iter().sum::<f64>() / 100.0;
            assert!(mean < EXPECTED_CONDITION, "{mean}");
        }
    }

    #[test]
    fn conjugate_gradients_need_no_more_iterations_than_said() {
        let d = 300;
        for condition in [4.0, 100.0, 2500.0] {
            let entries: Vec<f64> = (0..d).map(|i| 1.0 + (condition - 1.0) * i as f64 / (d - 1) as f64).collect();
            let matrix = Diagonal::new(entries.clone()).unwrap();
            let exact = Key::new(1).stream().normals(d);
            let b = matrix.apply(&exact).unwrap();
            let energy = |x: &[f64]| dot(x, &matrix.apply(x).unwrap()).sqrt();
            for tolerance in [0.1, 1e-3, 1e-6] {
                let iterations = cg_iterations(condition, tolerance).unwrap();
                let options = SolveOptions { tolerance: 1e-15, max_iterations: iterations };
                let found = conjugate_gradients(&matrix, &b, options).unwrap().solution;
                let error: Vec<f64> = found.iter().zip(&exact).map(|(x, y)| x - y).collect();
                assert!(energy(&error) <= tolerance * energy(&exact), "κ = {condition}, {tolerance}, {}", norm(&error));
                // The defining inequality, and that one iteration less would not do.
                let factor = |k: usize| 2.0 * ((condition.sqrt() - 1.0) / (condition.sqrt() + 1.0)).powi(k as i32);
                assert!(factor(iterations) <= tolerance && factor(iterations - 1) > tolerance);
            }
        }
        assert_eq!(cg_iterations(1.0, 0.5).unwrap(), 1);
    }

    #[test]
    fn the_size_follows_the_effective_dimension() {
        // Σ λ/(λ + 1) of (3, 1, 0): 3/4 + 1/2.
        assert_eq!(effective_dimension(&[3.0, 1.0, 0.0], 1.0).unwrap(), 1.25);
        assert_eq!(sketch_size(&[3.0, 1.0, 0.0], 1.0).unwrap(), 5);
        assert_eq!(condition(0.0, 1.0).unwrap(), 1.0);
        let name = |e: Error| e.offending_argument();
        assert_eq!(condition(-1.0, 1.0).map_err(name), Err(Some("residual_norm")));
        assert_eq!(condition(1.0, 0.0).map_err(name), Err(Some("min_known")));
        assert_eq!(effective_dimension(&[1.0], 0.0).map_err(name), Err(Some("damping")));
        assert_eq!(cg_iterations(0.5, 0.1).map_err(name), Err(Some("condition")));
        assert_eq!(cg_iterations(2.0, 1.0).map_err(name), Err(Some("tolerance")));
    }
}
