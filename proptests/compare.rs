//! Comparisons: what is tried and chosen, what is left on disk, interruption, and what follows from the runs, computed here once more.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nhgd::comparison::config::Config;
use nhgd::comparison::record::{CANDIDATES, CURVES, PROFILE, RUNS, Record, SUMMARY, TARGETS};
use nhgd::comparison::runner::{self, Checkpoint, World};
use nhgd::experiment::config::Config as Experiment;
use nhgd::experiment::kept::Kept;
use nhgd::experiment::record::{CHECKPOINT, Table};
use nhgd::problem::DataSource;
use nhgd::{Error, Result};

/// Two problems, three methods: one setting of the quadratic's grid diverges, and one method does not take the quadratic.
const CONFIG: &str = r#"
title = "Small"
seeds = [1, 2]
points = 10
budget.outer_steps = 12
tuning = { candidates = 3, share = 0.5, seed = 9, folds = 4, stopping = false }
[[problems]]
label = "digits"
problem.data-cleaning = { train = 80, validation = 20, ridge = 1e-2 }
targets = { test_accuracy = 0.05, f_outer = 1e-9 }
settings.batch_size = 20
grid.outer_step_size = [1.0, 100.0]
[[problems]]
label = "quadratic"
problem.quadratic = { samples = 100, outer_samples = 50 }
score = "value_gap"
grid.inner_step_size = [0.1, 0.2, 1e4]
[[methods]]
label = "nhgd"
method.nhgd = {}
[[methods]]
label = "nhgd-nystrom"
seeds = [1, 2, 3]
method.nhgd = { curvature.nystrom.sketch_size = 64 }
[[methods]]
label = "exact"
method.exact = {}
"#;

/// A world whose clock goes on by a second at every look, and that loses patience.
#[derive(Default)]
struct Notebook {
    looks: AtomicU64,
    patience: Option<u64>,
    asked: AtomicU64,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl World for Notebook {
    fn now(&self) -> Duration {
        Duration::from_secs(self.looks.fetch_add(1, Ordering::Relaxed))
    }
    fn interrupted(&self) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        self.patience.is_some_and(|patience| asked >= patience)
    }
    fn checkpoint_due(&self) -> bool {
        true
    }
    fn keep(&self, checkpoint: &dyn Kept) -> Result<()> {
        self.kept.lock().unwrap().push(checkpoint.to_bytes()?);
        Ok(())
    }
}

fn parsed(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("c.toml"))
}

fn compared(text: &str) -> Record {
    runner::run(&parsed(text).unwrap(), &DataSource::default(), BTreeMap::new(), &Notebook::default()).unwrap()
}

fn rows<'a>(table: &'a Table, columns: &[&str]) -> Vec<Vec<&'a str>> {
    let columns: Vec<Vec<&str>> = columns.iter().map(|column| table.text(column).unwrap()).collect();
    (0..table.len()).map(|row| columns.iter().map(|column| column[row]).collect()).collect()
}

/// The tables without their seconds.
fn timeless(record: &Record) -> Vec<(String, Vec<Vec<String>>)> {
    let plain = |table: &Table| {
        let keep: Vec<bool> = table.columns().iter().map(|column| column != "seconds").collect();
        let row = |row: &Vec<String>| row.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(cell, _)| cell.clone()).collect();
        table.rows().iter().map(row).collect()
    };
    [CANDIDATES, RUNS, CURVES].map(|stem| (stem.to_owned(), plain(record.table(stem).unwrap()))).into()
}

