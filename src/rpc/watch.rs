//! Watches: committed changes of a map as a stream, from now or from where an earlier stream stood.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, SelectAll, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;
use wattle_core::ids::{PartitionId, Version};
use wattle_core::limits::{CALL_TIMEOUT, KEY_BYTES, SCAN_BYTES, WATCH_LINGER, WATCHES};
use wattle_core::store::{Change, ChangeKind, TailRead};
use wattle_proto::v1;

use super::elsewhere::indexes;
use super::scan::deleted;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::maps::Map;
use crate::partition::{Shard, Waiter};
use crate::request::Forwarded;
use crate::routing::{Owner, Owners, not_answered};

/// Between two looks at whether the map is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Before partitions that were not reached are watched again.
const PAUSE: Duration = Duration::from_millis(100);
/// A watch reads every partition this often, so that its changes are kept.
const KEEP: Duration = Duration::from_secs(WATCH_LINGER.as_secs() / 4);

/// What another node has said of partitions.
struct Told {
    partitions: Arc<[PartitionId]>,
    message: v1::WatchResponse,
}

/// What another node says.
type Watched = Pin<Box<dyn Stream<Item = Result<Told, Status>> + Send + Sync>>;

/// The watches of this node.
#[derive(Debug)]
pub(crate) struct Watches {
    places: Arc<Semaphore>,
}

struct Watch {
    grid: Arc<Grid>,
    map: Arc<Map>,
    waiter: Waiter,
    prefix: Bytes,
    forwarded: Forwarded,
    /// Those that are watched, in order.
    partitions: Vec<PartitionId>,
    /// Where each of them stands.
    positions: BTreeMap<PartitionId, Version>,
    missed: bool,
    /// Of other nodes, not told yet; the positions are behind it already.
    pending: Vec<v1::Change>,
    /// The table by which they are read here or there.
    owners: Option<Arc<Owners>>,
    /// By their index: where those stand that are read here; others never move.
    here: Vec<Version>,
    /// Partitions here that have more to read.
    unread: Vec<PartitionId>,
    there: SelectAll<Watched>,
    kept: Instant,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Watches {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(WATCHES)) }
    }

    /// The changes that a request asks for. The first message comes at once: from its token on nothing is missed unsaid.
    pub(super) async fn changes(
        &self,
        grid: Arc<Grid>,
        request: v1::WatchRequest,
        forwarded: Forwarded,
    ) -> Result<impl Stream<Item = Result<v1::WatchResponse, Status>> + use<>, Failure> {
        let map = grid.map(&request.map)?;
        if request.prefix.len() > KEY_BYTES {
            return Err(Failure::TooLarge { what: "prefix", size: request.prefix.len(), limit: KEY_BYTES });
        }
        let partitions = grid.named_partitions(map.class(), ("partitions", &request.partitions))?;
        let (positions, missed) = match &request.token[..] {
            [] => (BTreeMap::new(), false),
            token => match decode_token(token).ok_or(Failure::Token)? {
                (map_id, ..) if map_id != map.descriptor.id.0 => return Err(Failure::Token),
                (_, grid_id, positions)
                    if grid_id == short_id(&grid) && positions.len() == partitions.len() =>
                {
                    (partitions.iter().copied().zip(positions).collect(), false)
                }
                _ => (BTreeMap::new(), true),
            },
        };
        let full = Failure::TooManyWatches { limit: WATCHES };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full)?;
        // Before the changes are kept: from then on it learns of each.
        let waiter =
            grid.partitions.positions().waiter(map.descriptor.id, grid.partitions.count(map.class()));
        let mut watch = Watch {
            waiter,
            prefix: request.prefix,
            forwarded,
            partitions,
            positions,
            missed,
            pending: Vec::new(),
            owners: None,
            here: Vec::new(),
            unread: Vec::new(),
            there: SelectAll::new(),
            kept: Instant::now(),
            greeted: false,
            _place: place,
            grid,
            map,
        };
        watch.begin().await?;
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(response) => Some((Ok(response), Some(watch))),
                Err(failure) => Some((Err(failure.into()), None)),
            }
        }))
    }
}

/// Of a grid: positions in another one mean nothing.
fn short_id(grid: &Grid) -> u64 {
    let state = grid.control.decided();
    let id = state.grid().map_or([0; 16], |grid| grid.id().0);
    u128::from_be_bytes(id) as u64
}

