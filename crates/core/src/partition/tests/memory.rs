//! What a partition holds, and what it refuses when there is no room.

use super::*;
use crate::limits::{FREE_ENTRIES, RECORD_RESERVE_BYTES};
use crate::store::{DEADLINE_OVERHEAD, ENTRY_OVERHEAD};

/// Entries of a map that are all in use at once.
const ENTRIES: u32 = 64 * 256;

fn filled(m: &MapDescriptor) -> Partition {
    let mut p = partition();
    (0..ENTRIES).for_each(|i| drop(p.put(&at(m, NOW), &put(&i.to_be_bytes(), b"v")).unwrap()));
    p
}

/// Access with so many bytes left.
fn left<'m>(p: &Partition, m: &'m MapDescriptor, left: u64) -> Access<'m> {
    Access { room: Room { others: 1 << 20, limit: (1 << 20) + p.bytes() + left }, ..at(m, NOW) }
}

/// What a partition holds that has had entries of a map, and has none.
fn of_a_store(m: &MapDescriptor) -> u64 {
    let mut p = partition();
    p.start_watch(&at(m, NOW));
    p.bytes()
}

fn remove(p: &mut Partition, m: &MapDescriptor, key: u32) {
    let remove = Remove { key: &key.to_be_bytes(), if_version: None, previous: Previous::Ignore };
    let removed = Answer::Removed { removed: true, previous: None };
    assert_eq!(p.remove(&at(m, NOW), &remove), Ok(removed));
}

#[test]
fn what_is_removed_is_given_back() {
    let m = map(MapOptions::default());
    let mut p = filled(&m);
    let full = p.bytes();
    let entry = (ENTRY_OVERHEAD + 4 + 1) as u64;
    assert!((entry..entry + 4).contains(&(full / u64::from(ENTRIES))), "{full}");
    (0..ENTRIES).filter(|i| i % 1000 != 0).for_each(|i| remove(&mut p, &m, i));
    p.check_invariants();
    assert!(p.bytes() < full / 10, "{} of {full}", p.bytes());
    (0..ENTRIES).step_by(1000).for_each(|i| remove(&mut p, &m, i));
    p.check_invariants();
    assert_eq!((p.entries(), p.bytes()), (0, of_a_store(&m)), "nothing but the store itself");
}

#[test]
fn what_cannot_be_given_back_is_counted() {
    let m = map(MapOptions::default());
    let mut p = filled(&m);
    // Entries took the slots in order: one of each piece stays.
    (0..ENTRIES).filter(|i| i % 64 != 7).for_each(|i| remove(&mut p, &m, i));
    let pieces = u64::from(ENTRIES / 64) * 64 * 48;
    assert!(p.bytes() > pieces, "{} in {pieces}", p.bytes());
    assert_eq!(p.statistics(m.id).bytes, u64::from(ENTRIES / 64) * (ENTRY_OVERHEAD + 4 + 1) as u64);
    // It is used again before more is taken.
    (0..ENTRIES)
        .filter(|i| i % 64 != 7)
        .for_each(|i| drop(p.put(&at(&m, NOW), &put(&i.to_be_bytes(), b"v")).unwrap()));
    let range = p.scan_range(&at(&m, NOW));
    assert_eq!((p.bytes(), range.end), (filled(&m).bytes(), Slot(ENTRIES)));
    p.check_invariants();
}

