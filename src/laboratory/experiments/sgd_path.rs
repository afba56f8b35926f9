//! `sgd-path`: how far the inverse of Ĥ_k = (βI + Σ_{j≤k} s_j s_jᵀ)/k, with the scores s_j that inner SGD meets on its way (the paper's rank-one
//! form, Kong, Chen, Zhang & Mou 2026), is from H⁻¹, H the Hessian at the generating parameter θ*. Logistic regression in one vector on a
//! finite population of unit vectors, one fresh sample a step, θ kept in a ball as the proofs want it.
//!
//! At θ ≠ θ* the mean of s sᵀ exceeds H by E[(p − p*)² xxᵀ]: second order in θ − θ*. So for α_k = c/(k + k₀) the path costs O(log k/k), and
//! E‖Ĥ_k⁻¹ − H⁻¹‖²_F → C/k with C = E‖H⁻¹s‖⁴ − ‖H⁻¹‖²_F, that of fresh rows at θ*. For a constant α the iterates keep a covariance of about (α/2)I
//! (of a well-specified model, to first order in α), and the error flattens at that of H + B, B = (α/2) E[(p(1 − p))² ‖x‖² xxᵀ].

use serde::{Deserialize, Serialize};

use super::logistic::Logistic;
use super::replicates::Curves;
use crate::bilevel::StepSize;
use crate::bounds::{
    self, Claim, InnerSgd, Iterates, Measured, PathRows, Quantile, Rule, mean_with_limits, quantile_with_limits,
    self_concordant_modulus,
};
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::{Table, cell};
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Experiment, Findings, Pieces, Registered, Rows, Size, rounded, settings_of};
use crate::model::FisherKind;
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
            Size::Full => (vec![30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000], 1500, 200),
        };
        Self {
            steps,
            replicates,
            constant_replicates,
            slope_from: 300,
            exponent: -0.5,
            tolerance: 0.08,
            decay_scale: 2.5,
            decay_offset: 200.0,
            constant_steps: vec![0.3, 0.03],
            deltas: vec![0.2, 0.1, 0.05, 0.01],
            dim: 5,
            points: 60,
            truth_norm: 1.0,
            ball: 3.0,
            beta: 0.1,
        }
    }
}

/// Step sizes and their name.
#[derive(Debug, Clone, PartialEq)]
struct Schedule {
    name: String,
    step: StepSize,
}

/// The name of the decaying schedule.
const DECAYING: &str = "decaying";
/// The largest relative difference of a mean square from its asymptotic value.
const CONSTANT_TOLERANCE: f64 = 0.1;
/// The same where the value is right to first order in α.
const FLOOR_TOLERANCE: f64 = 0.2;

impl SgdPath {
    fn population(&self, key: Key) -> Result<Logistic> {
        Logistic::new(self.dim, self.points, self.truth_norm, key)
    }

    /// The decaying schedule for this λ_min(H), then the constant ones.
    fn schedules(&self, least: f64) -> Vec<Schedule> {
        let initial = self.decay_scale / least / self.decay_offset;
        let decaying = Schedule { name: DECAYING.into(), step: StepSize { initial, power: 1.0, offset: self.decay_offset } };
        let constant = |&step: &f64| Schedule { name: format!("α = {step}"), step: StepSize::constant(step) };
        std::iter::once(decaying).chain(self.constant_steps.iter().map(constant)).collect()
    }

    /// The bound of ‖Ĥ_k − H‖/‖H‖ with probability 1 − δ by `bounds::sgd_path`, in the population's constants: unit features, θ_0 = 0, θ and θ* in
    /// the ball.
    fn bound(&self, logistic: &Logistic, step: StepSize, k: usize, delta: f64) -> Result<f64> {
        let distance = self.truth_norm + self.ball;
        let iterates = Iterates::new(InnerSgd {
            strong_convexity: self_concordant_modulus(logistic.least, distance)?,
            noise: 1.0,
            gradient: 1.0,
            initial_distance: self.truth_norm,
            largest_distance: distance,
            step,
        })?;
        let rows = PathRows::logistic(FisherKind::Empirical, 1.0)?;
        let path = bounds::SgdPath::new(rows, self.dim, logistic.greatest, Some(iterates))?.after(k, delta)?;
        // βI/k comes on top.
        Ok((path.total() + self.beta / k as f64) / logistic.greatest)
    }

