//! Line charts: curves with a band from smallest to largest, dashed horizontals that are named where they end, one or more
//! panels side by side, each with ticks of its own, and the legend below. What the curves mean is `metrics.rs`'s and `pictures.rs`'s business.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, Padding, Scale};
use super::canvas::{self, Area, Key, drawn};
use super::labels::{self, Label};
use super::look::{Dash, Look};
use super::number;
use super::series::Point;
use crate::error::Result;

/// A curve and its looks.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Its points in the order of x; the band spans `min` to `max`.
    pub points: Vec<Point>,
    /// How it is drawn.
    pub look: Look,
}

/// A horizontal, dashed line through all panels.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Its name, written where it ends; its value is added.
    pub label: String,
    /// Its height.
    pub y: f64,
}

/// One plot area.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What stands above it; empty for nothing.
    pub title: String,
    /// The horizontal axis with its unit.
    pub x_label: String,
    /// How places lie along it.
    pub x_scale: Scale,
    /// What is drawn, the last one uppermost.
    pub curves: Vec<Curve>,
    /// Dotted verticals: where each stands, and what is written at its foot.
    pub verticals: Vec<(f64, String)>,
}

/// A line chart.
#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    /// What all panels have on their vertical axes, with its unit.
    pub y_label: String,
    pub y_scale: Scale,
    pub panels: Vec<Panel>,
    pub references: Vec<Reference>,
    pub legend: Vec<Key>,
}

const PLOT_HEIGHT: i32 = 800;
/// The height of each of several plots, one below the other, and what lies between them.
const STACKED_HEIGHT: i32 = 520;
const BETWEEN_STACKED: i32 = 36;
/// The height of the strip of the panels' titles.
const PANEL_TITLE_STRIP: i32 = 56;
/// Room left of each of them, so that their axes stand one below the other.
const STACKED_LEFT: i32 = 190;
const X_STRIP: i32 = 108;
const BETWEEN_PANELS: i32 = 64;
/// The least room between two labels of a horizontal axis.
const BETWEEN_LABELS: i32 = 24;
/// Right of the plot, where nothing is named there: room for half of the last tick's label.
const RIGHT_MARGIN: i32 = 104;
/// A curve with more points than this is marked at some only.
const MOST_MARKS: usize = 12;
/// The smallest distance between names of horizontals.
const REFERENCE_ROW: i32 = 40;
/// The space between the plot and those names.
const LEADER: i32 = 36;

impl Chart {
    /// Whether a point has a place on both axes.
    fn shows(&self, panel: &Panel, point: &Point) -> bool {
        panel.x_scale.holds(point.x) && [point.stat.min, point.stat.mean, point.stat.max].iter().all(|y| self.y_scale.holds(*y))
    }

