//! What all links of a node share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::PEER_HELLOS;

use crate::counters::Counters;
use crate::directory::Directory;
use crate::identity::{Identity, Purpose};
use crate::reigns::Reigns;

#[derive(Debug)]
pub(crate) struct Shared<H> {
    /// Held to read or to replace it.
    pub(crate) identity: RwLock<Identity>,
    pub(crate) handler: H,
    pub(crate) directory: watch::Sender<Directory>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) reigns: Arc<Reigns>,
    pub(crate) hellos: Hellos,
    pub(crate) sessions: Sessions,
    /// Who is no member and is answered has one.
    pub(crate) strangers: Semaphore,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl<H> Shared<H> {
    pub(crate) fn identity(&self) -> Identity {
        self.identity.read().clone()
    }
}

/// Places for links that others are opening. Who takes one when there is none left takes that of who has held one for longest: so
/// strangers that begin and go no further keep nobody out. The mutex is held to put one in or take it out.
#[derive(Debug, Default)]
pub(crate) struct Hellos(Mutex<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    displaced: BTreeMap<u64, CancellationToken>,
}

/// A place for a link that is being opened.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    hellos: &'a Hellos,
    number: u64,
    displaced: CancellationToken,
}

impl Hellos {
    pub(crate) fn begin(&self) -> Place<'_> {
        let displaced = CancellationToken::new();
        let mut under_way = self.0.lock();
        if under_way.displaced.len() >= PEER_HELLOS
            && let Some((_, oldest)) = under_way.displaced.pop_first()
        {
            oldest.cancel();
        }
        let number = under_way.next;
        under_way.next += 1;
        under_way.displaced.insert(number, displaced.clone());
        Place { hellos: self, number, displaced }
    }
}

impl Place<'_> {
    /// Waits until another takes the place.
    pub(crate) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hellos.0.lock().displaced.remove(&self.number);
    }
}

/// The links that others have open: one of each node for each purpose, so that who comes back does not wait until it was noticed that
/// its old connection is dead. The mutex is held to put one in or take it out, and never across an await.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<(NodeId, Purpose), Newest>>);

/// The newest link of a node.
#[derive(Debug, Clone)]
struct Newest {
    incarnation: u64,
    replaced: CancellationToken,
    /// Of all links of the node, held by the one that is served: nothing of an older link is heard behind a newer one.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A link that another has open, as long as it is.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    sessions: &'a Sessions,
    of: (NodeId, Purpose),
    link: Newest,
}

/// It is this link's turn, as long as this is held.
pub(crate) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

impl Sessions {
    /// Takes the place of an older link; `None` if there is one of a later life of the node.
    pub(crate) fn begin(&self, from: MemberId, purpose: Purpose) -> Option<Session<'_>> {
        let of = (from.node, purpose);
        let mut sessions = self.0.lock();
        let turn = match sessions.get(&of) {
            Some(other) if other.incarnation > from.incarnation => return None,
            Some(older) => {
                older.replaced.cancel();
                Arc::clone(&older.turn)
            }
            None => Arc::default(),
        };
        let link = Newest { incarnation: from.incarnation, replaced: CancellationToken::new(), turn };
        sessions.insert(of, link.clone());
        Some(Session { sessions: self, of, link })
    }

    /// Nodes and purposes with a link.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Session<'_> {
    /// Waits until no older link is served any more.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.link.turn.lock().await
    }

    /// Waits for a newer link.
    pub(crate) async fn replaced(&self) {
        self.link.replaced.cancelled().await;
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock();
        // The last one out: who was replaced may be here still when the one that replaced it is gone.
        if Arc::strong_count(&self.link.turn) == 2 {
            sessions.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn member(incarnation: u64) -> MemberId {
        MemberId { node: NodeId(1), incarnation }
    }

    #[test]
    fn who_has_held_a_place_for_longest_loses_it() {
        let hellos = Hellos::default();
        let mut places: Vec<_> = (0..PEER_HELLOS).map(|_| hellos.begin()).collect();
        assert!(places.iter().all(|place| !place.displaced.is_cancelled()));
        places.swap_remove(7);
        places.push(hellos.begin());
        assert!(places.iter().all(|place| !place.displaced.is_cancelled()), "one had become free");
        places.push(hellos.begin());
        let displaced = places.iter().filter(|place| place.displaced.is_cancelled());
        assert_eq!(displaced.map(|place| place.number).collect::<Vec<_>>(), [0]);
        drop(places);
        assert_eq!(hellos.0.lock().displaced.len(), 0);
    }

    #[test]
    fn an_older_link_ends_before_a_newer_one_is_served() {
        let sessions = Sessions::default();
        let first = sessions.begin(member(1), Purpose::Calls).unwrap();
        let turn = first.turn().now_or_never().unwrap();
        let second = sessions.begin(member(2), Purpose::Calls).unwrap();
        assert_eq!(first.replaced().now_or_never(), Some(()));
        assert!(second.turn().now_or_never().is_none());
        // Gone before its turn came: the next one waits for the first all the same.
        drop(second);
        let third = sessions.begin(member(2), Purpose::Calls).unwrap();
        assert!(third.turn().now_or_never().is_none());
        drop(turn);
        drop(first);
        assert!(third.turn().now_or_never().is_some());
        assert_eq!(third.replaced().now_or_never(), None);
        drop(third);
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn an_earlier_life_does_not_take_the_place_of_a_later_one() {
        let sessions = Sessions::default();
        let later = sessions.begin(member(2), Purpose::Calls).unwrap();
        assert!(sessions.begin(member(1), Purpose::Calls).is_none());
        assert_eq!(later.replaced().now_or_never(), None);
        let other = sessions.begin(member(1), Purpose::Replication).unwrap();
        assert_eq!((other.replaced().now_or_never(), sessions.len()), (None, 2));
    }
}
