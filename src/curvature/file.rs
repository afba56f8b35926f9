//! Sketch files: an estimate on disk with what a reader wants to know before it loads it. A ZIP archive of two stored entries: `manifest.json`,
//! and `curvature`, the bytes of [`Curvature::save_to`] with their own checksum. `docs/sketch.md` describes them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Curvature, CurvatureConfig, load_from};
use crate::error::{Error, Result};
use crate::file::{Existing, Pending};

const FORMAT: &str = "nhgd-sketch";
/// The version of the layout.
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
const CURVATURE: &str = "curvature";
/// More than any manifest has.
const MOST_MANIFEST_BYTES: u64 = 1 << 20;

/// What a sketch file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SketchManifest {
    format: String,
    version: u32,
    /// The version of this crate that wrote it.
    pub nhgd_version: String,
    /// The family's registry name.
    pub method: String,
    /// d.
    pub dim: usize,
    /// Rows that were ever absorbed.
    pub rows: u64,
    /// What they count for, after decay.
    pub mass: f64,
    /// The seed that everything random about it was drawn from.
    pub seed: u64,
    /// γ, before each file.
    pub decay: f64,
    /// The family with its settings, as they are by now.
    pub settings: CurvatureConfig,
}

/// An estimate with how it came about.
pub struct Sketch {
    /// What was absorbed.
    pub curvature: Box<dyn Curvature>,
    /// Rows that were ever absorbed.
    pub rows: u64,
    /// The seed.
    pub seed: u64,
    /// γ, before each file.
    pub decay: f64,
    /// The family with the settings that it was built with; [`manifest`](Self::manifest) has them as they are by now.
    pub settings: CurvatureConfig,
}

impl Sketch {
    /// What its file says of it.
    pub fn manifest(&self) -> SketchManifest {
        SketchManifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            nhgd_version: env!("CARGO_PKG_VERSION").to_owned(),
            method: self.curvature.name().to_owned(),
            dim: self.curvature.dim(),
            rows: self.rows,
            mass: self.curvature.mass(),
            seed: self.seed,
            decay: self.decay,
            settings: self.settings.held_by(&*self.curvature),
        }
    }

    /// Writes the file: all of it, or nothing. The state is streamed, not copied. Equal sketches give equal bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path, existing: Existing) -> Result<()> {
        let refused = |e: io::Error| Error::io(path, "writing", e);
        let packed = |e: zip::result::ZipError| refused(e.into());
        let manifest = serde_json::to_vec_pretty(&self.manifest()).map_err(|e| refused(e.into()))?;
        // Nothing is compressed: digits of gradients do not compress, and a reader need not unpack. No clock: equal bytes.
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        let mut archive = ZipWriter::new(BufWriter::new(Pending::create(path, existing)?));
        archive.start_file(MANIFEST, stored).map_err(packed)?;
        archive.write_all(&manifest).map_err(refused)?;
        archive.start_file(CURVATURE, stored).map_err(packed)?;
        self.curvature.save_to(&mut archive).map_err(refused)?;
        let buffered = archive.finish().map_err(packed)?;
        buffered.into_inner().map_err(|e| refused(e.into_error()))?.commit()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that is damaged, of another kind or of a newer version, [`Error::Io`] if it cannot be opened.
    pub fn read(path: &Path) -> Result<Self> {
        let damaged = |what: &dyn std::fmt::Display| Error::data(path, format_args!("no sketch file, or a damaged one: {what}"));
        let file = File::open(path).map_err(|e| Error::io(path, "opening", e))?;
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e))?;
        let mut bytes = Vec::new();
        let entry = archive.by_name(MANIFEST).map_err(|e| damaged(&format_args!("{MANIFEST}: {e}")))?;
        entry.take(MOST_MANIFEST_BYTES).read_to_end(&mut bytes).map_err(|e| damaged(&format_args!("{MANIFEST}: {e}")))?;

        // Format and version first: a newer manifest may have anything else in it.
        #[derive(Deserialize)]
        struct Version {
            format: String,
            version: u32,
        }
        let Version { format, version } = serde_json::from_slice(&bytes).map_err(|e| damaged(&format_args!("{MANIFEST}: {e}")))?;
        if format != FORMAT {
            return Err(damaged(&format_args!("{MANIFEST} says `{format}`, expected `{FORMAT}`")));
        }
        if version != VERSION {
            let message = format!("a sketch file of version {version}; this program reads version {VERSION}; take a newer nhgd");
            return Err(Error::data(path, message));
        }
        let manifest: SketchManifest = serde_json::from_slice(&bytes).map_err(|e| damaged(&format_args!("{MANIFEST}: {e}")))?;

        let mut entry = archive.by_name(CURVATURE).map_err(|e| damaged(&format_args!("{CURVATURE}: {e}")))?;
        let curvature = match load_from(&mut entry) {
            Ok(curvature) => curvature,
            Err(newer @ Error::Unsupported { .. }) => {
                // A damaged byte can pass for a version; the archive's own checksum is known at the entry's end.
                io::copy(&mut entry, &mut io::sink()).map_err(|e| damaged(&format_args!("{CURVATURE}: {e}")))?;
                return Err(Error::data(path, newer));
            }
            Err(error) => return Err(damaged(&error)),
        };
        if let Some(contradiction) = manifest.contradiction(&*curvature) {
            return Err(damaged(&format_args!("its {MANIFEST} says {contradiction}")));
        }
        let SketchManifest { rows, seed, decay, settings, .. } = manifest;
        let settings = settings.held_by(&*curvature);
        Ok(Self { curvature, rows, seed, decay, settings })
    }
}

