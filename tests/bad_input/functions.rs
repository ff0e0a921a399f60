//! Functions by name, their arguments, and what becomes of one that keeps being stopped.

use std::time::Duration;

use tonic::Code;
use wattle_client::{Responses, UploadOptions, api};
use wattle_core::limits::{ARGUMENT_BYTES, BREAKER_STOPS, PARTITIONS};
use wattle_proto::v1;

use super::{KEY, MAP, Refusal, Scene, refusal};
use crate::harness::guest::Guest;
use crate::harness::wire::{Wire, eventually, facts, refusal as refused};

const NO_FUNCTION: Refusal = refusal(Code::NotFound, "FUNCTION_NOT_FOUND", "nobody");

#[tokio::test]
async fn calls_of_an_unknown_function_say_its_name() {
    let scene = Scene::start().await;
    let functions = scene.client.functions();
    scene.check_refused(functions.describe("nobody").await, NO_FUNCTION.of_read()).await;
    scene.check_refused(functions.promote("nobody", 1).await, NO_FUNCTION).await;
    scene.check_refused(functions.rollback("nobody").await, NO_FUNCTION).await;
    scene.check_refused(functions.delete("nobody").await, NO_FUNCTION).await;
    scene.check_refused(scene.map.invoke("nobody", KEY, "").await, NO_FUNCTION).await;
    scene.check_refused(scene.map.invoke_keys("nobody", [KEY], "").await, NO_FUNCTION).await;
    scene.check_refused(scene.map.invoke_all("nobody", "", Responses::Collect).await, NO_FUNCTION).await;
    let function = "nobody".to_owned();
    let invoke = wattle_client::Operation::Invoke { key: KEY.into(), function, argument: "".into() };
    let answers = scene.map.batch(vec![invoke]).await.unwrap();
    for answer in answers {
        scene.check_refused(answer, NO_FUNCTION).await;
    }
}

