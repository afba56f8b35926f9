//! `nhgd sketch` as a user meets it, against dense algebra on the same matrix: every verb, every family, files of either precision, weights,
//! decay, chosen damping; and for bad input one clear line, the exit code, and nothing half-written.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nhgd::curvature::Sketch;
use nhgd::dense::{Matrix, difference, dot, eigh, norm};
use nhgd::inverse::KnownCurvature;
use nhgd::rng::Key;
use serde_json::Value;
use support::{Case, dense_case, dense_solve, fisher, fisher_minus, relative_error, with_spectrum};

const METHODS: [&str; 6] = ["window", "nystrom", "frequent-directions", "robust-frequent-directions", "diagonal", "dense"];
const SKETCHES: [&str; 3] = ["nystrom", "frequent-directions", "robust-frequent-directions"];

/// A folder of files, and the program run in it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &str) -> Output {
        let program = Command::new(env!("CARGO_BIN_EXE_nhgd"))
            .arg("sketch")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env_remove("NHGD_DATA")
            .output();
        program.unwrap()
    }

    #[track_caller]
    fn good(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "quiet in a pipe");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.good(&format!("{arguments} --json"))).unwrap()
    }

    /// Asserts the exit code, one line on stderr that holds all the fragments, an empty stdout, and that no file came or went.
    #[track_caller]
    fn refused(&self, arguments: &str, code: i32, fragments: &[&str]) {
        let before = self.listing();
        let output = self.run(arguments);
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {line}");
        assert_eq!(line.trim_end().lines().count(), 1, "one line: {line}");
        for fragment in fragments {
            assert!(line.contains(fragment), "{arguments}: `{fragment}` in: {line}");
        }
        assert!(output.stdout.is_empty());
        assert_eq!(self.listing(), before, "{arguments}: nothing half-written");
    }

    fn listing(&self) -> Vec<(PathBuf, u64)> {
        let entry = |e: std::io::Result<fs::DirEntry>| e.map(|e| (e.path(), e.metadata().unwrap().len())).unwrap();
        let mut listing: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(entry).collect();
        listing.sort();
        listing
    }

    fn save(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// The numbers of a file that the program wrote, and its shape as text.
    fn load(&self, name: &str) -> (String, Vec<f64>) {
        let bytes = fs::read(self.path(name)).unwrap();
        let header = String::from_utf8(bytes[10..128].to_vec()).unwrap();
        assert!(header.starts_with("{'descr': '<f8', 'fortran_order': False, 'shape': (") && header.ends_with('\n'), "{header}");
        let shape = header.split_once("'shape': ").unwrap().1.split_once(", }").unwrap().0.to_owned();
        (shape, bytes[128..].as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)).collect())
    }
}

/// A file as NumPy writes it, of any dtype, order and shape.
fn npy(descr: &str, order: &str, shape: &str, body: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let header = format!("{text:<117}\n");
    assert_eq!(header.len(), 118);
    [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes()].concat().into_iter().chain(body).collect()
}

fn doubles(shape: &str, numbers: &[f64]) -> Vec<u8> {
    npy("<f8", "False", shape, numbers.iter().flat_map(|x| x.to_le_bytes()))
}

/// The rows of a matrix, one after the other.
fn in_rows(matrix: &Matrix) -> Vec<f64> {
    matrix.t().to_matrix().into_vec()
}

fn matrix_file(matrix: &Matrix) -> Vec<u8> {
    doubles(&format!("({}, {})", matrix.nrows(), matrix.ncols()), &in_rows(matrix))
}

fn vector_file(vector: &[f64]) -> Vec<u8> {
    doubles(&format!("({},)", vector.len()), vector)
}

/// Rows with the eigenvalues 1/j².
fn gradients(seed: u64, n: usize, d: usize) -> Case {
    let eigenvalues: Vec<f64> = (1..=d.min(n)).map(|j| 1.0 / (j * j) as f64).collect();
    with_spectrum(Key::new(seed), n, d, &eigenvalues)
}

fn part(case: &Case, rows: std::ops::Range<usize>) -> Case {
    dense_case(Matrix::from_fn(rows.len(), case.expanded.ncols(), |i, j| case.expanded[(rows.start + i, j)]), 1)
}

fn scalar(d: usize, mu: f64) -> KnownCurvature {
    KnownCurvature::scalar(d, mu).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The texts of a well-formed picture.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|node| node.tag_name().name() == "text");
    texts.filter_map(|node| node.text().map(|text| text.trim().to_owned())).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// The same sketch file with another manifest, or another entry `curvature`.
fn repacked(sketch: &[u8], change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(sketch)).unwrap();
    let mut changed = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in ["manifest.json", "curvature"] {
        let mut bytes = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        changed.start_file(name, stored).unwrap();
        changed.write_all(&change(name, bytes)).unwrap();
    }
    changed.finish().unwrap().into_inner()
}

#[test]
fn every_method_solves_within_the_radius_that_it_states() {
    for (n, d, size) in [(60, 12, 5), (1, 7, 3), (3, 65, 4), (130, 64, 16), (20, 1, 1)] {
        let desk = Desk::new();
        let case = gradients(1, n, d);
        desk.save("g.npy", &matrix_file(&case.expanded));
        let f = fisher(&[&case]);
        let rhs = Matrix::from_columns(d, 3, Key::new(2).stream().normals(3 * d)).unwrap();
        desk.save("b.npy", &matrix_file(&rhs.t().to_matrix()));
        desk.save("one.npy", &vector_file(rhs.col(1)));
        for method in METHODS {
            let sized = !["diagonal", "dense"].contains(&method);
            let option = match method {
                "window" => "--sketch-size 1000".to_owned(),
                _ if sized => format!("--sketch-size {size}"),
                _ => String::new(),
            };
            let built = desk.json(&format!("build g.npy --method {method} {option} --out {method}.nhgd"));
            assert_eq!((&built["method"], &built["rows"], &built["dim"]), (&method.into(), &n.into(), &d.into()));
            let answer = desk.json(&format!("solve {method}.nhgd b.npy --damping 0.05 --out q.npy --force"));
            let (shape, q) = desk.load("q.npy");
            assert_eq!(shape, format!("(3, {d})"));
            let solutions = answer["solutions"].as_array().unwrap();
            assert_eq!(solutions.len(), 3);
            for (i, solution) in solutions.iter().enumerate() {
                let (b, q) = (rhs.col(i), &q[i * d..(i + 1) * d]);
                let what = format!("{method}, {n} × {d}: {solution}");
                assert!((number(&solution["norm"]) / norm(q) - 1.0).abs() < 1e-14, "{what}");
                assert_eq!(number(&solution["damping"]), 0.05);
                if method == "diagonal" {
                    assert!(["error_radius", "bound", "deterministic"].iter().all(|key| solution[key].is_null()), "{what}");
                    let expected: Vec<f64> = b.iter().enumerate().map(|(j, b)| b / (f[(j, j)] + 0.05)).collect();
                    assert!(relative_error(q, &expected) < 1e-13, "{what}");
                    continue;
                }
                let exact = dense_solve(&f, &scalar(d, 0.05), b);
                let (error, radius) = (norm(&difference(q, &exact)), number(&solution["error_radius"]));
                assert!(error <= radius, "{what}: {error:e}");
                assert_eq!(solution["deterministic"], true);
                let bound = match method {
                    "nystrom" => "trace",
                    "window" | "dense" => "rounding",
                    _ => "shrinks",
                };
                assert_eq!(solution["bound"], bound);
                let relative = radius / (norm(q) - radius);
                assert!(radius >= norm(q) || (number(&solution["relative_error"]) / relative - 1.0).abs() < 1e-12, "{what}");
                if ["window", "dense"].contains(&method) {
                    assert!(radius < 1e-10 * norm(q), "{what}");
                }
            }
            // One right-hand side alone, one-dimensional: the same answer in the same shape.
            desk.good(&format!("solve {method}.nhgd one.npy --damping 0.05 --out one-q.npy --force"));
            let (shape, one) = desk.load("one-q.npy");
            assert_eq!(shape, format!("({d},)"));
            assert!(relative_error(&one, &q[d..2 * d]) < 1e-13, "{method}");
        }
    }
}

