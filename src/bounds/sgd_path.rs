//! How far Ĥ_k = (1/k) Σ_{j<k} s_j s_jᵀ, taken along inner SGD, is from H = F(θ*): the bound in k and δ that the paper states as
//! O(√(log(1/δ)/k)) without constants, here with them, for models whose rows and iterates have the constants that it needs.
//!
//! **Setting.** θ_{j+1} = Π(θ_j − α_j u_j) with one fresh sample a step, E_j u_j = ∇g(θ_j) given the past, ∇g(θ*) = 0, and Π a projection on a
//! convex set that holds θ*, or nothing. The row s_j is fed where u_j is taken, so that M(θ_j) = E_j s_j s_jᵀ and M(θ*) = H. Then
//!
//! ```text
//! Ĥ_k − H = (1/k) Σ [s_j s_jᵀ − M(θ_j)]  +  (1/k) Σ [M(θ_j) − M(θ*)]  =  sampling, a martingale  +  drift
//! ```
//!
//! **Iterates.** Assume, with e = θ_j − θ* and Δ_j = ‖e‖²: ⟨∇g(θ_j), e⟩ ≥ μΔ_j; the random part of u_j has norm at most N; ‖u_j‖ ≤ G; 2μα_0 ≤ 1. From
//! Δ_{j+1} ≤ (1 − 2μα)Δ_j + 2αζ_j + α²G², ζ_j of mean 0 in an interval of length 2N√Δ_j, Hoeffding's lemma gives for every λ > 0
//!
//! ```text
//! E_j exp(λΔ_{j+1}) ≤ exp(λ(1 − 2μα + 2λα²N²)Δ_j + λα²G²)
//! ```
//!
//! - α_j = c/t, t = j + k₀, 2μc > 1: with λ_j = at, γ = μc − ½, κ = 1 + 1/k₀, a = γ/(2κc²N²) the bracket times λ_{j+1} is at most (1 − γ/t)λ_j.
//! - α_j = α: with λ_j = μ/(2αN²) it is (1 − μα)λ_j.
//!
//! Jensen's inequality for the power 1 − γ/t (or 1 − μα) then bounds L_j, which is at least log E exp(λ_jΔ_j), by a recursion with the fixed point
//! S = G²/(2N²) in both cases:
//!
//! ```text
//! L_k = S + (λ_0Δ_0 − S)₊ (k₀/(k + k₀))^γ      or      S + (λ_0Δ_0 − S)₊ (1 − μα)^k
//! Δ_k ≤ (L_k + log(1/δ))/λ_k  with probability 1 − δ
//! ```
//!
//! The second terms are the burn-in. Since exp is convex, E exp(Σ w_j(λ_jΔ_j − L_j)) ≤ 1 for any weights of sum 1, so that means along the path
//! need no union bound: with probability 1 − δ and w_j ∝ λ_j^{−p},
//!
//! ```text
//! (1/k) Σ Δ_j^p ≤ (1/k) Σ λ_j^{−p} · (Σ w_jL_j + log(1/δ))^p,   p = ½ or 1
//! ```
//!
//! **Drift.** ‖M(θ) − H‖ ≤ C·Δ^p. At any θ the Fisher matrix of drawn labels or of the expectation is Lipschitz: p = ½, and the drift falls as
//! √(log(1/δ)/k). With observed labels of a correct model, E_y (p − e_y)(p − e_y)ᵀ exceeds the covariance at θ* by (p − p*)(p − p*)ᵀ: p = 1, and
//! the drift falls as log k·log(1/δ)/k. Of a Gaussian linear model F does not depend on θ: no drift.
//!
//! **Sampling.** Where log E exp(±x(s sᵀ − M)) ≼ (x²/2)·V·M/(1 − Rx), the supermartingale of Tropp (2011, "Freedman's inequality for matrix
//! martingales") gives, on the event that bounds the drift by D, with d the length of θ and τ = log(2d/δ),
//!
//! ```text
//! ‖sampling‖ ≤ √(2V·min(‖H‖ + D, sup ‖M‖)τ/k) + Rτ/k  with probability 1 − δ
//! ```
//!
//! Rows with ‖s‖² ≤ ρ have V = ρ, R = ρ/3. Rows z·x/σ with z standard normal and ‖x‖²/σ² ≤ ρ have E z^{2p} = (2p − 1)!! ≤ (3/8)·2^p·p! for p ≥ 2,
//! hence V = 3ρ, R = 2ρ. δ is split in halves between drift and sampling. Then with h = λ_min(H + Λ'), ε the bound of ‖Ĥ_k − H‖,
//! ‖(Ĥ_k + Λ')⁻¹ − (H + Λ')⁻¹‖ ≤ ε/(h·max(h − ε, λ_min(Λ'))).

