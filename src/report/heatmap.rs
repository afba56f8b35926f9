//! What there was to see of a problem after a run: images in grey, fields over a square in colours that are perceptually uniform (viridis; van
//! der Walt & Smith 2015), one scale for everything that has one unit, and its bar below.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Picture;
use super::canvas::{self, Area, INK};
use super::look::{Fill, Hatch};
use super::metrics::file_name;
use super::number::{self, capitalised, sentences};
use super::series;
use crate::error::{Error, Result};
use crate::experiment::record::{Record, Table};
use crate::problem::PictureKind;

/// Places drawn in one picture: each is a box of the SVG.
const MOST_PLACES: usize = 20_000;
/// Images beside each other.
const IMAGES_IN_A_ROW: usize = 10;
const MAPS_IN_A_ROW: usize = 2;
/// The largest side of one grid.
const SIDE: i32 = 680;
/// Above each grid, for its title.
const TITLE: i32 = 48;
/// Below and left of a map, for the ends of its axes.
const AXIS: i32 = 52;
/// The height of a scale with its bar, its ticks and its unit.
const SCALE: i32 = 150;
const BAR: (i32, i32) = (900, 36);
/// Colours of a bar.
const SHADES: i32 = 90;
/// Labels of a bar.
const TICKS: i32 = 4;

/// A grid of the record.
struct Grid {
    title: String,
    unit: String,
    rows: Vec<Vec<f64>>,
}

impl Grid {
    fn width(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    fn places(&self) -> usize {
        self.width() * self.rows.len()
    }
}

/// The least and the largest number of a unit.
struct Scale<'a> {
    unit: &'a str,
    low: f64,
    high: f64,
}

/// One picture for each method and kind.
pub fn pictures(record: &Record) -> Result<Vec<Picture>> {
    let Some(table) = &record.pictures else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for (key, rows) in series::groups(table, &["method", "kind"])? {
        let [method, kind] = &key[..] else { continue };
        let (kind, grids) = (PictureKind::of(kind)?, grids(&rows)?);
        let steps = rows.text("step")?.first().map_or(String::new(), |step| (*step).to_owned());
        let seed = rows.text("seed")?.first().map_or(String::new(), |seed| (*seed).to_owned());
        let fits = |grids: &[Grid]| grids.iter().map(Grid::places).sum::<usize>() <= MOST_PLACES;
        let shown = (1..=grids.len()).take_while(|&count| fits(&grids[..count])).last().unwrap_or(1).min(grids.len());
        let sheet = Sheet { title: format!("{method} after {steps} outer steps"), kind, grids: &grids[..shown] };
        let mut caption = vec![format!("{} of {method} after {steps} outer steps, seed {seed}", noun(kind))];
        if shown < grids.len() {
            caption.push(format!("The first {shown} of {}", grids.len()));
        }
        caption.push("What has one unit has one scale".to_owned());
        let file = file_name(&format!("pictures-{}-{method}", kind.name()));
        out.push(Picture { file, svg: sheet.svg()?, caption: sentences(&caption) });
    }
    Ok(out)
}

fn noun(kind: PictureKind) -> &'static str {
    match kind {
        PictureKind::Image => "Images",
        PictureKind::Map => "Fields over the unit square",
    }
}

/// The grids of one method and kind.
fn grids(table: &Table) -> Result<Vec<Grid>> {
    let mut out = Vec::new();
    for (_, rows) in series::groups(table, &["picture"])? {
        let first = |column: &str| Ok::<_, Error>(rows.text(column)?.first().map_or(String::new(), |text| (*text).to_owned()));
        let bad = |text: &str| Error::argument("cell", "numbers in `values`, as many in each row", format_args!("`{text}`"));
        let parse = |row: &str| row.split(' ').map(|x| x.parse().map_err(|_| bad(row))).collect::<Result<Vec<f64>>>();
        let numbers = rows.text("values")?.into_iter().map(parse).collect::<Result<Vec<_>>>()?;
        let grid = Grid { title: first("title")?, unit: first("unit")?, rows: numbers };
        if let Some(row) = grid.rows.iter().find(|row| row.len() != grid.width()) {
            return Err(bad(&format!("{row:?}")));
        }
        out.push(grid);
    }
    Ok(out)
}

