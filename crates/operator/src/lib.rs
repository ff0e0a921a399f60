//! The operator: keeps grids, their maps and their functions on Kubernetes as `Grid`, `GridMap` and `GridFunction` objects ask for.
//!
//! What to do is told by pure functions from what was observed (`manifests`, `decision`, the plans of maps and functions); reconcilers
//! observe, ask them, and carry out one step. It knows a grid as any client does: by its API and its probes.
#![forbid(unsafe_code)]

#[allow(unreachable_pub, reason = "what derives the rules of schemas copies structs into functions")]
pub mod api;
mod apply;
mod authorities;
mod backoff;
mod claims;
mod conditions;
mod context;
mod decision;
mod error;
mod forbidden;
mod function;
mod grid;
mod hex;
mod http_get;
mod lease;
mod manifests;
mod map;
mod metrics;
mod operator;
mod probes;
mod reach;
mod triggers;

pub use error::{Error, StartError};
pub use manifests::{API_PORT, HTTP_PORT, Images, node_configuration};
pub use operator::{Operator, Settings};
pub use reach::Ports;

/// The definitions of all kinds, as one YAML document each: what `deploy/operator/crds.yaml` holds.
///
/// # Errors
/// A definition that cannot be written as YAML.
pub fn definitions_as_yaml() -> Result<String, serde_saphyr::SerializeError> {
    let mut text = String::from(
        "# Made by `wattle operator crds`: do not edit. A test holds it against the types in crates/operator.\n",
    );
    for definition in api::definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}
