//! What the server has against a CustomResourceDefinition (apiextensions-apiserver's `pkg/apis/apiextensions/validation`).

use serde_json::{Value, json};

use super::structure;
use crate::field_error::FieldError;
use crate::go_value;
use crate::names;
use crate::object;

/// What is wrong with a definition; with what it was before, if it is no new one.
pub(crate) fn validate_definition(definition: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let plural = object::text(definition, "/spec/names/plural");
    let group = object::text(definition, "/spec/group");
    let name = object::name(definition);
    if old.is_none() && name != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &json!(name), detail));
    }
    validate_group(group, &mut errors);
    let scope = &definition["spec"]["scope"];
    if !scope.is_null() && scope != "" && scope != "Namespaced" && scope != "Cluster" {
        let supported = ["Cluster", "Namespaced"].map(str::to_owned);
        errors.push(FieldError::not_supported("spec.scope", scope, &supported));
    }
    validate_versions(definition, &mut errors);
    validate_names(&definition["spec"]["names"], &mut errors);
    if let Some(old) = old {
        validate_update(old, definition, &mut errors);
    }
    errors
}

fn validate_group(group: &str, errors: &mut Vec<FieldError>) {
    // That there is none is another's to say.
    let faults = if group.is_empty() { Vec::new() } else { names::subdomain(group) };
    if !faults.is_empty() {
        errors.push(FieldError::invalid("spec.group", &json!(group), &faults.join(",")));
    } else if !group.is_empty() && !group.contains('.') {
        let detail = "should be a domain with at least one dot";
        errors.push(FieldError::invalid("spec.group", &json!(group), detail));
    }
}

fn validate_names(all: &Value, errors: &mut Vec<FieldError>) {
    let mut check = |field: String, name: &str, is_kind: bool| {
        let faults = if is_kind { names::service(&name.to_lowercase()) } else { names::service(name) };
        if !faults.is_empty() {
            let hint = if is_kind { "may have mixed case, but should otherwise match: " } else { "" };
            errors.push(FieldError::invalid(&field, &json!(name), &format!("{hint}{}", faults.join(","))));
        }
    };
    for (field, is_kind) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let name = object::text(all, &format!("/{field}"));
        if !name.is_empty() {
            check(format!("spec.names.{field}"), name, is_kind);
        }
    }
    for field in ["shortNames", "categories"] {
        for (at, name) in object::list(all, &format!("/{field}")).iter().filter_map(Value::as_str).enumerate()
        {
            check(format!("spec.names.{field}[{at}]"), name, false);
        }
    }
    let list_kind = &all["listKind"];
    if list_kind.is_string() && *list_kind == all["kind"] {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid("spec.names.listKind", list_kind, detail));
    }
}

fn validate_versions(definition: &Value, errors: &mut Vec<FieldError>) {
    let versions = object::list(definition, "/spec/versions");
    for (at, version) in versions.iter().enumerate() {
        let name = object::text(version, "/name");
        let faults = names::service(name);
        if !faults.is_empty() {
            let field = format!("spec.versions[{at}].name");
            errors.push(FieldError::invalid(&field, &json!(name), &faults.join(",")));
        }
    }
    validate_schemas(versions, errors);
    each(versions, "subresources", |found, path| {
        let scale = &found["scale"];
        if scale.is_object() {
            validate_scale(scale, &format!("{path}.scale"), errors);
        }
    });
    each(versions, "additionalPrinterColumns", |found, path| {
        for (at, column) in found.as_array().into_iter().flatten().enumerate() {
            validate_column(column, &format!("{path}[{at}]"), errors);
        }
    });
    let shown =
        || go_value::list("[]apiextensions.CustomResourceDefinitionVersion", &json!(versions), version);
    let names: Vec<&Value> = versions.iter().map(|version| &version["name"]).collect();
    if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
        errors.push(FieldError::invalid_typed(
            "spec.versions",
            &shown(),
            "must contain unique version names",
        ));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid_typed("spec.versions", &shown(), detail));
    }
}

/// What all versions share is named as what it becomes: one field of the whole definition.
fn each(versions: &[Value], field: &str, mut look: impl FnMut(&Value, &str)) {
    let shared = versions.first().and_then(|first| first.get(field)).filter(|first| !first.is_null());
    if let Some(shared) = shared
        && versions.iter().all(|version| version.get(field) == Some(shared))
    {
        return look(shared, &format!("spec.{field}"));
    }
    for (at, version) in versions.iter().enumerate() {
        look(&version[field], &format!("spec.versions[{at}].{field}"));
    }
}

