//! A connection of a client: counted while it lives, and closed if it does not say what it speaks.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;
use wattle_core::limits::FIRST_BYTES_TIME;

/// A connection that is counted while it lives.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    peer: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// Of HTTP/2's preface. What has said so much is in the hands of the protocol, which has time limits of its own.
const FIRST_BYTES: usize = 24;

/// What a connection has said so far, and how long it may take for the rest.
#[derive(Debug)]
struct Greeting {
    read: usize,
    overdue: Pin<Box<Sleep>>,
}

#[derive(Debug)]
enum Stream {
    /// On its way to its runtime.
    Detached(Option<std::net::TcpStream>),
    Attached {
        stream: TcpStream,
        greeting: Option<Greeting>,
    },
}

impl Connection {
    pub(crate) fn new(stream: std::net::TcpStream, peer: SocketAddr, connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self { stream: Stream::Detached(Some(stream)), peer, connections: Arc::clone(connections) }
    }

    /// Takes the connection into the runtime of this thread.
    pub(crate) fn attach(mut self) -> io::Result<Self> {
        if let Stream::Detached(stream) = &mut self.stream
            && let Some(stream) = stream.take()
        {
            let stream = TcpStream::from_std(stream)?;
            let greeting = Greeting { read: 0, overdue: Box::pin(sleep(FIRST_BYTES_TIME)) };
            self.stream = Stream::Attached { stream, greeting: Some(greeting) };
        }
        Ok(self)
    }

    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.get_mut().stream {
            Stream::Attached { stream, .. } => Ok(Pin::new(stream)),
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
        let Stream::Attached { stream, greeting } = &mut self.get_mut().stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some(waited) = greeting else { return Pin::new(stream).poll_read(context, buf) };
        let before = buf.filled().len();
        if Pin::new(stream).poll_read(context, buf)?.is_pending() {
            ready!(waited.overdue.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        waited.read += buf.filled().len() - before;
        if waited.read >= FIRST_BYTES {
            *greeting = None;
        }
        Poll::Ready(Ok(()))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn connected() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let connections = Arc::default();
        let connection = Connection::new(stream.into_std().unwrap(), peer, &connections);
        (client, connection.attach().unwrap())
    }

    /// Reads what a client says, and then what comes of its silence.
    async fn check(says: &[u8], expected: Option<io::ErrorKind>) {
        let (mut client, mut connection) = connected().await;
        client.write_all(says).await.unwrap();
        let mut read = vec![0; says.len()];
        connection.read_exact(&mut read).await.unwrap();
        assert_eq!(read, says);
        tokio::time::pause();
        let silence = tokio::time::timeout(FIRST_BYTES_TIME * 100, connection.read(&mut [0])).await;
        let silence = silence.ok().map(|read| read.unwrap_err().kind());
        assert_eq!(silence, expected, "after {} bytes", says.len());
    }

    #[tokio::test]
    async fn a_connection_that_does_not_say_what_it_speaks_is_cut() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        check(&[], Some(io::ErrorKind::TimedOut)).await;
        tokio::time::resume();
        check(&preface[..preface.len() - 1], Some(io::ErrorKind::TimedOut)).await;
        tokio::time::resume();
        check(preface, None).await;
    }
}
