//! A record made up in memory, and what its report must and must not hold.

use std::collections::BTreeMap;

use super::*;
use crate::experiment::record::{Manifest, RECORD_VERSION, cell};

const ODD: &str = "odd <&\"' method";

fn table(columns: &[&str], rows: &[&[&str]]) -> Table {
    let mut table = Table::new(columns.iter().copied());
    rows.iter().for_each(|row| table.push(row.iter()).unwrap());
    table
}

/// Two methods and a baseline, two seeds, three steps; the second method knows no weights.
pub(super) fn record() -> Record {
    let metrics = ["f_outer", "test_accuracy", "weight_clean", "weight_flipped", "never"];
    let counts = ["inner_gradients", "scores"];
    let columns: Vec<&str> = ["method", "seed", "step"].into_iter().chain(metrics).chain(counts).collect();
    let mut rows = Table::new(columns);
    let mut timings = Table::new(["method", "seed", "step", "seconds", "inner_step", "outer_step", "evaluation"]);
    for (method, offset) in [("nhgd-window", 0.0), (ODD, 0.01)] {
        for seed in [1.0, 2.0] {
            for step in [0.0, 10.0, 20.0] {
                let accuracy = 0.8 + 0.005 * step + 0.01 * seed + offset;
                let weight = if method == ODD { f64::NAN } else { 0.5 + 0.01 * step };
                let row = [2.0 - 0.1 * step, accuracy, weight, 1.0 - weight, f64::NAN, 100.0 * step, 7.0 * step * seed];
                let numbers = [seed, step].into_iter().chain(row).map(cell);
                rows.push(std::iter::once(method.to_owned()).chain(numbers)).unwrap();
                let seconds = [seed, step, 0.2 * step, 0.05 * step, 0.15 * step, 9.0 * step].map(cell);
                timings.push(std::iter::once(method.to_owned()).chain(seconds)).unwrap();
            }
        }
    }
    for seed in ["1", "2"] {
        rows.push(["noisy-labels", seed, "0", "NaN", "0.75", "NaN", "NaN", "NaN", "5000", "0"]).unwrap();
    }
    let errors = table(
        &["estimator", "curvature", "fisher", "unit", "budget", "repetition", "relative_error"],
        &[
            &["exact", "", "", "products", "0", "0", "1e-18"],
            &["cg", "", "", "products", "1", "0", "0.5"],
            &["cg", "", "", "products", "4", "0", "0"],
            &["nhgd", "window", "sampled", "rows", "16", "0", "0.4"],
            &["nhgd", "window", "sampled", "rows", "16", "1", "0.1"],
            &["nhgd", "window", "sampled", "rows", "64", "0", "NaN"],
            &["nhgd", "nystrom", "empirical", "rows", "16", "0", "0.3"],
        ],
    );
    let checks = table(
        &["subject", "quantity", "error", "tolerance", "verdict", "note"],
        &[&["cleaning", "grad_inner", "1.5e-9", "1e-6", "ok", ""], &["cleaning", "cross_vjp", "0.25", "1e-6", "FAILED", "sign?"]],
    );
    let manifest = Manifest {
        record_version: RECORD_VERSION,
        nhgd_version: "9.8.7".into(),
        title: "a <title> & more".into(),
        configuration: "seeds = [1, 2] # <script>".into(),
        seeds: vec![1, 2],
        threads: 3,
        machine: BTreeMap::from([("processor".into(), "imaginary".into())]),
        metrics: metrics.map(str::to_owned).to_vec(),
        counts: counts.map(str::to_owned).to_vec(),
        baselines: vec!["noisy-labels".into()],
        incidents: BTreeMap::from([("nhgd-window/2".into(), "stopped <early>".into())]),
    };
    let slopes = table(
        &["curvature", "fisher", "rows_from", "rows_to", "replicates", "slope", "lower", "upper"],
        &[&["window", "sampled", "16", "6400", "7", "-0.4567", "-0.5123", "-0.4011"]],
    );
    Record {
        manifest,
        rows,
        timings,
        hypergradient_errors: Some(errors),
        hypergradient_slopes: Some(slopes),
        checks: Some(checks),
        pictures: None,
        timeline: None,
    }
}

fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    document.descendants().filter(|n| n.is_text()).map(|n| n.text().unwrap().trim().to_owned()).filter(|t| !t.is_empty()).collect()
}

#[test]
fn every_picture_is_well_formed_and_says_what_it_shows() {
    let pictures = pictures(&record()).unwrap();
    let files: Vec<&str> = pictures.iter().map(|p| p.file.as_str()).collect();
    let expected =
        ["metric-f_outer.svg", "metric-test_accuracy.svg", "metric-weight.svg", "timing-phases.svg", "hypergradient-errors.svg"];
    assert_eq!(files, expected, "a metric without values has no picture");
    for picture in &pictures {
        assert!(!picture.svg.contains("NaN") && !picture.svg.contains("inf"), "{}", picture.file);
        assert!(!texts(&picture.svg).is_empty() && picture.caption.ends_with('.'));
    }
    let [_, accuracy, weight, timing, errors] = &pictures[..] else { panic!() };
    let has = |picture: &Picture, text: &str| texts(&picture.svg).iter().any(|t| t == text);
    assert!(has(accuracy, "nhgd-window") && has(accuracy, ODD) && has(accuracy, "noisy-labels 0.75"));
    assert!(has(accuracy, "test accuracy (fraction)") && has(accuracy, "outer step (count)"));
    assert!(has(weight, "clean") && has(weight, "flipped") && !has(weight, ODD));
    assert!(weight.caption.contains(&format!("{ODD} has no values")));
    // 0.05 and 0.15 seconds a step.
    assert!(has(timing, "50") && has(timing, "150") && has(timing, "200") && !has(timing, "evaluation"));
    assert!(has(errors, "cg") && has(errors, "nhgd window sampled") && has(errors, "exact 1e-16"));
    assert!(errors.caption.contains("Errors below 1e-16, drawn as 1e-16: 2.") && errors.caption.contains("left out: 1."));
}

#[test]
fn the_page_names_every_method_and_needs_nothing_else() {
    let page = page(&record()).unwrap();
    let escaped = "odd &lt;&amp;&quot;' method";
    for expected in ["nhgd-window", escaped, "noisy-labels", "9.8.7", "imaginary", "sign?", "stopped &lt;early&gt;", "cross vjp"] {
        assert!(page.contains(expected), "{expected}");
    }
    let without_namespace = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for forbidden in ["http:", "https:", "<script", "<link", "<img", "src=", "url(", "@import", "odd <&", "<title> &"] {
        assert!(!without_namespace.contains(forbidden), "{forbidden}");
    }
    let place = |text: &str| page.find(text).unwrap();
    assert!(place("cross vjp") < place("grad inner"), "failures come first");
    assert!(page.contains("1 FAILED") && page.contains("tr class=\"failed\""));
}

#[test]
fn the_summary_equals_hand_computed_values() {
    let table = summary(&record()).unwrap();
    assert_eq!(table.text("method").unwrap(), ["noisy-labels", "nhgd-window", ODD]);
    assert_eq!(table.text("outer steps").unwrap(), ["–", "20", "20"]);
    // 0.91 and 0.92 at step 20: mean 0.915, deviation 0.01/√2.
    assert_eq!(table.text("test accuracy").unwrap(), ["0.75 ± 0", "0.9150 ± 0.0071", "0.9250 ± 0.0071"]);
    assert_eq!(table.text("weight clean").unwrap(), ["–", "0.7 ± 0", "–"]);
    assert_eq!(table.text("seconds").unwrap(), ["–", "4 ± 0", "4 ± 0"]);
    assert_eq!(table.text("inner gradients").unwrap(), ["5000", "2000", "2000"]);
    // 140 and 280: mean 210, deviation 140/√2.
    assert_eq!(table.text("scores").unwrap(), ["0", "210 ± 99", "210 ± 99"]);
}

