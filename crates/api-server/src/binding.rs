//! Bindings: the one way in which a pod that is there gets its node, as a scheduler gives it.

use serde_json::{Value, json};

use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::object::{self, list, text};
use crate::state::State;
use crate::time;
use crate::write::Place;

impl State {
    pub(crate) fn bind(&mut self, place: &Place, binding: &Value, is_dry: bool) -> Result<Value, ApiError> {
        if object::name(binding) != place.name {
            let message = "name in URL does not match name in Binding object".to_owned();
            return Err(ApiError::BadRequest(message));
        }
        let errors = faults(&binding["target"]);
        if !errors.is_empty() {
            return Err(ApiError::Invalid {
                subject: Subject::new(("", ""), "Binding", &place.name),
                errors,
            });
        }
        let pod = self.get(place)?;
        let conflict = |message: String| {
            Err(ApiError::Conflict {
                subject: Subject::new(("", "pods/binding"), "Pod", &place.name),
                message,
            })
        };
        let (wanted, found) = (object::uid(binding), object::uid(&pod));
        if !wanted.is_empty() && wanted != found {
            return conflict(format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
            ));
        }
        if object::is_terminating(&pod) {
            return conflict(format!("pod {} is being deleted, cannot be assigned to a host", place.name));
        }
        let node = text(&pod, "/spec/nodeName");
        if !node.is_empty() {
            return conflict(format!("pod {} is already assigned to node {node:?}", place.name));
        }
        if !is_dry {
            self.commit(&place.resource, bound(&pod, binding));
        }
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }
}

fn faults(target: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(target, "/kind");
    if !["", "Node"].contains(&kind) {
        let supported = ["Node", "<empty>"].map(str::to_owned);
        errors.push(FieldError::not_supported("target.kind", &json!(kind), &supported));
    }
    if text(target, "/name").is_empty() {
        errors.push(FieldError::required("target.name"));
    }
    errors
}

fn bound(pod: &Value, binding: &Value) -> Value {
    let mut pod = pod.clone();
    object::child(&mut pod, "spec").insert("nodeName".to_owned(), binding["target"]["name"].clone());
    for (key, value) in object::map(binding, "/metadata/annotations").into_iter().flatten() {
        let metadata = &mut pod["metadata"];
        object::child(metadata, "annotations").insert(key.clone(), value.clone());
    }
    let mut conditions = list(&pod, "/status/conditions").to_vec();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": time::now()}));
    object::child(&mut pod, "status").insert("conditions".to_owned(), json!(conditions));
    pod
}
