//! The load generator against several nodes: keys of one of them, and an end that comes early.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::TestNode;
use crate::harness::grid::three;
use crate::harness::wire::eventually;

const KEYS: [&str; 4] = ["--keys", "300", "--output", "json"];

fn counted(operation: &str) -> String {
    format!("wattle_map_operations_total{{map=\"bench\",operation=\"{operation}\"}}")
}

/// What it prints.
async fn load(node: &TestNode, arguments: &[&str]) -> Value {
    let done = node.command(&[&["bench"], arguments, &KEYS].concat()).await;
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_on_the_keys_of_a_node_is_no_other_nodes() {
    let nodes = three().await;
    // Writes the entries.
    load(&nodes[0], &["get", "--duration", "1ms"]).await;
    let before = nodes[2].metric(&counted("put")).await;
    let figures = load(&nodes[0], &["put", "--duration", "200ms", "--of-node", "2"]).await;
    assert_eq!(nodes[2].metric(&counted("put")).await, before);
    assert!(nodes[1].metric(&counted("put")).await >= figures["operations"].as_u64().unwrap());
    let seconds = |name: &str| figures[name].as_f64().unwrap() / 1e6;
    let lasted = figures["seconds"].as_f64().unwrap();
    assert!(seconds("max_us") > 0.0 && (1e-6..=lasted).contains(&seconds("longest_gap_us")), "{figures}");
    let refused = nodes[0].command(&["bench", "put", "--of-node", "7", "--keys", "300"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("node 7 decides about none of the keys: nodes {1, 2, 3} do"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_interrupted_prints_what_it_has_measured() {
    let node = TestNode::start();
    let mut bench = tokio::process::Command::new(env!("CARGO_BIN_EXE_wattle"));
    bench.args(["bench", "get", "--duration", "1h", "--endpoint", &node.endpoint()]).args(KEYS);
    let bench = bench.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let name = counted("get");
    eventually(async || node.has_metric(&name).await.filter(|gets| *gets > 0)).await;
    let pid = Pid::from_raw(i32::try_from(bench.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let done = bench.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    let figures: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(figures["operations"].as_u64().unwrap() > 0 && figures["seconds"].as_f64().unwrap() < 3600.0);
}
