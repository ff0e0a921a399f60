//! What is due by time: deadlines and idleness.

use super::*;
use crate::limits::EXPIRE_ENTRIES;

#[test]
fn an_expired_entry_is_removed_by_a_change_before_it_is_absent() {
    let (mut p, m) = (partition(), map(MapOptions { ttl: Some(seconds(10)), ..MapOptions::default() }));
    p.start_watch(&at(&m, NOW));
    p.put(&at(&m, NOW), &put(b"k", b"v")).unwrap();
    let end = NOW.after(seconds(10));
    assert_eq!(value(&mut p, &at(&m, GridTime(end.0 - 1)), b"k").as_deref(), Some(&b"v"[..]));
    assert_eq!(value(&mut p, &at(&m, end), b"k"), None);
    let read = p.read_changes(&at(&m, end), Version(1), usize::MAX);
    let kinds: Vec<_> = read.changes.iter().map(|change| (change.kind, change.version)).collect();
    assert_eq!(kinds, [(ChangeKind::Expired, Version(2))]);
    assert_eq!(p.statistics(m.id).expirations, 1);
}

#[test]
fn ticks_expire_what_nobody_asks_for() {
    let (mut p, m) = (partition(), map(MapOptions { max_idle: Some(seconds(5)), ..MapOptions::default() }));
    p.put(&at(&m, NOW), &Put { ttl: TtlChoice::Of(seconds(2)), ..put(b"short", b"") }).unwrap();
    p.put(&at(&m, NOW), &put(b"idle", b"")).unwrap();
    p.put(&at(&m, NOW), &put(b"used", b"")).unwrap();
    p.get(&at(&m, NOW.after(seconds(4))), b"used").unwrap();
    p.tick(NOW.after(seconds(3)));
    assert_eq!(p.entries(), 2);
    p.tick(NOW.after(seconds(6)));
    assert_eq!(p.entries(), 1);
    p.tick(NOW.after(seconds(10)));
    assert_eq!(p.entries(), 0);
    p.check_invariants();
}

/// Messages take the time when they begin, and may come to a partition in another order.
#[test]
fn a_use_by_a_message_that_began_earlier_ends_no_entry() {
    let (mut p, m) = (partition(), map(MapOptions { max_idle: Some(seconds(5)), ..MapOptions::default() }));
    let later = NOW.after(seconds(1));
    p.put(&at(&m, later), &put(b"k", b"v")).unwrap();
    assert_eq!(value(&mut p, &at(&m, NOW), b"k").as_deref(), Some(&b"v"[..]));
    p.tick(NOW);
    assert_eq!(value(&mut p, &at(&m, later.after(seconds(5))), b"k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn idleness_can_be_introduced_live() {
    let (mut p, mut m) = (partition(), map(MapOptions::default()));
    p.put(&at(&m, NOW), &put(b"k", b"v")).unwrap();
    m = MapDescriptor { revision: 2, options: MapOptions { max_idle: Some(seconds(5)), ..m.options }, ..m };
    p.update_map(&m);
    p.tick(NOW.after(seconds(61)));
    assert_eq!(p.entries(), 0);
}

/// A partition with entries of one map without times, and the map with a longest idle time.
fn idle(entries: u32, max_idle: Duration) -> (Partition, MapDescriptor) {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    (0..entries).for_each(|i| drop(p.put(&at(&m, NOW), &put(&i.to_be_bytes(), b"v")).unwrap()));
    let options = MapOptions { max_idle: Some(max_idle), ..m.options };
    (p, MapDescriptor { revision: 2, options, ..m })
}

/// Ticks until nothing is due.
fn ticks(p: &mut Partition, now: GridTime) -> usize {
    p.check_invariants();
    let ticks = (0..).take_while(|_| p.tick(now)).count() + 1;
    p.check_invariants();
    ticks
}

#[test]
fn a_new_longest_idle_time_comes_to_the_entries_in_slices() {
    let entries = 10 * EXPIRE_ENTRIES;
    let (mut p, m) = idle(u32::try_from(entries).unwrap(), seconds(5));
    let later = NOW.after(seconds(4));
    p.update_map(&m);
    p.tick(later);
    p.get(&at(&m, later), &[0, 0, 0, 7]).unwrap();
    assert_eq!((ticks(&mut p, later), p.entries()), (entries / EXPIRE_ENTRIES, entries as u64));
    assert_eq!((ticks(&mut p, NOW.after(seconds(6))), p.entries()), (entries / EXPIRE_ENTRIES + 1, 1));
    assert_eq!(p.statistics(m.id).expirations, entries as u64 - 1);
}

#[test]
fn a_longest_idle_time_can_change_and_go() {
    let (mut p, mut m) = idle(1000, seconds(3600));
    p.update_map(&m);
    ticks(&mut p, NOW);
    let mut update = |p: &mut Partition, max_idle| {
        m = MapDescriptor {
            revision: m.revision + 1,
            options: MapOptions { max_idle, ..m.options.clone() },
            ..m.clone()
        };
        p.update_map(&m);
        m.clone()
    };
    let checked = p.bytes();
    update(&mut p, None);
    ticks(&mut p, NOW.after(seconds(10_000)));
    assert_eq!(p.entries(), 1000);
    assert!(p.bytes() + 4 * 1000 <= checked, "checks are not kept: {} of {checked}", p.bytes());
    let m = update(&mut p, Some(seconds(20_000)));
    p.put(&at(&m, NOW.after(seconds(10_000))), &put(b"new", b"v")).unwrap();
    ticks(&mut p, NOW.after(seconds(10_000)));
    assert_eq!(p.entries(), 1001);
    update(&mut p, Some(seconds(5_000)));
    ticks(&mut p, NOW.after(seconds(10_000)));
    assert_eq!(p.entries(), 1, "by the new time, whatever was checked by the old one");
}

#[test]
fn checks_of_entries_that_are_gone_are_forgotten() {
    let (mut p, m) = idle(10_000, seconds(1_000_000));
    p.update_map(&m);
    ticks(&mut p, NOW);
    let key = |i: u32| i.to_be_bytes();
    for i in 0..10_000 {
        p.remove(&at(&m, NOW), &Remove { key: &key(i), if_version: None, previous: Previous::Ignore })
            .unwrap();
    }
    let kept = p.bytes();
    ticks(&mut p, NOW);
    assert!(p.bytes() + 4 * 10_000 < kept, "{} after {kept}", p.bytes());
    p.drop_map(m.id);
    assert_eq!(p.bytes(), 0);
}

#[test]
fn a_write_that_began_before_an_update_finds_the_newer_options() {
    let (mut p, old) = (partition(), map(MapOptions { max_idle: Some(seconds(5)), ..MapOptions::default() }));
    let new = MapDescriptor { revision: 2, options: MapOptions::default(), ..old.clone() };
    p.update_map(&new);
    p.put(&at(&old, NOW), &put(b"k", b"v")).unwrap();
    ticks(&mut p, NOW.after(seconds(60)));
    assert_eq!(p.entries(), 1);
}
