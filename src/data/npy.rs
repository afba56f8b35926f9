//! NumPy's `.npy` files, read row by row and written (NumPy Enhancement Proposal 1): the magic `\x93NUMPY`, two version bytes, the header's
//! length, a header that is a Python dictionary of three known keys, then the numbers. A file may be larger than memory: only the rows
//! asked for are in it. What is written appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::dense::Matrix;
use crate::error::{Error, Result, check_len};
use crate::file::{Existing, Pending};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself refuses headers of more than 10,000 characters.
const MOST_HEADER_BYTES: usize = 1 << 16;
/// Bytes converted at a time.
const CHUNK: usize = 1 << 20;

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Float {
    Single,
    Double,
}

impl Float {
    fn bytes(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Double => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Single => "float32",
            Self::Double => "float64",
        }
    }

    fn convert(self, bytes: &[u8], numbers: &mut Vec<f64>) {
        match self {
            Self::Single => numbers.extend(bytes.as_chunks().0.iter().map(|&word| f64::from(f32::from_le_bytes(word)))),
            Self::Double => numbers.extend(bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word))),
        }
    }
}

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    float: Float,
    shape: Vec<u64>,
}

/// A file that is read row by row.
#[derive(Debug)]
pub struct NpyRows {
    path: PathBuf,
    source: Source,
    float: Float,
    shape: Vec<usize>,
    rows: usize,
    columns: usize,
    done: usize,
    /// What a number of a one-dimensional file is called.
    noun: &'static str,
}

/// A regular file is closed while nobody reads it: there may be thousands. A pipe cannot be.
#[derive(Debug)]
enum Source {
    Open(File),
    Closed { body: u64 },
}