/// A sketch of the paper's own kind of spectrum is worth something: without this a radius of infinity would pass.
#[test]
fn a_sketch_of_a_decaying_spectrum_certifies_small_errors() {
    let desk = Desk::new();
    desk.save("g.npy", &matrix_file(&gradients(1, 300, 60).expanded));
    desk.save("b.npy", &vector_file(&[1.0; 60]));
    for method in SKETCHES {
        desk.good(&format!("build g.npy --method {method} --sketch-size 20 --out {method}.nhgd"));
        let answer = desk.json(&format!("solve {method}.nhgd b.npy --damping 0.3 --out {method}.npy"));
        assert!(number(&answer["solutions"][0]["relative_error"]) < 0.2, "{method}: {answer}");
    }
}

#[test]
fn absorbing_continues_a_build_bit_for_bit_and_files_may_be_cut_anywhere() {
    let desk = Desk::new();
    let (case, d) = (gradients(3, 900, 200), 200);
    desk.save("all.npy", &matrix_file(&case.expanded));
    for (name, rows) in [("a.npy", 0..1), ("b.npy", 1..700), ("c.npy", 700..900)] {
        desk.save(name, &matrix_file(&part(&case, rows).expanded));
    }
    let v = Key::new(4).stream().normals(d);
    desk.save("v.npy", &vector_file(&v));
    let exact = dense_solve(&fisher(&[&case]), &scalar(d, 0.1), &v);
    for method in METHODS {
        let size = if ["diagonal", "dense"].contains(&method) { "" } else { "--sketch-size 30" };
        desk.good(&format!("build all.npy --method {method} {size} --out one.nhgd --force"));
        // In blocks of at most 655 rows.
        desk.good(&format!("build all.npy --method {method} {size} --block-mib 1 --out blocks.nhgd --force"));
        desk.good(&format!("build a.npy b.npy c.npy --method {method} {size} --out three.nhgd --force"));
        desk.good(&format!("build a.npy --method {method} {size} --out first.nhgd --force"));
        assert_eq!(desk.json("absorb first.nhgd b.npy c.npy --out rest.nhgd --force")["rows"], 900);
        assert_eq!(fs::read(desk.path("three.nhgd")).unwrap(), fs::read(desk.path("rest.nhgd")).unwrap(), "{method}");
        let mut answers = Vec::new();
        for name in ["one", "blocks", "three"] {
            let answer = desk.json(&format!("solve {name}.nhgd v.npy --damping 0.1 --out q.npy --force"));
            let q = desk.load("q.npy").1;
            if let Some(radius) = answer["solutions"][0]["error_radius"].as_f64()
                && method != "window"
            {
                assert!(norm(&difference(&q, &exact)) <= radius, "{method}, {name}");
            }
            answers.push(q);
        }
        // Frequent Directions shrinks at other places; its radius holds for each.
        if !method.ends_with("directions") {
            assert!(answers.iter().all(|q| relative_error(q, &answers[0]) < 1e-10), "{method}");
        }
    }
}

/// A decimal in the manifest must be the very number: the mass is compared with the sketch's, and γ is used again.
#[test]
fn every_decay_is_read_back_to_the_bit() {
    let desk = Desk::new();
    let case = gradients(3, 14, 5);
    desk.save("a.npy", &matrix_file(&part(&case, 0..3).expanded));
    desk.save("b.npy", &matrix_file(&part(&case, 3..14).expanded));
    let mut stream = Key::new(31).stream();
    let hundredths = (1..100).map(|i| f64::from(i) / 100.0);
    for gamma in hundredths.chain((0..100).map(|_| stream.uniform())) {
        let options = format!("--method nystrom --sketch-size 3 --decay {gamma:?} --force");
        desk.good(&format!("build a.npy b.npy {options} --out one.nhgd"));
        assert_eq!(number(&desk.json("info one.nhgd")["decay"]).to_bits(), gamma.to_bits());
        desk.good(&format!("build a.npy {options} --out first.nhgd"));
        desk.good("absorb first.nhgd b.npy --out both.nhgd --force");
        assert!(fs::read(desk.path("one.nhgd")).unwrap() == fs::read(desk.path("both.nhgd")).unwrap(), "γ = {gamma:?}");
    }
}

#[test]
fn many_right_hand_sides_at_once_have_the_answers_and_bounds_of_each_alone() {
    let desk = Desk::new();
    let (case, d, count) = (gradients(32, 80, 40), 40, 150);
    desk.save("g.npy", &matrix_file(&case.expanded));
    let rhs = Matrix::from_columns(d, count, Key::new(33).stream().normals(d * count)).unwrap();
    desk.save("all.npy", &matrix_file(&rhs.t().to_matrix()));
    let f = fisher(&[&case]);
    for (method, size) in [("nystrom", "--sketch-size 10"), ("robust-frequent-directions", "--sketch-size 10"), ("diagonal", "")] {
        desk.good(&format!("build g.npy --method {method} {size} --out s.nhgd --force"));
        let all = desk.json("solve s.nhgd all.npy --damping 0.02 --out q.npy --force");
        let (shape, q) = desk.load("q.npy");
        assert_eq!((shape, all["solutions"].as_array().unwrap().len()), (format!("({count}, {d})"), count));
        for i in [0, 1, 63, 64, 65, 128, 149] {
            desk.save("one.npy", &vector_file(rhs.col(i)));
            let one = desk.json("solve s.nhgd one.npy --damping 0.02 --out one-q.npy --force");
            let (alone, among, q) = (&one["solutions"][0], &all["solutions"][i], &q[i * d..(i + 1) * d]);
            assert!(relative_error(q, &desk.load("one-q.npy").1) < 1e-13, "{method}, {i}");
            if method == "diagonal" {
                assert!(among["error_radius"].is_null());
                continue;
            }
            let radius = number(&among["error_radius"]);
            assert!((radius / number(&alone["error_radius"]) - 1.0).abs() < 1e-9, "{method}, {i}: {alone} {among}");
            let exact = dense_solve(&f, &scalar(d, 0.02), rhs.col(i));
            assert!(norm(&difference(q, &exact)) <= radius, "{method}, {i}");
        }
    }
}

