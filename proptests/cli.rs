//! The command line as a user meets it: exit codes, one clear line for each kind of bad input, nothing half-written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn nhgd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nhgd")).args(arguments).env_remove("NHGD_DATA").output().unwrap()
}

/// Asserts the exit code, a single line on stderr that holds all the fragments, and an empty stdout.
fn refused(output: &Output, code: i32, fragments: &[&str]) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "one line: {line}");
    for fragment in fragments {
        assert!(line.contains(fragment), "`{fragment}` in: {line}");
    }
    assert!(output.stdout.is_empty());
}

const GOOD: &str = r#"
title = "small"
seeds = [1, 2]
record_every = 2
[problem.data-cleaning]
train = 60
validation = 20
[[runs]]
label = "nhgd"
outer_steps = 5
[runs.method.nhgd]
batch_size = 16
curvature.window.samples = 64
"#;

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn bad_configurations_are_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let replaced = |from: &str, to: &str| {
        assert!(GOOD.contains(from));
        GOOD.replace(from, to)
    };
    let cases: [(String, &str, &[&str]); 13] = [
        (replaced("batch_size = 16", "batchsize = 16"), ":12:", &["batchsize", "batch_size"]),
        (replaced("train = 60", "train = \"many\""), ":6:", &["train", "many"]),
        (replaced("batch_size = 16", "inner_step_size = -0.5"), ":12:", &["inner_step_size", "-0.5", "positive"]),
        (replaced("batch_size = 16", "damping = nan"), ":12:", &["damping", "finite"]),
        (replaced("batch_size = 16", "damping = -1"), ":12:", &["damping", "-1"]),
        (replaced("curvature.window.samples = 64", "curvature.nystrom.sketch_size = 0"), ":13:", &["sketch_size", "found 0"]),
        (replaced("curvature.window.samples = 64", "curvature.windows.samples = 64"), ":13:", &["windows", "nystrom"]),
        (replaced("validation = 20", "corruption = 1.5"), ":7:", &["corruption", "1.5"]),
        (replaced("outer_steps = 5", ""), ":8:", &["outer_steps"]),
        (replaced("title = \"small\"", "title = "), ":2:", &[]),
        (replaced("seeds = [1, 2]", "seeds = []"), ":3:", &["seeds"]),
        (
            replaced("curvature.window.samples = 64", "curvature.window.samples = 64\n[hypergradient_errors]\nslope_from = 1000"),
            ":15:",
            &["slope_from", "1000"],
        ),
        (format!("{GOOD}[[runs]]\nlabel = \"nhgd\"\nouter_steps = 1\nmethod.exact = {{}}\n"), ":15:", &["label", "`nhgd`"]),
    ];
    for (text, line, fragments) in cases {
        let config = write(dir.path(), "c.toml", &text);
        let output = nhgd(&["run", &config, "--out", out]);
        refused(&output, 2, fragments);
        refused(&output, 2, &[line]);
        assert!(!Path::new(out).exists(), "nothing half-written");
    }
    refused(&nhgd(&["run", "missing.toml", "--out", out]), 1, &["missing.toml", "No such file"]);
    // Settings that only the problem's size shows to be wrong.
    let config = write(dir.path(), "c.toml", &replaced("curvature.window.samples = 64", "curvature.nystrom.sketch_size = 100000"));
    refused(&nhgd(&["run", &config, "--out", out]), 2, &["sketch_size", "at most the dimension 650", "100000"]);
    assert!(!Path::new(out).exists(), "nothing half-written");
    assert_eq!(nhgd(&["run"]).status.code(), Some(2));
    assert_eq!(nhgd(&["reproduce", "--threads", "0"]).status.code(), Some(2));
}

#[test]
fn bad_output_folders_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "c.toml", GOOD);
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("precious"), "x").unwrap();
    refused(&nhgd(&["run", &config, "--out", taken.to_str().unwrap()]), 2, &["taken", "not empty"]);
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 1);
    if Path::new("/proc/self").exists() {
        refused(&nhgd(&["run", &config, "--out", "/proc/nhgd"]), 1, &["/proc/nhgd", "creating the output folder"]);
    }
    refused(&nhgd(&["report", dir.path().to_str().unwrap()]), 1, &["no complete record", "manifest.json"]);
}

