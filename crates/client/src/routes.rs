//! [`Routes`]: which member decides about which key, as the grid last said, and the connections to members. A hint: whoever is asked
//! sends a call on that is not for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::Notify;
use tonic::transport::Channel;
use wattle_proto::v1;

use crate::placement::partition_of;

/// Of two tables of a grid the newer one is the greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableVersion {
    generation: u32,
    version: u64,
}

/// A member, and the connections to it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: u64,
    pub(crate) incarnation: u64,
    /// HOST:PORT
    pub(crate) address: String,
    /// None while it is not known to answer at its address. A leaf, held to take one or to exchange them.
    connected: RwLock<Vec<Channel>>,
    turn: AtomicUsize,
    wanted: Notify,
    /// Those of the routes.
    changes: Arc<AtomicU64>,
}

impl Member {
    /// A connection; if there is none, one is wanted.
    pub(crate) fn channel(&self) -> Option<Channel> {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let channel = turn.checked_rem(connected.len()).map(|place| connected[place].clone());
        if channel.is_none() {
            self.wanted.notify_one();
        }
        channel
    }

    /// Whether there is a connection; if there is none, one is wanted.
    pub(crate) fn is_connected(&self) -> bool {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        if connected.is_empty() {
            self.wanted.notify_one();
        }
        !connected.is_empty()
    }

    /// Waits until somebody wants a connection.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// These are the connections from now on.
    pub(crate) fn connect(&self, channels: Vec<Channel>) {
        *self.connected.write().unwrap_or_else(PoisonError::into_inner) = channels;
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// What a grid has said.
#[derive(Debug, Default)]
pub(crate) struct Table {
    grid_id: Bytes,
    version: TableVersion,
    members: Vec<Arc<Member>>,
    /// By class and partition.
    primaries: HashMap<u32, Vec<Option<Arc<Member>>>>,
    /// The classes of maps that do not belong to class 0.
    classes: HashMap<String, u32>,
}

/// The members that decide about the partitions of a map, by their index; `None` is nobody who is known.
pub(crate) type Primaries = [Option<Arc<Member>>];

impl Table {
    /// Whether calls may go straight to members: who is alone answers at any address that was given.
    pub(crate) fn has_ways(&self) -> bool {
        self.members.len() > 1
    }

    /// Who decides about the partitions of a map; none, if that is not known.
    pub(crate) fn primaries(&self, map: &str) -> &Primaries {
        let class = self.classes.get(map).copied().unwrap_or_default();
        self.primaries.get(&class).filter(|_| self.has_ways()).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, member: &Arc<Member>) -> bool {
        self.members.iter().any(|other| Arc::ptr_eq(other, member))
    }
}

/// Who decides about a key.
pub(crate) fn owner<'p>(primaries: &'p Primaries, key: &[u8]) -> Option<&'p Arc<Member>> {
    if primaries.is_empty() {
        return None;
    }
    primaries[partition_of(key, primaries.len())?].as_ref()
}

/// Where calls go.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// A leaf, held to look something up or to exchange it.
    table: RwLock<Arc<Table>>,
    turn: AtomicUsize,
    /// Somebody calls the grid.
    used: Notify,
    changes: Arc<AtomicU64>,
}

impl Routes {
    /// What the grid has said last.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rises behind every change of the table, and of who is connected.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The way to the member that decides about a key of a map, if it is known and connected. By which table is said with it.
    pub(crate) fn to(&self, (map, key): (&str, &[u8])) -> Option<(Channel, TableVersion)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let member = owner(table.primaries(map), key)?;
        Some((member.channel()?, table.version))
    }

    /// The way to any member that is connected, in turn; those on the way to it that are not are wanted.
    pub(crate) fn anywhere(&self) -> Option<Channel> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let first = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(table.members.len())?;
        let in_turn = table.members.iter().cycle().skip(first).take(table.members.len());
        in_turn.into_iter().find_map(|member| member.channel())
    }

    pub(crate) fn use_now(&self) {
        self.used.notify_one();
    }

    /// Waits until somebody calls the grid.
    pub(crate) async fn used(&self) {
        self.used.notified().await;
    }

    /// Whether a table says something new: it is of another grid, or newer, or says something else of maps.
    pub(crate) fn is_news(&self, told: &v1::WatchTableResponse) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.grid_id != told.grid_id
            || table.version < version(told)
            || (table.version == version(told) && table.classes != classes(&told.maps))
    }

    /// Takes a table; its members are those that were there before, as far as they are the same.
    pub(crate) fn take(&self, told: v1::WatchTableResponse) -> Vec<Arc<Member>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let before: &[_] = if table.grid_id == told.grid_id { &table.members } else { &[] };
        let version = version(&told);
        let members: Vec<Arc<Member>> =
            told.members.into_iter().map(|member| known(before, member, &self.changes)).collect();
        let by_node: HashMap<u64, &Arc<Member>> =
            members.iter().map(|member| (member.node, member)).collect();
        let primary = |node: &u64| by_node.get(node).map(|&member| Arc::clone(member));
        let by_class =
            |class: v1::ClassTable| (class.class, class.primaries.iter().map(primary).collect::<Vec<_>>());
        let primaries = told.classes.into_iter().map(by_class).collect();
        let classes = classes(&told.maps);
        let grid_id = told.grid_id;
        *table = Arc::new(Table { grid_id, version, members: members.clone(), primaries, classes });
        self.changes.fetch_add(1, Ordering::Release);
        members
    }
}

