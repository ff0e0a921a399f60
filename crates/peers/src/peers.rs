//! [`Peers`]: the links of a node, those that it opens and those that others open.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::limits::{
    PEER_HELLO_BYTES, PEER_KEEP_ALIVE, PEER_KEEP_ALIVE_TIMEOUT, PEER_MESSAGE_BYTES, STRANGERS,
};
use wattle_proto::internal::peer_service_server::PeerServiceServer;

use crate::call::{Answer, Call, ControlPosition, Decided, Follow, Generation, Heartbeat, HeartbeatAnswer};
use crate::counters::Figures;
use crate::directory::Directory;
use crate::error::{CallError, SendError};
use crate::gate::{Gate, GatedBody};
use crate::handler::Handler;
use crate::identity::{Identity, Purpose, Standing, in_any_life};
use crate::incoming::Incoming;
use crate::link::Dialler;
use crate::message::PeerMessage;
use crate::queue::Queued;
use crate::shared::{Hellos, Sessions, Shared};
use crate::traffic::{Calls, Replication, Traffic};

/// The links of a node. A link is opened when there is first something to say to a member, and kept open for as long as it is one.
pub struct Peers<H> {
    pub(crate) shared: Arc<Shared<H>>,
    /// Where the links of this node run.
    runtime: Handle,
    /// Where those run that carry what copies say, if elsewhere.
    copying: OnceLock<Vec<Handle>>,
    turn: AtomicUsize,
    links: RwLock<Links>,
}

#[derive(Default)]
struct Links {
    replication: HashMap<MemberId, Link<Replication>>,
    calls: HashMap<(MemberId, Purpose), Link<Calls>>,
}

struct Link<T> {
    traffic: Arc<T>,
    stop: CancellationToken,
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<H> fmt::Debug for Peers<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("identity", &self.shared.identity()).finish_non_exhaustive()
    }
}

impl<H: Handler> Peers<H> {
    /// A node that knows nobody yet. Its links run on `runtime`.
    #[must_use]
    pub fn new(identity: Identity, handler: H, runtime: Handle) -> Self {
        let shared = Shared {
            identity: RwLock::new(identity),
            handler,
            directory: watch::Sender::new(Directory::default()),
            counters: Arc::default(),
            reigns: Arc::default(),
            hellos: Hellos::default(),
            sessions: Sessions::default(),
            strangers: Semaphore::new(STRANGERS),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (copying, turn, links) = Default::default();
        Self { shared: Arc::new(shared), runtime, copying, turn, links }
    }

    /// Runs links that carry what copies say on these runtimes, and no others: where calls are served, what they change is on its way
    /// without waking another thread. They must go on until [`Self::stop`] has returned. It is said once, before there is a link.
    pub fn copy_on(&self, runtimes: impl IntoIterator<Item = Handle>) {
        let said = self.copying.set(runtimes.into_iter().collect());
        debug_assert!(said.is_ok(), "it is said once");
    }

    /// Where the next link runs.
    fn runtime(&self, purpose: Purpose) -> &Handle {
        let copying =
            self.copying.get().filter(|copying| purpose == Purpose::Replication && !copying.is_empty());
        let Some(copying) = copying else { return &self.runtime };
        &copying[self.turn.fetch_add(1, Ordering::Relaxed) % copying.len()]
    }

    /// Says what this node is to a grid from now on. A member stays that one while its process lives.
    pub fn set_standing(&self, standing: Standing) {
        self.shared.identity.write().standing = standing;
    }

    /// Says in which control group this node takes part from now on, before anything is sent in one of its reigns. What others say in a
    /// reign counts if it is of this one or of one before.
    pub fn set_generation(&self, generation: Generation) {
        self.shared.reigns.begin(generation);
    }

    /// Says who the members are, and where (`HOST:PORT`). Links with everybody else are closed: what they have sent may be received
    /// for a moment still, but nothing of an earlier life of a node comes behind what a later one has sent.
    pub fn set_members(&self, members: impl IntoIterator<Item = (MemberId, String)>) {
        let directory = Directory::new(members);
        let mut links = self.links.write();
        links.replication.retain(|member, _| directory.check(*member, Purpose::Replication).is_ok());
        links.calls.retain(|(member, purpose), _| directory.check(*member, *purpose).is_ok());
        self.shared.directory.send_replace(directory);
    }

    /// Sends a message some time soon, behind all that was sent to this member before, or not at all. Never waits.
    ///
    /// # Errors
    /// It will not arrive. Of an append that is longer than a batch the first records may, as an append of their own.
    pub fn send(&self, to: MemberId, message: PeerMessage) -> Result<(), SendError> {
        self.replication(to)?.send(message)
    }

    /// What waits to be sent to a member: whoever is about to make more asks first.
    #[must_use]
    pub fn queued(&self, to: MemberId) -> Queued {
        let links = self.links.read();
        links.replication.get(&to).map_or_else(Queued::default, |link| link.traffic.queued())
    }

    /// Who a node is now.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<MemberId> {
        self.shared.directory.borrow().member(node)
    }

