//! The outer rate: how small the hypergradient becomes in T steps v ← v − η(∇Φ + e) whose errors e have some mean square, from the
//! Lipschitz constant of ∇Φ, and what that costs in samples. The descent lemma of smooth non-convex optimization (Nesterov 2018, section
//! 1.2.3) with an inexact gradient; the constant of ∇Φ as in Ghadimi & Wang (2018, Lemma 2.2).

use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};
use crate::problem::Constants;

/// Lipschitz constants in v, at any θ, of what [`Constants`] has in θ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OuterConstants {
    /// Of ∇_v f.
    pub outer_gradient: f64,
    /// Of b = ∇_θ f.
    pub right_hand_side: f64,
    /// Of H.
    pub hessian: f64,
    /// Of J.
    pub cross: f64,
}

/// Everything that the smoothness of Φ needs, valid at every (v, θ) that a run meets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothness {
    /// Lipschitz constants in θ, and μ_g.
    pub in_theta: Constants,
    /// Lipschitz constants in v.
    pub in_v: OuterConstants,
    /// sup ‖J‖.
    pub cross_norm: f64,
    /// sup ‖b‖.
    pub right_hand_side_norm: f64,
}

impl Smoothness {
    /// L_Φ, a Lipschitz constant of ∇Φ(v) = h(v, θ*(v)) with h = ∇_v f − JᵀH⁻¹b. With B = sup ‖b‖, C = sup ‖J‖ and the constants in z = v or θ,
    ///
    /// h: L_z = L_f + L_J B/μ_g + C(L_b/μ_g + L_H B/μ_g²),   θ*: C/μ_g,   L_Φ = L_v + L_θ C/μ_g.
    ///
    /// # Errors
    /// [`Error::Argument`] for a μ_g that is not positive or a constant that is negative or not finite.
    pub fn value_function(&self) -> Result<f64> {
        let Self { in_theta, in_v, cross_norm, right_hand_side_norm } = *self;
        let mu = in_theta.strong_convexity;
        check_positive("strong_convexity", mu)?;
        let of = |gradient: f64, rhs: f64, hessian: f64, cross: f64| {
            gradient + (cross * right_hand_side_norm + cross_norm * (rhs + hessian * right_hand_side_norm / mu)) / mu
        };
        let by_v = of(in_v.outer_gradient, in_v.right_hand_side, in_v.hessian, in_v.cross);
        let by_theta = of(in_theta.outer_gradient, in_theta.right_hand_side, in_theta.hessian, in_theta.cross);
        let constant = by_v + by_theta * cross_norm / mu;
        check_nonnegative("constants", constant)?;
        Ok(constant)
    }
}

/// Gradient descent on Φ with a step size η ≤ 1/L_Φ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OuterDescent {
    /// Φ(v_0) − Φ*, or a bound of it.
    gap: f64,
    /// η.
    step: f64,
}

/// A number of steps and of rows a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleComplexity {
    /// T.
    pub outer_steps: f64,
    /// n, the rows behind each hypergradient.
    pub rows_per_step: f64,
    /// T·n.
    pub total: f64,
}

impl OuterDescent {
    /// Checks η ≤ 1/L_Φ.
    ///
    /// # Errors
    /// [`Error::Argument`] for a negative gap, a step or an L_Φ that is not positive, or a step above 1/L_Φ.
    pub fn new(gap: f64, step: f64, lipschitz: f64) -> Result<Self> {
        check_nonnegative("gap", gap)?;
        check_positive("step", step)?;
        check_positive("lipschitz", lipschitz)?;
        if step * lipschitz > 1.0 {
            return Err(Error::argument("step", format_args!("at most 1/L_Φ = {:e}", 1.0 / lipschitz), step));
        }
        Ok(Self { gap, step })
    }

