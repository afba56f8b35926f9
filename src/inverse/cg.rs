//! Conjugate gradients (Hestenes & Stiefel 1952) on a linear operator, with a typed report: what it cost, the residual as
//! recomputed at the end (never the recursion's), and how it ended.

use super::solve::{SolveOptions, SolveReport, Target};
use crate::dense::{axpy, difference, dot, norm};
use crate::error::{Result, Status};
use crate::operator::LinearOperator;

/// Solves A x = b for a symmetric positive definite A, from x = 0: one product an iteration, and one for the residual.
///
/// A direction p with pᵀAp ≤ 0 ends it with [`Status::NegativeCurvature`] and the estimate before that step; stagnation above
/// the tolerance, or an overflow, ends it with [`Status::Breakdown`].
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), [`Error::NotFinite`](crate::Error::NotFinite) for a bad right-hand side,
/// [`Error::Argument`](crate::Error::Argument) for bad options, and whatever the product itself can meet.
pub fn conjugate_gradients<A: LinearOperator + ?Sized>(a: &A, b: &[f64], options: SolveOptions) -> Result<SolveReport> {
    let target = Target::new(a.dim(), b, options)?;
    let mut x = vec![0.0; b.len()];
    let mut r = target.rhs.clone();
    let mut p = r.clone();
    let mut rho = dot(&r, &r);
    let mut iterations = 0;
    let mut products = 1;
    let mut ended = None;
    while rho.sqrt() > target.residual && iterations < options.max_iterations {
        let ap = a.apply(&p)?;
        products += 1;
        let curvature = dot(&p, &ap);
        if curvature <= 0.0 {
            ended = Some(Status::NegativeCurvature { step: iterations, curvature: curvature / dot(&p, &p) });
            break;
        }
        let alpha = rho / curvature;
        let (mut next_x, mut next_r) = (x.clone(), r.clone());
        axpy(alpha, &p, &mut next_x);
        axpy(-alpha, &ap, &mut next_r);
        let next = dot(&next_r, &next_r);
        if !(curvature.is_finite() && next.is_finite() && norm(&next_x).is_finite()) {
            ended = Some(Status::Breakdown { step: iterations, residual: target.relative(rho.sqrt()) });
            break;
        }
        (x, r) = (next_x, next_r);
        p.iter_mut().zip(&r).for_each(|(p, r)| *p = r + next / rho * *p);
        rho = next;
        iterations += 1;
    }

    let residual = norm(&difference(&target.rhs, &a.apply(&x)?));
    let relative_residual = target.relative(residual);
    // The recursion's residual may meet a target that the true one, limited by rounding, does not.
    let status = ended.unwrap_or(if residual <= 2.0 * target.residual {
        Status::Converged {}
    } else if rho.sqrt() <= target.residual || !residual.is_finite() {
        Status::Breakdown { step: iterations, residual: relative_residual }
    } else {
        Status::StepLimit { limit: options.max_iterations, residual: relative_residual }
    });
    Ok(target.report(&x, residual, (iterations, products), status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{Cholesky, Matrix, gram};
    use crate::operator::{Counting, Diagonal, FromFn};
    use crate::rng::Key;

    #[test]
    fn cg_equals_the_dense_solve_and_counts_its_products() {
        for n in [1, 2, 63, 64, 65, 127] {
            let g = Matrix::from_columns(n, 2 * n, Key::new(n as u64).stream().normals(2 * n * n)).unwrap();
            let mut a = gram(&g);
            (0..n).for_each(|i| a[(i, i)] += 0.1 * n as f64);
            let b = Key::new(7).stream().normals(n);
            let exact = Cholesky::new(a.clone()).unwrap().solve(&b).unwrap();
            let counted = Counting::new(&a);
            let report = conjugate_gradients(&counted, &b, SolveOptions { tolerance: 1e-12, max_iterations: 1000 }).unwrap();
            assert_eq!(report.status, Status::Converged {});
            assert_eq!((counted.products(), report.products), (report.iterations as u64 + 1, report.iterations + 1));
            assert!(norm(&difference(&report.solution, &exact)) < 1e-9 * norm(&exact));
            let honest = norm(&difference(&b, &a.apply(&report.solution).unwrap())) / norm(&b);
            assert_eq!(report.relative_residual, honest);
        }
    }

    #[test]
    fn every_way_to_fail_is_a_status_with_a_remedy() {
        let solve =
            |entries: Vec<f64>, b: &[f64], options| conjugate_gradients(&Diagonal::new(entries).unwrap(), b, options).unwrap();
        let b = [1.0, 1.0, 1.0];
        let indefinite = solve(vec![1.0, 2.0, -5.0], &b, SolveOptions::default());
        assert!(matches!(indefinite.status, Status::NegativeCurvature { .. }) && indefinite.status.remedy().contains("damping"));
        assert!(indefinite.solution.iter().all(|x| x.is_finite()));
        let limited = solve(vec![1.0, 10.0, 100.0], &b, SolveOptions { tolerance: 1e-10, max_iterations: 1 });
        assert!(matches!(limited.status, Status::StepLimit { limit: 1, .. }) && limited.relative_residual > 0.1);
        let singular = solve(vec![1.0, 2.0, 0.0], &[0.0, 0.0, 1.0], SolveOptions::default());
        assert!(matches!(singular.status, Status::NegativeCurvature { curvature: 0.0, .. }));
        let overflow = FromFn::new(1, |x: &[f64]| Ok(vec![x[0] * f64::MAX]));
        let broken = conjugate_gradients(&overflow, &[1e300], SolveOptions::default()).unwrap();
        assert!(matches!(broken.status, Status::Breakdown { .. }));
        let unreachable = solve(vec![1e-16, 1.0, 3.0], &b, SolveOptions { tolerance: 1e-30, max_iterations: 10_000 });
        assert!(!unreachable.status.is_converged(), "{:?}", unreachable.status);
    }

    #[test]
    fn zero_right_hand_sides_cost_nothing_and_bad_ones_are_refused() {
        let a = Diagonal::new(vec![1.0, 2.0]).unwrap();
        let zero = conjugate_gradients(&a, &[0.0, 0.0], SolveOptions::default()).unwrap();
        assert_eq!((zero.iterations, zero.status), (0, Status::Converged {}));
        assert!(conjugate_gradients(&a, &[1.0], SolveOptions::default()).is_err());
        assert!(conjugate_gradients(&a, &[1.0, f64::NAN], SolveOptions::default()).is_err());
        assert!(conjugate_gradients(&a, &[1.0, 1.0], SolveOptions { tolerance: f64::NAN, max_iterations: 1 }).is_err());
        assert!(conjugate_gradients(&a, &[1e308, 1.7e308], SolveOptions::default()).is_err(), "a norm of infinity");
    }

    #[test]
    fn extreme_scales_change_no_bit_of_the_digits_and_an_overflow_is_never_a_number() {
        let a = Diagonal::new(vec![1.0, 2.0, 3.0]).unwrap();
        let solve = |scale: f64| conjugate_gradients(&a, &[scale, -scale, 2.0 * scale], SolveOptions::default()).unwrap();
        let unit = solve(1.0);
        for exponent in [-1000, -600, 600, 1000] {
            let scale = 2.0_f64.powi(exponent);
            let found = solve(scale);
            assert_eq!((found.status, found.relative_residual), (unit.status, unit.relative_residual));
            assert!(found.solution.iter().zip(&unit.solution).all(|(x, y)| *x == y * scale), "2^{exponent}");
        }
        // A solution outside the finite numbers, and products that leave them at the second step.
        let small = Diagonal::new(vec![1e-300]).unwrap();
        let overflow = FromFn::new(2, |x: &[f64]| Ok(vec![x[0] + x[1] * 1e200, x[0] * 1e200 + x[1] * 1e308 * 1e8]));
        for report in [
            conjugate_gradients(&small, &[1e300], SolveOptions::default()).unwrap(),
            conjugate_gradients(&overflow, &[1.0, 0.0], SolveOptions::default()).unwrap(),
        ] {
            assert!(matches!(report.status, Status::Breakdown { .. }), "{report:?}");
            assert!(report.solution.iter().all(|x| x.is_finite()) && !report.relative_residual.is_nan());
        }
    }
}
