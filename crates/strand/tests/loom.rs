//! Models of the crate's invariants: loom runs each under every schedule with a bounded number of preemptions.
//! `RUSTFLAGS="--cfg wattle_loom" cargo test -p wattle-strand --release --test loom --target-dir target/loom`
#![cfg(wattle_loom)]

// What fails when a line is taken out or turned around, tried by hand (L: here, T: in `tests/threads`):
//
// | mutant | fails |
// |---|---|
// | `release`: the state is dropped after the inbox | L all but `group_…` and `slow_work_of…` |
// | `Inbox::release`: left-over work is not posted | L `two_submitters…`, `strands_that…` |
// | `Inbox::release`: no hand-over, or no notification of it | L `slow_turns…`; T `flood_of_short_work…` |
// | `wait_for_turn`: no wait | L `slow_turns…`; T `flood_of_short_work…` |
// | `duty`, `claim_posted` ignore `running`; `claim_idle` does not set it | L `two_submitters…` |
// | `claim_idle` ignores queued work | L `two_submitters…`; T `work_left_over_is_not_overtaken` |
// | `try_run_together` does not run what came meanwhile | L `strands_held_together…` |
// | `claim_alone` ignores slow work | L `work_alone_has…` |
// | `claim_alone` ignores queued work; does not set `running` | L `work_alone_overtakes…` |
// | `claim_posted`: `posted` stays | L `two_submitters…`, `strands_that…` |
// | `Inside::enter` allows nesting | L `strands_that…`; T `work_submitted_…`, `chain_of_strands…` |
// | `Inside::leave` drops a strand; knows no limit | L `strands_that…`, T `chain_of_strands…`; T `chain_of_strands…` |
// | `duty` defers a posted strand again | T `work_submitted_from_inside…` |
// | `push_slow` posts always; `end_turn` leaves `slow_posted` | L `slow_work_of…` |
// | `end_turn`: `Again` goes to the back | T `slow_work_of_a_strand_runs_in_order…` |
// | `run_slow`: no short work before, or after the turn | T `short_work_goes_between…`, `short_work_that_came…` |
// | `Posts`: no limit per group; a place is not freed, or not passed on | L `group_…` |
// | `Posts::pop`: short always first; slow always first | T `leftover_short_work…`; T `slow_work_does_not_starve…` |
// | `Queue`: a post or the closing wakes nobody | L `two_submitters…` (short), `slow_…` (slow), all (closing) |
// | a closed queue takes short posts; slow posts | T `short_work_left_over_after…`; L `shutdown_…` |
// | slow work runs, or stays, after the closing | T `shutdown_ends…`; L `shutdown_…` |
// | deliveries before the release | T `deliveries_run_after…` |
// | `pop_short`: no share; the share counts items; urgent last | T `run_ends…`, `share_…`, `urgent_…` |
// | a load is never reduced; a bound is off by one; bytes have none | T `keyed_lane_…`, `slow_lane_…` |
// | no abort; not nice | T `panic_in_…`; T `slow_work_runs_at_nice_10…` |

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use loom::{
    sync::{Condvar, Mutex},
    thread,
};
use wattle_strand::{Bounds, ComputePool, Cost, Depth, Group, Refused, Strand, Turn};

const ONE: Cost = Cost { operations: 1, bytes: 1 };
const ROOMY: Bounds =
    Bounds { keyed: Cost { operations: 8, bytes: 8 }, slow: Cost { operations: 8, bytes: 8 } };

/// (submitter, its number), in the order in which they ran.
type Log = Vec<(u8, u8)>;
type TestStrand = Arc<Strand<Log, ()>>;

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn pool(threads: usize) -> ComputePool<Log, ()> {
    ComputePool::new(threads, || ()).expect("a model always has threads")
}

/// Opens when so many deliveries have come; work that is lost shows as a deadlock.
struct Latch {
    missing: Mutex<usize>,
    none: Condvar,
}

impl Latch {
    fn new(deliveries: usize) -> Arc<Self> {
        Arc::new(Self { missing: Mutex::new(deliveries), none: Condvar::new() })
    }

    fn count(&self) {
        let mut missing = self.missing.lock().expect("no panic");
        *missing = missing.checked_sub(1).expect("nothing is delivered twice");
        if *missing == 0 {
            self.none.notify_all();
        }
    }

    fn wait(&self) {
        let mut missing = self.missing.lock().expect("no panic");
        while *missing > 0 {
            missing = self.none.wait(missing).expect("no panic");
        }
    }
}

