//! An experiment that was stopped goes on to the bytes of one that was not: from every checkpoint, after signals, after kills at
//! random instants. And what cannot be gone on with is refused in one line that leaves the folder as it was.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nhgd::bilevel::{self, MethodConfig, NhgdConfig, State, Stop};
use nhgd::curvature::CurvatureConfig;
use nhgd::experiment::checkpoint::{CHECKPOINT_VERSION, Checkpoint, Piece};
use nhgd::experiment::config::Config;
use nhgd::experiment::record::{CHECKPOINT, MANIFEST, Record};
use nhgd::experiment::runner::{self, Environment};
use nhgd::problem::{Counted, DataCleaningConfig, DataSource, Problem, ProblemConfig};
use nhgd::rng::Key;
use nhgd::{Error, Result};

/// Every kind of piece: checks, baselines, runs of several families, errors.
const ALL_PIECES: &str = r#"
title = "all pieces"
seeds = [3, 4]
record_every = 2
checks = true
[problem.data-cleaning]
train = 40
validation = 20
[[runs]]
label = "window"
outer_steps = 5
[runs.method.nhgd]
batch_size = 16
curvature_decay = 0.1
curvature.window.samples = 400
[[runs]]
label = "diverges"
outer_steps = 4
[runs.method.nhgd]
inner_step_size = 1e300
[[runs]]
label = "nystrom"
outer_steps = 3
[runs.method.nhgd]
batch_size = 16
curvature.nystrom.sketch_size = 8
[[runs]]
label = "exact"
outer_steps = 2
method.exact = {}
[hypergradient_errors]
rows = [1, 10]
products = [1, 3]
repetitions = 2
damping = 0.01
curvatures = [{ window = { samples = 10 } }, { nystrom = { sketch_size = 8 } }]
fisher = ["sampled", "expected"]
"#;

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("test.toml")).unwrap()
}

/// Keeps every checkpoint; a clock that ticks when it is looked at, so that seconds are comparable too.
#[derive(Default)]
struct Notebook {
    ticks: Cell<u64>,
    kept: Vec<Vec<u8>>,
    /// Interrupts at the question of this number.
    patience: Option<u64>,
    asked: Cell<u64>,
}

impl Environment for Notebook {
    fn now(&self) -> Duration {
        self.ticks.set(self.ticks.get() + 1);
        Duration::from_millis(self.ticks.get())
    }

    fn interrupted(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.patience.is_some_and(|patience| self.asked.get() > patience)
    }

    fn checkpoint_due(&self) -> bool {
        true
    }

    fn keep(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.kept.push(checkpoint.to_bytes()?);
        Ok(())
    }
}

fn resume(bytes: &[u8], world: &mut Notebook) -> Result<Record> {
    let checkpoint = Checkpoint::from_bytes(bytes, Path::new(CHECKPOINT))?;
    runner::resume(checkpoint, &DataSource::default(), BTreeMap::new(), world)
}

/// The bytes of every table of a record.
fn tables(record: &Record) -> Vec<Vec<u8>> {
    let all = [Some(&record.rows), Some(&record.timings), record.hypergradient_errors.as_ref(), record.checks.as_ref()];
    all.into_iter().flatten().map(|table| table.to_csv().unwrap()).collect()
}

fn uninterrupted() -> (Record, Vec<Vec<u8>>) {
    let mut world = Notebook::default();
    let record = runner::run(&config(ALL_PIECES), &DataSource::default(), BTreeMap::new(), &mut world).unwrap();
    (record, world.kept)
}

#[test]
fn an_experiment_goes_on_from_every_checkpoint_to_the_same_bytes() {
    let (record, kept) = uninterrupted();
    assert_eq!(record.manifest.incidents.len(), 2, "the run that diverges, at each seed");
    let pieces = 1 + 2 * (3 + 4) + (1 + 2 * 2 * 2);
    let steps_between = 2 * (5 + 1 + 3 + 2);
    assert_eq!(kept.len(), 1 + pieces + steps_between, "at the beginning, after each piece, between steps");
    for (i, bytes) in kept.iter().enumerate() {
        let again = resume(bytes, &mut Notebook::default()).unwrap();
        assert_eq!(tables(&again), tables(&record), "from checkpoint {i}");
        assert_eq!(again.manifest, record.manifest);
    }
}

