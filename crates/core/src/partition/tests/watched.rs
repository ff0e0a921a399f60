//! Which maps a partition says have changed, to wake who watches them.

use super::*;

fn changed(p: &mut Partition) -> Vec<MapId> {
    p.changed_maps().collect()
}

#[test]
fn only_changes_of_watched_maps_are_told() {
    let (mut p, watched) = (partition(), map(MapOptions::default()));
    let other = MapDescriptor { id: MapId(2), ..watched.clone() };
    p.put(&at(&watched, NOW), &put(b"k", b"v")).unwrap();
    assert_eq!(changed(&mut p), [], "nobody watches");
    p.start_watch(&at(&watched, NOW));
    p.put(&at(&other, NOW), &put(b"k", b"v")).unwrap();
    p.get(&at(&watched, NOW), b"k").unwrap();
    assert_eq!(changed(&mut p), [], "another map's, and none");
    p.put(&at(&watched, NOW), &put(b"k", b"v")).unwrap();
    p.put(&at(&watched, NOW), &put(b"l", b"v")).unwrap();
    assert_eq!(changed(&mut p), [watched.id], "told once");
    assert_eq!(changed(&mut p), []);
    p.start_watch(&at(&other, NOW));
    p.put(&at(&other, NOW), &put(b"k", b"v")).unwrap();
    p.put(&at(&watched, NOW), &put(b"k", b"v")).unwrap();
    assert_eq!(changed(&mut p), [other.id, watched.id]);
}

#[test]
fn what_others_decided_between_two_reigns_is_said_to_be_missed() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    p.start_watch(&at);
    p.put(&at, &put(b"k", b"v")).unwrap();
    let seen = p.position();
    let mut other = partition();
    other.begin_reign(NOW);
    other.record_changes(true);
    other.put(&at, &put(b"l", b"w")).unwrap();
    p.apply_record(other.position(), &other.take_record().unwrap(), NOW);
    p.committed(other.position());
    p.begin_reign(NOW);
    let read = p.read_changes(&at, seen, 9);
    assert!(read.missed && read.changes.is_empty(), "{read:?}");
    p.put(&at, &put(b"k", b"x")).unwrap();
    let read = p.read_changes(&at, read.position, 9);
    assert!(!read.missed && read.changes.len() == 1, "{read:?}");
    p.check_invariants();
}

#[test]
fn every_kind_of_change_is_told() {
    let options = MapOptions { max_bytes: Some(200), eviction: EvictionPolicy::Lru, ..MapOptions::default() };
    let (mut p, m) = (partition(), map(options));
    let at = at(&m, NOW);
    p.start_watch(&at);
    let told = |p: &mut Partition, what: &str, change: &dyn Fn(&mut Partition)| {
        change(p);
        assert_eq!(changed(p), [m.id], "{what}");
    };
    let write =
        |p: &mut Partition, key: &[u8], ttl| drop(p.put(&at, &Put { ttl, ..put(key, b"1") }).unwrap());
    told(&mut p, "a put", &|p| write(p, b"k", TtlChoice::OfMap));
    told(&mut p, "an increment", &|p| drop(p.increment(&at, b"k", 1).unwrap()));
    told(&mut p, "a deadline", &|p| drop(p.touch(&at, b"k", TtlChange::Set(seconds(1)))));
    told(&mut p, "a tick", &|p| {
        p.tick(NOW.after(seconds(2)));
    });
    told(&mut p, "a write with a deadline", &|p| write(p, b"k", TtlChoice::Of(seconds(1))));
    told(&mut p, "a look", &|p| {
        p.expire_due(m.id, NOW.after(seconds(2)));
    });
    told(&mut p, "a put", &|p| write(p, b"k", TtlChoice::OfMap));
    let remove = Remove { key: b"k", if_version: None, previous: Previous::Ignore };
    told(&mut p, "a removal", &|p| drop(p.remove(&at, &remove).unwrap()));
    told(&mut p, "a put", &|p| write(p, b"k", TtlChoice::OfMap));
    told(&mut p, "a clear", &|p| {
        p.clear(m.id);
    });
}
