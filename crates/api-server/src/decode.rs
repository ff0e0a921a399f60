//! What arrives is brought into the form of its type: unknown fields are dropped and named, nulls are dropped, and
//! values of built-in types must have the right JSON types.

use std::sync::LazyLock;

use serde_json::Value;

use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::resource::ResourceType;
use crate::schema::{Schema, reference};
use crate::{object, protobuf, unrecognized, yaml};

static OBJECT_META: LazyLock<Value> =
    LazyLock::new(|| reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));

/// What a request wants to be told of fields that the type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Media types of bodies.
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The object in a request, in either form that clients send.
pub(crate) fn body(resource: &ResourceType, media_type: &str, body: &[u8]) -> Result<Value, ApiError> {
    const ACCEPTED: &[&str] = &[JSON, yaml::MEDIA_TYPE, PROTOBUF];
    match media_type {
        "" | JSON => parse_as(resource, body),
        yaml::MEDIA_TYPE => yaml::parse(body),
        PROTOBUF if !resource.is_custom() => protobuf::decode(resource, body)
            .ok_or_else(|| ApiError::BadRequest("the body is no object in protobuf form".to_owned())),
        _ => Err(ApiError::UnsupportedMediaType { accepted: ACCEPTED }),
    }
}

/// Parses a body that is JSON.
pub(crate) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| unrecognized::no_json("object", body, &error))
}

/// Parses a body that is an object of this type in JSON, as far as that can be told from its outermost fields.
fn parse_as(resource: &ResourceType, body: &[u8]) -> Result<Value, ApiError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| unrecognized::no_json(&resource.kind, body, &error))?;
    if !value.is_object() {
        return Err(unrecognized::no_object(&resource.kind, body, json_type(&value)));
    }
    // Built-in types are told by their path too.
    if resource.is_custom() && value["kind"].as_str().is_none_or(str::is_empty) {
        return Err(unrecognized::no_kind(&resource.kind, body));
    }
    Ok(value)
}

/// Sees that an object is of the type its path names. Fields that say so are filled in for built-in types.
pub(crate) fn identify(resource: &ResourceType, object: &mut Value) -> Result<(), ApiError> {
    if !object.is_object() {
        return Err(ApiError::BadRequest("the object provided is unrecognized".to_owned()));
    }
    let expected = resource.api_version();
    for (field, wanted) in [("kind", &resource.kind), ("apiVersion", &expected)] {
        let is_missing = object[field].as_str().is_none_or(str::is_empty);
        if is_missing && resource.is_custom() && field == "kind" {
            return Err(ApiError::BadRequest(format!("Object 'Kind' is missing in '{object}'")));
        }
        if is_missing && !resource.is_custom() {
            object[field] = Value::String(wanted.clone());
        }
    }
    let found = object["apiVersion"].as_str().unwrap_or_default();
    let is_same = found == expected && object["kind"] == *resource.kind;
    if let Some(error) =
        (!is_same && !resource.is_custom()).then(|| unrecognized::other_type(resource, object)).flatten()
    {
        return Err(error);
    }
    if found != expected {
        return Err(ApiError::BadRequest(format!(
            "the API version in the data ({found}) does not match the expected API version ({expected})"
        )));
    }
    if object["kind"] != *resource.kind {
        let kind = object["kind"].as_str().unwrap_or_default();
        let subject = Subject::new((&resource.group, &resource.plural), kind, object::name(object));
        let error = FieldError::invalid("kind", &object["kind"], &format!("must be {}", resource.kind));
        return Err(ApiError::Invalid { subject, errors: vec![error] });
    }
    Ok(())
}

/// Drops what the type does not know and checks JSON types; says what to warn of.
pub(crate) fn conform(
    resource: &ResourceType,
    object: &mut Value,
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    conform_beside(resource, object, validation, Vec::new())
}

/// The same where something is to be warned of already.
pub(crate) fn conform_beside(
    resource: &ResourceType,
    object: &mut Value,
    validation: FieldValidation,
    mut warnings: Vec<String>,
) -> Result<Vec<String>, ApiError> {
    warnings.extend(prune(resource, object));
    let cannot = |why: String| {
        ApiError::BadRequest(format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: {why}",
            resource.version,
            kind = resource.kind
        ))
    };
    let checked = match object.get("metadata") {
        // Schemas of custom resources are another check's, but for what all objects have.
        Some(metadata) if resource.is_custom() => {
            check_types(Schema::new(&OBJECT_META), metadata, "ObjectMeta", "")
        }
        None if resource.is_custom() => Ok(()),
        _ => check_types(resource.schema(), object, &resource.kind, ""),
    };
    checked.map_err(|mismatch| cannot(mismatch.shown()))?;
    match validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            Err(cannot(format!("strict decoding error: {}", warnings.join(", "))))
        }
        FieldValidation::Ignore => Ok(Vec::new()),
        _ => Ok(warnings),
    }
}

