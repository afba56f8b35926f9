//! An estimate as bytes: a header with the family's name, the version and a checksum, then the family's state (postcard). Both ways are
//! streams, so that an estimate that fills half of the memory can still be saved.

use std::io::{self, BufReader, BufWriter, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Curvature;
use crate::error::{Error, Result};

const FORMAT: &str = "nhgd-curvature";
/// The version of the bytes that [`Curvature::save_to`] writes. Those of version 1, whose `nystrom` knows no `sign`, are the same otherwise.
const VERSION: u32 = 2;
const OLDEST: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    family: String,
    /// Of the payload: a changed byte would otherwise pass as another number.
    checksum: u64,
    /// Bytes of the payload, which follows.
    length: u64,
}

/// FNV-1a: notices a changed byte, and is no protection against a forged one.
#[cfg(feature = "io")]
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    continued(BASIS, bytes)
}

fn continued(checksum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(checksum, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// The bytes that pass through, summed up (FNV-1a) and counted.
struct Summed<S> {
    stream: S,
    checksum: u64,
    length: u64,
    /// The refusal of the stream, which the encoder would swallow.
    refusal: Option<io::Error>,
}

impl<S> Summed<S> {
    fn new(stream: S) -> Self {
        Self { stream, checksum: BASIS, length: 0, refusal: None }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.checksum = continued(self.checksum, bytes);
        self.length += bytes.len() as u64;
    }

    /// Keeps a refusal and hands on another of its kind.
    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|e| {
            let kind = e.kind();
            if kind != io::ErrorKind::Interrupted {
                self.refusal = Some(e);
            }
            kind.into()
        })
    }
}

impl<S: Write> Write for Summed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.stream.write(bytes);
        let written = self.note(outcome)?;
        self.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.stream.flush();
        self.note(outcome)
    }
}

impl<S: Read> Read for Summed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = self.stream.read(buffer);
        let read = self.note(outcome)?;
        self.add(&buffer[..read]);
        Ok(read)
    }
}

/// Encodes a value into a stream, by way of a small buffer; returns checksum and length.
fn encode<T: Serialize>(value: &T, out: impl Write) -> io::Result<(u64, u64)> {
    let mut summed = Summed::new(out);
    let mut buffered = BufWriter::with_capacity(1 << 16, &mut summed);
    let encoded = postcard::to_io(value, &mut buffered).map(drop);
    let flushed = buffered.flush();
    drop(buffered);
    if let Some(refusal) = summed.refusal {
        return Err(refusal);
    }
    encoded.map_err(io::Error::other)?;
    flushed?;
    Ok((summed.checksum, summed.length))
}

/// Writes header and state. The state is encoded twice: the checksum stands before it.
///
/// # Errors
/// Those of the stream.
pub(super) fn write<T: Serialize>(family: &str, state: &T, out: &mut dyn Write) -> io::Result<()> {
    let (checksum, length) = encode(state, io::sink())?;
    let header = Header { format: FORMAT.into(), version: VERSION, family: family.into(), checksum, length };
    encode(&header, &mut *out)?;
    encode(state, out).map(drop)
}

fn wrong(found: impl std::fmt::Display) -> Error {
    Error::argument("saved curvature", "bytes that `save` wrote", found)
}

/// Turns the bytes of [`Curvature::save`] back into an estimate.
///
/// # Errors
/// [`Error::Argument`] for bytes of another kind or family, or that are cut short; [`Error::Unsupported`] for those of a newer version.
pub fn load(bytes: &[u8]) -> Result<Box<dyn Curvature>> {
    load_from(&mut &*bytes)
}

/// As [`load`], from a stream, to its end. No second copy of the state is made.
///
/// # Errors
/// As [`load`], and where the stream itself refuses.
pub fn load_from(mut stream: &mut dyn Read) -> Result<Box<dyn Curvature>> {
    let mut scratch = [0_u8; 256];
    let (header, _): (Header, _) = postcard::from_io((&mut *stream, &mut scratch)).map_err(wrong)?;
    let Header { format, version, .. } = &header;
    if format == FORMAT && *version > VERSION {
        let remedy = format!("this program reads version {VERSION}; take a newer nhgd");
        return Err(Error::unsupported(format_args!("a saved curvature of version {version}"), remedy));
    }
    if format != FORMAT || *version < OLDEST {
        let expected = format!("{FORMAT} of version {OLDEST} to {VERSION}");
        return Err(Error::argument("saved curvature", expected, format_args!("{format} of version {version}")));
    }
    let family = super::decoder(&header.family)
        .ok_or_else(|| Error::argument("saved curvature", "a registered family", format_args!("`{}`", header.family)))?;
    let reader: &mut dyn Read = &mut stream;
    let mut payload = Payload(BufReader::with_capacity(1 << 16, Summed::new(reader.take(header.length))));
    let decoded = family(&mut payload);
    // What the decoder left must be counted too before the lengths are compared.
    let rest = io::copy(&mut payload.0, &mut io::sink()).map_err(wrong)?;
    let Summed { checksum, length, refusal, .. } = payload.0.into_inner();
    if let Some(refusal) = refusal {
        return Err(wrong(refusal));
    }
    if length != header.length {
        return Err(wrong(format_args!("{length} bytes in the place of {}", header.length)));
    }
    if checksum != header.checksum {
        return Err(wrong("damaged ones (the checksum differs)"));
    }
    let curvature = decoded?;
    // A stream with a check sum of its own (an archive's) compares it where it ends.
    match rest + io::copy(stream, &mut io::sink()).map_err(wrong)? {
        0 => Ok(curvature),
        more => Err(wrong(format_args!("{more} bytes more"))),
    }
}

/// The bytes of a state, to be decoded.
pub(super) struct Payload<'a>(BufReader<Summed<io::Take<&'a mut dyn Read>>>);

impl Payload<'_> {
    /// Decodes the state.
    ///
    /// # Errors
    /// [`Error::Argument`] for bytes that are none.
    pub(super) fn decode<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut scratch = [0_u8; 256];
        postcard::from_io((&mut self.0, &mut scratch)).map(|(state, _)| state).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::CurvatureConfig;
    use crate::rng::Key;

    /// Refuses once so many bytes have gone through.
    struct Narrow(usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_refuses_is_reported_as_it_refused() {
        let curvature = CurvatureConfig::default_of("dense").unwrap().build(200, Key::new(0)).unwrap();
        let length = curvature.save().unwrap().len();
        for room in [0, 10, length / 2, length - 1] {
            assert_eq!(curvature.save_to(&mut Narrow(room)).unwrap_err().kind(), io::ErrorKind::StorageFull, "{room}");
        }
        curvature.save_to(&mut Narrow(length)).unwrap();
    }
}