#[test]
fn a_test_matrix_can_be_chosen_and_is_remembered() {
    let desk = Desk::new();
    let (case, d) = (gradients(34, 120, 30), 30);
    desk.save("g.npy", &matrix_file(&case.expanded));
    let v = Key::new(35).stream().normals(d);
    desk.save("v.npy", &vector_file(&v));
    let exact = dense_solve(&fisher(&[&case]), &scalar(d, 0.05), &v);
    let mut answers = Vec::new();
    for kind in ["gaussian", "sparse-sign", "sign"] {
        desk.good(&format!("build g.npy --method nystrom --sketch-size 12 --test-matrix {kind} --out {kind}.nhgd"));
        assert_eq!(desk.json(&format!("info {kind}.nhgd"))["settings"]["nystrom"]["test_matrix"], kind);
        let answer = desk.json(&format!("solve {kind}.nhgd v.npy --damping 0.05 --out q.npy --force"));
        let q = desk.load("q.npy").1;
        assert!(norm(&difference(&q, &exact)) <= number(&answer["solutions"][0]["error_radius"]), "{kind}: {answer}");
        answers.push(q);
    }
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        assert!(relative_error(&answers[one], &answers[other]) > 1e-6, "another Ω, another sketch");
    }
    // Gaussian is the default.
    desk.good("build g.npy --method nystrom --sketch-size 12 --out default.nhgd");
    assert_eq!(fs::read(desk.path("default.nhgd")).unwrap(), fs::read(desk.path("gaussian.nhgd")).unwrap());
    desk.refused(
        "merge gaussian.nhgd sparse-sign.nhgd --out m.nhgd",
        1,
        &["sparse-sign.nhgd: test_matrix sparse-sign, but gaussian.nhgd has gaussian"],
    );
    for method in ["window", "frequent-directions", "dense"] {
        let build = format!("build g.npy --method {method} --test-matrix gaussian --out t.nhgd");
        desk.refused(&build, 2, &["--test-matrix", &format!("`{method}`")]);
    }
    let build = "build g.npy --method nystrom --test-matrix sparse --out t.nhgd";
    desk.refused(build, 2, &["--test-matrix", "gaussian, sparse-sign or sign", "`sparse`"]);
}

/// ℓ/4 probes are ℓ/4 probes, said or not.
#[test]
fn settings_that_come_to_the_same_merge() {
    let desk = Desk::new();
    let case = gradients(36, 40, 12);
    desk.save("a.npy", &matrix_file(&part(&case, 0..15).expanded));
    desk.save("b.npy", &matrix_file(&part(&case, 15..40).expanded));
    desk.good("build a.npy --method nystrom --sketch-size 7 --out silent.nhgd");
    desk.good("build b.npy --method nystrom --sketch-size 7 --probes 1 --out said.nhgd");
    desk.good("build b.npy --method nystrom --sketch-size 7 --probes 2 --out other.nhgd");
    for pair in ["silent.nhgd said.nhgd", "said.nhgd silent.nhgd"] {
        assert_eq!(desk.json(&format!("merge {pair} --out m.nhgd --force"))["rows"], 40);
        assert_eq!(desk.json("info m.nhgd")["settings"]["nystrom"]["probes"], 1);
    }
    desk.refused("merge silent.nhgd other.nhgd --out n.nhgd", 1, &["other.nhgd: probes 2, but silent.nhgd has 1"]);
}

/// The manifest is for people to read, and some will edit it: it must not say what the sketch contradicts.
#[test]
fn a_manifest_that_the_sketch_contradicts_is_refused() {
    let desk = Desk::new();
    desk.save("g.npy", &matrix_file(&gradients(37, 14, 6).expanded));
    for method in SKETCHES {
        desk.good(&format!("build g.npy --method {method} --sketch-size 3 --probes 2 --out s.nhgd --force"));
        let sketch = fs::read(desk.path("s.nhgd")).unwrap();
        for (from, to, fragments) in [
            ("\"rows\": 14", "\"rows\": 7", ["rows 7", "14"]),
            ("\"rows\": 14", "\"rows\": 0", ["rows 0", "14"]),
            ("\"decay\": 0.0", "\"decay\": 7", ["decay", "7"]),
            ("\"decay\": 0.0", "\"decay\": -0.5", ["decay", "-0.5"]),
            ("\"decay\": 0.0", "\"decay\": 1.0", ["decay", "1"]),
            ("\"sketch_size\": 3", "\"sketch_size\": 99", ["sketch_size 99", "3"]),
            ("\"dim\": 6", "\"dim\": 7", ["dim 7", "6"]),
            ("\"mass\": 14.0", "\"mass\": 13.0", ["mass 13", "14"]),
        ] {
            let bytes = repacked(&sketch, |name, bytes| {
                let text = || String::from_utf8(bytes.clone()).unwrap();
                if name == "manifest.json" { text().replace(from, to).into_bytes() } else { bytes }
            });
            assert_ne!(bytes, sketch, "{from}");
            desk.save("edited.nhgd", &bytes);
            let damaged = ["edited.nhgd", "manifest.json"].into_iter().chain(fragments).collect::<Vec<_>>();
            for verb in ["info edited.nhgd", "absorb edited.nhgd g.npy --out t.nhgd", "merge s.nhgd edited.nhgd --out t.nhgd"] {
                desk.refused(verb, 1, &damaged);
            }
        }
        let same = repacked(&sketch, |_, bytes| bytes);
        desk.save("same.nhgd", &same);
        desk.good("info same.nhgd");
    }
}

