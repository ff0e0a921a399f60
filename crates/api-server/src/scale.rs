//! The scale subresource: one number of replicas, whatever the type calls it.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::patch::{PatchKind, json_merge, json_patch};
use crate::resource::{self, ResourceType, ScalePaths};
use crate::state::State;
use crate::write::{
    Change, Ownership, Place, WriteOptions, check_name, conform_patched, decoded, place_in_namespace, served,
};
use crate::{apply, apply_config, decode, json_path, object, preconditions};

/// The type of what is read and written here, `autoscaling/v1`.
static SCALE: LazyLock<ResourceType> = LazyLock::new(resource::scale);

/// The Scale in a request.
pub(crate) fn body(media_type: &str, body: &[u8]) -> Result<Value, ApiError> {
    decode::body(&SCALE, media_type, body)
}

fn number(object: &Value, path: &str) -> Value {
    json!(json_path::find(object, path).first().and_then(|value| value.as_i64()).unwrap_or(0))
}

fn scale_of(resource: &ResourceType, paths: &ScalePaths, object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": meta["name"], "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
            "creationTimestamp": meta["creationTimestamp"]},
        "spec": {"replicas": number(object, &paths.spec)},
        "status": {"replicas": number(object, &paths.status)},
    });
    if resource.is_namespaced {
        scale["metadata"]["namespace"] = meta["namespace"].clone();
    }
    let selector = match &paths.selector {
        Some(path) => {
            json_path::find(object, path).first().map(|found| json_path::text(found)).unwrap_or_default()
        }
        None => selector_text(&object["spec"]["selector"]),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// A LabelSelector as the text that lists take.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<String> = object::map(selector, "/matchLabels")
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for one in object::list(selector, "/matchExpressions") {
        let key = object::text(one, "/key");
        let values: Vec<&str> = object::list(one, "/values").iter().filter_map(Value::as_str).collect();
        terms.push(match object::text(one, "/operator") {
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            operator => format!("{key} {} ({})", operator.to_lowercase(), values.join(",")),
        });
    }
    terms.join(",")
}

impl State {
    pub(crate) fn get_scale(&self, place: &Place, paths: &ScalePaths) -> Result<Value, ApiError> {
        let object = self.get(place)?;
        Ok(scale_of(&place.resource, paths, &served(&place.resource, &object)))
    }

    pub(crate) fn update_scale(
        &mut self,
        place: &Place,
        paths: &ScalePaths,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let (mut scale, _) = decoded(&SCALE, body, options)?;
        let old = self.get(place)?;
        preconditions::check_uid(place, &old, &scale)?;
        place_in_namespace(place, &mut scale)?;
        check_name(place, &scale)?;
        self.write_scale((place, paths), &old, &scale, options)
    }

    pub(crate) fn patch_scale(
        &mut self,
        place: &Place,
        kind: PatchKind,
        patch: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let paths = place.resource.scale.clone().ok_or(ApiError::UnknownResource)?;
        let old = self.get(place)?;
        let mut scale = scale_of(&place.resource, &paths, &served(&place.resource, &old));
        match kind {
            PatchKind::Json => json_patch(&mut scale, patch)?,
            PatchKind::Merge | PatchKind::Strategic => json_merge(&mut scale, patch),
            PatchKind::Apply => return self.apply_scale((place, &paths), &old, patch, options),
        }
        conform_patched(&SCALE, &mut scale, (kind, patch), options.validation)?;
        place_in_namespace(place, &mut scale)?;
        check_name(place, &scale)?;
        self.write_scale((place, &paths), &old, &scale, options)
    }

    fn write_scale(
        &mut self,
        (place, paths): (&Place, &ScalePaths),
        old: &Value,
        scale: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        check_replicas(place, scale)?;
        let mut new = served(&place.resource, old);
        if !object::resource_version(scale).is_empty() {
            object::copy_meta(&mut new, scale, "resourceVersion");
        }
        set(&mut new, &paths.spec, json!(scale["spec"]["replicas"].as_i64().unwrap_or(0)));
        let change = Change { place, options, warnings: Vec::new(), ownership: Ownership::ByChange };
        let written = self.replace(old, new, change)?;
        Ok(scale_of(&place.resource, paths, &written.object))
    }

    /// The number is owned in the object that is scaled, as the Scale itself is not kept.
    fn apply_scale(
        &mut self,
        (place, paths): (&Place, &ScalePaths),
        old: &Value,
        patch: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let mut scale = patch.clone();
        apply_config::prepare((place, &SCALE), &mut scale, options)?;
        check_replicas(place, &scale)?;
        let live = served(&place.resource, old);
        let mut config = json!({"apiVersion": live["apiVersion"], "kind": live["kind"],
            "metadata": {"name": place.name}});
        if let Some(replicas) = scale["spec"]["replicas"].as_i64() {
            set(&mut config, &paths.spec, json!(replicas));
        }
        object::copy_meta(&mut config, &scale, "resourceVersion");
        let manager = place.manager(options, true);
        let applied = apply::apply(place.resource.schema(), &live, &config, &manager, options.is_forced)?;
        let change = Change { place, options, warnings: Vec::new(), ownership: Ownership::Applied };
        let written = self.replace(old, applied.object, change)?;
        Ok(scale_of(&place.resource, paths, &written.object))
    }
}

/// Of custom resources the number is judged with the rest of the object.
fn check_replicas(place: &Place, scale: &Value) -> Result<(), ApiError> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas >= 0 || place.resource.is_custom() {
        return Ok(());
    }
    let detail = "must be greater than or equal to 0";
    let errors = vec![FieldError::invalid("spec.replicas", &json!(replicas), detail)];
    Err(ApiError::Invalid { subject: Subject::of(&SCALE, &place.name), errors })
}

/// Sets the field at a path of plain names.
fn set(object: &mut Value, path: &str, value: Value) {
    let mut names = path.trim_start_matches('.').split('.').peekable();
    let mut here = object;
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            here[name] = value;
            return;
        }
        object::child(here, name);
        here = &mut here[name];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_written_as_lists_take_them() {
        let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]});
        assert_eq!(selector_text(&selector), "app=web,tier in (a,b),!old");
    }
}
