//! `sgd-path`: how far the inverse of Ĥ_k = (βI + Σ_{j≤k} s_j s_jᵀ)/k, with the scores s_j that inner SGD meets on its way (the paper's rank-one
//! form, Kong, Chen, Zhang & Mou 2026), is from H⁻¹, H the Hessian at the generating parameter θ*. Logistic regression in one vector on a
//! finite population of unit vectors, one fresh sample a step, θ kept in a ball as the proofs want it.
//!
//! At θ ≠ θ* the mean of s sᵀ exceeds H by E[(p − p*)² xxᵀ]: second order in θ − θ*. So for α_k = c/(k + k₀) the path costs O(log k/k), and
//! E‖Ĥ_k⁻¹ − H⁻¹‖²_F → C/k with C = E‖H⁻¹s‖⁴ − ‖H⁻¹‖²_F, that of fresh rows at θ*. For a constant α the iterates keep a covariance of about (α/2)I
//! (of a well-specified model, to first order in α), and the error flattens at that of H + B, B = (α/2) E[(p(1 − p))² ‖x‖² xxᵀ].

use serde::{Deserialize, Serialize};

use super::replicates::Curves;
use crate::bounds::{Claim, Measured, Quantile, Rule, mean_with_limits, quantile_with_limits};
use crate::dense::{Cholesky, Matrix, dot, eigh, matvec, norm};
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::{Table, cell};
use crate::laboratory::picture::{Axis, Band, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Experiment, Findings, Pieces, Registered, Rows, Size, rounded, settings_of};
use crate::rng::Key;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SgdPath {
    /// The numbers k of steps at which the error is taken, ascending.
    pub steps: Vec<usize>,
    /// Independent paths with decaying steps.
    pub replicates: usize,
    /// Independent paths with each constant step.
    pub constant_replicates: usize,
    /// The burn-in: the slope is fitted from this k on.
    pub slope_from: usize,
    /// The exponent that is claimed.
    pub exponent: f64,
    /// The half-width of what still counts as that exponent.
    pub tolerance: f64,
    /// c of α_k = c/(k + k₀), in units of 1/λ_min(H).
    pub decay_scale: f64,
    /// k₀.
    pub decay_offset: f64,
    /// The constant step sizes α.
    pub constant_steps: Vec<f64>,
    /// The δ of the quantiles 1 − δ, falling; the growth of the others is measured against the first one.
    pub deltas: Vec<f64>,
    /// d.
    pub dim: usize,
    /// The points of the population.
    pub points: usize,
    /// ‖θ*‖.
    pub truth_norm: f64,
    /// The radius of the ball around 0 that θ is kept in.
    pub ball: f64,
    /// β.
    pub beta: f64,
}

impl Registered for SgdPath {
    const NAME: &'static str = "sgd-path";
    const ABOUT: &'static str = "the error of the inverse that inner SGD builds on its way: k^−1/2, and its quantiles as √log(1/δ)";

    fn sized(size: Size) -> Self {
        let (steps, replicates, constant_replicates) = match size {
            Size::Quick => (vec![30, 100, 300, 1000, 3000, 10_000, 30_000], 1500, 300),
            Size::Full => (vec![30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000], 3000, 400),
        };
        Self {
            steps,
            replicates,
            constant_replicates,
            slope_from: 300,
            exponent: -0.5,
            tolerance: 0.08,
            decay_scale: 1.0,
            decay_offset: 200.0,
            constant_steps: vec![1.0, 0.1],
            deltas: vec![0.2, 0.1, 0.05, 0.01],
            dim: 6,
            points: 60,
            truth_norm: 2.0,
            ball: 4.0,
            beta: 0.1,
        }
    }
}

/// How steps shrink.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Schedule {
    /// α_k = c/(k + k₀), c in units of 1/λ_min(H).
    Decaying { scale: f64, offset: f64 },
    /// α.
    Constant(f64),
}

impl Schedule {
    fn name(self) -> String {
        match self {
            Self::Decaying { .. } => DECAYING.to_owned(),
            Self::Constant(step) => format!("α = {step}"),
        }
    }
}

/// The name of the decaying schedule.
const DECAYING: &str = "decaying";
/// The largest relative difference of a mean square from its asymptotic value.
const CONSTANT_TOLERANCE: f64 = 0.1;
/// The same where the value is right to first order in α.
const FLOOR_TOLERANCE: f64 = 0.2;

