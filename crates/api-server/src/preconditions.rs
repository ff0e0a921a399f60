//! Which object, and which version of it, a change or a deletion means.

use serde_json::{Value, json};

use crate::delete::DeleteOptions;
use crate::error::{ApiError, MODIFIED, Subject};
use crate::field_error::FieldError;
use crate::object;
use crate::resource::ResourceType;
use crate::write::Place;

/// What a change says of the version it was made from.
pub(crate) fn check_version(place: &Place, old: &Value, new: &Value) -> Result<(), ApiError> {
    let version = object::resource_version(new);
    if version.is_empty() || version == "0" {
        if !needs_version(&place.resource) {
            return Ok(());
        }
        // The server names the plural here, where it names the kind elsewhere.
        let ResourceType { group, plural, .. } = &*place.resource;
        let subject = Subject::new((group, plural), plural, &place.name);
        let detail = "must be specified for an update";
        let errors = vec![FieldError::invalid_as("metadata.resourceVersion", "0x0", detail)];
        return Err(ApiError::Invalid { subject, errors });
    }
    if version == object::resource_version(old) {
        return Ok(());
    }
    if version.parse::<u64>().is_err() {
        let error = FieldError::invalid("metadata.resourceVersion", &json!(version), "must be an integer");
        return Err(ApiError::Invalid { subject: place.subject(), errors: vec![error] });
    }
    Err(ApiError::Conflict { subject: place.subject(), message: MODIFIED.to_owned() })
}

/// Nobody changes these without having read them (`AllowUnconditionalUpdate`).
fn needs_version(resource: &ResourceType) -> bool {
    resource.is_custom()
        || resource.is("coordination.k8s.io", "leases")
        || resource.is("policy", "poddisruptionbudgets")
        || resource.is("apiextensions.k8s.io", "customresourcedefinitions")
}

/// An object that is put in place of another of the same name is refused by the storage.
pub(crate) fn check_uid(place: &Place, old: &Value, new: &Value) -> Result<(), ApiError> {
    let (found, wanted) = (object::uid(old), object::uid(new));
    if wanted.is_empty() || found == wanted {
        return Ok(());
    }
    let message = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID \
         in precondition: {wanted}, UID in object meta: {found}",
        storage_key(place)
    );
    Err(ApiError::Conflict { subject: place.subject(), message })
}

/// A patch may not make another object of it.
pub(crate) fn changed_uid(old: &Value, new: &Value) -> Option<FieldError> {
    let uid = object::uid(new);
    let is_changed = !uid.is_empty() && uid != object::uid(old);
    is_changed.then(|| FieldError::invalid("metadata.uid", &json!(uid), "field is immutable"))
}

/// Where the real server keeps an object in etcd.
fn storage_key(place: &Place) -> String {
    let ResourceType { group, plural, .. } = &*place.resource;
    let kind = match (group.as_str(), plural.as_str()) {
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "nodes") => "minions".to_owned(),
        ("apiextensions.k8s.io", _) => format!("{group}/{plural}"),
        _ if place.resource.is_custom() => format!("{group}/{plural}"),
        (_, plural) => plural.to_owned(),
    };
    let namespace = place.namespace.as_ref().filter(|_| place.resource.is_namespaced);
    let namespace = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    format!("/registry/{kind}/{namespace}{}", place.name)
}

/// What a deletion says of its object.
pub(crate) fn check_deletion(place: &Place, old: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    // The server names the kind here, where it names the plural elsewhere.
    let ResourceType { group, kind, .. } = &*place.resource;
    let failed = |field: &str, (wanted, found): (&str, &str), why: &str| {
        let subject = Subject::new((group, kind), kind, &place.name);
        let message = format!(
            "the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). The object might \
             have been {why}"
        );
        Err(ApiError::Conflict { subject, message })
    };
    let (uid, version) = (object::uid(old), object::resource_version(old));
    match (&options.uid, &options.resource_version) {
        (Some(wanted), _) if wanted != uid => failed("UID", (wanted, uid), "deleted and then recreated"),
        (_, Some(wanted)) if wanted != version => failed("ResourceVersion", (wanted, version), "modified"),
        _ => Ok(()),
    }
}
