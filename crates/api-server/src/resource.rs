//! The types of objects the server has: names, scope, subresources, schema.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::schema::{Schema, reference};

/// One kind of object in one version of its group.
#[derive(Debug, Clone)]
pub(crate) struct ResourceType {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) is_namespaced: bool,
    pub(crate) has_status: bool,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) tracks_generation: bool,
    /// An update of what is not there creates it.
    pub(crate) creates_on_update: bool,
    /// Only `create` is served: reviews answer and keep nothing.
    pub(crate) is_review: bool,
    pub(crate) schema: Arc<Value>,
    pub(crate) custom: Option<Custom>,
}

/// What a CustomResourceDefinition says beyond names and schema.
#[derive(Debug, Clone)]
pub(crate) struct Custom {
    /// The uid of the definition.
    pub(crate) definition: String,
    /// No more objects are made: the definition is being deleted.
    pub(crate) is_terminating: bool,
    pub(crate) columns: Vec<Value>,
    pub(crate) selectable_fields: Vec<String>,
}

/// JSON paths (`.spec.replicas`) of the scale subresource.
#[derive(Debug, Clone)]
pub(crate) struct ScalePaths {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// Under which all versions of a type share their objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResourceId {
    pub(crate) group: String,
    pub(crate) plural: String,
}

impl ResourceType {
    pub(crate) fn id(&self) -> ResourceId {
        // Both groups of events have the same ones.
        let group = if crate::events::is_event(self) { String::new() } else { self.group.clone() };
        ResourceId { group, plural: self.plural.clone() }
    }

    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub(crate) fn schema(&self) -> Schema<'_> {
        Schema::new(&self.schema)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// Whose type it is, by uid.
    pub(crate) fn definition(&self) -> Option<&str> {
        self.custom.as_ref().map(|custom| custom.definition.as_str())
    }

    pub(crate) fn is_definition_terminating(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| custom.is_terminating)
    }

    pub(crate) fn verbs(&self) -> Vec<&'static str> {
        if self.is_review {
            return vec!["create"];
        }
        if self.is("", "namespaces") {
            return vec!["create", "delete", "get", "list", "patch", "update", "watch"];
        }
        if self.is_definition_terminating() {
            return vec!["delete", "deletecollection", "get", "list", "watch"];
        }
        vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

pub(crate) fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.rsplit_once('/').unwrap_or(("", api_version))
}

/// What a row of the table below may say of a type.
const CLUSTER: &str = "cluster";
const STATUS: &str = "status";
const SCALE: &str = "scale";
const GENERATION: &str = "generation";
const ALL: &str = "all";
const UPSERT: &str = "upsert";
const REVIEW: &str = "review";

struct Row {
    definition: &'static str,
    group: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    notes: &'static [&'static str],
}

const fn row(
    definition: &'static str,
    group: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    notes: &'static [&'static str],
) -> Row {
    Row { definition, group, plural, short_names, notes }
}

