//! The columns of each type (kubernetes' `pkg/printers/internalversion`), and those a definition asks for.

use serde_json::{Value, json};

use crate::cells;
use crate::json_path;
use crate::object::{self, text};
use crate::resource::ResourceType;
use crate::schema::BUILTIN;
use crate::{hpa, pod_summary, time};

pub(crate) struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    cell: Cell,
}

type Show = fn(&Value) -> Value;

enum Cell {
    Shown(Show),
    Path(String),
}

impl Column {
    /// Shown only to who asks for more.
    fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    fn counted(mut self) -> Self {
        self.kind = "integer".to_owned();
        self
    }

    fn dated(mut self) -> Self {
        self.kind = "date".to_owned();
        self
    }

    fn about(mut self, description: &str) -> Self {
        self.description = description.to_owned();
        self
    }

    /// Described as a field of a type of `io.k8s.api` is.
    fn of_field(self, definition: &str, field: &str) -> Self {
        self.of(&format!("io.k8s.api.{definition}"), field)
    }

    fn of_metadata(self, field: &str) -> Self {
        self.of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", field)
    }

    fn of(self, definition: &str, field: &str) -> Self {
        let definition = BUILTIN.get(definition).unwrap_or(&Value::Null);
        self.about(text(&definition["properties"][field], "/description"))
    }

    pub(crate) fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }

    pub(crate) fn cell(&self, value: &Value) -> Value {
        match &self.cell {
            Cell::Shown(show) => show(value),
            Cell::Path(path) => self.custom(&json_path::find(value, path)),
        }
    }

    /// What a definition's column shows: the first value, or all of a string column; dates as ages.
    fn custom(&self, found: &[&Value]) -> Value {
        let Some(first) = found.first() else {
            return if self.kind == "date" { json!("<unknown>") } else { Value::Null };
        };
        match self.kind.as_str() {
            "string" if found.len() > 1 => {
                json!(found.iter().map(|value| json_path::text(value)).collect::<Vec<_>>().join(","))
            }
            "string" => json!(json_path::text(first)),
            "date" => json!(time::age(first.as_str())),
            "integer" => first.as_i64().map_or(Value::Null, Value::from),
            "number" | "boolean" => Value::clone(first),
            _ => Value::Null,
        }
    }
}

pub(crate) fn of(resource: &ResourceType) -> Vec<Column> {
    if let Some(custom) = &resource.custom {
        let mut columns = vec![name()];
        columns.extend(custom.columns.iter().map(described));
        if custom.columns.is_empty() {
            columns.push(age().dated());
        }
        return columns;
    }
    builtin(resource)
}

fn described(column: &Value) -> Column {
    let path = text(column, "/jsonPath");
    let described = shown(text(column, "/name"), |_| Value::Null);
    let description = match text(column, "/description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        description => description.to_owned(),
    };
    Column {
        kind: text(column, "/type").to_owned(),
        format: text(column, "/format").to_owned(),
        description,
        priority: column["priority"].as_i64().unwrap_or(0),
        cell: Cell::Path(path.to_owned()),
        ..described
    }
}

fn shown(name: &str, show: Show) -> Column {
    Column {
        name: name.to_owned(),
        kind: "string".to_owned(),
        format: String::new(),
        description: String::new(),
        priority: 0,
        cell: Cell::Shown(show),
    }
}

fn age() -> Column {
    shown("Age", |value| json!(time::age(object::meta(value, "creationTimestamp"))))
        .of_metadata("creationTimestamp")
}

fn name() -> Column {
    let mut name = shown("Name", |value| json!(object::name(value))).of_metadata("name");
    name.format = "name".to_owned();
    name
}

fn created_at() -> Column {
    shown("Created At", |value| json!(object::meta(value, "creationTimestamp")))
        .dated()
        .of_metadata("creationTimestamp")
}

fn count(value: &Value, pointer: &str) -> Value {
    json!(value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0))
}

fn size(value: &Value, pointers: &[&str]) -> Value {
    json!(
        pointers
            .iter()
            .filter_map(|pointer| object::map(value, pointer))
            .map(serde_json::Map::len)
            .sum::<usize>()
    )
}

