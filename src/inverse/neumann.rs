//! Neumann's series x_K = τ Σ_{k<K} (I − τA)^k b for A⁻¹b, as the iteration x ← x + τ(b − A x) (Richardson 1910; for hypergradients
//! Lorraine, Vicol & Duvenaud 2020). It converges for 0 < τ < 2/λ_max, with the error (I − τA)^K A⁻¹b; τ comes from a spectral
//! estimate, or is given.

use super::lanczos::{SpectralEstimate, extreme_eigenvalues};
use super::solve::{SolveOptions, SolveReport, Target};
use crate::dense::{axpy, difference, dot, norm};
use crate::error::{Error, Result, Status, check_positive};
use crate::operator::LinearOperator;
use crate::rng::Key;

/// Where the step τ comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NeumannStep {
    /// τ = safety / λ̂, with λ̂ ≤ λ_max the largest Rayleigh quotient that Lanczos finds.
    Spectral {
        /// Products to spend on λ̂.
        products: usize,
        /// In (0, 2). At 1 the iteration converges even where λ̂ is barely half of λ_max.
        safety: f64,
        /// The start of Lanczos.
        key: Key,
    },
    /// τ itself.
    Given(f64),
}

impl Default for NeumannStep {
    fn default() -> Self {
        Self::Spectral { products: 20, safety: 1.0, key: Key::new(0) }
    }
}

/// What Neumann's series did.
#[derive(Debug, Clone, PartialEq)]
pub struct NeumannReport {
    /// The solution, its cost (the spectral estimate's products included) and how it ended.
    pub solve: SolveReport,
    /// τ; 0 where none could be found.
    pub step: f64,
    /// What τ was taken from, unless it was given or the estimate left the finite numbers.
    pub spectrum: Option<SpectralEstimate>,
}

/// A residual that has grown to this many times its least will not come back.
const HOPELESS: f64 = 10.0;
/// Iterations without a smaller residual, nor one larger by more than rounding, after which it will not fall further.
const STAGNATION: usize = 20;

