//! What the sweeps say: medians and rates of every cell beside the roofs, power laws in d, the points of the roofline; and for each claim the
//! number that decides it. Claims are made of the settings and the formulas alone.

use super::cells::{ROOFS, STREAM};
use super::{Cell, Curvature};
use crate::bounds::{Claim, Measured, Rule, log_log_slope};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::costs::fit::PowerLaw;
use crate::laboratory::costs::machine::Roofs;
use crate::laboratory::costs::model::{self, Operation};
use crate::laboratory::costs::sweep::{Sweep, UNKNOWN, median};
use crate::laboratory::costs::usage::Threads;
use crate::laboratory::record::{PEAK_BYTES, SECONDS};
use crate::laboratory::{Findings, Registered, rounded};

/// The operations that claims are about.
pub(super) const TIMED: [Operation; 3] = [Operation::Absorb, Operation::Approximate, Operation::Solve];
/// Medians and rates of every cell.
pub(super) const RATES: &str = "curvature-rates";
/// Peaks against d.
pub(super) const PEAKS: &str = "curvature-peaks";
/// Fitted lines of seconds against d.
pub(super) const FITS: &str = "curvature-fits";
/// Exponents with limits, beside those of the formulas.
pub(super) const EXPONENTS: &str = "curvature-exponents";
/// Seconds on one thread over those on all.
pub(super) const SPEED_UPS: &str = "curvature-threads";
/// The points and the roofs of the roofline.
pub(super) const POINTS: &str = "roofline";
pub(super) const ROOF_LINES: &str = "roofline-roofs";
/// Seconds of a call, or of a row where rows are absorbed.
const UNIT_SECONDS: &str = "unit_seconds";
/// What the exponent in the size may exceed that of the operations by: small products run at a lower rate.
const SIZE_TOLERANCE: f64 = 0.15;
/// The exponent in n below which memory counts as constant.
const CONSTANT: f64 = 0.05;
/// How far a peak may exceed its formula.
const PEAK_TOLERANCE: f64 = 1.25;
/// Bytes of lists and names, which no formula counts: added to each.
const SMALL: f64 = 16.0 * 1024.0;

/// A claim and what it is about.
pub(super) struct Question {
    pub(super) claim: Claim,
    about: About,
}

#[derive(Clone, Copy)]
enum About {
    Seconds { family: usize, operation: Operation, variable: Variable },
    Peak { family: usize },
    Stream { family: usize },
    Formula { family: usize },
}

/// What is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Dim,
    Size,
}

impl Variable {
    fn column(self) -> &'static str {
        match self {
            Self::Dim => "d",
            Self::Size => "size",
        }
    }
}

impl Curvature {
    /// The operations that the formulas count for a call, or for a row where rows are absorbed.
    fn predicted_flops(&self, family: &str, cell: Cell, operation: Operation) -> Result<f64> {
        let shape = cell.shape();
        let calls = if operation == Operation::Absorb { (shape.blocks * shape.block_rows) as f64 } else { 1.0 };
        Ok(model::cost(&self.config(family, cell.size)?, shape, operation)?.flops / calls)
    }

    /// The exponent of the operations in a variable; NaN where it does not vary.
    fn predicted(&self, family: &str, operation: Operation, variable: Variable) -> f64 {
        let base = self.base();
        let exponent = match variable {
            Variable::Dim => model::exponent(&self.dims, |dim| self.predicted_flops(family, Cell { dim, ..base }, operation)),
            Variable::Size => model::exponent(&self.sizes, |size| self.predicted_flops(family, Cell { size, ..base }, operation)),
        };
        exponent.unwrap_or(f64::NAN)
    }

    /// The bound of an exponent in d: as stated for what the formulas call proportional, and as much above them for anything else.
    fn bound_in_dim(&self, predicted: f64) -> f64 {
        rounded_up(predicted.max(1.0) + (self.largest_exponent - 1.0))
    }