/// Asks the idle strand first, as callers do.
fn keyed(strand: &TestStrand, ticket: (u8, u8), latch: &Arc<Latch>) {
    match strand.try_run(move |log| log.push(ticket)) {
        Ok(()) => latch.count(),
        Err(step) => {
            let latch = Arc::clone(latch);
            strand.submit(ONE, step, move |()| latch.count()).expect("room");
        }
    }
}

/// What ran, when nothing runs any more.
fn log(strand: &TestStrand) -> Log {
    assert_eq!(strand.depth(), Depth::default());
    let Ok(log) = strand.try_run(std::mem::take) else { panic!("the strand is idle") };
    log
}

fn of(log: &Log, submitter: u8) -> Vec<u8> {
    log.iter().filter(|ticket| ticket.0 == submitter).map(|ticket| ticket.1).collect()
}

/// I1, I2, and the order of one submitter. A run's share is one operation here, so that the pool takes part, and
/// with three operations one of them can find work left over that it must not overtake.
#[test]
fn two_submitters_lose_and_repeat_nothing() {
    check(4, || {
        let pool = pool(1);
        let strand = pool.strand(Log::new(), ROOMY);
        let latch = Latch::new(5);
        let other = {
            let (strand, latch) = (Arc::clone(&strand), Arc::clone(&latch));
            thread::spawn(move || {
                keyed(&strand, (1, 0), &latch);
                keyed(&strand, (1, 1), &latch);
            })
        };
        for number in 0..3 {
            keyed(&strand, (0, number), &latch);
        }
        other.join().expect("no panic");
        latch.wait();
        pool.shutdown();
        let log = log(&strand);
        assert_eq!((of(&log, 0), of(&log, 1)), (vec![0, 1, 2], vec![0, 1]));
    });
}

/// I1 and I2 of the slow lane, with the hand-over to a compute thread that finds the strand running.
#[test]
fn slow_turns_and_short_work_take_turns() {
    check(4, || {
        let pool = pool(1);
        let strand = pool.strand(Log::new(), ROOMY);
        let latch = Latch::new(3);
        let other = {
            let (strand, latch) = (Arc::clone(&strand), Arc::clone(&latch));
            thread::spawn(move || {
                keyed(&strand, (1, 0), &latch);
                keyed(&strand, (1, 1), &latch);
            })
        };
        let mut turns = 0;
        let turn = move |(): &mut (), log: &mut Log| {
            log.push((0, turns));
            turns += 1;
            if turns < 2 { Turn::Again } else { Turn::Done(()) }
        };
        let done = Arc::clone(&latch);
        strand.submit_slow(Group(1), ONE, turn, move |()| done.count()).expect("room");
        other.join().expect("no panic");
        latch.wait();
        pool.shutdown();
        let log = log(&strand);
        assert_eq!((of(&log, 0), of(&log, 1)), (vec![0, 1], vec![0, 1]));
    });
}

/// Asks to be alone with the strand first, and is slow work if it cannot: as invocations of quick functions do. What the
/// submitter has queued before must be in the log by the time that it is alone.
fn alone_or_slow(strand: &TestStrand, ticket: (u8, u8), latch: &Arc<Latch>) {
    let step = move |log: &mut Log| {
        assert_eq!(of(log, ticket.0).len(), usize::from(ticket.1), "earlier work was overtaken");
        assert_ne!(of(log, TURNS).len(), 1, "alone between two turns");
        log.push(ticket);
    };
    match strand.try_run_alone(step) {
        Ok(()) => latch.count(),
        Err(_step) => {
            let latch = Arc::clone(latch);
            let turn = move |(): &mut (), log: &mut Log| {
                log.push(ticket);
                Turn::Done(())
            };
            strand.submit_slow(Group(2), ONE, turn, move |()| latch.count()).expect("room");
        }
    }
}

/// The submitter of the slow work that takes two turns.
const TURNS: u8 = 7;

fn two_turns(strand: &TestStrand, latch: &Arc<Latch>) {
    let mut number = 0;
    let turn = move |(): &mut (), log: &mut Log| {
        log.push((TURNS, number));
        number += 1;
        if number < 2 { Turn::Again } else { Turn::Done(()) }
    };
    let done = Arc::clone(latch);
    strand.submit_slow(Group(1), ONE, turn, move |()| done.count()).expect("room");
}

