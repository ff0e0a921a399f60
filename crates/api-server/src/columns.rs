//! The columns of each type (kubernetes' `pkg/printers/internalversion`), and those a definition asks for.

use serde_json::{Value, json};

use crate::cells;
use crate::json_path;
use crate::object::{self, text};
use crate::resource::ResourceType;
use crate::time;

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
        let mut columns = vec![shown("Name", 0, |value| json!(object::name(value)))];
        columns[0].format = "name".to_owned();
        columns.extend(custom.columns.iter().map(described));
        if custom.columns.is_empty() {
            columns.push(age());
        }
        return columns;
    }
    let mut columns = builtin(resource);
    if columns[0].name == "Name" {
        columns[0].format = "name".to_owned();
    }
    columns
}

fn described(column: &Value) -> Column {
    Column {
        name: text(column, "/name").to_owned(),
        kind: text(column, "/type").to_owned(),
        format: text(column, "/format").to_owned(),
        description: text(column, "/description").to_owned(),
        priority: column["priority"].as_i64().unwrap_or(0),
        cell: Cell::Path(text(column, "/jsonPath").to_owned()),
    }
}

fn shown(name: &str, priority: i64, show: Show) -> Column {
    const COUNTS: [&str; 10] = [
        "Restarts",
        "Data",
        "Secrets",
        "Up-to-date",
        "Available",
        "Desired",
        "Current",
        "Allowed Disruptions",
        "MaxPods",
        "Replicas",
    ];
    Column {
        name: name.to_owned(),
        kind: if COUNTS.contains(&name) { "integer" } else { "string" }.to_owned(),
        format: String::new(),
        description: String::new(),
        priority,
        cell: Cell::Shown(show),
    }
}

fn age() -> Column {
    shown("Age", 0, |value| json!(time::age(object::meta(value, "creationTimestamp"))))
}

fn name() -> Column {
    shown("Name", 0, |value| json!(object::name(value)))
}

fn created_at() -> Column {
    shown("Created At", 0, |value| json!(object::meta(value, "creationTimestamp")))
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
        "pods" => vec![
            name(),
            shown("Ready", 0, cells::pod_ready),
            shown("Status", 0, cells::pod_status),
            shown("Restarts", 0, cells::pod_restarts),
            age(),
            shown("IP", 1, |value| cells::or_none(text(value, "/status/podIP"))),
            shown("Node", 1, |value| cells::or_none(text(value, "/spec/nodeName"))),
            shown("Nominated Node", 1, |value| cells::or_none(text(value, "/status/nominatedNodeName"))),
            shown("Readiness Gates", 1, |_| json!("<none>")),
        ],
        "services" => vec![
            name(),
            shown("Type", 0, |value| json!(text(value, "/spec/type"))),
            shown("Cluster-IP", 0, |value| cells::or_none(text(value, "/spec/clusterIP"))),
            shown("External-IP", 0, cells::external_address),
            shown("Port(s)", 0, cells::service_ports),
            age(),
            shown("Selector", 1, |value| cells::labels(value, "/spec/selector")),
        ],
        "configmaps" => vec![name(), shown("Data", 0, |value| size(value, &["/data", "/binaryData"])), age()],
        "secrets" => vec![
            name(),
            shown("Type", 0, |value| json!(text(value, "/type"))),
            shown("Data", 0, |value| size(value, &["/data"])),
            age(),
        ],
        "serviceaccounts" => {
            vec![name(), shown("Secrets", 0, |value| json!(object::list(value, "/secrets").len())), age()]
        }
        "namespaces" => vec![name(), shown("Status", 0, |value| json!(text(value, "/status/phase"))), age()],
        "nodes" => vec![
            name(),
            shown("Status", 0, cells::node_status),
            shown("Roles", 0, |_| json!("<none>")),
            age(),
            shown("Version", 0, |value| json!(text(value, "/status/nodeInfo/kubeletVersion"))),
        ],
        "events" => events(),
        "endpoints" => vec![name(), shown("Endpoints", 0, cells::endpoints), age()],
        "persistentvolumeclaims" => claims(),
        "customresourcedefinitions" | "roles" | "clusterroles" => vec![name(), created_at()],
        "rolebindings" | "clusterrolebindings" => vec![name(), shown("Role", 0, cells::role), age()],
        "leases" => {
            vec![name(), shown("Holder", 0, |value| json!(text(value, "/spec/holderIdentity"))), age()]
        }
        "networkpolicies" => vec![
            name(),
            shown("Pod-Selector", 0, |value| cells::labels(value, "/spec/podSelector/matchLabels")),
            age(),
        ],
        "endpointslices" => vec![
            name(),
            shown("AddressType", 0, |value| json!(text(value, "/addressType"))),
            shown("Ports", 0, cells::slice_ports),
            shown("Endpoints", 0, cells::slice_endpoints),
            age(),
        ],
        _ => workload(resource),
    }
}

