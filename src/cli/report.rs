//! `nhgd report`: the plots and the page of a record, drawn anew from its files alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Common;
use super::terminal::{say, say_json};
use crate::comparison;
use crate::error::Result;
use crate::experiment::record::{Record, Writer};
use crate::laboratory;
use crate::report;

#[derive(Args)]
pub(super) struct Arguments {
    /// The record's folder
    folder: PathBuf,
}

pub(super) fn main(arguments: &Arguments, common: &Common) -> Result<ExitCode> {
    let (folder, writer) = (&arguments.folder, Writer::existing(&arguments.folder));
    if laboratory::record::Record::is_in(folder) {
        report::write_laboratory(&laboratory::record::Record::read(folder)?, &writer)?;
    } else if comparison::record::Record::is_in(folder) {
        report::write_comparison(&comparison::record::Record::read(folder)?, &writer)?;
    } else {
        report::write(&Record::read(folder)?, &writer)?;
    }
    let page = arguments.folder.join("report.html");
    if common.json {
        say_json(&json!({ "report": page.to_string_lossy() }))?;
    } else {
        say(page.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
