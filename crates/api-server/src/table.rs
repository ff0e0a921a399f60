//! The forms an object is answered in: as it is, as its metadata alone, or as the rows of a `Table` for people.

use serde_json::{Value, json};

use crate::columns::{self, Column};
use crate::error::ApiError;
use crate::list::Page;
use crate::object::text;
use crate::request::Query;
use crate::resource::ResourceType;
use crate::yaml;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Object,
    PartialMetadata,
    Table(Include),
}

/// What of its object a row carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

const ACCEPTED: &[&str] = &["application/json", yaml::MEDIA_TYPE, "application/vnd.kubernetes.protobuf"];
const META: &str = "meta.k8s.io/v1";

impl Form {
    /// The first media type of an `Accept` header that this server can speak.
    pub(crate) fn parse(accept: &str) -> Result<Self, ApiError> {
        if accept.trim().is_empty() {
            return Ok(Self::Object);
        }
        accept.split(',').find_map(Self::of_media_type).ok_or(ApiError::NotAcceptable { accepted: ACCEPTED })
    }

    fn of_media_type(media_type: &str) -> Option<Self> {
        let mut parts = media_type.split(';').map(str::trim);
        if !matches!(parts.next()?, "application/json" | yaml::MEDIA_TYPE | "*/*" | "application/*") {
            return None;
        }
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter =
            |name: &str| parameters.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let is_v1 = parameter("g") == Some("meta.k8s.io") && parameter("v") == Some("v1");
        match parameter("as") {
            None => Some(Self::Object),
            Some("Table") if is_v1 => Some(Self::Table(Include::Metadata)),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if is_v1 => {
                Some(Self::PartialMetadata)
            }
            Some(_) => None,
        }
    }

    pub(crate) fn including(self, query: &Query) -> Self {
        match (self, query.get("includeObject")) {
            (Self::Table(_), Some("Object")) => Self::Table(Include::Object),
            (Self::Table(_), Some("None")) => Self::Table(Include::Nothing),
            (form, _) => form,
        }
    }

    pub(crate) fn one(self, resource: &ResourceType, object: &Value) -> Value {
        match self {
            Self::Object => object.clone(),
            Self::PartialMetadata => partial(object),
            Self::Table(include) => {
                let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table(resource, std::slice::from_ref(object), include, &meta)
            }
        }
    }

    pub(crate) fn list(self, resource: &ResourceType, page: &Page) -> Value {
        let mut meta = json!({"resourceVersion": page.revision.to_string()});
        if let Some(token) = &page.continue_token {
            meta["continue"] = json!(token);
        }
        if let Some(remaining) = page.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        match self {
            Self::Object => json!({
                "kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": meta,
                "items": page.items.iter().map(|item| in_list(resource, item)).collect::<Vec<_>>(),
            }),
            Self::PartialMetadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": META, "metadata": meta,
                "items": page.items.iter().map(partial).collect::<Vec<_>>(),
            }),
            Self::Table(include) => table(resource, &page.items, include, &meta),
        }
    }

    pub(crate) fn bookmark(self, object: Value) -> Value {
        match self {
            Self::Object => object,
            Self::PartialMetadata => partial(&object),
            Self::Table(_) => json!({
                "kind": "Table", "apiVersion": META, "columnDefinitions": [],
                "metadata": {"resourceVersion": object["metadata"]["resourceVersion"]},
                "rows": [{"cells": [], "object": partial(&object)}],
            }),
        }
    }
}

/// Items of built-in lists do not repeat what the list says of them all.
fn in_list(resource: &ResourceType, item: &Value) -> Value {
    let mut item = item.clone();
    if !resource.is_custom()
        && let Some(fields) = item.as_object_mut()
    {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": object["metadata"]})
}

fn table(resource: &ResourceType, objects: &[Value], include: Include, meta: &Value) -> Value {
    let columns = columns::of(resource);
    let definitions: Vec<Value> = columns.iter().map(Column::definition).collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|column| column.cell(object)).collect();
            let shown = match include {
                Include::Nothing => Value::Null,
                Include::Metadata => partial(object),
                Include::Object => object.clone(),
            };
            let mut row = json!({"cells": cells, "object": shown});
            if let Some(condition) = completion(resource, object) {
                row["conditions"] = json!([condition]);
            }
            row
        })
        .collect();
    json!({"kind": "Table", "apiVersion": META, "metadata": meta, "columnDefinitions": definitions, "rows": rows})
}

/// Rows of pods that are over are marked.
fn completion(resource: &ResourceType, object: &Value) -> Option<Value> {
    let message = match text(object, "/status/phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    let reason = &object["status"]["phase"];
    resource
        .is("", "pods")
        .then(|| json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_known_is_taken() {
        for (accept, expected) in [
            ("", Some(Form::Object)),
            ("*/*", Some(Form::Object)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(Form::Table(Include::Metadata)),
            ),
            ("application/vnd.kubernetes.protobuf, application/json", Some(Form::Object)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Form::PartialMetadata)),
            ("application/yaml", Some(Form::Object)),
            ("text/html", None),
        ] {
            assert_eq!(Form::parse(accept).ok(), expected, "{accept}");
        }
    }
}
