//! What functions cost in open files.

use wattle_client::UploadOptions;

use crate::harness::guest::Guest;
use crate::harness::process::ProcessNode;

/// More versions than a process may have open files unless it asks for more.
const VERSIONS: u32 = 30;
const FUNCTIONS: [&str; 2] = ["f", "g"];

async fn check(node: ProcessNode) {
    let client = node.client().await;
    let mut open = Vec::new();
    for version in 1..=VERSIONS {
        for name in FUNCTIONS {
            let guest = Guest::counter().with(&format!("(data (i32.const 4096) \"{name} {version}\")"));
            let staged = UploadOptions::new().stage();
            let options = if version % 2 == 0 { staged } else { UploadOptions::new() };
            let uploaded = client.functions().upload(name, guest.module(), &options).await.unwrap();
            assert_eq!(uploaded.version, version);
            client.raw_map("m").invoke(name, "k", "").await.unwrap();
        }
        open.push(node.open_files());
    }
    // Each function has one version that runs, and a compute thread may hold the one before.
    let (first, most) = (open[0], open.iter().max().copied().unwrap());
    assert!(most <= first + FUNCTIONS.len() * 2, "{open:?}");
    for name in FUNCTIONS {
        client.functions().rollback(name).await.unwrap();
        client.raw_map("m").invoke(name, "k", "").await.unwrap();
    }
    node.stop().await;
}

#[tokio::test]
async fn versions_that_do_not_run_hold_no_open_files() {
    check(ProcessNode::start().await).await;
    let data = tempfile::tempdir().unwrap();
    check(ProcessNode::with_data(data.path()).await).await;
}
