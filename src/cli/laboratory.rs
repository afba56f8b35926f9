//! What the verbs of the laboratory share, [`bounds`](super::bounds) and [`scale`](super::scale): which experiments, how large, and where the record goes; running
//! them, going on with them, and what is said in the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::run::{data_folder, first_free};
use super::session::{Session, with_way_on};
use super::terminal::{machine, say_json, say_table};
use super::{Common, seconds};
use crate::error::{Error, Result};
use crate::experiment::record::{Table, Writer};
use crate::laboratory::checkpoint::Checkpoint;
use crate::laboratory::plan::Plan;
use crate::laboratory::record::Record;
use crate::laboratory::{Entry, Size, Suite, runner};
use crate::problem::DataSource;

#[derive(Args)]
pub(super) struct Choices {
    /// The experiments [default: those that the configuration has tables for, else all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The small size: at most three minutes instead of half an hour
    #[arg(long)]
    quick: bool,
    /// Settings that differ from those of the size, as TOML: a table an experiment
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// List the experiments with their claims and rules, and run nothing
    #[arg(long)]
    list: bool,
    /// Folder for the record; must be new or empty [default: the first free nhgd-output/VERB-N]
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

/// A record with its folder, and how long it took.
pub(super) struct Executed {
    pub(super) record: Record,
    pub(super) folder: PathBuf,
    pub(super) seconds: f64,
}

/// Lists, runs or goes on, as the arguments say, with at most so much memory. What was only listed leaves nothing.
pub(super) fn run(suite: Suite, arguments: &Choices, memory: Option<u64>, common: &Common) -> Result<Option<Executed>> {
    if let Some(folder) = &arguments.resume {
        return resume(suite, folder, arguments, memory, common).map(Some);
    }
    let (plan, size) = plan(suite, arguments)?;
    if arguments.list {
        return list(&plan, common).map(|()| None);
    }
    execute(&plan, size, arguments, memory, common).map(Some)
}

fn plan(suite: Suite, arguments: &Choices) -> Result<(Plan, Size)> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let mut plan = match &arguments.config {
        None => Plan::new(suite, &arguments.names, size)?,
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|e| Error::io(path, "reading the configuration", e))?;
            Plan::parse(suite, &arguments.names, size, &text, path)?
        }
    };
    plan.seed = arguments.seed.unwrap_or(plan.seed);
    Ok((plan, size))
}

fn list(plan: &Plan, common: &Common) -> Result<()> {
    if common.json {
        let claims = |name: &str| -> Vec<Value> {
            let chosen = plan.chosen.iter().filter(|chosen| chosen.entry.name == name);
            let claims = chosen.flat_map(|chosen| chosen.experiment.claims());
            claims.map(|claim| json!({ "claim": claim.claim, "rule": claim.rule.to_string() })).collect()
        };
        let entry = |entry: &Entry| json!({ "name": entry.name, "about": entry.about, "claims": claims(entry.name) });
        say_json(&json!({ "experiments": plan.chosen.iter().map(|chosen| entry(chosen.entry)).collect::<Vec<_>>() }))
    } else {
        let mut table = Table::new(["experiment", "what it shows, and what it claims", "rule"]);
        for chosen in &plan.chosen {
            table.push([chosen.entry.name, chosen.entry.about, ""])?;
            for claim in chosen.experiment.claims() {
                table.push(["", &format!("  {}", claim.claim), &claim.rule.to_string()])?;
            }
        }
        say_table(&table)
    }
}

fn execute(plan: &Plan, size: Size, arguments: &Choices, memory: Option<u64>, common: &Common) -> Result<Executed> {
    let verb = plan.suite.verb();
    let folder = arguments.out.clone().unwrap_or_else(|| first_free(Path::new("nhgd-output"), verb));
    let source = DataSource { folder: data_folder(common) };
    let session =
        Session::new(Writer::create(&folder)?, &common.interrupts, arguments.checkpoint_every)?.with_memory(common.meter, memory);
    let done = runner::run(plan, size, &source, machine(), &session).and_then(|record| session.complete_laboratory(record));
    match done {
        Ok(record) => Ok(Executed { record, folder, seconds: session.seconds() }),
        Err(error) => Err(session.ended(error, verb, &folder)),
    }
}

/// Goes on with the unfinished run in `folder`. Whatever happens, the last good checkpoint stays until the record is complete.
fn resume(suite: Suite, folder: &Path, arguments: &Choices, memory: Option<u64>, common: &Common) -> Result<Executed> {
    let verb = suite.verb();
    let writer = Writer::resume(folder)?;
    let checkpoint = Checkpoint::read(folder)?;
    if checkpoint.suite != suite {
        let found = format!("{}, which holds one of `nhgd {}`", folder.display(), checkpoint.suite.verb());
        return Err(Error::argument("--resume", format_args!("the folder of an unfinished run of `nhgd {verb}`"), found));
    }
    writer.clear_leftovers();
    let data = data_folder(common).or_else(|| checkpoint.data_folder.as_ref().map(PathBuf::from));
    let session = Session::new(writer, &common.interrupts, arguments.checkpoint_every)?.with_memory(common.meter, memory);
    let done = runner::resume(checkpoint, &DataSource { folder: data }, machine(), &session);
    match done.and_then(|record| session.complete_laboratory(record)) {
        Ok(record) => Ok(Executed { record, folder: folder.to_owned(), seconds: session.seconds() }),
        Err(error @ Error::Interrupted { .. }) => Err(with_way_on(error, verb, folder)),
        Err(error) => Err(error),
    }
}

/// The verdicts as JSON: numbers as numbers, and null where there is no finite one.
pub(super) fn verdicts(table: &Table) -> Result<Vec<Value>> {
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
