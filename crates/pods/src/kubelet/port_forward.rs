//! Ports of a pod, forwarded over SPDY as the streaming server of a kubelet does it: two streams for each connection, one
//! with its bytes and one for what goes wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::container::View;
use super::spdy::{self, Broken, Headers, PIECE, Stream};

/// The protocol that is spoken in the streams.
pub(crate) const PROTOCOL: &str = "portforward.k8s.io";
/// Until the second stream of a connection must have come.
const PAIRING: Duration = Duration::from_secs(30);
/// What a client may still send when the pod has said all, as in containerd.
const FAREWELL: Duration = Duration::from_secs(1);

/// The pod whose ports are forwarded.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) address: Ipv4Addr,
    /// Its worker's, so that it is known when the pod is gone: its address may be another one's then.
    pub(crate) views: watch::Receiver<Vec<View>>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the pod is gone")]
    Gone,
    #[error("dial tcp {address}:{port}: connect: {error}")]
    Dial { address: Ipv4Addr, port: u16, error: Spelled },
    #[error("read tcp {address}:{port}: read: {error}")]
    Read { address: Ipv4Addr, port: u16, error: Spelled },
}

/// An error of the system in the words that Go has for it.
#[derive(Debug)]
struct Spelled(io::Error);

impl fmt::Display for Spelled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::ConnectionRefused => formatter.write_str("connection refused"),
            io::ErrorKind::ConnectionReset => formatter.write_str("connection reset by peer"),
            _ => self.0.fmt(formatter),
        }
    }
}

impl Target {
    async fn connect(&self, port: u16) -> Result<TcpStream, Failure> {
        if self.views.has_changed().is_err() {
            return Err(Failure::Gone);
        }
        let stream =
            TcpStream::connect((self.address, port)).await.map_err(|error| self.dial(port, error))?;
        stream.set_nodelay(true).map_err(|error| self.dial(port, error))?;
        Ok(stream)
    }

    fn dial(&self, port: u16, error: io::Error) -> Failure {
        Failure::Dial { address: self.address, port, error: Spelled(error) }
    }

    fn explain(&self, port: u16, failure: &Failure) -> Bytes {
        let (name, uid) = (&self.name, &self.uid);
        format!("error forwarding port {port} to pod {name}, uid {uid}: {failure}").into()
    }
}

/// Serves an upgraded connection until either side ends it.
pub(crate) async fn serve<I: AsyncRead + AsyncWrite>(io: I, target: Target) -> Result<(), Broken> {
    let (input, output) = tokio::io::split(io);
    let (accepted, mut streams) = mpsc::channel(1);
    let (reader, writer) = spdy::connection(input, output, admits, accepted);
    let (mut reader, mut writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    let mut halves = Halves::default();
    let mut connections = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            ended = &mut reader => return ended,
            ended = &mut writer => return ended,
            Some(stream) = streams.recv() => match halves.add(stream) {
                Added::Half => {}
                Added::Pair(pair) => {
                    connections.spawn(forward(target.clone(), pair));
                }
                Added::Twice(stream) => {
                    connections.spawn(give_up(stream, "such a stream is there already"));
                }
            },
            now = ticks.tick() => for stream in halves.take_older_than(now) {
                connections.spawn(give_up(stream, "timed out waiting for streams"));
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::warn!(%error, "a forwarded connection is gone");
                }
            }
        }
    }
}

/// What the streaming server demands of a stream; others are refused.
fn admits(headers: &Headers) -> bool {
    port(headers).is_some() && matches!(headers.get("streamtype"), "data" | "error")
}

fn port(headers: &Headers) -> Option<u16> {
    headers.get("port").parse().ok().filter(|port| *port > 0)
}

#[derive(Debug)]
struct Pair {
    data: Stream,
    error: Stream,
}

/// Streams whose other one has not come yet, by the number of their connection.
#[derive(Debug, Default)]
struct Halves(BTreeMap<String, (Stream, Instant)>);

enum Added {
    Half,
    Pair(Pair),
    Twice(Stream),
}