fn builtin(resource: &ResourceType) -> Vec<Column> {
    match resource.plural.as_str() {
        "pods" => pods(),
        "nodes" => nodes(),
        "events" => events(),
        "services" => services(),
        "persistentvolumeclaims" => claims(),
        "endpointslices" => slices(),
        "rolebindings" | "clusterrolebindings" => bindings(&resource.kind),
        "customresourcedefinitions" | "roles" | "clusterroles" => vec![name(), created_at()],
        "statefulsets" => vec![name(), ready(), age(), containers(), images()],
        "deployments" => deployments(),
        "replicasets" => replica_sets(),
        "controllerrevisions" => revisions(),
        "poddisruptionbudgets" => budgets(),
        "horizontalpodautoscalers" => autoscalers(),
        _ => small(resource),
    }
}

fn small(resource: &ResourceType) -> Vec<Column> {
    let own = match resource.plural.as_str() {
        "configmaps" => shown("Data", |value| size(value, &["/data", "/binaryData"]))
            .of_field("core.v1.ConfigMap", "data"),
        "secrets" => {
            let data = shown("Data", |value| size(value, &["/data"])).of_field("core.v1.Secret", "data");
            let kind = shown("Type", |value| json!(text(value, "/type"))).of_field("core.v1.Secret", "type");
            return vec![name(), kind, data, age()];
        }
        "serviceaccounts" => shown("Secrets", |value| json!(object::list(value, "/secrets").len()))
            .of_field("core.v1.ServiceAccount", "secrets"),
        "namespaces" => {
            shown("Status", |value| json!(text(value, "/status/phase"))).about("The status of the namespace")
        }
        "endpoints" => shown("Endpoints", cells::endpoints).of_field("core.v1.Endpoints", "subsets"),
        "leases" => shown("Holder", |value| json!(text(value, "/spec/holderIdentity")))
            .of_field("coordination.v1.LeaseSpec", "holderIdentity"),
        "networkpolicies" => shown("Pod-Selector", |value| cells::selector(&value["spec"]["podSelector"]))
            .of_field("networking.v1.NetworkPolicySpec", "podSelector"),
        _ => return vec![name(), age()],
    };
    vec![name(), own, age()]
}

fn pods() -> Vec<Column> {
    vec![
        name(),
        shown("Ready", |pod| json!(pod_summary::of(pod).ready))
            .about("The aggregate readiness state of this pod for accepting traffic."),
        shown("Status", |pod| json!(pod_summary::of(pod).reason))
            .about("The aggregate status of the containers in this pod."),
        shown("Restarts", |pod| json!(pod_summary::of(pod).restarts)).about(
            "The number of times the containers in this pod have been restarted and when the last container in this \
             pod has restarted.",
        ),
        age(),
        shown("IP", |pod| cells::or_none(text(pod, "/status/podIP"))).wide().of_field("core.v1.PodStatus", "podIP"),
        shown("Node", |pod| cells::or_none(text(pod, "/spec/nodeName")))
            .wide()
            .of_field("core.v1.PodSpec", "nodeName"),
        shown("Nominated Node", |pod| cells::or_none(text(pod, "/status/nominatedNodeName")))
            .wide()
            .of_field("core.v1.PodStatus", "nominatedNodeName"),
        shown("Readiness Gates", cells::readiness_gates).wide().of_field("core.v1.PodSpec", "readinessGates"),
    ]
}

fn nodes() -> Vec<Column> {
    const SYSTEM: &str = "core.v1.NodeSystemInfo";
    vec![
        name(),
        shown("Status", cells::node_status).about("The status of the node"),
        shown("Roles", cells::node_roles).about("The roles of the node"),
        age(),
        shown("Version", |node| json!(text(node, "/status/nodeInfo/kubeletVersion")))
            .of_field(SYSTEM, "kubeletVersion"),
        shown("Internal-IP", |node| cells::node_address(node, "InternalIP"))
            .wide()
            .of_field("core.v1.NodeStatus", "addresses"),
        shown("External-IP", |node| cells::node_address(node, "ExternalIP"))
            .wide()
            .of_field("core.v1.NodeStatus", "addresses"),
        shown("OS-Image", |node| cells::or_unknown(text(node, "/status/nodeInfo/osImage")))
            .wide()
            .of_field(SYSTEM, "osImage"),
        shown("Kernel-Version", |node| cells::or_unknown(text(node, "/status/nodeInfo/kernelVersion")))
            .wide()
            .of_field(SYSTEM, "kernelVersion"),
        shown("Container-Runtime", |node| {
            cells::or_unknown(text(node, "/status/nodeInfo/containerRuntimeVersion"))
        })
        .wide()
        .of_field(SYSTEM, "containerRuntimeVersion"),
    ]
}

