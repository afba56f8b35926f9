//! One HTML page that holds everything: what was run, what came out, the pictures, the checks. It needs no network, no script
//! and no other file, follows the reader's light or dark setting, and prints.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Picture;
use super::number::{self, MISSING, humanised};
use super::pictures::{self, ERROR_FLOOR, estimator_name};
use super::series::{self, Stat};
use super::summary::{self, Final};
use crate::error::Result;
use crate::experiment::record::{Record, Table};

pub(super) const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5c5c63; --paper: #ffffff; --line: #d4d4da; --stripe: #f5f5f8; --bad: #fde3dc; --bad-ink: #8a2500; --good-ink: #00593f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --soft: #a5a5ae; --paper: #17171a; --line: #3b3b42; --stripe: #202025; --bad: #4a1d10; --bad-ink: #ffc0ab; --good-ink: #6fdcb4; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.5rem; border-bottom: 1px solid var(--line); padding-bottom: 0.2rem; }
.note, figcaption { color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; }
thead th { border-bottom: 2px solid var(--ink); white-space: normal; min-width: 4.5rem; }
th.text, td.text { text-align: left; }
td.wide { white-space: normal; min-width: 14rem; }
tbody tr:nth-child(even) { background: var(--stripe); }
td small { display: block; color: var(--soft); font-size: 0.78rem; }
tr.failed, tbody tr.failed:nth-child(even) { background: var(--bad); color: var(--bad-ink); font-weight: 600; }
.bad { color: var(--bad-ink); background: var(--bad); padding: 0.05rem 0.4rem; border-radius: 0.2rem; font-weight: 600; }
.good { color: var(--good-ink); font-weight: 600; }
figure { margin: 1.5rem 0 2rem; }
figure div { background: #ffffff; border: 1px solid var(--line); }
figure svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: 0.4rem; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: var(--stripe); border: 1px solid var(--line); padding: 0.75rem; overflow-x: auto; font-size: 0.82rem; line-height: 1.4; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; margin: 0.75rem 0; font-size: 0.92rem; }
dt { color: var(--soft); }
dd { margin: 0; }
@media print {
  :root { color-scheme: light; --ink: #000000; --soft: #444444; --paper: #ffffff; --line: #bbbbbb; --stripe: #f5f5f5; --bad: #fde3dc; --bad-ink: #8a2500; --good-ink: #00593f; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .scroll { overflow: visible; }
  th, td { padding: 0.2rem 0.4rem; white-space: normal; }
  table { font-size: 7pt; }
  td small { font-size: 6pt; }
  .note { break-after: avoid; }
  figure { margin: 0.5rem 0 1rem; }
  figure svg { max-height: 9cm; }
  pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; display: block; }
}
";

