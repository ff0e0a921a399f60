//! What a panic does: in a step it ends the process, inside a closure that catches it nothing.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    panic::{self, AssertUnwindSafe},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
};

use wattle_strand::{ComputePool, Group, Strand, Turn};

use crate::harness::{Log, ONE, ROOMY, inspect, pool, receive};

/// Set in the process that is to abort.
const CHILD: &str = "WATTLE_STRAND_PANICS";
const SIGABRT: i32 = 6;

/// Runs the test of this name again in a process of its own, which must abort.
fn check_aborts(test: &str, panicking: impl FnOnce(&ComputePool<Log, ()>, &Arc<Strand<Log, ()>>)) {
    if env::var_os(CHILD).is_some() {
        let pool = pool(1);
        let strand = pool.strand(Log::new(), ROOMY);
        panicking(&pool, &strand);
        return;
    }
    let status = Command::new(env::current_exe().expect("the test's own path"))
        .args(["--exact", test])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the test runs again");
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
}

#[test]
fn panic_in_work_on_an_idle_strand_aborts_the_process() {
    check_aborts("panics::panic_in_work_on_an_idle_strand_aborts_the_process", |_, strand| {
        assert!(strand.try_run(|_| panic!("half changed")).is_err(), "unreachable");
    });
}

#[test]
fn panic_in_a_queued_step_aborts_the_process() {
    check_aborts("panics::panic_in_a_queued_step_aborts_the_process", |_, strand| {
        strand.submit(ONE, |_| panic!("half changed"), |()| ()).expect("room");
    });
}

#[test]
fn panic_in_a_turn_aborts_the_process() {
    check_aborts("panics::panic_in_a_turn_aborts_the_process", |_, strand| {
        let (sender, receiver) = mpsc::channel::<()>();
        let turn = |(): &mut (), _: &mut Log| -> Turn<()> { panic!("half changed") };
        strand.submit_slow(Group(1), ONE, turn, move |()| drop(sender)).expect("room");
        assert_eq!(receiver.recv(), Err(mpsc::RecvError));
    });
}

#[test]
fn panic_that_a_turn_catches_fails_its_call_only() {
    let pool = pool(1);
    let strand = pool.strand(Log::new(), ROOMY);
    let (sender, receiver) = mpsc::channel();
    for number in 0..2 {
        let sender = sender.clone();
        let turn = move |(): &mut (), log: &mut Log| {
            let glue = AssertUnwindSafe(|| assert_ne!(number, 0, "a bug in the glue"));
            let outcome = panic::catch_unwind(glue).is_ok();
            if outcome {
                log.push(number);
            }
            Turn::Done(outcome)
        };
        let deliver = move |outcome| sender.send(outcome).expect("received below");
        strand.submit_slow(Group(1), ONE, turn, deliver).expect("room");
    }
    assert_eq!([receive(&receiver), receive(&receiver)], [false, true]);
    assert_eq!(inspect(&strand, |log| log.clone()), [1]);
}