    pub(super) fn questions(&self) -> Vec<Question> {
        let mut questions = Vec::new();
        let mut ask = |claim: String, bound: f64, about: About| {
            questions.push(Question { claim: Claim::new(Self::NAME, claim, Rule::AtMost { bound }), about });
        };
        for (family, name) in self.families.iter().enumerate() {
            for operation in TIMED {
                let variable = Variable::Dim;
                let bound = self.bound_in_dim(self.predicted(name, operation, variable));
                let claim = format!("{name}, {}: exponent of seconds in d", operation.name());
                ask(claim, bound, About::Seconds { family, operation, variable });
            }
            let peak = |dim: usize| model::peak(&self.config(name, self.base_size)?, Cell { dim, ..self.base() }.shape());
            let bound = self.bound_in_dim(model::exponent(&self.dims, peak).unwrap_or(f64::NAN));
            ask(format!("{name}: exponent of peak memory in d"), bound, About::Peak { family });
            for operation in TIMED.into_iter().filter(|_| Self::is_sized(name) && self.sizes.len() > 1) {
                let variable = Variable::Size;
                let bound = rounded_up(self.predicted(name, operation, variable) + SIZE_TOLERANCE);
                let claim = format!("{name}, {}: exponent of seconds in the size", operation.name());
                ask(claim, bound, About::Seconds { family, operation, variable });
            }
            if self.streams.len() > 1 {
                let claim = format!("{name}: exponent of peak memory in n, the rows absorbed");
                ask(claim, CONSTANT, About::Stream { family });
            }
            ask(
                format!("{name}: largest peak memory over its formula and 16 KiB, all cells"),
                PEAK_TOLERANCE,
                About::Formula { family },
            );
        }
        questions
    }

    pub(super) fn findings(&self, rows: &Table) -> Result<Findings> {
        let rows = with_unit_seconds(rows)?;
        let mut findings = Findings::default();
        for question in self.questions() {
            findings.measured.push(self.answer(question.about, &rows)?);
        }
        findings.tables = vec![
            (RATES.to_owned(), rates(&rows)?),
            (EXPONENTS.to_owned(), self.exponents(&rows)?),
            (FITS.to_owned(), self.fits(&rows)?),
            (PEAKS.to_owned(), self.peaks(&rows)?),
        ];
        let rates = &findings.tables[0].1;
        let (speed_ups, (points, lines)) = (self.speed_ups(rates)?, self.roofline(rates, &rows)?);
        let more = [(SPEED_UPS, speed_ups), (POINTS, points), (ROOF_LINES, lines)];
        findings.tables.extend(more.map(|(stem, table)| (stem.to_owned(), table)));
        Ok(findings)
    }

    /// The rows of the base of all sweeps.
    fn at_base(&self, rates: &Table) -> Result<Table> {
        let base = [("d", self.base_dim), ("size", self.base_size), ("block_rows", self.base_block_rows)];
        base.into_iter().try_fold(rates.clone(), |rows, (column, number)| rows.filter(column, &number.to_string()))
    }

    /// What all threads gain at the base.
    fn speed_ups(&self, rates: &Table) -> Result<Table> {
        let mut table = Table::new(["family", "operation", "one", "all", "speed_up"]);
        let base = self.at_base(rates)?;
        for family in &self.families {
            for operation in TIMED {
                let own = base.filter("family", family)?.filter("operation", operation.name())?;
                let seconds =
                    |threads: Threads| -> Result<f64> { Ok(median(&own.filter("threads", threads.name())?.numbers(SECONDS)?)) };
                let (one, all) = (seconds(Threads::One)?, seconds(Threads::All)?);
                let names = [family.clone(), operation.name().to_owned()].into_iter();
                table.push(names.chain([one, all, one / all].map(rounded)))?;
            }
        }
        Ok(table)
    }

    fn answer(&self, about: About, rows: &Table) -> Result<Measured> {
        match about {
            About::Seconds { family, operation, variable } => {
                self.sweep(rows, &self.families[family], operation.name(), variable, UNIT_SECONDS)?.exponent()
            }
            About::Peak { family } => {
                let peaks = self.peak_sweep(rows, &self.families[family])?;
                let slope = log_log_slope(&peaks.x, &peaks.largest());
                Ok(slope.map_or(UNKNOWN, Measured::exactly))
            }
            About::Stream { family } => {
                let only = [("family", self.families[family].as_str()), ("operation", STREAM)];
                let peaks = Sweep::read(rows, &only, "rows", PEAK_BYTES)?;
                Ok(log_log_slope(&peaks.x, &peaks.largest()).map_or(UNKNOWN, Measured::exactly))
            }
            About::Formula { family } => {
                let own = rows.filter("family", &self.families[family])?;
                let pairs = own.numbers(PEAK_BYTES)?.into_iter().zip(own.numbers("predicted_peak")?);
                let ratios = pairs.filter(|(peak, predicted)| peak.is_finite() && *predicted > 0.0).map(|(p, q)| p / (q + SMALL));
                Ok(ratios.reduce(f64::max).map_or(UNKNOWN, Measured::exactly))
            }
        }
    }

