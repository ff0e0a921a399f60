//! The protocol searched for mistakes: members that run the production [`Replica`](super::Replica), a network that loses, doubles
//! and reorders, clocks that differ, crashes, false suspicions; and a judge who knows what was ever shown to a client.
//!
//! One seed is one walk through the states. What the rules of replication forbid is asserted after every step; then faults
//! stop, and the grid must heal. Each rule has mutants in the production code (`--cfg mutant="…"`) that these walks must catch.

mod judge;
mod machine;
mod store;
mod walk;
mod world;

use walk::{Scenario, walk};

/// Members fail, messages are lost, leaderships change; one copy must be in sync.
const CHAOS: Scenario =
    Scenario { nodes: 3, copies: 2, min_in_sync: 1, crashes: 1, suspicions: true, losses: true };

fn walks(name: &str, scenario: Scenario, seeds: std::ops::Range<u64>) {
    let seeds = match std::env::var("WATTLE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    let mut answers = (0, 0);
    for seed in seeds {
        let Ok((all, leased)) = std::panic::catch_unwind(|| walk(scenario, seed)) else {
            panic!("{name}: seed {seed} of {scenario:?}")
        };
        answers = (answers.0 + all, answers.1 + leased);
    }
    println!("{name}: {} answers, {} reads by lease", answers.0, answers.1);
}

#[test]
fn nothing_shown_is_lost_with_one_copy_in_sync() {
    walks("chaos", CHAOS, 0..300);
}

#[test]
fn nothing_shown_is_lost_with_three_copies() {
    walks("three copies", Scenario { nodes: 4, copies: 3, min_in_sync: 2, ..CHAOS }, 0..300);
}

#[test]
fn no_single_crash_strands_a_copy_with_two_in_sync() {
    walks("durable", Scenario { copies: 3, min_in_sync: 2, ..CHAOS }, 0..300);
}

#[test]
fn no_single_crash_loses_anything_while_nobody_is_removed() {
    walks("no removals", Scenario { suspicions: false, ..CHAOS }, 0..300);
}

#[test]
fn nobody_begins_anew_by_accident_when_all_copies_are_gone() {
    walks("loss", Scenario { nodes: 2, crashes: 8, ..CHAOS }, 0..300);
}

#[test]
fn reads_are_never_old_when_only_clocks_and_messages_misbehave() {
    walks("no crash", Scenario { crashes: 0, copies: 3, ..CHAOS }, 0..300);
}
