//! How a node comes to its grid: it goes on with the one of its data directory, joins the one of others, or founds one.

mod coming_back;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use wattle_control::{CreateError, GroupId, Identity, Storage, Timing};
use wattle_core::control::grid::{
    Found, GridId, JoinNonce, Joining, NewGrid, NodeDescription, OnFullLoss, Step, Waiting,
};
use wattle_core::control::{GroupCommand, GroupRefusal, GroupState};
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::name::Name;
use wattle_discovery::{Claim, Discovery};
use wattle_peers::{Admission, Ask, AskError, Grid, LinkError, Refusal, Standing};

use super::voter::{Voter, VoterError, open};
use super::{Control, DataDirectory, voter_of};
use crate::failure::Failure;
use crate::peering::{ControlWay, Creation, Inside, Links};

/// The format of what is decided and of what nodes say to each other.
pub(crate) const FORMAT: u32 = 1;
/// How long to wait before others are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// And where somebody else has claimed the grid: that may last until people do something about it.
const PAUSE_AFTER_CLAIM: Duration = Duration::from_secs(3);

/// What a node comes with.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Of the grid that it founds or looks for; without one it takes what there is.
    pub(crate) grid: Option<Name>,
    /// Of the grid that it founds.
    pub(crate) partitions: u16,
    /// Where others may be. If nowhere it founds a grid, unless it has one.
    pub(crate) others: Discovery,
    pub(crate) description: NodeDescription,
    /// For how long it grants leases.
    pub(crate) lease_term: Duration,
    /// Drawn by this process.
    pub(crate) process: u128,
}

/// The first node of every grid.
const FOUNDER: NodeId = NodeId(1);
/// What a grid is called whose founder has said nothing else.
const NAME: &str = "wattle";

