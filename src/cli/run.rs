//! `nhgd run`: the experiment of a configuration file; and what every verb that runs an experiment shares.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::session::{Session, with_way_on};
use super::terminal::{machine, say, say_json, say_table};
use super::{Common, Output};
use crate::error::{Error, Result};
use crate::experiment::checkpoint::Checkpoint;
use crate::experiment::config::Config;
use crate::experiment::record::{Record, Table, Writer};
use crate::experiment::runner;
use crate::problem::DataSource;
use crate::report;

#[derive(Args)]
#[command(after_help = super::STOPPING)]
pub(super) struct Arguments {
    /// The configuration, as TOML; with --resume only to check that it is the one of the unfinished run
    #[arg(required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// Go on with the unfinished run in this folder, to the same rows as if it had never stopped
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let config = arguments.config.as_deref().map(Config::read).transpose()?;
    let executed = match (&arguments.resume, config, &arguments.config) {
        (None, Some(config), Some(path)) => {
            let name = path.file_stem().map_or("run".into(), |stem| stem.to_string_lossy().into_owned());
            execute(config, vec![], &name, &arguments.output, common)?.0
        }
        (Some(folder), config, _) => resume(folder, config, &arguments.output, common)?,
        _ => return Err(Error::argument("CONFIG", "a configuration, or --resume", "neither")),
    };
    if common.json {
        say_json(&as_json(&executed)?)?;
    } else {
        let Executed { record, seconds, .. } = &executed;
        say_table(&report::summary(record)?)?;
        record.manifest.incidents.iter().try_for_each(|(run, reason)| say(format_args!("{run}: {reason}")))?;
        say(format_args!("{seconds:.1} s; the report: {}", executed.page().display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An experiment that was run and whose record is complete.
pub(super) struct Executed {
    pub(super) record: Record,
    pub(super) folder: PathBuf,
    pub(super) seconds: f64,
}

impl Executed {
    /// The report's page.
    pub(super) fn page(&self) -> PathBuf {
        self.folder.join(report::PAGE)
    }
}

/// Runs an experiment and writes its record and report: all of it, or a checkpoint to go on from, or nothing. Before it go its
/// `companions`, short ones, each into the subfolder that it names: what they leave is kept or lost with the rest.
pub(super) fn execute(
    config: Config,
    companions: Vec<(&str, Config)>,
    name: &str,
    output: &Output,
    common: &Common,
) -> Result<(Executed, Vec<Executed>)> {
    let folder = output.out.clone().unwrap_or_else(|| first_free(Path::new("nhgd-output"), name));
    let source = DataSource { folder: data_folder(common) };
    let seeded = |mut config: Config| {
        config.seeds = output.seed.map_or(config.seeds, |seed| vec![seed]);
        config
    };
    let writer = Writer::create(&folder)?;
    let beside = |(name, config): (&str, Config)| {
        let folder = folder.join(name);
        let mut session = Session::new(Writer::create(&folder)?, &common.interrupts, Duration::MAX)?;
        let record = runner::run(&seeded(config), &source, machine(), &mut session)?;
        let record = session.complete(record)?;
        Ok(Executed { record, seconds: session.seconds(), folder: folder.clone() })
    };
    let companions = match companions.into_iter().map(beside).collect::<Result<Vec<_>>>() {
        Ok(companions) => companions,
        Err(error) => {
            writer.abandon();
            return Err(error);
        }
    };
    let mut session = Session::new(writer, &common.interrupts, output.checkpoint_every)?;
    let done = runner::run(&seeded(config), &source, machine(), &mut session).and_then(|record| session.complete(record));
    match done {
        Ok(record) => Ok((Executed { record, seconds: session.seconds(), folder }, companions)),
        Err(error) => Err(session.ended(error, "run", &folder)),
    }
}

/// `--data`, as it will be found from any working directory.
pub(super) fn data_folder(common: &Common) -> Option<PathBuf> {
    common.data.as_ref().map(|data| std::path::absolute(data).unwrap_or(data.clone()))
}

/// Goes on with the unfinished run in `folder`. Whatever happens, the last good checkpoint stays until the record is complete.
fn resume(folder: &Path, config: Option<Config>, output: &Output, common: &Common) -> Result<Executed> {
    let writer = Writer::resume(folder)?;
    let checkpoint = Checkpoint::read(folder)?;
    if config.is_some() || output.seed.is_some() {
        let mut config = config.map_or_else(|| checkpoint.config(), Ok)?;
        if let Some(seed) = output.seed {
            config.seeds = vec![seed];
        }
        checkpoint.check_config(&config)?;
    }
    writer.clear_leftovers();
    let data = data_folder(common).or_else(|| checkpoint.data_folder.as_ref().map(PathBuf::from));
    let mut session = Session::new(writer, &common.interrupts, output.checkpoint_every)?;
    let written = runner::resume(checkpoint, &DataSource { folder: data }, machine(), &mut session);
    match written.and_then(|record| session.complete(record)) {
        Ok(record) => Ok(Executed { record, folder: folder.to_owned(), seconds: session.seconds() }),
        Err(error @ Error::Interrupted { .. }) => Err(with_way_on(error, "run", folder)),
        Err(error) => Err(error),
    }
}

pub(super) fn first_free(parent: &Path, name: &str) -> PathBuf {
    (1_u32..).map(|n| parent.join(format!("{name}-{n}"))).find(|folder| !folder.exists()).unwrap_or_else(|| parent.join(name))
}

/// The record's results as one JSON object: for each method its final metrics (means over seeds), steps, seconds and oracle
/// counts; the estimator errors and their slopes.
pub(super) fn as_json(executed: &Executed) -> Result<Value> {
    let Executed { record, folder, seconds } = executed;
    let mut methods = serde_json::Map::new();
    for method in record.rows.distinct("method")? {
        let last = last_rows(&record.rows, &method)?;
        let mean = |table: &Table, column: &str| -> Result<Value> {
            let values = table.numbers(column)?;
            // JSON has no NaN: a metric that does not apply is null.
            Ok(json!(values.iter().sum::<f64>() / values.len() as f64))
        };
        let mut result = serde_json::Map::new();
        for metric in &record.manifest.metrics {
            result.insert(metric.clone(), mean(&last, metric)?);
        }
        result.insert("test_accuracy_by_seed".into(), json!(last.numbers("test_accuracy").unwrap_or_default()));
        result.insert("outer_steps".into(), mean(&last, "step")?);
        result.insert("seconds".into(), mean(&last_rows(&record.timings, &method)?, "seconds")?);
        let counts = record.manifest.counts.iter().map(|count| Ok((count.clone(), mean(&last, count)?)));
        result.insert("oracle_counts".into(), Value::Object(counts.collect::<Result<_>>()?));
        methods.insert(method, Value::Object(result));
    }
    let table_json = |table: &Table| -> Value {
        let cell = |text: &String| text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number));
        let row = |row: &Vec<String>| table.columns().iter().cloned().zip(row.iter().map(cell)).collect::<serde_json::Map<_, _>>();
        Value::Array(table.rows().iter().map(|r| Value::Object(row(r))).collect())
    };
    let folder = folder.to_str().ok_or_else(|| Error::argument("--out", "a folder name in Unicode", folder.display()))?;
    Ok(json!({
        "methods": methods,
        "hypergradient_errors": record.hypergradient_errors.as_ref().map(table_json),
        "hypergradient_slopes": record.hypergradient_slopes.as_ref().map(table_json),
        "checks": record.checks.as_ref().map(table_json),
        "incidents": record.manifest.incidents,
        "seconds": seconds,
        "folder": folder,
    }))
}

/// The last row of each seed of a method.
pub(super) fn last_rows(table: &Table, method: &str) -> Result<Table> {
    report::last_rows(&table.filter("method", method)?)
}
