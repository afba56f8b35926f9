//! The page of a laboratory: every verdict, then each experiment with its verdicts and pictures. As self-contained as a run's page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Picture;
use super::comparison_page::table_of;
use super::number::{self, capitalised, humanised};
use super::page::STYLE;
use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::record::{Record, Report};

/// How many claims came out how, in words.
///
/// # Errors
/// [`crate::Error::Argument`] where the record's verdicts are not such a table.
pub fn counts(record: &Record) -> Result<String> {
    let verdicts = record.verdicts.text("verdict")?;
    let count = |name: &str| verdicts.iter().filter(|verdict| **verdict == name).count();
    let named = ["holds", "fails", "undecided"].map(|name| format!("{} {name}", count(name)));
    Ok(format!("{} claims: {}", verdicts.len(), named.join(", ")))
}

/// The verdicts for reading: numbers to four digits, limits in one cell.
///
/// # Errors
/// As for [`counts`].
pub fn summary(record: &Record) -> Result<Table> {
    let verdicts = &record.verdicts;
    let text = |column: &str| verdicts.text(column);
    let short = |column: &str| -> Result<Vec<String>> {
        Ok(verdicts.numbers(column)?.into_iter().map(|number| number::significant(number, 4)).collect())
    };
    let (experiments, claims, outcomes) = (text("experiment")?, text("claim")?, text("verdict")?);
    let (predicted, measured, low, high) = (short("predicted")?, short("measured")?, short("low")?, short("high")?);
    let mut table = Table::new(["experiment", "claim", "predicted", "measured", "95 % limits", "verdict"]);
    for row in 0..verdicts.len() {
        let limits = if low[row] == high[row] { String::new() } else { format!("[{}, {}]", low[row], high[row]) };
        table.push([experiments[row], claims[row], &predicted[row], &measured[row], &limits, outcomes[row]])?;
    }
    Ok(table)
}

/// The page as HTML, with these pictures.
///
/// # Errors
/// As for [`counts`].
pub fn render(record: &Record, pictures: &[Picture]) -> Result<String> {
    let manifest = &record.manifest;
    let title = manifest.suite.title();
    let sections = manifest.experiments.iter().map(|report| section(record, report, pictures)).collect::<Result<Vec<_>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { (counts(record)?) ". A claim and its rule are written down before anything is measured; a claim that fails is a finding." }
                dl {
                    dt { "nhgd" } dd { "version " (manifest.nhgd_version) }
                    dt { "size" } dd { (manifest.size.name()) }
                    dt { "threads" } dd { (manifest.threads) }
                    dt { "seconds" } dd { (number::significant(seconds(record, None)?, 3)) " of all pieces, one after the other" }
                    @for (name, value) in &manifest.machine { dt { (humanised(name)) } dd { (value) } }
                }
                @for section in &sections { (section) }
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

/// The seconds of all pieces, or of one experiment's.
fn seconds(record: &Record, experiment: Option<&str>) -> Result<f64> {
    let whole = record.timings.filter("row", "")?;
    let own = match experiment {
        None => whole,
        Some(name) => whole.filter("experiment", name)?,
    };
    Ok(own.numbers("seconds")?.iter().sum())
}

fn section(record: &Record, report: &Report, pictures: &[Picture]) -> Result<Markup> {
    let own = |picture: &&Picture| report.pictures.iter().any(|own| picture.file == format!("{}.svg", own.file));
    let shown = report.shown.iter().map(|stem| Ok((stem, record.table(stem)?))).collect::<Result<Vec<_>>>()?;
    let files: Vec<String> = report.tables.iter().map(|stem| format!("{stem}.csv")).collect();
    Ok(html! {
        h2 { (capitalised(&report.name)) }
        p { (capitalised(&report.about)) ". " span.note { (number::significant(seconds(record, Some(&report.name))?, 3)) " s; " (files.join(", ")) } }
        (verdicts(&record.verdicts.filter("experiment", &report.name)?)?)
        @for (stem, table) in &shown {
            p { (humanised(stem)) }
            (table_of(table))
        }
        @for picture in pictures.iter().filter(own) {
            figure {
                div role="img" aria-label=(picture.caption) { (PreEscaped(&picture.svg)) }
                figcaption { (picture.caption) " " code { (picture.file) } }
            }
        }
    })
}

fn verdicts(table: &Table) -> Result<Markup> {
    let text = |column: &str| table.text(column);
    let (claims, rules, outcomes) = (text("claim")?, text("rule")?, text("verdict")?);
    let numbers = ["predicted", "measured", "low", "high"].map(|column| table.numbers(column));
    let numbers = numbers.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(html! {
        div.scroll { table {
            thead { tr {
                th.text { "claim" } th.text { "rule" } th { "predicted" } th { "measured" } th { "low" } th { "high" } th.text { "verdict" }
            } }
            tbody { @for row in 0..table.len() {
                tr.failed[outcomes[row] == "fails"] {
                    td.text.wide { (claims[row]) }
                    td.text.wide { (rules[row]) }
                    @for column in &numbers { td { (number::significant(column[row], 4)) } }
                    td.text { @if outcomes[row] == "holds" { span.good { (outcomes[row]) } } @else { (outcomes[row]) } }
                }
            } }
        } }
    })
}
