//! Names, keys, values, batches and conditions.

use std::time::Duration;

use tonic::Code;
use wattle_client::{
    ContentType, MapChanges, MapOptions, Operation, PutOptions, ScanOptions, TtlChange, WatchFrom,
};

use super::{KEY, MAP, Refusal, Scene, refusal};
use crate::harness::guest::Guest;
use wattle_core::limits::{BATCH_BYTES, BATCH_OPERATIONS, KEY_BYTES, NAME_BYTES, VALUE_BYTES};

const NO_MAP: Refusal = refusal(Code::NotFound, "MAP_NOT_FOUND", "there is no map nowhere");

#[tokio::test]
async fn calls_on_an_unknown_map_say_its_name() {
    let scene = Scene::start().await;
    let map = scene.client.raw_map("nowhere");
    scene.check_refused(map.get("k").await, NO_MAP.of_read()).await;
    scene.check_refused(map.remove("k").await, NO_MAP).await;
    scene.check_refused(map.touch("k", TtlChange::Clear).await, NO_MAP).await;
    scene.check_refused(map.size().await, NO_MAP.of_read()).await;
    scene.check_refused(map.clear().await, NO_MAP).await;
    scene.check_refused(map.scan(ScanOptions::new()).next().await, NO_MAP.of_read()).await;
    scene.check_refused(map.watch("", WatchFrom::Now).next().await, NO_MAP.of_read()).await;
    let maps = scene.client.maps();
    scene.check_refused(maps.describe("nowhere").await, NO_MAP.of_read()).await;
    scene.check_refused(maps.update("nowhere", &MapChanges::new()).await, NO_MAP).await;
    scene.check_refused(maps.delete("nowhere").await, NO_MAP).await;
}

#[tokio::test]
async fn a_map_that_exists_is_not_created_again() {
    let scene = Scene::start().await;
    let again = scene.client.maps().create(MAP, &MapOptions::new()).await;
    scene.check_refused(again, refusal(Code::AlreadyExists, "MAP_EXISTS", MAP)).await;
}

#[tokio::test]
async fn a_write_to_another_version_changes_nothing_and_tells_the_version() {
    let scene = Scene::start().await;
    let version = scene.before.version;
    let wrong = || refusal(Code::FailedPrecondition, "VERSION_MISMATCH", "version");
    let put = scene.map.put_with(KEY, "other", PutOptions::new().if_version(version + 1)).await;
    assert!(
        matches!(&put, Err(wattle_client::Error::VersionMismatch { current: Some(found), .. }) if *found == version),
        "{put:?}"
    );
    scene.check_refused(put, wrong()).await;
    scene.check_refused(scene.map.remove_if_version(KEY, version + 1).await, wrong()).await;
    let exists = scene.map.put_with(KEY, "other", PutOptions::new().if_absent()).await;
    scene.check_refused(exists, refusal(Code::AlreadyExists, "ALREADY_EXISTS", "")).await;
}

#[tokio::test]
async fn a_key_has_at_most_64_kib() {
    let scene = Scene::start().await;
    let map = scene.client.raw_map("m");
    map.put(vec![b'k'; KEY_BYTES], "v").await.unwrap();
    assert_eq!(map.get(vec![b'k'; KEY_BYTES]).await.unwrap().unwrap().value, "v");
    let over = || vec![b'k'; KEY_BYTES + 1];
    let too_large = || refusal(Code::InvalidArgument, "TOO_LARGE", "key has 65537 bytes, at most 65536");
    scene.check_refused(map.put(over(), "v").await, too_large()).await;
    scene.check_refused(map.get(over()).await, too_large().of_read()).await;
    assert_eq!(map.size().await.unwrap(), 1);
}

#[tokio::test]
async fn a_value_has_at_most_1_mib() {
    let scene = Scene::start().await;
    let most = vec![b'v'; VALUE_BYTES];
    let map = scene.client.raw_map("m");
    map.put("k", most.clone()).await.unwrap();
    assert_eq!(map.get("k").await.unwrap().unwrap().value, most);
    let over = scene.map.put(KEY, vec![b'v'; VALUE_BYTES + 1]).await;
    let says = "value has 1048577 bytes, at most 1048576";
    let failure = scene.check_refused(over, refusal(Code::InvalidArgument, "TOO_LARGE", says)).await;
    assert_eq!(failure.fact("limit"), Some("1048576"));
}

/// Puts of 512 KiB each, their keys included; the last has so many bytes more.
fn batch_of(bytes: usize) -> Vec<Operation> {
    let puts = (0..16).map(|n| {
        let key = format!("key-{n:02}");
        let size = bytes / 16 + if n == 0 { bytes % 16 } else { 0 } - key.len();
        Operation::Put { key: key.into(), value: vec![b'v'; size].into(), options: PutOptions::new() }
    });
    puts.collect()
}

#[tokio::test]
async fn a_batch_has_at_most_8_mib() {
    let scene = Scene::start().await;
    let map = scene.client.raw_map("m");
    let over = map.batch(batch_of(BATCH_BYTES + 1)).await;
    let says = "batch has 8388609 bytes, at most 8388608";
    scene.check_refused(over, refusal(Code::InvalidArgument, "TOO_LARGE", says)).await;
    let not_made = refusal(Code::NotFound, "MAP_NOT_FOUND", "there is no map m").of_read();
    scene.check_refused(map.size().await, not_made).await;
    let answers = map.batch(batch_of(BATCH_BYTES)).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(map.size().await.unwrap(), 16);
}

