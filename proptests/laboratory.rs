//! The laboratory end to end: the same bytes at any number of threads and after any interruption, claims that are wrong found out, pictures
//! from the files of a record alone, mistakes told in one line.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nhgd::experiment::kept::{Kept, World};
use nhgd::laboratory::checkpoint::Checkpoint;
use nhgd::laboratory::experiments::REGISTRY;
use nhgd::laboratory::plan::Plan;
use nhgd::laboratory::record::Record;
use nhgd::laboratory::{Size, Suite, runner};
use nhgd::problem::DataSource;
use nhgd::{Error, Result, par};

/// Every experiment that finishes in a blink.
const SMALL: &str = r#"
seed = 5
[fisher-consistency]
rows = [50, 200, 800]
replicates = 12
slope_from = 50
[sgd-path]
steps = [30, 100, 300]
replicates = 20
constant_replicates = 5
slope_from = 30
deltas = [0.5, 0.2]
[misspecified]
rows = [50, 200]
replicates = 3
slope_from = 50
[rank-one]
batch_sizes = [1, 2]
batches = 20
replicates = 2
gammas = [0.5]
wind_up_replicates = 2
dims = [4, 8]
rows = 40
sketch_size = 2
cost_replicates = 2
"#;

fn plan(text: &str) -> Plan {
    Plan::parse(Suite::Bounds, &[], Size::Quick, text, Path::new("test.toml")).unwrap()
}

/// Keeps every checkpoint, and asks to stop after so many questions.
#[derive(Default)]
struct Notebook {
    kept: Mutex<Vec<Vec<u8>>>,
    patience: Option<u64>,
    asked: AtomicU64,
}