#[test]
fn equal_records_give_equal_bytes_on_disk() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for folder in &folders {
        write(&record(), &Writer::existing(folder.path())).unwrap();
    }
    for name in ["report.html", "metric-weight.svg", "timing-phases.svg"] {
        let [a, b] = folders.each_ref().map(|f| std::fs::read(f.path().join(name)).unwrap());
        assert!(!a.is_empty() && a == b, "{name}");
    }
    assert_eq!(std::fs::read_dir(folders[0].path()).unwrap().count(), 6);
}

#[test]
fn an_empty_record_has_a_page_without_pictures() {
    let full = record();
    let empty = |table: &Table| Table::new(table.columns().iter().cloned());
    let manifest = Manifest { incidents: BTreeMap::new(), seeds: vec![], ..full.manifest };
    let hollow = full.hypergradient_errors.as_ref().map(empty);
    let mut record = Record {
        manifest,
        rows: empty(&full.rows),
        timings: empty(&full.timings),
        hypergradient_errors: None,
        hypergradient_slopes: None,
        checks: None,
        pictures: None,
        timeline: None,
    };
    assert_eq!(pictures(&record).unwrap(), []);
    assert!(summary(&record).unwrap().is_empty());
    assert!(!page(&record).unwrap().contains("<svg"));
    record.hypergradient_errors = hollow;
    assert_eq!(pictures(&record).unwrap(), []);
}

#[test]
fn slopes_stand_on_the_page_with_their_limits_and_their_range() {
    let mut record = record();
    let shown = page(&record).unwrap();
    for fragment in ["Rates", "nhgd window sampled", "16 … 6400", "-0.457", "-0.512", "-0.401"] {
        assert!(shown.replace('−', "-").contains(fragment), "{fragment}");
    }
    record.hypergradient_slopes = None;
    assert!(!page(&record).unwrap().contains("Rates"));
}

#[test]
fn metrics_whose_names_collide_as_files_keep_their_own_pictures() {
    let mut record = record();
    record.manifest.metrics = vec!["a/b".into(), "a:b".into()];
    record.rows = table(&["method", "seed", "step", "a/b", "a:b"], &[&["m", "1", "0", "1", "2"]]);
    record.manifest.counts.clear();
    let files: Vec<String> = pictures(&record).unwrap().into_iter().map(|p| p.file).take(2).collect();
    assert_eq!(files, ["metric-a-b.svg", "metric-a-b-2.svg"]);
}

#[test]
fn a_record_whose_columns_are_missing_or_no_numbers_is_refused() {
    let mut wrong = record();
    wrong.manifest.metrics.push("absent".into());
    let message = page(&wrong).unwrap_err().to_string();
    assert!(message.contains("`absent`"), "{message}");
    let mut wrong = record();
    wrong.rows.push(["nhgd-window", "1", "30", "soon", "0", "0", "0", "0", "0", "0"]).unwrap();
    let message = summary(&wrong).unwrap_err().to_string();
    assert!(message.contains("`soon`"), "{message}");
}

/// Two images and a map of one method: 0 to 2 in pixels, −1 to 3 in the field, one of whose numbers is missing.
fn seen(rows: &[[&str; 5]]) -> Record {
    let mut record = record();
    let columns = ["method", "seed", "step", "picture", "title", "kind", "unit", "values"];
    let mut table = Table::new(columns);
    for [number, title, kind, unit, values] in rows {
        table.push([ODD, "1", "20", number, title, kind, unit, values]).unwrap();
    }
    record.pictures = Some(table);
    record
}

