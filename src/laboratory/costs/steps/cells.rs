//! A cell of the sweeps: a problem of one size, on which a gradient, the curvature of each family and an outer step are measured; and the
//! operations that each of them counts.

use std::ops::Range;

use super::{ABSORB, CLASSES, Cell, FAMILIES, GRADIENT, NO_SETTING, OUTER, Steps};
use crate::bilevel::{CurvatureRows, MethodConfig, NhgdConfig, SampleCount, StepSize};
use crate::data::{corrupt_labels, gaussian_mixture};
use crate::dense::axpy;
use crate::error::{Error, Result};
use crate::laboratory::costs::machine::Sample;
use crate::laboratory::costs::model::{self, Operation, Shape};
use crate::laboratory::costs::usage::{Threads, repeated, warm_up};
use crate::laboratory::{Bench, Rows, Usage, rounded};
use crate::model::FisherKind;
use crate::problem::{DataCleaning, Problem};
use crate::rng::Key;
use crate::samples::{Batch, Targets};

impl Steps {
    /// Operations of a gradient on B samples: two products of B × p × C, forth and back.
    fn gradient_flops(cell: Cell) -> f64 {
        4.0 * (cell.batch * cell.dim()) as f64
    }

    /// Of the rows of a family and of absorbing them. The rows are factors: a product of their samples with θ, and what the family does.
    fn absorb_flops(&self, family: &str, cell: Cell) -> Result<f64> {
        let (config, rows) = self.config(family, cell);
        let shape = Shape { dim: cell.dim(), block_rows: rows, blocks: 1 };
        let absorbed = if family == "window" { 0.0 } else { model::cost(&config, shape, Operation::Absorb)?.flops };
        Ok(2.0 * (rows * cell.dim()) as f64 + absorbed)
    }

    /// Of an outer step: K inner ones, b on the validation set, F̂ and the solve, and Jᵀq over all samples.
    pub(super) fn outer_flops(&self, family: &str, cell: Cell) -> Result<f64> {
        let (config, rows) = self.config(family, cell);
        let (d, k) = (cell.dim() as f64, self.inner_steps as f64);
        let shape = Shape { dim: cell.dim(), block_rows: rows, blocks: 1 };
        let solve = if family == "window" {
            // The Gram matrix of factored rows is the product of two small ones.
            let m = self.window as f64;
            m * m * (cell.width + CLASSES) as f64 + m.powi(3) / 3.0 + 4.0 * m * d
        } else {
            model::cost(&config, shape, Operation::Approximate)?.flops + model::cost(&config, shape, Operation::Solve)?.flops
        };
        let passes = 4.0 * d * (self.validation + cell.samples) as f64;
        Ok(k * (Self::gradient_flops(cell) + self.absorb_flops(family, cell)?) + passes + solve)
    }

    /// n samples of a mixture, half of their labels drawn anew, and a validation set of the same law.
    fn problem(&self, cell: Cell, key: Key) -> Result<DataCleaning> {
        let (n, m) = (cell.samples, self.validation);
        let all = gaussian_mixture(n + m, cell.width, CLASSES, 2.0, key.named("samples"))?;
        let part = |range: Range<usize>| all.select(&range.collect::<Vec<_>>());
        let (mut train, validation) = (part(0..n)?, part(n..n + m)?);
        let truth = train.targets.clone();
        let corruption = corrupt_labels(truth.as_classes()?.0, CLASSES, 0.5, key.named("corruption"))?;
        train.targets = Targets::classes(corruption.labels, CLASSES)?;
        DataCleaning::new(train, truth, corruption.flipped, validation, None, 1e-3, 0.0)
    }

    pub(super) fn cell_rows(&self, cell: Cell, bench: Bench<'_>) -> Result<Rows> {
        let mut rows = Rows::default();
        let mut push = |what: &str, family: &str, replicate: usize, flops: f64, usage: Usage| {
            let setting = [cell.samples, cell.dim(), cell.batch].map(|number| number.to_string());
            let names = [what.to_owned(), family.to_owned()].into_iter();
            let rest = [Threads::All.name().to_owned(), replicate.to_string(), rounded(flops)];
            rows.push_used(names.chain(setting).chain(rest), usage);
        };
        let key = bench.key.child(cell.samples as u64).child(cell.width as u64).child(cell.batch as u64);
        let problem = self.problem(cell, key.named("problem"))?;
        let (v, mut theta) = problem.initial();
        warm_up()?;
        let base = bench.memory.in_use();
        let indices = |name: &str, call: u64, count: usize| key.named(name).child(call).stream().indices(cell.samples, count);
        // Another batch each time, drawn before: samples come from memory, as in a run.
        let batches = (0..64).map(|call| indices("batch", call, cell.batch)).collect::<Result<Vec<_>>>()?;
        let mut call = 0;
        let mut next = || {
            call += 1;
            Batch::Indices(&batches[call % batches.len()])
        };
        for replicate in 0..=self.replicates {
            let usage = repeated(bench, base, || {
                let gradient = problem.grad_inner(&v, &theta, next())?;
                axpy(-1e-3, &gradient, &mut theta);
                Ok(())
            })?;
            if let Some(replicate) = replicate.checked_sub(1) {
                push(GRADIENT, "", replicate, Self::gradient_flops(cell), usage);
            }
        }
        for family in FAMILIES {
            let (config, taken) = self.config(family, cell);
            let mut curvature = config.build(cell.dim(), key.named("curvature"))?;
            for replicate in 0..=self.replicates {
                let usage = repeated(bench, base, || {
                    let Batch::Indices(batch) = next() else { return Ok(()) };
                    let batch = Batch::Indices(&batch[..taken]);
                    curvature.absorb(&problem.scores(&v, &theta, batch, FisherKind::Sampled, key.named("labels"))?)
                })?;
                if let Some(replicate) = replicate.checked_sub(1) {
                    push(ABSORB, family, replicate, self.absorb_flops(family, cell)?, usage);
                }
            }
            drop(curvature);
            let method = NhgdConfig {
                inner_steps: self.inner_steps,
                batch_size: SampleCount::Drawn(cell.batch),
                inner_step_size: StepSize::constant(1e-2),
                outer_step_size: StepSize::constant(1e-3),
                curvature_rows: CurvatureRows::Trajectory,
                curvature_samples: Some(SampleCount::Drawn(taken)),
                curvature: config,
                ..NhgdConfig::default()
            };
            let method = MethodConfig::Nhgd(method).build()?;
            let mut state = method.init(&problem, key.named("init"))?;
            for replicate in 0..=self.replicates {
                let usage = repeated(bench, base, || {
                    let step_key = key.named("step").child(state.step);
                    let status = method.step(&problem, &mut state, step_key, &mut ())?;
                    state.step += 1;
                    if status.is_converged() {
                        Ok(())
                    } else {
                        Err(Error::Numerical { operation: OUTER, reason: status.to_string() })
                    }
                })?;
                if let Some(replicate) = replicate.checked_sub(1) {
                    push(OUTER, family, replicate, self.outer_flops(family, cell)?, usage);
                }
            }
        }
        Ok(rows)
    }

    /// The roofs beside.
    pub(super) fn roof_rows(&self, bench: Bench<'_>) -> Result<Rows> {
        let mut rows = Rows::default();
        for Sample { roof, threads, replicate, flops, usage, .. } in self.machine().roofs(bench)? {
            let setting = [roof.name(), "", NO_SETTING, NO_SETTING, NO_SETTING, threads.name()].map(str::to_owned);
            rows.push_used(setting.into_iter().chain([replicate.to_string(), rounded(flops)]), usage);
        }
        Ok(rows)
    }
}
