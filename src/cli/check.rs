//! `nhgd check`: every derivative and estimator of every registered model and problem, compared with differences and the oracle.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Common;
use super::terminal::{say, say_json, say_table};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::experiment::runner::all_checks;
use crate::rng::Key;

#[derive(Args)]
pub(super) struct Arguments {
    /// The seed of the random points at which everything is checked
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let checks = all_checks(Key::new(arguments.seed))?;
    let failed = checks.iter().filter(|check| !check.passed()).count();
    if common.json {
        let row = |c: &crate::oracle::Check| {
            json!({ "subject": c.subject, "quantity": c.quantity, "error": c.error, "tolerance": c.tolerance,
                    "passed": c.passed(), "note": c.note })
        };
        say_json(&json!({ "checks": checks.iter().map(row).collect::<Vec<_>>(), "failed": failed }))?;
    } else {
        let mut table = Table::new(["subject", "quantity", "relative error", "tolerance", "verdict"]);
        for c in &checks {
            let verdict = if c.passed() { "ok" } else { "FAILED" };
            let quantity = if c.note.is_empty() { c.quantity.clone() } else { format!("{} ({})", c.quantity, c.note) };
            table.push([&c.subject, &quantity, &format!("{:.1e}", c.error), &format!("{:.0e}", c.tolerance), verdict])?;
        }
        say_table(&table)?;
        say(format_args!("{} of {} agree", checks.len() - failed, checks.len()))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
