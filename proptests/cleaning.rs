//! What the project claims of cleaning the digits, as a test: five seeds, settings of the shipped configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nhgd::bilevel::{self, Damping, Ended, MethodConfig, NhgdConfig, SampleCount, State, StepSize, Stop};
use nhgd::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use nhgd::experiment::config::Config;
use nhgd::experiment::record::Table;
use nhgd::experiment::runner::{Environment, run};
use nhgd::model::FisherKind;
use nhgd::problem::{DataCleaning, DataCleaningConfig, DataSource, ModelConfig, NetworkConfig, Problem};
use nhgd::rng::Key;
use nhgd::samples::Batch;

struct NoClock;
impl Environment for NoClock {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

fn mean_of_last(rows: &Table, method: &str, column: &str) -> f64 {
    let rows = rows.filter("method", method).unwrap();
    let seeds = rows.distinct("seed").unwrap();
    let last = |seed: &String| *rows.filter("seed", seed).unwrap().numbers(column).unwrap().last().unwrap();
    seeds.iter().map(last).sum::<f64>() / seeds.len() as f64
}

#[test]
fn cleaning_beats_noisy_labels_and_the_validation_set_alone() {
    let text = include_str!("../notebooks-data/reproduce.toml");
    let mut config = Config::parse(text, Path::new("reproduce.toml")).unwrap();
    config.checks = false;
    config.hypergradient_errors = None;
    config.runs.retain(|run| run.label.starts_with("nhgd"));
    assert_eq!((config.runs.len(), config.seeds.len()), (2, 5));
    let record = run(&config, &DataSource::default(), BTreeMap::new(), &mut NoClock).unwrap();
    assert!(record.manifest.incidents.is_empty(), "{:?}", record.manifest.incidents);
    let accuracy = |method: &str| mean_of_last(&record.rows, method, "test_accuracy");
    for method in ["nhgd-window", "nhgd-nystrom"] {
        let found = accuracy(method);
        assert!(found >= accuracy("noisy-labels") + 0.06, "{method} {found}, noisy labels {}", accuracy("noisy-labels"));
        assert!(found >= accuracy("validation-only") + 0.015, "{method} {found}, validation {}", accuracy("validation-only"));
        assert!(found <= accuracy("true-labels"), "the ceiling");
        let weight = |kind: &str| mean_of_last(&record.rows, method, kind);
        assert!(weight("weight_clean") - weight("weight_flipped") >= 0.4);
    }
}

/// NHGD with a network inside: both families take its layered rows, and Φ at the θ at hand falls where training on all labels alone does not
/// get.
#[test]
fn cleaning_improves_a_network_too() {
    let network = NetworkConfig { hidden: vec![32], ..Default::default() };
    let config = DataCleaningConfig { model: ModelConfig::Mlp(network), train: 400, ..Default::default() };
    let problem = DataCleaning::load(&config, &DataSource::default(), Key::new(5)).unwrap();
    let flipped = problem.flipped().to_vec();
    let validation = |state: &State| problem.f_outer(&state.outer_var, &state.inner_var, Batch::All).unwrap();
    let run = |curvature: CurvatureConfig, eta: f64| {
        let settings = NhgdConfig {
            batch_size: SampleCount::Drawn(128),
            inner_step_size: StepSize::constant(0.5),
            outer_step_size: StepSize::constant(eta),
            damping: Damping::Fixed(1e-1),
            fisher: Some(FisherKind::Sampled),
            curvature,
            ..Default::default()
        };
        let method = MethodConfig::Nhgd(settings).build().unwrap();
        let outcome = bilevel::run(&problem, method.as_ref(), Key::new(6), Stop::after(100), &mut ()).unwrap();
        assert!(matches!(outcome.ended, Ended::Steps), "{:?}", outcome.ended);
        outcome.state
    };
    let window = CurvatureConfig::Window(WindowConfig { samples: 256 });
    let nystrom = CurvatureConfig::Nystrom(NystromConfig { sketch_size: 64, probes: Some(0), ..Default::default() });
    // The same steps with weights that do not move.
    let plain = validation(&run(window.clone(), 1e-9));
    for curvature in [window, nystrom] {
        let state = run(curvature, 400.0);
        let mean = |wrong: bool| {
            let of: Vec<f64> = state.outer_var.iter().zip(&flipped).filter(|(_, f)| **f == wrong).map(|(v, _)| *v).collect();
            of.iter().sum::<f64>() / of.len() as f64
        };
        let found = validation(&state);
        println!(
            "validation loss {found:.4}, with plain training {plain:.4}; mean logits {:.3} and {:.3}",
            mean(false),
            mean(true)
        );
        assert!(found < 0.8 * plain, "{found} against {plain}");
        assert!(mean(false) > mean(true) + 0.5);
    }
}