    /// Asks another member of the control group, in the group's own format. It is a node that is asked, whatever life it is in.
    ///
    /// As of all calls: wait no longer than makes sense, for a member that is silent is waited for until its link breaks.
    ///
    /// # Errors
    /// There is no answer, or it is a refusal. If there is none the call may have been heard.
    pub async fn control(&self, to: NodeId, request: Bytes) -> Result<Bytes, CallError> {
        let Answer::Control(answer) = self.call(in_any_life(to), Call::Control(request)).await? else {
            return Err(CallError::OtherKind);
        };
        Ok(answer)
    }

    /// Has a proposal decided by the leader of the control group, in the group's own format.
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub async fn propose(&self, to: MemberId, proposal: Bytes) -> Result<Bytes, CallError> {
        let Answer::Propose(answer) = self.call(to, Call::Propose(proposal)).await? else {
            return Err(CallError::OtherKind);
        };
        Ok(answer)
    }

    /// Tells the leader of the control group that this node lives.
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub async fn heartbeat(&self, to: MemberId, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, CallError> {
        let Answer::Heartbeat(answer) = self.call(to, Call::Heartbeat(heartbeat)).await? else {
            return Err(CallError::OtherKind);
        };
        Ok(answer)
    }

    /// Asks whether a member lives.
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub async fn ask_heartbeat(&self, to: MemberId) -> Result<Heartbeat, CallError> {
        let Answer::AskHeartbeat(answer) = self.call(to, Call::AskHeartbeat).await? else {
            return Err(CallError::OtherKind);
        };
        Ok(answer)
    }

    /// Asks what the control group has decided. With nothing newer the answer takes up to
    /// [`FOLLOW_TIME`](wattle_core::limits::FOLLOW_TIME).
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub async fn follow(&self, to: MemberId, follow: Follow) -> Result<Decided, CallError> {
        let Answer::Follow(answer) = self.call(to, Call::Follow(follow)).await? else {
            return Err(CallError::OtherKind);
        };
        Ok(answer)
    }

    /// Asks the leader of the control group how far what is decided is: who has done that has done all that was decided before it asked.
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub async fn decided_position(&self, to: MemberId) -> Result<ControlPosition, CallError> {
        let Answer::AskPosition(answer) = self.call(to, Call::AskPosition).await? else {
            return Err(CallError::OtherKind);
        };
        Ok(answer)
    }

    /// What all links have done.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared.counters.figures()
    }

    /// The service that other nodes dial.
    #[must_use]
    pub fn service(&self) -> PeerServer<H> {
        let service = PeerServiceServer::new(Incoming(Arc::clone(&self.shared)))
            .max_decoding_message_size(PEER_MESSAGE_BYTES + PEER_HELLO_BYTES)
            .max_encoding_message_size(usize::MAX);
        PeerServer { service }
    }