#[test]
fn a_newer_sketch_says_what_to_do() {
    let desk = Desk::new();
    desk.save("g.npy", &matrix_file(&gradients(38, 14, 6).expanded));
    desk.good("build g.npy --method nystrom --sketch-size 3 --out s.nhgd");
    let sketch = fs::read(desk.path("s.nhgd")).unwrap();
    let inner = repacked(&sketch, |name, mut bytes| {
        if name == "curvature" {
            // The length of the format's name, the name, the version.
            let place = 1 + "nhgd-curvature".len();
            assert_eq!(bytes[place], 2);
            bytes[place] = 3;
        }
        bytes
    });
    let outer = repacked(&sketch, |name, bytes| match name {
        "manifest.json" => br#"{ "format": "nhgd-sketch", "version": 2, "whatever": [] }"#.to_vec(),
        _ => bytes,
    });
    let of_inner = ["inner.nhgd", "version 3", "reads version 2", "newer nhgd"];
    let of_outer = ["outer.nhgd", "version 2", "reads version 1", "newer nhgd"];
    for (name, bytes, said) in [("inner.nhgd", inner, of_inner), ("outer.nhgd", outer, of_outer)] {
        desk.save(name, &bytes);
        for verb in ["info X", "absorb X g.npy --out t.nhgd", "merge s.nhgd X --out t.nhgd"] {
            desk.refused(&verb.replace('X', name), 1, &said);
        }
        assert!(!String::from_utf8_lossy(&desk.run(&format!("info {name}")).stderr).contains("damaged"), "{name}");
    }
}

#[test]
fn merging_is_one_pass() {
    let desk = Desk::new();
    let (case, d) = (gradients(5, 150, 40), 40);
    for (name, rows) in [("all", 0..150), ("a", 0..50), ("b", 50..51), ("c", 51..150)] {
        desk.save(&format!("{name}.npy"), &matrix_file(&part(&case, rows).expanded));
    }
    let v = Key::new(6).stream().normals(d);
    desk.save("v.npy", &vector_file(&v));
    let exact = dense_solve(&fisher(&[&case]), &scalar(d, 0.02), &v);
    for method in METHODS {
        let size = match method {
            "diagonal" | "dense" => "",
            "window" => "--sketch-size 200",
            _ => "--sketch-size 8",
        };
        for name in ["all", "a", "b", "c"] {
            desk.good(&format!("build {name}.npy --method {method} {size} --out {name}.nhgd --force"));
        }
        let merged = desk.json("merge a.nhgd b.nhgd c.nhgd --out merged.nhgd --force");
        assert_eq!(merged["rows"], 150);
        let solve = |name: &str| {
            let answer = desk.json(&format!("solve {name}.nhgd v.npy --damping 0.02 --out q.npy --force"));
            (desk.load("q.npy").1, answer["solutions"][0]["error_radius"].as_f64())
        };
        let ((one, _), (merged, radius)) = (solve("all"), solve("merged"));
        if !method.ends_with("directions") {
            assert!(relative_error(&merged, &one) < 1e-11, "{method}");
        }
        if let Some(radius) = radius {
            assert!(norm(&difference(&merged, &exact)) <= radius, "{method}");
        }
    }
}

#[test]
fn single_precision_is_widened_exactly() {
    let desk = Desk::new();
    let case = gradients(7, 40, 9);
    let singles: Vec<f32> = in_rows(&case.expanded).iter().map(|&x| x as f32).collect();
    desk.save("singles.npy", &npy("<f4", "False", "(40, 9)", singles.iter().flat_map(|x| x.to_le_bytes())));
    let widened: Vec<f64> = singles.iter().map(|&x| f64::from(x)).collect();
    desk.save("widened.npy", &doubles("(40, 9)", &widened));
    for name in ["singles", "widened"] {
        desk.good(&format!("build {name}.npy --method nystrom --sketch-size 4 --out {name}.nhgd"));
    }
    assert_eq!(fs::read(desk.path("singles.nhgd")).unwrap(), fs::read(desk.path("widened.nhgd")).unwrap());
}

/// F = Σ w g gᵀ / n over rows, the weights running on from file to file.
#[test]
fn weights_and_decay_are_those_of_the_definition() {
    let desk = Desk::new();
    let (first, second, d) = (gradients(8, 30, 10), gradients(9, 25, 10), 10);
    let mut stream = Key::new(10).stream();
    let weights: Vec<f64> = (0..55).map(|i| if i % 7 == 0 { 0.0 } else { 3.0 * stream.uniform() }).collect();
    let weighted = |case: &Case, from: usize| {
        dense_case(Matrix::from_fn(case.samples, d, |i, j| weights[from + i].sqrt() * case.expanded[(i, j)]), 1)
    };
    desk.save("a.npy", &matrix_file(&first.expanded));
    desk.save("b.npy", &matrix_file(&second.expanded));
    desk.save("w.npy", &vector_file(&weights));
    desk.save("w-b.npy", &vector_file(&weights[30..]));
    let v = stream.normals(d);
    desk.save("v.npy", &vector_file(&v));
    let (first_weighted, second_weighted) = (weighted(&first, 0), weighted(&second, 30));
    let plain = fisher_minus(&[(&first, 0.7), (&second, 1.0)], None);
    let with_weights = fisher_minus(&[(&first_weighted, 1.0), (&second_weighted, 1.0)], None);
    for method in ["window", "dense", "nystrom", "frequent-directions"] {
        let size = match method {
            "dense" => "",
            "window" => "--sketch-size 100",
            _ => "--sketch-size 6",
        };
        let check = |name: &str, f: &Matrix| {
            let answer = desk.json(&format!("solve {name} v.npy --damping 0.03 --out q.npy --force"));
            let (radius, exact) = (number(&answer["solutions"][0]["error_radius"]), dense_solve(f, &scalar(d, 0.03), &v));
            assert!(norm(&difference(&desk.load("q.npy").1, &exact)) <= radius, "{method}, {name}");
            let trace = number(&desk.json(&format!("info {name}"))["trace"]);
            assert!((trace / f.trace() - 1.0).abs() < 1e-12, "{method}, {name}: {trace} for {}", f.trace());
        };
        desk.good(&format!("build a.npy b.npy --method {method} {size} --weights w.npy --out w.nhgd --force"));
        check("w.nhgd", &with_weights);
        // Decay: before each file, and the sketch remembers it.
        desk.good(&format!("build a.npy b.npy --method {method} {size} --decay 0.3 --out d.nhgd --force"));
        check("d.nhgd", &plain);
        assert!((number(&desk.json("info d.nhgd")["mass"]) - 46.0).abs() < 1e-12);
        desk.good(&format!("build a.npy --method {method} {size} --decay 0.3 --out e.nhgd --force"));
        desk.good("absorb e.nhgd b.npy --out f.nhgd --force");
        assert_eq!(fs::read(desk.path("d.nhgd")).unwrap(), fs::read(desk.path("f.nhgd")).unwrap(), "{method}");
        desk.good("absorb e.nhgd b.npy --decay 0 --weights w-b.npy --out g.nhgd --force");
        check("g.nhgd", &fisher_minus(&[(&first, 1.0), (&second_weighted, 1.0)], None));
    }
}

