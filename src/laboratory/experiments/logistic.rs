//! Logistic regression in one vector on a finite population of unit vectors, everything at the generating parameter θ* known exactly; and the
//! path of inner SGD on it, one fresh sample a step. What `sgd-path` measures on.

use crate::bilevel::StepSize;
use crate::dense::{Cholesky, Matrix, dot, eigh, matvec, norm};
use crate::error::{Result, check_positive};
use crate::rng::Key;

/// Logistic regression on a finite population, everything at θ* known exactly.
pub struct Logistic {
    dim: usize,
    /// Unit vectors, one after the other.
    points: Vec<f64>,
    /// P(y = 1 | x) at each point.
    probabilities: Vec<f64>,
    hessian: Matrix,
    /// H⁻¹.
    pub inverse: Matrix,
    /// λ_min(H).
    pub least: f64,
    /// λ_max(H).
    pub greatest: f64,
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn inverse(a: &Matrix) -> Result<Matrix> {
    let mut inverse = Matrix::identity(a.nrows());
    Cholesky::new(a.clone())?.solve_in_place(&mut inverse)?;
    Ok(inverse)
}

impl Logistic {
    /// n points in d dimensions, and a θ* of this norm.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] where H is singular.
    pub fn new(d: usize, n: usize, truth_norm: f64, key: Key) -> Result<Self> {
        let mut points = key.named("points").stream().normals(d * n);
        for x in points.chunks_exact_mut(d) {
            let length = norm(x);
            x.iter_mut().for_each(|x| *x /= length);
        }
        let mut truth = key.named("truth").stream().normals(d);
        let length = norm(&truth);
        truth.iter_mut().for_each(|t| *t *= truth_norm / length);
        let probabilities: Vec<f64> = points.chunks_exact(d).map(|x| sigmoid(dot(x, &truth))).collect();
        let mut logistic = Self {
            dim: d,
            points,
            probabilities,
            hessian: Matrix::zeros(d, d),
            inverse: Matrix::zeros(d, d),
            least: 0.0,
            greatest: 0.0,
        };
        logistic.hessian = logistic.mean(|p, _| p * (1.0 - p));
        let eigenvalues = eigh(&logistic.hessian)?.values;
        (logistic.greatest, logistic.least) = (eigenvalues[0], eigenvalues[d - 1]);
        check_positive("smallest eigenvalue of H", logistic.least)?;
        logistic.inverse = inverse(&logistic.hessian)?;
        Ok(logistic)
    }

    fn count(&self) -> usize {
        self.probabilities.len()
    }

    fn point(&self, i: usize) -> &[f64] {
        &self.points[i * self.dim..(i + 1) * self.dim]
    }

    /// E[weight(p, x) xxᵀ]
    fn mean(&self, weight: impl Fn(f64, &[f64]) -> f64) -> Matrix {
        let mut sum = Matrix::zeros(self.dim, self.dim);
        for (i, &p) in self.probabilities.iter().enumerate() {
            let x = self.point(i);
            let w = weight(p, x) / self.count() as f64;
            (0..self.dim).for_each(|b| (0..self.dim).for_each(|a| sum[(a, b)] += w * x[a] * x[b]));
        }
        sum
    }

    /// C = E‖H⁻¹s‖⁴ − ‖H⁻¹‖²_F, s at θ*.
    ///
    /// # Errors
    /// None in practice: the shapes fit.
    pub fn scatter(&self) -> Result<f64> {
        let mut sum = 0.0;
        for (i, &p) in self.probabilities.iter().enumerate() {
            let solved = matvec(&self.inverse, self.point(i))?;
            // E (p − y)⁴
            sum += (p * (1.0 - p).powi(4) + (1.0 - p) * p.powi(4)) * dot(&solved, &solved).powi(2);
        }
        Ok(sum / self.count() as f64 - self.inverse.norm().powi(2))
    }

    /// ‖(H + B)⁻¹ − H⁻¹‖_F with B = (α/2) E[(p(1 − p))² ‖x‖² xxᵀ], for a constant α.
    ///
    /// # Errors
    /// None in practice: H + B is positive definite.
    pub fn floor(&self, step: f64) -> Result<f64> {
        let mut biased = self.mean(|p, x| 0.5 * step * (p * (1.0 - p)).powi(2) * dot(x, x));
        biased.add_scaled(1.0, &self.hessian)?;
        let mut difference = inverse(&biased)?;
        difference.add_scaled(-1.0, &self.inverse)?;
        Ok(difference.norm())
    }

    /// Σ s sᵀ at each of the ascending numbers of steps, from θ_0 = 0, with θ kept in the ball of radius `ball` around 0.
    ///
    /// # Errors
    /// None in practice: there are points.
    pub fn path(&self, steps: &[usize], step: StepSize, ball: f64, key: Key) -> Result<Vec<Matrix>> {
        let d = self.dim;
        let (mut samples, mut labels) = (key.named("x").stream(), key.named("y").stream());
        let (mut theta, mut sum, mut found) = (vec![0.0; d], Matrix::zeros(d, d), Vec::new());
        let mut k = 0;
        for &end in steps {
            while k < end {
                let i = samples.below(self.count())?;
                let x = self.point(i);
                let label = f64::from(u8::from(labels.uniform() < self.probabilities[i]));
                let residual = sigmoid(dot(x, &theta)) - label;
                for b in 0..d {
                    let weight = residual * residual * x[b];
                    sum.col_mut(b).iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * x);
                }
                let moved = step.at(k as u64) * residual;
                theta.iter_mut().zip(x).for_each(|(theta, x)| *theta -= moved * x);
                let length = norm(&theta);
                if length > ball {
                    theta.iter_mut().for_each(|theta| *theta *= ball / length);
                }
                k += 1;
            }
            found.push(sum.clone());
        }
        Ok(found)
    }