fn classes(maps: &[v1::MapClass]) -> HashMap<String, u32> {
    maps.iter().map(|map| (map.map.clone(), map.class)).collect()
}

fn version(told: &v1::WatchTableResponse) -> TableVersion {
    TableVersion { generation: told.generation, version: told.version }
}

fn known(before: &[Arc<Member>], told: v1::MemberAddress, changes: &Arc<AtomicU64>) -> Arc<Member> {
    let v1::MemberAddress { node, incarnation, address } = told;
    let is_same = |member: &&Arc<Member>| {
        (member.node, member.incarnation, &member.address) == (node, incarnation, &address)
    };
    before.iter().find(is_same).cloned().unwrap_or_else(|| {
        let (connected, turn, wanted) = Default::default();
        let changes = Arc::clone(changes);
        Arc::new(Member { node, incarnation, address, connected, turn, wanted, changes })
    })
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    fn table(grid: &'static str, version: u64, nodes: &[u64]) -> v1::WatchTableResponse {
        let member =
            |&node: &u64| v1::MemberAddress { node, incarnation: 1, address: format!("host-{node}:1") };
        v1::WatchTableResponse {
            grid_id: Bytes::from_static(grid.as_bytes()),
            generation: 1,
            version,
            members: nodes.iter().map(member).collect(),
            classes: vec![v1::ClassTable { class: 0, primaries: vec![nodes[0]] }],
            ..Default::default()
        }
    }

    fn channel() -> Channel {
        Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
    }

    #[test]
    fn only_a_newer_table_or_one_of_another_grid_is_news() {
        let routes = Routes::default();
        routes.take(table("g", 5, &[1, 2]));
        for (grid, version, expected) in [("g", 4, false), ("g", 5, false), ("g", 6, true), ("h", 1, true)] {
            assert_eq!(routes.is_news(&table(grid, version, &[1, 2])), expected, "{grid} {version}");
        }
        let rebuilt = v1::WatchTableResponse { generation: 2, ..table("g", 1, &[1, 2]) };
        assert!(routes.is_news(&rebuilt));
    }

    #[tokio::test]
    async fn calls_go_straight_to_a_member_while_it_is_connected() {
        let routes = Routes::default();
        let members = routes.take(table("g", 5, &[1, 2]));
        assert!(routes.to(("m", b"k")).is_none(), "nobody is connected");
        // Which was what wants it to be.
        members[0].wanted().await;
        members[0].connect(vec![channel()]);
        assert_eq!(routes.to(("m", b"k")).map(|(_, table)| table.version), Some(5));
        // It is the same member in the next table.
        routes.take(table("g", 6, &[1, 2, 3]));
        assert_eq!(routes.to(("m", b"k")).map(|(_, table)| table.version), Some(6));
        members[0].connect(Vec::new());
        assert!(routes.to(("m", b"k")).is_none() && routes.anywhere().is_none());
    }

    #[tokio::test]
    async fn maps_of_another_class_lie_elsewhere() {
        let routes = Routes::default();
        let mut told = table("g", 5, &[1, 2]);
        told.classes.push(v1::ClassTable { class: 1, primaries: vec![2] });
        let members = routes.take(told.clone());
        members[1].connect(vec![channel()]);
        assert!(routes.to(("m", b"k")).is_none(), "that is the first member's");
        told.maps = vec![v1::MapClass { map: "m".to_owned(), class: 1 }];
        assert!(routes.is_news(&told));
        routes.take(told.clone());
        assert!(!routes.is_news(&told));
        assert!(routes.to(("m", b"k")).is_some() && routes.to(("n", b"k")).is_none());
    }

    #[tokio::test]
    async fn a_member_of_another_grid_is_another_member() {
        let routes = Routes::default();
        for member in routes.take(table("g", 5, &[1, 2])) {
            member.connect(vec![channel()]);
        }
        routes.take(table("h", 5, &[1, 2]));
        assert!(routes.to(("m", b"k")).is_none());
    }

    #[tokio::test]
    async fn who_is_alone_is_asked_at_the_endpoints() {
        let routes = Routes::default();
        for member in routes.take(table("g", 5, &[1])) {
            member.connect(vec![channel()]);
        }
        assert!(routes.to(("m", b"k")).is_none());
    }
}