use super::coverage::check_inside;
use crate::bilevel::StepSize;
use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};
use crate::model::FisherKind;

/// V and R of log E exp(±x(s sᵀ − M)) ≼ (x²/2)·V·M/(1 − Rx) for the rows s fed at a given θ, both in the unit of ‖s‖².
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowTail {
    /// V.
    pub variance: f64,
    /// R.
    pub scale: f64,
}

/// How the mean of s sᵀ departs from H as θ leaves θ*.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drift {
    /// Not at all.
    None {},
    /// ‖M(θ) − H‖ ≤ C‖θ − θ*‖.
    Linear(f64),
    /// ‖M(θ) − H‖ ≤ C‖θ − θ*‖².
    Quadratic(f64),
}

/// The rows that a model feeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathRows {
    /// How heavy they are.
    pub tail: RowTail,
    /// sup ‖M(θ)‖ over every θ.
    pub largest_mean: f64,
    /// How their mean moves.
    pub drift: Drift,
}

impl PathRows {
    /// Softmax regression whose features have a norm of at most `features`; of two classes, logistic regression in two vectors. ‖s‖² ≤ 2‖x‖², and
    /// diag(p) − ppᵀ ≼ ½; F is Lipschitz with 2√2/(6√3)·‖x‖³ (a third central moment of a variable of range √2‖x‖‖u‖), and
    /// ‖p − p*‖ ≤ ½‖x‖‖θ − θ*‖. Observed labels must come from the model at θ*, so that there must be no ridge with them.
    ///
    /// # Errors
    /// [`Error::Argument`] for a norm that is not positive.
    pub fn softmax(kind: FisherKind, features: f64) -> Result<Self> {
        check_positive("features", features)?;
        let square = features * features;
        let lipschitz = 2.0 * 2.0_f64.sqrt() / (6.0 * 3.0_f64.sqrt()) * square * features;
        Ok(match kind {
            FisherKind::Empirical => Self::bounded(2.0 * square, 2.0 * square, Drift::Quadratic(0.25 * square * square)),
            FisherKind::Sampled => Self::bounded(2.0 * square, 0.5 * square, Drift::Linear(lipschitz)),
            FisherKind::Expected => Self::bounded(0.5 * square, 0.5 * square, Drift::Linear(lipschitz)),
        })
    }

    /// Logistic regression in one vector, s = (σ(xᵀθ) − y)x with ‖x‖ ≤ `features`: ‖s‖² ≤ ‖x‖², |σ''| ≤ 1/(6√3), σ' ≤ ¼.
    ///
    /// # Errors
    /// As [`softmax`](Self::softmax).
    pub fn logistic(kind: FisherKind, features: f64) -> Result<Self> {
        check_positive("features", features)?;
        let square = features * features;
        let lipschitz = square * features / (6.0 * 3.0_f64.sqrt());
        Ok(match kind {
            FisherKind::Empirical => Self::bounded(square, square, Drift::Quadratic(square * square / 16.0)),
            FisherKind::Sampled => Self::bounded(square, 0.25 * square, Drift::Linear(lipschitz)),
            FisherKind::Expected => Self::bounded(0.25 * square, 0.25 * square, Drift::Linear(lipschitz)),
        })
    }

    /// The Gaussian linear model of variance σ² with ‖x‖ ≤ `features`: drawn labels give rows z·x/σ, the expectation x/σ, and neither moves with θ.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for observed labels: their residuals have no bound, and the iterates that they drive neither. As
    /// [`softmax`](Self::softmax).
    pub fn gaussian(kind: FisherKind, features: f64, variance: f64) -> Result<Self> {
        check_positive("features", features)?;
        check_positive("variance", variance)?;
        let square = features * features / variance;
        let tail = match kind {
            FisherKind::Sampled => RowTail { variance: 3.0 * square, scale: 2.0 * square },
            FisherKind::Expected => RowTail::bounded(square),
            FisherKind::Empirical => {
                let what = "a path bound for the observed labels of a Gaussian model (residuals and iterates are unbounded)";
                return Err(Error::unsupported(what, "take labels drawn from the model, or the expectation over labels"));
            }
        };
        Ok(Self { tail, largest_mean: square, drift: Drift::None {} })
    }

    fn bounded(square: f64, largest_mean: f64, drift: Drift) -> Self {
        Self { tail: RowTail::bounded(square), largest_mean, drift }
    }
}

impl RowTail {
    /// Of rows, or sums over the rows of a sample, with ‖s sᵀ‖ ≤ ρ.
    pub fn bounded(square: f64) -> Self {
        Self { variance: square, scale: square / 3.0 }
    }
}