/// A file system of 16 KiB, where this process may make one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_line_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "c.toml", GOOD);
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    let output = nhgd(&["run", &config, "--out", disk.join("out").to_str().unwrap()]);
    // The part of `reproduce` that is written first has no room either: the whole is abandoned.
    let whole = nhgd(&["reproduce", "--out", disk.join("whole").to_str().unwrap()]);
    let left = fs::read_dir(&disk).unwrap().count();
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    refused(&output, 1, &["writing", "No space left"]);
    refused(&whole, 1, &["quadratic", "writing", "No space left"]);
    assert_eq!(left, 0, "nothing half-written");
}

#[test]
fn equal_runs_give_equal_bytes_at_every_thread_count_and_the_report_comes_from_the_record_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "c.toml", GOOD);
    let folders: Vec<PathBuf> = ["1", "2", "4"]
        .iter()
        .map(|threads| {
            let out = dir.path().join(threads);
            let output = nhgd(&["run", &config, "--out", out.to_str().unwrap(), "--threads", threads, "--json"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stderr.is_empty(), "quiet in a pipe");
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let method = &json["methods"]["nhgd"];
            assert_eq!(method["outer_steps"], 5.0);
            for key in ["test_accuracy", "f_outer", "seconds"] {
                assert!(method[key].is_number(), "{key}");
            }
            assert_eq!(method["oracle_counts"]["inner_gradients"], 5.0 * 10.0 * 16.0);
            out
        })
        .collect();
    let rows = fs::read(folders[0].join("rows.csv")).unwrap();
    assert_eq!(rows.iter().filter(|&&b| b == b'\n').count(), 1 + 2 * (3 + 4), "baselines, steps 0, 2, 4 and the last");
    for other in &folders[1..] {
        assert_eq!(fs::read(other.join("rows.csv")).unwrap(), rows);
    }
    let page = fs::read(folders[0].join("report.html")).unwrap();
    fs::remove_file(folders[0].join("report.html")).unwrap();
    assert!(nhgd(&["report", folders[0].to_str().unwrap()]).status.success());
    assert_eq!(fs::read(folders[0].join("report.html")).unwrap(), page);
    // Another seed gives other rows.
    let out = dir.path().join("other");
    assert!(nhgd(&["run", &config, "--seed", "9", "--out", out.to_str().unwrap()]).status.success());
    assert_ne!(fs::read(out.join("rows.csv")).unwrap(), rows);
}

const QUADRATIC: &str = r#"
title = "closed form"
[problem.quadratic]
inner_dim = 6
outer_dim = 3
samples = 80
outer_samples = 30
spectrum.exponential.rate = 0.3
misfit = 0.5
[[runs]]
label = "nhgd"
outer_steps = 3
[runs.method.nhgd]
curvature.window.samples = 64
[hypergradient_errors]
rows = [100, 200, 400]
slope_from = 200
curvatures = [{ dense = {} }]
"#;

#[test]
fn a_quadratic_runs_to_the_same_bytes_and_its_slopes_are_in_table_page_and_json() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "q.toml", QUADRATIC);
    let mut found: Vec<Vec<Vec<u8>>> = Vec::new();
    for threads in ["1", "2", "4"] {
        let out = dir.path().join(threads);
        let output = nhgd(&["run", &config, "--out", out.to_str().unwrap(), "--threads", threads, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(json["methods"]["nhgd"]["value_gap"].is_number());
        let slopes = json["hypergradient_slopes"].as_array().unwrap();
        assert_eq!(slopes.len(), 3, "one for each Fisher kind");
        for slope in slopes {
            assert!(slope["lower"].as_f64() < slope["slope"].as_f64() && slope["slope"].as_f64() < slope["upper"].as_f64());
            assert_eq!((&slope["rows_from"], &slope["rows_to"], &slope["replicates"]), (&200.0.into(), &400.0.into(), &3.0.into()));
        }
        assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("Rates"));
        let tables = ["rows.csv", "hypergradient_errors.csv", "hypergradient_slopes.csv"];
        found.push(tables.map(|table| fs::read(out.join(table)).unwrap()).to_vec());
    }
    assert!(found.iter().all(|tables| *tables == found[0]));
    for (from, to, fragment) in [
        ("misfit = 0.5", "noise = 0", "noise"),
        ("misfit = 0.5", "penalty = 0", "penalty"),
        ("samples = 80", "samples = 0", "samples"),
        ("samples = 80", "samples = 1000000000000", "268435456"),
        ("spectrum.exponential.rate = 0.3", "spectrum.power.exponent = -1", "exponent"),
        ("spectrum.exponential.rate = 0.3", "spectrum.flat.rate = 1", "rate"),
        ("spectrum.exponential.rate = 0.3", "spectrum.exponential.rate = 50", "ridge"),
        ("slope_from = 200", "slope_from = 300", "slope_from"),
        ("slope_from = 200", "slope_from = 200\nrepetitions = 1", "repetitions"),
    ] {
        assert!(QUADRATIC.contains(from));
        let text = QUADRATIC.replace(from, to).replace("misfit = 0.5", "ridge = 0");
        let config = write(dir.path(), "bad.toml", &text);
        let out = dir.path().join("bad");
        refused(&nhgd(&["run", &config, "--out", out.to_str().unwrap()]), 2, &[fragment]);
        assert!(!out.exists(), "nothing half-written");
    }
}

