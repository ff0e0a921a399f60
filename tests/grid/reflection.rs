//! A generic gRPC client, in Python, that learns everything from the node.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::TestNode;

const PACKAGES: [&str; 3] = ["grpcio", "grpcio-reflection", "googleapis-common-protos"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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

#[tokio::test]
async fn a_generic_client_can_use_the_node() {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else {
        let name = "wattle::grid::reflection::a_generic_client_can_use_the_node";
        // Not by a macro that prints: what those write is captured when a test passes.
        writeln!(std::io::stderr().lock(), "SKIPPED {name}: Python's grpcio packages cannot be installed")
            .unwrap();
        return;
    };
    let node = TestNode::start();
    let address = node.endpoint().replace("http://", "");
    let script = root().join("tests/reflection/generic.py");
    let run = move || Command::new(python).arg(script).arg(address).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let (told, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{problem}");
    assert_eq!(told, "a generic client has used the node\n");
}