impl SketchManifest {
    /// What it says that the estimate beside it shows to be wrong, if anything.
    fn contradiction(&self, curvature: &dyn Curvature) -> Option<String> {
        if !(0.0..1.0).contains(&self.decay) {
            return Some(format!("decay {}; expected a number in [0, 1)", self.decay));
        }
        let mass = curvature.mass();
        let held = Self {
            method: curvature.name().to_owned(),
            dim: curvature.dim(),
            mass,
            settings: self.settings.held_by(curvature),
            ..self.clone()
        };
        let values = serde_json::to_value(self).ok().zip(serde_json::to_value(&held).ok());
        if let Some(difference) = values.and_then(|(said, held)| difference("", &said, &held)) {
            return Some(difference);
        }
        if self.settings.name() != self.method {
            return Some(format!("method {}, but settings of {}", self.method, self.settings.name()));
        }
        // A row counts for 1 and may decay or fall out of a window.
        (mass > self.rows as f64).then(|| format!("rows {}, but the sketch has a mass of {mass}", self.rows))
    }
}

/// The first entry that is said to be something else than what is held; null says nothing.
fn difference(name: &str, said: &Value, held: &Value) -> Option<String> {
    match (said, held) {
        (Value::Object(said), Value::Object(held)) => {
            said.iter().find_map(|(name, said)| difference(name, said, held.get(name).unwrap_or(&Value::Null)))
        }
        (Value::Null, _) => None,
        _ => (said != held).then(|| format!("{name} {said}, but the sketch has {held}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dense::Matrix;
    use crate::gradient::DenseRows;
    use crate::rng::Key;

    fn sketch(method: &str) -> Sketch {
        let settings = match CurvatureConfig::default_of(method).unwrap() {
            CurvatureConfig::Nystrom(config) => CurvatureConfig::Nystrom(super::super::NystromConfig { sketch_size: 2, ..config }),
            other => other,
        };
        let mut curvature = settings.build(4, Key::new(3)).unwrap();
        let rows = Matrix::from_columns(4, 5, Key::new(4).stream().normals(20)).unwrap();
        curvature.absorb(&DenseRows::new(rows, 1).unwrap().into()).unwrap();
        Sketch { curvature, rows: 5, seed: 3, decay: 0.25, settings }
    }

    #[test]
    fn a_file_reads_back_and_equal_sketches_have_equal_files() {
        let dir = tempfile::tempdir().unwrap();
        for method in ["nystrom", "window", "diagonal"] {
            let (one, other) = (dir.path().join("one"), dir.path().join("other"));
            sketch(method).write(&one, Existing::Replace).unwrap();
            let read = Sketch::read(&one).unwrap();
            assert_eq!(read.manifest(), sketch(method).manifest());
            assert_eq!(read.curvature.save().unwrap(), sketch(method).curvature.save().unwrap());
            read.write(&other, Existing::Replace).unwrap();
            assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap());
        }
    }

    /// A changed byte is noticed, or stands where nothing is read (dates, attributes): never another sketch, never a panic.
    #[test]
    fn no_changed_byte_and_no_missing_one_passes_for_a_sketch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sketch");
        sketch("nystrom").write(&path, Existing::Replace).unwrap();
        let (bytes, saved) = (fs::read(&path).unwrap(), sketch("nystrom").curvature.save().unwrap());
        let mut noticed = 0;
        for position in 0..bytes.len() {
            for change in [1, 0xff] {
                let mut changed = bytes.clone();
                changed[position] ^= change;
                fs::write(&path, changed).unwrap();
                match Sketch::read(&path) {
                    Err(error) => {
                        assert!(error.is_environment() && error.to_string().contains("damaged"), "byte {position}: {error}");
                        noticed += 1;
                    }
                    Ok(read) => {
                        assert_eq!(read.manifest(), sketch("nystrom").manifest(), "byte {position}");
                        assert_eq!(read.curvature.save().unwrap(), saved, "byte {position}");
                    }
                }
            }
        }
        assert!(noticed > 2 * (saved.len() + 300), "{noticed} of {}", 2 * bytes.len());
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(Sketch::read(&path).is_err_and(|e| e.is_environment()), "{length} bytes");
        }
    }

    #[test]
    fn a_newer_version_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("newer");
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        archive.start_file(MANIFEST, SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
        archive.write_all(br#"{ "format": "nhgd-sketch", "version": 2, "whatever": [] }"#).unwrap();
        archive.finish().unwrap();
        let message = Sketch::read(&path).err().unwrap().to_string();
        assert!(message.ends_with("a sketch file of version 2; this program reads version 1; take a newer nhgd"), "{message}");
    }

    #[test]
    fn every_number_is_read_back_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sketch");
        let mut stream = Key::new(5).stream();
        for _ in 0..500 {
            let mut sketch = sketch("diagonal");
            sketch.decay = stream.uniform();
            sketch.curvature.decay(sketch.decay).unwrap();
            sketch.write(&path, Existing::Replace).unwrap();
            let read = Sketch::read(&path).unwrap();
            assert_eq!(read.decay.to_bits(), sketch.decay.to_bits());
            assert_eq!(read.curvature.mass().to_bits(), sketch.curvature.mass().to_bits());
        }
    }

    #[test]
    fn a_sketch_that_has_grown_says_so_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sketch");
        for (method, config) in [
            ("nystrom", serde_json::json!({ "sketch_size": 2, "probes": null })),
            ("frequent-directions", serde_json::json!({ "sketch_size": 2, "probes": 1 })),
            ("robust-frequent-directions", serde_json::json!({ "sketch_size": 2, "probes": 1 })),
        ] {
            let settings: CurvatureConfig = serde_json::from_value(serde_json::json!({ method: config })).unwrap();
            let curvature = settings.build(4, Key::new(3)).unwrap();
            let mut sketch = Sketch { curvature, rows: 5, seed: 3, decay: 0.0, settings };
            let rows = Matrix::from_columns(4, 5, Key::new(4).stream().normals(20)).unwrap();
            sketch.curvature.absorb(&DenseRows::new(rows, 1).unwrap().into()).unwrap();
            sketch.curvature.grow(3).unwrap();
            sketch.write(&path, Existing::Replace).unwrap();
            let read = Sketch::read(&path).unwrap();
            for manifest in [sketch.manifest(), read.manifest()] {
                let settings = serde_json::to_value(&manifest.settings).unwrap();
                assert_eq!(settings[method]["sketch_size"], 3);
                // Growing draws no probes.
                assert_eq!(settings[method]["probes"], if method == "nystrom" { 0 } else { 1 });
            }
        }
    }
}
