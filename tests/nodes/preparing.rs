//! What nodes do while one of them fetches and compiles functions.

use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use wattle::config::RawConfig;
use wattle_client::api::{Partition, RunningVersion};
use wattle_client::{Client, MapOptions, Options, Outcome, RawMap, UploadOptions};

use crate::harness::TestNode;
use crate::harness::compiler::HeldCompiler;
use crate::harness::examples::{example, upload};
use crate::harness::grid::{PARTITIONS, address, all_have_copies, free_addresses, joined_to};
use crate::harness::wire::eventually;

/// Longer than a member may be silent that is to stay primary.
const LONG: Duration = Duration::from_secs(4);

fn keys() -> impl Iterator<Item = String> {
    (0..50).map(|n| format!("k{n}"))
}

fn small() -> RawConfig {
    RawConfig { partitions: Some(PARTITIONS), ..RawConfig::default() }
}

fn joining(node: &TestNode) -> RawConfig {
    RawConfig { join: Some(vec![address(node)]), ..RawConfig::default() }
}

/// Starts a node, which serves when it has compiled what there is.
fn starts(raw: RawConfig, compiler: &HeldCompiler) -> JoinHandle<TestNode> {
    let program = compiler.program();
    spawn_blocking(move || TestNode::compiled_by(raw, program))
}

/// Partitions in which a member has a part.
async fn of_member(client: &Client, member: u64) -> usize {
    let names = |partition: &&Partition| {
        partition.primary == Some(member)
            || partition.wanted.contains(&member)
            || partition.in_sync.contains(&member)
    };
    client.partitions().await.unwrap().partitions.iter().filter(names).count()
}

/// Asks only the node that is its endpoint, which sends calls on.
async fn by_way_of(node: &TestNode) -> Client {
    Client::connect(Options::new(node.endpoint()).endpoints_only()).await.unwrap()
}

async fn add_to_all(map: &RawMap, expected: &str) {
    for key in keys() {
        assert_eq!(map.invoke("add", key, "1").await.unwrap().response, expected);
    }
}

#[tokio::test]
async fn who_joins_gets_partitions_when_it_has_compiled_what_they_run() {
    let first = TestNode::with(small());
    let client = first.client().await;
    upload(&client, "counter", "add").await;
    let map = client.raw_map("m");
    add_to_all(&map, "1").await;
    let compiler = HeldCompiler::held();
    let second = starts(joining(&first), &compiler);
    compiler.is_asked().await;
    let begun = Instant::now();
    let mut times = 1;
    while begun.elapsed() < LONG {
        times += 1;
        add_to_all(&map, &times.to_string()).await;
        assert_eq!(of_member(&client, 2).await, 0);
    }
    // It lives, and must not be taken for dead.
    let refused = client.forget_node(2).await.unwrap_err();
    assert_eq!(refused.reason(), Some("NODE_ANSWERS"), "{refused}");
    compiler.release();
    let second = second.await.unwrap();
    eventually(async || (of_member(&client, 2).await == usize::from(PARTITIONS)).then_some(())).await;
    all_have_copies(&client).await;
    add_to_all(&second.client().await.raw_map("m"), &(times + 1).to_string()).await;
}

fn remove_artifacts(directory: &Path) {
    for artifact in std::fs::read_dir(directory.join("artifacts")).unwrap() {
        std::fs::remove_file(artifact.unwrap().path()).unwrap();
    }
}

#[tokio::test]
async fn a_leader_that_compiles_after_a_restart_has_others_take_over() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = Some(directory.path().to_owned());
    let first = TestNode::with(RawConfig { data_dir: data_dir.clone(), ..small() });
    upload(&first.client().await, "counter", "add").await;
    let second = joined_to(&first);
    let client = by_way_of(&second).await;
    client.maps().create("alone", &MapOptions::new().replication(0, 1)).await.unwrap();
    all_have_copies(&client).await;
    let map = client.raw_map("m");
    add_to_all(&map, "1").await;
    // The only voter.
    first.stop().await;
    remove_artifacts(directory.path());
    let compiler = HeldCompiler::held();
    let first = starts(RawConfig { data_dir, ..small() }, &compiler);
    compiler.is_asked().await;
    for key in keys() {
        eventually(async || map.get(key.clone()).await.ok()).await;
    }
    add_to_all(&map, "2").await;
    // Nobody may have these but who is heard by a leader.
    let alone = client.raw_map("alone");
    for key in keys() {
        eventually(async || alone.put(key.clone(), "v").await.ok()).await;
    }
    compiler.release();
    let first = first.await.unwrap();
    all_have_copies(&client).await;
    add_to_all(&first.client().await.raw_map("m"), "3").await;
}

