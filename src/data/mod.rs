//! Where samples come from: digits that travel with the crate, folders of IDX files, LIBSVM's text files, synthetic generators, and labels
//! corrupted on purpose; and NumPy files, which hold vectors of any kind. No model, curvature or method is known here.

mod corruption;
mod digits;
#[cfg(feature = "io")]
mod idx;
#[cfg(feature = "io")]
mod libsvm;
#[cfg(feature = "io")]
mod npy;
#[cfg(feature = "io")]
mod source;
mod synthetic;

pub use corruption::{Corruption, corrupt_labels};
pub use digits::digits;
#[cfg(feature = "io")]
pub use idx::{IdxFolder, read_idx_folder};
#[cfg(feature = "io")]
pub use libsvm::read_libsvm;
#[cfg(feature = "io")]
pub use npy::{NpyRows, NpyWriter};
pub use synthetic::{gaussian_mixture, softmax_samples};

use crate::error::{Error, Result};
use crate::rng::Stream;

/// A class uniform on 0..classes.
fn draw_class(stream: &mut Stream, classes: usize) -> Result<u32> {
    let too_many = |_| Error::argument("classes", "at most 2^32", classes);
    u32::try_from(stream.below(classes)?).map_err(too_many)
}
