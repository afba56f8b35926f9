//! The sheet that every picture is painted on: its size, its type, its strokes, marks and fills, and the legend below the plot. With
//! `axis.rs`, `look.rs`, `chart.rs` and `bars.rs` the only places that name plotters.
//!
//! Plotters places everything on whole units, so the sheet has two units to the pixel of its nominal size. Without a font
//! engine nobody knows how wide a text is: the estimate here is on the wide side, and what would not fit ends in `…`.

use std::fmt::Display;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::look::{Dash, Fill, Hatch, Look, Marker};
use crate::error::{Error, Result};

/// The width of every picture, in units.
pub const WIDTH: i32 = 1800;
/// The height of the title's strip.
pub const TITLE_STRIP: i32 = 84;
/// Between the picture's edge and anything in it.
pub const EDGE: i32 = 24;

/// The width of an average character, in font sizes: 0.5 to 0.6 in the usual faces.
const GLYPH: f64 = 0.61;

/// Font sizes in units; the sheet shown 800 pixels wide divides them by 2.25.
pub const TITLE_SIZE: f64 = 40.0;
pub const LABEL_SIZE: f64 = 34.0;
pub const TICK_SIZE: f64 = 31.0;

pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub const FAINT: RGBColor = RGBColor(0xE2, 0xE2, 0xE2);
pub const FAINTER: RGBColor = RGBColor(0xF1, 0xF1, 0xF1);
pub const REFERENCE: RGBColor = RGBColor(0x55, 0x55, 0x55);
/// The area that pictures are painted on.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What an entry of the legend shows beside its text.
#[derive(Debug, Clone, Copy)]
pub enum Swatch {
    Line(Look),
    Box(Fill),
}

/// An entry of the legend.
#[derive(Debug, Clone)]
pub struct Key {
    pub label: String,
    pub swatch: Swatch,
}

/// Paints a picture of the given height and returns it as SVG text.
///
/// # Errors
/// Those of `paint`, and [`Error::Numerical`] if the backend fails.
pub fn picture(height: i32, paint: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        drawn(root.fill(&WHITE))?;
        paint(&root)?;
        drawn(root.present())?;
    }
    // The nominal size is half the sheet's; the view box keeps the units.
    let size = |w: i32, h: i32| format!("width=\"{w}\" height=\"{h}\"");
    Ok(svg.replacen(&size(WIDTH, height), &size(WIDTH / 2, height / 2), 1))
}

/// A refusal of the drawing backend as an error of this crate.
pub fn drawn<T, E: Display>(outcome: std::result::Result<T, E>) -> Result<T> {
    outcome.map_err(|e| Error::Numerical { operation: "drawing a picture", reason: e.to_string() })
}

/// An estimate, on the wide side, of the width of a text.
pub fn text_width(text: &str, size: f64) -> i32 {
    (text.chars().count() as f64 * GLYPH * size).ceil() as i32
}

/// The text, cut and ended by `…` where it would be wider than `width`; characters that XML cannot hold are replaced.
pub fn fitted(text: &str, size: f64, width: i32) -> String {
    let clean = |c: char| if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') { '\u{FFFD}' } else { c };
    let most = (f64::from(width) / (GLYPH * size)).floor().max(1.0) as usize;
    if text.chars().count() <= most {
        return text.chars().map(clean).collect();
    }
    text.chars().map(clean).take(most - 1).chain(['…']).collect()
}

/// The style of a text of that size.
pub fn type_of(size: f64, color: RGBColor) -> TextStyle<'static> {
    // The SVG backend divides sizes by 1.24.
    ("sans-serif", size * 1.24).into_font().color(&color)
}

/// Writes a text at a point; `h` says which part of it stands there, its middle line lies at the point's height.
pub fn write(area: &Area<'_>, text: &str, size: f64, color: RGBColor, (x, y): (i32, i32), h: HPos) -> Result<()> {
    drawn(area.draw_text(text, &type_of(size, color).pos(Pos::new(h, VPos::Center)), (x, y)))
}

/// Writes the title.
pub fn title(area: &Area<'_>, text: &str) -> Result<()> {
    let text = fitted(text, TITLE_SIZE, WIDTH - 2 * EDGE);
    write(area, &text, TITLE_SIZE, INK, (WIDTH / 2, TITLE_STRIP / 2 + 2), HPos::Center)
}

/// Draws an open line through points.
pub fn line(area: &Area<'_>, points: &[(i32, i32)], color: RGBColor, width: u32, dash: Dash) -> Result<()> {
    let style = color.stroke_width(width);
    let broken = |on: i32, off: i32| DashedPathElement::new(points.iter().copied(), on, off, style);
    match dash {
        Dash::Solid => drawn(area.draw(&PathElement::new(points.to_vec(), style))),
        Dash::Dashed => drawn(area.draw(&broken(22, 12))),
        Dash::Dotted => drawn(area.draw(&broken(5, 9))),
    }
}

/// Fills a box given by its left, top, right and bottom.
pub fn fill(area: &Area<'_>, (left, top, right, bottom): (i32, i32, i32, i32), fill: Fill) -> Result<()> {
    const STRIPES: i32 = 14;
    drawn(area.draw(&Rectangle::new([(left, top), (right, bottom)], fill.color.filled())))?;
    let height = bottom - top;
    // Stripes at 45°, clipped to the box; `from` is where each meets the bottom (rising) or the top (falling).
    for from in (left - height..right).step_by(STRIPES as usize) {
        let (x0, x1) = (from.max(left), (from + height).min(right));
        let (y0, y1) = match fill.hatch {
            Hatch::None => return Ok(()),
            Hatch::Rising => (bottom - (x0 - from), bottom - (x1 - from)),
            Hatch::Falling => (top + (x0 - from), top + (x1 - from)),
        };
        line(area, &[(x0, y0), (x1, y1)], WHITE, 2, Dash::Solid)?;
    }
    Ok(())
}

