//! OpenAPI v3: an index, and one document per group and version with the paths and schemas that kubectl reads.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::registry::Registry;
use crate::resource::ResourceType;
use crate::schema::{BUILTIN, REFERENCE, reference};

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

pub(crate) fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = path_of(&group, &version);
            let document = document(registry, &group, &version).unwrap_or_default();
            let hash = fingerprint(&document.to_string());
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash:016X}")}),
            );
        }
    }
    json!({"paths": paths})
}

/// FNV-1a: clients only ask whether a document has changed.
fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) fn document(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let types = registry.in_version(group, version);
    if types.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in &types {
        let name = schema_name(resource);
        schemas.insert(name.clone(), own_schema(resource, &name));
        add_paths(&mut paths, resource, &name);
    }
    let mut needed: BTreeSet<String> = schemas.values().flat_map(references).collect();
    let options = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions".to_owned();
    needed.insert(options);
    while let Some(name) = needed.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        if let Some(definition) = BUILTIN.get(&name) {
            needed.extend(references(definition));
            schemas.insert(name, wrapped(definition));
        }
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.32.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn schema_name(resource: &ResourceType) -> String {
    match resource.schema.get("$ref").and_then(Value::as_str) {
        Some(path) => path.trim_start_matches(REFERENCE).to_owned(),
        None => {
            let reversed: Vec<&str> = resource.group.split('.').rev().collect();
            format!("{}.{}.{}", reversed.join("."), resource.version, resource.kind)
        }
    }
}

fn own_schema(resource: &ResourceType, name: &str) -> Value {
    if let Some(definition) = BUILTIN.get(name) {
        return wrapped(definition);
    }
    let mut schema = wrapped(&resource.schema);
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": resource.group, "kind": resource.kind, "version": resource.version}]);
    schema
}

/// Notes beside a reference are allowed only around it, as `allOf`.
fn wrapped(node: &Value) -> Value {
    match node {
        Value::Object(map) if map.len() > 1 && map.get("$ref").is_some_and(Value::is_string) => {
            let mut outer: Map<String, Value> = map
                .iter()
                .filter(|(name, _)| *name != "$ref")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            outer.insert("allOf".to_owned(), json!([{"$ref": map["$ref"]}]));
            outer.entry("default").or_insert(json!({}));
            Value::Object(outer)
        }
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), wrapped(value))).collect(),
        Value::Array(items) => items.iter().map(wrapped).collect(),
        other => other.clone(),
    }
}

fn references(node: &Value) -> Vec<String> {
    match node {
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, value)| match value.as_str().filter(|_| name == "$ref") {
                Some(path) => vec![path.trim_start_matches(REFERENCE).to_owned()],
                None => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn add_paths(paths: &mut Map<String, Value>, resource: &ResourceType, schema: &str) {
    let root = format!("/{}", path_of(&resource.group, &resource.version));
    let collection = if resource.is_namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{root}/{}", resource.plural)
    };
    let mut on_collection = json!({"post": operation(resource, "post", schema)});
    if resource.is_review {
        paths.insert(collection, on_collection);
        return;
    }
    on_collection["get"] = operation(resource, "list", schema);
    on_collection["delete"] = operation(resource, "deletecollection", schema);
    let item = format!("{collection}/{{name}}");
    let on_item = |doors: &[&str]| -> Value {
        doors.iter().map(|&verb| (verb.to_owned(), operation(resource, verb, schema))).collect()
    };
    if resource.has_status {
        paths.insert(format!("{item}/status"), on_item(&["get", "put", "patch"]));
    }
    paths.insert(item, on_item(&["get", "put", "patch", "delete"]));
    if resource.is_namespaced {
        paths.insert(
            format!("{root}/{}", resource.plural),
            json!({"get": operation(resource, "list", schema)}),
        );
    }
    paths.insert(collection, on_collection);
}

fn operation(resource: &ResourceType, action: &str, schema: &str) -> Value {
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let mut operation = json!({
        "operationId": format!("{action}{}{}", resource.version, resource.kind),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind":
            {"group": resource.group, "kind": resource.kind, "version": resource.version},
        "responses": {"200": {"description": "OK",
            "content": {"application/json": {"schema": reference(schema)}}}},
    });
    if ["post", "put", "patch"].contains(&action) {
        operation["parameters"] = json!(["dryRun", "fieldManager", "fieldValidation"].map(parameter));
        let kinds: &[&str] = if action == "patch" {
            &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
        } else {
            &["*/*"]
        };
        let content: Map<String, Value> =
            kinds.iter().map(|&kind| (kind.to_owned(), json!({"schema": reference(schema)}))).collect();
        operation["requestBody"] = json!({"content": content, "required": true});
    }
    operation
}