#[test]
fn an_experiment_that_is_interrupted_again_and_again_comes_to_the_same_bytes() {
    let (record, _) = uninterrupted();
    let source = DataSource::default();
    for patience in [1, 2, 7] {
        let mut world = Notebook { patience: Some(patience), ..Notebook::default() };
        let mut result = runner::run(&config(ALL_PIECES), &source, BTreeMap::new(), &mut world);
        let mut sessions = 1;
        while let Err(error) = &result {
            assert!(matches!(error, Error::Interrupted { .. }), "{error}");
            assert!(error.to_string().starts_with("interrupted at ") && error.to_string().contains(" %, "), "{error}");
            assert!(sessions < 500, "stuck: {error}");
            // Once a Newton step takes less than the patience lasts there is progress in every session.
            let patience = patience + sessions / 20;
            let last = world.kept.pop().unwrap();
            world = Notebook { patience: Some(patience), ..Notebook::default() };
            result = resume(&last, &mut world);
            sessions += 1;
        }
        assert!(sessions > 5, "{sessions} sessions");
        let again = result.unwrap();
        assert_eq!(again.rows, record.rows, "{sessions} sessions");
        assert_eq!(again.hypergradient_errors, record.hypergradient_errors);
        assert_eq!(again.checks, record.checks);
        assert_eq!(again.manifest, record.manifest);
    }
}

#[test]
fn a_checkpoint_with_another_step_state_or_seed_leads_to_other_bytes() {
    let (record, kept) = uninterrupted();
    let within = |bytes: &Vec<u8>| {
        let checkpoint = Checkpoint::from_bytes(bytes, Path::new(CHECKPOINT)).unwrap();
        let running = checkpoint.running.as_ref()?;
        (running.at == (0, Piece::Run(0)) && State::from_bytes(&running.state).unwrap().step == 2).then_some(checkpoint)
    };
    let honest = kept.iter().find_map(within).unwrap();
    let rows = |checkpoint: Checkpoint| resume(&checkpoint.to_bytes().unwrap(), &mut Notebook::default()).map(|record| record.rows);
    assert_eq!(rows(honest.clone()).unwrap(), record.rows);
    let with_state = |change: &dyn Fn(&mut State)| {
        let mut checkpoint = honest.clone();
        let running = checkpoint.running.as_mut().unwrap();
        let mut state = State::from_bytes(&running.state).unwrap();
        change(&mut state);
        running.state = state.to_bytes().unwrap();
        checkpoint
    };
    assert_ne!(rows(with_state(&|state| state.step = 1)).unwrap(), record.rows);
    assert_ne!(rows(with_state(&|state| *state.inner_var.last_mut().unwrap() += 1e-12)).unwrap(), record.rows);
    assert_ne!(rows(with_state(&|state| state.curvature.as_mut().unwrap().decay(0.5).unwrap())).unwrap(), record.rows);
    // Another seed of the runs that follow; of the one at hand it is noticed by the problem.
    let seeded = |from: &str, to: &str| {
        let mut checkpoint = honest.clone();
        assert!(checkpoint.configuration.contains(from));
        checkpoint.configuration = checkpoint.configuration.replace(from, to);
        checkpoint
    };
    assert_ne!(rows(seeded("seeds = [3, 4]", "seeds = [3, 5]")).unwrap(), record.rows);
    let error = rows(seeded("seeds = [3, 4]", "seeds = [5, 4]")).unwrap_err();
    assert!(matches!(&error, Error::Data { .. }) && error.to_string().contains("not the data"), "{error}");
    // States of another size are refused, not met with a panic.
    let short: [&dyn Fn(&mut State); 2] = [&|state| state.outer_var.push(0.0), &|state| state.inner_var.truncate(3)];
    for (change, named) in short.into_iter().zip(["saved outer_var", "saved inner_var"]) {
        assert_eq!(rows(with_state(change)).unwrap_err().offending_argument(), Some(named));
    }
    let build = |dim| CurvatureConfig::default_of("window").unwrap().build(dim, Key::new(0)).unwrap();
    let error = rows(with_state(&|state| state.curvature = Some(build(7)))).unwrap_err();
    assert_eq!(error.offending_argument(), Some("saved curvature"));
    let error = rows(seeded("train = 40", "train = 41")).unwrap_err().to_string();
    assert!(error.contains("40 inner") && error.contains("41 inner"), "{error}");
}

