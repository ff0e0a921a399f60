//! The compiler's child by itself: what tests and embedders without the node's binary run.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    wattle_wasm::compile::child_main(io::stdin().lock(), io::stdout().lock())
}
