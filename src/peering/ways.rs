//! The ways out: of the voter to other voters, of copies to other copies and to the control group.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tracing::debug;
use wattle_control::{GroupId, Transport, TransportError};
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::GridCommand;
use wattle_core::ids::{MemberId, NodeId, PartitionId};
use wattle_core::limits::{COPY_PROPOSALS, COPY_PROPOSALS_AT_ONCE};
use wattle_core::replication::{PartitionMessage, Proposal};
use wattle_peers::{Generation, PeerMessage};

use super::Links;
use crate::control::Control;
use crate::replication::Outside;

/// The voter's way to others.
#[derive(Clone)]
pub(crate) struct ControlWay(pub(crate) Arc<Links>);

impl ControlWay {
    /// The voter is one of this group from now on.
    pub(crate) fn takes_part_in(&self, group: GroupId) {
        self.0.set_generation(Generation { number: group.generation, founder: group.founder });
    }
}

impl Transport for ControlWay {
    async fn call(&self, node: NodeId, request: Bytes) -> Result<Bytes, TransportError> {
        let answer = self.0.control(node, request).await;
        answer.map_err(|error| TransportError { node, source: error.into() })
    }
}

/// The copies' way out.
#[derive(Debug)]
pub(crate) struct CopyWay {
    links: Arc<Links>,
    proposals: mpsc::Sender<(PartitionId, Proposal)>,
}

impl CopyWay {
    /// The way, and what copies ask for: to be carried by [`carry_proposals`].
    pub(crate) fn new(links: Arc<Links>) -> (Self, mpsc::Receiver<(PartitionId, Proposal)>) {
        let (proposals, asked) = mpsc::channel(COPY_PROPOSALS);
        (Self { links, proposals }, asked)
    }
}

impl Outside for CopyWay {
    fn send(&self, to: MemberId, partition: PartitionId, message: PartitionMessage) {
        if let Err(error) = self.links.send(to, PeerMessage::Partition(partition, message)) {
            debug!(node = to.node.0, partition = partition.index, %error, "a message to a copy is lost");
        }
    }

    fn propose(&self, partition: PartitionId, proposal: Proposal) {
        // Copies ask again.
        self.proposals.try_send((partition, proposal)).ok();
    }
}

/// Carries what copies ask for to the control group, until they are gone. What is asked for again meanwhile is on its way already.
pub(crate) async fn carry_proposals(
    control: Arc<Control>,
    mut asked: mpsc::Receiver<(PartitionId, Proposal)>,
) {
    let mut under_way = HashSet::new();
    let mut carried = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = asked.recv(), if carried.len() < COPY_PROPOSALS_AT_ONCE => {
                let Some((partition, proposal)) = next else { return };
                if under_way.insert((partition, proposal)) {
                    carried.push(carry(Arc::clone(&control), partition, proposal));
                }
            }
            Some(done) = carried.next() => {
                under_way.remove(&done);
            }
        }
    }
}

async fn carry(control: Arc<Control>, partition: PartitionId, proposal: Proposal) -> (PartitionId, Proposal) {
    let command = GroupCommand::Grid(GridCommand::Propose { partition, proposal });
    if let Err(error) = control.propose(command).await {
        debug!(partition = partition.index, %error, "what a copy has asked for is not decided");
    }
    (partition, proposal)
}