#[test]
fn automatic_damping_is_the_smallest_that_meets_its_target() {
    let desk = Desk::new();
    let (case, d) = (gradients(11, 200, 50), 50);
    desk.save("g.npy", &matrix_file(&case.expanded));
    let f = fisher(&[&case]);
    let rhs: Vec<Vec<f64>> = vec![
        Key::new(12).stream().normals(d),
        in_rows(&case.expanded)[..d].to_vec(),
        vec![0.0; d],
        f.col(0).iter().map(|x| 1e6 * x).collect(),
    ];
    desk.save("b.npy", &doubles(&format!("(4, {d})"), &rhs.concat()));
    for method in ["window", "dense"].into_iter().chain(SKETCHES) {
        let size = if method == "dense" { "" } else { "--sketch-size 12" };
        let rows = if method == "window" { part(&case, 188..200) } else { case.clone() };
        let f = fisher(&[&rows]);
        desk.good(&format!("build g.npy --method {method} {size} --out s.nhgd --force"));
        for target in [None, Some(1.0), Some(0.01)] {
            let option = target.map_or(String::new(), |t: f64| format!("--target {t}"));
            let answer = desk.json(&format!("solve s.nhgd b.npy --damping auto {option} --out q.npy --force"));
            let (target, q) = (target.unwrap_or(0.1), desk.load("q.npy").1);
            for (i, b) in rhs.iter().enumerate() {
                let solution = &answer["solutions"][i];
                let (mu, what) = (number(&solution["damping"]), format!("{method}, target {target}, b {i}: {solution}"));
                assert!(number(&solution["relative_error"]) <= target, "{what}");
                let (q, exact) = (&q[i * d..(i + 1) * d], dense_solve(&f, &scalar(d, mu), b));
                assert!(norm(&difference(q, &exact)) <= target * norm(&exact), "{what}");
                // A little less would not have done.
                if SKETCHES.contains(&method) && i != 2 {
                    desk.save("one.npy", &vector_file(b));
                    let less = desk.json(&format!("solve s.nhgd one.npy --damping {} --out less.npy --force", mu / 1.01));
                    assert!(less["solutions"][0]["relative_error"].as_f64().is_none_or(|error| error > target), "{what}: {less}");
                }
            }
        }
    }
}

#[test]
fn probes_tighten_what_may_fail() {
    let desk = Desk::new();
    let (case, d) = (gradients(13, 200, 80), 80);
    desk.save("g.npy", &matrix_file(&case.expanded));
    let v = Key::new(14).stream().normals(d);
    desk.save("v.npy", &vector_file(&v));
    desk.good("build g.npy --method nystrom --sketch-size 8 --probes 12 --out s.nhgd");
    let solve = |option: &str| {
        let answer = desk.json(&format!("solve s.nhgd v.npy --damping 0.05 {option} --out q.npy --force"));
        (answer["solutions"][0].clone(), desk.load("q.npy").1)
    };
    let ((certain, _), (likely, q)) = (solve(""), solve("--failure 0.01"));
    assert!(number(&likely["error_radius"]) < number(&certain["error_radius"]), "{likely} {certain}");
    assert!(number(&likely["relative_error"]) < 0.5 * number(&certain["relative_error"]), "{likely} {certain}");
    assert_eq!((&likely["bound"], &likely["deterministic"]), (&"probes".into(), &false.into()));
    assert_eq!((number(&likely["failure"]), number(&certain["failure"])), (0.01, 0.0));
    let exact = dense_solve(&fisher(&[&case]), &scalar(d, 0.05), &v);
    assert!(norm(&difference(&q, &exact)) <= number(&likely["error_radius"]));
    let damping = |option: &str| {
        number(&desk.json(&format!("solve s.nhgd v.npy --damping auto {option} --out q.npy --force"))["solutions"][0]["damping"])
    };
    assert!(damping("--failure 0.01") < 0.5 * damping(""));
    let high = |option: &str| number(&desk.json(&format!("info s.nhgd {option}"))["residual_high"]);
    assert!(high("--failure 0.01") < high(""));
    // Whoever reads the residual sees what it is worth, in every form.
    let info = desk.json("info s.nhgd --failure 0.01");
    assert_eq!((&info["deterministic"], number(&info["failure"])), (&false.into(), 0.01));
    let info = desk.json("info s.nhgd");
    assert_eq!((&info["deterministic"], number(&info["failure"])), (&true.into(), 0.0));
    let text = desk.good("info s.nhgd --failure 0.01 --plot likely.svg");
    assert!(text.contains("with probability 0.99 (δ = 0.01)"), "{text}");
    assert!(desk.good("info s.nhgd --plot certain.svg").contains("for certain"));
    let legend = |name: &str| {
        let texts = texts(&fs::read_to_string(desk.path(name)).unwrap());
        texts.iter().filter(|text| text.contains("may fail with probability 0.01")).count()
    };
    assert_eq!((legend("likely.svg"), legend("certain.svg")), (2, 0), "the residual's line and the certificate's");
    // Without probes nothing is gained, and nothing pretended.
    desk.good("build g.npy --method nystrom --sketch-size 8 --probes 0 --out none.nhgd");
    let answer = desk.json("solve none.nhgd v.npy --damping 0.05 --failure 0.01 --out q.npy --force");
    assert_eq!((&answer["solutions"][0]["bound"], &answer["solutions"][0]["deterministic"]), (&"trace".into(), &true.into()));
}

#[test]
fn bilinear_forms_are_enclosed() {
    let desk = Desk::new();
    let (case, d) = (gradients(15, 90, 30), 30);
    desk.save("g.npy", &matrix_file(&case.expanded));
    let (u, v) = (Key::new(16).stream().normals(d), Key::new(17).stream().normals(d));
    desk.save("u.npy", &vector_file(&u));
    desk.save("v.npy", &doubles(&format!("(1, {d})"), &v));
    let exact = |f: &Matrix, mu: f64| dot(&u, &dense_solve(f, &scalar(d, mu), &v));
    let f = fisher(&[&case]);
    for method in METHODS {
        let size = match method {
            "diagonal" | "dense" => "",
            "window" => "--sketch-size 90",
            _ => "--sketch-size 10",
        };
        desk.good(&format!("build g.npy --method {method} {size} --out s.nhgd --force"));
        for mu in [0.01, 0.2, 5.0] {
            let answer = desk.json(&format!("bilinear s.nhgd u.npy v.npy --damping {mu}"));
            if method == "diagonal" {
                assert!(answer["low"].is_null() && answer["high"].is_null() && answer["deterministic"].is_null());
                assert!(number(&answer["value"]).is_finite());
                continue;
            }
            let (low, high, exact) = (number(&answer["low"]), number(&answer["high"]), exact(&f, mu));
            assert!(low <= exact && exact <= high, "{method}, μ {mu}: {exact} outside {answer}");
            assert!(low <= number(&answer["value"]) && number(&answer["value"]) <= high);
            assert_eq!(answer["deterministic"], true);
            let tight = if ["window", "dense"].contains(&method) { 1e-9 } else { 100.0 };
            assert!(high - low < tight * exact.abs().max(1.0), "{method}, μ {mu}: {answer}");
        }
    }
    let answer = desk.json("bilinear s.nhgd u.npy v.npy --damping auto");
    let mu = number(&answer["damping"]);
    assert!(number(&answer["low"]) <= exact(&f, mu) && exact(&f, mu) <= number(&answer["high"]));
}

