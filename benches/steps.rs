//! One inner step and one outer step of NHGD at the shape of the embedded digits (1,000 samples, 65 features) and of MNIST (50,000
//! samples, 785 features, drawn at random, so that no file is needed).

mod rate;
#[path = "rate/shapes.rs"]
mod shapes;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use nhgd::bilevel::{CurvatureRows, Damping, Method, MethodConfig, NhgdConfig, SampleCount, State, StepSize};
use nhgd::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use nhgd::dense::{axpy, dot, norm};
use nhgd::operator::LinearOperator;
use nhgd::par;
use nhgd::problem::{DataCleaning, InnerProducts, Problem};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Standardization, Targets};
use rate::Peak;
use rate::support::relative_error;
use shapes::{CLASSES, Shape, shapes};

const INNER_STEPS: u64 = 10;

fn method(shape: &Shape, curvature: CurvatureConfig) -> NhgdConfig {
    NhgdConfig {
        inner_steps: INNER_STEPS,
        batch_size: SampleCount::Drawn(shape.batch),
        outer_step_size: StepSize::constant(shape.outer_step_size),
        inner_step_size: StepSize::constant(1e-2),
        curvature_rows: CurvatureRows::Fresh,
        curvature_samples: Some(SampleCount::Drawn(shape.batch)),
        curvature,
        ..Default::default()
    }
}

/// The gradient against a difference quotient of g.
fn check_inner(shape: &Shape, v: &[f64], theta: &[f64], batch: Batch<'_>) {
    let gradient = shape.problem.grad_inner(v, theta, batch).unwrap();
    let u = Key::new(5).stream().normals(theta.len());
    let value = |t: f64| {
        let mut theta = theta.to_vec();
        axpy(t, &u, &mut theta);
        shape.problem.f_inner(v, &theta, batch).unwrap()
    };
    let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
    let error = (slope - dot(&gradient, &u)).abs() / norm(&gradient) / norm(&u) * (theta.len() as f64).sqrt();
    println!("{}: gradient against a difference quotient: {error:.1e}", shape.name);
    assert!(error < 1e-6, "{error:e}");
}

/// The step that was taken against −η(∇_v f − Jᵀq), with a q whose residual is checked.
fn check_outer(shape: &Shape, config: &NhgdConfig, before: &State, after: &State) {
    let (problem, v, theta) = (&shape.problem, &before.outer_var, &after.inner_var);
    let (b, mut hypergradient) = problem.grad_outer(v, theta, Batch::All).unwrap().into_vecs();
    let approximation = after.curvature.as_ref().unwrap().approximate().unwrap();
    let Damping::Fixed(damping) = config.damping else { panic!("the default damping is a number") };
    let known = problem.known_curvature(v).unwrap().plus(damping).unwrap();
    let q = approximation.solve(&known, &b).unwrap();
    let mut product = approximation.apply(&q).unwrap();
    axpy(1.0, &known.apply(&q).unwrap(), &mut product);
    let residual = relative_error(&product, &b);
    axpy(-1.0, &problem.cross_vjp(v, theta, Batch::All, &q).unwrap(), &mut hypergradient);
    let step: Vec<f64> = after.outer_var.iter().zip(v).map(|(after, before)| (before - after) / shape.outer_step_size).collect();
    let error = relative_error(&step, &hypergradient);
    println!("{}: residual of the inverse product {residual:.1e}, outer step {error:.1e}", shape.name);
    assert!(residual < 1e-9 && error < 1e-9, "{residual:e}, {error:e}");
}

fn steps(criterion: &mut Criterion) {
    let peak = Peak::measure();
    for shape in shapes() {
        let (p, c, m) = (shape.features as f64, CLASSES as f64, shape.batch as f64);
        let (v, mut theta) = shape.problem.initial();
        let indices = Key::new(4).stream().indices(shape.problem.inner_samples(), shape.batch).unwrap();
        let batch = Batch::Indices(&indices);
        check_inner(&shape, &v, &Key::new(6).stream().normals(theta.len()), batch);
        let mut inner = || {
            let gradient = shape.problem.grad_inner(&v, black_box(&theta), batch).unwrap();
            axpy(-1e-3, &gradient, &mut theta);
        };
        peak.report(&format!("{}, inner step", shape.name), 4.0 * m * p * c, &mut inner);
        let mut group = criterion.benchmark_group(shape.name);
        group.bench_function("inner step", |bench| bench.iter(&mut inner));

        let n = shape.problem.inner_samples() as f64;
        let around = INNER_STEPS as f64 * 4.0 * m * p * c + 2.0 * m * p * c + 4.0 * n * p * c;
        let (d, l) = (p * c, 64.0);
        let window = m * m * (p + c) + m * m * m / 3.0 + 4.0 * m * d;
        let nystrom = 4.0 * m * d * l + 9.0 * d * l * l;
        for (name, curvature, solve) in [
            ("window", CurvatureConfig::Window(WindowConfig { samples: shape.batch }), window),
            (
                "nystrom",
                CurvatureConfig::Nystrom(NystromConfig { sketch_size: 64, probes: Some(0), ..Default::default() }),
                nystrom,
            ),
        ] {
            let config = method(&shape, curvature);
            let method = MethodConfig::Nhgd(config.clone()).build().unwrap();
            let start = method.init(&shape.problem, Key::new(7)).unwrap();
            let mut state = method.init(&shape.problem, Key::new(7)).unwrap();
            method.step(&shape.problem, &mut state, Key::new(8), &mut ()).unwrap();
            check_outer(&shape, &config, &start, &state);
            let mut outer = || step(method.as_ref(), &shape.problem, &mut state);
            peak.report(&format!("{}, outer step with {name}", shape.name), around + solve, &mut outer);
            group.bench_function(format!("outer step, {name}"), |bench| bench.iter(&mut outer));
        }
        group.finish();
    }
}

