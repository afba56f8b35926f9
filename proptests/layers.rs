//! The layers of the crate, read from its sources: imports go downwards only, each external crate has its one place, and the
//! library neither prints nor reads a clock or the environment. Every rule is also shown a text that breaks it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The layers, lowest first; modules of one layer do not import each other.
const LAYERS: [&[&str]; 18] = [
    &["error", "reused"],
    &["rng", "special", "file"],
    &["par"],
    &["dense"],
    &["operator"],
    &["samples"],
    &["gradient"],
    &["inverse"],
    &["model", "curvature", "data"],
    &["problem"],
    &["oracle"],
    &["bilevel"],
    &["bounds"],
    &["experiment", "testkit"],
    &["laboratory"],
    &["comparison"],
    &["report"],
    &["cli"],
];

/// May import everything.
const EXEMPT: [&str; 2] = ["lib", "main"];

/// A crate, and the files (or folders) that may name it.
const PLACES: [(&[&str], &[&str]); 9] = [
    (&["rand", "rand_distr", "rand_xoshiro"], &["rng.rs"]),
    (&["rayon"], &["par.rs"]),
    (&["faer"], &["dense/"]),
    (&["statrs"], &["special.rs"]),
    (&["tempfile"], &["file.rs", "report/tests.rs"]),
    (&["zip"], &["curvature/file.rs"]),
    (&["clap", "indicatif", "comfy_table", "signal_hook", "sysinfo"], &["cli/", "cli.rs", "main.rs"]),
    (&["plotters", "maud"], &["report/", "report.rs"]),
    (&["resvg", "dejavu"], &["report/raster.rs"]),
];

/// Where printing, clocks and the environment are at home.
const TERMINAL: [&str; 3] = ["cli/", "cli.rs", "main.rs"];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The source with comments, string and character literals blanked and `#[cfg(test)]` items cut out.
fn code_of(source: &str) -> String {
    without_tests(&without_text(source))
}

