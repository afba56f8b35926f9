//! What things cost, end to end: formulas against counted operations, power laws against planted ones, a record that is complete and resumable
//! and keeps its clock out of its tables, refusals that name the bytes, predictions and mistakes in one line each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nhgd::curvature::{
    CurvatureConfig, DenseConfig, DiagonalConfig, FrequentDirectionsConfig, KfacConfig, NystromConfig, WindowConfig,
};
use nhgd::experiment::kept::{Kept, World};
use nhgd::experiment::record::Table;
use nhgd::laboratory::checkpoint::Checkpoint;
use nhgd::laboratory::costs::REGISTRY;
use nhgd::laboratory::costs::curvature::Curvature;
use nhgd::laboratory::costs::fit::PowerLaw;
use nhgd::laboratory::costs::model::{Cost, FAMILIES, Operation, Shape, cost, peak};
use nhgd::laboratory::costs::predict::{Target, forecast, sweep_for};
use nhgd::laboratory::plan::Plan;
use nhgd::laboratory::record::{Record, SECONDS};
use nhgd::laboratory::{Experiment, Registered, Size, Suite, runner};
use nhgd::problem::DataSource;
use nhgd::rng::Key;
use nhgd::{Error, Result};

// The formulas.

/// Counts multiplications and additions as they are done.
#[derive(Default)]
struct Counter(u64);

impl Counter {
    /// A product of m × k and k × n, entry by entry.
    fn product(&mut self, m: usize, k: usize, n: usize) {
        for _ in 0..m * n {
            for _ in 0..k {
                self.0 += 2;
            }
        }
    }

    /// The lower triangle of the Gram matrix of n rows of length k.
    fn gram(&mut self, n: usize, k: usize) {
        for i in 0..n {
            for _ in 0..=i {
                for _ in 0..k {
                    self.0 += 2;
                }
            }
        }
    }

    /// Cholesky's factorization of order n, column by column.
    fn cholesky(&mut self, n: usize) {
        for j in 0..n {
            for i in j..n {
                for _ in 0..j {
                    self.0 += 2;
                }
                self.0 += u64::from(i > j);
            }
            self.0 += 1;
        }
    }
}

fn counted(count: impl FnOnce(&mut Counter)) -> f64 {
    let mut counter = Counter::default();
    count(&mut counter);
    counter.0 as f64
}

fn nystrom(sketch_size: usize, probes: usize) -> CurvatureConfig {
    CurvatureConfig::Nystrom(NystromConfig { sketch_size, probes: Some(probes), ..Default::default() })
}

fn directions(sketch_size: usize) -> CurvatureConfig {
    CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size, probes: 0 })
}

#[test]
fn formulas_of_operations_are_what_a_count_finds() {
    let (d, l, b) = (900, 40, 50);
    let shape = Shape { dim: d, block_rows: b, blocks: 1 };
    let flops = |config: &CurvatureConfig, operation| cost(config, shape, operation).unwrap().flops;
    let window = CurvatureConfig::Window(WindowConfig { samples: l });
    let dense = CurvatureConfig::Dense(DenseConfig::default());
    let solve = |counter: &mut Counter| {
        counter.gram(l, d);
        counter.cholesky(l);
        counter.product(l, d, 1);
        counter.product(d, l, 1);
    };
    for (name, formula, count) in [
        (
            "nystrom absorb",
            flops(&nystrom(l, 0), Operation::Absorb),
            counted(|c| {
                c.product(b, d, l);
                c.product(d, b, l);
            }),
        ),
        (
            "with probes",
            flops(&nystrom(l, 10), Operation::Absorb),
            counted(|c| {
                c.product(b, d, l + 10);
                c.product(d, b, l + 10);
            }),
        ),
        (
            "nystrom approximate",
            flops(&nystrom(l, 0), Operation::Approximate),
            counted(|c| {
                c.gram(l, d);
                c.product(l, d, l);
                c.product(d, l, l);
                c.gram(l, d);
                c.product(d, l, l);
            }),
        ),
        ("nystrom solve", flops(&nystrom(l, 0), Operation::Solve), counted(solve)),
        ("window solve", flops(&window, Operation::Solve), counted(solve)),
        ("dense absorb", flops(&dense, Operation::Absorb), counted(|c| c.gram(d, b))),
        (
            "dense solve",
            flops(&dense, Operation::Solve),
            counted(|c| {
                c.cholesky(d);
                c.product(d, d, 1);
            }),
        ),
    ] {
        // What the formulas leave out is of the order of 1/ℓ.
        assert!((formula / count - 1.0).abs() < 0.04, "{name}: {formula} for {count}");
    }
    // The test can tell: half of a symmetric product is not the whole.
    let whole = counted(|c| c.product(l, d, l));
    assert!((whole / counted(|c| c.gram(l, d)) - 1.0).abs() > 0.5);
}

