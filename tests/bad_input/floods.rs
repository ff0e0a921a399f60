//! More than one client may take of a node: refused, while others are served.

use tonic::Code;
use wattle_core::limits::NAMES;
use wattle_proto::v1;
use wattle_proto::v1::operation::Operation as One;
use wattle_proto::v1::operation_result::Result as Answer;

use super::Scene;
use crate::harness::wire::{Wire, facts, refusal};

/// A read of each of so many maps, none of which exists.
fn gets_of_maps(count: usize) -> v1::BatchRequest {
    let get = |n| One::Get(v1::GetRequest { map: format!("none-{n}"), key: "k".into() });
    let operations = (0..count).map(|n| v1::Operation { operation: Some(get(n)) });
    v1::BatchRequest { operations: operations.collect(), request_id: None }
}

#[tokio::test]
async fn a_message_uses_at_most_1024_names() {
    let scene = Scene::start().await;
    let mut wire = Wire::to(&scene.node).await;
    let answer = wire.maps.batch(gets_of_maps(NAMES)).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), NAMES);
    for (n, result) in answer.results.into_iter().enumerate() {
        let Some(Answer::Error(error)) = result.result else { panic!("there is no map {n}") };
        assert_eq!((error.reason.as_str(), &error.metadata["map"]), ("MAP_NOT_FOUND", &format!("none-{n}")));
    }
    let refused = wire.maps.batch(gets_of_maps(NAMES + 1)).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::InvalidArgument, "TOO_LARGE", "NOT_APPLIED"));
    assert_eq!(refused.message(), "1025 names are more than the 1024 allowed");
    scene.check_unharmed().await;
}
