//! What a problem of size (d, ℓ, n) would take: power laws in d and ℓ, fitted to the medians of a measured sweep, with limits for one more
//! measurement there. It says what it extrapolates and how many times beyond what was measured; that the law goes on to hold there is an
//! assumption, which no limit contains.

use std::fmt;
use std::str::FromStr;

use super::curvature::{Curvature, with_unit_seconds};
use super::fit::PowerLaw;
use super::model::{self, Operation, Shape};
use super::sweep::median;
use super::usage::Threads;
use crate::bounds::Measured;
use crate::error::{Error, Result};
use crate::experiment::record::Table;
use crate::laboratory::record::PEAK_BYTES;
use crate::laboratory::{CONFIDENCE, Registered, Size};

/// The largest number that stands for itself in double precision.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// What to predict for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// d.
    pub dim: u64,
    /// ℓ, a window's m.
    pub size: u64,
    /// n: rows absorbed in all; where it is not given, a row is.
    pub rows: Option<u64>,
}

impl Target {
    fn place(self) -> [f64; 2] {
        [self.dim as f64, self.size as f64]
    }
}

/// `d=1e8,l=64` or `d=1e8,l=64,n=1e6`.
impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |found: &str| {
            Error::argument("--predict", "d=NUMBER,l=NUMBER or d=NUMBER,l=NUMBER,n=NUMBER", format_args!("`{found}`"))
        };
        let (mut dim, mut size, mut rows) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.trim().split_once('=').ok_or_else(|| wrong(part))?;
            let place = match key.trim() {
                "d" => &mut dim,
                "l" | "ℓ" => &mut size,
                "n" => &mut rows,
                _ => return Err(wrong(part)),
            };
            if place.is_some() {
                return Err(Error::argument("--predict", format_args!("`{}` once", key.trim()), "it twice"));
            }
            let number: f64 = value.trim().parse().map_err(|_| wrong(part))?;
            if !(1.0..=LARGEST).contains(&number) || number.fract() != 0.0 {
                let expected = format!("a whole number of at least 1 for `{}`", key.trim());
                return Err(Error::argument("--predict", expected, format_args!("`{}`", value.trim())));
            }
            *place = Some(number as u64);
        }
        let missing = |key: &str| Error::argument("--predict", format_args!("a value for `{key}`"), format_args!("`{text}`"));
        let target = Self { dim: dim.ok_or_else(|| missing("d"))?, size: size.ok_or_else(|| missing("l"))?, rows };
        if target.size > target.dim {
            return Err(Error::argument("--predict", format_args!("l at most d = {}", target.dim), target.size));
        }
        Ok(target)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d = {}, ℓ = {}", self.dim, self.size)?;
        self.rows.map_or(Ok(()), |rows| write!(f, ", n = {rows}"))
    }
}

/// What is predicted of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The family.
    pub family: String,
    /// What: an operation, all of them, or memory.
    pub what: &'static str,
    /// `s` or `bytes`.
    pub unit: &'static str,
    /// The number with its limits.
    pub value: Measured,
    /// What the formula says; none for seconds.
    pub formula: Option<f64>,
    /// The fitted exponent in d.
    pub exponent: Option<f64>,
}

/// All predictions, and how far they go beyond what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// What for.
    pub target: Target,
    /// Family by family: a row absorbed, approximate, solve, all of it, peak memory.
    pub predictions: Vec<Prediction>,
    /// The measured range of d.
    pub dims: (f64, f64),
    /// The measured range of ℓ.
    pub sizes: (f64, f64),
}

impl Forecast {
    /// What is extrapolated and how far, in a sentence for each variable.
    pub fn notes(&self) -> Vec<String> {
        let [dim, size] = self.target.place();
        let note = |name: &str, x: f64, (least, greatest): (f64, f64)| {
            let measured = format!("measured from {least} to {greatest}");
            match () {
                () if x > greatest => format!("{name} is extrapolated by a factor of {} ({measured}).", tidy(x / greatest)),
                () if x < least => format!("{name} is extrapolated downwards by a factor of {} ({measured}).", tidy(least / x)),
                () => format!("{name} lies inside what was {measured}."),
            }
        };
        vec![note("d", dim, self.dims), note("ℓ", size, self.sizes)]
    }
}

