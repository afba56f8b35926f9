//! Absorbing a factored block never expands it, and absorbing stored rows takes no tall matrix: the peak of the memory taken meanwhile,
//! counted by the allocator of this test. Alone in its process and one at a time, so that nothing else is counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use nhgd::curvature::{Curvature, CurvatureConfig, FrequentDirectionsConfig, NystromConfig, TestMatrix, WindowConfig};
use nhgd::dense::{Matrix, matmul};
use nhgd::gradient::{DenseRows, GradientBlock};
use nhgd::inverse::KnownCurvature;
use nhgd::par;
use nhgd::reused;
use nhgd::rng::Key;
use nhgd::testkit::cases::{Shape, kronecker_of, short_normals, stored};

/// The system's allocator, with the bytes in use and the most that ever were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// The library forbids `unsafe`; a global allocator cannot be written without it. Growing in place is left to the default, which
// takes the new memory before it gives back the old: the peak is never too small.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by the test that runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Does work on so many threads, each of which has had its own memory for products before.
fn on_warm_threads(threads: usize, work: impl FnOnce() + Send) {
    par::with_threads(threads, || {
        rayon::broadcast(|_| {
            let ones = Matrix::from_fn(64, 64, |_, _| 1.0);
            drop(std::hint::black_box(matmul(&ones, &ones).unwrap()));
        });
        work();
    })
    .unwrap();
}

/// The most bytes in use while `run` ran, above those before it.
fn peak_of<T>(run: impl FnOnce() -> T) -> usize {
    // What waits to be used again would be taken unseen.
    reused::release();
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = run();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    drop(result);
    peak
}

/// A batch of MNIST: 1,024 samples of 784 features and 10 classes, whose G has 64 MB.
#[test]
fn absorbing_a_factored_block_does_not_hold_its_rows() {
    let _alone = alone();
    let (samples, inputs, classes, sketch_size) = (1024, 784, 10, 32);
    let d = inputs * classes;
    let expanded_bytes = samples * d * size_of::<f64>();
    let case = kronecker_of(Shape::random(samples), inputs, classes, Key::new(1)).unwrap();
    // The count does see expanded rows, in a curvature that keeps them. First, for threads that end give back memory of their own.
    let block = stored(case.expanded, 1).unwrap().block;
    let mut curvature = CurvatureConfig::Window(WindowConfig { samples }).build(d, Key::new(2)).unwrap();
    let peak = peak_of(|| curvature.absorb(&block).unwrap());
    assert!(peak >= expanded_bytes, "{peak}");
    drop((block, curvature));
    let nystrom = CurvatureConfig::Nystrom(NystromConfig { sketch_size, probes: Some(0), ..Default::default() });
    let window = CurvatureConfig::Window(WindowConfig { samples });
    // What each may take, in bytes: of the sketch's size and of the samples' products with it, or a copy of the factors.
    let products = samples * classes * sketch_size * size_of::<f64>();
    for (config, allowed) in [(nystrom, 3 * products), (window, 2 * case.block.bytes())] {
        for threads in [1, 2, 4] {
            on_warm_threads(threads, || {
                let mut curvature = config.build(d, Key::new(2)).unwrap();
                // Once before: what threads keep for themselves is not the block's.
                curvature.absorb(&case.block).unwrap();
                let peak = peak_of(|| curvature.absorb(&case.block).unwrap());
                let share = peak as f64 / expanded_bytes as f64;
                println!("{}, {threads} threads: {peak} bytes, {share:.3} of the expanded rows", curvature.name());
                assert!(peak <= allowed && peak <= expanded_bytes / 4, "{}: {peak} bytes, allowed {allowed}", curvature.name());
                solve(curvature.as_ref(), d, expanded_bytes);
            });
        }
    }
}

/// The same of approximating and solving.
fn solve(curvature: &dyn Curvature, d: usize, expanded_bytes: usize) {
    let (known, rhs) = (KnownCurvature::scalar(d, 0.1).unwrap(), vec![1.0; d]);
    let peak = peak_of(|| curvature.approximate().unwrap().solve(&known, &rhs).unwrap());
    println!("  approximate and solve: {:.3} of the expanded rows", peak as f64 / expanded_bytes as f64);
    assert!(peak <= expanded_bytes, "{}: {peak} bytes", curvature.name());
}

