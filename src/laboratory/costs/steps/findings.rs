//! What the sweeps of steps say: exponents for the claims, and what absorbing takes in units of a gradient.

use super::{ABSORB, CLASSES, FAMILIES, GRADIENT, OUTER, Steps};
use crate::bounds::{Claim, Measured, Rule, log_log_slope};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::costs::machine::{self, Roof};
use crate::laboratory::costs::sweep::{Sweep, UNKNOWN, median};
use crate::laboratory::costs::usage::Threads;
use crate::laboratory::record::{PEAK_BYTES, SECONDS};
use crate::laboratory::{Findings, Registered, rounded};

/// Of an inner step in n: samples that are further apart in memory take a little longer to fetch.
const INDEPENDENT: f64 = 0.25;
/// The exponent below which memory counts as constant.
const CONSTANT: f64 = 0.05;
/// The table of what each takes over a gradient.
pub(super) const RATIOS: &str = "steps-ratios";

/// What a claim is about.
#[derive(Clone, Copy)]
pub(super) struct About {
    what: &'static str,
    family: &'static str,
    variable: Variable,
    quantity: Quantity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Samples,
    Dim,
    Batch,
}

impl Variable {
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Samples => "n",
            Self::Dim => "d",
            Self::Batch => "batch",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Samples => "n, the training samples",
            Self::Dim => "d",
            Self::Batch => "the batch",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Seconds,
    Peak,
}

impl Quantity {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Peak => "peak memory",
        }
    }
}

impl Steps {
    /// The rows of one sweep.
    fn sweep(&self, rows: &Table, (what, family): (&str, &str), variable: Variable, y: &str) -> Result<Sweep> {
        let [n, d, batch] = [self.base_samples, self.base_width * CLASSES, self.base_batch].map(|number| number.to_string());
        let fixed: Vec<(&str, &str)> = [("n", n.as_str()), ("d", d.as_str()), ("batch", batch.as_str())]
            .into_iter()
            .filter(|(column, _)| *column != variable.column())
            .collect();
        Sweep::read(rows, &[&[("what", what), ("family", family)][..], &fixed[..]].concat(), variable.column(), y)
    }

    pub(super) fn questions(&self) -> Vec<(Claim, About)> {
        let mut questions = Vec::new();
        let mut ask = |what: &'static str, family: &'static str, variable: Variable, quantity: Quantity, bound: f64| {
            let who = if family.is_empty() { what.to_owned() } else { format!("{what}, {family}") };
            let claim = format!("{who}: exponent of {} in {}", quantity.name(), variable.name());
            let claim = Claim::new(Self::NAME, claim, Rule::AtMost { bound });
            questions.push((claim, About { what, family, variable, quantity }));
        };
        let each = [(GRADIENT, ""), (ABSORB, FAMILIES[0]), (ABSORB, FAMILIES[1]), (OUTER, FAMILIES[0]), (OUTER, FAMILIES[1])];
        for (what, family) in each {
            let in_samples = if what == OUTER { self.largest_exponent } else { INDEPENDENT };
            let memory_in_samples = if what == OUTER { self.largest_exponent } else { CONSTANT };
            ask(what, family, Variable::Samples, Quantity::Seconds, in_samples);
            ask(what, family, Variable::Samples, Quantity::Peak, memory_in_samples);
            for variable in [Variable::Dim, Variable::Batch] {
                ask(what, family, variable, Quantity::Seconds, self.largest_exponent);
                ask(what, family, variable, Quantity::Peak, self.largest_exponent);
            }
        }
        questions
    }

    pub(super) fn findings(&self, rows: &Table) -> Result<Findings> {
        let mut findings = Findings::default();
        for (_, About { what, family, variable, quantity }) in self.questions() {
            findings.measured.push(match quantity {
                Quantity::Seconds => self.sweep(rows, (what, family), variable, SECONDS)?.exponent()?,
                Quantity::Peak => {
                    let peaks = self.sweep(rows, (what, family), variable, PEAK_BYTES)?;
                    log_log_slope(&peaks.x, &peaks.largest()).map_or(UNKNOWN, Measured::exactly)
                }
            });
        }
        findings.tables.push((RATIOS.to_owned(), self.ratios(rows)?));
        Ok(findings)
    }

    /// Medians of every cell: seconds, their share of the roof, and absorbing in units of a gradient.
    fn ratios(&self, rows: &Table) -> Result<Table> {
        let mut table = Table::new(["what", "family", "n", "d", "batch", "seconds", "gflops", "of_gemm", "gradients"]);
        if !rows.columns().iter().any(|column| column == SECONDS) {
            return Ok(table);
        }
        let peak = machine::rate(rows, ("what", Roof::Product), Threads::All, "flops")?;
        for cell in self.cells() {
            let setting = [("n", cell.samples), ("d", cell.dim()), ("batch", cell.batch)];
            let own =
                setting.into_iter().try_fold(rows.clone(), |rows, (column, value)| rows.filter(column, &value.to_string()))?;
            let seconds = |what: &str, family: &str| -> Result<(f64, f64)> {
                let own = own.filter("what", what)?.filter("family", family)?;
                Ok((median(&own.numbers(SECONDS)?), own.numbers("flops")?.first().copied().unwrap_or(f64::NAN)))
            };
            let (gradient, _) = seconds(GRADIENT, "")?;
            let each = [(GRADIENT, "")].into_iter().chain([ABSORB, OUTER].into_iter().flat_map(|w| FAMILIES.map(|f| (w, f))));
            for (what, family) in each {
                let (seconds, flops) = seconds(what, family)?;
                let names = [what.to_owned(), family.to_owned()].into_iter();
                let numbers = [seconds, flops / seconds / 1e9, flops / seconds / peak, seconds / gradient].map(rounded);
                table.push(names.chain(setting.map(|(_, value)| value.to_string())).chain(numbers))?;
            }
        }
        Ok(table)
    }
}
