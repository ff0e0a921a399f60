//! A node: every part built from the configuration, started, and stopped in order. Nothing else knows all parts.

mod member;
mod signals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info, warn};
use wattle_core::control::grid::{JoinNonce, Newcomer};
use wattle_core::limits::{CONNECTION_BYTES, CONNECTIONS, CONNECTIONS_MIN, PROBE_CONNECTIONS};
use wattle_peers::{Identity, PeerServer, Peers, Secret, ShortSecret, Standing};
use wattle_wasm::RuntimeError;

use crate::config::{Config, StopPolicy};
use crate::control::{ArrivalError, DataDirectory, DataDirectoryError};
use crate::entrance::Entrance;
use crate::functions::FileError;
use crate::in_flight::InFlight;
use crate::peering::{Inside, Links};
use crate::rpc::Lobby;
use crate::server::{IoThreads, Speaks};
use member::{Becoming, Membership};
pub use signals::Signals;

/// The hidden subcommand that compiles a module.
pub const COMPILE_MODULE: &str = "compile-module";
/// How long links are kept for calls in flight when the node stops.
const GRACE: Duration = Duration::from_secs(10);
/// How long work that cannot be interrupted, such as to write a file, may take at the end.
const BLOCKING_GRACE: Duration = Duration::from_secs(1);
/// How often to look whether there are any.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses threads, sockets or randomness.
    #[error("the system refuses {what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDirectory(Box<dyn std::error::Error + Send + Sync>),
    /// The node is in no grid.
    #[error(transparent)]
    Grid(Box<dyn std::error::Error + Send + Sync>),
    /// The secret of the grid cannot be read.
    #[error("cannot read the secret of the grid from {}", path.display())]
    SecretFile {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The secret of the grid is none.
    #[error("the secret of the grid in {}", path.display())]
    Secret {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: ShortSecret,
    },
    /// The engine for guests does not start.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// It was told to stop before it was in a grid.
    #[error("stopped before the node was in a grid")]
    Stopped,
    /// The grid has another life of this node, or none of it.
    #[error("the grid does not count on this node any more: start it again")]
    Replaced,
}

impl From<DataDirectoryError> for NodeError {
    fn from(error: DataDirectoryError) -> Self {
        Self::DataDirectory(error.into())
    }
}

impl From<ArrivalError> for NodeError {
    fn from(error: ArrivalError) -> Self {
        match error {
            ArrivalError::Voter(error) => Self::DataDirectory(error.into()),
            error => Self::Grid(error.into()),
        }
    }
}

impl From<FileError> for NodeError {
    fn from(error: FileError) -> Self {
        Self::DataDirectory(error.into())
    }
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { what, source }
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    http_address: SocketAddr,
    peer_address: SocketAddr,
    stop: CancellationToken,
    /// It is to give away what it holds, and to stop then.
    leave: CancellationToken,
    stop_policy: StopPolicy,
    /// The grid does not count on this node any more.
    replaced: CancellationToken,
    control: JoinHandle<()>,
    /// Kept to the end: the directory is this node's as long as it runs.
    _directory: Option<Arc<DataDirectory>>,
}

/// Ports, each with what serves it.
type Listeners = Vec<(IoThreads, TcpListener)>;

/// The ports of a node: one for everything, unless some of it has its own.
struct Ports {
    api: (TcpListener, SocketAddr),
    http: Option<(TcpListener, SocketAddr)>,
    peers: Option<(TcpListener, SocketAddr)>,
}

/// What is served at the ports: to clients, and to who asks how the node is if that has its own port.
type Services = (Arc<OnceLock<Routes>>, Option<Arc<OnceLock<Routes>>>);

impl Ports {
    fn open(config: &Config) -> Result<Self, NodeError> {
        let http = config.http_listen.map(listen).transpose()?;
        let peers = config.peer_listen.map(listen).transpose()?;
        Ok(Self { api: listen(config.listen)?, http, peers })
    }

    fn http_address(&self) -> SocketAddr {
        self.http.as_ref().unwrap_or(&self.api).1
    }

    fn peer_address(&self) -> SocketAddr {
        self.peers.as_ref().unwrap_or(&self.api).1
    }

