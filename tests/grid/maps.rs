//! What maps and operations on single keys promise.

use std::collections::HashSet;
use std::time::Duration;

use tonic::Code;
use wattle_client::{
    Answer, Client, ContentType, Error, EvictionPolicy, Json, MapChanges, MapOptions, MessagePack, Operation,
    Outcome, Postcard, PutOptions, Raw, ScanOptions, Text, TtlChange, UploadOptions,
};

use crate::harness::TestNode;
use crate::harness::guest::Guest;

async fn client() -> (TestNode, Client) {
    let node = TestNode::start();
    let client = node.client().await;
    (node, client)
}

/// Expects a refusal that changed nothing.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, code: Code, reason: &str) {
    assert_eq!(facts(result), (code, reason.to_owned(), Some(Outcome::NotApplied)));
}

/// Expects a read, which has no outcome, to find no map.
#[track_caller]
fn assert_no_map<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert_eq!(facts(result), (Code::NotFound, "MAP_NOT_FOUND".to_owned(), None));
}

#[track_caller]
fn facts<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String, Option<Outcome>) {
    let error = result.expect_err("it is refused");
    let failure = error.failure().unwrap_or_else(|| panic!("{error:?} is not the node's"));
    (failure.code(), failure.reason().unwrap_or_default().to_owned(), failure.outcome())
}