    /// The rows of a sweep around the base.
    fn sweep(&self, rows: &Table, family: &str, operation: &str, variable: Variable, y: &str) -> Result<Sweep> {
        let [d, size, block_rows] = [self.base_dim, self.base_size, self.base_block_rows].map(|number| number.to_string());
        let fixed = match variable {
            Variable::Dim => ("size", size.as_str()),
            Variable::Size => ("d", d.as_str()),
        };
        let all = Threads::All.name();
        let only = [("family", family), ("operation", operation), ("block_rows", block_rows.as_str()), ("threads", all), fixed];
        Sweep::read(rows, &only, variable.column(), y)
    }

    /// The peaks of all operations against d.
    fn peak_sweep(&self, rows: &Table, family: &str) -> Result<Sweep> {
        let [size, block_rows] = [self.base_size, self.base_block_rows].map(|number| number.to_string());
        let mut operations = rows.clone();
        let all = Threads::All.name();
        for (column, value) in [("family", family), ("size", size.as_str()), ("block_rows", block_rows.as_str()), ("threads", all)]
        {
            operations = operations.filter(column, value)?;
        }
        let mut kept = Table::new(operations.columns().iter().cloned());
        let names = operations.text("operation")?;
        let rows = operations.rows().iter().zip(names).filter(|(_, name)| *name != STREAM).map(|(row, _)| row);
        rows.into_iter().try_for_each(|row| kept.push(row))?;
        Sweep::read(&kept, &[], "d", PEAK_BYTES)
    }

    fn exponents(&self, rows: &Table) -> Result<Table> {
        let mut table = Table::new(["family", "operation", "variable", "exponent", "low", "high", "of_operations"]);
        for family in &self.families {
            for operation in TIMED {
                for variable in [Variable::Dim, Variable::Size] {
                    let Measured { value, low, high } =
                        self.sweep(rows, family, operation.name(), variable, UNIT_SECONDS)?.exponent()?;
                    let names = [family.as_str(), operation.name(), variable.column()].map(str::to_owned);
                    let predicted = self.predicted(family, operation, variable);
                    table.push(names.into_iter().chain([value, low, high, predicted].map(rounded)))?;
                }
            }
        }
        Ok(table)
    }

    /// The fitted line of each operation at every d.
    fn fits(&self, rows: &Table) -> Result<Table> {
        let mut table = Table::new(["family", "operation", "d", "seconds"]);
        for family in &self.families {
            for operation in TIMED {
                let sweep = self.sweep(rows, family, operation.name(), Variable::Dim, UNIT_SECONDS)?;
                let Ok(law) = PowerLaw::fit(&[("d", sweep.x.as_slice())], &sweep.medians()) else { continue };
                for d in &sweep.x {
                    table.push([family.clone(), operation.name().to_owned(), d.to_string(), rounded(law.value(&[*d])?)])?;
                }
            }
        }
        Ok(table)
    }

    fn peaks(&self, rows: &Table) -> Result<Table> {
        let mut table = Table::new(["family", "d", "peak_bytes", "formula"]);
        for family in &self.families {
            let sweep = self.peak_sweep(rows, family)?;
            for (d, peak) in sweep.x.iter().zip(sweep.largest()) {
                let cell = Cell { dim: *d as usize, ..self.base() };
                let formula = model::peak(&self.config(family, self.base_size)?, cell.shape())?;
                table.push([family.clone(), d.to_string(), rounded(peak), rounded(formula)])?;
            }
        }
        Ok(table)
    }

    /// Operations a byte and a second of each operation at the base, and the roofs around them.
    fn roofline(&self, rates: &Table, rows: &Table) -> Result<(Table, Table)> {
        let mut points = Table::new(["name", "family", "operation", "flops_per_byte", "gflops"]);
        let own = self.at_base(rates)?.filter("threads", Threads::All.name())?;
        let (families, operations) = (own.text("family")?, own.text("operation")?);
        let numbers = ["flops_per_byte", "gflops"].map(|column| own.numbers(column));
        let [intensities, rates] = numbers;
        let (intensities, rates) = (intensities?, rates?);
        let mut span: Vec<f64> = Vec::new();
        for row in 0..own.len() {
            if TIMED.iter().any(|operation| operation.name() == operations[row]) && intensities[row] > 0.0 {
                let name = format!("{} {}", families[row], operations[row]);
                let cells =
                    [name, families[row].to_owned(), operations[row].to_owned(), rounded(intensities[row]), rounded(rates[row])];
                points.push(cells)?;
                span.push(intensities[row]);
            }
        }
        let mut lines = Table::new(["name", "flops_per_byte", "gflops"]);
        for threads in Threads::BOTH {
            let Roofs { flops, bytes } = Roofs::read(rows, "operation", threads)?;
            let ridge = flops / bytes;
            if !ridge.is_finite() {
                continue;
            }
            let low = span.iter().copied().fold(ridge / 10.0, f64::min);
            let high = span.iter().copied().fold(ridge * 10.0, f64::max);
            for x in [0.7 * low, ridge, 1.4 * high] {
                let name = if threads == Threads::One { "roofs of one thread" } else { "roofs of all threads" };
                lines.push([name.to_owned(), rounded(x), rounded((x * bytes).min(flops) / 1e9)])?;
            }
        }
        Ok((points, lines))
    }
}