#[tokio::test]
async fn a_batch_has_at_most_65536_operations() {
    let scene = Scene::start().await;
    let gets = |count| (0..count).map(|_| Operation::Get { key: KEY.into() }).collect::<Vec<_>>();
    let over = scene.map.batch(gets(BATCH_OPERATIONS + 1)).await;
    let says = "operations";
    scene.check_refused(over, refusal(Code::InvalidArgument, "TOO_LARGE", says)).await;
    let answers = scene.map.batch(gets(BATCH_OPERATIONS)).await.unwrap();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), BATCH_OPERATIONS);
}

#[tokio::test]
async fn a_message_past_what_is_decoded_is_refused_before_it_is_read() {
    let scene = Scene::start().await;
    let answer = scene.map.put(KEY, vec![0; 13 << 20]).await.unwrap_err();
    let failure = answer.failure().unwrap();
    assert_eq!(
        (failure.code(), failure.outcome()),
        (Code::OutOfRange, Some(wattle_client::Outcome::NotApplied))
    );
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_name_has_at_most_128_bytes_of_a_few_kinds() {
    let scene = Scene::start().await;
    let maps = scene.client.maps();
    let longest = "n".repeat(NAME_BYTES);
    assert_eq!(maps.create(&longest, &MapOptions::new()).await.unwrap().name, longest);
    let bad = || refusal(Code::InvalidArgument, "INVALID_NAME", "");
    for name in [&*"n".repeat(NAME_BYTES + 1), "", "two words", "a/b", "grün"] {
        scene.check_refused(maps.create(name, &MapOptions::new()).await, bad()).await;
        scene.check_refused(scene.client.raw_map(name).put("k", "v").await, bad()).await;
        scene.check_refused(scene.upload(name, &Guest::counter()).await, bad()).await;
    }
    assert_eq!(maps.list().await.unwrap().len(), 3, "the longest, the one before and the good one");
}

#[tokio::test]
async fn a_time_to_live_has_its_bounds() {
    let scene = Scene::start().await;
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    scene.client.raw_map("m").put_with("k", "v", PutOptions::new().ttl(century)).await.unwrap();
    let bad = || refusal(Code::InvalidArgument, "INVALID_ARGUMENT", "ttl");
    let long = PutOptions::new().ttl(century + Duration::from_secs(1));
    scene.check_refused(scene.map.put_with(KEY, "v", long).await, bad()).await;
    scene.check_refused(scene.map.set_ttl(KEY, Duration::ZERO).await, bad()).await;
}

#[tokio::test]
async fn only_integers_are_incremented() {
    let scene = Scene::start().await;
    let not = || refusal(Code::FailedPrecondition, "NOT_AN_INTEGER", "");
    scene.check_refused(scene.map.increment(KEY, 1).await, not()).await;
    let map = scene.client.raw_map("m");
    map.put("most", i64::MAX.to_string()).await.unwrap();
    scene.check_refused(map.increment("most", 1).await, not()).await;
    assert_eq!(map.get("most").await.unwrap().unwrap().value, i64::MAX.to_string());
}

#[tokio::test]
async fn a_value_that_is_not_of_the_maps_content_type_is_refused() {
    let scene = Scene::start().await;
    for (content_type, name, good, bad, expected) in [
        (ContentType::Json, "json", &b"{\"a\":1}"[..], &b"{\"a\":"[..], "the value is not JSON"),
        (ContentType::Text, "text", b"gr\xc3\xbcn", b"gr\xfcn", "the value is not text (UTF-8)"),
        (ContentType::MessagePack, "packed", b"\x92\x01\xc0", b"\x92\x01", "the value is not MessagePack"),
    ] {
        let options = MapOptions::new().content_type(content_type);
        scene.client.maps().create(name, &options).await.unwrap();
        let map = scene.client.raw_map(name);
        map.put("k", good).await.unwrap();
        let before = map.get("k").await.unwrap();
        let refused = refusal(Code::InvalidArgument, "INVALID_VALUE", expected);
        scene.check_refused(map.put("k", bad).await, refused).await;
        assert_eq!(map.get("k").await.unwrap(), before);
    }
}

#[tokio::test]
async fn an_effect_that_is_not_of_the_maps_content_type_is_refused() {
    let scene = Scene::start().await;
    scene.client.maps().create("json", &MapOptions::new().content_type(ContentType::Json)).await.unwrap();
    let map = scene.client.raw_map("json");
    map.put("k", "[1, 2]").await.unwrap();
    let before = map.get("k").await.unwrap();
    // It puts eight bytes, which are no JSON.
    scene.upload("count", &Guest::counter()).await.unwrap();
    let answer = map.invoke("count", "absent", "").await;
    let refused = || refusal(Code::InvalidArgument, "INVALID_VALUE", "the value is not JSON");
    scene.check_refused(answer, refused()).await;
    assert_eq!(map.get("absent").await.unwrap(), None);
    let mut parts = map.invoke_all("count", "", wattle_client::Responses::Collect).await.unwrap();
    let mut failures = 0;
    while let Some(part) = parts.next().await.unwrap() {
        for entry in part.entries {
            scene.check_refused(entry.response, refused()).await;
            failures += 1;
        }
    }
    assert_eq!((failures, map.get("k").await.unwrap()), (1, before));
    // Elsewhere the same effect is welcome.
    assert_eq!(
        scene.client.raw_map("bytes").invoke("count", "k", "").await.unwrap().response,
        1_u64.to_le_bytes()[..]
    );
}