/// The page as HTML, with these pictures.
///
/// # Errors
/// [`crate::Error::Argument`] if a table of the record lacks a column or holds a text for a number.
pub fn render(record: &Record, pictures: &[Picture]) -> Result<String> {
    let manifest = &record.manifest;
    let finals = summary::finals(record)?;
    let verdict = record.checks.as_ref().map(verdict).transpose()?;
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
                @if let Some(verdict) = verdict { p { (verdict) } }
                (run(record))
                @if !finals.is_empty() { (results(record, &finals)) }
                @if !manifest.incidents.is_empty() { (incidents(record)) }
                @if !pictures.is_empty() {
                    h2 { "Pictures" }
                    @for picture in pictures {
                        figure {
                            div role="img" aria-label=(picture.caption) { (PreEscaped(&picture.svg)) }
                            figcaption { (picture.caption) " " code { (picture.file) } }
                        }
                    }
                }
                (phase_table(record)?)
                @if let Some(checks) = &record.checks { (check_table(checks)?) }
                @if let Some(errors) = &record.hypergradient_errors { (error_table(errors)?) }
                @if let Some(slopes) = &record.hypergradient_slopes { (slope_table(slopes)?) }
                h2 { "Configuration" }
                details {
                    summary { "As it was run, defaults included" }
                    pre { (manifest.configuration) }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn run(record: &Record) -> Markup {
    let manifest = &record.manifest;
    let seeds: Vec<String> = manifest.seeds.iter().map(u64::to_string).collect();
    html! {
        dl {
            dt { "nhgd" } dd { "version " (manifest.nhgd_version) }
            dt { "seeds" } dd { @if seeds.is_empty() { "none" } @else { (seeds.join(", ")) } }
            dt { "threads" } dd { (manifest.threads) }
            @for (name, value) in &manifest.machine {
                dt { (humanised(name)) } dd { (value) }
            }
            dt { "incidents" }
            dd { @if manifest.incidents.is_empty() { "none" } @else { span.bad { (manifest.incidents.len()) } " (see below)" } }
        }
    }
}

fn incidents(record: &Record) -> Markup {
    html! {
        h2 { "Incidents" }
        p.note { "Runs that failed, were stopped, or met what they could deal with; what they recorded counts in the statistics." }
        div.scroll { table {
            thead { tr { th.text { "method / seed" } th.text { "reason" } } }
            tbody { @for (run, reason) in &record.manifest.incidents {
                tr.failed { td.text { (run) } td.text.wide { (reason) } }
            } }
        } }
    }
}

fn results(record: &Record, finals: &[Final]) -> Markup {
    let manifest = &record.manifest;
    let range = |stat: &Stat| format!("{} … {}", number::significant(stat.min, 4), number::significant(stat.max, 4));
    let cell = |stat: &Option<Stat>, seeds: usize| {
        let Some(stat) = stat else { return html! { td { (MISSING) } } };
        html! { td {
            (summary::value(stat))
            @if stat.min < stat.max { small { (range(stat)) } }
            @if stat.count < seeds { small { (stat.count) " of " (seeds) " seeds" } }
        } }
    };
    let count = |stat: &Option<Stat>| stat.map_or(MISSING.to_owned(), |stat| summary::count(&stat));
    html! {
        h2 { "Results" }
        p.note { "At the last recorded step: mean ± standard deviation over seeds (n − 1), and below it the range." }
        div.scroll { table {
            thead { tr {
                th.text { "method" } th { "seeds" } th { "outer steps" }
                @for metric in &manifest.metrics { th { (humanised(metric)) } }
            } }
            tbody { @for row in finals {
                tr {
                    td.text { (row.method) @if row.baseline { small { "baseline" } } }
                    td { (row.seeds) }
                    td { @if row.baseline { (MISSING) } @else { (count(&row.steps)) } }
                    @for stat in &row.metrics { (cell(stat, row.seeds)) }
                }
            } }
        } }
        h2 { "Cost" }
        p.note { "Up to the last recorded step, evaluation excluded; counts are in samples, means over seeds." }
        div.scroll { table {
            thead { tr {
                th.text { "method" } th { "seconds" }
                @for name in &manifest.counts { th { (humanised(name)) } }
            } }
            tbody { @for row in finals {
                tr {
                    td.text { (row.method) @if row.baseline { small { "baseline" } } }
                    (cell(&row.seconds, row.seeds))
                    @for stat in &row.counts { td { (count(stat)) } }
                }
            } }
        } }
    }
}

fn phase_table(record: &Record) -> Result<Markup> {
    let (names, bars) = pictures::phases(record)?;
    if names.is_empty() || bars.is_empty() {
        return Ok(html! {});
    }
    Ok(html! {
        h2 { "Time of one outer step" }
        p.note { "Mean milliseconds by phase, evaluation left out." }
        div.scroll { table {
            thead { tr { th.text { "method" } @for name in &names { th { (humanised(name)) } } th { "sum" } } }
            tbody { @for bar in &bars {
                tr {
                    td.text { (bar.label) }
                    @for part in &bar.parts { td { (number::significant(*part, 3)) } }
                    td { (number::significant(bar.parts.iter().sum(), 3)) }
                }
            } }
        } }
    })
}

/// Whether a verdict is a pass: anything but `ok` counts as a failure.
fn passed(verdict: &str) -> bool {
    verdict == "ok"
}

fn verdict(checks: &Table) -> Result<Markup> {
    let verdicts = checks.text("verdict")?;
    let failed = verdicts.iter().filter(|v| !passed(v)).count();
    Ok(html! {
        "Checks: " span.good { (verdicts.len() - failed) " ok" }
        @if failed > 0 { ", " span.bad { (failed) " FAILED" } }
        "."
    })
}

fn check_table(checks: &Table) -> Result<Markup> {
    let column = |name: &str| checks.text(name);
    let (subjects, quantities, notes) = (column("subject")?, column("quantity")?, column("note")?);
    let (errors, tolerances, verdicts) = (column("error")?, column("tolerance")?, column("verdict")?);
    // A stable sort: failures first, otherwise the order of the record.
    let mut order: Vec<usize> = (0..checks.len()).collect();
    order.sort_by_key(|row| passed(verdicts[*row]));
    Ok(html! {
        h2 { "Checks" }
        p.note { (verdict(checks)?) }
        div.scroll { table {
            thead { tr {
                th.text { "subject" } th.text { "quantity" } th { "error" } th { "tolerance" } th.text { "verdict" } th.text { "note" }
            } }
            tbody { @for row in order {
                tr.failed[!passed(verdicts[row])] {
                    td.text { (humanised(subjects[row])) }
                    td.text { (humanised(quantities[row])) }
                    td { (short(errors[row])) }
                    td { (short(tolerances[row])) }
                    td.text { (verdicts[row]) }
                    td.text.wide { (notes[row]) }
                }
            } }
        } }
    })
}

/// A cell as a short number, or as it stands where it is none.
fn short(cell: &str) -> String {
    cell.parse().map_or(cell.to_owned(), |value| number::significant(value, 3))
}

fn error_table(errors: &Table) -> Result<Markup> {
    let mut rows = Vec::new();
    for (key, group) in series::groups(errors, &["estimator", "curvature", "fisher", "unit", "budget"])? {
        let [name @ .., unit, budget] = &key[..] else { continue };
        let found = group.numbers("relative_error")?;
        let stat = Stat::geometric(&found, ERROR_FLOOR);
        let budget = budget.parse().map_or(budget.clone(), number::count);
        rows.push((estimator_name(name), unit.clone(), budget, stat, found.len()));
    }
    let digits = |value: Option<f64>| value.map_or(MISSING.to_owned(), |x| number::significant(x, 3));
    Ok(html! {
        h2 { "Errors of the hypergradient" }
        details open[rows.len() <= 16] {
            summary { (rows.len()) " budgets and estimators" }
            p.note { "Relative errors: geometric mean and range over repetitions, errors below " (format!("{ERROR_FLOOR:e}")) " raised to it." }
            div.scroll { table {
                thead { tr {
                    th.text { "estimator" } th.text { "unit" } th { "budget" } th { "mean" } th { "smallest" } th { "largest" } th { "repetitions" }
                } }
                tbody { @for (name, unit, budget, stat, found) in rows {
                    tr {
                        td.text { (name) }
                        td.text { (unit) }
                        td { (budget) }
                        td { (digits(stat.map(|s| s.mean))) }
                        td { (digits(stat.map(|s| s.min))) }
                        td { (digits(stat.map(|s| s.max))) }
                        td { (stat.map_or(0, |s| s.count)) @if stat.is_none_or(|s| s.count < found) { " of " (found) } }
                    }
                } }
            } }
        }
    })
}

fn slope_table(slopes: &Table) -> Result<Markup> {
    let column = |name: &str| slopes.text(name);
    let (curvatures, kinds, replicates) = (column("curvature")?, column("fisher")?, column("replicates")?);
    let (from, to) = (slopes.numbers("rows_from")?, slopes.numbers("rows_to")?);
    let (slope, lower, upper) = (slopes.numbers("slope")?, slopes.numbers("lower")?, slopes.numbers("upper")?);
    Ok(html! {
        h2 { "Rates" }
        p.note { "Slope of log relative error against log rows: the mean over repetitions, each fitted by itself, with Student's 95 % limits." }
        div.scroll { table {
            thead { tr {
                th.text { "estimator" } th { "rows" } th { "slope" } th { "lower" } th { "upper" } th { "repetitions" }
            } }
            tbody { @for row in 0..slopes.len() {
                tr {
                    td.text { "nhgd " (curvatures[row]) " " (kinds[row]) }
                    td { (number::count(from[row])) " … " (number::count(to[row])) }
                    @for value in [slope[row], lower[row], upper[row]] { td { (number::significant(value, 3)) } }
                    td { (replicates[row]) }
                }
            } }
        } }
    })
}
