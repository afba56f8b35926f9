//! What an experiment has gathered so far: the tables of its record as they grow. No clock and no terminal: seconds come in as
//! numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Config, Run};
use super::hypergradient_errors;
use super::record::{Manifest, RECORD_VERSION, Record, Table, cell};
use crate::bilevel::{Damping, MethodConfig, Phase, Span};
use crate::error::Result;
use crate::par;
use crate::problem::{OracleCounts, Problem};
use crate::samples::Batch;

/// The tables so far, and what the manifest will say of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gathered {
    metrics: Vec<String>,
    /// Whether the last metric is the damping of the step: where some run chooses it.
    damping: bool,
    rows: Table,
    timings: Table,
    baselines: Vec<String>,
    pub(super) errors: Option<Table>,
    pub(super) checks: Option<Table>,
    pictures: Option<Table>,
    timeline: Option<Table>,
    pub(super) incidents: BTreeMap<String, String>,
}

impl Gathered {
    /// Nothing yet.
    pub(super) fn new(config: &Config) -> Self {
        let errors = config.hypergradient_errors.as_ref().map(|_| hypergradient_errors::table());
        Self { errors, ..Self::default() }
    }

    /// Gives the tables their columns, unless they have them.
    pub(super) fn prepare(&mut self, problem: &dyn Problem, runs: &[Run]) {
        if !self.rows.columns().is_empty() {
            return;
        }
        let chooses = |run: &Run| matches!(&run.method, MethodConfig::Nhgd(c) if matches!(c.damping, Damping::Auto { .. }));
        self.damping = runs.iter().any(chooses);
        let metrics = std::iter::once("f_outer").chain(problem.metric_names()).chain(self.damping.then_some("damping"));
        self.metrics = metrics.map(str::to_owned).collect();
        let keys = ["method", "seed", "step"].map(str::to_owned);
        let counts = OracleCounts::NAMES.map(str::to_owned);
        let phases = Phase::ALL.map(|(_, name)| name.to_owned());
        self.rows = Table::new(keys.iter().chain(&self.metrics).chain(&counts).cloned());
        self.timings =
            Table::new(keys.iter().chain(&["seconds".to_owned()]).chain(&phases).chain(&["evaluation".to_owned()]).cloned());
    }

    /// Notes that rows of this method are a baseline's.
    pub(super) fn name_baseline(&mut self, name: &str) {
        if !self.baselines.iter().any(|known| known == name) {
            self.baselines.push(name.to_owned());
        }
    }

    /// A row of both tables: the metrics at (v, θ), the damping, the counts, the seconds.
    pub(super) fn record(
        &mut self,
        (label, seed, step): (&str, u64, u64),
        (problem, v, theta): (&dyn Problem, &[f64], &[f64]),
        damping: f64,
        counts: OracleCounts,
        seconds: &[f64],
    ) -> Result<()> {
        let keys = [label.to_owned(), seed.to_string(), step.to_string()];
        let mut metrics = vec![problem.f_outer(v, theta, Batch::All)?];
        metrics.extend(problem.metrics(v, theta)?);
        metrics.extend(self.damping.then_some(damping));
        let counts = counts.values().map(|count| count.to_string());
        self.rows.push(keys.iter().cloned().chain(metrics.into_iter().map(cell)).chain(counts))?;
        self.timings.push(keys.into_iter().chain(seconds.iter().map(|s| format!("{s:.6}"))))
    }

    /// What there is to see at (v, θ).
    pub(super) fn show(
        &mut self,
        (label, seed, step): (&str, u64, u64),
        (problem, v, theta): (&dyn Problem, &[f64], &[f64]),
    ) -> Result<()> {
        for (number, picture) in problem.pictures(v, theta)?.iter().enumerate() {
            picture.check()?;
            let columns = ["method", "seed", "step", "picture", "title", "kind", "unit", "values"];
            let table = self.pictures.get_or_insert_with(|| Table::new(columns));
            for row in picture.values.chunks(picture.width) {
                let values: Vec<String> = row.iter().map(|&x| cell(x)).collect();
                let keys = [label.to_owned(), seed.to_string(), step.to_string(), number.to_string()];
                let about = [picture.title.clone(), picture.kind.name().to_owned(), picture.unit.clone(), values.join(" ")];
                table.push(keys.into_iter().chain(about))?;
            }
        }
        Ok(())
    }

    /// When the phases of a step went on, each with its lane, from the step's beginning on.
    pub(super) fn time(&mut self, (label, step): (&str, u64), begin: Duration, spans: &[(usize, Span)]) -> Result<()> {
        let table = self.timeline.get_or_insert_with(|| Table::new(["method", "step", "lane", "phase", "begin", "end"]));
        for (lane, span) in spans {
            let name = Phase::ALL.iter().find(|(phase, _)| *phase == span.phase).map_or("", |(_, name)| name);
            let seconds = |at: Duration| format!("{:.6}", at.saturating_sub(begin).as_secs_f64());
            table.push([label, &step.to_string(), &lane.to_string(), name, &seconds(span.begin), &seconds(span.end)])?;
        }
        Ok(())
    }

    /// The complete record.
    pub(super) fn into_record(self, config: &Config, machine: BTreeMap<String, String>) -> Result<Record> {
        let slopes = match (&config.hypergradient_errors, &self.errors) {
            (Some(settings), Some(table)) => hypergradient_errors::slopes(settings, table)?,
            _ => None,
        };
        Ok(Record {
            manifest: Manifest {
                record_version: RECORD_VERSION,
                nhgd_version: env!("CARGO_PKG_VERSION").to_owned(),
                title: config.title.clone(),
                configuration: config.to_toml()?,
                seeds: config.seeds.clone(),
                threads: par::threads(),
                machine,
                metrics: self.metrics,
                counts: OracleCounts::NAMES.map(str::to_owned).to_vec(),
                baselines: self.baselines,
                incidents: self.incidents,
            },
            rows: self.rows,
            timings: self.timings,
            hypergradient_errors: self.errors,
            hypergradient_slopes: slopes,
            checks: self.checks,
            pictures: self.pictures,
            timeline: self.timeline,
        })
    }
}
