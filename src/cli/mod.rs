//! The command line: one file a verb. Results go to stdout, progress and errors to stderr; exit code 0 for done, 1 where data or
//! environment failed, 2 for wrong use or configuration, 130 and 143 for a run that Ctrl-C or SIGTERM stopped. The only place that
//! knows the terminal, the clock, signals and the environment.

mod bounds;
mod check;
mod compare;
mod interrupts;
mod laboratory;
mod list;
mod memory;
mod report;
mod reproduce;
mod run;
mod scale;
mod session;
mod sketch;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::interrupts::Interrupts;
use crate::error::{Error, Result};
use crate::experiment::kept::MemoryMeter;
use crate::par;

/// Natural hypergradient descent: bilevel optimization on streaming sketches of the Fisher matrix.
#[derive(Parser)]
#[command(version, about, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Verb {
    /// Show on embedded data what the method does: checks, cleaning of corrupted labels, estimator errors, a report
    Reproduce(reproduce::Arguments),
    /// Run the experiment of a configuration file and write its record and report
    Run(run::Arguments),
    /// Compare methods on problems: tune each alike, run them under one budget, and draw how they fare
    Compare(compare::Arguments),
    /// Run the theory's statements as experiments, and judge each claim
    Bounds(bounds::Arguments),
    /// Measure what sketches and steps cost as sizes grow, beside the machine's limits; predict what larger ones would
    Scale(scale::Arguments),
    /// Draw the plots and the page of a record anew
    Report(report::Arguments),
    /// Sketch the Fisher matrix of your own gradients, in NumPy files, and solve with it
    Sketch(sketch::Arguments),
    /// Compare every derivative and estimator with differences and the oracle
    Check(check::Arguments),
    /// List the registered problems, methods, curvature families, Fisher kinds and experiments
    List,
}

#[derive(Args)]
struct Common {
    /// Print one JSON object on stdout instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Worker threads; results have the same bits at any number [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Folder of data that is not embedded, such as MNIST's IDX files
    #[arg(long, global = true, value_name = "DIR", env = "NHGD_DATA")]
    data: Option<PathBuf>,
    /// Ctrl-C and SIGTERM.
    #[arg(skip)]
    interrupts: Interrupts,
    /// What counts the memory of the process.
    #[arg(skip)]
    meter: Option<&'static dyn MemoryMeter>,
}

/// What the help of a verb that runs an experiment ends with.
const STOPPING: &str = "Ctrl-C and SIGTERM save and stop the run, with exit code 130 or 143, and say how to go on; a second one \
    ends it at once.\nWhat was killed goes on from its last checkpoint: nhgd run --resume DIR";

/// Where an experiment's output goes and which seed it has.
#[derive(Args)]
struct Output {
    /// Folder for the record; must be new or empty [default: the first free nhgd-output/NAME-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run this seed only, instead of the configuration's
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Seconds between checkpoints: what a killed run loses at most, beside the step or piece at hand; 0: after every step
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    checkpoint_every: Duration,
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let number = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|e| e.to_string())
}

/// Parses the arguments, runs the verb, and says how it went. The program's allocator counts its memory; the library knows of none.
pub fn main(meter: &'static dyn MemoryMeter) -> ExitCode {
    let mut cli = Cli::parse();
    cli.common.meter = Some(meter);
    let cli = cli;
    let verb = || match &cli.verb {
        Verb::Reproduce(arguments) => reproduce::main(arguments, &cli.common),
        Verb::Run(arguments) => run::main(arguments, &cli.common),
        Verb::Compare(arguments) => compare::main(arguments, &cli.common),
        Verb::Bounds(arguments) => bounds::main(arguments, &cli.common),
        Verb::Scale(arguments) => scale::main(arguments, &cli.common),
        Verb::Report(arguments) => report::main(arguments, &cli.common),
        Verb::Sketch(arguments) => sketch::main(arguments, &cli.common),
        Verb::Check(arguments) => check::main(arguments, &cli.common),
        Verb::List => list::main(&cli.common),
    };
    let done: Result<ExitCode> = match cli.common.threads {
        None => verb(),
        Some(count) => par::with_threads(count.into(), verb).and_then(|done| done),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            terminal::complain(&error);
            if let Error::Interrupted { .. } = error {
                return cli.common.interrupts.exit_code();
            }
            ExitCode::from(if error.is_environment() { 1 } else { 2 })
        }
    }
}
