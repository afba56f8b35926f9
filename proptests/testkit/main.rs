//! Everything that a registry names goes through the suite of its trait, under the claims declared here; a new line of a registry is
//! tested under the strongest claims until it declares its own. And every suite rejects implementations that are wrong on purpose,
//! by the claim that they break.

mod curvature;
mod gradient_block;
mod method;
mod model;
mod problem;

use nhgd::data::gaussian_mixture;
use nhgd::problem::DataCleaning;
use nhgd::rng::Key;
use nhgd::testkit::Report;

/// A problem of 30 samples with 4 features and 3 classes, a third of whose labels are wrong: small, for the many runs of wrong
/// implementations.
fn small_cleaning() -> DataCleaning {
    let all = gaussian_mixture(45, 4, 3, 3.0, Key::new(4)).unwrap();
    let (train, validation): (Vec<usize>, Vec<usize>) = (0..45).partition(|i| i % 3 != 0);
    let (mut train, validation) = (all.select(&train).unwrap(), all.select(&validation).unwrap());
    let truth = train.targets.clone();
    // Every third label is that of the sample before.
    let source: Vec<usize> = (0..30).map(|i| if i % 3 == 2 { i - 1 } else { i }).collect();
    train.targets = truth.select(&source).unwrap();
    let flipped = (0..30).map(|i| i % 3 == 2).collect();
    DataCleaning::new(train, truth, flipped, validation, None, 1e-2, 0.0).unwrap()
}

/// Checks that a report rejects what is wrong, by the claim named.
#[track_caller]
fn caught(fault: impl std::fmt::Debug, report: &Report, claim: &str) {
    let failed: Vec<&str> = report.failures().map(|finding| finding.claim.as_str()).collect();
    assert!(failed.contains(&claim), "{fault:?} should break `{claim}`; broken: {failed:#?}");
}
