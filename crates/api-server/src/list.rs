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
        check_options(query)?;
        let wanted = self.wanted_revision(query, start.as_ref())?;
        let revision = wanted.unwrap_or_else(|| self.store.revision());
        let objects = self.snapshot(resource, namespace, wanted).ok_or_else(|| expired(start.as_ref()))?;
        // What may be old comes from the watch cache, which has no pages.
        let limit = limit(query).filter(|_| start.is_some() || query.text("resourceVersion") != "0");
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
        let text = query.text("resourceVersion");
        if let Some(start) = start {
            if !text.is_empty() && text != "0" {
                let message = "specifying resource version is not allowed when using continue";
                return Err(ApiError::BadRequest(message.to_owned()));
            }
            return Ok(start.revision);
        }
        if text.is_empty() {
            return Ok(None);
        }
        let revision = parse_revision(text)?;
        self.reach(revision)?;
        // With a limit, a version is the one that is shown, unless it says otherwise.
        let is_exact = match query.text("resourceVersionMatch") {
            "" => limit(query).is_some() && revision > 0,
            rule => rule == "Exact",
        };
        Ok(is_exact.then_some(revision))
    }

    fn reach(&self, wanted: u64) -> Result<(), ApiError> {
        let current = self.store.revision();
        if wanted > current { Err(ApiError::TooLarge { wanted, current }) } else { Ok(()) }
    }

    /// One object is not read at a version that is still to come.
    pub(crate) fn check_reached(&self, query: &Query) -> Result<(), ApiError> {
        let text = query.text("resourceVersion");
        if text.is_empty() {
            return Ok(());
        }
        // Not a refusal of options as with lists, but a storage's error that nobody translates.
        let revision = text.parse().map_err(|_| ApiError::Internal(unparsed_revision(text).text()))?;
        self.reach(revision)
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
    text.parse().map_err(|_| invalid_options(unparsed_revision(text)))
}

fn unparsed_revision(text: &str) -> FieldError {
    let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
    FieldError::invalid("resourceVersion", &json!(text), &why)
}

fn limit(query: &Query) -> Option<usize> {
    query.get("limit")?.parse().ok().filter(|limit| *limit > 0)
}

/// Options of a list that do not go together.
fn check_options(query: &Query) -> Result<(), ApiError> {
    const RULE: &str = "resourceVersionMatch";
    let mut errors = Vec::new();
    let rule = query.text(RULE);
    if !rule.is_empty() {
        let mut forbid = |is_wrong: bool, detail: &str| {
            if is_wrong {
                errors.push(FieldError::forbidden(RULE, detail));
            }
        };
        let version = query.text("resourceVersion");
        forbid(version.is_empty(), "resourceVersionMatch is forbidden unless resourceVersion is provided");
        forbid(
            !query.text("continue").is_empty(),
            "resourceVersionMatch is forbidden when continue is provided",
        );
        forbid(
            rule == "Exact" && version == "0",
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        );
        if rule != "Exact" && rule != "NotOlderThan" {
            let supported = ["Exact", "NotOlderThan", ""].map(str::to_owned);
            errors.push(FieldError::not_supported(RULE, &json!(rule), &supported));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let detail = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", detail));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::Invalid { subject: Subject::options("ListOptions"), errors })
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