/// What is painted on one sheet.
struct Sheet<'a> {
    title: String,
    kind: PictureKind,
    grids: &'a [Grid],
}

impl Sheet<'_> {
    fn svg(&self) -> Result<String> {
        let scales = self.scales();
        let (columns, count) = (self.columns(), self.grids.len() as i32);
        let slot = (canvas::WIDTH - 2 * canvas::EDGE) / columns;
        let margin = self.margin();
        let (side, room) = (slot - 2 * margin, if self.kind == PictureKind::Map { AXIS } else { 0 });
        let place = |grid: &Grid| self.place(grid, side.min(SIDE));
        let tallest = self.grids.iter().map(|grid| place(grid) * (grid.rows.len() as i32 + self.rim())).max().unwrap_or(0);
        let row = TITLE + tallest + room + canvas::EDGE;
        let bottom = canvas::TITLE_STRIP + (count + columns - 1) / columns * row;
        canvas::picture(bottom + scales.len() as i32 * SCALE + canvas::EDGE, |area| {
            canvas::title(area, &self.title)?;
            for (index, grid) in (0..).zip(self.grids) {
                let left = canvas::EDGE + index % columns * slot;
                let corner = (left + margin, canvas::TITLE_STRIP + index / columns * row + TITLE);
                let scale = scales.iter().find(|scale| scale.unit == grid.unit);
                scale.map_or(Ok(()), |scale| self.paint(area, grid, scale, (corner, place(grid), side)))?;
            }
            let tops = (0..).map(|i| bottom + i * SCALE);
            scales.iter().zip(tops).try_for_each(|(scale, top)| self.bar(area, scale, top))
        })
    }

    fn columns(&self) -> i32 {
        let most = if self.kind == PictureKind::Map { MAPS_IN_A_ROW } else { IMAGES_IN_A_ROW };
        self.grids.len().clamp(1, most) as i32
    }

    /// Left and right of a grid.
    fn margin(&self) -> i32 {
        if self.kind == PictureKind::Map { AXIS } else { 8 }
    }

    /// The edge of the square, in places: maps have their values at interior points.
    fn rim(&self) -> i32 {
        i32::from(self.kind == PictureKind::Map)
    }

    /// The side of one place: even, for halves of it.
    fn place(&self, grid: &Grid, side: i32) -> i32 {
        let most = grid.width().max(grid.rows.len()) as i32 + self.rim();
        (side / most / 2 * 2).max(2)
    }

    /// Every unit's range; a constant has a little room on both sides.
    fn scales(&self) -> Vec<Scale<'_>> {
        let mut scales: Vec<Scale<'_>> = Vec::new();
        for grid in self.grids {
            let finite = grid.rows.iter().flatten().copied().filter(|x| x.is_finite());
            let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
            match scales.iter_mut().find(|scale| scale.unit == grid.unit) {
                Some(scale) => (scale.low, scale.high) = (scale.low.min(low), scale.high.max(high)),
                None => scales.push(Scale { unit: &grid.unit, low, high }),
            }
        }
        scales.retain(|scale| scale.low <= scale.high);
        for scale in scales.iter_mut().filter(|scale| scale.low == scale.high) {
            let room = if scale.low == 0.0 { 1.0 } else { 0.1 * scale.low.abs() };
            (scale.low, scale.high) = (scale.low - room, scale.high + room);
        }
        scales
    }

    fn paint(
        &self,
        area: &Area<'_>,
        grid: &Grid,
        scale: &Scale<'_>,
        ((left, top), place, side): ((i32, i32), i32, i32),
    ) -> Result<()> {
        let width = place * (grid.width() as i32 + self.rim());
        let height = place * (grid.rows.len() as i32 + self.rim());
        let left = left + (side - width) / 2;
        let title = canvas::fitted(&capitalised(&grid.title), canvas::TICK_SIZE, side);
        canvas::write(area, &title, canvas::TICK_SIZE, INK, (left + width / 2, top - TITLE / 2), HPos::Center)?;
        let inset = self.rim() * place / 2;
        for (i, row) in (0..).zip(&grid.rows) {
            let shades: Vec<Option<RGBColor>> = row.iter().map(|&x| self.shade(scale, x)).collect();
            let mut start = 0;
            // Neighbours of one colour are one box; boxes reach one unit under the next, so that no seam is seen between them.
            for run in shades.chunk_by(|a, b| a == b) {
                let (x, y) = (left + inset + start * place, top + inset + i * place);
                start += run.len() as i32;
                if let Some(color) = run[0] {
                    let fill = Fill { color, hatch: Hatch::None };
                    canvas::fill(area, (x, y, left + inset + start * place + 1, y + place + 1), fill)?;
                }
            }
        }
        match self.kind {
            PictureKind::Image => Ok(()),
            PictureKind::Map => frame(area, (left, top, left + width, top + height)),
        }
    }

    /// The colour of a number; none where it is not finite.
    fn shade(&self, scale: &Scale<'_>, x: f64) -> Option<RGBColor> {
        // Halves: the difference of the ends may overflow.
        let t = (0.5 * x - 0.5 * scale.low) / (0.5 * scale.high - 0.5 * scale.low);
        x.is_finite().then(|| self.color(t.clamp(0.0, 1.0)))
    }

    fn color(&self, t: f64) -> RGBColor {
        match self.kind {
            PictureKind::Image => {
                let grey = (255.0 * t).round() as u8;
                RGBColor(grey, grey, grey)
            }
            PictureKind::Map => ViridisRGB::get_color_normalized(t, 0.0, 1.0),
        }
    }

    /// The unit, the bar of its colours, and the numbers below.
    fn bar(&self, area: &Area<'_>, scale: &Scale<'_>, top: i32) -> Result<()> {
        let (width, height) = BAR;
        let left = (canvas::WIDTH - width) / 2;
        let unit = canvas::fitted(scale.unit, canvas::TICK_SIZE, canvas::WIDTH - 2 * canvas::EDGE);
        canvas::write(area, &unit, canvas::TICK_SIZE, INK, (canvas::WIDTH / 2, top + 20), HPos::Center)?;
        let top = top + 44;
        for shade in 0..SHADES {
            let color = self.color(f64::from(shade) / f64::from(SHADES - 1));
            let (from, to) = (left + shade * width / SHADES, left + (shade + 1) * width / SHADES);
            canvas::fill(area, (from, top, (to + 1).min(left + width), top + height), Fill { color, hatch: Hatch::None })?;
        }
        outline(area, (left, top, left + width, top + height))?;
        for tick in 0..=TICKS {
            let share = f64::from(tick) / f64::from(TICKS);
            let label = number::significant(scale.low * (1.0 - share) + scale.high * share, 3);
            let at = (left + tick * width / TICKS, top + height + 26);
            canvas::write(area, &label, canvas::TICK_SIZE, INK, at, HPos::Center)?;
        }
        Ok(())
    }
}

fn outline(area: &Area<'_>, (left, top, right, bottom): (i32, i32, i32, i32)) -> Result<()> {
    let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
    canvas::line(area, &corners, INK, 2, super::look::Dash::Solid)
}

/// The unit square around a map, and the ends of its axes.
fn frame(area: &Area<'_>, (left, top, right, bottom): (i32, i32, i32, i32)) -> Result<()> {
    outline(area, (left, top, right, bottom))?;
    let below = |text, x| canvas::write(area, text, canvas::TICK_SIZE, INK, (x, bottom + AXIS / 2), HPos::Center);
    let beside = |text, y| canvas::write(area, text, canvas::TICK_SIZE, INK, (left - 14, y), HPos::Right);
    below("0", left)?;
    below("x", (left + right) / 2)?;
    below("1", right)?;
    beside("0", bottom)?;
    beside("y", (top + bottom) / 2)?;
    beside("1", top + 8)
}