#[tokio::test]
async fn a_map_is_described_as_it_was_created() {
    let (_node, client) = client().await;
    let options = MapOptions::new()
        .content_type(ContentType::Json)
        .ttl(Duration::from_millis(1500))
        .max_idle(Duration::from_secs(9))
        .max_bytes(1 << 20)
        .eviction(EvictionPolicy::Lfu);
    let created = client.maps().create("m", &options).await.unwrap();
    assert_eq!((created.name.as_str(), created.revision), ("m", 1));
    let wire = created.options.unwrap();
    assert_eq!((wire.content_type(), wire.eviction()), (ContentType::Json, EvictionPolicy::Lfu));
    assert_eq!(wire.ttl, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
    assert_eq!(wire.max_idle, Some(prost_types::Duration { seconds: 9, nanos: 0 }));
    assert_eq!(wire.max_bytes, 1 << 20);
    let (described, statistics) = client.maps().describe("m").await.unwrap();
    assert_eq!(described, created);
    assert_eq!(statistics, wattle_client::api::MapStatistics::default());
    assert_refused(client.maps().create("m", &options).await, Code::AlreadyExists, "MAP_EXISTS");
}

#[tokio::test]
async fn maps_are_listed_by_name() {
    let (_node, client) = client().await;
    for name in ["b", "a", "c"] {
        client.maps().create(name, &MapOptions::new()).await.unwrap();
    }
    client.maps().delete("b").await.unwrap();
    let names: Vec<_> = client.maps().list().await.unwrap().into_iter().map(|map| map.name).collect();
    assert_eq!(names, ["a", "c"]);
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let (_node, client) = client().await;
    let options = MapOptions::new().ttl(Duration::from_secs(60)).max_bytes(1 << 20);
    client.maps().create("m", &options).await.unwrap();
    let changes = MapChanges::new().max_idle(Duration::from_secs(5)).eviction(EvictionPolicy::Lru);
    let updated = client.maps().update("m", &changes).await.unwrap();
    assert_eq!(updated.revision, 2);
    let wire = updated.options.unwrap();
    assert_eq!((wire.ttl.unwrap().seconds, wire.max_idle.unwrap().seconds), (60, 5));
    assert_eq!((wire.max_bytes, wire.eviction()), (1 << 20, EvictionPolicy::Lru));
    let without = MapChanges::new().ttl(Duration::ZERO).max_bytes(0);
    let refused = client.maps().update("m", &without).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_ARGUMENT");
    let without = without.eviction(EvictionPolicy::None);
    let without = client.maps().update("m", &without).await.unwrap();
    assert_eq!(without.revision, 3);
    let wire = without.options.unwrap();
    assert_eq!((wire.ttl, wire.max_bytes, wire.max_idle.unwrap().seconds), (None, 0, 5));
    let unknown = client.maps().update("none", &MapChanges::new()).await;
    assert_refused(unknown, Code::NotFound, "MAP_NOT_FOUND");
}

#[tokio::test]
async fn a_changed_ttl_is_that_of_later_writes() {
    let (_node, client) = client().await;
    client.maps().create("m", &MapOptions::new()).await.unwrap();
    let map = client.raw_map("m");
    map.put("before", "v").await.unwrap();
    client.maps().update("m", &MapChanges::new().ttl(Duration::from_secs(3600))).await.unwrap();
    map.put("after", "v").await.unwrap();
    map.put_with("for ever", "v", PutOptions::new().keep_for_ever()).await.unwrap();
    map.put_with("own", "v", PutOptions::new().ttl(Duration::from_secs(7200))).await.unwrap();
    let ttl = async |key: &'static str| map.lifetime(key).await.unwrap().unwrap().ttl;
    assert_eq!((ttl("before").await, ttl("for ever").await), (None, None));
    let hour = ttl("after").await.unwrap();
    assert!(hour <= Duration::from_secs(3600) && hour > Duration::from_secs(3500), "{hour:?}");
    let own = ttl("own").await.unwrap();
    assert!(own <= Duration::from_secs(7200) && own > Duration::from_secs(7100), "{own:?}");
}

#[tokio::test]
async fn a_limit_that_is_set_live_refuses_and_an_eviction_policy_makes_room() {
    let (_node, client) = client().await;
    client.maps().create("m", &MapOptions::new()).await.unwrap();
    let map = client.raw_map("m");
    let value = vec![b'v'; 1000];
    // One partition, so that its share of the limit counts.
    let key = |n: usize| format!("{{t}}{n}");
    for n in 0..10 {
        map.put(key(n), value.clone()).await.unwrap();
    }
    client.maps().update("m", &MapChanges::new().max_bytes(271 * 5000)).await.unwrap();
    assert_refused(map.put(key(10), value.clone()).await, Code::ResourceExhausted, "MAP_FULL");
    assert_eq!(map.size().await.unwrap(), 10, "what is there stays");
    client.maps().update("m", &MapChanges::new().eviction(EvictionPolicy::Lru)).await.unwrap();
    map.put(key(11), value.clone()).await.unwrap();
    assert_eq!(map.get(key(11)).await.unwrap().unwrap().value, value);
    let (_, statistics) = client.maps().describe("m").await.unwrap();
    assert!(statistics.bytes <= 5000, "{statistics:?}");
    assert_eq!(statistics.evictions + statistics.entries, 11, "{statistics:?}");
}

#[tokio::test]
async fn the_name_of_a_deleted_map_makes_another_map() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    map.put("k", "old").await.unwrap();
    let (old, _) = client.maps().describe("m").await.unwrap();
    client.maps().delete("m").await.unwrap();
    assert_no_map(map.get("k").await);
    assert_refused(client.maps().delete("m").await, Code::NotFound, "MAP_NOT_FOUND");
    map.put("other", "new").await.unwrap();
    let (new, statistics) = client.maps().describe("m").await.unwrap();
    assert!(new.id > old.id, "ids are never used again");
    assert_eq!((statistics.entries, map.get("k").await.unwrap()), (1, None));
}

#[tokio::test]
async fn reads_and_removals_never_create_a_map() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    let (code, reason) = (Code::NotFound, "MAP_NOT_FOUND");
    assert_no_map(map.get("k").await);
    assert_refused(map.remove("k").await, code, reason);
    assert_refused(map.get_and_remove("k").await, code, reason);
    assert_refused(map.lifetime("k").await, code, reason);
    assert_refused(map.set_ttl("k", Duration::from_secs(1)).await, code, reason);
    assert_no_map(map.size().await);
    assert_refused(map.clear().await, code, reason);
    assert_no_map(map.scan(ScanOptions::new()).next().await);
    assert_no_map(client.maps().describe("m").await);
    assert_eq!(client.maps().list().await.unwrap(), []);
}

#[tokio::test]
async fn every_kind_of_first_write_creates_the_map() {
    let (_node, client) = client().await;
    client.raw_map("put").put("k", "v").await.unwrap();
    client.raw_map("increment").increment("k", 1).await.unwrap();
    let put = Operation::Put { key: "k".into(), value: "v".into(), options: PutOptions::new() };
    client.raw_map("batch").batch(vec![put]).await.unwrap().remove(0).unwrap();
    client.raw_map("get-and-put").get_and_put("k", "v", PutOptions::new()).await.unwrap();
    let names: HashSet<_> = client.maps().list().await.unwrap().into_iter().map(|map| map.name).collect();
    assert_eq!(names, ["put", "increment", "batch", "get-and-put"].map(str::to_owned).into());
}