/// Why a node is in no grid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrivalError {
    /// Its voter does not begin.
    #[error(transparent)]
    Voter(#[from] VoterError),
    /// It cannot found a grid of this kind, or the grid does not take it.
    #[error("the grid does not take this node")]
    Refused(#[from] GroupRefusal),
    /// It is not founded.
    #[error("the grid cannot be founded")]
    NotFounded(#[from] CreateError),
    /// Another node has nothing to do with this one.
    #[error("{address} refuses this node")]
    Stranger {
        /// Who was asked.
        address: String,
        /// Why.
        source: Box<LinkError>,
    },
    /// The data directory is of a node that the grid has forgotten.
    #[error(
        "the grid has forgotten node {}, whose data directory this is: say where other nodes are (--join) to join as a new one",
        node.0
    )]
    Forgotten {
        /// Which one.
        node: NodeId,
    },
    /// The data directory was of a node that the grid has forgotten, and is of none any more.
    #[error("the grid has forgotten node {}: the next start in this data directory joins as a new node", node.0)]
    PutAside {
        /// Which one.
        node: NodeId,
    },
    /// What is in the data directory cannot be put aside.
    #[error("the grid has forgotten node {}, and its control log cannot be put aside", node.0)]
    NotPutAside {
        /// Which one.
        node: NodeId,
        /// What the system says.
        source: std::io::Error,
    },
    /// The data directory is of one of two groups that know nothing of each other.
    #[error(
        "the control group was built anew twice in generation {generation}: by node {}, of whose group this data directory is, and by node {}, \
         of whose group nodes answer. Choose one: stop the nodes of the other's group, and start those with empty data directories", here.0, there.0
    )]
    BuiltTwice {
        /// In which generation.
        generation: u32,
        /// Who has built the group of the data directory.
        here: NodeId,
        /// Who has built that of others.
        there: NodeId,
    },
    /// The data directory is of a grid of another name.
    #[error(
        "the data directory is of grid {found:?}, and the node looks for grid {meant}: say the one, or use another directory"
    )]
    OtherGrid {
        /// Of which one it is.
        found: String,
        /// What the node looks for.
        meant: Name,
    },
    /// The data directory cannot be completed.
    #[error("cannot write the format of the data directory")]
    Format(#[source] std::io::Error),
    /// The data directory cannot be looked into.
    #[error("cannot look for control logs in the data directory")]
    Unreadable(#[source] std::io::Error),
    /// The system draws no random number.
    #[error("no random number can be drawn")]
    NoRandomness(#[source] getrandom::Error),
}

/// Takes this node's part in a grid, and says who it is there. Returns when this node knows what was decided up to then.
pub(crate) async fn arrive(
    directory: Option<&DataDirectory>,
    arrival: Arrival,
    (links, inside): (&Arc<Links>, &Inside),
) -> Result<(Arc<Control>, MemberId), ArrivalError> {
    let (path, storage) = match directory {
        Some(directory) => newest_log(directory).await?,
        None => (None, Storage::Memory),
    };
    let identity = match &storage {
        Storage::Disk(disk) => disk.identity(),
        Storage::Memory => None,
    };
    let nonce = JoinNonce(arrival.process.to_be_bytes());
    let joins = !arrival.others.is_nowhere();
    let arriving = Arriving { arrival, nonce, links, inside };
    let store = (path, storage);
    let (control, member) = match identity {
        Some(identity) => match (arriving.come_back(identity, store).await, directory) {
            (Err(ArrivalError::Forgotten { node }), Some(directory)) if joins => {
                let put_aside = directory.put_control_logs_aside();
                put_aside.map_err(|source| ArrivalError::NotPutAside { node, source })?;
                return Err(ArrivalError::PutAside { node });
            }
            (came_back, _) => came_back?,
        },
        None if arriving.arrival.others.is_nowhere() => {
            arriving.found(u128::from_be_bytes(random()?), store).await?
        }
        None => arriving.join(store).await?,
    };
    if let Some(directory) = directory.filter(|directory| directory.is_new()) {
        directory.complete().map_err(ArrivalError::Format)?;
    }
    let is_there =
        |state: &GroupState| state.grid().and_then(|grid| grid.node(member.node)).map(|node| node.member);
    let mut decided = control.watch();
    let seen = decided.wait_for(|decided| is_there(&decided.state) == Some(member)).await;
    seen.map_err(|_| VoterError::from(wattle_control::ConfirmError::Ended))?;
    Ok((control, member))
}

/// The log of the newest generation that this node has got anything of.
async fn newest_log(directory: &DataDirectory) -> Result<Store, ArrivalError> {
    let logs = directory.control_logs().map_err(ArrivalError::Unreadable)?;
    let (first, later) = logs.split_last().expect("there is always a first one");
    for path in later {
        let storage = open(Some(path)).await.map_err(VoterError::from)?;
        if matches!(&storage, Storage::Disk(disk) if disk.has_begun()) {
            return Ok((Some(path.clone()), storage));
        }
    }
    let storage = open(Some(first)).await.map_err(VoterError::from)?;
    Ok((Some(first.clone()), storage))
}

/// Who this node is, and all members with their places.
type Admitted = (MemberId, Vec<(MemberId, String)>);

type Store = (Option<std::path::PathBuf>, Storage);

struct Arriving<'a> {
    arrival: Arrival,
    nonce: JoinNonce,
    links: &'a Arc<Links>,
    inside: &'a Inside,
}

impl Arriving<'_> {
    fn joining(&self, grid: u128, known: Option<MemberId>) -> Joining {
        let description = self.arrival.description.clone();
        Joining { grid: GridId(grid.to_be_bytes()), nonce: self.nonce, known, description }
    }

    async fn begin(&self, identity: Identity, store: Store) -> Result<Arc<Control>, ArrivalError> {
        let way = ControlWay(Arc::clone(self.links));
        let timing = Timing::beside_leases_of(self.arrival.lease_term);
        let voter = Voter::begin(identity, (way, timing), store).await.map_err(VoterError::from)?;
        let control = Arc::new(Control::new(voter, Arc::clone(self.links)));
        self.inside.set_control(&control);
        Ok(control)
    }

    fn become_member(&self, grid: Grid, member: MemberId) {
        self.links.set_standing(Standing::Member { grid, member });
    }

    /// Founds a grid, of which this node is the first.
    async fn found(self, id: u128, store: Store) -> Result<(Arc<Control>, MemberId), ArrivalError> {
        let state = self.founded(id)?;
        let group = GroupId::first(id);
        let control = self.begin(Identity { group, voter: voter_of(FOUNDER) }, store).await?;
        let name = create(&control, state).await?;
        let member = MemberId { node: FOUNDER, incarnation: 1 };
        self.become_member(Grid { id, name }, member);
        Ok((control, member))
    }

    fn founded(&self, id: u128) -> Result<GroupState, ArrivalError> {
        let name = self.arrival.grid.clone().unwrap_or_else(|| Name::new(NAME).expect("a constant"));
        let founder = self.joining(id, None);
        let (partitions, on_full_loss) = (self.arrival.partitions, OnFullLoss::StartEmpty);
        let new = NewGrid { name, format: FORMAT, partitions, on_full_loss, founder };
        let mut state = GroupState::default();
        state.apply(&GroupCommand::Create(Box::new(new)))?;
        Ok(state)
    }

    /// Joins the grid of others as soon as one of them is in one, or founds one with them if that was asked for.
    async fn join(self, store: Store) -> Result<(Arc<Control>, MemberId), ArrivalError> {
        // The same in all attempts: an answer to a claim may be lost.
        let id = u128::from_be_bytes(random()?);
        let mut said = None;
        let mut founds = false;
        let mut creations = self.inside.creations();
        let mut creation: Option<Creation> = None;
        loop {
            let addresses = self.addresses().await;
            let looks = addresses.iter().map(|address| self.look(address, founds));
            let (found, grids): (Vec<Found>, Vec<_>) = try_join_all(looks).await?.into_iter().unzip();
            let grids =
                addresses.iter().cloned().zip(grids).filter_map(|(address, grid)| Some((address, grid?)));
            let step = match self.inside.decide(&found) {
                Step::Found => self.claim(id, said).await,
                step => step,
            };
            match step {
                Step::Join(_) => {
                    if let Some((grid, admitted)) = self.admitted_by_one_of(grids.collect()).await? {
                        answer(&mut creation, || Err(Failure::InGrid));
                        return self.joined(grid, admitted, store).await;
                    }
                }
                Step::Court if !founds => {
                    founds = true;
                    continue;
                }
                Step::Court => {}
                Step::Found => {
                    let founded = self.found(id, store).await?;
                    let name =
                        founded.0.decided().grid().map_or_else(String::new, |grid| grid.name().to_string());
                    let id = founded.0.voter.identity().group.grid;
                    answer(&mut creation, || Ok(Grid { id, name }));
                    return Ok(founded);
                }
                Step::Wait(why) if creation.is_some() => {
                    self.inside.tell(None);
                    answer(&mut creation, || Err(Failure::NotCreated(why)));
                }
                Step::Wait(why) if said != Some(why) => {
                    info!(others = ?addresses, %why, "waiting for a grid");
                    said = Some(why);
                }
                Step::Wait(_) => {}
            }
            // Whoever is told so looks at once.
            tokio::select! {
                () = sleep(if said == Some(Waiting::Claimed) { PAUSE_AFTER_CLAIM } else { PAUSE }) => {}
                Some(asked) = creations.recv(), if creation.is_none() => {
                    self.inside.tell(Some(asked.told));
                    creation = Some(asked);
                }
            }
        }
    }

    /// Found it, if nobody has claimed another grid: where and why not is said once.
    async fn claim(&self, id: u128, said: Option<Waiting>) -> Step {
        match self.arrival.others.claim(&GridId(id.to_be_bytes()).to_string()).await {
            Ok(Claim::Own) => Step::Found,
            Ok(Claim::Other { config_map, grid }) => {
                if said != Some(Waiting::Claimed) {
                    warn!(
                        config_map,
                        grid,
                        "a grid was founded here before, and none of its nodes is found: if it is gone for good, delete the ConfigMap"
                    );
                }
                Step::Wait(Waiting::Claimed)
            }
            Err(error) => {
                if said != Some(Waiting::Unclaimed) {
                    warn!(%error, source = error.source(), "the grid cannot be claimed: trying again");
                }
                Step::Wait(Waiting::Unclaimed)
            }
        }
    }

    async fn admitted_by_one_of(
        &self,
        grids: Vec<(String, Grid)>,
    ) -> Result<Option<(Grid, Admitted)>, ArrivalError> {
        for (address, grid) in grids {
            if let Some(admitted) = self.admitted_by(&address, &self.joining(grid.id, None)).await? {
                return Ok(Some((grid, admitted)));
            }
        }
        Ok(None)
    }

    /// Where others may be, as soon as that can be said: as long as it is not known who is there, nothing is founded.
    async fn addresses(&self) -> Vec<String> {
        let mut silent = false;
        loop {
            match self.arrival.others.addresses().await {
                Ok(addresses) => return addresses,
                Err(error) if silent => debug!(%error, "other nodes are still not found"),
                Err(error) => {
                    warn!(%error, source = error.source(), "other nodes are not found: looking again")
                }
            }
            silent = true;
            sleep(PAUSE).await;
        }
    }

    /// Looks who is at an address, and in which grid.
    async fn look(&self, address: &str, founds: bool) -> Result<(Found, Option<Grid>), ArrivalError> {
        let process = |process: u128| JoinNonce(process.to_be_bytes());
        match self.links.ask(address, Ask { process: self.arrival.process, founds }).await {
            Ok((Standing::Fresh { .. }, situation)) => {
                let promised = situation.promised.map(process);
                Ok((Found::Fresh { process: process(situation.process), promised }, None))
            }
            Ok((Standing::Returning { grid, .. } | Standing::Member { grid, .. }, _)) => {
                let id = GridId(grid.id.to_be_bytes());
                Ok((Found::Node { grid: id }, Some(grid)))
            }
            Err(error) => {
                not_asked(address, error)?;
                Ok((Found::Nobody, None))
            }
        }
    }

    async fn joined(
        &self,
        grid: Grid,
        (member, members): Admitted,
        store: Store,
    ) -> Result<(Arc<Control>, MemberId), ArrivalError> {
        // If the grid has a later one by now, who leads that says so.
        let group = GroupId::first(grid.id);
        let control = self.begin(Identity { group, voter: voter_of(member.node) }, store).await?;
        self.become_member(grid, member);
        self.links.set_members(members);
        Ok((control, member))
    }

    async fn admitted_by(&self, address: &str, joining: &Joining) -> Result<Option<Admitted>, ArrivalError> {
        let bytes = serde_json::to_vec(joining).expect("what joins is JSON");
        match self.links.join(address, bytes.into()).await {
            Ok((_, Admission::Admitted { member, members })) => Ok(Some((member, members))),
            Ok((_, Admission::Refused(refusal))) => match serde_json::from_slice::<GroupRefusal>(&refusal) {
                Ok(refusal) => Err(refusal.into()),
                Err(error) => {
                    warn!(address, %error, "why this node is refused is not understood");
                    Ok(None)
                }
            },
            Err(error) => {
                not_asked(address, error)?;
                Ok(None)
            }
        }
    }
}