fn without_text(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let starts = |i: usize, text: &str| text.chars().enumerate().all(|(k, c)| chars.get(i + k) == Some(&c));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut code = String::new();
    let mut i = 0;
    while i < chars.len() {
        let fresh = i == 0 || !is_word(chars[i - 1]);
        if starts(i, "//") {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if starts(i, "/*") {
            let mut depth = 0;
            loop {
                match () {
                    () if starts(i, "/*") => (depth, i) = (depth + 1, i + 2),
                    () if starts(i, "*/") => (depth, i) = (depth - 1, i + 2),
                    () => i += 1,
                }
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if fresh && (starts(i, "r\"") || starts(i, "r#") || starts(i, "br\"") || starts(i, "br#")) {
            let mut end = i + chars[i..].iter().take_while(|&&c| c == 'r' || c == 'b').count();
            let hashes = chars[end..].iter().take_while(|&&c| c == '#').count();
            end += hashes;
            if chars.get(end) == Some(&'"') {
                let close = format!("\"{}", "#".repeat(hashes));
                end += 1;
                while end < chars.len() && !starts(end, &close) {
                    end += 1;
                }
                i = end + close.len();
            } else {
                // A raw identifier: r#type.
                code.push(' ');
                i = end;
            }
        } else if chars[i] == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if chars[i] == '\'' && (chars.get(i + 1) == Some(&'\\') || chars.get(i + 2) == Some(&'\'')) {
            i += if chars[i + 1] == '\\' { 3 } else { 2 };
            while i < chars.len() && chars[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else {
            code.push(chars[i]);
            i += 1;
        }
    }
    code
}

fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::new();
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let body = item.find(['{', ';']).unwrap_or(item.len() - 1);
        let mut depth = 0_i32;
        let end = item[body..].char_indices().find(|&(_, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0
        });
        rest = end.map_or("", |(k, _)| &item[body + k + 1..]);
    }
    kept + rest
}

/// Identifiers, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let length = if word > 0 {
            word
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Every path that the code names, `use` trees written out: `use a::{b, c::d}` gives a::b and a::c::d.
fn paths(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i] == "use" {
            i = use_tree(&tokens, i + 1, &[], &mut found);
        } else if is_name(tokens[i]) && tokens.get(i + 1) == Some(&"::") {
            let mut path = vec![tokens[i].to_string()];
            while tokens.get(i + 1) == Some(&"::") && tokens.get(i + 2).is_some_and(|t| is_name(t)) {
                path.push(tokens[i + 2].to_string());
                i += 2;
            }
            found.push(path);
            i += 1;
        } else if tokens[i] == "extern" && tokens.get(i + 1) == Some(&"crate") {
            found.extend(tokens.get(i + 2).map(|name| vec![name.to_string()]));
            i += 3;
        } else {
            i += 1;
        }
    }
    found
}

/// Reads one tree of a `use`; returns the position after it.
fn use_tree(tokens: &[&str], mut i: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    while let Some(&token) = tokens.get(i) {
        match token {
            "::" => i += 1,
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|&t| t != "}") {
                    i = use_tree(tokens, i, &path, found);
                    if tokens.get(i) == Some(&",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "as" => i += 2,
            "," | "}" | ";" => break,
            name => {
                path.push(name.to_string());
                i += 1;
            }
        }
    }
    found.push(path);
    i
}

/// Names that lib.rs re-exports at the root, with the module they come from.
fn root_names(lib: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for path in paths(&code_of(lib)) {
        let path: Vec<&String> = path.iter().filter(|s| !["crate", "self"].contains(&s.as_str())).collect();
        if let [module, .., name] = path[..]
            && layer_of(module).is_some()
        {
            names.insert(name.clone(), module.clone());
        }
    }
    names
}

/// The module path of a file under src: curvature/dense.rs is [curvature, dense], curvature/mod.rs is [curvature].
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    path.trim_end_matches("/mod").split('/').map(str::to_string).collect()
}

/// Rule 1: imports go downwards only.
fn upward_imports(file: &str, source: &str, root: &BTreeMap<String, String>) -> Vec<String> {
    let module = module_of(file);
    let top = module[0].as_str();
    if EXEMPT.contains(&top) {
        return Vec::new();
    }
    let Some(own) = layer_of(top) else {
        return vec![format!("{file}: module `{top}` has no layer; give it one in proptests/layers.rs")];
    };
    let mut wrong = Vec::new();
    for path in paths(&code_of(source)) {
        let supers = path.iter().take_while(|s| *s == "super").count();
        let absolute: Vec<String> = match path[0].as_str() {
            "crate" => path[1..].to_vec(),
            "super" if supers <= module.len() => [&module[..module.len() - supers], &path[supers..]].concat(),
            _ => continue,
        };
        let Some(first) = absolute.first().filter(|name| name.as_str() != "*") else {
            wrong.push(format!("{file}: imports the whole crate root"));
            continue;
        };
        let target = root.get(first).filter(|_| layer_of(first).is_none()).unwrap_or(first);
        if target == top {
            continue;
        }
        match layer_of(target) {
            None => wrong.push(format!("{file}: `{first}` is no module with a layer")),
            Some(layer) if layer >= own => wrong.push(format!("{file}: {top} imports {target}, which does not lie below it")),
            Some(_) if top == "report" && !is_on_disk(target, absolute.get(1).map(String::as_str)) => {
                wrong.push(format!("{file}: of {target}, report may import what is on disk alone"));
            }
            Some(_) => {}
        }
    }
    wrong.dedup();
    wrong
}

/// Whether the report may import this: of what runs experiments, it knows only what they leave on disk.
fn is_on_disk(module: &str, part: Option<&str>) -> bool {
    match module {
        "experiment" => part == Some("record"),
        "laboratory" => matches!(part, Some("record" | "picture")),
        _ => true,
    }
}

fn in_place(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { file.starts_with(place) } else { file == *place })
}

/// Rule 2: an external crate is named only in its place.
fn misplaced_crates(file: &str, source: &str) -> Vec<String> {
    let paths = paths(&code_of(source));
    let named = |name: &str| paths.iter().any(|path| path[0] == name);
    let mut wrong = Vec::new();
    for (crates, places) in PLACES {
        for name in crates.iter().filter(|name| named(name) && !in_place(file, places)) {
            wrong.push(format!("{file}: names `{name}`, whose place is {places:?}"));
        }
    }
    wrong
}

