//! What the server refuses, and the `Status` object that says so (apimachinery's `pkg/api/errors`).

use serde_json::{Map, Value, json};

use crate::field_error::FieldError;
use crate::resource::ResourceType;

/// Names an object in a refusal: `statefulsets.apps "web"`.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    group: Box<str>,
    resource: Box<str>,
    kind: Box<str>,
    name: Box<str>,
}

impl Subject {
    pub(crate) fn of(resource: &ResourceType, name: &str) -> Self {
        Self::new((&resource.group, &resource.plural), &resource.kind, name)
    }

    pub(crate) fn new((group, resource): (&str, &str), kind: &str, name: &str) -> Self {
        Self { group: group.into(), resource: resource.into(), kind: kind.into(), name: name.into() }
    }

    /// Options of a request, which have a kind but no name.
    pub(crate) fn options(kind: &str) -> Self {
        Self::new(("meta.k8s.io", ""), kind, "")
    }

    fn qualified(&self, word: &str) -> String {
        if self.group.is_empty() { word.to_owned() } else { format!("{word}.{}", self.group) }
    }

    /// With its name, if it has one.
    fn shown(&self) -> String {
        let resource = self.qualified(&self.resource);
        if self.name.is_empty() { resource } else { format!("{resource} \"{}\"", self.name) }
    }

    fn details(&self, kind: &str) -> Map<String, Value> {
        let mut details = Map::new();
        for (field, value) in [("name", &*self.name), ("group", &*self.group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(field.to_owned(), json!(value));
            }
        }
        details
    }
}

#[derive(Debug, Clone)]
pub(crate) enum ApiError {
    NotFound(Subject),
    AlreadyExists(Subject),
    /// The object changed meanwhile, or a precondition does not hold.
    Conflict {
        subject: Subject,
        message: String,
    },
    /// Server-side apply would take fields of other managers.
    ApplyConflict {
        message: String,
        causes: Vec<Value>,
    },
    Invalid {
        subject: Subject,
        errors: Vec<FieldError>,
    },
    BadRequest(String),
    Unauthorized,
    Forbidden {
        subject: Subject,
        message: String,
        causes: Vec<Value>,
    },
    ForbiddenPath(String),
    /// 410: a resource version or a continue token that is too old.
    Expired {
        message: String,
        continue_token: Option<String>,
    },
    /// A resource version the server has not reached.
    TooLarge {
        wanted: u64,
        current: u64,
    },
    MethodNotAllowed,
    /// The body is longer than that.
    EntityTooLarge {
        limit: usize,
    },
    /// Something is to be created of a type whose definition is being deleted.
    DefinitionTerminating(Subject),
    UnsupportedMediaType {
        accepted: &'static [&'static str],
    },
    NotAcceptable {
        accepted: &'static [&'static str],
    },
    TooManyRequests {
        retry_after: u64,
    },
    /// An eviction that a disruption budget does not allow now.
    Disruption {
        cause: String,
        retry_after: u64,
    },
    /// Everything that a fault makes the server say.
    Broken {
        code: u16,
    },
    Internal(String),
    /// Somebody wants to act as a group, a uid or extras of no user.
    NobodyToActAs {
        uri: String,
        wanted: String,
    },
    /// A kubelet refused what it was asked for.
    Kubelet {
        code: u16,
        /// `pods/log`, and of which pod.
        resource: &'static str,
        name: String,
        message: String,
    },
    /// A JSON patch that does not fit what is there.
    Unprocessable,
    /// A path under which there is nothing: plain text for discovery, a `Status` for resources.
    UnknownPath,
    UnknownResource,
}

pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl ApiError {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::NotFound(_) | Self::UnknownPath | Self::UnknownResource => 404,
            Self::AlreadyExists(_) | Self::Conflict { .. } | Self::ApplyConflict { .. } => 409,
            Self::Invalid { .. } | Self::Unprocessable => 422,
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden { .. } | Self::ForbiddenPath(_) => 403,
            Self::Expired { .. } => 410,
            Self::TooLarge { .. } => 504,
            Self::MethodNotAllowed | Self::DefinitionTerminating(_) => 405,
            Self::EntityTooLarge { .. } => 413,
            Self::UnsupportedMediaType { .. } => 415,
            Self::NotAcceptable { .. } => 406,
            Self::TooManyRequests { .. } | Self::Disruption { .. } => 429,
            Self::Broken { code } | Self::Kubelet { code, .. } => *code,
            Self::Internal(_) | Self::NobodyToActAs { .. } => 500,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyRequests { retry_after } | Self::Disruption { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::TooLarge { .. } => Some(1),
            _ => None,
        }
    }

    /// What the real server says in plain text, not as a `Status`.
    pub(crate) fn plain_text(&self) -> Option<String> {
        match self {
            Self::UnknownPath => Some("404 page not found\n".to_owned()),
            Self::NobodyToActAs { .. } => Some(self.message() + "\n"),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message(), "code": self.code(),
        });
        if let Self::Expired { continue_token: Some(token), .. } = self {
            status["metadata"]["continue"] = json!(token);
        }
        if let Some(reason) = self.reason() {
            status["reason"] = json!(reason);
        }
        let details = self.details();
        if !details.is_empty() || self.has_empty_details() {
            status["details"] = Value::Object(details);
        }
        status
    }

    /// These say where they come from by details without anything in them.
    fn has_empty_details(&self) -> bool {
        matches!(
            self,
            Self::UnknownResource | Self::MethodNotAllowed | Self::ForbiddenPath(_) | Self::Unprocessable
        )
    }

    fn reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound(_)
            | Self::UnknownPath
            | Self::UnknownResource
            | Self::Kubelet { code: 404, .. } => "NotFound",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict { .. } => "Conflict",
            Self::Invalid { .. } | Self::Unprocessable => "Invalid",
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } | Self::ForbiddenPath(_) => "Forbidden",
            Self::Expired { .. } => "Expired",
            Self::TooLarge { .. } => "Timeout",
            Self::MethodNotAllowed | Self::DefinitionTerminating(_) => "MethodNotAllowed",
            Self::EntityTooLarge { .. } => "RequestEntityTooLarge",
            Self::UnsupportedMediaType { .. } => "UnsupportedMediaType",
            Self::NotAcceptable { .. } => "NotAcceptable",
            Self::TooManyRequests { .. } | Self::Disruption { .. } => "TooManyRequests",
            Self::Broken { code: 503 } => "ServiceUnavailable",
            Self::Broken { .. } | Self::Kubelet { .. } => "InternalError",
            Self::Internal(_) | Self::NobodyToActAs { .. } => return None,
        })
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::NotFound(subject) => {
                format!("{} \"{}\" not found", subject.qualified(&subject.resource), subject.name)
            }
            Self::AlreadyExists(subject) => {
                format!("{} \"{}\" already exists", subject.qualified(&subject.resource), subject.name)
            }
            Self::Conflict { subject, message } => format!(
                "Operation cannot be fulfilled on {} \"{}\": {message}",
                subject.qualified(&subject.resource),
                subject.name
            ),
            Self::Invalid { subject, errors } => format!(
                "{} \"{}\" is invalid: {}",
                subject.qualified(&subject.kind),
                subject.name,
                FieldError::aggregate(errors)
            ),
            Self::Forbidden { subject, message, .. } => {
                format!("{} is forbidden: {message}", subject.shown())
            }
            Self::ForbiddenPath(message) => format!("forbidden: {message}"),
            Self::ApplyConflict { message, .. }
            | Self::BadRequest(message)
            | Self::Expired { message, .. }
            | Self::Internal(message) => message.clone(),
            Self::Unauthorized => "Unauthorized".to_owned(),
            Self::Unprocessable => {
                "the server rejected our request due to an error in our request".to_owned()
            }
            Self::TooLarge { wanted, current } => {
                format!("Too large resource version: {wanted}, current: {current}")
            }
            Self::MethodNotAllowed => {
                "the server does not allow this method on the requested resource".to_owned()
            }
            Self::EntityTooLarge { limit } => format!("Request entity too large: limit is {limit}"),
            Self::DefinitionTerminating(_) => {
                "create not allowed while custom resource definition is terminating".to_owned()
            }
            Self::UnsupportedMediaType { accepted } => format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
            Self::NotAcceptable { accepted } => {
                format!("only the following media types are accepted: {}", accepted.join(", "))
            }
            Self::TooManyRequests { .. } => {
                "the server has received too many requests and has asked us to try again later".to_owned()
            }
            Self::Disruption { .. } => {
                "Cannot evict pod as it would violate the pod's disruption budget.".to_owned()
            }
            Self::Kubelet { code: 404, resource, name, .. } => {
                format!("the server could not find the requested resource ( {resource} {name})")
            }
            Self::Kubelet { message, .. } => format!("Internal error occurred: {message}"),
            Self::Broken { code: 503 } => "the server is currently unable to handle the request".to_owned(),
            Self::Broken { .. } => {
                "an error on the server (\"Internal Server Error\") has prevented the request from succeeding"
                    .to_owned()
            }
            Self::NobodyToActAs { uri, wanted } => {
                format!("Internal Server Error: {uri:?}: requested {wanted} without impersonating a user")
            }
            Self::UnknownPath | Self::UnknownResource => {
                "the server could not find the requested resource".to_owned()
            }
        }
    }

    fn details(&self) -> Map<String, Value> {
        match self {
            Self::NotFound(subject)
            | Self::AlreadyExists(subject)
            | Self::Conflict { subject, .. }
            | Self::DefinitionTerminating(subject) => subject.details(&subject.resource),
            Self::Forbidden { subject, causes, .. } => {
                let mut details = subject.details(&subject.resource);
                if !causes.is_empty() {
                    details.insert("causes".to_owned(), json!(causes));
                }
                details
            }
            Self::Invalid { subject, errors } => {
                let mut details = subject.details(&subject.kind);
                let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
                details.insert("causes".to_owned(), json!(causes));
                details
            }
            Self::ApplyConflict { causes, .. } => Map::from_iter([("causes".to_owned(), json!(causes))]),
            Self::TooLarge { .. } => Map::from_iter([
                (
                    "causes".to_owned(),
                    json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
                ),
                ("retryAfterSeconds".to_owned(), json!(1)),
            ]),
            Self::TooManyRequests { retry_after } => {
                Map::from_iter([("retryAfterSeconds".to_owned(), json!(retry_after))])
            }
            Self::Disruption { cause, retry_after } => {
                let causes = json!([{"reason": "DisruptionBudget", "message": cause}]);
                let mut details = Map::from_iter([("causes".to_owned(), causes)]);
                if *retry_after > 0 {
                    details.insert("retryAfterSeconds".to_owned(), json!(retry_after));
                }
                details
            }
            Self::Kubelet { code: 404, resource, name, message } => Map::from_iter([
                ("name".to_owned(), json!(name)),
                ("kind".to_owned(), json!(resource)),
                ("causes".to_owned(), json!([{"reason": "UnexpectedServerResponse", "message": message}])),
            ]),
            Self::Kubelet { message, .. } => {
                Map::from_iter([("causes".to_owned(), json!([{"message": message}]))])
            }
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Subject {
        Subject::new(("apps", "statefulsets"), "StatefulSet", "web")
    }

    #[test]
    fn refusals_read_as_those_of_the_real_server() {
        let not_found = ApiError::NotFound(web()).status();
        assert_eq!(
            not_found,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "statefulsets.apps \"web\" not found", "reason": "NotFound",
                "details": {"name": "web", "group": "apps", "kind": "statefulsets"}, "code": 404})
        );
        let conflict = ApiError::Conflict { subject: web(), message: MODIFIED.to_owned() };
        assert_eq!(
            conflict.message(),
            "Operation cannot be fulfilled on statefulsets.apps \"web\": the object has been modified; \
             please apply your changes to the latest version and try again"
        );
    }

    #[test]
    fn an_invalid_object_names_every_cause() {
        let errors =
            vec![FieldError::required("spec.a"), FieldError::invalid("spec.b", &json!(0), "must be more")];
        let status = ApiError::Invalid { subject: web(), errors }.status();
        assert_eq!(
            status["message"],
            "StatefulSet.apps \"web\" is invalid: [spec.a: Required value, spec.b: Invalid value: 0: must be more]"
        );
        assert_eq!(status["details"]["causes"][1]["reason"], "FieldValueInvalid");
        assert_eq!(status["details"]["causes"][1]["message"], "Invalid value: 0: must be more");
        assert_eq!(status["details"]["kind"], "StatefulSet");
    }
}