/// Draws a mark, edged in white so that it stands out from lines beneath.
pub fn mark(area: &Area<'_>, (x, y): (i32, i32), look: Look) -> Result<()> {
    let polygon = |r: f64, color: RGBColor, corners: &[(f64, f64)]| {
        let place = |(dx, dy): &(f64, f64)| (x + (dx * r).round() as i32, y + (dy * r).round() as i32);
        drawn(area.draw(&Polygon::new(corners.iter().map(place).collect::<Vec<_>>(), color.filled())))
    };
    let edged = |r: f64, corners: &[(f64, f64)]| {
        polygon(r + 4.0, WHITE, corners)?;
        polygon(r, look.color, corners)
    };
    match look.marker {
        Marker::None => Ok(()),
        Marker::Circle => {
            drawn(area.draw(&Circle::new((x, y), 14, WHITE.filled())))?;
            drawn(area.draw(&Circle::new((x, y), 11, look.color.filled())))
        }
        Marker::Ring => {
            drawn(area.draw(&Circle::new((x, y), 13, look.color.filled())))?;
            drawn(area.draw(&Circle::new((x, y), 8, WHITE.filled())))
        }
        Marker::Square => edged(10.0, &[(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]),
        Marker::Diamond => edged(14.0, &[(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]),
        Marker::Triangle => edged(13.0, &[(0.0, -1.05), (1.0, 0.8), (-1.0, 0.8)]),
        Marker::Cross => {
            for (width, color) in [(11, WHITE), (6, look.color)] {
                for slope in [-11, 11] {
                    line(area, &[(x - 11, y - slope), (x + 11, y + slope)], color, width, Dash::Solid)?;
                }
            }
            Ok(())
        }
    }
}

const KEY_LINE: i32 = 96;
const KEY_BOX: i32 = 52;
const KEY_ROW: i32 = 52;

impl Key {
    fn swatch_width(&self) -> i32 {
        match self.swatch {
            Swatch::Line(_) => KEY_LINE,
            Swatch::Box(_) => KEY_BOX,
        }
    }

    fn width(&self) -> i32 {
        self.swatch_width() + 16 + text_width(&self.label, LABEL_SIZE)
    }
}

/// Where the entries stand, row and left edge: side by side if one row holds them all, else in columns.
fn legend_places(keys: &[Key]) -> Vec<(i32, i32)> {
    const LEFT: i32 = 2 * EDGE;
    const GAP: i32 = 44;
    let widths: Vec<i32> = keys.iter().map(|key| key.width() + GAP).collect();
    if widths.iter().sum::<i32>() <= WIDTH - LEFT {
        let left = |x: &mut i32, width: &i32| Some(std::mem::replace(x, *x + width));
        return widths.iter().scan(LEFT, left).map(|x| (0, x)).collect();
    }
    let column = widths.iter().copied().max().unwrap_or(WIDTH);
    let columns = ((WIDTH - LEFT) / column).max(1);
    (0..).zip(keys).map(|(index, _)| (index / columns, LEFT + index % columns * column)).collect()
}

/// The height of a legend with these entries.
pub fn legend_height(keys: &[Key]) -> i32 {
    legend_places(keys).last().map_or(EDGE, |(row, _)| (row + 1) * KEY_ROW + 2 * EDGE)
}

/// Draws the legend from the height `top` down.
///
/// # Errors
/// Those of the backend.
pub fn legend(area: &Area<'_>, keys: &[Key], top: i32) -> Result<()> {
    for (key, (row, x)) in keys.iter().zip(legend_places(keys)) {
        let y = top + EDGE + row * KEY_ROW + KEY_ROW / 2;
        match key.swatch {
            Swatch::Line(look) => {
                line(area, &[(x, y), (x + KEY_LINE, y)], look.color, 5, look.dash)?;
                mark(area, (x + KEY_LINE / 2, y), look)?;
            }
            Swatch::Box(look) => fill(area, (x, y - 17, x + KEY_BOX, y + 17), look)?,
        }
        let left = x + key.swatch_width() + 16;
        write(area, &fitted(&key.label, LABEL_SIZE, WIDTH - EDGE - left), LABEL_SIZE, INK, (left, y), HPos::Left)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legend_wraps_and_stays_on_the_sheet() {
        let key = |n: usize| Key { label: "m".repeat(n), swatch: Swatch::Box(Fill::nth(0)) };
        let places = |sizes: &[usize]| legend_places(&sizes.iter().map(|n| key(*n)).collect::<Vec<_>>());
        assert!(places(&[10, 20, 10]).windows(2).all(|w| w[0].0 == w[1].0 && w[0].1 < w[1].1));
        let rows = |sizes: &[usize]| places(sizes).iter().map(|(row, _)| *row).collect::<Vec<_>>();
        assert_eq!(rows(&[30, 30, 30, 30]), [0, 0, 1, 1]);
        assert_eq!(rows(&[30, 30, 200]), [0, 1, 2], "what is too wide for any row leaves one column");
        assert_eq!(legend_height(&[]), EDGE);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_control_characters_go() {
        assert_eq!(fitted("abc", 10.0, 100), "abc");
        assert_eq!(fitted("abcdefghij", 10.0, 30), "abc…");
        assert_eq!(fitted("a\u{1}", 10.0, 100), "a\u{FFFD}");
    }
}
