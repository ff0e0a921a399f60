//! How it is with partitions, as people and programs are told.

use std::collections::BTreeSet;

use wattle_core::control::grid::{Grid, PartitionState, Row};
use wattle_core::ids::{MemberId, PartitionId};
use wattle_proto::v1;

/// How many partitions are in each state.
pub(super) fn counts(grid: &Grid, answering: &BTreeSet<MemberId>) -> v1::PartitionCounts {
    let mut counts = v1::PartitionCounts::default();
    for (_, row, told) in grid.health() {
        *match state(row, told, answering) {
            v1::PartitionState::Ok => &mut counts.ok,
            v1::PartitionState::UnderReplicated => &mut counts.under_replicated,
            v1::PartitionState::Lost => &mut counts.lost,
            v1::PartitionState::NotBegun => &mut counts.not_begun,
            v1::PartitionState::Unreachable => &mut counts.unreachable,
            v1::PartitionState::Unspecified => continue,
        } += 1;
    }
    counts
}

/// All partitions.
pub(super) fn list(grid: &Grid, answering: &BTreeSet<MemberId>) -> Vec<v1::Partition> {
    let listed = |(partition, row, told)| listed((partition, row), state(row, told, answering));
    grid.health().map(listed).collect()
}

/// What the table says of a row, unless nobody is there who holds the partition.
fn state(row: &Row, told: PartitionState, answering: &BTreeSet<MemberId>) -> v1::PartitionState {
    match told {
        PartitionState::Lost => v1::PartitionState::Lost,
        PartitionState::NotBegun => v1::PartitionState::NotBegun,
        PartitionState::Ok | PartitionState::UnderReplicated if row.is_unreachable(answering) => {
            v1::PartitionState::Unreachable
        }
        PartitionState::Ok => v1::PartitionState::Ok,
        PartitionState::UnderReplicated => v1::PartitionState::UnderReplicated,
    }
}

fn listed((partition, row): (PartitionId, &Row), state: v1::PartitionState) -> v1::Partition {
    let assignment = &row.assignment;
    let node = |member: &MemberId| member.node.0;
    v1::Partition {
        class: partition.class.0.into(),
        index: partition.index.into(),
        primary: assignment.primary.as_ref().map(node),
        in_sync: assignment.in_sync.iter().map(node).collect(),
        wanted: assignment.wanted.iter().map(node).collect(),
        epoch: Some(v1::Epoch { generation: assignment.epoch.generation, number: assignment.epoch.number }),
        state: state.into(),
    }
}
