//! Functions that refuse entries at length: what they say is cut, and counts as part of the answer.

use bytes::Bytes;
use tonic::Code;
use wattle::config::RawConfig;
use wattle_client::{PutOptions, Responses};
use wattle_core::limits::{ANSWER_BYTES, SCAN_BYTES, SCAN_ENTRIES};
use wattle_proto::v1;

use super::{KEY, MAP, Scene, refusal};
use crate::harness::guest::Guest;
use crate::harness::wire::Wire;

/// What is left of a message, in bytes; the answer says it twice, to people and to programs.
const CUT: usize = 4 << 10;
/// More than a few turns take, all of one partition.
const ENTRIES: usize = 3000;

/// Refuses each entry with code 7 and the same 16 KiB of text.
const VERBOSE: &str = "
  (local $count i32) (local $place i32) (local $slot i32) (local $text i32)
  (local.set $count (i32.load offset=8 (local.get $frame)))
  (local.set $text (i32.add (i32.const 16) (i32.mul (local.get $count) (i32.const 32))))
  (block $done (loop $next
    (br_if $done (i32.eq (local.get $place) (local.get $count)))
    (local.set $slot (i32.add (i32.const 131088) (i32.mul (local.get $place) (i32.const 32))))
    (i64.store (local.get $slot) (i64.const 0x700000004))
    (i64.store offset=8 (local.get $slot) (i64.const 0))
    (i32.store offset=16 (local.get $slot) (local.get $text))
    (i32.store offset=20 (local.get $slot) (i32.const 16384))
    (i64.store offset=24 (local.get $slot) (i64.const 0))
    (local.set $place (i32.add (local.get $place) (i32.const 1)))
    (br $next)))
  (memory.fill (i32.add (i32.const 131072) (local.get $text)) (i32.const 120) (i32.const 16384))
  (i32.store (i32.const 131072) (i32.const 1))
  (i32.store offset=4 (i32.const 131072) (local.get $count))
  (i32.store offset=8 (i32.const 131072) (i32.add (local.get $text) (i32.const 16384)))
  (call $return (i32.const 131072) (i32.add (local.get $text) (i32.const 16384)))";

/// Refuses its batch with as much text, and so, when it gets them one by one, each entry.
const REFUSING: &str = "
  (memory.fill (i32.const 131072) (i32.const 120) (i32.const 16384))
  (global.set $arena (i32.const 1048576))
  (i32.store8 (i32.const 2048) (i32.const 1))
  (i32.store offset=4 (i32.const 2048) (i32.const 7))
  (i32.store offset=8 (i32.const 2048) (i32.const 131072))
  (i32.store offset=12 (i32.const 2048) (i32.const 16384))
  (i32.const 2048)";

async fn scene() -> Scene {
    let scene = Scene::with(RawConfig { partitions: Some(1), ..RawConfig::default() }).await;
    scene.upload("verbose", &Guest::doing(VERBOSE)).await.unwrap();
    scene.upload("refusing", &Guest::doing(REFUSING)).await.unwrap();
    scene
}

fn keys() -> impl Iterator<Item = Bytes> {
    (0..ENTRIES).map(|n| n.to_string().into())
}

#[tokio::test]
async fn what_a_function_says_is_cut() {
    let scene = scene().await;
    let failed =
        refusal(Code::FailedPrecondition, "FUNCTION_FAILED", "the function failed with code 7: xxxx");
    let failure = scene.check_refused(scene.map.invoke("verbose", KEY, "").await, failed).await;
    assert_eq!(failure.fact("function_message").map(str::len), Some(CUT));
}

#[tokio::test]
async fn what_a_function_says_about_keys_fills_the_answer() {
    let scene = scene().await;
    for function in ["verbose", "refusing"] {
        check_keys_fill_the_answer(&scene, function).await;
    }
    scene.check_unharmed().await;
}

async fn check_keys_fill_the_answer(scene: &Scene, function: &str) {
    let wire = Wire::to(&scene.node).await;
    let mut compute = wire.compute.max_decoding_message_size(ANSWER_BYTES + SCAN_ENTRIES * 3 * CUT);
    let request = v1::InvokeKeysRequest {
        function: function.into(),
        map: MAP.into(),
        keys: keys().collect(),
        ..Default::default()
    };
    let mut parts = compute.invoke_keys(request).await.unwrap().into_inner();
    let (mut failed, mut too_large) = (0, 0);
    while let Some(part) = parts.message().await.unwrap() {
        for entry in part.entries {
            let error = entry.error.unwrap();
            match error.reason.as_str() {
                "FUNCTION_FAILED" => failed += 1,
                "TOO_LARGE" => too_large += 1,
                other => panic!("{other}: {error:?}"),
            }
        }
    }
    // The last batch may go past what an answer may have.
    let full = ANSWER_BYTES / (2 * CUT);
    assert!((full..full + SCAN_ENTRIES).contains(&failed), "{failed} answers of a function are told");
    assert_eq!(failed + too_large, ENTRIES);
}

#[tokio::test]
async fn what_a_function_says_about_all_entries_fills_its_messages() {
    let scene = scene().await;
    let map = scene.client.raw_map("many");
    for written in map.put_many(keys().map(|key| (key, "0")), PutOptions::new()).await.unwrap() {
        written.unwrap();
    }
    let mut parts = map.invoke_all("verbose", "", Responses::Discard).await.unwrap();
    let mut told = 0;
    while let Some(part) = parts.next().await.unwrap() {
        let most = SCAN_BYTES / (2 * CUT) + SCAN_ENTRIES;
        assert!(part.entries.len() <= most, "{} in one message", part.entries.len());
        told += part.entries.len();
    }
    assert_eq!(told, ENTRIES);
    scene.check_unharmed().await;
}
