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
    /// Pairs of μ and d_eff(μ).
    pub effective_dimension: Vec<(f64, f64)>,
    /// Pairs of μ and the certified relative error.
    pub certificate: Vec<(f64, f64)>,
    /// The relative error that an automatic damping aims at.
    pub target: f64,
}

/// A certified relative error above this says nothing, and is not drawn.
const MOST_ERROR: f64 = 10.0;

/// The picture as SVG: one chart for each list that is not empty.
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
    let mut charts = Vec::new();

    let indices: Vec<f64> = (1..=curves.eigenvalues.len()).map(|j| j as f64).collect();
    let ends = (indices.first().copied(), indices.last().copied());
    if let (Some(first), Some(last)) = ends {
        let spectrum = curve("eigenvalues", points(indices.iter().copied().zip(curves.eigenvalues.iter().copied())), Look::nth(0));
        let mut drawn = vec![spectrum];
        if let Some(residual) = curves.residual.filter(|&residual| residual > 0.0) {
            drawn.push(curve("left out, at most", points([(first, residual), (last, residual)]), level(Look::nth(1))));
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
            curve("certified relative error", points(kept), Look::nth(3)),
            curve(
                &format!("target of auto, {}", curves.target),
                points([(*first, curves.target), (*last, curves.target)]),
                level(Look::nth(6)),
            ),
        ];
        charts.push(chart(damping, Scale::Log, "relative error (no unit)", drawn));
    }
    chart::stack(&curves.title, &charts, &keys)
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
        assert!(texts(&SketchCurves::default()).iter().all(String::is_empty), "nothing but an empty title");
    }
}
