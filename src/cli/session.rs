//! The world around an experiment that the command line runs: the terminal, the signals, and the folder where checkpoints are kept.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::interrupts::Interrupts;
use super::memory;
use super::terminal::{Terminal, quoted};
use crate::bilevel::Clock;
use crate::comparison;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::Checkpoint;
use crate::experiment::kept::{Kept as Work, MemoryMeter, World};
use crate::experiment::record::{CHECKPOINT, Record, Writer};
use crate::experiment::runner::Environment;
use crate::laboratory;
use crate::report;

pub(super) struct Session<'a> {
    terminal: Terminal,
    interrupts: &'a Interrupts,
    writer: Writer,
    /// From the end of a checkpoint to the next one, so that even slow ones leave time for work.
    interval: Duration,
    kept: Mutex<Kept>,
    meter: Option<&'static dyn MemoryMeter>,
    /// The most memory to take, where one was given.
    memory_limit: Option<u64>,
}

/// The last checkpoint.
#[derive(Clone, Copy, Default)]
struct Kept {
    at: Duration,
    work: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(writer: Writer, interrupts: &'a Interrupts, interval: Duration) -> Result<Self> {
        interrupts.watch()?;
        let (kept, meter, memory_limit) = (Mutex::default(), None, None);
        Ok(Self { terminal: Terminal::new()?, interrupts, writer, interval, kept, meter, memory_limit })
    }

    /// The same with memory that is counted, and with a limit of it.
    pub(super) fn with_memory(mut self, meter: Option<&'static dyn MemoryMeter>, memory_limit: Option<u64>) -> Self {
        (self.meter, self.memory_limit) = (meter, memory_limit);
        self
    }

    /// Whether this session kept a checkpoint that holds work.
    pub(super) fn kept_work(&self) -> bool {
        self.kept().work
    }

    fn kept(&self) -> Kept {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, checkpoint: &[u8], work: bool) -> Result<()> {
        self.writer.write(CHECKPOINT, checkpoint)?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept { at: self.terminal.now(), work };
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.terminal.now().saturating_sub(self.kept().at) >= self.interval
    }

    /// Writes a record and its report, and makes it complete.
    pub(super) fn complete(&self, record: Record) -> Result<Record> {
        record.write_tables(&self.writer)?;
        report::write(&record, &self.writer)?;
        self.writer.finish(&record.manifest)?;
        Ok(record)
    }

    /// The same for a laboratory's.
    pub(super) fn complete_laboratory(&self, record: laboratory::record::Record) -> Result<laboratory::record::Record> {
        record.write_tables(&self.writer)?;
        report::write_laboratory(&record, &self.writer)?;
        self.writer.finish(&record.manifest)?;
        Ok(record)
    }

    /// The same for a comparison's.
    pub(super) fn complete_comparison(&self, record: comparison::record::Record) -> Result<comparison::record::Record> {
        record.write_tables(&self.writer)?;
        report::write_comparison(&record, &self.writer)?;
        self.writer.finish(&record.manifest)?;
        Ok(record)
    }

    /// What becomes of an error that ended new work: the checkpoint stays where the work may be gone on with by this verb, and the error says
    /// how; anything else would fail again, and nothing is left.
    pub(super) fn ended(&self, error: Error, verb: &str, folder: &Path) -> Error {
        match error {
            // Where data or disk failed, what was done may be gone on with.
            Error::Io { .. } | Error::Data { .. } if self.kept_work() => with_way_on(error, verb, folder),
            Error::Interrupted { .. } => with_way_on(error, verb, folder),
            error => {
                self.writer.abandon();
                error
            }
        }
    }

    /// Seconds since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.terminal.now().as_secs_f64()
    }
}

/// The error, and how to go on from the checkpoint that is kept.
pub(super) fn with_way_on(error: Error, verb: &str, folder: &Path) -> Error {
    let way_on = format!("go on with: nhgd {verb} --resume {}", quoted(folder));
    match error {
        Error::Interrupted { standing } => Error::Interrupted { standing: format!("{standing}; {way_on}") },
        error => Error::data(folder, format_args!("{error}; {way_on}")),
    }
}

impl Drop for Session<'_> {
    /// Whatever line comes next finds the bar gone.
    fn drop(&mut self) {
        self.terminal.clear();
    }
}

impl Environment for Session<'_> {
    fn now(&self) -> Duration {
        self.terminal.now()
    }

    fn clock(&self) -> Option<Clock> {
        Some(self.terminal.clock())
    }

    fn progress(&mut self, done: u64, total: u64, what: &str) {
        self.terminal.progress(done, total, what);
    }

    fn interrupted(&self) -> bool {
        self.interrupts.received()
    }

    fn checkpoint_due(&self) -> bool {
        self.is_due()
    }

    fn keep(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.write(&checkpoint.to_bytes()?, checkpoint.holds_work())
    }
}

impl World for Session<'_> {
    fn now(&self) -> Duration {
        self.terminal.now()
    }

    fn progress(&self, done: u64, total: u64, what: &str) {
        self.terminal.progress(done, total, what);
    }

    fn interrupted(&self) -> bool {
        self.interrupts.received()
    }

    fn checkpoint_due(&self) -> bool {
        self.is_due()
    }

    fn meter(&self) -> Option<&dyn MemoryMeter> {
        self.meter
    }

    fn available_memory(&self) -> Option<u64> {
        self.memory_limit.or_else(memory::available)
    }

    fn keep(&self, checkpoint: &dyn Work) -> Result<()> {
        self.write(&checkpoint.to_bytes()?, checkpoint.holds_work())
    }
}
