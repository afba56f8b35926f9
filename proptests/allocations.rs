//! After three outer steps, in which what waits to be used again is gathered, an inner step takes no memory of the batch's or the parameters'
//! size from the system. Counted by the allocator of this test, alone in its process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use nhgd::bilevel::{self, MethodConfig, NhgdConfig, Observer, Phase, SampleCount, State, StepSize, Stop};
use nhgd::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use nhgd::par;
use nhgd::problem::{DataCleaningConfig, DataSource, OracleCounts, Problem, ProblemConfig};
use nhgd::reused;
use nhgd::rng::Key;
use nhgd::samples::Precision;

/// A batch of 512 numbers of 8 bytes; the 650 parameters take 5,200.
const BATCH: usize = 512;
const LARGE: usize = 8 * BATCH;

/// The system's allocator, which counts what is large.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

// The library forbids `unsafe`; a global allocator cannot be written without it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            TAKEN.fetch_add(1, Ordering::Relaxed);
        }
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what is taken from the first inner step of an outer step to the outer gradient.
#[derive(Default)]
struct Watch {
    step: u64,
    begun: Option<usize>,
    /// For each outer step.
    taken: Vec<usize>,
}

impl Observer for Watch {
    fn phase(&mut self, phase: Phase) {
        match (phase, self.begun) {
            (Phase::InnerStep, None) => self.begun = Some(TAKEN.load(Ordering::Relaxed)),
            (Phase::OuterGradient, Some(begun)) => self.taken.push(TAKEN.load(Ordering::Relaxed) - begun),
            _ => {}
        }
    }
    fn stepped(&mut self, state: &State, _counts: OracleCounts) -> nhgd::Result<()> {
        (self.step, self.begun) = (state.step, None);
        Ok(())
    }
}

#[test]
fn after_three_outer_steps_an_inner_step_takes_nothing_large() {
    // The allocator counts.
    let before = TAKEN.load(Ordering::Relaxed);
    drop(std::hint::black_box(vec![1.0_f64; BATCH]));
    assert_eq!(TAKEN.load(Ordering::Relaxed) - before, 1);

    let window = CurvatureConfig::Window(WindowConfig { samples: 2 * BATCH });
    let nystrom = CurvatureConfig::Nystrom(NystromConfig { sketch_size: 16, probes: Some(0), ..Default::default() });
    for precision in [Precision::Double, Precision::Single] {
        let config = DataCleaningConfig { train: 1000, validation: 100, ridge: 1e-3, precision, ..Default::default() };
        let problem: Box<dyn Problem> = ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(1)).unwrap();
        assert!(8 * problem.inner_dim() >= LARGE);
        for curvature in [&window, &nystrom] {
            let config = NhgdConfig {
                inner_steps: 10,
                batch_size: SampleCount::Drawn(BATCH),
                outer_step_size: StepSize::constant(100.0),
                curvature: curvature.clone(),
                ..Default::default()
            };
            let method = MethodConfig::Nhgd(config).build().unwrap();
            for threads in [1, 2] {
                // What the runs before left.
                reused::release();
                let mut watch = Watch::default();
                let run = || bilevel::run(problem.as_ref(), method.as_ref(), Key::new(1), Stop::after(12), &mut watch).map(drop);
                par::with_threads(threads, run).unwrap().unwrap();
                let (first, later) = watch.taken.split_at(3);
                let name = curvature.name();
                assert!(first[0] > 0, "{name}: the first step has to");
                // With two threads it is a matter of chance when the most vectors are in use at once.
                let most = if threads == 1 { 0 } else { 4 };
                let taken: usize = later.iter().sum();
                assert!(taken <= most, "{name}, {precision:?}, {threads} threads: {first:?} and then {later:?}");
            }
        }
    }
}
