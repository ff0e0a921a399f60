//! Copies that follow a partition: by its records, by chunks, and back to what was committed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::repeated::gone;
use super::*;
use crate::ids::{ModuleExport, ModuleHash};
use crate::partition::mutation::Mutation;

/// Two maps: one without bounds, one that evicts.
fn maps() -> [MapDescriptor; 2] {
    let small = MapOptions {
        max_bytes: Some(600),
        eviction: EvictionPolicy::Lru,
        max_idle: Some(seconds(9)),
        ..MapOptions::default()
    };
    let small =
        MapDescriptor { id: MapId(2), name: Name::new("small").unwrap(), revision: 1, options: small };
    [map(MapOptions::default()), small]
}

#[derive(Debug, Clone)]
enum Act {
    Put { map: usize, key: u8, length: u8, ttl: Option<u64> },
    Remove { map: usize, key: u8 },
    Touch { map: usize, key: u8, ttl: u64 },
    Clear { map: usize },
    Request { client: u64, done: Vec<(u8, i64)> },
    Sweep { client: u64, next: u32 },
    Refuse { client: u64, whole: bool },
    Wait { seconds: u64 },
    Commit { records: usize },
    Expand,
    CopyChunk,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (map, key, client) = (0..2_usize, 0..12_u8, 0..3_u64);
    let act = prop_oneof![
        8 => (map.clone(), key.clone(), 0..120_u8, prop::option::of(1..20_u64))
            .prop_map(|(map, key, length, ttl)| Act::Put { map, key, length, ttl }),
        3 => (map.clone(), key.clone()).prop_map(|(map, key)| Act::Remove { map, key }),
        2 => (map.clone(), key.clone(), 1..20_u64).prop_map(|(map, key, ttl)| Act::Touch { map, key, ttl }),
        1 => map.prop_map(|map| Act::Clear { map }),
        3 => (client.clone(), prop::collection::vec((key, -9..9_i64), 1..3))
            .prop_map(|(client, done)| Act::Request { client, done }),
        1 => (client.clone(), 0..99_u32).prop_map(|(client, next)| Act::Sweep { client, next }),
        1 => (client, any::<bool>()).prop_map(|(client, whole)| Act::Refuse { client, whole }),
        2 => (1..8_u64).prop_map(|seconds| Act::Wait { seconds }),
        3 => (1..6_usize).prop_map(|records| Act::Commit { records }),
        1 => Just(Act::Expand),
        4 => Just(Act::CopyChunk),
    ];
    prop::collection::vec(act, 1..120)
}

/// A copy that is being brought in sync.
#[derive(Debug)]
struct Copied {
    partition: Partition,
    cursor: CopyCursor,
    complete: bool,
}

/// A partition that records what it does, and its copies.
#[derive(Debug)]
struct Primary {
    partition: Partition,
    maps: [MapDescriptor; 2],
    log: Vec<(Version, Mutations)>,
    committed: usize,
    now: GridTime,
    sequences: [u64; 3],
    copied: Option<Copied>,
}

fn empty(seed: u64, start: Version) -> Partition {
    Partition::new(PartitionId { class: ReplicationClass(0), index: 3 }, 1, seed, start)
}

impl Primary {
    fn new() -> Self {
        let mut partition = empty(1, Version(100));
        partition.record_changes(true);
        Self {
            partition,
            maps: maps(),
            log: Vec::new(),
            committed: 0,
            now: NOW,
            sequences: [1; 3],
            copied: None,
        }
    }

    fn id(&mut self, client: u64) -> RequestId {
        let sequence = &mut self.sequences[usize::try_from(client).unwrap()];
        *sequence += 1;
        let client = ClientId { issued: NOW, random: client };
        let oldest_pending = sequence.saturating_sub(2);
        RequestId { client, sequence: *sequence, oldest_pending, repeated: false }
    }

