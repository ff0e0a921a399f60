//! A request taken apart: what it asks of which resource, and how it wants the answer.

use bytes::Bytes;

use crate::auth::User;
use crate::decode::FieldValidation;
use crate::error::ApiError;
use crate::kubelet::Upgrade;
use crate::write::WriteOptions;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) raw_query: String,
    pub(crate) accept: String,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    pub(crate) authorization: Option<String>,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) body: Bytes,
}

/// `/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`, or as much of it as there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    /// `None` for paths that lead to no resource, such as discovery.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", name, "status" | "finalize"] if group.is_empty() => {
                (Some(*name), &["namespaces", *name, rest[2]][..])
            }
            ["namespaces", name] if group.is_empty() => (Some(*name), &["namespaces", *name][..]),
            ["namespaces", namespace, resource, more @ ..] if more.len() <= 2 => {
                let at = rest.len() - more.len() - 1;
                debug_assert_eq!(rest[at], *resource);
                (Some(*namespace), &rest[at..])
            }
            rest => (None, rest),
        };
        let text = |at: usize| rest.get(at).map(|part| decode_percent(part));
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            resource: text(0)?,
            name: text(1),
            subresource: text(2),
        })
    }
}

impl Request {
    /// The verb that authorization asks about.
    pub(crate) fn verb(&self, target: &Target) -> &'static str {
        match (self.method, &target.name) {
            (Method::Get, None) if self.query.flag("watch") => "watch",
            (Method::Get, None) => "list",
            (Method::Get, Some(_)) => "get",
            (Method::Post, _) => "create",
            (Method::Put, _) => "update",
            (Method::Patch, _) => "patch",
            (Method::Delete, None) => "deletecollection",
            (Method::Delete, Some(_)) => "delete",
            (Method::Other, _) => "options",
        }
    }

    pub(crate) fn path_verb(&self) -> &'static str {
        match self.method {
            Method::Get => "get",
            Method::Post => "post",
            Method::Put => "put",
            Method::Patch => "patch",
            Method::Delete => "delete",
            Method::Other => "options",
        }
    }

    pub(crate) fn write_options(&self, user: &User) -> Result<WriteOptions, ApiError> {
        let dry_run = match self.query.get("dryRun") {
            None | Some("") => false,
            Some("All") => true,
            Some(other) => {
                return Err(ApiError::BadRequest(format!(
                    "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                )));
            }
        };
        let validation = match self.query.get("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(ApiError::BadRequest(format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        let manager = match self.query.get("fieldManager") {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => self.user_agent.split('/').next().unwrap_or_default().to_owned(),
        };
        let is_forced = self.query.flag("force");
        Ok(WriteOptions { dry_run, validation, manager, is_forced, user: user.clone() })
    }

    /// The media type of the body, without its parameters.
    pub(crate) fn media_type(&self) -> &str {
        self.content_type.split(';').next().unwrap_or_default().trim()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_percent(&name.replace('+', " ")), decode_percent(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "" | "1" | "true" | "True" | "t"))
    }
}

fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: (&str, Option<&str>, &str, Option<&str>, Option<&str>)) {
        let target = Target::parse(path).unwrap();
        let found = (
            target.group.as_str(),
            target.namespace.as_deref(),
            target.resource.as_str(),
            target.name.as_deref(),
            target.subresource.as_deref(),
        );
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn paths_are_taken_apart() {
        check("/api/v1/pods", ("", None, "pods", None, None));
        check("/api/v1/namespaces", ("", None, "namespaces", None, None));
        check("/api/v1/namespaces/a", ("", Some("a"), "namespaces", Some("a"), None));
        check("/api/v1/namespaces/a/status", ("", Some("a"), "namespaces", Some("a"), Some("status")));
        check("/api/v1/namespaces/a/pods/b/status", ("", Some("a"), "pods", Some("b"), Some("status")));
        check("/apis/apps/v1/namespaces/a/statefulsets", ("apps", Some("a"), "statefulsets", None, None));
        check("/apis/x.io/v1/things/a%2Fb/scale", ("x.io", None, "things", Some("a/b"), Some("scale")));
        assert_eq!(Target::parse("/apis/apps/v1"), None);
        assert_eq!(Target::parse("/healthz"), None);
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=1&x=a+b");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("x"), Some("a b"));
        assert!(query.flag("watch") && !query.flag("force"));
    }
}
