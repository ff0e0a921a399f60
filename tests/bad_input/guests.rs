//! Guests that load and then misbehave: each is stopped, has changed nothing, and the counter beside it counts on.

use std::time::Duration;

use tonic::Code;
use wattle_client::{Error, Responses, UploadOptions};
use wattle_frame::guest::ReplyWriter;
use wattle_wasm::limits::REPLY_BYTES;

use super::{KEY, Scene, refusal};
use crate::harness::guest::Guest;

const SPIN: &str = "(loop $for-ever (br $for-ever)) (unreachable)";

/// Keeps every entry, of which there is one.
const KEEP_ONE: &str = "
  (i32.store (i32.const 131072) (i32.const 1)) (i32.store offset=4 (i32.const 131072) (i32.const 1))
  (i32.store offset=8 (i32.const 131072) (i32.const 48)) (i64.store (i32.const 131088) (i64.const 0))
  (call $return (i32.const 131072) (i32.const 48))";

/// Runs a bad guest on the entry, one way and the other; it is stopped for one of these kinds. Then the counter counts.
async fn check_stopped(guest: &Guest, kinds: &[&str]) {
    let scene = Scene::start().await;
    scene.upload("bad", guest).await.unwrap();
    scene.upload("count", &Guest::counter()).await.unwrap();
    let stopped = || refusal(Code::Aborted, "FUNCTION_STOPPED", "the ");
    let failure = scene.check_refused(scene.map.invoke("bad", KEY, "").await, stopped()).await;
    assert!(kinds.contains(&failure.fact("stop").unwrap()), "{failure:?}");
    check_stopped_on_all(&scene).await;
    assert_eq!(scene.map.invoke("count", KEY, "").await.unwrap().response, 43_u64.to_le_bytes()[..]);
    let (function, statistics) = scene.client.functions().describe("bad").await.unwrap();
    assert_eq!((statistics.applied, statistics.not_applied, function.active), (0, 2, 1));
}

/// On all entries the one there is fails, and its partition says so.
async fn check_stopped_on_all(scene: &Scene) {
    let mut parts = scene.map.invoke_all("bad", "", Responses::Collect).await.unwrap();
    let mut failures: Vec<Error> = Vec::new();
    while let Some(part) = parts.next().await.unwrap() {
        failures.extend(part.error);
        failures.extend(part.entries.into_iter().filter_map(|entry| entry.response.err()));
    }
    let [failure] = <[Error; 1]>::try_from(failures).unwrap();
    scene.check_refused(Err::<(), _>(failure), refusal(Code::Aborted, "FUNCTION_STOPPED", "the ")).await;
}

#[tokio::test]
async fn a_guest_that_spins_is_stopped() {
    check_stopped(&Guest::doing(SPIN), &["cpu_budget", "wall_cap"]).await;
}

#[tokio::test]
async fn a_guest_that_recurses_is_stopped() {
    let guest = Guest::doing("(call $deeper (i32.const 1))")
        .with("(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))");
    check_stopped(&guest, &["stack_overflow"]).await;
}

#[tokio::test]
async fn a_guest_that_grows_memory_without_end_is_stopped() {
    let guest = Guest::doing(
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
    );
    check_stopped(&guest, &["memory"]).await;
}

#[tokio::test]
async fn a_guest_that_returns_bad_offsets_is_stopped() {
    check_stopped(&Guest::doing("(i32.const -8)"), &["interface"]).await;
    check_stopped(&Guest::doing("(call $return (i32.const -16) (i32.const 64))"), &["interface"]).await;
}

#[tokio::test]
async fn a_reply_that_points_outside_of_itself_stops_its_guest() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.put(b"value", b"").unwrap();
    writer.finish().unwrap();
    buffer[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    check_stopped(&Guest::replying(&buffer), &["bad_frame"]).await;
}

#[tokio::test]
async fn a_guest_with_a_giant_reply_is_stopped() {
    let giant = Guest::doing(&format!(
        "(drop (memory.grow (i32.const 160))) (call $return (i32.const 131072) (i32.const {}))",
        REPLY_BYTES + 1
    ));
    check_stopped(&giant, &["reply_too_large"]).await;
}

#[tokio::test]
async fn an_effect_on_a_key_that_was_not_given_stops_its_guest() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 2).unwrap();
    writer.put(b"for the key that it was given", b"").unwrap();
    writer.put(b"for a key that it was not given", b"").unwrap();
    check_stopped(&Guest::replying(writer.finish().unwrap()), &["bad_frame"]).await;
}

