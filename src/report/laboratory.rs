//! Pictures that are described as data, those of a laboratory and of a comparison, from what a manifest says of them and the record's tables.
//! Here data become curves, bands and bars; how these look is the business of
//! `chart.rs` and `bars.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Picture;
use super::axis::Scale;
use super::bars::{Bar, Bars};
use super::canvas::{self, Key, Swatch};
use super::chart::{Chart, Curve, Panel};
use super::labels::Label;
use super::look::{Dash, Fill, Look, Marker};
use super::series::{self, Point, Stat};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::picture::{self, Band, Center, Drawing, Layer, Style};
use crate::laboratory::record::Record;

/// All pictures, in the order of the manifest.
///
/// # Errors
/// [`crate::Error::Argument`] where a picture names a table or column that is not there, or a column holds text for numbers.
pub fn pictures(record: &Record) -> Result<Vec<Picture>> {
    let described = record.manifest.experiments.iter().flat_map(|report| &report.pictures);
    described.map(|description| draw(&|stem| record.timed_table(stem), description)).collect()
}

/// Gives the table of a stem.
pub(super) type Tables<'a> = &'a dyn Fn(&str) -> Result<Cow<'a, Table>>;

/// The picture that is described, from these tables.
///
/// # Errors
/// As for [`pictures`].
pub(super) fn draw(tables: Tables<'_>, description: &picture::Picture) -> Result<Picture> {
    let picture::Picture { file, title, caption, drawing } = description;
    let (svg, lost) = match drawing {
        Drawing::Curves { y, panels } => curves(tables, title, y, panels)?,
        Drawing::Bars { table, bar, part, length, label } => {
            let table = tables(table)?;
            (bars(&table, title, label, [bar, part, length])?, 0)
        }
    };
    let left_out = if lost > 0 { format!(" Without a place on the axes, and left out: {lost}.") } else { String::new() };
    Ok(Picture { file: format!("{file}.svg"), svg, caption: format!("{caption}{left_out}") })
}

fn scale(axis: &picture::Axis) -> Scale {
    match axis.scale {
        picture::Scale::Linear => Scale::Linear,
        picture::Scale::Log => Scale::Log,
    }
}

/// The looks that curves have in all panels of a picture, and the legend that follows.
#[derive(Default)]
struct Looks {
    /// Of measured curves, by their names.
    measured: Vec<(String, Look)>,
    /// The colour of the first measured curve with these values in `by`.
    colors: BTreeMap<Vec<String>, Look>,
    /// Of theory without a measured curve of its own, by name.
    grey: Vec<String>,
    legend: Vec<Key>,
}

impl Looks {
    fn measured(&mut self, name: &str, values: &[String]) -> Look {
        let known = self.measured.iter().find(|(known, _)| known == name).map(|(_, look)| *look);
        let look = known.unwrap_or_else(|| {
            let look = Look::nth(self.measured.len());
            self.measured.push((name.to_owned(), look));
            self.enter(name, look);
            look
        });
        self.colors.entry(values.to_vec()).or_insert(look);
        look
    }

    fn theory(&mut self, name: &str, values: &[String]) -> Look {
        let plain = |look: Look| Look { marker: Marker::None, ..look };
        if let Some(look) = self.colors.get(values).filter(|_| !values.is_empty()) {
            let look = plain(*look).dashed(Dash::Dashed);
            // One entry for the theory of all curves: in no curve's colour.
            self.enter(name, Look { color: canvas::REFERENCE, ..look });
            return look;
        }
        let index = self.grey.iter().position(|known| known == name).unwrap_or_else(|| {
            self.grey.push(name.to_owned());
            self.grey.len() - 1
        });
        let look = Look { color: canvas::REFERENCE, ..plain(Look::nth(0)) }.dashed(Dash::nth(1 + index % 2));
        self.enter(name, look);
        look
    }

    fn enter(&mut self, name: &str, look: Look) {
        if !name.is_empty() && self.legend.iter().all(|key| key.label != name) {
            self.legend.push(Key { label: name.to_owned(), swatch: Swatch::Line(look) });
        }
    }
}

