//! A partition against a model that is plainly right, and single facts about each operation.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{ClientId, GridTime, MapId, PartitionId, ReplicationClass, RequestId, Slot, Version};
use crate::map::{ContentType, EvictionPolicy, MapDescriptor, MapOptions};
use crate::name::Name;
use crate::store::ChangeKind;

mod copies;
mod eviction;
mod expiry;
mod memory;
mod repeated;
mod watched;

const NOW: GridTime = GridTime(1_700_000_000_000);

const ALL: Wanted<'_> = Wanted { prefix: b"", limit: u64::MAX };

fn partition() -> Partition {
    Partition::new(PartitionId { class: ReplicationClass(0), index: 3 }, 1, 42, Version::NONE)
}

fn map(options: MapOptions) -> MapDescriptor {
    MapDescriptor { id: MapId(1), name: Name::new("m").unwrap(), revision: 1, options }
}

fn at(map: &MapDescriptor, now: GridTime) -> Access<'_> {
    Access { map, now, room: Room::UNLIMITED, record: 0 }
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Put<'a> {
    Put { key, value, ttl: TtlChoice::OfMap, condition: Condition::Always, previous: Previous::Ignore }
}

fn value(p: &mut Partition, at: &Access<'_>, key: &[u8]) -> Option<Vec<u8>> {
    p.get(at, key).map(|entry| entry.value.to_vec())
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn conditions_hold_or_nothing_changes() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let with = |condition| Put { condition, ..put(b"k", b"1") };
    let first = Answer::Put { version: Version(1), previous: None };
    assert_eq!(p.put(&at, &with(Condition::IfAbsent)), Ok(first));
    assert_eq!(p.put(&at, &with(Condition::IfAbsent)), Err(Refusal::AlreadyExists { version: Version(1) }));
    let mismatch = Refusal::VersionMismatch { expected: Version(9), found: Version(1) };
    assert_eq!(p.put(&at, &with(Condition::IfVersion(Version(9)))), Err(mismatch.clone()));
    let remove = Remove { key: b"k", if_version: Some(Version(9)), previous: Previous::Ignore };
    assert_eq!(p.remove(&at, &remove), Err(mismatch));
    assert_eq!(p.position(), Version(1));
    let second =
        Put { condition: Condition::IfVersion(Version(1)), previous: Previous::Return, ..put(b"k", b"2") };
    assert_eq!(p.put(&at, &second), Ok(Answer::Put { version: Version(2), previous: Some((*b"1").into()) }));
    let absent = Put { condition: Condition::IfVersion(Version::NONE), ..put(b"new", b"") };
    assert_eq!(p.put(&at, &absent), Ok(Answer::Put { version: Version(3), previous: None }));
}

#[test]
fn increments_count_and_refuse_other_values() {
    for content_type in [ContentType::Bytes, ContentType::Json, ContentType::MessagePack] {
        let (mut p, m) = (partition(), map(MapOptions { content_type, ..MapOptions::default() }));
        let at = at(&m, NOW);
        assert_eq!(p.increment(&at, b"n", 5), Ok(Answer::Incremented { value: 5, version: Version(1) }));
        assert_eq!(p.increment(&at, b"n", -7), Ok(Answer::Incremented { value: -2, version: Version(2) }));
        let overflow = Refusal::Overflow { value: -2, delta: i64::MIN };
        assert_eq!(p.increment(&at, b"n", i64::MIN), Err(overflow));
        p.put(&at, &put(b"s", b"\"x\"")).unwrap();
        assert_eq!(p.increment(&at, b"s", 1), Err(Refusal::NotAnInteger));
        assert_eq!(value(&mut p, &at, b"s").as_deref(), Some(&b"\"x\""[..]));
    }
}

#[test]
fn an_increment_keeps_the_time_to_live() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    p.put(&at(&m, NOW), &Put { ttl: TtlChoice::Of(seconds(10)), ..put(b"n", b"1") }).unwrap();
    p.increment(&at(&m, NOW.after(seconds(4))), b"n", 1).unwrap();
    let touched = p.touch(&at(&m, NOW.after(seconds(4))), b"n", TtlChange::Read);
    assert_eq!(touched, Ok(Answer::Touched { found: true, ttl: Some(seconds(6)), version: Version(2) }));
}