impl NpyRows {
    /// Opens a file of vectors, n × d, one a row. Its header and its length are checked.
    ///
    /// # Errors
    /// [`Error::Data`] for another dtype or order, another number of dimensions, no rows or columns, or a length other than the header
    /// says; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::shaped(path, |shape| match *shape {
            [rows, columns] => Ok((rows, columns)),
            [n] => Err(format!(
                "one-dimensional, of length {n}; expected n × d, a gradient a row: `.reshape(1, -1)` makes one row of it"
            )),
            _ => Err(format!("{} dimensions; expected 2, n × d", shape.len())),
        })
    }

    /// As [`open`](Self::open); a one-dimensional file is a single vector.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_vectors(path: &Path) -> Result<Self> {
        Self::shaped(path, |shape| match *shape {
            [columns] => Ok((1, columns)),
            [rows, columns] => Ok((rows, columns)),
            _ => Err(format!("{} dimensions; expected 1 (a vector) or 2 (vectors as rows)", shape.len())),
        })
    }

    /// Opens a one-dimensional file, whose numbers are rows of one column; messages call one of them by the `noun`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_numbers(path: &Path, noun: &'static str) -> Result<Self> {
        let rows = Self::shaped(path, |shape| match *shape {
            [n] => Ok((n, 1)),
            _ => Err(format!("{} dimensions; expected 1", shape.len())),
        })?;
        Ok(Self { noun, ..rows })
    }

    fn shaped(path: &Path, interpret: impl Fn(&[u64]) -> std::result::Result<(u64, u64), String>) -> Result<Self> {
        let bad = |message: String| Error::data(path, message);
        let mut file = File::open(path).map_err(|e| Error::io(path, "opening", e))?;
        let Header { float, shape } = read_header(&mut file, path)?;
        let (rows, columns) = interpret(&shape).map_err(bad)?;
        let written = shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        if rows == 0 || columns == 0 {
            return Err(bad(format!("empty: the header says {written}")));
        }
        let size =
            |n: u64| usize::try_from(n).map_err(|_| bad(format!("the header says {written}: more than this machine can count")));
        let (rows, columns) = (size(rows)?, size(columns)?);
        let shape = shape.into_iter().map(size).collect::<Result<_>>()?;
        let expected = rows as u128 * columns as u128 * float.bytes() as u128;
        let metadata = file.metadata().map_err(|e| Error::io(path, "reading", e))?;
        let source = if metadata.is_file() {
            let body = file.stream_position().map_err(|e| Error::io(path, "reading", e))?;
            let found = u128::from(metadata.len().saturating_sub(body));
            if found != expected {
                let what = if found < expected { "truncated" } else { "longer than its header says" };
                let name = float.name();
                return Err(bad(format!(
                    "{what}: expected {expected} bytes after the header ({written} of {name}), found {found}"
                )));
            }
            Source::Closed { body }
        } else {
            Source::Open(file)
        };
        Ok(Self { path: path.to_owned(), source, float, shape, rows, columns, done: 0, noun: "entry" })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As the header says: one or two numbers.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// d.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows handed out so far.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The next rows, `most` of them or as many as are left, as the columns of a d × rows matrix; none at the end.
    ///
    /// # Errors
    /// [`Error::Data`] for a number that is not finite, with its row and column, or a file that ends too soon or too late;
    /// [`Error::Io`].
    pub fn next_rows(&mut self, most: usize) -> Result<Option<Matrix>> {
        let count = most.max(1).min(self.rows - self.done);
        if count == 0 {
            return Ok(None);
        }
        let failed = |e: io::Error| Error::io(&self.path, "reading", e);
        if let Source::Closed { body } = self.source {
            let mut file = File::open(&self.path).map_err(|e| Error::io(&self.path, "opening", e))?;
            file.seek(SeekFrom::Start(body)).map_err(failed)?;
            self.source = Source::Open(file);
        }
        let Source::Open(file) = &mut self.source else { return Ok(None) };
        let wanted = count.checked_mul(self.columns);
        let wanted =
            wanted.ok_or_else(|| Error::data(&self.path, format_args!("a row of {} numbers is too long", self.columns)))?;
        let mut numbers = Vec::new();
        // A header is believed as far as there is memory for it.
        if numbers.try_reserve_exact(wanted).is_err() {
            return Err(Error::data(&self.path, format_args!("no memory for {count} rows of {} numbers", self.columns)));
        }
        let mut chunk = vec![0_u8; CHUNK.min(wanted.saturating_mul(self.float.bytes()))];
        while numbers.len() < wanted {
            let bytes = ((wanted - numbers.len()) * self.float.bytes()).min(chunk.len());
            file.read_exact(&mut chunk[..bytes]).map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => {
                    let row = self.done + numbers.len() / self.columns;
                    Error::data(&self.path, format_args!("truncated in row {row}; the header says {} rows", self.rows))
                }
                _ => failed(e),
            })?;
            self.float.convert(&chunk[..bytes], &mut numbers);
        }
        if let Some(place) = numbers.iter().position(|x| !x.is_finite()) {
            let (row, column) = (self.done + place / self.columns, place % self.columns);
            let which = match self.shape[..] {
                [_] => format!("{} {}", self.noun, row.max(column)),
                _ => format!("row {row}, column {column}"),
            };
            return Err(Error::data(
                &self.path,
                format_args!("{which} (from 0) is {}; every number must be finite", numbers[place]),
            ));
        }
        self.done += count;
        if self.done == self.rows {
            let mut one = [0_u8];
            if file.read(&mut one).map_err(failed)? > 0 {
                return Err(Error::data(&self.path, format_args!("longer than the {} rows that its header says", self.rows)));
            }
            self.source = Source::Closed { body: 0 };
        }
        Matrix::from_columns(self.columns, count, numbers).map(Some)
    }
}

fn read_header(file: &mut File, path: &Path) -> Result<Header> {
    let mut take = |bytes: &mut [u8]| {
        file.read_exact(bytes).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => Error::data(path, "no NumPy file, or truncated: it ends within its header"),
            _ => Error::io(path, "reading", e),
        })
    };
    let mut start = [0_u8; 8];
    take(&mut start)?;
    if !start.starts_with(MAGIC) {
        return Err(Error::data(path, "no NumPy file: expected one array as `numpy.save` writes it (.npy)"));
    }
    let length = match start[6] {
        1 => {
            let mut bytes = [0_u8; 2];
            take(&mut bytes)?;
            usize::from(u16::from_le_bytes(bytes))
        }
        2 | 3 => {
            let mut bytes = [0_u8; 4];
            take(&mut bytes)?;
            u32::from_le_bytes(bytes) as usize
        }
        version => return Err(Error::data(path, format_args!("NumPy format {version}; expected 1, 2 or 3"))),
    };
    if length > MOST_HEADER_BYTES {
        return Err(Error::data(path, format_args!("a header of {length} bytes; expected at most {MOST_HEADER_BYTES}")));
    }
    let mut bytes = vec![0_u8; length];
    take(&mut bytes)?;
    parse_header(&String::from_utf8_lossy(&bytes)).map_err(|message| Error::data(path, message))
}

