//! [`Sessions`]: whom this node has heard of, if it leads.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;
use wattle_core::control::grid::Grid;
use wattle_core::ids::MemberId;
use wattle_core::membership::{self, Look, Presence};
use wattle_core::replication::LocalTime;

use crate::grid_clock::GridClock;

/// The sessions of a leader, in its term.
#[derive(Debug)]
pub(crate) struct Sessions {
    clock: GridClock,
    /// `None` while this node does not lead. Held to look or to note something.
    sessions: Mutex<Option<membership::Sessions>>,
    /// Somebody's presence is another.
    changed: Notify,
}

impl Sessions {
    pub(crate) fn new(clock: &GridClock) -> Self {
        Self { clock: clock.clone(), sessions: Mutex::default(), changed: Notify::new() }
    }

    /// This node begins to lead.
    pub(super) fn begin(&self, me: MemberId, grid: &Grid) {
        let sessions = membership::Sessions::new(me, self.clock.local(), members(grid));
        *self.sessions.lock() = Some(sessions);
    }

    /// It does not lead any more.
    pub(super) fn end(&self) {
        *self.sessions.lock() = None;
    }

    /// A member says that it lives.
    pub(crate) fn heard(&self, member: MemberId) {
        self.note(|sessions, clock| sessions.heard(clock.local(), member));
    }

    /// Nobody listens where a member was.
    pub(crate) fn refused(&self, member: MemberId) {
        self.note(|sessions, _| sessions.refused(member));
    }

    fn note(&self, note: impl FnOnce(&mut membership::Sessions, &GridClock) -> bool) {
        let changed = self.sessions.lock().as_mut().is_some_and(|sessions| note(sessions, &self.clock));
        if changed {
            self.changed.notify_one();
        }
    }

    /// Looks who is silent now, of the members that there are.
    pub(super) fn look(&self, grid: &Grid) -> Option<(LocalTime, Look, BTreeMap<MemberId, Presence>)> {
        let mut sessions = self.sessions.lock();
        let sessions = sessions.as_mut()?;
        let now = self.clock.local();
        sessions.follow(now, members(grid));
        let look = sessions.look(now);
        Some((now, look, sessions.presences()))
    }

    /// Who lives, as far as it has said so to this leader.
    pub(super) fn proven(&self) -> Option<BTreeMap<MemberId, Presence>> {
        self.sessions.lock().as_ref().map(membership::Sessions::proven)
    }

    /// Whether nobody is waited for who may live and was not heard by this leader yet.
    pub(super) fn have_settled(&self) -> bool {
        self.sessions.lock().as_ref().is_some_and(membership::Sessions::have_settled)
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn members(grid: &Grid) -> impl Iterator<Item = MemberId> {
    grid.nodes().map(|node| node.member)
}