impl World for Notebook {
    fn now(&self) -> Duration {
        Duration::ZERO
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

fn run(plan: &Plan, world: &Notebook) -> Result<Record> {
    runner::run(plan, Size::Quick, &DataSource::default(), BTreeMap::new(), world)
}

fn resume(bytes: &[u8], world: &Notebook) -> Result<Record> {
    let checkpoint = Checkpoint::from_bytes(bytes, Path::new("checkpoint.nhgd"))?;
    runner::resume(checkpoint, &DataSource::default(), BTreeMap::new(), world)
}

/// What must not depend on how a laboratory was run.
fn essence(record: &Record) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let tables = record.tables.iter().map(|(stem, table)| (stem.clone(), table.to_csv().unwrap())).collect();
    (tables, record.verdicts.to_csv().unwrap())
}

#[test]
fn a_laboratory_has_the_same_bytes_at_every_number_of_threads() {
    let plan = plan(SMALL);
    let at = |threads| par::with_threads(threads, || essence(&run(&plan, &Notebook::default()).unwrap())).unwrap();
    let one = at(1);
    assert_eq!(one, at(2));
    assert_eq!(one, at(4));
    let other = Plan { seed: 6, ..self::plan(SMALL) };
    assert_ne!(one.0, essence(&run(&other, &Notebook::default()).unwrap()).0, "another seed is another laboratory");
}

#[test]
fn a_laboratory_goes_on_from_its_checkpoints_to_the_same_bytes() {
    let plan = plan(SMALL);
    let world = Notebook::default();
    let record = run(&plan, &world).unwrap();
    let kept = world.kept.into_inner().unwrap();
    let pieces: usize = plan.chosen.iter().map(|chosen| chosen.experiment.pieces()).sum();
    assert_eq!(kept.len(), 1 + pieces, "at the beginning and after each piece");
    for bytes in kept.iter().step_by(9).chain(kept.last()) {
        let again = resume(bytes, &Notebook::default()).unwrap();
        assert_eq!(essence(&again), essence(&record));
        assert_eq!(again.manifest, record.manifest);
    }
    assert!(resume(&kept[3][..kept[3].len() - 1], &Notebook::default()).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn a_laboratory_that_is_interrupted_again_and_again_comes_to_the_same_bytes() {
    let plan = plan(SMALL);
    let record = run(&plan, &Notebook::default()).unwrap();
    for patience in [1, 7] {
        let mut world = Notebook { patience: Some(patience), ..Notebook::default() };
        let mut result = run(&plan, &world);
        let mut sessions = 1;
        while let Err(error) = &result {
            assert!(matches!(error, Error::Interrupted { .. }), "{error}");
            assert!(sessions < 500, "stuck: {error}");
            let last = world.kept.into_inner().unwrap().pop().unwrap();
            world = Notebook { patience: Some(patience), ..Notebook::default() };
            result = resume(&last, &world);
            sessions += 1;
        }
        assert!(sessions > 5, "{sessions} sessions");
        assert_eq!(essence(&result.unwrap()), essence(&record));
    }
}

#[test]
fn every_experiment_has_sound_settings_at_both_sizes_and_comes_back_from_its_configuration() {
    for size in [Size::Quick, Size::Full] {
        let plan = Plan::new(Suite::Bounds, &[], size).unwrap();
        plan.validate().unwrap();
        let text = plan.to_toml().unwrap();
        assert_eq!(Plan::parse(Suite::Bounds, &[], Size::Quick, &text, Path::new("plan.toml")).unwrap().to_toml().unwrap(), text);
        for chosen in &plan.chosen {
            let (name, claims) = (chosen.entry.name, chosen.experiment.claims());
            assert!(!claims.is_empty() && claims.iter().all(|claim| claim.experiment == name), "{name}");
            let statements: Vec<&String> = claims.iter().map(|claim| &claim.claim).collect();
            assert!((0..claims.len()).all(|i| !statements[..i].contains(&statements[i])), "{name}: a claim stands there twice");
            assert!(chosen.experiment.pieces() > 0 && !chosen.experiment.pictures().is_empty(), "{name}");
        }
    }
    let names: Vec<&str> = REGISTRY.iter().map(|entry| entry.name).collect();
    assert!((0..names.len()).all(|i| !names[..i].contains(&names[i])));
}

// The command line.

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("nhgd-laboratory-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn nhgd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nhgd")).args(arguments).env_remove("NHGD_DATA").output().unwrap()
}

/// `nhgd bounds` with a configuration: its output, and the folder of the record.
fn bounds(folder: &Path, configuration: &str, more: &[&str]) -> (Output, PathBuf) {
    let (file, out) = (folder.join("lab.toml"), folder.join("out"));
    fs::write(&file, configuration).unwrap();
    let fixed = ["bounds", "--quick", "--config", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    (nhgd(&[&fixed, more].concat()), out)
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const SLOPES: &str = "[fisher-consistency]\nrows = [300, 1000, 3000, 10000]\nreplicates = 100\n";

#[test]
fn a_planted_wrong_claim_fails_where_the_true_one_holds() {
    let folder = folder("planted");
    let verdicts = |exponent: &str| {
        let (output, out) = bounds(&folder, &format!("{SLOPES}exponent = {exponent}\n"), &["--json"]);
        let json = json(&output);
        let table = fs::read_to_string(out.join("verdicts.csv")).unwrap();
        let page = fs::read_to_string(out.join("report.html")).unwrap();
        fs::remove_dir_all(&out).unwrap();
        (json["verdicts"].as_array().unwrap().clone(), table, page)
    };
    let slopes = |verdicts: &[serde_json::Value]| -> Vec<String> {
        let slopes = verdicts.iter().filter(|v| v["claim"].as_str().unwrap().contains("slope"));
        slopes.map(|v| v["verdict"].as_str().unwrap().to_owned()).collect()
    };
    let (right, table, _) = verdicts("-0.5");
    assert_eq!(slopes(&right), ["holds"; 6], "{right:?}");
    assert!(!table.contains("fails"));
    let (wrong, table, page) = verdicts("-1.0");
    assert_eq!(slopes(&wrong), ["fails"; 6], "{wrong:?}");
    assert_eq!(table.matches(",fails\n").count(), 6);
    assert!(page.contains("6 fails") && page.matches("tr class=\"failed\"").count() == 6);
    for (right, wrong) in right.iter().zip(&wrong).filter(|(right, _)| right["claim"].as_str().unwrap().contains("slope")) {
        assert_eq!((&right["predicted"], &wrong["predicted"]), (&(-0.5).into(), &(-1.0).into()));
        assert_eq!(right["measured"], wrong["measured"], "the measurement does not know the claim");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn json_has_every_claim_with_its_numbers_and_its_rule() {
    let folder = folder("json");
    let (output, out) = bounds(&folder, SMALL, &["--json"]);
    let json = json(&output);
    assert_eq!(json["folder"].as_str().unwrap(), out.to_str().unwrap());
    assert!(json["seconds"].as_f64().unwrap() > 0.0);
    let verdicts = json["verdicts"].as_array().unwrap();
    let claims: usize = plan(SMALL).chosen.iter().map(|chosen| chosen.experiment.claims().len()).sum();
    assert_eq!(verdicts.len(), claims);
    for verdict in verdicts {
        assert!(["experiment", "claim", "rule"].iter().all(|key| !verdict[key].as_str().unwrap().is_empty()));
        assert!(["holds", "fails", "undecided"].contains(&verdict["verdict"].as_str().unwrap()));
        let number = |key: &str| verdict[key].as_f64().unwrap();
        assert!(number("predicted").is_finite() && number("low") <= number("measured") && number("measured") <= number("high"));
    }
    fs::remove_dir_all(&folder).unwrap();
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "csv")
}

#[test]
fn a_report_is_drawn_anew_from_tables_and_manifest_alone() {
    let folder = folder("report");
    let (output, out) = bounds(&folder, SMALL, &[]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("claims: ") && said.contains("fisher-consistency"), "{said}");
    let drawn = |folder: &Path| -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let drawn = entries.filter(|path| ["svg", "png", "html"].iter().any(|e| path.extension().is_some_and(|found| found == *e)));
        drawn.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())).collect()
    };
    let first = drawn(&out);
    assert!(first.len() > 10 && first.values().all(|bytes| !bytes.is_empty()));
    for (name, bytes) in &first {
        assert_eq!(name.ends_with(".png"), bytes.starts_with(b"\x89PNG"), "{name}");
        fs::remove_file(out.join(name)).unwrap();
    }
    assert!(nhgd(&["report", out.to_str().unwrap()]).status.success());
    assert_eq!(drawn(&out), first);
    // The same from tables that were packed to be kept; a damaged one is named.
    let tables: Vec<PathBuf> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_csv(path)).collect();
    for table in &tables {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&fs::read(table).unwrap()).unwrap();
        fs::write(table.with_extension("csv.gz"), encoder.finish().unwrap()).unwrap();
        fs::rename(table, table.with_extension("kept")).unwrap();
    }
    assert!(nhgd(&["report", out.to_str().unwrap()]).status.success());
    assert_eq!(drawn(&out), first);
    fs::write(out.join("verdicts.csv.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    let refused = nhgd(&["report", out.to_str().unwrap()]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.lines().count() == 1 && error.contains("verdicts.csv.gz"), "{error}");
    tables.iter().for_each(|table| fs::rename(table.with_extension("kept"), table).unwrap());
    // A picture whose column is gone is refused in a line.
    let table = fs::read_to_string(out.join("fisher-consistency.csv")).unwrap();
    fs::write(out.join("fisher-consistency.csv"), table.replacen("relative_error", "other", 1)).unwrap();
    let refused = nhgd(&["report", out.to_str().unwrap()]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.lines().count() == 1 && error.contains("`relative_error`"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_laboratory_stopped_by_a_signal_goes_on_to_the_same_files() {
    let folder = folder("signal");
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    let configuration = "[misspecified]\nrows = [100, 30000]\nreplicates = 40\nslope_from = 100\n";
    let file = folder.join("lab.toml");
    fs::write(&file, configuration).unwrap();
    let start = |out: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nhgd"));
        command
            .args(["bounds", "--quick", "--checkpoint-every", "0", "--threads", "2", "--config"])
            .arg(&file)
            .arg("--out")
            .arg(out);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    assert!(start(&whole).wait().unwrap().success());
    for kill in ["-TERM", "-KILL"] {
        let mut child = start(&stopped);
        let begun = Instant::now();
        // As soon as there is something to lose.
        while fs::metadata(stopped.join("checkpoint.nhgd")).map_or(0, |file| file.len()) < 4000 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint");
            std::thread::sleep(Duration::from_millis(2));
        }
        Command::new("kill").args([kill, &child.id().to_string()]).status().unwrap();
        let output = child.wait().unwrap();
        if kill == "-TERM" {
            assert_eq!(output.code(), Some(143));
            let error = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
            assert!(error.contains("nhgd bounds --resume") && error.lines().count() == 1, "{error}");
        }
        assert!(!stopped.join("manifest.json").exists());
        let resumed = nhgd(&["bounds", "--threads", "1", "--resume", stopped.to_str().unwrap()]);
        assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
        assert!(!stopped.join("checkpoint.nhgd").exists());
        for name in ["misspecified.csv", "misspecified-theory.csv", "verdicts.csv", "misspecified.svg", "misspecified-ridge.png"] {
            assert!(fs::read(whole.join(name)).unwrap() == fs::read(stopped.join(name)).unwrap(), "{name} after {kill}");
        }
        let again = nhgd(&["bounds", "--resume", stopped.to_str().unwrap()]);
        assert_eq!(again.status.code(), Some(2), "there is nothing to go on with");
        fs::remove_dir_all(&stopped).unwrap();
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn mistakes_are_told_in_one_line_and_leave_nothing() {
    let folder = folder("mistakes");
    let refused = |output: &Output, code: i32, needles: &[&str]| {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(needles.iter().all(|needle| error.contains(needle)), "{needles:?} in {error}");
    };
    let out = folder.join("out");
    refused(&nhgd(&["bounds", "no-such", "--out", out.to_str().unwrap()]), 2, &["`no-such`", "fisher-consistency", "misspecified"]);
    for (configuration, needles) in [
        ("[no-such]\n", &["lab.toml:1:", "`no-such`"][..]),
        ("seed = 1\n[sgd-path]\nreplicates = 9\nnothing = 1\n", &["lab.toml:4:", "unknown field `nothing`"]),
        ("[sgd-path]\nreplicates = \"many\"\n", &["lab.toml:2:", "replicates = \"many\""]),
        ("[sgd-path]\n\nbeta = -1.0\n", &["lab.toml:3:", "beta"]),
        ("[misspecified]\nridge = nan\n", &["lab.toml:2:", "finite"]),
        ("[fisher-consistency]\nrows = [3, 2]\n", &["lab.toml:2:", "ascending"]),
        ("[fisher-consistency\n", &["lab.toml:1:"]),
        ("seed = -1\n", &["lab.toml:1:", "seed"]),
        ("sgd-path = 3\n", &["lab.toml:1:", "table of settings"]),
    ] {
        let (output, out) = bounds(&folder, configuration, &[]);
        refused(&output, 2, needles);
        assert!(!out.exists(), "{configuration}");
    }
    refused(&nhgd(&["report", folder.to_str().unwrap()]), 1, &["no complete record"]);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn claims_and_rules_are_listed_before_anything_is_run() {
    let output = nhgd(&["bounds", "--list", "--json", "sgd-path", "misspecified"]);
    let json = json(&output);
    let experiments = json["experiments"].as_array().unwrap();
    let names: Vec<&str> = experiments.iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sgd-path", "misspecified"]);
    assert!(experiments.iter().all(|e| !e["claims"].as_array().unwrap().is_empty()));
    assert_eq!(experiments[0]["claims"][0]["rule"], "limits within -0.5 ± 0.08");
    let text = String::from_utf8(nhgd(&["bounds", "--list"]).stdout).unwrap();
    assert!(REGISTRY.iter().all(|entry| text.contains(entry.name) && text.contains(entry.about)));
}
