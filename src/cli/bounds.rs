//! `nhgd bounds`: the theory's statements as experiments, each with its verdict. A refuted claim is a finding, not a failure: the exit code
//! says whether the experiments were done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::run::{data_folder, first_free};
use super::session::{Session, with_way_on};
use super::terminal::{machine, say, say_json, say_table};
use super::{Common, seconds};
use crate::error::{Error, Result};
use crate::experiment::record::{Table, Writer};
use crate::laboratory::checkpoint::Checkpoint;
use crate::laboratory::experiments::REGISTRY;
use crate::laboratory::plan::Plan;
use crate::laboratory::record::Record;
use crate::laboratory::{Size, runner};
use crate::problem::DataSource;
use crate::report;

#[derive(Args)]
#[command(
    after_help = "A claim that is refuted is a finding: the exit code is 0.\nCtrl-C and SIGTERM save and stop, with exit code 130 or \
    143, and say how to go on; a second one ends it at once.\nWhat was killed goes on from its last checkpoint: nhgd bounds --resume DIR"
)]
pub(super) struct Arguments {
    /// The experiments [default: those that the configuration has tables for, else all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The small size: minutes instead of an hour
    #[arg(long)]
    quick: bool,
    /// Settings that differ from those of the size, as TOML: a table an experiment
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// List the experiments with their claims and rules, and run nothing
    #[arg(long)]
    list: bool,
    /// Folder for the record; must be new or empty [default: the first free nhgd-output/bounds-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The seed, instead of the configuration's
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Seconds between checkpoints: what a killed run loses at most, beside the pieces at hand; 0: after every piece
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    checkpoint_every: Duration,
    /// Go on with the unfinished run in this folder, to the same tables as if it had never stopped
    #[arg(long, value_name = "DIR", conflicts_with_all = ["names", "quick", "config", "list", "out", "seed"])]
    resume: Option<PathBuf>,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let (record, folder, seconds) = match &arguments.resume {
        Some(folder) => resume(folder, arguments, common)?,
        None => {
            let (plan, size) = plan(arguments)?;
            if arguments.list {
                return list(&plan, common);
            }
            execute(&plan, size, arguments, common)?
        }
    };
    let page = folder.join(report::PAGE);
    if common.json {
        let verdicts = verdicts(&record.verdicts)?;
        say_json(&json!({ "verdicts": verdicts, "seconds": seconds, "folder": folder.to_string_lossy() }))?;
    } else {
        say_table(&report::verdict_summary(&record)?)?;
        say(format_args!("{}; {seconds:.1} s; the report: {}", report::verdict_counts(&record)?, page.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(arguments: &Arguments) -> Result<(Plan, Size)> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let mut plan = match &arguments.config {
        None => Plan::new(&arguments.names, size)?,
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|e| Error::io(path, "reading the configuration", e))?;
            Plan::parse(&arguments.names, size, &text, path)?
        }
    };
    plan.seed = arguments.seed.unwrap_or(plan.seed);
    Ok((plan, size))
}

fn list(plan: &Plan, common: &Common) -> Result<ExitCode> {
    if common.json {
        let claims = |name: &str| -> Vec<Value> {
            let chosen = plan.chosen.iter().filter(|chosen| chosen.entry.name == name);
            let claims = chosen.flat_map(|chosen| chosen.experiment.claims());
            claims.map(|claim| json!({ "claim": claim.claim, "rule": claim.rule.to_string() })).collect()
        };
        let entries = REGISTRY.iter().filter(|entry| plan.chosen.iter().any(|chosen| chosen.entry.name == entry.name));
        let entry =
            |entry: &crate::laboratory::Entry| json!({ "name": entry.name, "about": entry.about, "claims": claims(entry.name) });
        say_json(&json!({ "experiments": entries.map(entry).collect::<Vec<_>>() }))?;
    } else {
        let mut table = Table::new(["experiment", "what it shows, and what it claims", "rule"]);
        for chosen in &plan.chosen {
            table.push([chosen.entry.name, chosen.entry.about, ""])?;
            for claim in chosen.experiment.claims() {
                table.push(["", &format!("  {}", claim.claim), &claim.rule.to_string()])?;
            }
        }
        say_table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}

type Executed = (Record, PathBuf, f64);

fn execute(plan: &Plan, size: Size, arguments: &Arguments, common: &Common) -> Result<Executed> {
    let folder = arguments.out.clone().unwrap_or_else(|| first_free(Path::new("nhgd-output"), "bounds"));
    let source = DataSource { folder: data_folder(common) };
    let session = Session::new(Writer::create(&folder)?, &common.interrupts, arguments.checkpoint_every)?;
    let done = runner::run(plan, size, &source, machine(), &session).and_then(|record| session.complete_laboratory(record));
    match done {
        Ok(record) => Ok((record, folder, session.seconds())),
        Err(error) => Err(session.ended(error, "bounds", &folder)),
    }
}

/// Goes on with the unfinished run in `folder`. Whatever happens, the last good checkpoint stays until the record is complete.
fn resume(folder: &Path, arguments: &Arguments, common: &Common) -> Result<Executed> {
    let writer = Writer::resume(folder)?;
    let checkpoint = Checkpoint::read(folder)?;
    writer.clear_leftovers();
    let data = data_folder(common).or_else(|| checkpoint.data_folder.as_ref().map(PathBuf::from));
    let session = Session::new(writer, &common.interrupts, arguments.checkpoint_every)?;
    let done = runner::resume(checkpoint, &DataSource { folder: data }, machine(), &session);
    match done.and_then(|record| session.complete_laboratory(record)) {
        Ok(record) => Ok((record, folder.to_owned(), session.seconds())),
        Err(error @ Error::Interrupted { .. }) => Err(with_way_on(error, "bounds", folder)),
        Err(error) => Err(error),
    }
}

/// The verdicts as JSON: numbers as numbers, and null where there is no finite one.
fn verdicts(table: &Table) -> Result<Vec<Value>> {
    let text = |column| table.text(column);
    let (experiments, claims, rules, verdicts) = (text("experiment")?, text("claim")?, text("rule")?, text("verdict")?);
    let names = ["predicted", "measured", "low", "high"];
    let numbers = names.map(|name| table.numbers(name));
    let mut rows = Vec::new();
    for row in 0..table.len() {
        let mut object = json!({
            "experiment": experiments[row], "claim": claims[row], "rule": rules[row], "verdict": verdicts[row],
        });
        for (name, column) in names.iter().zip(&numbers) {
            object[*name] = column.as_ref().map_or(Value::Null, |column| json!(column[row]));
        }
        rows.push(object);
    }
    Ok(rows)
}
