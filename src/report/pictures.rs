//! What a record shows besides its metrics: where the seconds of a step go, and the errors of hypergradient estimators against
//! what they cost. Here is decided what is drawn and what the caption owns up to; how it is drawn is the business of `chart.rs`
//! and `bars.rs`.

use super::Picture;
use super::axis::Scale;
use super::bars::{Bar, Bars};
use super::canvas::{Key, Swatch};
use super::chart::{Chart, Curve, Panel, Reference};
use super::look::{Dash, Fill, Look, REST};
use super::number::{self, humanised, sentences};
use super::series::{self, Point, Stat};
use crate::error::Result;
use crate::experiment::record::Record;

/// Relative errors below this are shown as this: they are rounding, and a logarithmic axis has no place for 0.
pub const ERROR_FLOOR: f64 = 1e-16;
/// The phase of `timings.csv` that is no part of a step's cost.
const EVALUATION: &str = "evaluation";
/// What no phase accounts for.
const OTHER: &str = "other";
/// The estimator that the others are measured against where it is drawn as a horizontal.
const EXACT: &str = "exact";

/// The methods that take outer steps, with the looks they have in every picture.
pub fn methods(record: &Record) -> Result<Vec<(String, Look)>> {
    let names = record.rows.distinct("method")?.into_iter().filter(|m| !record.manifest.baselines.contains(m));
    Ok(names.enumerate().map(|(index, name)| (name, Look::nth(index))).collect())
}

/// The mean milliseconds of one outer step by phase, evaluation left out: the phases' names with `other`, what no phase
/// accounts for, last; then every method with its means in that order.
pub fn phases(record: &Record) -> Result<(Vec<String>, Vec<Bar>)> {
    let known = ["method", "seed", "step", "seconds", EVALUATION];
    let mut names: Vec<String> = record.timings.columns().iter().filter(|c| !known.contains(&c.as_str())).cloned().collect();
    let mut bars = Vec::new();
    for (method, _) in methods(record)? {
        let last = series::last_rows(&record.timings.filter("method", &method)?)?;
        let steps = last.numbers("step")?;
        // Milliseconds a step, seed by seed; a run without a step has none.
        let per_step = |seconds: &[f64]| -> Vec<f64> {
            seconds.iter().zip(&steps).map(|(s, steps)| if *steps > 0.0 { 1e3 * s / steps } else { f64::NAN }).collect()
        };
        let mean = |values: &[f64]| Stat::of(values).map(|stat| stat.mean);
        let Some(total) = mean(&per_step(&last.numbers("seconds")?)) else { continue };
        let mut parts = Vec::new();
        for phase in &names {
            parts.push(mean(&per_step(&last.numbers(phase)?)).unwrap_or(0.0));
        }
        let rest = total - parts.iter().sum::<f64>();
        // Clocks are read between phases: a sliver is no phase of its own.
        parts.push(if rest > 0.005 * total { rest } else { 0.0 });
        bars.push(Bar { label: method, parts });
    }
    names.push(OTHER.into());
    for index in (0..names.len()).rev() {
        if bars.iter().all(|bar| bar.parts[index] <= 0.0) {
            names.remove(index);
            for bar in &mut bars {
                bar.parts.remove(index);
            }
        }
    }
    Ok((names, bars))
}

/// Where the time of an outer step goes; none without timed steps.
pub fn timing_phases(record: &Record) -> Result<Option<Picture>> {
    let (names, bars) = phases(record)?;
    if names.is_empty() || bars.is_empty() {
        return Ok(None);
    }
    let part = |(index, name): (usize, &String)| (humanised(name), if name == OTHER { REST } else { Fill::nth(index) });
    let parts = names.iter().enumerate().map(part).collect();
    let bars =
        Bars { title: "Time of one outer step by phase".into(), x_label: "mean time of one outer step (ms)".into(), parts, bars };
    let mut caption = vec![
        "Mean milliseconds of one outer step by phase: cumulative seconds at the last step divided by its number, mean over seeds"
            .into(),
        "Parts stand in the order of the legend, the total at the end; evaluation is left out".to_owned(),
    ];
    if names.last().is_some_and(|name| name == OTHER) {
        caption.push("Other: time that no phase accounts for".into());
    }
    Ok(Some(Picture { file: "timing-phases.svg".into(), svg: bars.svg()?, caption: sentences(&caption) }))
}

