//! Counts calls and their bodies among what is in flight: of a call what it takes by itself, of requests what has arrived and is no
//! message yet, of answers what the caller has not taken yet. What lies between is counted where it is worked on.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Method, Request, Response};
use wattle_core::limits::{CALL_BYTES, PIECE_BYTES};

use super::explain::{Explain, Explained};
use crate::in_flight::{Held, InFlight};

/// The one method whose messages are worked on while more of its body arrives.
const PIPELINE: &str = "/wattle.v1.MapService/Pipeline";
/// Of a gRPC message: whether it is compressed, and its length.
const MESSAGE_HEADER: usize = 5;

/// The services, the bodies of whose calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub(crate) services: Explain,
    pub(crate) in_flight: Arc<InFlight>,
}

impl Service<Request<Body>> for Counted {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let held = match request.method() {
            &Method::POST => self.in_flight.take(CALL_BYTES),
            // A probe: it is answered also by a node that is busy.
            _ => Ok(self.in_flight.count(0)),
        };
        let held = match held {
            Ok(held) => held,
            Err(failure) => return Answering { answer: Err(failure.into()), held: None },
        };
        let framing = (request.uri().path() == PIPELINE).then(Framing::default);
        let arriving = |body| Arriving { body, framing, held: held.beside(0) };
        let answer = self.services.call(request.map(|body| Body::new(arriving(body))));
        Answering { answer: Ok(answer), held: Some(held) }
    }
}

/// An answer to come.
#[derive(Debug)]
pub(crate) struct Answering {
    /// Or why the call is refused.
    answer: Result<Explained, Status>,
    /// What the call takes by itself, as long as it lives.
    held: Option<Held>,
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.answer {
            Ok(answer) => ready!(Pin::new(answer).poll(context)),
            Err(refused) => Ok(refused.clone().into_http()),
        };
        let Some(held) = self.held.take() else { return Poll::Ready(answer) };
        Poll::Ready(answer.map(|answer| answer.map(|body| Body::new(Leaving { body, held }))))
    }
}

/// The body of a request. What has arrived of it is counted until it is dropped, or, where messages are worked on one by one,
/// until the service has taken the message.
struct Arriving {
    body: Body,
    framing: Option<Framing>,
    held: Held,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, framing, held } = &mut *self;
        if let Some(framing) = framing {
            // Who asks for more has taken all messages that are whole.
            held.keep(framing.partial);
        }
        let frame = match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        let Some(data) = frame.data_ref() else { return Poll::Ready(Some(Ok(frame))) };
        if let Err(failure) = held.take(data.len()) {
            return Poll::Ready(Some(Err(failure.into())));
        }
        if let Some(framing) = framing {
            framing.read(data);
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

/// Where messages begin and end in a body.
#[derive(Debug, Default)]
struct Framing {
    /// Bytes of the message that is not whole yet.
    partial: usize,
    /// Its length in big-endian order, as far as it has arrived.
    length: u32,
}

impl Framing {
    fn read(&mut self, mut data: &[u8]) {
        while let Some(first) = data.first() {
            if self.partial < MESSAGE_HEADER {
                // The flag is shifted out by the four bytes of the length.
                self.length = self.length << 8 | u32::from(*first);
                data.advance(1);
                self.partial += 1;
            }
            if self.partial >= MESSAGE_HEADER {
                let whole = MESSAGE_HEADER + self.length as usize;
                let more = data.len().min(whole - self.partial);
                data.advance(more);
                self.partial += more;
                if self.partial == whole {
                    self.partial = 0;
                }
            }
        }
    }
}

/// The body of an answer. Each piece of it is counted until nobody refers to its bytes any more: neither the connection, which
/// sends no more than its client takes, nor this.
struct Leaving {
    body: Body,
    /// Of the call.
    held: Held,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame.map_data(|bytes| self.count(bytes))))),
            end => Poll::Ready(end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Leaving {
    fn count(&self, bytes: Bytes) -> Bytes {
        if bytes.len() < PIECE_BYTES {
            return bytes;
        }
        let held = self.held.beside(bytes.len());
        Bytes::from_owner(Piece { bytes, _held: held })
    }
}

/// A piece of an answer.
struct Piece {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_partial_until_its_last_byte() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![7; usize::from(length)]].concat();
        let stream = [message(3), message(0), message(9)].concat();
        let partial = |read| read - [0, 8, 13, 27].into_iter().rfind(|end| *end <= read).unwrap();
        for step in 1..=stream.len() {
            let mut framing = Framing::default();
            let mut read = 0;
            for data in stream.chunks(step) {
                framing.read(data);
                read += data.len();
                assert_eq!(framing.partial, partial(read), "after {read} bytes, {step} at a time");
            }
        }
    }
}
