//! The composed bound of a hypergradient from the errors of its parts, before or after anything is solved. The last step, from q̂ at an
//! inexact θ to ∇Φ(v), is `bilevel::InexactPoint`; here is what comes before it: the radius of q̂ from the damping, from what the Fisher
//! estimate is off the Hessian by, from the solve, and from what is estimated from samples.

use crate::bilevel::{InexactPoint, TotalErrors};
use crate::error::{Result, check_nonnegative, check_positive};
use crate::problem::Constants;

/// What stands between q̂ and H⁻¹b at the same (v, θ), each a bound; 0 where there is nothing. Sums of the path's, the sampling's and the
/// sketch's bounds are `curvature`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct InverseErrors {
    /// μ, the damping that H does not have.
    pub damping: f64,
    /// ‖F̂ + Λ − H‖: surrogate, sampling, staleness and sketch together.
    pub curvature: f64,
    /// ‖b̂ − b‖, of a right-hand side estimated from a batch.
    pub right_hand_side: f64,
    /// ‖b̂ − (F̂ + Λ + μI)q̂‖, the residual of the solve.
    pub residual: f64,
}

impl InverseErrors {
    /// ‖q̂ − H⁻¹b‖ ≤ (residual + ‖b̂ − b‖ + (‖F̂ + Λ − H‖ + μ)‖q̂‖)/λ_min(H): the numerator bounds ‖Hq̂ − b‖. It needs no smallness of anything, and the
    /// norm of the q̂ at hand instead of that of q.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a bound that is negative or not finite, a λ_min that is not positive.
    pub fn radius(&self, inverse_hvp_norm: f64, min_hessian: f64) -> Result<f64> {
        let Self { damping, curvature, right_hand_side, residual } = *self;
        check_positive("min_hessian", min_hessian)?;
        for (name, value) in [
            ("damping", damping),
            ("curvature", curvature),
            ("right_hand_side", right_hand_side),
            ("residual", residual),
            ("inverse_hvp_norm", inverse_hvp_norm),
        ] {
            check_nonnegative(name, value)?;
        }
        Ok((residual + right_hand_side + (curvature + damping) * inverse_hvp_norm) / min_hessian)
    }
}

/// The estimates from samples that come on top of [`InexactPoint`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SampledErrors {
    /// ‖∇_v f from its batch − ∇_v f‖.
    pub outer_gradient: f64,
    /// ‖Jᵀq̂ from its samples − Jᵀq̂‖.
    pub cross: f64,
}