/// The cost of a row as it stands in the family's own file, d(4ℓ + b + 3ℓ²/b) in shrinks of b, and the eigen-decompositions.
#[test]
fn a_shrink_costs_what_its_family_says() {
    let (d, l) = (10_000_usize, 64_usize);
    for b in [64, 100, 192] {
        let shape = Shape { dim: d, block_rows: b, blocks: 1 };
        let found = cost(&directions(l), shape, Operation::Absorb).unwrap().flops;
        let (wide, long, rows) = (d as f64, l as f64, b as f64);
        let row = wide * (4.0 * long + rows + 3.0 * long * long / rows);
        let expected = rows * row + 9.0 * (long + rows).powi(3) + 2.0 * rows * wide;
        assert!((found / expected - 1.0).abs() < 1e-12, "{b}: {found} for {expected}");
    }
    // Rows that only wait cost their norms.
    let shape = Shape { dim: d, block_rows: 10, blocks: 1 };
    assert_eq!(cost(&directions(l), shape, Operation::Absorb).unwrap().flops, 2.0 * 10.0 * d as f64);
}

#[test]
fn peaks_are_what_must_be_held() {
    let (d, l, b) = (1_000_000_usize, 64_usize, 32_usize);
    let shape = Shape { dim: d, block_rows: b, blocks: 2 };
    let columns = |config: &CurvatureConfig| peak(config, shape).unwrap() / (8.0 * d as f64);
    // Ω, Y and what drawing Ω takes, or a copy of Y; a buffer, its copy and vectors.
    assert!((columns(&nystrom(l, 0)) / (3 * l + 6) as f64 - 1.0).abs() < 0.01, "{}", columns(&nystrom(l, 0)));
    assert!((columns(&directions(l)) / (2 * l + 6) as f64 - 1.0).abs() < 0.01, "{}", columns(&directions(l)));
    let window = CurvatureConfig::Window(WindowConfig { samples: l });
    // Its rows while they are stacked.
    assert!((columns(&window) / (2.5 * l as f64) - 1.0).abs() < 0.01, "{}", columns(&window));
    // No peak depends on how many blocks come.
    for config in [nystrom(l, 4), directions(l), window, CurvatureConfig::Diagonal(DiagonalConfig {})] {
        assert_eq!(peak(&config, shape).unwrap(), peak(&config, Shape { blocks: 1000, ..shape }).unwrap(), "{}", config.name());
    }
    let kfac = cost(&CurvatureConfig::Kfac(KfacConfig::default()), shape, Operation::Absorb).unwrap_err().to_string();
    assert!(kfac.contains("kfac") && FAMILIES.iter().all(|family| kfac.contains(family)), "{kfac}");
    let Cost { flops, bytes, .. } = cost(&nystrom(l, 0), shape, Operation::Absorb).unwrap();
    assert!(flops / bytes > 1.0 && flops / bytes < 2.0 * b as f64, "a block's rows bound the operations a byte");
}

// Power laws and predictions.

/// c·d^p·ℓ^r with noise in the logarithm.
struct Law {
    exponents: [f64; 2],
    noise: f64,
}

impl Law {
    fn value(&self, d: f64, l: f64) -> f64 {
        1e-9 * d.powf(self.exponents[0]) * l.powf(self.exponents[1])
    }

    fn noisy(&self, d: f64, l: f64, normal: f64) -> f64 {
        self.value(d, l) * (self.noise * normal).exp()
    }
}

