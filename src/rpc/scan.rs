//! Calls that go through all partitions of a map: scan, size, clear.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tonic::Status;
use wattle_core::ids::{GridTime, PartitionId, RequestId, Slot};
use wattle_core::limits::{KEY_BYTES, SCAN_BYTES};
use wattle_core::partition::{Answer, Completion, PartRefusal, Recorded, ScanEnd, ScanRange, Wanted};
use wattle_core::store::EntryRef;
use wattle_proto::v1;
use wattle_strand::Turn;

use super::convert::wire_duration;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::in_flight::Held;
use crate::maps::Map;
use crate::partition::{ReadMode, Shard};
use crate::request::{Forwarded, SCANS};
use crate::routing::Owner;

/// Where a scan stands: opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    map: u64,
    partition: u16,
    /// `None`: at the partition's beginning.
    range: Option<ScanRange>,
}

impl Cursor {
    fn encode(self) -> Bytes {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend(self.map.to_be_bytes());
        bytes.extend(self.partition.to_be_bytes());
        if let Some(range) = self.range {
            bytes.extend(range.next.0.to_be_bytes());
            bytes.extend(range.end.0.to_be_bytes());
        }
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (map, rest) = bytes.split_first_chunk()?;
        let (partition, rest) = rest.split_first_chunk()?;
        let range = match rest.len() {
            0 => None,
            8 => Some(ScanRange {
                next: Slot(u32::from_be_bytes(*rest.first_chunk()?)),
                end: Slot(u32::from_be_bytes(*rest.last_chunk()?)),
            }),
            _ => return None,
        };
        Some(Self { map: u64::from_be_bytes(*map), partition: u16::from_be_bytes(*partition), range })
    }
}

struct Scan {
    grid: Arc<Grid>,
    map: Arc<Map>,
    request: v1::ScanRequest,
    /// A turn is all that another node asks for.
    forwarded: Forwarded,
    reads: ReadMode,
    /// `None` when the map has been gone through, or enough was answered.
    cursor: Option<Cursor>,
    left: u64,
}

/// The entries of a map, a turn of a partition a message.
pub(super) fn entries(
    grid: Arc<Grid>,
    request: v1::ScanRequest,
    (forwarded, reads): (Forwarded, ReadMode),
) -> Result<impl Stream<Item = Result<v1::ScanResponse, Status>>, Failure> {
    let map = grid.map(&request.map)?;
    if request.prefix.len() > KEY_BYTES {
        return Err(Failure::TooLarge { what: "prefix", size: request.prefix.len(), limit: KEY_BYTES });
    }
    let cursor = match &request.cursor[..] {
        [] => Cursor { map: map.descriptor.id.0, partition: 0, range: None },
        bytes => {
            let cursor = Cursor::decode(bytes);
            let ours = |cursor: &Cursor| {
                cursor.map == map.descriptor.id.0 && cursor.partition < grid.partitions.count(map.class())
            };
            cursor.filter(ours).ok_or(Failure::Cursor)?
        }
    };
    let left = if request.limit == 0 { u64::MAX } else { request.limit };
    let scan = Scan { grid, map, request, forwarded, reads, cursor: Some(cursor), left };
    Ok(stream::unfold(Some(scan), |scan| async move {
        let mut scan = scan?;
        match scan.next().await {
            Ok(Some(response)) => Some((Ok(response), Some(scan))),
            Ok(None) => None,
            // A failed scan ends; its last cursor is still good.
            Err(failure) => Some((Err(failure.into()), None)),
        }
    }))
}

