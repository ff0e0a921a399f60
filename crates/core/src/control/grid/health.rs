//! Which partitions have the copies that they should have.

use std::collections::BTreeSet;

use super::class::ClassOptions;
use super::node::Node;
use super::row::Row;
use super::state::Grid;
use crate::ids::{MemberId, PartitionId};

/// How it is with the copies of a partition; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartitionState {
    /// Nobody has what was acknowledged.
    Lost,
    /// Some member that should hold it does not yet, or there are too few, or nobody decides about it for the moment.
    UnderReplicated,
    /// Nobody was told to hold it so far.
    NotBegun,
    /// It has as many copies as there should be, or as there are nodes to hold them.
    Ok,
}

impl PartitionState {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Lost, Self::UnderReplicated, Self::NotBegun, Self::Ok];
}

impl Grid {
    /// All partitions, and how it is with each.
    pub fn health(&self) -> impl Iterator<Item = (PartitionId, &Row, PartitionState)> {
        let nodes = self.nodes().filter(|node| Node::takes_partitions(node)).count();
        self.classes().flat_map(move |(number, class)| {
            self.rows_of(number).map(move |(partition, row)| (partition, row, state(row, class, nodes)))
        })
    }

    /// How many partitions are in a state.
    #[must_use]
    pub fn partitions_in(&self, state: PartitionState) -> usize {
        self.health().filter(|(_, _, found)| *found == state).count()
    }
}

impl Row {
    /// Whether some hold it, and all of them are silent. Its state is told without knowing who answers.
    #[must_use]
    pub fn is_unreachable(&self, answering: &BTreeSet<MemberId>) -> bool {
        let holders = &self.assignment.in_sync;
        !holders.is_empty() && holders.is_disjoint(answering)
    }
}

fn state(row: &Row, class: &ClassOptions, nodes: usize) -> PartitionState {
    if row.began.is_none() {
        PartitionState::NotBegun
    } else if row.is_lost() {
        PartitionState::Lost
    } else if row.assignment.primary.is_none()
        || !row.is_complete()
        || row.assignment.in_sync.len() < class.copies().min(nodes)
    {
        PartitionState::UnderReplicated
    } else {
        PartitionState::Ok
    }
}