const ROWS: &[Row] = &[
    row("core.v1.Namespace", "", "namespaces", &["ns"], &[CLUSTER, STATUS]),
    row("core.v1.Node", "", "nodes", &["no"], &[CLUSTER, STATUS]),
    row("core.v1.Pod", "", "pods", &["po"], &[STATUS, ALL]),
    row("core.v1.Service", "", "services", &["svc"], &[STATUS, ALL]),
    row("core.v1.ConfigMap", "", "configmaps", &["cm"], &[]),
    row("core.v1.Secret", "", "secrets", &[], &[]),
    row("core.v1.ServiceAccount", "", "serviceaccounts", &["sa"], &[]),
    row("core.v1.Event", "", "events", &["ev"], &[UPSERT]),
    row("core.v1.Endpoints", "", "endpoints", &["ep"], &[UPSERT]),
    row("core.v1.PersistentVolumeClaim", "", "persistentvolumeclaims", &["pvc"], &[STATUS]),
    row("apps.v1.StatefulSet", "apps", "statefulsets", &["sts"], &[STATUS, SCALE, GENERATION, ALL]),
    row("apps.v1.Deployment", "apps", "deployments", &["deploy"], &[STATUS, SCALE, GENERATION, ALL]),
    row("apps.v1.ReplicaSet", "apps", "replicasets", &["rs"], &[STATUS, SCALE, GENERATION, ALL]),
    row("apps.v1.ControllerRevision", "apps", "controllerrevisions", &[], &[]),
    row(
        "autoscaling.v2.HorizontalPodAutoscaler",
        "autoscaling",
        "horizontalpodautoscalers",
        &["hpa"],
        &[STATUS, ALL],
    ),
    row("policy.v1.PodDisruptionBudget", "policy", "poddisruptionbudgets", &["pdb"], &[STATUS, GENERATION]),
    row("discovery.v1.EndpointSlice", "discovery.k8s.io", "endpointslices", &[], &[GENERATION]),
    row("coordination.v1.Lease", "coordination.k8s.io", "leases", &[], &[UPSERT]),
    row("rbac.v1.Role", "rbac.authorization.k8s.io", "roles", &[], &[UPSERT]),
    row("rbac.v1.RoleBinding", "rbac.authorization.k8s.io", "rolebindings", &[], &[UPSERT]),
    row("rbac.v1.ClusterRole", "rbac.authorization.k8s.io", "clusterroles", &[], &[CLUSTER, UPSERT]),
    row(
        "rbac.v1.ClusterRoleBinding",
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        &[],
        &[CLUSTER, UPSERT],
    ),
    row("networking.v1.NetworkPolicy", "networking.k8s.io", "networkpolicies", &["netpol"], &[GENERATION]),
    row("events.v1.Event", "events.k8s.io", "events", &["ev"], &[UPSERT]),
    row("authentication.v1.TokenReview", "authentication.k8s.io", "tokenreviews", &[], &[CLUSTER, REVIEW]),
    row(
        "authentication.v1.SelfSubjectReview",
        "authentication.k8s.io",
        "selfsubjectreviews",
        &[],
        &[CLUSTER, REVIEW],
    ),
    row(
        "authorization.v1.SelfSubjectAccessReview",
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        &[],
        &[CLUSTER, REVIEW],
    ),
    row(
        "authorization.v1.SelfSubjectRulesReview",
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        &[],
        &[CLUSTER, REVIEW],
    ),
    row(
        "authorization.v1.SubjectAccessReview",
        "authorization.k8s.io",
        "subjectaccessreviews",
        &[],
        &[CLUSTER, REVIEW],
    ),
];

/// The types that a server has before any CustomResourceDefinition.
pub(crate) fn builtin() -> Vec<ResourceType> {
    let mut types: Vec<ResourceType> = ROWS.iter().map(from_row).collect();
    let mut definition = from_row(&row(
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &["crd", "crds"],
        &[CLUSTER, STATUS, GENERATION],
    ));
    definition.version = "v1".to_owned();
    definition.categories = vec!["api-extensions".to_owned()];
    definition.schema = Arc::new(reference(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    ));
    types.push(definition);
    types
}

/// The type of the scale subresource, under which no objects are kept.
pub(crate) fn scale() -> ResourceType {
    from_row(&row("autoscaling.v1.Scale", "autoscaling", "scales", &[], &[]))
}

fn from_row(row: &Row) -> ResourceType {
    let mut parts = row.definition.rsplit('.');
    let kind = parts.next().unwrap_or_default();
    let version = parts.next().unwrap_or_default();
    let has = |note: &str| row.notes.contains(&note);
    ResourceType {
        group: row.group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: row.plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: row.short_names.iter().map(|&name| name.to_owned()).collect(),
        categories: if has(ALL) { vec![ALL.to_owned()] } else { vec![] },
        is_namespaced: !has(CLUSTER),
        has_status: has(STATUS),
        scale: has(SCALE).then(|| ScalePaths {
            spec: ".spec.replicas".to_owned(),
            status: ".status.replicas".to_owned(),
            selector: None,
        }),
        tracks_generation: has(GENERATION),
        creates_on_update: has(UPSERT),
        is_review: has(REVIEW),
        schema: Arc::new(reference(&format!("io.k8s.api.{}", row.definition))),
        custom: None,
    }
}

/// The schema of a custom resource with what every object has: `apiVersion`, `kind` and `metadata`.
pub(crate) fn complete(schema: &Value) -> Value {
    let mut schema = if schema.is_object() { schema.clone() } else { json!({"type": "object"}) };
    let fields = crate::object::child(&mut schema, "properties");
    fields.insert("metadata".to_owned(), reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
    for name in ["apiVersion", "kind"] {
        fields.insert(name.to_owned(), json!({"type": "string"}));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_type_has_its_schema() {
        for resource in builtin() {
            let kinds = resource.schema().note("x-kubernetes-group-version-kind").unwrap();
            let expected =
                json!({"group": resource.group, "kind": resource.kind, "version": resource.version});
            assert!(kinds.as_array().unwrap().contains(&expected), "{resource:?}");
        }
    }
}
