//! The strand: who may work on the state, and in which order. See the crate's invariants.

use std::{fmt, sync::Arc};

use crate::{
    RUN_OPERATIONS,
    inbox::{Bounds, Cost, Depth, Duty, Full, Inbox, Refused, Release, SlowItem},
    inside::{self, AbortOnUnwind, Deferred, Inside},
    queue::Queue,
    sync::{Condvar, Mutex, MutexGuard},
    work::{Deliver, Group, Turn, Work},
};

/// A state `P` that at most one thread works on at a time, with an inbox for work that finds it busy.
///
/// Short work asks with [`Strand::try_run`] first: an idle strand runs it right there, on the caller's thread,
/// and the work may borrow and allocates nothing. If the strand is busy, [`Strand::submit`] queues it:
///
/// ```
/// # use std::sync::{Arc, mpsc};
/// # use wattle_strand::{Bounds, ComputePool, Cost, Full, Strand};
/// fn add(strand: &Arc<Strand<u64, ()>>, number: u64) -> Result<u64, Full> {
///     let step = move |sum: &mut u64| {
///         *sum += number;
///         *sum
///     };
///     let step = match strand.try_run(step) {
///         Ok(reply) => return Ok(reply),
///         Err(step) => step,
///     };
///     let (sender, receiver) = mpsc::channel(); // a oneshot channel, in an async caller
///     let deliver = move |reply| sender.send(reply).expect("the receiver is below");
///     strand.submit(Cost { operations: 1, bytes: 8 }, step, deliver)?;
///     Ok(receiver.recv().expect("accepted work is delivered"))
/// }
/// # let bound = Cost { operations: 16, bytes: 1024 };
/// # let pool = ComputePool::new(1, || ()).expect("a thread");
/// # let strand = pool.strand(40, Bounds { keyed: bound, slow: bound });
/// assert_eq!(add(&strand, 2), Ok(42));
/// ```
///
/// `deliver` closures run after the strand has been given back, so that a wake-up never costs time on the
/// state. They must be short. Those of one run come in the order of their steps; the next run may be on another
/// thread and deliver first.
///
/// From inside a strand (a step, a turn or a delivery on this thread) no other strand is entered: `try_run`
/// gives the work back, and submitted work waits until the thread is out.
///
/// A panic in a step, a turn or a delivery aborts the process, for the state may be half changed. Who runs code
/// that may panic before it changes anything (the glue around a guest) catches it inside the closure.
pub struct Strand<P, W> {
    inbox: Mutex<Inbox<P, W>>,
    /// Taken with `try_lock` only: by I1 nobody else ever has it.
    state: Mutex<P>,
    handed_over: Condvar,
    queue: Arc<Queue<P, W>>,
}

impl<P: Send + 'static, W: 'static> Strand<P, W> {
    pub(crate) fn new(state: P, bounds: Bounds, queue: Arc<Queue<P, W>>) -> Self {
        Self {
            inbox: Mutex::new(Inbox::new(bounds)),
            state: Mutex::new(state),
            handed_over: Condvar::new(),
            queue,
        }
    }

    /// Runs short work here and now if the strand is idle, then what arrived meanwhile, up to
    /// [`RUN_OPERATIONS`]. Gives the work back if the strand runs, has short work queued that this would
    /// overtake, or the thread is inside a strand.
    pub fn try_run<T, F>(self: &Arc<Self>, work: F) -> Result<T, F>
    where
        F: FnOnce(&mut P) -> T,
    {
        self.try_run_if(Inbox::claim_idle, work)
    }

    /// As [`Strand::try_run`], and gives the work back if slow work waits or is between two turns, too: this is
    /// for work that has its order among slow work.
    pub fn try_run_alone<T, F>(self: &Arc<Self>, work: F) -> Result<T, F>
    where
        F: FnOnce(&mut P) -> T,
    {
        self.try_run_if(Inbox::claim_alone, work)
    }

    fn try_run_if<T, F>(
        self: &Arc<Self>,
        claim: impl FnOnce(&mut Inbox<P, W>) -> bool,
        work: F,
    ) -> Result<T, F>
    where
        F: FnOnce(&mut P) -> T,
    {
        let Some(inside) = Inside::enter() else { return Err(work) };
        if !claim(&mut self.inbox.lock()) {
            return Err(work);
        }
        let armed = AbortOnUnwind::arm();
        let mut state = self.claimed_state();
        let reply = work(&mut state);
        self.run(state);
        inside.leave();
        armed.disarm();
        Ok(reply)
    }

