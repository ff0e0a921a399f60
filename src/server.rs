//! The listener and the runtimes behind it: one acceptor deals connections to the IO runtime that has fewest.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::in_flight::InFlight;
use crate::rpc::{Counted, Explain};

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

/// A thread with a runtime for connections.
#[derive(Debug)]
struct IoThread {
    connections: Arc<AtomicUsize>,
    sender: mpsc::Sender<io::Result<Connection>>,
    thread: JoinHandle<()>,
}

/// The IO threads.
#[derive(Debug)]
pub(crate) struct IoThreads(Vec<IoThread>);

impl IoThreads {
    /// Starts `count` threads that serve `routes` until `stop`, and then finish the calls in flight.
    pub(crate) fn start(
        count: usize,
        (routes, in_flight): (&Routes, &Arc<InFlight>),
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let start = |number| {
            let (sender, receiver) = mpsc::channel(BACKLOG);
            let services =
                Counted { services: Explain(routes.clone().prepare()), in_flight: Arc::clone(in_flight) };
            let stop = stop.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("io-{number}"));
            let thread = thread.spawn(move || runtime.block_on(serve(receiver, services, stop)))?;
            Ok(IoThread { connections: Arc::default(), sender, thread })
        };
        Ok(Self((0..count).map(start).collect::<io::Result<_>>()?))
    }

    /// Accepts connections until `stop`.
    pub(crate) async fn accept(&self, listener: TcpListener, stop: &CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted.and_then(|(stream, peer)| Ok((prepare(stream)?, peer))) {
                Ok((stream, peer)) => self.deal(stream, peer),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn deal(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        let fewest = self.0.iter().min_by_key(|io| io.connections.load(Ordering::Relaxed));
        let Some(io) = fewest else { return };
        let connection = Connection::new(stream, peer, &io.connections);
        if io.sender.try_send(Ok(connection)).is_err() {
            warn!(%peer, "a connection was refused: too many are being accepted");
        }
    }

    /// Waits for the threads, which end after `stop`.
    pub(crate) fn join(self) {
        for io in self.0 {
            drop(io.sender);
            if io.thread.join().is_err() {
                warn!("an IO thread panicked");
            }
        }
    }
}

/// Off the accepting runtime, so that the serving one can take it. Without `TCP_NODELAY` small answers wait 40 ms.
fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

async fn serve(receiver: mpsc::Receiver<io::Result<Connection>>, services: Counted, stop: CancellationToken) {
    let incoming =
        tokio_stream::StreamExt::map(ReceiverStream::new(receiver), |connection| connection?.attach());
    let server = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
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

/// A connection that is counted while it lives.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    peer: SocketAddr,
    connections: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Stream {
    /// On its way to its runtime.
    Detached(Option<std::net::TcpStream>),
    Attached(TcpStream),
}

impl Connection {
    fn new(stream: std::net::TcpStream, peer: SocketAddr, connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self { stream: Stream::Detached(Some(stream)), peer, connections: Arc::clone(connections) }
    }

    /// Takes the connection into the runtime of this thread.
    fn attach(mut self) -> io::Result<Self> {
        if let Stream::Detached(stream) = &mut self.stream
            && let Some(stream) = stream.take()
        {
            self.stream = Stream::Attached(TcpStream::from_std(stream)?);
        }
        Ok(self)
    }

    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.get_mut().stream {
            Stream::Attached(stream) => Ok(Pin::new(stream)),
            Stream::Detached(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Connection {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