/// The picture, and how many rows have no place on it.
fn curves(tables: Tables<'_>, title: &str, y: &picture::Axis, panels: &[picture::Panel]) -> Result<(String, usize)> {
    let mut looks = Looks::default();
    let mut lost = 0;
    let mut labels = Vec::new();
    // Measured curves first, whose colours their theory takes; then each in its place.
    let mut pass = |style: Style, drawn: &mut Vec<Vec<Vec<Curve>>>| -> Result<()> {
        for (index, (panel, drawn)) in panels.iter().zip(drawn).enumerate() {
            for (layer, drawn) in panel.layers.iter().zip(drawn).filter(|(layer, _)| layer.style == style) {
                for (name, values, points) in layer_curves(tables, layer, (scale(&panel.x), scale(y)), &mut lost)? {
                    if style == Style::Points {
                        let label = |point: &Point| Label { panel: index, at: (point.x, point.stat.mean), text: name.clone() };
                        labels.extend(points.iter().map(label));
                    }
                    let look = match style {
                        Style::Measured | Style::Points => looks.measured(&name, &values),
                        Style::Theory => looks.theory(&name, &values),
                    };
                    drawn.push(Curve { points, look });
                }
            }
        }
        Ok(())
    };
    let mut drawn: Vec<Vec<Vec<Curve>>> = panels.iter().map(|panel| vec![Vec::new(); panel.layers.len()]).collect();
    pass(Style::Measured, &mut drawn)?;
    pass(Style::Points, &mut drawn)?;
    pass(Style::Theory, &mut drawn)?;
    let panel = |(panel, curves): (&picture::Panel, Vec<Vec<Curve>>)| Panel {
        title: panel.title.clone(),
        x_label: panel.x.label.clone(),
        x_scale: scale(&panel.x),
        curves: curves.into_iter().flatten().collect(),
        verticals: panel.verticals.clone(),
    };
    let chart = Chart {
        title: title.to_owned(),
        y_label: y.label.clone(),
        y_scale: scale(y),
        panels: panels.iter().zip(drawn).map(panel).collect(),
        references: Vec::new(),
        legend: looks.legend,
    };
    Ok((chart.svg_with(&labels)?, lost))
}

type NamedCurve = (String, Vec<String>, Vec<Point>);

/// The curves of a layer: name, values of `by`, points.
fn layer_curves(tables: Tables<'_>, layer: &Layer, axes: (Scale, Scale), lost: &mut usize) -> Result<Vec<NamedCurve>> {
    let mut table = tables(&layer.table)?.into_owned();
    for (column, value) in &layer.only {
        table = table.filter(column, value)?;
    }
    let by: Vec<&str> = layer.by.iter().map(String::as_str).collect();
    let mut out = Vec::new();
    for (values, rows) in series::groups(&table, &by)? {
        let named = |name: String, (column, value): (&&str, &String)| name.replace(&format!("{{{column}}}"), value);
        let name = by.iter().zip(&values).fold(layer.name.clone(), named);
        let (xs, ys) = (rows.numbers(&layer.x)?, rows.numbers(&layer.y)?);
        let has_place = |(x, y): (&f64, &f64)| axes.0.holds(*x) && axes.1.holds(*y);
        let kept: Vec<usize> = (0..xs.len()).filter(|&i| has_place((&xs[i], &ys[i]))).collect();
        *lost += xs.len() - kept.len();
        let pick = |column: &[f64]| kept.iter().map(|&i| column[i]).collect::<Vec<f64>>();
        let (xs, ys) = (pick(&xs), pick(&ys));
        let center = series::curve(&xs, &ys, |values| center(values, layer.center));
        let edges = match &layer.band {
            Band::None => None,
            Band::Range => Some([0.0, 1.0].map(|p| series::curve(&xs, &ys, |values| quantile(values, p)))),
            Band::Quantiles(low, high) => Some([*low, *high].map(|p| series::curve(&xs, &ys, |values| quantile(values, p)))),
            Band::Columns(low, high) => {
                let edge = |column: &String| Ok(series::curve(&xs, &pick(&rows.numbers(column)?), Stat::of));
                Some([edge(low)?, edge(high)?])
            }
        };
        let points: Vec<Point> = center.into_iter().map(|point| banded(point, edges.as_ref(), axes.1)).collect();
        if !points.is_empty() {
            out.push((name, values, points));
        }
    }
    Ok(out)
}

