//! The seeds that every change is tried with.

use std::collections::BTreeMap;
use std::thread;

use super::*;

const SEEDS: u64 = 50;
/// Seeds are tried on so many threads.
const THREADS: u64 = 2;
/// Of a seed that fails.
const LAST_EVENTS: usize = 200;

/// What must happen in some seed.
const EVENTS: [&str; 39] = [
    "added",
    "answer alone",
    "answer by confirmation",
    "answer by lease",
    "answer to a write",
    "black-out",
    "clock turned",
    "crash",
    "cut off",
    "cut pair",
    "deaf",
    "deposed",
    "drain",
    "dropped copy",
    "early message",
    "elected",
    "hand-over",
    "handed over",
    "in doubt",
    "joined",
    "left",
    "lie",
    "new machine",
    "not applied",
    "not heard",
    "other leader",
    "other voters",
    "pause",
    "reconciled",
    "recovered",
    "refused by the grid",
    "removed",
    "restart at once",
    "retirement",
    "scrapped",
    "slow",
    "started empty",
    "taken for dead",
    "void copy",
];

#[test]
fn a_grid_keeps_its_promises_whatever_fails() {
    if let Some(seed) = std::env::var("WATTLE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        pass(seed);
        return;
    }
    let some = |first| (first..SEEDS).step_by(usize::try_from(THREADS).unwrap());
    let all = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| scope.spawn(move || some(first).map(pass).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a seed fails")).collect::<Vec<_>>()
    });
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (event, count) in all.into_iter().flatten() {
        *counts.entry(event).or_default() += count;
    }
    println!("{counts:#?}");
    let missing: Vec<_> = EVENTS.iter().filter(|event| !counts.contains_key(*event)).collect();
    assert!(missing.is_empty(), "seeds that miss something prove nothing: {missing:?}");
}

/// Runs a seed twice, and says what has happened.
fn pass(seed: u64) -> BTreeMap<&'static str, u64> {
    let run = run_twice(seed);
    if let Err(violation) = run.result {
        let lines = run_in_words(seed, LAST_EVENTS).lines.join("\n");
        panic!("{lines}\nseed {seed}: {violation}");
    }
    run.counts
}

#[test]
fn a_seed_does_the_same_whether_somebody_listens_or_not() {
    let (silent, told) = (run(1), run_in_words(1, 10));
    assert_eq!((silent.trace, silent.counts), (told.trace, told.counts));
    assert_eq!((silent.lines.len(), told.lines.len()), (0, 10));
    assert_ne!(silent.trace, run(2).trace, "other seeds do other things");
}
