//! What the current thread is inside of: the marker that keeps strands from nesting (I3), and the strands it
//! runs once it is out again.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    marker::PhantomData,
    sync::Arc,
};

use crate::DEFERRED_STRANDS;

type Strands = RefCell<VecDeque<Arc<dyn Deferred>>>;

#[cfg(not(wattle_loom))]
thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static DEFERRED: Strands = const { RefCell::new(VecDeque::new()) };
}

#[cfg(wattle_loom)]
loom::thread_local! {
    static INSIDE: Cell<bool> = Cell::new(false);
    static DEFERRED: Strands = RefCell::new(VecDeque::new());
}

/// A strand with short work that was submitted from inside another one.
pub(crate) trait Deferred: Send + Sync {
    fn run_posted(self: Arc<Self>);
    fn hand_to_pool(self: Arc<Self>);
}

/// Leaves a strand, marked as posted, to this thread. Each strand is at most once on all lists, so they are
/// bounded by the number of strands.
pub(crate) fn defer(strand: Arc<dyn Deferred>) {
    DEFERRED.with(|deferred| deferred.borrow_mut().push_back(strand));
}

/// The current thread is inside a strand while this lives.
pub(crate) struct Inside {
    of_this_thread: PhantomData<*const ()>,
}

impl Inside {
    /// None if it is inside one already.
    pub(crate) fn enter() -> Option<Self> {
        let nested = INSIDE.with(|inside| inside.replace(true));
        if nested { None } else { Some(Self { of_this_thread: PhantomData }) }
    }

    /// Runs what was deferred meanwhile, itself still counting as inside.
    pub(crate) fn leave(self) {
        for _ in 0..DEFERRED_STRANDS {
            let Some(strand) = next_deferred() else { return };
            strand.run_posted();
        }
        while let Some(strand) = next_deferred() {
            strand.hand_to_pool();
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.set(false));
    }
}

fn next_deferred() -> Option<Arc<dyn Deferred>> {
    DEFERRED.with(|deferred| deferred.borrow_mut().pop_front())
}

/// Ends the process when work unwinds: the state may be half changed, and nobody may go on with it.
pub(crate) struct AbortOnUnwind(());

impl AbortOnUnwind {
    pub(crate) fn arm() -> Self {
        Self(())
    }

    pub(crate) fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        // A model reports its own panics.
        if cfg!(not(wattle_loom)) {
            std::process::abort();
        }
    }
}