fn services() -> Vec<Column> {
    const SPEC: &str = "core.v1.ServiceSpec";
    vec![
        name(),
        shown("Type", |value| json!(text(value, "/spec/type"))).of_field(SPEC, "type"),
        shown("Cluster-IP", |value| cells::or_none(text(value, "/spec/clusterIP")))
            .of_field(SPEC, "clusterIP"),
        shown("External-IP", cells::external_address).of_field(SPEC, "externalIPs"),
        shown("Port(s)", cells::service_ports).of_field(SPEC, "ports"),
        age(),
        shown("Selector", |value| cells::labels(value, "/spec/selector")).wide().of_field(SPEC, "selector"),
    ]
}

fn events() -> Vec<Column> {
    const EVENT: &str = "core.v1.Event";
    vec![
        shown("Last Seen", cells::last_seen).of_field(EVENT, "lastTimestamp"),
        shown("Type", |event| json!(text(event, "/type"))).of_field(EVENT, "type"),
        shown("Reason", |event| json!(text(event, "/reason"))).of_field(EVENT, "reason"),
        shown("Object", cells::event_object).of_field(EVENT, "involvedObject"),
        shown("Subobject", cells::event_subobject).wide().of_field("core.v1.ObjectReference", "fieldPath"),
        shown("Source", cells::event_source).wide().of_field(EVENT, "source"),
        shown("Message", |event| {
            let message = text(event, "/message");
            json!(if message.is_empty() { text(event, "/note") } else { message }.trim())
        })
        .of_field(EVENT, "message"),
        shown("First Seen", cells::first_seen).wide().of_field(EVENT, "firstTimestamp"),
        shown("Count", cells::event_count).wide().of_field(EVENT, "count"),
        name().wide(),
    ]
}

fn claims() -> Vec<Column> {
    const SPEC: &str = "core.v1.PersistentVolumeClaimSpec";
    const STATUS: &str = "core.v1.PersistentVolumeClaimStatus";
    vec![
        name(),
        shown("Status", |value| {
            json!(if object::is_terminating(value) { "Terminating" } else { text(value, "/status/phase") })
        })
        .of_field(STATUS, "phase"),
        shown("Volume", |value| json!(text(value, "/spec/volumeName"))).of_field(SPEC, "volumeName"),
        shown("Capacity", |value| json!(text(value, "/status/capacity/storage")))
            .of_field(STATUS, "capacity"),
        shown("Access Modes", cells::access_modes).of_field(STATUS, "accessModes"),
        shown("StorageClass", |value| json!(text(value, "/spec/storageClassName")))
            .about("StorageClass of the pvc"),
        shown("VolumeAttributesClass", |_| json!("<unset>")).about("VolumeAttributesClass of the pvc"),
        age(),
        shown("VolumeMode", |value| json!(text(value, "/spec/volumeMode")))
            .wide()
            .of_field(SPEC, "volumeMode"),
    ]
}

fn slices() -> Vec<Column> {
    const SLICE: &str = "discovery.v1.EndpointSlice";
    vec![
        name(),
        shown("AddressType", |value| json!(text(value, "/addressType"))).of_field(SLICE, "addressType"),
        shown("Ports", cells::slice_ports).of_field(SLICE, "ports"),
        shown("Endpoints", cells::slice_endpoints).of_field(SLICE, "endpoints"),
        age(),
    ]
}

fn bindings(kind: &str) -> Vec<Column> {
    vec![
        name(),
        shown("Role", cells::role).of_field(&format!("rbac.v1.{kind}"), "roleRef"),
        age(),
        shown("Users", |binding| cells::subjects(binding, "User")).wide().about("Users in the roleBinding"),
        shown("Groups", |binding| cells::subjects(binding, "Group"))
            .wide()
            .about("Groups in the roleBinding"),
        shown("ServiceAccounts", |binding| cells::subjects(binding, "ServiceAccount"))
            .wide()
            .about("ServiceAccounts in the roleBinding"),
    ]
}

fn containers() -> Column {
    shown("Containers", |value| cells::of_containers(value, "name"))
        .wide()
        .about("Names of each container in the template.")
}

fn images() -> Column {
    shown("Images", |value| cells::of_containers(value, "image"))
        .wide()
        .about("Images referenced by each container in the template.")
}