/// An estimator with its options, as one name.
pub fn estimator_name(parts: &[String]) -> String {
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

/// Errors of hypergradient estimators against their budgets; none where the record measured none.
pub fn hypergradient_errors(record: &Record) -> Result<Option<Picture>> {
    let Some(table) = &record.hypergradient_errors else { return Ok(None) };
    let mut notes = Vec::new();
    let geometric = |values: &[f64]| Stat::geometric(values, ERROR_FLOOR);
    let (mut panels, mut keys, mut rank): (Vec<Panel>, Vec<Key>, usize) = (Vec::new(), Vec::new(), 0);
    let mut curvatures: Vec<String> = Vec::new();
    let (mut lost, mut raised, mut most) = (0, 0, 0);
    for (unit, x_label) in [("rows", "rows absorbed (count)"), ("products", "Hessian products (count)")] {
        let mut curves = Vec::new();
        for (name, rows) in series::groups(&table.filter("unit", unit)?, &["estimator", "curvature", "fisher"])? {
            let [estimator, curvature, _] = &name[..] else { continue };
            if estimator == EXACT {
                continue;
            }
            let (budgets, errors) = (rows.numbers("budget")?, rows.numbers("relative_error")?);
            lost += errors.iter().zip(&budgets).filter(|(e, b)| !e.is_finite() || !Scale::Log.holds(**b)).count();
            raised += errors.iter().filter(|e| **e < ERROR_FLOOR).count();
            let points: Vec<Point> = series::curve(&budgets, &errors, geometric);
            let Some(count) = points.iter().map(|p| p.stat.count).max() else { continue };
            most = most.max(count);
            if !curvatures.contains(curvature) {
                curvatures.push(curvature.clone());
            }
            let dash = Dash::nth(curvatures.iter().position(|c| c == curvature).unwrap_or(0));
            let look = Look::nth(rank).dashed(if curvature.is_empty() { Dash::Solid } else { dash });
            rank += 1;
            keys.push(Key { label: estimator_name(&name), swatch: Swatch::Line(look) });
            curves.push(Curve { points, look });
        }
        if !curves.is_empty() {
            panels.push(Panel {
                title: String::new(),
                x_label: x_label.into(),
                x_scale: Scale::Log,
                curves,
                verticals: Vec::new(),
            });
        }
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let exact = table.filter("estimator", EXACT)?.numbers("relative_error")?;
    let reference = geometric(&exact).filter(|_| exact.iter().any(|e| *e > 0.0));
    if let Some(stat) = reference {
        raised += exact.iter().filter(|e| **e < ERROR_FLOOR).count();
        let clamped = if stat.mean <= ERROR_FLOOR { " or less" } else { "" };
        notes.push(format!("Dashed horizontal: the exact method, {}{clamped}", number::significant(stat.mean, 3)));
    } else if !exact.is_empty() {
        notes.push("The exact method has no error and is not drawn".into());
    }
    if raised > 0 {
        notes.push(format!("Errors below {ERROR_FLOOR:e}, drawn as {ERROR_FLOOR:e}: {raised}"));
    }
    if lost > 0 {
        notes.push(format!("Without a place on the axes (not finite, or a budget of 0), and left out: {lost}"));
    }
    let what = "Relative error of the hypergradient against the cost of the estimate, both axes logarithmic";
    let mean = match most {
        1 => what.to_owned(),
        n => format!("{what}: geometric mean over {n} repetitions, with a band from the smallest to the largest"),
    };
    let chart = Chart {
        title: "Error of the hypergradient against its cost".into(),
        y_label: "relative error (no unit)".into(),
        y_scale: Scale::Log,
        panels,
        references: reference.iter().map(|stat| Reference { label: EXACT.into(), y: stat.mean }).collect(),
        legend: keys,
    };
    let caption = sentences(&[vec![mean], notes].concat());
    Ok(Some(Picture { file: "hypergradient-errors.svg".into(), svg: chart.svg()?, caption }))
}
