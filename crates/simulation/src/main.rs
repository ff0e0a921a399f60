//! Runs seeds until one fails: `wattle-simulation --seeds N [--from S] [--events E]`; E of the last events are shown.

use std::process::ExitCode;

use wattle_simulation::{run_in_words, run_twice};

const USAGE: &str = "usage: wattle-simulation --seeds N [--from S] [--events E]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((from, seeds, events)) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    for seed in from..from.saturating_add(seeds) {
        let run = run_twice(seed);
        let Err(violation) = run.result else {
            println!("seed {seed}: trace {:016x}", run.trace);
            continue;
        };
        run_in_words(seed, events).lines.iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: {violation}");
        println!("again: cargo xtask simulate --seeds 1 --from {seed}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The first seed, how many, and how many events of one that fails are shown.
fn parse(arguments: &[String]) -> Option<(u64, u64, usize)> {
    let (mut from, mut seeds, mut events) = (0, None, 200);
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--seeds" => seeds = Some(value.parse().ok()?),
            [name, value] if name == "--from" => from = value.parse().ok()?,
            [name, value] if name == "--events" => events = value.parse().ok()?,
            [..] => return None,
        }
    }
    Some((from, seeds?, events))
}