impl Scan {
    /// The next message; empty turns are skipped.
    async fn next(&mut self) -> Result<Option<v1::ScanResponse>, Failure> {
        while let Some(cursor) = self.cursor {
            if let Some(owner) = self.owner(cursor) {
                let answer = self.turn_elsewhere(&owner, cursor).await?;
                if !answer.entries.is_empty() || self.cursor.is_none() {
                    return Ok(Some(answer));
                }
                continue;
            }
            let ((entries, end), _held) = self.turn(cursor).await?;
            let next_partition = cursor.partition + 1;
            let cursor = match end {
                ScanEnd::More(range) => Some(Cursor { range: Some(range), ..cursor }),
                ScanEnd::Complete if next_partition < self.grid.partitions.count(self.map.class()) => {
                    Some(Cursor { partition: next_partition, range: None, ..cursor })
                }
                ScanEnd::Complete => None,
            };
            self.left = self.left.saturating_sub(entries.len() as u64);
            self.cursor = cursor.filter(|_| self.left > 0);
            if self.forwarded == Forwarded::Yes {
                self.cursor = None;
            }
            if !entries.is_empty() || self.cursor.is_none() {
                let cursor = cursor.map_or_else(Bytes::new, Cursor::encode);
                return Ok(Some(v1::ScanResponse { entries, cursor }));
            }
        }
        Ok(None)
    }

    /// The other node that decides about the partition where the scan stands.
    fn owner(&self, cursor: Cursor) -> Option<Owner> {
        if self.forwarded == Forwarded::Yes { None } else { self.grid.routing.owner(self.partition(cursor)) }
    }

    fn partition(&self, cursor: Cursor) -> PartitionId {
        PartitionId { class: self.map.class(), index: cursor.partition }
    }

    async fn turn_elsewhere(&mut self, owner: &Owner, cursor: Cursor) -> Result<v1::ScanResponse, Failure> {
        let limit = if self.left == u64::MAX { 0 } else { self.left };
        let request = v1::ScanRequest { cursor: cursor.encode(), limit, ..self.request.clone() };
        let answer = self.grid.scan_elsewhere(owner, (request, self.reads)).await?;
        self.left = self.left.saturating_sub(answer.entries.len() as u64);
        self.cursor = match &answer.cursor[..] {
            [] => None,
            bytes => Some(Cursor::decode(bytes).ok_or(Failure::Cursor)?).filter(|_| self.left > 0),
        };
        Ok(answer)
    }

    /// Entries, and how the partition's scan goes on; with what they are counted by until they are on their way.
    async fn turn(&self, cursor: Cursor) -> Result<((Vec<v1::ScannedEntry>, ScanEnd), Held), Failure> {
        let in_flight = Arc::clone(&self.grid.in_flight);
        let (map, prefix) = (Arc::clone(&self.map), self.request.prefix.clone());
        let (keys_only, limit, reads) = (self.request.keys_only, self.left, self.reads);
        let turn = move |_: &mut _, shard: &mut Shard| {
            shard.confirm_reads(reads);
            if map.is_deleted() {
                return Turn::Done(Err(deleted(&map)));
            }
            // Scans that wait for their turn hold nothing.
            let held = match in_flight.take(SCAN_BYTES) {
                Ok(held) => held,
                Err(full) => return Turn::Done(Err(full)),
            };
            let scanned = shard.with(|partition, moment| {
                let at = moment.access(&map.descriptor);
                let range = cursor.range.unwrap_or_else(|| partition.scan_range(&at));
                let mut entries = Vec::new();
                let wanted = Wanted { prefix: &prefix, limit };
                let end = partition.scan(&at, range, wanted, |entry| {
                    entries.push(scanned(&entry, moment.now, keys_only));
                });
                (entries, end)
            });
            let bytes = scanned.0.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>();
            held.add(bytes.saturating_sub(SCAN_BYTES));
            Turn::Done(Ok((scanned, held)))
        };
        self.grid.partitions.run_slow(self.partition(cursor), (SCANS, 0), turn).await?
    }
}

fn scanned(entry: &EntryRef<'_>, now: GridTime, keys_only: bool) -> v1::ScannedEntry {
    v1::ScannedEntry {
        key: Bytes::copy_from_slice(entry.key),
        value: if keys_only { Bytes::new() } else { Bytes::copy_from_slice(entry.value) },
        version: entry.version.0,
        ttl: entry.ttl(now).map(wire_duration),
    }
}

pub(super) fn deleted(map: &Map) -> Failure {
    Failure::MapNotFound { name: map.descriptor.name.to_string() }
}

