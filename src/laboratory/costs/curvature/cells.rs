//! A cell of the sweeps: a family at one setting, all of whose operations are measured one after the other on one estimate. Or a stream: rows
//! and rows absorbed, whose peak must not grow with them.

use super::Curvature;
use crate::curvature::CurvatureConfig;
use crate::error::Result;
use crate::inverse::KnownCurvature;
use crate::laboratory::costs::machine::{Machine, Sample};
use crate::laboratory::costs::model::{self, Operation, Shape};
use crate::laboratory::costs::source::Source;
use crate::laboratory::costs::usage::{Meter, Threads, once, repeated, warm_up};
use crate::laboratory::{Bench, Rows, Usage, rounded};
use crate::reused;

/// The columns: the setting; the operation and the rows that it absorbed; the replicate; what the model says that it takes; and why it was not
/// begun, where it was not. Roofs are rows of the family [`ROOFS`].
pub(super) const COLUMNS: [&str; 12] = [
    "family",
    "d",
    "size",
    "block_rows",
    "threads",
    "operation",
    "rows",
    "replicate",
    "flops",
    "bytes",
    "predicted_peak",
    "refused",
];
/// What stands in the place of a family where a roof was measured.
pub(super) const ROOFS: &str = "machine";
/// The operation of a cell that was not begun.
pub(super) const NOTHING: &str = "none";
/// The operation of a stream.
pub(super) const STREAM: &str = "stream";
/// Times that a stream is measured.
const STREAMS: usize = 2;
/// Times ℓ: the least number of rows before they repeat.
const DISTINCT: usize = 4;

/// What is done in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Each operation, several times.
    Operations,
    /// So many rows are absorbed.
    Stream {
        /// n.
        rows: usize,
    },
}

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    /// The place of its family in the settings.
    pub(super) family: usize,
    pub(super) dim: usize,
    pub(super) size: usize,
    pub(super) block_rows: usize,
    pub(super) threads: Threads,
    pub(super) task: Task,
}

impl Cell {
    /// A round of blocks: rows enough that a sketch which gathers them first has worked.
    pub(super) fn shape(self) -> Shape {
        let rows = match self.task {
            Task::Operations => self.size,
            Task::Stream { rows } => rows,
        };
        Shape { dim: self.dim, block_rows: self.block_rows, blocks: rows.div_ceil(self.block_rows) }
    }
}

/// The rows of the roofs.
pub(super) fn roof_rows(machine: &Machine, bench: Bench<'_>) -> Result<Rows> {
    let mut rows = Rows::default();
    for Sample { roof, threads, replicate, flops, bytes, usage } in machine.roofs(bench)? {
        let setting = [ROOFS, "0", "0", "0", threads.name(), roof.name(), "0"].map(str::to_owned);
        let rest = [replicate.to_string(), rounded(flops), rounded(bytes), "0".to_owned(), String::new()];
        rows.push_used(setting.into_iter().chain(rest), usage);
    }
    Ok(rows)
}

impl Curvature {
    /// Roughly, in microseconds: the operations at 20 GFLOP/s, the traffic at 5 GB/s, and the drawing of rows.
    pub(super) fn cell_work(&self, cell: Cell) -> u64 {
        let shape = cell.shape();
        let Ok(config) = self.config(&self.families[cell.family], cell.size) else { return 0 };
        let seconds = |operation| model::cost(&config, shape, operation).map_or(0.0, |cost| cost.flops / 2e10 + cost.bytes / 5e9);
        let repeated: f64 = [Operation::Absorb, Operation::Approximate, Operation::Solve].map(seconds).iter().sum();
        let drawn = (cell.dim * cell.block_rows * shape.blocks) as f64 * 2e-9;
        let floor = 0.02 * self.replicates as f64;
        (1e6 * (floor + seconds(Operation::Build) + (self.replicates + 1) as f64 * (repeated + drawn))) as u64
    }

    /// The rows of a cell, or the one that says why it was not begun.
    pub(super) fn cell_rows(&self, cell: Cell, bench: Bench<'_>) -> Result<Rows> {
        let (family, shape) = (self.families[cell.family].as_str(), cell.shape());
        let config = self.config(family, cell.size)?;
        let needed = model::peak(&config, shape)?;
        let mut log = Log { cell, family, config: &config, rows: Rows::default() };
        if let Some(refusal) = bench.memory.refusal(needed) {
            log.refuse(needed, refusal);
            return Ok(log.rows);
        }
        let key = bench.key.named(family).child(cell.dim as u64).child(cell.size as u64).child(cell.block_rows as u64);
        let bench = Bench { key, ..bench };
        cell.threads.run(|| {
            warm_up()?;
            match cell.task {
                Task::Operations => self.operations(&mut log, bench),
                Task::Stream { .. } => self.stream(&mut log, bench),
            }
        })?;
        Ok(log.rows)
    }

