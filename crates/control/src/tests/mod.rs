//! Voters in one process, on a network and on disks that fail when a test wants it to. Time is paused: it passes when nobody works.

mod bad_input;
mod change;
mod disks;
mod elections;
mod faulty_disk;
mod groups;
mod network;
mod once;
mod rebuild;
mod size;
mod snapshot;
mod stores;
mod wire;

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::task::JoinSet;
use wattle_core::control as catalog;
use wattle_core::control::grid::{
    Formats, GridId, JoinNonce, Joining, NewGrid, NodeDescription, OnFullLoss, Role as NodeRole,
};
use wattle_core::ids::NodeId;
use wattle_core::map::MapOptions;
use wattle_core::name::Name;

use crate::*;
use faulty_disk::FaultyDisk;
use network::TestNetwork;

pub(crate) const GROUP: GroupId = GroupId::first(0xfeed);

pub(crate) fn voter(node: u64) -> VoterId {
    VoterId { node: NodeId(node), incarnation: 1 }
}

pub(crate) fn joining(nonce: u128) -> Joining {
    let description = NodeDescription {
        peer_address: "10.0.0.1:7118".into(),
        client_address: "10.0.0.1:7117".into(),
        zone: Some("a".into()),
        host: "host-1".into(),
        version: "0.1.0".into(),
        formats: Formats { oldest: 1, newest: 1 },
        role: NodeRole::Data,
        prepares: false,
        in_memory: false,
    };
    let grid = GridId(GROUP.grid.to_be_bytes());
    Joining { grid, nonce: JoinNonce(nonce.to_be_bytes()), known: None, description }
}

/// A new grid of one node.
pub(crate) fn grid_of(partitions: u16) -> State {
    let (name, on_full_loss) = (Name::new("test").unwrap(), OnFullLoss::StartEmpty);
    let new = NewGrid { name, format: 1, partitions, on_full_loss, founder: joining(1) };
    let mut state = State::default();
    state.apply(&Command::Create(Box::new(new))).unwrap();
    state
}

/// What groups begin with.
pub(crate) fn first() -> State {
    grid_of(3)
}

pub(crate) fn create(map: impl AsRef<str>) -> Command {
    let name = Name::new(map.as_ref()).unwrap();
    Command::Catalog(catalog::Command::CreateMap { name, options: MapOptions::default() })
}

/// Whether no map was made because there is one of that name.
pub(crate) fn is_taken(proposed: &Result<Applied, ProposeError>) -> bool {
    matches!(proposed, Err(ProposeError::Refused(Refusal::Catalog(catalog::Refusal::MapExists { .. }))))
}

/// It is refused when it is decided.
pub(crate) fn large_command(bytes: usize) -> Command {
    let (name, because) = (Name::new("f").unwrap(), "x".repeat(bytes));
    Command::Catalog(catalog::Command::Suspend { name, version: 1, because })
}

pub(crate) fn maps(state: &State) -> Vec<String> {
    state.catalog().maps().map(|map| map.name.to_string()).collect()
}

pub(crate) fn options(voter: VoterId, storage: Storage) -> Options {
    Options {
        identity: Identity { group: GROUP, voter },
        storage,
        timing: Timing::default(),
        observer: Box::new(|_, _| {}),
    }
}

/// Versions and changes.
pub(crate) type Told = Vec<(u64, Change)>;

/// An observer, and what it was told.
pub(crate) fn recorder() -> (Observer, Arc<Mutex<Told>>) {
    let record = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&record);
    (Box::new(move |decided, change| told.lock().push((decided.version.0, change))), record)
}

pub(crate) async fn start(network: &TestNetwork, voter: VoterId, storage: Storage) -> Arc<ControlGroup> {
    let group = ControlGroup::start(options(voter, storage), network.of(voter.node)).await.unwrap();
    network.add(voter.node, group)
}

/// Nodes from 1, all of them voters, in memory.
pub(crate) async fn voters(network: &TestNetwork, count: u64) -> Vec<Arc<ControlGroup>> {
    let mut groups = Vec::new();
    for node in 1..=count {
        groups.push(start(network, voter(node), Storage::Memory).await);
    }
    groups[0].create(first()).await.unwrap();
    if count > 1 {
        groups[0].change_voters(&(1..=count).map(voter).collect()).await.unwrap();
    }
    groups
}

/// The leader that a majority of these agrees on and that leads.
pub(crate) async fn leader(groups: &[Arc<ControlGroup>]) -> Arc<ControlGroup> {
    within(Duration::from_secs(20), async {
        loop {
            let mut elected: JoinSet<_> = groups.iter().cloned().map(until_it_leads).collect();
            elected.join_next().await;
            for group in groups {
                if group.status().role == Role::Leader && group.confirm_leadership().await.is_ok() {
                    return Arc::clone(group);
                }
            }
        }
    })
    .await
}

async fn until_it_leads(group: Arc<ControlGroup>) {
    if group.until(|status| status.role == Role::Leader).await.is_none() {
        // It never will.
        std::future::pending().await
    }
}

/// Proposes until it is decided, wherever the leader is.
pub(crate) async fn decide(
    groups: &[Arc<ControlGroup>],
    proposal: &Proposal,
) -> Result<Applied, ProposeError> {
    within(Duration::from_secs(60), async {
        loop {
            let leader = leader(groups).await;
            let decided =
                tokio::time::timeout(Duration::from_secs(2), leader.propose(proposal.clone())).await;
            match decided {
                Ok(Err(ProposeError::NotLeader { .. } | ProposeError::Busy | ProposeError::Ended))
                | Err(_) => {}
                Ok(decided) => return decided,
            }
        }
    })
    .await
}

pub(crate) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(time, future).await.expect("it takes too long")
}

/// Waits until all have the same version, which is at least this one, and checks that they have the same state.
pub(crate) async fn assert_same(groups: &[Arc<ControlGroup>], at_least: u64) {
    for group in groups {
        let arrived = group.until(|_| group.decided().version.0 >= at_least);
        within(Duration::from_secs(30), arrived).await.unwrap();
    }
    for group in groups {
        assert_eq!(group.decided(), groups[0].decided());
    }
}

pub(crate) fn on(disk: &FaultyDisk) -> Storage {
    Storage::Disk(Box::new(disk.open().unwrap()))
}

pub(crate) fn somewhere() -> &'static Path {
    Path::new("test")
}