#[test]
fn info_tells_the_spectrum_the_residual_and_the_effective_dimension() {
    let desk = Desk::new();
    let (case, d) = (gradients(18, 100, 25), 25);
    desk.save("g.npy", &matrix_file(&case.expanded));
    let f = fisher(&[&case]);
    let values = eigh(&f).unwrap().values;
    for method in METHODS {
        let (size, stated) = match method {
            "diagonal" | "dense" => ("", Value::Null),
            "window" => ("--sketch-size 100", 100.into()),
            _ => ("--sketch-size 6", 6.into()),
        };
        desk.good(&format!("build g.npy --method {method} {size} --seed 5 --out {method}.nhgd"));
        let info = desk.json(&format!("info {method}.nhgd --damping 0.1,0.01 --plot {method}.svg"));
        assert_eq!((&info["method"], &info["dim"], &info["rows"]), (&method.into(), &d.into(), &100.into()));
        assert_eq!((&info["sketch_size"], &info["seed"]), (&stated, &5.into()));
        assert!((number(&info["trace"]) / f.trace() - 1.0).abs() < 1e-12, "{method}: {}", info["trace"]);
        let found = numbers(&info["eigenvalues"]);
        assert!(found.windows(2).all(|pair| pair[0] >= pair[1]), "{method}");
        match method {
            "window" | "dense" => assert!(relative_error(&found, &values) < 1e-12, "{method}"),
            "diagonal" => assert!((found.iter().sum::<f64>() / f.trace() - 1.0).abs() < 1e-12),
            // What a sketch holds is below F, eigenvalue by eigenvalue; the first one it has.
            _ => {
                assert!(found.iter().zip(&values).all(|(a, b)| *a <= b + 1e-12), "{method}: {found:?} {values:?}");
                assert!(found[0] > 0.8 * values[0], "{method}");
            }
        }
        for (entry, mu) in info["effective_dimension"].as_array().unwrap().iter().zip([0.1, 0.01]) {
            let expected: f64 = found.iter().map(|s| s / (s + mu)).sum();
            assert_eq!(number(&entry["damping"]), mu);
            assert!((number(&entry["value"]) / expected - 1.0).abs() < 1e-12, "{method}");
        }
        if method == "diagonal" {
            assert!(info["residual_low"].is_null() && info["residual_high"].is_null());
        } else {
            let sketch = Sketch::read(&desk.path(&format!("{method}.nhgd"))).unwrap();
            let estimate = sketch.curvature.approximate().unwrap().to_dense().unwrap();
            let residual = eigh(&fisher_minus(&[(&case, 1.0)], Some(&estimate))).unwrap().values;
            let (low, high) = (number(&info["residual_low"]), number(&info["residual_high"]));
            assert!(low - 1e-14 <= residual[d - 1] && residual[0] <= high + 1e-14, "{method}: {residual:?} in {low:e} to {high:e}");
        }
        let texts = texts(&fs::read_to_string(desk.path(&format!("{method}.svg"))).unwrap());
        let has = |expected: &str| texts.iter().any(|text| text == expected);
        assert!(has("eigenvalues") && has("damping μ (unit of F)"), "{texts:?}");
        assert_eq!(has("certified relative error"), !["diagonal", "dense"].contains(&method), "{method}");
        // Rounding of 1e-14 beside eigenvalues of 1e-3 would be all that is seen.
        assert_eq!(has("left out, at most"), SKETCHES.contains(&method), "{method}");
    }
    let text = desk.good("info nystrom.nhgd");
    assert!(text.contains("effective dimension at μ = 1e-2") && text.contains("nystrom"), "{text}");
}

/// Nothing to draw is said in the picture.
#[test]
fn the_picture_of_nothing_says_so() {
    let desk = Desk::new();
    desk.save("zero.npy", &doubles("(3, 4)", &[0.0; 12]));
    for method in METHODS {
        desk.good(&format!("build zero.npy --method {method} --out s.nhgd --force"));
        desk.good("info s.nhgd --plot s.svg --force");
        let texts = texts(&fs::read_to_string(desk.path("s.svg")).unwrap());
        assert!(texts.iter().any(|text| text.contains("nothing to draw")), "{method}: {texts:?}");
    }
}

#[test]
fn equal_builds_give_equal_bytes_at_every_thread_count() {
    let desk = Desk::new();
    desk.save("g.npy", &matrix_file(&gradients(19, 700, 300).expanded));
    desk.save("b.npy", &vector_file(&Key::new(20).stream().normals(300)));
    for method in SKETCHES {
        let files: Vec<Vec<u8>> = [1, 2, 4]
            .iter()
            .flat_map(|threads| {
                let options = format!("--method {method} --sketch-size 40 --probes 4 --threads {threads}");
                desk.good(&format!("build g.npy {options} --out s.nhgd --force"));
                desk.good(&format!("solve s.nhgd b.npy --damping auto --threads {threads} --out q.npy --force"));
                [fs::read(desk.path("s.nhgd")).unwrap(), fs::read(desk.path("q.npy")).unwrap()]
            })
            .collect();
        assert!(files.chunks(2).all(|pair| pair == &files[..2]), "{method}");
        desk.good(&format!("build g.npy --method {method} --sketch-size 40 --probes 4 --seed 1 --out s.nhgd --force"));
        assert_ne!(fs::read(desk.path("s.nhgd")).unwrap(), files[0], "another seed");
    }
}

#[test]
fn bad_gradient_files_are_refused_by_name() {
    let desk = Desk::new();
    let case = gradients(21, 6, 4);
    let (good, numbers) = (matrix_file(&case.expanded), in_rows(&case.expanded));
    desk.save("good.npy", &good);
    desk.good("build good.npy --method dense --out s.nhgd");
    let nan = |place: usize| {
        let mut numbers = numbers.clone();
        numbers[place] = f64::NAN;
        doubles("(6, 4)", &numbers)
    };
    let bytes = || good[128..].to_vec();
    for (file, fragments) in [
        (npy("<i8", "False", "(6, 4)", bytes()), &["`<i8`", "float32 or float64"][..]),
        (npy(">f8", "False", "(6, 4)", bytes()), &["`>f8`", "little-endian"]),
        (npy("<f8", "True", "(6, 4)", bytes()), &["Fortran order", "ascontiguousarray"]),
        (npy("<f8", "False", "(24,)", bytes()), &["one-dimensional", "reshape(1, -1)"]),
        (npy("<f8", "False", "(2, 3, 4)", bytes()), &["3 dimensions"]),
        (npy("<f8", "False", "(0, 4)", []), &["empty", "0 × 4"]),
        (npy("<f8", "False", "(6, 0)", []), &["empty", "6 × 0"]),
        (good[..good.len() - 8].to_vec(), &["truncated", "expected 192 bytes", "found 184"]),
        (good[..50].to_vec(), &["truncated"]),
        (Vec::new(), &["no NumPy file"]),
        ([&good[..], &[0; 8]].concat(), &["longer than its header says"]),
        (nan(0), &["row 0, column 0 (from 0) is NaN"]),
        (nan(23), &["row 5, column 3 (from 0) is NaN"]),
        (doubles("(6, 4)", &[1e200; 24]), &["rows 0 to 5", "squared norms"]),
        (doubles("(8, 3)", &numbers), &["3 columns", "has 4"]),
    ] {
        desk.save("bad.npy", &file);
        let fragments = [&["bad.npy"], fragments].concat();
        desk.refused("build good.npy bad.npy --method dense --out t.nhgd", 1, &fragments);
        desk.refused("absorb s.nhgd bad.npy --out t.nhgd", 1, &fragments);
        desk.refused("absorb s.nhgd bad.npy --out s.nhgd --force", 1, &fragments);
    }
    desk.refused("build missing.npy --method dense --out t.nhgd", 1, &["missing.npy", "No such file"]);
}

