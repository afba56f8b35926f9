//! What an operation does beside the rate of a large product at the same moment: on a machine that others use too, nothing else compares.

// Each bench is a crate of its own and uses a part of this file.
#![allow(dead_code)]

use std::hint::black_box;
use std::time::Instant;

use nhgd::dense::matmul;
use nhgd::rng::Key;

use crate::rate::median;
use crate::rate::support::short_normals;

/// Medians over the rounds.
pub struct Beside {
    /// Seconds of the operation.
    pub seconds: f64,
    /// Its rate over that of the products just before and after it.
    pub ratio: f64,
    /// The rate of those products, in operations a second.
    pub peak: f64,
}

/// Runs `run`, of `flops` useful operations, `rounds` times between products of order 1024 (2·1024³ operations, the median of three).
pub fn beside_peak(rounds: usize, flops: f64, mut run: impl FnMut()) -> Beside {
    let n = 1024;
    let (a, b) = (short_normals(Key::new(1), n, n), short_normals(Key::new(2), n, n));
    let product = || seconds(|| drop(black_box(matmul(&a, &b).unwrap())));
    let peak = || 2.0 * (n * n * n) as f64 / median(vec![product(), product(), product()]);
    let (mut times, mut peaks) = (Vec::new(), vec![peak()]);
    for _ in 0..rounds {
        times.push(seconds(&mut run));
        peaks.push(peak());
    }
    let ratios = times.iter().zip(peaks.windows(2)).map(|(time, around)| flops / time / (0.5 * (around[0] + around[1]))).collect();
    Beside { ratio: median(ratios), seconds: median(times), peak: median(peaks) }
}

/// The median seconds of each of several operations that take turns, so that what disturbs one disturbs all: only their ratios mean much.
pub fn in_turns<const N: usize>(rounds: usize, runs: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    let mut runs = runs;
    for round in 0..=rounds {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let time = seconds(&mut **run);
            // The first turn meets cold memory.
            if round > 0 {
                times.push(time);
            }
        }
    }
    times.map(median)
}

fn seconds(run: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    run();
    begin.elapsed().as_secs_f64()
}
