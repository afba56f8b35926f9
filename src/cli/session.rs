//! The world around an experiment that the command line runs: the terminal, the signals, and the folder where checkpoints are kept.

use std::time::Duration;

use super::interrupts::Interrupts;
use super::terminal::Terminal;
use crate::error::Result;
use crate::experiment::checkpoint::Checkpoint;
use crate::experiment::record::{CHECKPOINT, Record, Writer};
use crate::experiment::runner::Environment;
use crate::report;

pub(super) struct Session<'a> {
    terminal: Terminal,
    interrupts: &'a Interrupts,
    writer: Writer,
    /// From the end of a checkpoint to the next one, so that even slow ones leave time for work.
    interval: Duration,
    kept_at: Duration,
    kept_work: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(writer: Writer, interrupts: &'a Interrupts, interval: Duration) -> Result<Self> {
        interrupts.watch()?;
        Ok(Self { terminal: Terminal::new()?, interrupts, writer, interval, kept_at: Duration::ZERO, kept_work: false })
    }

    /// Whether this session kept a checkpoint that holds work.
    pub(super) fn kept_work(&self) -> bool {
        self.kept_work
    }

    /// Writes a record and its report, and makes it complete.
    pub(super) fn complete(&self, record: Record) -> Result<Record> {
        record.write_tables(&self.writer)?;
        report::write(&record, &self.writer)?;
        self.writer.finish(&record.manifest)?;
        Ok(record)
    }

    /// Removes the folder with all that is in it.
    pub(super) fn abandon(&self) {
        self.writer.abandon();
    }

    /// Seconds since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.terminal.now().as_secs_f64()
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

    fn progress(&mut self, done: u64, total: u64, what: &str) {
        self.terminal.progress(done, total, what);
    }

    fn interrupted(&self) -> bool {
        self.interrupts.received()
    }

    fn checkpoint_due(&self) -> bool {
        self.now().saturating_sub(self.kept_at) >= self.interval
    }

    fn keep(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.writer.write(CHECKPOINT, &checkpoint.to_bytes()?)?;
        (self.kept_at, self.kept_work) = (self.now(), checkpoint.holds_work());
        Ok(())
    }
}