fn events() -> Vec<Column> {
    vec![
        shown("Last Seen", 0, cells::last_seen),
        shown("Type", 0, |value| json!(text(value, "/type"))),
        shown("Reason", 0, |value| json!(text(value, "/reason"))),
        shown("Object", 0, cells::event_object),
        shown("Message", 0, |value| {
            let message = text(value, "/message");
            json!(if message.is_empty() { text(value, "/note") } else { message }.trim())
        }),
        shown("Name", 1, |value| json!(object::name(value))),
    ]
}

fn claims() -> Vec<Column> {
    vec![
        name(),
        shown("Status", 0, |value| {
            json!(if object::is_terminating(value) { "Terminating" } else { text(value, "/status/phase") })
        }),
        shown("Volume", 0, |value| json!(text(value, "/spec/volumeName"))),
        shown("Capacity", 0, |value| json!(text(value, "/status/capacity/storage"))),
        shown("Access Modes", 0, cells::access_modes),
        shown("StorageClass", 0, |value| json!(text(value, "/spec/storageClassName"))),
        shown("VolumeAttributesClass", 0, |_| json!("<unset>")),
        age(),
        shown("VolumeMode", 1, |value| json!(text(value, "/spec/volumeMode"))),
    ]
}

fn workload(resource: &ResourceType) -> Vec<Column> {
    let containers = || shown("Containers", 1, |value| cells::of_containers(value, "name"));
    let images = || shown("Images", 1, |value| cells::of_containers(value, "image"));
    let selector = || shown("Selector", 1, |value| cells::labels(value, "/spec/selector/matchLabels"));
    let ready = || {
        shown("Ready", 0, |value| {
            let wanted = value["spec"]["replicas"].as_i64().unwrap_or(0);
            json!(format!("{}/{wanted}", value["status"]["readyReplicas"].as_i64().unwrap_or(0)))
        })
    };
    match resource.plural.as_str() {
        "statefulsets" => vec![name(), ready(), age(), containers(), images()],
        "deployments" => vec![
            name(),
            ready(),
            shown("Up-to-date", 0, |value| count(value, "/status/updatedReplicas")),
            shown("Available", 0, |value| count(value, "/status/availableReplicas")),
            age(),
            containers(),
            images(),
            selector(),
        ],
        "replicasets" => vec![
            name(),
            shown("Desired", 0, |value| count(value, "/spec/replicas")),
            shown("Current", 0, |value| count(value, "/status/replicas")),
            shown("Ready", 0, |value| count(value, "/status/readyReplicas")),
            age(),
            containers(),
            images(),
            selector(),
        ],
        "poddisruptionbudgets" => vec![
            name(),
            shown("Min Available", 0, |value| cells::or_not_available(&value["spec"]["minAvailable"])),
            shown("Max Unavailable", 0, |value| cells::or_not_available(&value["spec"]["maxUnavailable"])),
            shown("Allowed Disruptions", 0, |value| count(value, "/status/disruptionsAllowed")),
            age(),
        ],
        "horizontalpodautoscalers" => vec![
            name(),
            shown("Reference", 0, |value| {
                let target = &value["spec"]["scaleTargetRef"];
                json!(format!("{}/{}", text(target, "/kind"), text(target, "/name")))
            }),
            shown("MinPods", 0, |value| {
                json!(value["spec"]["minReplicas"].as_i64().unwrap_or(1).to_string())
            }),
            shown("MaxPods", 0, |value| count(value, "/spec/maxReplicas")),
            shown("Replicas", 0, |value| count(value, "/status/currentReplicas")),
            age(),
        ],
        _ => vec![name(), age()],
    }
}
