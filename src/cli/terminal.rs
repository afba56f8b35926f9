//! The terminal, the clock and the machine: progress with the time left, results as text or JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_table::presets::ASCII_MARKDOWN;
use indicatif::{ProgressBar, ProgressStyle};

use crate::bilevel::Clock;
use crate::error::{Error, Result};
use crate::experiment::record::Table;

/// A progress bar on stderr (nothing where stderr is not a terminal), and the clock.
pub(super) struct Terminal {
    bar: ProgressBar,
    begun: Instant,
}

impl Terminal {
    pub(super) fn new() -> Result<Self> {
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {eta} left  {msg}")
            .map_err(|e| Error::Numerical { operation: "progress bar", reason: e.to_string() })?;
        Ok(Self { bar: ProgressBar::new(0).with_style(style), begun: Instant::now() })
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// The time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The same as a clock that any thread can read.
    pub(super) fn clock(&self) -> Clock {
        let begun = self.begun;
        Arc::new(move || begun.elapsed())
    }

    /// Moves the bar.
    pub(super) fn progress(&self, done: u64, total: u64, what: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(what.to_owned());
    }
}

/// An error as one line on stderr.
pub(super) fn complain(error: &Error) {
    let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    // Where even stderr is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "nhgd: {line}");
}

/// A line on stdout. A reader that has gone away (`| head`) is not an error.
pub(super) fn say(line: impl std::fmt::Display) -> Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "writing", e)),
        _ => Ok(()),
    }
}

/// A value as one JSON object on stdout.
pub(super) fn say_json(value: &serde_json::Value) -> Result<()> {
    say(value)
}

/// A table on stdout.
pub(super) fn say_table(table: &Table) -> Result<()> {
    let mut text = comfy_table::Table::new();
    text.load_style(ASCII_MARKDOWN).set_header(table.columns()).add_rows(table.rows());
    say(text)
}

/// A path as it can be pasted into a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What the record says about the machine.
pub(super) fn machine() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |n| n.to_string());
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let mut machine = BTreeMap::from([
        ("operating system".to_owned(), std::env::consts::OS.to_owned()),
        ("architecture".to_owned(), std::env::consts::ARCH.to_owned()),
        ("cores".to_owned(), cores),
    ]);
    machine.extend(processor.map(|name| ("processor".to_owned(), name)));
    machine
}
