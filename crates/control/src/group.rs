//! [`ControlGroup`]: this node's part in the control group, and all that the node needs to know of it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{CheckIsLeaderError, InitializeError, RaftError};
use openraft::{Config, EmptyNode, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::warn;
use wattle_core::ids::NodeId;
use wattle_core::limits::{CONTROL_COMMAND_BYTES, CONTROL_LOG_ENTRIES, CONTROL_LOG_KEPT, CONTROL_PROPOSALS};

use crate::candidacy::{self, Outrun};
use crate::check_quorum::Silence;
use crate::disk::{Contents, Disk, DiskError, json};
use crate::identity::{GroupId, Identity, VoterId};
use crate::incoming::Incoming;
use crate::log_store::LogStore;
use crate::machine::{Machine, Snapshots};
use crate::membership::{self, ChangeError};
use crate::network::{Network, Transport};
use crate::proposal::{Proposal, ProposalId, ProposeError};
use crate::proposer::{self, Waiting};
use crate::raft::{Fatal, Metrics, Payload, Raft};
use crate::replicated::{Decided, Observer};
use crate::status::Status;
use crate::successor::Successor;
use crate::writer::Writer;
use crate::{Applied, Command, State};

/// What a node begins its part with.
pub struct Options {
    /// Who it is.
    pub identity: Identity,
    /// Where it remembers.
    pub storage: Storage,
    /// How fast it notices that a leader has gone.
    pub timing: Timing,
    /// Is told of every change of the state.
    pub observer: Observer,
}

/// Where a voter remembers its log and its vote.
#[derive(Debug)]
pub enum Storage {
    /// In this process. After it has ended, its identity must never be used again.
    Memory,
    /// In a file.
    Disk(Box<Disk>),
}

/// A group elects a new leader within `election` after the old one has gone, if votes are answered soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader is heard of.
    pub heartbeat: Duration,
    /// How long a voter waits for the leader before it wants to lead itself: each draws from this. More than twice `heartbeat`.
    pub election: Range<Duration>,
    /// How long a new voter may take to receive the log.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(600)..Duration::from_millis(1000),
            patience: Duration::from_secs(10),
        }
    }
}

impl Timing {
    /// For a grid whose copies are taken over after so long: who wants that to be fast waits for no leader of the group much longer, but
    /// for four heartbeats at least.
    #[must_use]
    pub fn beside_leases_of(term: Duration) -> Self {
        let default = Self::default();
        let start = term.clamp(default.heartbeat * 4, default.election.start);
        let end = default.election.end.mul_f64(start.div_duration_f64(default.election.start));
        Self { election: start..end, ..default }
    }

    /// Who has heard of a leader votes for nobody else so long. Others may have heard of it a heartbeat earlier.
    pub(crate) fn lease(&self) -> Duration {
        self.election.start.saturating_sub(self.heartbeat)
    }
}

/// Why a node cannot take its part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its file is not what it should be.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The times make no sense together.
    #[error("a voter cannot wait {election:?} for a leader that is heard of every {heartbeat:?}")]
    Timing {
        /// How often the leader is heard of.
        heartbeat: Duration,
        /// How long a voter waits.
        election: Range<Duration>,
    },
    /// The storage failed before the voter had begun, and said so in the log.
    #[error("the voter of the control group has not begun")]
    NotBegun(#[source] Box<dyn Error + Send + Sync>),
    /// The system draws no random number.
    #[error("no random number can be drawn")]
    NoRandomness(#[source] getrandom::Error),
}

/// Why a group was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// There is one.
    #[error("the control group is there already")]
    Exists,
    /// This voter has ended.
    #[error(transparent)]
    NotDecided(#[from] ProposeError),
}

/// Why this node cannot say that it leads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// It does not.
    #[error("this node does not lead the control group")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<VoterId>,
    },
    /// It did, and cannot reach enough of the others.
    #[error("a majority of the voters cannot be reached")]
    NoMajority,
    /// This voter has ended.
    #[error("this voter of the control group has ended")]
    Ended,
}

/// A node's part in the control group. It needs a tokio runtime with time, and ends when it is dropped.
pub struct ControlGroup {
    identity: Identity,
    timing: Timing,
    raft: Raft,
    incoming: Incoming,
    successor: Successor,
    queue: mpsc::Sender<Waiting>,
    published: watch::Receiver<Decided>,
    nonces: AtomicU64,
    changing: Semaphore,
    /// The proposer and the like: they use Raft.
    helpers: Mutex<JoinSet<()>>,
    /// Ends by itself when nothing is left to write.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl ControlGroup {
    /// Takes this node's part: goes on where its storage says, or waits to be created or to be given the log. A voter that led and
    /// is alone leads at once.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: Options, transport: impl Transport) -> Result<Self, StartError> {
        let Options { identity, storage, timing, observer } = options;
        let config = config(&timing)?;
        let nonces = getrandom::u64().map_err(StartError::NoRandomness)?;
        let Opened { path, mut contents, writer, writing } = open(storage, identity).await?;
        let (publish, published) = watch::channel(Decided::default());
        let snapshots = Snapshots::new(contents.snapshot.take(), writer.clone());
        let machine = Machine::new(snapshots, publish, observer)
            .map_err(|source| DiskError::UnreadableSnapshot { path, source })?;
        let heavy = Arc::new(Notify::new());
        let log = LogStore::new(contents, writer, Arc::clone(&heavy));
        let silence = Silence::default();
        let (successor, outrun) = (Successor::of(identity.group), Outrun::default());
        let network = Network {
            own: identity,
            successor: successor.clone(),
            transport,
            pause: timing.heartbeat,
            piece_time: timing.patience,
            silence: silence.clone(),
            outrun: outrun.clone(),
        };
        let raft = Raft::new(identity.voter, Arc::new(config), network, log, machine).await;
        let raft = raft.map_err(|fatal| StartError::NotBegun(fatal.into()))?;

