//! Absorbing beside the next gradient: the bits of the algorithm written down step by step, one thing after the other, at every thread
//! count; what was not computed because it would be forgotten; and what an observer is told.

use std::sync::Arc;
use std::time::Instant;

use nhgd::bilevel::{
    self, Clock, CurvatureRows, Damping, MethodConfig, NhgdConfig, NhgdPcgConfig, Observer, Phase, SampleCount, Span, Start,
    StepSize, Stop,
};
use nhgd::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use nhgd::dense::axpy;
use nhgd::model::FisherKind;
use nhgd::par;
use nhgd::problem::{DataCleaningConfig, DataSource, Problem, ProblemConfig};
use nhgd::rng::Key;

fn cleaning() -> Box<dyn Problem> {
    let config = DataCleaningConfig { train: 300, validation: 60, ridge: 1e-2, ..Default::default() };
    ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(2)).unwrap()
}

fn window(samples: usize) -> CurvatureConfig {
    CurvatureConfig::Window(WindowConfig { samples })
}

fn nystrom() -> CurvatureConfig {
    CurvatureConfig::Nystrom(NystromConfig { sketch_size: 16, probes: Some(0), ..Default::default() })
}

const DAMPING: f64 = 0.01;

fn base() -> NhgdConfig {
    NhgdConfig {
        inner_steps: 4,
        batch_size: SampleCount::Drawn(40),
        outer_batch_size: SampleCount::Drawn(30),
        outer_step_size: StepSize::constant(50.0),
        damping: Damping::Fixed(DAMPING),
        curvature_decay: 0.1,
        ..Default::default()
    }
}

/// The paper's loop, everything in its order, every batch absorbed.
fn in_order(problem: &dyn Problem, config: &NhgdConfig, key: Key, steps: u64) -> (Vec<f64>, Vec<f64>) {
    let n = problem.inner_samples();
    // A sketch takes half as many samples of every tenth batch as it has columns, with all labels, unless told otherwise.
    let given = config.curvature_samples.is_some() || config.curvature_every.is_some();
    let (samples, every, labels) = match &config.curvature {
        CurvatureConfig::Nystrom(sketch) if !given && config.curvature_rows == CurvatureRows::Trajectory => {
            (SampleCount::Drawn(sketch.sketch_size.div_ceil(2)), 10, FisherKind::Expected)
        }
        _ => (config.curvature_samples.unwrap_or(SampleCount::All), config.curvature_every.unwrap_or(1), FisherKind::Sampled),
    };
    let fisher = config.fisher.unwrap_or(labels);
    let (mut v, mut theta) = problem.initial();
    let mut curvature = config.curvature.build(problem.inner_dim(), key.named("init").named("curvature")).unwrap();
    for t in 0..steps {
        let key = key.named("step").child(t);
        for k in 0..config.inner_steps {
            let key = key.named("inner").child(k);
            let batch = config.batch_size.draw(n, key.named("batch")).unwrap();
            let gradient = problem.grad_inner(&v, &theta, batch.batch()).unwrap();
            if config.curvature_rows == CurvatureRows::Trajectory && (config.inner_steps - 1 - k).is_multiple_of(every) {
                let rows = batch.first(samples, n);
                curvature.decay(config.curvature_decay).unwrap();
                let scores = problem.scores(&v, &theta, rows.batch(), fisher, key.named("labels")).unwrap();
                curvature.absorb(&scores).unwrap();
            }
            axpy(-config.inner_step_size.at(t * config.inner_steps + k), &gradient, &mut theta);
        }
        if config.curvature_rows == CurvatureRows::Fresh {
            let rows = samples.draw(n, key.named("rows")).unwrap();
            curvature.decay(config.curvature_decay).unwrap();
            let scores = problem.scores(&v, &theta, rows.batch(), fisher, key.named("labels")).unwrap();
            curvature.absorb(&scores).unwrap();
        }
        let samples = config.outer_batch_size.draw(problem.outer_samples(), key.named("outer")).unwrap();
        let (b, mut h) = problem.grad_outer(&v, &theta, samples.batch()).unwrap().into_vecs();
        let known = problem.known_curvature(&v).unwrap().plus(DAMPING).unwrap();
        let q = curvature.approximate().unwrap().solve(&known, &b).unwrap();
        let cross = config.cross_samples.draw(n, key.named("cross")).unwrap();
        axpy(-1.0, &problem.cross_vjp(&v, &theta, cross.batch(), &q).unwrap(), &mut h);
        axpy(-config.outer_step_size.at(t), &h, &mut v);
    }
    (v, theta)
}

/// Windows shorter and longer than a batch and than an inner loop, a sketch, rows of the trajectory and fresh ones, all rows and some.
fn variants() -> Vec<NhgdConfig> {
    let fresh = NhgdConfig { curvature_rows: CurvatureRows::Fresh, curvature_samples: Some(SampleCount::Drawn(70)), ..base() };
    let few = NhgdConfig { curvature_samples: Some(SampleCount::Drawn(7)), ..base() };
    let seldom = NhgdConfig { curvature_every: Some(3), ..base() };
    let long = NhgdConfig { inner_steps: 21, ..base() };
    let mut variants = Vec::new();
    for curvature in [window(1), window(39), window(40), window(41), window(120), window(1000), nystrom()] {
        for config in [&base(), &fresh, &few, &seldom, &long] {
            variants.push(NhgdConfig { curvature: curvature.clone(), ..config.clone() });
        }
    }
    variants
}

