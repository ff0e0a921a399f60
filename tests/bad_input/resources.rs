//! More than a node has room for.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::Code;
use wattle::config::RawConfig;
use wattle_client::{MapOptions, UploadOptions};
use wattle_proto::v1;
use wattle_proto::v1::compute_service_client::ComputeServiceClient;

use super::{KEY, MAP, Scene, refusal};
use crate::harness::guest::Guest;

/// Takes some milliseconds, and keeps what entries it is given.
pub(super) const BUSY: &str = "
  (local $left i32) (local $count i32) (local $end i32)
  (local.set $count (i32.load offset=8 (local.get $frame)))
  (local.set $end (i32.add (i32.const 16) (i32.mul (local.get $count) (i32.const 32))))
  (local.set $left (i32.mul (local.get $count) (i32.const 4000000)))
  (loop $on (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $on (local.get $left)))
  (i32.store (i32.const 131072) (i32.const 1))
  (i32.store offset=4 (i32.const 131072) (local.get $count))
  (i32.store offset=8 (i32.const 131072) (local.get $end))
  (call $return (i32.const 131072) (local.get $end))";

/// The arguments of a batch, and more.
pub(super) const ROOM: &str =
    "(if (i32.lt_u (memory.size) (i32.const 192)) (then (drop (memory.grow (i32.const 160)))))";

/// What one of the keys of a call counts for in the inbox, beside the key.
const ARGUMENT: usize = 1 << 20;
const KEYS: usize = 7;
const CALLS: usize = 24;

/// Each call counts for its argument once for every key: seven bytes of the inbox for each that is sent, so that it fills
/// faster than it is worked on.
#[tokio::test]
async fn a_full_inbox_refuses_more_and_says_when_to_try_again() {
    let scene = Scene::with(RawConfig { partitions: Some(1), ..RawConfig::default() }).await;
    let patient = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    scene
        .client
        .functions()
        .upload("busy", Guest::doing(BUSY).before_allocation(ROOM).module(), &patient)
        .await
        .unwrap();
    // Not this client: it would try again by itself.
    let channel = tonic::transport::Channel::from_shared(scene.node.endpoint()).unwrap();
    let compute = ComputeServiceClient::new(channel.connect().await.unwrap());
    let request = v1::InvokeKeysRequest {
        function: "busy".to_owned(),
        map: MAP.to_owned(),
        keys: (0..KEYS).map(|n| format!("key-{n}").into()).collect(),
        argument: vec![0; ARGUMENT].into(),
        ..Default::default()
    };
    let calls = (0..CALLS).map(|_| {
        let (mut compute, request) = (compute.clone(), request.clone());
        async move {
            let mut parts = compute.invoke_keys(request).await.unwrap().into_inner();
            let mut results = Vec::new();
            while let Some(part) = parts.message().await.unwrap() {
                results.extend(part.entries);
            }
            results
        }
    });
    let (mut done, mut refused) = (0, 0);
    for results in join_all(calls).await {
        assert_eq!(results.len(), KEYS);
        for result in results {
            let Some(error) = result.error else {
                done += 1;
                continue;
            };
            refused += 1;
            let facts = (error.code, error.reason.as_str(), error.outcome());
            let expected = (Code::ResourceExhausted as i32, "OVERLOADED", v1::Outcome::NotApplied);
            assert_eq!(facts, expected, "{error:?}");
            assert!(error.metadata["retry_after_ms"].parse::<u64>().unwrap() > 0, "{error:?}");
        }
    }
    assert!(refused > 0 && done > 0, "{done} done, {refused} refused");
    scene.check_unharmed().await;
    assert_eq!(scene.map.invoke("busy", KEY, "").await.unwrap().response, "");
}

#[tokio::test]
async fn a_full_node_refuses_writes_until_there_is_room() {
    let raw = RawConfig { memory_bytes: Some(8 << 20), ..RawConfig::default() };
    let scene = Scene::with(raw).await;
    let big = scene.client.raw_map("big");
    let mut written = 0;
    let full = loop {
        match big.put(format!("key-{written}"), vec![7; 512 << 10]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 32, "16 of them fill the node");
    };
    assert!(written > 1, "{written} were written");
    let over = refusal(Code::ResourceExhausted, "NODE_FULL", "");
    super::refused(Err::<(), _>(full), &over);
    // The entries that are there can be read, changed in place and removed.
    assert_eq!(big.get("key-0").await.unwrap().unwrap().value, vec![7; 512 << 10]);
    assert_eq!(scene.map.get(KEY).await.unwrap().as_ref(), Some(&scene.before));
    assert!(big.remove("key-0").await.unwrap());
    assert!(big.remove("key-1").await.unwrap());
    big.put("key-0", vec![8; 512 << 10]).await.unwrap();
    assert_eq!(big.size().await.unwrap(), written - 1);
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_full_map_refuses_writes_and_others_take_them() {
    let scene = Scene::with(RawConfig { partitions: Some(1), ..RawConfig::default() }).await;
    scene.client.maps().create("small", &MapOptions::new().max_bytes(64 << 10)).await.unwrap();
    let small = scene.client.raw_map("small");
    small.put("k", vec![7; 40 << 10]).await.unwrap();
    let over = small.put("l", vec![7; 40 << 10]).await;
    scene.check_refused(over, refusal(Code::ResourceExhausted, "MAP_FULL", "")).await;
    assert_eq!((small.size().await.unwrap(), small.get("l").await.unwrap()), (1, None));
    assert_eq!(small.get("k").await.unwrap().unwrap().value, vec![7; 40 << 10]);
}
