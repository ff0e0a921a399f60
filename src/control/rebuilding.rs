//! The control group is built anew after it was lost, here or elsewhere.

use tokio::time::timeout;
use tracing::{error, warn};
use wattle_control::{GroupId, Identity};
use wattle_core::control::GroupRefusal;
use wattle_core::control::grid::{Grid, Node};
use wattle_core::limits::REPORT_TIME;
use wattle_peers::{Ask, ControlPosition, Standing};

use super::Control;
use super::voter::BuildError;

/// Why the control group is not built anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRebuilt {
    /// It is not lost.
    #[error("{there} of {voters} voters are there: the control group is not lost")]
    Lives {
        /// Voters whose processes are there.
        there: usize,
        /// All of them.
        voters: usize,
    },
    /// What is left of it is not what people were shown.
    #[error("the nodes that answer, or what they know, are not what was shown: look again")]
    Changed,
    /// There is none to be built anew, or it was too often.
    #[error(transparent)]
    Refused(#[from] GroupRefusal),
    /// It was, and this node knows too little of that one.
    #[error("the control group was built anew already")]
    Succeeded,
    /// It cannot be.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Control {
    /// How much this node knows of what was decided.
    pub(crate) fn known(&self) -> ControlPosition {
        let decided = self.decided.borrow();
        let generation = decided.state.grid().map_or(0, Grid::generation);
        ControlPosition { generation, version: decided.version.0 }
    }

    /// Which control group this node takes part in.
    pub(crate) fn group_id(&self) -> GroupId {
        self.voter.identity().group
    }

    /// Another group has taken the place of this one's, as a voter of it says: this node takes part in that.
    pub(crate) async fn succeed(&self, group: GroupId) {
        if let Err(error) = self.voter.succeed(group).await {
            error!(%error, "this node cannot take part in the new control group");
        }
    }

    /// Builds the control group anew from what this node knows: what was decided beyond that is gone. People ask for it, who know that the
    /// group is lost. Returns the new one's generation.
    ///
    /// # Errors
    /// Nothing has changed.
    pub(crate) async fn rebuild(&self) -> Result<u32, NotRebuilt> {
        let Identity { group, voter } = self.voter.identity();
        let state = self.decided().rebuilt()?;
        let generation = state.grid().map_or(0, Grid::generation);
        // Else this node takes part in a newer one already, and has nothing of it yet.
        if generation != group.generation + 1 {
            return Err(NotRebuilt::Succeeded);
        }
        let new = GroupId { generation, founder: voter.node, ..group };
        if !self.voter.build(new, state).await? {
            return Err(NotRebuilt::Succeeded);
        }
        warn!(generation, "the control group is built anew from what this node knew");
        Ok(generation)
    }

    /// Whether the process of a node is there, if only to wait for the others of its grid.
    pub(crate) async fn is_there(&self, node: &Node) -> bool {
        let asked = self.links.ask(&node.description.peer_address, Ask { process: 0, founds: false });
        match timeout(REPORT_TIME, asked).await {
            Ok(Ok((Standing::Returning { node: there, .. }, _))) => there == node.id(),
            Ok(Ok((Standing::Member { member, .. }, _))) => member.node == node.id(),
            Ok(Ok((Standing::Fresh { .. }, _)) | Err(_)) | Err(_) => false,
        }
    }
}