/// Drops unknown fields and says which they were.
pub(crate) fn prune(resource: &ResourceType, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_value(resource.schema(), object, "", &mut unknown);
    unknown
}

pub(crate) fn prune_value(schema: Schema<'_>, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let is_known = |name: &str| {
                schema.child(name).is_some()
                    || schema.keeps_unknown_fields()
                    || (schema.is_embedded_resource() && ["apiVersion", "kind", "metadata"].contains(&name))
            };
            let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            map.retain(|name, value| {
                if !is_known(name) {
                    unknown.push(format!("unknown field {:?}", join(name)));
                    return false;
                }
                let child = schema.child(name);
                !value.is_null()
                    || child.is_none_or(|child| {
                        child.is_nullable() || child.type_name().is_none() && !child.is_int_or_string()
                    })
            });
            for (name, value) in map {
                if let Some(child) = schema.child(name) {
                    prune_value(child, value, &join(name), unknown);
                }
            }
        }
        Value::Array(items) => {
            let Some(child) = schema.items() else { return };
            for (at, item) in items.iter_mut().enumerate() {
                prune_value(child, item, &format!("{path}[{at}]"), unknown);
            }
        }
        Value::Number(number) if schema.is_quantity() => *value = Value::String(number.to_string()),
        _ => {}
    }
}

/// A value that Go could not have put into its field.
enum Mismatch {
    Type { found: String, place: String, wanted: String },
    Base64 { at: usize },
}

impl Mismatch {
    fn shown(&self) -> String {
        match self {
            Self::Type { found, place, wanted } => {
                let place = if place.is_empty() { "value" } else { place };
                format!("json: cannot unmarshal {found} into Go {place} of type {wanted}")
            }
            Self::Base64 { at } => format!("illegal base64 data at input byte {at}"),
        }
    }
}

fn check_types(schema: Schema<'_>, value: &Value, owner: &str, path: &str) -> Result<(), Mismatch> {
    let wrong = |found: &str, wanted: &str| {
        let (place, wanted) = match path {
            "" => (String::new(), format!("v1.{owner}")),
            path => (format!("struct field {owner}.{path}"), wanted.to_owned()),
        };
        Err(Mismatch::Type { found: found.to_owned(), place, wanted })
    };
    if schema.type_name().is_none() || (schema.is_int_or_string() && !value.is_object() && !value.is_array())
    {
        return Ok(());
    }
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (value, schema.type_name().unwrap_or_default()) {
        (Value::Object(map), "object") => map.iter().try_for_each(|(name, value)| {
            if let Some(field) = schema.property(name) {
                return check_types(field, value, schema.definition().unwrap_or(owner), &join(name));
            }
            // Go counts no keys of maps to the place.
            schema.additional().map_or(Ok(()), |values| check_types(values, value, owner, path))
        }),
        (Value::Array(items), "array") => items.iter().try_for_each(|item| match schema.items() {
            Some(child) => check_types(child, item, owner, path),
            None => Ok(()),
        }),
        (Value::String(text), "string") if schema.format() == Some("byte") => match first_not_base64(text) {
            Some(at) => Err(Mismatch::Base64 { at }),
            None => Ok(()),
        },
        (Value::Null, _) | (Value::String(_), "string") | (Value::Bool(_), "boolean") => Ok(()),
        (Value::Number(number), "integer") if number.is_f64() => {
            wrong(&format!("number {number}"), schema.format().unwrap_or("int64"))
        }
        (Value::Number(_), "integer" | "number") => Ok(()),
        (found, wanted) => wrong(json_type(found), go_type(schema, wanted)),
    }
}

