//! Runs a laboratory: the pieces of each experiment, several at once, in any order; then its measurements and verdicts. Pieces are
//! pure functions of their number, so that the record has the same bytes at any number of threads and after any interruption, seconds
//! apart. Time, progress, interruption and where checkpoints are kept come in from outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::checkpoint::{Checkpoint, Done};
use super::memory::Memory;
use super::plan::{Chosen, Plan};
use super::record::{Manifest, Record, Report, push_timing, push_verdict, timing_table, verdict_table, with_usage};
use super::{Bench, Concurrency, Size, Usage};
use crate::error::{Error, Result, check_len};
use crate::experiment::kept::World;
use crate::experiment::record::Table;
use crate::par;
use crate::problem::DataSource;
use crate::rng::Key;

/// Does all that a plan says.
///
/// # Errors
/// [`Error::Argument`] for settings outside their domain, [`Error::Interrupted`] when asked to stop, after a last checkpoint, and
/// whatever the experiments meet.
pub fn run(plan: &Plan, size: Size, source: &DataSource, machine: BTreeMap<String, String>, world: &dyn World) -> Result<Record> {
    plan.validate()?;
    let checkpoint = Checkpoint::new(plan, size, source)?;
    world.keep(&checkpoint)?;
    go_on(plan, checkpoint, source, machine, world)
}

/// Goes on from a checkpoint, to the same tables as if the laboratory had never stopped (timings apart).
///
/// # Errors
/// As [`run`].
pub fn resume(
    mut checkpoint: Checkpoint,
    source: &DataSource,
    machine: BTreeMap<String, String>,
    world: &dyn World,
) -> Result<Record> {
    let plan = checkpoint.plan()?;
    plan.validate()?;
    checkpoint.data_folder = folder_of(source);
    go_on(&plan, checkpoint, source, machine, world)
}

/// The folder as text; none where it has no name in Unicode, and must be given anew.
pub(super) fn folder_of(source: &DataSource) -> Option<String> {
    source.folder.as_deref().and_then(Path::to_str).map(str::to_owned)
}

fn go_on(
    plan: &Plan,
    checkpoint: Checkpoint,
    source: &DataSource,
    machine: BTreeMap<String, String>,
    world: &dyn World,
) -> Result<Record> {
    let clock = || world.now();
    let work = |chosen: &Chosen, piece| chosen.experiment.work(piece);
    let all = |chosen: &Chosen| (0..chosen.experiment.pieces()).map(|piece| work(chosen, piece)).sum::<u64>();
    let finished = |(chosen, pieces): (&Chosen, &Vec<Option<Done>>)| {
        (0..).zip(pieces).filter(|(_, done)| done.is_some()).map(|(piece, _)| work(chosen, piece)).sum::<u64>()
    };
    let laboratory = Laboratory {
        world,
        total: plan.chosen.iter().map(all).sum(),
        standing: Mutex::new(Standing {
            done: plan.chosen.iter().zip(&checkpoint.pieces).map(finished).sum(),
            checkpoint,
            failure: None,
        }),
    };
    let memory = Memory::of(world);
    let bench = |chosen: &Chosen| Bench { key: Key::new(plan.seed).named(chosen.entry.name), source, clock: &clock, memory };
    for (index, chosen) in plan.chosen.iter().enumerate() {
        laboratory.work(index, chosen, bench(chosen))?;
    }
    let Standing { checkpoint, .. } = laboratory.standing.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut record = Record {
        manifest: Manifest::new(checkpoint.suite, checkpoint.configuration, checkpoint.size, machine),
        tables: BTreeMap::new(),
        verdicts: verdict_table(),
        timings: timing_table(),
    };
    for (chosen, pieces) in plan.chosen.iter().zip(checkpoint.pieces) {
        conclude(&mut record, chosen, bench(chosen), pieces.into_iter().flatten().collect())?;
    }
    Ok(record)
}

/// A laboratory under way.
struct Laboratory<'a> {
    world: &'a dyn World,
    total: u64,
    standing: Mutex<Standing>,
}

/// What is done, as a checkpoint that is always ready to be kept.
struct Standing {
    checkpoint: Checkpoint,
    done: u64,
    failure: Option<Error>,
}

