//! CustomResourceDefinitions: what they must say, and the types they bring.

use std::sync::Arc;

use serde_json::{Value, json};

use super::termination;
use crate::object;
use crate::resource::{Custom, ResourceId, ResourceType, ScalePaths, complete};
use crate::state::{State, id};
use crate::time;

impl State {
    /// Serves what a definition describes, and says so in its status.
    pub(crate) fn register(&mut self, definition: &Value) {
        let own = defined(definition);
        let kinds_taken = self.registry.all().iter().any(|other| {
            other.group == own.group
                && other.id() != own
                && other.kind == object::text(definition, "/spec/names/kind")
        });
        let types = if kinds_taken { Vec::new() } else { types_of(definition) };
        self.registry.replace_custom(&own, types);
        let status = status(definition, !kinds_taken);
        if definition["status"] != status {
            let mut with_status = definition.clone();
            with_status["status"] = status;
            self.store.put(&id("apiextensions.k8s.io", "customresourcedefinitions"), with_status);
        }
    }

    /// Takes the type away. Whoever took the finalizer off by hand leaves objects that nobody sees; they are back with
    /// the definition, as in a real cluster.
    pub(crate) fn unregister(&mut self, definition: &Value) {
        self.registry.replace_custom(&defined(definition), Vec::new());
    }
}

/// Which objects are a definition's.
pub(crate) fn defined(definition: &Value) -> ResourceId {
    id(object::text(definition, "/spec/group"), object::text(definition, "/spec/names/plural"))
}

fn types_of(definition: &Value) -> Vec<ResourceType> {
    object::list(definition, "/spec/versions")
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| type_of(definition, version))
        .collect()
}

fn type_of(definition: &Value, version: &Value) -> ResourceType {
    let name = |field: &str| object::text(definition, &format!("/spec/names/{field}")).to_owned();
    let names = |field: &str| texts(object::list(definition, &format!("/spec/names/{field}")));
    let path = |field: &str| version["subresources"]["scale"][field].as_str().map(str::to_owned);
    let selectable = object::list(version, "/selectableFields");
    ResourceType {
        group: object::text(definition, "/spec/group").to_owned(),
        version: object::text(version, "/name").to_owned(),
        kind: name("kind"),
        list_kind: name("listKind"),
        plural: name("plural"),
        singular: name("singular"),
        short_names: names("shortNames"),
        categories: names("categories"),
        is_namespaced: definition["spec"]["scope"] == "Namespaced",
        has_status: version["subresources"]["status"].is_object(),
        scale: path("specReplicasPath").zip(path("statusReplicasPath")).map(|(spec, status)| ScalePaths {
            spec,
            status,
            selector: path("labelSelectorPath"),
        }),
        tracks_generation: true,
        creates_on_update: false,
        is_review: false,
        schema: Arc::new(complete(&version["schema"]["openAPIV3Schema"])),
        custom: Some(Custom {
            definition: object::uid(definition).to_owned(),
            is_terminating: termination::is_terminating(definition),
            columns: object::list(version, "/additionalPrinterColumns").to_vec(),
            selectable_fields: selectable
                .iter()
                .filter_map(|field| Some(field["jsonPath"].as_str()?.trim_start_matches('.').to_owned()))
                .collect(),
        }),
    }
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn status(definition: &Value, is_accepted: bool) -> Value {
    let before = object::list(definition, "/status/conditions");
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let since = before
            .iter()
            .find(|one| one["type"] == kind && one["status"] == status)
            .map_or_else(|| json!(time::now()), |one| one["lastTransitionTime"].clone());
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
    };
    let mut conditions = if is_accepted {
        vec![
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted"),
        ]
    } else {
        let kind = object::text(definition, "/spec/names/kind");
        vec![
            condition("NamesAccepted", false, "KindConflict", &format!("{kind:?} is already in use")),
            condition("Established", false, "NotAccepted", "not all names are accepted"),
        ]
    };
    conditions.extend(termination::condition(definition).cloned());
    let storage =
        object::list(definition, "/spec/versions").iter().find(|version| version["storage"] == true);
    let mut stored = object::list(definition, "/status/storedVersions").to_vec();
    if let Some(name) = storage.map(|version| version["name"].clone())
        && !stored.contains(&name)
    {
        stored.push(name);
    }
    let names =
        if is_accepted { definition["spec"]["names"].clone() } else { json!({"plural": "", "kind": ""}) };
    json!({"acceptedNames": names, "conditions": conditions, "storedVersions": stored})
}
