//! The digits that travel with the crate: the test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin and
//! C. Kaynak, UCI Machine Learning Repository 1998, <https://doi.org/10.24432/C50P49>, CC BY 4.0), as raw bytes.
//! `digits/README.md` says what was changed and gives the check sums.

use crate::error::Result;
use crate::samples::{Features, Samples, Targets};

const COUNT: usize = 1797;
const WIDTH: usize = 64;
const CLASSES: usize = 10;
/// The largest pixel value.
const WHITE: f64 = 16.0;

static IMAGES: &[u8; COUNT * WIDTH] = include_bytes!("digits/images.u8");
static LABELS: &[u8; COUNT] = include_bytes!("digits/labels.u8");

/// 1,797 handwritten digits of 8 × 8 pixels: features in [0, 1] (1797 × 64, image rows one after the other), 10 classes.
///
/// # Errors
/// None in practice: the sizes are fixed when the crate is compiled.
///
/// ```
/// let digits = nhgd::data::digits()?;
/// assert_eq!((digits.len(), digits.features.width()), (1797, 64));
/// # Ok::<(), nhgd::Error>(())
/// ```
pub fn digits() -> Result<Samples> {
    let features = Features::from_bytes(IMAGES.to_vec(), COUNT, WIDTH, 1.0 / WHITE)?;
    let targets = Targets::classes(LABELS.iter().map(|&label| label.into()).collect(), CLASSES)?;
    Samples::new(features, targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Batch;

    /// Σ pixels of each class, computed with NumPy from the table that scikit-learn distributes.
    const CLASS_SUMS: [f64; 10] = [56415.0, 57007.0, 55566.0, 56151.0, 56239.0, 55915.0, 56336.0, 54289.0, 57408.0, 56392.0];
    const CLASS_COUNTS: [usize; 10] = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180];
    #[rustfmt::skip]
    const FIRST: [u8; 64] = [
        0, 0,  5, 13,  9,  1,  0, 0,
        0, 0, 13, 15, 10, 15,  5, 0,
        0, 3, 15,  2,  0, 11,  8, 0,
        0, 4, 12,  0,  0,  8,  8, 0,
        0, 5,  8,  0,  0,  9,  8, 0,
        0, 4, 11,  0,  1, 12,  7, 0,
        0, 2, 14,  5, 10, 12,  0, 0,
        0, 0,  6, 13, 10,  0,  0, 0,
    ];

    #[test]
    fn digits_are_those_of_the_published_table() {
        let Samples { features, targets } = digits().unwrap();
        let (labels, classes) = targets.as_classes().unwrap();
        assert_eq!((features.samples(), features.width(), labels.len(), classes), (1797, 64, 1797, 10));
        assert_eq!(labels[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(labels[1792..], [9, 0, 8, 9, 8]);

        let rows = features.gather(Batch::All).unwrap();
        assert!(rows.as_slice().iter().all(|x| (0.0..=1.0).contains(x)));
        assert!(rows.col(0).iter().zip(FIRST).all(|(&x, byte)| x == f64::from(byte) / 16.0));

        // Sixteenths and their sums are exact in binary.
        let sum = |i: usize| 16.0 * rows.col(i).iter().sum::<f64>();
        assert_eq!((0..1797).map(sum).sum::<f64>(), 561_718.0);
        assert_eq!((0..1797).map(|i| (i + 1) as f64 * sum(i)).sum::<f64>(), 503_904_265.0, "order of the images");
        let column_moment = |i: usize| rows.col(i).iter().enumerate().map(|(j, x)| (j + 1) as f64 * 16.0 * x).sum::<f64>();
        assert_eq!((0..1797).map(column_moment).sum::<f64>(), 18_222_371.0, "order of the pixels");
        assert_eq!(labels.iter().zip(1..).map(|(&y, i)| u64::from(y) * i).sum::<u64>(), 7_272_861, "order of the labels");
        for (class, (&count, &total)) in CLASS_COUNTS.iter().zip(&CLASS_SUMS).enumerate() {
            let members: Vec<usize> = (0..1797).filter(|&i| labels[i] as usize == class).collect();
            assert_eq!(members.len(), count, "class {class}");
            assert_eq!(members.into_iter().map(sum).sum::<f64>(), total, "class {class}");
        }
    }
}
