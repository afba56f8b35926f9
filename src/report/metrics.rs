//! Metrics against the outer step: which share a picture, in what unit and on what scale, and what the caption owns up to.

use super::Picture;
use super::axis::Scale;
use super::canvas::{Key, REFERENCE, Swatch};
use super::chart::{Chart, Curve, Panel, Reference};
use super::look::{Dash, Look, Marker};
use super::number::{self, capitalised, humanised, sentences};
use super::pictures::methods;
use super::series::{self, Stat};
use crate::error::Result;
use crate::experiment::record::Record;

/// What a metric measures, as far as its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Fraction,
    Objective,
    Weight,
    Unknown,
}

impl Unit {
    fn of(metric: &str) -> Self {
        let first = first_word(metric);
        match metric.rsplit('_').next().unwrap_or(metric) {
            "accuracy" | "recall" | "precision" => Self::Fraction,
            "loss" | "objective" => Self::Objective,
            _ if first == "f" || first == "g" => Self::Objective,
            _ if first == "weight" => Self::Weight,
            _ => Self::Unknown,
        }
    }

    /// The axis label of what has this unit.
    fn label(self, name: &str) -> String {
        match self {
            Self::Fraction => format!("{name} (fraction)"),
            Self::Objective => format!("{name} (objective value)"),
            Self::Weight => format!("{name} (mean over samples, no unit)"),
            Self::Unknown => name.to_owned(),
        }
    }

    fn scale(self, values: &[f64]) -> Scale {
        let (low, high) = values.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
        let wide = low > 0.0 && high >= 1e3 * low && high.is_finite();
        if wide && matches!(self, Self::Objective | Self::Unknown) { Scale::Log } else { Scale::Linear }
    }
}

fn first_word(metric: &str) -> &str {
    metric.split_once('_').map_or(metric, |(first, _)| first)
}

/// Metrics drawn in one picture: those with a common first word and a common known unit.
fn together(metrics: &[String]) -> Vec<Vec<&str>> {
    let mut out: Vec<Vec<&str>> = Vec::new();
    for metric in metrics {
        let unit = Unit::of(metric);
        let joins = |group: &&mut Vec<&str>| {
            unit != Unit::Unknown && group.iter().all(|other| first_word(other) == first_word(metric) && Unit::of(other) == unit)
        };
        match out.iter_mut().find(joins) {
            Some(group) => group.push(metric),
            None => out.push(vec![metric]),
        }
    }
    out
}

/// A file name from a metric's name.
pub fn file_name(stem: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    format!("{}.svg", stem.chars().map(safe).collect::<String>())
}

