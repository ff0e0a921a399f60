//! Proposals find whoever leads: from this node, and those of others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;
use wattle_control::{ControlGroup, ControlVersion, Proposal, ProposeError, Role, VoterId};
use wattle_core::control::grid::{GridApplied, GridCommand, Joining, Node};
use wattle_core::control::{GroupApplied, GroupCommand, GroupRefusal};
use wattle_core::ids::MemberId;
use wattle_core::limits::{HEARTBEAT_TIME, PROPOSE_TIME};
use wattle_peers::{Admission, CallRefusal};

use super::{Control, NotDecided};

/// How long to wait before somebody else is asked, who may lead by then.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// How long a change of maps or functions waits for members that have not followed it. One that decides about nothing is not waited for:
/// who is silent does not after [`SESSION_TIME`](wattle_core::limits::SESSION_TIME), as long as others can take over.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(6);

/// What was decided about a proposal, and what one has to have followed to see it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Decision {
    pub(super) result: Result<GroupApplied, GroupRefusal>,
    pub(super) version: ControlVersion,
}

/// What a leader says to a proposal of another node.
type Told = Result<Decision, ProposeError>;

impl Control {
    /// Has a proposal decided wherever the leader is, however often that changes.
    pub(super) async fn decide(&self, proposal: &Proposal) -> Result<Decision, NotDecided> {
        let deadline = Instant::now() + PROPOSE_TIME;
        // Somebody may have heard of it.
        let mut asked = false;
        loop {
            let group = self.voter.group().await?;
            let told = match timeout_at(deadline, self.ask_leader(&group, proposal, &mut asked)).await {
                Ok(told) => told,
                Err(_elapsed) => Err(ProposeError::NotLeader { leader: group.status().leader }),
            };
            let error = match told {
                Ok(decision) => return Ok(decision),
                Err(error) => error,
            };
            match error {
                ProposeError::Refused(refusal) => return Err(refusal.into()),
                ProposeError::TooLarge { .. } => return Err(NotDecided::NotProposed(error)),
                ProposeError::Expired => return Err(NotDecided::InDoubt(error)),
                ProposeError::Ended if self.voter.has_failed() => return Err(NotDecided::DiskFailed),
                ProposeError::Busy | ProposeError::NotLeader { .. } | ProposeError::Ended => {}
            }
            if Instant::now() >= deadline {
                return Err(if asked { NotDecided::InDoubt(error) } else { NotDecided::NotProposed(error) });
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask_leader(&self, group: &ControlGroup, proposal: &Proposal, asked: &mut bool) -> Told {
        let status = group.status();
        if status.role == Role::Leader {
            *asked = true;
            return self.decide_here(group, proposal.clone()).await;
        }
        let leader = status.leader;
        let unknown = || ProposeError::NotLeader { leader };
        let member = leader.and_then(|leader| self.links.member(leader.node)).ok_or_else(unknown)?;
        let bytes = serde_json::to_vec(proposal).expect("proposals are JSON");
        match self.links.propose(member, bytes.into()).await {
            Ok(told) => {
                *asked = true;
                serde_json::from_slice(&told).unwrap_or_else(|error| {
                    debug!(node = member.node.0, %error, "what a leader says is not understood");
                    Err(unknown())
                })
            }
            Err(error) => {
                // It may have been heard before its link broke.
                *asked = true;
                debug!(node = member.node.0, %error, "a proposal was not answered");
                Err(unknown())
            }
        }
    }

    async fn decide_here(&self, group: &ControlGroup, proposal: Proposal) -> Told {
        let result = match group.propose(proposal).await {
            Ok(applied) => Ok(applied),
            Err(ProposeError::Refused(refusal)) => Err(refusal),
            Err(error) => return Err(error),
        };
        // It was published before it was answered. If it has changed nothing, nobody hears of it.
        Ok(Decision { result, version: group.decided().changed })
    }

    /// Waits until the other members have followed up to a version, or decide about nothing: whoever takes over from them follows first.
    pub(super) async fn others_have_followed(&self, version: ControlVersion) {
        let (state, me) = (self.decided(), self.voter.identity().voter.node);
        // Who prepares answers no client yet.
        let serves = |node: &&Node| node.id() != me && !node.description.prepares;
        let others = state.grid().into_iter().flat_map(|grid| grid.nodes()).filter(serves);
        let others = others.map(|node| node.member).map(|member| async move {
            loop {
                match timeout(HEARTBEAT_TIME, self.links.ask_heartbeat(member)).await {
                    Ok(Ok(heartbeat)) if heartbeat.position.version >= version.0 => return,
                    Ok(Ok(_)) => sleep(PAUSE / 5).await,
                    Ok(Err(_)) | Err(_) if self.decides_nothing(member) => {
                        debug!(node = member.node.0, "a silent node is not waited for");
                        return;
                    }
                    Ok(Err(_)) | Err(_) => sleep(PAUSE).await,
                }
            }
        });
        if timeout(FOLLOW_PATIENCE, join_all(others)).await.is_err() {
            debug!(%version, "not all nodes have followed in time");
        }
    }

    /// Whether a member is primary of nothing, as far as this node knows.
    fn decides_nothing(&self, member: MemberId) -> bool {
        let state = self.decided();
        let mut rows = state.grid().into_iter().flat_map(|grid| grid.rows());
        rows.all(|(_, row)| row.assignment.primary != Some(member))
    }

    /// Another node proposes something to this one, who should lead.
    pub(crate) async fn decide_for(&self, proposal: &[u8]) -> Result<Bytes, CallRefusal> {
        let group = self.running().ok_or(CallRefusal::NoPart)?;
        let status = group.status();
        if status.role != Role::Leader {
            return Err(CallRefusal::NotLeader { leader: status.leader.map(|leader: VoterId| leader.node) });
        }
        let proposal = serde_json::from_slice(proposal).map_err(|_| CallRefusal::Unknown)?;
        let told: Told = self.decide_here(&group, proposal).await;
        Ok(serde_json::to_vec(&told).expect("decisions are JSON").into())
    }

    /// Another process wants to be a member. Who is none itself can only say so if it leads.
    pub(crate) async fn admit(
        self: Arc<Self>,
        joining: &[u8],
        is_member: bool,
    ) -> Result<Admission, CallRefusal> {
        let joining: Joining = serde_json::from_slice(joining).map_err(|_| CallRefusal::Unknown)?;
        let group = self.running().ok_or(CallRefusal::NoPart)?;
        if self.is_unheard() || !is_member && group.status().role != Role::Leader {
            return Err(CallRefusal::NotLeader { leader: self.leader() });
        }
        let join = GroupCommand::Grid(GridCommand::Join(Box::new(joining)));
        let decision = self.decide(&group.proposal(join)).await.map_err(|error| {
            debug!(%error, "a node has not joined");
            CallRefusal::NotLeader { leader: self.leader() }
        })?;
        let member = match decision.result {
            Ok(GroupApplied::Grid(GridApplied::Joined { member, .. })) => member,
            Ok(_) => return Err(CallRefusal::Unrecognised),
            Err(refusal) => {
                let refusal = serde_json::to_vec(&refusal).expect("refusals are JSON");
                return Ok(Admission::Refused(refusal.into()));
            }
        };
        let mut decided = self.decided.clone();
        let seen = decided.wait_for(|decided| decided.version >= decision.version).await;
        let state = Arc::clone(&seen.map_err(|_| CallRefusal::NoPart)?.state);
        let nodes = state.grid().into_iter().flat_map(|grid| grid.nodes());
        let members = nodes.map(|node| (node.member, node.description.peer_address.clone())).collect();
        Ok(Admission::Admitted { member, members })
    }
}
