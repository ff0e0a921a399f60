//! Who lives, and what follows from it: every node says that it does, lends leases and does what it owes as a primary; the leader of the
//! control group hears them and proposes what the grid needs.

mod leading;
mod living;
mod sessions;

pub(crate) use leading::{lead, settle_voters};
pub(crate) use living::{Suspects, live};
pub(crate) use sessions::Sessions;