#[tokio::test]
async fn who_compiles_does_what_it_did_before_and_stops_when_it_is_told_to() {
    let first = TestNode::with(small());
    let client = by_way_of(&first).await;
    upload(&client, "counter", "add").await;
    let compiler = HeldCompiler::held();
    compiler.release();
    let second = starts(joining(&first), &compiler).await.unwrap();
    all_have_copies(&client).await;
    let map = client.raw_map("m");
    add_to_all(&map, "1").await;
    compiler.hold();
    let uploading = client.clone();
    let uploaded = tokio::spawn(async move {
        let staged = UploadOptions::new().stage();
        uploading.functions().upload("judge", example("flight-delay"), &staged).await
    });
    compiler.is_asked().await;
    for key in keys() {
        map.put(key, "1").await.unwrap();
    }
    add_to_all(&map, "2").await;
    uploaded.await.unwrap().unwrap();
    add_to_all(&map, "3").await;
    timeout(Duration::from_secs(20), second.stop()).await.expect("it does not wait for the compiler");
}

#[tokio::test]
async fn an_upload_that_no_other_node_can_fetch_is_not_acknowledged() {
    let peer_listen = "127.0.0.1:0".parse().ok();
    let first = TestNode::with(RawConfig { advertise: free_addresses(1).pop(), peer_listen, ..small() });
    let join = Some(vec![first.peer_address()]);
    let second = TestNode::with(RawConfig { join, ..RawConfig::default() });
    let client = by_way_of(&first).await;
    let options = UploadOptions::new().export("add");
    let refused = client.functions().upload("add", example("counter"), &options).await.unwrap_err();
    assert_eq!(refused.reason(), Some("MODULE_NOT_COPIED"), "{refused}");
    assert_eq!(refused.outcome(), Some(Outcome::InDoubt));
    let (function, _) = client.functions().describe("add").await.unwrap();
    assert_eq!(function.active, 0, "the name has not moved on");
    // It reaches the other.
    let client = by_way_of(&second).await;
    assert_eq!(client.functions().upload("add", example("counter"), &options).await.unwrap().version, 1);
}

/// As a node whose limits are smaller than those of the others.
#[tokio::test]
async fn who_cannot_load_a_function_is_shown_with_the_reason() {
    let first = TestNode::with(small());
    let raw = joining(&first);
    let second = spawn_blocking(|| TestNode::compiled_by(raw, "/bin/false".into())).await.unwrap();
    let client = first.client().await;
    upload(&client, "counter", "add").await;
    let members = client.status().await.unwrap().members;
    let problems: Vec<_> = members.iter().map(|member| member.not_loaded.len()).collect();
    assert_eq!(problems, [0, 1]);
    let [problem] = &members[1].not_loaded[..] else { panic!("{members:?}") };
    let (function, problem) = (&problem.function, problem.problem.trim());
    assert_eq!(function, "add");
    let running: Vec<_> =
        client.status_about("add").await.unwrap().members.into_iter().map(|member| member.runs).collect();
    let module = Sha256::digest(example("counter")).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(running, [Some(RunningVersion { number: 1, module }), None]);
    for (arguments, shown) in [
        (&["function", "describe", "add"][..], format!("on node 2: {problem}")),
        (&["grid", "status"], format!("cannot run function add: {problem}")),
    ] {
        let printed = String::from_utf8(first.command(arguments).await.stdout).unwrap();
        assert!(printed.contains(&shown), "{printed}");
    }
    second.stop().await;
}