#[test]
fn the_results_are_those_of_the_sequential_order_at_every_thread_count() {
    let problem = cleaning();
    for config in variants() {
        let (v, theta) = in_order(problem.as_ref(), &config, Key::new(5), 3);
        for overlap in [true, false] {
            let method = MethodConfig::Nhgd(NhgdConfig { overlap, ..config.clone() }).build().unwrap();
            for threads in [1, 2, 4] {
                let run = || bilevel::run(problem.as_ref(), method.as_ref(), Key::new(5), Stop::after(3), &mut ()).unwrap();
                let state = par::with_threads(threads, run).unwrap().state;
                assert!(state.outer_var == v && state.inner_var == theta, "overlap {overlap}, {threads} threads, {config:?}");
            }
        }
    }
    // The test can fail: another order of decay and rows gives other bits.
    let config = NhgdConfig { curvature: nystrom(), ..base() };
    let other = in_order(problem.as_ref(), &NhgdConfig { curvature_decay: 0.2, ..config.clone() }, Key::new(5), 3);
    assert_ne!(in_order(problem.as_ref(), &config, Key::new(5), 3), other);
}

/// A window of one batch needs the rows of the last step only; a sketch needs all.
#[test]
fn rows_that_would_be_forgotten_are_not_computed() {
    let problem = cleaning();
    for (curvature, steps_with_rows) in [(window(40), 1), (window(41), 2), (window(81), 3), (window(1000), 4), (nystrom(), 4)] {
        let method = MethodConfig::Nhgd(NhgdConfig { curvature, curvature_every: Some(1), ..base() }).build().unwrap();
        let counts = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(5), Stop::after(3), &mut ()).unwrap().counts;
        assert_eq!(counts.scores, 3 * 40 * steps_with_rows);
    }
}

#[test]
fn a_sketch_takes_little_only_where_it_is_kept_and_nobody_says_otherwise() {
    let problem = cleaning();
    let config = NhgdConfig { inner_steps: 21, curvature: nystrom(), ..base() };
    let all = SampleCount::All;
    // Of 21 batches of 40 samples, 8 of three, all of all, all of three and 7 of all.
    for (config, expected) in [
        (config.clone(), 3 * 8),
        (NhgdConfig { curvature_start: Start::Cold, ..config.clone() }, 21 * 40),
        (NhgdConfig { curvature_samples: Some(all), ..config.clone() }, 21 * 40),
        (NhgdConfig { curvature_every: Some(10), ..config.clone() }, 3 * 40),
        (NhgdConfig { curvature_samples: Some(SampleCount::Drawn(7)), ..config.clone() }, 21 * 7),
        (NhgdConfig { curvature: window(1000), ..config }, 21 * 40),
    ] {
        let method = MethodConfig::Nhgd(config.clone()).build().unwrap();
        let counts = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(5), Stop::after(2), &mut ()).unwrap().counts;
        assert_eq!(counts.scores, 2 * expected, "{config:?}");
    }
}

/// What went on, and when.
struct Watch {
    clock: Option<Clock>,
    phases: Vec<Phase>,
    spans: Vec<[Span; 2]>,
}

impl Watch {
    fn new(timed: bool) -> Self {
        let begun = Instant::now();
        let clock: Clock = Arc::new(move || begun.elapsed());
        Self { clock: timed.then_some(clock), phases: Vec::new(), spans: Vec::new() }
    }
}

impl Observer for Watch {
    fn phase(&mut self, phase: Phase) {
        self.phases.push(phase);
    }
    fn clock(&self) -> Option<Clock> {
        self.clock.clone()
    }
    fn overlapped(&mut self, spans: [Span; 2]) {
        self.spans.push(spans);
    }
}

#[test]
fn an_observer_is_told_what_went_on_beside_what() {
    let problem = cleaning();
    let nhgd = NhgdConfig { curvature: nystrom(), curvature_every: Some(1), ..base() };
    let pcg = NhgdPcgConfig { inner_steps: 4, curvature: nystrom(), curvature_every: Some(1), ..Default::default() };
    for method in [MethodConfig::Nhgd(nhgd.clone()), MethodConfig::NhgdPcg(pcg)] {
        let method = method.build().unwrap();
        let watched = |threads: usize, timed: bool| {
            let mut watch = Watch::new(timed);
            let run = || bilevel::run(problem.as_ref(), method.as_ref(), Key::new(5), Stop::after(1), &mut watch).map(drop);
            par::with_threads(threads, run).unwrap().unwrap();
            watch
        };
        let watch = watched(2, true);
        // Rows of four steps: three beside the next gradient, the last beside ∇f.
        let pairs: Vec<[Phase; 2]> = watch.spans.iter().map(|pair| pair.map(|span| span.phase)).collect();
        let inner = [Phase::InnerStep, Phase::Absorb];
        assert_eq!(pairs, [inner, inner, inner, [Phase::OuterGradient, Phase::Absorb]]);
        assert!(watch.spans.iter().flatten().all(|span| span.begin <= span.end));
        assert!(!watch.phases.contains(&Phase::Absorb), "it is told as a span");
        for (threads, timed) in [(1, true), (2, false)] {
            assert!(watched(threads, timed).spans.is_empty(), "{threads} threads, timed: {timed}");
        }
        assert!(watched(1, true).phases.contains(&Phase::Absorb));
    }
    let apart = MethodConfig::Nhgd(NhgdConfig { overlap: false, ..nhgd }).build().unwrap();
    let mut watch = Watch::new(true);
    let run = || bilevel::run(problem.as_ref(), apart.as_ref(), Key::new(5), Stop::after(1), &mut watch).map(drop);
    par::with_threads(2, run).unwrap().unwrap();
    assert!(watch.spans.is_empty() && watch.phases.contains(&Phase::Absorb));
}
