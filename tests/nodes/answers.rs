//! Any node answers for all.

use std::collections::BTreeSet;

use bytes::Bytes;
use tonic::Code;
use tonic_types::StatusExt;
use wattle::config::RawConfig;
use wattle_client::{
    Answer, Batch, Client, Operation, Options, PipelineOptions, PutOptions, Responses, ScanOptions,
    UploadOptions,
};
use wattle_core::limits::{BATCH_OPERATIONS, NAME_BYTES};
use wattle_core::partition::partition_of;
use wattle_proto::v1;
use wattle_proto::v1::map_service_client::MapServiceClient;

use crate::harness::TestNode;
use crate::harness::examples::example;
use crate::harness::grid::{PARTITIONS, address, all_have_copies, joined_to, three};
use crate::harness::wire::{Wire, facts, put, refusal};

fn keys() -> impl Iterator<Item = String> {
    (0..200).map(|n| format!("k{n}"))
}

#[tokio::test]
async fn what_was_written_through_one_node_is_read_through_each() {
    let nodes = three().await;
    let writer = nodes[0].client().await.raw_map("m");
    for key in keys() {
        writer.put(key.clone(), key).await.unwrap();
    }
    for node in &nodes {
        let map = node.client().await.raw_map("m");
        for key in keys() {
            assert_eq!(map.get(key.clone()).await.unwrap().unwrap().value, key);
        }
        assert_eq!(map.size().await.unwrap(), 200);
        let mut scan = map.scan(ScanOptions::new());
        let mut seen = BTreeSet::new();
        while let Some(entry) = scan.next().await.unwrap() {
            assert!(seen.insert(entry.key), "once");
        }
        assert_eq!(seen, keys().map(Bytes::from).collect());
    }
    assert_eq!(nodes[2].client().await.maps().describe("m").await.unwrap().1.entries, 200);
    assert_eq!(nodes[1].client().await.raw_map("m").clear().await.unwrap(), 200);
    assert_eq!(writer.size().await.unwrap(), 0);
}

