//! `nhgd compare`: methods side by side on problems, tuned alike.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::run::{data_folder, first_free};
use super::session::{Session, with_way_on};
use super::terminal::{Terminal, machine, say, say_json, say_table};
use super::{Common, seconds};
use crate::comparison::config::Config;
use crate::comparison::join::join;
use crate::comparison::record::{Record, SUMMARY, TARGETS};
use crate::comparison::runner::{self, Checkpoint, Outlook, World};
use crate::error::{Error, Result};
use crate::experiment::kept::Kept;
use crate::experiment::record::{Table, Writer};
use crate::problem::DataSource;
use crate::report;

#[derive(Args)]
#[command(
    after_help = "Runs are timed alone, one after the other: leave the machine to them. A run that fails or diverges is a row with its reason.\n\
    Ctrl-C and SIGTERM save and stop, with exit code 130 or 143, and say how to go on; a second one ends it at once.\nWhat was killed goes on \
    from its last checkpoint: nhgd compare --resume DIR"
)]
pub(super) struct Arguments {
    /// The configuration, as TOML
    #[arg(required_unless_present_any = ["resume", "join"])]
    config: Option<PathBuf>,
    /// Say what would be run and how long it may take, and run nothing (but a moment of each method where the budget is not in seconds)
    #[arg(long)]
    list: bool,
    /// Folder for the record; must be new or empty [default: the first free nhgd-output/NAME-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seconds between checkpoints: what a killed comparison loses at most, beside the run at hand; 0: after every run
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    checkpoint_every: Duration,
    /// Go on with the unfinished comparison in this folder; runs that are done are not run again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "list", "out"])]
    resume: Option<PathBuf>,
    /// Make one record of several comparisons of the same methods on different problems, with one performance profile over all of them
    #[arg(long, value_name = "DIR", num_args = 2.., conflicts_with_all = ["config", "list", "resume"])]
    join: Vec<PathBuf>,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let (record, folder, seconds) = match (&arguments.resume, &arguments.config) {
        _ if !arguments.join.is_empty() => joined(arguments, common)?,
        (Some(folder), _) => resume(folder, arguments, common)?,
        (None, Some(path)) => {
            let config = Config::read(path)?;
            if arguments.list {
                return list(&config, common);
            }
            let name = path.file_stem().map_or("compare".into(), |stem| stem.to_string_lossy().into_owned());
            execute(&config, &name, arguments, common)?
        }
        (None, None) => return Err(Error::argument("CONFIG", "a configuration, or --resume", "neither")),
    };
    let page = folder.join(report::PAGE);
    if common.json {
        let tables = [SUMMARY, TARGETS].map(|stem| Ok((stem, as_json(record.table(stem)?))));
        let mut object = json!({ "seconds": seconds, "folder": folder.to_string_lossy() });
        for table in tables {
            let (stem, rows): (&str, Value) = table?;
            object[stem] = rows;
        }
        say_json(&object)?;
    } else {
        for (problem, table) in report::comparison_summary(&record)? {
            say(format_args!("{problem}:"))?;
            say_table(&table)?;
        }
        say(format_args!("{seconds:.0} s; the report: {}", page.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Rows as objects: numbers as numbers, null for what is not finite or does not apply.
fn as_json(table: &Table) -> Value {
    let cell = |text: &String| match text.parse::<f64>() {
        Ok(number) => json!(number),
        Err(_) if text.is_empty() => Value::Null,
        Err(_) => json!(text),
    };
    let row = |row: &Vec<String>| table.columns().iter().cloned().zip(row.iter().map(cell)).collect::<serde_json::Map<_, _>>();
    Value::Array(table.rows().iter().map(|cells| Value::Object(row(cells))).collect())
}

/// A world that is only looked at.
struct Glance(Terminal);

impl World for Glance {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn keep(&self, _checkpoint: &dyn Kept) -> Result<()> {
        Ok(())
    }
}

fn list(config: &Config, common: &Common) -> Result<ExitCode> {
    let source = DataSource { folder: data_folder(common) };
    let rows = runner::outlook(config, &source, &Glance(Terminal::new()?))?;
    let total: f64 = rows.iter().map(|row| row.seconds).sum();
    if common.json {
        let row = |Outlook { problem, method, candidates, runs, seconds_a_run, seconds }: &Outlook| {
            json!({ "problem": problem, "method": method, "candidates": candidates, "runs": runs,
                    "seconds_a_run": seconds_a_run, "seconds": seconds })
        };
        say_json(&json!({ "runs": rows.iter().map(row).collect::<Vec<_>>(), "seconds": total }))?;
    } else {
        let mut table = Table::new(["problem", "method", "settings tried", "reported runs", "s a run", "s in all"]);
        for row in &rows {
            let [one, all] = [row.seconds_a_run, row.seconds].map(|seconds| format!("{seconds:.1}"));
            table.push([&row.problem, &row.method, &row.candidates.to_string(), &row.runs.to_string(), &one, &all])?;
        }
        say_table(&table)?;
        say(format_args!("At most {total:.0} s of runs, and what evaluations and baselines take."))?;
    }
    Ok(ExitCode::SUCCESS)
}

type Executed = (Record, PathBuf, f64);

fn execute(config: &Config, name: &str, arguments: &Arguments, common: &Common) -> Result<Executed> {
    let folder = arguments.out.clone().unwrap_or_else(|| first_free(Path::new("nhgd-output"), name));
    let source = DataSource { folder: data_folder(common) };
    let session = Session::new(Writer::create(&folder)?, &common.interrupts, arguments.checkpoint_every)?;
    let done = runner::run(config, &source, machine(), &session).and_then(|record| session.complete_comparison(record));
    match done {
        Ok(record) => Ok((record, folder, session.seconds())),
        Err(error) => Err(session.ended(error, "compare", &folder)),
    }
}

fn joined(arguments: &Arguments, common: &Common) -> Result<Executed> {
    let names: Vec<_> = arguments.join.iter().map(|folder| folder.display().to_string()).collect();
    let record = join(&arguments.join, &format!("Joined: {}", names.join(", ")))?;
    let folder = arguments.out.clone().unwrap_or_else(|| first_free(Path::new("nhgd-output"), "joined"));
    let session = Session::new(Writer::create(&folder)?, &common.interrupts, Duration::ZERO)?;
    match session.complete_comparison(record) {
        Ok(record) => Ok((record, folder, session.seconds())),
        Err(error) => Err(session.ended(error, "compare", &folder)),
    }
}

/// Goes on with the unfinished comparison in `folder`. Whatever happens, the last good checkpoint stays until the record is complete.
fn resume(folder: &Path, arguments: &Arguments, common: &Common) -> Result<Executed> {
    let writer = Writer::resume(folder)?;
    let checkpoint = Checkpoint::read(folder)?;
    writer.clear_leftovers();
    let data = data_folder(common).or_else(|| checkpoint.data_folder.as_ref().map(PathBuf::from));
    let session = Session::new(writer, &common.interrupts, arguments.checkpoint_every)?;
    let done = runner::resume(checkpoint, &DataSource { folder: data }, machine(), &session);
    match done.and_then(|record| session.complete_comparison(record)) {
        Ok(record) => Ok((record, folder.to_owned(), session.seconds())),
        Err(error @ Error::Interrupted { .. }) => Err(with_way_on(error, "compare", folder)),
        Err(error) => Err(error),
    }
}
