//! A node: every part built from the configuration, started, and stopped in order. Nothing else knows all parts.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info, warn};
use wattle_core::control::grid::{Formats, NodeDescription, Role};
use wattle_core::ids::{MemberId, ReplicationClass};
use wattle_core::limits::{
    CONNECTION_BYTES, CONNECTIONS, CONNECTIONS_MIN, MESSAGE_BYTES, MODULE_BYTES, PROBE_CONNECTIONS,
};
use wattle_core::name::Name;
use wattle_proto::v1;
use wattle_wasm::compile::Compiler;
use wattle_wasm::{Runtime, RuntimeError};

use crate::config::Config;
use crate::control::{self, Control, DataDirectory, DataDirectoryError, FORMAT, Founding, VoterError};
use crate::follower::Follower;
use crate::functions::{Catalog, FileError, Loader, ModuleFiles, Tripped};
use crate::grid::Grid;
use crate::in_flight::InFlight;
use crate::maps::Maps;
use crate::membership::lead;
use crate::observability::{Metrics, router};
use crate::partition::{Memory, Partitions, tick_partitions};
use crate::replication::{Nobody, Replication};
use crate::rpc::{Compute, Functions, GridInfo, MapCalls, Watches};
use crate::server::{IoThreads, Speaks};

/// Modules that are compiled at the same time.
const COMPILERS: u32 = 1;
/// The hidden subcommand that compiles a module.
pub const COMPILE_MODULE: &str = "compile-module";
/// Instances of guests in the whole node.
const INSTANCES: u32 = 256;

/// What a grid is called whose creator has said nothing else.
const GRID_NAME: &str = "wattle";

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
    /// The engine for guests does not start.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl From<DataDirectoryError> for NodeError {
    fn from(error: DataDirectoryError) -> Self {
        Self::DataDirectory(error.into())
    }
}

impl From<VoterError> for NodeError {
    fn from(error: VoterError) -> Self {
        Self::DataDirectory(error.into())
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
    stop: CancellationToken,
    control: JoinHandle<()>,
    /// Kept to the end: the directory is this node's as long as it runs.
    _directory: Option<DataDirectory>,
}

impl Node {
    /// Starts a node; it serves when this returns.
    ///
    /// # Errors
    /// [`NodeError`] says what is in the way.
    pub fn start(config: &Config) -> Result<Self, NodeError> {
        let started = Instant::now();
        raise_file_limit();
        let directory = config.data_dir.as_deref().map(DataDirectory::open).transpose()?;
        let metrics = Arc::new(Metrics::new());
        let (listener, address) = listen(config.listen)?;
        let http = config.http_listen.map(listen).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(refused("a runtime"))?;
        let join = || runtime.block_on(join(config, directory.as_ref(), address, &metrics));
        // The caller may be in a runtime, which must not wait for another.
        let joined = std::thread::scope(|scope| scope.spawn(join).join());
        let (grid, tripped) = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let http_address = http.as_ref().map_or(address, |(_, address)| *address);
        let stop = CancellationToken::new();
        let info =
            GridInfo { grid: Arc::clone(&grid), name: host_name(), address: address.to_string(), started };
        let mut routes = routes(&grid, info, Watches::new(random()?), &stop);
        let probes = router(Arc::clone(&grid), metrics);
        let start = |threads, routes: &Routes, speaks| {
            IoThreads::start(threads, (routes, &grid.in_flight), speaks, &stop).map_err(refused("a thread"))
        };
        let http = match http {
            Some((listener, _)) => {
                Some((start((1, PROBE_CONNECTIONS), &probes.into(), Speaks::Http1Too)?, listener))
            }
            None => {
                let router = routes.axum_router_mut();
                *router = std::mem::take(router).merge(probes);
                None
            }
        };
        // What speaks HTTP/1 has moved there.
        let speaks = if http.is_some() { Speaks::Http2 } else { Speaks::Http1Too };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let io = start((cores, connections(config.memory_bytes)), &routes, speaks)?;
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("control".to_owned());
        let listeners = [(io, listener)].into_iter().chain(http).collect();
        let control = move || control_thread(&runtime, listeners, (grid, tripped), &until);
        let control = thread.spawn(control).map_err(refused("a thread"))?;
        info!(%address, http = %http_address, took = ?started.elapsed(), "serving");
        Ok(Self { address, http_address, stop, control, _directory: directory })
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

    /// Takes no more calls, finishes those in flight, and returns when that is done.
    pub fn stop(self) {
        self.stop.cancel();
        if self.control.join().is_err() {
            error!("the control thread panicked");
        }
    }

    /// Runs until the process is told to end by SIGINT or SIGTERM, and stops then. A second signal ends the process at once.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub fn run_until_signal(self) -> Result<(), NodeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(refused("a runtime"))?.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).map_err(refused("signals"))?;
            let mut terminate = signal(SignalKind::terminate()).map_err(refused("signals"))?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            info!("stopping: calls in flight are finished; a second signal ends at once");
            let stopped = tokio::task::spawn_blocking(|| self.stop());
            tokio::select! {
                stopped = stopped => if stopped.is_err() { error!("stopping panicked") },
                _ = interrupt.recv() => std::process::exit(SECOND_SIGNAL),
                _ = terminate.recv() => std::process::exit(SECOND_SIGNAL),
            }
            info!("stopped");
            Ok(())
        })
    }
}

/// The exit code of a node that a second signal has cut short.
const SECOND_SIGNAL: i32 = 130;