/// Logistic regression on a finite population, everything at θ* known exactly.
struct Logistic {
    dim: usize,
    /// Unit vectors, one after the other.
    points: Vec<f64>,
    /// P(y = 1 | x) at each point.
    probabilities: Vec<f64>,
    hessian: Matrix,
    inverse: Matrix,
    least: f64,
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
    fn new(settings: &SgdPath, key: Key) -> Result<Self> {
        let (d, n) = (settings.dim, settings.points);
        let mut points = key.named("points").stream().normals(d * n);
        for x in points.chunks_exact_mut(d) {
            // Unequal directions, so that H is no multiple of the identity.
            x.iter_mut().enumerate().for_each(|(j, x)| *x /= (j as f64 + 1.0).powf(0.25));
            let length = norm(x);
            x.iter_mut().for_each(|x| *x /= length);
        }
        let mut truth = key.named("truth").stream().normals(d);
        let length = norm(&truth);
        truth.iter_mut().for_each(|t| *t *= settings.truth_norm / length);
        let probabilities: Vec<f64> = points.chunks_exact(d).map(|x| sigmoid(dot(x, &truth))).collect();
        let mut logistic =
            Self { dim: d, points, probabilities, hessian: Matrix::zeros(d, d), inverse: Matrix::zeros(d, d), least: 0.0 };
        logistic.hessian = logistic.mean(|p, _| p * (1.0 - p));
        let eigenvalues = eigh(&logistic.hessian)?.values;
        logistic.least = eigenvalues.last().copied().unwrap_or(0.0);
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

    /// C = E‖H⁻¹s‖⁴ − ‖H⁻¹‖²_F.
    fn scatter(&self) -> Result<f64> {
        let mut sum = 0.0;
        for (i, &p) in self.probabilities.iter().enumerate() {
            let solved = matvec(&self.inverse, self.point(i))?;
            // E (p − y)⁴
            sum += (p * (1.0 - p).powi(4) + (1.0 - p) * p.powi(4)) * dot(&solved, &solved).powi(2);
        }
        Ok(sum / self.count() as f64 - self.inverse.norm().powi(2))
    }

    /// ‖(H + B)⁻¹ − H⁻¹‖_F for a constant α.
    fn floor(&self, step: f64) -> Result<f64> {
        let mut biased = self.mean(|p, x| 0.5 * step * (p * (1.0 - p)).powi(2) * dot(x, x));
        biased.add_scaled(1.0, &self.hessian)?;
        let mut difference = inverse(&biased)?;
        difference.add_scaled(-1.0, &self.inverse)?;
        Ok(difference.norm())
    }

    /// Σ s sᵀ at each of the numbers of steps, from θ_0 = 0.
    fn path(&self, settings: &SgdPath, schedule: Schedule, key: Key) -> Result<Vec<Matrix>> {
        let d = self.dim;
        let (mut samples, mut labels) = (key.named("x").stream(), key.named("y").stream());
        let (mut theta, mut sum, mut found) = (vec![0.0; d], Matrix::zeros(d, d), Vec::new());
        let mut k = 0;
        for &steps in &settings.steps {
            while k < steps {
                let i = samples.below(self.count())?;
                let x = self.point(i);
                let label = f64::from(u8::from(labels.uniform() < self.probabilities[i]));
                let residual = sigmoid(dot(x, &theta)) - label;
                for b in 0..d {
                    let weight = residual * residual * x[b];
                    sum.col_mut(b).iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * x);
                }
                let step = match schedule {
                    Schedule::Decaying { scale, offset } => scale / self.least / (k as f64 + offset),
                    Schedule::Constant(step) => step,
                };
                theta.iter_mut().zip(x).for_each(|(theta, x)| *theta -= step * residual * x);
                let length = norm(&theta);
                if length > settings.ball {
                    theta.iter_mut().for_each(|theta| *theta *= settings.ball / length);
                }
                k += 1;
            }
            found.push(sum.clone());
        }
        Ok(found)
    }

    /// ‖Ĥ⁻¹ − H⁻¹‖ over ‖H⁻¹‖ in the spectral and in the Frobenius norm, Ĥ = (βI + sum)/k.
    fn errors(&self, mut sum: Matrix, k: usize, beta: f64) -> Result<[f64; 2]> {
        (0..self.dim).for_each(|j| sum[(j, j)] += beta);
        sum.scale(1.0 / k as f64);
        let mut difference = inverse(&sum)?;
        difference.add_scaled(-1.0, &self.inverse)?;
        let spectral = eigh(&difference)?.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        Ok([spectral * self.least, difference.norm() / self.inverse.norm()])
    }
}