#[test]
fn every_method_is_tried_alike_and_the_best_on_held_out_samples_is_run() {
    let record = compared(CONFIG);
    let tried = record.table(CANDIDATES).unwrap();
    for (problem, count) in [("digits", 2), ("quadratic", 3)] {
        for method in ["nhgd", "nhgd-nystrom", "exact"] {
            let own = tried.filter("problem", problem).unwrap().filter("method", method).unwrap();
            assert_eq!(own.len(), count, "{problem}, {method}");
            let chosen = own.filter("outcome", "chosen").unwrap();
            if (problem, method) == ("quadratic", "nhgd-nystrom") {
                assert!(chosen.is_empty() && own.text("outcome").unwrap().iter().all(|reason| reason.contains("sketch_size")));
                continue;
            }
            // The chosen one has the least score of those that ended.
            let ended: Vec<f64> = rows(&own, &["outcome", "score"])
                .iter()
                .filter(|row| ["chosen", "done"].contains(&row[0]))
                .map(|row| row[1].parse().unwrap())
                .collect();
            let least = ended.iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!(chosen.numbers("score").unwrap(), [least], "{problem}, {method}");
        }
    }
    let diverged = tried.filter("settings", "inner_step_size = 10000.0").unwrap();
    assert!(!diverged.is_empty() && !rows(&diverged, &["outcome"]).iter().any(|row| ["done", "chosen"].contains(&row[0])));

    // Every run that was asked for is a row, and what did not run says why.
    let runs = record.table(RUNS).unwrap();
    let done = |problem: &str, method: &str| {
        let own = runs.filter("problem", problem).unwrap().filter("method", method).unwrap();
        rows(&own, &["seed", "outcome"]).into_iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect::<Vec<_>>()
    };
    let seeds = |seeds: &[&str]| seeds.iter().map(|seed| ((*seed).to_owned(), "done".to_owned())).collect::<Vec<_>>();
    assert_eq!(done("digits", "nhgd"), seeds(&["1", "2"]));
    assert_eq!(done("digits", "nhgd-nystrom"), seeds(&["1", "2", "3"]));
    assert_eq!(done("quadratic", "exact"), seeds(&["1", "2"]));
    let [(seed, outcome)] = &done("quadratic", "nhgd-nystrom")[..] else { panic!() };
    assert!(seed.is_empty() && outcome.contains("sketch_size"), "{outcome}");
    let baselines = runs.filter("outcome", "baseline").unwrap();
    assert_eq!((baselines.distinct("method").unwrap().len(), baselines.len()), (3, 6));

    // What was chosen is a configuration that `run` takes, and gives the row of the comparison.
    let best = Experiment::parse(&record.best["best-digits-exact.toml"], Path::new("best.toml")).unwrap();
    let again = nhgd::experiment::runner::run(&best, &DataSource::default(), BTreeMap::new(), &mut Still).unwrap();
    let last = again.rows.filter("method", "exact").unwrap().filter("step", &best.runs[0].outer_steps.to_string()).unwrap();
    let here = runs.filter("problem", "digits").unwrap().filter("method", "exact").unwrap();
    assert_eq!(last.text("f_outer").unwrap(), here.text("f_outer").unwrap());
}

struct Still;

impl nhgd::experiment::runner::Environment for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn budgets_of_every_kind_end_runs() {
    let with = |budget: &str| compared(&CONFIG.replace("budget.outer_steps = 12", budget));
    let runs = |record: &Record, column: &str| -> Vec<f64> {
        let own = record.table(RUNS).unwrap().filter("problem", "digits").unwrap().filter("method", "nhgd").unwrap();
        own.numbers(column).unwrap()
    };
    // A step of this NHGD asks for 10 × (20 gradients + 20 scores) + 20 outer gradients + 80 cross products = 500.
    assert_eq!(runs(&with("budget.gradient_equivalents = 1700"), "step"), [4.0, 4.0]);
    assert_eq!(runs(&with("budget = { gradient_equivalents = 1700, outer_steps = 3 }"), "step"), [3.0, 3.0]);
    // The clock goes on by a second at every look, of which there is one a step.
    let record = with("budget.seconds = 9.5");
    assert!(runs(&record, "seconds").iter().all(|seconds| (9.5..13.0).contains(seconds)), "{:?}", runs(&record, "seconds"));
}

#[test]
fn an_interrupted_comparison_goes_on_to_the_same_tables() {
    let config = parsed(CONFIG).unwrap();
    let whole = compared(CONFIG);
    let folder = tempfile::tempdir().unwrap();
    for patience in [0, 5, 60, 150, 200] {
        let world = Notebook { patience: Some(patience), ..Notebook::default() };
        let stopped = runner::run(&config, &DataSource::default(), BTreeMap::new(), &world);
        assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{patience}");
        std::fs::write(folder.path().join(CHECKPOINT), world.kept.lock().unwrap().last().unwrap()).unwrap();
        let checkpoint = Checkpoint::read(folder.path()).unwrap();
        assert_eq!(checkpoint.holds_work(), patience >= 60, "{patience}");
        let rest = runner::resume(checkpoint, &DataSource::default(), BTreeMap::new(), &Notebook::default()).unwrap();
        assert_eq!(timeless(&rest), timeless(&whole), "{patience}");
    }
}

