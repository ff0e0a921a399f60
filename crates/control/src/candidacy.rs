//! When this voter asks for votes. openraft's own timer is off: it draws the time once for the life of a process, counts it from before a
//! vote is on the disk, and asks again just as soon however often nobody was elected. Where votes take longer than that, each
//! candidate would end the election of the one before, for ever. (Raft's dissertation, 3.4 and 9.3.)

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::ServerState;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::group::Timing;
use crate::raft::{Metrics, Raft, Vote};

/// How often a voter doubles its wait at most.
const DOUBLINGS: u32 = 4;
/// Elections in vain before it begins to.
const QUICK_ELECTIONS: u32 = 2;

/// Whether a voter has refused this one its vote because it has the longer log. Who cannot be elected is not to spoil the election of who
/// can: each vote that it asks for ends the one before. (openraft's own timer has `smaller_log_timeout` for that.)
#[derive(Clone, Default)]
pub(crate) struct Outrun(Arc<AtomicBool>);

impl Outrun {
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Asks for votes whenever it is time to, as long as the voter runs.
pub(crate) async fn stand(raft: Raft, timing: Timing, outrun: Outrun) {
    let mut metrics = raft.metrics();
    let mut wait = Wait::new(timing, Instant::now());
    loop {
        if Seen::of(&metrics.borrow()) == Seen::Bystander {
            // There is a leader: this voter, or one that it follows without a vote.
            wait.in_vain = 0;
        }
        let seen = match metrics.wait_for(|metrics| Seen::of(metrics) != Seen::Bystander).await {
            Ok(metrics) => Seen::of(&metrics),
            Err(_) => return,
        };
        let alone = match seen {
            Seen::Ended => return,
            Seen::Bystander => continue,
            Seen::Voter { alone } => alone,
        };
        let shown = metrics.borrow().vote;
        // Asks openraft itself, behind all that it has still to hear: while it waits for a disk a leader may have come.
        let voted = raft.with_raft_state(|state| (*state.vote_ref(), state.vote_last_modified())).await;
        let Ok((vote, heard)) = voted else { return };
        let due = wait.look(Look { vote, heard, alone }, Instant::now());
        if vote.committed {
            // That was before somebody was elected.
            outrun.take();
        }
        if due <= Instant::now() {
            if outrun.take() {
                wait.stand_back(Instant::now());
                continue;
            }
            info!(term = vote.leader_id.term + 1, in_vain = wait.in_vain, "this voter asks for votes");
            wait.begin(Instant::now());
            if raft.trigger().elect().await.is_err() {
                return;
            }
            continue;
        }
        let changed = metrics.wait_for(|metrics| metrics.vote != shown || Seen::of(metrics) != seen);
        // It is due, or something else is.
        drop(timeout_at(due, changed).await);
    }
}

/// What this voter may do about elections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Ended,
    /// It leads, or has no vote.
    Bystander,
    Voter {
        alone: bool,
    },
}

impl Seen {
    fn of(metrics: &Metrics) -> Self {
        let membership = metrics.membership_config.membership();
        let votes = membership.voter_ids().any(|voter| voter == metrics.id);
        if metrics.running_state.is_err() {
            Self::Ended
        } else if metrics.state == ServerState::Leader || !votes {
            Self::Bystander
        } else {
            Self::Voter { alone: membership.voter_ids().count() == 1 }
        }
    }
}

/// For whom it has voted, and when it has last heard of that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    vote: Vote,
    /// `None` if this process has not heard of anybody.
    heard: Option<Instant>,
    /// Nobody else votes.
    alone: bool,
}

/// How long it waits.
#[derive(Debug)]
struct Wait {
    timing: Timing,
    last: Option<Look>,
    /// Votes since a leader was heard of.
    in_vain: u32,
    since: Instant,
    time: Duration,
}

impl Wait {
    fn new(timing: Timing, now: Instant) -> Self {
        Self { timing, last: None, in_vain: 0, since: now, time: Duration::ZERO }
    }

