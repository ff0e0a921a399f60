//! [`Directory`]: who is a member, and where. It comes from the control group; an address is only where somebody was last seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use wattle_core::ids::{MemberId, NodeId};

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
    pub(crate) fn address(&self, member: MemberId) -> Option<&str> {
        let (incarnation, address) = self.0.get(&member.node)?;
        (*incarnation == member.incarnation).then_some(address)
    }

    /// Who a node is.
    pub(crate) fn member(&self, node: NodeId) -> Option<MemberId> {
        self.0.get(&node).map(|(incarnation, _)| MemberId { node, incarnation: *incarnation })
    }

    /// Whether this is a member.
    pub(crate) fn check(&self, asked: MemberId) -> Result<(), Refusal> {
        let incarnation = self.0.get(&asked.node).map(|(incarnation, _)| *incarnation);
        if incarnation == Some(asked.incarnation) {
            return Ok(());
        }
        Err(Refusal::UnknownMember { asked, incarnation })
    }
}
