//! What a sketch knows, as one picture: its spectrum, and along a path of dampings the effective dimension and the certificate, one below
//! the other. The numbers are handed in: no sketch is known here.

use super::axis::Scale;
use super::canvas::{Key, Swatch};
use super::chart::{self, Chart, Curve, Panel};
use super::look::{Dash, Look, Marker};
use super::series::{Point, Stat};
use crate::error::Result;

/// What is drawn. All lists may be empty.
#[derive(Debug, Clone, Default)]
pub struct SketchCurves {
    /// Above all of it.
    pub title: String,
    /// The eigenvalues of F̂, descending.
    pub eigenvalues: Vec<f64>,
    /// The most that any direction of F has outside F̂, where it is known.
    pub residual: Option<f64>,
    /// The probability with which residual and certificate may fail; 0 for none.
    pub failure: f64,
    /// Pairs of μ and d_eff(μ).
    pub effective_dimension: Vec<(f64, f64)>,
    /// Pairs of μ and the certified relative error.
    pub certificate: Vec<(f64, f64)>,
    /// The relative error that an automatic damping aims at.
    pub target: f64,
}

/// A certified relative error above this says nothing, and is not drawn.
const MOST_ERROR: f64 = 10.0;

/// A residual below this part of the last eigenvalue is rounding: it would stretch the axis until nothing else is seen.
const LEAST_RESIDUAL: f64 = 1e-3;

/// The picture as SVG: one chart for each list that is not empty; where all are, the title says so.
///
/// # Errors
/// [`crate::Error::Numerical`] if the backend fails.
pub fn sketch_picture(curves: &SketchCurves) -> Result<String> {
    let mut keys = Vec::new();
    let mut curve = |label: &str, points: Vec<Point>, look: Look| {
        keys.push(Key { label: label.to_owned(), swatch: Swatch::Line(look) });
        Curve { points, look }
    };
    let level = |look: Look| Look { marker: Marker::None, ..look }.dashed(Dash::Dashed);
    let chart = |x_label: &str, x_scale: Scale, y_label: &str, curves: Vec<Curve>| Chart {
        title: String::new(),
        y_label: y_label.to_owned(),
        y_scale: Scale::Log,
        panels: vec![Panel { title: String::new(), x_label: x_label.to_owned(), x_scale, curves, verticals: Vec::new() }],
        references: Vec::new(),
        legend: Vec::new(),
    };
    let damping = "damping μ (unit of F)";
    let chance = if curves.failure > 0.0 { format!(" (may fail with probability {})", curves.failure) } else { String::new() };
    let mut charts = Vec::new();

    let positive: Vec<f64> = curves.eigenvalues.iter().copied().take_while(|&value| value > 0.0).collect();
    if let Some(&least) = positive.last() {
        let (first, last) = (1.0, positive.len() as f64);
        let ranks = (1..=positive.len()).map(|j| j as f64);
        let mut drawn = vec![curve("eigenvalues", points(ranks.zip(positive)), Look::nth(0))];
        if let Some(residual) = curves.residual.filter(|&residual| residual >= LEAST_RESIDUAL * least) {
            let ends = points([(first, residual), (last, residual)]);
            drawn.push(curve(&format!("left out, at most{chance}"), ends, level(Look::nth(1))));
        }
        charts.push(chart("rank of the eigenvalue (count)", Scale::Count, "eigenvalue (unit of F)", drawn));
    }
    if !curves.effective_dimension.is_empty() {
        let drawn = curve("effective dimension d_eff(μ)", points(curves.effective_dimension.iter().copied()), Look::nth(2));
        charts.push(chart(damping, Scale::Log, "d_eff(μ) (count)", vec![drawn]));
    }
    if let (Some((first, _)), Some((last, _))) = (curves.certificate.first(), curves.certificate.last()) {
        let kept = curves.certificate.iter().copied().filter(|(_, error)| *error <= MOST_ERROR);
        let drawn = vec![
            curve(&format!("certified relative error{chance}"), points(kept), Look::nth(3)),
            curve(
                &format!("target of auto, {}", curves.target),
                points([(*first, curves.target), (*last, curves.target)]),
                level(Look::nth(6)),
            ),
        ];
        charts.push(chart(damping, Scale::Log, "relative error (no unit)", drawn));
    }
    // In front, for a long title is cut at its end.
    let nothing = if charts.is_empty() { "nothing to draw, every eigenvalue is 0: " } else { "" };
    chart::stack(&format!("{nothing}{}", curves.title), &charts, &keys)
}

fn points(pairs: impl IntoIterator<Item = (f64, f64)>) -> Vec<Point> {
    pairs.into_iter().filter_map(|(x, y)| Some(Point { x, stat: Stat::of(&[y])? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a well-formed picture.
    fn texts(curves: &SketchCurves) -> Vec<String> {
        let svg = sketch_picture(curves).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts = document.descendants().filter(|node| node.tag_name().name() == "text");
        texts.filter_map(|node| node.text().map(|t| t.trim().to_owned())).collect()
    }

    #[test]
    fn every_list_has_its_chart_with_units_and_its_name_in_the_legend() {
        let curves = SketchCurves {
            title: "a sketch".into(),
            eigenvalues: vec![1.0, 0.1, 0.01],
            residual: Some(0.005),
            failure: 0.0,
            effective_dimension: vec![(0.01, 2.5), (0.1, 1.4), (1.0, 0.6)],
            certificate: vec![(0.01, f64::INFINITY), (0.1, 0.3), (1.0, 0.02)],
            target: 0.1,
        };
        let found = texts(&curves);
        for expected in [
            "a sketch",
            "eigenvalue (unit of F)",
            "rank of the eigenvalue (count)",
            "d_eff(μ) (count)",
            "damping μ (unit of F)",
            "relative error (no unit)",
            "effective dimension d_eff(μ)",
            "eigenvalues",
            "left out, at most",
            "certified relative error",
            "target of auto, 0.1",
        ] {
            assert!(found.iter().any(|text| text == expected), "`{expected}` is missing from {found:?}");
        }
        let without = SketchCurves { certificate: vec![], residual: None, ..curves };
        assert!(!texts(&without).iter().any(|text| text.contains("certified") || text.contains("left out")));
    }

    #[test]
    fn what_may_fail_is_named_and_what_is_rounding_is_left_out() {
        let curves = SketchCurves {
            eigenvalues: vec![1.0, 0.1, 0.01, 0.0],
            residual: Some(0.005),
            failure: 0.05,
            certificate: vec![(0.1, 0.3), (1.0, 0.02)],
            target: 0.1,
            ..Default::default()
        };
        let has = |curves: &SketchCurves, expected: &str| texts(curves).iter().any(|text| text == expected);
        assert!(has(&curves, "left out, at most (may fail with probability 0.05)"));
        assert!(has(&curves, "certified relative error (may fail with probability 0.05)"));
        let tiny = |residual| SketchCurves { residual: Some(residual), failure: 0.0, ..curves.clone() };
        assert!(has(&tiny(1.1e-5), "left out, at most") && !has(&tiny(0.9e-5), "left out, at most"));
        // An axis down to the residual would have this tick.
        assert!(!has(&tiny(1e-14), "1e-12"));
    }

    #[test]
    fn nothing_to_draw_is_said() {
        for eigenvalues in [vec![], vec![0.0, 0.0]] {
            let curves = SketchCurves { title: "a sketch".into(), eigenvalues, ..Default::default() };
            assert!(texts(&curves).contains(&"nothing to draw, every eigenvalue is 0: a sketch".to_owned()));
        }
    }
}