    /// (1/T) Σ_{t<T} ‖∇Φ(v_t)‖² ≤ 2(Φ(v_0) − Φ*)/(ηT) + (1/T) Σ ‖e_t‖²: from Φ(v − ηh) ≤ Φ(v) − (η/2)‖∇Φ‖² + (η/2)‖h − ∇Φ‖² for η ≤ 1/L_Φ. The second term is
    /// the floor that no number of steps removes. In expectation where the errors' mean square is one.
    ///
    /// # Errors
    /// [`Error::Argument`] for T = 0 or a negative mean square.
    pub fn average_squared_gradient(&self, steps: usize, mean_squared_error: f64) -> Result<f64> {
        check_count("steps", steps)?;
        check_nonnegative("mean_squared_error", mean_squared_error)?;
        Ok(2.0 * self.gap / (self.step * steps as f64) + mean_squared_error)
    }

    /// Steps and rows for an average ‖∇Φ‖² of at most `target` where n rows give ‖e‖² ≤ `error_constant`/n, half of the target for each term:
    /// T = ⌈4·gap/(η·target)⌉, n = ⌈2·`error_constant`/target⌉, so that T·n grows as target⁻². Counts as numbers: they can exceed any integer.
    ///
    /// # Errors
    /// [`Error::Argument`] for a target that is not positive or a negative constant.
    pub fn samples_for(&self, target: f64, error_constant: f64) -> Result<SampleComplexity> {
        check_positive("target", target)?;
        check_nonnegative("error_constant", error_constant)?;
        let outer_steps = (4.0 * self.gap / (self.step * target)).ceil().max(1.0);
        let rows_per_step = (2.0 * error_constant / target).ceil().max(1.0);
        Ok(SampleComplexity { outer_steps, rows_per_step, total: outer_steps * rows_per_step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{Matrix, axpy, eigh, norm, svd};
    use crate::problem::{Problem, Quadratic, QuadraticConfig};
    use crate::rng::Key;
    use crate::samples::Batch;

    /// g = ½(2 + cos v)θ² − θ sin v and f = ½(θ − 1)²: θ* = sin v/(2 + cos v), Φ by its formula and its second differences. On |θ| ≤ 1: μ_g = 1,
    /// |J| = |−θ sin v − cos v| ≤ 2, |b| ≤ 2, and J moves by 2|Δv| and |Δθ|, H by |Δv|, b by |Δθ|.
    #[test]
    fn the_constant_of_the_value_function_exceeds_its_second_differences() {
        let in_theta = Constants { strong_convexity: 1.0, outer_gradient: 0.0, right_hand_side: 1.0, hessian: 0.0, cross: 1.0 };
        let in_v = OuterConstants { outer_gradient: 0.0, right_hand_side: 0.0, hessian: 1.0, cross: 2.0 };
        let constant = Smoothness { in_theta, in_v, cross_norm: 2.0, right_hand_side_norm: 2.0 }.value_function().unwrap();
        // By hand: L_v = 2·2 + 2·(0 + 1·2) = 8, L_θ = 1·2 + 2·1 = 4, and 8 + 4·2.
        assert_eq!(constant, 16.0);
        let value = |v: f64| 0.5 * (v.sin() / (2.0 + v.cos()) - 1.0).powi(2);
        let second = |v: f64| (value(v + 1e-4) - 2.0 * value(v) + value(v - 1e-4)) / 1e-8;
        let worst = (0..1000).map(|i| second(0.00628 * f64::from(i)).abs()).fold(0.0, f64::max);
        assert!(worst <= constant && worst > 1.0, "{worst}");
    }

    fn quadratic() -> Quadratic {
        let config =
            QuadraticConfig { inner_dim: 6, outer_dim: 4, samples: 60, outer_samples: 30, ridge: 0.1, ..Default::default() };
        Quadratic::load(&config, &Default::default(), Key::new(5)).unwrap()
    }

    /// The Hessian of Φ, from hypergradients in closed form, and L_Φ with constants that are exact for least squares.
    fn curvature(problem: &Quadratic) -> (Matrix, f64) {
        let (d1, d2) = (problem.outer_dim(), problem.inner_dim());
        let origin = problem.hypergradient(&vec![0.0; d1]).unwrap();
        let unit = |j: usize| (0..d1).map(|i| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
        let columns: Vec<Vec<f64>> = (0..d1).map(|j| problem.hypergradient(&unit(j)).unwrap()).collect();
        let hessian = Matrix::from_fn(d1, d1, |i, j| columns[j][i] - origin[i]);
        let theta = vec![0.0; d2];
        let cross: Vec<Vec<f64>> =
            (0..d1).map(|j| problem.cross_jvp(&vec![0.0; d1], &theta, Batch::All, &unit(j)).unwrap()).collect();
        let cross_norm = svd(&Matrix::from_fn(d2, d1, |i, j| cross[j][i])).unwrap().values[0];
        let mut in_theta = problem.constants(&vec![0.0; d1]).unwrap().unwrap();
        in_theta.strong_convexity = eigh(&problem.hessian(&vec![0.0; d1], &theta).unwrap()).unwrap().values[d2 - 1];
        let penalty = QuadraticConfig::default().penalty;
        let in_v = OuterConstants { outer_gradient: penalty, right_hand_side: 0.0, hessian: 0.0, cross: 0.0 };
        // H and J are constant, so that no bound of b is needed.
        let smooth = Smoothness { in_theta, in_v, cross_norm, right_hand_side_norm: 0.0 };
        (hessian, smooth.value_function().unwrap())
    }

    #[test]
    fn descent_with_errors_stays_below_its_bound_and_meets_its_floor() {
        let problem = quadratic();
        let (hessian, lipschitz) = curvature(&problem);
        let top = eigh(&hessian).unwrap().values[0];
        assert!(top <= lipschitz, "{top} above {lipschitz}");
        for (error, steps) in [(0.0, 1), (0.0, 300), (0.05, 300), (0.5, 50)] {
            let (mut v, step) = (vec![1.0; 4], 1.0 / top);
            let descent = OuterDescent::new(problem.value_gap(&v).unwrap(), step, top).unwrap();
            let (mut total, mut stream) = (0.0, Key::new(6).stream());
            for _ in 0..steps {
                let gradient = problem.hypergradient(&v).unwrap();
                total += norm(&gradient).powi(2);
                let direction = stream.normals(4);
                axpy(-step, &gradient, &mut v);
                axpy(-step * error / norm(&direction), &direction, &mut v);
            }
            let average = total / steps as f64;
            let bound = descent.average_squared_gradient(steps, error * error).unwrap();
            assert!(average <= bound, "error {error}, {steps} steps: {average} above {bound}");
        }
        // An error that always points against the gradient's return: the floor is attained.
        let mut v = vec![0.0; 4];
        let offset = [0.3, 0.0, 0.0, 0.0];
        for _ in 0..20_000 {
            let gradient = problem.hypergradient(&v).unwrap();
            axpy(-1.0 / top, &gradient, &mut v);
            axpy(-1.0 / top, &offset, &mut v);
        }
        let floor = OuterDescent::new(0.0, 1.0 / top, top).unwrap().average_squared_gradient(1, 0.09).unwrap();
        assert!((norm(&problem.hypergradient(&v).unwrap()).powi(2) / floor - 1.0).abs() < 1e-6);
    }

    #[test]
    fn samples_reach_the_target_and_grow_as_its_inverse_square() {
        let descent = OuterDescent::new(3.0, 0.5, 2.0).unwrap();
        for target in [1.0, 1e-2, 1e-4] {
            let SampleComplexity { outer_steps, rows_per_step, total } = descent.samples_for(target, 7.0).unwrap();
            let reached = descent.average_squared_gradient(outer_steps as usize, 7.0 / rows_per_step).unwrap();
            assert!(reached <= target * (1.0 + 1e-12), "{reached} for {target}");
            assert!((total * target * target / (24.0 * 14.0) - 1.0).abs() < 0.1, "{total} for {target}");
        }
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let name = |e: Error| e.offending_argument();
        assert_eq!(OuterDescent::new(-1.0, 1.0, 1.0).map_err(name), Err(Some("gap")));
        assert_eq!(OuterDescent::new(1.0, 1.1, 1.0).map_err(name), Err(Some("step")));
        let descent = OuterDescent::new(1.0, 1.0, 1.0).unwrap();
        assert_eq!(descent.average_squared_gradient(0, 0.0).map_err(name), Err(Some("steps")));
        assert_eq!(descent.samples_for(0.0, 0.0).map_err(name), Err(Some("target")));
    }
}
