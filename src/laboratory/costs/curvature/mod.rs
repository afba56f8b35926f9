//! `curvature`: what absorbing, approximating and solving take as the dimension, the size of a sketch, the rows of a block, the rows absorbed
//! and the threads grow, one at a time around a base. Beside seconds and peaks stand the operations and bytes of [`super::model`], so that rates
//! can be held against the roofs of the same run. What would not fit in memory is not begun.

mod cells;
mod findings;
mod pictures;

use serde::{Deserialize, Serialize};

use self::cells::{Cell, Task};
pub(super) use self::findings::with_unit_seconds;
use super::machine::Machine;
use super::model;
use super::usage::Threads;
use crate::bounds::Claim;
use crate::curvature::{
    CurvatureConfig, DenseConfig, DiagonalConfig, FrequentDirectionsConfig, NystromConfig, TestMatrix, WindowConfig,
};
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::Table;
use crate::laboratory::picture::Picture;
use crate::laboratory::{Bench, Concurrency, Experiment, Findings, Pieces, Registered, Size, settings_of};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curvature {
    /// The families.
    pub families: Vec<String>,
    /// The dimensions d, ascending.
    pub dims: Vec<usize>,
    /// d where something else varies.
    pub base_dim: usize,
    /// ℓ (a window's m) where something else varies.
    pub base_size: usize,
    /// The sizes ℓ, ascending.
    pub sizes: Vec<usize>,
    /// b where something else varies.
    pub base_block_rows: usize,
    /// The rows b of a block, ascending.
    pub block_rows: Vec<usize>,
    /// The rows n absorbed in all where memory must not depend on them, ascending.
    pub streams: Vec<usize>,
    /// Times that each operation is measured; one more before is left out.
    pub replicates: usize,
    /// How `nystrom` draws Ω.
    pub test_matrix: TestMatrix,
    /// q of the sketches.
    pub probes: usize,
    /// λ of the solves.
    pub damping: f64,
    /// The largest exponent in d of what is predicted to be proportional to it.
    pub largest_exponent: f64,
    /// The order of the product that rates are held against.
    pub order: usize,
    /// Entries of the vectors that bandwidths are held against.
    pub entries: usize,
}

impl Registered for Curvature {
    const NAME: &'static str = "curvature";
    const ABOUT: &'static str = "absorb, approximate, solve: seconds, memory and rates against d, size, block, rows and threads";

    fn sized(size: Size) -> Self {
        let Machine { order, entries, .. } = Machine::beside(size);
        let quick = Self {
            families: ["window", "nystrom", "frequent-directions", "diagonal"].map(str::to_owned).to_vec(),
            dims: vec![1_000, 3_000, 10_000, 30_000, 100_000],
            base_dim: 10_000,
            base_size: 64,
            sizes: vec![16, 32, 64, 128],
            base_block_rows: 32,
            block_rows: vec![8, 32, 128, 256],
            streams: vec![256, 1024, 4096],
            replicates: 3,
            test_matrix: TestMatrix::Gaussian,
            probes: 0,
            damping: 1e-2,
            largest_exponent: 1.05,
            order,
            entries,
        };
        match size {
            Size::Quick => quick,
            Size::Full => Self {
                dims: vec![1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000],
                base_dim: 100_000,
                sizes: vec![16, 32, 64, 128, 256],
                streams: vec![256, 1024, 4096, 16_384],
                replicates: 7,
                ..quick
            },
        }
    }
}

impl Curvature {
    /// The configuration of a family of this size.
    ///
    /// # Errors
    /// [`Error::Argument`] for a family without formulas.
    pub(super) fn config(&self, family: &str, size: usize) -> Result<CurvatureConfig> {
        let directions = || FrequentDirectionsConfig { sketch_size: size, probes: self.probes };
        Ok(match family {
            "window" => CurvatureConfig::Window(WindowConfig { samples: size }),
            "nystrom" => CurvatureConfig::Nystrom(NystromConfig {
                sketch_size: size,
                test_matrix: self.test_matrix,
                probes: Some(self.probes),
            }),
            "frequent-directions" => CurvatureConfig::FrequentDirections(directions()),
            "robust-frequent-directions" => CurvatureConfig::RobustFrequentDirections(directions()),
            "diagonal" => CurvatureConfig::Diagonal(DiagonalConfig {}),
            // What does not fit is refused before it is built.
            "dense" => CurvatureConfig::Dense(DenseConfig { max_bytes: usize::MAX }),
            other => {
                let expected = format!("some of {}", model::FAMILIES.join(", "));
                return Err(Error::argument("families", expected, format_args!("`{other}`")));
            }
        })
    }

