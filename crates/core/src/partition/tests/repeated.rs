//! Attempts of a request that arrive in another order than they were sent in: what the later one was told, the earlier one is, too.

use super::*;
use crate::limits::RECORD_RESERVE_BYTES;

fn again(sequence: u64) -> RequestId {
    RequestId { repeated: true, ..request(sequence, 1) }
}

/// What a repetition is told stands, whatever happens before the first attempt arrives.
fn check(before: impl Fn(&mut Partition, &Access<'_>), operation: Operation<'_>, between: Operation<'_>) {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    before(&mut p, &at);
    let told = results(&mut p, again(1), &[(at, operation)]).unwrap();
    p.execute(&at, &between).unwrap();
    let (position, bytes) = (p.position(), p.bytes());
    assert_eq!(results(&mut p, request(1, 1), &[(at, operation)]).unwrap(), told, "{operation:?}");
    assert_eq!((p.position(), p.bytes()), (position, bytes), "{operation:?} was told {told:?}");
    p.check_invariants();
}

#[test]
fn a_first_attempt_does_not_run_after_its_repetition_was_refused() {
    let nothing = |_: &mut Partition, _: &Access<'_>| {};
    let text = |p: &mut Partition, at: &Access<'_>| drop(p.put(at, &put(b"k", b"text")).unwrap());
    let remove = |if_version| Operation::Remove(Remove { key: b"k", if_version, previous: Previous::Ignore });
    let absent = Operation::Put(Put { condition: Condition::IfAbsent, ..put(b"k", b"v") });
    let version = Operation::Put(Put { condition: Condition::IfVersion(Version(1)), ..put(b"k", b"v") });
    check(text, absent, remove(None));
    check(nothing, version, Operation::Put(put(b"k", b"w")));
    check(nothing, remove(Some(Version(1))), Operation::Put(put(b"k", b"w")));
    check(text, Operation::Increment { key: b"k", delta: 1 }, remove(None));
}

#[test]
fn a_first_attempt_does_not_run_after_its_repetition_found_nothing_to_change() {
    let nothing = |_: &mut Partition, _: &Access<'_>| {};
    let remove = Remove { key: b"k", if_version: None, previous: Previous::Return };
    check(nothing, Operation::Remove(remove), Operation::Put(put(b"k", b"w")));
    let touch = Operation::Touch { key: b"k", change: TtlChange::Set(seconds(1)) };
    check(nothing, touch, Operation::Put(put(b"k", b"w")));
}

#[test]
fn what_only_reads_is_not_recorded() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let touch = Operation::Touch { key: b"k", change: TtlChange::Read };
    results(&mut p, again(1), &[(at, Operation::Get { key: b"k" }), (at, touch)]).unwrap();
    assert_eq!(p.bytes(), 0);
    assert_eq!(p.admit(&request(1, 1)), Admission::Fresh);
}

pub(super) fn gone() -> Refusal {
    let fact = ("map".to_owned(), "m".to_owned());
    Refusal::Explained(Box::new(Explanation {
        code: 5,
        reason: "MAP_NOT_FOUND".to_owned(),
        message: "there is no map m".to_owned(),
        facts: vec![fact],
        field: None,
    }))
}