fn validate_schemas(versions: &[Value], errors: &mut Vec<FieldError>) {
    let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
    if let Some(first) = versions.first().map(schema)
        && first.is_object()
        && versions.iter().all(|version| schema(version) == first)
    {
        return structure::validate(&first, "spec.validation.openAPIV3Schema", errors);
    }
    for (at, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{at}].schema.openAPIV3Schema");
        match version["schema"].get("openAPIV3Schema") {
            None => errors.push(FieldError::required_because(&path, "schemas are required")),
            Some(schema) => structure::validate(schema, &path, errors),
        }
    }
}

fn validate_scale(scale: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (name, below) in
        [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status"), ("labelSelectorPath", ".status")]
    {
        let field = format!("{path}.{name}");
        let found = object::text(scale, &format!("/{name}"));
        if found.is_empty() {
            if name != "labelSelectorPath" {
                errors.push(FieldError::required(&field));
            }
        } else if !found.starts_with('.') {
            errors.push(not_simple(&field, found));
        } else if !found.starts_with(&format!("{below}.")) {
            let detail = format!("should be a json path under {below}");
            errors.push(FieldError::invalid(&field, &json!(found), &detail));
        }
    }
}

fn not_simple(field: &str, path: &str) -> FieldError {
    FieldError::invalid(field, &json!(path), "must be a simple json path starting with .")
}

fn validate_column(column: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    let text = |field: &str| object::text(column, &format!("/{field}"));
    let at = |field: &str| format!("{path}.{field}");
    let one_of = |words: &[&str]| format!("must be one of {}", words.join(","));
    if text("name").is_empty() {
        errors.push(FieldError::required(&at("name")));
    }
    if text("type").is_empty() {
        errors.push(FieldError::required_because(&at("type"), &one_of(&TYPES)));
    } else if !TYPES.contains(&text("type")) {
        errors.push(FieldError::invalid(&at("type"), &column["type"], &one_of(&TYPES)));
    }
    if !text("format").is_empty() && !FORMATS.contains(&text("format")) {
        errors.push(FieldError::invalid(&at("format"), &column["format"], &one_of(&FORMATS)));
    }
    // The internal type's field, which is written so.
    match text("jsonPath") {
        "" => errors.push(FieldError::required(&at("JSONPath"))),
        found if !found.starts_with('.') => errors.push(not_simple(&at("JSONPath"), found)),
        _ => {}
    }
}

/// A version as Go writes it.
fn version(version: &Value) -> String {
    let is = |field: &str| version[field] == true;
    let pointer = |kind: &str, field: &str| go_value::pointer(kind, &version[field]);
    format!(
        "apiextensions.CustomResourceDefinitionVersion{{Name:{}, Served:{}, Storage:{}, Deprecated:{}, \
         DeprecationWarning:{}, Schema:{}, Subresources:{}, \
         AdditionalPrinterColumns:[]apiextensions.CustomResourceColumnDefinition(nil), \
         SelectableFields:[]apiextensions.SelectableField(nil)}}",
        go_value::text(&version["name"]),
        is("served"),
        is("storage"),
        is("deprecated"),
        pointer("string", "deprecationWarning"),
        pointer("apiextensions.CustomResourceValidation", "schema"),
        pointer("apiextensions.CustomResourceSubresources", "subresources")
    )
}

/// What holds objects together must not change under them.
fn validate_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let is_established = object::list(old, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    let mut fixed = vec!["spec.group", "spec.names.plural"];
    if is_established {
        fixed.splice(0..0, ["spec.scope", "spec.names.kind"]);
    }
    for field in fixed {
        let pointer = format!("/{}", field.replace('.', "/"));
        let after = object::text(new, &pointer);
        if object::text(old, &pointer) != after {
            errors.push(FieldError::invalid(field, &json!(after), "field is immutable"));
        }
    }
    let versions = object::list(new, "/spec/versions");
    for (at, stored) in object::list(old, "/status/storedVersions").iter().enumerate() {
        if versions.iter().all(|version| version["name"] != *stored) {
            let name = stored.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            errors.push(FieldError::invalid(&format!("status.storedVersions[{at}]"), stored, &detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(version: &Value) -> Value {
        let mut one = json!({"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}});
        one.as_object_mut().unwrap().extend(version.as_object().unwrap().clone());
        json!({"metadata": {"name": "grids.example.dev"}, "spec": {"group": "example.dev", "scope": "Namespaced",
            "names": {"plural": "grids", "kind": "Grid"}, "versions": [one]}})
    }

    fn check(definition: &Value, old: Option<&Value>, expected: &[&str]) {
        let found: Vec<String> = validate_definition(definition, old).iter().map(FieldError::text).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn columns_and_the_scale_say_where_they_look() {
        check(&definition(&json!({})), None, &[]);
        check(
            &definition(
                &json!({"additionalPrinterColumns": [{"name": "x", "type": "foo", "jsonPath": "spec"}]}),
            ),
            None,
            &[
                "spec.additionalPrinterColumns[0].type: Invalid value: \"foo\": must be one of \
                 boolean,date,integer,number,string",
                "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting \
                 with .",
            ],
        );
        let scale = json!({"specReplicasPath": "spec", "statusReplicasPath": ".spec.x"});
        check(
            &definition(&json!({"subresources": {"scale": scale}})),
            None,
            &[
                "spec.subresources.scale.specReplicasPath: Invalid value: \"spec\": must be a simple json path starting \
                 with .",
                "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.x\": should be a json path under \
                 .status",
            ],
        );
    }

    #[test]
    fn scope_and_kind_of_an_established_definition_are_fixed() {
        let mut old = definition(&json!({}));
        let mut new = old.clone();
        new["spec"]["scope"] = json!("Cluster");
        new["spec"]["names"]["kind"] = json!("Foo");
        check(&new, Some(&old), &[]);
        old["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
        check(
            &new,
            Some(&old),
            &[
                "spec.scope: Invalid value: \"Cluster\": field is immutable",
                "spec.names.kind: Invalid value: \"Foo\": field is immutable",
            ],
        );
        new = old.clone();
        new["spec"]["group"] = json!("x.dev");
        check(&new, Some(&old), &["spec.group: Invalid value: \"x.dev\": field is immutable"]);
    }

    #[test]
    fn names_are_names() {
        let mut wrong = definition(&json!({"name": "V1"}));
        wrong["metadata"]["name"] = json!("Grids.dev");
        wrong["spec"]["group"] = json!("dev");
        wrong["spec"]["names"] = json!({"plural": "Grids", "kind": "G_", "listKind": "G_"});
        let found = validate_definition(&wrong, None);
        let expected = [
            "spec.group: Invalid value: \"dev\": should be a domain with at least one dot",
            "spec.versions[0].name: Invalid value: \"V1\": a DNS-1035 label must consist of",
            "spec.names.plural: Invalid value: \"Grids\": a DNS-1035 label must consist of",
            "spec.names.kind: Invalid value: \"G_\": may have mixed case, but should otherwise match: a DNS-1035 label",
            "spec.names.listKind: Invalid value: \"G_\": may have mixed case, but should otherwise match: a DNS-1035 label",
            "spec.names.listKind: Invalid value: \"G_\": kind and listKind may not be the same",
        ];
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.text().starts_with(expected), "{} is not {expected}", found.text());
        }
    }

    #[test]
    fn what_was_stored_stays_readable() {
        let mut old = definition(&json!({}));
        old["status"] = json!({"storedVersions": ["v0", "v1"]});
        check(
            &old,
            Some(&old),
            &[
                "status.storedVersions[0]: Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage \
               version, and must remain in spec.versions until a storage migration ensures no data remains persisted in \
               v0 and removes v0 from status.storedVersions",
            ],
        );
    }

    #[test]
    fn one_version_is_stored() {
        check(
            &definition(&json!({"storage": false})),
            None,
            &["spec.versions: Invalid value: \
               []apiextensions.CustomResourceDefinitionVersion{apiextensions.CustomResourceDefinitionVersion{Name:\"v1\", \
               Served:true, Storage:false, Deprecated:false, DeprecationWarning:(*string)(nil), \
               Schema:(*apiextensions.CustomResourceValidation)(0xc000000000), \
               Subresources:(*apiextensions.CustomResourceSubresources)(nil), \
               AdditionalPrinterColumns:[]apiextensions.CustomResourceColumnDefinition(nil), \
               SelectableFields:[]apiextensions.SelectableField(nil)}}: must have exactly one version marked as storage \
               version"],
        );
    }
}