/// The modulus μ of ⟨∇g(θ), θ − θ*⟩ ≥ μ‖θ − θ*‖² for softmax or logistic regression at its generating parameter, wherever ‖θ − θ*‖ is at most a
/// `distance`: λ_min(F(θ*))·(1 − e^{−r})/r, r = √2·features·distance (without √2 for one vector). Along a segment the Fisher matrix falls
/// no faster than e^{−tr} (self-concordance: Bach 2010). A ridge adds its λ.
///
/// # Errors
/// [`Error::Argument`] for an argument that is not positive.
pub fn self_concordant_modulus(min_fisher: f64, logit_range: f64) -> Result<f64> {
    check_positive("min_fisher", min_fisher)?;
    check_positive("logit_range", logit_range)?;
    Ok(min_fisher * -(-logit_range).exp_m1() / logit_range)
}

/// The constants of inner SGD, valid wherever its iterates can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InnerSgd {
    /// μ of ⟨∇g(θ), θ − θ*⟩ ≥ μ‖θ − θ*‖²: the modulus of strong convexity, or better ([`self_concordant_modulus`]).
    pub strong_convexity: f64,
    /// N, a bound of the random part of a stochastic gradient: √2·max‖x‖ for softmax, max‖x‖ for logistic regression in one vector.
    pub noise: f64,
    /// G, a bound of ‖u‖: N, and with a ridge N + λ·max‖θ‖, where ‖θ‖ stays below max(‖θ_0‖, N/λ) for α_0λ ≤ 1.
    pub gradient: f64,
    /// ‖θ_0 − θ*‖.
    pub initial_distance: f64,
    /// sup ‖θ_k − θ*‖, from the set that is projected on; ∞ where there is none.
    pub largest_distance: f64,
    /// α_k: constant, or of power 1 (c is `initial`·`offset`, k₀ the offset).
    pub step: StepSize,
}

/// λ_j of the derivation, by schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weights {
    /// λ_j = a(j + k₀), and γ.
    Growing { a: f64, offset: f64, gamma: f64 },
    /// λ_j = a, and μα.
    Constant { a: f64, contraction: f64 },
}

/// Bounds of the iterates of inner SGD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iterates {
    sgd: InnerSgd,
    weights: Weights,
    /// S.
    fixed_point: f64,
}

impl Iterates {
    /// Checks the assumptions.
    ///
    /// # Errors
    /// [`Error::Argument`] that names the constant: numbers that are not positive, a gradient bound below the noise, `c` too small for
    /// 2μc > 1, a first step above 1/(2μ), a power other than 0 and 1.
    pub fn new(sgd: InnerSgd) -> Result<Self> {
        let InnerSgd { strong_convexity: mu, noise, gradient, initial_distance, largest_distance, step } = sgd;
        check_positive("strong_convexity", mu)?;
        check_positive("noise", noise)?;
        check_nonnegative("initial_distance", initial_distance)?;
        step.validate("step")?;
        if !(gradient >= noise && gradient.is_finite()) {
            return Err(Error::argument("gradient", format_args!("at least the noise {noise}"), gradient));
        }
        if largest_distance.is_nan() || largest_distance < initial_distance {
            return Err(Error::argument("largest_distance", format_args!("at least {initial_distance}"), largest_distance));
        }
        if 2.0 * mu * step.initial > 1.0 {
            return Err(Error::argument("step", format_args!("a first step of at most 1/(2μ) = {:.3e}", 0.5 / mu), step.initial));
        }
        let weights = if step.power == 0.0 {
            Weights::Constant { a: mu / (2.0 * step.initial * noise * noise), contraction: mu * step.initial }
        } else if step.power == 1.0 {
            let c = step.initial * step.offset;
            let gamma = mu * c - 0.5;
            if gamma <= 0.0 {
                return Err(Error::argument("step", format_args!("initial·offset above 1/(2μ) = {:.3e}", 0.5 / mu), c));
            }
            let a = gamma / (2.0 * (1.0 + 1.0 / step.offset) * (c * noise).powi(2));
            Weights::Growing { a, offset: step.offset, gamma }
        } else {
            return Err(Error::argument("step", "a constant step size or one of power 1", format_args!("power {}", step.power)));
        };
        Ok(Self { sgd, weights, fixed_point: 0.5 * (gradient / noise).powi(2) })
    }

    /// λ_k.
    fn weight(&self, k: usize) -> f64 {
        match self.weights {
            Weights::Growing { a, offset, .. } => a * (k as f64 + offset),
            Weights::Constant { a, .. } => a,
        }
    }

    /// L_k ≥ log E exp(λ_kΔ_k).
    fn log_moment(&self, k: usize) -> f64 {
        let start = self.weight(0) * self.sgd.initial_distance.powi(2);
        let left = match self.weights {
            Weights::Growing { offset, gamma, .. } => (offset / (k as f64 + offset)).powf(gamma),
            Weights::Constant { contraction, .. } => (k as f64 * (-contraction).ln_1p()).exp(),
        };
        self.fixed_point + (start - self.fixed_point).max(0.0) * left
    }

