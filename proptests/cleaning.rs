//! What the project claims of cleaning the digits, as a test: five seeds, settings of the shipped configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nhgd::experiment::config::Config;
use nhgd::experiment::record::Table;
use nhgd::experiment::runner::{Environment, run};
use nhgd::problem::DataSource;

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
