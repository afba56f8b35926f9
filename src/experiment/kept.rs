//! The file in which unfinished work is kept: a first line that says what it is, in which format and by which version of the crate; a
//! checksum; the rest. What is in it is known elsewhere. And what such work takes from the world around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{CHECKPOINT, MANIFEST};
use crate::curvature::checksum;
use crate::error::{Error, Result};

/// Unfinished work that can be kept.
pub trait Kept {
    /// The file's bytes.
    ///
    /// # Errors
    /// As [`Format::to_bytes`].
    fn to_bytes(&self) -> Result<Vec<u8>>;

    /// Whether it holds work that a fresh start would have to do again.
    fn holds_work(&self) -> bool;
}

/// Counts the bytes that are in use: an allocator knows.
pub trait MemoryMeter: Sync {
    /// Bytes in use.
    fn in_use(&self) -> u64;

    /// The most that were in use at once since [`forget_peak`](Self::forget_peak).
    fn peak(&self) -> u64;

    /// From here on the peak is what is in use now, and what comes.
    fn forget_peak(&self);
}

/// What work in pieces takes from the world around it.
pub trait World: Sync {
    /// The time since some moment.
    fn now(&self) -> Duration;

    /// `done` of `total` units of work are done; `what` is being worked on.
    fn progress(&self, _done: u64, _total: u64, _what: &str) {}

    /// Whether to stop as soon as may be.
    fn interrupted(&self) -> bool {
        false
    }

    /// Whether it is time for a checkpoint. Asked after every piece.
    fn checkpoint_due(&self) -> bool {
        false
    }

    /// What counts the memory in use, where something does.
    fn meter(&self) -> Option<&dyn MemoryMeter> {
        None
    }

    /// The bytes of memory that may be taken besides those in use, where that is known.
    fn available_memory(&self) -> Option<u64> {
        None
    }

    /// Keeps a checkpoint in the place of the one before: at the beginning, where it is due, and at an interruption.
    ///
    /// # Errors
    /// Whatever keeping it meets; it ends the work.
    fn keep(&self, _checkpoint: &dyn Kept) -> Result<()> {
        Ok(())
    }
}

/// What a kind of file is called, and the version of its layout.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The first word of the file.
    pub name: &'static str,
    /// The second.
    pub version: u32,
}

impl Format {
    /// The file's bytes.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    pub fn to_bytes<T: Serialize>(self, value: &T) -> Result<Vec<u8>> {
        let mut bytes = format!("{} {} {}\n", self.name, self.version, env!("CARGO_PKG_VERSION")).into_bytes();
        let sum = bytes.len()..bytes.len() + size_of::<u64>();
        bytes.resize(sum.end, 0);
        // Behind the header in one go: a large state is not copied once more.
        let bytes = postcard::to_extend(value, bytes);
        let mut bytes = bytes.map_err(|e| Error::Numerical { operation: "saving a checkpoint", reason: e.to_string() })?;
        let checksum = checksum(&bytes[sum.end..]);
        bytes[sum].copy_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `path` stands in messages.
    ///
    /// # Errors
    /// [`Error::Data`] for another format or version, and for damaged bytes.
    pub fn from_bytes<T: DeserializeOwned>(self, bytes: &[u8], path: &Path) -> Result<T> {
        let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        let rest = bytes.get(line.len() + 1..).unwrap_or_default();
        let words: Vec<&str> = std::str::from_utf8(line).unwrap_or_default().split(' ').collect();
        let [name, format, version] = words[..] else {
            return Err(Error::data(path, format_args!("not a checkpoint: its first line does not name format and version")));
        };
        if name != self.name {
            return Err(Error::data(path, format_args!("not a checkpoint of this kind: it is `{name}`, expected `{}`", self.name)));
        }
        let own = (self.version.to_string(), env!("CARGO_PKG_VERSION"));
        if (format, version) != (own.0.as_str(), own.1) {
            let found = format!("written by nhgd {version} in checkpoint format {format}");
            return Err(Error::data(
                path,
                format_args!("{found}; this is nhgd {}, which resumes format {} of its own", own.1, own.0),
            ));
        }
        let damaged = || Error::data(path, "damaged or cut short: the checksum differs");
        let (sum, body) = rest.split_first_chunk().ok_or_else(damaged)?;
        if u64::from_le_bytes(*sum) != checksum(body) {
            return Err(damaged());
        }
        postcard::from_bytes(body).map_err(|e| Error::data(path, e))
    }
}

/// The checkpoint file of an output folder, and its path.
///
/// # Errors
/// [`Error::Argument`] where the record is complete, [`Error::Data`] where there is no checkpoint, [`Error::Io`].
pub fn read_kept(folder: &Path) -> Result<(Vec<u8>, PathBuf)> {
    if folder.join(MANIFEST).exists() {
        let found = format!("{}, whose record is complete", folder.display());
        return Err(Error::argument("--resume", "the folder of an unfinished run", found));
    }
    let path = folder.join(CHECKPOINT);
    if !path.exists() {
        return Err(Error::data(folder, format_args!("nothing to resume here: it has no {CHECKPOINT}")));
    }
    Ok((fs::read(&path).map_err(|e| Error::io(&path, "reading", e))?, path))
}