/// Where a text stops being base64 with its padding.
fn first_not_base64(text: &str) -> Option<usize> {
    let body = text.trim_end_matches('=');
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "+/\r\n".contains(letter);
    if let Some(at) = body.find(|letter| !is_letter(letter)) {
        return Some(at);
    }
    let is_whole = text.len().is_multiple_of(4) && text.len() - body.len() <= 2;
    (!is_whole && !text.contains(['\r', '\n'])).then_some(text.len())
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type<'a>(schema: Schema<'a>, wanted: &'a str) -> &'a str {
    match (wanted, schema.format()) {
        ("integer", Some(format)) => format,
        ("integer", None) => "int64",
        ("boolean", _) => "bool",
        ("number", _) => "float64",
        ("object", _) => schema.definition().unwrap_or("map[string]string"),
        ("array", _) => "[]string",
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use serde_json::json;

    fn conformed(mut object: Value, validation: FieldValidation) -> Result<(Value, Vec<String>), ApiError> {
        let kind = Registry::new().find("apps", "v1", "statefulsets").unwrap();
        identify(&kind, &mut object)?;
        let warnings = conform(&kind, &mut object, validation)?;
        Ok((object, warnings))
    }

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let object = json!({"spec": {"replica": 1, "template": {"spec": {"containers": [{"imag": "x"}]}}}});
        let (left, warnings) = conformed(object.clone(), FieldValidation::Warn).unwrap();
        assert_eq!(
            warnings,
            ["unknown field \"spec.replica\"", "unknown field \"spec.template.spec.containers[0].imag\""]
        );
        assert_eq!(left["spec"], json!({"template": {"spec": {"containers": [{}]}}}));
        let error = conformed(object, FieldValidation::Strict).unwrap_err();
        assert_eq!(
            error.message(),
            "StatefulSet in version \"v1\" cannot be handled as a StatefulSet: strict decoding error: unknown field \
             \"spec.replica\", unknown field \"spec.template.spec.containers[0].imag\""
        );
    }

    #[test]
    fn a_wrong_type_is_refused_as_go_does() {
        let error = conformed(json!({"spec": {"replicas": "3"}}), FieldValidation::Ignore).unwrap_err();
        assert_eq!(
            error.message(),
            "StatefulSet in version \"v1\" cannot be handled as a StatefulSet: json: cannot unmarshal string into Go \
             struct field StatefulSetSpec.spec.replicas of type int32"
        );
    }

    #[test]
    fn what_all_objects_have_is_typed_in_custom_resources_too() {
        let mut kind = Registry::new().find("", "v1", "configmaps").unwrap().as_ref().clone();
        kind.custom = Some(crate::resource::Custom {
            definition: String::new(),
            is_terminating: false,
            columns: Vec::new(),
            selectable_fields: Vec::new(),
        });
        let refused = |metadata: Value| {
            let mut object = json!({"metadata": metadata});
            conform(&kind, &mut object, FieldValidation::Warn).err().map(|error| error.message())
        };
        let cannot = |why: &str| {
            Some(format!(
                "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal {why}"
            ))
        };
        assert_eq!(refused(json!({"labels": {"a": "b"}, "generation": 1, "annotations": null})), None);
        assert_eq!(
            refused(json!({"labels": {"a": 1}})),
            cannot("number into Go struct field ObjectMeta.labels of type string")
        );
        assert_eq!(
            refused(json!({"ownerReferences": [{"name": true}]})),
            cannot("bool into Go struct field OwnerReference.ownerReferences.name of type string")
        );
        assert_eq!(refused(json!("x")), cannot("string into Go value of type v1.ObjectMeta"));
    }

    #[test]
    fn a_wrong_value_of_a_map_is_named_as_the_map() {
        let kind = Registry::new().find("", "v1", "configmaps").unwrap();
        let error = conform(&kind, &mut json!({"data": {"a": 1}}), FieldValidation::Warn).unwrap_err();
        assert_eq!(
            error.message(),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct \
             field ConfigMap.data of type string"
        );
    }

    #[test]
    fn secrets_hold_base64() {
        let kind = Registry::new().find("", "v1", "secrets").unwrap();
        let refused = |text: &str| {
            let mut secret = json!({"data": {"key": text}});
            conform(&kind, &mut secret, FieldValidation::Warn).err().map(|error| error.message())
        };
        assert_eq!(refused("aGVsbG8="), None);
        assert_eq!(
            refused("not base64").as_deref(),
            Some(
                "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 3"
            )
        );
    }

    #[test]
    fn another_version_or_kind_is_refused() {
        let error = conformed(json!({"apiVersion": "apps/v1beta1"}), FieldValidation::Warn).unwrap_err();
        assert_eq!(
            error.message(),
            "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
        );
    }
}
