//! What a partition holds, and what it refuses when there is no room.

use super::*;
use crate::store::{DEADLINE_OVERHEAD, ENTRY_OVERHEAD};

/// Entries of a map that are all in use at once.
const ENTRIES: u32 = 64 * 256;

fn filled(m: &MapDescriptor) -> Partition {
    let mut p = partition();
    (0..ENTRIES).for_each(|i| drop(p.put(&at(m, NOW), &put(&i.to_be_bytes(), b"v")).unwrap()));
    p
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
    p.touch(&at, b"k", TtlChange::Set(seconds(9)));
    assert_eq!(bytes(&p), with);
    p.touch(&at, b"k", TtlChange::Set(seconds(5)));
    assert_eq!(bytes(&p), with);
    p.touch(&at, b"k", TtlChange::Clear);
    assert_eq!(bytes(&p), entry);
    p.put(&at, &Put { ttl: TtlChoice::Of(seconds(9)), ..put(b"k", b"v") }).unwrap();
    assert_eq!(bytes(&p), with);
    let full = Access { headroom: 0, ..at };
    let deadline = DEADLINE_OVERHEAD as u64;
    p.put(&at, &put(b"k", b"v")).unwrap();
    let over = p.put(&full, &Put { ttl: TtlChoice::Of(seconds(9)), ..put(b"k", b"v") });
    assert_eq!(over, Err(Refusal::NodeFull { needed: deadline, headroom: 0 }));
    p.check_invariants();
}

#[test]
fn a_refused_write_leaves_nothing() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let full = Access { headroom: 10, ..at(&m, NOW) };
    assert_eq!(p.put(&full, &put(b"k", b"v")), Err(Refusal::NodeFull { needed: 66, headroom: 10 }));
    assert_eq!(p.bytes(), 0);
}

#[test]
fn a_full_node_refuses_growth_and_serves_the_rest() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    p.put(&at(&m, NOW), &put(b"k", b"v")).unwrap();
    let full = Access { headroom: 65, ..at(&m, NOW) };
    assert_eq!(p.put(&full, &put(b"k2", b"v")), Err(Refusal::NodeFull { needed: 67, headroom: 65 }));
    assert!(p.put(&full, &put(b"2", b"")).is_ok(), "what fits is written");
    assert!(p.put(&full, &put(b"k", b"w")).is_ok());
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
