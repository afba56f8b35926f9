//! `steps`: what a gradient, a gradient's curvature and a whole outer step of NHGD take on data cleaning, against the samples n, the parameters d
//! and the batch, one at a time around a base. The data are a mixture of Gaussians with half of the labels replaced, so that every size is at
//! hand. An inner step must not know n; an outer step passes over all samples once, for the cross product.

mod cells;
mod findings;

use serde::{Deserialize, Serialize};

use self::findings::Variable;
use super::machine::Machine;
use crate::bounds::Claim;
use crate::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::Table;
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::record::SECONDS;
use crate::laboratory::{Bench, Concurrency, Experiment, Findings, Pieces, Registered, Size, settings_of};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steps {
    /// The numbers n of training samples, ascending.
    samples: Vec<usize>,
    /// n where something else varies.
    base_samples: usize,
    /// The features of a sample, ascending: d is ten times as many.
    widths: Vec<usize>,
    /// The features where something else varies.
    base_width: usize,
    /// The batches B, ascending.
    batches: Vec<usize>,
    /// B where something else varies.
    base_batch: usize,
    /// The samples of the validation set.
    validation: usize,
    /// K.
    inner_steps: u64,
    /// m of the window.
    window: usize,
    /// ℓ of the sketch.
    sketch_size: usize,
    /// Samples of each batch whose rows the sketch takes; the window takes all.
    sketch_samples: usize,
    /// Times that each is measured; one more before is left out.
    replicates: usize,
    /// The largest exponent of what must be proportional.
    largest_exponent: f64,
    /// The order of the product that rates are held against.
    order: usize,
    /// Entries of the vectors that bandwidths are held against.
    entries: usize,
}

const CLASSES: usize = 10;
/// The families.
const FAMILIES: [&str; 2] = ["window", "nystrom"];
/// What is measured: a gradient, rows and their absorption for a family, and an outer step with it.
const GRADIENT: &str = "gradient";
const ABSORB: &str = "absorb";
const OUTER: &str = "outer step";
const COLUMNS: [&str; 8] = ["what", "family", "n", "d", "batch", "threads", "replicate", "flops"];
/// What stands in the place of a setting where a roof was measured.
const NO_SETTING: &str = "0";

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    samples: usize,
    width: usize,
    batch: usize,
}

impl Cell {
    fn dim(self) -> usize {
        self.width * CLASSES
    }
}

impl Registered for Steps {
    const NAME: &'static str = "steps";
    const ABOUT: &'static str =
        "a gradient, its curvature and an outer step on data cleaning, against samples, parameters and batch";

    fn sized(size: Size) -> Self {
        let Machine { order, entries, .. } = Machine::beside(size);
        let quick = Self {
            samples: vec![2_000, 8_000, 32_000],
            base_samples: 8_000,
            widths: vec![50, 200, 800],
            base_width: 200,
            batches: vec![64, 256, 1024],
            base_batch: 256,
            validation: 1_000,
            inner_steps: 10,
            window: 1024,
            sketch_size: 64,
            sketch_samples: 32,
            replicates: 5,
            largest_exponent: 1.05,
            order,
            entries,
        };
        match size {
            Size::Quick => quick,
            Size::Full => Self {
                samples: vec![2_000, 8_000, 32_000, 128_000],
                widths: vec![50, 200, 800, 3_200],
                batches: vec![64, 256, 1024, 4096],
                replicates: 9,
                ..quick
            },
        }
    }
}

impl Steps {
    fn machine(&self) -> Machine {
        Machine { order: self.order, entries: self.entries, ..Machine::beside(Size::Quick) }
    }

