//! Who votes: one change at a time, by the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};

use crate::identity::VoterId;
use crate::raft::{LogId, Raft};

/// Steps of one change: from a joint set of voters that an earlier leader left, to the joint set with this one, to this one alone.
const STEPS: usize = 3;

/// Why the voters are not as asked for. They may be in between; asking again goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader changes voters.
    #[error("this node does not lead the control group")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<VoterId>,
    },
    /// Another change has not ended, or this one has not in time: no majority answers.
    #[error("the voters are being changed already")]
    InProgress,
    /// Nobody would be left.
    #[error("a control group needs a voter")]
    NoVoters,
    /// A new voter did not answer, or not all of the log reached it in time. The voters are as they were.
    #[error("voter {voter} has not caught up in {patience:?}")]
    Behind {
        /// The voter.
        voter: VoterId,
        /// How long it was waited for.
        patience: Duration,
    },
    /// This voter has ended.
    #[error("this voter of the control group has ended")]
    Ended,
}

pub(crate) async fn change_voters(
    raft: &Raft,
    voters: &BTreeSet<VoterId>,
    patience: Duration,
) -> Result<(), ChangeError> {
    if voters.is_empty() {
        return Err(ChangeError::NoVoters);
    }
    for voter in voters.difference(&voters_now(raft)) {
        if let Err(error) = add_learner(raft, *voter, patience).await {
            change(raft, ChangeMembers::RemoveNodes(BTreeSet::from([*voter])), patience).await?;
            return Err(error);
        }
    }
    for _ in 0..STEPS {
        let joint = change(raft, ChangeMembers::ReplaceAllVoters(voters.clone()), patience).await?.joint;
        if joint {
            continue;
        }
        let me = raft.metrics().borrow().id;
        // As long as the log knows a leader it leads, also without a vote.
        return if voters.contains(&me) { Ok(()) } else { remove_learner(raft, me, patience).await };
    }
    Err(ChangeError::InProgress)
}

/// Sends the log to a node that does not vote, and waits until it has all that was in it. (openraft's own wait takes a learner that
/// never answered for caught up, as long as the log is short.)
pub(crate) async fn add_learner(raft: &Raft, voter: VoterId, patience: Duration) -> Result<(), ChangeError> {
    let learner = BTreeMap::from([(voter, EmptyNode {})]);
    let added = change(raft, ChangeMembers::AddNodes(learner), patience).await?;
    let mut metrics = raft.metrics();
    let caught_up = metrics.wait_for(|metrics| {
        let matching = metrics.replication.as_ref().and_then(|all| all.get(&voter)).copied().flatten();
        // Not leading any more is found by the step after this.
        metrics.replication.is_none() || matching >= Some(added.entry)
    });
    match tokio::time::timeout(patience, caught_up).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ChangeError::Ended),
        Err(_) => Err(ChangeError::Behind { voter, patience }),
    }
}

/// A change that is committed.
struct Changed {
    entry: LogId,
    /// Whether voters of before still have their votes.
    joint: bool,
}

/// Does not send the log any more to a node that has no vote.
pub(crate) async fn remove_learner(
    raft: &Raft,
    learner: VoterId,
    patience: Duration,
) -> Result<(), ChangeError> {
    change(raft, ChangeMembers::RemoveNodes(BTreeSet::from([learner])), patience).await.map(drop)
}

/// openraft waits for a majority for ever: it may be committed after this gave up. Those who lose their votes go on hearing what is
/// decided.
async fn change(
    raft: &Raft,
    change: ChangeMembers<VoterId, EmptyNode>,
    patience: Duration,
) -> Result<Changed, ChangeError> {
    // openraft panics when a leader that the log does not know any more changes anything before it has noticed.
    if !is_known(raft) {
        return Err(ChangeError::NotLeader { leader: None });
    }
    let changed = tokio::time::timeout(patience, raft.change_membership(change, true)).await;
    let response = changed.map_err(|_| ChangeError::InProgress)?.map_err(change_error)?;
    let membership = response.membership;
    let joint = membership.is_some_and(|membership| membership.get_joint_config().len() > 1);
    Ok(Changed { entry: response.log_id, joint })
}

fn is_known(raft: &Raft) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    metrics.membership_config.membership().get_node(&metrics.id).is_some()
}

fn voters_now(raft: &Raft) -> BTreeSet<VoterId> {
    raft.metrics().borrow().membership_config.membership().voter_ids().collect()
}

fn change_error(error: RaftError<VoterId, ClientWriteError<VoterId, EmptyNode>>) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ChangeError::NotLeader { leader: forward.leader_id }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::InProgress(_) => ChangeError::InProgress,
            // Learners are added before they are made voters, unless somebody removed one since.
            ChangeMembershipError::LearnerNotFound(_) => ChangeError::InProgress,
            ChangeMembershipError::EmptyMembership(_) => ChangeError::NoVoters,
        },
        RaftError::Fatal(_) => ChangeError::Ended,
    }
}