/// To two decimals, never below.
fn rounded_up(x: f64) -> f64 {
    (100.0 * x - 1e-6).ceil() / 100.0
}

/// The table with the seconds of a call or of a row as a further column; without times it has only NaN there.
pub(in crate::laboratory::costs) fn with_unit_seconds(rows: &Table) -> Result<Table> {
    let timed = rows.columns().iter().any(|column| column == SECONDS);
    let seconds = if timed { rows.numbers(SECONDS)? } else { vec![f64::NAN; rows.len()] };
    let missing = if timed { &[][..] } else { &[SECONDS, PEAK_BYTES][..] };
    let absorbed = rows.numbers("rows")?;
    let columns = rows.columns().iter().map(String::as_str).chain(missing.iter().copied()).chain([UNIT_SECONDS]);
    let mut out = Table::new(columns);
    for ((row, seconds), absorbed) in rows.rows().iter().zip(seconds).zip(absorbed) {
        let unit = (seconds / absorbed.max(1.0)).to_string();
        out.push(row.iter().map(String::as_str).chain(missing.iter().map(|_| "NaN")).chain([unit.as_str()]))?;
    }
    Ok(out)
}

/// Medians of every cell and operation with their least and greatest, the rates that follow, and their shares of the roofs.
fn rates(rows: &Table) -> Result<Table> {
    let shared = ["family", "d", "size", "block_rows", "threads", "operation", "rows"];
    let measured = ["seconds", "least", "most", "flops_per_byte", "gflops", "gbytes", "of_gemm", "of_bandwidth"];
    let mut table = Table::new(shared.into_iter().chain(measured).chain([PEAK_BYTES, "predicted_peak"]));
    let cells = shared.map(|column| rows.text(column)).into_iter().collect::<Result<Vec<_>>>()?;
    let columns = [SECONDS, UNIT_SECONDS, "flops", "bytes", PEAK_BYTES, "predicted_peak"];
    let numbers = columns.map(|column| rows.numbers(column)).into_iter().collect::<Result<Vec<_>>>()?;
    let roofs = Threads::BOTH.map(|threads| Roofs::read(rows, "operation", threads));
    let [one, all] = roofs;
    let (one, all) = (one?, all?);
    let mut begin = 0;
    while begin < rows.len() {
        // The replicates of an operation stand together.
        let same = |row: &usize| cells.iter().all(|column| column[*row] == column[begin]);
        let end = begin + (begin..rows.len()).take_while(same).count();
        let of = |column: usize| -> Vec<f64> { numbers[column][begin..end].iter().copied().filter(|x| x.is_finite()).collect() };
        if cells[0][begin] != ROOFS && !of(0).is_empty() {
            let (seconds, unit) = (median(&of(0)), of(1));
            let (flops, bytes) = (numbers[2][begin], numbers[3][begin]);
            let roofs = if cells[4][begin] == Threads::One.name() { one } else { all };
            let least = unit.iter().copied().fold(f64::INFINITY, f64::min);
            let most = unit.iter().copied().fold(0.0, f64::max);
            let shares = [flops / seconds / roofs.flops, bytes / seconds / roofs.bytes];
            let rates = [flops / bytes, flops / seconds / 1e9, bytes / seconds / 1e9];
            let peak = of(4).into_iter().reduce(f64::max).unwrap_or(f64::NAN);
            let measured = [median(&unit), least, most].into_iter().chain(rates).chain(shares).chain([peak, numbers[5][begin]]);
            table.push(cells.iter().map(|column| column[begin].to_owned()).chain(measured.map(rounded)))?;
        }
        begin = end;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Verdict;
    use crate::laboratory::{Experiment, Size};

    /// A table whose seconds follow d^`power` exactly but for the replicate, and whose peaks are those of the formulas.
    fn planted(settings: &Curvature, power: f64) -> Table {
        let columns = settings.columns().iter().copied().chain([SECONDS, PEAK_BYTES]);
        let mut table = Table::new(columns);
        let roof = |operation: &str, flops: &str, bytes: &str| {
            ["machine", "0", "0", "0", "all", operation, "0", "0", flops, bytes, "0", "", "1", "NaN"].map(str::to_owned)
        };
        table.push(roof("gemm", "1e11", "1e9")).unwrap();
        table.push(roof("triad", "1e9", "1e10")).unwrap();
        for cell in settings.cells() {
            let (family, shape) = (&settings.families[cell.family], cell.shape());
            let config = settings.config(family, cell.size).unwrap();
            for operation in TIMED {
                let cost = model::cost(&config, shape, operation).unwrap();
                for (replicate, level) in [0.99, 1.0, 1.01].into_iter().enumerate() {
                    let rows = if operation == Operation::Absorb { shape.blocks * shape.block_rows } else { 0 };
                    let seconds = level * 1e-9 * (cell.dim as f64).powf(power) * cell.size as f64 * rows.max(1) as f64;
                    let setting = [cell.dim, cell.size, cell.block_rows].map(|number| number.to_string());
                    let names = [family.clone()]
                        .into_iter()
                        .chain(setting)
                        .chain([cell.threads.name(), operation.name()].map(str::to_owned));
                    let rest = [rows.to_string(), replicate.to_string()].into_iter();
                    let costs = [cost.flops, cost.bytes, cost.peak].map(rounded);
                    let cells = names.chain(rest).chain(costs).chain([String::new(), seconds.to_string(), rounded(cost.peak)]);
                    table.push(cells).unwrap();
                }
            }
        }
        table
    }

    fn settings() -> Curvature {
        Curvature { families: vec!["nystrom".into()], streams: vec![], ..Curvature::sized(Size::Quick) }
    }

    #[test]
    fn planted_exponents_are_recovered_and_a_planted_wrong_one_is_refuted() {
        let settings = settings();
        let verdicts = |power: f64| -> Vec<(String, Verdict)> {
            let findings = settings.findings(&planted(&settings, power)).unwrap();
            let claims = settings.claims();
            claims.iter().zip(findings.measured).map(|(claim, found)| (claim.claim.clone(), claim.judge(found).verdict)).collect()
        };
        assert!(verdicts(1.0).iter().all(|(_, verdict)| *verdict == Verdict::Holds), "{:?}", verdicts(1.0));
        let wrong = verdicts(1.2);
        let (in_dim, others): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|(claim, _)| claim.ends_with("seconds in d"));
        assert!(in_dim.len() == 3 && in_dim.iter().all(|(_, verdict)| *verdict == Verdict::Fails), "{in_dim:?}");
        assert!(others.iter().all(|(_, verdict)| *verdict == Verdict::Holds), "{others:?}");
    }

    #[test]
    fn rates_are_amounts_over_seconds_beside_the_roofs() {
        let settings = settings();
        let rows = with_unit_seconds(&planted(&settings, 1.0)).unwrap();
        let rates = rates(&rows).unwrap();
        let cell = rates.filter("d", "10000").unwrap().filter("size", "64").unwrap().filter("block_rows", "32").unwrap();
        let absorb = cell.filter("threads", "all").unwrap().filter("operation", "absorb").unwrap();
        let number = |column: &str| absorb.numbers(column).unwrap()[0];
        // A row takes 1e-9 · 10⁴ · 64 s and 4 · 10⁴ · 64 operations: 4 GFLOP/s, of 100 that the product does.
        assert!((number("seconds") / 6.4e-4 - 1.0).abs() < 1e-4 && (number("gflops") / 4.0 - 1.0).abs() < 1e-4);
        assert!((number("of_gemm") / 0.04 - 1.0).abs() < 1e-4, "{}", number("of_gemm"));
        let (points, lines) = settings.roofline(&rates, &rows).unwrap();
        assert_eq!((points.len(), lines.len()), (3, 3), "no roof of one thread was measured");
        assert_eq!(lines.numbers("gflops").unwrap()[2], 100.0, "the flat roof is the product's");
    }

    #[test]
    fn bounds_are_those_of_the_formulas() {
        let settings = Curvature { families: vec!["dense".into(), "window".into()], ..Curvature::sized(Size::Quick) };
        let bound = |claim: &str| settings.claims().iter().find(|found| found.claim == claim).unwrap().rule.predicted();
        assert_eq!(bound("window, absorb: exponent of seconds in d"), 1.05);
        assert_eq!(bound("dense, absorb: exponent of seconds in d"), 2.05);
        assert_eq!(bound("window, absorb: exponent of seconds in the size"), 0.15);
        assert!(bound("dense, solve: exponent of seconds in d") > 2.9);
    }
}
