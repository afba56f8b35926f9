//! A timeline of one outer step: which phase went on when, and what went on beside it.

use super::Picture;
use super::canvas::{self, Key, Swatch};
use super::look::Fill;
use super::number::{humanised, sentences};
use super::rows::{Rows, X_STRIP};
use super::series;
use crate::error::Result;
use crate::experiment::record::Record;

/// A row of the picture.
struct Lane {
    label: String,
    /// The phase's number among the picture's, and its beginning and end in milliseconds.
    spans: Vec<(usize, f64, f64)>,
}

const PITCH: i32 = 84;
const THICKNESS: i32 = 56;
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
    let longest = lanes.iter().flat_map(|lane| &lane.spans).map(|(_, _, end)| *end).fold(0.0, f64::max);
    let rows = Rows {
        labels: lanes.iter().map(|lane| lane.label.as_str()).collect(),
        label_width: LABEL_WIDTH,
        pitch: PITCH,
        thickness: THICKNESS,
        longest,
        x_label: "time from the beginning of the step (ms)",
    };
    let below = canvas::TITLE_STRIP + rows.height() + X_STRIP;
    let svg = canvas::picture(below + canvas::legend_height(&keys), |area| {
        canvas::title(area, "Timeline of one outer step")?;
        rows.draw(area, |place| {
            lanes[place.row].spans.iter().try_for_each(|(part, begin, end)| {
                let (start, end) = ((place.at)(*begin), (place.at)(*end));
                rows.fill(area, place.middle, (start, end.max(start + 1)), parts[*part].1)
            })
        })?;
        canvas::legend(area, &keys, below)
    })?;
    let beside =
        if shared > 0.0 { "What went on at the same time is in the row below" } else { "Nothing went on at the same time" };
    let caption = ["When the phases of the last outer step went on, first seed".to_owned(), beside.to_owned()];
    Ok(Some(Picture { file: "timeline.svg".into(), svg, caption: sentences(&caption) }))
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
        assert_eq!(y1 - y0, PITCH, "one row below");
        assert!((x1 - x0 - w0 / 2).abs() <= 1 && (2 * w1 - 3 * w0).abs() <= 2, "{boxes:?}");
        assert!(shown.caption.contains("row below"));
        assert!(picture(&record()).unwrap().is_none(), "nothing timed, nothing drawn");
    }
}
