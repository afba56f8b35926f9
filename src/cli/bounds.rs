//! `nhgd bounds`: the theory's statements as experiments, each with its verdict. A refuted claim is a finding, not a failure: the exit code
//! says whether the experiments were done.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Common;
use super::laboratory::{self, Executed};
use super::terminal::{say, say_json, say_table};
use crate::error::Result;
use crate::laboratory::Suite;
use crate::report;

#[derive(Args)]
#[command(
    after_help = "A claim that is refuted is a finding: the exit code is 0.\nCtrl-C and SIGTERM save and stop, with exit code 130 or \
    143, and say how to go on; a second one ends it at once.\nWhat was killed goes on from its last checkpoint: nhgd bounds --resume DIR"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    laboratory: laboratory::Choices,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let Some(Executed { record, folder, seconds }) = laboratory::run(Suite::Bounds, &arguments.laboratory, None, common)? else {
        return Ok(ExitCode::SUCCESS);
    };
    if common.json {
        let verdicts = laboratory::verdicts(&record.verdicts)?;
        say_json(&json!({ "verdicts": verdicts, "seconds": seconds, "folder": folder.to_string_lossy() }))?;
    } else {
        let page = folder.join(report::PAGE);
        say_table(&report::verdict_summary(&record)?)?;
        say(format_args!("{}; {seconds:.1} s; the report: {}", report::verdict_counts(&record)?, page.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