#[test]
fn limits_of_a_prediction_hold_on_cells_that_were_held_back_as_often_as_they_say() {
    let law = Law { exponents: [1.0, 1.4], noise: 0.05 };
    let cells = [(1e3, 64.0), (1e4, 64.0), (1e5, 64.0), (1e4, 16.0), (1e4, 32.0), (1e4, 128.0)];
    let (mut covered, mut exponents, mut refuted, trials) = (0_u64, 0_u64, 0_u64, 1000_u64);
    for trial in 0..trials {
        let mut stream = Key::new(trial).stream();
        let y: Vec<f64> = cells.iter().map(|&(d, l)| law.noisy(d, l, stream.normal())).collect();
        let (d, l): (Vec<f64>, Vec<f64>) = cells.into_iter().unzip();
        let fitted = PowerLaw::fit(&[("d", &d[..]), ("l", &l[..])], &y).unwrap();
        let predicted = fitted.at(&[1e6, 64.0], 0.95).unwrap();
        let held_back = law.noisy(1e6, 64.0, stream.normal());
        covered += u64::from((predicted.low..=predicted.high).contains(&held_back));
        let exponent = fitted.exponent("d", 0.95).unwrap().unwrap();
        exponents += u64::from((exponent.low..=exponent.high).contains(&1.0));
        refuted += u64::from((exponent.low..=exponent.high).contains(&1.3));
    }
    // Binomial(1000, 0.95) has the standard deviation 6.9.
    assert!(covered.abs_diff(950) < 35 && exponents.abs_diff(950) < 35, "{covered}, {exponents}");
    assert!(refuted < 10, "a planted wrong exponent is outside: {refuted}");
}

#[test]
fn a_law_knows_what_was_measured_and_refuses_what_was_not() {
    let d = [1e3, 1e4, 1e5, 1e6];
    let y: Vec<f64> = d.iter().map(|d| 3.0 * d).collect();
    let law = PowerLaw::fit(&[("d", &d[..]), ("l", &[64.0; 4][..])], &y).unwrap();
    assert!((law.value(&[1e8, 64.0]).unwrap() / 3e8 - 1.0).abs() < 1e-9);
    assert!((law.beyond(&[1e8, 64.0]) - 100.0).abs() < 1e-9 && law.beyond(&[1e5, 64.0]) == 1.0 && law.beyond(&[1e2, 64.0]) == 10.0);
    assert!(law.exponent("l", 0.95).unwrap().is_none());
    let other = law.at(&[1e8, 128.0], 0.95).unwrap_err();
    assert!(other.offending_argument() == Some("l") && other.to_string().contains("64"), "{other}");
    let name = |x: &[f64], y: &[f64]| PowerLaw::fit(&[("d", x)], y).unwrap_err().offending_argument();
    assert_eq!(name(&[1.0, 2.0], &[1.0, 2.0]), Some("places"));
    assert_eq!(name(&[1.0, -2.0, 3.0], &[1.0; 3]), Some("d"));
    assert_eq!(name(&[1.0, 2.0, 3.0], &[1.0, 0.0, 1.0]), Some("y"));
    assert_eq!(name(&[1.0, 2.0], &[1.0; 3]), Some("d"));
}

/// A sweep's table whose seconds follow a law for each operation, from the dimensions and sizes of its settings.
fn synthetic(settings: &Curvature, law: &Law, key: Key) -> Table {
    let experiment: &dyn Experiment = settings;
    let mut table = Table::new(experiment.columns().iter().copied().chain([SECONDS, "peak_bytes"]));
    let mut stream = key.stream();
    let cells =
        settings.dims.iter().map(|&d| (d, settings.base_size)).chain(settings.sizes.iter().map(|&l| (settings.base_dim, l)));
    for (d, l) in cells {
        for operation in ["absorb", "approximate", "solve"] {
            let level = stream.normal();
            for replicate in 0..3 {
                let rows: u32 = if operation == "absorb" { 64 } else { 0 };
                let seconds = f64::from(rows.max(1)) * law.noisy(d as f64, l as f64, level + 0.1 * f64::from(replicate - 1));
                let cells = [
                    "nystrom".to_owned(),
                    d.to_string(),
                    l.to_string(),
                    settings.base_block_rows.to_string(),
                    "all".to_owned(),
                    operation.to_owned(),
                    rows.to_string(),
                    replicate.to_string(),
                    "1".to_owned(),
                    "1".to_owned(),
                    "1".to_owned(),
                    String::new(),
                    seconds.to_string(),
                    (24 * d * l).to_string(),
                ];
                table.push(cells).unwrap();
            }
        }
    }
    table
}

