//! The frames between a node and an entry processor: a request with entries in, a reply with one answer for each
//! of them out (`process` of the world `entry-processor` in `wit/wattle.wit`).
//!
//! One list in and one out per batch is what makes a call cheap: a typed list per entry costs several times the
//! work that a small function does.

mod reply;
mod request;

pub use reply::{Answer, Change, Effect, Reply, ReplyWriter};
pub use request::{EntrySlot, EntryView, Request, RequestHeader, RequestWriter};
