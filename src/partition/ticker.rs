//! Gives every partition a tick a second, a tenth of them at a time: expiry and freeing that nobody asks for.

use std::sync::Arc;
use std::time::Duration;

use super::partitions::Partitions;
use super::shard::Shard;

const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_millis(100);
/// Ticks until it is dropped.
pub(crate) async fn tick_partitions(partitions: Arc<Partitions>) {
    let mut interval = tokio::time::interval(ROUND);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut busy = Vec::new();
    for round in (0..ROUNDS).cycle() {
        interval.tick().await;
        let now = partitions.clock().read();
        // More classes may have come.
        busy.resize(partitions.strands().count(), false);
        for (index, strand) in partitions.strands().enumerate() {
            if index % ROUNDS != round && !busy[index] {
                // One at work is asked in the next round.
                strand.try_run(|shard| shard.wake(now)).ok();
                continue;
            }
            // A partition at work is ticked in a later round.
            busy[index] = strand.try_run(Shard::tick).unwrap_or(true);
        }
    }
}
