//! The control group is built anew after it was lost, here or elsewhere.

use tokio::time::timeout;
use tracing::{error, warn};
use wattle_control::{GroupId, Identity};
use wattle_core::control::GroupRefusal;
use wattle_core::control::grid::{Grid, Node};
use wattle_core::ids::NodeId;
use wattle_core::limits::REPORT_TIME;
use wattle_peers::{Ask, ControlPosition, Generation, Standing};

use super::Control;
use super::voter::BuildError;
use crate::peering::Links;

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
    /// It was built on both sides of a cut, and what the members of the two have done since does not fit together.
    #[error(
        "the control group was built anew twice in generation {generation}, by nodes {one} and {other}: choose one, stop the nodes of the \
         other's group, and start those with empty data directories"
    )]
    Twice {
        /// In which generation.
        generation: u32,
        /// Who has built the one.
        one: u64,
        /// And the other.
        other: u64,
    },
    /// What is left of it is not what people were shown.
    #[error("the nodes that answer, or what they know, are not what was shown: look again")]
    Changed,
    /// There is none to be built anew, or it was too often.
    #[error(transparent)]
    Refused(#[from] GroupRefusal),
    /// Who knows most cannot build anything.
    #[error("no node that answers has a control log that takes writes: make room on its disk")]
    NoVoter,
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

    /// Builds the control group anew from what this node knows, in a generation beyond all that anybody has heard of: what was decided beyond
    /// that is gone. People ask for it, who know that the group is lost.
    ///
    /// # Errors
    /// Nothing has changed.
    pub(crate) async fn rebuild(&self, generation: u32) -> Result<(), NotRebuilt> {
        let Identity { group, voter } = self.voter.identity();
        let known = self.decided();
        // Somebody else may have asked for it meanwhile.
        if generation <= group.generation.max(known.grid().map_or(0, Grid::generation)) {
            return Err(NotRebuilt::Changed);
        }
        let state = known.rebuilt(generation, voter.node)?;
        let new = GroupId { generation, founder: voter.node, ..group };
        if !self.voter.build(new, state).await? {
            return Err(NotRebuilt::Changed);
        }
        warn!(generation, "the control group is built anew from what this node knew");
        Ok(())
    }

    /// In which control group the process of a node takes part, if it is there, if only to wait for the others of its grid.
    pub(crate) async fn group_of(&self, node: &Node) -> Option<GroupId> {
        let ask = Ask { process: 0, founds: false };
        let (there, group) = found_at(&self.links, &node.description.peer_address, ask).await?;
        (there == node.id()).then_some(group)
    }
}

/// Which node of a grid is at an address, and in which control group it takes part.
pub(super) async fn found_at(links: &Links, address: &str, ask: Ask) -> Option<(NodeId, GroupId)> {
    let (standing, situation) = timeout(REPORT_TIME, links.ask(address, ask)).await.ok()?.ok()?;
    let (grid, node) = match standing {
        Standing::Fresh { .. } => return None,
        Standing::Returning { grid, node } => (grid.id, node),
        Standing::Member { grid, member } => (grid.id, member.node),
    };
    let Generation { number: generation, founder } = situation.generation?;
    Some((node, GroupId { grid, generation, founder }))
}
