//! Slow work and the compute threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use wattle_strand::{ComputePool, Cost, Depth, Full, Group, Lane, RUN_OPERATIONS, Refused, Strand, Turn};

use crate::harness::{
    DEADLINE, Log, ONE, ROOMY, bounds, hold, inspect, pool, receive, thread_name, wait_until,
};

const GROUP: Group = Group(1);

fn push(number: u64) -> impl FnOnce(&mut Log) + Send + 'static {
    move |log| log.push(number)
}

fn push_slowly(number: u64) -> impl FnMut(&mut (), &mut Log) -> Turn<()> + Send + 'static {
    move |(), log| {
        log.push(number);
        Turn::Done(())
    }
}

/// A turn that says that it began, and ends when told.
fn blocked(
    began: &mpsc::Sender<()>,
    go: mpsc::Receiver<()>,
) -> impl FnMut(&mut (), &mut Log) -> Turn<()> + Send + 'static {
    let began = began.clone();
    move |(), _| {
        began.send(()).expect("the test waits");
        receive(&go);
        Turn::Done(())
    }
}

#[test]
fn slow_work_runs_at_nice_10_on_a_compute_thread_with_its_own_value() {
    let nice = || rustix::process::getpriority_process(None).expect("a thread knows its priority");
    let before = nice();
    let pool = ComputePool::new(1, || vec![thread_name()]).expect("a thread starts");
    let strand = pool.strand((), ROOMY);
    let (sender, receiver) = mpsc::channel();
    for number in ["first", "second"] {
        let sender = sender.clone();
        let turn = move |worker: &mut Vec<String>, (): &mut ()| {
            worker.push(number.to_owned());
            Turn::Done((worker.clone(), rustix::process::getpriority_process(None)))
        };
        strand
            .submit_slow(GROUP, ONE, turn, move |seen| sender.send(seen).expect("received below"))
            .expect("room");
    }
    let nicer = Ok((before + 10).min(19));
    assert_eq!(receive(&receiver), (vec!["compute-0".into(), "first".into()], nicer));
    assert_eq!(receive(&receiver), (vec!["compute-0".into(), "first".into(), "second".into()], nicer));
    assert_eq!(nice(), before, "only compute threads are nice");
}

#[test]
fn slow_work_of_a_strand_runs_in_order_and_again_keeps_its_place() {
    let pool = pool(2);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    let (sender, receiver) = mpsc::channel();
    for number in 0..10 {
        let sender = sender.clone();
        let mut turns = 0;
        let turn = move |(): &mut (), log: &mut Log| {
            turns += 1;
            log.push(10 * number + turns);
            if turns < 3 { Turn::Again } else { Turn::Done(turns) }
        };
        let deliver = move |turns| sender.send((number, turns)).expect("received below");
        strand.submit_slow(Group(number % 3), ONE, turn, deliver).expect("room");
    }
    assert_eq!(strand.depth().slow, Cost { operations: 10, bytes: 10 });
    held.let_go();
    let delivered: Vec<_> = (0..10).map(|_| receive(&receiver)).collect();
    assert_eq!(delivered, (0..10).map(|number| (number, 3)).collect::<Vec<_>>());
    let expected: Log = (0..10).flat_map(|number| (1..=3).map(move |turn| 10 * number + turn)).collect();
    assert_eq!(inspect(&strand, |log| log.clone()), expected);
    assert_eq!(strand.depth(), Depth::default());
}

