//! This node's part in the control group: proposals go in, and what is decided comes out, to be followed. What the commands mean is
//! decided in [`wattle_core::control`]; how they are replicated, in `wattle_control`.

mod arrival;
mod catch_up;
mod data_directory;
mod decide;
mod rebuilding;
mod voter;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use wattle_control::{ControlGroup, ControlVersion, Decided, ProposeError, VoterId};
use wattle_core::control::grid::{Grid, GridCommand};
use wattle_core::control::{ControlState, GroupApplied, GroupCommand, GroupRefusal, GroupState, Refusal};
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::REPORT_TIME;
use wattle_peers::ControlPosition;

pub(crate) use arrival::{Arrival, ArrivalError, FORMAT, arrive};
pub(crate) use data_directory::{DataDirectory, DataDirectoryError, write_durably};
pub(crate) use rebuilding::NotRebuilt;
use voter::Voter;
pub(crate) use voter::VoterError;

use crate::peering::Links;

/// The control group, as this node takes part in it.
#[derive(Debug)]
pub(crate) struct Control {
    voter: Arc<Voter>,
    /// It was in a grid with others before its process began, and might lead that without one of them: none has answered so far.
    unheard: AtomicBool,
    links: Arc<Links>,
    /// Written by the voter, whichever there is.
    decided: watch::Receiver<Decided>,
    /// Up to where this node has done what was decided.
    followed: watch::Sender<ControlVersion>,
    /// Up to where it has done what was decided about partitions and maps.
    table_followed: watch::Sender<ControlVersion>,
}

/// A node's voter. A node that has lost its log is another node, so there is one for each.
pub(crate) fn voter_of(node: NodeId) -> VoterId {
    VoterId { node, incarnation: 1 }
}