#[test]
fn a_scan_sees_what_is_there_throughout_exactly_once() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let key = |i: u32| i.to_be_bytes();
    (0..1000).for_each(|i| drop(p.put(&at, &put(&key(i), b"v")).unwrap()));
    let (mut range, mut seen) = (p.scan_range(&at), Vec::new());
    let mut step = 0;
    while let ScanEnd::More(rest) = p.scan(&at, range, ALL, |entry| seen.push(entry.key.to_vec())) {
        range = rest;
        step += 1;
        // Between the turns: every third entry goes, others come in their slots and behind the end.
        for i in (0..300).map(|i| i * 3) {
            p.remove(&at, &Remove { key: &key(i), if_version: None, previous: Previous::Ignore }).unwrap();
            p.put(&at, &put(&key(10_000 * step + i), b"w")).unwrap();
            p.put(&at, &put(&key(i + 1), b"rewritten")).unwrap();
        }
    }
    for i in (0..1000).filter(|i| i % 3 != 0) {
        assert_eq!(seen.iter().filter(|seen| **seen == key(i)).count(), 1, "{i}");
    }
    assert!(seen.len() <= 1000, "a pass ends where it started");
}

#[test]
fn a_prefix_narrows_a_scan() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    ["ab", "abc", "b", "a"].iter().for_each(|key| drop(p.put(&at, &put(key.as_bytes(), b"")).unwrap()));
    let mut seen = Vec::new();
    let range = p.scan_range(&at);
    let end = p.scan(&at, range, Wanted { prefix: b"ab", ..ALL }, |entry| seen.push(entry.key.to_vec()));
    assert_eq!((end, seen), (ScanEnd::Complete, vec![b"ab".to_vec(), b"abc".to_vec()]));
    let end = p.scan(&at, range, Wanted { limit: 3, ..ALL }, |_| ());
    assert_eq!(end, ScanEnd::More(ScanRange { next: Slot(3), end: Slot(4) }));
}

fn request(sequence: u64, oldest_pending: u64) -> RequestId {
    let client = ClientId { issued: NOW, random: 7 };
    RequestId { client, sequence, oldest_pending, repeated: false }
}

fn done(version: u64) -> Completion {
    let answer = Answer::Put { version: Version(version), previous: None };
    Completion::Results([Recorded::Applied(answer)].into_iter().collect())
}

#[test]
fn a_known_request_gets_its_first_result_until_it_is_acknowledged() {
    let mut p = partition();
    assert_eq!(p.admit(&request(5, 5)), Admission::Fresh);
    p.complete(&request(5, 5), done(1));
    assert_eq!(p.admit(&request(5, 5)), Admission::Known(&done(1)));
    assert_eq!(p.admit(&request(7, 5)), Admission::Fresh);
    p.complete(&request(7, 5), done(2));
    assert_eq!(p.admit(&request(6, 6)), Admission::Fresh, "it never ran");
    assert_eq!(p.admit(&request(5, 5)), Admission::InDoubt, "its result was acknowledged");
    assert_eq!(p.admit(&request(7, 6)), Admission::Known(&done(2)));
    p.check_invariants();
}

#[test]
fn a_result_that_nobody_waits_for_any_more_is_not_kept() {
    let mut p = partition();
    assert_eq!(p.admit(&request(5, 5)), Admission::Fresh, "it takes several turns");
    p.complete(&request(9, 9), done(1));
    let bytes = p.bytes();
    p.complete(&request(5, 5), done(2));
    assert_eq!(p.bytes(), bytes);
    assert_eq!(p.admit(&request(5, 5)), Admission::InDoubt);
    p.check_invariants();
}

#[test]
fn a_client_older_than_the_horizon_is_in_doubt() {
    let mut p = partition();
    p.complete(&request(1, 1), done(1));
    p.tick(NOW.after(crate::limits::CLIENT_ID_LIFE));
    assert_eq!(p.admit(&request(1, 1)), Admission::Known(&done(1)), "exactly at its age");
    p.tick(NOW.after(crate::limits::CLIENT_ID_LIFE + crate::limits::HORIZON_STEP));
    assert_eq!(p.admit(&request(1, 1)), Admission::InDoubt);
    assert_eq!(p.admit(&request(2, 1)), Admission::InDoubt);
    assert_eq!(p.bytes(), 0);
}

#[test]
fn a_client_that_never_acknowledges_is_bounded() {
    let mut p = partition();
    let limit = crate::limits::COMPLETIONS_PER_CLIENT as u64;
    for sequence in 1..=limit {
        assert_eq!(p.reserve(&request(sequence, 1), Room::UNLIMITED, 0), Ok(()));
        p.complete(&request(sequence, 1), done(sequence));
    }
    assert_eq!(p.reserve(&request(limit + 1, 1), Room::UNLIMITED, 0), Err(PartRefusal::TooManyPending));
    assert_eq!(p.admit(&request(limit + 1, 2)), Admission::Fresh);
    assert_eq!(p.reserve(&request(limit + 1, 2), Room::UNLIMITED, 0), Ok(()));
    p.check_invariants();
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, value: Vec<u8>, ttl: Option<u64> },
    Remove { key: u8 },
    Touch { key: u8, ttl: Option<u64> },
    Pass { millis: u64 },
    Tick,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop::collection::vec(any::<u8>(), 0..40);
    let ttl = prop::option::of(1..20_000_u64);
    let step = prop_oneof![
        8 => (0..24_u8, value, ttl.clone()).prop_map(|(key, value, ttl)| Step::Put { key, value, ttl }),
        3 => (0..24_u8).prop_map(|key| Step::Remove { key }),
        2 => (0..24_u8, ttl).prop_map(|(key, ttl)| Step::Touch { key, ttl }),
        3 => (0..6_000_u64).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Tick),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..200)
}

