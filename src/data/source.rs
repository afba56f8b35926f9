//! The bytes of a data file, unpacked where it is gzip (RFC 1952). What the bytes mean is the readers' affair.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BZIP2_MAGIC: [u8; 3] = *b"BZh";

/// A file's bytes, unpacked where they are packed.
pub(super) struct Source<'a> {
    path: &'a Path,
    packing: Packing,
    reader: Box<dyn BufRead>,
}

#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
}

impl<'a> Source<'a> {
    /// Opens a file. Its first bytes, not its name, say whether it is packed: browsers unpack files and keep their names.
    pub(super) fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "opening", e))?;
        let mut file = BufReader::new(file);
        let start = file.fill_buf().map_err(|e| Error::io(path, "reading", e))?;
        if start.starts_with(&BZIP2_MAGIC) {
            return Err(Error::data(path, "packed with bzip2: unpack it first (`bunzip2 FILE`); plain files and gzip are read"));
        }
        Ok(if start.starts_with(&GZIP_MAGIC) {
            let reader = Box::new(BufReader::new(MultiGzDecoder::new(file)));
            Self { path, packing: Packing::Gzip, reader }
        } else {
            Self { path, packing: Packing::Plain, reader: Box::new(file) }
        })
    }

    /// The next bytes: `limit` of them, or fewer where the file ends.
    pub(super) fn read(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let outcome = (&mut self.reader).take(limit).read_to_end(&mut bytes);
        outcome.map_err(|e| self.failed(e))?;
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Replaces `line` by the next line, its end included.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>) -> Result<Line> {
        line.clear();
        let count = self.reader.read_until(b'\n', line).map_err(|e| self.failed(e))?;
        Ok(if count == 0 { Line::End } else { Line::Read })
    }

    /// Reads to the end, where gzip keeps its check sum, and counts the bytes.
    pub(super) fn skip_rest(mut self) -> Result<u64> {
        io::copy(&mut self.reader, &mut io::sink()).map_err(|e| self.failed(e))
    }

    fn failed(&self, e: io::Error) -> Error {
        match (self.packing, e.kind()) {
            (Packing::Gzip, ErrorKind::UnexpectedEof) => {
                Error::data(self.path, "truncated gzip: the file ends before its contents do; fetch it again")
            }
            (Packing::Gzip, ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                Error::data(self.path, format_args!("corrupt gzip ({e}); fetch it again"))
            }
            _ => Error::io(self.path, "reading", e),
        }
    }
}

/// What became of reading a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// There was one.
    Read,
    /// The file has ended.
    End,
}