/// Solves A x = b for a symmetric positive definite A: K = `max_iterations` terms of the series, or fewer where the tolerance is met.
/// One product an iteration, whose residual is that of the next one; the solution is the iterate of least residual.
///
/// For 0 ≼ A and τ < 2/λ_max no residual is larger than the one before. So a direction r with rᵀAr ≤ 0 ends it with
/// [`Status::NegativeCurvature`], a residual that grows nevertheless with [`Status::Diverged`]: τ is too large. A residual that
/// rounding keeps from falling further (the last digits, or a b outside the range of A), or an overflow, ends it with
/// [`Status::Breakdown`].
///
/// # Errors
/// [`Error::Shape`], [`Error::NotFinite`] for a bad right-hand side, [`Error::Argument`] for bad options or a step that is not
/// positive, and whatever the product itself can meet.
pub fn neumann<A: LinearOperator + ?Sized>(a: &A, b: &[f64], options: SolveOptions, step: NeumannStep) -> Result<NeumannReport> {
    let target = Target::new(a.dim(), b, options)?;
    check_step(step)?;
    let zero = vec![0.0; b.len()];
    if target.norm == 0.0 {
        return Ok(NeumannReport { solve: target.report(&zero, 0.0, (0, 0), Status::Converged {}), step: 0.0, spectrum: None });
    }
    let (tau, spectrum, spent) = match step {
        NeumannStep::Given(tau) => (tau, None, 0),
        NeumannStep::Spectral { products, safety, key } => {
            let (spectrum, spent) = extreme_eigenvalues(a, products, key)?;
            (spectrum.map_or(f64::NAN, |s| safety / s.largest), spectrum, spent)
        }
    };
    if !(tau.is_finite() && tau > 0.0) {
        let status = match spectrum {
            Some(SpectralEstimate { largest, .. }) if largest <= 0.0 => Status::NegativeCurvature { step: 0, curvature: largest },
            _ => Status::Breakdown { step: 0, residual: 1.0 },
        };
        return Ok(NeumannReport { solve: target.report(&zero, target.norm, (0, spent), status), step: 0.0, spectrum });
    }

    let mut best = (zero.clone(), target.norm);
    let (mut x, mut r) = (zero, target.rhs.clone());
    let (mut iterations, mut improved) = (0, 0);
    let mut ended = None;
    while best.1 > target.residual && iterations < options.max_iterations && ended.is_none() {
        // x ← x + τ r, r ← b − A x
        axpy(tau, &r, &mut x);
        let next = difference(&target.rhs, &a.apply(&x)?);
        iterations += 1;
        let (residual, before) = (norm(&next), norm(&r));
        // τ rᵀAr, and what rounding may have done to b − A x.
        let decrease = dot(&r, &difference(&r, &next));
        let rounding = 16.0 * f64::EPSILON * (target.norm + norm(&x) / tau);
        ended = if !(residual.is_finite() && decrease.is_finite()) {
            Some(Status::Breakdown { step: iterations, residual: target.relative(best.1) })
        } else if decrease < -rounding * before || (decrease <= 0.0 && before > 1e3 * rounding) {
            Some(Status::NegativeCurvature { step: iterations, curvature: decrease / (before * before) / tau })
        } else if residual > HOPELESS * best.1 {
            Some(Status::Diverged { step: iterations as u64 })
        } else if residual <= best.1 + rounding && iterations >= improved + STAGNATION {
            Some(Status::Breakdown { step: iterations, residual: target.relative(best.1) })
        } else {
            None
        };
        if residual < best.1 {
            best = (x.clone(), residual);
            improved = iterations;
        }
        r = next;
    }

    let (solution, residual) = best;
    let limit = Status::StepLimit { limit: options.max_iterations, residual: target.relative(residual) };
    let status = match (spectrum, ended) {
        _ if residual <= target.residual => Status::Converged {},
        (_, Some(status)) => status,
        // Rayleigh quotients lie inside the spectrum: one below zero, rounding apart, says that more steps would not help.
        (Some(s), None) if s.smallest < -1e-12 * s.largest => Status::NegativeCurvature { step: 0, curvature: s.smallest },
        (_, None) => limit,
    };
    let solve = target.report(&solution, residual, (iterations, spent + iterations), status);
    Ok(NeumannReport { solve, step: tau, spectrum })
}

