//! How nodes come to a grid, and who is not let in.

use std::io::Write;
use std::path::PathBuf;

use wattle::config::RawConfig;
use wattle::node::NodeError;

use crate::harness::grid::{address, all_have_copies, free_addresses};
use crate::harness::{TestNode, try_start};

/// The whole of an error, which keeps a node out.
async fn refused(raw: RawConfig) -> String {
    let started = tokio::task::spawn_blocking(|| try_start(raw)).await.unwrap();
    let Err(error) = started else { panic!("it was let in") };
    assert!(matches!(error, NodeError::Grid(_)), "{error:?}");
    format!("{:#}", anyhow::Error::from(error))
}

fn secret(directory: &tempfile::TempDir, name: &str, secret: &str) -> Option<PathBuf> {
    let path = directory.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(secret.as_bytes()).unwrap();
    Some(path)
}

#[tokio::test]
async fn a_node_with_another_secret_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ours = secret(&directory, "ours", "a secret of the grid\n");
    let node = TestNode::with(RawConfig { grid_secret_file: ours.clone(), ..RawConfig::default() });
    let join = || Some(vec![address(&node)]);
    for theirs in [None, secret(&directory, "theirs", "another secret of it")] {
        let raw = RawConfig { join: join(), grid_secret_file: theirs, ..RawConfig::default() };
        let error = refused(raw).await;
        assert!(error.contains("secret"), "{error}");
    }
    let raw = RawConfig { join: join(), grid_secret_file: ours, ..RawConfig::default() };
    let friend = TestNode::with(raw);
    assert_eq!(friend.client().await.status().await.unwrap().members.len(), 2);
}

#[tokio::test]
async fn a_node_that_looks_for_another_grid_is_refused() {
    let node = TestNode::with(RawConfig { grid: Some("here".to_owned()), ..RawConfig::default() });
    let raw = RawConfig {
        join: Some(vec![address(&node)]),
        grid: Some("there".to_owned()),
        ..RawConfig::default()
    };
    let error = refused(raw).await;
    assert!(error.contains("\"here\"") && error.contains("\"there\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_expected_found_one_grid() {
    let addresses = free_addresses(3);
    let start = |listen: String| {
        let raw = RawConfig {
            listen: listen.parse().ok(),
            join: Some(addresses.clone()),
            bootstrap_expect: Some(3),
            partitions: Some(31),
            ..RawConfig::default()
        };
        tokio::task::spawn_blocking(|| TestNode::with(raw))
    };
    let starting: Vec<_> = addresses.iter().cloned().map(start).collect();
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await.unwrap());
    }
    let mut grids = Vec::new();
    for node in &nodes {
        let status = node.client().await.status().await.unwrap();
        assert_eq!(status.members.len(), 3);
        grids.push(status.grid_id);
    }
    assert!(grids[0] == grids[1] && grids[1] == grids[2], "{grids:?}");
    all_have_copies(&nodes[0].client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_that_was_stopped_goes_on_with_its_maps_and_without_entries() {
    let root = tempfile::tempdir().unwrap();
    let addresses = free_addresses(3);
    let start = |index: usize| {
        let raw = RawConfig {
            listen: addresses[index].parse().ok(),
            data_dir: Some(root.path().join(index.to_string())),
            join: (index > 0).then(|| vec![addresses[0].clone()]),
            partitions: Some(31),
            ..RawConfig::default()
        };
        tokio::task::spawn_blocking(|| TestNode::with(raw))
    };
    let mut nodes = Vec::new();
    for index in 0..3 {
        nodes.push(start(index).await.unwrap());
    }
    let client = nodes[2].client().await;
    all_have_copies(&client).await;
    client.raw_map("m").put("k", "v").await.unwrap();
    let before = client.status().await.unwrap();
    for node in nodes {
        node.stop().await;
    }
    let starting = [start(2), start(0), start(1)];
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await.unwrap());
    }
    let client = nodes[1].client().await;
    all_have_copies(&client).await;
    let after = client.status().await.unwrap();
    assert_eq!(after.grid_id, before.grid_id);
    let lives = |status: &wattle_client::api::StatusResponse| -> Vec<(u64, u64)> {
        status.members.iter().map(|member| (member.node, member.incarnation)).collect()
    };
    assert_eq!((lives(&before), lives(&after)), (vec![(1, 1), (2, 1), (3, 1)], vec![(1, 2), (2, 2), (3, 2)]));
    assert_eq!(client.raw_map("m").get("k").await.unwrap(), None, "entries were in memory");
    client.raw_map("m").put("k", "v").await.unwrap();
}
