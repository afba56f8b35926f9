//! Reports: a [`Record`] as pictures (SVG), as one self-contained HTML page and as a summary for the terminal. Equal records
//! give equal bytes. Everything is rebuilt from the record alone; nothing here runs, times or prints anything. And the picture of a sketch,
//! from numbers that are handed in.

mod axis;
mod bars;
mod canvas;
mod chart;
mod comparison_page;
mod heatmap;
mod labels;
mod laboratory;
mod laboratory_page;
mod look;
mod metrics;
mod number;
mod page;
mod pictures;
mod raster;
mod rows;
mod series;
mod sketch;
mod summary;
mod timeline;

pub use comparison_page::summary as comparison_summary;
pub use laboratory_page::{counts as verdict_counts, summary as verdict_summary};
pub use series::last_rows;
pub use sketch::{SketchCurves, sketch_picture};

use std::borrow::Cow;

use crate::comparison::record::Record as ComparisonRecord;
use crate::error::Result;
use crate::experiment::record::{Record, Table, Writer};
use crate::laboratory::record::Record as LaboratoryRecord;

/// The name of the page in a record's folder.
pub const PAGE: &str = "report.html";

/// A picture of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its file name, unlike that of any other picture of the record.
    pub file: String,
    /// It, as SVG.
    pub svg: String,
    /// What it shows, and what it leaves out.
    pub caption: String,
}

/// All pictures that the record has data for: metrics in the order of the manifest, what there was to see, the time of a step and its
/// timeline, hypergradient errors.
///
/// # Errors
/// [`crate::Error::Argument`] if a table of the record lacks a column or holds a text for a number.
pub fn pictures(record: &Record) -> Result<Vec<Picture>> {
    let mut out = metrics::pictures(record)?;
    out.extend(heatmap::pictures(record)?);
    out.extend(pictures::timing_phases(record)?);
    out.extend(timeline::picture(record)?);
    out.extend(pictures::hypergradient_errors(record)?);
    for index in 1..out.len() {
        // Metrics whose names differ only in characters that file names should not have.
        let taken: Vec<&str> = out[..index].iter().map(|p| p.file.as_str()).collect();
        let stem = out[index].file.trim_end_matches(".svg").to_owned();
        let names = std::iter::once(format!("{stem}.svg")).chain((2..).map(|n| format!("{stem}-{n}.svg")));
        if let Some(free) = names.into_iter().find(|name| !taken.contains(&name.as_str())) {
            out[index].file = free;
        }
    }
    Ok(out)
}

/// The record as one HTML page that needs no other file, no script and no network.
///
/// # Errors
/// As for [`pictures`].
pub fn page(record: &Record) -> Result<String> {
    page::render(record, &pictures(record)?)
}

/// The summary: a row a method, metrics as mean ± standard deviation over seeds, steps, seconds and oracle counts. The cells are
/// for reading; numbers to compute with are in the record.
///
/// # Errors
/// As for [`pictures`].
pub fn summary(record: &Record) -> Result<Table> {
    summary::table(record)
}

/// Writes all pictures and the page, [`PAGE`], into the record's folder.
///
/// # Errors
/// As for [`pictures`], and [`crate::Error::Io`] if a file cannot be written.
pub fn write(record: &Record, writer: &Writer) -> Result<()> {
    let pictures = pictures(record)?;
    for picture in &pictures {
        writer.write(&picture.file, picture.svg.as_bytes())?;
    }
    writer.write(PAGE, page::render(record, &pictures)?.as_bytes())
}

/// Writes a laboratory's pictures, as SVG and as PNG, and its page, [`PAGE`], into the record's folder.
///
/// # Errors
/// [`crate::Error::Argument`] where a picture names a table or column that the record has not, and [`crate::Error::Io`] if a file
/// cannot be written.
pub fn write_laboratory(record: &LaboratoryRecord, writer: &Writer) -> Result<()> {
    let pictures = laboratory::pictures(record)?;
    write_pictures(&pictures, writer)?;
    writer.write(PAGE, laboratory_page::render(record, &pictures)?.as_bytes())
}

/// Writes a comparison's pictures, as SVG and as PNG, and its page, [`PAGE`], into the record's folder.
///
/// # Errors
/// As [`write_laboratory`].
pub fn write_comparison(record: &ComparisonRecord, writer: &Writer) -> Result<()> {
    let table = |stem: &str| Ok(Cow::Borrowed(record.table(stem)?));
    let pictures = record.manifest.pictures.iter().map(|described| laboratory::draw(&table, described));
    let pictures = pictures.collect::<Result<Vec<_>>>()?;
    write_pictures(&pictures, writer)?;
    writer.write(PAGE, comparison_page::render(record, &pictures)?.as_bytes())
}

fn write_pictures(pictures: &[Picture], writer: &Writer) -> Result<()> {
    pictures.iter().try_for_each(|picture| {
        writer.write(&picture.file, picture.svg.as_bytes())?;
        writer.write(&picture.file.replace(".svg", ".png"), &raster::png(&picture.svg)?)
    })
}

#[cfg(test)]
mod tests;
