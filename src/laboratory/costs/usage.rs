//! How an operation is measured: on how many threads, for how long, and with what in memory before.

use std::hint::black_box;
use std::time::Duration;

use crate::dense::{Matrix, matmul};
use crate::error::Result;
use crate::laboratory::memory::Watch;
use crate::laboratory::{Bench, Usage};
use crate::par;

/// An operation is repeated until it has taken so long: a short one alone would measure the clock.
const LEAST: Duration = Duration::from_millis(5);
/// And no more often than this.
const MOST: u32 = 100;

/// How many threads do the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// One.
    One,
    /// As many as the laboratory has.
    All,
}

impl Threads {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::One, Self::All];

    /// Its name in tables, which must not depend on the machine.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::All => "all",
        }
    }

    /// Does work on so many threads.
    pub(super) fn run<T: Send>(self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self {
            Self::One => par::with_threads(1, work)?,
            Self::All => work(),
        }
    }
}

/// A product on this thread and one on all: threads take memory of their own for their first one, which is no operation's. It also lets the
/// threads of an earlier pool end, who give theirs back when they do.
pub(super) fn warm_up() -> Result<()> {
    [64, 640].into_iter().try_for_each(|n| {
        let ones = Matrix::from_fn(n, n, |_, _| 1.0);
        matmul(&ones, &ones).map(|product| drop(black_box(product)))
    })
}

/// Time that is taken piece by piece, calls that are counted, and the peak of memory meanwhile.
pub(super) struct Meter<'a> {
    clock: &'a (dyn Fn() -> Duration + Sync),
    watch: Watch<'a>,
    passed: Duration,
    calls: u32,
}

impl<'a> Meter<'a> {
    /// A meter whose peak counts from `base` bytes in use.
    pub(super) fn new(bench: Bench<'a>, base: u64) -> Self {
        Self { clock: bench.clock, watch: bench.memory.watch(base), passed: Duration::ZERO, calls: 0 }
    }

    /// Does a part of a call.
    pub(super) fn part<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = (self.clock)();
        let outcome = work()?;
        self.passed += (self.clock)().saturating_sub(begun);
        Ok(outcome)
    }

    /// Ends a call; whether there were enough.
    pub(super) fn end_call(&mut self) -> bool {
        self.calls += 1;
        self.passed >= LEAST || self.calls >= MOST
    }

    /// What a call took.
    pub(super) fn usage(&self) -> Usage {
        Usage { seconds: self.passed.as_secs_f64() / f64::from(self.calls.max(1)), peak_bytes: self.watch.peak() }
    }
}

/// What a call of `work` takes, from as many as make a measurable time.
pub(super) fn repeated<T>(bench: Bench<'_>, base: u64, mut work: impl FnMut() -> Result<T>) -> Result<Usage> {
    let mut meter = Meter::new(bench, base);
    loop {
        drop(black_box(meter.part(&mut work)?));
        if meter.end_call() {
            return Ok(meter.usage());
        }
    }
}

/// What one call takes, and its outcome.
pub(super) fn once<T>(bench: Bench<'_>, base: u64, work: impl FnOnce() -> Result<T>) -> Result<(T, Usage)> {
    let mut meter = Meter::new(bench, base);
    let outcome = meter.part(work)?;
    meter.end_call();
    Ok((outcome, meter.usage()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::laboratory::memory::Memory;
    use crate::problem::DataSource;
    use crate::rng::Key;

    #[test]
    fn a_call_takes_the_mean_of_as_many_as_make_a_measurable_time() {
        // Each look at the clock is a millisecond later: a call takes one.
        let ticks = AtomicU64::new(0);
        let clock = || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed));
        let source = DataSource::default();
        let bench = Bench { key: Key::new(0), source: &source, clock: &clock, memory: Memory::unknown() };
        let mut calls = 0;
        let mut call = || {
            calls += 1;
            Ok(())
        };
        let usage = repeated(bench, 0, &mut call).unwrap();
        let frozen = || Duration::ZERO;
        let still = repeated(Bench { clock: &frozen, ..bench }, 0, &mut call).unwrap();
        assert!((usage.seconds - 1e-3).abs() < 1e-12 && usage.peak_bytes.is_none(), "{usage:?}");
        assert_eq!((calls, still.seconds), (5 + MOST, 0.0), "five make 5 ms; a clock that stands still ends it, too");
        assert_eq!(Threads::One.run(|| Ok(par::threads())).unwrap(), 1);
    }
}