/// Bounds of ‖q̂ − q‖ and ‖ĥ − ∇Φ(v)‖, everything included: those of [`InexactPoint::errors`] with the radius of `inverse`, and the errors of what
/// is estimated from samples added to the latter. λ_min(H) is at least μ_g.
///
/// # Errors
/// As [`InverseErrors::radius`].
pub fn composed(
    constants: &Constants,
    inverse: InverseErrors,
    sampled: SampledErrors,
    inverse_hvp_norm: f64,
    cross_norm: f64,
    suboptimality: f64,
) -> Result<TotalErrors> {
    for (name, value) in [
        ("outer_gradient", sampled.outer_gradient),
        ("cross", sampled.cross),
        ("cross_norm", cross_norm),
        ("suboptimality", suboptimality),
    ] {
        check_nonnegative(name, value)?;
    }
    let radius = inverse.radius(inverse_hvp_norm, constants.strong_convexity)?;
    let at = InexactPoint { inverse_hvp: inverse_hvp_norm, radius, cross_norm, suboptimality };
    let errors = at.errors(constants);
    Ok(TotalErrors { hypergradient: errors.hypergradient + sampled.outer_gradient + sampled.cross, ..errors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bilevel::{Sampling, nhgd};
    use crate::curvature::{CurvatureConfig, FrequentDirectionsConfig};
    use crate::dense::{Matrix, axpy, difference, eigh, matvec, norm, svd};
    use crate::error::Error;
    use crate::model::FisherKind;
    use crate::oracle::{NewtonOptions, exact_hypergradient, exact_inverse_hvp, inner_solution};
    use crate::problem::{OuterGradient, Problem, specimens};
    use crate::rng::Key;
    use crate::samples::Batch;

    /// Every part measured, on every problem that knows its constants: sketch, few rows, batches, a θ away from θ*.
    fn parts_and_whole(problem: &dyn Problem, key: Key, distance: f64) -> Option<((f64, f64), TotalErrors)> {
        let v = key.named("v").stream().normals(problem.outer_dim());
        let constants = problem.constants(&v).unwrap()?;
        let best = inner_solution(problem, &v, &problem.initial().1, NewtonOptions::default()).unwrap().theta;
        let mut theta = best.clone();
        axpy(distance, &key.named("theta").stream().normals(theta.len()), &mut theta);
        let (n, d2) = (problem.inner_samples(), problem.inner_dim());
        let draw = |name: &str, count| key.named(name).stream().indices(n, count).unwrap();

        let config = FrequentDirectionsConfig { sketch_size: 5, ..Default::default() };
        let mut sketch = CurvatureConfig::FrequentDirections(config).build(d2, key).unwrap();
        let rows = problem.scores(&v, &theta, Batch::Indices(&draw("rows", 40)), FisherKind::Sampled, key).unwrap();
        sketch.absorb(&rows).unwrap();
        let approximation = sketch.approximate().unwrap();
        let outer = key.named("outer").stream().indices(problem.outer_samples(), 10).unwrap();
        let cross = draw("cross", 10);
        let sampling = Sampling { outer: Batch::Indices(&outer), inner: Batch::Indices(&cross) };
        let damping = 0.03;
        let found = nhgd(problem, &v, &theta, sampling, approximation.as_ref(), damping).unwrap();
        let q = &found.inverse_hvp;

        let hessian = problem.hessian(&v, &theta).unwrap();
        let mut estimate = approximation.to_dense().unwrap();
        problem.known_curvature(&v).unwrap().add_to(&mut estimate).unwrap();
        let mut residual = problem.grad_outer(&v, &theta, sampling.outer).unwrap().theta;
        axpy(-1.0, &matvec(&estimate, q).unwrap(), &mut residual);
        axpy(-damping, q, &mut residual);
        estimate.add_scaled(-1.0, &hessian).unwrap();
        let values = eigh(&estimate).unwrap().values;
        let full = problem.grad_outer(&v, &theta, Batch::All).unwrap();
        let batch = problem.grad_outer(&v, &theta, sampling.outer).unwrap();
        let inverse = InverseErrors {
            damping,
            curvature: values[0].max(-values[d2 - 1]),
            right_hand_side: norm(&difference(&full.theta, &batch.theta)),
            residual: norm(&residual),
        };
        let product = |batch| problem.cross_vjp(&v, &theta, batch, q).unwrap();
        let sampled = SampledErrors {
            outer_gradient: norm(&difference(&full.v.to_vec(), &batch.v.to_vec())),
            cross: norm(&difference(&product(Batch::All), &product(sampling.inner))),
        };
        let unit = |j: usize| (0..v.len()).map(|i| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
        let columns: Vec<Vec<f64>> = (0..v.len()).map(|j| problem.cross_jvp(&v, &theta, Batch::All, &unit(j)).unwrap()).collect();
        let cross_norm = svd(&Matrix::from_fn(d2, v.len(), |i, j| columns[j][i])).unwrap().values[0];
        let suboptimality = norm(&difference(&theta, &best));
        let bound = composed(&constants, inverse, sampled, norm(q), cross_norm, suboptimality).unwrap();

        let OuterGradient { theta: b, .. } = problem.grad_outer(&v, &best, Batch::All).unwrap();
        let exact = exact_inverse_hvp(problem, &v, &best, &b).unwrap();
        let hypergradient = exact_hypergradient(problem, &v, &best).unwrap();
        let errors = (norm(&difference(q, &exact)), norm(&difference(&found.value, &hypergradient)));
        Some((errors, bound))
    }

    #[test]
    fn the_composed_bound_holds_on_every_problem_with_constants() {
        let mut seen = 0;
        for problem in specimens(Key::new(1)).unwrap() {
            for seed in 0..10 {
                for distance in [0.0, 1e-3, 0.1] {
                    let Some(((q, h), bound)) = parts_and_whole(problem.as_ref(), Key::new(seed), distance) else { continue };
                    assert!(q <= bound.inverse_hvp, "{}: {q} above {bound:?}", problem.name());
                    assert!(h <= bound.hypergradient, "{}: {h} above {bound:?}", problem.name());
                    seen += 1;
                }
            }
        }
        assert!(seen >= 30, "{seen}");
    }

    /// One dimension, where everything is attained: H = 2, F̂ = 3, μ = 1, b = 1, b̂ = 1.4, q̂ = 0.5 of (3 + 1)q̂ = 2.
    #[test]
    fn the_radius_is_attained_in_one_dimension() {
        let inverse = InverseErrors { damping: 1.0, curvature: 1.0, right_hand_side: 0.4, residual: 0.6 };
        // |Hq̂ − b| ≤ 0.6 + 0.4 + 2·0.5, attained where all have one sign: q = 1.5 or −0.5.
        assert_eq!(inverse.radius(0.5, 2.0).unwrap(), 1.0);
        assert_eq!(InverseErrors::default().radius(3.0, 2.0).unwrap(), 0.0);
        let name = |e: Error| e.offending_argument();
        assert_eq!(inverse.radius(0.5, 0.0).map_err(name), Err(Some("min_hessian")));
        let wrong = InverseErrors { residual: -1.0, ..inverse };
        assert_eq!(wrong.radius(0.5, 1.0).map_err(name), Err(Some("residual")));
    }
}
