//! Data cleaning at two shapes: of the embedded digits (1,000 samples, 65 features) and of MNIST (50,000 samples, 785 features, drawn at
//! random, so that no file is needed).

// Each bench is a crate of its own and uses a part of this file.
#![allow(dead_code)]

use nhgd::problem::{DataCleaning, DataCleaningConfig, DataSource};
use nhgd::rng::Key;
use nhgd::samples::{Features, Precision, Samples, Targets};

pub const CLASSES: usize = 10;

pub struct Shape {
    pub name: &'static str,
    pub problem: DataCleaning,
    /// Of an inner step, and of the curvature.
    pub batch: usize,
    pub features: usize,
    pub outer_step_size: f64,
}

/// Random bytes with random labels.
fn noise(samples: usize, width: usize, precision: Precision, key: Key) -> Samples {
    let mut stream = key.stream();
    let bytes = (0..samples * width).map(|_| (256.0 * stream.uniform()) as u8).collect();
    let features = Features::from_bytes(bytes, samples, width, 1.0 / 255.0).unwrap().with_intercept().with_precision(precision);
    let labels = stream.indices(CLASSES, samples).unwrap().into_iter().map(|label| label as u32).collect();
    Samples::new(features, Targets::classes(labels, CLASSES).unwrap()).unwrap()
}

/// The shape of MNIST, with products in the given precision.
pub fn mnist(precision: Precision) -> DataCleaning {
    let (train, validation) = (noise(50_000, 784, precision, Key::new(2)), noise(1_000, 784, precision, Key::new(3)));
    let (truth, flipped) = (train.targets.clone(), vec![false; 50_000]);
    DataCleaning::new(train, truth, flipped, validation, None, 1e-3, 0.0).unwrap()
}

pub fn shapes() -> [Shape; 2] {
    let digits = DataCleaning::load(&DataCleaningConfig::default(), &DataSource::default(), Key::new(1)).unwrap();
    let mnist = mnist(Precision::Double);
    [
        Shape { name: "digits", problem: digits, batch: 128, features: 65, outer_step_size: 1e3 },
        Shape { name: "mnist", problem: mnist, batch: 1024, features: 785, outer_step_size: 1e5 },
    ]
}
