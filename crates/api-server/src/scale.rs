//! The scale subresource: one number of replicas, whatever the type calls it.

use serde_json::{Value, json};

use crate::decode;
use crate::error::{ApiError, MODIFIED};
use crate::json_path;
use crate::object;
use crate::patch::{PatchKind, json_merge, json_patch};
use crate::resource::{ResourceType, ScalePaths};
use crate::state::State;
use crate::write::{Change, Ownership, Place, WriteOptions, served};

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
        scale: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let old = self.get(place)?;
        let version = object::resource_version(scale);
        if !version.is_empty() && version != object::resource_version(&old) {
            return Err(ApiError::Conflict { subject: place.subject(), message: MODIFIED.to_owned() });
        }
        let Some(replicas) =
            scale["spec"]["replicas"].as_i64().or_else(|| scale["spec"]["replicas"].is_null().then_some(0))
        else {
            return Err(ApiError::BadRequest(format!(
                "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal {} into Go struct field \
                 ScaleSpec.spec.replicas of type int32",
                scale["spec"]["replicas"]
            )));
        };
        let mut new = served(&place.resource, &old);
        set(&mut new, &paths.spec, json!(replicas));
        let change = Change { place, options, warnings: Vec::new(), ownership: Ownership::ByChange };
        let written = self.replace(&old, new, change)?;
        Ok(scale_of(&place.resource, paths, &written.object))
    }

    pub(crate) fn patch_scale(
        &mut self,
        place: &Place,
        kind: PatchKind,
        body: &[u8],
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let paths = place.resource.scale.clone().ok_or(ApiError::UnknownResource)?;
        let mut scale = self.get_scale(place, &paths)?;
        object::meta_mut(&mut scale).remove("resourceVersion");
        let patch = decode::parse(body)?;
        match kind {
            PatchKind::Json => json_patch(&mut scale, &patch)?,
            PatchKind::Merge | PatchKind::Strategic | PatchKind::Apply => json_merge(&mut scale, &patch),
        }
        self.update_scale(place, &paths, &scale, options)
    }
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
