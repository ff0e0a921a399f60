//! The binary `wattle`: a node, and the client of one.

use std::process::ExitCode;

mod cli;

/// A third more unary calls than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