    fn cells(&self) -> Vec<Cell> {
        let base = Cell { samples: self.base_samples, width: self.base_width, batch: self.base_batch };
        let swept = (self.samples.iter().map(|&samples| Cell { samples, ..base }))
            .chain(self.widths.iter().map(|&width| Cell { width, ..base }))
            .chain(self.batches.iter().map(|&batch| Cell { batch, ..base }));
        let mut cells: Vec<Cell> = Vec::new();
        for cell in swept.chain([base]) {
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }

    /// The family with the rows of a batch that it takes.
    fn config(&self, family: &str, cell: Cell) -> (CurvatureConfig, usize) {
        if family == "window" {
            return (CurvatureConfig::Window(WindowConfig { samples: self.window }), cell.batch);
        }
        let size = self.sketch_size.min(cell.dim());
        let config = NystromConfig { sketch_size: size, probes: Some(0), ..NystromConfig::default() };
        (CurvatureConfig::Nystrom(config), self.sketch_samples.min(cell.batch))
    }
}

impl Experiment for Steps {
    fn validate(&self) -> Result<()> {
        self.machine().check()?;
        for (name, values) in [("samples", &self.samples), ("widths", &self.widths), ("batches", &self.batches)] {
            if values.len() < 2 || values[0] == 0 || values.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::argument(name, "at least 2 ascending counts of at least 1", format_args!("{values:?}")));
            }
        }
        for (name, count) in [
            ("base_samples", self.base_samples),
            ("base_width", self.base_width),
            ("base_batch", self.base_batch),
            ("validation", self.validation),
            ("window", self.window),
            ("sketch_size", self.sketch_size),
            ("sketch_samples", self.sketch_samples),
            ("inner_steps", self.inner_steps as usize),
        ] {
            check_count(name, count)?;
        }
        if self.replicates < 2 {
            return Err(Error::argument("replicates", "at least 2", self.replicates));
        }
        check_positive("largest_exponent", self.largest_exponent)
    }

    fn claims(&self) -> Vec<Claim> {
        self.questions().into_iter().map(|(claim, _)| claim).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &COLUMNS
    }

    fn pieces(&self) -> usize {
        1 + self.cells().len()
    }

    fn work(&self, piece: usize) -> u64 {
        let Some(cell) = piece.checked_sub(1).and_then(|cell| self.cells().get(cell).copied()) else { return 2_000_000 };
        let outer: f64 = FAMILIES.iter().map(|family| self.outer_flops(family, cell).unwrap_or(0.0)).sum();
        let drawn = (cell.samples * cell.width) as f64 * 1e-8;
        (1e6 * (drawn + (self.replicates + 1) as f64 * (1.5 * outer / 2e10 + 0.03))) as u64
    }

    fn concurrency(&self) -> Concurrency {
        Concurrency::Alone
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let cells = self.cells();
        Ok(Box::new(move |piece| {
            if let Some(cell) = piece.checked_sub(1).and_then(|cell| cells.get(cell)) {
                return self.cell_rows(*cell, bench);
            }
            self.roof_rows(Bench { key: bench.key.named("roofs"), ..bench })
        }))
    }

    fn measure(&self, _bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        self.findings(rows)
    }

    fn shown(&self) -> &'static [&'static str] {
        &[findings::RATIOS]
    }

    fn pictures(&self) -> Vec<Picture> {
        let layer = |what: &str, family: &str, variable: Variable| {
            let base = [("n", self.base_samples), ("d", self.base_width * CLASSES), ("batch", self.base_batch)];
            let fixed = base.into_iter().filter(|(column, _)| *column != variable.column());
            let layer = Layer::new(Self::NAME, variable.column(), SECONDS).only("what", what).only("family", family);
            let layer = fixed.fold(layer, |layer, (column, value)| layer.only(column, value.to_string()));
            let name = if family.is_empty() { "{what}" } else { "{what}, {family}" };
            layer.by("what").by("family").center(Center::Median).band(Band::Range).named(name)
        };
        let panel = |variable: Variable| Panel {
            title: String::new(),
            x: Axis::log(match variable {
                Variable::Samples => "samples n (count)",
                Variable::Dim => "parameters d (count)",
                Variable::Batch => "batch (samples)",
            }),
            layers: std::iter::once(layer(GRADIENT, "", variable))
                .chain([ABSORB, OUTER].into_iter().flat_map(|what| FAMILIES.map(|family| layer(what, family, variable))))
                .collect(),
            verticals: Vec::new(),
        };
        vec![Picture {
            file: Self::NAME.into(),
            title: "What a step on data cleaning takes".into(),
            caption: format!(
                "Softmax regression with {CLASSES} classes on a mixture of Gaussians; around n = {}, d = {}, batches of {}: medians of {} \
                 with a band from the least to the greatest. Absorb: score rows and the curvature that takes them, all of the batch for \
                 `window` (m = {}), {} of it for `nystrom` (ℓ = {}). An outer step has {} inner ones.",
                self.base_samples,
                self.base_width * CLASSES,
                self.base_batch,
                self.replicates,
                self.window,
                self.sketch_samples,
                self.sketch_size,
                self.inner_steps
            ),
            drawing: Drawing::Curves {
                y: Axis::log("time (s)"),
                panels: [Variable::Samples, Variable::Dim, Variable::Batch].map(panel).to_vec(),
            },
        }]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}