#[tokio::test]
async fn an_invocation_creates_the_map_unless_its_function_only_reads() {
    let (_node, client) = client().await;
    let functions = client.functions();
    let keep = Guest::simple("(i32.const 2048)");
    functions.upload("write", keep.module(), &UploadOptions::new()).await.unwrap();
    functions.upload("read", keep.read_only().module(), &UploadOptions::new()).await.unwrap();
    let map = client.raw_map("m");
    let (code, reason) = (Code::NotFound, "MAP_NOT_FOUND");
    assert_refused(map.invoke("read", "k", "").await, code, reason);
    let mut parts = map.invoke_keys("read", ["k"], "").await.unwrap();
    let entry = parts.next().await.unwrap().unwrap().entries.remove(0);
    assert_refused(entry.response, code, reason);
    assert_refused(map.invoke("none", "k", "").await, code, "FUNCTION_NOT_FOUND");
    assert_eq!(client.maps().list().await.unwrap(), []);
    map.invoke("write", "k", "").await.unwrap();
    map.invoke("read", "k", "").await.unwrap();
    assert_eq!(map.size().await.unwrap(), 0);
}

#[tokio::test]
async fn put_conditions_hold_or_nothing_happens() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    let first = map.put_with("k", "1", PutOptions::new().if_absent()).await.unwrap();
    let taken = map.put_with("k", "2", PutOptions::new().if_absent()).await;
    assert_refused(taken, Code::AlreadyExists, "ALREADY_EXISTS");
    let second = map.put_with("k", "2", PutOptions::new().if_version(first)).await.unwrap();
    assert!(second > first);
    let stale = map.put_with("k", "3", PutOptions::new().if_version(first)).await;
    let Err(Error::VersionMismatch { current, .. }) = &stale else { panic!("{stale:?}") };
    assert_eq!(*current, Some(second));
    assert_refused(stale, Code::FailedPrecondition, "VERSION_MISMATCH");
    // Version 0 stands for no entry.
    let absent = map.put_with("k", "3", PutOptions::new().if_version(0)).await;
    assert_refused(absent, Code::FailedPrecondition, "VERSION_MISMATCH");
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "2");
    map.put_with("new", "1", PutOptions::new().if_version(0)).await.unwrap();
    let nothing = map.put_with("none", "1", PutOptions::new().if_version(7)).await;
    assert_refused(nothing, Code::FailedPrecondition, "VERSION_MISMATCH");
    assert_eq!(map.get("none").await.unwrap(), None);
}

#[tokio::test]
async fn remove_conditions_hold_or_nothing_happens() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    let old = map.put("k", "1").await.unwrap();
    let new = map.put("k", "2").await.unwrap();
    assert_refused(map.remove_if_version("k", old).await, Code::FailedPrecondition, "VERSION_MISMATCH");
    assert_eq!(map.get("k").await.unwrap().unwrap().version, new);
    assert!(map.remove_if_version("k", new).await.unwrap());
    assert!(!map.remove("k").await.unwrap());
    assert_refused(map.remove_if_version("k", new).await, Code::FailedPrecondition, "VERSION_MISMATCH");
}

#[tokio::test]
async fn get_and_put_and_get_and_remove_answer_what_was_there() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    let first = map.get_and_put("k", "1", PutOptions::new()).await.unwrap();
    assert_eq!(first.previous, None);
    let second = map.get_and_put("k", "2", PutOptions::new().if_version(first.version)).await.unwrap();
    assert_eq!(second.previous.unwrap(), "1");
    assert_eq!(map.get_and_remove("k").await.unwrap().unwrap(), "2");
    assert_eq!(map.get_and_remove("k").await.unwrap(), None);
}

#[tokio::test]
async fn versions_rise_over_removals_too() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    let mut last = 0;
    for round in 0..10 {
        let version = map.put("k", format!("{round}")).await.unwrap();
        assert!(version > last);
        assert_eq!(map.get("k").await.unwrap().unwrap().version, version);
        last = version;
        assert!(map.remove("k").await.unwrap());
    }
}

