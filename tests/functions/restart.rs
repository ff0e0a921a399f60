//! What a data directory keeps: maps and functions, not entries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wattle_client::{ContentType, MapOptions, PutOptions, UploadOptions};

use crate::harness::TestNode;
use crate::harness::examples::{example, upload};

/// The files below a directory, and when each was written.
fn files(directory: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut self::files(&path));
        } else {
            let written = path.metadata().unwrap().modified().unwrap();
            files.insert(path, written);
        }
    }
    files
}

fn below(directory: &Path, folder: &str) -> BTreeMap<PathBuf, SystemTime> {
    let all = files(directory).into_iter();
    all.filter(|(path, _)| path.components().any(|part| part.as_os_str() == folder)).collect()
}

#[tokio::test]
async fn maps_and_functions_outlive_the_node_and_entries_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let node = TestNode::with_data(directory.path());
    let client = node.client().await;
    let options = MapOptions::new().content_type(ContentType::Json).ttl(Duration::from_secs(3600));
    client.maps().create("typed", &options).await.unwrap();
    let map = client.raw_map("m");
    map.put("k", "5").await.unwrap();
    client.raw_map("gone").put("k", "v").await.unwrap();
    client.maps().delete("gone").await.unwrap();
    upload(&client, "counter", "add").await;
    let judge = client.functions();
    judge.upload("judge", example("flight-delay"), &UploadOptions::new()).await.unwrap();
    judge.upload("judge", example("flight-delay-v2"), &UploadOptions::new()).await.unwrap();
    judge.rollback("judge").await.unwrap();
    let maps = client.maps().list().await.unwrap();
    let functions = client.functions().list().await.unwrap();
    assert_eq!((maps.len(), functions.len()), (2, 2));
    node.stop().await;

    let node = TestNode::with_data(directory.path());
    let client = node.client().await;
    assert_eq!(client.maps().list().await.unwrap(), maps);
    assert_eq!(client.functions().list().await.unwrap(), functions);
    let map = client.raw_map("m");
    assert_eq!(map.get("k").await.unwrap(), None);
    assert_eq!(map.invoke("add", "k", "3").await.unwrap().response, "3");
    let back = client.functions().rollback("judge").await.unwrap();
    assert_eq!((back.active, back.previous), (2, 1));
    // Ids go on where they stood.
    let new = client.maps().create("gone", &MapOptions::new()).await.unwrap();
    assert!(maps.iter().all(|map| map.id < new.id), "{new:?}");
}

#[tokio::test]
async fn a_version_from_before_a_restart_is_never_met_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = TestNode::with_data(directory.path());
    let map = node.client().await.raw_map("m");
    let seen = map.put("k", "seen").await.unwrap();
    let last = map.put("k", "last").await.unwrap();
    node.stop().await;

    let node = TestNode::with_data(directory.path());
    let map = node.client().await.raw_map("m");
    for value in ["unseen", "unseen as well"] {
        let version = map.put("k", value).await.unwrap();
        assert!(version > last, "{version} after {last}");
    }
    let lost = map.put_with("k", "lost", PutOptions::new().if_version(seen)).await;
    assert!(matches!(lost, Err(wattle_client::Error::VersionMismatch { .. })), "{lost:?}");
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "unseen as well");
}

#[tokio::test]
async fn an_upload_that_is_there_already_is_not_compiled_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = TestNode::with_data(directory.path());
    upload(&node.client().await, "counter", "add").await;
    node.stop().await;
    let (modules, artifacts) = (below(directory.path(), "modules"), below(directory.path(), "artifacts"));
    assert_eq!((modules.len(), artifacts.len()), (1, 1));

    let node = TestNode::with_data(directory.path());
    let client = node.client().await;
    let again =
        client.functions().upload("add", example("counter"), &UploadOptions::new().export("add")).await;
    let again = again.unwrap();
    assert_eq!((again.version, again.function.versions.len()), (1, 1));
    assert_eq!(client.raw_map("m").invoke("add", "k", "2").await.unwrap().response, "2");
    assert_eq!(below(directory.path(), "artifacts"), artifacts, "the artifact is the one of the first node");
}

#[tokio::test]
async fn a_deleted_functions_module_is_removed_and_stays_away() {
    let directory = tempfile::tempdir().unwrap();
    let node = TestNode::with_data(directory.path());
    let client = node.client().await;
    upload(&client, "counter", "add").await;
    client.functions().delete("add").await.unwrap();
    node.stop().await;
    let node = TestNode::with_data(directory.path());
    assert_eq!(node.client().await.functions().list().await.unwrap(), []);
    assert_eq!(below(directory.path(), "modules").len(), 0, "nothing refers to the module any more");
}

#[tokio::test]
async fn a_module_without_the_export_that_is_asked_for_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let node = TestNode::with_data(directory.path());
    let client = node.client().await;
    let options = UploadOptions::new().export("nope");
    let refused = client.functions().upload("f", example("counter"), &options).await.unwrap_err();
    assert_eq!(refused.reason(), Some("EXPORT_NOT_FOUND"), "{refused:?}");
    let left = ["modules", "artifacts"].map(|below_it| below(directory.path(), below_it));
    assert_eq!(left, [BTreeMap::new(), BTreeMap::new()]);
}