/// Three digits.
fn tidy(x: f64) -> String {
    let digits = (2 - x.abs().log10().floor() as i32).clamp(0, 2) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The sweep that a prediction is made from where there is no record: ℓ on both sides of the target's.
pub fn sweep_for(target: Target) -> Curvature {
    let size = usize::try_from(target.size).unwrap_or(usize::MAX).min(1 << 12);
    let sizes = if size < 4 { vec![size, 2 * size, 4 * size] } else { vec![size / 2, size, 2 * size] };
    let least = (8 * size).max(3_000);
    Curvature {
        dims: [1, 3, 10, 30].map(|times| times * least).to_vec(),
        base_dim: 10 * least,
        base_size: size,
        sizes,
        block_rows: Vec::new(),
        streams: Vec::new(),
        replicates: 3,
        ..Curvature::sized(Size::Quick)
    }
}

/// Medians of the cells of a family: d, ℓ and a number each.
#[derive(Debug, Default)]
struct Points {
    dims: Vec<f64>,
    sizes: Vec<f64>,
    values: Vec<f64>,
}

impl Points {
    fn read(rows: &Table, operation: Option<&str>, y: &str) -> Result<Self> {
        let own = match operation {
            Some(operation) => rows.filter("operation", operation)?,
            None => rows.clone(),
        };
        let (dims, sizes, values) = (own.numbers("d")?, own.numbers("size")?, own.numbers(y)?);
        let mut cells: Vec<((f64, f64), Vec<f64>)> = Vec::new();
        for ((d, size), value) in dims.into_iter().zip(sizes).zip(values).filter(|(_, value)| value.is_finite() && *value > 0.0) {
            match cells.iter_mut().find(|(place, _)| *place == (d, size)) {
                Some((_, values)) => values.push(value),
                None => cells.push(((d, size), vec![value])),
            }
        }
        // Of one operation the median counts; of all of them together the most.
        let summary =
            |values: &[f64]| if operation.is_some() { median(values) } else { values.iter().copied().fold(0.0, f64::max) };
        let mut points = Self::default();
        for ((d, size), values) in cells {
            points.dims.push(d);
            points.sizes.push(size);
            points.values.push(summary(&values));
        }
        Ok(points)
    }

    fn law(&self) -> Result<PowerLaw> {
        PowerLaw::fit(&[("d", self.dims.as_slice()), ("l", self.sizes.as_slice())], &self.values)
    }

    fn range(values: &[f64]) -> (f64, f64) {
        values.iter().fold((f64::INFINITY, 0.0), |(low, high), &x| (low.min(x), high.max(x)))
    }
}

/// Predicts from the table of a measured sweep, [`Curvature`]'s with what its rows took. Blocks have the rows of the sweep's base, and all
/// threads work.
///
/// # Errors
/// [`Error::Argument`] for another table, for too few cells, and for an ℓ other than the only one that was measured.
pub fn forecast(settings: &Curvature, rows: &Table, target: Target) -> Result<Forecast> {
    let rows = with_unit_seconds(rows)?.filter("threads", Threads::All.name())?;
    let rows = rows.filter("block_rows", &settings.base_block_rows.to_string())?;
    let (mut predictions, mut dims, mut sizes) = (Vec::new(), (f64::INFINITY, 0.0_f64), (f64::INFINITY, 0.0_f64));
    for family in &settings.families {
        let own = rows.filter("family", family)?;
        let mut add =
            |what: &'static str, unit: &'static str, points: &Points, place: [f64; 2], formula: Option<f64>| -> Result<Measured> {
                let law = points.law()?;
                let value = law.at(&place, CONFIDENCE)?;
                let exponent = law.exponent("d", CONFIDENCE)?.map(|exponent| exponent.value);
                predictions.push(Prediction { family: family.clone(), what, unit, value, formula, exponent });
                Ok(value)
            };
        // Of a family without a size it does not matter.
        let place = |points: &Points| {
            let [d, size] = target.place();
            let (least, greatest) = Points::range(&points.sizes);
            if Curvature::is_sized(family) { [d, size] } else { [d, if least == greatest { least } else { size }] }
        };
        let mut parts = Vec::new();
        for (operation, what) in
            [(Operation::Absorb, "absorb a row"), (Operation::Approximate, "approximate"), (Operation::Solve, "solve")]
        {
            let points = Points::read(&own, Some(operation.name()), "unit_seconds")?;
            let (low, high) = Points::range(&points.dims);
            dims = (dims.0.min(low), dims.1.max(high));
            if Curvature::is_sized(family) {
                let (low, high) = Points::range(&points.sizes);
                sizes = (sizes.0.min(low), sizes.1.max(high));
            }
            parts.push(add(what, "s", &points, place(&points), None)?);
        }
        let peaks = Points::read(&own, None, PEAK_BYTES)?;
        if !peaks.values.is_empty() {
            let formula = formula(settings, family, target)?;
            add("peak memory", "bytes", &peaks, place(&peaks), Some(formula))?;
        }
        if let (Some(n), [absorb, approximate, solve]) = (target.rows, &parts[..]) {
            // Limits of a sum whose parts err together: never too narrow for that.
            let total = |of: fn(&Measured) -> f64| n as f64 * of(absorb) + of(approximate) + of(solve);
            let value = Measured { value: total(|m| m.value), low: total(|m| m.low), high: total(|m| m.high) };
            let what = "n rows, approximate, solve";
            predictions.push(Prediction { family: family.clone(), what, unit: "s", value, formula: None, exponent: None });
        }
    }
    Ok(Forecast { target, predictions, dims, sizes })
}

fn formula(settings: &Curvature, family: &str, target: Target) -> Result<f64> {
    let [dim, size] = [target.dim, target.size].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let shape = Shape { dim, block_rows: settings.base_block_rows, blocks: size.div_ceil(settings.base_block_rows) };
    model::peak(&settings.config(family, size)?, shape)
}
