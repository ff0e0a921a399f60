//! How nodes of a grid talk to each other: over links that know who is at the other end, and that are bounded.
//!
//! A link is one stream of gRPC on a connection of its own, opened by the node that has something to say. It begins with a handshake
//! (`hello.rs` says what it proves and what it does not). One kind carries messages that may be lost ([`PeerMessage`]), batched
//! as they wait; the others calls and their answers (`call.rs`). Who is no member yet may ask two things (`stranger.rs`). Nothing waits without a bound: a peer that does not read fills its queue,
//! and then [`Peers::send`] says so.
//!
//! It knows who is a member and where from [`Peers::set_members`]; it knows no tables, no Raft and no maps.

mod call;
mod codec;
mod counters;
mod dial;
mod directory;
mod error;
mod gate;
mod handler;
mod hello;
mod identity;
mod incoming;
mod link;
mod message;
mod peers;
mod queue;
mod refusal;
mod reigns;
mod shared;
mod stranger;
mod traffic;

pub use call::{
    Admission, Ask, CallRefusal, ControlPosition, Decided, Follow, Generation, Heartbeat, HeartbeatAnswer,
    Situation, SnapshotPiece, SnapshotRest,
};
pub use codec::CodecError;
pub use counters::Figures;
pub use error::{AskError, CallError, LinkError, SendError};
pub use handler::{Event, Handler};
pub use identity::{Grid, Identity, Purpose, Secret, ShortSecret, Standing};
pub use message::PeerMessage;
pub use peers::{PeerServer, Peers, keep_alive};
pub use queue::Queued;
pub use refusal::{Refusal, Versions};

#[cfg(test)]
mod tests;
