//! `nhgd reproduce`: the main job. What the project is about, on embedded real data, in two minutes: the configuration
//! `notebooks-data/reproduce.toml` with a summary of what came out.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::run::{as_json, execute, last_rows};
use super::terminal::{say, say_json};
use super::{Common, Output};
use crate::error::Result;
use crate::experiment::config::Config;
use crate::experiment::record::Record;

#[derive(Args)]
#[command(after_help = super::STOPPING)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
}

const CONFIGURATION: &str = include_str!("../../notebooks-data/reproduce.toml");

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let config = Config::parse(CONFIGURATION, Path::new("reproduce.toml"))?;
    let (record, folder, seconds) = execute(config, "reproduce", &arguments.output, common)?;
    if common.json {
        say_json(&as_json(&record, &folder, seconds)?)?;
    } else {
        for line in findings(&record)? {
            say(line)?;
        }
        say(format_args!("The report ({seconds:.0} s): {}", folder.join("report.html").display()))?;
    }
    let failed = record.checks.as_ref().map_or(Ok(0), |checks| checks.filter("verdict", "FAILED").map(|t| t.len()))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found, in four lines.
fn findings(record: &Record) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if let Some(checks) = &record.checks {
        let passed = checks.filter("verdict", "ok")?.len();
        lines.push(format!(
            "Checks: {passed} of {} derivatives and estimators agree with differences and the oracle.",
            checks.len()
        ));
    }
    let methods = record.rows.distinct("method")?;
    let mean = |method: &str, column: &str| -> Result<f64> {
        let values = last_rows(&record.rows, method)?.numbers(column)?;
        Ok(values.iter().sum::<f64>() / values.len() as f64)
    };
    let accuracies = methods.iter().map(|m| Ok(format!("{m} {:.3}", mean(m, "test_accuracy")?))).collect::<Result<Vec<_>>>()?;
    lines.push(format!(
        "Test accuracy, half of the training labels replaced, mean of {} seeds: {}.",
        record.manifest.seeds.len(),
        accuracies.join(", ")
    ));
    let cleaned = methods.iter().filter(|m| !record.manifest.baselines.contains(m));
    let weights = cleaned.map(|m| Ok(format!("{m} {:.2} and {:.2}", mean(m, "weight_flipped")?, mean(m, "weight_clean")?)));
    lines.push(format!("Mean weights of wrong and of right labels: {}.", weights.collect::<Result<Vec<_>>>()?.join(", ")));
    if let Some(errors) = &record.hypergradient_errors {
        let nhgd = errors.filter("estimator", "nhgd")?;
        let largest = nhgd.numbers("budget")?.into_iter().fold(0.0, f64::max);
        let at_most = nhgd.filter("budget", &largest.to_string())?;
        let mut parts = Vec::new();
        for curvature in at_most.distinct("curvature")? {
            for fisher in at_most.distinct("fisher")? {
                let values = at_most.filter("curvature", &curvature)?.filter("fisher", &fisher)?.numbers("relative_error")?;
                parts.push(format!("{curvature}/{fisher} {:.3}", values.iter().sum::<f64>() / values.len() as f64));
            }
        }
        lines.push(format!("Relative hypergradient error after {largest} samples: {}.", parts.join(", ")));
    }
    Ok(lines)
}
