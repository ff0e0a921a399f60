//! A whole grid in one process, from a seed: production code of all that decides (copies of partitions, leases, the grid's state,
//! sessions, the reconciler), nodes that only carry it out, a network, clocks and machines that fail, clients that do not give up,
//! and a judge who knows what they were shown.
//!
//! The same seed does the same, whenever and wherever it is run. The control group is an oracle of what Raft promises.

mod client;
mod clock;
mod group;
mod history;
mod judge;
mod letter;
pub mod linearizability;
mod network;
mod node;
mod random;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use judge::Violation;
pub use random::Random;
use trace::Trace;
use world::World;

/// What a seed has come to.
#[derive(Debug)]
pub struct Run {
    /// A number that differs if anything went differently.
    pub trace: u64,
    /// How often what has happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// The last events, if they were asked for.
    pub lines: Vec<String>,
    /// What must not be.
    pub result: Result<(), Violation>,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64) -> Run {
    run_with(seed, Trace::silent())
}

/// Runs a seed, and keeps so many of the last events in words.
#[must_use]
pub fn run_in_words(seed: u64, events: usize) -> Run {
    run_with(seed, Trace::in_words(events))
}

fn run_with(seed: u64, trace: Trace) -> Run {
    let mut world = World::new(seed, trace);
    let run = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = run.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::Panic { message: text.unwrap_or_else(|| "without words".to_owned()) })
    });
    let trace = &world.trace;
    Run { trace: trace.hash(), counts: trace.counts().clone(), lines: trace.lines(), result }
}

/// Runs a seed twice: both runs must be the same.
#[must_use]
pub fn run_twice(seed: u64) -> Run {
    let mut first = run(seed);
    let second = run(seed).trace;
    if first.result.is_ok() && first.trace != second {
        first.result = Err(Violation::NotRepeatable { first: first.trace, second });
    }
    first
}

#[cfg(test)]
mod tests;