#[test]
fn a_deadline_counts_while_it_is_there() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let bytes = |p: &Partition| p.statistics(m.id).bytes;
    let entry = (ENTRY_OVERHEAD + 1 + 1) as u64;
    let with = entry + DEADLINE_OVERHEAD as u64;
    p.put(&at, &put(b"k", b"v")).unwrap();
    assert_eq!(bytes(&p), entry);
    p.touch(&at, b"k", TtlChange::Set(seconds(9))).unwrap();
    assert_eq!(bytes(&p), with);
    p.touch(&at, b"k", TtlChange::Set(seconds(5))).unwrap();
    assert_eq!(bytes(&p), with);
    p.touch(&at, b"k", TtlChange::Clear).unwrap();
    assert_eq!(bytes(&p), entry);
    p.put(&at, &Put { ttl: TtlChoice::Of(seconds(9)), ..put(b"k", b"v") }).unwrap();
    assert_eq!(bytes(&p), with);
    p.touch(&at, b"k", TtlChange::Clear).unwrap();
    let full = left(&p, &m, 0);
    let over = Refusal::NodeFull { needed: DEADLINE_OVERHEAD as u64, headroom: 0 };
    let write = Put { ttl: TtlChoice::Of(seconds(9)), ..put(b"k", b"v") };
    assert_eq!(p.put(&full, &write), Err(over.clone()));
    assert_eq!(p.touch(&full, b"k", TtlChange::Set(seconds(9))), Err(over));
    assert!(p.touch(&full, b"k", TtlChange::Clear).is_ok() && p.touch(&full, b"k", TtlChange::Read).is_ok());
    p.check_invariants();
}

#[test]
fn a_refused_write_leaves_nothing() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let full = left(&p, &m, 10);
    assert_eq!(p.put(&full, &put(b"k", b"v")), Err(Refusal::NodeFull { needed: 66, headroom: 10 }));
    assert_eq!(p.bytes(), 0);
}

#[test]
fn a_full_node_refuses_growth_and_serves_the_rest() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    p.put(&at(&m, NOW), &put(b"k", b"v")).unwrap();
    let full = left(&p, &m, 65);
    assert_eq!(p.put(&full, &put(b"k2", b"v")), Err(Refusal::NodeFull { needed: 67, headroom: 65 }));
    assert!(p.put(&full, &put(b"2", b"")).is_ok(), "what fits is written");
    assert!(p.put(&full, &put(b"k", b"w")).is_ok(), "what does not grow is, too");
    let full = left(&p, &m, 0);
    assert!(p.get(&full, b"k").is_some());
    let remove = Remove { key: b"k", if_version: None, previous: Previous::Return };
    assert_eq!(
        p.remove(&full, &remove),
        Ok(Answer::Removed { removed: true, previous: Some((*b"w").into()) })
    );
}

#[test]
fn clear_is_one_change_and_frees_in_slices() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    (0..10_000_u32).for_each(|i| drop(p.put(&at, &put(&i.to_be_bytes(), b"v")).unwrap()));
    assert_eq!(p.clear(m.id), 10_000);
    assert_eq!((p.position(), p.entries(), p.bytes()), (Version(10_001), 0, of_a_store(&m)));
    assert_eq!((0..).take_while(|_| p.tick(NOW)).count(), 4);
    assert_eq!(p.clear(m.id), 0);
    p.put(&at, &put(b"k", b"v")).unwrap();
    p.check_invariants();
}

/// A request of a client that nobody has seen.
fn fresh(client: u64) -> RequestId {
    let client = ClientId { issued: NOW, random: client };
    RequestId { client, sequence: 1, oldest_pending: 1, repeated: false }
}

#[test]
fn a_full_node_keeps_no_more_results() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let old = [7; 1000];
    p.put(&at(&m, NOW), &put(b"k", &old)).unwrap();
    let full = left(&p, &m, 20_000);
    let exchange = (full, Operation::Put(Put { previous: Previous::Return, ..put(b"k", &old) }));
    let mut exchanged = 0;
    while !results(&mut p, fresh(exchanged), &[exchange]).unwrap()[0].contains("NodeFull") {
        exchanged += 1;
    }
    assert!((10..20).contains(&exchanged) && full.room.others + p.bytes() <= full.room.limit);
    for operation in [
        Operation::Put(put(b"k", &old)),
        Operation::Increment { key: b"n", delta: 1 },
        Operation::Touch { key: b"k", change: TtlChange::Clear },
    ] {
        let full = left(&p, &m, 0);
        let position = p.position();
        let refused = results(&mut p, fresh(100), &[(full, operation)]).unwrap();
        assert!(refused[0].contains("NodeFull"), "{operation:?}: {refused:?}");
        assert_eq!((p.position(), p.admit(&fresh(100))), (position, Admission::Fresh));
    }
    assert!(p.put(&left(&p, &m, 0), &put(b"k", &old)).is_ok(), "without an id nothing is kept");
    let full = left(&p, &m, 0);
    let remove = Remove { key: b"k", if_version: None, previous: Previous::Return };
    let rest = [(full, Operation::Get { key: b"k" }), (full, Operation::Remove(remove))];
    let done = results(&mut p, fresh(101), &rest).unwrap();
    assert!(done[0].contains("Entry(Some") && done[1].contains("removed: true"), "{done:?}");
    assert_eq!(results(&mut p, fresh(101), &rest[1..]), Err(PartRefusal::ReusedId), "it is kept");
}

