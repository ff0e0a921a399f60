//! Lists: selected, in pages, of now or of a revision that the history still reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::request::Query;
use crate::resource::ResourceType;
use crate::selector::Selector;
use crate::state::State;
use crate::store::Key;
use crate::write::served;

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Value>,
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start \
    a new list without the continue parameter, or use the continue token in this response to retrieve the remainder \
    of the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

impl State {
    pub(crate) fn list(
        &self,
        resource: &ResourceType,
        namespace: Option<&str>,
        query: &Query,
    ) -> Result<Page, ApiError> {
        let selector = Selector::parse(resource, query.text("labelSelector"), query.text("fieldSelector"))?;
        let start = query.get("continue").filter(|token| !token.is_empty()).map(Start::parse).transpose()?;
        let wanted = self.wanted_revision(query, start.as_ref())?;
        let revision = wanted.unwrap_or_else(|| self.store.revision());
        let objects = self.snapshot(resource, namespace, wanted).ok_or_else(|| expired(start.as_ref()))?;
        let limit = query.get("limit").and_then(|text| text.parse::<usize>().ok()).filter(|limit| *limit > 0);
        let rest: Vec<(&Key, &Arc<Value>)> = objects
            .iter()
            .filter(|(key, _)| start.as_ref().is_none_or(|start| **key > start.after))
            .filter(|(_, object)| selector.is_empty() || selector.matches(object))
            .collect();
        let shown = limit.unwrap_or(rest.len()).min(rest.len());
        let remaining = rest.len() - shown;
        let last = shown.checked_sub(1).map(|last| rest[last].0);
        let continue_token = match last {
            Some(last) if remaining > 0 => {
                Some(Start { revision: Some(revision), after: last.clone() }.token())
            }
            _ => None,
        };
        Ok(Page {
            items: rest[..shown].iter().map(|(_, object)| served(resource, object)).collect(),
            revision,
            continue_token,
            remaining: (remaining > 0 && selector.is_empty()).then_some(remaining),
        })
    }

    /// The revision whose state is asked for; none for the newest.
    fn wanted_revision(&self, query: &Query, start: Option<&Start>) -> Result<Option<u64>, ApiError> {
        if let Some(start) = start {
            return Ok(start.revision);
        }
        let text = query.text("resourceVersion");
        let rule = query.text("resourceVersionMatch");
        if text.is_empty() && !rule.is_empty() {
            return Err(forbidden_match(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if text.is_empty() {
            return Ok(None);
        }
        let revision = parse_revision(text)?;
        let current = self.store.revision();
        if revision > current {
            return Err(ApiError::TooLarge { wanted: revision, current });
        }
        match rule {
            "Exact" if revision == 0 => {
                Err(forbidden_match("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
            }
            "Exact" => Ok(Some(revision)),
            "" | "NotOlderThan" => Ok(None),
            other => {
                let supported = ["Exact", "NotOlderThan", ""].map(str::to_owned);
                Err(invalid_options(FieldError::not_supported(
                    "resourceVersionMatch",
                    &json!(other),
                    &supported,
                )))
            }
        }
    }

    /// All objects as they were at a revision: the changes since then undone.
    fn snapshot(
        &self,
        resource: &ResourceType,
        namespace: Option<&str>,
        revision: Option<u64>,
    ) -> Option<BTreeMap<Key, Arc<Value>>> {
        let id = resource.id();
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.store.list(&id, namespace).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        let Some(revision) = revision else { return Some(objects) };
        let changes = self.store.changes_after(&id, revision).ok()?;
        for change in changes.into_iter().rev() {
            let key = Key::of(&change.object);
            if namespace.is_some_and(|namespace| namespace != key.namespace) {
                continue;
            }
            match change.before {
                Some(before) => objects.insert(key, before),
                None => objects.remove(&key),
            };
        }
        Some(objects)
    }
}

pub(crate) fn parse_revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        invalid_options(FieldError::invalid("resourceVersion", &json!(text), &why))
    })
}

fn forbidden_match(detail: &str) -> ApiError {
    invalid_options(FieldError::forbidden("resourceVersionMatch", detail))
}

pub(crate) fn invalid_options(error: FieldError) -> ApiError {
    let subject = Subject::options("ListOptions");
    ApiError::Invalid { subject, errors: vec![error] }
}

fn expired(start: Option<&Start>) -> ApiError {
    match start {
        Some(start) => ApiError::Expired {
            message: TOO_OLD.to_owned(),
            continue_token: Some(Start { revision: None, after: start.after.clone() }.token()),
        },
        None => ApiError::Expired {
            message: "The resourceVersion for the provided list is too old.".to_owned(),
            continue_token: None,
        },
    }
}

/// What a continue token says: behind which object a list goes on, and at which revision.
#[derive(Debug)]
struct Start {
    revision: Option<u64>,
    after: Key,
}

impl Start {
    fn token(&self) -> String {
        let text = json!({
            "v": "meta.k8s.io/v1",
            "rv": self.revision.map_or(-1, |revision| revision as i64),
            "start": format!("{}/{}", self.after.namespace, self.after.name),
        })
        .to_string();
        text.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    fn parse(token: &str) -> Result<Self, ApiError> {
        let refused = || ApiError::BadRequest("continue key is not valid: illegal base64 data".to_owned());
        let bytes: Option<Vec<u8>> = (0..token.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(token.get(at..at + 2)?, 16).ok())
            .collect();
        let parsed: Value =
            bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(refused)?;
        let (namespace, name) =
            parsed["start"].as_str().and_then(|start| start.split_once('/')).ok_or_else(refused)?;
        let revision = parsed["rv"].as_i64().ok_or_else(refused)?;
        Ok(Self {
            revision: u64::try_from(revision).ok(),
            after: Key { namespace: namespace.to_owned(), name: name.to_owned() },
        })
    }
}
