//! [`Gate`]: how much a link may say before it is known who it is. gRPC makes room for a message as soon as its length is named; a
//! stranger is not to name a large one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::codegen::StdError;
use wattle_core::limits::{PEER_HELLO_BYTES, STRANGER_BYTES};

/// Opened once it is known who is there.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<AtomicUsize>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(PEER_HELLO_BYTES)))
    }
}

impl Gate {
    /// For a member.
    pub(crate) fn open(&self) {
        self.0.store(usize::MAX, Ordering::Release);
    }

    /// A little, for who has the secret and is no member.
    pub(crate) fn open_to_stranger(&self) {
        self.0.store(PEER_HELLO_BYTES + STRANGER_BYTES, Ordering::Release);
    }

    fn most(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// A body of which only the beginning is let through until the gate is open.
#[derive(Debug)]
pub(crate) struct GatedBody<B> {
    body: B,
    gate: Gate,
    beginning: Beginning,
}

impl<B> GatedBody<B> {
    pub(crate) fn new(body: B, gate: Gate) -> Self {
        Self { body, gate, beginning: Beginning::default() }
    }
}

/// More was said, or was about to be, than a stranger may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("who is not known yet may say {most} bytes")]
pub(crate) struct TooMuch {
    most: usize,
}

/// gRPC frames a message by a byte for its compression and four for its length.
const HEADER_BYTES: usize = 5;

/// What has come while the gate was closed.
#[derive(Debug, Default)]
struct Beginning {
    bytes: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Of the message that is being read.
    left: usize,
}

impl Beginning {
    fn add(&mut self, mut data: &[u8], most: usize) -> Result<(), TooMuch> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > most {
            return Err(TooMuch { most });
        }
        while let Some((first, rest)) = data.split_first() {
            if self.left > 0 {
                let (_, rest) = data.split_at(self.left.min(data.len()));
                self.left -= data.len() - rest.len();
                data = rest;
                continue;
            }
            self.header[self.header_bytes] = *first;
            self.header_bytes += 1;
            data = rest;
            if self.header_bytes == HEADER_BYTES {
                let [_, length @ ..] = self.header;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.header_bytes = 0;
            }
            if self.left > most {
                return Err(TooMuch { most });
            }
        }
        Ok(())
    }
}

impl<B> Body for GatedBody<B>
where
    B: Body<Data = Bytes, Error: Into<StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(Into::into)?;
        let most = this.gate.most();
        if let Some(data) = frame.data_ref().filter(|_| most < usize::MAX) {
            this.beginning.add(data, most)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32, bytes: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(length.to_be_bytes());
        message.resize(HEADER_BYTES + bytes, b'x');
        message
    }

    /// In one piece, and byte by byte.
    fn check(said: &[u8], expected: Result<(), TooMuch>) {
        let most = Gate::default().most();
        assert_eq!(Beginning::default().add(said, most), expected);
        let mut beginning = Beginning::default();
        assert_eq!(said.chunks(1).try_for_each(|byte| beginning.add(byte, most)), expected);
    }

    const TOO_MUCH: TooMuch = TooMuch { most: PEER_HELLO_BYTES };

    #[test]
    fn a_stranger_may_say_so_much_and_no_more() {
        let most = PEER_HELLO_BYTES - HEADER_BYTES;
        check(&message(most as u32, most), Ok(()));
        check(&message(most as u32 + 1, most + 1), Err(TOO_MUCH));
    }

    #[test]
    fn a_stranger_may_not_name_a_large_message_either() {
        let first = message(3, 3);
        check(&first, Ok(()));
        check(&message(u32::MAX, 0), Err(TOO_MUCH));
        check(&[first.clone(), message(PEER_HELLO_BYTES as u32, 0)].concat(), Ok(()));
        check(&[first, message(PEER_HELLO_BYTES as u32 + 1, 0)].concat(), Err(TOO_MUCH));
    }
}