    /// Whether the family has a size that costs depend on.
    pub(super) fn is_sized(family: &str) -> bool {
        !["diagonal", "dense"].contains(&family)
    }

    /// The roofs that it measures beside.
    fn machine(&self) -> Machine {
        Machine { order: self.order, entries: self.entries, ..Machine::beside(Size::Quick) }
    }

    /// The setting around which everything varies.
    fn base(&self) -> Cell {
        Cell {
            family: 0,
            dim: self.base_dim,
            size: self.base_size,
            block_rows: self.base_block_rows,
            threads: Threads::All,
            task: Task::Operations,
        }
    }

    /// Every cell once. Those on one thread come last: the memory of their threads is given back at a time of its own.
    fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for threads in [Threads::All, Threads::One] {
            for (family, name) in self.families.iter().enumerate() {
                let base = Cell { family, threads, ..self.base() };
                let swept = if threads == Threads::All { self.around(base, name) } else { vec![base] };
                for cell in swept {
                    if !cells.contains(&cell) {
                        cells.push(cell);
                    }
                }
            }
        }
        cells
    }

    /// The base with one thing after the other changed.
    fn around(&self, base: Cell, family: &str) -> Vec<Cell> {
        let sizes: &[usize] = if Self::is_sized(family) { &self.sizes } else { &[] };
        let swept = (self.dims.iter().map(|&dim| Cell { dim, ..base }))
            .chain(sizes.iter().map(|&size| Cell { size, ..base }))
            .chain(self.block_rows.iter().map(|&block_rows| Cell { block_rows, ..base }))
            .chain([base])
            .chain(self.streams.iter().map(|&rows| Cell { task: Task::Stream { rows }, ..base }));
        swept.collect()
    }
}

impl Experiment for Curvature {
    fn validate(&self) -> Result<()> {
        self.machine().check()?;
        if self.families.is_empty() {
            return Err(Error::argument("families", "at least 1", "none"));
        }
        for (name, values) in
            [("dims", &self.dims), ("sizes", &self.sizes), ("block_rows", &self.block_rows), ("streams", &self.streams)]
        {
            if values.first() == Some(&0) || values.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::argument(name, "ascending counts of at least 1", format_args!("{values:?}")));
            }
        }
        if self.dims.len() < 2 {
            return Err(Error::argument("dims", "at least 2", format_args!("{:?}", self.dims)));
        }
        check_count("base_dim", self.base_dim)?;
        check_count("base_size", self.base_size)?;
        check_count("base_block_rows", self.base_block_rows)?;
        if self.replicates < 2 {
            return Err(Error::argument("replicates", "at least 2", self.replicates));
        }
        check_positive("damping", self.damping)?;
        check_positive("largest_exponent", self.largest_exponent)?;
        for cell in self.cells() {
            let family = &self.families[cell.family];
            self.config(family, cell.size)?.validate()?;
            if cell.size > cell.dim {
                let name = if cell.size == self.base_size { "base_size" } else { "sizes" };
                return Err(Error::argument(name, format_args!("at most every d, {} among them", cell.dim), cell.size));
            }
        }
        Ok(())
    }

    fn claims(&self) -> Vec<Claim> {
        self.questions().into_iter().map(|question| question.claim).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &cells::COLUMNS
    }

    /// The roofs, then the cells.
    fn pieces(&self) -> usize {
        1 + self.cells().len()
    }

    fn work(&self, piece: usize) -> u64 {
        match piece.checked_sub(1).and_then(|cell| self.cells().get(cell).copied()) {
            Some(cell) => self.cell_work(cell),
            None => 2_000_000,
        }
    }

    /// Seconds are what is measured.
    fn concurrency(&self) -> Concurrency {
        Concurrency::Alone
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let cells = self.cells();
        Ok(Box::new(move |piece| match piece.checked_sub(1).and_then(|cell| cells.get(cell)) {
            Some(cell) => self.cell_rows(*cell, bench),
            None => cells::roof_rows(&self.machine(), Bench { key: bench.key.named("roofs"), ..bench }),
        }))
    }

    fn measure(&self, _bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        self.findings(rows)
    }

    fn shown(&self) -> &'static [&'static str] {
        &[findings::EXPONENTS, findings::SPEED_UPS]
    }

    fn pictures(&self) -> Vec<Picture> {
        pictures::all(self)
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}
