//! What a new object of a built-in type is before anything is read into it: Go writes fields that are structures, and
//! some others, also when nothing is in them. Ownership of what a create brings is told by the difference to it.

use serde_json::{Value, json};

use crate::resource::ResourceType;

/// The empty object of a type; of custom resources it has no fields.
pub(crate) fn value(resource: &ResourceType) -> Value {
    let template = json!({"metadata": {}, "spec": {"containers": null}});
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.is_custom() => json!({}),
        ("", "pods") => json!({"spec": {"containers": null}}),
        ("", "namespaces" | "nodes" | "services")
        | ("coordination.k8s.io", "leases")
        | ("policy", "poddisruptionbudgets") => json!({"spec": {}}),
        ("", "persistentvolumeclaims") => json!({"spec": {"resources": {}}}),
        ("", "events") => {
            json!({"involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "eventTime": null, "reportingComponent": "", "reportingInstance": ""})
        }
        ("events.k8s.io", "events") => json!({"regarding": {}, "deprecatedSource": {}, "eventTime": null,
            "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null}),
        ("apps", "statefulsets") => {
            json!({"spec": {"selector": null, "serviceName": "", "template": template, "updateStrategy": {}}})
        }
        ("apps", "deployments") => {
            json!({"spec": {"selector": null, "template": template, "strategy": {}}})
        }
        ("apps", "replicasets") => json!({"spec": {"selector": null, "template": template}}),
        ("apps", "controllerrevisions") => json!({"data": null, "revision": 0}),
        ("autoscaling", _) => {
            json!({"spec": {"maxReplicas": 0, "scaleTargetRef": {"kind": "", "name": ""}}})
        }
        ("discovery.k8s.io", _) => json!({"addressType": "", "endpoints": null, "ports": null}),
        ("networking.k8s.io", _) => json!({"spec": {"podSelector": {}}}),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => json!({"rules": null}),
        ("rbac.authorization.k8s.io", _) => json!({"roleRef": {"apiGroup": "", "kind": "", "name": ""}}),
        ("apiextensions.k8s.io", _) => {
            json!({"spec": {"group": "", "scope": "", "names": {"kind": "", "plural": ""}, "versions": null}})
        }
        _ => json!({}),
    }
}
