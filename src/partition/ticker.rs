//! Gives every partition a tick a second, a tenth of them at a time: expiry and freeing that nobody asks for.

use std::sync::Arc;
use std::time::Duration;

use super::partitions::{Partitions, Shard};

const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_millis(100);
/// Ticks in a row that a partition with much to do gets in one round; the rest waits for the next.
const TICKS_A_ROUND: u32 = 16;

/// Ticks until it is dropped.
pub(crate) async fn tick_partitions(partitions: Arc<Partitions>) {
    let mut interval = tokio::time::interval(ROUND);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut busy = vec![false; usize::from(partitions.count())];
    for round in (0..ROUNDS).cycle() {
        interval.tick().await;
        for (index, strand) in partitions.strands().enumerate() {
            if index % ROUNDS != round && !busy[index] {
                continue;
            }
            // A partition at work is ticked in a later round.
            busy[index] = strand.try_run(tick).unwrap_or(true);
        }
    }
}

fn tick(shard: &mut Shard) -> bool {
    shard.with(|partition, moment| (0..TICKS_A_ROUND).all(|_| partition.tick(moment.now)))
}