    fn act(&mut self, act: &Act) {
        let maps = self.maps.clone();
        let at = |map: usize| at(&maps[map], self.now);
        match act {
            Act::Put { map, key, length, ttl } => {
                let ttl = ttl.map_or(TtlChoice::OfMap, |ttl| TtlChoice::Of(seconds(ttl)));
                let value = vec![b'v'; usize::from(*length)];
                drop(self.partition.put(&at(*map), &Put { ttl, ..put(&key_of(*key), &value) }));
            }
            Act::Remove { map, key } => {
                let key = key_of(*key);
                let remove = Remove { key: &key, if_version: None, previous: Previous::Ignore };
                drop(self.partition.remove(&at(*map), &remove));
            }
            Act::Touch { map, key, ttl } => {
                drop(self.partition.touch(&at(*map), &key_of(*key), TtlChange::Set(seconds(*ttl))));
            }
            Act::Clear { map } => drop(self.partition.clear(maps[*map].id)),
            Act::Request { client, done } => {
                let access = at(0);
                let id = self.id(*client);
                let keys: Vec<_> = done.iter().map(|(key, delta)| (vec![*key], *delta)).collect();
                let operations =
                    keys.iter().map(|(key, delta)| Ok((access, Operation::Increment { key, delta: *delta })));
                self.partition.run_part(Some((&id, access.room)), operations, |_, _| {}).unwrap_or_default();
            }
            Act::Sweep { client, next } => {
                // The same call goes on.
                let sequence = self.sequences[usize::try_from(*client).unwrap()];
                let client = ClientId { issued: NOW, random: *client };
                let id = RequestId { client, sequence, oldest_pending: sequence, repeated: false };
                self.partition.complete(&id, sweep(*next));
            }
            Act::Refuse { client, whole: true } => {
                let (id, export) = (self.id(*client), Some(add_export().into()));
                let refused = Completion::Refused { export, processed: 3, failed: 1, refusal: gone() };
                self.partition.complete(&id, refused);
            }
            Act::Refuse { client, whole: false } => {
                let id = RequestId { repeated: true, ..self.id(*client) };
                let refused = std::iter::once(Err(Some(gone())));
                self.partition.run_part(Some((&id, Room::UNLIMITED)), refused, |_, _| {}).unwrap_or_default();
            }
            Act::Wait { seconds: wait } => {
                self.now = self.now.after(seconds(*wait));
                self.partition.tick(self.now);
            }
            Act::Commit { records } => {
                self.committed = (self.committed + records).min(self.log.len());
                if let Some((position, _)) = self.log[..self.committed].last() {
                    self.partition.committed(*position);
                }
            }
            Act::Expand => {
                let copy = empty(3, self.partition.position());
                let cursor = self.partition.copy_cursor();
                self.copied = Some(Copied { partition: copy, cursor, complete: false });
            }
            Act::CopyChunk => self.copy_chunk(),
        }
        if let Some(record) = self.partition.take_record() {
            let record = Mutations::parse(record.as_bytes().clone()).unwrap();
            let position = self.partition.position();
            if let Some(copied) = &mut self.copied {
                copied.partition.apply_record(position, &record, self.now);
                copied.partition.committed(position);
            }
            self.log.push((position, record));
        }
        self.partition.check_invariants();
    }

    fn copy_chunk(&mut self) {
        if let Some(copied) = self.copied.as_mut().filter(|copied| !copied.complete) {
            let (chunk, last) = self.partition.copy_chunk(&mut copied.cursor, 3);
            copied.partition.place_chunk(&Mutations::parse(chunk.as_bytes().clone()).unwrap(), self.now);
            copied.partition.check_invariants();
            copied.complete = last;
        }
    }

    /// Another that has followed the log up to a record.
    fn follower(&self, records: usize) -> Partition {
        let mut follower = empty(2, Version(100));
        for (position, record) in &self.log[..records] {
            follower.apply_record(*position, record, self.now);
            follower.committed(*position);
        }
        follower.check_invariants();
        follower
    }
}

fn add_export() -> ModuleExport {
    ModuleExport { module: ModuleHash([7; 32]), name: "add".to_owned() }
}