/// I1 and I2 with work that wants to be alone: it is, and neither overtakes slow work nor comes between its turns.
#[test]
fn work_alone_has_its_order_among_slow_work() {
    check(3, || {
        let pool = pool(1);
        let strand = pool.strand(Log::new(), ROOMY);
        let latch = Latch::new(4);
        let other = {
            let (strand, latch) = (Arc::clone(&strand), Arc::clone(&latch));
            thread::spawn(move || {
                two_turns(&strand, &latch);
                alone_or_slow(&strand, (1, 0), &latch);
            })
        };
        alone_or_slow(&strand, (0, 0), &latch);
        alone_or_slow(&strand, (0, 1), &latch);
        other.join().expect("no panic");
        latch.wait();
        pool.shutdown();
        let log = log(&strand);
        assert_eq!((of(&log, 0), of(&log, 1), of(&log, TURNS)), (vec![0, 1], vec![0], vec![0, 1]));
        let turns: Vec<usize> = (0..log.len()).filter(|&at| log[at].0 == TURNS).collect();
        assert_eq!(turns[1], turns[0] + 1, "slow work came between two turns: {log:?}");
        assert!(log.iter().position(|ticket| *ticket == (1, 0)) > Some(turns[1]), "{log:?}");
    });
}

/// I1 and I2 with work that wants to be alone where short work runs and waits.
#[test]
fn work_alone_overtakes_no_short_work() {
    check(4, || {
        let pool = pool(1);
        let strand = pool.strand(Log::new(), ROOMY);
        let latch = Latch::new(5);
        let other = {
            let (strand, latch) = (Arc::clone(&strand), Arc::clone(&latch));
            thread::spawn(move || {
                keyed(&strand, (1, 0), &latch);
                alone_or_slow(&strand, (1, 1), &latch);
            })
        };
        keyed(&strand, (0, 0), &latch);
        keyed(&strand, (0, 1), &latch);
        alone_or_slow(&strand, (0, 2), &latch);
        other.join().expect("no panic");
        latch.wait();
        pool.shutdown();
        let mut log = log(&strand);
        // Short work that a run has left over may follow slow work: only being alone has an order with it.
        log.sort_unstable();
        assert_eq!(log, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]);
    });
}

/// I2 of the slow lane: the last item ends while the next one comes.
#[test]
fn slow_work_of_two_submitters_is_posted_once_each_time() {
    check(4, || {
        let pool = pool(1);
        let strand = pool.strand(Log::new(), ROOMY);
        let latch = Latch::new(2);
        let submit = |strand: &TestStrand, latch: &Arc<Latch>, ticket| {
            let done = Arc::clone(latch);
            let turn = move |(): &mut (), log: &mut Log| {
                log.push(ticket);
                Turn::Done(())
            };
            strand.submit_slow(Group(u64::from(ticket.0)), ONE, turn, move |()| done.count()).expect("room");
        };
        let other = {
            let (strand, latch) = (Arc::clone(&strand), Arc::clone(&latch));
            thread::spawn(move || submit(&strand, &latch, (1, 0)))
        };
        submit(&strand, &latch, (0, 0));
        other.join().expect("no panic");
        latch.wait();
        pool.shutdown();
        let log = log(&strand);
        assert_eq!((of(&log, 0), of(&log, 1)), (vec![0], vec![0]));
    });
}

/// Asks several strands first, and queues where one is not idle.
fn together(strands: &[TestStrand], ticket: (u8, u8), latch: &Arc<Latch>) {
    let ran = Strand::try_run_together(&strands.iter().collect::<Vec<_>>(), |logs| {
        logs.iter_mut().map(|log| log.as_mut().map(|log| log.push(ticket)).is_some()).collect::<Vec<_>>()
    });
    for (strand, ran) in strands.iter().zip(ran) {
        if ran {
            latch.count();
        } else {
            let latch = Arc::clone(latch);
            let step = move |log: &mut Log| log.push(ticket);
            strand.submit(ONE, step, move |()| latch.count()).expect("room");
        }
    }
}

/// I1 and I2 with strands that are held together, by two threads in opposite orders, while short work comes.
#[test]
fn strands_held_together_lose_nothing_and_wait_for_nobody() {
    check(3, || {
        let pool = pool(1);
        let strands = [pool.strand(Log::new(), ROOMY), pool.strand(Log::new(), ROOMY)];
        let latch = Latch::new(5);
        let other = {
            let ([first, second], latch) = (strands.clone(), Arc::clone(&latch));
            thread::spawn(move || {
                together(&[second, Arc::clone(&first)], (1, 0), &latch);
                keyed(&first, (1, 1), &latch);
            })
        };
        together(&strands, (0, 0), &latch);
        other.join().expect("no panic");
        latch.wait();
        pool.shutdown();
        let [first, second] = [log(&strands[0]), log(&strands[1])];
        assert_eq!((of(&first, 0), of(&first, 1)), (vec![0], vec![0, 1]));
        assert_eq!((of(&second, 0), of(&second, 1)), (vec![0], vec![0]));
    });
}

