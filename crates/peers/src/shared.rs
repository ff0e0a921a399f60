//! What all links of a node share.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wattle_core::ids::MemberId;

use crate::counters::Counters;
use crate::directory::Directory;
use crate::identity::{Identity, Purpose};

#[derive(Debug)]
pub(crate) struct Shared<H> {
    pub(crate) identity: Identity,
    pub(crate) handler: H,
    pub(crate) directory: watch::Sender<Directory>,
    pub(crate) counters: Arc<Counters>,
    /// Places for links that others are opening.
    pub(crate) hellos: Arc<Semaphore>,
    pub(crate) sessions: Sessions,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// The links that others have open: one of each member for each purpose, so that who comes back does not wait until it was noticed that
/// its old connection is dead. The mutex is held to put one in or take it out, and never across an await.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<(MemberId, Purpose), CancellationToken>>);

/// A link that another has open, as long as it is.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    sessions: &'a Sessions,
    of: (MemberId, Purpose),
    replaced: CancellationToken,
}

impl Sessions {
    /// Takes the place of an older link.
    pub(crate) fn begin(&self, of: (MemberId, Purpose)) -> Session<'_> {
        let replaced = CancellationToken::new();
        if let Some(older) = self.0.lock().insert(of, replaced.clone()) {
            older.cancel();
        }
        Session { sessions: self, of, replaced }
    }
}

impl Session<'_> {
    /// Waits for a newer link.
    pub(crate) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock();
        // Who was replaced has no place any more.
        if !self.replaced.is_cancelled() {
            sessions.remove(&self.of);
        }
    }
}
