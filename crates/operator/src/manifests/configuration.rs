//! The file that `--config` names.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Blueprint;
use crate::api::Settings;
use crate::hex::hex;

/// As the node reads it.
#[derive(Serialize)]
struct NodeSettings<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap_expect: Option<u32>,
    memory_bytes: Option<i64>,
    value_bytes: Option<i64>,
    partitions: Option<i32>,
    copy_bytes_per_second: Option<i64>,
    lease_milliseconds: Option<i32>,
    compile_seconds: Option<i32>,
    compile_memory_bytes: Option<i64>,
    log_filter: Option<&'a str>,
}

pub(super) fn config_map(blueprint: &Blueprint<'_>) -> Value {
    let text = node_configuration(&blueprint.spec.settings, blueprint.spec.nodes());
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": blueprint.metadata(&name(blueprint.name), None),
        "data": {"config.toml": text},
    })
}

pub(super) fn name(grid: &str) -> String {
    format!("{grid}-config")
}

/// Changes with what a node reads when it starts, and not with the grid's size: a change of it rolls through the pods.
pub(super) fn fingerprint(settings: &Settings) -> String {
    hex(&Sha256::digest(toml(settings, None).as_bytes())).chars().take(16).collect()
}

/// The text of the file: what `wattle serve --config` reads.
pub fn node_configuration(settings: &Settings, nodes: u32) -> String {
    toml(settings, Some(nodes))
}

fn toml(settings: &Settings, bootstrap_expect: Option<u32>) -> String {
    let settings = NodeSettings {
        bootstrap_expect,
        memory_bytes: settings.memory_bytes,
        value_bytes: settings.value_bytes,
        partitions: settings.partitions,
        copy_bytes_per_second: settings.copy_bytes_per_second,
        lease_milliseconds: settings.lease_milliseconds,
        compile_seconds: settings.compile_seconds,
        compile_memory_bytes: settings.compile_memory_bytes,
        log_filter: settings.log_filter.as_deref(),
    };
    toml::to_string(&settings).expect("numbers and text are TOML")
}
