//! The compute threads: long work, and short work that one run could not finish.

use std::{fmt, io, sync::Arc};

use crate::{
    inbox::Bounds,
    inside::{AbortOnUnwind, Deferred, Inside},
    queue::{Post, Queue},
    strand::Strand,
    sync::thread,
};

/// How much a compute thread yields to the threads that answer short calls.
const NICE: i32 = 10;

/// Threads for the slow work of all strands of a node, each with a `W` of its own.
///
/// Slow work of one [`crate::Group`] has at most half of the threads, at least one.
///
/// [`ComputePool::shutdown`], or dropping it, lets turns in progress end, drops slow work that waits, runs what short
/// work is left, and joins the threads. Strands stay usable for short work after it; slow work is refused. It must
/// not happen on a compute thread.
pub struct ComputePool<P, W> {
    queue: Arc<Queue<P, W>>,
    workers: Vec<thread::JoinHandle<()>>,
}

impl<P: Send + 'static, W: 'static> ComputePool<P, W> {
    /// Starts `threads` threads at nice 10, at least one; each makes its `W` there.
    pub fn new(threads: usize, worker: impl Fn() -> W + Send + Sync + 'static) -> io::Result<Self> {
        let threads = threads.max(1);
        let mut pool =
            Self { queue: Arc::new(Queue::new((threads / 2).max(1))), workers: Vec::with_capacity(threads) };
        let worker = Arc::new(worker);
        for number in 0..threads {
            let queue = Arc::clone(&pool.queue);
            let worker = Arc::clone(&worker);
            let builder = thread::Builder::new().name(format!("compute-{number}"));
            pool.workers.push(builder.spawn(move || compute(&queue, &*worker))?);
        }
        Ok(pool)
    }

    /// A strand whose slow work runs on this pool.
    pub fn strand(&self, state: P, bounds: Bounds) -> Arc<Strand<P, W>> {
        Arc::new(Strand::new(state, bounds, Arc::clone(&self.queue)))
    }

    /// Strands that wait for a thread now. One that waits for short and for slow work counts twice.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Ends the pool, as its documentation says.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl<P, W> Drop for ComputePool<P, W> {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            worker.join().expect("a panic on a compute thread aborts the process");
        }
    }
}

impl<P, W> fmt::Debug for ComputePool<P, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComputePool")
            .field("threads", &self.workers.len())
            .field("waiting", &self.queue.waiting())
            .finish()
    }
}

fn compute<P: Send + 'static, W: 'static>(queue: &Queue<P, W>, worker: &dyn Fn() -> W) {
    let armed = AbortOnUnwind::arm();
    yield_to_short_calls();
    let mut worker = worker();
    while let Some(post) = queue.next() {
        match post {
            Post::Short(strand) => {
                let inside = Inside::enter().expect("a compute thread is outside of strands here");
                strand.run_posted();
                inside.leave();
            }
            Post::Slow(group, strand) => strand.run_slow(group, &mut worker),
            Post::Abandoned(group, strand) => {
                strand.abandon_slow();
                queue.end_turn(group, None);
            }
        }
    }
    armed.disarm();
}

/// On Linux `nice` is a property of the thread.
fn yield_to_short_calls() {
    if rustix::process::nice(NICE).is_err() {
        // Where it is not allowed the threads run as they are: worse for short calls, and correct.
    }
}
