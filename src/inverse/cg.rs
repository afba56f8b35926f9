//! Conjugate gradients (Hestenes & Stiefel 1952) on a linear operator, with a typed report: what it cost, the residual as
//! recomputed at the end (never the recursion's), and how it ended.

use serde::{Deserialize, Serialize};

use crate::dense::{axpy, difference, dot, norm};
use crate::error::{Result, Status, check_count, check_finite, check_len, check_nonnegative};
use crate::operator::LinearOperator;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CgOptions {
    /// The residual norm to reach, relative to ‖b‖.
    pub tolerance: f64,
    /// The most products to spend on iterations.
    pub max_iterations: usize,
}

impl Default for CgOptions {
    fn default() -> Self {
        Self { tolerance: 1e-10, max_iterations: 1000 }
    }
}

/// What conjugate gradients did.
#[derive(Debug, Clone, PartialEq)]
pub struct CgReport {
    /// The estimate of A⁻¹b.
    pub solution: Vec<f64>,
    /// The iterations, each one product with A.
    pub iterations: usize,
    /// ‖b − A x‖ / ‖b‖, recomputed with one more product (0 for b = 0).
    pub relative_residual: f64,
    /// How it ended.
    pub status: Status,
}

/// Solves A x = b for a symmetric positive definite A, from x = 0.
///
/// A direction p with pᵀAp ≤ 0 ends it with [`Status::NegativeCurvature`] and the estimate before that step; stagnation above
/// the tolerance, or an overflow, ends it with [`Status::Breakdown`].
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), [`Error::NotFinite`](crate::Error::NotFinite) for a bad right-hand side,
/// [`Error::Argument`](crate::Error::Argument) for bad options, and whatever the product itself can meet.
pub fn conjugate_gradients<A: LinearOperator + ?Sized>(a: &A, b: &[f64], options: CgOptions) -> Result<CgReport> {
    check_len("rhs", b.len(), a.dim())?;
    check_finite("rhs", b)?;
    check_nonnegative("tolerance", options.tolerance)?;
    check_count("max_iterations", options.max_iterations)?;

    let target = options.tolerance * norm(b);
    let mut x = vec![0.0; b.len()];
    let mut r = b.to_vec();
    let mut p = r.clone();
    let mut rho = dot(&r, &r);
    let mut iterations = 0;
    let mut ended = None;
    while rho.sqrt() > target && iterations < options.max_iterations {
        let ap = a.apply(&p)?;
        let curvature = dot(&p, &ap);
        if !curvature.is_finite() {
            ended = Some(Status::Breakdown { step: iterations, residual: rho.sqrt() });
            break;
        }
        if curvature <= 0.0 {
            ended = Some(Status::NegativeCurvature { step: iterations, curvature: curvature / dot(&p, &p) });
            break;
        }
        let alpha = rho / curvature;
        axpy(alpha, &p, &mut x);
        axpy(-alpha, &ap, &mut r);
        let next = dot(&r, &r);
        p.iter_mut().zip(&r).for_each(|(p, r)| *p = r + next / rho * *p);
        rho = next;
        iterations += 1;
    }

    let residual = norm(&difference(b, &a.apply(&x)?));
    let relative_residual = if norm(b) > 0.0 { residual / norm(b) } else { 0.0 };
    // The recursion's residual may meet a target that the true one, limited by rounding, does not.
    let status = ended.unwrap_or(if residual <= 2.0 * target {
        Status::Converged {}
    } else if rho.sqrt() <= target || !residual.is_finite() {
        Status::Breakdown { step: iterations, residual: relative_residual }
    } else {
        Status::StepLimit { limit: options.max_iterations, residual: relative_residual }
    });
    Ok(CgReport { solution: x, iterations, relative_residual, status })
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
            let report = conjugate_gradients(&counted, &b, CgOptions { tolerance: 1e-12, max_iterations: 1000 }).unwrap();
            assert_eq!(report.status, Status::Converged {});
            assert_eq!(counted.products(), report.iterations as u64 + 1);
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
        let indefinite = solve(vec![1.0, 2.0, -5.0], &b, CgOptions::default());
        assert!(matches!(indefinite.status, Status::NegativeCurvature { .. }) && indefinite.status.remedy().contains("damping"));
        assert!(indefinite.solution.iter().all(|x| x.is_finite()));
        let limited = solve(vec![1.0, 10.0, 100.0], &b, CgOptions { tolerance: 1e-10, max_iterations: 1 });
        assert!(matches!(limited.status, Status::StepLimit { limit: 1, .. }) && limited.relative_residual > 0.1);
        let singular = solve(vec![1.0, 2.0, 0.0], &[0.0, 0.0, 1.0], CgOptions::default());
        assert!(matches!(singular.status, Status::NegativeCurvature { curvature: 0.0, .. }));
        let overflow = FromFn::new(1, |x: &[f64]| Ok(vec![x[0] * f64::MAX]));
        let broken = conjugate_gradients(&overflow, &[1e300], CgOptions::default()).unwrap();
        assert!(matches!(broken.status, Status::Breakdown { .. }));
        let unreachable = solve(vec![1e-16, 1.0, 3.0], &b, CgOptions { tolerance: 1e-30, max_iterations: 10_000 });
        assert!(!unreachable.status.is_converged(), "{:?}", unreachable.status);
    }

    #[test]
    fn zero_right_hand_sides_cost_nothing_and_bad_ones_are_refused() {
        let a = Diagonal::new(vec![1.0, 2.0]).unwrap();
        let zero = conjugate_gradients(&a, &[0.0, 0.0], CgOptions::default()).unwrap();
        assert_eq!((zero.iterations, zero.status), (0, Status::Converged {}));
        assert!(conjugate_gradients(&a, &[1.0], CgOptions::default()).is_err());
        assert!(conjugate_gradients(&a, &[1.0, f64::NAN], CgOptions::default()).is_err());
        assert!(conjugate_gradients(&a, &[1.0, 1.0], CgOptions { tolerance: f64::NAN, max_iterations: 1 }).is_err());
    }
}
