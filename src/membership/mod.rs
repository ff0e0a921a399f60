//! Who lives, and what follows from it: every node says that it does, lends leases and does what it owes as a primary; the leader of the
//! control group hears them and proposes what the grid needs.

mod leading;
mod leaving;
mod living;
mod preparing;
mod sessions;
mod sparing;

pub(crate) use leading::{lead, settle_voters};
pub(crate) use leaving::Leaver;
pub(crate) use living::{Suspects, live};
pub(crate) use preparing::tell_prepared;
pub(crate) use sessions::Sessions;
pub(crate) use sparing::release_spare;
