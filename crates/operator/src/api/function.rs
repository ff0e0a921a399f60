//! `GridFunction`: a function of a grid, and where its module comes from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration, schemas};

/// What a function is to run.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "wattle.dev",
    version = "v1alpha1",
    kind = "GridFunction",
    namespaced,
    status = "GridFunctionStatus",
    derive = "PartialEq",
    doc = "A function of a grid: WebAssembly that runs next to the data.",
    shortname = "wgf",
    category = "wattle",
    printcolumn(name = "Grid", type_ = "string", json_path = ".spec.grid"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.shortDigest"),
    printcolumn(name = "Loaded", type_ = "string", json_path = ".status.loaded"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("has(self.spec.name) || size(self.metadata.name) <= 128").message("the name of a function may have 128 characters: give a shorter spec.name")
)]
#[x_kube(
    validation = Rule::new("self.grid == oldSelf.grid").message("grid cannot change: make another GridFunction"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("name cannot change: make another GridFunction"),
    validation = Rule::new("!has(self.source.url) || has(self.sha256)").message("sha256 is required with source.url: what a URL answers may change")
)]
#[serde(rename_all = "camelCase")]
pub struct GridFunctionSpec {
    /// The Grid that has the function, in the same namespace.
    #[schemars(length(min = 1, max = 44))]
    pub grid: String,
    /// What the function is called in the grid. As this object by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub name: Option<String>,
    pub source: FunctionSource,
    /// SHA-256 of the module, in lower-case hexadecimal: what `sha256sum` prints. Anything else is not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// Which of the module's functions, when it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub export: Option<String>,
    #[serde(default)]
    pub limits: FunctionLimits,
    /// What it may do beyond reading the entry that it is invoked on and answering; all of it if nothing is said. A
    /// version that can do more is not put into service; one that runs already runs on until another takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1))]
    pub capabilities: Option<Vec<FunctionCapability>>,
    /// What becomes of the function in the grid when this object is deleted. `Delete` by default: its module can be uploaded again.
    #[serde(default)]
    pub deletion_policy: FunctionDeletion,
}

/// Exactly one place.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("(has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.url) ? 1 : 0) == 1").message("give exactly one source: configMap, secret or url")
)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSource {
    /// A key of a ConfigMap, best under `binaryData` (`kubectl create configmap NAME --from-file=KEY=FILE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ContentKey>,
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ContentKey>,
    /// Where a GET answers the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<UrlSource>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentKey {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlSource {
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^ ]+$"))]
    pub address: String,
    /// A key of a ConfigMap with certificates in PEM that sign the server's, instead of the public authorities and those that the operator
    /// has in files (`SSL_CERT_FILE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<ContentKey>,
}

/// How much a call of the function may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionLimits {
    /// CPU time for one entry, such as `20ms`. 10 ms by default, at most 100 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = duration::PATTERN))]
    pub cpu_budget: Option<String>,
    /// Linear memory of an instance, in bytes. 16 MiB by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65536))]
    pub memory_bytes: Option<i64>,
    /// A new instance for every call, instead of warm ones.
    #[serde(default)]
    pub fresh_instances: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FunctionCapability {
    /// To change or remove the entry. What cannot is called read-only by its module, and the grid holds it to that.
    Write,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FunctionDeletion {
    #[default]
    Delete,
    Retain,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridFunctionStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the function is called in the grid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The version that calls run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// SHA-256 of the module that calls run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Enough of the digest for people to tell modules apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub short_digest: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub export: String,
    /// What the version that calls run can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<FunctionCapability>,
    /// On how many members of all it is loaded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub loaded: String,
    /// What each member runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<FunctionMember>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::conditions")]
    pub conditions: Vec<Condition>,
}

/// What a member runs under the function's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionMember {
    pub node: i64,
    pub address: String,
    /// SHA-256 of the module; empty if it runs none, or does not answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Why it runs none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

impl GridFunction {
    /// What the function is called in the grid.
    pub(crate) fn function_name(&self) -> &str {
        let own = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.name.as_deref().unwrap_or(own)
    }
}