async fn counts_in(client: &Client, content_type: ContentType, three: &[u8]) {
    let name = format!("{content_type:?}");
    client.maps().create(&name, &MapOptions::new().content_type(content_type)).await.unwrap();
    let map = client.raw_map(&name);
    assert_eq!(map.increment("n", 5).await.unwrap().value, 5);
    let down = map.increment("n", -2).await.unwrap();
    assert_eq!(down.value, 3);
    let entry = map.get("n").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.version), (three, down.version), "{name}");
    map.increment("n", i64::MAX - 3).await.unwrap();
    assert_refused(map.increment("n", 1).await, Code::FailedPrecondition, "NOT_AN_INTEGER");
    assert_eq!(map.increment("n", 0).await.unwrap().value, i64::MAX);
    assert_eq!(map.increment("least", i64::MIN).await.unwrap().value, i64::MIN);
}

#[tokio::test]
async fn increments_count_in_every_content_type() {
    let (_node, client) = client().await;
    counts_in(&client, ContentType::Bytes, b"3").await;
    counts_in(&client, ContentType::Text, b"3").await;
    counts_in(&client, ContentType::Json, b"3").await;
    counts_in(&client, ContentType::MessagePack, &[3]).await;
}

#[tokio::test]
async fn an_increment_of_what_is_no_number_changes_nothing() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    for value in ["", "much", "1.5", " 1", "9223372036854775808"] {
        map.put("k", value).await.unwrap();
        assert_refused(map.increment("k", 1).await, Code::FailedPrecondition, "NOT_AN_INTEGER");
        assert_eq!(map.get("k").await.unwrap().unwrap().value, value);
    }
}

#[tokio::test]
async fn touch_reads_sets_and_clears_the_time_to_live() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    map.put("k", "v").await.unwrap();
    assert_eq!(map.lifetime("k").await.unwrap().unwrap().ttl, None);
    let set = map.set_ttl("k", Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(set.ttl, Some(Duration::from_secs(60)));
    assert_eq!(set.version, map.get("k").await.unwrap().unwrap().version);
    map.increment("n", 1).await.unwrap();
    map.set_ttl("n", Duration::from_secs(60)).await.unwrap().unwrap();
    map.increment("n", 1).await.unwrap();
    assert!(map.lifetime("n").await.unwrap().unwrap().ttl.is_some(), "an increment leaves the time to live");
    assert_eq!(map.touch("k", TtlChange::Clear).await.unwrap().unwrap().ttl, None);
    assert_eq!(map.lifetime("k").await.unwrap().unwrap().ttl, None);
    assert_eq!(map.set_ttl("none", Duration::from_secs(1)).await.unwrap(), None);
    assert_refused(map.set_ttl("k", Duration::ZERO).await, Code::InvalidArgument, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_batch_answers_in_order_and_one_failure_stops_nothing() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    map.put("text", "no number").await.unwrap();
    let put = |key: &'static str, options| Operation::Put { key: key.into(), value: key.into(), options };
    let operations = vec![
        put("a", PutOptions::new()),
        Operation::Get { key: "a".into() },
        Operation::Increment { key: "text".into(), delta: 1 },
        put("a", PutOptions::new().if_absent()),
        Operation::RemoveIfVersion { key: "text".into(), version: 99 },
        Operation::Invoke { key: "a".into(), function: "none".into(), argument: "".into() },
        Operation::Increment { key: "n".into(), delta: 4 },
        Operation::Touch { key: "none".into(), change: TtlChange::Read },
        Operation::GetAndRemove { key: "a".into() },
        Operation::Get { key: "a".into() },
    ];
    let answers = map.batch(operations).await.unwrap();
    let reasons: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().err().and_then(|error| error.reason())).collect();
    let failed = [
        Some("NOT_AN_INTEGER"),
        Some("ALREADY_EXISTS"),
        Some("VERSION_MISMATCH"),
        Some("FUNCTION_NOT_FOUND"),
    ];
    assert_eq!(reasons[2..6], failed);
    assert_eq!(reasons.iter().flatten().count(), 4);
    let good: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
    assert!(matches!(&good[0], Answer::Written(_)));
    assert!(matches!(&good[1], Answer::Value(Some(entry)) if entry.value == "a"));
    assert!(matches!(&good[2], Answer::Incremented(counted) if counted.value == 4));
    assert_eq!(good[3], Answer::Lifetime(None));
    assert!(matches!(&good[4], Answer::Removed(removed) if removed.previous.as_deref() == Some(b"a")));
    assert_eq!(good[5], Answer::Value(None));
    assert_eq!(map.get("text").await.unwrap().unwrap().value, "no number");
    assert_eq!(map.get("n").await.unwrap().unwrap().value, "4");
}