        let (queue, waiting) = mpsc::channel(CONTROL_PROPOSALS);
        let mut helpers = JoinSet::new();
        helpers.spawn(proposer::run(identity.voter, raft.clone(), waiting));
        helpers.spawn(lighten(raft.clone(), heavy));
        helpers.spawn(candidacy::stand(raft.clone(), timing.clone(), outrun));
        helpers.spawn(silence.keep(raft.clone(), timing.clone()));
        Ok(Self {
            incoming: Incoming::new(identity, raft.clone(), successor.clone()),
            successor,
            identity,
            timing,
            raft,
            queue,
            published,
            nonces: AtomicU64::new(nonces),
            changing: Semaphore::new(1),
            helpers: Mutex::new(helpers),
            writer: Mutex::new(writing),
        })
    }

    /// Who this node is in the group.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Creates the group, with this node as its only voter and `state` as its first state. A creation that was interrupted is gone
    /// on with.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn create(&self, state: State) -> Result<(), CreateError> {
        let own = self.identity.voter;
        match self.raft.initialize(BTreeMap::from([(own, EmptyNode {})])).await {
            Ok(()) => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) if self.is_half_created() => {}
            Err(RaftError::APIError(_)) => return Err(CreateError::Exists),
            Err(RaftError::Fatal(_)) => return Err(ProposeError::Ended.into()),
        }
        self.until(|status| status.leader == Some(own)).await.ok_or(ProposeError::Ended)?;
        let payload = Payload::begin(state);
        let is_large = json(&payload).len() > CONTROL_COMMAND_BYTES;
        proposer::write(own, &self.raft, payload).await?;
        if is_large {
            // An entry of the log would not fit a message; a snapshot is sent in pieces.
            compact(&self.raft).await.map_err(|_| ProposeError::Ended)?;
        }
        Ok(())
    }

    /// Answers a request of another voter. `peer` is the node at the other end of the connection.
    pub async fn handle(&self, peer: NodeId, request: &Bytes) -> Bytes {
        self.incoming.handle(peer, request).await
    }

    /// The group that has taken the place of this one, if a voter of it was heard. This one decides nothing that counts any more.
    #[must_use]
    pub fn successor(&self) -> Option<GroupId> {
        self.successor.get()
    }

    /// Waits until there is one.
    pub async fn until_succeeded(&self) -> GroupId {
        self.successor.wait().await
    }

    /// Makes a proposal of a command. It is decided once, however often and wherever it is proposed.
    #[must_use]
    pub fn proposal(&self, command: Command) -> Proposal {
        let made_at = self.published.borrow().version;
        Proposal { id: ProposalId { made_at, nonce: self.nonces.fetch_add(1, Ordering::Relaxed) }, command }
    }

    /// Has a proposal decided, if this node leads: made durable by a majority and applied here.
    ///
    /// # Errors
    /// [`ProposeError`] says of each case whether it may be decided all the same. A leader that is cut off does not answer before
    /// it hears of another.
    pub async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        let bytes = json(&proposal.command).len();
        if bytes > CONTROL_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { bytes });
        }
        let (waiting, decided) = Waiting::new(proposal, bytes);
        self.queue.try_send(waiting).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ProposeError::Busy,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Ended,
        })?;
        decided.await.unwrap_or(Err(ProposeError::Ended))
    }

    /// The newest state that is applied here. On a follower it may be older than the leader's.
    #[must_use]
    pub fn decided(&self) -> Decided {
        self.published.borrow().clone()
    }

    /// Follows the state: a clone of it shares all its parts, so it can be kept to compare the next one with. Versions in between may
    /// be left out, and nobody is woken for what changes nothing. [`Options::observer`] is told of all changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Decided> {
        self.published.clone()
    }

    /// What can be seen of the group from here.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.raft.metrics().borrow())
    }

    /// Waits until the status is as wanted; `None` if it will not be any more because this voter has ended.
    pub async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Option<Status> {
        let mut metrics = self.raft.metrics();
        let is_wanted = |metrics: &Metrics| wanted(&Status::of(metrics)) || metrics.running_state.is_err();
        let found = Status::of(&*metrics.wait_for(is_wanted).await.ok()?);
        wanted(&found).then_some(found)
    }

    /// Returns when a majority has confirmed that this node leads, and all that was decided before is in the state here.
    ///
    /// # Errors
    /// [`ConfirmError`].
    pub async fn confirm_leadership(&self) -> Result<(), ConfirmError> {
        match self.raft.ensure_linearizable().await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                Err(ConfirmError::NotLeader { leader: forward.leader_id })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Err(ConfirmError::NoMajority),
            Err(RaftError::Fatal(_)) => Err(ConfirmError::Ended),
        }
    }

    /// Sends the log to a node that has no vote, and returns when it has all of it so far.
    ///
    /// # Errors
    /// [`ChangeError`]; the log may still be sent to it.
    pub async fn add_learner(&self, learner: VoterId) -> Result<(), ChangeError> {
        let _alone = self.changing.try_acquire().map_err(|_| ChangeError::InProgress)?;
        membership::add_learner(&self.raft, learner, self.timing.patience).await
    }

    /// Does not send the log any more to a node that has no vote.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn remove_learner(&self, learner: VoterId) -> Result<(), ChangeError> {
        let _alone = self.changing.try_acquire().map_err(|_| ChangeError::InProgress)?;
        membership::remove_learner(&self.raft, learner, self.timing.patience).await
    }

    /// Makes these the voters, and returns when they are. New ones are given the log first. Those that are not among them any more
    /// lose their votes and go on getting the log, this node too: then somebody else leads.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change_voters(&self, voters: &BTreeSet<VoterId>) -> Result<(), ChangeError> {
        let _alone = self.changing.try_acquire().map_err(|_| ChangeError::InProgress)?;
        membership::change_voters(&self.raft, voters, self.timing.patience).await
    }

    /// Ends this voter, and returns when its file is closed. The state can still be read.
    pub async fn shutdown(&self) {
        if self.raft.shutdown().await.is_err() {
            warn!("voter of the control group had panicked");
        }
        let mut helpers = std::mem::take(&mut *self.helpers.lock());
        helpers.shutdown().await;
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            warn!("writer of the control log had panicked");
        }
    }

    /// Whether a creation was interrupted after this voter had made itself the only one.
    fn is_half_created(&self) -> bool {
        let status = self.status();
        !self.published.borrow().created && status.voters == BTreeSet::from([self.identity.voter])
    }
}

