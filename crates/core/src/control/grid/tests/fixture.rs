//! Grids to test with.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::ids::{MemberId, NodeId, PartitionId, ReplicationClass};
use crate::membership::Presence;
use crate::name::Name;
use crate::replication::{Change, Proposal};

pub(super) const ID: GridId = GridId([7; 16]);

pub(super) fn description(host: u64) -> NodeDescription {
    NodeDescription {
        peer_address: format!("10.0.0.{host}:7118"),
        client_address: format!("10.0.0.{host}:7117"),
        zone: None,
        host: format!("host-{host}"),
        version: "0.1.0".into(),
        formats: Formats { oldest: 1, newest: 1 },
        role: Role::Data,
        prepares: false,
        in_memory: false,
    }
}

pub(super) fn joining(nonce: u8) -> Joining {
    Joining {
        grid: ID,
        nonce: JoinNonce([nonce; 16]),
        known: None,
        description: description(u64::from(nonce)),
    }
}

pub(in crate::control) fn new_grid(partitions: u16) -> NewGrid {
    NewGrid {
        name: Name::new("test").unwrap(),
        format: 1,
        partitions,
        on_full_loss: OnFullLoss::StartEmpty,
        founder: joining(1),
    }
}

/// With one node.
pub(super) fn grid(partitions: u16) -> Grid {
    let (grid, founder) = Grid::new(&new_grid(partitions)).unwrap();
    assert_eq!(founder, member(1, 1));
    grid
}

/// With nodes 1 to `nodes`, all of which are alive.
pub(super) fn grid_of(nodes: u8, partitions: u16) -> Grid {
    let mut grid = grid(partitions);
    (2..=nodes).for_each(|nonce| assert_eq!(join(&mut grid, joining(nonce)), Ok(member(nonce.into(), 1))));
    grid
}

pub(super) fn join(grid: &mut Grid, joining: Joining) -> Result<MemberId, GridRefusal> {
    match grid.apply(&GridCommand::Join(Box::new(joining)))? {
        GridApplied::Joined { member, .. } => Ok(member),
        other => panic!("{other:?}"),
    }
}

pub(in crate::control) fn member(node: u64, incarnation: u64) -> MemberId {
    MemberId { node: NodeId(node), incarnation }
}

pub(super) fn members(nodes: &[u64]) -> BTreeSet<MemberId> {
    nodes.iter().map(|node| member(*node, 1)).collect()
}

/// Of the first class.
pub(super) fn partition(index: u16) -> PartitionId {
    PartitionId { class: ReplicationClass(0), index }
}

pub(super) fn presence(grid: &Grid, presence: Presence) -> BTreeMap<MemberId, Presence> {
    grid.nodes().map(|node| (node.member, presence)).collect()
}

/// Decides one thing about partition 0, on the version that it has.
pub(super) fn decide(grid: &mut Grid, order: Order) -> Result<(), DecisionError> {
    let version = grid.row(partition(0)).unwrap().assignment.version;
    decide_on(grid, version, order)
}

pub(super) fn decide_on(grid: &mut Grid, version: u64, order: Order) -> Result<(), DecisionError> {
    let before = grid.clone();
    let decisions = vec![Decision { partition: partition(0), version, order }];
    match grid.apply(&GridCommand::Decide { decisions }) {
        Ok(GridApplied::Decided { refused, partitions }) if refused.is_empty() => {
            assert_eq!(partitions, [partition(0)]);
            assert!(grid.version > before.version);
            Ok(())
        }
        Ok(GridApplied::Decided { refused, partitions }) => {
            assert_eq!((partitions.len(), &before == grid), (0, true), "a refusal changes nothing");
            Err(refused[0].1)
        }
        other => panic!("{other:?}"),
    }
}

/// Partition 0 begins on node 1, and is wanted there and on others.
pub(super) fn begin(grid: &mut Grid, wanted: &[u64]) {
    let order = Order::Begin { wanted: members(wanted), primary: member(1, 1) };
    assert_eq!(decide(grid, order), Ok(()));
}

pub(super) fn propose(grid: &mut Grid, change: Change) -> Result<GridApplied, GridRefusal> {
    let assignment = &grid.row(partition(0)).unwrap().assignment;
    let proposal = Proposal { by: assignment.primary.unwrap(), version: assignment.version, change };
    grid.apply(&GridCommand::Propose { partition: partition(0), proposal })
}

pub(super) fn add(grid: &mut Grid, member: MemberId) {
    let added = propose(grid, Change { add: Some(member), ..Change::default() });
    assert_eq!(added, Ok(GridApplied::Partitions(vec![partition(0)])));
}
