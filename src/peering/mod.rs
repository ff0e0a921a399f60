//! This node among others: what they say is done here, by its voter, its copies and its sessions; and what those have to say goes out.

mod inside;
mod ways;

use wattle_peers::Peers;

pub(crate) use inside::{Creation, Inside, Member};
pub(crate) use ways::{ControlWay, CopyWay, carry_proposals};

/// The links of this node.
pub(crate) type Links = Peers<Inside>;
