//! Nodes on loopback, with real sockets, and a wire between two of them that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use wattle_core::ids::{GridTime, MemberId, NodeId};
use wattle_core::limits::CONNECTION_BYTES;
use wattle_core::replication::{LocalTime, Reckoning, Wish};

use crate::{
    Admission, Ask, CallRefusal, ControlPosition, Decided, Event, Follow, Grid, Handler, Heartbeat,
    HeartbeatAnswer, Identity, LinkError, PeerMessage, Peers, Purpose, Secret, Situation, SnapshotPiece,
    SnapshotRest, Standing, keep_alive,
};

/// Whoever waits longer than this waits for what does not come.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) const GRID: u128 = 0x1001;

/// What every node here has drawn.
pub(super) const PROCESS: u128 = 0x2002;

/// Writes down what it hears.
pub(super) struct Recorder {
    events: mpsc::UnboundedSender<Event>,
    received: mpsc::UnboundedSender<(MemberId, Vec<PeerMessage>)>,
    /// Without a permit here nothing is taken.
    pub(super) turns: Arc<Semaphore>,
}

impl Handler for Recorder {
    async fn receive(&self, from: MemberId, messages: Vec<PeerMessage>) {
        drop(self.turns.acquire().await);
        drop(self.received.send((from, messages)));
    }

    /// Says it backwards; never says anything to "hang".
    async fn control(&self, _: NodeId, request: Bytes) -> Result<Bytes, CallRefusal> {
        if &request[..] == b"hang" {
            std::future::pending::<()>().await;
        }
        Ok(request.iter().rev().copied().collect())
    }

    /// Has it decided by node 9, it says.
    async fn propose(&self, _: MemberId, proposal: Bytes) -> Result<Bytes, CallRefusal> {
        if proposal.is_empty() {
            return Err(CallRefusal::NotLeader { leader: Some(NodeId(9)) });
        }
        Ok(proposal)
    }

    /// The leader is always one step ahead.
    async fn heartbeat(&self, from: MemberId, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, CallRefusal> {
        let ControlPosition { generation, version } = heartbeat.position;
        let position = ControlPosition { generation, version: version + 1 };
        Ok(HeartbeatAnswer { position, time: GridTime(from.node.0) })
    }

    async fn ask_heartbeat(&self, from: MemberId) -> Result<Heartbeat, CallRefusal> {
        let position = ControlPosition { generation: 1, version: from.node.0 };
        Ok(Heartbeat { position, time: None })
    }

    async fn decided_position(&self, from: MemberId) -> Result<ControlPosition, CallRefusal> {
        Ok(ControlPosition { generation: 3, version: from.node.0 })
    }

    /// So many changes as the version is that is asked for, or the rest of "snapshot".
    async fn follow(&self, _: MemberId, follow: Follow) -> Result<Decided, CallRefusal> {
        let Some(SnapshotRest { position, offset }) = follow.rest_of else {
            let count = usize::try_from(follow.after.version).expect("a test asks for few");
            let changes = vec![Bytes::from_static(b"change"); count];
            return Ok(Decided::Changes { position: follow.after, changes });
        };
        let content = Bytes::from_static(b"snapshot");
        let (total, content) = (content.len() as u64, content.slice(usize::try_from(offset).unwrap_or(8)..));
        Ok(Decided::Piece(SnapshotPiece { position, offset, total, content }))
    }

    /// It has promised itself to whoever asks to found.
    async fn ask(&self, ask: Ask) -> Result<Situation, CallRefusal> {
        let promised = ask.founds.then_some(ask.process);
        let voters = vec![(member(9, 4), "127.0.0.1:9".to_owned())];
        Ok(Situation { process: PROCESS, promised, leader: Some(NodeId(9)), voters, generation: None })
    }

    /// Admits whoever says a number, as that node; "no" is refused, and "hang" is not answered.
    async fn join(&self, proposal: Bytes) -> Result<Admission, CallRefusal> {
        if &proposal[..] == b"hang" {
            std::future::pending::<()>().await;
        }
        let number = std::str::from_utf8(&proposal).ok().and_then(|text| text.parse().ok());
        Ok(match number {
            Some(node) => {
                let members = vec![(member(9, 4), "127.0.0.1:9".to_owned())];
                Admission::Admitted { member: member(node, 1), members }
            }
            None if proposal.is_empty() => return Err(CallRefusal::NotLeader { leader: None }),
            None => Admission::Refused(proposal),
        })
    }

    fn notice(&self, event: Event) {
        drop(self.events.send(event));
    }
}

pub(super) struct Node {
    pub(super) peers: Peers<Recorder>,
    pub(super) member: MemberId,
    pub(super) address: SocketAddr,
    pub(super) turns: Arc<Semaphore>,
    events: mpsc::UnboundedReceiver<Event>,
    received: mpsc::UnboundedReceiver<(MemberId, Vec<PeerMessage>)>,
    server: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(super) fn member(node: u64, incarnation: u64) -> MemberId {
    MemberId { node: NodeId(node), incarnation }
}

pub(super) fn identity(member: MemberId) -> Identity {
    identified(Standing::Member { grid: tests_grid(), member })
}

pub(super) fn identified(standing: Standing) -> Identity {
    Identity { standing, secret: Secret::new(b"a secret of the tests").unwrap() }
}

pub(super) fn tests_grid() -> Grid {
    Grid { id: GRID, name: "tests".to_owned() }
}

impl Node {
    pub(super) async fn start(member: MemberId) -> Self {
        Self::start_as(identity(member)).await
    }