/// Rule 3: only the command line prints, reads a clock or reads the environment.
fn side_effects(file: &str, source: &str) -> Vec<String> {
    if in_place(file, &TERMINAL) {
        return Vec::new();
    }
    let code = code_of(source);
    let tokens = tokens(&code);
    let mut wrong: Vec<String> = tokens
        .windows(2)
        .filter(|pair| ["println", "eprintln", "print", "eprint", "dbg"].contains(&pair[0]) && pair[1] == "!")
        .map(|pair| format!("{file}: prints with {}!", pair[0]))
        .collect();
    for path in paths(&code) {
        let written = path.join("::");
        if path.iter().any(|s| s == "Instant" || s == "SystemTime") || written == "std::time" || written == "std::time::*" {
            wrong.push(format!("{file}: reads a clock ({written})"));
        }
        if written.starts_with("std::env") {
            wrong.push(format!("{file}: reads the environment ({written})"));
        }
        if ["std::io::stdout", "std::io::stderr"].contains(&written.as_str()) {
            wrong.push(format!("{file}: prints ({written})"));
        }
    }
    wrong
}

/// Every Rust file under src, its path relative to src.
fn sources() -> Vec<(String, String)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort();
    assert!(found.iter().any(|(file, _)| file == "lib.rs") && found.len() > 10, "the sources were found");
    found
}

