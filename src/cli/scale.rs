//! `nhgd scale`: what things cost and how that grows, as experiments with verdicts, beside the limits of the machine; and what a problem of a
//! given size would take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::laboratory::{self, Executed};
use super::terminal::{Terminal, machine, say, say_json, say_table};
use super::{Common, memory};
use crate::error::{Error, Result};
use crate::experiment::kept::{MemoryMeter, World};
use crate::experiment::record::Table;
use crate::laboratory::costs::curvature::Curvature;
use crate::laboratory::costs::predict::{Forecast, Prediction, Target, forecast, sweep_for};
use crate::laboratory::memory::refusal;
use crate::laboratory::plan::{Chosen, Plan};
use crate::laboratory::record::Record;
use crate::laboratory::{Registered, Size, Suite, runner};
use crate::problem::DataSource;
use crate::report;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  nhgd scale --quick                            every experiment, small\n  nhgd scale curvature --memory 8GB             \
    one, with what would need more left out\n  nhgd scale --predict d=1e8,l=64               seconds and bytes of a size that was not run\n  \
    nhgd scale --predict d=1e8,l=64,n=1e6 --from DIR   the same from a record's sweep\n\nTimes are taken alone, one after the other: \
    leave the machine to them. Ratios are within one run.\nA claim that is refuted is a finding: the exit code is 0. What would not fit \
    in memory is a row with its reason.\nCtrl-C and SIGTERM save and stop, with exit code 130 or 143, and say how to go on; a second one \
    ends it at once.\nWhat was killed goes on from its last checkpoint: nhgd scale --resume DIR"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    laboratory: laboratory::Choices,
    /// Predict seconds and memory for d parameters and a sketch of size l, and with n for n rows in all: d=1e8,l=64[,n=1e6]. Measures a
    /// small sweep first
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["names", "quick", "config", "list", "out", "seed", "resume"])]
    predict: Option<String>,
    /// Predict from the record in this folder instead of measuring
    #[arg(long, value_name = "DIR", requires = "predict")]
    from: Option<PathBuf>,
    /// The most memory to take, in bytes or with a unit (8e9, 8GB, 8GiB) [default: what the machine has available]
    #[arg(long, value_name = "BYTES", value_parser = memory::bytes)]
    memory: Option<u64>,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    if let Some(text) = &arguments.predict {
        return predict(text.parse()?, arguments, common);
    }
    let Some(executed) = laboratory::run(Suite::Costs, &arguments.laboratory, arguments.memory, common)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Executed { record, folder, seconds } = &executed;
    let refused = refusals(record)?;
    if common.json {
        let verdicts = laboratory::verdicts(&record.verdicts)?;
        say_json(&json!({ "verdicts": verdicts, "refused": refused, "seconds": seconds, "folder": folder.to_string_lossy() }))?;
    } else {
        say_table(&report::verdict_summary(record)?)?;
        refused.iter().try_for_each(|line| say(format_args!("Refused: {line}")))?;
        let page = folder.join(report::PAGE);
        say(format_args!("{}; {seconds:.1} s; the report: {}", report::verdict_counts(record)?, page.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was not begun for want of memory, a line each.
fn refusals(record: &Record) -> Result<Vec<String>> {
    let Ok(table) = record.table(Curvature::NAME) else { return Ok(Vec::new()) };
    let (families, dims, sizes) = (table.text("family")?, table.text("d")?, table.text("size")?);
    let reasons = table.text("refused")?.into_iter().enumerate().filter(|(_, reason)| !reason.is_empty());
    Ok(reasons.map(|(row, reason)| format!("{}, d = {}, ℓ = {}: {reason}", families[row], dims[row], sizes[row])).collect())
}

fn predict(target: Target, arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let (record, origin) = match &arguments.from {
        Some(folder) => (Record::read(folder)?, format!("the record in {}", folder.display())),
        None => (measure(target, arguments, common)?, "a sweep that was measured now".to_owned()),
    };
    let settings = settings(&record, arguments.from.as_deref())?;
    let rows = record.timed_table(Curvature::NAME)?;
    let forecast = forecast(&settings, &rows, target)?;
    let available = arguments.memory.or_else(memory::available);
    let threads = record.manifest.threads;
    if common.json {
        let predictions: Vec<Value> = forecast.predictions.iter().map(|prediction| as_json(prediction, available)).collect();
        return say_json(&json!({
            "d": target.dim, "l": target.size, "n": target.rows, "predictions": predictions, "notes": forecast.notes(),
            "from": origin, "threads": threads, "available_bytes": available,
        }))
        .map(|()| ExitCode::SUCCESS);
    }
    say(format_args!("{target}, from {origin}, {threads} threads; blocks of {} rows.", settings.base_block_rows))?;
    say_table(&as_table(&forecast)?)?;
    say("Limits: 95 %, for one more measurement, if the power law holds there; memory: the fit, beside the formula.")?;
    forecast.notes().into_iter().try_for_each(say)?;
    let too_large = forecast.predictions.iter().filter_map(|prediction| {
        let refusal = refusal(needed(prediction)?, available?)?;
        Some(format!("{} would not fit here: it {refusal}.", prediction.family))
    });
    too_large.into_iter().try_for_each(say)?;
    Ok(ExitCode::SUCCESS)
}

/// The bytes that decide whether it fits; none for seconds.
fn needed(prediction: &Prediction) -> Option<f64> {
    prediction.formula.map(|formula| formula.max(prediction.value.value))
}

fn as_json(prediction: &Prediction, available: Option<u64>) -> Value {
    let Prediction { family, what, unit, value, formula, exponent } = prediction;
    let fits = needed(prediction).zip(available).map(|(needed, available)| refusal(needed, available).is_none());
    json!({
        "family": family, "what": what, "unit": unit, "value": value.value, "low": value.low, "high": value.high,
        "formula": formula, "exponent_in_d": exponent, "fits": fits,
    })
}

fn as_table(forecast: &Forecast) -> Result<Table> {
    let mut table = Table::new(["family", "what", "predicted", "95 % limits", "formula", "exponent in d"]);
    for Prediction { family, what, unit, value, formula, exponent } in &forecast.predictions {
        let number = |x: f64| format!("{x:.3e}");
        let limits = format!("[{}, {}]", number(value.low), number(value.high));
        let formula = formula.map_or(String::new(), number);
        let exponent = exponent.map_or(String::new(), |exponent| format!("{exponent:.2}"));
        table.push([family.clone(), (*what).to_owned(), format!("{} {unit}", number(value.value)), limits, formula, exponent])?;
    }
    Ok(table)
}

/// The settings of a record's sweep.
fn settings(record: &Record, folder: Option<&Path>) -> Result<Curvature> {
    let lacking = |reason: &str| Error::data(folder.unwrap_or(Path::new("the record")), reason);
    if record.manifest.suite != Suite::Costs {
        return Err(lacking("a record of `nhgd bounds`; predictions are made from one of `nhgd scale`"));
    }
    let document: toml::Table = toml::from_str(&record.manifest.configuration).map_err(|e| lacking(&e.to_string()))?;
    let settings = document.get(Curvature::NAME).ok_or_else(|| lacking("the record lacks the experiment `curvature`"))?;
    settings.clone().try_into().map_err(|e: toml::de::Error| lacking(e.message()))
}

/// Measures the sweep that a prediction is made from; nothing of it is kept.
fn measure(target: Target, arguments: &Arguments, common: &Common) -> Result<Record> {
    let entry = Suite::Costs.entry(Curvature::NAME)?;
    let plan = Plan { suite: Suite::Costs, seed: 0, chosen: vec![Chosen { entry, experiment: Box::new(sweep_for(target)) }] };
    let world = Unrecorded { terminal: Terminal::new()?, common, limit: arguments.memory };
    common.interrupts.watch()?;
    let done = runner::run(&plan, Size::Quick, &DataSource::default(), BTreeMap::new(), &world);
    world.terminal.clear();
    let mut record = done?;
    record.manifest.machine = machine();
    Ok(record)
}

/// The world around a sweep of which nothing is kept.
struct Unrecorded<'a> {
    terminal: Terminal,
    common: &'a Common,
    limit: Option<u64>,
}

impl World for Unrecorded<'_> {
    fn now(&self) -> Duration {
        self.terminal.now()
    }

    fn progress(&self, done: u64, total: u64, what: &str) {
        self.terminal.progress(done, total, what);
    }

    fn interrupted(&self) -> bool {
        self.common.interrupts.received()
    }

    fn meter(&self) -> Option<&dyn MemoryMeter> {
        self.common.meter
    }

    fn available_memory(&self) -> Option<u64> {
        self.limit.or_else(memory::available)
    }
}
