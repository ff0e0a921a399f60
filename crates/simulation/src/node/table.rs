//! [`Table`]: what a member knows of the grid.

use std::collections::BTreeMap;

use wattle_core::control::grid::{Delta, Members, Node, Row};
use wattle_core::ids::{MemberId, NodeId, PartitionId};
use wattle_core::replication::KnownReign;

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) version: u64,
    pub(crate) members: Option<Members>,
    pub(crate) rows: BTreeMap<PartitionId, Row>,
}

impl Table {
    /// Takes over what has changed; returns which partitions have.
    pub(super) fn follow(&mut self, delta: Delta) -> Vec<PartitionId> {
        if delta.version <= self.version {
            return Vec::new();
        }
        self.version = delta.version;
        self.members = delta.members.or(self.members.take());
        let changed = delta.partitions.iter().map(|(partition, _)| *partition).collect();
        self.rows.extend(delta.partitions);
        changed
    }

    pub(super) fn reign(&self, partition: PartitionId) -> KnownReign {
        let assignment = self.rows.get(&partition).map(|row| &row.assignment);
        assignment.map_or_else(KnownReign::default, |assignment| KnownReign {
            epoch: assignment.epoch,
            primary: assignment.primary,
        })
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<&Node> {
        self.members.as_ref()?.nodes.iter().find(|other| other.id() == node)
    }

    /// The machine that a member runs on.
    pub(super) fn machine(&self, member: MemberId) -> Option<usize> {
        machine(self.node(member.node)?)
    }

    pub(super) fn others(&self, me: MemberId) -> Vec<MemberId> {
        let nodes = self.members.iter().flat_map(|members| &members.nodes);
        nodes.map(|node| node.member).filter(|member| *member != me).collect()
    }

    pub(crate) fn min_in_sync(&self, partition: PartitionId) -> Option<usize> {
        let class = self.members.as_ref()?.classes.get(usize::from(partition.class.0))?;
        Some(usize::from(class.min_in_sync))
    }

    pub(super) fn siblings(&self, partition: PartitionId) -> Option<u16> {
        Some(self.members.as_ref()?.classes.get(usize::from(partition.class.0))?.partitions)
    }
}

/// The machine that a node runs on: its address here is that machine's number.
pub(crate) fn machine(node: &Node) -> Option<usize> {
    node.description.peer_address.parse().ok()
}
