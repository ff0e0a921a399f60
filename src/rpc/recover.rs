//! Lost partitions go on, with what people have chosen.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::{self, GridCommand, Node, Recovery, Row};
use wattle_core::ids::{MemberId, PartitionId};
use wattle_core::limits::COPY_PROPOSALS_AT_ONCE;
use wattle_core::replication::Mark;
use wattle_proto::v1;

use super::copies::{self, last, lost, whose};
use super::reports::reports_of;
use crate::failure::Failure;
use crate::grid::Grid;

/// Has lost partitions go on, each with a copy that its holder still has, or empty on a node that answers.
pub(super) async fn recover_lost(grid: &Grid, recoveries: &[v1::Recovery]) -> Result<(), Failure> {
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Failure::NoMember)?;
    let names: Vec<v1::PartitionName> =
        recoveries.iter().map(|recovery| recovery.partition.unwrap_or_default()).collect();
    let lost = lost(table, &names)?;
    let with_copies: Vec<v1::PartitionName> = recoveries
        .iter()
        .filter(|recovery| recovery.copy.is_some())
        .map(|recovery| recovery.partition.unwrap_or_default())
        .collect();
    let there = match with_copies.is_empty() {
        true => v1::ListCopiesResponse::default(),
        false => copies::list(grid, &with_copies).await?,
    };
    let holders =
        if with_copies.len() < recoveries.len() { holders(grid, table).await } else { BTreeSet::new() };
    let chosen = recoveries.iter().zip(&lost).enumerate();
    let commands = chosen.map(|(place, (recovery, (partition, row)))| {
        let (member, from) = match &recovery.copy {
            Some(copy) => offered(&there, (recovery, *partition), copy)?,
            None => (begins_on(row, &holders, place)?, Recovery::Empty),
        };
        Ok(GridCommand::RecoverLost { partition: *partition, version: row.assignment.version, member, from })
    });
    let commands: Vec<GridCommand> = commands.collect::<Result<_, Failure>>()?;
    commands.iter().for_each(note);
    let propose = |command| async { grid.control.propose(GroupCommand::Grid(command)).await };
    stream::iter(commands.into_iter().map(propose))
        .buffer_unordered(COPY_PROPOSALS_AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

/// The copy that was chosen, if it is still what it was.
fn offered(
    there: &v1::ListCopiesResponse,
    (recovery, partition): (&v1::Recovery, PartitionId),
    copy: &v1::PartitionCopy,
) -> Result<(MemberId, Recovery), Failure> {
    let of_this = there.partitions.iter().filter(|of| of.partition == recovery.partition);
    let is_there = of_this.flat_map(|of| &of.copies).any(|other| other == copy);
    let gone = Failure::CopyGone { partition, node: copy.node };
    let Mark { epoch, position } = last(copy);
    if is_there { Ok((whose(copy), Recovery::Copy { epoch, last: position })) } else { Err(gone) }
}

/// Who begins empty, one after the other.
fn begins_on(row: &Row, holders: &BTreeSet<MemberId>, place: usize) -> Result<MemberId, Failure> {
    let wanted = row.assignment.wanted.intersection(holders).next();
    let any = || holders.iter().nth(place.checked_rem(holders.len())?);
    wanted.or_else(any).copied().ok_or(Failure::NoHolder)
}

fn note(command: &GridCommand) {
    let GridCommand::RecoverLost { partition, member, from, .. } = command else { return };
    let node = member.node.0;
    match from {
        Recovery::Copy { epoch, last } => {
            let (generation, epoch) = (epoch.generation, epoch.number);
            let position = last.0;
            tracing::warn!(%partition, node, generation, epoch, position, "a lost partition goes on with an older copy");
        }
        Recovery::Empty => tracing::warn!(%partition, node, "a lost partition begins empty"),
    }
}

/// Who answers, and may hold partitions.
async fn holders(grid: &Grid, table: &grid::Grid) -> BTreeSet<MemberId> {
    let me = grid.partitions.replication().me();
    let (own, others): (Vec<&Node>, Vec<&Node>) =
        table.nodes().filter(|node| Node::takes_partitions(node)).partition(|node| node.member == me);
    let answering = reports_of(table.id(), others.into_iter()).await;
    answering.into_keys().chain(own.into_iter().map(|node| node.member)).collect()
}