impl SgdPath {
    fn schedules(&self) -> Vec<Schedule> {
        let decaying = Schedule::Decaying { scale: self.decay_scale, offset: self.decay_offset };
        std::iter::once(decaying).chain(self.constant_steps.iter().map(|&step| Schedule::Constant(step))).collect()
    }

    fn last(&self) -> usize {
        self.steps.last().copied().unwrap_or(0)
    }

    /// q(1 − δ) with joint limits for two of them: each has half of what may be missed.
    fn quantile(values: &[f64], delta: f64) -> Result<Quantile> {
        quantile_with_limits(values, 1.0 - delta, 0.5 * (1.0 + CONFIDENCE))
    }

    /// The claims' δ: all but the first.
    fn rare(&self) -> &[f64] {
        self.deltas.get(1..).unwrap_or_default()
    }
}

/// √(log(1/δ)/log(1/δ₀))
fn growth(delta: f64, reference: f64) -> f64 {
    (delta.ln() / reference.ln()).sqrt()
}

impl Experiment for SgdPath {
    fn validate(&self) -> Result<()> {
        if self.steps.first().is_none_or(|&k| k == 0) || self.steps.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Error::argument("steps", "ascending counts of at least 1", format_args!("{:?}", self.steps)));
        }
        for (name, count) in [("replicates", self.replicates), ("constant_replicates", self.constant_replicates)] {
            if count < 2 {
                return Err(Error::argument(name, "at least 2 for limits", count));
            }
        }
        if self.steps.iter().filter(|&&k| k >= self.slope_from).count() < 2 {
            return Err(Error::argument("slope_from", "at least 2 of the numbers of steps from there on", self.slope_from));
        }
        let inside = |&delta: &f64| delta > 0.0 && delta < 1.0;
        if self.deltas.is_empty() || !self.deltas.iter().all(inside) || self.deltas.windows(2).any(|w| w[0] <= w[1]) {
            return Err(Error::argument("deltas", "falling probabilities inside (0, 1)", format_args!("{:?}", self.deltas)));
        }
        let positive = [
            ("tolerance", self.tolerance),
            ("decay_scale", self.decay_scale),
            ("decay_offset", self.decay_offset),
            ("truth_norm", self.truth_norm),
            ("beta", self.beta),
        ];
        positive.into_iter().try_for_each(|(name, value)| check_positive(name, value))?;
        self.constant_steps.iter().try_for_each(|&step| check_positive("constant_steps", step))?;
        check_count("dim", self.dim)?;
        if self.points < self.dim {
            return Err(Error::argument("points", format_args!("at least dim = {}, or H is singular", self.dim), self.points));
        }
        if !(self.ball.is_finite() && self.ball > self.truth_norm) {
            return Err(Error::argument("ball", format_args!("more than truth_norm = {}", self.truth_norm), self.ball));
        }
        Ok(())
    }

    fn claims(&self) -> Vec<Claim> {
        let (from, last, first) = (self.slope_from, self.last(), self.deltas[0]);
        let mut claims = vec![
            (
                format!("{DECAYING} α: slope of log ‖Ĥₖ⁻¹ − H⁻¹‖ by log k, k = {from} … {last}"),
                Rule::SlopeWithin { predicted: self.exponent, tolerance: self.tolerance },
            ),
            (
                format!("{DECAYING} α: k E‖Ĥₖ⁻¹ − H⁻¹‖²_F over C, that of fresh rows at θ*, at k = {last}"),
                Rule::Agrees { predicted: 1.0, relative: CONSTANT_TOLERANCE },
            ),
        ];
        claims.extend(self.rare().iter().map(|&delta| {
            let claim = format!(
                "{DECAYING} α: growth of the quantile from δ = {first} to {delta}, at most that of √log(1/δ), at k = {last}"
            );
            (claim, Rule::AtMost { bound: growth(delta, first) })
        }));
        claims.extend(self.constant_steps.iter().map(|step| {
            let claim = format!("α = {step}: E‖Ĥₖ⁻¹ − H⁻¹‖²_F over C/k + the square of the floor of that α, at k = {last}");
            (claim, Rule::Agrees { predicted: 1.0, relative: FLOOR_TOLERANCE })
        }));
        claims.into_iter().map(|(claim, rule)| Claim::new(Self::NAME, claim, rule)).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["schedule", "replicate", "k", "error", "frobenius_error"]
    }

    fn pieces(&self) -> usize {
        self.replicates + self.constant_steps.len() * self.constant_replicates
    }

    fn work(&self, _piece: usize) -> u64 {
        1 + self.last() as u64 / 12
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let logistic = Logistic::new(self, bench.key)?;
        let schedules = self.schedules();
        Ok(Box::new(move |piece| {
            let (index, replicate) = match piece.checked_sub(self.replicates) {
                None => (0, piece),
                Some(constant) => (1 + constant / self.constant_replicates, constant % self.constant_replicates),
            };
            let schedule = schedules[index];
            let key = bench.key.named(&schedule.name()).child(replicate as u64);
            let mut rows = Rows::default();
            for (&k, sum) in self.steps.iter().zip(logistic.path(self, schedule, key)?) {
                let errors = logistic.errors(sum, k, self.beta)?;
                rows.push([schedule.name(), replicate.to_string(), k.to_string()].into_iter().chain(errors.map(rounded)));
            }
            Ok(rows)
        }))
    }

    fn measure(&self, bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let logistic = Logistic::new(self, bench.key)?;
        let (scatter, size) = (logistic.scatter()?, logistic.inverse.norm());
        let mut findings = Findings::default();
        let mut theory = Table::new(["schedule", "k", "frobenius_error"]);
        let mut quantiles = Table::new(["schedule", "k", "delta", "log_inverse_delta", "quantile", "low", "high", "growth"]);
        let mut local = Table::new(["schedule", "k_from", "k_to", "k", "slope", "low", "high"]);
        for schedule in self.schedules() {
            let name = schedule.name();
            let curves = Curves::read(rows, &[("schedule", &name)], "k", "error")?;
            let squares = Curves::read(rows, &[("schedule", &name)], "k", "frobenius_error")?;
            let last = curves.x.len() - 1;
            let floor = match schedule {
                Schedule::Decaying { .. } => 0.0,
                Schedule::Constant(step) => logistic.floor(step)?,
            };
            let expected = |k: f64| scatter / k + floor * floor;
            for &k in &curves.x {
                theory.push([name.clone(), cell(k), cell(expected(k).sqrt() / size)])?;
            }
            // From each place to the next but one: a decade.
            for i in 2..curves.x.len() {
                let (from, to) = (curves.x[i - 2], curves.x[i]);
                let slope = curves.between(from, to).slope()?;
                let numbers = [from, to, (from * to).sqrt(), slope.mean, slope.lower, slope.upper];
                local.push(std::iter::once(name.clone()).chain(numbers.map(cell)))?;
            }
            for (i, &k) in curves.x.iter().enumerate() {
                let first = Self::quantile(&curves.at(i), self.deltas[0])?;
                for &delta in &self.deltas {
                    let Quantile { value, lower, upper } = Self::quantile(&curves.at(i), delta)?;
                    let predicted = first.value * growth(delta, self.deltas[0]);
                    let numbers = [k, delta, -delta.ln(), value, lower, upper, predicted];
                    quantiles.push(std::iter::once(name.clone()).chain(numbers.map(cell)))?;
                }
            }
            let ratios: Vec<f64> = squares.at(last).iter().map(|error| (error * size).powi(2) / expected(curves.x[last])).collect();
            let (value, half) = mean_with_limits("replicates", &ratios, CONFIDENCE)?;
            let constant = Measured { value, low: value - half, high: value + half };
            if let Schedule::Constant(_) = schedule {
                findings.measured.push(constant);
                continue;
            }
            findings.measured.push(curves.between(self.slope_from as f64, f64::INFINITY).slope()?.into());
            findings.measured.push(constant);
            let first = Self::quantile(&curves.at(last), self.deltas[0])?;
            for &delta in self.rare() {
                let rare = Self::quantile(&curves.at(last), delta)?;
                findings.measured.push(Measured {
                    value: rare.value / first.value,
                    low: rare.lower / first.upper,
                    high: rare.upper / first.lower,
                });
            }
        }
        let named = |what: &str, table: Table| (format!("{}-{what}", Self::NAME), table);
        findings.tables = vec![named("theory", theory), named("quantiles", quantiles), named("local-slopes", local)];
        Ok(findings)
    }

    fn pictures(&self) -> Vec<Picture> {
        let table = |what: &str| format!("{}-{what}", Self::NAME);
        let steps = || Axis::log("steps k (count)");
        let fit = vec![(self.slope_from as f64, "fit from here".to_owned())];
        let panel = |title: &str, x: Axis, layers: Vec<Layer>| Panel { title: title.into(), x, layers, verticals: vec![] };
        let limits = || Band::Columns("low".into(), "high".into());
        let replicates = self.replicates;
        let decay = format!("decaying: αₖ = c/(k + k₀), c = {}/λ_min(H), k₀ = {}", self.decay_scale, self.decay_offset);
        vec![
            Picture {
                file: Self::NAME.into(),
                title: "The inverse that inner SGD builds on its way".into(),
                caption: format!(
                    "Relative error of Ĥₖ⁻¹ along inner SGD on a logistic model with d = {}: root mean square over {replicates} paths ({} for a constant α) \
                     with a band from the 5 % to the 95 % quantile; {decay}. Broken lines: the asymptotic value √(C/k + floor²), C that \
                     of fresh rows at θ*, the floor of a constant α to first order in α.",
                    self.dim, self.constant_replicates
                ),
                drawing: Drawing::Curves {
                    y: Axis::log("‖Ĥₖ⁻¹ − H⁻¹‖_F / ‖H⁻¹‖_F (no unit)"),
                    panels: vec![Panel {
                        verticals: fit.clone(),
                        ..panel(
                            "",
                            steps(),
                            vec![
                                Layer::new(Self::NAME, "k", "frobenius_error")
                                    .by("schedule")
                                    .center(crate::laboratory::picture::Center::RootMeanSquare)
                                    .band(Band::Quantiles(0.05, 0.95))
                                    .named("{schedule}"),
                                Layer::new(table("theory"), "k", "frobenius_error")
                                    .by("schedule")
                                    .theory()
                                    .named("asymptotic value"),
                            ],
                        )
                    }],
                },
            },
            Picture {
                file: table("quantiles"),
                title: "Quantiles of the error along inner SGD".into(),
                caption: format!(
                    "Quantiles 1 − δ over {replicates} paths with distribution-free limits (order statistics, 97.5 % each), {decay}. Left: \
                     against k. Right: at k = {} against log(1/δ); broken line: growth as √log(1/δ) from δ = {} on, which the quantiles \
                     stay below.",
                    self.last(),
                    self.deltas[0]
                ),
                drawing: Drawing::Curves {
                    y: Axis::log("quantile of ‖Ĥₖ⁻¹ − H⁻¹‖ / ‖H⁻¹‖ (no unit)"),
                    panels: vec![
                        Panel {
                            verticals: fit,
                            ..panel(
                                "against steps",
                                steps(),
                                vec![
                                    Layer::new(table("quantiles"), "k", "quantile")
                                        .only("schedule", DECAYING)
                                        .by("delta")
                                        .band(limits())
                                        .named("δ = {delta}"),
                                ],
                            )
                        },
                        panel(
                            "against log(1/δ)",
                            Axis::log("log(1/δ) (no unit)"),
                            vec![
                                Layer::new(table("quantiles"), "log_inverse_delta", "growth")
                                    .only("schedule", DECAYING)
                                    .only("k", cell(self.last() as f64))
                                    .theory()
                                    .named("growth as √log(1/δ)"),
                                Layer::new(table("quantiles"), "log_inverse_delta", "quantile")
                                    .only("schedule", DECAYING)
                                    .only("k", cell(self.last() as f64))
                                    .band(limits())
                                    .named("all δ"),
                            ],
                        ),
                    ],
                },
            },
            Picture {
                file: table("local-slopes"),
                title: "Local slope of the error along inner SGD".into(),
                caption: format!(
                    "Slope of log ‖Ĥₖ⁻¹ − H⁻¹‖ by log k within a decade, at its middle: mean over the paths with Student's 95 % limits; {decay}."
                ),
                drawing: Drawing::Curves {
                    y: Axis::linear("local slope (no unit)"),
                    panels: vec![panel(
                        "",
                        steps(),
                        vec![Layer::new(table("local-slopes"), "k", "slope").by("schedule").band(limits()).named("{schedule}")],
                    )],
                },
            },
        ]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::CurvatureConfig;
    use crate::gradient::DenseRows;

    fn small() -> SgdPath {
        SgdPath { steps: vec![10, 200], ..SgdPath::sized(Size::Quick) }
    }

    /// The registry's own rank-one family, fed row by row along a path that is walked here anew.
    #[test]
    fn the_inverse_is_that_of_the_rank_one_family_fed_with_the_same_scores() {
        let settings = small();
        let logistic = Logistic::new(&settings, Key::new(3)).unwrap();
        let key = Key::new(4);
        let (mut samples, mut labels) = (key.named("x").stream(), key.named("y").stream());
        let mut theta = vec![0.0; settings.dim];
        let Some(CurvatureConfig::RankOne(mut config)) = CurvatureConfig::default_of("rank-one") else { panic!() };
        config.beta = settings.beta;
        let mut family = CurvatureConfig::RankOne(config).build(settings.dim, key).unwrap();
        let sums = logistic.path(&settings, Schedule::Constant(0.5), key).unwrap();
        let mut compared = 0;
        for k in 1..=200 {
            let i = samples.below(settings.points).unwrap();
            let label = if labels.uniform() < logistic.probabilities[i] { 1.0 } else { 0.0 };
            let residual = sigmoid(dot(logistic.point(i), &theta)) - label;
            let score: Vec<f64> = logistic.point(i).iter().map(|x| residual * x).collect();
            family.absorb(&DenseRows::new(Matrix::column(score.clone()), 1).unwrap().into()).unwrap();
            theta.iter_mut().zip(&score).for_each(|(theta, s)| *theta -= 0.5 * s);
            if let Some(at) = settings.steps.iter().position(|&steps| steps == k) {
                let mut ours = sums[at].clone();
                (0..settings.dim).for_each(|j| ours[(j, j)] += settings.beta);
                ours.scale(1.0 / k as f64);
                let ours = inverse(&ours).unwrap();
                let known = crate::inverse::KnownCurvature::scalar(settings.dim, 0.0).unwrap();
                let theirs = family.approximate().unwrap().solve(&known, &Matrix::identity(settings.dim)).unwrap();
                let mut difference = theirs;
                difference.add_scaled(-1.0, &ours).unwrap();
                assert!(difference.norm() < 1e-10 * ours.norm(), "k = {k}");
                compared += 1;
            }
        }
        assert_eq!(compared, 2);
    }

    /// C by simulation: fresh rows at θ*, k large.
    #[test]
    fn the_asymptotic_constant_is_that_of_fresh_rows() {
        let settings = small();
        let logistic = Logistic::new(&settings, Key::new(3)).unwrap();
        let (k, runs) = (20_000, 200);
        let run = |r: u64| {
            let mut stream = Key::new(5).child(r).stream();
            let mut sum = Matrix::zeros(settings.dim, settings.dim);
            for _ in 0..k {
                let i = stream.below(settings.points).unwrap();
                let p = logistic.probabilities[i];
                let residual = p - if stream.uniform() < p { 1.0 } else { 0.0 };
                let x = logistic.point(i);
                (0..settings.dim).for_each(|b| (0..settings.dim).for_each(|a| sum[(a, b)] += residual * residual * x[a] * x[b]));
            }
            (logistic.errors(sum, k, 0.0).unwrap()[1] * logistic.inverse.norm()).powi(2) * k as f64
        };
        let values: Vec<f64> = (0..runs).map(run).collect();
        let (mean, half) = mean_with_limits("values", &values, 0.999).unwrap();
        let expected = logistic.scatter().unwrap();
        // Second order in 1/k, besides the limits.
        assert!((mean - expected).abs() < half + 0.05 * expected, "{mean} ± {half} for {expected}");
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused_by_name() {
        let name = |settings: SgdPath| settings.validate().unwrap_err().offending_argument();
        assert_eq!(name(SgdPath { steps: vec![10, 5], ..small() }), Some("steps"));
        assert_eq!(name(SgdPath { slope_from: 1000, ..small() }), Some("slope_from"));
        assert_eq!(name(SgdPath { slope_from: 1, deltas: vec![0.1, 0.2], ..small() }), Some("deltas"));
        assert_eq!(name(SgdPath { slope_from: 1, ball: 1.0, ..small() }), Some("ball"));
        assert_eq!(name(SgdPath { slope_from: 1, points: 3, ..small() }), Some("points"));
    }
}