#[tokio::test]
async fn keys_with_the_same_tag_lie_in_one_partition() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    // The versions of one partition follow one another; other keys go elsewhere.
    let mut versions = Vec::new();
    for n in 0..50 {
        versions.push(map.put(format!("{n}{{tag}}{n}"), "v").await.unwrap());
    }
    let first = versions[0];
    assert_eq!(versions, (first..first + 50).collect::<Vec<u64>>());
    let mut others = Vec::new();
    for n in 0..50 {
        others.push(map.put(format!("{n}tag{n}"), "v").await.unwrap());
    }
    let followed = others.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
    assert!(followed < 25, "{followed} of 50 keys without tags followed the one before");
}

#[tokio::test]
async fn size_and_clear_count_what_is_there() {
    let (_node, client) = client().await;
    let map = client.raw_map("m");
    let entries = (0..500).map(|n| (format!("k{n}"), "v"));
    for written in map.put_many(entries, PutOptions::new()).await.unwrap() {
        written.unwrap();
    }
    map.remove("k7").await.unwrap();
    assert_eq!(map.size().await.unwrap(), 499);
    let other = client.raw_map("other");
    other.put("k", "v").await.unwrap();
    assert_eq!(map.clear().await.unwrap(), 499);
    assert_eq!((map.size().await.unwrap(), map.clear().await.unwrap()), (0, 0));
    assert_eq!(map.get("k1").await.unwrap(), None);
    assert_eq!(other.size().await.unwrap(), 1);
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Flight {
    carrier: String,
    delay: Option<i32>,
    stops: Vec<String>,
}

macro_rules! typed_map_keeps_values {
    ($($name:ident: $codec:ty;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let (_node, client) = client().await;
            let map = client.map_with::<u64, Flight, $codec>("m");
            let flight = Flight { carrier: "ÖBB".into(), delay: Some(-4), stops: vec!["JFK".into(), String::new()] };
            let version = map.put(&7, &flight).await.unwrap();
            let found = map.get(&7).await.unwrap().unwrap();
            assert_eq!((&found.value, found.version), (&flight, version));
            let on_time = Flight { delay: None, ..flight.clone() };
            let written = map.get_and_put(&7, &on_time, PutOptions::new()).await.unwrap();
            assert_eq!(written.previous.as_ref(), Some(&flight));
            for written in map.put_many([(&8, &flight), (&9, &on_time)], PutOptions::new()).await.unwrap() {
                written.unwrap();
            }
            let many = map.get_many(&[9, 1, 8]).await.unwrap();
            let many: Vec<_> = many.into_iter().map(|found| found.map(|found| found.value)).collect();
            assert_eq!(many, [Some(on_time.clone()), None, Some(flight)]);
            let mut scan = map.scan(ScanOptions::new());
            let mut keys = HashSet::new();
            while let Some(entry) = scan.next().await.unwrap() {
                keys.insert(entry.key);
            }
            assert_eq!(keys, HashSet::from([7, 8, 9]));
            assert_eq!(map.get_and_remove(&7).await.unwrap(), Some(on_time));
        }
    )*};
}

typed_map_keeps_values! {
    a_typed_map_keeps_values_in_json: Json;
    a_typed_map_keeps_values_in_messagepack: MessagePack;
    a_typed_map_keeps_values_in_postcard: Postcard;
}

#[tokio::test]
async fn typed_maps_of_text_and_bytes_keep_values_as_they_are() {
    let (_node, client) = client().await;
    let text = client.map_with::<String, String, Text>("text");
    text.put("k", &"grüß dich".to_owned()).await.unwrap();
    assert_eq!(text.get("k").await.unwrap().unwrap().value, "grüß dich");
    let raw = client.map_with::<String, Vec<u8>, Raw>("raw");
    raw.put("k", &vec![0, 255]).await.unwrap();
    assert_eq!(raw.get("k").await.unwrap().unwrap().value, [0, 255]);
    assert_eq!(client.raw_map("text").get("k").await.unwrap().unwrap().value, "grüß dich");
}
