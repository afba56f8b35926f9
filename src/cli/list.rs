//! `nhgd list`: what the registries hold.

use std::process::ExitCode;

use serde_json::json;

use super::Common;
use super::terminal::{say_json, say_table};
use crate::bilevel::MethodConfig;
use crate::curvature::CurvatureConfig;
use crate::error::Result;
use crate::experiment::record::Table;
use crate::laboratory::Suite;
use crate::model::FisherKind;
use crate::problem::ProblemConfig;

pub(super) fn main(common: &Common) -> Result<ExitCode> {
    let registries =
        [("problem", ProblemConfig::REGISTRY), ("method", MethodConfig::REGISTRY), ("curvature", CurvatureConfig::REGISTRY)];
    let fisher = FisherKind::ALL.map(|kind| (kind.name(), kind.about()));
    let of = |suite: Suite| suite.registry().iter().map(|entry| (entry.name, entry.about)).collect::<Vec<(&str, &str)>>();
    let [experiments, costs] = Suite::ALL.map(of);
    let laboratory = [("experiment", experiments.as_slice()), ("cost", costs.as_slice())];
    let all = registries.into_iter().chain([("fisher", fisher.as_slice())]).chain(laboratory);
    if common.json {
        let entries =
            |list: &[(&str, &str)]| list.iter().map(|(name, about)| json!({ "name": name, "about": about })).collect::<Vec<_>>();
        say_json(&all.map(|(kind, list)| (kind.to_owned(), json!(entries(list)))).collect::<serde_json::Map<_, _>>().into())?;
    } else {
        let mut table = Table::new(["kind", "name", "what it is"]);
        for (kind, list) in all {
            for (name, about) in list {
                table.push([kind, name, about])?;
            }
        }
        say_table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}