loom::thread_local! {
    static STEPS: Cell<u8> = Cell::new(0);
}

/// A step that must be the only one on its thread.
fn alone<T>(step: impl FnOnce() -> T) -> T {
    assert_eq!(STEPS.with(|steps| steps.replace(1)), 0, "a step inside a step (I3)");
    let result = step();
    STEPS.with(|steps| steps.set(0));
    result
}

/// A step on one strand that submits one to another.
fn cross(from: &TestStrand, to: &TestStrand, latch: &Arc<Latch>, submitter: u8) {
    let (to, inner, outer) = (Arc::clone(to), Arc::clone(latch), Arc::clone(latch));
    let submit = move || {
        let step = move |log: &mut Log| alone(|| log.push((submitter, 1)));
        let Err(step) = to.try_run(step) else { panic!("a strand was entered from inside one") };
        to.submit(ONE, step, move |()| inner.count()).expect("room");
    };
    let step = move |log: &mut Log| {
        log.push((submitter, 0));
        alone(submit);
    };
    from.submit(ONE, step, move |()| outer.count()).expect("room");
}

/// I3: strands whose steps submit to each other do not nest, and lose nothing.
#[test]
fn strands_that_submit_to_each_other_do_not_nest() {
    check(4, || {
        let pool = pool(1);
        let strands = [pool.strand(Log::new(), ROOMY), pool.strand(Log::new(), ROOMY)];
        let latch = Latch::new(4);
        let other = {
            let ([first, second], latch) = (strands.clone(), Arc::clone(&latch));
            thread::spawn(move || cross(&second, &first, &latch, 1))
        };
        cross(&strands[0], &strands[1], &latch, 0);
        other.join().expect("no panic");
        latch.wait();
        pool.shutdown();
        let [first, second] = [log(&strands[0]), log(&strands[1])];
        assert_eq!((of(&first, 0), of(&first, 1)), (vec![0], vec![1]));
        assert_eq!((of(&second, 0), of(&second, 1)), (vec![1], vec![0]));
    });
}

/// One place for the group: two strands never have their turns at once, and both get theirs.
#[test]
fn group_keeps_to_its_places() {
    check(3, || {
        let pool = pool(2);
        let strands = [pool.strand(Log::new(), ROOMY), pool.strand(Log::new(), ROOMY)];
        let latch = Latch::new(2);
        let running = Arc::new(AtomicUsize::new(0));
        for strand in &strands {
            let (running, done) = (Arc::clone(&running), Arc::clone(&latch));
            let turn = move |(): &mut (), log: &mut Log| {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one place");
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                log.push((0, 0));
                Turn::Done(())
            };
            strand.submit_slow(Group(1), ONE, turn, move |()| done.count()).expect("room");
        }
        latch.wait();
        pool.shutdown();
        assert_eq!(strands.map(|strand| log(&strand)), [[(0, 0)], [(0, 0)]]);
    });
}

/// Shutting down while work comes: slow work runs, is dropped or refused; short work always runs.
#[test]
fn shutdown_loses_no_short_work_and_keeps_no_slow_work() {
    check(3, || {
        let pool = pool(1);
        let strand = pool.strand(Log::new(), ROOMY);
        let latch = Latch::new(3);
        let submitter = {
            let (strand, latch) = (Arc::clone(&strand), Arc::clone(&latch));
            thread::spawn(move || {
                let turn = |(): &mut (), log: &mut Log| {
                    log.push((9, 0));
                    Turn::Done(())
                };
                let slow = strand.submit_slow(Group(1), ONE, turn, drop);
                keyed(&strand, (1, 0), &latch);
                keyed(&strand, (1, 1), &latch);
                slow
            })
        };
        keyed(&strand, (0, 0), &latch);
        pool.shutdown();
        let slow = submitter.join().expect("no panic");
        latch.wait();
        let log = log(&strand);
        assert_eq!((of(&log, 0), of(&log, 1)), (vec![0], vec![0, 1]));
        match slow {
            Ok(()) => assert!(of(&log, 9).len() <= 1),
            Err(Refused::Closed) => assert_eq!(of(&log, 9), []),
            Err(Refused::Full(full)) => panic!("{full}"),
        }
    });
}