/// One picture for every metric, or group of metrics, that has a value somewhere.
pub fn pictures(record: &Record) -> Result<Vec<Picture>> {
    let groups = together(&record.manifest.metrics);
    Ok(groups.iter().map(|group| picture(record, group)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The picture's stem and the part of it that each metric is, for people.
fn names(group: &[&str]) -> (String, Vec<String>) {
    match group {
        [only] => ((*only).to_owned(), vec![humanised(only)]),
        _ => {
            let prefix = group.first().map_or("", |metric| first_word(metric));
            let rest =
                |metric: &&str| metric.strip_prefix(prefix).and_then(|m| m.strip_prefix('_')).map_or("all".into(), humanised);
            (prefix.to_owned(), group.iter().map(rest).collect())
        }
    }
}

/// What is drawn of one group of metrics, and what the caption must own up to.
#[derive(Default)]
struct Drawn {
    curves: Vec<Curve>,
    references: Vec<Reference>,
    legend: Vec<Key>,
    notes: Vec<String>,
    /// The most seeds behind any point.
    seeds: usize,
}

impl Drawn {
    /// The curves of a method: one a metric, told apart by their lines.
    fn add_method(&mut self, record: &Record, group: &[&str], method: String, look: Look) -> Result<()> {
        let rows = record.rows.filter("method", &method)?;
        let steps = rows.numbers("step")?;
        let (mut lost, mut found) = (0, false);
        for (index, metric) in group.iter().enumerate() {
            let values = rows.numbers(metric)?;
            let points = series::curve(&steps, &values, Stat::of);
            let Some(most) = points.iter().map(|p| p.stat.count).max() else { continue };
            if let Some(fewer) = points.iter().find(|p| p.stat.count < most) {
                let step = number::count(fewer.x);
                self.notes.push(format!("{method} has fewer than {most} seeds with a value at some steps, first at step {step}"));
            }
            lost += values.iter().filter(|x| !x.is_finite()).count();
            self.seeds = self.seeds.max(most);
            self.curves.push(Curve { points, look: look.dashed(Dash::nth(index)) });
            found = true;
        }
        if lost > 0 {
            self.notes.push(format!("Missing or not finite for {method}, and left out: {lost}"));
        }
        if found {
            self.legend.push(Key { label: method, swatch: Swatch::Line(look) });
        } else {
            self.notes.push(format!("{method} has no values"));
        }
        Ok(())
    }

    /// The horizontal of a baseline.
    fn add_baseline(&mut self, record: &Record, metric: &str, baseline: &str) -> Result<()> {
        let stat = Stat::of(&record.rows.filter("method", baseline)?.numbers(metric)?);
        self.references.extend(stat.map(|stat| Reference { label: baseline.to_owned(), y: stat.mean }));
        Ok(())
    }

    /// Leaves out what curves start from where it would flatten all that follows, and owns up to it.
    fn leave_out_the_start(&mut self) {
        let span = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
            high - low
        };
        let points = || self.curves.iter().flat_map(|c| &c.points);
        let later = span(&mut points().filter(|p| p.x > 0.0).map(|p| p.stat.mean).chain(self.references.iter().map(|r| r.y)));
        if !later.is_finite() || span(&mut self.heights().into_iter()) <= 3.0 * later {
            return;
        }
        let start = points().find(|p| p.x == 0.0).map(|p| number::significant(p.stat.mean, 3));
        self.notes.extend(start.map(|y| format!("The start, {y} at step 0, lies outside the picture")));
        self.curves.iter_mut().for_each(|c| c.points.retain(|p| p.x > 0.0));
    }

    /// Everything that has a height.
    fn heights(&self) -> Vec<f64> {
        let curves = self.curves.iter().flat_map(|c| c.points.iter().flat_map(|p| [p.stat.min, p.stat.max]));
        curves.chain(self.references.iter().map(|r| r.y)).collect()
    }
}

fn picture(record: &Record, group: &[&str]) -> Result<Option<Picture>> {
    let (stem, parts) = names(group);
    let mut drawn = Drawn::default();
    for (method, look) in methods(record)? {
        drawn.add_method(record, group, method, look)?;
    }
    // Among several metrics the horizontals could not be told apart; the table has them.
    if let [metric] = group {
        for baseline in &record.manifest.baselines {
            drawn.add_baseline(record, metric, baseline)?;
        }
    }
    drawn.leave_out_the_start();
    if drawn.curves.is_empty() && drawn.references.is_empty() {
        return Ok(None);
    }
    let mut name = humanised(&stem);
    if group.len() > 1 {
        name = format!("{name}: {}", parts.join(", "));
        let look = |index| Look { color: REFERENCE, marker: Marker::None, dash: Dash::nth(index) };
        let keys = parts.into_iter().enumerate().map(|(index, label)| Key { label, swatch: Swatch::Line(look(index)) });
        drawn.legend.extend(keys);
    }
    let title = format!("{} against the outer step", capitalised(&name));
    let unit = group.first().map_or(Unit::Unknown, |metric| Unit::of(metric));
    let y_scale = unit.scale(&drawn.heights());
    let mut caption = vec![match drawn.seeds {
        0 | 1 => title.clone(),
        seeds => format!("{title}: mean over {seeds} seeds, with a band from the smallest to the largest"),
    }];
    if !drawn.references.is_empty() {
        caption.push("Dashed horizontals: baselines, mean over seeds".into());
    }
    if y_scale == Scale::Log {
        caption.push("The vertical axis is logarithmic".into());
    }
    caption.extend(drawn.notes);
    let chart = Chart {
        title,
        y_label: unit.label(&humanised(&stem)),
        y_scale,
        panels: vec![Panel {
            title: String::new(),
            x_label: "outer step (count)".into(),
            x_scale: Scale::Count,
            curves: drawn.curves,
            verticals: Vec::new(),
        }],
        references: drawn.references,
        legend: drawn.legend,
    };
    Ok(Some(Picture { file: file_name(&format!("metric-{stem}")), svg: chart.svg()?, caption: sentences(&caption) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_of_one_known_unit_share_a_picture() {
        let metrics = ["f_outer", "test_accuracy", "test_loss", "weight_clean", "norm_a", "weight_flipped", "norm_b"];
        let metrics = metrics.map(str::to_owned);
        let groups = together(&metrics);
        let expected: [&[&str]; 6] =
            [&["f_outer"], &["test_accuracy"], &["test_loss"], &["weight_clean", "weight_flipped"], &["norm_a"], &["norm_b"]];
        assert_eq!(groups, expected);
        assert_eq!(names(&["weight", "weight_clean"]), ("weight".into(), vec!["all".into(), "clean".into()]));
        assert_eq!(file_name("metric-a/b c"), "metric-a-b-c.svg");
    }

    #[test]
    fn an_axis_turns_logarithmic_only_over_three_positive_decades() {
        assert_eq!(Unit::Unknown.scale(&[1e-3, 1.0]), Scale::Log);
        assert_eq!(Unit::Unknown.scale(&[2e-3, 1.0]), Scale::Linear);
        assert_eq!(Unit::Unknown.scale(&[0.0, 1e9]), Scale::Linear);
        assert_eq!(Unit::Fraction.scale(&[1e-4, 1.0]), Scale::Linear);
        assert_eq!(Unit::Unknown.scale(&[]), Scale::Linear);
    }
}