/// The products that methods of one loop ask for, from one pass and from three calls, on standardized features in single precision (784
/// features, 10 classes), with all that such a step costs in this problem beside them: a gradient of f and the reading of dense vectors.
fn one_pass(criterion: &mut Criterion) {
    for (samples, m) in [(20_000, 64), (50_000, 1024)] {
        let problem = standardized(samples);
        let (v, _) = problem.initial();
        let theta: Vec<f64> = Key::new(11).stream().normals(problem.inner_dim()).iter().map(|x| 0.01 * x).collect();
        let q = Key::new(12).stream().normals(problem.inner_dim());
        let indices: Vec<Vec<usize>> = (0..64).map(|k| Key::new(13).child(k).stream().indices(samples, m).unwrap()).collect();
        let outer: Vec<Vec<usize>> = (0..64).map(|k| Key::new(14).child(k).stream().indices(5_000, m).unwrap()).collect();
        let three = |batch| {
            let gradient = problem.grad_inner(&v, &theta, batch).unwrap();
            let hvp = problem.hvp(&v, &theta, batch, &q).unwrap();
            InnerProducts { gradient, hvp, cross_vjp: problem.cross_vjp(&v, &theta, batch, &q).unwrap().into() }
        };
        let one = |batch| problem.inner_products(&v, &theta, batch, &q).unwrap();
        for batch in &indices {
            let (one, three) = (one(Batch::Indices(batch)), three(Batch::Indices(batch)));
            assert!(relative_error(&one.gradient, &three.gradient) < 1e-12);
            assert!(relative_error(&one.hvp, &three.hvp) < 1e-12);
            assert!(relative_error(&one.cross_vjp.to_vec(), &three.cross_vjp.to_vec()) < 1e-12);
        }
        for threads in [1, 2] {
            let mut group = criterion.benchmark_group(format!("{samples} samples, batch {m}, {threads} threads"));
            // Another batch each time: rows come from memory, as in a run.
            let mut time = |name: &str, run: &mut (dyn FnMut(usize) + Send)| {
                group.bench_function(name, |b| b.iter_custom(|count| on_threads(threads, count, run)));
            };
            let batch = |turn: usize| Batch::Indices(&indices[turn % 64]);
            let outer_batch = |turn: usize| Batch::Indices(&outer[turn % 64]);
            time("gradient", &mut |turn| drop(black_box(problem.grad_inner(&v, &theta, batch(turn)))));
            time("three calls", &mut |turn| drop(black_box(three(batch(turn)))));
            time("one pass", &mut |turn| drop(black_box(one(batch(turn)))));
            time("gradient of f", &mut |turn| drop(black_box(problem.grad_outer(&v, &theta, outer_batch(turn)))));
            let (mut v, mut theta, mut q) = (v.clone(), theta.clone(), q.clone());
            time("step of one loop", &mut |turn| {
                let inner = problem.inner_products(&v, &theta, batch(turn), &q).unwrap();
                let outer = problem.grad_outer(&v, &theta, outer_batch(turn)).unwrap();
                axpy(-1e-6, &inner.gradient, &mut theta);
                axpy(-1e-6, &inner.hvp, &mut q);
                axpy(1e-6, &outer.theta, &mut q);
                inner.cross_vjp.add_to("cross_vjp", 1e-6, &mut v).unwrap();
                outer.v.add_to("grad_outer", -1e-6, &mut v).unwrap();
            });
            group.finish();
        }
    }
}

/// The time of `count` runs in a pool of `threads`.
fn on_threads(threads: usize, count: u64, run: &mut (dyn FnMut(usize) + Send)) -> Duration {
    let all = || {
        let start = Instant::now();
        (0..count as usize).for_each(run);
        start.elapsed()
    };
    par::with_threads(threads, all).unwrap()
}

/// Random features, a fifth of them not at the darkest level, as in MNIST.
fn standardized(samples: usize) -> DataCleaning {
    let raw = |samples: usize, key: Key| {
        let mut stream = key.stream();
        let pixel = |u: f64| if u < 0.8 { 0 } else { (1280.0 * (u - 0.8)) as u8 };
        let bytes = (0..samples * 784).map(|_| pixel(stream.uniform())).collect();
        let labels = stream.indices(CLASSES, samples).unwrap().into_iter().map(|label| label as u32).collect();
        let features = Features::from_bytes(bytes, samples, 784, 1.0 / 255.0).unwrap();
        Samples::new(features, Targets::classes(labels, CLASSES).unwrap()).unwrap()
    };
    let (mut train, mut validation) = (raw(samples, Key::new(15)), raw(5_000, Key::new(16)));
    let scale = Standardization::of(&train.features).unwrap();
    train.features = scale.apply(&train.features).unwrap();
    validation.features = scale.apply(&validation.features).unwrap();
    let (truth, flipped) = (train.targets.clone(), vec![false; samples]);
    DataCleaning::new(train, truth, flipped, validation, None, 0.4, -2.0).unwrap()
}

fn step(method: &dyn Method, problem: &DataCleaning, state: &mut State) {
    let status = method.step(problem, state, Key::new(9).child(state.step), &mut ()).unwrap();
    assert!(status.is_converged() && state.is_finite());
    state.step += 1;
}

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = benches; config = short(); targets = one_pass, steps }
criterion_main!(benches);
