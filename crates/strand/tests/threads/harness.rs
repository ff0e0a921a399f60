//! What the tests share: bounds, a way to keep a strand busy, and waiting with a deadline.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wattle_strand::{Bounds, ComputePool, Cost, Strand};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const ONE: Cost = Cost { operations: 1, bytes: 1 };
pub(crate) const ROOMY: Bounds = bounds(1000);

/// The state of most tests: what ran, in order.
pub(crate) type Log = Vec<u64>;

pub(crate) const fn bounds(operations: usize) -> Bounds {
    let bound = Cost { operations, bytes: 1_000_000 };
    Bounds { keyed: bound, slow: bound }
}

pub(crate) fn pool<P: Send + 'static>(threads: usize) -> ComputePool<P, ()> {
    ComputePool::new(threads, || ()).expect("threads start")
}

/// Another thread is inside the strand as long as this lives.
pub(crate) struct Held {
    go: Sender<()>,
    thread: JoinHandle<()>,
}

pub(crate) fn hold<P: Send + 'static, W: 'static>(strand: &Arc<Strand<P, W>>) -> Held {
    let strand = Arc::clone(strand);
    let (go, wait) = mpsc::channel();
    let (entered, inside) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("holder".into())
        .spawn(move || {
            let held = strand.try_run(|_| {
                entered.send(()).expect("the test waits");
                receive(&wait);
            });
            assert!(held.is_ok(), "the strand was idle");
        })
        .expect("a thread starts");
    receive(&inside);
    Held { go, thread }
}

impl Held {
    /// Ends the hold; returns when the holder has left the strand.
    pub(crate) fn let_go(self) {
        self.go.send(()).expect("the holder waits");
        self.thread.join().expect("the holder does not panic");
    }
}

pub(crate) fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(DEADLINE).expect("it arrives before the deadline")
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::yield_now();
    }
}

/// Work on an idle strand; waits until it is idle.
pub(crate) fn inspect<P: Send + 'static, W: 'static, T>(
    strand: &Arc<Strand<P, W>>,
    mut look: impl FnMut(&mut P) -> T,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match strand.try_run(&mut look) {
            Ok(seen) => return seen,
            Err(_) => assert!(Instant::now() < deadline, "the strand never was idle"),
        }
        thread::yield_now();
    }
}

pub(crate) fn thread_name() -> String {
    thread::current().name().unwrap_or("unnamed").to_owned()
}
