//! A node of a test's own, in this process.

pub(crate) mod compiler;
#[path = "../../crates/discovery/src/tests/dns_server.rs"]
#[allow(dead_code, reason = "it is shared with the tests of wattle-discovery, which use more of it")]
pub(crate) mod dns_server;
pub(crate) mod examples;
pub(crate) mod grid;
#[path = "../../crates/wasm/tests/guests/guest.rs"]
#[allow(dead_code, reason = "it is shared with the tests of wattle-wasm, which use more of it")]
pub(crate) mod guest;
pub(crate) mod holding;
pub(crate) mod kubernetes;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod wire;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::process::Output;

use wattle::config::{Config, RawConfig};
use wattle::node::{Node, NodeError};
use wattle_client::Client;

/// A running node; it is told to stop when it is dropped, and not waited for.
pub(crate) struct TestNode {
    node: Option<Node>,
}

impl TestNode {
    /// With the defaults, on a free port.
    pub(crate) fn start() -> Self {
        Self::with(RawConfig::default())
    }

    /// With a data directory.
    pub(crate) fn with_data(directory: &Path) -> Self {
        Self::with(RawConfig { data_dir: Some(directory.to_owned()), ..RawConfig::default() })
    }

    pub(crate) fn with(raw: RawConfig) -> Self {
        Self::compiled_by(raw, env!("CARGO_BIN_EXE_wattle").into())
    }

    /// With another program to compile modules.
    pub(crate) fn compiled_by(raw: RawConfig, program: PathBuf) -> Self {
        Self { node: Some(start(raw, program).expect("the node starts")) }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it is taken by drop only")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.node().address())
    }

    /// Where other nodes find it.
    pub(crate) fn peer_address(&self) -> String {
        self.node().peer_address().to_string()
    }

    /// Where metrics and probes listen.
    pub(crate) fn http_address(&self) -> String {
        self.node().http_address().to_string()
    }

    /// What one of its metrics is now.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        self.has_metric(name).await.expect("there is such a metric")
    }

    /// What one of its metrics is now, if there is one of that name.
    pub(crate) async fn has_metric(&self, name: &str) -> Option<u64> {
        let answer = wire::get(&self.http_address(), "/metrics").await;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        String::from_utf8(answer).unwrap().lines().find_map(value)
    }

    /// Runs this program against it.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Output {
        let endpoint = self.endpoint();
        run(&[arguments, &["--endpoint", endpoint.as_str()]].concat()).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.endpoint().as_str()).await.expect("the node serves")
    }
}

impl TestNode {
    /// Stops it, and waits for that: on a thread of its own, so that clients in this test can say goodbye.
    pub(crate) async fn stop(mut self) {
        if let Some(node) = self.node.take() {
            tokio::task::spawn_blocking(|| node.stop()).await.expect("stopping does not panic");
        }
    }
}

impl TestNode {
    /// Stops it when others have taken what it holds.
    pub(crate) async fn drain(mut self) {
        if let Some(node) = self.node.take() {
            tokio::task::spawn_blocking(|| node.drain()).await.expect("draining does not panic");
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            // Waiting here would block the runtime of the clients, which the node waits for.
            drop(std::thread::spawn(|| node.stop()));
        }
    }
}

/// Runs this program.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_wattle"));
    command.args(arguments).kill_on_drop(true).output().await.unwrap()
}

/// Starts a node, which may refuse: on a free port, unless it is to have a certain one.
pub(crate) fn try_start(raw: RawConfig) -> Result<Node, NodeError> {
    start(raw, env!("CARGO_BIN_EXE_wattle").into())
}

fn start(raw: RawConfig, program: PathBuf) -> Result<Node, NodeError> {
    let raw = RawConfig { listen: raw.listen.or_else(|| "127.0.0.1:0".parse().ok()), ..raw };
    Node::start(&Config::new(raw, program).expect("the configuration is good"))
}
