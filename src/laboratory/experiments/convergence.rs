//! `convergence`: the average of ‖∇Φ(v_t)‖² over T outer steps, on a quadratic whose ∇Φ is known in closed form. The descent lemma gives
//! ([`OuterDescent`]) for η ≤ 1/L_Φ, whatever the estimate ĥ of ∇Φ,
//!
//! (1/T) Σ_{t<T} ‖∇Φ(v_t)‖² ≤ 2(Φ(v_0) − Φ(v*))/(ηT) + (1/T) Σ_{t<T} ‖ĥ_t − ∇Φ(v_t)‖²:
//!
//! a part that falls as 1/T and a floor, the mean squared error of the estimate. With K inner steps α ∝ 1/K an outer step, and a curvature of
//! their K batches alone, that error is of the order 1/K: to reach ε² takes T, K ∝ ε⁻² and samples ∝ ε⁻⁴.

use serde::{Deserialize, Serialize};

use super::replicates::Curves;
use crate::bilevel::{self, Damping, ExactConfig, MethodConfig, NhgdConfig, Observer, SampleCount, Start, State, StepSize, Stop};
use crate::bounds::{Claim, Measured, OuterDescent, Rule, slope_with_limits};
use crate::curvature::CurvatureConfig;
use crate::dense::{Matrix, difference, dot, eigh};
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::Table;
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Experiment, Findings, Pieces, Registered, Rows, Size, cell, settings_of};
use crate::model::FisherKind;
use crate::problem::{OracleCounts, Quadratic, QuadraticConfig, Spectrum};
use crate::rng::Key;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convergence {
    /// K, the numbers of inner steps an outer step, ascending.
    pub inner_steps: Vec<u64>,
    /// The averages are taken after 1, 2, 4, … outer steps, `doublings` times doubled.
    pub doublings: u32,
    /// Runs of each method with each K.
    pub replicates: usize,
    /// Samples of an inner gradient.
    pub batch_size: usize,
    /// α · K: what an outer step takes of the inner problem.
    pub inner_progress: f64,
    /// η · L_Φ, at most 1.
    pub outer_step: f64,
    /// The slope against T is fitted from this T on, with the largest K …
    pub slope_from: u64,
    /// … and up to this one: before the floor.
    pub slope_to: u64,
    /// d2 of the quadratic.
    pub inner_dim: usize,
    /// d1 of the quadratic.
    pub outer_dim: usize,
    /// n of the quadratic.
    pub samples: usize,
}

impl Registered for Convergence {
    const NAME: &'static str = "convergence";
    const ABOUT: &'static str =
        "the average of ‖∇Φ‖² against outer steps T and samples, NHGD beside exact solves: 1/T down to a floor set by K";

    fn sized(size: Size) -> Self {
        let (doublings, replicates) = match size {
            Size::Quick => (9, 8),
            Size::Full => (11, 32),
        };
        Self {
            inner_steps: vec![8, 32, 128],
            doublings,
            replicates,
            batch_size: 16,
            inner_progress: 4.0,
            outer_step: 0.5,
            slope_from: 16,
            slope_to: 128,
            inner_dim: 12,
            outer_dim: 6,
            samples: 600,
        }
    }
}

/// The methods, in the order of the pieces.
const METHODS: [&str; 2] = ["nhgd", "exact"];
/// The half-width of what still counts as the exponent −1 against T.
const STEPS_TOLERANCE: f64 = 0.1;
/// The same for the floor against K.
const FLOOR_TOLERANCE: f64 = 0.25;
/// The exponent against samples may be larger than −1/2 by this.
const SAMPLES_TOLERANCE: f64 = 0.05;

/// What a run is watched for.
struct Watch<'a> {
    problem: &'a Quadratic,
    step_size: f64,
    /// v_t and ∇Φ(v_t), and what they were before this step.
    last: Option<(Vec<f64>, Vec<f64>)>,
    /// Σ ‖∇Φ(v_t)‖² and Σ ‖ĥ_t − ∇Φ(v_t)‖² over the steps that were taken.
    gradients: f64,
    errors: f64,
    /// Both sums after 1, 2, 4, … steps.
    doublings: Vec<(u64, f64, f64)>,
}

impl Observer for Watch<'_> {
    /// A step v_{t+1} = v_t − ηĥ_t tells the ĥ_t that it took.
    fn stepped(&mut self, state: &State, _counts: OracleCounts) -> Result<()> {
        let next = (state.outer_var.clone(), self.problem.hypergradient(&state.outer_var)?);
        if let Some((v, gradient)) = self.last.replace(next) {
            let error: Vec<f64> = v.iter().zip(&state.outer_var).map(|(v, next)| (v - next) / self.step_size).collect();
            let error = difference(&error, &gradient);
            self.gradients += dot(&gradient, &gradient);
            self.errors += dot(&error, &error);
            if state.step.is_power_of_two() {
                self.doublings.push((state.step, self.gradients, self.errors));
            }
        }
        Ok(())
    }
}

