//! The accepting end of a connection: one future reads, another writes, and streams are the queues between them and who
//! serves the streams.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Head, Reset, kind};
use super::headers::{Decoder, Encoder, Headers, Malformed};
use super::{MAX_HEADERS, MAX_STREAMS, PIECE, QUEUE};

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Headers(#[from] Malformed),
    #[error("a frame is none of SPDY/3")]
    Version,
    #[error("a control frame of kind {kind} has {length} bytes")]
    Length { kind: u16, length: usize },
}

/// A stream that the other side has opened.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) input: mpsc::Receiver<Bytes>,
    /// Ends when the other side has reset the stream, or is gone. The input's end alone is a half-closed stream.
    pub(crate) open: oneshot::Receiver<Infallible>,
    pub(crate) output: Output,
}

/// This side's half of a stream. What is sent waits until it can be written.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    id: u32,
    frames: mpsc::Sender<Sent>,
}

impl Output {
    /// At most [`PIECE`] bytes. Says whether the connection is still there.
    pub(crate) async fn send(&self, bytes: Bytes) -> bool {
        self.frames.send(Sent::Data { stream: self.id, bytes, is_last: false }).await.is_ok()
    }

    /// Nothing more will be sent.
    pub(crate) async fn finish(&self) -> bool {
        self.frames.send(Sent::Data { stream: self.id, bytes: Bytes::new(), is_last: true }).await.is_ok()
    }

    /// Nothing more will be sent or read.
    pub(crate) async fn reset(&self) -> bool {
        self.frames.send(Sent::Reset { stream: self.id, why: Reset::Cancel }).await.is_ok()
    }
}

#[derive(Debug)]
pub(crate) enum Sent {
    Reply { stream: u32 },
    Data { stream: u32, bytes: Bytes, is_last: bool },
    Reset { stream: u32, why: Reset },
    Ping([u8; 4]),
}

/// What the reader knows of a stream.
struct Open {
    /// None once the other side has said that nothing more comes.
    input: Option<mpsc::Sender<Bytes>>,
    /// Dropped with this.
    open: oneshot::Sender<Infallible>,
}

/// Both directions of a connection, each to be driven until it ends. `admits` says which streams are not refused.
pub(crate) fn connection<R, W>(
    input: R,
    output: W,
    admits: fn(&Headers) -> bool,
    accepted: mpsc::Sender<Stream>,
) -> (impl Future<Output = Result<(), Broken>>, impl Future<Output = Result<(), Broken>>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (frames, waiting) = mpsc::channel(QUEUE);
    let decoder = Decoder::new();
    let reader = Reader { input, admits, accepted, frames, decoder, streams: BTreeMap::new(), last: 0 };
    (reader.run(), write(output, waiting))
}

