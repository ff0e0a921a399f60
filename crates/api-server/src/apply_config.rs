//! What a server-side apply must look like before anything is made of it.

use serde_json::{Value, json};

use crate::apply;
use crate::decode::{self, FieldValidation};
use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::object;
use crate::resource::{ResourceType, split_api_version};
use crate::write::{Place, WriteOptions, check_name, place_in_namespace};

/// Checks a configuration of a type at a place, and brings it into the form of the type.
pub(crate) fn prepare(
    (place, resource): (&Place, &ResourceType),
    config: &mut Value,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    if options.manager.is_empty() {
        let error = FieldError::required_because("fieldManager", "is required for apply patch");
        let subject = Subject::options("PatchOptions");
        return Err(ApiError::Invalid { subject, errors: vec![error] });
    }
    check_version(resource, config)?;
    if object::text(config, "/kind").is_empty() {
        let kind = format!("no corresponding type for {}", shown_kind(config));
        return Err(untyped(config, &kind));
    }
    decode::identify(resource, config)?;
    if config.pointer("/metadata/managedFields").is_some_and(Value::is_array) {
        return Err(ApiError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    if let Some(mismatch) = apply::mismatch(resource.schema(), config) {
        return Err(untyped(config, &mismatch));
    }
    place_in_namespace(place, config)?;
    if !object::name(config).is_empty() {
        check_name(place, config)?;
    }
    object::set_meta(config, "name", json!(place.name));
    decode::conform(resource, config, FieldValidation::Ignore).map(drop)
}

fn check_version(resource: &ResourceType, config: &Value) -> Result<(), ApiError> {
    let (found, expected) = (object::text(config, "/apiVersion"), resource.api_version());
    if found == expected || !config.is_object() {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "Incorrect version specified in apply patch. Specified patch version: {found}, expected: {expected}"
    )))
}

/// Group, version and kind as Go's `GroupVersionKind` prints them.
fn shown_kind(config: &Value) -> String {
    let (group, version) = split_api_version(object::text(config, "/apiVersion"));
    format!("{group}/{version}, Kind={}", object::text(config, "/kind"))
}

fn untyped(config: &Value, why: &str) -> ApiError {
    ApiError::Internal(format!(
        "failed to create typed patch object ({}/{}; {}): {why}",
        object::namespace(config),
        object::name(config),
        shown_kind(config)
    ))
}