    /// Starts the threads that serve them.
    fn start(
        self,
        links: &Links,
        (services, probes): &Services,
        start: impl Fn(Serving<'_>) -> Result<IoThreads, NodeError>,
    ) -> Result<Listeners, NodeError> {
        let peers = || Some(links.service());
        // What speaks HTTP/1 may have a port of its own.
        let speaks = if self.http.is_some() { Speaks::Http2 } else { Speaks::Http1Too };
        let with_clients = if self.peers.is_some() { None } else { peers() };
        let api = start((with_clients, services, speaks))?;
        links.copy_on(api.runtimes());
        let mut listeners = vec![(api, self.api.0)];
        if let Some(((listener, _), probes)) = self.http.zip(probes.as_ref()) {
            listeners.push((start((None, probes, Speaks::Probes))?, listener));
        }
        if let Some((listener, _)) = self.peers {
            let nothing_else = Arc::new(OnceLock::from(Routes::default()));
            listeners.push((start((peers(), &nothing_else, Speaks::Peers))?, listener));
        }
        Ok(listeners)
    }
}

/// What is served at a port: nodes, the services, and how they are spoken to.
type Serving<'a> = (Option<PeerServer<Inside>>, &'a Arc<OnceLock<Routes>>, Speaks);

impl Node {
    /// Starts a node; it serves when this returns. That may take as long as the others of its grid are not there.
    ///
    /// # Errors
    /// [`NodeError`] says what is in the way.
    pub fn start(config: &Config) -> Result<Self, NodeError> {
        Self::start_unless(config, CancellationToken::new())
    }

    /// Starts a node that is stopped with `stop`, also before it serves.
    fn start_unless(config: &Config, stop: CancellationToken) -> Result<Self, NodeError> {
        let started = Instant::now();
        raise_file_limit();
        let directory = config.data_dir.as_deref().map(DataDirectory::open).transpose()?.map(Arc::new);
        let ports = Ports::open(config)?;
        let (address, http_address, peer_address) = (ports.api.1, ports.http_address(), ports.peer_address());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(refused("a runtime"))?;
        let (leave, replaced) = (CancellationToken::new(), CancellationToken::new());
        let in_flight = Arc::new(InFlight::new(config.memory_bytes));
        let process = u128::from(random()?) << 64 | u128::from(random()?);
        let (inside, links) = links(config, process, runtime.handle())?;
        let services: Services = (Arc::default(), ports.http.as_ref().map(|_| Arc::default()));
        let most = connections(config.memory_bytes);
        let listeners = ports.start(&links, &services, |(peers, services, speaks)| {
            let for_clients = matches!(speaks, Speaks::Http2 | Speaks::Http1Too);
            let lobby = for_clients.then(|| Lobby(inside.clone()));
            let entrance = Entrance::new((peers, lobby), Arc::clone(services), Arc::clone(&in_flight));
            IoThreads::start(threads(speaks, most), &entrance, speaks, &stop).map_err(refused("a thread"))
        })?;
        let becoming = Becoming {
            config: config.clone(),
            directory: directory.clone(),
            address,
            peer_address,
            started,
            process,
            in_flight,
            inside,
            links,
            stop: stop.clone(),
            leave: leave.clone(),
            replaced: replaced.clone(),
        };
        let (told, joined) = mpsc::channel();
        let control = move || {
            run(&runtime, becoming, services, (listeners, told));
            // What is compiled for nobody any more is not waited for.
            runtime.shutdown_timeout(BLOCKING_GRACE);
        };
        let thread = std::thread::Builder::new().name("control".to_owned());
        let control = thread.spawn(control).map_err(refused("a thread"))?;
        let stop_policy = config.stop_policy;
        let node = Self {
            address,
            http_address,
            peer_address,
            stop,
            leave,
            stop_policy,
            replaced,
            control,
            _directory: directory,
        };
        match joined.recv() {
            Ok(Ok(())) => {
                info!(%address, http = %http_address, peers = %peer_address, took = ?started.elapsed(), "serving");
                Ok(node)
            }
            Ok(Err(error)) => {
                node.stop();
                Err(error)
            }
            Err(_) => {
                node.stop();
                Err(NodeError::Stopped)
            }
        }
    }

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics and probes listen.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where other nodes find it.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Takes no more calls, finishes those in flight, and returns when that is done.
    pub fn stop(self) {
        self.stop.cancel();
        self.wait();
    }

    /// First has others take what it holds, while it goes on serving, for at most as long as is configured; then stops.
    pub fn drain(self) {
        self.leave.cancel();
        self.wait();
    }

    fn wait(self) {
        if self.control.join().is_err() {
            error!("the control thread panicked");
        }
    }
}