#[test]
fn a_forecast_finds_the_planted_costs_and_says_how_far_it_went() {
    let target: Target = "d=1e8,l=64,n=1e6".parse().unwrap();
    let settings = Curvature { families: vec!["nystrom".into()], ..sweep_for(target) };
    let law = Law { exponents: [1.0, 1.0], noise: 0.02 };
    let found = forecast(&settings, &synthetic(&settings, &law, Key::new(3)), target).unwrap();
    let truth = law.value(1e8, 64.0);
    let of = |what: &str| found.predictions.iter().find(|prediction| prediction.what == what).unwrap();
    for what in ["absorb a row", "approximate", "solve"] {
        let value = of(what).value;
        assert!(value.low <= truth && truth <= value.high, "{what}: {value:?} for {truth}");
        assert!(value.high / value.low < 3.0, "limits say something: {value:?}");
        assert!((of(what).exponent.unwrap() - 1.0).abs() < 0.05);
    }
    let all = of("n rows, approximate, solve").value;
    assert!(all.low <= (1e6 + 2.0) * truth && (1e6 + 2.0) * truth <= all.high);
    let memory = of("peak memory");
    assert!((memory.value.value / (24.0 * 1e8 * 64.0) - 1.0).abs() < 1e-6 && memory.formula.unwrap() > 24.0 * 1e8 * 64.0);
    let notes = found.notes();
    let largest = *settings.dims.last().unwrap() as f64;
    assert!(notes[0].contains("extrapolated by a factor of") && notes[0].contains(&largest.to_string()), "{notes:?}");
    assert!(notes[1].contains("inside"), "{notes:?}");
    // Another law beyond what was measured is not in the limits: the note is needed.
    let broken = Law { exponents: [1.5, 1.0], noise: 0.02 }.value(1e8, 64.0);
    assert!(!(of("solve").value.low..=of("solve").value.high).contains(&broken));
}

#[test]
fn targets_are_read_and_mistakes_in_them_named() {
    let target: Target = " d=1e8, l=64 ,n=1000000".parse().unwrap();
    assert_eq!((target.dim, target.size, target.rows), (100_000_000, 64, Some(1_000_000)));
    assert_eq!("ℓ=8,d=100".parse::<Target>().unwrap().to_string(), "d = 100, ℓ = 8");
    for (text, needle) in MISTAKEN_TARGETS {
        let error = text.parse::<Target>().unwrap_err();
        assert!(error.to_string().contains(needle) && error.to_string().lines().count() == 1, "{text}: {error}");
    }
}

const MISTAKEN_TARGETS: [(&str, &str); 10] = [
    ("", "d=NUMBER"),
    ("d=1e8", "a value for `l`"),
    ("l=64", "a value for `d`"),
    ("d=1e8,l=64,k=3", "`k=3`"),
    ("d=many,l=64", "`d=many`"),
    ("d=1.5,l=1", "whole number"),
    ("d=0,l=64", "at least 1"),
    ("d=1e300,l=64", "whole number"),
    ("d=10,l=64", "at most d = 10"),
    ("d=1e8,d=1e7,l=64", "`d` once"),
];

// The record.

