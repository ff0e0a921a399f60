//! The layers: which crates may not reach which, as `cargo tree` sees it. The reasons are in ARCHITECTURE.md.

use super::Violation;
use crate::command::{cargo, output};
use crate::failure::Failure;

struct Layer {
    package: &'static str,
    /// Not anywhere below it.
    never: &'static [&'static str],
    /// How many crates it may stand on.
    at_most: usize,
}

const NO_LIMIT: usize = usize::MAX;
const RUNTIMES: [&str; 4] = ["tokio", "prost", "tonic", "wasmtime"];

const LAYERS: [Layer; 16] = [
    Layer {
        package: "wattle-core",
        never: &["tokio", "prost", "tonic", "wasmtime", "tracing", "getrandom", "rand", "redb", "mio"],
        at_most: NO_LIMIT,
    },
    Layer {
        package: "wattle-control",
        never: &["prost", "tonic", "wasmtime", "wattle-proto"],
        at_most: NO_LIMIT,
    },
    Layer { package: "wattle-discovery", never: &["prost", "tonic", "wasmtime"], at_most: NO_LIMIT },
    // A double of what is foreign must not know who uses it.
    Layer {
        package: "wattle-api-server",
        never: &["prost", "tonic", "wasmtime", "wattle", "wattle-core", "wattle-client"],
        at_most: NO_LIMIT,
    },
    Layer {
        package: "wattle-pods",
        never: &["prost", "tonic", "wasmtime", "wattle", "wattle-core", "wattle-client"],
        at_most: NO_LIMIT,
    },
    // It knows a grid as any client does.
    Layer {
        package: "wattle-operator",
        never: &["wattle", "wattle-core", "wattle-api-server", "wasmtime", "redb", "openraft"],
        at_most: NO_LIMIT,
    },
    // It sees nodes from outside.
    Layer { package: "wattle-chaos", never: &["wattle", "wasmtime", "redb", "openraft"], at_most: NO_LIMIT },
    Layer { package: "wattle-frame", never: &RUNTIMES, at_most: 2 },
    Layer {
        package: "wattle-simulation",
        never: &["tokio", "prost", "tonic", "wasmtime", "getrandom", "rand", "openraft"],
        at_most: NO_LIMIT,
    },
    Layer { package: "wattle-strand", never: &RUNTIMES, at_most: NO_LIMIT },
    Layer { package: "wattle-wasm", never: &["prost", "tonic", "hyper", "wattle-core"], at_most: NO_LIMIT },
    Layer { package: "wattle-peers", never: &["wasmtime", "redb", "openraft"], at_most: NO_LIMIT },
    Layer { package: "wattle-proto", never: &["wasmtime", "wattle-core"], at_most: NO_LIMIT },
    Layer { package: "wattle-client", never: &["wasmtime", "redb", "wattle-core"], at_most: NO_LIMIT },
    Layer { package: "wattle-guest", never: &RUNTIMES, at_most: 30 },
    Layer { package: "xtask", never: &[], at_most: 0 },
];

/// What is the business of one crate: the runtime of guests, Raft, and DNS.
const ONLY: [(&str, &[&str]); 3] = [
    ("wattle-wasm", &["wasmtime", "wasmtime-wasi", "wit-component"]),
    ("wattle-control", &["openraft"]),
    ("wattle-discovery", &["hickory-resolver"]),
];

pub(crate) fn check() -> Result<Vec<Violation>, Failure> {
    let mut found = Vec::new();
    for layer in &LAYERS {
        found.extend(check_layer(layer, &tree(layer.package, &[])?));
    }
    let members =
        output(&mut cargo(&["tree", "--workspace", "--depth", "0", "--prefix", "none", "--locked"]))?;
    for member in package_names(&members) {
        found.extend(check_direct(member, &tree(member, &["--depth", "1"])?));
    }
    Ok(found)
}

fn tree(package: &str, more: &[&str]) -> Result<String, Failure> {
    let mut tree =
        cargo(&["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--locked"]);
    output(tree.args(more))
}

fn check_layer(layer: &Layer, tree: &str) -> Vec<Violation> {
    let mut below = package_names(tree);
    below.retain(|name| *name != layer.package);
    let mut found: Vec<Violation> = layer
        .never
        .iter()
        .filter(|banned| below.contains(banned))
        .map(|banned| {
            violation(layer.package, format!("must not reach {banned}: see `cargo tree -i {banned}`"))
        })
        .collect();
    if below.len() > layer.at_most {
        let rule = format!("stands on {} crates, at most {}: keep it lean", below.len(), layer.at_most);
        found.push(violation(layer.package, rule));
    }
    found
}

fn check_direct(member: &str, tree: &str) -> Vec<Violation> {
    let direct = package_names(tree);
    let others = ONLY.iter().filter(|(owner, _)| *owner != member);
    let banned = others.flat_map(|(owner, crates)| crates.iter().map(move |banned| (owner, banned)));
    let broken = banned.filter(|(_, banned)| direct.contains(banned));
    broken
        .map(|(owner, banned)| violation(member, format!("depends on {banned}: only {owner} does")))
        .collect()
}

/// The first words of the lines, each once.
fn package_names(tree: &str) -> Vec<&str> {
    let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

fn violation(package: &str, rule: String) -> Violation {
    Violation { place: format!("crate {package}"), line: 0, rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str =
        "wattle-frame v0.1.0 (/a/crates/frame)\nbytes v1.12.0\ntokio v1.54.0\nbytes v1.12.0 (*)\n";

    #[test]
    fn a_banned_crate_below_a_layer_is_found() {
        let layer = Layer { package: "wattle-frame", never: &["tokio", "prost"], at_most: NO_LIMIT };
        let found = check_layer(&layer, TREE);
        assert_eq!(found.len(), 1);
        assert!(found[0].rule.contains("tokio"), "{found:?}");
    }

    #[test]
    fn a_lean_crate_stands_on_few() {
        let check =
            |at_most| check_layer(&Layer { package: "wattle-frame", never: &[], at_most }, TREE).len();
        assert_eq!(check(2), 0);
        assert_eq!(check(1), 1);
    }

    #[test]
    fn the_runtime_of_guests_and_raft_are_for_one_crate_each() {
        assert_eq!(check_direct("wattle", "wattle v0.1.0\nwasmtime v48.0.8\n").len(), 1);
        assert_eq!(check_direct("wattle-wasm", "wattle-wasm v0.1.0\nopenraft v0.9.25\n").len(), 1);
        assert!(check_direct("wattle-wasm", "wattle-wasm v0.1.0\nwasmtime v48.0.8\n").is_empty());
        assert!(check_direct("wattle", "wattle v0.1.0\nwattle-wasm v0.1.0\n").is_empty());
    }
}
