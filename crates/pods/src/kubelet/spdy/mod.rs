//! SPDY/3.1 as far as Kubernetes uses it, at the accepting end: streams with headers over one connection, without
//! windows. What keeps one side from flooding the other is that a connection is not read while a stream's queue is full.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub(crate) use self::connection::{Broken, Output, Stream, connection};
pub(crate) use self::headers::Headers;
#[cfg(test)]
pub(crate) use self::{frame::*, headers::Encoder};

/// Bytes of a stream that wait or travel as one piece; longer frames are taken apart.
pub(crate) const PIECE: usize = 32 * 1024;
/// Streams of a connection that are open at a time.
const MAX_STREAMS: usize = 512;
/// Pieces that wait for who reads a stream, and frames that wait to be written to the connection.
const QUEUE: usize = 8;
/// Bytes of headers, compressed or not.
const MAX_HEADERS: usize = 16 * 1024;
