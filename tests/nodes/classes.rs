//! Maps are held as often as they ask for, each kind in partitions of its own.

use std::collections::BTreeSet;

use bytes::Bytes;
use tonic::Code;
use wattle_client::{Client, Error, MapOptions, Options, Responses, ScanOptions, WatchFrom};
use wattle_proto::v1;

use crate::harness::TestNode;
use crate::harness::examples::upload;
use crate::harness::grid::{PARTITIONS, all_have_copies, processes, three};
use crate::harness::wire::{Wire, eventually, facts, put, refusal};

fn held(backups: u32, min_in_sync: u32) -> MapOptions {
    MapOptions::new().replication(backups, min_in_sync)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_map_is_held_as_often_as_it_asks_for() {
    let nodes = three().await;
    let client = nodes[1].client().await;
    for backups in [0, 1, 2] {
        let name = format!("m{backups}");
        let map = client.maps().create(&name, &held(backups, 0)).await.unwrap();
        let min_in_sync = [1, 1, 2][backups as usize];
        assert_eq!(map.options.unwrap().replication, Some(v1::Replication { backups, min_in_sync }));
    }
    let rows = eventually(async || {
        let rows = client.partitions().await.unwrap().partitions;
        let copies = |row: &v1::Partition| [2, 1, 3][row.class as usize];
        let settled = rows.iter().all(|row| row.in_sync.len() == copies(row) && row.in_sync == row.wanted);
        (rows.len() == 3 * usize::from(PARTITIONS) && settled).then_some(rows)
    })
    .await;
    let primaries = |class| rows.iter().filter(move |row| row.class == class).filter_map(|row| row.primary);
    for class in 0..3 {
        assert_eq!(primaries(class).collect::<BTreeSet<_>>().len(), 3, "all nodes decide about some of it");
    }
    for backups in [0, 1, 2] {
        let map = client.raw_map(format!("m{backups}"));
        for n in 0..100 {
            map.put(format!("k{n}"), format!("{backups}")).await.unwrap();
        }
    }
    for (node, backups) in nodes.iter().zip([1, 2, 0]) {
        let map = node.client().await.raw_map(format!("m{backups}"));
        assert_eq!(map.get("k7").await.unwrap().unwrap().value, backups.to_string());
        assert_eq!(map.size().await.unwrap(), 100);
        let mut keys = BTreeSet::new();
        let mut scan = map.scan(ScanOptions::new());
        while let Some(entry) = scan.next().await.unwrap() {
            keys.insert(entry.key);
        }
        assert_eq!(keys.len(), 100);
    }
    let cleared = client.raw_map("m2").clear().await.unwrap();
    assert_eq!((cleared, client.raw_map("m1").size().await.unwrap()), (100, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_all_entries_stays_within_its_map() {
    let nodes = three().await;
    let client = nodes[0].client().await;
    upload(&client, "counter", "add").await;
    for name in ["one", "two"] {
        let options = if name == "two" { held(2, 0) } else { MapOptions::new() };
        client.maps().create(name, &options).await.unwrap();
        for n in 0..50 {
            client.raw_map(name).put(format!("k{n}"), "0").await.unwrap();
        }
    }
    let mut watch = client.raw_map("two").watch("", WatchFrom::Now);
    watch.next().await.unwrap();
    let two = client.raw_map("two");
    let invoked = two.invoke_all("add", "1", Responses::Discard).await.unwrap().finish().await.unwrap();
    assert_eq!((invoked.processed, invoked.failed), (50, 0));
    let mut changed = BTreeSet::new();
    while changed.len() < 50 {
        let changes = watch.next().await.unwrap();
        assert!(!changes.missed);
        changed.extend(changes.changes.into_iter().map(|change| change.key));
    }
    assert_eq!(client.raw_map("two").get("k7").await.unwrap().unwrap().value, "1");
    assert_eq!(client.raw_map("one").get("k7").await.unwrap().unwrap().value, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_with_two_backups_outlives_two_nodes_one_after_the_other() {
    let [first, second, third] = processes().await;
    let client = third.client().await;
    client.maps().create("m", &held(2, 1)).await.unwrap();
    all_have_copies(&client).await;
    let map = client.raw_map("m");
    for n in 0..100 {
        map.put(format!("k{n}"), n.to_string()).await.unwrap();
    }
    // Three of three vote: with the first gone, the other two decide.
    first.kill().await;
    for n in 0..100 {
        assert_eq!(map.get(format!("k{n}")).await.unwrap().unwrap().value, n.to_string());
        map.put(format!("k{n}"), (n + 1).to_string()).await.unwrap();
    }
    second.stop().await;
    for n in 0..100 {
        assert_eq!(map.get(format!("k{n}")).await.unwrap().unwrap().value, (n + 1).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_began_anew_elsewhere_is_never_shown_as_it_was() {
    let [first, second, _third] = processes().await;
    let client = first.client().await;
    client.maps().create("m", &held(0, 0)).await.unwrap();
    all_have_copies(&client).await;
    let map = client.raw_map("m");
    for n in 0..100 {
        map.put(format!("k{n}"), "old").await.unwrap();
    }
    // Nobody else has what the second node holds, so the grid waits for it before it gives that up.
    second.pause();
    let node = node_at(&client, second.address()).await;
    eventually(async || {
        let rows = client.partitions().await.ok()?.partitions;
        rows.iter().all(|row| row.primary.is_some_and(|primary| primary != node)).then_some(())
    })
    .await;
    for n in 0..100 {
        map.put(format!("k{n}"), "new").await.unwrap();
    }
    let options = Options::new(format!("http://{}", second.address()).as_str()).endpoints_only();
    let there = Client::prepare(options).unwrap().raw_map("m");
    second.resume();
    for n in 0..100 {
        eventually(async || match there.get(format!("k{n}")).await {
            Ok(entry) => {
                assert_eq!(entry.unwrap().value, "new");
                Some(())
            }
            // It finds out first that it was given up.
            Err(Error::Unavailable(_)) => None,
            Err(error) => panic!("{error:?}"),
        })
        .await;
    }
}

/// Which node listens at an address.
async fn node_at(client: &Client, address: &str) -> u64 {
    let members = client.status().await.unwrap().members;
    members.iter().find(|member| member.address == address).unwrap().node
}

#[tokio::test]
async fn a_write_that_too_few_copies_would_have_is_refused() {
    let node = TestNode::start();
    node.client().await.maps().create("m", &held(1, 2)).await.unwrap();
    let wire = Wire::to(&node).await;
    let refused = eventually(async || {
        let refused = wire.clone().maps.put(put("m", "k", "v", None)).await.unwrap_err();
        // At first nobody decides about the partition.
        (facts(&refused).1 != "NOT_OWNER").then_some(refused)
    })
    .await;
    assert_eq!(facts(&refused), refusal(Code::Unavailable, "TOO_FEW_IN_SYNC", "NOT_APPLIED"));
}

#[tokio::test]
async fn a_call_on_all_entries_goes_on_where_partitions_of_other_maps_do_not_serve() {
    let node = TestNode::start();
    let client = node.client().await;
    upload(&client, "counter", "add").await;
    client.raw_map("one").put("k", "0").await.unwrap();
    // Of its two copies there can be only one.
    client.maps().create("two", &held(1, 2)).await.unwrap();
    let mut wire = Wire::to(&node).await;
    let compute = wire.compute.clone();
    let all = async |map: &str, request_id| {
        let (function, argument) = ("add".to_owned(), Bytes::from_static(b"1"));
        let all = v1::InvokeAllRequest {
            function,
            map: map.to_owned(),
            argument,
            request_id,
            ..Default::default()
        };
        let mut parts = compute.clone().invoke_all(all).await.map_err(|status| facts(&status))?.into_inner();
        let mut told = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            told.push(part);
        }
        Ok(told)
    };
    for (request_id, value) in [(wire.id(1), "1"), (wire.again(1), "1"), (wire.again(2), "2")] {
        let parts: Vec<v1::InvokePart> = all("one", request_id).await.unwrap();
        assert!(parts.iter().all(|part| part.error.is_none()), "{parts:?}");
        assert_eq!(parts.iter().map(|part| part.processed).sum::<u64>(), 1);
        assert_eq!(wire.value("one", "k").await.unwrap(), value);
    }
    let gone = |outcome| refusal(Code::NotFound, "MAP_NOT_FOUND", outcome);
    assert_eq!(all("none", wire.id(3)).await, Err(gone("NOT_APPLIED")));
    // Nobody can say what its first attempt has done, or may do yet.
    assert_eq!(all("none", wire.again(4)).await, Err(gone("IN_DOUBT")));
    for request_id in [wire.id(5), wire.again(6)] {
        let parts = all("two", request_id).await.unwrap();
        assert_eq!(parts.len(), usize::from(wattle_core::limits::PARTITIONS));
        let is_of_part = |part: v1::InvokePart| {
            let error = part.error.unwrap();
            error.code == Code::Unavailable as i32 && error.outcome() == v1::Outcome::NotApplied
        };
        assert!(parts.into_iter().all(is_of_part));
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_so_is_a_fifth_kind() {
    let node = TestNode::start();
    let mut wire = Wire::to(&node).await;
    let mut create = async |name: &str, backups, min_in_sync| {
        let options = v1::MapOptions {
            replication: Some(v1::Replication { backups, min_in_sync }),
            ..v1::MapOptions::default()
        };
        let request = v1::CreateMapRequest { name: name.to_owned(), options: Some(options) };
        wire.maps.create_map(request).await.map(drop).map_err(|status| facts(&status))
    };
    for (backups, min_in_sync) in [(7, 0), (1, 3), (0, 2), (300, 0), (0, 300)] {
        let refused = create("m", backups, min_in_sync).await;
        let expected = refusal(Code::InvalidArgument, "INVALID_ARGUMENT", "NOT_APPLIED");
        assert_eq!(refused, Err(expected), "{backups} {min_in_sync}");
    }
    for backups in [0, 1, 2, 3] {
        assert_eq!(create(&format!("m{backups}"), backups, 0).await, Ok(()));
    }
    let full = refusal(Code::ResourceExhausted, "TOO_MANY_CLASSES", "NOT_APPLIED");
    assert_eq!(create("m4", 4, 0).await, Err(full));
    assert_eq!(create("another", 2, 2).await, Ok(()), "that kind is there");
}

#[tokio::test]
async fn a_retry_is_not_run_in_a_map_that_was_made_anew_elsewhere() {
    let node = TestNode::start();
    let client = node.client().await;
    let mut wire = Wire::to(&node).await;
    client.maps().create("m", &held(0, 0)).await.unwrap();
    let maps = wire.maps.clone();
    let first = put("m", "k", "v", wire.id(1));
    eventually(async || maps.clone().put(first.clone()).await.ok()).await;
    let remove = |request_id| v1::RemoveRequest {
        map: "m".to_owned(),
        key: Bytes::from_static(b"k"),
        request_id,
        ..Default::default()
    };
    let removed = wire.maps.remove(remove(wire.id(2))).await.unwrap().into_inner();
    assert!(removed.removed);
    client.maps().delete("m").await.unwrap();
    // It is gone, but where its entries were it is known what was done.
    assert_eq!(wire.maps.remove(remove(wire.again(2))).await.unwrap().into_inner(), removed);
    let in_doubt = refusal(Code::Aborted, "IN_DOUBT", "IN_DOUBT");
    // Also when it is made and deleted once more.
    for _ in 0..2 {
        client.maps().create("m", &MapOptions::new()).await.unwrap();
        for again in [wire.again(1), wire.again(7)] {
            let refused = wire.maps.put(put("m", "k", "v", again)).await.unwrap_err();
            assert_eq!(facts(&refused), in_doubt);
        }
        assert_eq!(wire.value("m", "k").await, None);
        wire.put_by_another("m", "k", "w").await;
        let request_id = wire.again(8);
        let clear = v1::ClearRequest { map: "m".to_owned(), request_id, ..Default::default() };
        assert_eq!(facts(&wire.maps.clear(clear).await.unwrap_err()), in_doubt);
        assert_eq!(wire.value("m", "k").await.unwrap(), "w");
        client.maps().delete("m").await.unwrap();
    }
    client.maps().create("m", &MapOptions::new()).await.unwrap();
    // What is asked for the first time runs.
    wire.maps.put(put("m", "k", "w", wire.id(9))).await.unwrap();
}