    /// The picture as SVG. Points without a place on their axes (zero on a logarithmic one) are dropped.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn svg(&self) -> Result<String> {
        self.svg_with(&[])
    }

    /// The same with names beside marks.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn svg_with(&self, labels: &[Label]) -> Result<String> {
        let titled = self.panels.iter().any(|panel| !panel.title.is_empty());
        let top = canvas::TITLE_STRIP + if titled { PANEL_TITLE_STRIP } else { 0 };
        let bottom = top + PLOT_HEIGHT + X_STRIP;
        canvas::picture(bottom + canvas::legend_height(&self.legend), |area| {
            canvas::title(area, &self.title)?;
            self.plot(area, (top, PLOT_HEIGHT), 0, labels)?;
            canvas::legend(area, &self.legend, bottom)
        })
    }

    /// Draws the panels with their plot areas at a top and of a height, and at least `room` left of the first.
    fn plot(&self, area: &Area<'_>, (top, height): (i32, i32), room: i32, labels: &[Label]) -> Result<()> {
        let references: Vec<(f64, String)> = (self.references.iter())
            .filter(|r| self.y_scale.holds(r.y))
            .map(|r| (r.y, canvas::fitted(&format!("{} {}", r.label, number::significant(r.y, 3)), canvas::TICK_SIZE, 460)))
            .collect();
        let shown = |panel: &Panel| {
            let curves = panel.curves.iter().map(|c| c.points.iter().copied().filter(|p| self.shows(panel, p)).collect());
            curves.collect::<Vec<Vec<Point>>>()
        };
        let shown: Vec<Vec<Vec<Point>>> = self.panels.iter().map(shown).collect();
        let axis = |points: &Vec<Vec<Point>>| {
            let heights = points.iter().flatten().flat_map(|p| [p.stat.min, p.stat.max]);
            Axis::spanning(self.y_scale, Padding::Loose, heights.chain(references.iter().map(|(y, _)| *y)))
        };
        let y_axes: Vec<Axis> = shown.iter().map(axis).collect();

        let widest = |labels: &[String]| labels.iter().map(|l| canvas::text_width(l, canvas::TICK_SIZE)).max().unwrap_or(0);
        // Ticks left of every panel, and what they measure left of the first.
        let left = |i: i32, labels: i32| if i == 0 { (labels + 88).max(room) } else { labels + 36 };
        let lefts: Vec<i32> = (0..).zip(&y_axes).map(|(i, y)| left(i, widest(&y.labels()))).collect();
        let names: Vec<String> = references.iter().map(|(_, name)| name.clone()).collect();
        let right = if names.is_empty() { RIGHT_MARGIN } else { LEADER + 10 + widest(&names) + canvas::EDGE };
        let panels = i32::try_from(self.panels.len()).unwrap_or(1).max(1);
        let taken = canvas::EDGE + lefts.iter().sum::<i32>() + (panels - 1) * BETWEEN_PANELS + right;
        let width = (canvas::WIDTH - taken) / panels;

        let mut x = canvas::EDGE;
        for (index, panel) in self.panels.iter().enumerate() {
            let (curves, room, y_axis) = (&shown[index], lefts[index], &y_axes[index]);
            x += room;
            let x_axis = Axis::spanning(panel.x_scale, x_padding(panel.x_scale), curves.iter().flatten().map(|p| p.x));
            let label = widest(&x_axis.labels()) + BETWEEN_LABELS;
            let x_axis = x_axis.thinned(usize::try_from(width / label).unwrap_or(0));
            let frame = area.clone().shrink((x - room, top), (width + room, height + X_STRIP));
            let mut chart = ChartBuilder::on(&frame);
            chart.x_label_area_size(X_STRIP).y_label_area_size(room);
            let mut chart = drawn(chart.build_cartesian_2d(x_axis, y_axis.clone()))?;
            let mut mesh = chart.configure_mesh();
            mesh.bold_line_style(canvas::FAINT.stroke_width(2)).light_line_style(canvas::FAINTER.stroke_width(2));
            mesh.axis_style(canvas::INK.stroke_width(2)).set_all_tick_mark_size(10);
            mesh.label_style(canvas::type_of(canvas::TICK_SIZE, canvas::INK));
            mesh.axis_desc_style(canvas::type_of(canvas::LABEL_SIZE, canvas::INK));
            mesh.x_desc(canvas::fitted(&panel.x_label, canvas::LABEL_SIZE, width + 40));
            if index == 0 {
                mesh.y_desc(canvas::fitted(&self.y_label, canvas::LABEL_SIZE, height));
            }
            drawn(mesh.draw())?;

            let at = |x: f64, y: f64| chart.backend_coord(&(x, y));
            let shown_title = canvas::fitted(&panel.title, canvas::LABEL_SIZE, width);
            canvas::write(
                area,
                &shown_title,
                canvas::LABEL_SIZE,
                canvas::INK,
                (x + width / 2, top - PANEL_TITLE_STRIP / 2),
                HPos::Center,
            )?;
            let inside = |place: &f64| panel.x_scale.holds(*place) && chart.x_range().contains(place);
            for (place, name) in panel.verticals.iter().filter(|(place, _)| inside(place)) {
                let x = at(*place, chart.y_range().start).0;
                canvas::line(area, &[(x, top), (x, top + height)], canvas::REFERENCE, 3, Dash::Dotted)?;
                let foot = (x + 12, top + height - 28);
                canvas::write(
                    area,
                    &canvas::fitted(name, canvas::TICK_SIZE, width),
                    canvas::TICK_SIZE,
                    canvas::REFERENCE,
                    foot,
                    HPos::Left,
                )?;
            }
            for (curve, points) in panel.curves.iter().zip(curves) {
                band(area, points, curve.look, at)?;
            }
            let (start, end) = (x, x + width);
            let level = |y: f64| at(chart.x_range().start, y).1;
            for (y, _) in &references {
                canvas::line(area, &[(start, level(*y)), (end, level(*y))], canvas::REFERENCE, 3, Dash::Dashed)?;
            }
            for (rank, (curve, points)) in panel.curves.iter().zip(curves).enumerate() {
                let path: Vec<(i32, i32)> = points.iter().map(|p| at(p.x, p.stat.mean)).collect();
                draw_curve(area, &path, curve.look, (rank, panel.curves.len()))?;
            }
            let has_place = |label: &&Label| panel.x_scale.holds(label.at.0) && self.y_scale.holds(label.at.1);
            let named: Vec<&Label> = labels.iter().filter(|label| label.panel == index).filter(has_place).collect();
            let marks: Vec<(i32, i32)> = named.iter().map(|label| at(label.at.0, label.at.1)).collect();
            let texts: Vec<&str> = named.iter().map(|label| label.text.as_str()).collect();
            // The margin on the right has room for the end of a name.
            labels::write(area, &marks, &texts, (start, top, end + RIGHT_MARGIN - canvas::EDGE, top + height))?;
            if index + 1 == self.panels.len() {
                let levels: Vec<i32> = references.iter().map(|(y, _)| level(*y)).collect();
                name_references(area, end, &levels, &names, (top, top + height))?;
            }
            x += width + BETWEEN_PANELS;
        }
        Ok(())
    }
}