    /// A bound of ‖θ_k − θ*‖² with probability 1 − δ: (L_k + log(1/δ))/λ_k, or the largest there can be.
    ///
    /// # Errors
    /// [`Error::Argument`] for a δ outside (0, 1).
    pub fn squared_distance(&self, k: usize, delta: f64) -> Result<f64> {
        check_inside("delta", delta)?;
        Ok(((self.log_moment(k) - delta.ln()) / self.weight(k)).min(self.sgd.largest_distance.powi(2)))
    }

    /// A bound of E‖θ_k − θ*‖², by the recursion E Δ_{k+1} ≤ (1 − 2μα_k)E Δ_k + α_k²G²: max(k₀Δ_0, c²G²/(2μc − 1))/(k + k₀) for α_k = c/(k + k₀),
    /// (1 − 2μα)^k Δ_0 + αG²/(2μ) for a constant one (as Nemirovski, Juditsky, Lan & Shapiro 2009, section 2.1).
    pub fn mean_squared_distance(&self, k: usize) -> f64 {
        let InnerSgd { strong_convexity: mu, gradient, initial_distance, step, .. } = self.sgd;
        let (start, k) = (initial_distance * initial_distance, k as f64);
        match self.weights {
            Weights::Growing { offset, .. } => {
                let c = step.initial * offset;
                (offset * start).max((c * gradient).powi(2) / (2.0 * mu * c - 1.0)) / (k + offset)
            }
            Weights::Constant { .. } => {
                start * (k * (-2.0 * mu * step.initial).ln_1p()).exp() + step.initial * gradient * gradient / (2.0 * mu)
            }
        }
    }

    /// A bound of (1/k) Σ_{j<k} Δ_j^p with probability 1 − δ. O(k).
    fn mean_power(&self, k: usize, power: f64, delta: f64) -> f64 {
        let (mut total, mut moments) = (0.0, 0.0);
        for j in 0..k {
            let weight = self.weight(j).powf(-power);
            total += weight;
            moments += weight * self.log_moment(j);
        }
        let mean = total / k as f64 * (moments / total - delta.ln()).powf(power);
        mean.min(self.sgd.largest_distance.powf(2.0 * power))
    }
}

/// The bound along the path of a given model and inner SGD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdPath {
    rows: PathRows,
    dim: usize,
    fisher_norm: f64,
    iterates: Option<Iterates>,
}

/// A bound of ‖Ĥ_k − H‖, in the unit of H, by its two parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathBound {
    /// Of the martingale.
    pub sampling: f64,
    /// Of the drift.
    pub drift: f64,
}

impl PathBound {
    /// ε, the bound of ‖Ĥ_k − H‖.
    pub fn total(self) -> f64 {
        self.sampling + self.drift
    }

    /// ‖(Ĥ_k + Λ')⁻¹ − (H + Λ')⁻¹‖ ≤ ε/(h·max(h − ε, λ_min(Λ'))), h = λ_min(H + Λ') > 0; ∞ where Λ' is singular and ε ≥ h.
    ///
    /// # Errors
    /// [`Error::Argument`] for an h that is not positive, a λ_min(Λ') that is negative or above h.
    pub fn inverse(self, min_damped: f64, min_known: f64) -> Result<f64> {
        check_positive("min_damped", min_damped)?;
        check_nonnegative("min_known", min_known)?;
        if min_known > min_damped {
            return Err(Error::argument("min_known", format_args!("at most λ_min(H + Λ') = {min_damped:e}"), min_known));
        }
        let error = self.total();
        let least = (min_damped - error).max(min_known);
        Ok(if least > 0.0 { error / (min_damped * least) } else { f64::INFINITY })
    }
}

impl SgdPath {
    /// The bound for rows of length d with ‖H‖ = `fisher_norm` (the likelihood's part, no ridge); rows whose mean does not move need no iterates.
    ///
    /// # Errors
    /// [`Error::Argument`] for d = 0, a norm that is not positive, or rows that move and iterates of which nothing is known.
    pub fn new(rows: PathRows, dim: usize, fisher_norm: f64, iterates: Option<Iterates>) -> Result<Self> {
        check_count("dim", dim)?;
        check_positive("fisher_norm", fisher_norm)?;
        if iterates.is_none() && rows.drift != (Drift::None {}) {
            return Err(Error::argument("iterates", "the constants of SGD for rows whose mean moves with θ", "none"));
        }
        Ok(Self { rows, dim, fisher_norm, iterates })
    }

