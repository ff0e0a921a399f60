//! Watches: committed changes of a map as a stream, from now or from where an earlier stream stood.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use wattle_core::ids::Version;
use wattle_core::limits::{KEY_BYTES, SCAN_BYTES, WATCH_LINGER, WATCHES};
use wattle_core::store::{Change, ChangeKind, TailRead};
use wattle_proto::v1;

use super::scan::deleted;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::maps::Map;
use crate::partition::{Shard, Waiter};

/// Between two looks at whether the map is still there.
const LOOK: Duration = Duration::from_secs(1);
/// A watch reads every partition this often, so that its changes are kept.
const KEEP: Duration = Duration::from_secs(WATCH_LINGER.as_secs() / 4);

/// The watches of this node.
#[derive(Debug)]
pub(crate) struct Watches {
    places: Arc<Semaphore>,
    /// Positions of another start of this node mean nothing now.
    incarnation: u64,
}

struct Watch {
    grid: Arc<Grid>,
    map: Arc<Map>,
    waiter: Waiter,
    prefix: Bytes,
    incarnation: u64,
    positions: Vec<Version>,
    missed: bool,
    /// Partitions that have more to read.
    unread: Vec<u16>,
    kept: tokio::time::Instant,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Watches {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { places: Arc::new(Semaphore::new(WATCHES)), incarnation }
    }

    /// The changes that a request asks for. The first message comes at once: from its token on nothing is missed unsaid.
    pub(super) async fn changes(
        &self,
        grid: Arc<Grid>,
        request: v1::WatchRequest,
    ) -> Result<impl Stream<Item = Result<v1::WatchResponse, Status>> + use<>, Failure> {
        let map = grid.map(&request.map)?;
        if request.prefix.len() > KEY_BYTES {
            return Err(Failure::TooLarge { what: "prefix", size: request.prefix.len(), limit: KEY_BYTES });
        }
        let full = Failure::TooManyWatches { limit: WATCHES };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full)?;
        // Before the changes are kept: from then on it learns of each.
        let waiter = grid.partitions.positions().waiter(map.descriptor.id);
        let now = start(&grid, &map).await?;
        let (positions, missed) = match &request.token[..] {
            [] => (now, false),
            token => match decode_token(token).ok_or(Failure::Token)? {
                (map_id, ..) if map_id != map.descriptor.id.0 => return Err(Failure::Token),
                (_, incarnation, positions)
                    if incarnation == self.incarnation && positions.len() == now.len() =>
                {
                    (positions, false)
                }
                _ => (now, true),
            },
        };
        let unread = (0..grid.partitions.count()).collect();
        let watch = Watch {
            grid,
            map,
            waiter,
            prefix: request.prefix,
            incarnation: self.incarnation,
            positions,
            missed,
            unread,
            kept: tokio::time::Instant::now(),
            greeted: false,
            _place: place,
        };
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(response) => Some((Ok(response), Some(watch))),
                Err(failure) => Some((Err(failure.into()), None)),
            }
        }))
    }
}

/// Keeps the changes of a map from now on, in all partitions; where they stand.
async fn start(grid: &Grid, map: &Arc<Map>) -> Result<Vec<Version>, Failure> {
    let mut positions = Vec::with_capacity(grid.partitions.count().into());
    for index in 0..grid.partitions.count() {
        let map = Arc::clone(map);
        let start = move |shard: &mut Shard| {
            shard.with(|partition, moment| {
                let at = moment.access(&map.descriptor);
                (!map.is_deleted()).then(|| partition.start_watch(&at))
            })
        };
        positions.push(grid.partitions.run(index, 0, start).await?);
    }
    positions.into_iter().collect::<Option<_>>().ok_or_else(|| deleted(map))
}

impl Watch {
    async fn next(&mut self) -> Result<v1::WatchResponse, Failure> {
        loop {
            let changes = self.read_some().await?;
            if !changes.is_empty() || self.missed || !self.greeted {
                self.greeted = true;
                let token = encode_token(self.map.descriptor.id.0, self.incarnation, &self.positions);
                return Ok(v1::WatchResponse { changes, missed: std::mem::take(&mut self.missed), token });
            }
            if self.unread.is_empty() {
                self.wait().await?;
            }
        }
    }