/// Reads `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`, its keys in any order.
fn parse_header(text: &str) -> std::result::Result<Header, String> {
    let text = text.replace('"', "'");
    let strange = || format!("its header is not NumPy's: `{}`", text.trim());
    let value = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'")).ok_or_else(strange)?;
        rest.trim_start().strip_prefix(':').map(str::trim_start).ok_or_else(strange)
    };
    let descr = value("descr")?;
    let dtype = match descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) {
        Some((dtype, _)) => dtype,
        // A list of named fields.
        None if descr.starts_with('[') => "structured",
        None => return Err(strange()),
    };
    let float = match dtype {
        "<f4" => Float::Single,
        "<f8" => Float::Double,
        _ => {
            return Err(format!("dtype `{dtype}`; expected float32 or float64, little-endian: `.astype(\"<f8\")` makes it so"));
        }
    };
    let order = value("fortran_order")?;
    if order.starts_with("True") {
        return Err("Fortran order; expected C order: `numpy.ascontiguousarray` makes it so".to_owned());
    }
    let (shape, _) = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(strange)?;
    // Python 2 wrote long integers as 3L.
    let sizes = shape.split(',').map(|size| size.trim().trim_end_matches('L')).filter(|size| !size.is_empty());
    let shape = sizes.map(str::parse).collect::<std::result::Result<_, _>>().map_err(|_| strange())?;
    if order.starts_with("False") { Ok(Header { float, shape }) } else { Err(strange()) }
}

/// A file of float64 that is written piece by piece.
pub struct NpyWriter {
    out: BufWriter<Pending>,
    left: usize,
}

