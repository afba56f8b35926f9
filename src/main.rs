//! The `nhgd` command: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    nhgd::cli::main()
}
