//! Which copies of lost partitions members still hold.

use std::cmp::Reverse;

use wattle_core::control::grid::{Grid as Table, Node, Role, Row};
use wattle_core::ids::{Epoch, MemberId, NodeId, PartitionId, ReplicationClass, Version};
use wattle_core::replication::{Mark, Offer};
use wattle_proto::v1;

use super::reports::copies_of;
use crate::failure::Failure;
use crate::grid::Grid;

/// The copies of lost partitions that members have who answer; of all of them if none is named.
pub(super) async fn list(
    grid: &Grid,
    named: &[v1::PartitionName],
) -> Result<v1::ListCopiesResponse, Failure> {
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    let lost = if named.is_empty() { all_lost(table) } else { lost(table, named)? };
    if lost.is_empty() {
        return Ok(v1::ListCopiesResponse::default());
    }
    let names: Vec<_> = lost.iter().map(|(partition, _)| name(*partition)).collect();
    let own = list_here(grid, &names).await?;
    let me = grid.partitions.replication().me();
    let holds = |node: &&Node| node.member != me && node.description.role == Role::Data;
    let others: Vec<&Node> = table.nodes().filter(holds).collect();
    let told = copies_of(table.id(), others.iter().copied(), &names).await;
    let silent = others.iter().map(|node| node.member).filter(|member| !told.contains_key(member));
    let silent = silent.map(|member| member.node.0).collect();
    // Whom the table does not know any more has nothing to go on with.
    let told = told.into_iter().chain([(me, own)]);
    let told: Vec<(MemberId, v1::PartitionCopies)> =
        told.flat_map(|(member, told)| told.partitions.into_iter().map(move |of| (member, of))).collect();
    let partitions = lost.iter().zip(&names).map(|((_, row), name)| {
        let of_this = told.iter().filter(|(_, of)| of.partition.as_ref() == Some(name));
        let copies = of_this.flat_map(|(member, of)| of.copies.iter().map(move |copy| (member, copy)));
        let copies =
            copies.filter(|(member, copy)| whose(copy) == **member && row.is_copy_of(last(copy).epoch));
        let mut copies: Vec<v1::PartitionCopy> = copies.map(|(_, copy)| *copy).collect();
        copies.sort_by_key(|copy| Reverse((last(copy), whose(copy))));
        v1::PartitionCopies { partition: Some(*name), copies }
    });
    Ok(v1::ListCopiesResponse { partitions: partitions.collect(), silent })
}

/// What this node has of partitions.
pub(super) async fn list_here(
    grid: &Grid,
    named: &[v1::PartitionName],
) -> Result<v1::ListCopiesResponse, Failure> {
    let me = grid.partitions.replication().me();
    let mut partitions = Vec::with_capacity(named.len());
    for name in named {
        let offer = match partition_id(name) {
            Some(partition) => grid.partitions.offer(partition).await?,
            None => None,
        };
        let copies = offer.into_iter().map(|offer| copy(me, offer)).collect();
        partitions.push(v1::PartitionCopies { partition: Some(*name), copies });
    }
    Ok(v1::ListCopiesResponse { partitions, silent: Vec::new() })
}

fn all_lost(table: &Table) -> Vec<(PartitionId, &Row)> {
    table.rows().filter(|(_, row)| row.is_lost()).collect()
}

/// The rows of partitions all of which must be lost.
pub(super) fn lost<'a>(
    table: &'a Table,
    named: &[v1::PartitionName],
) -> Result<Vec<(PartitionId, &'a Row)>, Failure> {
    let none = || Failure::Argument { field: "partitions", problem: "there is no such partition" };
    let found = named.iter().map(|name| {
        let partition = partition_id(name).ok_or_else(none)?;
        let row = table.row(partition).ok_or_else(none)?;
        if row.is_lost() { Ok((partition, row)) } else { Err(Failure::NotLost { partition }) }
    });
    found.collect()
}

/// `None` for numbers that no partition can have.
fn partition_id(name: &v1::PartitionName) -> Option<PartitionId> {
    let class = ReplicationClass(u8::try_from(name.class).ok()?);
    Some(PartitionId { class, index: u16::try_from(name.index).ok()? })
}

fn name(partition: PartitionId) -> v1::PartitionName {
    v1::PartitionName { class: partition.class.0.into(), index: partition.index.into() }
}

fn copy(member: MemberId, Offer { last, entries }: Offer) -> v1::PartitionCopy {
    v1::PartitionCopy {
        node: member.node.0,
        incarnation: member.incarnation,
        epoch: Some(v1::Epoch { generation: last.epoch.generation, number: last.epoch.number }),
        position: last.position.0,
        entries,
    }
}

/// Who has a copy.
pub(super) fn whose(copy: &v1::PartitionCopy) -> MemberId {
    MemberId { node: NodeId(copy.node), incarnation: copy.incarnation }
}

/// The last record that a copy has.
pub(super) fn last(copy: &v1::PartitionCopy) -> Mark {
    let v1::Epoch { generation, number } = copy.epoch.unwrap_or_default();
    Mark { epoch: Epoch { generation, number }, position: Version(copy.position) }
}