/// After the first block nothing of the size of Y or of the rows; an approximation takes one matrix as large as Y beside what it is given;
/// and signs take nothing for Ω and Θ, which the others hold.
#[test]
fn sketches_of_stored_rows_take_no_tall_matrix() {
    let _alone = alone();
    let (d, size, rows) = (100_000, 32, 40);
    let tall = d * size * size_of::<f64>();
    let sign = NystromConfig { sketch_size: size, test_matrix: TestMatrix::Sign, probes: Some(0) };
    let gaussian = NystromConfig { test_matrix: TestMatrix::Gaussian, ..sign.clone() };
    let probed = NystromConfig { probes: Some(size / 4), ..sign.clone() };
    let directions = CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size: size, probes: 0 });
    // Rows of full rank, and too few of them to fill the sketch: F is then recovered from it, which takes another way.
    for (config, rows, held) in [
        (CurvatureConfig::Nystrom(sign.clone()), rows, 1.0),
        (CurvatureConfig::Nystrom(sign), 8, 1.0),
        (CurvatureConfig::Nystrom(gaussian.clone()), rows, 2.0),
        (CurvatureConfig::Nystrom(gaussian), 8, 2.0),
        (CurvatureConfig::Nystrom(probed), rows, 1.25),
        (directions, rows, 1.0),
    ] {
        let block = GradientBlock::from(DenseRows::new(short_normals(Key::new(3), d, rows), 1).unwrap());
        for threads in [1, 2, 4] {
            on_warm_threads(threads, || {
                // Once before: what threads keep for themselves is not the sketch's.
                let mut first = config.build(d, Key::new(4)).unwrap();
                first.absorb(&block).unwrap();
                drop(first);
                reused::release();
                let before = IN_USE.load(Ordering::Relaxed);
                let mut curvature = config.build(d, Key::new(4)).unwrap();
                curvature.absorb(&block).unwrap();
                reused::release();
                let share = (IN_USE.load(Ordering::Relaxed) - before) as f64 / tall as f64;
                let what = format!("{config:?}, {rows} rows, {threads} threads");
                assert!((share - held).abs() < 0.05, "{what}: {share} of Y are held, expected {held}");
                let peak = peak_of(|| curvature.absorb(&block).unwrap()) as f64 / tall as f64;
                println!("{what}: absorbing takes {peak:.3} of Y");
                assert!(peak < 0.1, "{what}: absorbing takes {peak} of Y");
                let peak = peak_of(|| curvature.approximate().unwrap()) as f64 / tall as f64;
                println!("    approximating {peak:.3}");
                assert!(peak > 0.2 && peak < 1.1 + 0.05 * threads as f64, "{what}: approximating takes {peak} of Y");
            });
        }
    }
}

/// What waits to be used again is used again: after ten blocks of a stream, two hundred more take nothing that stays.
#[test]
fn a_long_stream_holds_no_more_than_a_short_one() {
    let _alone = alone();
    let (d, size, rows) = (5_000, 16, 12);
    let block = GradientBlock::from(DenseRows::new(short_normals(Key::new(6), d, rows), 1).unwrap());
    for config in [
        CurvatureConfig::Window(WindowConfig { samples: 4 * rows + 5 }),
        CurvatureConfig::Nystrom(NystromConfig { sketch_size: size, probes: Some(0), ..Default::default() }),
        CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size: size, probes: 0 }),
    ] {
        on_warm_threads(1, || {
            let mut curvature = config.build(d, Key::new(4)).unwrap();
            let mut absorb = |blocks: usize| (0..blocks).for_each(|_| curvature.absorb(&block).unwrap());
            absorb(10);
            let before = IN_USE.load(Ordering::Relaxed);
            absorb(200);
            let more = IN_USE.load(Ordering::Relaxed).saturating_sub(before);
            assert!(more <= 2 * rows * d * size_of::<f64>(), "{config:?}: {more} bytes more");
        });
    }
}
