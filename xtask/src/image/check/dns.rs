//! Three nodes of the image that find one another by DNS, as one grid.

use super::network::{NETWORK, Network};
use crate::command::{output, root, run, shown};
use crate::failure::Failure;
use crate::guests;
use std::path::Path;

const NODES: [&str; 3] = ["wattle-check-1", "wattle-check-2", "wattle-check-3"];
pub(super) const GUEST: &str = "example-counter";
const MODULE: &str = "/module.wasm";
/// Of each container, and what a node makes of it.
const MEMORY: &str = "1g";
const MEMORY_FOR_ENTRIES: &str = "716.8 MiB";

pub(super) fn check(network: &Network<'_>, image: &str) -> Result<(), Failure> {
    let secret = root().join("target/container/secret");
    std::fs::write(&secret, "a secret of sixteen bytes or more").map_err(Failure::file(&secret))?;
    let [first, second, third] = NODES;
    start_node(network, first, image, &secret)?;
    // It lives, and waits for others.
    probe(network, first, "/livez", "200 ")?;
    probe(network, first, "/readyz", "503 ")?;
    probe(network, first, "/safez", "503 ")?;
    start_node(network, second, image, &secret)?;
    start_node(network, third, image, &secret)?;
    for node in NODES {
        probe(network, node, "/livez", "200 ")?;
        probe(network, node, "/readyz", "200 ")?;
        probe(network, node, "/safez", "200 ")?;
        probe(network, node, "/nothing", "404 ")?;
        network.check_rights(node)?;
    }
    check_use(network)?;
    check_memory(network, first)?;
    // It hands over what it holds.
    network.stop(first)?;
    network.expect(third, &["map", "get", "counts", "a"], "42")?;
    probe(network, third, "/safez", "200 ")
}

/// All answer to one name: that is how they find one another.
fn start_node(network: &Network<'_>, name: &str, image: &str, secret: &Path) -> Result<(), Failure> {
    let mut node = network.pod(name, NETWORK);
    node.args(["--hostname", name, "--network-alias", "nodes", "--memory", MEMORY, "--tmpfs", "/tmp"]);
    let module = root().join(guests::module(GUEST));
    node.args(["--volume", &format!("{}:{MODULE}:ro", module.display())]);
    node.args(["--volume", &format!("{}:/secret:ro", secret.display())]);
    node.args([image, "serve", "--listen", "0.0.0.0:7117", "--peer-listen", "0.0.0.0:7118"]);
    node.args(["--http-listen", "0.0.0.0:7119", "--insecure", "--grid-secret-file", "/secret"]);
    node.args(["--discovery", "dns", "--service", "nodes:7118", "--bootstrap-expect", "3"]);
    run(&mut node)
}

fn probe(network: &Network<'_>, node: &str, path: &str, expected: &str) -> Result<(), Failure> {
    network.wait_for_answer(NETWORK, &format!("{node}:7119"), path, expected)
}

fn check_use(network: &Network<'_>) -> Result<(), Failure> {
    let [first, second, third] = NODES;
    network.expect(first, &["map", "create", "counts"], "")?;
    network.expect(first, &["map", "put", "counts", "a", "41"], "")?;
    network.expect(second, &["map", "get", "counts", "a"], "41")?;
    // The compiler is a process of its own, of the same program.
    network.expect(second, &["function", "upload", "add", MODULE, "--export", "add"], "")?;
    network.expect(third, &["invoke", "add", "--map", "counts", "--key", "a"], "42")
}

/// A node that does not see the limit of its container takes the machine's memory for its own.
fn check_memory(network: &Network<'_>, node: &str) -> Result<(), Failure> {
    let mut members = network.wattle(node, &["grid", "members"]);
    let printed = output(&mut members)?;
    if printed.matches(MEMORY_FOR_ENTRIES).count() == NODES.len() {
        return Ok(());
    }
    Err(Failure::Unexpected { command: shown(&members), printed })
}