/// L_Φ, the largest eigenvalue of ∇²Φ, which is constant: column j is ∇Φ(e_j) − ∇Φ(0).
fn smoothness(problem: &Quadratic, dim: usize) -> Result<f64> {
    let mut columns = Vec::with_capacity(dim * dim);
    let origin = problem.hypergradient(&vec![0.0; dim])?;
    for j in 0..dim {
        let unit: Vec<f64> = (0..dim).map(|i| if i == j { 1.0 } else { 0.0 }).collect();
        columns.extend(difference(&problem.hypergradient(&unit)?, &origin));
    }
    let columns = Matrix::from_columns(dim, dim, columns)?;
    // Symmetric but for rounding.
    let symmetric = Matrix::from_fn(dim, dim, |i, j| 0.5 * (columns[(i, j)] + columns[(j, i)]));
    Ok(eigh(&symmetric)?.values[0])
}

impl Convergence {
    /// The quadratic, η, and descent on it from v_0 = 0.
    fn problem(&self, bench: Bench<'_>) -> Result<(Quadratic, f64, OuterDescent)> {
        let config = QuadraticConfig {
            inner_dim: self.inner_dim,
            outer_dim: self.outer_dim,
            samples: self.samples,
            spectrum: Spectrum::Power { exponent: 0.5 },
            ..Default::default()
        };
        let problem = Quadratic::load(&config, bench.source, bench.key.named("quadratic"))?;
        let lipschitz = smoothness(&problem, self.outer_dim)?;
        let step_size = self.outer_step / lipschitz;
        let descent = OuterDescent::new(problem.value_gap(&vec![0.0; self.outer_dim])?, step_size, lipschitz)?;
        Ok((problem, step_size, descent))
    }

    fn method(&self, name: &str, inner_steps: u64, outer_step_size: f64) -> MethodConfig {
        let batch_size = SampleCount::Drawn(self.batch_size);
        let inner_step_size = StepSize::constant(self.inner_progress / inner_steps as f64);
        let outer_step_size = StepSize::constant(outer_step_size);
        if name == METHODS[1] {
            return MethodConfig::Exact(ExactConfig {
                inner_steps,
                batch_size,
                inner_step_size,
                outer_step_size,
                ..Default::default()
            });
        }
        MethodConfig::Nhgd(NhgdConfig {
            inner_steps,
            batch_size,
            inner_step_size,
            outer_step_size,
            damping: Damping::Fixed(0.0),
            fisher: Some(FisherKind::Sampled),
            curvature_start: Start::Cold,
            curvature: CurvatureConfig::Dense(Default::default()),
            ..Default::default()
        })
    }

    /// Method, K and replicate of a piece.
    fn setting(&self, piece: usize) -> (&'static str, u64, usize) {
        let (setting, replicate) = (piece / self.replicates, piece % self.replicates);
        (METHODS[setting / self.inner_steps.len()], self.inner_steps[setting % self.inner_steps.len()], replicate)
    }

    fn run(&self, (problem, step_size, descent): (&Quadratic, f64, OuterDescent), piece: usize, key: Key) -> Result<Rows> {
        let (name, inner_steps, replicate) = self.setting(piece);
        let method = self.method(name, inner_steps, step_size).build()?;
        let mut watch = Watch { problem, step_size, last: None, gradients: 0.0, errors: 0.0, doublings: Vec::new() };
        // The same inner batches for both methods.
        let key = key.named("run").child(inner_steps).child(replicate as u64);
        let outcome = bilevel::run(problem, method.as_ref(), key, Stop::after(1 << self.doublings), &mut watch)?;
        if outcome.state.step != 1 << self.doublings {
            let reason = format!("`{name}` with K = {inner_steps} ended after {} outer steps", outcome.state.step);
            return Err(Error::Numerical { operation: "convergence", reason });
        }
        let mut rows = Rows::default();
        for (steps, gradients, errors) in watch.doublings {
            let t = steps as f64;
            let samples = steps * inner_steps * self.batch_size as u64;
            let names = [name.to_owned(), inner_steps.to_string(), replicate.to_string(), steps.to_string(), samples.to_string()];
            let bound = descent.average_squared_gradient(steps as usize, errors / t)?;
            rows.push(names.into_iter().chain([gradients / t, errors / t, bound].map(cell)));
        }
        Ok(rows)
    }

