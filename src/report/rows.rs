//! Labelled rows over one horizontal axis that starts at zero: what bars and timelines stand on.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, Padding, Scale};
use super::canvas::{self, Area, drawn};
use super::look::{Dash, Fill};
use crate::error::Result;

/// Height of the strip with the axis, below the rows.
pub const X_STRIP: i32 = 108;

/// Rows one below the other.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    /// What stands beside each.
    pub labels: Vec<&'a str>,
    /// A label that is wider is cut.
    pub label_width: i32,
    /// From one row to the next.
    pub pitch: i32,
    /// Height of what is drawn in a row.
    pub thickness: i32,
    /// Where the axis ends.
    pub longest: f64,
    /// The axis with its unit.
    pub x_label: &'a str,
}

/// A row's number, its vertical middle, and where a value stands on the axis.
pub struct Place<'a> {
    pub row: usize,
    pub middle: i32,
    pub at: &'a dyn Fn(f64) -> i32,
}

impl Rows<'_> {
    /// Height of all rows.
    pub fn height(&self) -> i32 {
        self.pitch * i32::try_from(self.labels.len()).unwrap_or(1).max(1)
    }

    /// Draws axis and labels below the title, and has `row` draw what stands in each row.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn draw(&self, area: &Area<'_>, mut row: impl FnMut(Place<'_>) -> Result<()>) -> Result<()> {
        let names: Vec<String> =
            self.labels.iter().map(|label| canvas::fitted(label, canvas::LABEL_SIZE, self.label_width)).collect();
        let left = canvas::EDGE + names.iter().map(|n| canvas::text_width(n, canvas::LABEL_SIZE)).max().unwrap_or(0) + 16;
        let frame = area.clone().shrink((left, canvas::TITLE_STRIP), (canvas::WIDTH - left - 60, self.height() + X_STRIP));
        let unit = Axis::spanning(Scale::Linear, Padding::Tight, [0.0, 1.0]);
        let mut chart = ChartBuilder::on(&frame);
        chart.x_label_area_size(X_STRIP);
        let mut chart = drawn(chart.build_cartesian_2d(Axis::from_zero(self.longest), unit))?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().bold_line_style(canvas::FAINT.stroke_width(2)).axis_style(canvas::INK.stroke_width(2));
        mesh.label_style(canvas::type_of(canvas::TICK_SIZE, canvas::INK)).set_all_tick_mark_size(10);
        mesh.axis_desc_style(canvas::type_of(canvas::LABEL_SIZE, canvas::INK)).x_desc(self.x_label);
        drawn(mesh.draw())?;
        let at = |x: f64| chart.backend_coord(&(x, 0.0)).0;
        for (number, name) in (0..).zip(&names) {
            let middle = canvas::TITLE_STRIP + number * self.pitch + self.pitch / 2;
            canvas::write(area, name, canvas::LABEL_SIZE, canvas::INK, (left - 16, middle), HPos::Right)?;
            row(Place { row: number as usize, middle, at: &at })?;
        }
        let axis = [(left, canvas::TITLE_STRIP), (left, canvas::TITLE_STRIP + self.height())];
        canvas::line(area, &axis, canvas::INK, 2, Dash::Solid)
    }

    /// Fills a row from one place of the axis to another, with a white gap in the end: neighbours stay apart without colour.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn fill(&self, area: &Area<'_>, middle: i32, (start, end): (i32, i32), fill: Fill) -> Result<()> {
        let (top, bottom) = (middle - self.thickness / 2, middle + self.thickness / 2);
        canvas::fill(area, (start, top, end, bottom), fill)?;
        if end - start > 8 {
            drawn(area.draw(&Rectangle::new([(end - 3, top), (end, bottom)], WHITE.filled())))?;
        }
        Ok(())
    }
}
