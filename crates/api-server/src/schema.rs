//! OpenAPI schemas, of the built-in types and of custom resources, seen as what merging and validation ask of them.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// The definitions of Kubernetes 1.32 that the built-in types here need, with the `x-kubernetes-*` notes.
pub(crate) static BUILTIN: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../schema/builtin.json")).expect("the file is part of this crate")
});

pub(crate) const REFERENCE: &str = "#/components/schemas/";

/// A schema that refers to a built-in definition.
pub(crate) fn reference(definition: &str) -> Value {
    json!({"$ref": format!("{REFERENCE}{definition}")})
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'a> {
    /// The node as written: notes beside a `$ref` stand here.
    node: &'a Value,
    /// The node that the `$ref` leads to, or the same.
    target: &'a Value,
}

impl<'a> Schema<'a> {
    pub(crate) fn new(node: &'a Value) -> Self {
        let target = match node.get("$ref").and_then(Value::as_str) {
            Some(path) => BUILTIN.get(path.trim_start_matches(REFERENCE)).unwrap_or(node),
            None => node,
        };
        Self { node, target }
    }

    pub(crate) fn note(&self, name: &str) -> Option<&'a Value> {
        self.node.get(name).or_else(|| self.target.get(name))
    }

    fn note_text(&self, name: &str) -> Option<&'a str> {
        self.note(name).and_then(Value::as_str)
    }

    fn is_set(&self, name: &str) -> bool {
        self.note(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The short name of the built-in definition that this refers to.
    pub(crate) fn definition(&self) -> Option<&'a str> {
        self.node.get("$ref")?.as_str()?.rsplit('.').next()
    }

    /// Its full name.
    pub(crate) fn definition_path(&self) -> Option<&'a str> {
        Some(self.node.get("$ref")?.as_str()?.trim_start_matches(REFERENCE))
    }

    pub(crate) fn type_name(&self) -> Option<&'a str> {
        self.note_text("type")
    }

    pub(crate) fn format(&self) -> Option<&'a str> {
        self.note_text("format")
    }

    pub(crate) fn property(&self, name: &str) -> Option<Schema<'a>> {
        self.target.get("properties")?.get(name).map(Schema::new)
    }

    pub(crate) fn properties(&self) -> impl Iterator<Item = (&'a String, Schema<'a>)> + use<'a> {
        let map = self.target.get("properties").and_then(Value::as_object);
        map.into_iter().flatten().map(|(name, node)| (name, Schema::new(node)))
    }

    pub(crate) fn has_properties(&self) -> bool {
        self.target.get("properties").is_some()
    }

    /// The schema of a map's values; `None` where there is none or it is a bare `true`.
    pub(crate) fn additional(&self) -> Option<Schema<'a>> {
        self.target.get("additionalProperties").filter(|node| node.is_object()).map(Schema::new)
    }

    pub(crate) fn items(&self) -> Option<Schema<'a>> {
        self.target.get("items").map(Schema::new)
    }

    /// The schema of a field, whether it is a property or a map's value.
    pub(crate) fn child(&self, name: &str) -> Option<Schema<'a>> {
        self.property(name).or_else(|| self.additional())
    }

    pub(crate) fn required(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let list = self.target.get("required").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    pub(crate) fn keeps_unknown_fields(&self) -> bool {
        self.is_set("x-kubernetes-preserve-unknown-fields")
            || self.target.get("additionalProperties").and_then(Value::as_bool).unwrap_or(false)
            || (self.type_name().is_none() && !self.has_properties())
            || (self.type_name() == Some("object")
                && !self.has_properties()
                && self.target.get("additionalProperties").is_none()
                && self.node.get("$ref").is_some())
    }

    pub(crate) fn is_embedded_resource(&self) -> bool {
        self.is_set("x-kubernetes-embedded-resource")
    }

    pub(crate) fn is_nullable(&self) -> bool {
        self.is_set("nullable")
    }

    pub(crate) fn is_int_or_string(&self) -> bool {
        self.is_set("x-kubernetes-int-or-string") || self.format() == Some("int-or-string")
    }

    /// Quantities are strings that may be written as numbers.
    pub(crate) fn is_quantity(&self) -> bool {
        self.node.get("$ref").and_then(Value::as_str).is_some_and(|path| path.ends_with("resource.Quantity"))
    }

    pub(crate) fn is_atomic_map(&self) -> bool {
        self.note_text("x-kubernetes-map-type") == Some("atomic")
    }

    pub(crate) fn list_type(&self) -> ListType<'a> {
        match self.note_text("x-kubernetes-list-type") {
            Some("set") => ListType::Set,
            Some("map") => {
                let keys = self.note("x-kubernetes-list-map-keys").and_then(Value::as_array);
                ListType::Map(keys.map_or(&[], Vec::as_slice))
            }
            _ => ListType::Atomic,
        }
    }

    /// How a strategic merge patch treats this field.
    pub(crate) fn merges(&self) -> bool {
        self.note_text("x-kubernetes-patch-strategy")
            .is_some_and(|all| all.split(',').any(|one| one == "merge"))
    }

    pub(crate) fn merge_key(&self) -> Option<&'a str> {
        self.note_text("x-kubernetes-patch-merge-key")
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ListType<'a> {
    Atomic,
    Set,
    /// The names of the key fields.
    Map(&'a [Value]),
}

/// What stands for a key field that an item does not have: the type's default, else nothing.
pub(crate) fn key_default(items: Option<Schema<'_>>, key: &str) -> Option<Value> {
    if let Some(default) = items.and_then(|items| items.property(key)).and_then(|field| field.note("default"))
    {
        return Some(default.clone());
    }
    (key == "protocol").then(|| json!("TCP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_types_say_how_their_lists_merge() {
        let node = reference("io.k8s.api.core.v1.PodSpec");
        let pod = Schema::new(&node);
        let containers = pod.property("containers").unwrap();
        assert_eq!(containers.list_type(), ListType::Map(&[json!("name")]));
        assert!(containers.merges());
        let ports = containers.items().unwrap().property("ports").unwrap();
        assert_eq!(ports.list_type(), ListType::Map(&[json!("containerPort"), json!("protocol")]));
        assert_eq!(ports.merge_key(), Some("containerPort"));
        assert_eq!(key_default(ports.items(), "protocol"), Some(json!("TCP")));
    }

    #[test]
    fn selectors_are_atomic_and_labels_are_not() {
        let node = reference("io.k8s.api.apps.v1.StatefulSetSpec");
        assert!(Schema::new(&node).property("selector").unwrap().is_atomic_map());
        let node = reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        let labels = Schema::new(&node).property("labels").unwrap();
        assert!(!labels.is_atomic_map() && labels.additional().is_some());
    }
}
