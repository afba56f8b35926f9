//! Text files of the LIBSVM data collection (C.-C. Chang and C.-J. Lin, *LIBSVM: a library for support vector machines*, ACM TIST 2011;
//! the same lines as T. Joachims' SVMlight): `label index:value index:value …`, one sample a line, indices from 1 in ascending order,
//! features that are not named are 0, `#` begins a comment. Plain or gzip. Stored densely: as many numbers as samples times features.

use std::path::Path;

use super::source::{Line, Source};
use crate::error::{Error, Result};
use crate::samples::{Features, Samples, Targets};

/// The most memory that the dense features of a data set may take: 4 GiB.
const MAX_BYTES: u128 = 1 << 32;

/// Reads the files of one data set: they share their width (the largest index in any of them) and their classes, the distinct labels of
/// the first file in ascending order: −1 and +1, 0 and 1, or 1 to C become 0, 1, …
///
/// # Errors
/// [`Error::Data`] with the number of the line for whatever is no such line: a label that is not a whole number, an index below 1 or not
/// above the one before it, a value that is not a finite number, bytes that are not text. [`Error::Data`] also for a file without samples
/// or features, for a first file of a single class, for a label that the first file does not have, for damaged gzip, and for features
/// that would take more than 4 GiB, with the bytes; [`Error::Io`] where the operating system refuses.
pub fn read_libsvm(paths: &[&Path]) -> Result<Vec<Samples>> {
    let files = paths.iter().map(|path| Rows::read(path)).collect::<Result<Vec<_>>>()?;
    let Some(first) = files.first() else { return Err(Error::argument("paths", "at least one file", "none")) };
    let classes = first.classes()?;
    let width = files.iter().map(Rows::width).max().unwrap_or(0);
    if width == 0 {
        return Err(Error::data(first.path, "no features: every line has a label alone"));
    }
    let rows: usize = files.iter().map(|file| file.labels.len()).sum();
    let bytes = rows as u128 * width as u128 * size_of::<f64>() as u128;
    if bytes > MAX_BYTES {
        let message =
            format!("{rows} samples of {width} features would take {bytes} bytes, more than the {MAX_BYTES} that are allowed");
        return Err(Error::data(first.path, message));
    }
    files.iter().map(|file| file.dense(width, &classes)).collect()
}

/// The lines of a file as they stand there.
struct Rows<'a> {
    path: &'a Path,
    /// The label of each sample and the number of its line.
    labels: Vec<(i64, usize)>,
    /// Where each sample's entries end.
    ends: Vec<usize>,
    /// Positions from 0 and values.
    entries: Vec<(u32, f64)>,
}

impl<'a> Rows<'a> {
    fn read(path: &'a Path) -> Result<Self> {
        let mut source = Source::open(path)?;
        let mut rows = Self { path, labels: Vec::new(), ends: Vec::new(), entries: Vec::new() };
        let mut line = Vec::new();
        let mut number = 0;
        while source.read_line(&mut line)? == Line::Read {
            number += 1;
            rows.push(&line, number).map_err(|message| Error::data(path, format_args!("line {number}: {message}")))?;
        }
        if rows.labels.is_empty() {
            return Err(Error::data(path, "no samples"));
        }
        Ok(rows)
    }

    /// Adds a line, unless nothing but a comment is on it.
    fn push(&mut self, line: &[u8], number: usize) -> std::result::Result<(), String> {
        let text = str::from_utf8(line).map_err(|_| "not text in UTF-8".to_owned())?;
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let mut words = text.split_ascii_whitespace();
        let Some(label) = words.next() else { return Ok(()) };
        self.labels.push((parse_label(label)?, number));
        let start = self.entries.len();
        for word in words {
            let entry = parse_entry(word)?;
            if let Some(&(before, _)) = self.entries[start..].last()
                && entry.0 <= before
            {
                return Err(format!("index {} after index {}: expected ascending indices", entry.0 + 1, before + 1));
            }
            self.entries.push(entry);
        }
        self.ends.push(self.entries.len());
        Ok(())
    }

