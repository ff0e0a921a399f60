//! A generic gRPC client, in Python, that learns everything from the node.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::harness::TestNode;

const PACKAGES: [&str; 3] = ["grpcio", "grpcio-reflection", "googleapis-common-protos"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the client; `None` where Python's packages cannot be had.
async fn run(arguments: Vec<String>) -> Option<Output> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let run = move || {
        let python = PYTHON.get_or_init(python).as_ref()?;
        let script = root().join("tests/reflection/generic.py");
        Some(Command::new(python).arg(script).args(arguments).output().unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Says that a test was skipped. Not by a macro that prints: what those write is captured when a test passes.
fn skip(name: &str) {
    let name = format!("wattle::grid::reflection::{name}");
    writeln!(std::io::stderr().lock(), "SKIPPED {name}: Python's grpcio packages cannot be installed")
        .unwrap();
}

/// Python with the packages, in an environment of its own below `target/`; `None` where it cannot be had.
fn python() -> Option<PathBuf> {
    let environment = root().join("target/python-reflection");
    let python = environment.join("bin/python");
    let succeeds = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let ready =
        || succeeds(Command::new(&python).args(["-c", "import grpc_reflection, google.rpc.status_pb2"]));
    if ready() {
        return Some(python);
    }
    let made = succeeds(Command::new("python3").args(["-m", "venv"]).arg(&environment));
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let installed = made && succeeds(Command::new(&python).args(install).args(PACKAGES));
    (installed && ready()).then_some(python)
}

/// The exit code, what was told, and what was complained of.
fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_generic_client_can_use_a_node_that_has_entries_and_leaves_nothing_behind() {
    let node = TestNode::start();
    let client = node.client().await;
    client.raw_map("other").put("k", "v").await.unwrap();
    let address = node.endpoint().replace("http://", "");
    let Some(output) = run(vec![address.clone()]).await else {
        return skip("a_generic_client_can_use_a_node_that_has_entries_and_leaves_nothing_behind");
    };
    assert_eq!(said(&output), (Some(0), "a generic client has used the node\n", ""));
    // Something that it does not expect, when it has its map already.
    client.raw_map("generic-client-unknown").put("k", "v").await.unwrap();
    let output = run(vec![address.clone()]).await.unwrap();
    assert_eq!(said(&output), (Some(1), "", "a get in an unknown map succeeded\n"));
    let maps = client.maps().list().await.unwrap();
    let names: Vec<_> = maps.iter().map(|map| map.name.as_str()).collect();
    assert_eq!(names, ["generic-client-unknown", "other"]);
    // A map that is not its own.
    client.raw_map("generic-client").put("mine", "v").await.unwrap();
    let output = run(vec![address.clone()]).await.unwrap();
    let taken = format!("{address}: ALREADY_EXISTS: there is a map generic-client already\n");
    assert_eq!(said(&output), (Some(1), "", taken.as_str()));
    assert_eq!(client.raw_map("generic-client").get("mine").await.unwrap().unwrap().value, "v");
}

#[tokio::test]
async fn a_generic_client_says_how_it_is_used() {
    let Some(output) = run(vec![]).await else { return skip("a_generic_client_says_how_it_is_used") };
    assert_eq!(said(&output), (Some(2), "", "usage: generic.py HOST:PORT\n"));
}
