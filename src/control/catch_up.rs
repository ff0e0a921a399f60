//! What was decided before a question is done here before it is answered: a node hears of decisions later than who has made them.

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;
use wattle_control::{ControlGroup, ControlVersion, Role};
use wattle_core::limits::{MAJORITY_TIME, PROPOSE_TIME};
use wattle_peers::{CallError, CallRefusal, ControlPosition};

use super::decide::PAUSE;
use super::{Control, NotDecided};

impl Control {
    /// Waits until this node has done what was decided about partitions and maps before this was called: what it knows then is no older
    /// than the question.
    ///
    /// # Errors
    /// It has not heard of that in time.
    pub(crate) async fn catch_up(&self) -> Result<(), NotDecided> {
        let deadline = Instant::now() + PROPOSE_TIME;
        loop {
            let group = self.voter.group().await?;
            let told = timeout(MAJORITY_TIME, self.ask_position(&group)).await;
            if let Ok(Some(version)) = told {
                let followed = timeout_at(deadline, self.has_followed_table(version)).await;
                return followed.map_err(|_elapsed| NotDecided::Behind);
            }
            if Instant::now() >= deadline {
                return Err(NotDecided::Behind);
            }
            sleep(PAUSE).await;
        }
    }

    /// Up to where it is decided now, as whoever leads says.
    async fn ask_position(&self, group: &ControlGroup) -> Option<ControlVersion> {
        let status = group.status();
        if status.role == Role::Leader {
            return self.confirmed(group).await.ok();
        }
        let leader = self.links.member(status.leader?.node)?;
        match self.links.decided_position(leader).await {
            Ok(position) if position.generation == self.position().generation => {
                Some(ControlVersion(position.version))
            }
            Ok(_) => {
                debug!(node = leader.node.0, "the leader decides in another group by now");
                None
            }
            Err(CallError::Refused(CallRefusal::Unknown)) => {
                debug!(node = leader.node.0, "an older leader does not say how far it is");
                Some(ControlVersion(self.decided_position().version))
            }
            Err(error) => {
                debug!(node = leader.node.0, %error, "the leader does not say how far it is");
                None
            }
        }
    }

    /// Another node asks how far what is decided is, of this one, who should lead.
    pub(crate) async fn confirmed_position(&self) -> Result<ControlPosition, CallRefusal> {
        let group = self.running().ok_or(CallRefusal::NoPart)?;
        let ControlVersion(version) = self.confirmed(&group).await?;
        Ok(ControlPosition { version, ..self.decided_position() })
    }

    /// A leader that was cut off knows nothing of what another has decided since: so a majority is asked.
    async fn confirmed(&self, group: &ControlGroup) -> Result<ControlVersion, CallRefusal> {
        group.confirm_leadership().await.map_err(|error| {
            debug!(%error, "this node cannot say how far what is decided is");
            CallRefusal::NotLeader { leader: group.status().leader.map(|leader| leader.node) }
        })?;
        // Of what has changed nothing the others do not hear.
        Ok(group.decided().changed)
    }
}
