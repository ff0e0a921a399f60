//! Who the pods are, what they may ask the API server, and the secret that they share.

use serde_json::{Value, json};

use super::{Blueprint, nodes_service};

/// The rules of a node's role. The operator hands them out, so it must have them itself.
fn service_account_rights(grid: &str) -> Value {
    json!([
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": [super::fence(grid)]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get"], "resourceNames": [nodes_service(grid)]},
    ])
}

pub(super) fn objects(blueprint: &Blueprint<'_>) -> Vec<Value> {
    let name = blueprint.name;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": blueprint.metadata(name, None),
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": blueprint.metadata(name, None),
        "rules": service_account_rights(name),
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": blueprint.metadata(name, None),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": blueprint.namespace}],
    });
    vec![account, role, binding]
}

/// A secret that is made once and kept: nodes with different ones do not talk to each other.
pub(crate) fn new_secret(blueprint: &Blueprint<'_>, secret: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": blueprint.metadata(&blueprint.secret_name(), None),
        "stringData": {"secret": secret},
    })
}