/// Why a command is not decided, or not known to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDecided {
    /// It makes no sense in the state that it met.
    #[error(transparent)]
    Refused(#[from] GroupRefusal),
    /// It was not proposed.
    #[error(transparent)]
    NotProposed(ProposeError),
    /// It was not proposed: the voter's disk takes nothing.
    #[error(transparent)]
    Disk(#[from] VoterError),
    /// The voter's disk has failed while it was decided.
    #[error("the control log takes no more writes")]
    DiskFailed,
    /// It was not proposed: what it was to be decided on is not known.
    #[error("this node has not heard in time what the control group has decided: does anybody lead it?")]
    Behind,
    /// It was proposed, and nobody has said what became of it.
    #[error("nobody has said in time whether it is decided: {0}")]
    InDoubt(#[source] ProposeError),
}

impl From<Refusal> for NotDecided {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

async fn reached(followed: &watch::Sender<ControlVersion>, version: ControlVersion) {
    if *followed.borrow() >= version {
        return;
    }
    let is_reached = followed.subscribe().wait_for(|followed| *followed >= version).await.is_ok();
    debug_assert!(is_reached, "the sender is this value's own");
}

fn reach(followed: &watch::Sender<ControlVersion>, version: ControlVersion) {
    followed.send_if_modified(|followed| {
        let newer = version > *followed;
        *followed = version.max(*followed);
        newer
    });
}

impl Control {
    fn new(voter: Voter, links: Arc<Links>) -> Self {
        let decided = voter.watch();
        let followed = || watch::Sender::new(ControlVersion::default());
        let (voter, unheard) = (Arc::new(voter), AtomicBool::new(false));
        Self { voter, unheard, links, decided, followed: followed(), table_followed: followed() }
    }

    /// Has a command decided and made durable by whoever leads, and waits until this node has followed it; what is about maps and
    /// functions, until all have who answer: whoever is told of it finds it everywhere. Only what is about functions waits until those
    /// are fetched and compiled.
    ///
    /// # Errors
    /// [`NotDecided`] says of each case whether it may be decided all the same.
    pub(crate) async fn propose(&self, command: GroupCommand) -> Result<GroupApplied, NotDecided> {
        let group = self.voter.group().await?;
        let for_all = matches!(command, GroupCommand::Catalog(_));
        let functions = matches!(&command, GroupCommand::Catalog(command) if command.is_about_functions());
        let decision = self.decide(&group.proposal(command)).await?;
        // Also what refuses it is to be seen.
        match functions {
            true => self.has_followed(decision.version).await,
            false => self.has_followed_table(decision.version).await,
        }
        if for_all {
            self.others_have_followed(decision.version).await;
        }
        Ok(decision.result?)
    }

    /// Has it decided that a member leaves. What is decided then it does not hear.
    pub(crate) async fn leave(&self, member: MemberId) -> Result<(), NotDecided> {
        let leave = GroupCommand::Grid(GridCommand::Leave { member });
        let group = self.voter.group().await?;
        self.decide(&group.proposal(leave)).await?.result?;
        Ok(())
    }

    /// Waits until this node has done what was decided up to a version.
    pub(crate) async fn has_followed(&self, version: ControlVersion) {
        reached(&self.followed, version).await;
    }

    /// Waits until it has done what was decided about partitions and maps up to a version.
    pub(crate) async fn has_followed_table(&self, version: ControlVersion) {
        reached(&self.table_followed, version).await;
    }

    /// This node's voter, unless its disk has failed.
    pub(crate) fn running(&self) -> Option<Arc<ControlGroup>> {
        self.voter.running()
    }

    /// Waits until this node leads.
    pub(crate) async fn leading(&self) -> Arc<ControlGroup> {
        self.voter.leading().await
    }

    /// Who leads, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        Some(self.running()?.status().leader?.node)
    }

    /// Who leads, and who votes and where.
    pub(crate) fn voters(&self) -> (Option<NodeId>, Vec<(MemberId, String)>) {
        let Some(group) = self.running() else { return (None, Vec::new()) };
        let (status, state) = (group.status(), self.decided());
        let place = |voter: &VoterId| {
            let node = state.grid()?.node(voter.node)?;
            Some((node.member, node.description.peer_address.clone()))
        };
        (status.leader.map(|leader| leader.node), status.voters.iter().filter_map(place).collect())
    }

    /// Who of a grid lives, this node too.
    pub(crate) async fn answering(&self, grid: &Grid) -> BTreeSet<MemberId> {
        let me = self.voter.identity().voter.node;
        let asked = grid.nodes().map(|node| node.member).map(|member| async move {
            let ask = self.links.ask_heartbeat(member);
            let lives = member.node == me || matches!(timeout(REPORT_TIME, ask).await, Ok(Ok(_)));
            lives.then_some(member)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The sets of voters that have to agree, as far as this node knows: who has built the group if this node has nothing of it yet. `None`
    /// if its own voter has ended.
    pub(crate) fn electorates(&self) -> Option<Vec<BTreeSet<NodeId>>> {
        let group = self.running()?;
        let nodes = |voters: &BTreeSet<VoterId>| voters.iter().map(|voter| voter.node).collect();
        let electorates: Vec<_> = group.status().electorates.iter().map(nodes).collect();
        let is_known = electorates.iter().any(|voters: &BTreeSet<NodeId>| !voters.is_empty());
        Some(if is_known { electorates } else { vec![BTreeSet::from([group.identity().group.founder])] })
    }

    /// How far this node is.
    pub(crate) fn position(&self) -> ControlPosition {
        let generation = self.voter.identity().group.generation;
        ControlPosition { generation, version: self.followed.borrow().0 }
    }

    /// Up to where this node has done what was decided about partitions and maps.
    pub(crate) fn table_version(&self) -> u64 {
        self.table_followed.borrow().0
    }

    /// How far what it knows is. Of what has changed nothing others need not hear, and do not follow it.
    pub(crate) fn decided_position(&self) -> ControlPosition {
        ControlPosition { version: self.decided.borrow().changed.0, ..self.position() }
    }

    /// What is decided, as far as this node knows.
    pub(crate) fn decided(&self) -> Arc<GroupState> {
        Arc::clone(&self.decided.borrow().state)
    }

    /// Reads what is decided about maps and functions.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&ControlState) -> R) -> R {
        f(self.decided().catalog())
    }

    /// Tells of decisions; some may be left out.
    pub(crate) fn watch(&self) -> watch::Receiver<Decided> {
        self.decided.clone()
    }

    /// This node has done what was decided up to here.
    pub(crate) fn followed(&self, version: ControlVersion) {
        reach(&self.followed, version);
    }

    /// It has done what was decided about partitions and maps up to here.
    pub(crate) fn table_followed(&self, version: ControlVersion) {
        reach(&self.table_followed, version);
    }

    /// Keeps the voter going until it is dropped.
    pub(crate) async fn keep(self: Arc<Self>) {
        self.voter.keep().await;
    }

    /// Ends the voter; its file is closed when this returns.
    pub(crate) async fn shutdown(&self) {
        self.voter.shutdown().await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
