//! Short work: where it runs, in which order, and when it is refused.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use wattle_strand::{Cost, DEFERRED_STRANDS, Depth, Full, Group, Lane, RUN_OPERATIONS, Strand, Turn};

use crate::harness::{DEADLINE, Log, ONE, ROOMY, bounds, hold, inspect, pool, receive, thread_name};

fn push(number: u64) -> impl FnOnce(&mut Log) + Send + 'static {
    move |log| log.push(number)
}

#[test]
fn idle_strand_runs_borrowed_work_on_the_callers_thread() {
    let pool = pool(1);
    let strand = pool.strand(String::from("state"), ROOMY);
    let caller = thread::current().id();
    let borrowed = String::from("borrowed");
    let seen = strand.try_run(|state| (format!("{state} {borrowed}"), thread::current().id()));
    assert_eq!(seen.map_err(drop), Ok((String::from("state borrowed"), caller)));
}

#[test]
fn submit_runs_on_the_callers_thread_when_the_strand_is_idle() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let (sender, receiver) = mpsc::channel();
    let step = |_: &mut Log| thread::current().id();
    strand.submit(ONE, step, move |id| sender.send(id).expect("received below")).expect("room");
    assert_eq!(receiver.try_recv(), Ok(thread::current().id()));
}

#[test]
fn busy_strand_gives_the_work_back_and_queues_it_on_submit() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    let Err(work) = strand.try_run(push(7)) else { panic!("the strand is held") };
    let (sender, receiver) = mpsc::channel();
    strand.submit(ONE, work, move |()| sender.send(thread_name()).expect("received below")).expect("room");
    assert_eq!(strand.depth(), Depth { urgent: 0, keyed: ONE, slow: Cost::default() });
    held.let_go();
    assert_eq!(receive(&receiver), "holder");
    assert_eq!(strand.depth(), Depth::default());
    assert_eq!(inspect(&strand, |log| log.clone()), [7]);
}

#[test]
fn strands_together_are_those_that_are_idle_each_once() {
    let pool = pool(1);
    let [idle, busy] = [pool.strand(Log::new(), ROOMY), pool.strand(Log::new(), ROOMY)];
    let held = hold(&busy);
    let ran = |strands: &[&Arc<Strand<Log, ()>>], number| {
        Strand::try_run_together(strands, |logs| {
            logs.iter_mut().flatten().for_each(|log| log.push(number));
            logs.iter().map(Option::is_some).collect::<Vec<_>>()
        })
    };
    assert_eq!(ran(&[&idle, &busy, &idle], 1), [true, false, false]);
    let nested = idle.try_run(|_| ran(&[&idle, &busy], 2));
    assert_eq!(nested.map_err(drop), Ok(vec![false, false]), "no strand is entered from inside one");
    held.let_go();
    assert_eq!(ran(&[&busy, &idle], 3), [true, true]);
    assert_eq!((inspect(&idle, |log| log.clone()), inspect(&busy, |log| log.clone())), (vec![1, 3], vec![3]));
}

#[test]
fn deliveries_run_after_the_strand_was_given_back() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    let (delivering, delivery) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let deliver = move |()| {
        delivering.send(()).expect("the test waits");
        receive(&wait);
    };
    strand.submit(ONE, push(1), deliver).expect("room");
    let other = thread::spawn(move || held.let_go());
    receive(&delivery);
    assert_eq!(strand.try_run(|log| log.clone()).map_err(drop), Ok(vec![1]));
    go.send(()).expect("the delivery waits");
    other.join().expect("no panic");
}

#[test]
fn deliveries_come_in_the_order_of_their_steps() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    let (sender, receiver) = mpsc::channel();
    for number in 0..50 {
        let sender = sender.clone();
        strand
            .submit(ONE, push(number), move |()| sender.send(number).expect("received below"))
            .expect("room");
    }
    held.let_go();
    drop(sender);
    assert_eq!(receiver.iter().collect::<Log>(), (0..50).collect::<Log>());
    assert_eq!(inspect(&strand, |log| log.clone()), (0..50).collect::<Log>());
}