/// Every experiment in a blink.
const SMALL: &str = r#"
seed = 5
[machine]
order = 64
entries = 4096
replicates = 2
[curvature]
dims = [200, 400, 800]
base_dim = 400
base_size = 8
sizes = [4, 8, 16]
base_block_rows = 4
block_rows = [4, 8]
streams = [16, 64]
replicates = 2
order = 64
entries = 4096
[steps]
samples = [200, 400]
base_samples = 200
widths = [5, 10]
base_width = 5
batches = [16, 32]
base_batch = 16
validation = 50
inner_steps = 2
window = 32
sketch_size = 8
sketch_samples = 8
replicates = 2
order = 64
entries = 4096
[curvature-samples]
samples = [2, 8]
proposed = [[2, 1], [4, 2]]
inner_steps = 5
replicates = 2
[curvature-samples.cleaning]
train = 60
validation = 20
ridge = 1e-2
"#;

/// Its clock runs a little with each look; it asks to stop after so many questions.
#[derive(Default)]
struct Notebook {
    kept: Mutex<Vec<Vec<u8>>>,
    patience: Option<u64>,
    asked: AtomicU64,
    looked: AtomicU64,
    tick: u64,
}

impl World for Notebook {
    fn now(&self) -> Duration {
        Duration::from_micros(self.tick * self.looked.fetch_add(1, Ordering::Relaxed))
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

fn plan() -> Plan {
    Plan::parse(Suite::Costs, &[], Size::Quick, SMALL, Path::new("test.toml")).unwrap()
}

fn run(world: &Notebook) -> Result<Record> {
    runner::run(&plan(), Size::Quick, &DataSource::default(), BTreeMap::new(), world)
}

/// The tables of the experiments themselves, which no clock may change.
fn own_tables(record: &Record) -> Vec<(String, Vec<u8>)> {
    let own = record.manifest.experiments.iter().map(|report| &report.tables[0]);
    own.map(|stem| (stem.clone(), record.table(stem).unwrap().to_csv().unwrap())).collect()
}

#[test]
fn a_record_is_complete_and_no_clock_is_in_its_rows() {
    let record = run(&Notebook { tick: 700, ..Notebook::default() }).unwrap();
    let slower = run(&Notebook { tick: 2100, ..Notebook::default() }).unwrap();
    assert_eq!(own_tables(&record), own_tables(&slower), "another clock, the same rows");
    assert_ne!(record.timings, slower.timings);
    let experiments: Vec<&str> = record.manifest.experiments.iter().map(|report| report.name.as_str()).collect();
    assert_eq!(experiments, REGISTRY.iter().map(|entry| entry.name).collect::<Vec<_>>());
    for report in &record.manifest.experiments {
        let own = record.table(&report.name).unwrap();
        assert!(own.columns().iter().all(|column| !column.contains("second") && column != "peak_bytes"), "{:?}", own.columns());
        let timed = record.timed_table(&report.name).unwrap();
        assert!(timed.numbers(SECONDS).unwrap().iter().all(|seconds| *seconds > 0.0), "every row of {} is timed", report.name);
    }
    let claims: usize = plan().chosen.iter().map(|chosen| chosen.experiment.claims().len()).sum();
    assert_eq!(record.verdicts.len(), claims);
    assert_eq!(record.manifest.suite, Suite::Costs);
}

#[test]
fn a_run_that_is_interrupted_again_and_again_comes_to_the_same_rows() {
    let whole = run(&Notebook::default()).unwrap();
    let mut world = Notebook { patience: Some(9), ..Notebook::default() };
    let mut result = run(&world);
    let mut sessions = 1;
    while let Err(error) = &result {
        assert!(matches!(error, Error::Interrupted { .. }) && sessions < 100, "{error}");
        let last = world.kept.into_inner().unwrap().pop().unwrap();
        world = Notebook { patience: Some(9), ..Notebook::default() };
        let checkpoint = Checkpoint::from_bytes(&last, Path::new("checkpoint.nhgd")).unwrap();
        result = runner::resume(checkpoint, &DataSource::default(), BTreeMap::new(), &world);
        sessions += 1;
    }
    assert!(sessions > 3, "{sessions} sessions");
    let record = result.unwrap();
    assert_eq!(own_tables(&record), own_tables(&whole));
    assert_eq!(record.manifest, whole.manifest);
}

#[test]
fn every_experiment_has_sound_settings_at_both_sizes_and_comes_back_from_its_configuration() {
    for size in [Size::Quick, Size::Full] {
        let plan = Plan::new(Suite::Costs, &[], size).unwrap();
        plan.validate().unwrap();
        let text = plan.to_toml().unwrap();
        assert_eq!(Plan::parse(Suite::Costs, &[], Size::Quick, &text, Path::new("plan.toml")).unwrap().to_toml().unwrap(), text);
        for chosen in &plan.chosen {
            let (name, claims) = (chosen.entry.name, chosen.experiment.claims());
            assert!(!claims.is_empty() && claims.iter().all(|claim| claim.experiment == name), "{name}");
            assert!(claims.iter().all(|claim| claim.rule.predicted().is_finite()), "{name}: {claims:?}");
            let statements: Vec<&String> = claims.iter().map(|claim| &claim.claim).collect();
            assert!((0..claims.len()).all(|i| !statements[..i].contains(&statements[i])), "{name}: a claim stands there twice");
            assert!(chosen.experiment.pieces() > 0 && !chosen.experiment.pictures().is_empty(), "{name}");
        }
    }
    // The configuration that ships is that of the full size.
    let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("notebooks-data/scale.toml")).unwrap();
    let shipped = Plan::parse(Suite::Costs, &[], Size::Quick, &shipped, Path::new("scale.toml")).unwrap();
    assert_eq!(shipped.to_toml().unwrap(), Plan::new(Suite::Costs, &[], Size::Full).unwrap().to_toml().unwrap());
}

// The command line.

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("nhgd-scale-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn nhgd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nhgd")).args(arguments).env_remove("NHGD_DATA").output().unwrap()
}

