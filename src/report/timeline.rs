//! A timeline of one outer step: which phase went on when, and what went on beside it.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Picture;
use super::axis::{Axis, Padding, Scale};
use super::canvas::{self, Area, Key, Swatch, drawn};
use super::look::{Dash, Fill};
use super::number::{humanised, sentences};
use super::series;
use crate::error::Result;
use crate::experiment::record::Record;

/// A row of the picture.
struct Lane {
    label: String,
    /// The phase's number among the picture's, and its beginning and end in milliseconds.
    spans: Vec<(usize, f64, f64)>,
}

const ROW: i32 = 84;
const THICKNESS: i32 = 56;
const X_STRIP: i32 = 108;
/// A label longer than this is cut.
const LABEL_WIDTH: i32 = 560;

/// The last outer step of every method; none where the record did not time one.
pub fn picture(record: &Record) -> Result<Option<Picture>> {
    let Some(table) = &record.timeline else { return Ok(None) };
    let phases = table.distinct("phase")?;
    let (mut lanes, mut shared) = (Vec::new(), 0.0);
    for (key, rows) in series::groups(table, &["method", "step", "lane"])? {
        let [method, step, lane] = &key[..] else { continue };
        let (begins, ends) = (rows.numbers("begin")?, rows.numbers("end")?);
        let number = |phase: &str| phases.iter().position(|known| known == phase).unwrap_or(0);
        let spans: Vec<_> = (rows.text("phase")?.into_iter().zip(begins).zip(ends))
            .map(|((phase, begin), end)| (number(phase), 1e3 * begin, 1e3 * end))
            .collect();
        let label = if lane == "0" { format!("{method}, step {step}") } else { "beside it".to_owned() };
        if lane != "0" {
            shared += spans.iter().map(|(_, begin, end)| end - begin).sum::<f64>();
        }
        lanes.push(Lane { label, spans });
    }
    if lanes.is_empty() {
        return Ok(None);
    }
    let parts: Vec<(String, Fill)> = phases.iter().enumerate().map(|(i, name)| (humanised(name), Fill::nth(i))).collect();
    let keys: Vec<Key> = parts.iter().map(|(label, fill)| Key { label: label.clone(), swatch: Swatch::Box(*fill) }).collect();
    let plot = ROW * i32::try_from(lanes.len()).unwrap_or(1);
    let svg = canvas::picture(canvas::TITLE_STRIP + plot + X_STRIP + canvas::legend_height(&keys), |area| {
        canvas::title(area, "Timeline of one outer step")?;
        draw(area, plot, &lanes, &parts)?;
        canvas::legend(area, &keys, canvas::TITLE_STRIP + plot + X_STRIP)
    })?;
    let beside =
        if shared > 0.0 { "What went on at the same time is in the row below" } else { "Nothing went on at the same time" };
    let caption = ["When the phases of the last outer step went on, first seed".to_owned(), beside.to_owned()];
    Ok(Some(Picture { file: "timeline.svg".into(), svg, caption: sentences(&caption) }))
}

fn draw(area: &Area<'_>, height: i32, lanes: &[Lane], parts: &[(String, Fill)]) -> Result<()> {
    let longest = lanes.iter().flat_map(|lane| &lane.spans).map(|(_, _, end)| *end).fold(0.0, f64::max);
    let names: Vec<String> = lanes.iter().map(|lane| canvas::fitted(&lane.label, canvas::LABEL_SIZE, LABEL_WIDTH)).collect();
    let left = canvas::EDGE + names.iter().map(|n| canvas::text_width(n, canvas::LABEL_SIZE)).max().unwrap_or(0) + 16;
    let frame = area.clone().shrink((left, canvas::TITLE_STRIP), (canvas::WIDTH - left - 60, height + X_STRIP));
    let rows = Axis::spanning(Scale::Linear, Padding::Tight, [0.0, 1.0]);
    let mut chart = ChartBuilder::on(&frame);
    chart.x_label_area_size(X_STRIP);
    let mut chart = drawn(chart.build_cartesian_2d(Axis::from_zero(longest), rows))?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().bold_line_style(canvas::FAINT.stroke_width(2)).axis_style(canvas::INK.stroke_width(2));
    mesh.label_style(canvas::type_of(canvas::TICK_SIZE, canvas::INK)).set_all_tick_mark_size(10);
    mesh.axis_desc_style(canvas::type_of(canvas::LABEL_SIZE, canvas::INK)).x_desc("time from the beginning of the step (ms)");
    drawn(mesh.draw())?;
    for ((row, lane), name) in (0..).zip(lanes).zip(&names) {
        let middle = canvas::TITLE_STRIP + row * ROW + ROW / 2;
        let (top, bottom) = (middle - THICKNESS / 2, middle + THICKNESS / 2);
        canvas::write(area, name, canvas::LABEL_SIZE, canvas::INK, (left - 16, middle), HPos::Right)?;
        for (part, begin, end) in &lane.spans {
            let at = |x: f64| chart.backend_coord(&(x, 0.0)).0;
            let (start, end) = (at(*begin), at(*end));
            canvas::fill(area, (start, top, end.max(start + 1), bottom), parts[*part].1)?;
            if end - start > 8 {
                // A white gap between spans: they stay apart without colour.
                drawn(area.draw(&Rectangle::new([(end - 3, top), (end, bottom)], WHITE.filled())))?;
            }
        }
    }
    canvas::line(area, &[(left, canvas::TITLE_STRIP), (left, canvas::TITLE_STRIP + height)], canvas::INK, 2, Dash::Solid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::record::Table;
    use crate::report::tests::record;

    #[test]
    fn spans_stand_where_their_times_are_and_side_by_side_where_they_overlap() {
        let mut table = Table::new(["method", "step", "lane", "phase", "begin", "end"]);
        for (lane, phase, begin, end) in [("0", "inner_step", "0.0", "0.002"), ("1", "absorb", "0.001", "0.004")] {
            table.push(["a", "7", lane, phase, begin, end]).unwrap();
        }
        let with = Record { timeline: Some(table), ..record() };
        let shown = picture(&with).unwrap().unwrap();
        let document = roxmltree::Document::parse(&shown.svg).unwrap();
        let number = |node: &roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<i32>().unwrap();
        let fills: Vec<String> =
            (0..2).map(|i| Fill::nth(i).color).map(|c| format!("#{:02X}{:02X}{:02X}", c.0, c.1, c.2)).collect();
        let boxes: Vec<(i32, i32, i32)> = (document.descendants())
            .filter(|node| node.attribute("height") == Some("56") && fills.iter().any(|f| node.attribute("fill") == Some(f)))
            .map(|node| (number(&node, "x"), number(&node, "width"), number(&node, "y")))
            .collect();
        let [(x0, w0, y0), (x1, w1, y1)] = boxes[..] else { panic!("{boxes:?}") };
        assert_eq!(y1 - y0, ROW, "one row below");
        assert!((x1 - x0 - w0 / 2).abs() <= 1 && (2 * w1 - 3 * w0).abs() <= 2, "{boxes:?}");
        assert!(shown.caption.contains("row below"));
        assert!(picture(&record()).unwrap().is_none(), "nothing timed, nothing drawn");
    }
}
