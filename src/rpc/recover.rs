//! Lost partitions begin anew, because people say so.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::{self, GridCommand, Node, Recovery, Row};
use wattle_core::ids::{MemberId, PartitionId, ReplicationClass};
use wattle_core::limits::COPY_PROPOSALS_AT_ONCE;
use wattle_proto::v1;

use super::reports::reports_of;
use crate::failure::Failure;
use crate::grid::Grid;

/// Has lost partitions go on empty, each on a node that answers.
pub(super) async fn recover_lost(grid: &Grid, named: &[v1::PartitionName]) -> Result<(), Failure> {
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    let lost: Vec<(PartitionId, &Row)> =
        named.iter().map(|name| lost(table, name)).collect::<Result<_, _>>()?;
    let holders = holders(grid, table).await;
    if holders.is_empty() {
        return Err(Failure::NoHolder);
    }
    let commands = lost.iter().enumerate().map(|(place, (partition, row))| {
        let wanted = row.assignment.wanted.intersection(&holders).next();
        let member =
            *wanted.or_else(|| holders.iter().nth(place % holders.len())).ok_or(Failure::NoHolder)?;
        let version = row.assignment.version;
        Ok(GridCommand::RecoverLost { partition: *partition, version, member, from: Recovery::Empty })
    });
    let commands: Vec<GridCommand> = commands.collect::<Result<_, Failure>>()?;
    tracing::warn!(partitions = commands.len(), "lost partitions begin empty, as was asked for");
    let propose = |command| async { grid.control.propose(GroupCommand::Grid(command)).await };
    stream::iter(commands.into_iter().map(propose))
        .buffer_unordered(COPY_PROPOSALS_AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

fn lost<'a>(table: &'a grid::Grid, name: &v1::PartitionName) -> Result<(PartitionId, &'a Row), Failure> {
    let none = || Failure::Argument { field: "partitions", problem: "there is no such partition" };
    let class = u8::try_from(name.class).map_err(|_| none())?;
    let index = u16::try_from(name.index).map_err(|_| none())?;
    let partition = PartitionId { class: ReplicationClass(class), index };
    let row = table.row(partition).ok_or_else(none)?;
    if row.is_lost() { Ok((partition, row)) } else { Err(Failure::NotLost { partition }) }
}

/// Who answers, and may hold partitions.
async fn holders(grid: &Grid, table: &grid::Grid) -> BTreeSet<MemberId> {
    let me = grid.partitions.replication().me();
    let (own, others): (Vec<&Node>, Vec<&Node>) =
        table.nodes().filter(|node| Node::takes_partitions(node)).partition(|node| node.member == me);
    let answering = reports_of(table.id(), others.into_iter()).await;
    answering.into_keys().chain(own.into_iter().map(|node| node.member)).collect()
}
