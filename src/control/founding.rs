//! How this node comes to its control group: it goes on with the one on its disk, or it creates a grid.

use std::sync::Arc;

use wattle_control::{CreateError, GroupId, Identity, Storage, VoterId};
use wattle_core::control::grid::{
    GridApplied, GridCommand, GridId, JoinNonce, Joining, NewGrid, NodeDescription, OnFullLoss,
};
use wattle_core::control::{GroupApplied, GroupCommand, GroupState};
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::name::Name;

use super::voter::{Voter, VoterError, open};
use super::{Control, DataDirectory, NotDecided};

/// What a node says that may create a grid.
#[derive(Debug, Clone)]
pub(crate) struct Founding {
    /// Of the grid.
    pub(crate) name: Name,
    pub(crate) partitions: u16,
    pub(crate) description: NodeDescription,
}

/// The format of what is decided and of what nodes say to each other.
pub(crate) const FORMAT: u32 = 1;

/// Takes this node's part in the group of its data directory, or in one that it creates; and says who the node is in the grid now.
pub(crate) async fn start(
    directory: Option<&DataDirectory>,
    founding: Founding,
) -> Result<(Arc<Control>, MemberId), VoterError> {
    let path = directory.map(DataDirectory::control_log);
    let storage = open(path.as_deref()).await?;
    let identity = match &storage {
        Storage::Disk(disk) => disk.identity(),
        Storage::Memory => None,
    };
    let identity = identity.map_or_else(new_identity, Ok)?;
    let voter = Voter::begin(identity, path, storage).await?;
    let nonce = JoinNonce(random()?);
    let grid = GridId(identity.group.grid.to_be_bytes());
    let Founding { name, partitions, description } = founding;
    let founder = Joining { grid, nonce, known: None, description };
    let mut state = GroupState::default();
    let joining = founder.clone();
    let new = NewGrid { name, format: FORMAT, partitions, on_full_loss: OnFullLoss::StartEmpty, founder };
    state.apply(&GroupCommand::Create(Box::new(new)))?;
    let group = voter.group().await?;
    match group.create(state).await {
        Ok(()) | Err(CreateError::Exists) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(directory) = directory.filter(|directory| directory.is_new()) {
        directory.complete().map_err(VoterError::Format)?;
    }
    group.confirm_leadership().await?;
    let control = Control::new(voter);
    let member = join(&control, joining).await?;
    Ok((Arc::new(control), member))
}

/// Who the process is that begins now: a node that was here has lost its memory.
async fn join(control: &Control, joining: Joining) -> Result<MemberId, VoterError> {
    let node = control.voter.identity().voter.node;
    let known = control.decided().grid().and_then(|grid| grid.node(node)).map(|node| node.member);
    let join = GroupCommand::Grid(GridCommand::Join(Box::new(Joining { known, ..joining })));
    // Nobody follows yet.
    let group = control.voter.group().await?;
    let joined = group.propose(group.proposal(join)).await;
    match joined.map_err(|error| Box::new(NotDecided::InDoubt(error)))? {
        GroupApplied::Grid(GridApplied::Joined { member, .. }) => Ok(member),
        other => unreachable!("a join is answered with {other:?}"),
    }
}

/// Of a grid that is to be, and of its first voter.
fn new_identity() -> Result<Identity, VoterError> {
    let grid = u128::from_be_bytes(random()?);
    let voter = VoterId { node: NodeId(1), incarnation: 1 };
    Ok(Identity { group: GroupId { grid, generation: 1 }, voter })
}

fn random() -> Result<[u8; 16], VoterError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(VoterError::NoRandomness)?;
    Ok(bytes)
}
