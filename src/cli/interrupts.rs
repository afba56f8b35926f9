//! Ctrl-C and SIGTERM. The first one is noted, so that a run saves and stops in its own time; a second one ends the process at once.
//! The only file that names `signal_hook`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// What a process exits with that a signal stopped: this and the signal's number, as shells have it.
const BY_SIGNAL: u8 = 128;

/// Whether the process was asked to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupts {
    /// The number of the signal, 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Interrupts {
    /// From now on signals are noted instead of ending the process.
    pub(super) fn watch(&self) -> Result<()> {
        let noted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds nothing noted yet and passes, the second one does not.
            flag::register_conditional_default(signal, Arc::clone(&noted))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&self.signal), signal as usize))
                .and_then(|_| flag::register(signal, Arc::clone(&noted)))
                .map_err(|e| Error::Numerical { operation: "watching for signals", reason: e.to_string() })?;
        }
        Ok(())
    }

    pub(super) fn received(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// 130 after Ctrl-C, 143 after SIGTERM.
    pub(super) fn exit_code(&self) -> ExitCode {
        let signal = u8::try_from(self.signal.load(Ordering::Relaxed)).unwrap_or(SIGINT as u8);
        ExitCode::from(BY_SIGNAL.saturating_add(signal))
    }
}
