//! The page of a comparison: for each problem a table of its methods, then the pictures. As self-contained as a run's page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Picture;
use super::number::{self, MISSING, humanised};
use super::page::STYLE;
use crate::comparison::record::{CANDIDATES, RUNS, Record, SUMMARY, TARGETS};
use crate::error::Result;
use crate::experiment::record::Table;

/// For each problem a table for reading: a row a method, final metrics as mean ± standard deviation over seeds, and the median seconds and
/// oracle calls to each target with how many runs reached it.
///
/// # Errors
/// [`crate::Error::Argument`] if a table of the record lacks a column or holds a text for a number.
pub fn summary(record: &Record) -> Result<Vec<(String, Table)>> {
    let problems = record.table(RUNS)?.distinct("problem")?;
    problems.into_iter().map(|problem| Ok((problem.clone(), of_problem(record, &problem)?))).collect()
}

fn of_problem(record: &Record, problem: &str) -> Result<Table> {
    let summary = record.table(SUMMARY)?.filter("problem", problem)?;
    let targets = record.table(TARGETS)?.filter("problem", problem)?;
    let (metrics, aims) = (summary.distinct("metric")?, targets.distinct("target")?);
    let head = ["method", "runs"].map(str::to_owned).into_iter().chain(metrics.iter().map(|metric| humanised(metric)));
    let mut table = Table::new(
        head.chain(aims.iter().flat_map(|aim| [format!("s to {}", humanised(aim)), format!("calls to {}", humanised(aim))])),
    );
    for method in summary.distinct("method")? {
        let own = summary.filter("method", &method)?;
        let runs = own.numbers("runs")?.into_iter().fold(0.0, f64::max);
        let mut row = vec![method.clone(), runs.to_string()];
        for metric in &metrics {
            let found = own.filter("metric", metric)?;
            row.push(match (found.numbers("mean")?.first(), found.numbers("deviation")?.first()) {
                (Some(mean), Some(deviation)) => spread(*mean, *deviation),
                _ => MISSING.to_owned(),
            });
        }
        let own = targets.filter("method", &method)?;
        for aim in &aims {
            let tests = own.filter("target", aim)?;
            let reached = tests.filter("reached", "yes")?;
            let count =
                if reached.len() < tests.len() { format!(" ({} of {})", reached.len(), tests.len()) } else { String::new() };
            for cost in ["seconds", "gradient_equivalents"] {
                let median = median(reached.numbers(cost)?);
                row.push(median.map_or(MISSING.to_owned(), |median| format!("{}{count}", number::significant(median, 3))));
            }
        }
        table.push(row)?;
    }
    // What never ran has nothing to summarize; the reasons stand elsewhere.
    let summarized = summary.distinct("method")?;
    for method in record.table(RUNS)?.filter("problem", problem)?.distinct("method")? {
        if !summarized.contains(&method) {
            let width = table.columns().len();
            table.push([method.as_str(), "0"].into_iter().chain(vec![MISSING; width - 2]))?;
        }
    }
    Ok(table)
}

fn spread(mean: f64, deviation: f64) -> String {
    match deviation.is_finite() {
        true => format!("{} ± {}", number::significant(mean, 4), number::significant(deviation, 2)),
        false => number::significant(mean, 4),
    }
}

/// The median of the costs of those that reached a target; the lower one of two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// The page as HTML, with these pictures.
///
/// # Errors
/// As for [`summary`].
pub(super) fn render(record: &Record, pictures: &[Picture]) -> Result<String> {
    let manifest = &record.manifest;
    let sections = summary(record)?.into_iter().map(|(problem, table)| section(record, &problem, &table, pictures));
    let sections = sections.collect::<Result<Vec<_>>>()?;
    let profile = pictures.iter().filter(|picture| picture.file.starts_with("performance-profile"));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (manifest.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (manifest.title) }
                p { "Every method was tuned on every problem with the same number of candidates and the same budget for each, on outer samples that were \
                     held out; test data decided nothing. Reported runs were timed alone, one after the other." }
                dl {
                    dt { "nhgd" } dd { "version " (manifest.nhgd_version) }
                    dt { "threads" } dd { (manifest.threads) }
                    @for (name, value) in &manifest.machine { dt { (humanised(name)) } dd { (value) } }
                }
                @for section in &sections { (section) }
                h2 { "Over all problems" }
                @for picture in profile { (figure(picture)) }
                h2 { "What was tried" }
                details {
                    summary { "Every candidate with its score on held-out samples" }
                    (table_of(record.table(CANDIDATES)?))
                }
                h2 { "Configuration" }
                details {
                    summary { "As it was run, every setting spelled out" }
                    pre { (manifest.configuration) }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn section(record: &Record, problem: &str, table: &Table, pictures: &[Picture]) -> Result<Markup> {
    let runs = record.table(RUNS)?.filter("problem", problem)?;
    let (methods, seeds, outcomes) = (runs.text("method")?, runs.text("seed")?, runs.text("outcome")?);
    let failed = |i: &usize| !["done", "baseline"].contains(&outcomes[*i]);
    let failures: Vec<String> =
        (0..runs.len()).filter(failed).map(|i| format!("{} {}: {}", methods[i], seeds[i], outcomes[i])).collect();
    let file = format!("curves-{problem}.svg");
    Ok(html! {
        h2 { (problem) }
        (table_of(table))
        @if !failures.is_empty() { p.note { "What did not come to its end: " (failures.join("; ")) } }
        @for picture in pictures.iter().filter(|picture| picture.file == file) { (figure(picture)) }
    })
}

fn figure(picture: &Picture) -> Markup {
    html! {
        figure {
            div role="img" aria-label=(picture.caption) { (PreEscaped(&picture.svg)) }
            figcaption { (picture.caption) " " code { (picture.file) } }
        }
    }
}

pub(super) fn table_of(table: &Table) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for column in table.columns() { th.text { (humanised(column)) } } } }
            tbody { @for row in table.rows() { tr { @for cell in row { td.text { (cell) } } } } }
        } }
    }
}