/// How many entries a map has in partitions of this node. What has expired is removed before it is left out.
pub(super) async fn size(
    grid: &Grid,
    map: &Map,
    (partitions, reads): (Vec<PartitionId>, ReadMode),
) -> Result<u64, Failure> {
    let id = map.descriptor.id;
    let mut sum = 0;
    for partition in partitions {
        loop {
            let count = move |shard: &mut Shard| {
                shard.confirm_reads(reads);
                shard.with(|partition, moment| {
                    let settled = partition.expire_due(id, moment.now);
                    settled.then(|| partition.statistics(id).entries)
                })
            };
            if let Some(entries) = grid.partitions.run(partition, 0, count).await? {
                sum += entries;
                break;
            }
            // There may be much to expire: others of this thread come first.
            tokio::task::yield_now().await;
        }
    }
    Ok(sum)
}

/// Removes all entries that a map has in partitions of this node, one partition after the other.
pub(super) async fn clear(
    grid: &Grid,
    map: &Arc<Map>,
    (id, partitions): (Option<RequestId>, Vec<PartitionId>),
) -> Result<u64, Failure> {
    let map_id = map.descriptor.id;
    let mut sum = 0;
    for partition in partitions {
        let map = Arc::clone(map);
        let clear = move |shard: &mut Shard| {
            shard.with(|partition, moment| {
                let cleared = |(): &(), answer: &Answer| matches!(answer, Answer::Cleared { .. });
                let known = id.map_or(Ok(None), |id| partition.known_results(&id, [()], cleared))?;
                match known.as_deref() {
                    None => {}
                    Some([Recorded::Applied(Answer::Cleared { removed })]) => return Ok(*removed),
                    Some([Recorded::Refused(refusal)]) => return Err(refusal.clone().into()),
                    Some(_) => return Err(PartRefusal::ReusedId.into()),
                }
                // A repetition may have been told so already.
                if map.is_deleted() {
                    return Err(deleted(&map));
                }
                if let Some(id) = id {
                    partition.reserve(&id, moment.room(), Completion::bytes(1))?;
                }
                let removed = partition.clear(map_id);
                if let Some(id) = id.filter(|id| removed > 0 || id.repeated) {
                    let recorded = Recorded::Applied(Answer::Cleared { removed });
                    partition.complete(&id, Completion::Results([recorded].into_iter().collect()));
                }
                Ok(removed)
            })
        };
        let cleared =
            grid.partitions.run(partition, 0, clear).await.unwrap_or_else(|no_reply| Err(no_reply.into()));
        match cleared {
            Ok(removed) => sum += removed,
            Err(failure) if sum > 0 => return Err(Failure::HalfWay(Box::new(failure))),
            Err(failure) => return Err(grid.refuse(id, failure).await),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use wattle_core::control::Command;
    use wattle_core::map::MapOptions;
    use wattle_core::name::Name;

    use super::*;
    use crate::grid::tests::grid;

    /// Who repeats the call finds no map of that name, and is told that nothing was done.
    #[tokio::test]
    async fn a_clear_that_has_not_begun_does_not_begin_when_its_map_was_deleted() {
        let (grid, name) = (grid().await, Name::new("m").unwrap());
        let create = Command::CreateMap { name: name.clone(), options: MapOptions::default() };
        grid.propose(create).await.unwrap();
        let map = grid.map("m").unwrap();
        grid.propose(Command::DeleteMap { name, at: GridTime::default() }).await.unwrap();
        let refused = clear(&grid, &map, (None, grid.partitions.ids().collect())).await;
        assert!(matches!(&refused, Err(Failure::MapNotFound { name }) if name == "m"), "{refused:?}");
    }

    #[test]
    fn cursors_survive_the_wire_and_nothing_else_is_one() {
        let range = ScanRange { next: Slot(7), end: Slot(9) };
        for range in [None, Some(range)] {
            let cursor = Cursor { map: 5, partition: 270, range };
            let bytes = cursor.encode();
            assert_eq!(Cursor::decode(&bytes), Some(cursor));
            assert_eq!(Cursor::decode(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(Cursor::decode(&[0; 19]), None);
    }
}
