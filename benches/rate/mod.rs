//! What a benchmark is measured against: the rate of a large square product in the same run, on the same threads.

// Each bench is a crate of its own and uses a part of this file.
#![allow(dead_code)]

use std::hint::black_box;
use std::time::Instant;

use nhgd::dense::matmul;
use nhgd::par;
use nhgd::rng::Key;

#[path = "../../proptests/support.rs"]
pub mod support;

/// The peak of this run.
pub struct Peak(f64);

impl Peak {
    /// Measures a product of order 1024, 2·1024³ flops.
    pub fn measure() -> Self {
        let n = 1024;
        let (a, b) = (support::short_normals(Key::new(1), n, n), support::short_normals(Key::new(2), n, n));
        let flops = 2.0 * (n * n * n) as f64;
        let peak = flops / seconds(|| matmul(&a, &b).unwrap());
        println!("gemm of order {n} on {} threads: {:.1} GFLOP/s", par::threads(), peak / 1e9);
        Self(peak)
    }

    /// Prints the time of `run`, and its rate as a fraction of the peak for `flops` useful operations (0 where it only moves
    /// memory); returns the seconds.
    pub fn report<T>(&self, what: &str, flops: f64, run: impl FnMut() -> T) -> f64 {
        let time = seconds(run);
        let ratio = if flops > 0.0 { format!(", {:.2} of the gemm rate", flops / time / self.0) } else { String::new() };
        println!("{what}: {:.3} ms{ratio}", 1e3 * time);
        time
    }
}

/// The middle one, the upper of two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The best of at least 3 runs and 0.2 s.
fn seconds<T>(mut run: impl FnMut() -> T) -> f64 {
    let (start, mut best, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < 3 || start.elapsed().as_secs_f64() < 0.2 {
        let begin = Instant::now();
        black_box(run());
        best = best.min(begin.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}
