//! `nhgd run`: the experiment of a configuration file; and what every verb that runs an experiment shares.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::terminal::{Terminal, machine, say, say_json, say_table};
use super::{Common, Output};
use crate::error::{Error, Result};
use crate::experiment::config::Config;
use crate::experiment::record::{Record, Table, Writer};
use crate::experiment::runner;
use crate::problem::DataSource;
use crate::report;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration, as TOML
    config: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let config = Config::read(&arguments.config)?;
    let name = arguments.config.file_stem().map_or("run".into(), |stem| stem.to_string_lossy().into_owned());
    for executed in execute(vec![(None, config)], &name, &arguments.output, common)? {
        if common.json {
            say_json(&as_json(&executed)?)?;
            continue;
        }
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

/// Runs experiments and writes their records and reports, all of them or nothing: each into its subfolder, where it names one, of
/// the output folder. The one that stands in the output folder itself goes last, so that its manifest stands for everything.
pub(super) fn execute(
    experiments: Vec<(Option<&str>, Config)>,
    name: &str,
    output: &Output,
    common: &Common,
) -> Result<Vec<Executed>> {
    let folder = output.out.clone().unwrap_or_else(|| first_free(Path::new("nhgd-output"), name));
    let writer = Writer::create(&folder)?;
    let source = DataSource { folder: common.data.clone() };
    let mut terminal = Terminal::new()?;
    let one = |(subfolder, mut config): (Option<&str>, Config)| {
        if let Some(seed) = output.seed {
            config.seeds = vec![seed];
        }
        let begun = terminal.seconds();
        let record = runner::run(&config, &source, machine(), &mut terminal)?;
        let writer = subfolder.map_or_else(|| Ok(Writer::existing(&folder)), |name| Writer::create(&folder.join(name)))?;
        record.write_tables(&writer)?;
        report::write(&record, &writer)?;
        let folder = writer.folder().to_owned();
        writer.finish(&record.manifest)?;
        Ok(Executed { record, folder, seconds: terminal.seconds() - begun })
    };
    let executed = experiments.into_iter().map(one).collect::<Result<Vec<_>>>();
    terminal.clear();
    if executed.is_err() {
        writer.abandon();
    }
    executed
}

fn first_free(parent: &Path, name: &str) -> PathBuf {
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
