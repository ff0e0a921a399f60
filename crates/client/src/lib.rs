//! The client of a Wattle grid: maps, functions, and a pipeline for many operations at once.
//!
//! A [`Client`] is a handle that is cheap to clone; its calls share a few connections. [`Client::map`] gives typed maps,
//! [`Client::raw_map`] maps of bytes, [`Client::functions`] uploads code, [`Client::pipeline`] is the fast path.
//!
//! Calls on one key, and the operations of batches and pipelines, go straight to the node that decides about the key, which the client
//! learns by watching the grid's table; others go to any node, which sends on what is not for it. Calls are repeated after transient failures until the client's timeout,
//! mutations under one request id, so that they take effect once. What cannot be known is said: [`Error::InDoubt`].
#![forbid(unsafe_code)]

mod breaks;
mod call;
mod client;
mod codec;
mod connection;
mod deal;
mod endpoints;
mod error;
mod failure;
mod functions;
mod invoke;
mod listed;
mod map;
mod maps;
#[cfg(test)]
mod not_scripted;
mod operation;
mod options;
mod pipeline;
mod placement;
mod request_ids;
mod retry;
mod routes;
mod scan;
mod table_watch;
#[cfg(test)]
mod test_node;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

pub use client::Client;
pub use codec::{Codec, CodecError, FromKey, Json, Key, MessagePack, Postcard, Raw, Text};
pub use error::Error;
pub use failure::{Failure, Outcome};
pub use functions::{Functions, NotRunning, UploadOptions, Uploaded, not_running};
pub use invoke::{EntryAnswer, InvokePart, InvokeStream, InvokeSummary, Invoked, Responses};
pub use map::{Map, RawMap, TypedScan};
pub use maps::{ContentType, EvictionPolicy, MapChanges, MapOptions, Maps};
pub use operation::{
    Answer, Incremented, Lifetime, Operation, PutOptions, Removed, TtlChange, Versioned, Written,
};
pub use options::Options;
pub use pipeline::{Batch, BatchAnswers, Pending, Pipeline, PipelineOptions};
pub use placement::partition_of;
pub use retry::RetryPolicy;
pub use scan::{Scan, ScanOptions, ScannedEntry};
pub use watch::{Change, ChangeKind, Changes, Watch, WatchFrom};

/// The messages of the API, for what the client answers as they are: descriptions of maps, functions and the grid.
pub use wattle_proto::v1 as api;

/// Packed frames, for [`Batch::packed`] and [`BatchAnswers::results`].
pub use wattle_frame::pipeline as packed;