fn scale(folder: &Path, configuration: &str, more: &[&str]) -> (Output, PathBuf) {
    let (file, out) = (folder.join("scale.toml"), folder.join("out"));
    fs::write(&file, configuration).unwrap();
    let fixed = ["scale", "--quick", "--config", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    (nhgd(&[&fixed, more].concat()), out)
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(output: &Output, code: i32, needles: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(needles.iter().all(|needle| error.contains(needle)), "{needles:?} in {error}");
}

/// One run of the program, all that it leaves, and predictions from it.
#[test]
fn a_run_counts_its_memory_draws_its_roofs_and_can_be_predicted_from() {
    let folder = folder("whole");
    let (output, out) = scale(&folder, SMALL, &["--json", "--threads", "2"]);
    let said = json(&output);
    assert_eq!(said["refused"].as_array().unwrap().len(), 0);
    assert!(said["verdicts"].as_array().unwrap().iter().all(|verdict| verdict["experiment"].is_string()));
    let record = Record::read(&out).unwrap();
    let timed = record.timed_table("curvature").unwrap();
    let all = timed.filter("threads", "all").unwrap();
    for (family, bytes) in all.text("family").unwrap().into_iter().zip(all.numbers("peak_bytes").unwrap()) {
        assert!(family == "machine" || bytes > 0.0, "the program counts: {family}, {bytes}");
    }
    for stem in
        ["roofline", "curvature-seconds", "curvature-peaks", "curvature-sizes", "steps", "curvature-samples", "machine-gemm"]
    {
        assert!(fs::read(out.join(format!("{stem}.png"))).unwrap().starts_with(b"\x89PNG"), "{stem}");
    }
    let roofline = fs::read_to_string(out.join("roofline.svg")).unwrap();
    for text in ["operations a byte (flop/byte)", "rate (GFLOP/s)", "roofs of all threads", "nystrom absorb", "window solve"] {
        assert!(roofline.contains(text), "{text}");
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("What it costs, and how that grows"));

    let from = ["--from", out.to_str().unwrap()];
    let predicted = json(&nhgd(&[&["scale", "--json", "--predict", "d=1e6,l=8,n=1e5"][..], &from].concat()));
    let predictions = predicted["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 4 * 5, "four families, five numbers");
    for prediction in predictions {
        let number = |key: &str| prediction[key].as_f64().unwrap();
        assert!(number("low") <= number("value") && number("value") <= number("high") && number("low") > 0.0, "{prediction}");
    }
    let notes = predicted["notes"].to_string();
    assert!(notes.contains("factor of 1250 (measured from 200 to 800)"), "{notes}");
    let text = nhgd(&[&["scale", "--predict", "d=1e12,l=8", "--memory", "1GB"][..], &from].concat());
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("nystrom would not fit here: it needs ") && text.contains("1000000000 are available"), "{text}");
    // What is no record of a sweep is refused.
    fs::remove_file(out.join("manifest.json")).unwrap();
    refused(&nhgd(&[&["scale", "--predict", "d=1e6,l=8"][..], &from].concat()), 1, &["no complete record"]);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_does_not_fit_is_a_row_and_a_line_with_the_bytes() {
    let folder = folder("memory");
    let configuration = SMALL.split("[steps]").next().unwrap();
    let (output, out) = scale(&folder, configuration, &["curvature", "--memory", "100kB"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    // Ω, Y and what drawing Ω takes, of 800 × 8 numbers: 3 · 8 · 6,400 bytes, beside vectors.
    let line = said.lines().find(|line| line.contains("Refused: nystrom, d = 800, ℓ = 8")).unwrap();
    assert!(line.contains("needs ") && line.contains(" bytes of memory, 100000 are available"), "{line}");
    let needed: f64 = line.split("needs ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((153_600.0..300_000.0).contains(&needed), "{line}");
    let table = Table::read(&out.join("curvature.csv")).unwrap();
    let large = table.filter("d", "800").unwrap().filter("family", "nystrom").unwrap();
    assert_eq!((large.len(), large.text("operation").unwrap()[0]), (1, "none"), "nothing of it was begun");
    assert!(large.text("refused").unwrap()[0].contains("100000 are available"));
    assert!(table.filter("family", "diagonal").unwrap().text("refused").unwrap().iter().all(|reason| reason.is_empty()));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn mistakes_are_told_in_one_line_and_leave_nothing() {
    let folder = folder("mistakes");
    for (text, needle) in MISTAKEN_TARGETS.into_iter().filter(|(text, _)| !text.is_empty()) {
        refused(&nhgd(&["scale", "--predict", text]), 2, &["--predict", needle]);
    }
    let out = folder.join("out");
    refused(&nhgd(&["scale", "no-such", "--out", out.to_str().unwrap()]), 2, &["`no-such`", "machine", "curvature-samples"]);
    for (configuration, needles) in [
        ("[sgd-path]\n", &["scale.toml:1:", "`sgd-path`", "curvature"][..]),
        ("[curvature]\nfamilies = [\"kfac\"]\n", &["scale.toml:2:", "`kfac`"]),
        ("[curvature]\nbase_dim = 10\n", &["scale.toml:2:", "at most every d"]),
        ("[steps]\n\nwidths = [5, 4]\n", &["scale.toml:3:", "ascending"]),
        ("[curvature-samples]\nproposed = [[3, 1], [32, 0]]\n", &["scale.toml:2:", "every s-th batch", "[32, 0]"]),
        ("[machine]\nreplicates = 1\n", &["scale.toml:2:", "at least 2"]),
    ] {
        let (output, out) = scale(&folder, configuration, &[]);
        refused(&output, 2, needles);
        assert!(!out.exists(), "{configuration}");
    }
    let usage = nhgd(&["scale", "--from", "somewhere"]);
    assert_eq!(usage.status.code(), Some(2), "a record without anything to predict");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn help_and_lists_say_what_there_is() {
    let help = String::from_utf8(nhgd(&["scale", "--help"]).stdout).unwrap();
    for needle in ["--predict", "--from", "--memory", "--quick", "--resume", "nhgd scale --predict d=1e8,l=64"] {
        assert!(help.contains(needle), "{needle} in {help}");
    }
    let listed = json(&nhgd(&["scale", "--list", "--json"]));
    let names: Vec<&str> = listed["experiments"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["machine", "curvature", "steps", "curvature-samples"]);
    assert_eq!(listed["experiments"][1]["claims"][0]["rule"], "upper limit at most 1.05");
    let all = json(&nhgd(&["list", "--json"]));
    assert_eq!(all["cost"].as_array().unwrap().len(), REGISTRY.len());
    assert_eq!(Curvature::NAME, names[1]);
}
