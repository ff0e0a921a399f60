//! Lets copies go that are not wanted any more, as soon as a table says so that is newer than all that their primaries have sent.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::GridCommand;
use wattle_core::limits::HEARTBEAT_TIME;

use crate::grid::Grid;

/// Does so until it is dropped.
pub(crate) async fn release_spare(grid: Arc<Grid>) {
    let me = grid.partitions.replication().me();
    let mut beat = interval(HEARTBEAT_TIME);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let spare = grid.partitions.spare();
        let state = grid.control.decided();
        let node = state.grid().and_then(|table| table.node(me.node));
        let Some(node) = node.filter(|_| !spare.is_empty()) else { continue };
        let asked = grid.partitions.clock().local();
        // It changes nothing. What this node has followed when it is decided is no older than the question.
        let again = GridCommand::Describe { member: me, description: Box::new(node.description.clone()) };
        if let Err(error) = grid.control.propose(GroupCommand::Grid(again)).await {
            debug!(%error, "copies that are not wanted any more stay for now");
            continue;
        }
        let state = grid.control.decided();
        if let Some(table) = state.grid() {
            grid.partitions.release(&spare, table, asked);
        }
    }
}