fn selector(definition: &str) -> Column {
    shown("Selector", |value| cells::selector(&value["spec"]["selector"]))
        .wide()
        .of_field(definition, "selector")
}

fn ready() -> Column {
    shown("Ready", |value| {
        let wanted = value["spec"]["replicas"].as_i64().unwrap_or(0);
        json!(format!("{}/{wanted}", value["status"]["readyReplicas"].as_i64().unwrap_or(0)))
    })
    .about("Number of the pod with ready state")
}

fn deployments() -> Vec<Column> {
    const STATUS: &str = "apps.v1.DeploymentStatus";
    vec![
        name(),
        ready(),
        shown("Up-to-date", |value| count(value, "/status/updatedReplicas"))
            .of_field(STATUS, "updatedReplicas"),
        shown("Available", |value| count(value, "/status/availableReplicas"))
            .of_field(STATUS, "availableReplicas"),
        age(),
        containers(),
        images(),
        selector("apps.v1.DeploymentSpec"),
    ]
}

fn replica_sets() -> Vec<Column> {
    const STATUS: &str = "apps.v1.ReplicaSetStatus";
    vec![
        name(),
        shown("Desired", |value| count(value, "/spec/replicas"))
            .counted()
            .of_field("apps.v1.ReplicaSetSpec", "replicas"),
        shown("Current", |value| count(value, "/status/replicas")).counted().of_field(STATUS, "replicas"),
        shown("Ready", |value| count(value, "/status/readyReplicas"))
            .counted()
            .of_field(STATUS, "readyReplicas"),
        age(),
        containers(),
        images(),
        selector("apps.v1.ReplicaSetSpec"),
    ]
}

fn revisions() -> Vec<Column> {
    vec![
        name(),
        shown("Controller", cells::controller).about("Controller of the object"),
        shown("Revision", |value| count(value, "/revision"))
            .of_field("apps.v1.ControllerRevision", "revision"),
        age(),
    ]
}

fn budgets() -> Vec<Column> {
    vec![
        name(),
        shown("Min Available", |value| cells::or_not_available(&value["spec"]["minAvailable"]))
            .about("The minimum number of pods that must be available."),
        shown("Max Unavailable", |value| cells::or_not_available(&value["spec"]["maxUnavailable"]))
            .about("The maximum number of pods that may be unavailable."),
        shown("Allowed Disruptions", |value| count(value, "/status/disruptionsAllowed"))
            .counted()
            .about("Calculated number of pods that may be disrupted at this time."),
        age(),
    ]
}

fn autoscalers() -> Vec<Column> {
    const SPEC: &str = "autoscaling.v2.HorizontalPodAutoscalerSpec";
    vec![
        name(),
        shown("Reference", |value| {
            let target = &value["spec"]["scaleTargetRef"];
            json!(format!("{}/{}", text(target, "/kind"), text(target, "/name")))
        })
        .of_field(SPEC, "scaleTargetRef"),
        shown("Targets", |value| json!(hpa::targets(value))).of_field(SPEC, "metrics"),
        shown("MinPods", |value| {
            let least = value["spec"]["minReplicas"].as_i64();
            json!(least.map_or_else(|| "<unset>".to_owned(), |least| least.to_string()))
        })
        .of_field(SPEC, "minReplicas"),
        shown("MaxPods", |value| count(value, "/spec/maxReplicas")).of_field(SPEC, "maxReplicas"),
        shown("Replicas", |value| count(value, "/status/currentReplicas"))
            .of_field("autoscaling.v2.HorizontalPodAutoscalerStatus", "currentReplicas"),
        age(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Custom, builtin};

    #[test]
    fn every_column_says_what_it_is() {
        for resource in builtin().iter().filter(|one| !one.is_review) {
            for column in of(resource) {
                assert!(!column.description.is_empty(), "{} of {}", column.name, resource.plural);
            }
        }
    }

    #[test]
    fn columns_of_a_definition_say_where_they_look() {
        let mut resource = builtin().remove(0);
        let columns = vec![json!({"name": "Size", "type": "integer", "jsonPath": ".spec.size"})];
        resource.custom = Some(Custom {
            definition: String::new(),
            is_terminating: false,
            columns,
            selectable_fields: Vec::new(),
        });
        let found = of(&resource);
        assert_eq!(
            found[1].description,
            "Custom resource definition column (in JSONPath format): .spec.size"
        );
        assert_eq!(found[1].cell(&json!({"spec": {"size": 3}})), json!(3));
    }
}
