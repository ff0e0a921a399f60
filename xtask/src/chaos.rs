//! `cargo xtask chaos --minutes N [--seed S] [--nodes N]`: real nodes under load, while they are killed, paused, restarted and cut off from
//! one another. The nodes are those of a quick build: they check themselves.

use crate::command::{cargo, program, root, run};
use crate::failure::Failure;
use crate::guests;
use crate::prerequisites;

const COUNTER: &str = "example-counter";

pub(crate) fn run_faults(arguments: &[&str]) -> Result<(), Failure> {
    prerequisites::guest_target()?;
    guests::build_rust(&[COUNTER.to_owned()])?;
    // With the features that tests ask for, or all dependencies would be built once more.
    let bins = ["--bin", "wattle", "--bin", "wattle-chaos"];
    run(cargo(&["build", "--locked", "--workspace", "--tests"]).args(bins))?;
    let built = root().join("target/debug");
    let mut chaos = program(&built.join("wattle-chaos").to_string_lossy(), &["--node"]);
    chaos.arg(built.join("wattle")).arg("--counter").arg(root().join(guests::module(COUNTER)));
    run(chaos.args(arguments))
}