#[test]
fn short_work_goes_between_two_turns_of_slow_work() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let (began, begun) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let mut turns = 0;
    let turn = move |(): &mut (), log: &mut Log| {
        turns += 1;
        log.push(1000 + turns);
        began.send(()).expect("the test waits");
        receive(&wait);
        if turns < 2 { Turn::Again } else { Turn::Done(()) }
    };
    let (sender, receiver) = mpsc::channel();
    strand.submit_slow(GROUP, ONE, turn, move |()| sender.send(()).expect("received below")).expect("room");
    receive(&begun);
    assert!(strand.try_run(push(0)).is_err(), "the slow turn has the strand");
    // More than one run's share, so that some of it is left when the second turn is due.
    for number in 1..=100 {
        strand.submit(ONE, push(number), drop).expect("room");
    }
    go.send(()).expect("the turn waits");
    receive(&begun);
    go.send(()).expect("the turn waits");
    receive(&receiver);
    let expected: Log = [1001].into_iter().chain(1..=100).chain([1002]).collect();
    assert_eq!(inspect(&strand, |log| log.clone()), expected);
}

/// It would otherwise wait behind the slow turns of other strands.
#[test]
fn short_work_that_came_during_a_turn_runs_before_the_thread_turns_to_other_strands() {
    let pool = pool(1);
    let (first, second) = (pool.strand(Log::new(), ROOMY), pool.strand(Log::new(), ROOMY));
    let (began, begun) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let (sender, order) = mpsc::channel();
    let note = move |name: &'static str| sender.send(name).expect("received below");
    first.submit_slow(Group(1), ONE, blocked(&began, wait), drop).expect("room");
    receive(&begun);
    let (short, slow) = (note.clone(), note);
    let turn = move |(): &mut (), _: &mut Log| {
        slow("slow work of the second");
        Turn::Done(())
    };
    second.submit_slow(Group(2), ONE, turn, drop).expect("room");
    first.submit(ONE, move |_| short("short work of the first"), drop).expect("room");
    go.send(()).expect("the turn waits");
    assert_eq!([receive(&order), receive(&order)], ["short work of the first", "slow work of the second"]);
}

#[test]
fn slow_lane_refuses_one_past_its_bound_counting_the_turn_in_progress() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), bounds(2));
    let (began, begun) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    strand.submit_slow(GROUP, ONE, blocked(&began, wait), drop).expect("room");
    receive(&begun);
    strand.submit_slow(GROUP, ONE, push_slowly(1), drop).expect("the bound is two");
    let refused = strand.submit_slow(GROUP, ONE, push_slowly(2), drop);
    let waiting = Cost { operations: 2, bytes: 2 };
    let full = Full { lane: Lane::Slow, waiting, bound: bounds(2).slow };
    assert_eq!(refused, Err(Refused::Full(full)));
    go.send(()).expect("the turn waits");
    wait_until("the lane drains", || strand.depth() == Depth::default());
    strand.submit_slow(GROUP, ONE, push_slowly(3), drop).expect("room again");
    wait_until("the lane drains", || strand.depth() == Depth::default());
    assert_eq!(inspect(&strand, |log| log.clone()), [1, 3]);
}