    fn operations(&self, log: &mut Log<'_>, bench: Bench<'_>) -> Result<()> {
        let Cell { dim, size, block_rows, .. } = log.cell;
        let base = bench.memory.in_use();
        let (mut curvature, usage) = once(bench, base, || log.config.build(dim, bench.key.named("curvature")))?;
        log.push(Operation::Build, 0, usage)?;
        // The stream's rows must not stand in larger memory that building let go.
        reused::release();
        let mut source = Source::new(dim, block_rows, DISTINCT * size, bench.key.named("rows"))?;
        let blocks = log.cell.shape().blocks;
        for replicate in 0..=self.replicates {
            let mut meter = Meter::new(bench, base + source.spare_bytes());
            loop {
                for _ in 0..blocks {
                    let block = source.block()?;
                    meter.part(|| curvature.absorb(block))?;
                }
                if meter.end_call() || !source.is_kept() {
                    break;
                }
            }
            log.push_after_the_first(Operation::Absorb, replicate, meter.usage())?;
        }
        // What was absorbed need not be held any longer.
        drop(source);
        for replicate in 0..=self.replicates {
            log.push_after_the_first(Operation::Approximate, replicate, repeated(bench, base, || curvature.approximate())?)?;
        }
        let approximation = curvature.approximate()?;
        let (known, b) = (KnownCurvature::scalar(dim, self.damping)?, bench.key.named("right-hand side").stream().normals(dim));
        for replicate in 0..=self.replicates {
            log.push_after_the_first(Operation::Solve, replicate, repeated(bench, base, || approximation.solve(&known, &b))?)?;
        }
        Ok(())
    }

    /// Absorbs the rows of the stream into a new estimate each time.
    fn stream(&self, log: &mut Log<'_>, bench: Bench<'_>) -> Result<()> {
        let Cell { dim, size, block_rows, .. } = log.cell;
        let mut source = Source::new(dim, block_rows, DISTINCT * size, bench.key.named("rows"))?;
        let block = (dim * block_rows * size_of::<f64>()) as u64;
        // The one block that any stream holds counts.
        let base = bench.memory.in_use().saturating_sub(block.min(bench.memory.in_use()));
        for replicate in 0..STREAMS {
            let mut curvature = log.config.build(dim, bench.key.named("curvature"))?;
            let mut meter = Meter::new(bench, base);
            for _ in 0..log.cell.shape().blocks {
                let block = source.block()?;
                meter.part(|| curvature.absorb(block))?;
            }
            meter.end_call();
            log.push_stream(replicate, meter.usage())?;
        }
        Ok(())
    }
}

/// The rows of a cell as they come.
struct Log<'a> {
    cell: Cell,
    family: &'a str,
    config: &'a CurvatureConfig,
    rows: Rows,
}

impl Log<'_> {
    fn setting(&self, operation: &str, rows: usize, replicate: usize) -> [String; 8] {
        let Cell { dim, size, block_rows, threads, .. } = self.cell;
        let numbers = [dim, size, block_rows].map(|number| number.to_string());
        let [d, size, block_rows] = numbers;
        let (family, threads) = (self.family.to_owned(), threads.name().to_owned());
        [family, d, size, block_rows, threads, operation.to_owned(), rows.to_string(), replicate.to_string()]
    }

    fn refuse(&mut self, needed: f64, refusal: String) {
        let rest = ["0".to_owned(), "0".to_owned(), rounded(needed), refusal];
        self.rows.push(self.setting(NOTHING, 0, 0).into_iter().chain(rest));
    }

    fn push(&mut self, operation: Operation, replicate: usize, usage: Usage) -> Result<()> {
        let shape = self.cell.shape();
        let rows = if operation == Operation::Absorb { shape.blocks * shape.block_rows } else { 0 };
        self.enter(operation.name(), operation, (rows, replicate), usage)
    }

    /// The first one is a warm-up.
    fn push_after_the_first(&mut self, operation: Operation, replicate: usize, usage: Usage) -> Result<()> {
        replicate.checked_sub(1).map_or(Ok(()), |replicate| self.push(operation, replicate, usage))
    }

    fn push_stream(&mut self, replicate: usize, usage: Usage) -> Result<()> {
        let shape = self.cell.shape();
        self.enter(STREAM, Operation::Absorb, (shape.blocks * shape.block_rows, replicate), usage)
    }

    fn enter(&mut self, name: &str, operation: Operation, (rows, replicate): (usize, usize), usage: Usage) -> Result<()> {
        let cost = model::cost(self.config, self.cell.shape(), operation)?;
        let rest = [rounded(cost.flops), rounded(cost.bytes), rounded(cost.peak), String::new()];
        self.rows.push_used(self.setting(name, rows, replicate).into_iter().chain(rest), usage);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::laboratory::memory::Memory;
    use crate::laboratory::{Experiment, Registered, Size};
    use crate::problem::DataSource;
    use crate::rng::Key;

    #[test]
    fn a_cell_has_a_row_for_every_replicate_of_every_operation_whatever_the_clock() {
        let settings = Curvature {
            families: vec!["frequent-directions".into()],
            dims: vec![20, 40],
            base_dim: 20,
            base_size: 4,
            sizes: vec![],
            base_block_rows: 3,
            block_rows: vec![],
            streams: vec![12],
            replicates: 2,
            order: 8,
            entries: 64,
            ..Curvature::sized(Size::Quick)
        };
        settings.validate().unwrap();
        let (source, clock) = (DataSource::default(), || Duration::ZERO);
        let bench = Bench { key: Key::new(1), source: &source, clock: &clock, memory: Memory::unknown() };
        // Two dimensions, one thread, a stream.
        assert_eq!(settings.cells().len(), 4);
        let rows = settings.cell_rows(settings.cells()[0], bench).unwrap();
        let named = |operation: &str| rows.cells().iter().filter(|row| row[5] == operation).count();
        assert_eq!(["build", "absorb", "approximate", "solve"].map(named), [1, 2, 2, 2]);
        assert!(rows.cells().iter().filter(|row| row[5] == "absorb").all(|row| row[6] == "6"), "two blocks of three make ℓ rows");
        assert_eq!(rows.usages().len(), rows.cells().len());
        let stream = settings.cell_rows(settings.cells()[2], bench).unwrap();
        assert!(stream.cells().len() == 2 && stream.cells().iter().all(|row| row[5] == "stream" && row[6] == "12"));
    }
}