#[tokio::test]
async fn each_kind_of_operation_goes_to_the_primary_and_its_answer_comes_back() {
    let nodes = three().await;
    let (one, other) = (nodes[1].client().await.raw_map("m"), nodes[2].client().await.raw_map("m"));
    for key in keys().take(20) {
        let first = one.put_with(key.clone(), "1", PutOptions::new().if_absent()).await.unwrap();
        let refused = other.put_with(key.clone(), "2", PutOptions::new().if_absent()).await.unwrap_err();
        assert_eq!(refused.reason(), Some("ALREADY_EXISTS"), "{refused}");
        let refused = other.put_with(key.clone(), "2", PutOptions::new().if_version(first + 1)).await;
        let Err(wattle_client::Error::VersionMismatch { current, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(current, Some(first));
        assert_eq!(other.increment(key.clone(), 41).await.unwrap().value, 42);
        assert_eq!(one.get_and_remove(key.clone()).await.unwrap().unwrap(), "42");
        assert!(!other.remove(key).await.unwrap());
    }
    let puts =
        keys().map(|key| Operation::Put { key: key.into(), value: "v".into(), options: PutOptions::new() });
    let results = one.batch(puts.collect()).await.unwrap();
    assert!(results.len() == 200 && results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(other.size().await.unwrap(), 200);
}

/// The table of whoever sent the call was another: nobody else would look into the partition.
#[tokio::test]
async fn who_is_sent_a_call_for_a_partition_that_is_not_its_own_says_so() {
    let nodes = three().await;
    nodes[0].client().await.raw_map("m").put("k", "v").await.unwrap();
    let table = nodes[0].client().await.partitions().await.unwrap().partitions;
    let other = table.iter().find(|partition| partition.primary != Some(1)).unwrap().index;
    let mut maps = MapServiceClient::connect(nodes[0].endpoint()).await.unwrap();
    let (map, partitions) = ("m".to_owned(), vec![other]);
    let size = v1::SizeRequest { map: map.clone(), partitions: partitions.clone() };
    let clear = v1::ClearRequest { map: map.clone(), request_id: None, partitions: partitions.clone() };
    let describe = v1::DescribeMapRequest { name: map, partitions };
    let answers = [
        maps.size(sent_on(size)).await.map(drop),
        maps.clear(sent_on(clear)).await.map(drop),
        maps.describe_map(sent_on(describe)).await.map(drop),
    ];
    for answer in answers {
        let info = answer.unwrap_err().get_error_details().error_info().cloned().unwrap();
        assert_eq!(info.reason, "NOT_OWNER");
    }
}

fn sent_on<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("wattle-forwarded", "1".parse().unwrap());
    request
}

#[tokio::test]
async fn a_module_is_compiled_on_all_nodes_before_its_name_moves_on() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = TestNode::with_data(directories[0].path());
    let join = Some(vec![address(&first)]);
    let data_dir = Some(directories[1].path().to_owned());
    let second = TestNode::with(RawConfig { join, data_dir, ..RawConfig::default() });
    let client = second.client().await;
    let staged = UploadOptions::new().export("add").stage();
    client.functions().upload("add", example("counter"), &staged).await.unwrap();
    let compiled = directories.each_ref().map(|directory| {
        let artifacts = directory.path().join("artifacts");
        std::fs::read_dir(artifacts).unwrap().count()
    });
    assert_eq!(compiled, [1, 1]);
}

#[tokio::test]
async fn functions_run_on_all_nodes_also_on_one_that_joins_later() {
    let nodes = three().await;
    let client = nodes[1].client().await;
    let options = UploadOptions::new().export("add");
    client.functions().upload("add", example("counter"), &options).await.unwrap();
    let map = client.raw_map("m");
    for (n, key) in keys().enumerate() {
        let node = &nodes[n % nodes.len()];
        let added = node.client().await.raw_map("m").invoke("add", key, "1").await.unwrap();
        assert_eq!(added.response, "1");
    }
    let some: Vec<String> = keys().take(50).collect();
    let summary = map.invoke_keys("add", some, "10").await.unwrap().finish().await.unwrap();
    assert_eq!((summary.processed, summary.failed, summary.complete), (50, 0, summary.partitions));
    let late = joined_to(&nodes[0]);
    let everywhere = late.client().await.raw_map("m");
    let summary =
        everywhere.invoke_all("add", "100", Responses::Discard).await.unwrap().finish().await.unwrap();
    assert_eq!(summary.errors.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>(), [""; 0]);
    assert_eq!((summary.processed, summary.failed, summary.complete), (200, 0, summary.partitions));
    for (n, key) in keys().enumerate() {
        let expected = if n < 50 { "111" } else { "101" };
        assert_eq!(everywhere.get(key).await.unwrap().unwrap().value, expected);
    }
    // Also where it was uploaded nobody is left who has it but the others.
    let [_, uploader, ..] = nodes;
    let [first, ..] = [late];
    uploader.stop().await;
    let again = first.client().await.functions().describe("add").await.unwrap();
    assert_eq!(again.0.active, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_may_ask_to_be_confirmed() {
    let nodes = three().await;
    nodes[0].client().await.raw_map("m").put("k", "v").await.unwrap();
    for node in &nodes {
        let straight = Options::new(node.endpoint()).confirm_reads();
        for options in [straight.clone(), straight.endpoints_only()] {
            let map = Client::connect(options).await.unwrap().raw_map("m");
            assert_eq!(map.get("k").await.unwrap().unwrap().value, "v");
            assert_eq!(map.size().await.unwrap(), 1);
        }
        let confirmed = node.command(&["map", "get", "m", "k", "--confirm", "--raw"]).await;
        assert_eq!(confirmed.stdout, b"v");
    }
    let mut wire = Wire::to(&nodes[0]).await;
    let get = v1::GetRequest { map: "m".to_owned(), key: Bytes::from_static(b"k") };
    let mut call = tonic::Request::new(get);
    call.metadata_mut().insert("wattle-read-mode", "stale".parse().unwrap());
    let refused = wire.maps.get(call).await.unwrap_err();
    assert_eq!(facts(&refused), refusal(Code::InvalidArgument, "INVALID_ARGUMENT", "NOT_APPLIED"));
}

/// A frame has the map's name once, and what is sent on has it with each operation.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_batch_is_done_by_another_node_also_if_it_is_too_long_for_a_message() {
    let nodes = three().await;
    let client = Client::connect(Options::new(nodes[0].endpoint()).endpoints_only()).await.unwrap();
    let partitions = client.partitions().await.unwrap().partitions;
    let elsewhere =
        |key: &String| partitions[usize::from(partition_of(key.as_bytes(), PARTITIONS))].primary == Some(2);
    let keys: Vec<String> =
        (0..).map(|n: u32| n.to_string()).filter(elsewhere).take(BATCH_OPERATIONS).collect();
    let put = |key: &String| Operation::Put {
        key: key.clone().into(),
        value: Bytes::from_static(&[b'v'; 100]),
        options: PutOptions::new(),
    };
    let name = "m".repeat(NAME_BYTES);
    let batch = Batch::new(&name, &keys.iter().map(put).collect::<Vec<_>>()).unwrap();
    let pipeline = client.pipeline(PipelineOptions::new());
    let answered = pipeline.submit(batch).await.unwrap().await.unwrap();
    for answer in answered.answers() {
        assert!(matches!(answer, Ok(Answer::Written(_))), "{answer:?}");
    }
    assert_eq!(client.raw_map(name).size().await.unwrap(), BATCH_OPERATIONS as u64);
    pipeline.close().await;
}

/// While nodes are restarted one after the other with another limit, an attempt may meet the old one and the next the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_done_is_not_refused_by_a_node_with_a_smaller_limit() {
    let raw = || RawConfig { partitions: Some(PARTITIONS), ..RawConfig::default() };
    let first = TestNode::with(raw());
    let small = RawConfig { join: Some(vec![address(&first)]), value_bytes: Some(100), ..raw() };
    let second = TestNode::with(small);
    all_have_copies(&first.client().await).await;
    let partitions = second.client().await.partitions().await.unwrap().partitions;
    let (mut wire, mut other) = (Wire::to(&first).await, Wire::to(&second).await);
    for n in 0..8 {
        let key = format!("k{n}");
        let of_first = partitions[usize::from(partition_of(key.as_bytes(), PARTITIONS))].primary == Some(1);
        let large = put("m", &key, &"v".repeat(200), wire.id(n));
        let done = wire.maps.put(large.clone()).await.map(tonic::Response::into_inner);
        let again = other.maps.put(v1::PutRequest { request_id: wire.again(n), ..large }).await;
        let again = again.map(tonic::Response::into_inner);
        if of_first {
            assert_eq!(again.unwrap(), done.unwrap());
        } else {
            let too_large = refusal(Code::InvalidArgument, "TOO_LARGE", "NOT_APPLIED");
            assert_eq!(
                [done, again].map(|refused| facts(&refused.unwrap_err())),
                [too_large.clone(), too_large]
            );
        }
    }
}