#[test]
fn the_state_of_every_method_and_family_round_trips() {
    let problem = DataCleaningConfig { train: 30, validation: 20, ..Default::default() };
    let problem = ProblemConfig::DataCleaning(problem).build(&DataSource::default(), Key::new(2)).unwrap();
    let families = CurvatureConfig::REGISTRY.iter().map(|(name, _)| {
        let mut settings = serde_json::to_value(CurvatureConfig::default_of(name).unwrap()).unwrap();
        // The paper's own families have no place for a ridge; one update a batch keeps them short.
        if let Some(ridge) = settings[*name].get_mut("known_curvature") {
            *ridge = "ignore".into();
            settings[*name]["rows"] = "batch-mean".into();
        }
        let curvature: CurvatureConfig = serde_json::from_value(settings).unwrap();
        (*name, MethodConfig::Nhgd(NhgdConfig { curvature, curvature_decay: 0.05, ..Default::default() }))
    });
    let methods = MethodConfig::REGISTRY.iter().map(|(name, _)| {
        let defaults = serde_json::json!({ *name: {} });
        (*name, serde_json::from_value::<MethodConfig>(defaults).unwrap())
    });
    for (name, config) in families.chain(methods) {
        let method = config.build().unwrap();
        let key = Key::new(6);
        let whole = bilevel::run(problem.as_ref(), method.as_ref(), key, Stop::after(5), &mut ()).unwrap();
        for steps in [0, 1, 4, 5] {
            let part = bilevel::run(problem.as_ref(), method.as_ref(), key, Stop::after(steps), &mut ()).unwrap();
            let bytes = part.state.to_bytes().unwrap();
            let state = State::from_bytes(&bytes).unwrap();
            assert_eq!(state.to_bytes().unwrap(), bytes, "{name}: the same bytes again");
            let rest =
                bilevel::resume(problem.as_ref(), method.as_ref(), (state, part.counts), key, Stop::after(5), &mut ()).unwrap();
            assert_eq!(rest.state.to_bytes().unwrap(), whole.state.to_bytes().unwrap(), "{name}: from step {steps}");
            assert_eq!(rest.counts, whole.counts, "{name}");
            assert!(State::from_bytes(&bytes[..bytes.len() - 1]).is_err(), "{name}: cut short");
        }
    }
    assert_eq!(Counted::resume(problem.as_ref(), Default::default()).inner_dim(), 650);
}

#[test]
fn a_configuration_survives_a_checkpoint_and_the_first_difference_is_named() {
    for text in
        [ALL_PIECES, include_str!("../notebooks-data/reproduce.toml"), include_str!("../notebooks-data/mnist-cleaning.toml")]
    {
        let config = config(text);
        let checkpoint = Checkpoint::new(&config, &DataSource::default()).unwrap();
        let checkpoint = Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap(), Path::new("x")).unwrap();
        assert_eq!(checkpoint.config().unwrap(), config);
        checkpoint.check_config(&config).unwrap();
    }
    let checkpoint = Checkpoint::new(&config(ALL_PIECES), &DataSource::default()).unwrap();
    let named = [
        ("outer_steps = 4", "outer_steps = 6", "runs[1].outer_steps = 4", "runs[1].outer_steps = 6"),
        ("train = 40", "train = 40\nridge = 0.5", "problem.data-cleaning.ridge = ", "problem.data-cleaning.ridge = 0.5"),
        ("products = [1, 3]", "products = [2]", "hypergradient_errors.products = [1, 3]", "hypergradient_errors.products = [2]"),
        ("method.exact = {}", "method.nhgd = {}", "runs[3].method.exact = {", "runs[3].method.exact = (absent)"),
        ("fisher = [\"sampled\", \"expected\"]", "fisher = [\"sampled\"]", "\"expected\"]", "fisher = [\"sampled\"]"),
    ];
    for (from, to, own, other) in named {
        assert!(ALL_PIECES.contains(from));
        let error = checkpoint.check_config(&config(&ALL_PIECES.replace(from, to))).unwrap_err().to_string();
        let (expected, found) = error.split_once(", found ").unwrap();
        assert!(expected.contains(own) && found.contains(other), "{error}");
    }
}