    /// Closes all links, and waits until they are closed.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Calls whose answers are waited for.
    #[cfg(test)]
    pub(crate) fn unanswered(&self, to: NodeId) -> usize {
        self.links
            .read()
            .calls
            .get(&(in_any_life(to), Purpose::Control))
            .map_or(0, |link| link.traffic.unanswered())
    }

    async fn call(&self, to: MemberId, call: Call) -> Result<Answer, CallError> {
        let calls = self.calls(to, call.purpose())?;
        calls.call(call).await
    }

    fn replication(&self, to: MemberId) -> Result<Arc<Replication>, SendError> {
        if let Some(link) = self.links.read().replication.get(&to) {
            return Ok(Arc::clone(&link.traffic));
        }
        let links = &mut self.links.write().replication;
        let Shared { counters, reigns, .. } = &*self.shared;
        self.link(to, (to, links), || Replication::new(Arc::clone(counters), Arc::clone(reigns)))
    }

    fn calls(&self, to: MemberId, purpose: Purpose) -> Result<Arc<Calls>, SendError> {
        if let Some(link) = self.links.read().calls.get(&(to, purpose)) {
            return Ok(Arc::clone(&link.traffic));
        }
        let links = &mut self.links.write().calls;
        self.link(to, ((to, purpose), links), || Calls::new(purpose, Arc::clone(&self.shared.counters)))
    }

    /// The link with a member, which is opened if there is none yet.
    fn link<K: Eq + Hash, T: Traffic>(
        &self,
        to: MemberId,
        (key, links): (K, &mut HashMap<K, Link<T>>),
        new: impl FnOnce() -> T,
    ) -> Result<Arc<T>, SendError> {
        if let Some(link) = links.get(&key) {
            return Ok(Arc::clone(&link.traffic));
        }
        let (traffic, stop) = (Arc::new(new()), self.shared.stop.child_token());
        let is_member = self.shared.directory.borrow().check(to, traffic.purpose()).is_ok();
        if !is_member || stop.is_cancelled() {
            return Err(SendError::UnknownMember { to });
        }
        if self.shared.identity.read().standing.speaks_as(traffic.purpose()).is_none() {
            return Err(SendError::NotYet);
        }
        let dialler = Dialler { shared: Arc::clone(&self.shared), to, traffic: Arc::clone(&traffic) };
        let runtime = self.runtime(traffic.purpose());
        self.shared.tasks.spawn_on(dialler.run(stop.clone()), runtime);
        links.insert(key, Link { traffic: Arc::clone(&traffic), stop });
        Ok(traffic)
    }
}

/// Has a server of gRPC notice within [`PEER_KEEP_ALIVE`] and [`PEER_KEEP_ALIVE_TIMEOUT`] that who dialled it has vanished, as who dials
/// notices it of who answers. Without this the connection, and what it has begun, stays for as long as the server has it.
#[must_use]
pub fn keep_alive<L>(server: Server<L>) -> Server<L> {
    server
        .http2_keepalive_interval(Some(PEER_KEEP_ALIVE))
        .http2_keepalive_timeout(Some(PEER_KEEP_ALIVE_TIMEOUT))
}

/// What other nodes dial, to be mounted on a server of gRPC.
pub struct PeerServer<H> {
    service: PeerServiceServer<Incoming<H>>,
}

impl<H> fmt::Debug for PeerServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerServer")
    }
}

impl<H> Clone for PeerServer<H> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone() }
    }
}

impl<H> NamedService for PeerServer<H> {
    const NAME: &'static str = <PeerServiceServer<Incoming<H>> as NamedService>::NAME;
}

impl<H, B> Service<http::Request<B>> for PeerServer<H>
where
    H: Handler,
    B: http_body::Body<Data = Bytes, Error: Into<StdError>> + Unpin + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let gate = Gate::default();
        let mut request = request.map(|body| GatedBody::new(body, gate.clone()));
        request.extensions_mut().insert(gate);
        self.service.call(request)
    }
}
