//! The chores of the project: `cargo xtask test | tidy | demo | guide | image | mutants | simulate | chaos | bench`.
//!
//! Standard library only, so that it builds in a moment and pulls nothing in. It calls the tools that a developer
//! would call by hand (cargo, git, python3) and says what it calls.

mod bench;
mod chaos;
mod command;
mod demo;
mod failure;
mod grid;
mod guests;
mod guide;
mod image;
mod json;
mod mutants;
mod new_function;
mod node;
mod prerequisites;
mod simulate;
mod skips;
mod steps;
mod test;
mod test_log;
mod tidy;

use failure::Failure;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test            format, tidy, licences, lints, documentation, guests, every test, the demo, the guide, the image: what CI runs
  tidy            only the rules of style and layering that a machine can check
  demo [--keep]   Wattle in two minutes, on real data; --keep leaves the nodes running
  guide           the commands of docs/kubernetes.md, as written, behind the stand-in for a cluster; needs kubectl
  image [--tag TAG] [--check]   the container image, static; --check runs grids and the operator of it; --quick has what the tests have built
  mutants [NAME…] takes each rule of replication and of the grid out of the code: the model must miss it
  simulate --seeds N [--from S]   whole grids in one process: a seed that breaks a promise is shown, and replays
  chaos --minutes N [--seed S] [--nodes N]   real nodes under load, killed, paused and cut off, and a judge of what clients were shown
  bench [PART…] [--dev]   tables of figures; parts: in-process, node (next to Redis), and of a grid: backups, failover, rebalance;
                  \"grid\" is these three, with [--rounds N] [--keys N] [--backups N,…] [--leases-ms N,…]
                  [--rebalance-mb N]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage { word }) => {
            eprintln!("xtask: unknown argument {word:?}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Result<(), Failure> {
    match words {
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        ["test"] => test::run_all(),
        ["demo", options @ ..] => demo::run_all(demo::Options::parse(options)?),
        ["guide"] => guide::run_all(),
        ["image", options @ ..] => image::build(&image::Options::parse(options)?),
        // What `image --check` calls from inside its network.
        ["probe", address, path] => image::probe(address, path),
        ["bench", options @ ..] => bench::run(&bench::Options::parse(options)?),
        ["mutants", names @ ..] => mutants::run(names),
        ["simulate", arguments @ ..] => simulate::run_seeds(arguments),
        ["chaos", arguments @ ..] => chaos::run_faults(arguments),
        ["tidy"] => tidy::run(),
        [word, ..] => Err(Failure::Usage { word: (*word).to_owned() }),
    }
}