/// Where the curve runs; the band is drawn from elsewhere.
fn center(values: &[f64], center: Center) -> Option<Stat> {
    let through = |mean: f64| Some(Stat { count: values.len(), mean, deviation: None, min: mean, max: mean });
    match center {
        Center::Mean => through(Stat::of(values)?.mean),
        Center::RootMeanSquare => {
            let squares: Vec<f64> = values.iter().map(|x| x * x).collect();
            through(Stat::of(&squares)?.mean.sqrt())
        }
        Center::Geometric => through(Stat::geometric(values, f64::MIN_POSITIVE)?.mean),
        Center::Median => quantile(values, 0.5),
    }
}

/// The ⌈np⌉-th smallest value.
fn quantile(values: &[f64], p: f64) -> Option<Stat> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = ((sorted.len() as f64 * p).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    let value = *sorted.get(rank)?;
    Some(Stat { count: sorted.len(), mean: value, deviation: None, min: value, max: value })
}

/// The point with the band between the edges at its place, drawn at the point where an edge has no place on the axis.
fn banded(point: Point, edges: Option<&[Vec<Point>; 2]>, scale: Scale) -> Point {
    let edge = |edge: &Vec<Point>| {
        let own = edge.iter().find(|other| other.x == point.x).map(|other| other.stat.mean);
        own.filter(|y| scale.holds(*y)).unwrap_or(point.stat.mean)
    };
    match edges {
        None => point,
        Some([low, high]) => Point { stat: Stat { min: edge(low), max: edge(high), ..point.stat }, ..point },
    }
}