    /// Where the bound is drawn: at the steps, and further than anyone walks.
    fn bound_steps(&self) -> Vec<usize> {
        let further = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000].into_iter().filter(|&k| k > self.last());
        self.steps.iter().copied().chain(further).collect()
    }

    fn last(&self) -> usize {
        self.steps.last().copied().unwrap_or(0)
    }

    /// The claims' δ: all but the first.
    fn rare(&self) -> &[f64] {
        self.deltas.get(1..).unwrap_or_default()
    }
}

/// q(1 − δ) with limits that hold jointly for two of them: each has half of what may be missed.
fn quantile(values: &[f64], delta: f64) -> Result<Quantile> {
    quantile_with_limits(values, 1.0 - delta, 0.5 * (1.0 + CONFIDENCE))
}

/// √(log(1/δ)/log(1/δ₀))
fn growth(delta: f64, reference: f64) -> f64 {
    (delta.ln() / reference.ln()).sqrt()
}

/// The tables that follow from the experiment's own.
struct Tables {
    theory: Table,
    local_slopes: Table,
    quantiles: Table,
    bounds: Table,
}

/// Adds a row: a schedule's name and numbers.
fn push(table: &mut Table, name: &str, numbers: &[f64]) -> Result<()> {
    table.push(std::iter::once(name.to_owned()).chain(numbers.iter().map(|&number| cell(number))))
}

impl Tables {
    fn new() -> Self {
        Self {
            theory: Table::new(["schedule", "k", "frobenius_error"]),
            local_slopes: Table::new(["schedule", "k_from", "k_to", "k", "slope", "low", "high", "claimed"]),
            quantiles: Table::new([
                "schedule",
                "k",
                "delta",
                "log_inverse_delta",
                "quantile",
                "low",
                "high",
                "growth",
                "hessian_quantile",
            ]),
            bounds: Table::new(["schedule", "k", "delta", "bound"]),
        }
    }

    fn named(self) -> Vec<(String, Table)> {
        let Self { theory, local_slopes, quantiles, bounds } = self;
        let tables = [("theory", theory), ("local-slopes", local_slopes), ("quantiles", quantiles), ("bounds", bounds)];
        tables.into_iter().map(|(what, table)| (stem(what), table)).collect()
    }

    fn add_theory(&mut self, name: &str, steps: &[f64], expected: impl Fn(f64) -> Result<f64>) -> Result<()> {
        steps.iter().try_for_each(|&k| push(&mut self.theory, name, &[k, expected(k)?]))
    }

    /// From each place to the next but one: a decade.
    fn add_local_slopes(&mut self, name: &str, errors: &Curves, claimed: f64) -> Result<()> {
        for ends in errors.x.windows(3) {
            let (from, to) = (ends[0], ends[2]);
            let slope = errors.between(from, to).slope()?;
            let numbers = [from, to, (from * to).sqrt(), slope.mean, slope.lower, slope.upper, claimed];
            push(&mut self.local_slopes, name, &numbers)?;
        }
        Ok(())
    }

    fn add_quantiles(&mut self, name: &str, (inverse, hessian): (&Curves, &Curves), deltas: &[f64]) -> Result<()> {
        for (i, &k) in inverse.x.iter().enumerate() {
            let first = quantile(&inverse.at(i), deltas[0])?;
            for &delta in deltas {
                let Quantile { value, lower, upper } = quantile(&inverse.at(i), delta)?;
                let predicted = first.value * growth(delta, deltas[0]);
                let of_hessian = quantile(&hessian.at(i), delta)?.value;
                push(&mut self.quantiles, name, &[k, delta, -delta.ln(), value, lower, upper, predicted, of_hessian])?;
            }
        }
        Ok(())
    }
}