#[test]
fn what_one_request_returns_is_counted_together() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    (0..50_u8).for_each(|key| drop(p.put(&at(&m, NOW), &put(&[key], &[7; 1000])).unwrap()));
    let full = left(&p, &m, 20_000);
    let keys: Vec<[u8; 1]> = (0..50).map(|key| [key]).collect();
    let exchange = |key| (full, Operation::Put(Put { previous: Previous::Return, ..put(key, &[7; 1000]) }));
    let part: Vec<_> = keys.iter().map(|key| exchange(&key[..])).collect();
    let done = results(&mut p, fresh(1), &part).unwrap();
    let written = done.iter().filter(|result| result.contains("Put")).count();
    assert!((10..20).contains(&written), "{written} of {}", done.len());
    assert!(full.room.others + p.bytes() <= full.room.limit);
    p.check_invariants();
}

#[test]
fn results_of_removals_go_past_the_limit_within_a_bound() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    (0..1000_u32).for_each(|key| drop(p.put(&at(&m, NOW), &put(&key.to_be_bytes(), b"v")).unwrap()));
    let full = left(&p, &m, 0);
    let limit = full.room.limit + RECORD_RESERVE_BYTES as u64;
    let mut removed = 0;
    let refusal = loop {
        // A result for each operation is kept: the refused ones beside a removal take more than its entry did.
        let key = u32::to_be_bytes(removed);
        let remove = Operation::Remove(Remove { key: &key, if_version: None, previous: Previous::Ignore });
        let mut part = vec![(full, Operation::Put(put(b"new", b"v"))); 2000];
        part.push((full, remove));
        match results(&mut p, fresh(u64::from(removed)), &part) {
            Ok(_) => removed += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(removed > 100 && full.room.others + p.bytes() <= limit, "{removed}");
    assert!(matches!(refusal, PartRefusal::NodeFull { .. }), "{refusal:?}");
    let key = 999_u32.to_be_bytes();
    let remove = Remove { key: &key, if_version: None, previous: Previous::Ignore };
    assert!(p.remove(&full, &remove).is_ok(), "without an id it is removed");
}

#[test]
fn an_effect_that_leaves_a_result_needs_room_for_it() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    p.put(&at(&m, NOW), &put(b"k", b"v")).unwrap();
    let effect = Effect::Put { value: b"w", ttl: TtlChoice::OfMap };
    let recorded = Access { record: Completion::bytes(1), ..left(&p, &m, 0) };
    let over = Refusal::NodeFull { needed: recorded.record, headroom: 0 };
    assert_eq!(p.apply(&recorded, b"k", effect), Err(over.clone()));
    assert_eq!(p.apply_at(&recorded, (Slot(0), b"k"), effect), Err(over));
    assert_eq!(p.apply_at(&recorded, (Slot(0), b"k"), Effect::Remove), Ok(()));
    assert_eq!(p.entries(), 0);
}

#[test]
fn what_another_held_is_freed_in_slices() {
    let m = map(MapOptions::default());
    let mut gone = filled(&m);
    gone.clear(m.id);
    (0..ENTRIES).for_each(|i| drop(gone.put(&at(&m, NOW), &put(&i.to_be_bytes(), b"v")).unwrap()));
    let mut p = gone.emptied(gone.position());
    p.bury(gone);
    assert_eq!((p.entries(), p.bytes()), (0, 0), "nothing of it is here");
    let slices = (1..99).find(|_| p.free_some()).expect("it comes to an end");
    // What was cleared before waits, too.
    assert!(slices > 2 * ENTRIES as usize / FREE_ENTRIES, "{slices}");
}