fn check_step(step: NeumannStep) -> Result<()> {
    match step {
        NeumannStep::Given(tau) => check_positive("step", tau),
        NeumannStep::Spectral { safety, .. } if safety > 0.0 && safety < 2.0 => Ok(()),
        NeumannStep::Spectral { safety, .. } => Err(Error::argument("safety", "a number in (0, 2)", safety)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{Cholesky, Matrix, gram};
    use crate::operator::{Counting, Diagonal, FromFn};

    const SIZES: [usize; 6] = [1, 2, 63, 64, 65, 127];

    fn options(tolerance: f64, max_iterations: usize) -> SolveOptions {
        SolveOptions { tolerance, max_iterations }
    }

    fn well_conditioned(n: usize) -> Matrix {
        let g = Matrix::from_columns(n, 2 * n, Key::new(n as u64).stream().normals(2 * n * n)).unwrap();
        let mut a = gram(&g);
        (0..n).for_each(|i| a[(i, i)] += 0.5 * n as f64);
        a
    }

    #[test]
    fn neumann_equals_the_dense_solve_and_counts_its_products() {
        for n in SIZES {
            let a = well_conditioned(n);
            let b = Key::new(7).stream().normals(n);
            let exact = Cholesky::new(a.clone()).unwrap().solve(&b).unwrap();
            let counted = Counting::new(&a);
            let report = neumann(&counted, &b, options(1e-13, 10_000), NeumannStep::default()).unwrap();
            let solve = &report.solve;
            assert_eq!(solve.status, Status::Converged {}, "{n}");
            assert_eq!(counted.products(), solve.products as u64);
            assert_eq!(solve.products, solve.iterations + 20.min(n));
            assert!(norm(&difference(&solve.solution, &exact)) < 1e-11 * norm(&exact), "{n}");
            let honest = norm(&difference(&b, &a.apply(&solve.solution).unwrap())) / norm(&b);
            assert!((solve.relative_residual - honest).abs() < 1e-15);
            assert_eq!(report.step, 1.0 / report.spectrum.unwrap().largest);
        }
    }

    /// x_K − x = −(I − τA)^K x, entry by entry.
    #[test]
    fn the_truncation_error_after_k_terms_is_the_closed_form() {
        for n in SIZES {
            let entries: Vec<f64> = (0..n).map(|i| 0.01 + i as f64 / n as f64).collect();
            let b = Key::new(3).stream().normals(n);
            let a = Counting::new(Diagonal::new(entries.clone()).unwrap());
            for tau in [0.3, 1.0, 1.9] {
                for terms in [1, 2, 7, 40] {
                    let before = a.products();
                    let report = neumann(&a, &b, options(0.0, terms), NeumannStep::Given(tau)).unwrap();
                    assert_eq!((report.step, report.spectrum), (tau, None));
                    assert_eq!((report.solve.iterations, report.solve.products), (terms, terms));
                    assert_eq!(a.products() - before, terms as u64);
                    assert!(matches!(report.solve.status, Status::StepLimit { .. }), "{:?}", report.solve.status);
                    for ((x, b), a) in report.solve.solution.iter().zip(&b).zip(&entries) {
                        let error = -(1.0 - tau * a).powi(terms as i32) * b / a;
                        let size = b.abs() / a;
                        assert!(((x - b / a) - error).abs() < 1e-13 * size, "n {n}, τ {tau}, K {terms}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_way_to_fail_is_a_status_with_a_remedy_and_finite_numbers() {
        let solve = |entries: Vec<f64>, b: &[f64], terms, step| {
            let report = neumann(&Diagonal::new(entries).unwrap(), b, options(1e-10, terms), step).unwrap();
            assert!(report.solve.solution.iter().all(|x| x.is_finite()) && !report.solve.relative_residual.is_nan());
            assert!(!report.solve.status.is_converged() && !report.solve.status.remedy().is_empty());
            report.solve
        };
        let (ones, spectral) = ([1.0, 1.0, 1.0], NeumannStep::default());
        for step in [spectral, NeumannStep::Given(0.3)] {
            // Indefinite, at once and after the positive part has gone.
            for last in [-5.0, -0.01] {
                let report = solve(vec![1.0, 2.0, last], &ones, 1000, step);
                assert!(matches!(report.status, Status::NegativeCurvature { curvature, .. } if curvature < 0.0), "{report:?}");
            }
            // Singular, b outside the range.
            let report = solve(vec![1.0, 2.0, 0.0], &[0.0, 0.0, 1.0], 1000, step);
            assert!(matches!(report.status, Status::NegativeCurvature { curvature: 0.0, .. }), "{report:?}");
            let report = solve(vec![1.0, 2.0, 0.0], &ones, 1000, step);
            assert!(matches!(report.status, Status::NegativeCurvature { .. } | Status::Breakdown { .. }), "{report:?}");
            assert!((report.relative_residual - 1.0 / 3.0_f64.sqrt()).abs() < 1e-8, "what is left is outside the range");
        }
        // Too few steps to feel the negative eigenvalue: the Rayleigh quotients know it.
        let report = solve(vec![1.0, 2.0, -0.01], &ones, 3, spectral);
        assert!(matches!(report.status, Status::NegativeCurvature { step: 0, .. }), "{report:?}");
        for none in [vec![0.0; 3], vec![-1.0, -2.0, -3.0]] {
            let report = solve(none, &ones, 5, spectral);
            assert!(matches!(report.status, Status::NegativeCurvature { .. }) && report.iterations == 0, "{report:?}");
        }
        let report = solve(vec![1.0, 10.0, 100.0], &ones, 3, spectral);
        assert!(matches!(report.status, Status::StepLimit { limit: 3, .. }) && report.relative_residual > 0.1);
        // 2/λ_max = 0.02: a given step just above, far above, and beyond the numbers.
        for tau in [0.0201, 1.0, 1e300] {
            let report = solve(vec![1.0, 10.0, 100.0], &ones, 100_000, NeumannStep::Given(tau));
            assert!(matches!(report.status, Status::Diverged { .. }) && report.status.remedy().contains("smaller"), "{report:?}");
        }
        // A tolerance below rounding.
        let a = Diagonal::new(vec![0.1, 1.0, 3.0]).unwrap();
        let report = neumann(&a, &[0.3, 0.7, 0.9], options(1e-30, 100_000), spectral).unwrap().solve;
        assert!(
            report.status.is_converged() && report.relative_residual == 0.0 || matches!(report.status, Status::Breakdown { .. })
        );
        assert!(report.relative_residual < 1e-15 && report.iterations < 10_000, "{report:?}");
    }

    #[test]
    fn overflow_is_a_breakdown_and_extreme_scales_are_not() {
        for step in [NeumannStep::default(), NeumannStep::Given(1e-3)] {
            let overflow = FromFn::new(3, |x: &[f64]| Ok(x.iter().map(|x| x * 1e308 * 1e10).collect()));
            let report = neumann(&overflow, &[1.0, 2.0, 3.0], SolveOptions::default(), step).unwrap();
            assert!(matches!(report.solve.status, Status::Breakdown { .. }), "{report:?}");
            assert_eq!((report.solve.solution, report.solve.relative_residual), (vec![0.0; 3], 1.0));
        }
        let a = Diagonal::new(vec![1.0, 1.5]).unwrap();
        for scale in [1e-300, 1e-160, 1e160, 1e300] {
            let report = neumann(&a, &[scale, scale], SolveOptions::default(), NeumannStep::default()).unwrap().solve;
            assert_eq!(report.status, Status::Converged {}, "{scale}");
            assert!((report.solution[1] * 1.5 / scale - 1.0).abs() < 1e-9);
        }
        let small = Diagonal::new(vec![1e-300]).unwrap();
        let report = neumann(&small, &[1e300], SolveOptions::default(), NeumannStep::default()).unwrap().solve;
        assert!(matches!(report.status, Status::Breakdown { .. }) && report.solution == [0.0]);
    }

    #[test]
    fn zero_right_hand_sides_cost_nothing_and_bad_arguments_are_refused() {
        let a = Counting::new(Diagonal::new(vec![1.0, 2.0]).unwrap());
        let zero = neumann(&a, &[0.0, 0.0], SolveOptions::default(), NeumannStep::default()).unwrap();
        assert_eq!((zero.solve.solution, zero.solve.status, a.products()), (vec![0.0; 2], Status::Converged {}, 0));
        let refused = |b: &[f64], options, step| neumann(&a, b, options, step).unwrap_err().offending_argument();
        let b = [1.0, 1.0];
        assert_eq!(refused(&[1.0], SolveOptions::default(), NeumannStep::default()), Some("rhs"));
        assert_eq!(refused(&[1.0, f64::NAN], SolveOptions::default(), NeumannStep::default()), Some("rhs"));
        assert_eq!(refused(&b, options(-1.0, 5), NeumannStep::default()), Some("tolerance"));
        assert_eq!(refused(&b, options(1e-3, 0), NeumannStep::default()), Some("max_iterations"));
        for tau in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(&b, SolveOptions::default(), NeumannStep::Given(tau)), Some("step"));
        }
        let spectral = |products, safety| NeumannStep::Spectral { products, safety, key: Key::new(1) };
        assert_eq!(refused(&b, SolveOptions::default(), spectral(0, 1.0)), Some("products of the spectral estimate"));
        for safety in [0.0, 2.0, f64::NAN] {
            assert_eq!(refused(&b, SolveOptions::default(), spectral(5, safety)), Some("safety"));
        }
        assert_eq!(a.products(), 0);
    }

    #[test]
    fn the_same_key_gives_the_same_bits_at_every_thread_count() {
        let a = well_conditioned(300);
        let b = Key::new(9).stream().normals(300);
        let run = || neumann(&a, &b, options(1e-8, 1000), NeumannStep::default()).unwrap();
        let reference = crate::par::with_threads(1, run).unwrap();
        for threads in [2, 4] {
            assert_eq!(crate::par::with_threads(threads, run).unwrap(), reference);
        }
    }
}