    /// Reads partitions that may have changes, until they make a message.
    async fn read_some(&mut self) -> Result<Vec<v1::Change>, Failure> {
        let _held = loop {
            match self.grid.in_flight.take(SCAN_BYTES) {
                Ok(held) => break held,
                // The changes are kept meanwhile.
                Err(_full) => tokio::time::sleep(LOOK).await,
            }
        };
        let mut changes = Vec::new();
        let mut bytes = 0;
        while bytes < SCAN_BYTES {
            let Some(index) = self.unread.pop() else { break };
            let read = self.read(index).await?;
            self.positions[usize::from(index)] = read.position;
            self.missed |= read.missed;
            if read.more {
                self.unread.push(index);
            }
            bytes += read.changes.iter().map(|change| change.key.len() + change.value.len()).sum::<usize>();
            let wanted =
                |change: &Change| change.key.starts_with(&self.prefix) || change.kind == ChangeKind::Cleared;
            changes.extend(read.changes.into_iter().filter(wanted).map(wire_change));
        }
        Ok(changes)
    }

    async fn read(&self, index: u16) -> Result<TailRead, Failure> {
        let map = Arc::clone(&self.map);
        let from = self.positions[usize::from(index)];
        let read = move |shard: &mut Shard| {
            shard.with(|partition, moment| {
                let at = moment.access(&map.descriptor);
                (!map.is_deleted()).then(|| partition.read_changes(&at, from, SCAN_BYTES / 4))
            })
        };
        self.grid.partitions.run(index, 0, read).await?.ok_or_else(|| deleted(&self.map))
    }

    /// Waits until there may be something to read.
    async fn wait(&mut self) -> Result<(), Failure> {
        while self.unread.is_empty() {
            if self.map.is_deleted() {
                return Err(deleted(&self.map));
            }
            self.unread = self.waiter.past(&self.positions, LOOK).await;
            if self.kept.elapsed() > KEEP {
                self.kept = tokio::time::Instant::now();
                self.unread = (0..self.grid.partitions.count()).collect();
            }
        }
        Ok(())
    }
}

fn wire_change(change: Change) -> v1::Change {
    let kind = match change.kind {
        ChangeKind::Put => v1::change::Kind::Put,
        ChangeKind::Removed => v1::change::Kind::Removed,
        ChangeKind::Expired => v1::change::Kind::Expired,
        ChangeKind::Evicted => v1::change::Kind::Evicted,
        ChangeKind::Cleared => v1::change::Kind::Cleared,
    };
    v1::Change { kind: kind.into(), key: change.key, value: change.value, version: change.version.0 }
}

/// The map, the node's start, the lowest position, and how far past it each partition is, each as a varint (LEB128).
fn encode_token(map: u64, incarnation: u64, positions: &[Version]) -> Bytes {
    let lowest = positions.iter().min().map_or(0, |position| position.0);
    let mut bytes = Vec::with_capacity(24 + positions.len() * 3);
    let past = positions.iter().map(|position| position.0 - lowest);
    for number in [map, incarnation, lowest].into_iter().chain(past) {
        prost::encoding::encode_varint(number, &mut bytes);
    }
    bytes.into()
}

fn decode_token(mut bytes: &[u8]) -> Option<(u64, u64, Vec<Version>)> {
    let mut next = || prost::encoding::decode_varint(&mut bytes).ok();
    let (map, incarnation, lowest) = (next()?, next()?, next()?);
    let mut positions = Vec::new();
    while !bytes.is_empty() {
        let past = prost::encoding::decode_varint(&mut bytes).ok()?;
        positions.push(Version(lowest.checked_add(past)?));
    }
    Some((map, incarnation, positions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_wire() {
        for positions in [vec![Version(300), Version(0), Version(u64::MAX)], vec![Version(u64::MAX)], vec![]]
        {
            let token = encode_token(7, u64::MAX, &positions);
            assert_eq!(decode_token(&token), Some((7, u64::MAX, positions)));
        }
        let token = encode_token(7, 8, &[Version(1 << 60), Version((1 << 60) + 300)]);
        assert_eq!(token.len(), 1 + 1 + 9 + 1 + 2, "only one position is long");
        assert_eq!(decode_token(&token[..token.len() - 1]), None);
        assert_eq!(decode_token(&[0x80]), None);
        let past_all = [&token[..2], &[0xff; 9], &[1, 1]].concat();
        assert_eq!(decode_token(&past_all), None, "no position is so high");
    }
}