/// Keys below and above the length that fits an entry.
fn key_of(key: u8) -> Vec<u8> {
    vec![key; 1 + usize::from(key) * 3 / 2]
}

fn ttl_of(ttl: Option<u64>) -> TtlChoice {
    ttl.map_or(TtlChoice::ForEver, |ttl| TtlChoice::Of(Duration::from_millis(ttl)))
}

proptest! {
    #[test]
    fn a_partition_is_a_map_with_deadlines(steps in steps()) {
        let (mut p, m) = (partition(), map(MapOptions::default()));
        let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<GridTime>)> = BTreeMap::new();
        let mut now = NOW;
        for step in steps {
            let deadline = |ttl: Option<u64>| ttl.map(|ttl| now.after(Duration::from_millis(ttl)));
            let before = p.position();
            model.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
            match step {
                Step::Put { key, value, ttl } => {
                    let key = key_of(key);
                    let write = Put { ttl: ttl_of(ttl), ..put(&key, &value) };
                    let Ok(Answer::Put { version, .. }) = p.put(&at(&m, now), &write) else { panic!("refused") };
                    prop_assert!(version > before);
                    model.insert(key, (value, deadline(ttl)));
                }
                Step::Remove { key } => {
                    let remove = Remove { key: &key_of(key), if_version: None, previous: Previous::Return };
                    let previous = model.remove(&key_of(key)).map(|(value, _)| value.into());
                    let removed = previous.is_some();
                    prop_assert_eq!(p.remove(&at(&m, now), &remove), Ok(Answer::Removed { removed, previous }));
                }
                Step::Touch { key, ttl } => {
                    let change = ttl.map_or(TtlChange::Clear, |ttl| TtlChange::Set(Duration::from_millis(ttl)));
                    p.touch(&at(&m, now), &key_of(key), change).unwrap();
                    if let Some(entry) = model.get_mut(&key_of(key)) {
                        entry.1 = deadline(ttl);
                    }
                }
                Step::Pass { millis } => now = now.after(Duration::from_millis(millis)),
                Step::Tick => while p.tick(now) {},
                Step::Clear => {
                    p.clear(m.id);
                    model.clear();
                }
            }
            prop_assert!(p.position() >= before);
            p.check_invariants();
        }
        model.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
        let mut found = BTreeMap::new();
        let range = p.scan_range(&at(&m, now));
        let end = p.scan(&at(&m, now), range, ALL, |entry| {
            found.insert(entry.key.to_vec(), (entry.value.to_vec(), entry.deadline));
        });
        prop_assert_eq!(end, ScanEnd::Complete);
        prop_assert_eq!(&found, &model);
        for (key, (value, _)) in &model {
            prop_assert_eq!(p.get(&at(&m, now), key).map(|entry| entry.value.to_vec()), Some(value.clone()));
        }
        prop_assert_eq!(p.sweep(&at(&m, now), ScanRange { next: Slot(0), end: Slot(u32::MAX) }, 256).slots.len(), model.len());
    }
}

fn results(
    p: &mut Partition,
    id: RequestId,
    operations: &[(Access<'_>, Operation<'_>)],
) -> Result<Vec<String>, PartRefusal> {
    let mut results = Vec::new();
    let room = operations.first().map_or(Room::UNLIMITED, |(at, _)| at.room);
    let operations = operations.iter().copied().map(Ok);
    p.run_part(Some((&id, room)), operations, |_, result| results.push(format!("{result:?}")))?;
    Ok(results)
}

#[test]
fn a_retry_gets_the_first_results_and_changes_nothing() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let part = [
        (at, Operation::Increment { key: b"n", delta: 2 }),
        (at, Operation::Put(Put { condition: Condition::IfAbsent, ..put(b"n", b"0") })),
        (at, Operation::Put(Put { previous: Previous::Return, ..put(b"k", b"v") })),
        (at, Operation::Remove(Remove { key: b"none", if_version: None, previous: Previous::Ignore })),
    ];
    let first = results(&mut p, request(1, 1), &part).unwrap();
    assert!(first[0].contains("value: 2") && first[1].contains("AlreadyExists"), "{first:?}");
    let position = p.position();
    p.put(&at, &put(b"k", b"another client's")).unwrap();
    assert_eq!(results(&mut p, request(1, 1), &part).unwrap(), first);
    assert_eq!(p.position(), position.next(), "only the other client's write came in between");
    assert_eq!(value(&mut p, &at, b"k").as_deref(), Some(&b"another client's"[..]));
    assert_eq!(value(&mut p, &at, b"n").as_deref(), Some(&b"2"[..]));
}

