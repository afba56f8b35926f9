//! Comparisons of the same methods on different problems as one, whose performance profile is over all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::config::Config;
use super::profile;
use super::record::{Manifest, PROFILE, Record, TARGETS};
use crate::error::{Error, Result};
use crate::experiment::record::Table;

/// Between the configurations of joined comparisons.
const SEPARATOR: &str = "\n# The next of the joined comparisons\n\n";

/// The records of these folders as one: every table has the rows of all of them, one after the other, and a column that only some have is
/// empty for the others; the profile is computed anew. It has no configurations of best settings: they stay where they are.
///
/// # Errors
/// As [`Record::read`]; [`Error::Data`] with the folder whose methods, machine or threads are others than those of the first folder, or one
/// of whose problems has the label of an earlier one.
pub fn join(folders: &[PathBuf], title: &str) -> Result<Record> {
    let mut parts = Vec::new();
    for folder in folders {
        let record = Record::read(folder)?;
        if record.manifest.configuration.contains(SEPARATOR) {
            return Err(Error::data(folder, "it is joined already; name the folders that it was joined from"));
        }
        let config = Config::parse(&record.manifest.configuration, folder)?;
        parts.push((folder, record, config));
    }
    let Some((first_folder, first, first_config)) = parts.first() else {
        return Err(Error::argument("join", "the folders of comparisons", "none"));
    };
    let methods: Vec<&str> = labels(first_config).collect();
    let mut seeds: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (folder, record, config) in &parts {
        let refuse = |what: String| Err(Error::data(folder, what));
        let (own, shared): (BTreeSet<&str>, BTreeSet<&str>) = (labels(config).collect(), methods.iter().copied().collect());
        if let Some(method) = own.symmetric_difference(&shared).next() {
            let (with, without) = if own.contains(method) { (*folder, *first_folder) } else { (*first_folder, *folder) };
            return refuse(format!(
                "joined comparisons have the same methods, but `{method}` is in {} and not in {}",
                with.display(),
                without.display()
            ));
        }
        if (&record.manifest.machine, record.manifest.threads) != (&first.manifest.machine, first.manifest.threads) {
            return refuse(format!(
                "its seconds are of another machine or number of threads than those of {}",
                first_folder.display()
            ));
        }
        for problem in &config.problems {
            let own = config.seeds.iter().map(u64::to_string).collect();
            if seeds.insert(&problem.label, own).is_some() {
                return refuse(format!("its problem `{}` has the label of a problem that comes before it", problem.label));
            }
        }
    }
    let mut tables = BTreeMap::new();
    for stem in first.tables.keys() {
        let own = parts.iter().map(|(_, record, _)| record.table(stem)).collect::<Result<Vec<_>>>()?;
        tables.insert(stem.clone(), stacked(&own)?);
    }
    let counts = |problem: &str, seed: &str| seeds.get(problem).is_some_and(|own| own.contains(seed));
    tables.insert(PROFILE.to_owned(), profile::table(&methods, &tables[TARGETS], counts)?);
    let overall = profile::picture();
    let pictures = parts.iter().flat_map(|(_, record, _)| &record.manifest.pictures);
    let pictures = pictures.filter(|picture| picture.file != overall.file).cloned().chain([overall.clone()]).collect();
    let configurations = parts.iter().map(|(_, record, _)| record.manifest.configuration.as_str());
    let configuration = configurations.collect::<Vec<_>>().join(SEPARATOR);
    let manifest = Manifest {
        threads: first.manifest.threads,
        ..Manifest::new(title.to_owned(), configuration, first.manifest.machine.clone(), pictures)
    };
    Ok(Record { manifest, tables, best: BTreeMap::new() })
}

fn labels(config: &Config) -> impl Iterator<Item = &str> {
    config.methods.iter().map(|method| method.label.as_str())
}

/// The rows of all tables under the columns of all, in the order of their first appearance.
fn stacked(tables: &[&Table]) -> Result<Table> {
    let mut columns: Vec<&String> = Vec::new();
    for column in tables.iter().flat_map(|table| table.columns()) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let mut all = Table::new(columns.iter().copied());
    for table in tables {
        let places: Vec<_> = columns.iter().map(|column| table.columns().iter().position(|own| own == *column)).collect();
        for row in table.rows() {
            all.push(places.iter().map(|place| place.map_or("", |place| row[place].as_str())))?;
        }
    }
    Ok(all)
}
