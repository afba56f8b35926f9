//! What a picture shows, as data: which columns of which tables are its axes, curves and bands. It goes into the manifest, so that
//! pictures are drawn anew from the files of a record alone. How they look is not known here.

use serde::{Deserialize, Serialize};

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios.
    Log,
}

/// An axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What it measures, with symbol and unit: `rows n (count)`.
    pub label: String,
    /// How values lie along it.
    pub scale: Scale,
}

impl Axis {
    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log }
    }

    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear }
    }
}

/// Where a curve runs among the rows that share an x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Center {
    /// Through the mean.
    Mean,
    /// Through the root of the mean square.
    RootMeanSquare,
    /// Through the mean of the logarithms.
    Geometric,
    /// Through the median.
    Median,
}

/// What is shaded around a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Band {
    /// Nothing.
    None,
    /// From the smallest to the largest of the rows that share an x.
    Range,
    /// Between these two of their quantiles.
    Quantiles(f64, f64),
    /// Between the means of these two columns; limits that have no place on the axis are drawn at the curve.
    Columns(String, String),
}

/// How a layer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// What was measured: a line with marks, in a colour of its own.
    Measured,
    /// What was measured at single places: marks as of `Measured`, each with its name beside it.
    Points,
    /// What theory says: a broken line without marks. It has the colour of the measured curve with the same values in `by`, and is grey
    /// where `by` is empty.
    Theory,
}

/// Curves from one table: one for each combination of values in `by`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The stem of the table's file. Rows that are timed have a further column, `seconds`.
    pub table: String,
    /// Only rows whose cell in this column has this value.
    pub only: Vec<(String, String)>,
    /// The columns that tell curves apart.
    pub by: Vec<String>,
    /// The column along the horizontal axis.
    pub x: String,
    /// The column along the vertical axis.
    pub y: String,
    /// Where the curve runs among several rows with one x.
    pub center: Center,
    /// What is shaded around it.
    pub band: Band,
    /// How it looks.
    pub style: Style,
    /// The curve's name in the legend, `{column}` standing for its value; empty for none.
    pub name: String,
}

impl Layer {
    /// All rows of a table as one measured curve of means, named after y.
    pub fn new(table: impl Into<String>, x: impl Into<String>, y: impl Into<String>) -> Self {
        let y = y.into();
        Self {
            table: table.into(),
            only: Vec::new(),
            by: Vec::new(),
            x: x.into(),
            name: y.clone(),
            y,
            center: Center::Mean,
            band: Band::None,
            style: Style::Measured,
        }
    }

    /// Of rows with this value in this column only.
    pub fn only(mut self, column: impl Into<String>, value: impl Into<String>) -> Self {
        self.only.push((column.into(), value.into()));
        self
    }

    /// One curve for each value of this column, too.
    pub fn by(mut self, column: impl Into<String>) -> Self {
        self.by.push(column.into());
        self
    }

    /// Running there.
    pub fn center(self, center: Center) -> Self {
        Self { center, ..self }
    }

    /// With this band.
    pub fn band(self, band: Band) -> Self {
        Self { band, ..self }
    }

    /// As single places.
    pub fn points(self) -> Self {
        Self { style: Style::Points, ..self }
    }

    /// As what theory says.
    pub fn theory(self) -> Self {
        Self { style: Style::Theory, ..self }
    }

    /// Under this name; `{column}` stands for its value.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }
}

/// One plot area of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    /// What stands above it; empty for nothing.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// What is drawn, the last one uppermost.
    pub layers: Vec<Layer>,
    /// Vertical broken lines: where each stands and what is written there.
    pub verticals: Vec<(f64, String)>,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drawing {
    /// Curves in panels side by side with the same quantity on their vertical axes.
    Curves {
        /// The vertical axis.
        y: Axis,
        /// From left to right.
        panels: Vec<Panel>,
    },
    /// Horizontal bars stacked from parts.
    Bars {
        /// The stem of the table's file.
        table: String,
        /// The column that names the bars.
        bar: String,
        /// The column that names the parts.
        part: String,
        /// The column with the length of a part; rows that share bar and part are averaged.
        length: String,
        /// What lengths measure, with the unit.
        label: String,
    },
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// The stem of its files, unlike any other picture's.
    pub file: String,
    /// What stands above it.
    pub title: String,
    /// What it shows, in sentences: symbols, statistics, bands.
    pub caption: String,
    /// What is drawn.
    pub drawing: Drawing,
}
