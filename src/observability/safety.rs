//! Whether the grid has all the copies that it should have: what who stops nodes one after the other asks before the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::timeout;
use wattle_core::control::GroupState;
use wattle_core::control::grid::{NodeState, PartitionState};
use wattle_core::ids::MemberId;
use wattle_core::limits::MAJORITY_TIME;

use crate::grid::Grid;

/// Why a node of the grid should not be stopped now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsafe {
    /// What this node knows may be old.
    #[error("this node does not hear what is decided")]
    Behind,
    /// Partitions are not as they should be.
    #[error("of the partitions {under_replicated} lack copies, {lost} are lost, {not_begun} are not begun")]
    Partitions {
        /// They lack copies.
        under_replicated: usize,
        /// Nobody has what was acknowledged.
        lost: usize,
        /// Nobody holds them so far.
        not_begun: usize,
    },
    /// Nodes are on their way out.
    #[error("{0} nodes leave")]
    Leaving(usize),
    /// They are not heard of, and may be dead.
    #[error("{0} nodes that hold data or vote do not answer")]
    Silent(usize),
}

/// That every partition has its backups now, and nobody is about to take some away.
pub(super) async fn check_safe(grid: &Grid) -> Result<(), Unsafe> {
    let decided = check_copies(grid, &[]).await?;
    let table = decided.grid().ok_or(Unsafe::Behind)?;
    let leaving = table.nodes().filter(|node| node.state == NodeState::Draining).count();
    if leaving > 0 {
        return Err(Unsafe::Leaving(leaving));
    }
    // Who holds nothing and does not vote may be silent: it is missed by nobody.
    let mut needed: BTreeSet<MemberId> =
        table.rows().flat_map(|(_, row)| row.assignment.in_sync.clone()).collect();
    needed.extend(grid.control.voters().1.into_iter().map(|(voter, _)| voter));
    match needed.difference(&grid.control.answering(table).await).count() {
        0 => Ok(()),
        silent => Err(Unsafe::Silent(silent)),
    }
}

/// That every partition is as it should be, or in one of some other states. Returns what was looked at: what is decided a moment later may
/// be worse.
pub(super) async fn check_copies(grid: &Grid, or: &[PartitionState]) -> Result<Arc<GroupState>, Unsafe> {
    if !matches!(timeout(MAJORITY_TIME, grid.control.catch_up()).await, Ok(Ok(()))) {
        return Err(Unsafe::Behind);
    }
    let decided = grid.control.decided();
    let table = decided.grid().ok_or(Unsafe::Behind)?;
    let count = |state| if or.contains(&state) { 0 } else { table.partitions_in(state) };
    let (under_replicated, lost) = (count(PartitionState::UnderReplicated), count(PartitionState::Lost));
    match (under_replicated, lost, count(PartitionState::NotBegun)) {
        (0, 0, 0) => Ok(decided),
        (under_replicated, lost, not_begun) => Err(Unsafe::Partitions { under_replicated, lost, not_begun }),
    }
}