#[test]
fn damaged_and_foreign_bytes_are_refused() {
    let bytes = Checkpoint::new(&config(ALL_PIECES), &DataSource::default()).unwrap().to_bytes().unwrap();
    let error = |bytes: &[u8]| Checkpoint::from_bytes(bytes, Path::new("x")).unwrap_err();
    for length in 0..bytes.len() {
        assert!(matches!(error(&bytes[..length]), Error::Data { .. }), "cut to {length} bytes");
    }
    for i in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[i] ^= 4;
        assert!(matches!(error(&changed), Error::Data { .. }), "byte {i} changed");
    }
    let own = format!("{CHECKPOINT_VERSION} {}\n", env!("CARGO_PKG_VERSION"));
    let resumes = format!("resumes format {CHECKPOINT_VERSION}");
    for (line, fragments) in [("2 9.8.7\n", ["9.8.7", "format 2"]), ("1 9.8.7\n", ["9.8.7", "format 1"])] {
        let at = bytes.windows(own.len()).position(|w| w == own.as_bytes()).unwrap();
        let foreign = [&bytes[..at], line.as_bytes(), &bytes[at + own.len()..]].concat();
        let message = error(&foreign).to_string();
        for fragment in fragments.into_iter().chain([env!("CARGO_PKG_VERSION"), &resumes]) {
            assert!(message.contains(fragment), "`{fragment}` in: {message}");
        }
    }
    assert!(error(b"method,seed\n1,2\n").to_string().contains("not a checkpoint"));
}

// From here on as a user meets it.

/// About a second.
const SECOND: &str = r#"
title = "a second"
seeds = [1, 2]
record_every = 1
[problem.data-cleaning]
train = 300
validation = 50
[[runs]]
label = "window"
outer_steps = 30
[runs.method.nhgd]
batch_size = 64
outer_step_size = 500
curvature.window.samples = 256
[[runs]]
label = "nystrom"
outer_steps = 10
[runs.method.nhgd]
batch_size = 64
outer_step_size = 500
curvature.nystrom.sketch_size = 32
[hypergradient_errors]
rows = [10, 100]
products = [3]
repetitions = 1
"#;

/// Where nothing ends by itself while a test watches: one outer step of a minute.
const ENDLESS: &str = r#"
title = "endless"
baselines = false
[problem.data-cleaning]
train = 300
validation = 50
[[runs]]
label = "long"
outer_steps = 2
[runs.method.nhgd]
inner_steps = 1000000
"#;

/// Held by tests that measure time or start processes, so that they do not slow each other down.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nhgd"));
    command.args(arguments).env_remove("NHGD_DATA").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn nhgd(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts the exit code, a single line on stderr that holds all the fragments, and an empty stdout.
#[track_caller]
fn refused(output: &Output, code: i32, fragments: &[&str]) {
    let line = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "one line: {line}");
    for fragment in fragments {
        assert!(line.contains(fragment), "`{fragment}` in: {line}");
    }
    assert!(output.stdout.is_empty());
}

/// A folder with a configuration, and the tables of its uninterrupted run.
struct Scene {
    dir: tempfile::TempDir,
    config: String,
    whole: PathBuf,
    seconds: f64,
}

impl Scene {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("c.toml");
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        let whole = dir.path().join("whole");
        let begun = Instant::now();
        let output = nhgd(&["run", &config, "--out", whole.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
        let seconds = begun.elapsed().as_secs_f64();
        Self { dir, config, whole, seconds }
    }

    fn folder(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts a run that keeps a checkpoint after every step.
    fn start(&self, out: &str) -> Child {
        command(&["run", &self.config, "--out", out, "--checkpoint-every", "0"]).spawn().unwrap()
    }

    fn resume(&self, folder: &str) -> Child {
        command(&["run", "--resume", folder, "--checkpoint-every", "0"]).spawn().unwrap()
    }

    fn assert_same(&self, folder: &str) {
        for name in ["rows.csv", "hypergradient_errors.csv", "checks.csv"] {
            let read = |folder: &Path| fs::read(folder.join(name)).ok();
            assert_eq!(read(Path::new(folder)), read(&self.whole), "{name} of {folder}");
        }
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert!(names.iter().any(|name| name == MANIFEST) && !names.iter().any(|name| name == CHECKPOINT), "{names:?}");
        assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".partial")), "{names:?}");
    }
}