    /// The averages of a method with this K, replicate by replicate.
    fn averages(&self, rows: &Table, method: &str, inner_steps: u64) -> Result<Curves> {
        Curves::read(rows, &[("method", method), ("inner_steps", &inner_steps.to_string())], "steps", "average")
    }

    /// The mean of ‖∇Φ‖² over the second half of each run.
    fn floors(&self, rows: &Table, method: &str, inner_steps: u64) -> Result<Vec<f64>> {
        let curves = self.averages(rows, method, inner_steps)?;
        let last = curves.x.len() - 1;
        Ok(curves.y.iter().map(|average| 2.0 * average[last] - average[last - 1]).collect())
    }

    /// For each replicate the least average that any K reached with so many inner samples.
    fn envelope(&self, rows: &Table, method: &str) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
        let all = self.inner_steps.iter().map(|&k| Ok((k, self.averages(rows, method, k)?))).collect::<Result<Vec<_>>>()?;
        let inner_samples = |k: u64, steps: f64| steps * (k * self.batch_size as u64) as f64;
        // From where the largest K has left its first steps to where the smallest ends.
        let first = inner_samples(*self.inner_steps.last().unwrap_or(&1), self.slope_from as f64);
        let last = inner_samples(*self.inner_steps.first().unwrap_or(&1), f64::from(1 << self.doublings.min(30)));
        let budgets: Vec<f64> = all[0].1.x.iter().map(|&steps| inner_samples(all[0].0, steps)).collect();
        let budgets: Vec<f64> = budgets.into_iter().filter(|budget| (first..=last).contains(budget)).collect();
        let least = |replicate: usize, budget: f64| {
            let reached = all.iter().filter_map(|(k, curves)| {
                let i = curves.x.iter().rposition(|&steps| inner_samples(*k, steps) <= budget)?;
                Some(curves.y[replicate][i])
            });
            reached.fold(f64::INFINITY, f64::min)
        };
        let curves = (0..self.replicates).map(|r| budgets.iter().map(|&budget| least(r, budget)).collect()).collect();
        Ok((budgets, curves))
    }
}

