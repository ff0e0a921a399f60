//! How nodes come to a grid, and who is not let in.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout;
use wattle::config::{DiscoveryKind, RawConfig};
use wattle::node::NodeError;

use crate::harness::dns_server::{DnsServer, a, srv};
use crate::harness::grid::{address, all_have_copies, free_addresses};
use crate::harness::wire::{eventually, get};
use crate::harness::{TestNode, run, try_start};

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

/// Of a node that is to find others as `wattle.test`.
fn found_by(dns: &DnsServer) -> RawConfig {
    RawConfig {
        discovery: Some(DiscoveryKind::Dns),
        service: Some("wattle.test".to_owned()),
        dns_server: Some(dns.address()),
        ..RawConfig::default()
    }
}

fn start_expecting_three(listen: &str, raw: RawConfig) -> JoinHandle<TestNode> {
    let raw =
        RawConfig { listen: listen.parse().ok(), bootstrap_expect: Some(3), partitions: Some(31), ..raw };
    tokio::task::spawn_blocking(|| TestNode::with(raw))
}

/// Waits for nodes which are to be one grid.
async fn one_grid(starting: Vec<JoinHandle<TestNode>>) {
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
async fn nodes_that_are_expected_found_one_grid() {
    let addresses = free_addresses(3);
    let others = || RawConfig { join: Some(addresses.clone()), ..RawConfig::default() };
    one_grid(addresses.iter().map(|listen| start_expecting_three(listen, others())).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_each_other_by_dns_as_soon_as_it_answers() {
    let dns = DnsServer::start().await;
    let addresses = free_addresses(3);
    dns.fail(true);
    let starting: Vec<_> =
        addresses.iter().map(|listen| start_expecting_three(listen, found_by(&dns))).collect();
    dns.asked(6).await;
    let records = addresses.iter().map(|address| srv("here.test", port(address))).collect::<Vec<_>>();
    dns.set("here.test", vec![a("127.0.0.1")]);
    // It knows one at first: that makes two at the most, for whoever asks.
    dns.set("wattle.test", records[..1].to_vec());
    dns.fail(false);
    dns.asked(6).await;
    assert!(starting.iter().all(|node| !node.is_finished()), "nobody has founded anything");
    dns.set("wattle.test", records);
    one_grid(starting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_is_created_where_people_say_so_and_once() {
    let dns = DnsServer::start().await;
    let addresses = free_addresses(3);
    let records: Vec<_> = addresses.iter().map(|address| srv("here.test", port(address))).collect();
    dns.set("here.test", vec![a("127.0.0.1")]);
    dns.set("wattle.test", records[..2].to_vec());
    let start = |place: usize| {
        let raw = RawConfig { listen: addresses[place].parse().ok(), partitions: Some(31), ..found_by(&dns) };
        tokio::task::spawn_blocking(|| TestNode::with(raw))
    };
    let create = async |place: usize, more: &[&str]| {
        let endpoint = format!("http://{}", addresses[place]);
        let command = ["grid", "create", "--timeout", "10s", "--endpoint", endpoint.as_str()];
        let output = run(&[&command[..], more].concat()).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let first = start(0);
    let (_, said) = eventually(async || Some(create(0, &[]).await).filter(|done| done.0 == Some(2))).await;
    assert!(said.contains("1 of 2 addresses do not answer") && said.contains("say --yes"), "{said}");
    // That is forgotten: it founds nothing when it finds nobody but itself.
    dns.set("wattle.test", records[..1].to_vec());
    timeout(Duration::from_secs(20), dns.asked(8)).await.expect("it goes on looking");
    assert!(!first.is_finished());
    let ready = get(&addresses[0], "/readyz").await;
    assert!(ready.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&ready));
    dns.set("wattle.test", records);
    let nodes = vec![first, start(1), start(2)];
    eventually(async || (create(1, &[]).await.0 == Some(0)).then_some(())).await;
    let again = async || Some(create(0, &["--yes"]).await).filter(|done| done.0 != Some(5));
    let (code, said) = eventually(again).await;
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("in a grid already"), "{said}");
    one_grid(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_is_created_beside_silent_addresses_if_that_is_meant() {
    let addresses = free_addresses(2);
    let raw = RawConfig {
        listen: addresses[0].parse().ok(),
        join: Some(vec![addresses[1].clone()]),
        ..RawConfig::default()
    };
    let node = tokio::task::spawn_blocking(|| TestNode::with(raw));
    let endpoint = format!("http://{}", addresses[0]);
    let command = ["grid", "create", "--yes", "--output", "json", "--endpoint", endpoint.as_str()];
    let created = eventually(async || {
        let output = run(&command).await;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    let status = node.await.unwrap().client().await.status().await.unwrap();
    let id: String = status.grid_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(created, serde_json::json!({ "name": "wattle", "id": id }));
}

/// One of several nodes with a data directory each; all but the first join that one.
fn start_with_data(root: &Path, addresses: &[String], index: usize) -> JoinHandle<TestNode> {
    let raw = RawConfig {
        listen: addresses[index].parse().ok(),
        data_dir: Some(root.join(index.to_string())),
        join: (index > 0).then(|| vec![addresses[0].clone()]),
        partitions: Some(31),
        ..RawConfig::default()
    };
    tokio::task::spawn_blocking(|| TestNode::with(raw))
}

fn port(address: &str) -> u16 {
    address.parse::<std::net::SocketAddr>().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_that_was_stopped_goes_on_with_its_maps_and_without_entries() {
    let root = tempfile::tempdir().unwrap();
    let addresses = free_addresses(3);
    let start = |index| start_with_data(root.path(), &addresses, index);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_starts_again_before_others_elect_one_asks_nobody_who_would_ask_it() {
    let root = tempfile::tempdir().unwrap();
    let addresses = free_addresses(3);
    let start = |index| start_with_data(root.path(), &addresses, index);
    let mut nodes = Vec::new();
    for index in 0..3 {
        nodes.push(start(index).await.unwrap());
    }
    let client = nodes[2].client().await;
    let votes = async || client.status().await.unwrap().members.iter().filter(|member| member.votes).count();
    eventually(async || (votes().await == 3).then_some(())).await;
    all_have_copies(&client).await;
    nodes.remove(0).stop().await;
    let stopped = Instant::now();
    nodes.push(start(0).await.unwrap());
    // Each of the others would look for a leader for ten seconds.
    assert!(stopped.elapsed() < Duration::from_secs(9), "{:?}", stopped.elapsed());
    all_have_copies(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_left_comes_back_as_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let first = TestNode::with(RawConfig::default());
    let raw = || RawConfig {
        data_dir: Some(directory.path().to_owned()),
        join: Some(vec![address(&first)]),
        ..RawConfig::default()
    };
    let second = TestNode::with(raw());
    let client = first.client().await;
    all_have_copies(&client).await;
    let nodes = async || {
        let members = client.status().await.unwrap().members;
        members.iter().map(|member| member.node).collect::<Vec<_>>()
    };
    client.drain_node(2, false).await.unwrap();
    eventually(async || (nodes().await == [1]).then_some(())).await;
    second.drain().await;
    let error = refused(raw()).await;
    assert!(error.contains("forgotten node 2"), "{error}");
    assert_eq!(nodes().await, [1], "what was refused is no member");
    let again = TestNode::with(raw());
    all_have_copies(&client).await;
    assert_eq!(nodes().await, [1, 3]);
    drop(again);
}
