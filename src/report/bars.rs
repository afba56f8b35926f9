//! Stacked horizontal bars that start at zero: what a whole is made of, for a few wholes. What they mean is `pictures.rs`'s
//! business.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Scale;
use super::canvas::{self, Area, Key, Swatch};
use super::look::{Fill, Hatch};
use super::number;
use super::rows::{Place, Rows, X_STRIP};
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

const PITCH: i32 = 116;
const THICKNESS: i32 = 72;
/// A label longer than this is cut.
const LABEL_WIDTH: i32 = 640;
const NUMBER_SIZE: f64 = 27.0;

impl Bars {
    /// The picture as SVG.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn svg(&self) -> Result<String> {
        let keys: Vec<Key> =
            self.parts.iter().map(|(label, fill)| Key { label: label.clone(), swatch: Swatch::Box(*fill) }).collect();
        let total = |bar: &Bar| bar.parts.iter().filter(|x| Scale::Log.holds(**x)).sum::<f64>();
        let rows = Rows {
            labels: self.bars.iter().map(|bar| bar.label.as_str()).collect(),
            label_width: LABEL_WIDTH,
            pitch: PITCH,
            thickness: THICKNESS,
            longest: self.bars.iter().map(total).fold(0.0, f64::max),
            x_label: &self.x_label,
        };
        let below = canvas::TITLE_STRIP + rows.height() + X_STRIP;
        canvas::picture(below + canvas::legend_height(&keys), |area| {
            canvas::title(area, &self.title)?;
            rows.draw(area, |place| self.bar(area, &rows, &place))?;
            canvas::legend(area, &keys, below)
        })
    }

    fn bar(&self, area: &Area<'_>, rows: &Rows<'_>, place: &Place<'_>) -> Result<()> {
        let middle = place.middle;
        let (mut sum, mut start) = (0.0, (place.at)(0.0));
        let parts = self.bars[place.row].parts.iter().zip(&self.parts);
        for (part, (_, fill)) in parts.filter(|(part, _)| Scale::Log.holds(**part)) {
            sum += part;
            let end = (place.at)(sum);
            rows.fill(area, middle, (start, end), *fill)?;
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
        canvas::write(area, &text, canvas::TICK_SIZE, canvas::INK, (start + 14, middle), HPos::Left)
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
