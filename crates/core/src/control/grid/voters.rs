//! Who should vote in the control group.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Node, NodeState, Role};
use super::state::Grid;
use crate::ids::{MemberId, NodeId};
use crate::limits::VOTERS;
use crate::membership::Presence;

/// Who should vote: 1, 3 or 5 nodes, of which `voters` do now. Those who stay and live come first, in zones apart, then arbiters, then
/// who votes already, then who answers now ([`Sessions::proven`](crate::membership::Sessions::proven)).
///
/// A death alone leaves no fewer than three voters: with one that is dead, two decide as before, and it may come back; with one voter
/// less, a second death could take the only log that counts. A node that leaves or is forgotten is another matter.
///
/// The votes stay where they are while most of those who should have them do not answer: a change to them would never be decided, and
/// nothing else after it.
#[must_use]
pub fn desired_voters(
    grid: &Grid,
    voters: &BTreeSet<NodeId>,
    presence: &BTreeMap<MemberId, Presence>,
) -> BTreeSet<NodeId> {
    let presence = |node: &Node| presence.get(&node.member).copied().unwrap_or(Presence::Gone);
    let lives = |node: &Node| presence(node) != Presence::Gone;
    let answers = |node: &NodeId| grid.node(*node).is_some_and(|node| presence(node) == Presence::Alive);
    let mut open: Vec<&Node> = grid.nodes().filter(|node| node.state == NodeState::Joined).collect();
    let living = open.iter().filter(|node| lives(node)).count();
    let size = odd(living).max(odd(open.len()).min(3));
    let mut chosen: BTreeSet<NodeId> = BTreeSet::new();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    while chosen.len() < size {
        let rank = |node: &&Node| {
            let zone = node.description.zone.as_deref();
            let beside = zone.and_then(|zone| zones.get(zone)).copied().unwrap_or_default();
            let arbiter = node.description.role == Role::Arbiter;
            let id = node.id();
            (!lives(node), beside, !arbiter, !voters.contains(&id), !answers(&id), id)
        };
        let Some(best) = open.iter().copied().min_by_key(rank) else { break };
        open.retain(|node| node.id() != best.id());
        chosen.insert(best.id());
        if let Some(zone) = best.description.zone.as_deref() {
            *zones.entry(zone).or_default() += 1;
        }
    }
    let answering = chosen.iter().filter(|node| answers(node)).count();
    let decides = answering * 2 > chosen.len();
    // Where nobody stays, those who vote go on until they leave.
    if decides && !chosen.is_empty() { chosen } else { voters.clone() }
}

/// How many of so many nodes vote: never an even number, which would bear no more deaths than one less.
fn odd(nodes: usize) -> usize {
    match nodes {
        0 => 0,
        1 | 2 => 1,
        3 | 4 => 3,
        _ => VOTERS,
    }
}
