//! The disk of one of three voters takes nothing more while the control group appends to its log.

use wattle_client::{Client, MapOptions};

use crate::harness::grid::all_have_copies;
use crate::harness::process::ProcessNode;
use crate::harness::wire::eventually;

async fn maps(client: &Client) -> Vec<String> {
    let maps = client.maps().list().await.unwrap();
    let mut names: Vec<String> = maps.into_iter().map(|map| map.name).collect();
    names.sort_unstable();
    names
}

/// Fills the disk of one of three, the first of which leads, and creates maps through another meanwhile.
async fn goes_on_while_full(place: usize) {
    let root = tempfile::tempdir().unwrap();
    let data = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let first = ProcessNode::with_data(&root.path().join("1")).await;
    let second = first.joined_with(&["--data-dir", &data("2")]).await;
    let third = first.joined_with(&["--data-dir", &data("3")]).await;
    let mut nodes = [first, second, third];
    let client = nodes[2].client().await;
    eventually(async || {
        let members = client.status().await.unwrap().members;
        (members.len() == 3 && members.iter().all(|member| member.votes)).then_some(())
    })
    .await;
    all_have_copies(&client).await;
    assert_eq!(client.status().await.unwrap().leader, Some(1));
    let (map, options) = (client.raw_map("m"), MapOptions::new());
    map.put("k", "before").await.unwrap();
    nodes[place].limit_files(Some(0));
    // Each is decided by the two others, whoever of them leads by then.
    for name in ["a", "b", "c"] {
        eventually(async || {
            let created = client.maps().create(name, &options).await;
            (created.is_ok() || maps(&client).await.contains(&name.to_owned())).then_some(())
        })
        .await;
    }
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "before");
    map.put("k", "meanwhile").await.unwrap();
    assert!(nodes.iter_mut().all(ProcessNode::is_running), "nobody has ended");
    nodes[place].limit_files(None);
    for node in &nodes {
        let at = node.client().await;
        let names = eventually(async || Some(maps(&at).await).filter(|maps| maps.len() == 4)).await;
        assert_eq!(names, ["a", "b", "c", "m"]);
        assert_eq!(at.raw_map("m").get("k").await.unwrap().unwrap().value, "meanwhile");
    }
    all_have_copies(&client).await;
    // All three write again: a change through the one that was full is decided.
    nodes[place].client().await.maps().create("d", &options).await.unwrap();
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_goes_on_while_the_disk_of_its_leader_is_full() {
    goes_on_while_full(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_goes_on_while_the_disk_of_a_voter_is_full() {
    goes_on_while_full(1).await;
}
