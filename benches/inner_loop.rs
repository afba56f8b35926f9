//! What the curvature adds to the inner loop of NHGD at the shape of MNIST (50,000 samples, d = 7,850, batches of 1,024, ten inner steps): the
//! time from the first inner step until the curvature has all its rows and b = ∇_θ f is there, less that of b, over that of the same loop
//! without a curvature. In turns, medians of ratios, in both precisions, on one thread and on all.

mod rate;
#[path = "rate/shapes.rs"]
mod shapes;

use std::time::{Duration, Instant};

use nhgd::bilevel::{AmigoConfig, Method, MethodConfig, NhgdConfig, Observer, Phase, SampleCount, State, StepSize};
use nhgd::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use nhgd::par;
use nhgd::problem::DataCleaning;
use nhgd::rng::Key;
use nhgd::samples::Precision;
use rate::median;

const INNER_STEPS: u64 = 10;
const BATCH: SampleCount = SampleCount::Drawn(1024);
const ROUNDS: u64 = 25;

/// When phases of one step began.
struct Watch {
    origin: Instant,
    first: Option<Duration>,
    outer_gradient: Duration,
    ended: Duration,
    /// Time of rows and their absorption.
    absorbing: Duration,
    last: Option<(Phase, Duration)>,
}

impl Watch {
    fn new() -> Self {
        let zero = Duration::ZERO;
        Self { origin: Instant::now(), first: None, outer_gradient: zero, ended: zero, absorbing: zero, last: None }
    }
}

impl Observer for Watch {
    fn phase(&mut self, phase: Phase) {
        let now = self.origin.elapsed();
        if let Some((Phase::Absorb, begun)) = self.last {
            self.absorbing += now - begun;
        }
        self.last = Some((phase, now));
        self.first.get_or_insert(now);
        match phase {
            Phase::OuterGradient => self.outer_gradient = now,
            Phase::InverseProduct => self.ended = now,
            _ => {}
        }
    }
}

/// One step from the beginning: seconds of the loop with ∇f, of ∇f alone where nothing goes on beside it, and of absorbing.
fn timed(method: &dyn Method, problem: &DataCleaning, state: &mut State) -> [f64; 3] {
    let mut watch = Watch::new();
    let status = method.step(problem, state, Key::new(9).child(state.step), &mut watch).unwrap();
    assert!(status.is_converged() && state.is_finite());
    state.step += 1;
    let seconds = |span: Duration| span.as_secs_f64();
    [seconds(watch.ended - watch.first.unwrap()), seconds(watch.ended - watch.outer_gradient), seconds(watch.absorbing)]
}

fn nhgd(curvature: CurvatureConfig, fed: Option<(usize, u64)>, overlap: bool) -> Box<dyn Method> {
    let config = NhgdConfig {
        inner_steps: INNER_STEPS,
        batch_size: BATCH,
        outer_batch_size: BATCH,
        cross_samples: BATCH,
        inner_step_size: StepSize::constant(1e-2),
        outer_step_size: StepSize::constant(1.0),
        curvature,
        curvature_samples: fed.map(|(samples, _)| SampleCount::Drawn(samples)),
        curvature_every: fed.map(|(_, every)| every),
        overlap,
        ..Default::default()
    };
    MethodConfig::Nhgd(config).build().unwrap()
}

fn main() {
    for (name, precision) in [("double", Precision::Double), ("single", Precision::Single)] {
        println!("products in {name} precision");
        compare(&shapes::mnist(precision));
    }
}

fn compare(problem: &DataCleaning) {
    let plain = MethodConfig::Amigo(AmigoConfig {
        inner_steps: INNER_STEPS,
        linear_steps: 1,
        batch_size: BATCH,
        outer_batch_size: BATCH,
        inner_step_size: StepSize::constant(1e-2),
        outer_step_size: StepSize::constant(1.0),
        ..Default::default()
    });
    let plain = plain.build().unwrap();
    let window = CurvatureConfig::Window(WindowConfig::default());
    let nystrom = CurvatureConfig::Nystrom(NystromConfig::default());
    let mut cases =
        vec![("window at its defaults".to_owned(), window, None), ("nystrom at its defaults".to_owned(), nystrom.clone(), None)];
    for (samples, every) in [(64, 10), (96, 10), (16, 1), (64, 1), (1024, 1)] {
        let batches = if every == 1 { "each batch".to_owned() } else { format!("every {every}th batch") };
        cases.push((format!("nystrom, {samples} samples of {batches}"), nystrom.clone(), Some((samples, every))));
    }
    for threads in [1, par::threads()] {
        println!(
            "{threads} threads: time over that of the loop alone; that of absorbing, one after the other, in gradients of a batch"
        );
        par::with_threads(threads, || {
            for (name, curvature, fed) in &cases {
                let with = nhgd(curvature.clone(), *fed, true);
                let sequential = nhgd(curvature.clone(), *fed, false);
                let start = |method: &dyn Method| method.init(problem, Key::new(7)).unwrap();
                let mut states = [start(plain.as_ref()), start(with.as_ref()), start(sequential.as_ref())];
                let (mut ratios, mut prices, mut milliseconds) = (Vec::new(), Vec::new(), Vec::new());
                for round in 0..ROUNDS {
                    let [alone, outer, _] = timed(plain.as_ref(), problem, &mut states[0]);
                    let [beside, _, _] = timed(with.as_ref(), problem, &mut states[1]);
                    let [_, _, absorbing] = timed(sequential.as_ref(), problem, &mut states[2]);
                    if round == 0 {
                        // The same inner loop, and the same step whether or not anything went on beside it.
                        assert_eq!(states[0].inner_var, states[1].inner_var);
                    }
                    assert_eq!(states[1].outer_var, states[2].outer_var);
                    let looped = alone - outer;
                    ratios.push((beside - outer) / looped);
                    prices.push(absorbing / (looped / INNER_STEPS as f64));
                    milliseconds.push(1e3 * looped);
                }
                let [ratio, price, loop_alone] = [ratios, prices, milliseconds].map(median);
                println!("    {name:<40} {ratio:.2}    {price:.1} gradients in all    (loop alone {loop_alone:.1} ms)");
            }
        })
        .unwrap();
    }
}