    /// Runs short work on several strands together, as if [`Strand::try_run`] were called for one after the other and had
    /// not given them back: `work` gets the states in the order of the strands, and none of those that were not idle.
    /// Who holds several keeps others from them for longer: a few, and for little work, are what this is for.
    pub fn try_run_together<T>(strands: &[&Arc<Self>], work: impl FnOnce(&mut [Option<&mut P>]) -> T) -> T {
        let inside = Inside::enter();
        let armed = AbortOnUnwind::arm();
        // Nobody waits for a strand while holding another: that could be a circle.
        let claim = |strand: &&Arc<Self>| inside.is_some() && strand.inbox.lock().claim_idle();
        let claimed = |strand| claim(strand).then(|| strand.claimed_state());
        let mut states: Vec<_> = strands.iter().map(claimed).collect();
        let mut borrowed: Vec<_> = states.iter_mut().map(Option::as_deref_mut).collect();
        let reply = work(&mut borrowed);
        for (strand, state) in strands.iter().zip(states) {
            if let Some(state) = state {
                strand.run(state);
            }
        }
        if let Some(inside) = inside {
            inside.leave();
        }
        armed.disarm();
        reply
    }

    /// Queues keyed work; runs it here if the strand is idle by now. Work of one caller runs in the order of
    /// its calls.
    pub fn submit<R: Send + 'static>(
        self: &Arc<Self>,
        cost: Cost,
        step: impl FnOnce(&mut P) -> R + Send + 'static,
        deliver: impl FnOnce(R) + Send + 'static,
    ) -> Result<(), Full> {
        let work = Box::new(Work::new(Some(step), deliver));
        let inside = Inside::enter();
        let mut inbox = self.inbox.lock();
        inbox.admit_keyed(cost)?;
        inbox.push_keyed(cost, work);
        self.serve(inbox, inside);
        Ok(())
    }

    /// Queues work that is never refused and goes before all other: acknowledgements, epochs, ticks. Their
    /// number is bounded by those who send them.
    pub fn submit_urgent<R: Send + 'static>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut P) -> R + Send + 'static,
        deliver: impl FnOnce(R) + Send + 'static,
    ) {
        let work = Box::new(Work::new(Some(step), deliver));
        let inside = Inside::enter();
        let mut inbox = self.inbox.lock();
        inbox.push_urgent(work);
        self.serve(inbox, inside);
    }

    /// Queues slow work: the compute pool calls `turn` until it is done, one call per turn, giving the strand
    /// back in between. The slow work of a strand runs in the order of its submission. Work that waits when
    /// the pool shuts down is dropped, and `deliver` with it, though it was accepted.
    pub fn submit_slow<R: Send + 'static>(
        self: &Arc<Self>,
        group: Group,
        cost: Cost,
        turn: impl FnMut(&mut W, &mut P) -> Turn<R> + Send + 'static,
        deliver: impl FnOnce(R) + Send + 'static,
    ) -> Result<(), Refused> {
        let item = SlowItem { group, cost, work: Box::new(Work::new(turn, deliver)) };
        let mut inbox = self.inbox.lock();
        inbox.admit_slow(cost)?;
        let must_post = inbox.push_slow(item);
        inbox.check_invariants();
        drop(inbox);
        if !must_post {
            return Ok(());
        }
        self.queue.post_slow(group, Arc::clone(self)).map_err(|_closed| {
            self.abandon_slow();
            Refused::Closed
        })
    }

    /// What waits now.
    pub fn depth(&self) -> Depth {
        self.inbox.lock().depth()
    }

    /// One turn of slow work, on a compute thread. Short work that waits goes first, and what came during the
    /// turn follows at once.
    pub(crate) fn run_slow(self: &Arc<Self>, group: Group, worker: &mut W) {
        let inside = Inside::enter().expect("a compute thread looks for work only outside of strands");
        let mut state = self.wait_for_turn();
        let mut done = Vec::new();
        let mut inbox = self.drain(&mut state, &mut done);
        let mut item = inbox.begin_turn();
        drop(inbox);
        debug_assert_eq!(item.group, group, "the first slow item changed while the strand was posted");
        let turn = item.work.turn(worker, &mut state);
        let (finished, next) = self.inbox.lock().end_turn(item, turn);
        done.extend(finished.map(|item| item.work as Box<dyn Deliver>));
        let inbox = self.drain(&mut state, &mut done);
        self.release(inbox, state);
        self.queue.end_turn(group, next.map(|group| (group, Arc::clone(self))));
        deliver(done);
        inside.leave();
    }

    /// Drops the slow work of a strand when the pool shuts down.
    pub(crate) fn abandon_slow(&self) {
        let abandoned = self.inbox.lock().abandon_slow();
        // Not under the lock: the closures' own destructors run here.
        drop(abandoned);
    }

    /// Sees to short work that was just pushed.
    fn serve(self: &Arc<Self>, mut inbox: MutexGuard<'_, Inbox<P, W>>, inside: Option<Inside>) {
        let duty = inbox.duty(inside.is_some());
        inbox.check_invariants();
        drop(inbox);
        match (duty, inside) {
            (Duty::Run, Some(inside)) => {
                let armed = AbortOnUnwind::arm();
                self.run(self.claimed_state());
                inside.leave();
                armed.disarm();
            }
            (Duty::Defer, _) => inside::defer(Arc::clone(self) as Arc<dyn Deferred>),
            (Duty::Run, None) | (Duty::Nothing, _) => {}
        }
    }

    /// One run of short work by the holder, who then no longer is.
    fn run(self: &Arc<Self>, mut state: MutexGuard<'_, P>) {
        let mut done = Vec::new();
        let inbox = self.drain(&mut state, &mut done);
        self.release(inbox, state);
        deliver(done);
    }

    /// Steps through queued short work until none is left or the run has had its share; the inbox comes back
    /// locked, so that what follows from that is decided before more arrives.
    fn drain(&self, state: &mut P, done: &mut Vec<Box<dyn Deliver>>) -> MutexGuard<'_, Inbox<P, W>> {
        let mut share = RUN_OPERATIONS;
        loop {
            let mut inbox = self.inbox.lock();
            let Some(mut work) = inbox.pop_short(&mut share) else { return inbox };
            drop(inbox);
            work.step(state);
            done.push(work);
        }
    }

    /// The state goes first: whoever finds the strand idle, or is woken, must find it free.
    fn release(self: &Arc<Self>, mut inbox: MutexGuard<'_, Inbox<P, W>>, state: MutexGuard<'_, P>) {
        drop(state);
        let release = inbox.release();
        inbox.check_invariants();
        drop(inbox);
        match release {
            Release::HandedOver => {
                self.handed_over.notify_one();
            }
            Release::Idle => {}
            Release::Post => {
                if let Err(strand) = self.queue.post_short(Arc::clone(self)) {
                    inside::defer(strand);
                }
            }
        }
    }

    /// Makes a compute thread the holder. If the strand runs, that is the end of a run away, [`RUN_OPERATIONS`]
    /// at most: without this wait, threads that keep a strand busy could keep its slow work off for ever.
    fn wait_for_turn(&self) -> MutexGuard<'_, P> {
        let mut inbox = self.inbox.lock();
        inbox.claim_or_book();
        while inbox.worker_waits() {
            self.handed_over.wait(&mut inbox);
        }
        drop(inbox);
        self.claimed_state()
    }

    fn claimed_state(&self) -> MutexGuard<'_, P> {
        self.state.try_lock().expect("the holder of a strand is alone with its state (I1)")
    }
}

impl<P: Send + 'static, W: 'static> Deferred for Strand<P, W> {
    fn run_posted(self: Arc<Self>) {
        if self.inbox.lock().claim_posted() {
            self.run(self.claimed_state());
        }
    }

    fn hand_to_pool(self: Arc<Self>) {
        let queue = Arc::clone(&self.queue);
        if let Err(strand) = queue.post_short(self) {
            strand.run_posted();
        }
    }
}

impl<P, W> fmt::Debug for Strand<P, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strand").field("depth", &self.inbox.lock().depth()).finish_non_exhaustive()
    }
}

fn deliver(done: Vec<Box<dyn Deliver>>) {
    for work in done {
        work.deliver();
    }
}