#[test]
fn bad_settings_are_refused_by_name() {
    let desk = Desk::new();
    let case = gradients(22, 6, 4);
    desk.save("g.npy", &matrix_file(&case.expanded));
    desk.save("few.npy", &vector_file(&[1.0; 5]));
    desk.save("negative.npy", &vector_file(&[1.0, 1.0, -0.5, 1.0, 1.0, 1.0]));
    desk.save("nan.npy", &vector_file(&[1.0, 1.0, 1.0, f64::NAN, 1.0, 1.0]));
    desk.save("square.npy", &matrix_file(&case.expanded));
    desk.good("build g.npy --method nystrom --sketch-size 2 --out s.nhgd");
    for (arguments, code, fragments) in [
        ("--method nystrum", 2, &["--method", "nystrom", "nystrum"][..]),
        ("--method kfac", 2, &["`kfac`", "take", "nystrom"]),
        ("--method rank-one", 2, &["`rank-one`", "take", "nystrom"]),
        ("--method rank-one-smoothed", 2, &["`rank-one-smoothed`", "take", "nystrom"]),
        ("--method nystrom --sketch-size 2 --probes 99999999999999", 2, &["probes", "dimension 4", "99999999999999"]),
        ("--method frequent-directions --sketch-size 2 --probes 5", 2, &["probes", "dimension 4", "found 5"]),
        ("--method nystrom --sketch-size 0", 2, &["sketch_size", "found 0"]),
        ("--method nystrom --sketch-size 5", 2, &["sketch_size", "dimension 4", "found 5"]),
        ("--method diagonal --sketch-size 5", 2, &["--sketch-size", "diagonal"]),
        ("--method window --probes 5", 2, &["--probes", "window"]),
        ("--method dense --decay 1", 2, &["--decay", "[0, 1)"]),
        ("--method dense --decay -0.5", 2, &["--decay", "-0.5"]),
        ("--method dense --decay nan", 2, &["--decay", "NaN"]),
        ("--method dense --weights few.npy", 1, &["few.npy", "5 weights for 6 rows"]),
        ("--method dense --weights negative.npy", 1, &["negative.npy", "weight 2", "-0.5"]),
        ("--method dense --weights nan.npy", 1, &["nan.npy", "weight 3 (from 0) is NaN"]),
        ("--method dense --weights square.npy", 1, &["square.npy", "2 dimensions; expected 1"]),
        ("--method dense --weights none.npy", 1, &["none.npy"]),
    ] {
        desk.refused(&format!("build g.npy {arguments} --out t.nhgd"), code, fragments);
    }
    desk.refused("build g.npy --method dense --out s.nhgd", 2, &["--out", "--force", "s.nhgd"]);
    desk.refused("build g.npy --method dense --out nowhere/t.nhgd", 2, &["--out", "folder", "nowhere/t.nhgd"]);
    desk.refused("build g.npy --method dense --out .", 2, &["--out", "a folder"]);
    desk.good("build g.npy --method dense --out s.nhgd --force");
    // As many probes as the dimension are the most.
    desk.good("build g.npy --method nystrom --sketch-size 2 --probes 4 --out probes.nhgd");
    // The default size fits a small dimension.
    desk.good("build g.npy --method frequent-directions --out small.nhgd");
    assert_eq!(desk.json("info small.nhgd")["sketch_size"], 4);
}

/// The families that an unknown name is answered with are those that build and solve, and those of the help.
#[test]
fn the_methods_on_offer_are_those_that_work() {
    let desk = Desk::new();
    desk.save("g.npy", &matrix_file(&gradients(39, 6, 4).expanded));
    let line = String::from_utf8(desk.run("build g.npy --method nystrum --out t.nhgd").stderr).unwrap();
    let offered = line.split_once("one of ").unwrap().1.split_once(", found").unwrap().0;
    assert_eq!(offered.split(", ").collect::<Vec<_>>(), METHODS);
    let help = desk.good("build --help").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(offered), "{help}");
    assert!(!help.contains("rank-one") && !help.contains("kfac"));
}