#[test]
fn bad_data_is_one_line_with_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(
        dir.path(),
        "c.toml",
        &GOOD.replace("train = 60", "data = \"idx\"\ntrain = 3").replace("validation = 20", "validation = 2"),
    );
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let run = |data: &Path| nhgd(&["run", &config, "--out", out, "--data", data.to_str().unwrap()]);
    refused(&nhgd(&["run", &config, "--out", out]), 1, &["--data", "NHGD_DATA"]);
    refused(&run(&dir.path().join("nowhere")), 1, &["nowhere"]);

    let images = |n: u32, magic: u32| {
        let mut bytes: Vec<u8> = [magic, n, 2, 2].iter().flat_map(|x| x.to_be_bytes()).collect();
        bytes.extend((0..n * 4).map(|i| (i * 29 % 256) as u8));
        bytes
    };
    let labels = |values: &[u8]| {
        let mut bytes: Vec<u8> = [0x801, values.len() as u32].iter().flat_map(|x: &u32| x.to_be_bytes()).collect();
        bytes.extend(values);
        bytes
    };
    let data = dir.path().join("data");
    let fill = |train_images: Vec<u8>, train_labels: Vec<u8>, test_labels: Vec<u8>| {
        let _ = fs::remove_dir_all(&data);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("train-images-idx3-ubyte"), train_images).unwrap();
        fs::write(data.join("train-labels-idx1-ubyte"), train_labels).unwrap();
        fs::write(data.join("t10k-images-idx3-ubyte"), images(2, 0x803)).unwrap();
        fs::write(data.join("t10k-labels-idx1-ubyte"), test_labels).unwrap();
    };
    let good = || labels(&[0, 1, 2, 0, 1, 2]);
    fill(images(6, 0x803), good(), labels(&[0, 1]));
    assert!(run(&data).status.success(), "the good files are good");
    fs::remove_dir_all(out).unwrap();
    fill(images(6, 0x804), good(), labels(&[0, 1]));
    refused(&run(&data), 1, &["train-images", "0x00000803", "0x00000804"]);
    fill(images(6, 0x803), labels(&[0, 1, 2]), labels(&[0, 1]));
    refused(&run(&data), 1, &["6", "3", "train-labels"]);
    fill(images(6, 0x803), good(), labels(&[0, 7]));
    refused(&run(&data), 1, &["t10k-labels", "7"]);
    fill(images(6, 0x803)[..20].to_vec(), good(), labels(&[0, 1]));
    refused(&run(&data), 1, &["train-images"]);
    fill(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x63], good(), labels(&[0, 1]));
    refused(&run(&data), 1, &["train-images", "truncated"]);
    assert!(!Path::new(out).exists(), "nothing half-written");
}

#[test]
fn check_and_list_print_tables_and_json() {
    let check = nhgd(&["check"]);
    assert!(check.status.success());
    assert!(String::from_utf8_lossy(&check.stdout).contains("agree"));
    let json: serde_json::Value = serde_json::from_slice(&nhgd(&["check", "--json"]).stdout).unwrap();
    assert_eq!(json["failed"], 0);
    let json: serde_json::Value = serde_json::from_slice(&nhgd(&["list", "--json"]).stdout).unwrap();
    for (kind, name) in [
        ("problem", "data-cleaning"),
        ("problem", "quadratic"),
        ("method", "nhgd"),
        ("curvature", "nystrom"),
        ("fisher", "sampled"),
    ] {
        assert!(json[kind].as_array().unwrap().iter().any(|entry| entry["name"] == name), "{kind} {name}");
    }
}