    /// The number of features that are named.
    fn width(&self) -> usize {
        self.entries.iter().map(|&(position, _)| position as usize + 1).max().unwrap_or(0)
    }

    /// The distinct labels in ascending order, two at least.
    fn classes(&self) -> Result<Vec<i64>> {
        let mut classes: Vec<i64> = self.labels.iter().map(|&(label, _)| label).collect();
        classes.sort_unstable();
        classes.dedup();
        match classes[..] {
            [only] => Err(Error::data(self.path, format_args!("every label is {only}: expected at least two classes"))),
            _ => Ok(classes),
        }
    }

    fn dense(&self, width: usize, classes: &[i64]) -> Result<Samples> {
        let count = self.labels.len();
        let class = |&(label, line): &(i64, usize)| match classes.binary_search(&label) {
            Ok(class) => Ok(class as u32),
            Err(_) => Err(Error::data(self.path, format_args!("line {line}: the label {label} is none of the first file's"))),
        };
        let labels = self.labels.iter().map(class).collect::<Result<Vec<_>>>()?;
        let mut values = vec![0.0; count * width];
        let mut start = 0;
        for (row, &end) in values.chunks_exact_mut(width).zip(&self.ends) {
            self.entries[start..end].iter().for_each(|&(position, value)| row[position as usize] = value);
            start = end;
        }
        Samples::new(Features::from_f64(values, count, width)?, Targets::classes(labels, classes.len())?)
    }
}

/// A class: a whole number, also written as 1.0 or +1.
fn parse_label(word: &str) -> std::result::Result<i64, String> {
    let expected = || format!("label `{word}`: expected a whole number");
    let label: f64 = word.parse().map_err(|_| expected())?;
    // Whole numbers up to here are exact.
    let whole = label.fract() == 0.0 && label.abs() <= 2.0_f64.powi(53);
    if whole { Ok(label as i64) } else { Err(expected()) }
}