#[test]
fn urgent_work_goes_first_and_is_never_refused() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), bounds(1));
    let held = hold(&strand);
    strand.submit(ONE, push(1), drop).expect("room for one");
    for number in 100..110 {
        strand.submit_urgent(push(number), drop);
    }
    assert_eq!(strand.depth().urgent, 10);
    held.let_go();
    let expected: Log = (100..110).chain([1]).collect();
    assert_eq!(inspect(&strand, |log| log.clone()), expected);
}

#[test]
fn keyed_lane_refuses_one_operation_past_its_bound() {
    let full = check_refusal([(3, 10), (1, 10)], (1, 10));
    let waiting = Cost { operations: 4, bytes: 20 };
    let bound = Cost { operations: 4, bytes: 100 };
    assert_eq!(full, Full { lane: Lane::Keyed, waiting, bound });
}

#[test]
fn keyed_lane_refuses_one_byte_past_its_bound() {
    let full = check_refusal([(1, 60), (1, 40)], (1, 1));
    assert_eq!(full.waiting, Cost { operations: 2, bytes: 100 });
}

/// Fills the lane to its bound of 4 operations and 100 bytes exactly, and expects it to refuse the last work.
fn check_refusal(fitting: [(usize, usize); 2], refused: (usize, usize)) -> Full {
    let cost = |(operations, bytes)| Cost { operations, bytes };
    let pool = pool(1);
    let mut bounds = ROOMY;
    bounds.keyed = cost((4, 100));
    let strand = pool.strand(Log::new(), bounds);
    let held = hold(&strand);
    for work in fitting {
        strand.submit(cost(work), push(1), drop).expect("up to the bound");
    }
    let dropped = Arc::new(());
    let kept = Arc::clone(&dropped);
    let refusal =
        strand.submit(cost(refused), push(2), move |()| drop(kept)).expect_err("one past the bound");
    assert_eq!(Arc::strong_count(&dropped), 1, "refused work is dropped");
    held.let_go();
    assert_eq!(inspect(&strand, |log| log.clone()), [1, 1]);
    strand.submit(cost(refused), push(3), drop).expect("the lane has drained");
    assert_eq!(inspect(&strand, |log| log.clone()), [1, 1, 3]);
    refusal
}

#[test]
fn hint_grows_with_what_waits_and_has_limits() {
    let full = |lane, operations| Full {
        lane,
        waiting: Cost { operations, bytes: 0 },
        bound: Cost { operations, bytes: 0 },
    };
    assert_eq!(full(Lane::Keyed, 0).retry_after(), Duration::from_millis(1));
    assert_eq!(full(Lane::Keyed, 10_000).retry_after(), Duration::from_millis(20));
    assert_eq!(full(Lane::Slow, 10).retry_after(), Duration::from_millis(100));
    assert_eq!(full(Lane::Slow, usize::MAX).retry_after(), Duration::from_secs(1));
    assert_eq!(
        full(Lane::Slow, 10).to_string(),
        "the slow lane holds 10 of 10 operations and 0 of 0 bytes; try again in 100ms"
    );
}

#[test]
fn work_submitted_from_inside_runs_after_the_outer_work() {
    let pool = pool(1);
    let outer = pool.strand(Log::new(), ROOMY);
    let inner = pool.strand(Log::new(), ROOMY);
    let (sender, order) = mpsc::channel();
    let note = move |name: &'static str| sender.send((name, thread::current().id())).expect("received below");
    let run = outer.try_run(|log| {
        assert!(inner.try_run(push(0)).is_err(), "no strand inside a strand");
        assert!(outer.try_run(push(0)).is_err(), "nor the same one again");
        let (first, second) = (note.clone(), note.clone());
        inner.submit(ONE, push(1), move |()| first("inner")).expect("room");
        inner.submit_urgent(push(2), drop);
        outer.submit(ONE, push(4), move |()| second("outer again")).expect("room");
        log.push(3);
        note("outer");
    });
    assert!(run.is_ok());
    let here = thread::current().id();
    assert_eq!(
        order.try_iter().collect::<Vec<_>>(),
        [("outer", here), ("outer again", here), ("inner", here)]
    );
    assert_eq!(inspect(&outer, |log| log.clone()), [3, 4]);
    assert_eq!(inspect(&inner, |log| log.clone()), [2, 1]);
}