fn sweep(next: u32) -> Completion {
    let (export, end) = (add_export().into(), Slot(100));
    Completion::Sweep { export, next: Slot(next), end, processed: 3, failed: 1, complete: false }
}

/// What is in the slots.
fn entries(partition: &Partition) -> BTreeMap<(MapId, Slot), EntryOf> {
    let mut all = BTreeMap::new();
    for (map, store) in &partition.maps {
        for (slot, entry) in store.slots_from(Slot(0)) {
            all.insert(
                (*map, slot),
                (entry.key.to_vec(), entry.value.to_vec(), entry.version, entry.deadline),
            );
        }
    }
    all
}

type EntryOf = (Vec<u8>, Vec<u8>, Version, Option<GridTime>);

/// What is known of clients.
fn clients(partition: &Partition) -> BTreeMap<ClientId, (u64, Vec<(u64, Completion)>)> {
    let mut cursor = partition.copy_cursor();
    let mut all = BTreeMap::new();
    loop {
        let (chunk, last) = partition.copy_chunk(&mut cursor, 1);
        for mutation in chunk.iter() {
            if let Mutation::Client { id, watermark, results } = mutation {
                all.insert(id, (watermark, results.into_owned()));
            }
        }
        if last {
            return all;
        }
    }
}

/// A copy answers every retry as the partition does. It may keep more: it is not told at once what a client has acknowledged.
fn assert_same(copy: &Partition, partition: &Partition) {
    assert_eq!(entries(copy), entries(partition));
    assert_eq!(copy.position(), partition.position());
    let (copied, mut known) = (clients(copy), clients(partition));
    for (id, (watermark, mut results)) in copied {
        let (newer, known) = known.remove(&id).unwrap_or((watermark, Vec::new()));
        assert!(watermark <= newer);
        results.retain(|(sequence, _)| *sequence >= newer);
        assert_eq!(results, known);
    }
    known.retain(|_, (_, results)| !results.is_empty());
    assert!(known.is_empty(), "{known:?}");
}

proptest! {
    #[test]
    fn whoever_follows_the_log_has_the_same(acts in acts()) {
        let mut primary = Primary::new();
        acts.iter().for_each(|act| primary.act(act));
        assert_same(&primary.follower(primary.log.len()), &primary.partition);
    }

    #[test]
    fn what_is_not_committed_can_be_taken_back(acts in acts()) {
        let mut primary = Primary::new();
        acts.iter().for_each(|act| primary.act(act));
        let committed = primary.log[..primary.committed].last().map_or(Version(100), |(position, _)| *position);
        primary.partition.undo_after(committed, primary.now);
        primary.partition.check_invariants();
        assert_same(&primary.follower(primary.committed), &primary.partition);
    }

    #[test]
    fn who_is_brought_in_sync_has_the_same(acts in acts()) {
        let mut primary = Primary::new();
        acts.iter().for_each(|act| primary.act(act));
        if primary.copied.is_none() {
            primary.act(&Act::Expand);
        }
        while primary.copied.as_ref().is_some_and(|copied| !copied.complete) {
            primary.act(&Act::CopyChunk);
        }
        assert_same(&primary.copied.unwrap().partition, &primary.partition);
    }

    #[test]
    fn a_follower_that_takes_over_can_take_back_what_it_inherited(acts in acts()) {
        let mut primary = Primary::new();
        acts.iter().for_each(|act| primary.act(act));
        let mut successor = primary.follower(primary.committed);
        let committed = successor.position();
        for (position, record) in &primary.log[primary.committed..] {
            successor.apply_record(*position, record, primary.now);
        }
        assert_same(&successor, &primary.partition);
        successor.undo_after(committed, primary.now);
        successor.check_invariants();
        assert_same(&primary.follower(primary.committed), &successor);
    }

    #[test]
    fn bytes_that_are_no_mutations_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut framed = vec![1];
        framed.extend(&bytes);
        for bytes in [bytes, framed] {
            if let Ok(mutations) = Mutations::parse(bytes.into()) {
                mutations.iter().for_each(drop);
            }
        }
    }
}

