//! A request taken apart: what it asks of which resource, and how it wants the answer.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::auth::User;
use crate::decode::FieldValidation;
use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::impersonation::Impersonation;
use crate::kubelet::Upgrade;
use crate::write::WriteOptions;
use crate::{duplicates, go_value};

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
    pub(crate) impersonation: Impersonation,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) body: Bytes,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Layout {
    Dense,
    /// For people.
    Indented,
}

impl Layout {
    pub(crate) fn written(self, body: &Value) -> String {
        match self {
            Self::Dense => format!("{body}\n"),
            Self::Indented => format!("{body:#}"),
        }
    }
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
        let errors = self.option_errors();
        if !errors.is_empty() {
            let kind = match self.method {
                Method::Put => "UpdateOptions",
                Method::Patch => "PatchOptions",
                _ => "CreateOptions",
            };
            return Err(ApiError::Invalid { subject: Subject::options(kind), errors });
        }
        let validation = match self.query.text("fieldValidation") {
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            _ => FieldValidation::Warn,
        };
        let manager = match self.query.get("fieldManager") {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => self.user_agent.split('/').next().unwrap_or_default().to_owned(),
        };
        let is_whole = matches!(self.method, Method::Post | Method::Put);
        let is_json = matches!(self.media_type(), "" | "application/json");
        Ok(WriteOptions {
            dry_run: self.query.get("dryRun").is_some(),
            validation,
            manager,
            is_forced: self.query.flag("force"),
            duplicates: if is_whole && is_json { duplicates::find(&self.body) } else { Vec::new() },
            user: user.clone(),
        })
    }

    fn option_errors(&self) -> Vec<FieldError> {
        const MAX_MANAGER: usize = 128;
        const VALIDATIONS: [&str; 4] = ["", "Ignore", "Strict", "Warn"];
        let mut errors = Vec::new();
        let is_apply = self.media_type().starts_with("application/apply-patch");
        if self.method == Method::Patch && !is_apply && self.query.get("force").is_some() {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        let manager = self.query.text("fieldManager");
        if manager.len() > MAX_MANAGER {
            errors.push(FieldError::too_long("fieldManager", MAX_MANAGER as u64));
        }
        for (at, letter) in manager.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
            errors.push(FieldError::invalid("fieldManager", &json!(manager), &detail));
        }
        errors.extend(dry_run_error(&self.query.all("dryRun")));
        let validation = self.query.text("fieldValidation");
        if !VALIDATIONS.contains(&validation) {
            let supported = VALIDATIONS.map(str::to_owned);
            errors.push(FieldError::not_supported("fieldValidation", &json!(validation), &supported));
        }
        errors
    }

    /// People, and the programs that they read with, get answers that are easy to read.
    pub(crate) fn layout(&self) -> Layout {
        const READERS: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];
        let is_pretty = match self.query.text("pretty") {
            "" => READERS.iter().any(|reader| self.user_agent.starts_with(reader)),
            wanted => matches!(wanted, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        };
        if is_pretty { Layout::Indented } else { Layout::Dense }
    }

    /// Path and query as they came.
    pub(crate) fn uri(&self) -> String {
        let separator = if self.raw_query.is_empty() { "" } else { "?" };
        format!("{}{separator}{}", self.path, self.raw_query)
    }

    /// The media type of the body, without its parameters.
    pub(crate) fn media_type(&self) -> &str {
        self.content_type.split(';').next().unwrap_or_default().trim()
    }
}

fn is_printable(letter: char) -> bool {
    letter == ' ' || !letter.is_control() && !letter.is_whitespace()
}

pub(crate) fn dry_run_error(wanted: &[&str]) -> Option<FieldError> {
    let shown = go_value::strings(&json!(wanted));
    let is_known = wanted.iter().all(|one| *one == "All");
    (!is_known).then(|| FieldError::not_supported_typed("dryRun", &shown, &["All".to_owned()]))
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

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "" | "1" | "true" | "True" | "t"))
    }
}

pub(crate) fn decode_percent(text: &str) -> String {
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

    fn request(method: Method, query: &str) -> Request {
        Request {
            method,
            path: String::new(),
            query: Query::parse(query),
            raw_query: String::new(),
            accept: String::new(),
            content_type: "application/merge-patch+json".to_owned(),
            user_agent: "kubectl/1".to_owned(),
            authorization: None,
            impersonation: Impersonation::default(),
            upgrade: None,
            body: Bytes::new(),
        }
    }

    #[test]
    fn people_get_answers_that_are_easy_to_read() {
        let of = |agent: &str, query: &str| {
            Request { user_agent: agent.to_owned(), ..request(Method::Get, query) }.layout()
        };
        assert_eq!(of("kubectl/1", ""), Layout::Dense);
        assert_eq!(of("curl/8", ""), Layout::Indented);
        assert_eq!(of("curl/8", "pretty=false"), Layout::Dense);
        assert_eq!(of("kubectl/1", "pretty=true"), Layout::Indented);
        assert_eq!(
            Layout::Indented.written(&json!({"a": [1], "b": {}})),
            "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}"
        );
    }

    #[test]
    fn options_are_checked() {
        let refused = |method: Method, query: &str| {
            request(method, query)
                .write_options(&User::admin())
                .map(|options| options.manager)
                .map_err(|error| error.message())
        };
        assert_eq!(refused(Method::Post, "dryRun=All&fieldValidation=").as_deref(), Ok("kubectl"));
        assert_eq!(
            refused(Method::Post, "dryRun=Some").unwrap_err(),
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: []string{\"Some\"}: supported values: \
             \"All\""
        );
        assert_eq!(
            refused(Method::Put, "fieldValidation=Foo").unwrap_err(),
            "UpdateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Foo\": supported values: \
             \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        assert_eq!(
            refused(Method::Patch, "force=true").unwrap_err(),
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
        );
        assert_eq!(
            refused(Method::Post, &format!("fieldManager={}", "x".repeat(129))).unwrap_err(),
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes"
        );
        assert_eq!(
            refused(Method::Post, "fieldManager=a%01").unwrap_err(),
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\u0001\": invalid character \
             U+0001 (at position 1)"
        );
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=1&x=a+b");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("x"), Some("a b"));
        assert!(query.flag("watch") && !query.flag("force"));
    }
}
