//! `cargo xtask test`: everything that CI checks, as a list of steps.
//!
//! The order is: what answers fast first, guests before the tests that upload them. Nothing is built twice: lints and
//! documentation share one kind of build, tests and the demo another; only the loom tests of the strand need their own.

use crate::command::{cargo, program, root, run, run_watched};
use crate::failure::Failure;
use crate::prerequisites::{self, GUEST_TARGET};
use crate::skips::{self, Machine};
use crate::steps::Steps;
use crate::test_log::TestLog;
use crate::{demo, guests, guide, image, new_function, tidy};

pub(crate) fn run_all() -> Result<(), Failure> {
    let mut steps = Steps::default();
    let mut log = TestLog::default();
    steps.run("format", || run(&mut cargo(&["fmt", "--all", "--check"])));
    steps.run("tidy", tidy::run);
    steps.run("licences and bans", licences);
    steps.run("target for guests", prerequisites::guest_target);
    steps.run("lints", || run(&mut lints(&["--workspace", "--all-targets"])));
    steps.run("lints of guest code", lint_guests);
    steps.run("documentation", documentation);
    steps.run("guests", || guests::build(&mut log));
    let tested = steps.run("tests and doc tests", || {
        let mut tests = cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--color", "never"]);
        run_watched(&mut tests, |line| log.read_line(line))
    });
    let modelled = steps.run("loom", || run_watched(&mut loom(), |line| log.read_line(line)));
    steps.run("the demo's figures", figures);
    steps.run("demo", || demo::run_all(demo::Options { keep: false, dev: true }));
    steps.run("a new function, outside", new_function::check);
    steps.run("the guide of Kubernetes", || guide::check(&mut log));
    steps.run("the image", || image::check_quick(&mut log));
    if tested && modelled {
        steps.run("skipped tests", || compare_skips(&log));
    }
    let result = steps.finish();
    println!("\n{}", log.closing_line());
    result
}

fn licences() -> Result<(), Failure> {
    prerequisites::cargo_deny()?;
    run(&mut cargo(&["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]))
}

fn lints(what: &[&str]) -> std::process::Command {
    let mut clippy = cargo(&["clippy", "--locked"]);
    clippy.args(what).args(["--", "-D", "warnings"]);
    clippy
}

/// The SDK has code that only the guests' target compiles.
fn lint_guests() -> Result<(), Failure> {
    let mut what = vec!["--target".to_owned(), GUEST_TARGET.to_owned()];
    for guest in guests::crates()? {
        what.extend(["--package".to_owned(), guest]);
    }
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    run(&mut lints(&what))
}

fn documentation() -> Result<(), Failure> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Explores the interleavings of the strand: needs its own build, with loom's atomics in place of the real ones.
fn loom() -> std::process::Command {
    let target = root().join("target/loom");
    let mut test = cargo(&["test", "--package", "wattle-strand", "--test", "loom", "--release", "--locked"]);
    test.args(["--color", "never"]).arg("--target-dir").arg(target).env("RUSTFLAGS", "--cfg wattle_loom");
    test
}

/// The figures that the demo must reach are those that the committed script computes from the data.
fn figures() -> Result<(), Failure> {
    run(&mut program("python3", &["examples/data/expected.py", "--check"]))
}

fn compare_skips(log: &TestLog) -> Result<(), Failure> {
    let path = root().join("tests/skips.txt");
    let list = std::fs::read_to_string(&path).map_err(Failure::file(&path))?;
    let differences = skips::compare(&list, &log.skipped, Machine::this());
    for difference in &differences {
        println!("tests/skips.txt: {difference}");
    }
    if differences.is_empty() { Ok(()) } else { Err(Failure::Skips { differences: differences.len() }) }
}
