//! The parts of a grid's specification.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schemas;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// The volume of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// How large it is, such as `1Gi`.
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"))]
    pub size: String,
    /// The class of storage it comes from. The cluster's default by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// What the nodes are told in their configuration. A change rolls through the pods as an upgrade does.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.partitions) == has(oldSelf.partitions) && (!has(self.partitions) || self.partitions == oldSelf.partitions)").message("partitions cannot change: their number is fixed when the grid is founded")
)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// What entries may take of a node's memory, in bytes. 70 % of its limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576))]
    pub memory_bytes: Option<i64>,
    /// The longest value, in bytes. 1 MiB by default, 4 MiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4194304))]
    pub value_bytes: Option<i64>,
    /// The number of partitions, 271 by default. Fixed when the grid is founded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub partitions: Option<i32>,
    /// What a node sends in a second to bring other copies in sync, in bytes. 64 MiB by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576))]
    pub copy_bytes_per_second: Option<i64>,
    /// For how long leases are granted to other nodes, in milliseconds. 2000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 10000))]
    pub lease_milliseconds: Option<i32>,
    /// CPU time that compiling an uploaded module may take, in seconds. 60 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub compile_seconds: Option<i32>,
    /// Memory that compiling an uploaded module may take, in bytes. 2 GiB by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 67_108_864))]
    pub compile_memory_bytes: Option<i64>,
    /// What is logged, such as `info` or `wattle=debug`. `info` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub log_filter: Option<String>,
}

/// How nodes are spread over zones: copies of an entry are kept in different ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Zones {
    /// `Prefer` spreads the pods as well as the cluster allows, `Require` leaves pods waiting that cannot be spread, `Ignore` does not
    /// look at zones.
    #[serde(default)]
    pub spread: Spread,
    /// The label of the cluster's nodes that says which zone they are in.
    #[serde(default = "zone_label")]
    #[schemars(length(min = 1, max = 316))]
    pub topology_key: String,
}

impl Default for Zones {
    fn default() -> Self {
        Self { spread: Spread::default(), topology_key: zone_label() }
    }
}

fn zone_label() -> String {
    "topology.kubernetes.io/zone".to_owned()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Spread {
    #[default]
    Prefer,
    Require,
    Ignore,
}

/// A small node that votes and holds no data: beside two others, either of which may then die.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Arbiter {
    /// `Automatic` has one while the grid's size is 2, `Never` has none.
    #[serde(default)]
    pub policy: ArbiterPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schemas::resources")]
    pub resources: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ArbiterPolicy {
    #[default]
    Automatic,
    Never,
}

/// How changes of the pods, such as another version, go through the grid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// `ByPod` replaces one pod at a time, `ByZone` all pods of a zone at a time, if those of the others can decide without them.
    #[serde(default)]
    pub strategy: UpgradeStrategy,
    /// Replace no more pods until this is false again. Scaling goes on.
    #[serde(default)]
    pub paused: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeStrategy {
    #[default]
    ByPod,
    ByZone,
}

/// `Refuse` keeps the grid while a map has entries, or nobody can say whether one has; `Delete` deletes it with all that is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GridDeletion {
    #[default]
    Refuse,
    Delete,
}

/// Who watches the grid's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    #[serde(default)]
    pub service_monitor: ServiceMonitor,
}

/// A ServiceMonitor of `monitoring.coreos.com/v1`, for Prometheus' operator, which has to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitor {
    #[serde(default)]
    pub enabled: bool,
    /// How often every node is asked, such as `15s`.
    #[serde(default = "scrape_interval")]
    #[schemars(length(min = 1, max = 32), regex(pattern = PROMETHEUS_DURATION))]
    pub interval: String,
    /// What Prometheus looks for, such as `release: prometheus`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// As its own definition has it, where an interval of zero means another one.
const PROMETHEUS_DURATION: &str =
    "^(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?$";

impl Default for ServiceMonitor {
    fn default() -> Self {
        Self { enabled: false, interval: scrape_interval(), labels: BTreeMap::new() }
    }
}

fn scrape_interval() -> String {
    "30s".to_owned()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenAddress {
    #[default]
    #[serde(rename = "0.0.0.0")]
    V4,
    #[serde(rename = "[::]")]
    V6,
}

/// What the pods get besides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// Where the nodes listen: `[::]` in a cluster of IPv6.
    #[serde(default)]
    pub listen_address: ListenAddress,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::tolerations")]
    pub tolerations: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schemas::affinity")]
    pub affinity: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}