#[test]
fn work_submitted_by_a_delivery_is_deferred_too() {
    let pool = pool(1);
    let first = pool.strand(Log::new(), ROOMY);
    let second = pool.strand(Log::new(), ROOMY);
    let (sender, receiver) = mpsc::channel();
    let target = Arc::clone(&second);
    let deliver = move |()| {
        target.submit(ONE, push(1), drop).expect("room");
        sender.send(target.depth().keyed).expect("received below");
    };
    first.submit(ONE, push(0), deliver).expect("room");
    assert_eq!(receiver.try_recv(), Ok(ONE), "it waited until the delivery had ended");
    assert_eq!(inspect(&second, |log| log.clone()), [1]);
}

/// Each step submits the next: the caller runs its share of strands, then the pool goes on.
#[test]
fn chain_of_strands_does_not_hold_the_caller() {
    fn submit_next(strands: Arc<Vec<Arc<Strand<Log, ()>>>>, at: usize, names: mpsc::Sender<String>) {
        let Some(strand) = strands.get(at).cloned() else { return };
        let step = move |_: &mut Log| {
            names.send(thread_name()).expect("received below");
            submit_next(strands, at + 1, names);
        };
        strand.submit(ONE, step, drop).expect("room");
    }
    let pool = pool(1);
    let strands = (0..3 * DEFERRED_STRANDS).map(|_| pool.strand(Log::new(), ROOMY)).collect::<Vec<_>>();
    let expected = strands.len();
    let (sender, receiver) = mpsc::channel();
    submit_next(Arc::new(strands), 0, sender);
    let names: Vec<String> = (0..expected).map(|_| receive(&receiver)).collect();
    assert_eq!(
        receiver.recv_timeout(DEADLINE),
        Err(mpsc::RecvTimeoutError::Disconnected),
        "no step runs twice"
    );
    let caller = thread_name();
    assert_eq!(names.iter().take_while(|name| **name == caller).count(), 1 + DEFERRED_STRANDS);
    assert!(names[1 + DEFERRED_STRANDS..].iter().all(|name| name == "compute-0"), "{names:?}");
}

#[test]
fn run_ends_after_its_share_and_the_pool_does_the_rest() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    let (sender, receiver) = mpsc::channel();
    for number in 0..3 * RUN_OPERATIONS as u64 {
        let sender = sender.clone();
        let step = move |log: &mut Log| {
            log.push(number);
            sender.send(thread_name()).expect("received below");
        };
        strand.submit(ONE, step, drop).expect("room");
    }
    held.let_go();
    let names: Vec<String> = (0..3 * RUN_OPERATIONS).map(|_| receive(&receiver)).collect();
    assert!(names[..RUN_OPERATIONS].iter().all(|name| name == "holder"), "{names:?}");
    assert!(names[RUN_OPERATIONS..].iter().all(|name| name == "compute-0"), "{names:?}");
    assert_eq!(inspect(&strand, |log| log.clone()), (0..3 * RUN_OPERATIONS as u64).collect::<Log>());
}

#[test]
fn work_left_over_is_not_overtaken() {
    let pool = pool(1);
    let (began, begun) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let turn = move |(): &mut (), _: &mut Log| {
        began.send(()).expect("the test waits");
        receive(&wait);
        Turn::Done(())
    };
    pool.strand(Log::new(), ROOMY).submit_slow(Group(1), ONE, turn, drop).expect("room");
    receive(&begun);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    let all = RUN_OPERATIONS as u64 + 2;
    for number in 0..all - 1 {
        strand.submit(ONE, push(number), drop).expect("room");
    }
    held.let_go();
    assert_eq!(strand.depth().keyed, ONE, "the pool is busy and has not run what is left");
    let Err(step) = strand.try_run(push(all - 1)) else { panic!("one step is before this") };
    strand.submit(ONE, step, drop).expect("room");
    assert_eq!(strand.try_run(|log| log.clone()).map_err(drop), Ok((0..all).collect::<Log>()));
    go.send(()).expect("the turn waits");
}

#[test]
fn share_counts_operations_not_items() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let held = hold(&strand);
    let (sender, receiver) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        let cost = Cost { operations: RUN_OPERATIONS / 2, bytes: 0 };
        let step = move |_: &mut Log| sender.send(thread_name()).expect("received below");
        strand.submit(cost, step, drop).expect("room");
    }
    held.let_go();
    let names: Vec<String> = (0..3).map(|_| receive(&receiver)).collect();
    assert_eq!(names, ["holder", "holder", "compute-0"]);
}
