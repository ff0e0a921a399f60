//! The listener and the runtimes behind it: one acceptor deals connections to the IO runtime that has fewest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tracing::{debug, warn};
use wattle_core::limits::{CONNECTION_BYTES, CONNECTION_CALLS, FILES_RESERVED_SHARE};

use crate::connection::Connection;
use crate::entrance::Entrance;

/// Connections that wait for their runtime.
const BACKLOG: usize = 256;
/// How long calls in flight may take when the node stops.
const GRACE: Duration = Duration::from_secs(10);
/// A connection that is silent for this long is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// After this long without an answer it is not.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept: most failures are a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a port understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// All that gRPC needs.
    Http2,
    /// Metrics and probes are there as well.
    Http1Too,
    /// Only those are.
    Probes,
    /// Other nodes alone come here.
    Peers,
}

/// A thread with a runtime for connections.
#[derive(Debug)]
struct IoThread {
    connections: Arc<AtomicUsize>,
    sender: mpsc::Sender<io::Result<Connection>>,
    runtime: Handle,
    thread: JoinHandle<()>,
}

/// The IO threads.
#[derive(Debug)]
pub(crate) struct IoThreads {
    threads: Vec<IoThread>,
    /// Connections, if there are files enough.
    most: usize,
    /// As long as it is there, so are the runtimes.
    over: DropGuard,
}

impl IoThreads {
    /// Starts `count` threads that serve on `most` connections until `stop`, and then finish the calls in flight. Their runtimes go on
    /// until they are joined.
    pub(crate) fn start(
        (count, most): (usize, usize),
        entrance: &Entrance,
        speaks: Speaks,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let over = CancellationToken::new();
        let start = |number| {
            let (sender, receiver) = mpsc::channel(BACKLOG);
            let services = entrance.clone();
            let (stop, over) = (stop.clone(), over.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let work = async move {
                serve(receiver, services, speaks, stop).await;
                over.cancelled().await;
            };
            let thread = std::thread::Builder::new().name(format!("io-{number}"));
            let thread = thread.spawn(move || runtime.block_on(work))?;
            Ok(IoThread { connections: Arc::default(), sender, runtime: handle, thread })
        };
        let threads = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads, most, over: over.drop_guard() })
    }

    /// Where connections are served.
    pub(crate) fn runtimes(&self) -> impl Iterator<Item = Handle> {
        self.threads.iter().map(|io| io.runtime.clone())
    }

    /// Accepts connections until `stop`.
    pub(crate) async fn accept(&self, listener: TcpListener, stop: &CancellationToken) {
        let mut refusing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted.and_then(|(stream, peer)| Ok((prepare(stream)?, peer))) {
                Ok((stream, peer)) => {
                    let dealt = self.deal(stream, peer);
                    if let Err(Full { limit }) = dealt
                        && !refusing
                    {
                        warn!(limit, "connections are refused: as many as may be are open");
                    }
                    refusing = dealt.is_err();
                }
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn deal(&self, stream: std::net::TcpStream, peer: SocketAddr) -> Result<(), Full> {
        let counts = self.threads.iter().map(|io| io.connections.load(Ordering::Relaxed));
        let limit = self.most.min(files_for_connections());
        if counts.clone().sum::<usize>() >= limit {
            return Err(Full { limit });
        }
        let Some((io, _)) = self.threads.iter().zip(counts).min_by_key(|(_, count)| *count) else {
            return Ok(());
        };
        let connection = Connection::new(stream, peer, &io.connections);
        io.sender.try_send(Ok(connection)).map_err(|_| Full { limit: BACKLOG })
    }

    /// Waits for the threads, which end after `stop`, and whatever runs there ends with them.
    pub(crate) fn join(self) {
        drop(self.over);
        for io in self.threads {
            drop(io.sender);
            if io.thread.join().is_err() {
                warn!("an IO thread panicked");
            }
        }
    }
}

/// A connection was refused.
#[derive(Debug, Clone, Copy)]
struct Full {
    limit: usize,
}

/// The files that this process may have open now, but for those that are not for connections.
fn files_for_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files - files / FILES_RESERVED_SHARE).unwrap_or(usize::MAX)
}

/// Off the accepting runtime, so that the serving one can take it. Without `TCP_NODELAY` small answers wait 40 ms.
fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

fn keep_alive(server: Server) -> Server {
    server.http2_keepalive_interval(Some(KEEP_ALIVE)).http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

async fn serve(
    receiver: mpsc::Receiver<io::Result<Connection>>,
    services: Entrance,
    speaks: Speaks,
    stop: CancellationToken,
) {
    let incoming =
        tokio_stream::StreamExt::map(ReceiverStream::new(receiver), |connection| connection?.attach());
    let (http1, keeps_alive): (bool, fn(Server) -> Server) = match speaks {
        Speaks::Http2 => (false, keep_alive),
        Speaks::Http1Too | Speaks::Probes => (true, keep_alive),
        Speaks::Peers => (false, wattle_peers::keep_alive),
    };
    let server = keeps_alive(Server::builder())
        .accept_http1(http1)
        .max_concurrent_streams(CONNECTION_CALLS)
        .initial_connection_window_size(CONNECTION_BYTES)
        .serve_with_incoming_shutdown(services, incoming, stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => match served {
            Ok(()) => debug!("all calls are finished"),
            Err(error) => warn!(%error, "the server failed"),
        },
        () = overdue => warn!("calls in flight were cut off after {GRACE:?}"),
    }
}
