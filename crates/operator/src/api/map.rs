//! `GridMap`: a map of a grid and its options.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration, schemas};

/// What a map is to be.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "wattle.dev",
    version = "v1alpha1",
    kind = "GridMap",
    namespaced,
    status = "GridMapStatus",
    derive = "PartialEq",
    doc = "A map of a grid.",
    shortname = "wgm",
    category = "wattle",
    printcolumn(name = "Grid", type_ = "string", json_path = ".spec.grid"),
    printcolumn(name = "Map", type_ = "string", json_path = ".status.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("has(self.spec.name) || size(self.metadata.name) <= 128").message("the name of a map may have 128 characters: give a shorter spec.name")
)]
#[x_kube(
    validation = Rule::new("self.grid == oldSelf.grid").message("grid cannot change: make another GridMap"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("name cannot change: make another GridMap"),
    validation = Rule::new("!has(self.class) || !(has(self.backups) || has(self.minInSync))").message("give class, or backups and minInSync, not both"),
    validation = Rule::new("!has(self.minInSync) || self.minInSync <= (has(self.backups) ? self.backups : 1) + 1").message("minInSync counts the primary's copy too, and may be at most backups + 1"),
    validation = Rule::new("!has(self.eviction) || self.eviction == 'None' || has(self.maxBytes)").message("eviction needs maxBytes: a map without a limit is never full")
)]
#[serde(rename_all = "camelCase")]
pub struct GridMapSpec {
    /// The Grid that has the map, in the same namespace.
    #[schemars(length(min = 1, max = 44))]
    pub grid: String,
    /// What the map is called in the grid. As this object by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub name: Option<String>,
    /// What the values are: others are refused. Fixed when the map is made.
    #[serde(default)]
    pub content_type: Content,
    /// How long an entry lives after its last write, such as `90s` or `1h30m`. For ever by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = duration::PATTERN))]
    pub ttl: Option<String>,
    /// How long an entry lives after its last use. For ever by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = duration::PATTERN))]
    pub max_idle: Option<String>,
    /// A limit over the whole grid on keys, values and what they cost in memory. None by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<i64>,
    /// Which entries go when the map is full; `None` refuses writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schemas::without_null)]
    pub eviction: Option<Eviction>,
    /// The replication class of the Grid that the map belongs to, instead of numbers: `standard`, `durable`, or one of `spec.classes`.
    /// Fixed when the map is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub class: Option<String>,
    /// How many copies an entry has beside the first; with 0 it is lost with its node. 1 by default. Fixed when the map is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 6))]
    pub backups: Option<i32>,
    /// How many copies, the first too, must be in sync for a write. One more than half the backups by default. Fixed when the map is
    /// made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub min_in_sync: Option<i32>,
    /// What becomes of the map in the grid when this object is deleted. `Retain` by default: entries are worth more than a manifest,
    /// which may be deleted with its namespace, or by a tool.
    #[serde(default)]
    pub deletion_policy: MapDeletion,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Content {
    #[default]
    Bytes,
    Text,
    Json,
    MessagePack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Eviction {
    None,
    Lru,
    Lfu,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MapDeletion {
    #[default]
    Retain,
    Delete,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridMapStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the map is called in the grid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Which map of that name it is: ids are never reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Rises with every change of the options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::conditions")]
    pub conditions: Vec<Condition>,
}

impl GridMap {
    /// What the map is called in the grid.
    pub(crate) fn map_name(&self) -> &str {
        let own = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.name.as_deref().unwrap_or(own)
    }
}