#[test]
fn group_takes_at_most_half_of_the_pool() {
    let pool = pool(4);
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = mpsc::channel();
    let (began, begun) = mpsc::channel();
    let mut gates = Vec::new();
    let strands: Vec<_> = (0..8).map(|_| pool.strand(Log::new(), ROOMY)).collect();
    for strand in &strands {
        let (go, wait) = mpsc::channel();
        gates.push(go);
        let (running, most, began) = (Arc::clone(&running), Arc::clone(&most), began.clone());
        let turn = move |(): &mut (), _: &mut Log| {
            most.fetch_max(1 + running.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            began.send(()).expect("the test waits");
            receive(&wait);
            running.fetch_sub(1, Ordering::SeqCst);
            Turn::Done(())
        };
        let sender = sender.clone();
        strand
            .submit_slow(GROUP, ONE, turn, move |()| sender.send(()).expect("counted below"))
            .expect("room");
    }
    receive(&begun);
    receive(&begun);
    assert_eq!(pool.waiting(), 6, "two have their turn, and two threads are free for others");
    let (others, other) = mpsc::channel();
    let free = pool.strand(Log::new(), ROOMY);
    free.submit_slow(Group(2), ONE, push_slowly(1), move |()| others.send(()).expect("received below"))
        .expect("room");
    receive(&other);
    for gate in gates {
        gate.send(()).expect("every turn waits or will");
    }
    for _ in &strands {
        receive(&receiver);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(pool.waiting(), 0);
}

#[test]
fn pool_of_one_thread_still_serves_every_group() {
    let pool = pool(1);
    let (sender, receiver) = mpsc::channel();
    for number in 0..20 {
        let sender = sender.clone();
        let deliver = move |()| sender.send(number).expect("received below");
        let strand = pool.strand(Log::new(), ROOMY);
        strand.submit_slow(Group(number % 2), ONE, push_slowly(number), deliver).expect("room");
    }
    let mut served: Log = (0..20).map(|_| receive(&receiver)).collect();
    served.sort_unstable();
    assert_eq!(served, (0..20).collect::<Log>());
}

/// Two threads keep the strand busy all the time; the slow work still gets its turns.
#[test]
fn flood_of_short_work_does_not_starve_slow_work() {
    let pool = pool(1);
    let strand = pool.strand((), ROOMY);
    let stop = Arc::new(AtomicBool::new(false));
    let steps = Arc::new(AtomicUsize::new(0));
    let flood: Vec<_> = (0..2)
        .map(|_| {
            let (strand, stop, steps) = (Arc::clone(&strand), Arc::clone(&stop), Arc::clone(&steps));
            thread::spawn(move || flood(&strand, &stop, &steps))
        })
        .collect();
    let flows = |until| wait_until("the flood flows", || steps.load(Ordering::Relaxed) > until);
    flows(10_000);
    let (sender, receiver) = mpsc::channel();
    let mut turns = 0;
    let turn = move |(): &mut (), (): &mut ()| {
        turns += 1;
        if turns < 200 { Turn::Again } else { Turn::Done(turns) }
    };
    strand
        .submit_slow(GROUP, ONE, turn, move |turns| sender.send(turns).expect("received below"))
        .expect("room");
    let turns = receiver.recv_timeout(DEADLINE);
    flows(steps.load(Ordering::Relaxed));
    stop.store(true, Ordering::Relaxed);
    for thread in flood {
        thread.join().expect("no panic");
    }
    assert_eq!(turns, Ok(200));
}

fn flood(strand: &Arc<Strand<(), ()>>, stop: &AtomicBool, steps: &Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let steps = Arc::clone(steps);
        let step = move |(): &mut ()| {
            steps.fetch_add(1, Ordering::Relaxed);
        };
        let Err(step) = strand.try_run(step) else { continue };
        if strand.submit(ONE, step, drop).is_err() {
            thread::yield_now();
        }
    }
}

/// Keeps its strand in the pool's short queue: every delivery submits the next step.
fn keep_posted(strand: &Arc<Strand<Log, ()>>, stop: &Arc<AtomicBool>) {
    let (next, stop) = (Arc::clone(strand), Arc::clone(stop));
    let deliver = move |()| {
        if !stop.load(Ordering::Relaxed) {
            keep_posted(&next, &stop);
        }
    };
    strand.submit(ONE, |_: &mut Log| (), deliver).expect("room");
}

#[test]
fn leftover_short_work_does_not_starve_slow_work_of_other_strands() {
    let pool = pool(1);
    let (busy, other) = (pool.strand(Log::new(), ROOMY), pool.strand(Log::new(), ROOMY));
    let stop = Arc::new(AtomicBool::new(false));
    keep_posted(&busy, &stop);
    let (sender, receiver) = mpsc::channel();
    other
        .submit_slow(GROUP, ONE, push_slowly(1), move |()| sender.send(()).expect("received below"))
        .expect("room");
    let served = receiver.recv_timeout(DEADLINE);
    stop.store(true, Ordering::Relaxed);
    assert_eq!(served, Ok(()));
}

#[test]
fn slow_work_does_not_starve_leftover_short_work_of_other_strands() {
    let pool = pool(1);
    let (slow, leftover) = (pool.strand(Log::new(), ROOMY), pool.strand(Log::new(), ROOMY));
    let held = hold(&leftover);
    for number in 0..2 * RUN_OPERATIONS as u64 {
        leftover.submit(ONE, push(number), drop).expect("room");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let endless = move |(): &mut (), _: &mut Log| {
        if stopped.load(Ordering::Relaxed) { Turn::Done(()) } else { Turn::Again }
    };
    slow.submit_slow(GROUP, ONE, endless, drop).expect("room");
    held.let_go();
    wait_until("the pool finds the leftover work", || leftover.depth() == Depth::default());
    stop.store(true, Ordering::Relaxed);
    assert_eq!(inspect(&leftover, |log| log.len()), 2 * RUN_OPERATIONS);
}

#[test]
fn shutdown_ends_the_turn_in_progress_and_drops_what_waits() {
    let pool = pool(2);
    let strand = pool.strand(Log::new(), ROOMY);
    let waiting = pool.strand(Log::new(), ROOMY);
    let (began, begun) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let (sender, receiver) = mpsc::channel();
    let deliver = |name: &'static str| {
        let sender = sender.clone();
        move |()| sender.send(name).expect("received below")
    };
    strand.submit_slow(GROUP, ONE, blocked(&began, wait), deliver("in progress")).expect("room");
    strand.submit_slow(GROUP, ONE, push_slowly(1), deliver("behind it")).expect("room");
    waiting.submit_slow(GROUP, ONE, push_slowly(2), deliver("without a place")).expect("room");
    receive(&begun);
    let probe = pool.strand(Log::new(), ROOMY);
    let shutdown = thread::spawn(move || pool.shutdown());
    // The second thread serves another group until then.
    wait_until("the pool is closed", || {
        let late = probe.submit_slow(Group(2), ONE, push_slowly(3), drop);
        wait_until("the probe is served", || probe.depth() == Depth::default());
        late == Err(Refused::Closed)
    });
    go.send(()).expect("the turn waits");
    shutdown.join().expect("no panic");
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), ["in progress"]);
    assert_eq!(strand.depth(), Depth::default());
    assert_eq!(waiting.depth(), Depth::default());
    let refused = strand.submit_slow(GROUP, ONE, push_slowly(4), drop);
    assert_eq!(refused, Err(Refused::Closed));
    assert_eq!(strand.try_run(|log| log.clone()).map_err(drop), Ok(vec![]));
}

