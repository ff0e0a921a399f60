//! The one thread that advances the engine's epoch, so that running guests come up for air. It runs only
//! while guests do, and for a short while after: an idle node is not woken a thousand times a second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use wasmtime::Engine;

use crate::limits::{TICK, TICKER_LINGER};

/// Owns the thread; dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guests that run now.
    running: AtomicU64,
    asleep: AtomicBool,
    closing: AtomicBool,
}

/// Keeps the ticker going while a guest runs.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("wattle-ticker".to_owned())
            .stack_size(128 << 10)
            .spawn(move || tick(&of_thread, &engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Called around every stretch of guest code.
    pub(crate) fn running(&self) -> Running<'_> {
        // Sequentially consistent on both sides: either the thread sees the count before it sleeps, or this
        // sees that it sleeps (Dekker's argument).
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.as_ref().map(JoinHandle::thread) {
            Thread::unpark(thread);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ticker panicked");
        }
    }
}

fn tick(shared: &Shared, engine: &Engine) {
    let mut last_busy = Instant::now();
    while !shared.closing.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            last_busy = Instant::now();
        } else if last_busy.elapsed() > TICKER_LINGER {
            sleep_until_needed(shared);
            last_busy = Instant::now();
        }
        thread::sleep(TICK);
        engine.increment_epoch();
    }
}

fn sleep_until_needed(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    while shared.running.load(Ordering::SeqCst) == 0 && !shared.closing.load(Ordering::SeqCst) {
        thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "{what} did not happen");
            thread::yield_now();
        }
    }

    #[test]
    fn it_sleeps_while_nothing_runs_and_wakes_for_a_guest() {
        let ticker = Ticker::start(Engine::default()).unwrap();
        let asleep = || ticker.shared.asleep.load(Ordering::SeqCst);
        wait_for("falling asleep", asleep);
        let running = ticker.running();
        wait_for("waking up", || !asleep());
        drop(running);
        wait_for("falling asleep again", asleep);
    }
}
