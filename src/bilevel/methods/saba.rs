//! SABA (Dagréou, Ablin, Vaiter & Moreau, "A framework for bilevel optimization that enables stochastic and global variance reduction
//! algorithms", NeurIPS 2022, arXiv 2201.13409): SOBA with each of its five means, ∇_θ g, Hq, Jᵀq, ∇_θ f and ∇_v f, estimated as SAGA does,
//!
//! S = (1/B) Σ_{i in batch} (a_i − A_i) + (1/n) Σ_i A_i,   then A_i ← a_i,
//!
//! a_i being sample i's term now and A_i the one in its table. Published: constant step sizes, γ = α; in the authors' benchmark batches of 64
//! and α = η = 0.1.
//!
//! Tables have a place a sample (that benchmark: a batch) and start at 0, as there, where the paper fills them with a first pass: S is unbiased whatever stands in
//! them, q starts at 0, so that for Hq and Jᵀq zeros are what a pass would find, and no call is spent. What a table keeps is the problem's
//! ([`SampleTables`]): a few numbers of each sample, where its terms have such a form. A mean over samples is kept beside each table.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::parts::{Directions, validate_linear};
use super::{Method, Observer, Phase, State};
use crate::bilevel::{Memory, SampleCount, StepSize};
use crate::dense::axpy;
use crate::error::{Error, Result, Status, check_count, check_len};
use crate::problem::{InnerProducts, OuterGradient, Problem, SampleTables, TablePoint, TableSide};
use crate::rng::Key;
use crate::samples::Batch;

/// The method with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Samples of an inner batch.
    pub batch_size: SampleCount,
    /// Samples of an outer batch.
    pub outer_batch_size: SampleCount,
    /// α_k of θ, k counting outer steps.
    pub inner_step_size: StepSize,
    /// γ_k of the linear system; that of θ where none is given.
    pub linear_step_size: Option<StepSize>,
    /// η_k of v.
    pub outer_step_size: StepSize,
    /// The most bytes that the tables may take.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_size: SampleCount::Drawn(64),
            outer_batch_size: SampleCount::Drawn(64),
            inner_step_size: StepSize::constant(0.1),
            linear_step_size: None,
            outer_step_size: StepSize::constant(0.1),
            max_bytes: 1 << 30,
        }
    }
}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        self.batch_size.validate("batch_size")?;
        self.outer_batch_size.validate("outer_batch_size")?;
        self.inner_step_size.validate("inner_step_size")?;
        validate_linear(self.linear_step_size)?;
        self.outer_step_size.validate("outer_step_size")?;
        check_count("max_bytes", self.max_bytes)
    }
}

/// The registry name.
pub(super) const NAME: &str = "saba";

/// The names of a side's table and of its mean.
fn names(side: TableSide) -> (&'static str, &'static str) {
    match side {
        TableSide::Inner => ("inner_table", "inner_mean"),
        TableSide::Outer => ("outer_table", "outer_mean"),
    }
}

/// The samples of a side, and the length of what its terms expand to.
fn sizes(problem: &dyn Problem, side: TableSide) -> (usize, usize) {
    let (d1, d2) = (problem.outer_dim(), problem.inner_dim());
    match side {
        TableSide::Inner => (problem.inner_samples(), 2 * d2 + d1),
        TableSide::Outer => (problem.outer_samples(), d2 + d1),
    }
}

/// Puts the batch's fresh coefficients in the table, and makes them what has changed.
fn replace(table: &mut [f64], width: usize, batch: Batch<'_>, fresh: &mut [f64]) {
    let samples = table.len() / width.max(1);
    // First all differences, then all places: a sample that comes twice differs from the same old value both times.
    let new = fresh.to_vec();
    for (position, i) in batch.iter(samples).enumerate() {
        axpy(-1.0, &table[i * width..(i + 1) * width], &mut fresh[position * width..(position + 1) * width]);
    }
    for (position, i) in batch.iter(samples).enumerate() {
        table[i * width..(i + 1) * width].copy_from_slice(&new[position * width..(position + 1) * width]);
    }
}