    /// When to ask for votes, if nothing else comes.
    fn look(&mut self, look: Look, now: Instant) -> Instant {
        let before = self.last.replace(look);
        if before == Some(look) {
            return self.since + self.time;
        }
        let is_new = before.is_none_or(|before| (before.vote, before.alone) != (look.vote, look.alone));
        if look.vote.committed {
            self.in_vain = 0;
        } else if before.is_some_and(|before| before.vote != look.vote) {
            self.in_vain += 1;
        }
        // A vote that was long on its way to the disk is new all the same.
        self.begin(look.heard.filter(|_| !is_new).unwrap_or(now));
        self.since + self.time
    }

    fn begin(&mut self, since: Instant) {
        self.since = since;
        self.time = match self.last {
            Some(Look { alone: true, .. }) => self.timing.heartbeat,
            Some(Look { vote: Vote { committed: true, .. }, .. }) => draw(&self.timing.election),
            Some(_) | None => {
                let doublings = self.in_vain.saturating_sub(QUICK_ELECTIONS).min(DOUBLINGS);
                draw(&self.timing.election) / 2 * (1 << doublings)
            }
        };
    }

    /// Leaves the others the time for many elections.
    fn stand_back(&mut self, now: Instant) {
        self.since = now;
        self.time = draw(&self.timing.election) / 2 * (1 << DOUBLINGS);
    }
}

/// The longest time if nothing can be drawn.
fn draw(range: &Range<Duration>) -> Duration {
    let span = range.end.saturating_sub(range.start);
    let share = getrandom::u32().unwrap_or(u32::MAX);
    range.start + span.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use openraft::Vote;

    use super::*;
    use crate::tests::voter;

    const MS: Duration = Duration::from_millis(1);

    fn timing() -> Timing {
        Timing { heartbeat: 100 * MS, election: 600 * MS..1000 * MS, patience: 10_000 * MS }
    }

    fn check(wait: &mut Wait, look: Look, now: Instant, (least, most): (u32, u32)) {
        let due = wait.look(look, now);
        assert!(due >= now + least * MS && due <= now + most * MS, "{look:?}: {:?}", due - now);
        assert_eq!(wait.look(look, now + 5 * MS), due, "it is drawn once");
    }

    #[tokio::test(start_paused = true)]
    async fn each_election_in_vain_makes_the_next_wait_longer_until_a_leader_is_heard() {
        let now = Instant::now();
        let mut wait = Wait::new(timing(), now);
        let look = |vote| Look { vote, heard: Some(now), alone: false };
        let led = look(Vote::new_committed(1, voter(1)));
        check(&mut wait, Look { heard: None, ..led }, now, (600, 1000));
        check(&mut wait, led, now, (600, 1000));
        let times =
            [(300, 500), (300, 500), (600, 1000), (1200, 2000), (2400, 4000), (4800, 8000), (4800, 8000)];
        for (term, times) in (2..).zip(times) {
            check(&mut wait, look(Vote::new(term, voter(term))), now, times);
        }
        check(&mut wait, look(Vote::new_committed(20, voter(1))), now, (600, 1000));
        check(&mut wait, look(Vote::new(21, voter(1))), now, (300, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_waited_for_since_it_was_heard_and_a_new_vote_since_it_is_seen() {
        let begun = Instant::now();
        let mut wait = Wait::new(timing(), begun);
        let vote = Vote::new_committed(1, voter(1));
        let (look, now) = (Look { vote, heard: Some(begun), alone: false }, begun + 400 * MS);
        check(&mut wait, look, now, (600, 1000));
        let heard = begun + 300 * MS;
        let due = wait.look(Look { heard: Some(heard), ..look }, now);
        assert!(due >= heard + 600 * MS && due <= heard + 1000 * MS);
        // It was on its way to the disk since then.
        check(&mut wait, Look { vote: Vote::new(2, voter(2)), ..look }, now, (300, 500));
        check(&mut wait, Look { alone: true, ..look }, now, (100, 100));
    }
}
