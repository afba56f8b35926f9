//! `nhgd reproduce`: the main job. What the project is about, on embedded real data, in two minutes: the configuration
//! `notebooks-data/reproduce.toml`, beside it a quadratic with closed forms, `quadratic.toml`, and a summary of what came out.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::run::{as_json, execute, last_rows};
use super::terminal::{say, say_json};
use super::{Common, Output};
use crate::error::Result;
use crate::experiment::config::Config;
use crate::experiment::record::Record;
use crate::report;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
}

/// What is run, in order: name, subfolder, configuration. The first checks NHGD against closed forms, the second is the main one.
const QUADRATIC: &str = include_str!("../../notebooks-data/quadratic.toml");
const DIGITS: &str = include_str!("../../notebooks-data/reproduce.toml");

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let experiments = vec![
        (Some("quadratic"), Config::parse(QUADRATIC, Path::new("quadratic.toml"))?),
        (None, Config::parse(DIGITS, Path::new("reproduce.toml"))?),
    ];
    let executed = execute(experiments, "reproduce", &arguments.output, common)?;
    let [quadratic, digits] = &executed[..] else { return Ok(ExitCode::FAILURE) };
    if common.json {
        let mut json = as_json(digits)?;
        json["quadratic"] = as_json(quadratic)?;
        say_json(&json)?;
    } else {
        findings(&digits.record)?.into_iter().chain(rates(&quadratic.record)?).try_for_each(say)?;
        let seconds = quadratic.seconds + digits.seconds;
        say(format_args!("The report ({seconds:.0} s): {}", digits.page().display()))?;
    }
    let failed = digits.record.checks.as_ref().map_or(Ok(0), |checks| checks.filter("verdict", "FAILED").map(|t| t.len()))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How fast the hypergradient approaches its closed form, in one line.
fn rates(record: &Record) -> Result<Option<String>> {
    let Some(slopes) = &record.hypergradient_slopes else { return Ok(None) };
    let (kinds, families) = (slopes.text("fisher")?, slopes.text("curvature")?);
    let (slope, lower, upper) = (slopes.numbers("slope")?, slopes.numbers("lower")?, slopes.numbers("upper")?);
    let part = |i: usize| format!("{}/{} {:.2} [{:.2}, {:.2}]", families[i], kinds[i], slope[i], lower[i], upper[i]);
    let parts: Vec<String> = (0..slopes.len()).map(part).collect();
    let what = "Quadratic, slope of log hypergradient error (against the closed form) by log samples, 95 % limits";
    Ok(Some(format!("{what}: {} (quadratic/{}).", parts.join(", "), report::PAGE)))
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