#[test]
fn a_record_that_is_cut_short_is_refused() {
    let mut primary = Primary::new();
    primary.act(&Act::Put { map: 0, key: 1, length: 9, ttl: Some(3) });
    let whole = primary.log[0].1.as_bytes().clone();
    for end in 2..whole.len() {
        let refused = Mutations::parse(whole.slice(..end));
        assert_eq!(refused, Err(MutationError::Malformed { offset: 1 }), "{end}");
    }
    assert_eq!(Mutations::parse(Bytes::new()), Err(MutationError::Malformed { offset: 0 }));
    assert_eq!(Mutations::parse(Bytes::from_static(&[9])), Err(MutationError::Format { found: 9 }));
}

#[test]
fn watchers_see_only_what_is_committed() {
    let mut primary = Primary::new();
    let m = primary.maps[0].clone();
    let start = primary.partition.start_watch(&at(&m, NOW));
    primary.act(&Act::Put { map: 0, key: 1, length: 1, ttl: None });
    primary.act(&Act::Put { map: 0, key: 2, length: 1, ttl: None });
    let read = |primary: &mut Primary| {
        let read = primary.partition.read_changes(&at(&m, NOW), start, usize::MAX);
        (read.changes.len(), read.position, primary.partition.changed_maps().count())
    };
    assert_eq!(read(&mut primary), (0, start, 0));
    primary.act(&Act::Commit { records: 1 });
    assert_eq!(read(&mut primary), (1, primary.log[0].0, 1));
    primary.partition.undo_after(primary.log[0].0, NOW);
    assert_eq!(read(&mut primary), (1, primary.log[0].0, 0));
}

#[test]
fn idleness_counts_from_when_a_copy_decides() {
    let mut primary = Primary::new();
    primary.act(&Act::Put { map: 1, key: 1, length: 1, ttl: None });
    let mut copy = primary.follower(1);
    let small = &primary.maps[1];
    copy.update_map(small);
    let late = NOW.after(seconds(60));
    copy.begin_reign(late);
    copy.tick(late);
    assert_eq!(entries(&copy).len(), 1);
    copy.tick(late.after(seconds(8)));
    assert_eq!(entries(&copy).len(), 1);
    copy.tick(late.after(seconds(10)));
    assert_eq!(entries(&copy).len(), 0);
}

/// What an earlier version of Wattle has written is understood.
#[test]
fn the_wire_form_of_records_stays() {
    let mut primary = Primary::new();
    primary.act(&Act::Put { map: 0, key: 1, length: 2, ttl: Some(3) });
    primary.act(&Act::Touch { map: 0, key: 1, ttl: 4 });
    primary.act(&Act::Remove { map: 0, key: 1 });
    primary.act(&Act::Put { map: 0, key: 2, length: 0, ttl: None });
    primary.act(&Act::Clear { map: 0 });
    primary.act(&Act::Request { client: 1, done: vec![(7, 5)] });
    primary.act(&Act::Sweep { client: 2, next: 4 });
    primary.act(&Act::Refuse { client: 1, whole: false });
    primary.act(&Act::Refuse { client: 1, whole: true });
    let written: Vec<String> = primary.log.iter().map(|(_, record)| hexadecimal(record.as_bytes())).collect();
    assert_eq!(written, GOLDEN);
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const GOLDEN: [&str; 9] = [
    "010001000201010276766501b8e795ffbc31",
    "010101006601a0ef95ffbc31",
    "010201006701",
    "010001000402020202006800",
    "01030169",
    "01000100010701356a000480d095ffbc31010200000100020a6a",
    "010480d095ffbc31020101010707070707070707070707070707070707070707070707070707070707070707036164640464030100",
    "010480d095ffbc31010301000101060a0d4d41505f4e4f545f464f554e44117468657265206973206e6f206d6170206d01036d6170016d00",
    "010480d095ffbc3101040202010707070707070707070707070707070707070707070707070707070707070707036164640301060a0d4d41505f4e4f545f464f554e44117468657265206973206e6f206d6170206d01036d6170016d00",
];