/// Every file of a folder with its bytes.
fn contents(folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap().path())).collect()
}

/// Waits until a checkpoint holds a run under way.
fn wait_for_a_step(folder: &str) {
    let path = Path::new(folder).join(CHECKPOINT);
    let deadline = Instant::now() + Duration::from_secs(60);
    let under_way = || {
        let bytes = fs::read(&path).ok()?;
        Checkpoint::from_bytes(&bytes, &path).unwrap().running
    };
    while under_way().is_none() {
        assert!(Instant::now() < deadline, "no checkpoint within a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(unix)]
fn send(signal: &str, child: &Child) {
    let command = format!("kill -{signal} {}", child.id());
    assert!(Command::new("/bin/sh").args(["-c", &command]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_save_say_how_to_go_on_and_stop() {
    let _alone = alone();
    let scene = Scene::new(SECOND);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let out = scene.folder(signal);
        let child = scene.start(&out);
        wait_for_a_step(&out);
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        refused(&output, code, &["interrupted at ", " %, in `", "outer steps; go on with: nhgd run --resume ", &out]);
        assert!(Path::new(&out).join(CHECKPOINT).exists() && !Path::new(&out).join(MANIFEST).exists());
        refused(&nhgd(&["report", &out]), 1, &["no complete record", "--resume"]);
        refused(&nhgd(&["run", &scene.config, "--out", &out]), 2, &["not empty", "--resume"]);
        // Also where the configuration is given once more, and at another number of threads.
        let output = nhgd(&["run", &scene.config, "--resume", &out, "--threads", "1"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(output.stderr.is_empty(), "quiet in a pipe");
        assert!(String::from_utf8_lossy(&output.stdout).contains("the report: "));
        scene.assert_same(&out);
    }
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_a_long_step_at_once() {
    let _alone = alone();
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    fs::write(&config, ENDLESS).unwrap();
    let out = dir.path().join("out it goes");
    let mut child = command(&["run", config.to_str().unwrap(), "--out", out.to_str().unwrap()]).spawn().unwrap();
    while !out.join(CHECKPOINT).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    send("INT", &child);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "the first one waits for the step");
    // Two processes do not write one folder.
    refused(&nhgd(&["run", "--resume", out.to_str().unwrap()]), 1, &["another process"]);
    let sent = Instant::now();
    send("INT", &child);
    let status = child.wait().unwrap();
    assert!(sent.elapsed() < Duration::from_secs(5));
    assert_eq!(status.signal(), Some(2));
    assert!(out.join(CHECKPOINT).exists());
}

#[test]
fn twenty_runs_killed_at_random_instants_come_to_the_same_bytes() {
    let _alone = alone();
    let scene = Scene::new(SECOND);
    let mut random = Key::new(20).stream();
    let (mut kills, mut at_work) = (0, 0);
    for i in 0..20 {
        let out = scene.folder(&format!("killed-{i}"));
        let path = Path::new(&out).join(CHECKPOINT);
        let complete = || Path::new(&out).join(MANIFEST).exists();
        // Kills a process at a random instant.
        let mut kill = |mut child: Child, seconds: f64| {
            std::thread::sleep(Duration::from_secs_f64(seconds * random.uniform()));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.stderr.is_empty(), "{}", stderr(&output));
            kills += 1;
            at_work += fs::read(&path).map_or(0, |bytes| usize::from(Checkpoint::from_bytes(&bytes, &path).unwrap().holds_work()));
        };
        let mut seconds = scene.seconds;
        // One kill or two, as far as there is something left to kill.
        for _ in 0..=i % 2 {
            kill(if path.exists() { scene.resume(&out) } else { scene.start(&out) }, seconds);
            if complete() {
                break;
            }
            seconds *= 0.5;
        }
        if !complete() {
            let last = if path.exists() { scene.resume(&out) } else { scene.start(&out) };
            let output = last.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
        } else if path.exists() {
            // Killed between the two last files.
            refused(&nhgd(&["run", "--resume", &out]), 2, &["complete"]);
            fs::remove_file(&path).unwrap();
        }
        scene.assert_same(&out);
    }
    eprintln!("{kills} kills, {at_work} of them at work; a whole run took {:.2} s", scene.seconds);
    assert!(kills >= 20 && at_work >= 10, "{kills} kills, {at_work} of them at work");
}

#[test]
fn what_cannot_be_gone_on_with_is_one_line_and_leaves_the_folder_as_it_was() {
    let _alone = alone();
    let scene = Scene::new(SECOND);
    let whole = scene.whole.to_str().unwrap();
    // A checkpoint under way, by a kill.
    let out = scene.folder("out");
    let mut child = scene.start(&out);
    wait_for_a_step(&out);
    child.kill().unwrap();
    child.wait().unwrap();

    let unchanged = |folder: &str, code: i32, arguments: &[&str], fragments: &[&str]| {
        let before = contents(folder);
        refused(&nhgd(&[&["run", "--resume", folder], arguments].concat()), code, fragments);
        assert_eq!(contents(folder), before);
    };
    unchanged(whole, 2, &[], &["--resume", "complete", whole]);
    // Killed between the manifest and the end of the checkpoint.
    fs::copy(Path::new(&out).join(CHECKPOINT), scene.whole.join(CHECKPOINT)).unwrap();
    unchanged(whole, 2, &[], &["--resume", "complete", whole]);

    let other = scene.folder("other.toml");
    fs::write(&other, SECOND.replace("outer_steps = 10", "outer_steps = 11")).unwrap();
    unchanged(&out, 2, &[&other], &["configuration", "runs[1].outer_steps = 10", "runs[1].outer_steps = 11"]);
    unchanged(&out, 2, &["--seed", "9"], &["seeds = [1, 2]", "seeds = [9]"]);
    unchanged(&out, 1, &["missing.toml"], &["missing.toml"]);

    let empty = scene.folder("empty");
    fs::create_dir(&empty).unwrap();
    unchanged(&empty, 1, &[], &["nothing to resume", CHECKPOINT]);
    refused(&nhgd(&["run", "--resume", &scene.folder("nowhere")]), 1, &["nowhere", "opening the output folder"]);
    refused(&nhgd(&["run", "--resume", &scene.config]), 1, &["c.toml", "opening the output folder"]);

    let bytes = fs::read(Path::new(&out).join(CHECKPOINT)).unwrap();
    let damaged = scene.folder("damaged");
    fs::create_dir(&damaged).unwrap();
    let line = bytes.iter().position(|&b| b == b'\n').unwrap();
    let flipped = |i: usize| {
        let mut bytes = bytes.clone();
        bytes[i] ^= 1;
        bytes
    };
    let newer = [b"nhgd-checkpoint 7 3.1.4", &bytes[line..]].concat();
    let own = format!("format {CHECKPOINT_VERSION}");
    let cases: [(Vec<u8>, &[&str]); 6] = [
        (Vec::new(), &["not a checkpoint"]),
        (bytes[..line + 3].to_vec(), &["cut short"]),
        (bytes[..bytes.len() - 1].to_vec(), &["cut short"]),
        (flipped(bytes.len() / 2), &["damaged"]),
        (flipped(line + 1), &["damaged"]),
        (newer, &["3.1.4", "format 7", env!("CARGO_PKG_VERSION"), &own]),
    ];
    for (bytes, fragments) in cases {
        fs::write(Path::new(&damaged).join(CHECKPOINT), bytes).unwrap();
        unchanged(&damaged, 1, &[], fragments);
    }

    for arguments in
        [&["run"][..], &["run", "--resume", &out, "--out", "x"], &["run", "c", "--out", "x", "--checkpoint-every", "-1"]]
    {
        let output = nhgd(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
    // After all that it goes on as if nothing had been.
    assert!(nhgd(&["run", "--resume", &out]).status.success());
    scene.assert_same(&out);
}

/// A folder of IDX files with `n` training images whose bytes depend on `salt`.
fn idx_folder(folder: &Path, n: u32, salt: u32) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).unwrap();
    let images = |n: u32| {
        let header = [0x803, n, 3, 3].iter().flat_map(|x: &u32| x.to_be_bytes()).collect::<Vec<_>>();
        header.into_iter().chain((0..n * 9).map(|i| (i * (29 + salt) % 251) as u8)).collect::<Vec<_>>()
    };
    let labels = |n: u32| {
        let header = [0x801, n].iter().flat_map(|x: &u32| x.to_be_bytes()).collect::<Vec<_>>();
        header.into_iter().chain((0..n).map(|i| (i % 3) as u8)).collect::<Vec<_>>()
    };
    fs::write(folder.join("train-images-idx3-ubyte"), images(n)).unwrap();
    fs::write(folder.join("train-labels-idx1-ubyte"), labels(n)).unwrap();
    fs::write(folder.join("t10k-images-idx3-ubyte"), images(6)).unwrap();
    fs::write(folder.join("t10k-labels-idx1-ubyte"), labels(6)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_resumed_run_finds_its_data_again_and_refuses_others() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    idx_folder(&data, 30, 0);
    let config = dir.path().join("c.toml");
    let text = ENDLESS.replace("train = 300\nvalidation = 50", "data = \"idx\"\ntrain = 20\nvalidation = 9");
    let text = text.replace("inner_steps = 1000000", "inner_steps = 2000").replace("outer_steps = 2", "outer_steps = 100");
    fs::write(&config, &text).unwrap();
    let out = dir.path().join("out");
    let path = out.to_str().unwrap();
    let run = ["run", config.to_str().unwrap(), "--out", path, "--data", "data", "--checkpoint-every", "0"];
    let child = command(&run).current_dir(dir.path()).spawn().unwrap();
    wait_for_a_step(path);
    send("TERM", &child);
    refused(&child.wait_with_output().unwrap(), 143, &["--resume"]);
    for (n, salt) in [(30, 1), (31, 0)] {
        idx_folder(&data, n, salt);
        let before = contents(path);
        refused(&nhgd(&["run", "--resume", path]), 1, &["data", "not the data that the checkpoint was made with"]);
        assert_eq!(contents(path), before);
    }
    fs::remove_dir_all(&data).unwrap();
    refused(&nhgd(&["run", "--resume", path]), 1, &["data"]);
    assert!(out.join(CHECKPOINT).exists());
    // It moved: the new place is given by hand. Its relative name had been kept as an absolute one.
    idx_folder(&dir.path().join("moved"), 30, 0);
    assert!(nhgd(&["run", "--resume", path, "--data", dir.path().join("moved").to_str().unwrap()]).status.success());
    idx_folder(&data, 30, 0);
    let whole = dir.path().join("whole");
    let run = ["run", config.to_str().unwrap(), "--out", whole.to_str().unwrap(), "--data", data.to_str().unwrap()];
    assert!(nhgd(&run).status.success());
    assert_eq!(fs::read(out.join("rows.csv")).unwrap(), fs::read(whole.join("rows.csv")).unwrap());
}

/// A file system of 600 KiB, where this process may make one.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_leaves_the_last_good_checkpoint() {
    let _alone = alone();
    let scene = Scene::new(SECOND);
    let disk = scene.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=600k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    let out = disk.join("out");
    let output = nhgd(&["run", &scene.config, "--out", out.to_str().unwrap(), "--checkpoint-every", "0"]);
    let kept: Vec<_> =
        fs::read_dir(&out).map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect()).unwrap_or_default();
    // The user makes room.
    let elsewhere = scene.folder("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let copied = fs::copy(out.join(CHECKPOINT), Path::new(&elsewhere).join(CHECKPOINT));
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    refused(&output, 1, &["writing", "No space left", "go on with: nhgd run --resume"]);
    assert_eq!(kept, [CHECKPOINT]);
    copied.unwrap();
    assert!(nhgd(&["run", "--resume", &elsewhere]).status.success());
    scene.assert_same(&elsewhere);
}