#[tokio::test]
async fn a_version_that_was_never_uploaded_cannot_be_promoted() {
    let scene = Scene::start().await;
    scene.upload("count", &Guest::counter()).await.unwrap();
    let functions = scene.client.functions();
    let none = refusal(Code::NotFound, "VERSION_NOT_FOUND", "");
    scene.check_refused(functions.promote("count", 2).await, none).await;
    let nothing = refusal(Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK", "");
    scene.check_refused(functions.rollback("count").await, nothing).await;
    assert_eq!(functions.describe("count").await.unwrap().0.active, 1);
}

#[tokio::test]
async fn a_staged_function_is_not_called() {
    let scene = Scene::start().await;
    let stage = UploadOptions::new().stage();
    scene.client.functions().upload("count", Guest::counter().module(), &stage).await.unwrap();
    let staged = refusal(Code::FailedPrecondition, "FUNCTION_STAGED", "promote");
    scene.check_refused(scene.map.invoke("count", KEY, "").await, staged).await;
    scene.client.functions().promote_newest("count").await.unwrap();
    assert_eq!(scene.map.invoke("count", "other", "").await.unwrap().response, 1_u64.to_le_bytes()[..]);
}

#[tokio::test]
async fn partitions_that_a_call_names_are_among_those_of_the_grid() {
    let scene = Scene::start().await;
    scene.upload("count", &Guest::counter()).await.unwrap();
    let mut wire = Wire::to(&scene.node).await;
    let last = u32::from(PARTITIONS) - 1;
    let names = || ("count".to_owned(), MAP.to_owned());
    let all = |partitions| {
        let (function, map) = names();
        v1::InvokeAllRequest { function, map, partitions, ..Default::default() }
    };
    let keys = |answered_partitions| {
        let (function, map) = names();
        let keys = vec![KEY.into()];
        v1::InvokeKeysRequest { function, map, keys, answered_partitions, ..Default::default() }
    };
    // The third is that of the entry in 16 bits.
    let of_entry = u32::from(wattle_core::partition::partition_of(KEY.as_bytes(), PARTITIONS));
    for bad in [last + 1, u32::MAX, (1 << 16) + of_entry] {
        let expected = refused(Code::InvalidArgument, "INVALID_ARGUMENT", "NOT_APPLIED");
        let status = wire.compute.invoke_all(all(vec![of_entry, bad])).await.unwrap_err();
        assert!(status.message().starts_with("partitions: "), "{status}");
        assert_eq!(facts(&status), expected);
        let status = wire.compute.invoke_keys(keys(vec![bad])).await.unwrap_err();
        assert!(status.message().starts_with("answered_partitions: "), "{status}");
        assert_eq!(facts(&status), expected);
        scene.check_unharmed().await;
    }
    let mut parts = wire.compute.invoke_all(all(vec![last])).await.unwrap().into_inner();
    let part = parts.message().await.unwrap().unwrap();
    assert_eq!((part.partition, part.complete, part.error), (last, true, None));
    let mut parts = wire.compute.invoke_keys(keys(vec![of_entry, last])).await.unwrap().into_inner();
    assert_eq!(parts.message().await.unwrap(), None);
    scene.check_unharmed().await;
}

#[tokio::test]
async fn what_a_repetition_says_that_ran_is_of_a_module() {
    let scene = Scene::start().await;
    scene.upload("count", &Guest::counter()).await.unwrap();
    let mut wire = Wire::to(&scene.node).await;
    for bad in [String::new(), "5c".repeat(31), "zz".repeat(32)] {
        let export = Some(v1::ModuleExport { module: bad, export: "counter".to_owned() });
        let (function, map, keys) = ("count".to_owned(), MAP.to_owned(), vec![KEY.into()]);
        let keys = v1::InvokeKeysRequest { function, map, keys, export, ..Default::default() };
        let (function, map, export) = ("count".to_owned(), MAP.to_owned(), keys.export.clone());
        let all = v1::InvokeAllRequest { function, map, export, ..Default::default() };
        let of_keys = wire.compute.invoke_keys(keys).await.unwrap_err();
        let of_all = wire.compute.invoke_all(all).await.unwrap_err();
        for status in [of_keys, of_all] {
            assert!(status.message().starts_with("export: "), "{status}");
            assert_eq!(facts(&status), refused(Code::InvalidArgument, "INVALID_ARGUMENT", "NOT_APPLIED"));
        }
        scene.check_unharmed().await;
    }
}

#[tokio::test]
async fn an_argument_has_at_most_1_mib() {
    let scene = Scene::start().await;
    // Unoptimised, copying a MiB into a fresh instance can take more than the 10 ms of a usual budget.
    let options = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    let module = Guest::doing(KEEP_ONE).before_allocation(ROOM).module();
    scene.client.functions().upload("count", module, &options).await.unwrap();
    let most = vec![b'a'; ARGUMENT_BYTES];
    let over = || vec![b'a'; ARGUMENT_BYTES + 1];
    let says = "argument has 1048577 bytes, at most 1048576";
    let too_large = || refusal(Code::InvalidArgument, "TOO_LARGE", says);
    scene.check_refused(scene.map.invoke("count", KEY, over()).await, too_large()).await;
    scene.check_refused(scene.map.invoke_all("count", over(), Responses::Collect).await, too_large()).await;
    assert_eq!(scene.map.invoke("count", KEY, most).await.unwrap().response, "");
    scene.check_unharmed().await;
}

/// Two MiB more, for a frame that is longer than usual.
const ROOM: &str = "(if (i32.lt_u (memory.size) (i32.const 64)) (then (drop (memory.grow (i32.const 32)))))";

/// Keeps the entry.
const KEEP_ONE: &str = "
  (i32.store (i32.const 131072) (i32.const 1)) (i32.store offset=4 (i32.const 131072) (i32.const 1))
  (i32.store offset=8 (i32.const 131072) (i32.const 48))
  (call $return (i32.const 131072) (i32.const 48))";

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let scene = Scene::start().await;
    let functions = scene.client.functions();
    let module = Guest::counter().module();
    for (options, says) in [
        (UploadOptions::new().cpu_budget(Duration::from_millis(101)), "101 ms"),
        (UploadOptions::new().memory_bytes((64 << 20) + 1), "67108865 bytes of memory"),
    ] {
        let answer = functions.upload("f", module.clone(), &options).await;
        scene.check_refused(answer, refusal(Code::InvalidArgument, "INVALID_OPTIONS", says)).await;
    }
    let missing = functions.upload("f", module, &UploadOptions::new().export("divide")).await;
    let says = "no function \"divide\", it has [\"counter\"]";
    scene.check_refused(missing, refusal(Code::InvalidArgument, "EXPORT_NOT_FOUND", says)).await;
    assert_eq!(functions.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_function_stopped_five_times_in_ten_seconds_is_suspended_until_it_is_promoted() {
    let scene = Scene::start().await;
    scene.upload("bad", &Guest::doing("(unreachable)")).await.unwrap();
    let stopped = || refusal(Code::Aborted, "FUNCTION_STOPPED", "unreachable");
    for _ in 0..BREAKER_STOPS {
        scene.check_refused(scene.map.invoke("bad", KEY, "").await, stopped()).await;
    }
    let suspended = refusal(Code::FailedPrecondition, "FUNCTION_SUSPENDED", "function bad is suspended");
    let failure = scene.check_refused(scene.map.invoke("bad", KEY, "").await, suspended).await;
    assert_eq!(failure.fact("function"), Some("bad"));
    let functions = scene.client.functions();
    let (function, statistics) = eventually(|| async {
        let described = functions.describe("bad").await.unwrap();
        (described.0.state() == api::FunctionState::Suspended).then_some(described)
    })
    .await;
    assert_eq!(function.suspended_because, "it was stopped too often");
    assert_eq!((statistics.stops, statistics.applied), (BREAKER_STOPS as u64, 0));
    // The same again does not lift it, whoever uploads it.
    assert_eq!(scene.upload("bad", &Guest::doing("(unreachable)")).await.unwrap(), 1);
    let suspended = refusal(Code::FailedPrecondition, "FUNCTION_SUSPENDED", "`wattle function promote bad`");
    scene.check_refused(scene.map.invoke("bad", KEY, "").await, suspended).await;
    assert_eq!(functions.promote("bad", 1).await.unwrap().state(), api::FunctionState::Active);
    scene.check_refused(scene.map.invoke("bad", KEY, "").await, stopped()).await;
    // A better module lifts it too, and brings the function to life.
    assert_eq!(scene.upload("bad", &Guest::counter()).await.unwrap(), 2);
    assert_eq!(
        scene.client.raw_map(MAP).invoke("bad", KEY, "").await.unwrap().response,
        43_u64.to_le_bytes()[..]
    );
}
