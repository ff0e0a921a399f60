//! A node of a test's own, in this process.

use std::path::{Path, PathBuf};

use wattle::config::{Config, RawConfig};
use wattle::node::{Node, NodeError};
use wattle_client::Client;

/// A running node; it stops when it is dropped.
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
        Self { node: Some(try_start(raw).expect("the node starts")) }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it is taken by drop only")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.node().address())
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.endpoint().as_str()).await.expect("the node serves")
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop();
        }
    }
}

/// Starts a node, which may refuse.
pub(crate) fn try_start(raw: RawConfig) -> Result<Node, NodeError> {
    let raw = RawConfig { listen: "127.0.0.1:0".parse().ok(), ..raw };
    let program = PathBuf::from(env!("CARGO_BIN_EXE_wattle"));
    Node::start(&Config::new(raw, program).expect("the configuration is good"))
}
