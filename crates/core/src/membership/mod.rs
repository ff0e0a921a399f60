//! Who lives, as far as the control group's leader can tell: sessions in, suspicions out.
//!
//! A suspicion costs little: replication is safe whoever is suspected, so silence of a few seconds is enough. Nothing here sends or
//! hears; how heartbeats come is not known.

mod sessions;

pub use sessions::{Look, Presence, Sessions};
