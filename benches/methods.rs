//! One outer step of every registered method at its default settings, on data cleaning of the embedded digits (1,000 samples, d = 650). First
//! each takes steps on all samples from θ*(v), so short that v stays where it is: its direction must descend on Φ, whose gradient the oracle
//! knows.

mod rate;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use nhgd::bilevel::{Method, MethodConfig, State};
use nhgd::dense::{dot, norm};
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
use nhgd::problem::{Counted, DataCleaning, DataCleaningConfig, DataSource, Problem};
use nhgd::rng::Key;
use rate::Peak;
use serde_json::{Value, json};

/// η of the steps whose direction is looked at.
const STILL: f64 = 1e-6;
/// Steps before it: methods of one loop start from q = 0.
const WARM_UP: u64 = 20;

/// The method's defaults, with those of the given settings that it has.
fn settings(name: &str, changes: &[(&str, Value)]) -> MethodConfig {
    let mut config = serde_json::to_value(MethodConfig::default_of(name).unwrap()).unwrap();
    let table = config[name].as_object_mut().unwrap();
    for (setting, value) in changes {
        if let Some(entry) = table.get_mut(*setting) {
            *entry = value.clone();
        }
    }
    serde_json::from_value(config).unwrap()
}

fn step(method: &dyn Method, problem: &dyn Problem, state: &mut State) {
    let status = method.step(problem, state, Key::new(3).child(state.step), &mut ()).unwrap();
    assert!(status.is_converged() && state.is_finite(), "{}: {status}", method.name());
    state.step += 1;
}

/// The cosine of the direction with the exact hypergradient.
fn check(name: &str, problem: &DataCleaning, theta: &[f64]) {
    let all = json!("all");
    let config = settings(
        name,
        &[
            ("batch_size", all.clone()),
            ("outer_batch_size", all),
            ("outer_step_size", json!(STILL)),
            ("inner_step_size", json!(0.5)),
        ],
    );
    let method = config.build().unwrap();
    let mut state = method.init(problem, Key::new(1)).unwrap();
    state.inner_var = theta.to_vec();
    for _ in 0..WARM_UP {
        step(method.as_ref(), problem, &mut state);
    }
    let before = state.outer_var.clone();
    step(method.as_ref(), problem, &mut state);
    let direction: Vec<f64> = before.iter().zip(&state.outer_var).map(|(before, after)| before - after).collect();
    let exact = exact_hypergradient(problem, &before, theta).unwrap();
    let cosine = dot(&direction, &exact) / norm(&direction) / norm(&exact);
    println!("{name}: the cosine of its direction and the hypergradient is {cosine:.4}");
    assert!(cosine > least_cosine(name), "{name}: {cosine}");
}

/// What the direction must reach: most are the hypergradient, of a series that is cut.
fn least_cosine(name: &str) -> f64 {
    match name {
        // One random direction in ten, of a thousand.
        "pzobo" => 0.05,
        // One drawn term of the series, and the share of f in a barrier.
        "sustain" | "bsa" | "ttsa" | "bome" => 0.3,
        _ => 0.8,
    }
}

fn methods(criterion: &mut Criterion) {
    let problem = DataCleaning::load(&DataCleaningConfig::default(), &DataSource::default(), Key::new(1)).unwrap();
    let (v, start) = problem.initial();
    let theta = inner_solution(&problem, &v, &start, NewtonOptions::default()).unwrap().theta;
    for (name, _) in MethodConfig::REGISTRY {
        check(name, &problem, &theta);
    }

    let peak = Peak::measure();
    let mut group = criterion.benchmark_group("outer step");
    for (name, _) in MethodConfig::REGISTRY {
        let method = MethodConfig::default_of(name).unwrap().build().unwrap();
        let mut state = method.init(&problem, Key::new(2)).unwrap();
        step(method.as_ref(), &problem, &mut state);
        let counted = Counted::new(&problem);
        step(method.as_ref(), &counted, &mut state);
        println!("{name} asks for {:?}", counted.counts());
        let mut run = || step(method.as_ref(), black_box(&problem), &mut state);
        peak.report(&format!("{name}, outer step"), 0.0, &mut run);
        group.bench_function(*name, |bench| bench.iter(&mut run));
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(300))
}

criterion_group! { name = benches; config = short(); targets = methods }
criterion_main!(benches);
