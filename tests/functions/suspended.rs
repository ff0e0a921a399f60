//! A function that is suspended while nobody waits for what it does.

use std::time::Duration;

use bytes::Bytes;
use wattle_client::{Error, UploadOptions, api};

use crate::harness::TestNode;
use crate::harness::guest::Guest;
use crate::harness::wire::eventually;

/// Takes all the time that it may have.
const SPIN: &str = "(loop $on (br $on)) (unreachable)";
/// Long enough for a call to start, and less than a call takes.
const IMPATIENCE: Duration = Duration::from_millis(40);

#[tokio::test]
async fn a_function_is_suspended_although_none_of_its_callers_has_waited() {
    let node = TestNode::start();
    let client = node.client().await;
    let longest = UploadOptions::new().cpu_budget(Duration::from_millis(100));
    client.functions().upload("bad", Guest::doing(SPIN).module(), &longest).await.unwrap();
    let map = client.raw_map("m");
    let refused = eventually(|| async {
        match tokio::time::timeout(IMPATIENCE, map.invoke("bad", "k", Bytes::new())).await {
            Err(_gone) => None,
            Ok(answer) => Some(answer.expect_err("it never answers")),
        }
    });
    let refused = refused.await;
    assert!(matches!(refused, Error::FunctionSuspended(_)), "{refused}");
    eventually(|| async {
        let (function, _) = client.functions().describe("bad").await.unwrap();
        (function.state() == api::FunctionState::Suspended).then_some(())
    })
    .await;
}
