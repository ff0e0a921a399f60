//! [`Status`]: what a node sees of its group, for the node's decisions and for people.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ServerState;

use crate::identity::VoterId;
use crate::raft::{Fatal, LogId, Metrics};

/// What a node is in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has the log and no vote, or is not in the group (yet, or any more).
    Learner,
    /// It has a vote.
    Follower,
    /// It wants to lead.
    Candidate,
    /// It decides, unless it was cut off: see [`confirm_leadership`](crate::ControlGroup::confirm_leadership).
    Leader,
    /// It was shut down.
    Ended,
    /// Its disk failed, or it has found something impossible; the log says which. Others go on without it, and it can be started
    /// again from its disk.
    Failed,
}

/// What can be seen of the group from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What this node is.
    pub role: Role,
    /// Rises with every election.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<VoterId>,
    /// Who votes.
    pub voters: BTreeSet<VoterId>,
    /// Sets of voters, of each of which a majority has to agree. While voters are being changed, and after a change that was left half
    /// done, there are two: those of before, and those that there are to be.
    pub electorates: Vec<BTreeSet<VoterId>>,
    /// Who only has the log.
    pub learners: BTreeSet<VoterId>,
    /// The last entry of the log.
    pub last_index: Option<u64>,
    /// The last entry in the state.
    pub applied_index: Option<u64>,
    /// The last entry in the snapshot.
    pub snapshot_index: Option<u64>,
    /// The last entry that only the snapshot has.
    pub purged_index: Option<u64>,
    /// The last entry that each of the others is known to have; empty where nobody leads.
    pub matching: BTreeMap<VoterId, Option<u64>>,
}

impl Status {
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let role = match (&metrics.running_state, metrics.state) {
            (Err(Fatal::Stopped), _) | (Ok(()), ServerState::Shutdown) => Role::Ended,
            (Err(Fatal::StorageError(_) | Fatal::Panicked), _) => Role::Failed,
            (Ok(()), ServerState::Learner) => Role::Learner,
            (Ok(()), ServerState::Follower) => Role::Follower,
            (Ok(()), ServerState::Candidate) => Role::Candidate,
            (Ok(()), ServerState::Leader) => Role::Leader,
        };
        let index = |id: Option<LogId>| id.map(|id| id.index);
        let membership = metrics.membership_config.membership();
        let matching = metrics.replication.iter().flatten();
        Self {
            role,
            term: metrics.current_term,
            leader: metrics.current_leader,
            voters: membership.voter_ids().collect(),
            electorates: membership.get_joint_config().clone(),
            learners: membership.learner_ids().collect(),
            last_index: metrics.last_log_index,
            applied_index: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
            purged_index: index(metrics.purged),
            matching: matching.map(|(voter, matching)| (*voter, index(*matching))).collect(),
        }
    }
}
