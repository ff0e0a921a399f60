//! Label and field selectors of lists and watches. How labels are selected is read in `label_parser`.

use serde_json::Value;

use crate::error::ApiError;
use crate::label_parser::parse_labels;
use crate::object;
use crate::resource::ResourceType;

#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Requirement {
    pub(crate) key: String,
    pub(crate) operator: Operator,
    pub(crate) values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Operator {
    In,
    NotIn,
    Exists,
    Missing,
    Above,
    Below,
}

impl Selector {
    pub(crate) fn parse(resource: &ResourceType, labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(resource, fields)? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, value: &Value) -> bool {
        let labels = object::map(value, "/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        self.labels.iter().all(|one| one.holds(label(&one.key)))
            && self
                .fields
                .iter()
                .all(|(path, wants_equal, wanted)| (field(value, path) == *wanted) == *wants_equal)
    }
}

impl Requirement {
    fn holds(&self, label: Option<&str>) -> bool {
        let listed = |label: &str| self.values.iter().any(|value| value == label);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|value| number(value));
        match self.operator {
            Operator::In => label.is_some_and(listed),
            Operator::NotIn => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::Missing => label.is_none(),
            Operator::Above => {
                label.and_then(number).zip(bound()).is_some_and(|(label, bound)| label > bound)
            }
            Operator::Below => {
                label.and_then(number).zip(bound()).is_some_and(|(label, bound)| label < bound)
            }
        }
    }
}

/// A field of an object as a selector compares it: as text, and what is missing as the empty text.
fn field(value: &Value, path: &str) -> String {
    let pointer = format!("/{}", path.replace('.', "/"));
    match value.pointer(&pointer) {
        None | Some(Value::Null) => match path {
            // Events name their source in one of two places.
            "source" => object::text(value, "/source/component").to_owned(),
            "spec.unschedulable" => "false".to_owned(),
            _ => String::new(),
        },
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn supported_fields(resource: &ResourceType) -> &'static [&'static str] {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("apps", "replicasets") => &["status.replicas"],
        _ => &[],
    }
}

fn parse_fields(resource: &ResourceType, text: &str) -> Result<Vec<(String, bool, String)>, ApiError> {
    let mut fields = Vec::new();
    for term in text.split(',').filter(|term| !term.is_empty()) {
        let (path, wants_equal, value) = if let Some((path, value)) = term.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, true, value)
        } else {
            let message = format!("invalid field selector: {text:?}; can't understand '{term}'");
            return Err(ApiError::BadRequest(message));
        };
        let is_common = path == "metadata.name" || (path == "metadata.namespace" && resource.is_namespaced);
        let is_selectable = resource
            .custom
            .as_ref()
            .is_some_and(|custom| custom.selectable_fields.iter().any(|one| one == path));
        if !is_common && !is_selectable && !supported_fields(resource).contains(&path) {
            return Err(ApiError::BadRequest(unsupported(resource, path)));
        }
        fields.push((path.to_owned(), wants_equal, value.to_owned()));
    }
    Ok(fields)
}

fn unsupported(resource: &ResourceType, path: &str) -> String {
    let known = !supported_fields(resource).is_empty();
    if known && resource.group.is_empty() {
        return format!("field label not supported: {path}");
    }
    format!(
        "{path:?} is not a known field selector: only \"metadata.name\"{}",
        if resource.is_namespaced { ", \"metadata.namespace\"" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use serde_json::json;

    fn check(labels: &str, fields: &str, expected: bool) {
        let pods = Registry::new().find("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "web-0", "namespace": "default",
            "labels": {"app": "web", "tier": "2"}}, "status": {"phase": "Running"}});
        assert_eq!(
            Selector::parse(&pods, labels, fields).unwrap().matches(&pod),
            expected,
            "{labels} {fields}"
        );
    }

    #[test]
    fn labels_are_compared_in_every_form() {
        for (labels, expected) in [
            ("", true),
            ("app=web", true),
            ("app==db", false),
            ("app!=db", true),
            ("zone!=a", true),
            ("app in (web, db),tier", true),
            ("app notin (web)", false),
            ("!zone", true),
            ("!app", false),
            ("app in (),tier", false),
            ("app in (,web)", true),
            ("in in (in)", false),
            ("app=", false),
            ("tier notin (1,,3), app", true),
            ("tier>1", true),
            ("tier<2", false),
            ("example.com/x", false),
        ] {
            check(labels, "", expected);
        }
    }

    #[test]
    fn fields_are_compared_as_text() {
        check("", "metadata.name=web-0,status.phase!=Pending", true);
        check("", "spec.nodeName=", true);
        check("", "metadata.namespace=kube-system", false);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let pods = Registry::new().find("", "v1", "pods").unwrap();
        let error = Selector::parse(&pods, "", "spec.image=x").unwrap_err();
        assert_eq!(error.message(), "field label not supported: spec.image");
    }
}