/// As many files as the system allows: connections and loaded modules are some.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, ?limit, "the limit of open files stays as it is");
    }
}

/// The links of a node that is in no grid yet.
fn links(
    config: &Config,
    process: u128,
    runtime: &tokio::runtime::Handle,
) -> Result<(Inside, Arc<Links>), NodeError> {
    let secret = match &config.grid_secret_file {
        None => Secret::none(),
        Some(path) => {
            let failed = |source| NodeError::SecretFile { path: path.clone(), source };
            let text = std::fs::read(path).map_err(failed)?;
            Secret::new(text.trim_ascii())
                .map_err(|source| NodeError::Secret { path: path.clone(), source })?
        }
    };
    let name = config.grid.as_ref().map_or_else(String::new, ToString::to_string);
    let newcomer = Newcomer::new(JoinNonce(process.to_be_bytes()), config.bootstrap_expect);
    let inside = Inside::new(process, if config.claims() { newcomer.with_claims() } else { newcomer });
    let identity = Identity { standing: Standing::Fresh { name }, secret };
    let links = Arc::new(Peers::new(identity, inside.clone(), runtime.clone()));
    inside.set_links(&links);
    Ok((inside, links))
}

/// The control thread: accepts connections, makes the node a member, and keeps it one until it is told to stop.
fn run(
    runtime: &tokio::runtime::Runtime,
    becoming: Becoming,
    (services, probes): Services,
    (listeners, told): (Listeners, mpsc::Sender<Result<(), NodeError>>),
) {
    let (stop, links) = (becoming.stop.clone(), Arc::clone(&becoming.links));
    let in_flight = Arc::clone(&becoming.in_flight);
    runtime.block_on(async {
        let accepting = listeners.into_iter().map(|(io, listener)| accept(io, listener, &stop));
        let member = async {
            let become_member = becoming.become_member();
            let joined = tokio::select! {
                joined = become_member => joined,
                () = stop.cancelled() => Err(NodeError::Stopped),
            };
            let (result, member) = match joined {
                Ok(mut member) => {
                    member.serve(&services, probes.as_ref());
                    (Ok(()), Some(member))
                }
                Err(error) => (Err(error), None),
            };
            // Who starts the node waits for it.
            told.send(result).ok();
            tokio::select! {
                () = stop.cancelled() => {}
                () = leaving(member.as_ref()) => stop.cancel(),
            }
            member
        };
        let (threads, member) = tokio::join!(join_all(accepting), member);
        // The links carry what calls in flight wait for.
        let overdue = Instant::now() + GRACE;
        while in_flight.held() > 0 && Instant::now() < overdue {
            tokio::time::sleep(PAUSE).await;
        }
        links.stop().await;
        let ended = tokio::task::spawn_blocking(|| threads.into_iter().for_each(IoThreads::join)).await;
        if ended.is_err() {
            warn!("the IO threads did not end");
        }
        if let Some(member) = member {
            member.end().await;
        }
    });
}

/// Until a member has left its grid.
async fn leaving(member: Option<&Membership>) {
    match member {
        Some(member) => member.leave().await,
        None => std::future::pending().await,
    }
}

/// Accepts connections until `stop`, and gives the threads back.
async fn accept(io: IoThreads, listener: TcpListener, stop: &CancellationToken) -> IoThreads {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => io.accept(listener, stop).await,
        Err(error) => error!(%error, "the listener cannot be used"),
    }
    io
}

/// Threads for a port, and how many connections they serve.
fn threads(speaks: Speaks, most: usize) -> (usize, usize) {
    match speaks {
        Speaks::Probes => (1, PROBE_CONNECTIONS),
        Speaks::Http2 | Speaks::Http1Too | Speaks::Peers => {
            (std::thread::available_parallelism().map_or(1, NonZero::get), most)
        }
    }
}

/// As many as may each send what they may send unread, on a node whose entries may take so much memory.
fn connections(memory_bytes: u64) -> usize {
    let most = usize::try_from(memory_bytes / u64::from(CONNECTION_BYTES)).unwrap_or(usize::MAX);
    most.clamp(CONNECTIONS_MIN, CONNECTIONS)
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), NodeError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bind().map_err(|source| NodeError::Listen { address, source })
}

fn random() -> Result<u64, NodeError> {
    getrandom::u64()
        .map_err(|error| NodeError::System { what: "randomness", source: io::Error::other(error) })
}
