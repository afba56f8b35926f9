//! The `nhgd` command: parse, run, exit code; and the count of its memory.

#[path = "main/memory.rs"]
mod memory;

use std::process::ExitCode;

#[global_allocator]
static MEMORY: memory::Counted = memory::Counted::new();

fn main() -> ExitCode {
    nhgd::cli::main(&MEMORY)
}