impl Halves {
    fn add(&mut self, stream: Stream) -> Added {
        let connection = connection(&stream);
        let Some((other, since)) = self.0.remove(&connection) else {
            self.0.insert(connection, (stream, Instant::now()));
            return Added::Half;
        };
        match (is_data(&other), is_data(&stream)) {
            (false, true) => Added::Pair(Pair { data: stream, error: other }),
            (true, false) => Added::Pair(Pair { data: other, error: stream }),
            (true, true) | (false, false) => {
                self.0.insert(connection, (other, since));
                Added::Twice(stream)
            }
        }
    }

    fn take_older_than(&mut self, now: Instant) -> Vec<Stream> {
        let is_late = |(_, since): &(Stream, Instant)| now.duration_since(*since) >= PAIRING;
        let late: Vec<String> =
            self.0.iter().filter(|(_, half)| is_late(half)).map(|(name, _)| name.clone()).collect();
        late.iter().filter_map(|name| self.0.remove(name)).map(|(stream, _)| stream).collect()
    }
}

fn is_data(stream: &Stream) -> bool {
    stream.headers.get("streamtype") == "data"
}

/// Clients that do not number connections open the stream of errors right before that of data.
fn connection(stream: &Stream) -> String {
    match stream.headers.get("requestid") {
        "" if is_data(stream) => stream.id.wrapping_sub(2).to_string(),
        "" => stream.id.to_string(),
        given => given.to_owned(),
    }
}

async fn give_up(stream: Stream, why: &'static str) {
    let is_told = is_data(&stream) || stream.output.send(why.into()).await;
    if is_told && !stream.output.reset().await {
        tracing::debug!("the client of a stream is gone");
    }
}

/// One connection, from its two streams to its end.
async fn forward(target: Target, pair: Pair) {
    let Pair { data, error } = pair;
    let Some(port) = port(&data.headers) else { return };
    let failure = {
        let (output, mut open) = (data.output.clone(), data.open);
        let whole = async {
            let (from_pod, to_pod) = target.connect(port).await?.into_split();
            exchange(&target, port, (from_pod, to_pod), (data.input, &output)).await
        };
        tokio::select! {
            ended = whole => ended.err(),
            // The client does not want the rest.
            _ = &mut open => None,
        }
    };
    let is_told = match failure {
        None => error.output.finish().await,
        Some(failure) => {
            error.output.send(target.explain(port, &failure)).await
                && data.output.reset().await
                && error.output.reset().await
        }
    };
    if !is_told {
        tracing::debug!(port, "the client of a forwarded port is gone");
    }
}

/// Until the pod has said all. A client that has said all may listen as long as it likes.
async fn exchange(
    target: &Target,
    port: u16,
    (from_pod, to_pod): (OwnedReadHalf, OwnedWriteHalf),
    (input, output): (mpsc::Receiver<Bytes>, &spdy::Output),
) -> Result<(), Failure> {
    let mut upload = std::pin::pin!(upload(input, to_pod));
    let mut download = std::pin::pin!(download(from_pod, output));
    let mut is_uploaded = false;
    loop {
        tokio::select! {
            () = &mut upload, if !is_uploaded => is_uploaded = true,
            ended = &mut download => {
                let read = |error| Failure::Read { address: target.address, port, error: Spelled(error) };
                ended.map_err(read)?;
                break;
            }
        }
    }
    if !is_uploaded && timeout(FAREWELL, upload).await.is_err() {
        tracing::debug!(port, "a client has more to say than its pod listens to");
    }
    Ok(())
}

/// What goes wrong with it the other direction hears of.
async fn upload(mut input: mpsc::Receiver<Bytes>, mut pod: OwnedWriteHalf) {
    while let Some(piece) = input.recv().await {
        if pod.write_all(&piece).await.is_err() {
            return;
        }
    }
    if let Err(error) = pod.shutdown().await {
        tracing::debug!(%error, "a pod has hung up first");
    }
}

async fn download(mut pod: OwnedReadHalf, output: &spdy::Output) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let mut piece = (&mut pod).take(PIECE as u64);
        if piece.read_buf(&mut buffer).await? == 0 {
            output.finish().await;
            return Ok(());
        }
        if !output.send(buffer.split().freeze()).await {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