/// As many files as the system allows: connections and loaded modules are some.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, ?limit, "the limit of open files stays as it is");
    }
}

fn control_thread(
    runtime: &tokio::runtime::Runtime,
    listeners: Vec<(IoThreads, TcpListener)>,
    (grid, tripped): (Arc<Grid>, mpsc::Receiver<Tripped>),
    stop: &CancellationToken,
) {
    let threads = runtime.block_on(async {
        let ticker = tokio::spawn(tick_partitions(Arc::clone(&grid.partitions)));
        let suspender = tokio::spawn(Arc::clone(&grid).suspend_tripped(tripped));
        let accepting = listeners.into_iter().map(|(io, listener)| accept(io, listener, stop));
        let threads = join_all(accepting).await;
        ticker.abort();
        suspender.abort();
        grid.control.shutdown().await;
        threads
    });
    threads.into_iter().for_each(IoThreads::join);
}

/// Accepts connections until `stop`, and gives the threads back.
async fn accept(io: IoThreads, listener: TcpListener, stop: &CancellationToken) -> IoThreads {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => io.accept(listener, stop).await,
        Err(error) => error!(%error, "the listener cannot be used"),
    }
    io
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

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Takes the node's part in its grid; returns that when all is done here that was decided before, and the functions that it is to
/// suspend.
async fn join(
    config: &Config,
    directory: Option<&DataDirectory>,
    address: SocketAddr,
    metrics: &Metrics,
) -> Result<(Arc<Grid>, mpsc::Receiver<Tripped>), NodeError> {
    let description = NodeDescription {
        peer_address: String::new(),
        client_address: address.to_string(),
        zone: None,
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        formats: Formats { oldest: FORMAT, newest: FORMAT },
        role: Role::Data,
    };
    let name = Name::new(GRID_NAME).expect("a constant");
    let founding = Founding { name, partitions: config.partitions, description };
    let (control, me) = control::start(directory, founding).await?;
    let (grid, tripped) = grid(config, directory, metrics, (control, me))?;
    tokio::spawn(Arc::clone(&grid.control).keep());
    tokio::spawn(Arc::clone(&grid.follower).run(Arc::clone(&grid.control)));
    let (begun, has_begun) = oneshot::channel();
    tokio::spawn(lead(Arc::clone(&grid.control), me, begun));
    // Who leads never ends before it has said so.
    has_begun.await.ok();
    Ok((grid, tripped))
}

/// The grid, and the functions that it is to suspend.
fn grid(
    config: &Config,
    directory: Option<&DataDirectory>,
    metrics: &Metrics,
    (control, me): (Arc<Control>, MemberId),
) -> Result<(Arc<Grid>, mpsc::Receiver<Tripped>), NodeError> {
    let runtime = Arc::new(Runtime::new(INSTANCES)?);
    let files = directory.map(|directory| ModuleFiles::open(directory, runtime.engine_key())).transpose()?;
    let arguments = vec![COMPILE_MODULE.into()];
    let compiler = Compiler::new(config.compiler.clone(), arguments, COMPILERS, config.compile);
    let (catalog, tripped) = Catalog::new(metrics.functions());
    let memory = Arc::new(Memory::new(config.memory_bytes));
    let replication = Arc::new(Replication::new(me, Box::new(Nobody)));
    let state = control.decided();
    let class = state.grid().and_then(|grid| grid.class(ReplicationClass::default()));
    let class = class.expect("who is a member knows a grid, and each has this class");
    if class.partitions != config.partitions {
        warn!(partitions = class.partitions, "the grid keeps the partitions that it was created with");
    }
    let partitions = Partitions::new(class, Arc::clone(&catalog), (memory, replication), random()?);
    let partitions = Arc::new(partitions.map_err(refused("a thread"))?);
    let (maps, loader) = (Arc::<Maps>::default(), Arc::new(Loader::new(runtime, compiler, files)));
    let functions = (Arc::clone(&catalog), Arc::clone(&loader));
    let follower = Arc::new(Follower::new(Arc::clone(&maps), functions, Arc::clone(&partitions)));
    let in_flight = Arc::new(InFlight::new(config.memory_bytes));
    let value_bytes = config.value_bytes;
    let grid = Grid { maps, catalog, loader, partitions, control, follower, in_flight, value_bytes };
    Ok((Arc::new(grid), tripped))
}

fn routes(grid: &Arc<Grid>, info: GridInfo, watches: Watches, stop: &CancellationToken) -> Routes {
    let maps = MapCalls { grid: Arc::clone(grid), watches: Arc::new(watches), stop: stop.clone() };
    let maps = v1::map_service_server::MapServiceServer::new(maps).max_decoding_message_size(MESSAGE_BYTES);
    let compute = v1::compute_service_server::ComputeServiceServer::new(Compute { grid: Arc::clone(grid) });
    let functions = v1::function_service_server::FunctionServiceServer::new(Functions::new(Arc::clone(grid)));
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(wattle_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(maps)
        .add_service(compute.max_decoding_message_size(MESSAGE_BYTES))
        .add_service(functions.max_decoding_message_size(MODULE_BYTES + (1 << 20)))
        .add_service(v1::grid_service_server::GridServiceServer::new(info))
        .add_service(health_service)
        .add_service(reflection().build_v1().expect("the descriptors were generated with the services"))
        .add_service(reflection().build_v1alpha().expect("the descriptors were generated with the services"));
    // The reporter goes: a node that answers serves, and what does not serve does not answer.
    drop(health);
    routes
}
