//! [`Directory`]: who is a member, and where. It comes from the control group; an address is only where somebody was last seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use wattle_core::ids::{MemberId, NodeId};

use crate::identity::{Purpose, in_any_life};
use crate::refusal::Refusal;

/// Where members are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory(Arc<BTreeMap<NodeId, (u64, String)>>);

impl Directory {
    /// Of two lives of a node only the later one is a member.
    pub(crate) fn new(members: impl IntoIterator<Item = (MemberId, String)>) -> Self {
        let mut nodes: BTreeMap<NodeId, (u64, String)> = BTreeMap::new();
        for (member, address) in members {
            if nodes.get(&member.node).is_none_or(|(incarnation, _)| *incarnation < member.incarnation) {
                nodes.insert(member.node, (member.incarnation, address));
            }
        }
        Self(Arc::new(nodes))
    }

    /// Where a member is, `HOST:PORT`.
    pub(crate) fn address(&self, member: MemberId, purpose: Purpose) -> Option<&str> {
        self.check(member, purpose).ok()?;
        self.0.get(&member.node).map(|(_, address)| &**address)
    }

    /// Who a node is.
    pub(crate) fn member(&self, node: NodeId) -> Option<MemberId> {
        self.0.get(&node).map(|(incarnation, _)| MemberId { node, incarnation: *incarnation })
    }

    /// Whether this is a member, as links of this purpose name members.
    pub(crate) fn check(&self, asked: MemberId, purpose: Purpose) -> Result<(), Refusal> {
        let known = self.member(asked.node);
        let named = match purpose {
            Purpose::Replication | Purpose::Calls | Purpose::Heartbeats => known,
            Purpose::Control => known.map(|known| in_any_life(known.node)),
            Purpose::Stranger => None,
        };
        if named == Some(asked) {
            return Ok(());
        }
        Err(Refusal::UnknownMember { asked, incarnation: known.map(|known| known.incarnation) })
    }
}