/// Charts one below the other as one picture, with the title and the legend of all.
///
/// # Errors
/// Those of the backend.
pub fn stack(title: &str, charts: &[Chart], legend: &[Key]) -> Result<String> {
    let tops = (0..).map(|i| canvas::TITLE_STRIP + i * (STACKED_HEIGHT + X_STRIP + BETWEEN_STACKED));
    let bottom = tops.clone().nth(charts.len()).unwrap_or(canvas::TITLE_STRIP);
    canvas::picture(bottom + canvas::legend_height(legend), |area| {
        canvas::title(area, title)?;
        charts.iter().zip(tops).try_for_each(|(chart, top)| chart.plot(area, (top, STACKED_HEIGHT), STACKED_LEFT, &[]))?;
        canvas::legend(area, legend, bottom)
    })
}

fn x_padding(scale: Scale) -> Padding {
    match scale {
        Scale::Log => Padding::Loose,
        Scale::Linear | Scale::Count => Padding::Tight,
    }
}

fn band(area: &Area<'_>, points: &[Point], look: Look, at: impl Fn(f64, f64) -> (i32, i32)) -> Result<()> {
    if points.len() < 2 || points.iter().all(|p| p.stat.min == p.stat.max) {
        return Ok(());
    }
    let upper = points.iter().map(|p| at(p.x, p.stat.max));
    let lower = points.iter().rev().map(|p| at(p.x, p.stat.min));
    drawn(area.draw(&Polygon::new(upper.chain(lower).collect::<Vec<_>>(), look.color.mix(0.16))))
}

/// Draws the line and its marks; those of curve `rank` of `of` are set off against the others', so that they do not coincide.
fn draw_curve(area: &Area<'_>, path: &[(i32, i32)], look: Look, (rank, of): (usize, usize)) -> Result<()> {
    if path.len() > 1 {
        canvas::line(area, path, look.color, 5, look.dash)?;
    }
    let (first, stride) = if path.len() <= MOST_MARKS {
        (0, 1)
    } else {
        let stride = path.len() / (MOST_MARKS / 2);
        (stride * (2 * rank + 1) / (2 * of.max(1)), stride)
    };
    path.iter().skip(first).step_by(stride).try_for_each(|place| canvas::mark(area, *place, look))
}

