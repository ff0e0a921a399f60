//! Requests that take several turns.

use super::*;

/// So many increments of as many keys: more than go into a turn.
fn increments(pair: &Pair, repeated: bool) -> (Arc<Message>, Vec<Placed>) {
    let count = u32::try_from(SCAN_ENTRIES).unwrap() * 2 + 1;
    let step = |place: u32| {
        let key = Bytes::copy_from_slice(&place.to_le_bytes());
        Step { map: 0, key, kind: StepKind::Increment { delta: 1 } }
    };
    let source = Arc::new(Source::Steps((0..count).map(step).collect()));
    let client = ClientId { issued: GridTime(1), random: 7 };
    let id = RequestId { client, sequence: 1, oldest_pending: 0, repeated };
    let held = Arc::new(InFlight::new(1 << 30)).count(0);
    let mut message = Message::new(source, (Some(id), ReadMode::Linearizable), 1 << 20, held);
    message.maps.push(Some(Ok(Maps::default().publish(&pair.map))));
    (Arc::new(message), (0..count).map(|place| Placed { partition: ID, place }).collect())
}

#[tokio::test]
async fn a_successor_goes_on_behind_the_last_turn() {
    let mut pair = Pair::new();
    let (message, places) = increments(&pair, false);
    let mut part = SlowPart::new(Arc::clone(&message), &places);
    assert!(matches!(pair.take_turn(0, (&mut part, &message)), Turn::Again));
    pair.deliver();
    // What the second turn does is lost with its primary.
    assert!(matches!(pair.take_turn(0, (&mut part, &message)), Turn::Again));
    pair.network.lock().clear();
    pair.decide(1);
    pair.deliver();
    let (message, places) = increments(&pair, true);
    let mut part = SlowPart::new(Arc::clone(&message), &places);
    let results = loop {
        if let Turn::Done(results) = pair.take_turn(1, (&mut part, &message)) {
            break results;
        }
    };
    assert_eq!(results.len(), places.len());
    for (place, result) in results {
        let OwnedResult::Answer(Answer::Incremented { value, .. }) = result else { panic!("{result:?}") };
        assert_eq!(value, 1, "increment {place} took effect once");
    }
}

#[tokio::test]
async fn who_is_alone_says_between_two_turns_what_was_done_too() {
    let mut pair = Pair::new();
    let alone = BTreeSet::from([MEMBERS[0]]);
    let version = pair.assignment.version + 1;
    let (in_sync, wanted) = (alone.clone(), alone);
    pair.assignment = Assignment { version, in_sync, wanted, ..pair.assignment };
    pair.tell(0);
    let (message, places) = increments(&pair, false);
    let mut part = SlowPart::new(Arc::clone(&message), &places);
    assert!(matches!(pair.take_turn(0, (&mut part, &message)), Turn::Again));
    // By the next turn another may have joined it, and decide.
    let known = pair.nodes[0].strand(ID).try_run(|shard| {
        assert!(!shard.copy.has_peers());
        shard.with(|partition, _| matches!(partition.admit(&message.id.unwrap()), Admission::Known(_)))
    });
    assert!(known.map_err(drop).unwrap());
}

#[tokio::test]
async fn work_that_ends_between_two_turns_leaves_nothing_behind() {
    let pair = Pair::new();
    let (message, places) = increments(&pair, false);
    let id = message.id.unwrap();
    let is_taking_turns = || {
        let asked = pair.nodes[0].strand(ID).try_run(|shard| shard.is_taking_turns(&id));
        asked.map_err(drop).unwrap()
    };
    let mut part = SlowPart::new(Arc::clone(&message), &places);
    assert!(matches!(pair.take_turn(0, (&mut part, &message)), Turn::Again));
    assert!(is_taking_turns());
    drop((part, message));
    assert!(!is_taking_turns());
}
