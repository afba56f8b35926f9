//! Folders of IDX files, the format of MNIST (Y. LeCun, C. Cortes and C. J. C. Burges, *The MNIST database*): a big-endian
//! word 0x0000TTDD (type, number of dimensions), one word per dimension, then the bytes. Plain or gzip. A header is believed
//! only as far as the file bears it out: memory follows the bytes that are there, never the bytes that are promised.

use std::path::{Path, PathBuf};

use super::source::Source;
use crate::error::{Error, Result};
use crate::samples::{Features, Samples, Targets};

/// The type byte of unsigned bytes, where it stands in the first word.
const UNSIGNED_BYTES: u32 = 0x0800;

/// The training and the test samples of a folder, with the same width and the same classes.
#[derive(Debug, Clone)]
pub struct IdxFolder {
    /// The training samples.
    pub train: Samples,
    /// The test samples.
    pub test: Samples,
}

/// Reads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each
/// with or without `.gz`, or with a dot before `idx`. Pixels stay bytes, b standing for b/255; there are 1 + the largest
/// training label classes, and at least 2.
///
/// # Errors
/// [`Error::Data`] for a missing folder or file, damaged gzip, a file that is not IDX or not as long as its header says, no
/// images, different numbers of images and labels, test images of another size, or a test label that no training sample could
/// have; [`Error::Io`] where the operating system refuses.
pub fn read_idx_folder(folder: &Path) -> Result<IdxFolder> {
    if !folder.is_dir() {
        return Err(Error::data(folder, "no such folder: name the one that holds the IDX files with `--data DIR` or NHGD_DATA"));
    }
    let train = Files::find(folder, "train")?;
    let test = Files::find(folder, "t10k")?;
    let (train, test) = (Part::read(train)?, Part::read(test)?);
    if (train.rows, train.columns) != (test.rows, test.columns) {
        let message = format!(
            "images of {} × {}, but those of {} are {} × {}",
            test.rows,
            test.columns,
            train.files.images.display(),
            train.rows,
            train.columns
        );
        return Err(Error::data(&test.files.images, message));
    }
    let classes = train.labels.iter().fold(2, |classes, &label| classes.max(usize::from(label) + 1));
    if let Some(position) = test.labels.iter().position(|&label| usize::from(label) >= classes) {
        let (label, train) = (test.labels[position], train.files.labels.display());
        let message = format!("label {label} at position {position} (from 0), but {train} has classes 0 to {}", classes - 1);
        return Err(Error::data(&test.files.labels, message));
    }
    Ok(IdxFolder { train: train.into_samples(classes)?, test: test.into_samples(classes)? })
}

/// Where a part's two files are.
struct Files {
    images: PathBuf,
    labels: PathBuf,
}

impl Files {
    fn find(folder: &Path, part: &str) -> Result<Self> {
        let images = find(folder, &format!("{part}-images"), "idx3-ubyte")?;
        Ok(Self { images, labels: find(folder, &format!("{part}-labels"), "idx1-ubyte")? })
    }
}

fn find(folder: &Path, stem: &str, kind: &str) -> Result<PathBuf> {
    let names = [format!("{stem}-{kind}"), format!("{stem}-{kind}.gz"), format!("{stem}.{kind}"), format!("{stem}.{kind}.gz")];
    let path = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    path.ok_or_else(|| Error::data(folder, format_args!("no file of {stem} here: expected one named {}", names.join(" or "))))
}