/// Writes the names of horizontals to the right of the plot, moved apart where they would overlap.
fn name_references(area: &Area<'_>, end: i32, levels: &[i32], names: &[String], (top, bottom): (i32, i32)) -> Result<()> {
    for ((level, name), y) in levels.iter().zip(names).zip(apart(levels, top, bottom)) {
        canvas::line(area, &[(end, *level), (end + LEADER, y)], canvas::REFERENCE, 2, Dash::Solid)?;
        canvas::write(area, name, canvas::TICK_SIZE, canvas::INK, (end + LEADER + 10, y), HPos::Left)?;
    }
    Ok(())
}

/// Heights near `levels`, in the same order of magnitude, at least a row apart and within the limits if they fit at all.
fn apart(levels: &[i32], top: i32, bottom: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..levels.len()).collect();
    order.sort_by_key(|i| levels[*i]);
    let mut out = levels.to_vec();
    let mut least = top;
    for i in &order {
        out[*i] = out[*i].max(least);
        least = out[*i] + REFERENCE_ROW;
    }
    let mut most = bottom;
    for i in order.iter().rev() {
        out[*i] = out[*i].min(most);
        most = out[*i] - REFERENCE_ROW;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::series::Stat;

    fn point(x: f64, y: f64) -> Point {
        Point { x, stat: Stat { count: 1, mean: y, deviation: None, min: y, max: y } }
    }

    fn chart(y_scale: Scale, points: Vec<Point>) -> Chart {
        let curve = Curve { points, look: Look::nth(0) };
        let panel =
            Panel { title: String::new(), x_label: "x".into(), x_scale: Scale::Linear, curves: vec![curve], verticals: vec![] };
        Chart { title: "t".into(), y_label: "y".into(), y_scale, panels: vec![panel], references: vec![], legend: vec![] }
    }

    /// Every number in a coordinate attribute of a well-formed SVG.
    fn marks(svg: &str) -> usize {
        let document = roxmltree::Document::parse(svg).unwrap();
        for attribute in document.descendants().flat_map(|node| node.attributes()) {
            if ["x", "y", "x1", "y1", "cx", "cy", "r", "points", "width", "height"].contains(&attribute.name()) {
                let numbers = attribute.value().split([' ', ',']).filter(|s| !s.is_empty());
                numbers.for_each(|s| assert!(s.parse::<f64>().is_ok_and(f64::is_finite), "{s} in {}", attribute.name()));
            }
        }
        // The inner circle of a mark, without its white edge.
        document.descendants().filter(|node| node.attribute("r") == Some("11")).count()
    }

    #[test]
    fn a_logarithmic_axis_drops_what_is_not_positive_and_a_linear_one_does_not() {
        let points = vec![point(0.0, 1.0), point(1.0, 0.0), point(2.0, -3.0), point(3.0, 100.0)];
        assert_eq!(marks(&chart(Scale::Log, points.clone()).svg().unwrap()), 2);
        assert_eq!(marks(&chart(Scale::Linear, points).svg().unwrap()), 4);
    }

    #[test]
    fn degenerate_series_are_drawn_without_bad_coordinates() {
        let nan = point(f64::NAN, f64::INFINITY);
        let constant = vec![point(0.0, 0.5), point(1.0, 0.5)];
        for (points, expected) in [(vec![], 0), (vec![nan], 0), (vec![point(3.0, 2.0)], 1), (constant, 2)] {
            for scale in [Scale::Linear, Scale::Log] {
                let mut chart = chart(scale, points.clone());
                chart.references = vec![Reference { label: "r".into(), y: f64::NAN }, Reference { label: "s".into(), y: -0.0 }];
                assert_eq!(marks(&chart.svg().unwrap()), expected);
            }
        }
        let nothing = Chart { panels: vec![], ..chart(Scale::Linear, vec![]) };
        assert_eq!(marks(&nothing.svg().unwrap()), 0);
    }

    #[test]
    fn names_move_apart_but_keep_their_order() {
        let places = apart(&[100, 90, 95, 900], 0, 900);
        assert_eq!(places, [170, 90, 130, 900]);
        assert_eq!(apart(&[900, 899], 0, 900), [900, 860]);
        assert_eq!(apart(&[], 0, 900), [] as [i32; 0]);
    }
}
