//! `cargo xtask mutants [NAME…]`: takes each rule of replication and of the grid out of the production code, one at a time
//! (`--cfg mutant="…"`), and runs the same walks with the same seeds and judge. A mutant that survives is a rule that nothing tests.

use crate::command::{cargo, output, program, root, works};
use crate::failure::Failure;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

const SOURCES: &str = "crates/core/src";
/// Tests of replication, and of the copies that carry it out.
const REPLICATION: [&str; 2] = ["replication::", "partition::tests::copies"];
const GRID: &str = "control::grid";
/// How the names of the grid's mutants begin.
const OF_GRID: &str = "control-";
const TIME: &str = "slew";
/// How the names of its mutants begin.
const OF_TIME: &str = "slew-";
/// The mark in the code.
const MARK: &str = "mutant = \"";

pub(crate) fn run(wanted: &[&str]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    find(&root().join(SOURCES), &mut names).map_err(Failure::file(SOURCES))?;
    names.retain(|name| wanted.is_empty() || wanted.contains(&name.as_str()));
    // First the code as it is: nothing is shown by failures that it has too.
    let mut survivors = Vec::new();
    for name in std::iter::once(None).chain(names.iter().map(Some)) {
        let started = Instant::now();
        // A rule of replication is its own tests' to miss, whoever else notices.
        let tests = match name {
            None => &[REPLICATION[0], REPLICATION[1], GRID, TIME][..],
            Some(name) if name.starts_with(OF_GRID) => &[GRID],
            Some(name) if name.starts_with(OF_TIME) => &[TIME],
            Some(_) => &REPLICATION,
        };
        let passed = works(&mut program(&build(name.map(String::as_str))?, tests));
        let shown = name.map_or("none", String::as_str);
        let verdict = if passed { "passes" } else { "is caught" };
        println!("mutant {shown}: {verdict} ({:.0} s)", started.elapsed().as_secs_f64());
        if passed == name.is_some() {
            survivors.push(shown.to_owned());
        }
    }
    if survivors.is_empty() { Ok(()) } else { Err(Failure::Mutants { survivors }) }
}

/// The names of the mutants in the sources.
fn find(folder: &Path, names: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, names)?;
        } else {
            let text = std::fs::read_to_string(&path)?;
            let marked = text.split(MARK).skip(1).filter_map(|rest| rest.split_once('"'));
            names.extend(marked.map(|(name, _)| name.to_owned()));
        }
    }
    Ok(())
}

/// Builds the unit tests of the core with a mutant, and returns the program.
fn build(mutant: Option<&str>) -> Result<String, Failure> {
    let mut build =
        cargo(&["rustc", "--locked", "--quiet", "--package", "wattle-core", "--lib", "--profile", "test"]);
    build.args(["--message-format", "json", "--", "--cap-lints", "allow"]);
    if let Some(mutant) = mutant {
        build.arg("--cfg").arg(format!("mutant=\"{mutant}\""));
    }
    let messages = output(&mut build)?;
    let program =
        messages.lines().rev().find_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
    program.map(str::to_owned).ok_or(Failure::NoTestProgram)
}
