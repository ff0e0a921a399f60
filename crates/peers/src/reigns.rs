//! [`Reigns`]: of which control groups this node takes, or took, part in. A reign is one that such a group has named: where a group is built
//! anew on both sides of a cut, two of them name reigns of the same epochs, and what is said in the one is nothing in the other.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use wattle_core::ids::NodeId;
use wattle_proto::internal as wire;
use wire::peer_message::Body;

use crate::call::Generation;

/// The control groups by their number. Held to look one up or to add one.
#[derive(Debug)]
pub(crate) struct Reigns(RwLock<BTreeMap<u32, NodeId>>);

impl Default for Reigns {
    /// All grids have the same first one.
    fn default() -> Self {
        let Generation { number, founder } = Generation::FIRST;
        Self(RwLock::new(BTreeMap::from([(number, founder)])))
    }
}

impl Reigns {
    /// This node takes part in another control group from now on.
    pub(crate) fn begin(&self, Generation { number, founder }: Generation) {
        self.0.write().insert(number, founder);
    }

    /// Says of a message in whose reign it is, before it is sent.
    pub(crate) fn sign(&self, message: &mut wire::PeerMessage) {
        if let Some(Body::Partition(message)) = &mut message.body
            && let Some(founder) = self.0.read().get(&generation_of(message))
            && *founder != Generation::FIRST.founder
        {
            message.founder = Some(founder.0);
        }
    }

    /// Whether a message that has come is of a reign that counts here: not of one that is still to be heard of.
    pub(crate) fn know(&self, message: &wire::PeerMessage) -> bool {
        let Some(Body::Partition(message)) = &message.body else { return true };
        let founder = message.founder.map_or(Generation::FIRST.founder, NodeId);
        self.0.read().get(&generation_of(message)) == Some(&founder)
    }
}

fn generation_of(message: &wire::PartitionMessage) -> u32 {
    message.epoch.map_or(0, |epoch| epoch.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of node 4 in the second generation.
    fn reigns() -> Reigns {
        let reigns = Reigns::default();
        reigns.begin(Generation { number: 2, founder: NodeId(4) });
        reigns
    }

    fn check(generation: u32, founder: Option<u64>, counts: bool) {
        let epoch = Some(wire::Epoch { generation, number: 7 });
        let message = wire::PartitionMessage { epoch, founder, ..wire::PartitionMessage::default() };
        let message = wire::PeerMessage { body: Some(Body::Partition(message)) };
        assert_eq!(reigns().know(&message), counts, "generation {generation} of {founder:?}");
    }

    #[test]
    fn a_reign_counts_if_the_group_that_named_it_is_known() {
        check(1, None, true);
        check(2, Some(4), true);
        check(2, Some(5), false);
        check(2, None, false);
        check(1, Some(4), false);
        check(3, Some(4), false);
        check(0, None, false);
        let wish = wire::PeerMessage {
            body: Some(Body::LeaseWish(wire::LeaseWish { asked: 1, ..Default::default() })),
        };
        assert!(reigns().know(&wish), "a lease is not of a reign");
    }

    #[test]
    fn what_is_sent_says_whose_reign_it_is_in() {
        let signed = |generation| {
            let epoch = Some(wire::Epoch { generation, number: 7 });
            let message = wire::PartitionMessage { epoch, ..wire::PartitionMessage::default() };
            let mut message = wire::PeerMessage { body: Some(Body::Partition(message)) };
            reigns().sign(&mut message);
            let Some(Body::Partition(message)) = message.body else { unreachable!("it stays what it is") };
            message.founder
        };
        assert_eq!([signed(1), signed(2), signed(3)], [None, Some(4), None]);
    }
}