/// The samples of a batch that came before in it, and their coefficients: the table's mean counts each sample once.
fn repeated(batch: Batch<'_>, width: usize, coefficients: &[f64]) -> (Vec<usize>, Vec<f64>) {
    let Batch::Indices(indices) = batch else {
        return (Vec::new(), Vec::new());
    };
    let (mut seen, mut again, mut theirs) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (position, &i) in indices.iter().enumerate() {
        if !seen.insert(i) {
            again.push(i);
            theirs.extend_from_slice(&coefficients[position * width..(position + 1) * width]);
        }
    }
    (again, theirs)
}

/// SAGA's estimate of a side's means at `point`, one after the other; table and mean move on.
fn estimate(
    problem: &dyn Problem,
    tables: &dyn SampleTables,
    (side, point): (TableSide, TablePoint<'_>),
    batch: Batch<'_>,
    memory: &mut Memory,
) -> Result<Vec<f64>> {
    let ((samples, expanded), (table_name, mean_name)) = (sizes(problem, side), names(side));
    let width = tables.width(side);
    let mut table = memory.take(table_name, samples * width)?;
    let mut mean = memory.take(mean_name, expanded)?;

    let mut changes = tables.coefficients(side, point, batch)?;
    let count = batch.len(samples);
    check_len("table coefficients", changes.len(), count * width)?;
    replace(&mut table, width, batch, &mut changes);
    let mut sum = tables.expand(side, batch, &changes)?;
    check_len("table terms", sum.len(), expanded)?;
    let mut estimate = mean.clone();
    axpy(1.0 / count as f64, &sum, &mut estimate);
    tables.add_rest(side, point, &mut estimate)?;

    let (again, theirs) = repeated(batch, width, &changes);
    if !again.is_empty() {
        axpy(-1.0, &tables.expand(side, Batch::Indices(&again), &theirs)?, &mut sum);
    }
    axpy(1.0 / samples as f64, &sum, &mut mean);
    memory.put(table_name, table);
    memory.put(mean_name, mean);
    Ok(estimate)
}

impl Method for Config {
    fn name(&self) -> &'static str {
        NAME
    }

    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (outer_var, inner_var) = problem.initial();
        let mut state = State::new(outer_var, inner_var);
        state.memory.put("q", vec![0.0; problem.inner_dim()]);
        let tables = problem.tables();
        let cells = |side| sizes(problem, side).0.saturating_mul(tables.width(side));
        let bytes = cells(TableSide::Inner).saturating_add(cells(TableSide::Outer)).saturating_mul(size_of::<f64>());
        if bytes > self.max_bytes {
            return Err(Error::argument("max_bytes", format_args!("at least the {bytes} bytes of the tables"), self.max_bytes));
        }
        for side in [TableSide::Inner, TableSide::Outer] {
            let (table, mean) = names(side);
            state.memory.put(table, vec![0.0; cells(side)]);
            state.memory.put(mean, vec![0.0; sizes(problem, side).1]);
        }
        Ok(state)
    }

    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, observer: &mut dyn Observer) -> Result<Status> {
        let State { step, outer_var: v, inner_var: theta, memory, .. } = state;
        let (tables, d2) = (problem.tables(), problem.inner_dim());
        let mut q = memory.take("q", d2)?;
        let point = TablePoint { v, theta, q: &q };

        observer.phase(Phase::InnerStep);
        let batch = self.batch_size.draw(problem.inner_samples(), key.named("inner"))?;
        let mut gradient = estimate(problem, &*tables, (TableSide::Inner, point), batch.batch(), memory)?;
        let cross_vjp = gradient.split_off(2 * d2).into();
        let hvp = gradient.split_off(d2);

        observer.phase(Phase::OuterGradient);
        let batch = self.outer_batch_size.draw(problem.outer_samples(), key.named("outer"))?;
        let mut b = estimate(problem, &*tables, (TableSide::Outer, point), batch.batch(), memory)?;
        let outer = OuterGradient { v: b.split_off(d2).into(), theta: b };
        let directions = Directions::assemble(InnerProducts { gradient, hvp, cross_vjp }, outer)?;

        let (alpha, eta) = (self.inner_step_size.at(*step), self.outer_step_size.at(*step));
        let gamma = self.linear_step_size.unwrap_or(self.inner_step_size).at(*step);
        let stayed_finite = directions.descend((v, theta, &mut q), (alpha, gamma, eta), observer)?;
        memory.put("q", q);
        Ok(if stayed_finite { Status::Converged {} } else { Status::Diverged { step: *step } })
    }
}
