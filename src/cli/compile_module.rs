//! What a node starts as a child to compile uploaded code: hidden from people.

use std::io;
use std::process::ExitCode;

pub(super) use wattle::node::COMPILE_MODULE as NAME;

pub(super) fn run() -> ExitCode {
    wattle_wasm::compile::child_main(io::stdin().lock(), io::stdout().lock())
}
