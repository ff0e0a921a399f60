//! A leader that no majority answers is silent from time to time: if the others hear it, but it does not hear them, they would follow for
//! ever who cannot decide anything. In its silence they elect another (the CheckQuorum of Raft's dissertation, 6.2; openraft 0.9 has
//! none). It is not silent for good, for they may need entries that it alone has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::ServerState;
use tokio::time::{Instant, interval};

use crate::group::Timing;
use crate::raft::Raft;

/// Whether this voter is silent now.
#[derive(Clone, Default)]
pub(crate) struct Silence(Arc<AtomicBool>);

impl Silence {
    pub(crate) fn is_kept(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Keeps it when it is due, as long as the voter runs.
    pub(crate) async fn keep(self, raft: Raft, timing: Timing) {
        let metrics = raft.metrics();
        let mut beat = interval(timing.heartbeat);
        let mut heard = Instant::now();
        loop {
            let now = beat.tick().await;
            let (ended, leads, since) = {
                let metrics = metrics.borrow();
                let leads = metrics.state == ServerState::Leader;
                (metrics.running_state.is_err(), leads, metrics.millis_since_quorum_ack)
            };
            if ended {
                return;
            }
            let answered = since.and_then(|since| now.checked_sub(Duration::from_millis(since)));
            heard = if leads { answered.map_or(heard, |answered| heard.max(answered)) } else { now };
            // Long enough for an election.
            let turn = timing.election.start + timing.election.end;
            self.0.store(is_silent(now.saturating_duration_since(heard), turn), Ordering::Relaxed);
        }
    }
}

/// Speech and silence take turns, speech first.
fn is_silent(unanswered: Duration, turn: Duration) -> bool {
    unanswered.as_millis() / turn.as_millis().max(1) % 2 == 1
}