struct Reader<R> {
    input: R,
    admits: fn(&Headers) -> bool,
    accepted: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Sent>,
    decoder: Decoder,
    streams: BTreeMap<u32, Open>,
    /// The greatest stream that was opened; they rise.
    last: u32,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Until the other side goes, in good order or not.
    async fn run(mut self) -> Result<(), Broken> {
        loop {
            let mut head = [0; Head::SIZE];
            match self.input.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            };
            let head = Head::parse(head);
            if !head.is_of_this_version() {
                return Err(Broken::Version);
            }
            match head {
                Head::Data { stream, is_last, length } => self.data(stream, is_last, length).await?,
                Head::Control { kind: kind::GO_AWAY, .. } => return Ok(()),
                Head::Control { kind, is_last, length, .. } => {
                    let payload = self.payload(kind, length).await?;
                    self.control(kind, is_last, &payload).await?;
                }
            }
        }
    }

    async fn payload(&mut self, kind: u16, length: usize) -> Result<Vec<u8>, Broken> {
        if length > MAX_HEADERS {
            return Err(Broken::Length { kind, length });
        }
        let mut payload = vec![0; length];
        self.input.read_exact(&mut payload).await?;
        Ok(payload)
    }

    async fn data(&mut self, stream: u32, is_last: bool, mut length: usize) -> Result<(), Broken> {
        while length > 0 {
            let mut piece = vec![0; length.min(PIECE)];
            self.input.read_exact(&mut piece).await?;
            length -= piece.len();
            let input = self.streams.get(&stream).and_then(|open| open.input.as_ref());
            if let Some(input) = input
                && input.send(piece.into()).await.is_err()
            {
                // Nobody reads this stream any more: what still comes is dropped, as what comes for unknown ones.
                self.streams.remove(&stream);
            }
        }
        if is_last && let Some(open) = self.streams.get_mut(&stream) {
            open.input = None;
        }
        Ok(())
    }

    async fn control(&mut self, kind: u16, is_last: bool, payload: &[u8]) -> Result<(), Broken> {
        let malformed = Broken::Length { kind, length: payload.len() };
        match kind {
            kind::SYN_STREAM => {
                let Some((stream, block)) = numbered(payload) else { return Err(malformed) };
                // Between them: the stream that this one belongs to, priority and slot.
                let block = block.get(6..).ok_or(malformed)?;
                let headers = self.decoder.decode(block)?;
                self.open(stream, headers, is_last).await;
            }
            // Of streams of this side's, which there are none of, and trailers; but they are part of what is compressed.
            kind::SYN_REPLY | kind::HEADERS => {
                let (_, block) = numbered(payload).ok_or(malformed)?;
                self.decoder.decode(block)?;
            }
            kind::RST_STREAM => {
                let (stream, _) = numbered(payload).ok_or(malformed)?;
                self.streams.remove(&stream);
            }
            kind::PING => {
                let id: [u8; 4] = payload.try_into().map_err(|_| malformed)?;
                // Answers to pings of this side's are even, but it sends none.
                if id[3] & 1 == 1 {
                    self.send(Sent::Ping(id)).await;
                }
            }
            // Settings and windows, which nobody uses here.
            _ => {}
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, headers: Headers, is_last: bool) {
        if id.is_multiple_of(2) || id <= self.last {
            self.send(Sent::Reset { stream: id, why: Reset::ProtocolError }).await;
            return;
        }
        self.last = id;
        self.streams.retain(|_, open| !open.open.is_closed());
        if self.streams.len() >= MAX_STREAMS || !(self.admits)(&headers) {
            self.send(Sent::Reset { stream: id, why: Reset::Refused }).await;
            return;
        }
        self.send(Sent::Reply { stream: id }).await;
        let (sender, input) = mpsc::channel(QUEUE);
        let (alive, open) = oneshot::channel();
        self.streams.insert(id, Open { input: (!is_last).then_some(sender), open: alive });
        let output = Output { id, frames: self.frames.clone() };
        if self.accepted.send(Stream { id, headers, input, open, output }).await.is_err() {
            self.streams.remove(&id);
        }
    }

    async fn send(&mut self, frame: Sent) {
        if self.frames.send(frame).await.is_err() {
            // The writer has ended, and with it the connection: whoever drives both hears of it.
        }
    }
}

/// The stream that a control frame is about, and the rest.
fn numbered(payload: &[u8]) -> Option<(u32, &[u8])> {
    let (bytes, rest) = payload.split_first_chunk()?;
    Some((u32::from_be_bytes(*bytes) & !(1 << 31), rest))
}

/// Until the reader and all streams are gone.
async fn write(mut output: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Sent>) -> Result<(), Broken> {
    let mut encoder = Encoder::new();
    while let Some(frame) = frames.recv().await {
        let bytes = match frame {
            Sent::Reply { stream } => {
                let headers = encoder.encode(&[]);
                frame::control(kind::SYN_REPLY, false, &[&stream.to_be_bytes(), &headers])
            }
            Sent::Data { stream, bytes, is_last } => frame::data(stream, is_last, &bytes),
            Sent::Reset { stream, why } => frame::reset(stream, why),
            Sent::Ping(id) => frame::control(kind::PING, false, &[&id]),
        };
        output.write_all(&bytes).await?;
        if frames.is_empty() {
            output.flush().await?;
        }
    }
    output.shutdown().await?;
    Ok(())
}
