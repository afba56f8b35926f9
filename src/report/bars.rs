//! Stacked horizontal bars that start at zero: what a whole is made of, for a few wholes. What they mean is `pictures.rs`'s
//! business.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, Padding, Scale};
use super::canvas::{self, Area, Key, Swatch, drawn};
use super::look::{Dash, Fill, Hatch};
use super::number;
use crate::error::Result;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What stands beside it.
    pub label: String,
    /// Its parts from the left; what is not positive takes no room.
    pub parts: Vec<f64>,
}

/// Bars one below the other.
#[derive(Debug, Clone)]
pub struct Bars {
    pub title: String,
    /// The horizontal axis with its unit.
    pub x_label: String,
    /// Name and fill of every part.
    pub parts: Vec<(String, Fill)>,
    pub bars: Vec<Bar>,
}

const ROW: i32 = 116;
const THICKNESS: i32 = 72;
const X_STRIP: i32 = 108;
const NUMBER_SIZE: f64 = 27.0;

impl Bars {
    /// The picture as SVG.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn svg(&self) -> Result<String> {
        let keys: Vec<Key> =
            self.parts.iter().map(|(label, fill)| Key { label: label.clone(), swatch: Swatch::Box(*fill) }).collect();
        let plot = ROW * i32::try_from(self.bars.len()).unwrap_or(1).max(1);
        canvas::picture(canvas::TITLE_STRIP + plot + X_STRIP + canvas::legend_height(&keys), |area| {
            canvas::title(area, &self.title)?;
            self.plot(area, plot)?;
            canvas::legend(area, &keys, canvas::TITLE_STRIP + plot + X_STRIP)
        })
    }

    fn plot(&self, area: &Area<'_>, height: i32) -> Result<()> {
        let total = |bar: &Bar| bar.parts.iter().filter(|x| Scale::Log.holds(**x)).sum::<f64>();
        let longest = self.bars.iter().map(total).fold(0.0, f64::max);
        let names: Vec<String> = self.bars.iter().map(|bar| canvas::fitted(&bar.label, canvas::LABEL_SIZE, 640)).collect();
        let left = canvas::EDGE + names.iter().map(|n| canvas::text_width(n, canvas::LABEL_SIZE)).max().unwrap_or(0) + 16;
        let size = (canvas::WIDTH - left - 60, height + X_STRIP);

        let frame = area.clone().shrink((left, canvas::TITLE_STRIP), size);
        let rows = Axis::spanning(Scale::Linear, Padding::Tight, [0.0, 1.0]);
        let mut chart = ChartBuilder::on(&frame);
        chart.x_label_area_size(X_STRIP);
        let mut chart = drawn(chart.build_cartesian_2d(Axis::from_zero(longest), rows))?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().bold_line_style(canvas::FAINT.stroke_width(2)).axis_style(canvas::INK.stroke_width(2));
        mesh.label_style(canvas::type_of(canvas::TICK_SIZE, canvas::INK)).set_all_tick_mark_size(10);
        mesh.axis_desc_style(canvas::type_of(canvas::LABEL_SIZE, canvas::INK)).x_desc(self.x_label.clone());
        drawn(mesh.draw())?;

        for ((row, bar), name) in (0..).zip(&self.bars).zip(&names) {
            let middle = canvas::TITLE_STRIP + row * ROW + ROW / 2;
            let (top, bottom) = (middle - THICKNESS / 2, middle + THICKNESS / 2);
            canvas::write(area, name, canvas::LABEL_SIZE, canvas::INK, (left - 16, middle), HPos::Right)?;
            let mut sum = 0.0;
            let mut start = left;
            for (part, (_, fill)) in bar.parts.iter().zip(&self.parts).filter(|(part, _)| Scale::Log.holds(**part)) {
                sum += part;
                let end = chart.backend_coord(&(sum, 0.0)).0;
                canvas::fill(area, (start, top, end, bottom), *fill)?;
                if end - start > 8 {
                    // A white gap between parts: they stay apart without colour.
                    drawn(area.draw(&Rectangle::new([(end - 3, top), (end, bottom)], WHITE.filled())))?;
                }
                let (text, center) = (number::significant(*part, 2), (start + end) / 2);
                let half = canvas::text_width(&text, NUMBER_SIZE) / 2 + 4;
                if end - start > 2 * half + 6 {
                    let ground = Fill { hatch: Hatch::None, ..*fill };
                    canvas::fill(area, (center - half, middle - 19, center + half, middle + 19), ground)?;
                    canvas::write(area, &text, NUMBER_SIZE, ink_on(fill.color), (center, middle), HPos::Center)?;
                }
                start = end;
            }
            let text = number::significant(sum, 3);
            canvas::write(area, &text, canvas::TICK_SIZE, canvas::INK, (start + 14, middle), HPos::Left)?;
        }
        canvas::line(area, &[(left, canvas::TITLE_STRIP), (left, canvas::TITLE_STRIP + height)], canvas::INK, 2, Dash::Solid)
    }
}

/// Black or white, whichever is easier to read on a colour.
fn ink_on(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let brightness = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if brightness < 128.0 { WHITE } else { canvas::INK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_start_at_zero_and_their_lengths_are_proportional() {
        let plain = |color| Fill { color, hatch: Hatch::None };
        let parts = vec![("a".to_owned(), plain(RED)), ("b".to_owned(), plain(BLUE))];
        let bars = [vec![30.0, f64::NAN], vec![10.0, 20.0], vec![-1.0, 60.0]].map(|parts| Bar { label: "m".into(), parts });
        let bars = Bars { title: "t".into(), x_label: "x".into(), parts, bars: bars.to_vec() };
        let svg = bars.svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let number = |node: &roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<i32>().unwrap();
        let boxes: Vec<(i32, i32)> = (document.descendants())
            .filter(|node| {
                node.attribute("height") == Some("72") && ["#FF0000", "#0000FF"].contains(&node.attribute("fill").unwrap())
            })
            .map(|node| (number(&node, "x"), number(&node, "width")))
            .collect();
        let [(x0, w0), (x1, w1), (x2, w2), (x3, w3)] = boxes[..] else { panic!("{boxes:?}") };
        assert_eq!((x0, x1, x3), (x1, x0, x0), "bars begin at one place");
        assert_eq!(x2, x1 + w1, "parts are stacked");
        assert!((w0 - w1 - w2).abs() <= 1 && (w3 - 2 * w0).abs() <= 1 && (w0 - 3 * w1).abs() <= 2);
    }

    #[test]
    fn no_bars_and_empty_bars_do_not_panic() {
        for bars in [vec![], vec![Bar { label: String::new(), parts: vec![0.0, f64::INFINITY] }]] {
            let parts = vec![("a".to_owned(), Fill::nth(0)), ("b".to_owned(), Fill::nth(1))];
            let svg = Bars { title: "t".into(), x_label: "x".into(), parts, bars }.svg().unwrap();
            assert!(roxmltree::Document::parse(&svg).is_ok() && !svg.contains("NaN"));
        }
    }
}
