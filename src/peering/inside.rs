//! [`Inside`]: what this node does about what others say.

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{debug, info, warn};
use wattle_control::Role;
use wattle_core::control::grid::{Found, JoinNonce, Newcomer, Step, Told};
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::MAJORITY_TIME;
use wattle_peers::{
    Admission, Ask, CallRefusal, ControlPosition, Decided, Event, Follow, Generation, Handler, Heartbeat,
    HeartbeatAnswer, LinkError, PeerMessage, Refusal, Situation,
};

use super::Links;
use crate::control::Control;
use crate::failure::Failure;
use crate::membership::{Sessions, Suspects};
use crate::partition::Partitions;

/// What this node does about what others say. Its parts come as they are there: its voter is needed before it is known who the node is.
#[derive(Debug, Clone)]
pub(crate) struct Inside(Arc<Known>);

#[derive(Debug)]
struct Known {
    /// Drawn by this process.
    process: u128,
    /// Until it is in a grid. Held to ask it.
    newcomer: Mutex<Newcomer>,
    /// To where the node waits for a grid, as long as it does. Held to look it up or to exchange it.
    creations: Mutex<Option<mpsc::Sender<Creation>>>,
    /// Why a link was refused last. Held to compare it.
    denied: Mutex<String>,
    // Weak, for they hold the links, which hold this.
    links: OnceLock<Weak<Links>>,
    control: OnceLock<Weak<Control>>,
    member: OnceLock<Member>,
    /// Another has said that this node is no member.
    unknown: Notify,
}

/// People want a grid to be founded, and wait for the answer.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) told: Told,
    pub(crate) answer: oneshot::Sender<Result<wattle_peers::Grid, Failure>>,
}

/// The parts of a node that is a member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) partitions: Weak<Partitions>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) suspects: Suspects,
}

impl Inside {
    /// Of a process that is in no grid yet.
    pub(crate) fn new(process: u128, newcomer: Newcomer) -> Self {
        let newcomer = Mutex::new(newcomer);
        let (creations, denied, links, control, member, unknown) = Default::default();
        Self(Arc::new(Known { process, newcomer, creations, denied, links, control, member, unknown }))
    }

    /// What this process does next that is in no grid.
    pub(crate) fn decide(&self, found: &[Found]) -> Step {
        self.0.newcomer.lock().decide(found)
    }

    /// Waits until another says that this node is no member. What was said before does not count.
    pub(crate) async fn is_unknown(&self) {
        self.0.unknown.notified().await;
    }

    /// What people want of a node that waits for a grid, one after the other.
    pub(crate) fn creations(&self) -> mpsc::Receiver<Creation> {
        let (sender, receiver) = mpsc::channel(1);
        *self.0.creations.lock() = Some(sender);
        receiver
    }

    /// What people want is this from now on.
    pub(crate) fn tell(&self, told: Option<Told>) {
        self.0.newcomer.lock().tell(told);
    }

    /// Has the node found a grid, if it waits for one.
    pub(crate) async fn create(&self, told: Told) -> Result<wattle_peers::Grid, Failure> {
        let (answer, answered) = oneshot::channel();
        let creations = self.0.creations.lock().clone().ok_or(Failure::NoMember)?;
        creations.try_send(Creation { told, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Failure::CreatesGrid,
            TrySendError::Closed(_) => Failure::NoMember,
        })?;
        answered.await.unwrap_or(Err(Failure::NoMember))
    }

    /// Has a node forgotten, if this one waits for it or others to answer that it was in a grid with.
    pub(crate) async fn forget(&self, node: NodeId) -> Result<u32, Failure> {
        self.control().map_err(|_| Failure::NoMember)?.forget_silent(node).await
    }

    pub(crate) fn set_links(&self, links: &Arc<Links>) {
        self.0.links.set(Arc::downgrade(links)).expect("it is said once");
    }

    pub(crate) fn set_control(&self, control: &Arc<Control>) {
        self.0.control.set(Arc::downgrade(control)).expect("it is said once");
    }

    pub(crate) fn set_member(&self, member: Member) {
        self.0.member.set(member).expect("it is said once");
    }

    fn control(&self) -> Result<Arc<Control>, CallRefusal> {
        self.0.control.get().and_then(Weak::upgrade).ok_or(CallRefusal::NoPart)
    }

    fn position(&self) -> Result<ControlPosition, CallRefusal> {
        Ok(self.control()?.position())
    }

    fn hear(&self, from: MemberId, message: PeerMessage) {
        let Some(member) = self.0.member.get() else { return };
        let Some(partitions) = member.partitions.upgrade() else { return };
        match message {
            PeerMessage::Partition(partition, message) => partitions.receive(from, partition, message),
            PeerMessage::LeaseWish(wish) => {
                let grant = partitions.replication().grant(from, partitions.clock().local(), wish);
                if let Some(links) = self.0.links.get().and_then(Weak::upgrade)
                    && let Err(error) = links.send(from, PeerMessage::LeaseGrant(grant))
                {
                    debug!(node = from.node.0, %error, "a lease is not on its way");
                }
            }
            PeerMessage::LeaseGrant(grant) => partitions.replication().hold(from, grant),
        }
    }