/// Answers who wanted a grid to be founded, if anybody did.
fn answer(creation: &mut Option<Creation>, with: impl FnOnce() -> Result<Grid, Failure>) {
    if let Some(creation) = creation.take() {
        // Who asked may have gone.
        creation.answer.send(with()).ok();
    }
}

/// Creates the control group, and the grid with it; returns its name.
async fn create(control: &Control, state: GroupState) -> Result<String, ArrivalError> {
    let group = control.voter.group().await?;
    group.create(state).await?;
    group.confirm_leadership().await.map_err(VoterError::from)?;
    let state = control.decided();
    let name = state.grid().map(|grid| grid.name().to_string()).unwrap_or_default();
    info!(grid = name, "grid founded");
    Ok(name)
}

/// Whether another may be asked, or this one again: not who says that the two have nothing to do with each other.
fn not_asked(address: &str, error: AskError) -> Result<(), ArrivalError> {
    match error {
        AskError::Link(
            source @ (LinkError::Refused(
                Refusal::OtherGrid { .. } | Refusal::OtherSecret { .. } | Refusal::NoCommonVersion { .. },
            )
            | LinkError::Denied(
                Refusal::OtherGrid { .. } | Refusal::OtherSecret { .. } | Refusal::NoCommonVersion { .. },
            )),
        ) => Err(ArrivalError::Stranger { address: address.to_owned(), source: Box::new(source) }),
        error => {
            debug!(address, %error, "no answer");
            Ok(())
        }
    }
}

fn random() -> Result<[u8; 16], ArrivalError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(ArrivalError::NoRandomness)?;
    Ok(bytes)
}
