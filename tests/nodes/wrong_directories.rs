//! Data directories that are of another grid, or another node's.

use std::path::Path;

use wattle::config::RawConfig;
use wattle::node::NodeError;

use crate::harness::grid::address;
use crate::harness::{TestNode, try_start};

fn with(directory: &Path, grid: &str, others: &[&TestNode]) -> RawConfig {
    RawConfig {
        data_dir: Some(directory.to_owned()),
        grid: Some(grid.to_owned()),
        join: (!others.is_empty()).then(|| others.iter().map(|node| address(node)).collect()),
        ..RawConfig::default()
    }
}

async fn refused(raw: RawConfig) -> NodeError {
    let started = tokio::task::spawn_blocking(|| try_start(raw)).await.unwrap();
    started.expect_err("it is not let in")
}

fn whole(error: NodeError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

async fn value(node: &TestNode) -> String {
    let entry = node.client().await.raw_map("m").get("k").await.unwrap();
    String::from_utf8(entry.unwrap().value.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_grid_is_refused_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let here = TestNode::with(with(&root.path().join("here"), "here", &[]));
    here.client().await.raw_map("m").put("k", "v").await.unwrap();
    let there = root.path().join("there");
    let node = TestNode::with(with(&there, "there", &[]));
    node.client().await.raw_map("theirs").put("k", "v").await.unwrap();
    node.stop().await;
    // As a grid of a name, with others or alone.
    for others in [&[&here][..], &[]] {
        let error = refused(with(&there, "here", others)).await;
        assert!(matches!(error, NodeError::Grid(_)), "{error:?}");
        let said = whole(error);
        assert!(said.contains("is of grid \"there\", and the node looks for grid here"), "{said}");
    }
    assert_eq!(value(&here).await, "v");
    assert_eq!(here.client().await.status().await.unwrap().members.len(), 1);
    let again = TestNode::with(with(&there, "there", &[]));
    let status = again.client().await.status().await.unwrap();
    assert_eq!((status.name.as_str(), status.maps, status.members.len()), ("there", 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_on_one_data_directory_the_second_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("data");
    let first = TestNode::with(with(&directory, "here", &[]));
    let other = TestNode::with(with(&root.path().join("other"), "here", &[&first]));
    first.client().await.raw_map("m").put("k", "v").await.unwrap();
    let error = refused(with(&directory, "here", &[&first, &other])).await;
    assert!(matches!(error, NodeError::DataDirectory(_)), "{error:?}");
    let said = whole(error);
    assert!(said.contains(&format!("is in use by process {}", std::process::id())), "{said}");
    for node in [&first, &other] {
        assert_eq!(value(node).await, "v");
        assert_eq!(node.client().await.status().await.unwrap().members.len(), 2);
    }
}