#[test]
fn targets_and_profile_are_those_of_the_curves() {
    let record = compared(CONFIG);
    let curves = record.table(CURVES).unwrap();
    let number = |cell: &str| cell.parse::<f64>().unwrap();
    let own = |problem: &str, seed: &str| curves.filter("problem", problem).unwrap().filter("seed", seed).unwrap();
    let mut solved: BTreeMap<(String, String), Vec<(String, f64)>> = BTreeMap::new();
    for row in
        rows(record.table(TARGETS).unwrap(), &["problem", "method", "seed", "target", "value", "reached", "gradient_equivalents"])
    {
        let [problem, method, seed, target, value, reached, calls] = row[..] else { panic!() };
        let run = own(problem, seed).filter("method", method).unwrap();
        let level = if target == "convergence" {
            let all = own(problem, seed);
            let scores: Vec<f64> = rows(&all, &["score"]).iter().map(|row| number(row[0])).collect();
            let best = scores.iter().copied().fold(f64::INFINITY, f64::min);
            best + 0.1 * (scores[0] - best)
        } else {
            number(value)
        };
        assert!((level - number(value)).abs() <= 1e-12 * level.abs().max(1.0), "{problem} {target}: {level} {value}");
        let metric = if target == "convergence" { "score" } else { target };
        let passes = |found: f64| if target == "test_accuracy" { found >= level } else { found <= level };
        let first =
            rows(&run, &[metric, "gradient_equivalents"]).iter().find(|row| passes(number(row[0]))).map(|row| number(row[1]));
        assert_eq!(first.is_some(), reached == "yes");
        assert_eq!(first.unwrap_or(f64::INFINITY), number(calls), "{problem} {method} {seed} {target}");
        if target == "convergence" && seed != "3" {
            solved.entry((problem.into(), seed.into())).or_default().push((method.into(), number(calls).max(f64::MIN_POSITIVE)));
        }
    }
    assert_eq!(solved.len(), 4);
    let profile = record.table(PROFILE).unwrap().filter("cost", "gradient_equivalents").unwrap();
    for row in rows(&profile, &["method", "ratio", "share"]) {
        let [method, ratio, share] = row[..] else { panic!() };
        let within = |costs: &&Vec<(String, f64)>| {
            let least = costs.iter().map(|(_, calls)| *calls).fold(f64::INFINITY, f64::min);
            costs.iter().any(|(own, calls)| own == method && calls / least <= number(ratio))
        };
        assert_eq!(number(share), solved.values().filter(within).count() as f64 / 4.0, "{method} at {ratio}");
    }
    // A closed form: of two runs, the mean of the two is the median too.
    for row in rows(record.table(SUMMARY).unwrap(), &["runs", "mean", "median", "low", "high"]) {
        let [runs, mean, median, low, high] = [0, 1, 2, 3, 4].map(|i| number(row[i]));
        assert!(low <= median && median <= high && (runs != 2.0 || (mean - median).abs() <= 1e-12 * mean.abs()));
    }
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (from, to, words) in [
        ("score = \"value_gap\"", "score = \"test_accuracy\"", "test data"),
        ("share = 0.5", "share = 1.5", "share"),
        ("share = 0.5", "share = 0.5, shar = 1", "shar"),
        ("candidates = 3", "candidates = 0", "candidates"),
        ("folds = 4", "folds = 1", "folds"),
        ("budget.outer_steps = 12", "budget = {}", "budget"),
        ("budget.outer_steps = 12", "budget.seconds = -1.0", "seconds"),
        ("label = \"quadratic\"", "label = \"digits\"", "`digits`"),
        ("label = \"quadratic\"", "label = \"a/b\"", "`a/b`"),
        ("settings.batch_size = 20", "settings.batch_sizes = 20", "batch_sizes"),
        ("method.exact = {}", "method.exact = {}\non.nowhere.settings.inner_steps = 1", "nowhere"),
        ("seeds = [1, 2]\npoints", "seeds = []\npoints", "seeds"),
    ] {
        let error = parsed(&CONFIG.replace(from, to)).expect_err(to).to_string();
        assert!(error.starts_with("c.toml:") && error.contains(words) && !error.contains('\n'), "{to}: {error}");
    }
    // What only the problem knows.
    for (from, to) in [("score = \"value_gap\"", "score = \"gap\""), ("test_accuracy = 0.05", "accurracy = 0.05")] {
        let config = parsed(&CONFIG.replace(from, to)).unwrap();
        let error = runner::run(&config, &DataSource::default(), BTreeMap::new(), &Notebook::default()).unwrap_err().to_string();
        assert!(error.contains("expected one of f_outer"), "{error}");
    }
}

fn nhgd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nhgd")).args(arguments).output().unwrap()
}