#[test]
fn what_cannot_be_done_any_more_is_answered_if_it_was_done() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let mut places = |operations: &[Option<(Access<'_>, Operation<'_>)>]| {
        let mut places = Vec::new();
        let answered = |place, result: Result<Outcome<'_>, Refusal>| places.push((place, result.is_ok()));
        let asked = operations.iter().map(|asked| asked.ok_or(None));
        p.run_part(Some((&request(1, 1), Room::UNLIMITED)), asked, answered).map(|()| places)
    };
    let add = Some((at, Operation::Increment { key: b"n", delta: 1 }));
    assert_eq!(places(&[None, None]), Ok(vec![]), "nothing is known yet");
    assert_eq!(places(&[add, None, add]), Ok(vec![(0, true), (2, true)]));
    assert_eq!(places(&[None, None, None]), Ok(vec![(0, true), (2, true)]), "what was done is known");
    assert_eq!(
        places(&[None, add, add]),
        Ok(vec![(0, true), (1, true), (2, true)]),
        "the rest can be done now"
    );
    assert_eq!(places(&[add, add]), Err(PartRefusal::ReusedId));
    assert_eq!(value(&mut p, &at, b"n").as_deref(), Some(&b"3"[..]), "each is done once");
}

#[test]
fn an_id_is_for_one_request() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let increment = (at, Operation::Increment { key: b"n", delta: 1 });
    results(&mut p, request(1, 1), &[increment]).unwrap();
    let other = (at, Operation::Put(put(b"n", b"9")));
    assert_eq!(results(&mut p, request(1, 1), &[other]), Err(PartRefusal::ReusedId));
    assert_eq!(results(&mut p, request(1, 1), &[increment, increment]), Err(PartRefusal::ReusedId));
    assert_eq!(value(&mut p, &at, b"n").as_deref(), Some(&b"1"[..]));
}

#[test]
fn an_id_that_was_used_otherwise_answers_nothing_and_runs_nothing() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let (get, add) = ((at, Operation::Get { key: b"n" }), (at, Operation::Increment { key: b"n", delta: 1 }));
    let put = (at, Operation::Put(put(b"n", b"9")));
    results(&mut p, request(1, 1), &[add, add, get]).unwrap();
    for other in [[add, put, get].as_slice(), &[get, add, put], &[add, add], &[add, add, get, get]] {
        let mut answered = 0;
        let operations = other.iter().copied().map(Ok);
        let refused = p.run_part(Some((&request(1, 1), at.room)), operations, |_, _| answered += 1);
        assert_eq!((refused, answered), (Err(PartRefusal::ReusedId), 0), "{other:?}");
    }
    assert_eq!(value(&mut p, &at, b"n").as_deref(), Some(&b"2"[..]));
}

#[test]
fn what_changed_nothing_beside_a_change_is_not_done_later() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let remove = Remove { key: b"k", if_version: None, previous: Previous::Return };
    let set = TtlChange::Set(seconds(1));
    let part = [
        (at, Operation::Increment { key: b"n", delta: 1 }),
        (at, Operation::Remove(remove)),
        (at, Operation::Touch { key: b"k", change: set }),
    ];
    let first = results(&mut p, request(1, 1), &part).unwrap();
    let position = p.put(&at, &put(b"k", b"another client's")).map(|_| p.position());
    assert_eq!(results(&mut p, request(1, 1), &part).unwrap(), first);
    assert_eq!(Ok(p.position()), position);
    assert_eq!(value(&mut p, &at, b"k").as_deref(), Some(&b"another client's"[..]));
}

#[test]
fn what_was_refused_alone_may_run_again() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    p.put(&at, &put(b"k", b"v")).unwrap();
    let absent = [(at, Operation::Put(Put { condition: Condition::IfAbsent, ..put(b"k", b"w") }))];
    assert!(results(&mut p, request(1, 1), &absent).unwrap()[0].contains("AlreadyExists"));
    p.remove(&at, &Remove { key: b"k", if_version: None, previous: Previous::Ignore }).unwrap();
    assert!(results(&mut p, request(1, 1), &absent).unwrap()[0].contains("Version(3)"));
}

#[test]
fn a_forgotten_request_never_runs() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let increment = [(at, Operation::Increment { key: b"n", delta: 1 })];
    results(&mut p, request(1, 1), &increment).unwrap();
    results(&mut p, request(2, 2), &increment).unwrap();
    assert_eq!(results(&mut p, request(1, 1), &increment), Err(PartRefusal::InDoubt));
    assert_eq!(value(&mut p, &at, b"n").as_deref(), Some(&b"2"[..]));
}