impl NpyWriter {
    /// Begins a file of this shape.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path, shape: &[usize], existing: Existing) -> Result<Self> {
        let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
        // A tuple of one has a comma.
        let tuple = if let [size] = &sizes[..] { format!("({size},)") } else { format!("({})", sizes.join(", ")) };
        let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {tuple}, }}");
        // The numbers begin at a multiple of 64; a newline ends the header.
        let length = (MAGIC.len() + 4 + text.len() + 1).next_multiple_of(64) - MAGIC.len() - 4;
        let written = u16::try_from(length).map_err(|_| Error::argument("shape", "a few dimensions", shape.len()))?;
        let mut out = Self { out: BufWriter::new(Pending::create(path, existing)?), left: shape.iter().product() };
        let header =
            [MAGIC, &[1, 0][..], &written.to_le_bytes(), format!("{text:<width$}\n", width = length - 1).as_bytes()].concat();
        out.write(&header)?;
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::io(self.out.get_ref().path(), "writing", e))
    }

    /// Writes the next numbers.
    ///
    /// # Errors
    /// [`Error::Shape`] for more numbers than the shape has, [`Error::Io`].
    pub fn push(&mut self, numbers: &[f64]) -> Result<()> {
        self.left = match self.left.checked_sub(numbers.len()) {
            Some(left) => left,
            None => return Err(Error::shape("numbers", format_args!("at most {} more", self.left), numbers.len())),
        };
        numbers.iter().try_for_each(|x| self.write(&x.to_le_bytes()))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::Shape`] if numbers are missing, [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        check_len("numbers left", self.left, 0)?;
        let path = self.out.get_ref().path().to_owned();
        self.out.into_inner().map_err(|e| Error::io(path, "writing", e.into_error()))?.commit()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// `numpy.save` of [[1.5, −2], [0.25, 3], [1e-300, 7]] and of [[1.5, −2]] in float32, byte for byte.
    const DOUBLES: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }                                                          \n\x00\x00\x00\x00\x00\x00\xf8?\x00\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\xd0?\x00\x00\x00\x00\x00\x00\x08@Y\xf3\xf8\xc2\x1fn\xa5\x01\x00\x00\x00\x00\x00\x00\x1c@";
    const SINGLES: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }                                                          \n\x00\x00\xc0?\x00\x00\x00\xc0";
    const NUMBERS: [f64; 6] = [1.5, -2.0, 0.25, 3.0, 1e-300, 7.0];

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.npy");
        fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn with_header(text: &str, body: &[u8]) -> Vec<u8> {
        let length = (text.len() as u16 + 1).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), b"\n", body].concat()
    }

    /// All rows, read `most` at a time.
    fn read_all(path: &Path, most: usize) -> Result<Vec<f64>> {
        let mut rows = NpyRows::open_vectors(path)?;
        let mut all = Vec::new();
        while let Some(block) = rows.next_rows(most)? {
            all.extend(block.into_vec());
        }
        Ok(all)
    }

    #[test]
    fn what_numpy_wrote_is_read_in_any_blocks() {
        for most in [1, 2, 3, 100] {
            let (_dir, path) = file(DOUBLES);
            assert_eq!(read_all(&path, most).unwrap(), NUMBERS);
            let (_dir, path) = file(SINGLES);
            assert_eq!(read_all(&path, most).unwrap(), NUMBERS[..2]);
        }
        let (_dir, path) = file(DOUBLES);
        let mut rows = NpyRows::open(&path).unwrap();
        assert_eq!((rows.rows(), rows.columns(), rows.done()), (3, 2, 0));
        let block = rows.next_rows(2).unwrap().unwrap();
        assert_eq!((block.nrows(), block.ncols(), block.col(1)), (2, 2, &NUMBERS[2..4]));
        assert_eq!(rows.done(), 2);
    }

    #[test]
    fn headers_of_other_writers_and_versions_are_read() {
        let body = &DOUBLES[DOUBLES.len() - 48..];
        for text in [
            "{\"shape\":(3,2),\"fortran_order\":False,\"descr\":\"<f8\"}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 2L), }",
        ] {
            let (_dir, path) = file(&with_header(text, body));
            assert_eq!(read_all(&path, 2).unwrap(), NUMBERS);
        }
        for version in [2, 3] {
            let start = [b"\x93NUMPY", &[version, 0][..], &118_u32.to_le_bytes()].concat();
            let (_dir, path) = file(&[&start, &DOUBLES[10..]].concat());
            assert_eq!(read_all(&path, 2).unwrap(), NUMBERS);
        }
    }

    #[test]
    fn what_is_written_has_numpys_own_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.npy");
        let mut out = NpyWriter::create(&path, &[3, 2], Existing::Keep).unwrap();
        out.push(&NUMBERS[..1]).unwrap();
        out.push(&NUMBERS[1..]).unwrap();
        assert!(out.push(&[1.0]).is_err());
        assert!(!path.exists(), "nothing half-written");
        out.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), DOUBLES);
        let mut out = NpyWriter::create(&path, &[2], Existing::Replace).unwrap();
        out.push(&[4.0]).unwrap();
        assert!(out.finish().is_err(), "a number is missing");
        assert_eq!(fs::read(&path).unwrap(), DOUBLES);
        let mut out = NpyWriter::create(&path, &[2], Existing::Replace).unwrap();
        out.push(&[4.0, 5.0]).unwrap();
        out.finish().unwrap();
        assert!(fs::read(&path).unwrap().windows(6).any(|w| w == b"(2,), "));
        assert_eq!(read_all(&path, 1).unwrap(), [4.0, 5.0]);
        assert_eq!(NpyRows::open_numbers(&path, "number").unwrap().rows(), 2);
    }

    /// The one-line message of a file that is refused: on opening, or on reading two rows at a time.
    fn message(bytes: &[u8]) -> String {
        let (_dir, path) = file(bytes);
        let read = NpyRows::open(&path).and_then(|mut rows| {
            while rows.next_rows(2)?.is_some() {}
            Ok(())
        });
        let error = read.unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(&path.display().to_string()) && !message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_remedy() {
        let body = &DOUBLES[DOUBLES.len() - 48..];
        let header = |descr: &str, order: &str, shape: &str| {
            with_header(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"), body)
        };
        let nan = |place: usize, value: f64| {
            let mut bytes = DOUBLES.to_vec();
            bytes[128 + 8 * place..136 + 8 * place].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        for (bytes, fragments) in [
            (header("'>f8'", "False", "(3, 2)"), &["`>f8`", "little-endian"][..]),
            (header("'<i8'", "False", "(3, 2)"), &["`<i8`", "float32 or float64"]),
            (header("'|O'", "False", "(3, 2)"), &["`|O`"]),
            (header("[('a', '<f8')]", "False", "(3, 2)"), &["structured"]),
            (header("'<f8'", "True", "(3, 2)"), &["Fortran order", "ascontiguousarray"]),
            (header("'<f8'", "Maybe", "(3, 2)"), &["header is not NumPy's"]),
            (header("'<f8'", "False", "(6,)"), &["one-dimensional, of length 6", "reshape(1, -1)"]),
            (header("'<f8'", "False", "()"), &["0 dimensions"]),
            (header("'<f8'", "False", "(3, 1, 2)"), &["3 dimensions"]),
            (header("'<f8'", "False", "(0, 2)"), &["empty", "0 × 2"]),
            (header("'<f8'", "False", "(3, 0)"), &["empty", "3 × 0"]),
            (header("'<f8'", "False", "(-3, 2)"), &["header is not NumPy's"]),
            (header("'<f8'", "False", "3, 2"), &["header is not NumPy's"]),
            (header("'<f8'", "False", "(18446744073709551615, 18446744073709551615)"), &["truncated", "found 48"]),
            (header("'<f8'", "False", "(99999999999999999999, 2)"), &["header is not NumPy's"]),
            (DOUBLES[..DOUBLES.len() - 3].to_vec(), &["truncated", "expected 48 bytes", "3 × 2 of float64", "found 45"]),
            ([DOUBLES, &[0]].concat(), &["longer than its header says", "found 49"]),
            (DOUBLES[..40].to_vec(), &["truncated", "within its header"]),
            (DOUBLES[..7].to_vec(), &["truncated"]),
            (Vec::new(), &["no NumPy file"]),
            (b"PK\x03\x04 an archive of arrays".to_vec(), &["no NumPy file", "numpy.save"]),
            ([b"\x93NUMPY\x09\x00", &DOUBLES[8..]].concat(), &["format 9"]),
            ([&b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..], &DOUBLES[10..]].concat(), &["4294967295"]),
            (nan(0, f64::NAN), &["row 0, column 0", "NaN"]),
            (nan(5, f64::NEG_INFINITY), &["row 2, column 1", "-inf"]),
        ] {
            let message = message(&bytes);
            assert!(fragments.iter().all(|f| message.contains(f)), "`{message}` lacks one of {fragments:?}");
        }
        let (_dir, path) = file(DOUBLES);
        assert!(NpyRows::open_numbers(&path, "number").unwrap_err().to_string().contains("2 dimensions; expected 1"));
        assert!(matches!(NpyRows::open(&path.with_extension("missing")).unwrap_err(), Error::Io { .. }));
    }

    /// A pipe has no length to be looked up: what it lacks, and what is too much, shows while it is read.
    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_to_its_end_and_no_further() {
        for (bytes, expected) in [
            (DOUBLES.to_vec(), Ok(NUMBERS.to_vec())),
            (DOUBLES[..DOUBLES.len() - 9].to_vec(), Err("truncated in row 2")),
            ([DOUBLES, &[0]].concat(), Err("longer than the 3 rows")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            let writer = std::thread::spawn({
                let path = path.clone();
                move || fs::write(path, bytes)
            });
            match (read_all(&path, 2), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(fragment)) => assert!(error.to_string().contains(fragment), "{error}"),
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
            // A reader that left early may have broken the pipe: the writer's trouble is not the test's.
            let _ = writer.join().unwrap();
        }
    }
}
