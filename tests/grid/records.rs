//! What completion records say later: after the function's name has moved on, where the invocation ran on the thread that it
//! arrived on, when the answer was full.

use bytes::Bytes;
use wattle_client::UploadOptions;
use wattle_proto::v1;

use crate::harness::TestNode;
use crate::harness::guest::Guest;
use crate::harness::wire::Wire;

const M: &str = "m";

/// Adds one to a binary number, and answers with it.
async fn upload_counter(node: &TestNode, guest: &Guest) -> String {
    let functions = node.client().await.functions();
    let uploaded = functions.upload("count", guest.module(), &UploadOptions::new()).await.unwrap();
    let version = uploaded.function.versions.into_iter().find(|version| version.number == uploaded.version);
    version.unwrap().module
}

fn count(key: &str, request_id: Option<v1::RequestId>) -> v1::InvokeRequest {
    let key = Bytes::copy_from_slice(key.as_bytes());
    v1::InvokeRequest { function: "count".into(), map: M.into(), key, argument: Bytes::new(), request_id }
}

#[tokio::test]
async fn a_retry_names_the_module_that_ran_and_not_the_one_that_the_name_has_now() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let first_module = upload_counter(&node, &Guest::counter()).await;
    let first = wire.compute.invoke(count("k", wire.id(1))).await.unwrap().into_inner();
    assert_eq!((first.response.as_ref(), &first.module), (&1u64.to_le_bytes()[..], &first_module));
    let second_module = upload_counter(&node, &Guest::counter().before_allocation("(nop)")).await;
    assert_ne!(second_module, first_module);
    let second = wire.compute.invoke(count("k", wire.id(2))).await.unwrap().into_inner();
    assert_eq!((second.response.as_ref(), &second.module), (&2u64.to_le_bytes()[..], &second_module));
    assert_eq!(wire.compute.invoke(count("k", wire.id(1))).await.unwrap().into_inner(), first);
    node.client().await.functions().rollback("count").await.unwrap();
    assert_eq!(wire.compute.invoke(count("k", wire.id(2))).await.unwrap().into_inner(), second);
    assert_eq!(wire.value(M, "k").await.unwrap().as_ref(), 2u64.to_le_bytes());
}
