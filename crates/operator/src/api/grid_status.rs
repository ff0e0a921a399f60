//! What the operator says of a grid.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schemas;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridStatus {
    /// Which generation of the object this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schemas::without_null)]
    pub phase: Option<Phase>,
    /// What is done next, or what is waited for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How many pods hold data.
    #[serde(default)]
    pub size: i32,
    /// How many of them are ready.
    #[serde(default)]
    pub ready: i32,
    /// Which version of Wattle the members run; several while an upgrade is under way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Which pods hold data, for the scale subresource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Which grid it is, in hexadecimal. Known once it is founded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub grid_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<GridMember>,
    /// The Grid is being deleted, and may go: what its maps hold from now on goes with them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_allowed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schemas::conditions")]
    pub conditions: Vec<Condition>,
}

/// A node of the grid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridMember {
    pub node: i64,
    /// The pod that it runs in; none if it is gone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    pub arbiter: bool,
    pub votes: bool,
    pub answers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    Founding,
    Running,
    Scaling,
    Upgrading,
    Paused,
    Waiting,
    Failing,
    Deleting,
}