    /// Nobody listens where a node is said to be.
    fn nobody_there(&self, node: NodeId) {
        let links = self.0.links.get().and_then(Weak::upgrade);
        let current = links.and_then(|links| links.member(node));
        if let Some((member, current)) = self.0.member.get().zip(current) {
            member.sessions.refused(current);
            member.suspects.add(current);
        }
    }
}

impl Handler for Inside {
    async fn receive(&self, from: MemberId, messages: Vec<PeerMessage>) {
        messages.into_iter().for_each(|message| self.hear(from, message));
    }

    async fn control(&self, from: NodeId, request: Bytes) -> Result<Bytes, CallRefusal> {
        let control = self.control()?;
        let group = control.running().ok_or(CallRefusal::NoPart)?;
        let answer = group.handle(from, &request).await;
        let Some(successor) = group.successor() else { return Ok(answer) };
        control.succeed(successor).await;
        let group = control.running().ok_or(CallRefusal::NoPart)?;
        Ok(group.handle(from, &request).await)
    }

    async fn propose(&self, _: MemberId, proposal: Bytes) -> Result<Bytes, CallRefusal> {
        self.control()?.decide_for(&proposal).await
    }

    async fn heartbeat(&self, from: MemberId, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, CallRefusal> {
        let control = self.control()?;
        let group = control.running().ok_or(CallRefusal::NoPart)?;
        let status = group.status();
        let member = self.0.member.get().filter(|_| status.role == Role::Leader);
        let Some((member, partitions)) =
            member.and_then(|member| Some((member, member.partitions.upgrade()?)))
        else {
            return Err(CallRefusal::NotLeader { leader: status.leader.map(|leader| leader.node) });
        };
        // A leader whose process has only begun goes on with the time of those who go on.
        heartbeat.time.into_iter().for_each(|time| partitions.clock().begin_with(time));
        member.sessions.heard(from);
        // Another may lead by now, who has not heard it.
        if !partitions.replication().has_proven(MAJORITY_TIME, partitions.clock().local()) {
            return Err(CallRefusal::NotLeader { leader: None });
        }
        Ok(HeartbeatAnswer { position: control.decided_position(), time: partitions.clock().now() })
    }

    async fn ask_heartbeat(&self, _: MemberId) -> Result<Heartbeat, CallRefusal> {
        let partitions = self.0.member.get().and_then(|member| member.partitions.upgrade());
        let time = partitions.and_then(|partitions| partitions.clock().known());
        Ok(Heartbeat { position: self.position()?, time })
    }

    async fn decided_position(&self, _: MemberId) -> Result<ControlPosition, CallRefusal> {
        self.control()?.confirmed_position().await
    }

    /// Every node has a part in the control group, which says what is decided.
    async fn follow(&self, _: MemberId, _: Follow) -> Result<Decided, CallRefusal> {
        Err(CallRefusal::NoPart)
    }

    async fn ask(&self, ask: Ask) -> Result<Situation, CallRefusal> {
        let control = self.control().ok();
        let (leader, voters) = control.as_ref().map(|control| control.voters()).unwrap_or_default();
        let generation = control.map(|control| {
            let group = control.group_id();
            Generation { number: group.generation, founder: group.founder }
        });
        let asks = JoinNonce(ask.process.to_be_bytes());
        let promised = self.0.newcomer.lock().answer(asks, ask.founds);
        let promised = promised.map(|JoinNonce(process)| u128::from_be_bytes(process));
        Ok(Situation { process: self.0.process, promised, leader, voters, generation })
    }

    async fn join(&self, joining: Bytes) -> Result<Admission, CallRefusal> {
        self.control()?.admit(&joining, self.0.member.get().is_some()).await
    }

    fn notice(&self, event: Event) {
        match event {
            Event::Opened { to, purpose } => debug!(node = to.node.0, ?purpose, "link opened"),
            Event::Admitted { from, purpose } => debug!(node = from.node.0, ?purpose, "link admitted"),
            Event::Closed { to, purpose, error } => {
                if matches!(error, LinkError::Refused(Refusal::UnknownMember { .. })) {
                    self.0.unknown.notify_waiters();
                }
                info!(node = to.node.0, ?purpose, error = chain(&error), "link closed");
            }
            Event::Left { from, purpose, error } => {
                debug!(node = from.node.0, ?purpose, error = chain(&error), "link left");
            }
            Event::Failed { to, purpose, error } => {
                debug!(node = to.node.0, ?purpose, error = chain(&error), "link not opened");
                if error.is_nobody_there() {
                    self.nobody_there(to.node);
                }
            }
            // It comes, or it goes; or this node does.
            Event::Denied {
                error: LinkError::Denied(error @ (Refusal::UnknownMember { .. } | Refusal::NotYet)),
            } => {
                debug!(%error, "link refused");
            }
            Event::Denied { error } => {
                let error = chain(&error);
                // Who is refused tries again.
                if *self.0.denied.lock() == error {
                    debug!(error, "link refused");
                } else {
                    warn!(error, "link refused");
                    *self.0.denied.lock() = error;
                }
            }
        }
    }
}

fn chain(error: &LinkError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