    /// One that is no member; it is called this all the same.
    pub(super) async fn start_standing(standing: Standing) -> Self {
        Self::start_as(identified(standing)).await
    }

    pub(super) async fn start_as(identity: Identity) -> Self {
        let (events, heard_events) = mpsc::unbounded_channel();
        let (received, heard) = mpsc::unbounded_channel();
        let turns = Arc::new(Semaphore::new(1));
        let member = identity.standing.known_as();
        let recorder = Recorder { events, received, turns: Arc::clone(&turns) };
        let peers = Peers::new(identity, recorder, Handle::current());
        let (address, server) = serve(&peers).await;
        Self { peers, member, address, turns, events: heard_events, received: heard, server }
    }

    pub(super) fn knows(&self, others: &[&Self]) {
        self.peers.set_members(others.iter().map(|other| (other.member, other.address.to_string())));
    }

    /// Waits for the first event that is wanted; those before it are forgotten.
    pub(super) async fn event<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        in_time(async {
            loop {
                let event = self.events.recv().await.expect("the node lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        })
        .await
    }

    pub(super) async fn opened(&mut self, to: MemberId) -> Purpose {
        self.event(|event| match event {
            Event::Opened { to: opened, purpose } if opened == to => Some(purpose),
            _ => None,
        })
        .await
    }

    pub(super) async fn failed(&mut self) -> LinkError {
        self.event(|event| match event {
            Event::Failed { error, .. } => Some(error),
            _ => None,
        })
        .await
    }

    pub(super) async fn closed(&mut self) -> LinkError {
        self.event(|event| match event {
            Event::Closed { error, .. } => Some(error),
            _ => None,
        })
        .await
    }

    pub(super) async fn denied(&mut self) -> LinkError {
        self.event(|event| match event {
            Event::Denied { error } | Event::Left { error: error @ LinkError::Denied(_), .. } => Some(error),
            _ => None,
        })
        .await
    }

    pub(super) async fn batch(&mut self) -> (MemberId, Vec<PeerMessage>) {
        in_time(self.received.recv()).await.expect("the node lives")
    }

    /// The next so many messages.
    pub(super) async fn messages(&mut self, count: usize) -> Vec<PeerMessage> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.extend(self.batch().await.1);
        }
        messages
    }
}

pub(super) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes in time")
}

/// Messages that can be told apart.
pub(super) fn wishes(range: std::ops::Range<u64>) -> Vec<PeerMessage> {
    let wish = |time| Wish { asked: LocalTime(time), reckoning: Reckoning::Granted };
    range.map(|time| PeerMessage::LeaseWish(wish(time))).collect()
}

/// Lets others dial it.
pub(super) async fn serve<H: Handler>(peers: &Peers<H>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    });
    let server = keep_alive(Server::builder())
        .initial_connection_window_size(CONNECTION_BYTES)
        .add_service(peers.service())
        .serve_with_incoming(incoming);
    (address, tokio::spawn(async move { server.await.unwrap() }))
}

/// Where a wire leads.
#[derive(Clone, Copy)]
enum Course {
    To(SocketAddr),
    Cut,
    /// Nothing passes any more, and nobody is told.
    Frozen,
}

/// A wire that can be cut, be laid to somewhere else, or fall silent.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    course: watch::Sender<Course>,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    pub(super) async fn lay(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (course, now) = watch::channel(Course::To(to));
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(near, now.clone()));
            }
        });
        Self { address, course, task }
    }

    /// Cuts what goes over it; what comes next goes there, or is cut at once.
    pub(super) fn turn(&self, to: Option<SocketAddr>) {
        self.course.send_replace(to.map_or(Course::Cut, Course::To));
    }

    /// Both ends hear nothing any more.
    pub(super) fn freeze(&self) {
        self.course.send_replace(Course::Frozen);
    }
}

async fn carry(mut near: TcpStream, mut course: watch::Receiver<Course>) {
    let now = *course.borrow_and_update();
    let mut far = match now {
        Course::To(to) => Some(TcpStream::connect(to).await.unwrap()),
        Course::Cut => return,
        Course::Frozen => None,
    };
    if let Some(far) = &mut far {
        tokio::select! {
            _ = copy_bidirectional(&mut near, far) => return,
            _ = course.changed() => {}
        }
    }
    if matches!(*course.borrow_and_update(), Course::Frozen) {
        // Held as they are until the wire is turned or taken away.
        drop(course.changed().await);
    }
}