#[test]
fn the_command_leaves_a_record_that_report_draws_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (folder.path().join("c.toml"), folder.path().join("out"));
    std::fs::write(&config, CONFIG).unwrap();
    let (config, out) = (config.to_str().unwrap(), out.to_str().unwrap());
    let list = nhgd(&["compare", config, "--list"]);
    assert!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("nhgd-nystrom"));
    assert!(!Path::new(out).exists());

    let done = nhgd(&["compare", config, "--out", out, "--json"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(json["summary"].as_array().unwrap().len() > 10 && json["targets"][0]["target"] == "convergence");
    let files = ["report.html", "performance-profile.svg", "curves-digits.svg", "curves-quadratic.svg"];
    let read = || files.map(|file| std::fs::read(Path::new(out).join(file)).unwrap());
    let before = read();
    files.iter().for_each(|file| std::fs::remove_file(Path::new(out).join(file)).unwrap());
    assert!(nhgd(&["report", out]).status.success());
    assert_eq!(before, read());
    let page = String::from_utf8(before[0].clone()).unwrap();
    assert!(page.contains("sketch_size") && page.contains("performance-profile"), "failures are told on the page");

    let again = nhgd(&["compare", config, "--out", out]);
    assert_eq!(again.status.code(), Some(2));
    let nothing = nhgd(&["compare", "--resume", out]);
    assert_eq!((nothing.status.code(), String::from_utf8_lossy(&nothing.stderr).lines().count()), (Some(2), 1));
}

/// The same methods on the two problems apart, joined: the tables of both, and the profile of both at once.
#[test]
fn comparisons_are_joined_to_one_profile() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (digits, quadratic) = (CONFIG.find("[[problems]]").unwrap(), CONFIG.rfind("[[problems]]").unwrap());
    let methods = CONFIG.find("[[methods]]").unwrap();
    let head = &CONFIG[..digits];
    let texts = [
        ("a", [head, &CONFIG[digits..quadratic], &CONFIG[methods..]].concat()),
        // Seeds of its own: each problem is judged by the seeds of its own comparison.
        ("b", [&head.replace("[1, 2]", "[3, 4]"), &CONFIG[quadratic..methods], &CONFIG[methods..]].concat()),
        ("c", [head, &CONFIG[digits..quadratic], &CONFIG[methods..].replace("\"exact\"", "\"other\"")].concat()),
    ];
    for (name, text) in &texts {
        let file = path(&format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        let done = nhgd(&["compare", &file, "--out", &path(name)]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let done = nhgd(&["compare", "--join", &path("a"), &path("b"), "--out", &path("both")]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let [a, b, both] = ["a", "b", "both"].map(|name| Record::read(Path::new(&path(name))).unwrap());
    for stem in [CANDIDATES, RUNS, CURVES, SUMMARY, TARGETS] {
        let [a, b, both] = [&a, &b, &both].map(|record| record.table(stem).unwrap());
        assert_eq!(both.len(), a.len() + b.len(), "{stem}");
        let problems = both.distinct("problem").unwrap();
        assert_eq!(problems, ["digits", "quadratic"], "{stem}");
    }
    let gaps = both.table(RUNS).unwrap().filter("problem", "quadratic").unwrap();
    let own = b.table(RUNS).unwrap();
    assert_eq!(gaps.text("value_gap").unwrap(), own.text("value_gap").unwrap());
    // Shares count instances, here two of each: those of the joined profile are the means of both.
    let (profiles, ratios) = ([&a, &b, &both].map(|record| record.table(PROFILE).unwrap()), [1.0, 1.5, 3.0, 10.0, 1e9]);
    for method in ["nhgd", "nhgd-nystrom", "exact"] {
        let share = |profile: &Table, cost: &str, within: f64| {
            let rows = profile.filter("method", method).unwrap().filter("cost", cost).unwrap();
            let (at, share) = (rows.numbers("ratio").unwrap(), rows.numbers("share").unwrap());
            at.into_iter().zip(share).rfind(|(at, _)| *at <= within).unwrap().1
        };
        for cost in ["seconds", "gradient_equivalents"] {
            for within in ratios {
                let [a, b, both] = profiles.map(|profile| share(profile, cost, within));
                assert!((both - 0.5 * (a + b)).abs() < 1e-12, "{method}, {cost} ≤ {within}: {both} of {a} and {b}");
            }
        }
    }
    let page = std::fs::read_to_string(path("both/report.html")).unwrap();
    assert!(page.contains("curves-digits") && page.contains("curves-quadratic") && page.contains("performance-profile"));
    assert!(nhgd(&["report", &path("both")]).status.success());
    assert_eq!(std::fs::read_to_string(path("both/report.html")).unwrap(), page);

    for (with, words) in [("c", "`exact` is in"), ("a", "`digits` has the label"), ("both", "joined already")] {
        let refused = nhgd(&["compare", "--join", &path("a"), &path(with), "--out", &path("none")]);
        let line = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && line.contains(words) && line.lines().count() == 1, "{with}: {line}");
        assert!(!Path::new(&path("none")).exists());
    }
}
