//! What can be read of the grid, and what has changed in it since.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::class::ClassOptions;
use super::command::OnFullLoss;
use super::node::{GridId, Node};
use super::row::Row;
use super::state::Grid;
use crate::ids::{MemberId, NodeId, PartitionId, ReplicationClass};
use crate::membership::Presence;
use crate::name::Name;

/// What has changed since a version of the grid: a node that follows the grid replaces what it has by this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The version that one has with it.
    pub version: u64,
    /// If any of it has changed, all of it: there is little, and it seldom changes.
    pub members: Option<Members>,
    /// Partitions that have changed.
    pub partitions: Vec<(PartitionId, Row)>,
}

/// Nodes and classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All classes by their number.
    pub classes: Vec<ClassOptions>,
    /// What happens when no copy of anything is left.
    pub on_full_loss: OnFullLoss,
}

impl Grid {
    /// Which grid it is.
    #[must_use]
    pub fn id(&self) -> GridId {
        self.id
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Of the control group.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The format of this state and of what peers say to each other.
    #[must_use]
    pub fn format(&self) -> u32 {
        self.format
    }

    /// Rises with every change; it is the version of the table that leases name.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Which grid at which version.
    pub(in crate::control) fn moment(&self) -> (GridId, u32, u64) {
        (self.id, self.generation, self.version)
    }

    /// What happens when no copy of anything is left.
    #[must_use]
    pub fn on_full_loss(&self) -> OnFullLoss {
        self.on_full_loss
    }

    /// All nodes by their number.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// A node by its number.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&Node> {
        self.nodes.get(&node)
    }

    /// All classes by their number.
    pub fn classes(&self) -> impl Iterator<Item = (ReplicationClass, &ClassOptions)> {
        (0..).map(ReplicationClass).zip(&self.classes).map(|(number, class)| (number, &class.options))
    }

    /// What the partitions of a class have in common.
    #[must_use]
    pub fn class(&self, class: ReplicationClass) -> Option<&ClassOptions> {
        self.classes.get(usize::from(class.0)).map(|class| &class.options)
    }

    /// All partitions.
    pub fn rows(&self) -> impl Iterator<Item = (PartitionId, &Row)> {
        self.classes().flat_map(|(class, _)| self.rows_of(class))
    }

    /// The partitions of a class.
    pub fn rows_of(&self, class: ReplicationClass) -> impl Iterator<Item = (PartitionId, &Row)> {
        let rows = self.classes.get(usize::from(class.0)).map_or(&[][..], |class| &class.rows);
        (0..).zip(rows).map(move |(index, row)| (PartitionId { class, index }, row.as_ref()))
    }

    /// What is decided about a partition.
    #[must_use]
    pub fn row(&self, partition: PartitionId) -> Option<&Row> {
        let row = self.classes.get(usize::from(partition.class.0))?.rows.get(usize::from(partition.index));
        row.map(Arc::as_ref)
    }

    /// How many partitions need a member still: at none it may leave without harm.
    #[must_use]
    pub fn needs(&self, member: MemberId, presence: &BTreeMap<MemberId, Presence>) -> usize {
        self.rows().filter(|(_, row)| row.needs(member, presence)).count()
    }

    /// What has changed since a version; since 0, everything.
    #[must_use]
    pub fn changes_since(&self, version: u64) -> Delta {
        let members = (self.nodes_changed > version).then(|| Members {
            nodes: self.nodes.values().cloned().collect(),
            classes: self.classes.iter().map(|class| class.options).collect(),
            on_full_loss: self.on_full_loss,
        });
        let changed = self.rows().filter(|(_, row)| row.changed > version);
        let partitions = changed.map(|(partition, row)| (partition, row.clone())).collect();
        Delta { version: self.version, members, partitions }
    }
}