fn none_wrong(rule: impl Fn(&str, &str) -> Vec<String>) {
    let wrong: Vec<String> = sources().iter().flat_map(|(file, source)| rule(file, source)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn imports_go_downwards_only() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let root = root_names(&lib);
    none_wrong(|file, source| upward_imports(file, source, &root));
}

#[test]
fn external_crates_stay_in_their_places() {
    none_wrong(misplaced_crates);
}

#[test]
fn the_library_neither_prints_nor_reads_clock_or_environment() {
    none_wrong(side_effects);
}

#[test]
fn an_upward_import_is_noticed_however_it_is_written() {
    let root = root_names("pub mod cli; pub use error::{Error, Result as R}; pub use crate::cli::{self, Verb};");
    for (file, source) in [
        ("par.rs", "use crate::dense::Matrix;"),
        ("rng.rs", "use crate::par;"),
        ("error.rs", "use crate::rng::Key;"),
        ("gradient/mod.rs", "use crate::{dense::{Matrix, gram}, inverse::{self, Woodbury}};"),
        ("gradient/kronecker.rs", "fn f() { crate::curvature::load(&[]); }"),
        ("gradient/kronecker.rs", "use super::super::curvature::load;"),
        ("gradient/mod.rs", "use super::curvature::load;"),
        ("operator.rs", "pub use crate :: samples :: Batch as B;"),
        ("curvature/mod.rs", "use crate::data::toy;"),
        ("model/mod.rs", "fn f() -> crate::curvature::Interval { todo!() }"),
        ("data/mod.rs", "use crate::{error::Error, model::Softmax};"),
        ("inverse/mod.rs", "macro_rules! m { () => { $crate::bilevel::run() } }"),
        ("report/page.rs", "use crate::experiment::Config;"),
        ("report/page.rs", "use crate::experiment::{record::Manifest, runner::run};"),
        ("experiment/mod.rs", "use crate::report;"),
        ("report/laboratory.rs", "use crate::laboratory::runner;"),
        ("experiment/runner.rs", "use crate::laboratory::record;"),
        ("bounds/mod.rs", "use crate::testkit::suite;"),
        ("testkit/method.rs", "use crate::experiment::record;"),
        ("bounds/mod.rs", "use crate::Verb;"),
        ("bounds/mod.rs", "use crate::*;"),
        ("bounds/mod.rs", "use crate::Nowhere;"),
        ("unheard_of.rs", ""),
        ("dense/mod.rs", "#[cfg(test)]\nmod tests { use crate::cli; }\nuse crate::cli;"),
        ("dense/mod.rs", "#[cfg(test)]\nuse crate::rng;\nfn f(c: char) -> bool { c == '\"' }\nuse crate::cli;"),
    ] {
        assert_eq!(upward_imports(file, source, &root).len(), 1, "{file}: {source}");
    }
    for (file, source) in [
        ("curvature/mod.rs", "use crate::inverse::Woodbury; use super::operator::Sum; pub(crate) use self::x::Y;"),
        ("curvature/dense.rs", "use super::{Interval, window}; use crate::dense::Matrix; use crate::Error;"),
        ("report/page.rs", "use crate::experiment::record::{self, Manifest};"),
        ("report/laboratory.rs", "use crate::laboratory::{picture::Picture, record::Record};"),
        (
            "par.rs",
            "// use crate::cli;\n/* use crate::cli; /* nested */ */ const S: &str = \"crate::cli\"; const R: &str = r#\"crate::cli\"#;",
        ),
        ("par.rs", "use crate::error::Error;\n#[cfg(test)]\nmod tests { use crate::cli; fn f() { if true {} } }"),
        ("testkit/method.rs", "use crate::bilevel::run; use crate::oracle; use super::Report; use super::report::Finding;"),
        ("main.rs", "use crate::cli;"),
        ("lib.rs", "pub use crate::cli::Verb;"),
        ("cli/run.rs", "use crate::testkit; use crate::report::page; use crate::experiment;"),
    ] {
        assert_eq!(upward_imports(file, source, &root), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn a_misplaced_crate_is_noticed() {
    for (file, source) in [
        ("curvature/mod.rs", "use rand::Rng;"),
        ("curvature/mod.rs", "use rand;"),
        ("par.rs", "fn f<R: ::rand_distr::Distribution<f64>>() {}"),
        ("rng/other.rs", "use rand_xoshiro as x;"),
        ("dense/mod.rs", "use {std::fmt, rayon::prelude::*};"),
        ("rng.rs", "extern crate faer;"),
        ("experiment/runner.rs", "#[derive(clap::Parser)] struct A;"),
        ("report/tables.rs", "comfy_table::Table::new()"),
        ("report/mod.rs", "use indicatif::ProgressBar;"),
        ("cli/mod.rs", "maud::html! {}"),
        ("experiment/hypergradient_errors.rs", "use statrs::distribution::StudentsT;"),
        ("experiment/record.rs", "use plotters::prelude::*;"),
    ] {
        assert_eq!(misplaced_crates(file, source).len(), 1, "{file}: {source}");
    }
    for (file, source) in [
        ("rng.rs", "use rand::Rng; use rand_distr::StandardNormal; use rand_xoshiro::SplitMix64;"),
        ("par.rs", "use rayon::prelude::*;"),
        ("special.rs", "use statrs::distribution::StudentsT;"),
        ("dense/mod.rs", "use faer::Par; let x = matrix.faer(); self::faer(x); fn faer_mut() {}"),
        ("cli/run.rs", "use clap::Parser; use indicatif::ProgressBar; use comfy_table::Table;"),
        ("report/plots.rs", "use plotters::prelude::*; use maud::html;"),
        (
            "problem/mod.rs",
            "/// uses `rand::Rng`\nlet rand = 3; f(rand); my::rand::x();\n#[cfg(test)]\nmod tests { use rand::Rng; }",
        ),
    ] {
        assert_eq!(misplaced_crates(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn printing_clocks_and_the_environment_are_noticed() {
    for source in [
        "fn f() { println!(\"x\"); }",
        "fn f() { eprintln! (\"x\"); }",
        "fn f() { dbg!(3); }",
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
        "use std::{fmt, time::Instant as Clock};",
        "fn f() { let t = time::Instant::now(); }",
        "use std::time;",
        "fn f() { std::env::var(\"X\"); }",
        "use std::env;",
        "use std::{env, fmt};",
        "fn f() { std::io::stderr(); }",
        "#[cfg(test)]\nmod tests { fn f() { println!(); } }\nfn f() { print!(\"\"); }",
    ] {
        assert_eq!(side_effects("bilevel/run.rs", source).len(), 1, "{source}");
        assert!(side_effects("cli/run.rs", source).is_empty() && side_effects("main.rs", source).is_empty());
    }
    for source in [
        "// println!(\"x\")\nuse std::time::Duration; const V: &str = env!(\"CARGO_PKG_VERSION\"); const S: &str = \"println!(1)\";",
        "fn f(c: char) -> bool { c == '{' || c == '\\'' }\n#[cfg(test)]\nmod tests { fn f() { println!(\"}}\"); std::env::var(\"X\"); } }",
    ] {
        assert_eq!(side_effects("bilevel/run.rs", source), Vec::<String>::new(), "{source}");
    }
}