impl fmt::Debug for ControlGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlGroup")
            .field("identity", &self.identity)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("identity", &self.identity)
            .field("storage", &self.storage)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// What a voter remembers, and how it remembers more.
struct Opened {
    path: PathBuf,
    contents: Contents,
    writer: Option<Writer>,
    writing: Option<JoinHandle<()>>,
}

async fn open(storage: Storage, identity: Identity) -> Result<Opened, DiskError> {
    let mut disk = match storage {
        Storage::Memory => {
            let (path, contents) = (PathBuf::new(), Contents::default());
            return Ok(Opened { path, contents, writer: None, writing: None });
        }
        Storage::Disk(disk) => *disk,
    };
    let claimed = tokio::task::spawn_blocking(move || disk.claim(identity).map(|()| disk));
    let Disk { path, database, contents } = claimed.await.expect("a claim does not panic")?;
    let (writer, run) = Writer::new(database);
    Ok(Opened { path, contents, writer: Some(writer), writing: Some(tokio::spawn(run)) })
}

fn config(timing: &Timing) -> Result<Config, StartError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let lease = millis(timing.lease());
    let config = Config {
        cluster_name: "wattle".into(),
        heartbeat_interval: millis(timing.heartbeat),
        // Of these openraft takes nothing but the lease, which is the longer one.
        enable_elect: false,
        election_timeout_min: lease.saturating_sub(1),
        election_timeout_max: lease,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(CONTROL_LOG_ENTRIES),
        max_in_snapshot_log_to_keep: CONTROL_LOG_KEPT,
        replication_lag_threshold: CONTROL_LOG_ENTRIES + CONTROL_LOG_KEPT,
        ..Config::default()
    };
    let Timing { heartbeat, election, .. } = timing.clone();
    config.validate().map_err(|_| StartError::Timing { heartbeat, election })
}

/// Takes a snapshot when the entries since the last one are many bytes, though they are few.
async fn lighten(raft: Raft, heavy: Arc<Notify>) {
    loop {
        heavy.notified().await;
        if compact(&raft).await.is_err() {
            return;
        }
    }
}

/// Puts a snapshot in the place of the whole log.
async fn compact(raft: &Raft) -> Result<(), Fatal> {
    let mut metrics = raft.metrics();
    let applied = metrics.borrow().last_applied;
    raft.trigger().snapshot().await?;
    let taken = metrics.wait_for(|metrics| metrics.snapshot >= applied || metrics.running_state.is_err());
    let index = taken.await.map_err(|_| Fatal::Stopped)?.snapshot.map_or(0, |snapshot| snapshot.index);
    raft.trigger().purge_log(index).await
}