impl Watch {
    /// Sees to it that all changes from where it stands, or from now, are kept by whoever decides about a partition; and is told of
    /// them. All its partitions have a position then.
    async fn begin(&mut self) -> Result<(), Failure> {
        self.owners = self.grid.routing.owners();
        self.there.clear();
        let mut here = self.partitions.clone();
        let elsewhere = self.grid.take_elsewhere(&mut here, self.forwarded, |partition| *partition);
        self.here = vec![Version(u64::MAX); self.grid.partitions.count(self.map.class()).into()];
        for partition in &here {
            let now = self.keep(*partition).await?;
            self.here[usize::from(partition.index)] = *self.positions.entry(*partition).or_insert(now);
        }
        self.unread = here;
        let begun = elsewhere.into_values().map(|(owner, partitions)| self.begin_there(owner, partitions));
        for watched in join_all(begun).await.into_iter().collect::<Result<Vec<_>, _>>()? {
            let (first, changes) = watched;
            let changed = self.note(first)?;
            self.pending.extend(changed);
            self.there.push(changes);
        }
        Ok(())
    }

    /// Keeps the changes of a partition here from now on; where it stands.
    async fn keep(&self, partition: PartitionId) -> Result<Version, Failure> {
        let map = Arc::clone(&self.map);
        let keep = move |shard: &mut Shard| {
            shard.with(|partition, moment| {
                let at = moment.access(&map.descriptor);
                (!map.is_deleted()).then(|| partition.start_watch(&at))
            })
        };
        self.grid.partitions.run(partition, 0, keep).await?.ok_or_else(|| deleted(&self.map))
    }

    /// What another node says first of partitions that it decides about, and what it says then.
    async fn begin_there(
        &self,
        owner: Owner,
        partitions: Vec<PartitionId>,
    ) -> Result<(Told, Watched), Failure> {
        let known: Option<Vec<Version>> =
            partitions.iter().map(|partition| self.positions.get(partition).copied()).collect();
        let token = |positions: Vec<Version>| self.token(&positions);
        let request = v1::WatchRequest {
            map: self.map.descriptor.name.to_string(),
            prefix: self.prefix.clone(),
            token: known.map_or_else(Bytes::new, token),
            partitions: indexes(&partitions),
        };
        let mut changes = self.grid.watch_elsewhere(&owner, request).await?;
        let first = changes.message().await.map_err(|status| not_answered(&status))?;
        let first = first.ok_or(Failure::Unreached { message: "a watch has ended".to_owned() })?;
        let partitions: Arc<[PartitionId]> = partitions.into();
        let told = Told { partitions: Arc::clone(&partitions), message: first };
        let end = stream::iter([Err(Status::unavailable("a watch has ended"))]);
        let changes = changes
            .chain(end)
            .map(move |message| message.map(|message| Told { partitions: Arc::clone(&partitions), message }));
        Ok((told, Box::pin(changes)))
    }

    async fn next(&mut self) -> Result<v1::WatchResponse, Failure> {
        loop {
            if self.map.is_deleted() {
                return Err(deleted(&self.map));
            }
            let changes = match self.advance().await {
                Ok(changes) => changes,
                Err(failure) => {
                    self.go_on_after(failure).await?;
                    continue;
                }
            };
            if !changes.is_empty() || self.missed || !self.greeted {
                self.greeted = true;
                let position = |partition| self.positions.get(partition).copied();
                let positions: Vec<Version> = self.partitions.iter().filter_map(position).collect();
                let (token, missed) = (self.token(&positions), std::mem::take(&mut self.missed));
                return Ok(v1::WatchResponse { changes, missed, token });
            }
        }
    }

