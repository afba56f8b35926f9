//! Files that appear whole or not at all: written under a temporary name in the folder where they will stand, synced, then renamed. What is
//! in them is known elsewhere.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// What becomes of a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused.
    Keep,
    /// It is replaced.
    Replace,
}

/// A file without its name yet. Dropping it leaves nothing.
#[derive(Debug)]
pub struct Pending {
    file: NamedTempFile,
    path: PathBuf,
    existing: Existing,
}

impl Pending {
    /// Opens a temporary file beside `path`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path, existing: Existing) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".").suffix(PARTIAL).tempfile_in(folder);
        Ok(Self { file: file.map_err(|e| Error::io(path, "writing", e))?, path: path.to_owned(), existing })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`]; what had the name is untouched then, and the temporary file gone.
    pub fn commit(self) -> Result<()> {
        let Self { file, path, existing } = self;
        let failed = |e: io::Error| Error::io(&path, "writing", e);
        file.as_file().sync_all().map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Temporary files are private; a result is an ordinary file.
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
        }
        match existing {
            Existing::Keep => file.persist_noclobber(&path),
            Existing::Replace => file.persist(&path),
        }
        .map_err(|e| failed(e.error))?;
        Ok(())
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

impl Seek for Pending {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.file.as_file_mut().seek(place)
    }
}

/// How the names of temporary files end.
const PARTIAL: &str = ".partial";

/// Whether a file of this name is what a killed process left of a write.
pub fn is_partial(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(PARTIAL))
}

/// Writes a whole file, in the place of any that has the name.
///
/// # Errors
/// [`Error::Io`]; the target is untouched then and the temporary file gone.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Pending::create(path, Existing::Replace)?;
    file.write_all(bytes).map_err(|e| Error::io(path, "writing", e))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_neither_target_nor_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        fs::create_dir(&target).unwrap();
        assert!(write_atomically(&target, b"x").is_err(), "a folder stands where the file should go");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomically(&dir.path().join("missing/file"), b"x").is_err());
    }

    #[test]
    fn an_existing_file_is_kept_or_replaced_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        for (existing, bytes, after) in
            [(Existing::Keep, b"one", b"one"), (Existing::Keep, b"two", b"one"), (Existing::Replace, b"six", b"six")]
        {
            let mut file = Pending::create(&target, existing).unwrap();
            file.write_all(bytes).unwrap();
            assert_eq!(file.commit().is_ok(), bytes == after);
            assert_eq!(fs::read(&target).unwrap(), after);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        drop(Pending::create(&target, Existing::Replace).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "dropping it leaves nothing");
    }
}