#[test]
fn what_a_repetition_was_not_asked_is_refused_of_its_first_attempt_too() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let at = at(&m, NOW);
    let run = |p: &mut Partition, id: RequestId, places: &[Asked<'_>]| {
        let mut told = Vec::new();
        let answered =
            |place, result: Result<Outcome<'_>, Refusal>| told.push((place, format!("{result:?}")));
        let ran = p.run_part(Some((&id, Room::UNLIMITED)), places.iter().cloned(), answered);
        ran.map(|()| told)
    };
    let add = Ok((at, Operation::Increment { key: b"n", delta: 1 }));
    let refused = vec![(0, format!("{:?}", Err::<Outcome<'_>, _>(gone())))];
    assert_eq!(run(&mut p, again(1), &[Err(Some(gone())), Err(None)]), Ok(refused.clone()));
    assert_eq!(p.position(), Version::NONE);
    let first = run(&mut p, request(1, 1), &[add.clone(), add.clone()]).unwrap();
    assert_eq!(first[..1], refused, "it is not done");
    assert_eq!(
        value(&mut p, &at, b"n").as_deref(),
        Some(&b"1"[..]),
        "of the other nothing was said for good"
    );
    assert_eq!(run(&mut p, again(1), &[add.clone(), add]), Ok(first));
    assert_eq!(run(&mut p, again(2), &[Err(None)]), Ok(vec![]));
    assert_eq!(p.admit(&request(2, 1)), Admission::Fresh, "nothing was said of it for good");
    p.check_invariants();
}

#[test]
fn what_is_kept_of_a_refusal_is_counted_and_bounded() {
    let (mut p, m) = (partition(), map(MapOptions::default()));
    let refuse = |p: &mut Partition, client: u64, room: Room| {
        let client = ClientId { issued: NOW, random: client };
        let id = RequestId { client, ..again(1) };
        p.run_part(Some((&id, room)), std::iter::once(Err(Some(gone()))), |_, _| {})
    };
    let empty = p.bytes();
    refuse(&mut p, 0, Room::UNLIMITED).unwrap();
    assert!(p.bytes() >= empty + size_of::<Explanation>() as u64 + 40, "{}", p.bytes());
    let limit = 1 << 20;
    let room = Room { others: 0, limit };
    let refusal = (1..1_000_000).find_map(|client| refuse(&mut p, client, room).err()).unwrap();
    assert!(
        matches!(refusal, PartRefusal::NoRoomToRepeat { headroom, .. } if headroom < 1 << 20),
        "{refusal:?}"
    );
    assert!(p.bytes() <= limit + RECORD_RESERVE_BYTES as u64, "{}", p.bytes());
    let add = std::iter::once(Ok((at(&m, NOW), Operation::Increment { key: b"n", delta: 1 })));
    let first = RequestId { client: ClientId { issued: NOW, random: u64::MAX }, ..request(1, 1) };
    assert!(matches!(
        p.run_part(Some((&first, Room { others: p.bytes() + (1 << 40), limit })), add, |_, _| {}),
        Err(PartRefusal::NodeFull { .. })
    ));
    p.check_invariants();
}

/// One of the operations of the request whose attempts are mixed.
fn asked(kind: u8) -> Operation<'static> {
    let absent = Put { condition: Condition::IfAbsent, ..put(b"k", b"7") };
    match kind {
        0 => Operation::Put(absent),
        1 => Operation::Put(Put {
            condition: Condition::IfVersion(Version(2)),
            previous: Previous::Return,
            ..absent
        }),
        2 => Operation::Remove(Remove { key: b"k", if_version: None, previous: Previous::Return }),
        3 => Operation::Increment { key: b"k", delta: 1 },
        4 => Operation::Touch { key: b"k", change: TtlChange::Clear },
        5 => Operation::Put(Put { previous: Previous::Return, ..put(b"k", b"a value that takes its place") }),
        _ => Operation::Get { key: b"k" },
    }
}

/// What happens.
#[derive(Debug, Clone)]
enum Event {
    /// An attempt of the request arrives.
    Attempt { repeated: bool, full: bool, gone: bool },
    /// Another client's write.
    Write { number: bool },
    /// Another client's removal.
    Remove,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(repeated, full, gone)| Event::Attempt { repeated, full, gone }),
        2 => any::<bool>().prop_map(|number| Event::Write { number }),
        1 => Just(Event::Remove),
    ];
    prop::collection::vec(event, 1..12)
}

proptest! {
    /// Whoever sends a repetition believes what it is told for good; what an attempt was told that nobody has waited for any more
    /// may have been a refusal that does not stand.
    #[test]
    fn what_a_repetition_is_told_for_good_every_later_attempt_is(
        kinds in prop::collection::vec(0..7_u8, 1..3),
        events in events(),
    ) {
        let (mut p, m) = (partition(), map(MapOptions::default()));
        let unlimited = at(&m, NOW);
        let mut stands: Vec<Option<String>> = vec![None; kinds.len()];
        for event in events {
            let before = p.position();
            match event {
                Event::Write { number } => {
                    let value: &[u8] = if number { b"41" } else { b"text" };
                    p.put(&unlimited, &put(b"k", value)).unwrap();
                }
                Event::Remove => drop(p.execute(&unlimited, &asked(2)).unwrap()),
                Event::Attempt { repeated, full, gone: is_gone } => {
                    let room = if full { Room { others: 1 << 40, limit: 0 } } else { Room::UNLIMITED };
                    let at = Access { room, ..unlimited };
                    let operation = |kind: &u8| if is_gone { Err(Some(gone())) } else { Ok((at, asked(*kind))) };
                    let mut told = vec![None; kinds.len()];
                    let id = if repeated { again(1) } else { request(1, 1) };
                    let ran = p.run_part(Some((&id, room)), kinds.iter().map(operation), |place, result| {
                        told[place] = Some(format!("{result:?}"));
                    });
                    if let Err(refusal) = ran {
                        prop_assert!(told.iter().all(Option::is_none));
                        prop_assert_eq!(p.position(), before);
                        let of_this_attempt = matches!(refusal, PartRefusal::NoRoomToRepeat { .. });
                        prop_assert_eq!(of_this_attempt, repeated, "{}", refusal);
                        continue;
                    }
                    let done = stands.iter().all(Option::is_some);
                    for (place, (kind, told)) in kinds.iter().zip(told).enumerate() {
                        let told = told.unwrap();
                        let reads = matches!(asked(*kind), Operation::Get { .. });
                        if let Some(stands) = &stands[place] && !reads {
                            prop_assert_eq!(&told, stands, "{}", place);
                        }
                        let changed = p.position() > before;
                        if repeated || changed {
                            stands[place] = Some(told);
                        }
                    }
                    prop_assert!(!done || p.position() == before, "it takes effect once");
                }
            }
            p.check_invariants();
        }
    }
}