/// Images with their labels, as the files give them.
struct Part {
    files: Files,
    rows: u32,
    columns: u32,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Part {
    fn read(files: Files) -> Result<Self> {
        let ([images, rows, columns], pixels) = read_idx(&files.images)?;
        let ([count], labels) = read_idx(&files.labels)?;
        if count != images {
            return Err(Error::data(
                &files.labels,
                format_args!("{count} labels for the {images} images of {}", files.images.display()),
            ));
        }
        Ok(Self { files, rows, columns, pixels, labels })
    }

    fn into_samples(self, classes: usize) -> Result<Samples> {
        // No overflow: a body of this many bytes and more was read.
        let width = self.rows as usize * self.columns as usize;
        let features = Features::from_bytes(self.pixels, self.labels.len(), width, 1.0 / 255.0)?;
        Samples::new(features, Targets::classes(self.labels.into_iter().map(u32::from).collect(), classes)?)
    }
}

/// Reads a file of unsigned bytes with D dimensions: its sizes, all positive, and its body.
fn read_idx<const D: usize>(path: &Path) -> Result<([u32; D], Vec<u8>)> {
    let bad = |message: String| Err(Error::data(path, message));
    let mut source = Source::open(path)?;
    let header_len = 4 * (1 + D);
    let header = source.read(header_len as u64)?;
    let words: Vec<u32> = header.as_chunks().0.iter().map(|&word| u32::from_be_bytes(word)).collect();
    let expected_magic = UNSIGNED_BYTES + D as u32;
    if let Some(&magic) = words.first()
        && magic != expected_magic
    {
        return bad(format!(
            "the first word is {magic:#010x}, expected {expected_magic:#010x} (IDX, unsigned bytes, {D} dimensions)"
        ));
    }
    if header.len() < header_len {
        return bad(format!("header: expected {header_len} bytes, found {}", header.len()));
    }
    let sizes: [u32; D] = std::array::from_fn(|d| words[1 + d]);
    let shape = sizes.map(|size| size.to_string()).join(" × ");
    if sizes.contains(&0) {
        return bad(format!("empty: the header says {shape}"));
    }
    // Three sizes of 32 bits: their product has at most 96.
    let expected: u128 = sizes.iter().map(|&size| u128::from(size)).product();
    let body = source.read(u64::try_from(expected).unwrap_or(u64::MAX))?;
    let found = body.len() as u128 + u128::from(source.skip_rest()?);
    if found != expected {
        return bad(format!("body: expected {expected} bytes ({shape}, as the header says), found {found}"));
    }
    Ok((sizes, body))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::samples::Batch;

    const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
    const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
    const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
    const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

    fn idx(magic: u32, sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let words = std::iter::once(&magic).chain(sizes).flat_map(|word| word.to_be_bytes());
        words.chain(body.iter().copied()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Three training images of 1 × 2 with the labels 3, 0, 1; two test images with the labels 2, 3.
    fn good() -> [(&'static str, Vec<u8>); 4] {
        [
            (TRAIN_IMAGES, idx(0x803, &[3, 1, 2], &[0, 255, 51, 102, 1, 2])),
            (TRAIN_LABELS, idx(0x801, &[3], &[3, 0, 1])),
            (TEST_IMAGES, idx(0x803, &[2, 1, 2], &[204, 153, 0, 0])),
            (TEST_LABELS, idx(0x801, &[2], &[2, 3])),
        ]
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        good().iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        dir
    }

    fn check_good(folder: &Path) {
        let IdxFolder { train, test } = read_idx_folder(folder).unwrap();
        assert_eq!(train.targets, Targets::Classes { labels: vec![3, 0, 1], classes: 4 });
        assert_eq!(test.targets, Targets::Classes { labels: vec![2, 3], classes: 4 });
        let expected = [0.0, 1.0, 0.2, 0.4, 1.0 / 255.0, 2.0 / 255.0];
        let rows = train.features.gather(Batch::All).unwrap();
        assert!(rows.as_slice().iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-15), "{rows:?}");
        let rows = test.features.gather(Batch::All).unwrap();
        assert!(rows.as_slice().iter().zip([0.8, 0.6, 0.0, 0.0]).all(|(x, e)| (x - e).abs() < 1e-15), "{rows:?}");
    }

    /// The one-line message of the error that arises when the file `name` is replaced.
    fn message(name: &str, bytes: &[u8]) -> String {
        let dir = folder();
        fs::write(dir.path().join(name), bytes).unwrap();
        let error = read_idx_folder(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(&dir.path().join(name).display().to_string()) && !message.contains('\n'), "{message}");
        message
    }

    fn assert_contains(message: &str, parts: &[&str]) {
        assert!(parts.iter().all(|part| message.contains(part)), "`{message}` lacks one of {parts:?}");
    }

    #[test]
    fn plain_and_gzip_files_are_read_under_every_accepted_name() {
        check_good(folder().path());
        for dotted in [false, true] {
            for suffix in ["", ".gz"] {
                // Contents and names need not agree: the bytes decide.
                for packed in [false, true] {
                    let dir = tempfile::tempdir().unwrap();
                    for (name, bytes) in good() {
                        let name = if dotted { name.replace("-idx", ".idx") } else { name.to_owned() };
                        let bytes = if packed { gzip(&bytes) } else { bytes };
                        fs::write(dir.path().join(name + suffix), bytes).unwrap();
                    }
                    check_good(dir.path());
                }
            }
        }
    }

    #[test]
    fn gzip_in_several_members_is_read_to_its_end() {
        let dir = folder();
        let (name, bytes) = &good()[0];
        let (start, end) = bytes.split_at(19);
        fs::write(dir.path().join(name), [gzip(start), gzip(end)].concat()).unwrap();
        check_good(dir.path());
    }

    #[test]
    fn labels_that_are_all_zero_still_make_two_classes() {
        let dir = folder();
        fs::write(dir.path().join(TRAIN_LABELS), idx(0x801, &[3], &[0; 3])).unwrap();
        fs::write(dir.path().join(TEST_LABELS), idx(0x801, &[2], &[0, 1])).unwrap();
        let read = read_idx_folder(dir.path()).unwrap();
        assert_eq!(read.train.targets, Targets::Classes { labels: vec![0; 3], classes: 2 });
    }

    #[test]
    fn a_missing_folder_says_what_to_pass() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere");
        let error = read_idx_folder(&missing).unwrap_err();
        assert!(error.is_environment());
        assert_contains(&error.to_string(), &[&missing.display().to_string(), "--data DIR", "NHGD_DATA"]);
    }

    #[test]
    fn a_missing_file_names_every_name_it_could_have() {
        for (name, _) in good() {
            let dir = folder();
            fs::remove_file(dir.path().join(name)).unwrap();
            fs::create_dir(dir.path().join(name)).unwrap();
            let message = read_idx_folder(dir.path()).unwrap_err().to_string();
            let dotted = name.replace("-idx", ".idx");
            let names = [&format!("{name} or"), &format!("{name}.gz or"), &format!("{dotted} or"), &format!("{dotted}.gz")];
            assert_contains(&message, &names.map(String::as_str));
            assert_contains(&message, &[&dir.path().display().to_string()]);
        }
    }

    #[test]
    fn damaged_gzip_is_told_from_a_wrong_file() {
        let packed = gzip(&good()[0].1);
        for cut in [2, 5, 10, 15, packed.len() - 5, packed.len() - 1] {
            assert_contains(&message(TRAIN_IMAGES, &packed[..cut]), &["truncated gzip"]);
        }
        // Method, first byte of the compressed data (a reserved block type), check sum, length; then a tail that is no member.
        for (place, value) in [(2, 7), (10, 0xff), (packed.len() - 6, !packed[packed.len() - 6]), (packed.len() - 1, 9)] {
            let mut damaged = packed.clone();
            damaged[place] = value;
            assert_contains(&message(TRAIN_IMAGES, &damaged), &["corrupt gzip"]);
        }
        assert_contains(&message(TRAIN_IMAGES, &[packed.as_slice(), b"no member of gzip"].concat()), &["corrupt gzip"]);
    }

    #[test]
    fn a_wrong_magic_is_shown_with_the_right_one() {
        let labels = good()[1].1.clone();
        assert_contains(&message(TRAIN_IMAGES, &labels), &["0x00000801", "expected 0x00000803"]);
        let images = good()[0].1.clone();
        assert_contains(&message(TEST_LABELS, &gzip(&images)), &["0x00000803", "expected 0x00000801"]);
        assert_contains(&message(TEST_IMAGES, b"<html>"), &["0x3c68746d", "expected 0x00000803"]);
    }

    #[test]
    fn a_short_header_gives_both_lengths() {
        for len in [0, 3, 4, 15] {
            assert_contains(&message(TRAIN_IMAGES, &good()[0].1[..len]), &[&format!("header: expected 16 bytes, found {len}")]);
        }
        assert_contains(&message(TRAIN_LABELS, &gzip(&good()[1].1[..7])), &["header: expected 8 bytes, found 7"]);
    }

    #[test]
    fn a_body_of_another_length_than_the_header_says_gives_both() {
        let (images, labels) = (good()[0].1.clone(), good()[3].1.clone());
        assert_contains(&message(TRAIN_IMAGES, &images[..21]), &["expected 6 bytes (3 × 1 × 2", "found 5"]);
        assert_contains(&message(TRAIN_IMAGES, &[&images[..], &[0; 3]].concat()), &["expected 6 bytes", "found 9"]);
        assert_contains(&message(TEST_LABELS, &gzip(&labels[..8])), &["expected 2 bytes", "found 0"]);
        assert_contains(&message(TEST_LABELS, &gzip(&[&labels[..], &[0]].concat())), &["expected 2 bytes", "found 3"]);
    }

    #[test]
    fn a_header_that_promises_the_moon_is_refused_without_making_room() {
        let lie = idx(0x803, &[u32::MAX; 3], &[0; 6]);
        let promised = (u128::from(u32::MAX)).pow(3).to_string();
        assert_contains(&message(TRAIN_IMAGES, &lie), &[&promised, "found 6"]);
        assert_contains(&message(TRAIN_IMAGES, &gzip(&lie)), &[&promised, "found 6"]);
    }

    #[test]
    fn images_and_labels_must_be_as_many() {
        let message = message(TRAIN_LABELS, &idx(0x801, &[2], &[3, 0]));
        assert_contains(&message, &["2 labels", "3 images", TRAIN_LABELS, TRAIN_IMAGES]);
    }

    #[test]
    fn training_and_test_images_must_have_one_size() {
        // As many bytes an image, in another shape.
        let message = message(TEST_IMAGES, &idx(0x803, &[2, 2, 1], &[0; 4]));
        assert_contains(&message, &["2 × 1", "1 × 2", TEST_IMAGES, TRAIN_IMAGES]);
    }

    #[test]
    fn files_without_images_are_refused() {
        assert_contains(&message(TRAIN_IMAGES, &idx(0x803, &[0, 28, 28], &[])), &["empty", "0 × 28 × 28"]);
        assert_contains(&message(TEST_IMAGES, &idx(0x803, &[2, 0, 28], &[])), &["empty", "2 × 0 × 28"]);
        assert_contains(&message(TEST_LABELS, &idx(0x801, &[0], &[])), &["empty"]);
    }

    #[test]
    fn a_test_label_beyond_the_training_classes_is_placed() {
        let message = message(TEST_LABELS, &idx(0x801, &[2], &[2, 4]));
        assert_contains(&message, &["label 4 at position 1", "classes 0 to 3", TRAIN_LABELS]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_refusal_of_the_operating_system_is_no_fault_of_the_data() {
        let dir = folder();
        let path = dir.path().join(TRAIN_IMAGES);
        fs::remove_file(&path).unwrap();
        // A file that opens, and whose first page cannot be read.
        std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
        let error = read_idx_folder(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        assert_contains(&error.to_string(), &[TRAIN_IMAGES, "reading"]);
    }

    /// Figures computed with NumPy from the published files.
    #[test]
    fn mnist_is_mnist() {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/mnist");
        let folder = std::env::var_os("NHGD_DATA").map_or_else(default, PathBuf::from);
        if !folder.is_dir() {
            eprintln!("skipped: no MNIST folder");
            return;
        }
        let IdxFolder { train, test } = read_idx_folder(&folder).unwrap();
        assert_eq!((train.len(), test.len(), train.features.width(), test.features.width()), (60_000, 10_000, 784, 784));
        let (labels, classes) = train.targets.as_classes().unwrap();
        assert_eq!((&labels[..5], classes), (&[5, 0, 4, 1, 9][..], 10));
        for (samples, image, sum) in
            [(&train, 0, 27_525.0), (&train, 59_999, 20_920.0), (&test, 0, 18_454.0), (&test, 9_999, 41_833.0)]
        {
            let row = samples.features.gather(Batch::Indices(&[image])).unwrap();
            let found = 255.0 * row.as_slice().iter().sum::<f64>();
            assert!((found - sum).abs() < 1e-6, "image {image}: {found}");
        }
    }
}