#[test]
fn bad_solves_and_merges_are_refused_by_name() {
    let desk = Desk::new();
    let case = gradients(23, 60, 8);
    desk.save("g.npy", &matrix_file(&case.expanded));
    desk.save("h.npy", &matrix_file(&gradients(24, 9, 7).expanded));
    desk.save("b.npy", &vector_file(&[1.0; 8]));
    desk.save("short.npy", &vector_file(&[1.0; 7]));
    desk.save("nan.npy", &doubles("(2, 8)", &[[1.0; 15].as_slice(), &[f64::NAN]].concat()));
    desk.save("two.npy", &doubles("(2, 8)", &[1.0; 16]));
    for (name, options) in [
        ("s", "g.npy --method nystrom --sketch-size 3"),
        ("seed", "g.npy --method nystrom --sketch-size 3 --seed 1"),
        ("size", "g.npy --method nystrom --sketch-size 4"),
        ("probes", "g.npy --method nystrom --sketch-size 3 --probes 5"),
        ("fd", "g.npy --method frequent-directions --sketch-size 3"),
        ("fd-seed", "g.npy --method frequent-directions --sketch-size 3 --seed 1"),
        ("fd-probes", "g.npy --method frequent-directions --sketch-size 3 --probes 2"),
        ("fd-probes-seed", "g.npy --method frequent-directions --sketch-size 3 --probes 2 --seed 3"),
        ("robust", "g.npy --method robust-frequent-directions --sketch-size 3"),
        ("dim", "h.npy --method nystrom --sketch-size 3"),
        ("diagonal", "g.npy --method diagonal"),
    ] {
        desk.good(&format!("build {options} --out {name}.nhgd"));
    }
    for (arguments, code, fragments) in [
        ("s.nhgd short.npy --damping 0.1", 1, &["short.npy", "length 7", "s.nhgd", "dimension 8"][..]),
        ("s.nhgd nan.npy --damping 0.1", 1, &["nan.npy", "row 1, column 7"]),
        ("s.nhgd b.npy --damping 0", 2, &["--damping: expected μ above ", "certificate", "found 0"]),
        ("s.nhgd b.npy --damping 1e-20", 2, &["--damping: expected μ above ", "certificate", "1e-20"]),
        ("robust.nhgd b.npy --damping 1e-20", 2, &["--damping: expected μ above ", "certificate", "1e-20"]),
        ("s.nhgd b.npy --damping -1", 2, &["--damping: ", "-1"]),
        ("s.nhgd b.npy --damping much", 2, &["--damping: ", "a number, or `auto`", "much"]),
        ("diagonal.nhgd b.npy --damping 0", 2, &["--damping: ", "found 0"]),
        ("s.nhgd b.npy --damping auto --target 0", 2, &["--target", "positive"]),
        ("s.nhgd b.npy --damping 1 --target 0.1", 2, &["--target", "auto"]),
        ("s.nhgd b.npy --damping 1 --failure 1", 2, &["--failure", "(0, 1)"]),
        ("diagonal.nhgd b.npy --damping auto", 2, &["auto", "give a number"]),
        ("missing.nhgd b.npy --damping 1", 1, &["missing.nhgd"]),
        ("g.npy b.npy --damping 1", 1, &["g.npy", "no sketch file"]),
    ] {
        desk.refused(&format!("solve {arguments} --out q.npy"), code, fragments);
    }
    desk.refused("bilinear s.nhgd b.npy b.npy --damping 0", 2, &["--damping: expected μ above ", "found 0"]);
    desk.refused("bilinear s.nhgd b.npy two.npy --damping 1", 1, &["two.npy", "2 vectors"]);
    desk.refused("bilinear s.nhgd short.npy b.npy --damping 1", 1, &["short.npy", "length 7"]);
    desk.refused("info s.nhgd --failure 0", 2, &["--failure", "(0, 1)"]);
    desk.refused("info s.nhgd --damping 0", 2, &["--damping", "positive"]);
    desk.refused("info s.nhgd --plot s.nhgd", 2, &["--plot", "--force"]);
    for (other, fragments) in [
        ("seed", &["Ω", "seed 1", "s.nhgd has 0"][..]),
        ("size", &["sketch_size 4", "s.nhgd has 3"]),
        ("probes", &["probes 5"]),
        ("fd", &["method frequent-directions", "s.nhgd has nystrom"]),
        ("dim", &["dimension 7", "s.nhgd has 8"]),
    ] {
        let file = format!("{other}.nhgd");
        desk.refused(&format!("merge s.nhgd {file} --out m.nhgd"), 1, &[&[file.as_str()], fragments].concat());
    }
    // Without probes nothing about Frequent Directions is random; with them there is still no Ω.
    desk.good("merge fd.nhgd fd-seed.nhgd --out m.nhgd");
    let merge = "merge fd-probes.nhgd fd-probes-seed.nhgd --out n.nhgd";
    desk.refused(merge, 1, &["fd-probes-seed.nhgd: other probes: seed 3, but fd-probes.nhgd has 0"]);
    assert!(!String::from_utf8_lossy(&desk.run(merge).stderr).contains('Ω'));
    // Another γ is no obstacle, and the first one's goes on.
    desk.good("build g.npy --method nystrom --sketch-size 3 --decay 0.5 --out decayed.nhgd");
    desk.good("merge s.nhgd decayed.nhgd --out m.nhgd --force");
    assert_eq!(number(&desk.json("info m.nhgd")["decay"]), 0.0);
    desk.good("merge decayed.nhgd s.nhgd --out m.nhgd --force");
    assert_eq!(number(&desk.json("info m.nhgd")["decay"]), 0.5);

    // A damaged file and a newer one.
    let bytes = fs::read(desk.path("s.nhgd")).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    desk.save("damaged.nhgd", &damaged);
    desk.save("cut.nhgd", &bytes[..bytes.len() / 2]);
    for verb in ["info X", "solve X b.npy --damping 1 --out q.npy", "absorb X g.npy --out q.npy", "merge s.nhgd X --out q.npy"] {
        for name in ["damaged.nhgd", "cut.nhgd"] {
            desk.refused(&verb.replace('X', name), 1, &[name, "damaged"]);
        }
    }
}

/// A file system of 16 KiB, where this process may make one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_line_and_leaves_nothing() {
    let desk = Desk::new();
    desk.save("g.npy", &matrix_file(&gradients(25, 300, 200).expanded));
    desk.save("b.npy", &doubles("(100, 200)", &vec![1.0; 20_000]));
    desk.good("build g.npy --method nystrom --sketch-size 20 --out s.nhgd");
    let disk = desk.path("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    let outputs = [
        desk.run("build g.npy --method nystrom --sketch-size 20 --out disk/s.nhgd"),
        desk.run("solve s.nhgd b.npy --damping 0.5 --out disk/q.npy"),
    ];
    let left = fs::read_dir(&disk).unwrap().count();
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    for output in outputs {
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(line.contains("writing") && line.contains("No space left") && line.trim_end().lines().count() == 1, "{line}");
    }
    assert_eq!(left, 0, "nothing half-written");
}

/// 200 MB of float32, which would be 400 MB in memory, in an address space of 300 MB; with a block for all of it the same is refused.
#[cfg(target_os = "linux")]
#[test]
fn a_file_larger_than_memory_is_streamed() {
    let desk = Desk::new();
    let (n, d) = (500, 100_000);
    let row: Vec<u8> = Key::new(26).stream().normals(d).iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
    desk.save("g.npy", &npy("<f4", "False", &format!("({n}, {d})"), std::iter::repeat_n(row, n).flatten()));
    let limited = |block: usize, out: &str| {
        let program = env!("CARGO_BIN_EXE_nhgd");
        let build = format!("build g.npy --method diagonal --threads 1 --block-mib {block} --out {out}");
        let script = format!("ulimit -v 300000 && exec {program} sketch {build}");
        Command::new("sh").args(["-c", &script]).current_dir(desk.0.path()).output().unwrap()
    };
    let streamed = limited(16, "s.nhgd");
    assert!(streamed.status.success(), "{}", String::from_utf8_lossy(&streamed.stderr));
    assert_eq!(desk.json("info s.nhgd --damping 1")["rows"], n);
    let whole = limited(1000, "t.nhgd");
    let line = String::from_utf8_lossy(&whole.stderr);
    assert_eq!(whole.status.code(), Some(1), "{line}");
    assert!(line.contains("no memory for 500 rows") && !Path::new(&desk.path("t.nhgd")).exists(), "{line}");
}
