//! Labels corrupted on purpose, as in data hyper-cleaning (L. Franceschi, M. Donini, P. Frasconi and M. Pontil, ICML 2017):
//! each label is replaced, with a probability, by one drawn uniformly from all classes. Which labels really changed is kept,
//! since a cleaning method is judged by how well it finds them.

use super::draw_class;
use crate::error::{Error, Result, check_count};
use crate::rng::Key;
use crate::samples::Targets;

/// Labels after corruption, and where they differ from those before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The labels, some of them wrong.
    pub labels: Vec<u32>,
    /// Whether label i differs from the one that was given.
    pub flipped: Vec<bool>,
}

/// Replaces each label, with probability p, by one drawn uniformly from all classes: it changes with probability p (C − 1)/C.
///
/// Sample i takes the i-th pair of numbers (whether, what) from the stream of `key`, used or not. So the same key with a
/// larger p replaces the same labels by the same classes, and more; and the labels of a longer list begin with those of a
/// shorter one.
///
/// # Errors
/// [`Error::Argument`] for a probability outside [0, 1], no classes, or a label of `classes` or more.
pub fn corrupt_labels(labels: &[u32], classes: usize, probability: f64, key: Key) -> Result<Corruption> {
    if !(0.0..=1.0).contains(&probability) {
        return Err(Error::argument("probability", "a number from 0 to 1", probability));
    }
    check_count("classes", classes)?;
    // Only for its check: the labels must be labels of these classes.
    Targets::classes(labels.to_vec(), classes)?;

    let mut stream = key.stream();
    let mut corrupted = Vec::with_capacity(labels.len());
    for &label in labels {
        let (whether, what) = (stream.uniform(), draw_class(&mut stream, classes)?);
        corrupted.push(if whether < probability { what } else { label });
    }
    let flipped = corrupted.iter().zip(labels).map(|(now, before)| now != before).collect();
    Ok(Corruption { labels: corrupted, flipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 100_000;

    fn labels(classes: usize) -> Vec<u32> {
        (0..COUNT).map(|i| (i % classes) as u32).collect()
    }

    fn rate(flipped: &[bool]) -> f64 {
        flipped.iter().filter(|&&f| f).count() as f64 / flipped.len() as f64
    }

    #[test]
    fn probability_zero_changes_nothing() {
        let clean = labels(10);
        let corruption = corrupt_labels(&clean, 10, 0.0, Key::new(1)).unwrap();
        assert_eq!(corruption.labels, clean);
        assert!(corruption.flipped.iter().all(|f| !f));
        assert!(corrupt_labels(&[], 10, 0.5, Key::new(1)).unwrap().labels.is_empty());
        let single = corrupt_labels(&[0; 9], 1, 1.0, Key::new(1)).unwrap();
        assert_eq!(single.flipped, [false; 9], "one class leaves nothing to change to");
    }

    #[test]
    fn the_share_of_changed_labels_is_p_times_c_minus_1_over_c() {
        for (classes, probability) in [(10, 1.0), (10, 0.5), (10, 0.1), (2, 1.0), (3, 0.3)] {
            let clean = labels(classes);
            let corruption = corrupt_labels(&clean, classes, probability, Key::new(2)).unwrap();
            let expected = probability * (classes - 1) as f64 / classes as f64;
            let error = (expected * (1.0 - expected) / COUNT as f64).sqrt();
            let found = rate(&corruption.flipped);
            assert!((found - expected).abs() < 5.0 * error, "{classes} classes, p = {probability}: {found}, not {expected}");
            assert!((0..COUNT).all(|i| corruption.flipped[i] == (corruption.labels[i] != clean[i])));
        }
    }

    #[test]
    fn replacements_are_uniform_over_all_classes_whatever_the_label() {
        let corruption = corrupt_labels(&labels(10), 10, 1.0, Key::new(3)).unwrap();
        let mut counts = [[0.0_f64; 10]; 10];
        corruption.labels.iter().enumerate().for_each(|(i, &y)| counts[i % 10][y as usize] += 1.0);
        let expected = COUNT as f64 / 100.0;
        let chi_square: f64 = counts.iter().flatten().map(|c| (c - expected).powi(2) / expected).sum();
        // 90 degrees of freedom: mean 90, standard deviation √180 = 13.4. Too even would be as wrong as too uneven.
        assert!((23.0..157.0).contains(&chi_square), "{chi_square}");
    }

    #[test]
    fn the_same_key_with_a_larger_probability_keeps_every_replacement() {
        let clean = labels(10);
        let at = |probability| corrupt_labels(&clean, 10, probability, Key::new(4)).unwrap();
        assert_eq!(at(0.3), at(0.3));
        assert_ne!(at(0.3), corrupt_labels(&clean, 10, 0.3, Key::new(5)).unwrap());
        let all = at(1.0);
        for (small, large) in [(0.1, 0.11), (0.3, 0.7), (0.5, 1.0)] {
            let (small, large) = (at(small), at(large));
            assert!(rate(&large.flipped) > rate(&small.flipped));
            for i in (0..COUNT).filter(|&i| small.flipped[i]) {
                assert!(large.flipped[i] && large.labels[i] == small.labels[i] && all.labels[i] == small.labels[i]);
            }
        }
        let short = corrupt_labels(&clean[..777], 10, 0.3, Key::new(4)).unwrap();
        assert_eq!(short.labels, at(0.3).labels[..777]);
    }

    #[test]
    fn misuse_is_refused_by_name() {
        let offender = |labels: &[u32], classes, p| corrupt_labels(labels, classes, p, Key::new(1)).unwrap_err();
        for p in [-1e-9, 1.0 + 1e-9, f64::NAN, f64::INFINITY] {
            assert_eq!(offender(&[0], 2, p).offending_argument(), Some("probability"));
        }
        assert_eq!(offender(&[], 0, 0.5).offending_argument(), Some("classes"));
        assert!(offender(&[0, 1, 2], 2, 0.5).to_string().contains("labels below 2, found 2 at sample 2"));
    }
}