    /// ‖Ĥ⁻¹ − H⁻¹‖ over ‖H⁻¹‖ in the spectral and in the Frobenius norm, then ‖Ĥ − H‖ over ‖H‖ in the spectral one; Ĥ = (βI + sum)/k.
    ///
    /// # Errors
    /// [`crate::Error::Numerical`] for a singular Ĥ.
    pub fn errors(&self, sum: &Matrix, k: usize, beta: f64) -> Result<[f64; 3]> {
        let mut estimate = sum.clone();
        (0..self.dim).for_each(|j| estimate[(j, j)] += beta);
        estimate.scale(1.0 / k as f64);
        let mut difference = inverse(&estimate)?;
        difference.add_scaled(-1.0, &self.inverse)?;
        estimate.add_scaled(-1.0, &self.hessian)?;
        let inverse_errors = [spectral(&difference)? * self.least, difference.norm() / self.inverse.norm()];
        Ok([inverse_errors[0], inverse_errors[1], spectral(&estimate)? / self.greatest])
    }
}

/// The spectral norm of a symmetric matrix.
fn spectral(a: &Matrix) -> Result<f64> {
    Ok(eigh(a)?.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::mean_with_limits;
    use crate::curvature::CurvatureConfig;
    use crate::dense::relative_error;
    use crate::gradient::DenseRows;

    const DIM: usize = 6;
    const POINTS: usize = 60;

    fn logistic() -> Logistic {
        Logistic::new(DIM, POINTS, 1.0, Key::new(3)).unwrap()
    }

    /// The registry's own rank-one family, fed row by row along a path that is walked here anew.
    #[test]
    fn the_inverse_is_that_of_the_rank_one_family_fed_with_the_same_scores() {
        let logistic = logistic();
        const AT: [usize; 2] = [10, 200];
        const BETA: f64 = 0.1;
        let key = Key::new(4);
        let (mut samples, mut labels) = (key.named("x").stream(), key.named("y").stream());
        let mut theta = vec![0.0; DIM];
        let Some(CurvatureConfig::RankOne(mut config)) = CurvatureConfig::default_of("rank-one") else { panic!() };
        config.beta = BETA;
        let mut family = CurvatureConfig::RankOne(config).build(DIM, key).unwrap();
        let sums = logistic.path(&AT, StepSize::constant(0.5), f64::INFINITY, key).unwrap();
        let mut compared = 0;
        for k in 1..=200 {
            let i = samples.below(POINTS).unwrap();
            let label = if labels.uniform() < logistic.probabilities[i] { 1.0 } else { 0.0 };
            let residual = sigmoid(dot(logistic.point(i), &theta)) - label;
            let score: Vec<f64> = logistic.point(i).iter().map(|x| residual * x).collect();
            family.absorb(&DenseRows::new(Matrix::column(score.clone()), 1).unwrap().into()).unwrap();
            theta.iter_mut().zip(&score).for_each(|(theta, s)| *theta -= 0.5 * s);
            if let Some(at) = AT.iter().position(|&steps| steps == k) {
                let mut ours = sums[at].clone();
                (0..DIM).for_each(|j| ours[(j, j)] += BETA);
                ours.scale(1.0 / k as f64);
                let ours = inverse(&ours).unwrap();
                let known = crate::inverse::KnownCurvature::scalar(DIM, 0.0).unwrap();
                let approximation = family.approximate().unwrap();
                for j in 0..DIM {
                    let unit: Vec<f64> = (0..DIM).map(|i| f64::from(u8::from(i == j))).collect();
                    let theirs = approximation.solve(&known, &unit).unwrap();
                    assert!(relative_error(&theirs, ours.col(j)) < 1e-10, "k = {k}");
                }
                compared += 1;
            }
        }
        assert_eq!(compared, 2);
    }

    /// C by simulation: fresh rows at θ*, k large.
    #[test]
    fn the_asymptotic_constant_is_that_of_fresh_rows() {
        let logistic = logistic();
        let (k, runs) = (20_000, 200);
        let run = |r: u64| {
            let mut stream = Key::new(5).child(r).stream();
            let mut sum = Matrix::zeros(DIM, DIM);
            for _ in 0..k {
                let i = stream.below(POINTS).unwrap();
                let p = logistic.probabilities[i];
                let residual = p - if stream.uniform() < p { 1.0 } else { 0.0 };
                let x = logistic.point(i);
                (0..DIM).for_each(|b| (0..DIM).for_each(|a| sum[(a, b)] += residual * residual * x[a] * x[b]));
            }
            (logistic.errors(&sum, k, 0.0).unwrap()[1] * logistic.inverse.norm()).powi(2) * k as f64
        };
        let values: Vec<f64> = (0..runs).map(run).collect();
        let (mean, half) = mean_with_limits("values", &values, 0.999).unwrap();
        let expected = logistic.scatter().unwrap();
        // Second order in 1/k, besides the limits.
        assert!((mean - expected).abs() < half + 0.05 * expected, "{mean} ± {half} for {expected}");
    }
}