#[tokio::test]
async fn a_guest_that_traps_is_stopped() {
    check_stopped(&Guest::doing("(unreachable)"), &["unreachable"]).await;
    check_stopped(&Guest::doing("(i32.load (i32.const -4))"), &["out_of_bounds"]).await;
}

#[tokio::test]
async fn a_guest_that_traps_while_the_host_allocates_is_stopped() {
    check_stopped(&Guest::counter().before_allocation("(unreachable)"), &["unreachable"]).await;
}

#[tokio::test]
async fn a_read_only_function_that_returns_a_change_is_stopped() {
    check_stopped(&Guest::counter().read_only(), &["read_only_change"]).await;
}

#[tokio::test]
async fn an_effect_of_more_than_a_value_may_have_stops_its_guest() {
    let mut buffer = Vec::new();
    let mut writer = ReplyWriter::new(&mut buffer, 1).unwrap();
    writer.put(&vec![7; (1 << 20) + 1], b"").unwrap();
    let frame = writer.finish().unwrap();
    // The text format's data would end in the guest's arena: write the frame's slot, and point it to zeros.
    let slot: String = frame[..48].iter().map(|byte| format!("\\{byte:02x}")).collect();
    let guest = Guest::doing(&format!("(call $return (i32.const 131072) (i32.const {}))", frame.len()))
        .with(&format!(r#"(data (i32.const 131072) "{slot}")"#));
    check_stopped(&guest, &["value_too_large"]).await;
}

#[tokio::test]
async fn a_guest_that_floods_the_log_is_cut_off_and_its_call_goes_on() {
    let flood = Guest::doing(&format!(
        "(local $left i32) (local.set $left (i32.const 5000))
         (loop $on
           (call $log (i32.const 2) (i32.const 1024) (i32.const 7))
           (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $on (local.get $left)))
         {KEEP_ONE}"
    ))
    .with(r#"(import "wattle:grid/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#);
    let scene = Scene::start().await;
    let patient = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    scene.client.functions().upload("flood", flood.module(), &patient).await.unwrap();
    assert_eq!(scene.map.invoke("flood", KEY, "").await.unwrap().response, "");
    scene.check_unharmed().await;
    let (_, statistics) = scene.client.functions().describe("flood").await.unwrap();
    assert_eq!((statistics.applied, statistics.stops), (1, 0));
}

#[tokio::test]
async fn one_bad_entry_among_many_fails_alone() {
    // It gives up on the key that begins with a Z, and keeps the others.
    let picky = Guest::doing(
        "(local $count i32) (local $place i32) (local $slot i32) (local $end i32)
         (local.set $count (i32.load offset=8 (local.get $frame)))
         (local.set $end (i32.add (i32.const 16) (i32.mul (local.get $count) (i32.const 32))))
         (block $done (loop $next
           (br_if $done (i32.eq (local.get $place) (local.get $count)))
           (local.set $slot (i32.add (i32.add (local.get $frame) (i32.const 48)) (i32.mul (local.get $place) (i32.const 40))))
           (if (i32.eq (i32.load8_u (i32.add (local.get $frame) (i32.load (local.get $slot)))) (i32.const 90))
             (then (unreachable)))
           (local.set $place (i32.add (local.get $place) (i32.const 1)))
           (br $next)))
         (i32.store (i32.const 131072) (i32.const 1))
         (i32.store offset=4 (i32.const 131072) (local.get $count))
         (i32.store offset=8 (i32.const 131072) (local.get $end))
         (call $return (i32.const 131072) (local.get $end))",
    );
    let scene = Scene::start().await;
    scene.upload("picky", &picky).await.unwrap();
    // One partition for all of them.
    let keys = ["{t}", "Z{t}", "a{t}", "b{t}"];
    let mut parts = scene.map.invoke_keys("picky", keys, "").await.unwrap();
    let mut failed = Vec::new();
    let mut processed = 0;
    while let Some(part) = parts.next().await.unwrap() {
        processed += part.processed;
        for entry in part.entries {
            if let Err(error) = entry.response {
                failed.push(entry.key);
                scene
                    .check_refused(Err::<(), _>(error), refusal(Code::Aborted, "FUNCTION_STOPPED", ""))
                    .await;
            }
        }
    }
    assert_eq!((processed, failed), (4, vec!["Z{t}".into()]));
}