    /// Others decide about some partitions, or those who do are not reached: it goes on where it stood, as soon as it can. Where nobody
    /// decides for long, its reader is to know: a token goes on from there.
    async fn go_on_after(&mut self, failure: Failure) -> Result<(), Failure> {
        let mut failure = failure;
        let overdue = Instant::now() + CALL_TIMEOUT;
        loop {
            let is_late = Instant::now() > overdue;
            if self.forwarded == Forwarded::Yes || !failure.is_transient() || is_late {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
            if self.map.is_deleted() {
                return Err(deleted(&self.map));
            }
            match self.begin().await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
    }

    /// The next changes from anywhere; none when there are none for a while.
    async fn advance(&mut self) -> Result<Vec<v1::Change>, Failure> {
        if !self.pending.is_empty() {
            return Ok(std::mem::take(&mut self.pending));
        }
        if !self.unread.is_empty() || !self.greeted {
            return self.read_some().await;
        }
        if self.forwarded == Forwarded::No && !is_same(&self.owners, &self.grid.routing.owners()) {
            self.begin().await?;
            return Ok(Vec::new());
        }
        if self.kept.elapsed() > KEEP {
            self.kept = Instant::now();
            self.unread = self.read_here().collect();
            return Ok(Vec::new());
        }
        tokio::select! {
            unread = self.waiter.past(&self.here, LOOK) => {
                let class = self.map.class();
                self.unread = unread.into_iter().map(|index| PartitionId { class, index }).collect();
                Ok(Vec::new())
            }
            Some(told) = self.there.next() => {
                let told = told.map_err(|status| not_answered(&status))?;
                self.note(told)
            }
        }
    }

    fn read_here(&self) -> impl Iterator<Item = PartitionId> {
        let here = |partition: &PartitionId| self.here[usize::from(partition.index)] != Version(u64::MAX);
        self.partitions.iter().copied().filter(here)
    }

    /// Another node has told of its partitions: where they stand by now, and what has changed.
    fn note(&mut self, told: Told) -> Result<Vec<v1::Change>, Failure> {
        let positions = decode_token(&told.message.token).map(|(.., positions)| positions);
        let positions = positions.filter(|positions| positions.len() == told.partitions.len());
        let positions = positions.ok_or(Failure::Internal { what: "another node's token is none" })?;
        self.positions.extend(told.partitions.iter().copied().zip(positions));
        self.missed |= told.message.missed;
        Ok(told.message.changes)
    }

    fn token(&self, positions: &[Version]) -> Bytes {
        encode_token(self.map.descriptor.id.0, short_id(&self.grid), positions)
    }

    /// Reads partitions here that may have changes, until they make a message.
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
            let Some(partition) = self.unread.pop() else { break };
            let read = match self.read(partition).await {
                Ok(read) => read,
                // What was read before is told first.
                Err(_) if !changes.is_empty() => {
                    self.unread.push(partition);
                    break;
                }
                Err(failure) => return Err(failure),
            };
            self.here[usize::from(partition.index)] = read.position;
            self.positions.insert(partition, read.position);
            self.missed |= read.missed;
            if read.more {
                self.unread.push(partition);
            }
            bytes += read.changes.iter().map(|change| change.key.len() + change.value.len()).sum::<usize>();
            let wanted =
                |change: &Change| change.key.starts_with(&self.prefix) || change.kind == ChangeKind::Cleared;
            changes.extend(read.changes.into_iter().filter(wanted).map(wire_change));
        }
        Ok(changes)
    }

    async fn read(&self, partition: PartitionId) -> Result<TailRead, Failure> {
        let map = Arc::clone(&self.map);
        let from = self.here[usize::from(partition.index)];
        let read = move |shard: &mut Shard| {
            shard.with(|partition, moment| {
                let at = moment.access(&map.descriptor);
                (!map.is_deleted()).then(|| partition.read_changes(&at, from, SCAN_BYTES / 4))
            })
        };
        self.grid.partitions.run(partition, 0, read).await?.ok_or_else(|| deleted(&self.map))
    }
}

/// Whether it is one and the same table.
fn is_same(a: &Option<Arc<Owners>>, b: &Option<Arc<Owners>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
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

/// The map, the grid, the lowest position, and how far past it each partition is, each as a varint (LEB128).
fn encode_token(map: u64, grid: u64, positions: &[Version]) -> Bytes {
    let lowest = positions.iter().min().map_or(0, |position| position.0);
    let mut bytes = Vec::with_capacity(24 + positions.len() * 3);
    let past = positions.iter().map(|position| position.0 - lowest);
    for number in [map, grid, lowest].into_iter().chain(past) {
        prost::encoding::encode_varint(number, &mut bytes);
    }
    bytes.into()
}

fn decode_token(mut bytes: &[u8]) -> Option<(u64, u64, Vec<Version>)> {
    let mut next = || prost::encoding::decode_varint(&mut bytes).ok();
    let (map, grid, lowest) = (next()?, next()?, next()?);
    let mut positions = Vec::new();
    while !bytes.is_empty() {
        let past = prost::encoding::decode_varint(&mut bytes).ok()?;
        positions.push(Version(lowest.checked_add(past)?));
    }
    Some((map, grid, positions))
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
