//! `Grid`: nodes that are one grid, and what they run on.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::classes::ReplicationClass;
use super::grid_settings::{
    Arbiter, GridDeletion, Monitoring, PodOptions, PullPolicy, Settings, Storage, Upgrade, Zones,
};
use super::grid_status::GridStatus;
use super::schemas;

/// What a grid is to be.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "wattle.dev",
    version = "v1alpha1",
    kind = "Grid",
    namespaced,
    status = "GridStatus",
    derive = "PartialEq",
    doc = "A grid of Wattle nodes: maps in memory, and functions that run next to the data.",
    shortname = "wg",
    category = "wattle",
    scale(
        spec_replicas_path = ".spec.size",
        status_replicas_path = ".status.size",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Size", type_ = "integer", json_path = ".spec.size"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(
        name = "Safe",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Safe\")].status"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 44").message("the name may have 44 characters: names and labels of the arbiter's pods begin with it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the name must be one of a service: lower-case letters, digits and dashes, with a letter first"),
    validation = Rule::new("!self.metadata.name.endsWith('-nodes') && !self.metadata.name.endsWith('-arbiter')").message("the name may not end with -nodes or -arbiter, as names of another grid's objects do")
)]
#[x_kube(
    validation = Rule::new("!(has(self.version) && has(self.image))").message("give version or image, not both"),
    validation = Rule::new("has(self.storage) == has(oldSelf.storage) && (!has(self.storage) || self.storage == oldSelf.storage)").message("storage cannot change: a StatefulSet's volumes are fixed when it is made"),
    validation = Rule::new("has(self.secret) == has(oldSelf.secret) && (!has(self.secret) || self.secret == oldSelf.secret)").message("secret cannot change: nodes with different secrets do not talk to each other")
)]
#[serde(rename_all = "camelCase")]
pub struct GridSpec {
    /// How many nodes hold data.
    #[schemars(range(min = 1, max = 99))]
    pub size: i32,
    /// Which version of Wattle the nodes run: a tag of the operator's image. The operator's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"))]
    pub version: Option<String>,
    /// The whole image that the nodes run, instead of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When the image is pulled, as in a pod: by default `Always` if its tag is `latest`, else `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schemas::without_null)]
    pub image_pull_policy: Option<PullPolicy>,
    /// Names of secrets with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schemas::resources")]
    pub resources: Option<Value>,
    /// A volume for each node, on which modules, functions and map definitions survive it. Entries live in memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    #[serde(default)]
    pub settings: Settings,
    /// Replication classes of its own, beside `standard` (1 backup) and `durable` (2 backups, and 2 copies in sync for a write), which every
    /// grid has. A GridMap names one; a map that is made stays in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    #[schemars(length(max = 4))]
    pub classes: Vec<ReplicationClass>,
    #[serde(default)]
    pub zones: Zones,
    #[serde(default)]
    pub arbiter: Arbiter,
    #[serde(default)]
    pub upgrade: Upgrade,
    /// What becomes of the grid when this object is deleted while its maps have entries.
    #[serde(default)]
    pub deletion_policy: GridDeletion,
    /// A secret whose key `secret` all nodes share, at least 16 bytes. One is made by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret: Option<String>,
    /// Who may reach the API, as in `from` of a NetworkPolicy. Any pod of the cluster by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schemas::network_peers")]
    pub clients: Option<Vec<Value>>,
    #[serde(default)]
    pub monitoring: Monitoring,
    /// For how long a node that is told to stop hands over what it holds, in seconds. 120 by default. Data without backups that is still there
    /// is lost then: 64 MiB go in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub stop_seconds: Option<i32>,
    #[serde(default)]
    pub pods: PodOptions,
}

impl GridSpec {
    /// How many nodes hold data. The schema has checked it.
    pub(crate) fn nodes(&self) -> u32 {
        u32::try_from(self.size).unwrap_or(1).max(1)
    }
}
