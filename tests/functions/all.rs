//! Functions on all entries of a map.

use wattle_client::{Client, Error, Outcome, PutOptions, RawMap, Responses, UploadOptions};

use crate::harness::TestNode;
use crate::harness::examples::upload;
use crate::harness::guest::Guest;

/// Traps at keys that begin with `x`; at others writes the key as the value and answers with the argument.
const CHOOSY: &str = r#"
  (if (i32.eq (i32.load8_u (local.get $key)) (i32.const 120)) (then (unreachable)))
  (global.set $arena (i32.const 1048576))
  (i32.store8 (i32.const 2048) (i32.const 0))
  (i32.store8 offset=8 (i32.const 2048) (i32.const 1))
  (i32.store offset=16 (i32.const 2048) (local.get $key))
  (i32.store offset=20 (i32.const 2048) (local.get $key-length))
  (i32.store offset=32 (i32.const 2048) (local.get $argument))
  (i32.store offset=36 (i32.const 2048) (local.get $argument-length))
  (i32.const 2048)
"#;

async fn filled(client: &Client, keys: impl Iterator<Item = String>) -> RawMap {
    let map = client.raw_map("m");
    for written in map.put_many(keys.map(|key| (key, "0")), PutOptions::new()).await.unwrap() {
        written.unwrap();
    }
    map
}

/// In many partitions, and more in one than a turn takes.
fn keys() -> impl Iterator<Item = String> {
    (0..600).map(|n| format!("{{t}}{n}")).chain((0..400).map(|n| format!("k{n}")))
}

#[tokio::test]
async fn an_entry_that_traps_is_reported_and_all_others_are_processed() {
    let node = TestNode::start();
    let client = node.client().await;
    let module = Guest::simple(CHOOSY).module();
    client.functions().upload("choosy", module, &UploadOptions::new()).await.unwrap();
    let map = filled(&client, keys()).await;
    let before = map.put("x{t}", "stays").await.unwrap();
    let mut stream = map.invoke_all("choosy", "answer", Responses::Collect).await.unwrap();
    let (mut processed, mut failed, mut answered, mut complete) = (0, Vec::new(), 0, 0);
    let mut partitions = 0;
    while let Some(part) = stream.next().await.unwrap() {
        assert!(part.error.is_none(), "{part:?}");
        processed += part.processed;
        complete += u32::from(part.complete);
        partitions = part.partitions;
        for entry in part.entries {
            match entry.response {
                Ok(response) => answered += u32::from(response == "answer"),
                Err(error) => failed.push((entry.key, error)),
            }
        }
    }
    assert_eq!((processed, answered, complete, partitions), (1001, 1000, 271, 271));
    let [(key, Error::FunctionStopped(failure))] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!((key.as_ref(), failure.reason()), (&b"x{t}"[..], Some("FUNCTION_STOPPED")));
    assert_eq!(failure.outcome(), Some(Outcome::NotApplied));
    let entry = map.get("x{t}").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.version), (&b"stays"[..], before));
    for key in keys().step_by(13) {
        assert_eq!(map.get(key.clone()).await.unwrap().unwrap().value, key);
    }
    // Failures are told also to those who want no responses.
    let mut stream = map.invoke_all("choosy", "answer", Responses::Discard).await.unwrap();
    let mut told = Vec::new();
    while let Some(part) = stream.next().await.unwrap() {
        told.extend(part.entries.into_iter().map(|entry| entry.key));
    }
    assert_eq!(told, ["x{t}"]);
}

#[tokio::test]
async fn writes_during_a_sweep_are_neither_lost_nor_done_twice() {
    let node = TestNode::start();
    let client = node.client().await;
    upload(&client, "counter", "add").await;
    let map = filled(&client, keys()).await;
    let writer = node.client().await.raw_map("m");
    let writes = tokio::spawn(async move {
        for key in keys() {
            writer.increment(key, 1000).await.unwrap();
        }
    });
    for _ in 0..4 {
        let summary = map.invoke_all("add", "1", Responses::Discard).await.unwrap().finish().await.unwrap();
        assert_eq!((summary.processed, summary.failed), (1000, 0));
    }
    writes.await.unwrap();
    for key in keys() {
        assert_eq!(map.get(key.clone()).await.unwrap().unwrap().value, "1004", "{key}");
    }
}

#[tokio::test]
async fn an_abandoned_call_runs_no_entry_twice_and_harms_nobody() {
    let node = TestNode::start();
    let client = node.client().await;
    upload(&client, "counter", "add").await;
    let map = filled(&client, keys()).await;
    for _ in 0..5 {
        let mut abandoned = map.invoke_all("add", "1", Responses::Collect).await.unwrap();
        abandoned.next().await.unwrap().unwrap();
        drop(abandoned);
    }
    let summary = map.invoke_all("add", "100", Responses::Discard).await.unwrap().finish().await.unwrap();
    assert_eq!((summary.processed, summary.failed), (1000, 0));
    for key in keys() {
        let entry = map.get(key.clone()).await.unwrap().unwrap();
        let value: u32 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
        assert!((100..=105).contains(&value), "{key}: {value}");
    }
}

#[tokio::test]
async fn what_the_function_removes_is_gone_and_what_it_adds_nothing_to_stays() {
    let node = TestNode::start();
    let client = node.client().await;
    let remove =
        CHOOSY.replace("offset=8 (i32.const 2048) (i32.const 1)", "offset=8 (i32.const 2048) (i32.const 3)");
    let remove = remove.replace("(i32.store offset=16 (i32.const 2048) (local.get $key))", "");
    let remove = remove.replace("(i32.store offset=20 (i32.const 2048) (local.get $key-length))", "");
    let module = Guest::simple(&remove).module();
    client.functions().upload("remove", module, &UploadOptions::new()).await.unwrap();
    let map = filled(&client, keys()).await;
    let other = client.raw_map("other");
    other.put("k", "v").await.unwrap();
    let summary = map.invoke_all("remove", "", Responses::Discard).await.unwrap().finish().await.unwrap();
    assert_eq!((summary.processed, summary.failed), (1000, 0));
    assert_eq!((map.size().await.unwrap(), other.size().await.unwrap()), (0, 1));
    let empty = map.invoke_all("remove", "", Responses::Discard).await.unwrap().finish().await.unwrap();
    assert_eq!((empty.processed, empty.complete), (0, 271));
}
