//! How copies of a partition agree: primary and backups with an in-sync set and epochs, as in PacificA (Lin et al., 2008) and
//! Kafka's in-sync replicas with KRaft.
//!
//! Everything here decides and nothing acts: a [`Replica`] is told what happened and says what is to be done. What its log
//! carries and how a store is changed by it is the caller's; so one search of the protocol's states (`model`) stands for all of
//! them.
//!
//! - [`Assignment`]: what the control group has decided about a partition, and the conditional changes of it.
//! - [`Replica`]: one copy, primary or backup; [`ReplicatedPartition`]: the same with its entries.
//! - [`KnownReign`]: which messages reach a copy; [`GrantedLeases`], [`HeldLeases`]: how long a primary may read without asking.

mod assignment;
mod backup;
mod early;
mod lease;
mod log;
mod message;
#[cfg(test)]
mod model;
mod primary;
mod progress;
mod replica;
mod replicated;

pub use assignment::{Assignment, Change, Proposal, ProposalError};
pub use early::{Addressed, Contact, Credence, EarlyMessages, KnownReign};
pub use lease::{Grant, GrantedLeases, HeldLeases, LocalTime, Reckoning, Wish};
pub use log::{Mark, Record};
pub use message::{Body, Message};
pub use primary::{ReadPermit, Unavailable};
pub use replica::{Effect, Replica};
pub use replicated::{ChunkWanted, Deed, Now, Offer, PartitionMessage, ReplicatedPartition};