fn bars(table: &Table, title: &str, label: &str, [bar, part, length]: [&String; 3]) -> Result<String> {
    let parts = table.distinct(part)?;
    let lengths = |name: &str| -> Result<Vec<f64>> {
        let own = table.filter(bar, name)?;
        let mean = |name: &String| Ok(Stat::of(&own.filter(part, name)?.numbers(length)?).map_or(0.0, |stat| stat.mean));
        parts.iter().map(mean).collect()
    };
    let bars =
        table.distinct(bar)?.into_iter().map(|name| Ok(Bar { parts: lengths(&name)?, label: name })).collect::<Result<_>>()?;
    let parts = parts.iter().enumerate().map(|(index, name)| (name.clone(), Fill::nth(index))).collect();
    Bars { title: title.to_owned(), x_label: label.to_owned(), parts, bars }.svg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laboratory::picture::{Axis, Panel as Described};
    use crate::laboratory::record::{Manifest, Report, timing_table, verdict_table};
    use crate::laboratory::{Size, Suite};

    fn table(columns: &[&str], rows: &[&[&str]]) -> Table {
        let mut table = Table::new(columns.iter().copied());
        rows.iter().for_each(|row| table.push(row.iter()).unwrap());
        table
    }

    /// A record of one experiment `e` whose three rows are timed, with one picture.
    fn record(drawing: Drawing) -> Record {
        let picture = picture::Picture { file: "p".into(), title: "t".into(), caption: "c.".into(), drawing };
        let report =
            Report { name: "e".into(), about: "a".into(), tables: vec!["e".into()], shown: vec![], pictures: vec![picture] };
        let mut timings = timing_table();
        timings.push(["e", "0", "", "9.0", ""]).unwrap();
        ["0.5", "1.5", "4.0"].iter().enumerate().for_each(|(i, s)| timings.push(["e", "0", &i.to_string(), s, "7"]).unwrap());
        let rows = table(&["kind", "n", "y"], &[&["a", "1", "2"], &["a", "1", "8"], &["b", "3", "0"]]);
        Record {
            manifest: Manifest {
                experiments: vec![report],
                ..Manifest::new(Suite::Bounds, String::new(), Size::Quick, BTreeMap::new())
            },
            tables: BTreeMap::from([("e".into(), rows)]),
            verdicts: verdict_table(),
            timings,
        }
    }

    fn curves_of(layers: Vec<Layer>, y: Axis) -> Drawing {
        let panel = Described { title: "panel".into(), x: Axis::log("n (count)"), layers, verticals: vec![(1.0, "here".into())] };
        Drawing::Curves { y, panels: vec![panel] }
    }

    fn points(layer: &Layer) -> Vec<NamedCurve> {
        let record = record(curves_of(vec![], Axis::linear("y")));
        layer_curves(&|stem| record.timed_table(stem), layer, (Scale::Log, Scale::Linear), &mut 0).unwrap()
    }

    #[test]
    fn curves_run_where_they_are_said_to_and_bands_lie_where_they_are_said_to() {
        let layer = Layer::new("e", "n", "y").by("kind").named("kind {kind}");
        for (center, expected) in
            [(Center::Mean, 5.0), (Center::Geometric, 4.0), (Center::RootMeanSquare, 34_f64.sqrt()), (Center::Median, 2.0)]
        {
            let found = points(&layer.clone().center(center).band(Band::Range));
            let (name, values, first) = &found[0];
            assert_eq!((name.as_str(), values.as_slice(), found.len()), ("kind a", &["a".to_owned()][..], 2));
            let Stat { mean, min, max, .. } = first[0].stat;
            assert!((mean - expected).abs() < 1e-12 && (min, max) == (2.0, 8.0), "{center:?}: {mean}, {min}, {max}");
        }
        let only = points(&layer.clone().only("kind", "b"));
        assert_eq!((only.len(), only[0].2[0].x, only[0].2[0].stat.mean), (1, 3.0, 0.0));
        // Seconds of rows are a column like any other; those of whole pieces are not.
        let timed = points(&Layer::new("e", "seconds", "y"));
        assert_eq!(timed[0].2.iter().map(|p| p.x).collect::<Vec<_>>(), [0.5, 1.5, 4.0]);
        assert!(points(&Layer::new("e", "peak_bytes", "y"))[0].2.iter().all(|p| p.x == 7.0));
        let columns = points(&layer.band(Band::Columns("n".into(), "y".into())));
        let Stat { min, max, .. } = columns[0].2[0].stat;
        assert_eq!((min, max), (1.0, 5.0));
    }

    #[test]
    fn a_picture_names_what_it_shows_and_owns_up_to_what_it_cannot() {
        let measured = Layer::new("e", "n", "y").by("kind").named("kind {kind}");
        let theory = measured.clone().theory().named("theory");
        let record = record(curves_of(vec![theory, measured], Axis::log("y (unit)")));
        let [picture] = &pictures(&record).unwrap()[..] else { panic!() };
        let document = roxmltree::Document::parse(&picture.svg).unwrap();
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for expected in ["t", "panel", "n (count)", "y (unit)", "here", "kind a", "theory"] {
            assert!(texts.contains(&expected), "{expected} in {texts:?}");
        }
        assert!(!texts.contains(&"kind b"), "0 has no place on a logarithmic axis");
        assert_eq!(picture.caption, "c. Without a place on the axes, and left out: 2.");
    }

    /// In the legend and beside the mark.
    #[test]
    fn single_points_have_their_names_beside_them() {
        let layer = Layer::new("e", "n", "y").by("kind").only("kind", "a").points().named("point {kind}");
        let svg = &pictures(&record(curves_of(vec![layer], Axis::log("y (unit)")))).unwrap()[0].svg;
        let document = roxmltree::Document::parse(svg).unwrap();
        let texts = document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text());
        let named = texts.filter(|text| text.trim() == "point a").count();
        assert_eq!(named, 2);
    }

    #[test]
    fn bars_are_stacked_from_means() {
        let bars =
            Drawing::Bars { table: "e".into(), bar: "kind".into(), part: "n".into(), length: "y".into(), label: "y (unit)".into() };
        let svg = &pictures(&record(bars)).unwrap()[0].svg;
        let document = roxmltree::Document::parse(svg).unwrap();
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        assert!(["a", "b", "1", "3", "5", "y (unit)"].iter().all(|text| texts.contains(text)), "{texts:?}");
    }

    #[test]
    fn a_picture_of_what_is_not_there_is_refused() {
        for layer in [Layer::new("other", "n", "y"), Layer::new("e", "m", "y"), Layer::new("e", "kind", "y")] {
            assert!(pictures(&record(curves_of(vec![layer], Axis::linear("y")))).is_err());
        }
    }
}
