//! Data directories that a node cannot or must not use.

use std::fs;
use std::path::Path;

use tonic::Code;
use wattle::config::RawConfig;
use wattle_client::{ContentType, MapOptions};

use super::{KEY, Scene, complaint, refusal, run, text};
use crate::harness::guest::Guest;
use crate::harness::{TestNode, try_start};

/// Why a node does not start there: in this process, and from the command line, with the code 1.
async fn refusal_at(path: &Path) -> String {
    let raw = RawConfig { data_dir: Some(path.to_owned()), ..RawConfig::default() };
    let error = anyhow::Error::from(try_start(raw).expect_err("the node refuses"));
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(path)]).await;
    let (code, complaint) = complaint(&output);
    let message = format!("{error:#}");
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("error: ") && complaint.contains(text(path)), "{complaint}");
    message
}

#[tokio::test]
async fn an_unwritable_data_directory_is_refused_by_its_path() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for path in [file.join("data"), file.clone()] {
        let message = refusal_at(&path).await;
        let expected = format!("cannot write to the data directory {}", path.display());
        assert!(message.contains(&expected) && message.contains("ot a directory"), "{message}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
    let node = TestNode::with_data(&root.path().join("data"));
    Scene::on(node).await.check_unharmed().await;
}

#[tokio::test]
async fn a_data_directory_of_a_newer_version_is_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let scene = Scene::on(TestNode::with_data(root.path())).await;
    let maps = scene.client.maps();
    let defined = maps.create("json", &MapOptions::new().content_type(ContentType::Json)).await.unwrap();
    scene.upload("count", &Guest::counter()).await.unwrap();
    scene.stop().await;
    let log = fs::read(root.path().join("control.redb")).unwrap();
    fs::write(root.path().join("FORMAT"), "2\n").unwrap();
    let message = refusal_at(root.path()).await;
    assert!(message.contains("has format 2, this version reads up to 1: use a newer version"), "{message}");
    assert_eq!(fs::read(root.path().join("FORMAT")).unwrap(), b"2\n");
    assert_eq!(fs::read(root.path().join("control.redb")).unwrap(), log);
    fs::write(root.path().join("FORMAT"), "1\n").unwrap();
    let scene = Scene::on(TestNode::with_data(root.path())).await;
    assert_eq!(scene.client.maps().describe("json").await.unwrap().0, defined);
    assert_eq!(scene.map.invoke("count", "new", "").await.unwrap().response, 1_u64.to_le_bytes()[..]);
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused_and_its_node_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let scene = Scene::on(TestNode::with_data(root.path())).await;
    scene.upload("count", &Guest::counter()).await.unwrap();
    let message = refusal_at(root.path()).await;
    let expected = format!("is in use by process {}", std::process::id());
    assert!(message.contains(&expected), "{message}");
    scene.check_unharmed().await;
    assert_eq!(scene.map.invoke("count", KEY, "").await.unwrap().response, 43_u64.to_le_bytes()[..]);
}

#[tokio::test]
async fn a_data_directory_without_its_control_log_is_refused_until_that_is_back_or_given_up() {
    let root = tempfile::tempdir().unwrap();
    let scene = Scene::on(TestNode::with_data(root.path())).await;
    let maps = scene.client.maps();
    let defined = maps.create("json", &MapOptions::new().content_type(ContentType::Json)).await.unwrap();
    scene.upload("count", &Guest::counter()).await.unwrap();
    scene.stop().await;
    let (log, elsewhere) = (root.path().join("control.redb"), root.path().join("moved"));
    let modules = || fs::read_dir(root.path().join("modules")).unwrap().count();
    fs::rename(&log, &elsewhere).unwrap();
    let message = refusal_at(root.path()).await;
    let format = root.path().join("FORMAT");
    for part in [log.display().to_string(), "put it back".to_owned(), format!("remove {}", format.display())]
    {
        assert!(message.contains(&part), "{message:?} lacks {part:?}");
    }
    assert_eq!((log.exists(), modules()), (false, 1), "nothing is made or removed");
    fs::rename(&elsewhere, &log).unwrap();
    let scene = Scene::on(TestNode::with_data(root.path())).await;
    assert_eq!(scene.client.maps().describe("json").await.unwrap().0, defined);
    assert_eq!(scene.map.invoke("count", "new", "").await.unwrap().response, 1_u64.to_le_bytes()[..]);
    scene.stop().await;
    // Given up, as the message says.
    fs::remove_file(&log).unwrap();
    fs::remove_file(&format).unwrap();
    let scene = Scene::on(TestNode::with_data(root.path())).await;
    let missing = scene.client.maps().describe("json").await;
    scene.check_refused(missing, refusal(Code::NotFound, "MAP_NOT_FOUND", "no map json").of_read()).await;
}