impl Experiment for Convergence {
    fn validate(&self) -> Result<()> {
        if self.inner_steps.len() < 2 || self.inner_steps[0] == 0 || self.inner_steps.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Error::argument("inner_steps", "at least 2 ascending counts", format_args!("{:?}", self.inner_steps)));
        }
        if self.replicates < 2 {
            return Err(Error::argument("replicates", "at least 2 for limits", self.replicates));
        }
        if !(2..=30).contains(&self.doublings) {
            return Err(Error::argument("doublings", "2 to 30", self.doublings));
        }
        for (name, count) in [
            ("batch_size", self.batch_size),
            ("inner_dim", self.inner_dim),
            ("outer_dim", self.outer_dim),
            ("samples", self.samples),
        ] {
            check_count(name, count)?;
        }
        check_positive("inner_progress", self.inner_progress)?;
        check_positive("outer_step", self.outer_step)?;
        if self.outer_step > 1.0 {
            return Err(Error::argument("outer_step", "at most 1: beyond 1/L_Φ the descent lemma does not hold", self.outer_step));
        }
        check_count("slope_from", self.slope_from as usize)?;
        if self.slope_to < 2 * self.slope_from || self.slope_to > 1 << self.doublings {
            let expected = format!("at least twice slope_from and at most {}", 1_u64 << self.doublings);
            return Err(Error::argument("slope_to", expected, self.slope_to));
        }
        Ok(())
    }

    fn claims(&self) -> Vec<Claim> {
        let slope = Rule::SlopeWithin { predicted: -1.0, tolerance: STEPS_TOLERANCE };
        let floor = Rule::SlopeWithin { predicted: -1.0, tolerance: FLOOR_TOLERANCE };
        let samples = Rule::AtMost { bound: -0.5 + SAMPLES_TOLERANCE };
        let largest = self.inner_steps.last().copied().unwrap_or(0);
        let claims = METHODS.into_iter().flat_map(|method| {
            [
                (
                    format!(
                        "{method}, K = {largest}: slope of log average ‖∇Φ‖² by log T, T = {} to {}",
                        self.slope_from, self.slope_to
                    ),
                    slope,
                ),
                (format!("{method}: slope of the log floor of ‖∇Φ‖² by log K"), floor),
                (format!("{method}: exponent of the average against inner samples, with the best K for each"), samples),
                (format!("{method}: runs and T whose average exceeds the descent lemma's bound"), Rule::NoViolation {}),
            ]
        });
        claims.map(|(claim, rule)| Claim::new(Self::NAME, claim, rule)).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["method", "inner_steps", "replicate", "steps", "samples", "average", "error", "bound"]
    }

    fn pieces(&self) -> usize {
        METHODS.len() * self.inner_steps.len() * self.replicates
    }

    fn work(&self, piece: usize) -> u64 {
        // A batch of a step and its score rows; a solve.
        (20 * self.setting(piece).1 + 100) << self.doublings
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let (problem, step_size, descent) = self.problem(bench)?;
        Ok(Box::new(move |piece| self.run((&problem, step_size, descent), piece, bench.key)))
    }

    fn measure(&self, _bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let mut findings = Findings::default();
        let mut floors = Table::new(["method", "inner_steps", "replicate", "floor"]);
        let mut samples = Table::new(["method", "replicate", "samples", "average"]);
        let counts: Vec<f64> = self.inner_steps.iter().map(|&k| k as f64).collect();
        for method in METHODS {
            let largest = self.inner_steps.last().copied().unwrap_or(0);
            let averages = self.averages(rows, method, largest)?;
            findings.measured.push(averages.between(self.slope_from as f64, self.slope_to as f64).slope()?.into());

            let each = self.inner_steps.iter().map(|&k| self.floors(rows, method, k)).collect::<Result<Vec<_>>>()?;
            for (k, values) in self.inner_steps.iter().zip(&each) {
                for (replicate, floor) in values.iter().enumerate() {
                    floors.push([method.to_owned(), k.to_string(), replicate.to_string(), cell(*floor)])?;
                }
            }
            let by_replicate: Vec<Vec<f64>> = (0..self.replicates).map(|r| each.iter().map(|values| values[r]).collect()).collect();
            findings.measured.push(slope_with_limits(&counts, &by_replicate, CONFIDENCE)?.into());

            let (budgets, curves) = self.envelope(rows, method)?;
            for (replicate, curve) in curves.iter().enumerate() {
                for (budget, average) in budgets.iter().zip(curve) {
                    samples.push([method.to_owned(), replicate.to_string(), cell(*budget), cell(*average)])?;
                }
            }
            findings.measured.push(slope_with_limits(&budgets, &curves, CONFIDENCE)?.into());

            let of_method = rows.filter("method", method)?;
            let pairs = of_method.numbers("average")?.into_iter().zip(of_method.numbers("bound")?);
            let violations = pairs.filter(|(average, bound)| average > bound).count();
            findings.measured.push(Measured::exactly(violations as f64));
        }
        findings.tables.push((format!("{}-floors", Self::NAME), floors));
        findings.tables.push((format!("{}-samples", Self::NAME), samples));
        Ok(findings)
    }

    fn pictures(&self) -> Vec<Picture> {
        let largest = self.inner_steps.last().copied().unwrap_or(0);
        let y = Axis::log("mean of ‖∇Φ(v_t)‖² over t < T");
        let averages = |method: &str, x: &str| {
            Layer::new(Self::NAME, x, "average")
                .only("method", method)
                .by("inner_steps")
                .center(Center::Median)
                .band(Band::Quantiles(0.05, 0.95))
                .named("K = {inner_steps}")
        };
        let lemma = |method: &str| {
            Layer::new(Self::NAME, "steps", "bound")
                .only("method", method)
                .only("inner_steps", largest.to_string())
                .theory()
                .named(format!("descent lemma, K = {largest}"))
        };
        let panel = |method: &str, x: &str, layers| Panel { title: method.to_owned(), x: Axis::log(x), layers, verticals: vec![] };
        let steps = |method| panel(method, "outer steps T (count)", vec![lemma(method), averages(method, "steps")]);
        let samples = |method| panel(method, "samples of inner gradients (count)", vec![averages(method, "samples")]);
        let band = format!("Median of {} runs with a band from the 5 % to the 95 % quantile", self.replicates);
        vec![
            Picture {
                file: Self::NAME.into(),
                title: "Convergence against outer steps".into(),
                caption: format!(
                    "{band}, on a quadratic with ∇Φ in closed form; K inner steps an outer step, each of size {}/K, and a curvature of \
                     these K batches alone. Broken line: 2(Φ(v_0) − Φ(v*))/(ηT) plus the mean squared error of the estimates taken.",
                    self.inner_progress
                ),
                drawing: Drawing::Curves { y: y.clone(), panels: METHODS.into_iter().map(steps).collect() },
            },
            Picture {
                file: format!("{}-samples", Self::NAME),
                title: "Convergence against samples".into(),
                caption: format!("{band}: the same averages against the samples of inner gradients spent."),
                drawing: Drawing::Curves { y, panels: METHODS.into_iter().map(samples).collect() },
            },
        ]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}
