//! [`TestNetwork`]: delivers requests late, or loses them, by a seed. For tests with `start_paused = true`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use wattle_core::ids::NodeId;

use crate::{ControlGroup, Transport, TransportError};

const MIB: usize = 1024 * 1024;

/// Clones are the same network.
#[derive(Clone, Default)]
pub(crate) struct TestNetwork(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    groups: BTreeMap<NodeId, Arc<ControlGroup>>,
    /// From, to.
    cut: BTreeSet<(NodeId, NodeId)>,
    seed: u64,
    /// Of a hundred messages.
    lost: u64,
    /// At the most, of a message.
    delay: Duration,
    /// How long a MiB takes.
    slowness: Duration,
    /// How long an answer to a request for a vote takes.
    voting: Duration,
    largest: usize,
    /// Messages of more than half a MiB that were sent.
    large: usize,
    /// Of snapshots, that arrived.
    pieces: usize,
}

/// What a node sees of it.
#[derive(Clone)]
pub(crate) struct From {
    network: TestNetwork,
    node: NodeId,
}

impl TestNetwork {
    pub(crate) fn of(&self, node: NodeId) -> From {
        From { network: self.clone(), node }
    }

    pub(crate) fn add(&self, node: NodeId, group: ControlGroup) -> Arc<ControlGroup> {
        let group = Arc::new(group);
        self.0.lock().groups.insert(node, Arc::clone(&group));
        group
    }

    /// Its process is gone.
    pub(crate) fn remove(&self, node: NodeId) {
        self.0.lock().groups.remove(&node);
    }

    /// Nothing comes from it and goes to it.
    pub(crate) fn cut_off(&self, node: NodeId) {
        let mut inner = self.0.lock();
        for other in inner.groups.keys().copied().collect::<Vec<_>>() {
            inner.cut.extend([(node, other), (other, node)]);
        }
    }

    /// Nothing comes to it; what it says is heard.
    pub(crate) fn deafen(&self, node: NodeId) {
        let mut inner = self.0.lock();
        let others: Vec<NodeId> = inner.groups.keys().copied().filter(|other| *other != node).collect();
        inner.cut.extend(others.into_iter().map(|other| (other, node)));
    }

    pub(crate) fn heal(&self) {
        let mut inner = self.0.lock();
        inner.cut.clear();
        (inner.lost, inner.delay) = (0, Duration::ZERO);
    }

    /// Loses so many messages of a hundred, and delays all by as much as this.
    pub(crate) fn shake(&self, seed: u64, lost: u64, delay: Duration) {
        let mut inner = self.0.lock();
        (inner.seed, inner.lost, inner.delay) = (seed, lost, delay);
    }

    /// From now on a MiB takes so long.
    pub(crate) fn slow_down(&self, per_mib: Duration) {
        self.0.lock().slowness = per_mib;
    }

    /// From now on whoever is asked for its vote answers after so long.
    pub(crate) fn slow_down_votes(&self, voting: Duration) {
        self.0.lock().voting = voting;
    }

    /// How many messages of more than half a MiB were sent.
    pub(crate) fn large(&self) -> usize {
        self.0.lock().large
    }

    /// The largest message so far, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.0.lock().largest
    }

    /// How many pieces of snapshots have arrived.
    pub(crate) fn pieces(&self) -> usize {
        self.0.lock().pieces
    }

    /// Whether a message arrives.
    async fn pass(&self, from: NodeId, to: NodeId, bytes: usize) -> bool {
        let delay = {
            let mut inner = self.0.lock();
            inner.largest = inner.largest.max(bytes);
            inner.large += usize::from(bytes > MIB / 2);
            let share = inner.random(1000);
            inner.delay.mul_f64(f64::from(u32::try_from(share).unwrap()) / 1000.0)
                + inner.slowness.mul_f64(f64::from(u32::try_from(bytes).unwrap()) / MIB as f64)
        };
        tokio::time::sleep_until(Instant::now() + delay).await;
        let mut inner = self.0.lock();
        let (lost, drawn) = (inner.lost, inner.random(100));
        !inner.cut.contains(&(from, to)) && drawn >= lost
    }
}

impl Inner {
    /// SplitMix64.
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

impl Transport for From {
    async fn call(&self, to: NodeId, request: Bytes) -> Result<Bytes, TransportError> {
        let Self { network, node } = self;
        let lost = || TransportError { node: to, source: ErrorKind::TimedOut.into_error() };
        if !network.pass(*node, to, request.len()).await {
            return Err(lost());
        }
        let group = network.0.lock().groups.get(&to).cloned();
        let group = group
            .ok_or_else(|| TransportError { node: to, source: ErrorKind::ConnectionRefused.into_error() })?;
        network.0.lock().pieces += usize::from(request[1] == 3);
        let answer = group.handle(*node, &request).await;
        if request[1] == 1 {
            let voting = network.0.lock().voting;
            tokio::time::sleep(voting).await;
        }
        if !network.pass(to, *node, answer.len()).await {
            return Err(lost());
        }
        Ok(answer)
    }
}

trait IntoError {
    fn into_error(self) -> Box<dyn std::error::Error + Send + Sync>;
}

impl IntoError for ErrorKind {
    fn into_error(self) -> Box<dyn std::error::Error + Send + Sync> {
        Box::new(std::io::Error::from(self))
    }
}