/// `index:value`, the index from 0.
fn parse_entry(word: &str) -> std::result::Result<(u32, f64), String> {
    let (index, value) = word.split_once(':').ok_or_else(|| format!("`{word}`: expected index:value"))?;
    let position = index.parse::<u32>().ok().and_then(|index| index.checked_sub(1));
    let position = position.ok_or_else(|| format!("`{word}`: expected an index from 1 to {}", u32::MAX))?;
    match value.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((position, value)),
        _ => Err(format!("`{word}`: expected a finite number after the colon")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;
    use crate::samples::Batch;

    /// Writes the files and reads them as one data set.
    fn read(contents: &[&[u8]]) -> (Result<Vec<Samples>>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..contents.len()).map(|i| dir.path().join(format!("part{i}"))).collect();
        paths.iter().zip(contents).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        (read_libsvm(&paths), dir)
    }

    fn rows(samples: &Samples) -> Vec<f64> {
        samples.features.gather(Batch::All).unwrap().into_vec()
    }

    /// The one-line message about the file `part`.
    fn message(contents: &[&[u8]], part: usize) -> String {
        let (result, dir) = read(contents);
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error:?}");
        let (message, path) = (error.to_string(), dir.path().join(format!("part{part}")).display().to_string());
        assert!(message.starts_with(&path) && !message.contains('\n'), "{message}");
        message[path.len()..].to_owned()
    }

    #[test]
    fn lines_become_dense_rows_and_labels_classes_in_ascending_order() {
        let text = b"# made by hand\n+1 1:0.5 3:-2e-3 # the first\n\n-1\r\n1.0 2:7\n   \n-1 3:1 \n";
        let (samples, _dir) = read(&[text]);
        let samples = &samples.unwrap()[0];
        assert_eq!(samples.targets, Targets::classes(vec![1, 0, 1, 0], 2).unwrap());
        assert_eq!(rows(samples), [0.5, 0.0, -2e-3, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn files_of_one_data_set_share_their_width_and_classes() {
        let (samples, _dir) = read(&[b"7 1:1\n3 1:2\n12 2:1\n", b"12 4:1", b"3\n"]);
        let samples = samples.unwrap();
        let labels: Vec<_> = samples.iter().map(|part| part.targets.as_classes().unwrap()).collect();
        assert_eq!(labels, [(&[1, 0, 2][..], 3), (&[2][..], 3), (&[0][..], 3)]);
        assert!(samples.iter().all(|part| part.features.width() == 4));
        assert_eq!(rows(&samples[1]), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(rows(&samples[2]), [0.0; 4]);
    }

    #[test]
    fn gzip_is_unpacked_and_told_when_it_is_damaged() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"0 1:1\n1 2:1\n").unwrap();
        let packed = encoder.finish().unwrap();
        let (samples, _dir) = read(&[&packed]);
        assert_eq!(rows(&samples.unwrap()[0]), [1.0, 0.0, 0.0, 1.0]);
        assert!(message(&[&packed[..packed.len() - 3]], 0).contains("truncated gzip"));
        assert!(message(&[b"BZh91AY&SY"], 0).contains("bunzip2"));
    }

    #[test]
    fn a_malformed_line_is_named_by_file_and_number() {
        let cases: [(&str, &str); 16] = [
            ("one 1:1", "label `one`: expected a whole number"),
            ("1,2 1:1", "label `1,2`"),
            ("nan 1:1", "label `nan`"),
            ("0.5 1:1", "label `0.5`"),
            ("1e300 1:1", "label `1e300`"),
            ("1 0:1", "`0:1`: expected an index from 1"),
            ("1 -1:1", "`-1:1`: expected an index"),
            ("1 4294967296:1", "expected an index from 1 to 4294967295"),
            ("1 qid:3 1:1", "`qid:3`: expected an index"),
            ("1 1", "`1`: expected index:value"),
            ("1 1: 2:1", "`1:`: expected a finite number"),
            ("1 1:1:1", "`1:1:1`: expected a finite number"),
            ("1 1:inf", "`1:inf`: expected a finite number"),
            ("1 1:NaN", "`1:NaN`: expected a finite number"),
            ("1 3:1 2:1", "index 2 after index 3: expected ascending"),
            ("1 2:1 2:1", "index 2 after index 2: expected ascending"),
        ];
        for (line, expected) in cases {
            let found = message(&[b"0 1:1\n1 1:1\n", format!("# head\n0 1:2\n{line}\n").as_bytes()], 1);
            assert!(found.starts_with(": line 3: ") && found.contains(expected), "`{line}`: {found}");
        }
        assert!(message(&[b"0 1:1\n\xff\xfe 1:1\n"], 0).starts_with(": line 2: not text"));
    }

    #[test]
    fn files_that_make_no_data_set_are_refused() {
        assert!(message(&[b""], 0).contains("no samples"));
        assert!(message(&[b"# nothing\n\n"], 0).contains("no samples"));
        assert!(message(&[b"1\n2\n"], 0).contains("no features"));
        assert!(message(&[b"1 1:1\n1 1:2\n"], 0).contains("every label is 1"));
        assert!(message(&[b"1 1:1\n2 1:2\n", b"2 1:1\n3 1:1\n"], 1).contains("line 2: the label 3 is none"));
        let huge = message(&[b"1 1:1\n2 4294967295:2\n"], 0);
        assert!(huge.contains("2 samples of 4294967295 features would take 68719476720 bytes"), "{huge}");
        assert_eq!(read_libsvm(&[]).unwrap_err().offending_argument(), Some("paths"));
        assert!(matches!(read_libsvm(&[Path::new("/nowhere/at/all")]).unwrap_err(), Error::Io { .. }));
    }
}
