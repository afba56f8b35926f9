//! The solution of the control problem, written out in sines. Those with j, k ≤ m are orthogonal over the grid, each with the mean square
//! κ = (m+1)²/4n, so that every mode is a problem of its own: a control with the coefficient u has the state coefficient γu with
//! γ = η/((η + λ) λ_jk), η = κw² the mode's entry of AᵀA/n, and Φ = (κ/2) Σ [(γu − t)² + αu²] and what no mode of the basis reaches.
//! No product with A, no derivative of the problem: those can be held against this.

use std::f64::consts::PI;

use super::Config;

/// Coefficients by mode, jk ↦ (k−1)p + (j−1).
#[derive(Debug, Clone)]
pub(super) struct Spectral {
    grid: usize,
    modes: usize,
    /// sin(jπ i/(m+1)), (j−1)·m + (i−1).
    sines: Vec<f64>,
    /// κ.
    mean_square: f64,
    /// w.
    weights: Vec<f64>,
    /// η.
    curvature: Vec<f64>,
    /// γ.
    gain: Vec<f64>,
    /// The coefficients of the desired state.
    target: Vec<f64>,
    /// The mean square of what of the desired state no mode reaches.
    beyond: f64,
    penalty: f64,
    ridge: f64,
}

impl Spectral {
    pub(super) fn new(config: &Config, target: &[f64]) -> Self {
        let (m, p) = (config.grid, config.modes);
        let sine = |index: usize| (PI * ((index / m + 1) * (index % m + 1)) as f64 / (m as f64 + 1.0)).sin();
        let mean_square = (m as f64 + 1.0).powi(2) / (4.0 * (m * m) as f64);
        let mut spectral = Self {
            grid: m,
            modes: p,
            sines: (0..p * m).map(sine).collect(),
            mean_square,
            weights: Vec::new(),
            curvature: Vec::new(),
            gain: Vec::new(),
            target: Vec::new(),
            beyond: 0.0,
            penalty: config.penalty,
            ridge: config.ridge,
        };
        let relative = |mode: usize| (spectral.eigenvalue(mode) / spectral.eigenvalue(0)).powf(1.0 - config.preconditioning);
        spectral.weights = (0..p * p).map(|mode| relative(mode) / mean_square.sqrt()).collect();
        spectral.curvature = spectral.weights.iter().map(|w| mean_square * w * w).collect();
        let gain = |(mode, eta): (usize, &f64)| eta / ((eta + config.ridge) * spectral.eigenvalue(mode));
        spectral.gain = spectral.curvature.iter().enumerate().map(gain).collect();
        spectral.target = spectral.coefficients(target);
        let rest = target.iter().zip(spectral.sum(&spectral.target)).map(|(t, s)| (t - s).powi(2)).sum::<f64>();
        spectral.beyond = rest / target.len() as f64;
        spectral
    }

    pub(super) fn grid(&self) -> usize {
        self.grid
    }

    /// λ_jk.
    pub(super) fn eigenvalue(&self, mode: usize) -> f64 {
        let (j, k) = ((mode % self.modes + 1) as f64, (mode / self.modes + 1) as f64);
        PI * PI * (j * j + k * k)
    }

    /// w_jk.
    pub(super) fn weight(&self, mode: usize) -> f64 {
        self.weights[mode]
    }

    /// sin(jπx) sin(kπy) at point i.
    pub(super) fn sine(&self, mode: usize, i: usize) -> f64 {
        let along = |frequency: usize, place: usize| self.sines[frequency * self.grid + place];
        along(mode % self.modes, i % self.grid) * along(mode / self.modes, i / self.grid)
    }

    /// The largest κ(w/λ_jk)².
    pub(super) fn largest_state_curvature(&self) -> f64 {
        let of = |(mode, eta): (usize, &f64)| eta / self.eigenvalue(mode).powi(2);
        self.curvature.iter().enumerate().map(of).fold(0.0, f64::max)
    }

    /// The coefficients of values at the points.
    fn coefficients(&self, values: &[f64]) -> Vec<f64> {
        let scale = self.mean_square * values.len() as f64;
        let of = |mode| values.iter().enumerate().map(|(i, x)| x * self.sine(mode, i)).sum::<f64>() / scale;
        (0..self.modes * self.modes).map(of).collect()
    }

    /// Σ c_jk sin(jπx) sin(kπy) at the points.
    fn sum(&self, coefficients: &[f64]) -> Vec<f64> {
        let at = |i| coefficients.iter().enumerate().map(|(mode, c)| c * self.sine(mode, i)).sum();
        (0..self.grid * self.grid).map(at).collect()
    }

    /// The coefficients of v*, γt/(γ² + α).
    fn best(&self) -> impl Iterator<Item = f64> + '_ {
        self.gain.iter().zip(&self.target).map(|(g, t)| g * t / (g * g + self.penalty))
    }

    /// v*.
    pub(super) fn minimizer(&self) -> Vec<f64> {
        self.sum(&self.best().collect::<Vec<_>>())
    }

    /// Φ* = (κ/2) Σ αt²/(γ² + α) and the part of t that no mode reaches.
    pub(super) fn least(&self) -> f64 {
        let of = |(g, t): (&f64, &f64)| self.penalty * t * t / (g * g + self.penalty);
        0.5 * (self.mean_square * self.gain.iter().zip(&self.target).map(of).sum::<f64>() + self.beyond)
    }

    /// Φ(v) − Φ* = (κ/2) Σ (γ² + α)(u − u*)² and the price of the part of v that no mode has.
    pub(super) fn gap(&self, v: &[f64]) -> f64 {
        let u = self.coefficients(v);
        let beyond = v.iter().zip(self.sum(&u)).map(|(v, s)| (v - s).powi(2)).sum::<f64>() / v.len() as f64;
        let of = |((u, best), g): ((&f64, f64), &f64)| (g * g + self.penalty) * (u - best).powi(2);
        0.5 * (self.mean_square * u.iter().zip(self.best()).zip(&self.gain).map(of).sum::<f64>() + self.penalty * beyond)
    }

    /// θ* = ηu/((η + λ)w)
    pub(super) fn inner(&self, v: &[f64]) -> Vec<f64> {
        let of = |((u, eta), w): ((f64, &f64), &f64)| eta / (eta + self.ridge) * u / w;
        self.coefficients(v).into_iter().zip(&self.curvature).zip(&self.weights).map(of).collect()
    }

    /// ∇Φ = (1/n)(Σ γ(γu − t) sin sin + αv)
    pub(super) fn gradient(&self, v: &[f64]) -> Vec<f64> {
        let of = |((u, g), t): ((f64, &f64), &f64)| g * (g * u - t);
        let slopes: Vec<f64> = self.coefficients(v).into_iter().zip(&self.gain).zip(&self.target).map(of).collect();
        let n = v.len() as f64;
        self.sum(&slopes).into_iter().zip(v).map(|(s, v)| (s + self.penalty * v) / n).collect()
    }
}