impl Laboratory<'_> {
    /// Does the pieces of an experiment that are not done yet.
    fn work(&self, index: usize, chosen: &Chosen, bench: Bench<'_>) -> Result<()> {
        let missing: Vec<usize> = self.with(|standing| {
            self.world.progress(standing.done, self.total, chosen.entry.name);
            (0..).zip(&standing.checkpoint.pieces[index]).filter(|(_, done)| done.is_none()).map(|(piece, _)| piece).collect()
        });
        if missing.is_empty() {
            return Ok(());
        }
        let pieces = chosen.experiment.set_up(bench)?;
        let one = |piece: usize| {
            if self.world.interrupted() || self.with(|standing| standing.failure.is_some()) {
                return;
            }
            let begun = self.world.now();
            let outcome = pieces(piece).map(|rows| Done { rows, seconds: (self.world.now() - begun).as_secs_f64() });
            self.with(|standing| {
                let noted = outcome.and_then(|done| self.note(standing, (index, piece), done, chosen));
                standing.failure = standing.failure.take().or(noted.err());
            });
        };
        match chosen.experiment.concurrency() {
            Concurrency::Parallel => drop(par::map(missing, one)),
            Concurrency::Alone => missing.into_iter().for_each(one),
        }
        self.with(|standing| match standing.failure.take() {
            Some(failure) => Err(failure),
            // What came after the last piece does not matter.
            None if standing.checkpoint.pieces[index].iter().all(Option::is_some) => Ok(()),
            None => {
                self.world.keep(&standing.checkpoint)?;
                let percent = 100 * standing.done / self.total.max(1);
                Err(Error::Interrupted { standing: format!("at {percent} %, in {}", chosen.entry.name) })
            }
        })
    }

    /// Enters a piece that is done.
    fn note(&self, standing: &mut Standing, (index, piece): (usize, usize), done: Done, chosen: &Chosen) -> Result<()> {
        let width = chosen.experiment.columns().len();
        done.rows.cells().iter().try_for_each(|row| check_len("row of a piece", row.len(), width))?;
        standing.checkpoint.pieces[index][piece] = Some(done);
        standing.done += chosen.experiment.work(piece);
        self.world.progress(standing.done, self.total, chosen.entry.name);
        if self.world.checkpoint_due() { self.world.keep(&standing.checkpoint) } else { Ok(()) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Standing) -> T) -> T {
        // A panic in another piece ends everything anyway.
        f(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Measures, judges and enters an experiment whose pieces are all done.
fn conclude(record: &mut Record, chosen: &Chosen, bench: Bench<'_>, pieces: Vec<Done>) -> Result<()> {
    let (name, experiment) = (chosen.entry.name, chosen.experiment.as_ref());
    let mut table = Table::new(experiment.columns().iter().copied());
    for (piece, Done { rows, seconds }) in pieces.iter().enumerate() {
        push_timing(&mut record.timings, name, piece, None, Usage { seconds: *seconds, peak_bytes: None })?;
        for (row, usage) in rows.usages() {
            push_timing(&mut record.timings, name, piece, Some(table.len() + row), *usage)?;
        }
        rows.cells().iter().try_for_each(|row| table.push(row))?;
    }
    let findings = experiment.measure(bench, with_usage(&table, name, &record.timings)?.as_ref())?;
    let claims = experiment.claims();
    check_len("measurements", findings.measured.len(), claims.len())?;
    for (claim, measured) in claims.iter().zip(findings.measured) {
        push_verdict(&mut record.verdicts, claim, &claim.judge(measured))?;
    }
    let mut stems = Vec::new();
    for (stem, table) in std::iter::once((name.to_owned(), table)).chain(findings.tables) {
        stems.push(stem.clone());
        record.tables.insert(stem, table);
    }
    let pictures = experiment.pictures();
    let shown = experiment.shown().iter().map(|stem| (*stem).to_owned()).collect();
    let about = chosen.entry.about.into();
    record.manifest.experiments.push(Report { name: name.into(), about, tables: stems, shown, pictures });
    Ok(())
}