#[test]
fn short_work_left_over_after_shutdown_runs_on_the_holders_thread() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    for number in 0..500 {
        strand.submit(ONE, push(number), drop).expect("room");
    }
    pool.shutdown();
    held.let_go();
    assert_eq!(strand.try_run(|log| log.clone()).map_err(drop), Ok((0..500).collect::<Log>()));
}

#[test]
fn work_that_must_be_alone_does_not_overtake_slow_work() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let alone = |number| {
        let ran = strand.try_run_alone(push(number));
        ran.is_ok()
    };
    assert!(alone(1), "an idle strand runs it here");
    let (began, begins) = mpsc::channel();
    let other = pool.strand(Log::new(), ROOMY);
    let (go, wait) = mpsc::channel();
    other.submit_slow(GROUP, ONE, blocked(&began, wait), drop).expect("room");
    receive(&begins);
    // The only thread is taken: this waits in a strand that is idle.
    strand.submit_slow(GROUP, ONE, push_slowly(2), drop).expect("room");
    assert!(!alone(3), "slow work waits");
    assert!(strand.try_run(push(4)).is_ok(), "other short work goes first");
    go.send(()).expect("the turn waits");
    wait_until("slow work is done", || strand.depth().slow.operations == 0);
    assert_eq!(inspect(&strand, |log| log.clone()), [1, 4, 2]);
    wait_until("the strand is idle", || alone(5));
}