const SEEN: [[&str; 5]; 7] = [
    ["0", "zero", "image", "pixel", "0.0 1.0"],
    ["0", "zero", "image", "pixel", "1.0 1.0"],
    ["1", "one", "image", "pixel", "2.0 0.0"],
    ["1", "one", "image", "pixel", "0.0 0.0"],
    ["2", "field", "map", "state <u>", "-1.0 3.0 NaN"],
    ["2", "field", "map", "state <u>", "1.0 1.0 1.0"],
    ["2", "field", "map", "state <u>", "1.0 1.0 3.0"],
];

#[test]
fn images_and_fields_are_drawn_on_one_scale_a_unit() {
    let pictures = pictures(&seen(&SEEN)).unwrap();
    let drawn = |kind: &str| pictures.iter().find(|p| p.file.starts_with(&format!("pictures-{kind}-"))).unwrap();
    // Boxes of the grids alone: what is wider than the strips of a bar and lower than the sheet.
    let boxes = |picture: &Picture, side: &str| -> Vec<(String, String, String)> {
        let document = roxmltree::Document::parse(&picture.svg).unwrap();
        let rectangles = document.descendants().filter(|n| n.tag_name().name() == "rect" && n.attribute("height") == Some(side));
        let text = |n: &roxmltree::Node<'_, '_>, name: &str| n.attribute(name).unwrap().to_owned();
        rectangles.map(|n| (text(&n, "x"), text(&n, "width"), text(&n, "fill"))).collect()
    };
    let images = drawn("image");
    assert!(["Zero", "One", "pixel", "0", "2"].iter().all(|text| texts(&images.svg).iter().any(|t| t == text)));
    // Places of 340 units and one to hide the seam: neighbours of one colour are one box.
    let found: Vec<(String, String)> = boxes(images, "341").into_iter().map(|(_, width, fill)| (width, fill)).collect();
    let expected =
        [("341", "#000000"), ("341", "#808080"), ("681", "#808080"), ("341", "#FFFFFF"), ("341", "#000000"), ("681", "#000000")];
    assert_eq!(found, expected.map(|(width, fill)| (width.to_owned(), fill.to_owned())));

    let map = drawn("map");
    assert!(
        ["Field", "state <u>", "-1", "3", "x", "y"].iter().all(|text| texts(&map.svg).iter().any(|t| t == text)),
        "{:?}",
        texts(&map.svg)
    );
    // Four places across with the rim: 170 each. Of the first row one number is missing; the ends are those of viridis.
    let fills: Vec<String> = boxes(map, "171").into_iter().map(|(_, _, fill)| fill).collect();
    let middle = &fills[2];
    assert_eq!(fills, ["#440154", "#FEE825", middle, middle, "#FEE825"]);
    assert!(!map.svg.contains("NaN") && page(&seen(&SEEN)).unwrap().contains("state &lt;u&gt;"));
    assert!(raster::png(&map.svg).unwrap().len() > 1000);
}

#[test]
fn too_many_images_are_left_out_and_said_to_be_and_bad_ones_refused() {
    let values = vec!["0.5"; 100].join(" ");
    let numbers: Vec<String> = (0..201).map(|i| i.to_string()).collect();
    let rows: Vec<[&str; 5]> = numbers.iter().flat_map(|n| [[n.as_str(), "t", "image", "pixel", &values]]).collect();
    let caption =
        |rows: &[[&str; 5]]| pictures(&seen(rows)).unwrap().into_iter().find(|p| p.file.contains("image")).unwrap().caption;
    assert!(caption(&rows[..200]).contains("Images of") && !caption(&rows[..200]).contains("first"));
    assert!(caption(&rows).contains("The first 200 of 201."), "{}", caption(&rows));
    let refused = |row: [&str; 5], word: &str| {
        let message = pictures(&seen(&[SEEN[0], row])).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    refused(["0", "zero", "image", "pixel", "1.0"], "as many in each row");
    refused(["0", "zero", "image", "pixel", "1.0 dark"], "dark");
    refused(["1", "zero", "sculpture", "pixel", "1.0"], "sculpture");
}