/// The stem of a table or picture that follows from the experiment's own.
fn stem(what: &str) -> String {
    format!("{}-{what}", SgdPath::NAME)
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
        &["schedule", "replicate", "k", "error", "frobenius_error", "hessian_error"]
    }

    fn pieces(&self) -> usize {
        self.replicates + self.constant_steps.len() * self.constant_replicates
    }

    fn work(&self, _piece: usize) -> u64 {
        1 + self.last() as u64 / 12
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let logistic = self.population(bench.key)?;
        let schedules = self.schedules(logistic.least);
        Ok(Box::new(move |piece| {
            let (index, replicate) = match piece.checked_sub(self.replicates) {
                None => (0, piece),
                Some(constant) => (1 + constant / self.constant_replicates, constant % self.constant_replicates),
            };
            let Schedule { name, step } = &schedules[index];
            let key = bench.key.named(name).child(replicate as u64);
            let mut rows = Rows::default();
            for (&k, sum) in self.steps.iter().zip(logistic.path(&self.steps, *step, self.ball, key)?) {
                let errors = logistic.errors(&sum, k, self.beta)?;
                rows.push([name.clone(), replicate.to_string(), k.to_string()].into_iter().chain(errors.map(rounded)));
            }
            Ok(rows)
        }))
    }

    fn measure(&self, bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let logistic = self.population(bench.key)?;
        let mut tables = Tables::new();
        let mut measured = Vec::new();
        let mut floors = Vec::new();
        for Schedule { name, step } in self.schedules(logistic.least) {
            let read = |column| Curves::read(rows, &[("schedule", &name)], "k", column);
            let (errors, frobenius, hessian) = (read("error")?, read("frobenius_error")?, read("hessian_error")?);
            let last = errors.x.len() - 1;
            let is_constant = step.power == 0.0;
            let floor = if is_constant { logistic.floor(step.initial)? } else { 0.0 };
            let expected = |k: f64| Ok((logistic.scatter()? / k + floor * floor).sqrt() / logistic.inverse.norm());
            tables.add_theory(&name, &errors.x, expected)?;
            tables.add_local_slopes(&name, &errors, self.exponent)?;
            tables.add_quantiles(&name, (&errors, &hessian), &self.deltas)?;

            let target = expected(errors.x[last])?;
            let ratios: Vec<f64> = frobenius.at(last).iter().map(|error| (error / target).powi(2)).collect();
            let (value, half) = mean_with_limits("replicates", &ratios, CONFIDENCE)?;
            let ratio = Measured { value, low: value - half, high: value + half };
            if is_constant {
                floors.push(ratio);
                continue;
            }
            measured.push(errors.between(self.slope_from as f64, f64::INFINITY).slope()?.into());
            measured.push(ratio);
            for (k, &delta) in self.bound_steps().into_iter().flat_map(|k| self.deltas.iter().map(move |delta| (k, delta))) {
                push(&mut tables.bounds, &name, &[k as f64, delta, self.bound(&logistic, step, k, delta)?])?;
            }
            let first = quantile(&errors.at(last), self.deltas[0])?;
            for &delta in self.rare() {
                let Quantile { value, lower, upper } = quantile(&errors.at(last), delta)?;
                measured.push(Measured { value: value / first.value, low: lower / first.upper, high: upper / first.lower });
            }
        }
        measured.extend(floors);
        Ok(Findings { measured, tables: tables.named() })
    }

    fn pictures(&self) -> Vec<Picture> {
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
                    "Relative error of Ĥₖ⁻¹ in the Frobenius norm along inner SGD on a logistic model with d = {}: root mean square over {replicates} paths ({} for a constant α) \
                     with a band from the 5 % to the 95 % quantile; {decay}. Broken lines: the asymptotic value √(C/k + floor²), C that \
                     of fresh rows at θ*, the floor of a constant α to first order in α.",
                    self.dim, self.constant_replicates
                ),
                drawing: Drawing::Curves {
                    y: Axis::log("‖Ĥₖ⁻¹ − H⁻¹‖ / ‖H⁻¹‖ (no unit)"),
                    panels: vec![Panel {
                        verticals: fit.clone(),
                        ..panel(
                            "",
                            steps(),
                            vec![
                                Layer::new(Self::NAME, "k", "frobenius_error")
                                    .by("schedule")
                                    .center(Center::RootMeanSquare)
                                    .band(Band::Quantiles(0.05, 0.95))
                                    .named("{schedule}"),
                                Layer::new(stem("theory"), "k", "frobenius_error")
                                    .by("schedule")
                                    .theory()
                                    .named("asymptotic value"),
                            ],
                        )
                    }],
                },
            },
            Picture {
                file: stem("quantiles"),
                title: "Quantiles of the error along inner SGD".into(),
                caption: format!(
                    "Quantiles 1 − δ of the relative error of Ĥₖ⁻¹ in the spectral norm over {replicates} paths with distribution-free limits (order statistics, 97.5 % each), {decay}. Left: \
                     against k. Right: at k = {} against log(1/δ); broken line: growth as √log(1/δ) from δ = {} on, which the quantiles \
                     stay below.",
                    self.last(),
                    self.deltas[0]
                ),
                drawing: Drawing::Curves {
                    y: Axis::log("‖Ĥₖ⁻¹ − H⁻¹‖ / ‖H⁻¹‖ (no unit)"),
                    panels: vec![
                        Panel {
                            verticals: fit,
                            ..panel(
                                "against steps",
                                steps(),
                                vec![
                                    Layer::new(stem("quantiles"), "k", "quantile")
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
                                Layer::new(stem("quantiles"), "log_inverse_delta", "growth")
                                    .only("schedule", DECAYING)
                                    .only("k", cell(self.last() as f64))
                                    .theory()
                                    .named("growth as √log(1/δ)"),
                                Layer::new(stem("quantiles"), "log_inverse_delta", "quantile")
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
                file: stem("bounds"),
                title: "The bound along inner SGD, and what it bounds".into(),
                caption: format!(
                    "Quantiles 1 − δ over {replicates} paths of the relative error of Ĥₖ in the spectral norm, {decay}; broken lines: the \
                     bound that holds with probability 1 − δ, all constants made explicit for this model, also where nothing was run. Of the \
                     inverse it says something from where it is below λ_min(H)/‖H‖."
                ),
                drawing: Drawing::Curves {
                    y: Axis::log("‖Ĥₖ − H‖ / ‖H‖ (no unit)"),
                    panels: vec![panel(
                        "",
                        steps(),
                        vec![
                            Layer::new(stem("bounds"), "k", "bound").by("delta").theory().named("bound"),
                            Layer::new(stem("quantiles"), "k", "hessian_quantile")
                                .only("schedule", DECAYING)
                                .by("delta")
                                .named("δ = {delta}"),
                        ],
                    )],
                },
            },
            Picture {
                file: stem("local-slopes"),
                title: "Local slope of the error along inner SGD".into(),
                caption: format!(
                    "Slope of log ‖Ĥₖ⁻¹ − H⁻¹‖ by log k within a decade, at its middle: mean over the paths with Student's 95 % limits; {decay}."
                ),
                drawing: Drawing::Curves {
                    y: Axis::linear("local slope (no unit)"),
                    panels: vec![panel(
                        "",
                        steps(),
                        vec![
                            Layer::new(stem("local-slopes"), "k", "claimed").theory().named("claimed"),
                            Layer::new(stem("local-slopes"), "k", "slope").by("schedule").band(limits()).named("{schedule}"),
                        ],
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

    fn small() -> SgdPath {
        SgdPath { steps: vec![10, 200], ..SgdPath::sized(Size::Quick) }
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