    /// A bound of ‖Ĥ_k − H‖ after k steps of one row each, with probability 1 − δ. O(k).
    ///
    /// # Errors
    /// [`Error::Argument`] for k = 0 or a δ outside (0, 1).
    pub fn after(&self, k: usize, delta: f64) -> Result<PathBound> {
        check_count("k", k)?;
        check_inside("delta", delta)?;
        let mean = |power| self.iterates.map_or(0.0, |iterates| iterates.mean_power(k, power, 0.5 * delta));
        let (drift, left) = match self.rows.drift {
            Drift::None {} => (0.0, delta),
            Drift::Linear(constant) => (constant * mean(0.5), 0.5 * delta),
            Drift::Quadratic(constant) => (constant * mean(1.0), 0.5 * delta),
        };
        let RowTail { variance, scale } = self.rows.tail;
        let per_row = (2.0 * self.dim as f64 / left).ln() / k as f64;
        let mean = (self.fisher_norm + drift).min(self.rows.largest_mean);
        let sampling = (2.0 * variance * mean * per_row).sqrt() + scale * per_row;
        Ok(PathBound { sampling, drift })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{FailureRate, log_log_slope};
    use crate::dense::{Matrix, dot, eigh, norm};
    use crate::par;
    use crate::rng::{Key, Stream};

    const DECAYING: StepSize = StepSize { initial: 0.05, power: 1.0, offset: 100.0 };

    fn sgd(step: StepSize) -> InnerSgd {
        InnerSgd { strong_convexity: 0.4, noise: 1.0, gradient: 1.3, initial_distance: 2.0, largest_distance: f64::INFINITY, step }
    }

    /// The recursions as they stand in the derivation, iterated, against the closed forms.
    #[test]
    fn closed_forms_bound_the_recursions() {
        for step in [DECAYING, StepSize { offset: 7.0, initial: 1.2, power: 1.0 }, StepSize::constant(0.3)] {
            let constants = sgd(step);
            let InnerSgd { strong_convexity: mu, noise, gradient, initial_distance, .. } = constants;
            let iterates = Iterates::new(constants).unwrap();
            let mut mean = initial_distance * initial_distance;
            let mut log_moment = iterates.weight(0) * mean;
            for k in 0..3000 {
                let tolerance = 1.0 + 1e-12;
                assert!(log_moment <= iterates.log_moment(k) * tolerance, "{step:?}, {k}: {log_moment}");
                assert!(mean <= iterates.mean_squared_distance(k) * tolerance, "{step:?}, {k}: {mean}");
                let (alpha, next) = (step.at(k as u64), iterates.weight(k + 1));
                // The power to which the moment before it is raised.
                let power = next * (1.0 - 2.0 * mu * alpha + 2.0 * next * (alpha * noise).powi(2)) / iterates.weight(k);
                assert!((0.0..1.0).contains(&power), "{step:?}, {k}: {power}");
                log_moment = power * log_moment + next * (alpha * gradient).powi(2);
                mean = (1.0 - 2.0 * mu * alpha) * mean + (alpha * gradient).powi(2);
            }
            // Once the start is forgotten, the closed form is not far from the recursion either.
            assert!(iterates.log_moment(3000) < 3.0 * log_moment, "{step:?}: {log_moment}");
        }
    }

    /// Logistic regression in two variables on eight points of norm 1, labels from θ*, SGD projected on the unit ball around 0: everything by
    /// its formula, without the crate's models.
    struct Logistic {
        points: Vec<[f64; 2]>,
        truth: [f64; 2],
        fisher: Matrix,
    }

    fn sigmoid(z: f64) -> f64 {
        1.0 / (1.0 + (-z).exp())
    }

    impl Logistic {
        fn new() -> Self {
            let angle = |i: usize| std::f64::consts::PI * (i as f64 + 0.5) / 8.0;
            let points: Vec<[f64; 2]> = (0..8).map(|i| [angle(i).cos(), angle(i).sin()]).collect();
            let truth = [0.6, -0.3];
            let slope = |x: &[f64; 2]| sigmoid(dot(x, &truth)) * sigmoid(-dot(x, &truth));
            let fisher = Matrix::from_fn(2, 2, |i, j| points.iter().map(|x| slope(x) * x[i] * x[j]).sum::<f64>() / 8.0);
            Self { points, truth, fisher }
        }

        fn iterates(&self, step: StepSize) -> Iterates {
            // Two points of the unit ball are at most 2 apart, θ* and any other at most 1 + ‖θ*‖.
            let distance = 1.0 + norm(&self.truth);
            let least = eigh(&self.fisher).unwrap().values[1];
            let strong_convexity = self_concordant_modulus(least, distance).unwrap();
            let (noise, gradient, initial_distance) = (1.0, 1.0, norm(&self.truth));
            let constants = InnerSgd { strong_convexity, noise, gradient, initial_distance, largest_distance: distance, step };
            Iterates::new(constants).unwrap()
        }

        fn label(&self, x: &[f64; 2], theta: &[f64; 2], stream: &mut Stream) -> f64 {
            f64::from(u8::from(stream.uniform() < sigmoid(dot(x, theta))))
        }

        /// ‖Ĥ_k − H‖ and ‖θ_k − θ*‖² at each of the numbers of steps, from θ_0 = 0.
        fn path(&self, kind: FisherKind, step: StepSize, at: &[usize], key: Key) -> Vec<(f64, f64)> {
            let (mut stream, mut theta, mut sum) = (key.stream(), [0.0; 2], Matrix::zeros(2, 2));
            let mut found = Vec::new();
            for k in 0..=at[at.len() - 1] {
                if at.contains(&k) {
                    let difference = Matrix::from_fn(2, 2, |i, j| sum[(i, j)] / k as f64 - self.fisher[(i, j)]);
                    let values = eigh(&difference).unwrap().values;
                    let distance = (theta[0] - self.truth[0]).powi(2) + (theta[1] - self.truth[1]).powi(2);
                    found.push((values[0].max(-values[1]), distance));
                }
                let x = self.points[stream.below(8).unwrap()];
                let residual = sigmoid(dot(&x, &theta)) - self.label(&x, &self.truth, &mut stream);
                let fed = match kind {
                    FisherKind::Empirical => residual.powi(2),
                    FisherKind::Sampled => (sigmoid(dot(&x, &theta)) - self.label(&x, &theta, &mut stream)).powi(2),
                    FisherKind::Expected => sigmoid(dot(&x, &theta)) * sigmoid(-dot(&x, &theta)),
                };
                for i in 0..2 {
                    (0..2).for_each(|j| sum[(i, j)] += fed * x[i] * x[j]);
                }
                (0..2).for_each(|i| theta[i] -= step.at(k as u64) * residual * x[i]);
                let length = norm(&theta);
                theta.iter_mut().for_each(|t| *t /= length.max(1.0));
            }
            found
        }
    }

    #[test]
    fn the_modulus_and_the_drift_constants_hold_on_a_logistic_model() {
        let logistic = Logistic::new();
        let iterates = logistic.iterates(StepSize::constant(1.0));
        let of = |kind| PathRows::logistic(kind, 1.0).unwrap().drift;
        let (Drift::Linear(linear), Drift::Quadratic(quadratic)) = (of(FisherKind::Expected), of(FisherKind::Empirical)) else {
            panic!("the kinds' drifts")
        };
        let mut stream = Key::new(1).stream();
        for _ in 0..500 {
            // Inside the unit ball.
            let (angle, radius) = (6.3 * stream.uniform(), stream.uniform());
            let theta = [radius * angle.cos(), radius * angle.sin()];
            let e = [theta[0] - logistic.truth[0], theta[1] - logistic.truth[1]];
            let mean = |f: &dyn Fn(&[f64; 2]) -> f64| logistic.points.iter().map(f).sum::<f64>() / 8.0;
            let slope = mean(&|x| (sigmoid(dot(x, &theta)) - sigmoid(dot(x, &logistic.truth))) * dot(x, &e));
            assert!(slope >= iterates.sgd.strong_convexity * dot(&e, &e), "{theta:?}");
            let moved = |weight: &dyn Fn(&[f64; 2]) -> f64| {
                let entry = |i: usize, j: usize| mean(&|x| weight(x) * x[i] * x[j]) - logistic.fisher[(i, j)];
                let values = eigh(&Matrix::from_fn(2, 2, entry)).unwrap().values;
                values[0].max(-values[1])
            };
            let expected = moved(&|x| sigmoid(dot(x, &theta)) * sigmoid(-dot(x, &theta)));
            assert!(expected <= linear * norm(&e), "{theta:?}: {expected}");
            let observed = moved(&|x| {
                let (p, truth) = (sigmoid(dot(x, &theta)), sigmoid(dot(x, &logistic.truth)));
                truth * (1.0 - p).powi(2) + (1.0 - truth) * p * p
            });
            assert!(observed <= quadratic * dot(&e, &e), "{theta:?}: {observed}");
        }
    }

    /// 200 paths of each Fisher kind and schedule, long enough for the iterates' bound to say something. It is the classic one, and loose: at
    /// k = 30,000 the bound of the mean of Δ is about 10 times that mean, the one with probability 0.9 about 100 times.
    #[test]
    fn paths_of_a_logistic_model_stay_below_the_bounds() {
        let (logistic, at, delta) = (Logistic::new(), [30, 300, 3000, 30_000], 0.1);
        let top = eigh(&logistic.fisher).unwrap().values[0];
        for step in [StepSize { initial: 1.0, power: 1.0, offset: 20.0 }, StepSize::constant(0.01)] {
            let iterates = logistic.iterates(step);
            for kind in FisherKind::ALL {
                let rows = PathRows::logistic(kind, 1.0).unwrap();
                let path = SgdPath::new(rows, 2, top, Some(iterates)).unwrap();
                let found = par::map((0..200).collect(), |seed: u64| logistic.path(kind, step, &at, Key::new(seed)));
                for (i, &k) in at.iter().enumerate() {
                    let bound = path.after(k, delta).unwrap();
                    let distance = iterates.squared_distance(k, delta).unwrap();
                    let count = |failed: &dyn Fn(&(f64, f64)) -> bool| found.iter().filter(|path| failed(&path[i])).count();
                    for failures in [count(&|(error, _)| *error > bound.total()), count(&|(_, square)| *square > distance)] {
                        let rate = FailureRate::new(failures as u64, 200).unwrap();
                        assert!(rate.is_compatible_with(delta, 0.95).unwrap(), "{kind:?}, {k}: {rate:?}");
                    }
                    let mean = found.iter().map(|path| path[i].1).sum::<f64>() / 200.0;
                    assert!(mean <= iterates.mean_squared_distance(k), "{kind:?}, {k}: {mean}");
                    // The moment that everything follows from.
                    let weight = iterates.weight(k);
                    let moment = found.iter().map(|path| (weight * path[i].1).exp()).sum::<f64>() / 200.0;
                    assert!(moment <= iterates.log_moment(k).exp(), "{kind:?}, {k}: {moment}");
                    let mut errors: Vec<f64> = found.iter().map(|path| path[i].0).collect();
                    errors.sort_by(f64::total_cmp);
                    let (quantile, PathBound { sampling, drift }) = (errors[179], bound);
                    println!("{kind:?} {step:?} k = {k}: 0.9-quantile {quantile:.4}, sampling {sampling:.4}, drift {drift:.4}");
                    println!("    mean Δ {mean:.4} below {:.4}; with 0.9 {distance:.4}", iterates.mean_squared_distance(k));
                    assert!(k > 3000 || sampling < 12.0 * quantile, "idle: {sampling} for {quantile}");
                }
                let (last, end) = (path.after(30_000, delta).unwrap(), iterates.squared_distance(30_000, delta).unwrap());
                assert!(end < 1.2 && last.drift < 0.15, "vacuous: {end}, {last:?}");
            }
        }
    }

    /// Rows z·x with x on four points and z standard normal: the sub-exponential tail, which a bounded one would not cover.
    #[test]
    fn gaussian_rows_stay_below_their_bound() {
        let points = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]];
        let fisher = Matrix::from_fn(2, 2, |i, j| points.iter().map(|x| x[i] * x[j]).sum::<f64>() / 4.0);
        let rows = PathRows::gaussian(FisherKind::Sampled, 1.0, 1.0).unwrap();
        let path = SgdPath::new(rows, 2, eigh(&fisher).unwrap().values[0], None).unwrap();
        for (k, delta) in [(20, 0.2), (100, 0.05), (1000, 0.01)] {
            let bound = path.after(k, delta).unwrap().total();
            let errors = par::map((0..2000).collect(), |seed: u64| {
                let (mut stream, mut sum) = (Key::new(seed).child(k as u64).stream(), Matrix::zeros(2, 2));
                for _ in 0..k {
                    let (x, z) = (points[stream.below(4).unwrap()], stream.normal());
                    for i in 0..2 {
                        (0..2).for_each(|j| sum[(i, j)] += z * z * x[i] * x[j] / k as f64);
                    }
                }
                let values = eigh(&Matrix::from_fn(2, 2, |i, j| sum[(i, j)] - fisher[(i, j)])).unwrap().values;
                values[0].max(-values[1])
            });
            let rate = FailureRate::new(errors.iter().filter(|&&e| e > bound).count() as u64, 2000).unwrap();
            assert!(rate.is_compatible_with(delta, 0.95).unwrap(), "{k}: {rate:?}");
            let worst = errors.into_iter().fold(0.0, f64::max);
            assert!(worst > bound / 4.0, "k = {k}: {worst} for {bound}");
        }
    }

    /// The shape that the paper states: k^−1/2 past the burn-in and √log(1/δ); the observed labels' drift falls faster.
    #[test]
    fn the_bound_falls_as_one_over_the_root_and_grows_as_the_root_of_the_logarithm() {
        let iterates = Iterates::new(sgd(DECAYING)).unwrap();
        let path = |kind| SgdPath::new(PathRows::softmax(kind, 1.0).unwrap(), 6, 0.3, Some(iterates)).unwrap();
        let x = [1e5, 3e5, 1e6];
        let slope = |y: &dyn Fn(usize) -> f64| log_log_slope(&x, &x.map(|k| y(k as usize))).unwrap();
        let (sampled, observed) = (path(FisherKind::Sampled), path(FisherKind::Empirical));
        let total = slope(&|k| sampled.after(k, 0.05).unwrap().total());
        assert!((total + 0.5).abs() < 0.03, "{total}");
        let drift = slope(&|k| observed.after(k, 0.05).unwrap().drift);
        assert!((-1.0..-0.85).contains(&drift), "{drift}");
        let ratio = sampled.after(1_000_000, 1e-4).unwrap().total() / sampled.after(1_000_000, 1e-2).unwrap().total();
        assert!(ratio > 1.0 && ratio <= 2.0_f64.sqrt(), "{ratio}");
        // A constant step leaves a floor: halving the step divides it by √2.
        let floor = |alpha: f64| {
            let iterates = Iterates::new(sgd(StepSize::constant(alpha))).unwrap();
            let rows = PathRows::softmax(FisherKind::Sampled, 1.0).unwrap();
            SgdPath::new(rows, 6, 0.3, Some(iterates)).unwrap().after(1_000_000, 0.05).unwrap().drift
        };
        assert!((floor(0.1) / floor(0.05) - 2.0_f64.sqrt()).abs() < 1e-2);
    }

    #[test]
    fn inverses_differ_by_no_more_than_said() {
        let (mut worst, mut stream) = (0.0_f64, Key::new(3).stream());
        for _ in 0..2000 {
            // In one dimension, where the bound is attained: h = known + fisher, Ĥ off by `error`.
            let (known, fisher, error) = (0.1 + stream.uniform(), stream.uniform(), 0.5 * stream.uniform());
            let (min, moved) = (known + fisher, known + (fisher - error).max(0.0));
            let bound = PathBound { sampling: error, drift: 0.0 }.inverse(min, known).unwrap();
            let difference = 1.0 / moved - 1.0 / min;
            assert!(difference <= bound * (1.0 + 1e-12), "{difference} above {bound}");
            worst = worst.max(difference / bound);
        }
        assert!(worst > 0.999, "{worst}");
        let bound = PathBound { sampling: 0.5, drift: 0.5 };
        assert_eq!(bound.inverse(1.0, 0.0).unwrap(), f64::INFINITY);
        assert_eq!(bound.inverse(1.0, 0.5).unwrap(), 2.0);
    }

    #[test]
    fn assumptions_that_do_not_hold_are_refused() {
        let name = |e: Error| e.offending_argument();
        let iterates = |change: &dyn Fn(&mut InnerSgd)| {
            let mut constants = sgd(DECAYING);
            change(&mut constants);
            Iterates::new(constants).map(|_| ()).map_err(name)
        };
        assert_eq!(iterates(&|_| ()), Ok(()));
        // 2μc = 2·0.4·0.01·100 = 0.8 is not above 1.
        assert_eq!(iterates(&|s| s.step.initial = 0.01), Err(Some("step")));
        assert_eq!(iterates(&|s| s.step.initial = 1.3), Err(Some("step")));
        assert_eq!(iterates(&|s| s.step.power = 0.5), Err(Some("step")));
        assert_eq!(iterates(&|s| s.strong_convexity = 0.0), Err(Some("strong_convexity")));
        assert_eq!(iterates(&|s| s.noise = f64::INFINITY), Err(Some("noise")));
        assert_eq!(iterates(&|s| s.gradient = 0.9), Err(Some("gradient")));
        assert_eq!(iterates(&|s| s.initial_distance = f64::NAN), Err(Some("initial_distance")));
        assert_eq!(iterates(&|s| s.largest_distance = 1.9), Err(Some("largest_distance")));

        let refusal = PathRows::gaussian(FisherKind::Empirical, 1.0, 1.0).unwrap_err();
        assert!(matches!(refusal, Error::Unsupported { .. }) && refusal.to_string().contains("unbounded"));
        assert_eq!(PathRows::softmax(FisherKind::Sampled, f64::INFINITY).map_err(name), Err(Some("features")));
        let moving = PathRows::softmax(FisherKind::Sampled, 1.0).unwrap();
        assert_eq!(SgdPath::new(moving, 3, 1.0, None).map_err(name), Err(Some("iterates")));
        let path = SgdPath::new(PathRows::gaussian(FisherKind::Expected, 1.0, 1.0).unwrap(), 3, 1.0, None).unwrap();
        assert_eq!(path.after(0, 0.1).map_err(name), Err(Some("k")));
        assert_eq!(path.after(1, 0.0).map_err(name), Err(Some("delta")));
        let bound = path.after(10, 0.1).unwrap();
        assert_eq!(bound.inverse(0.0, 0.0).map_err(name), Err(Some("min_damped")));
        assert_eq!(bound.inverse(1.0, 2.0).map_err(name), Err(Some("min_known")));
    }
}
