//! `cargo xtask simulate --seeds N [--from S] [--events E]`: runs whole grids from seeds until one breaks a promise, and shows that one's
//! last events. The same seed fails in the same way again.

use crate::command::{cargo, run};
use crate::failure::Failure;

pub(crate) fn run_seeds(arguments: &[&str]) -> Result<(), Failure> {
    let mut simulation = cargo(&["run", "--quiet", "--locked", "--package", "wattle-simulation", "--"]);
    run(simulation.args(arguments))
}
