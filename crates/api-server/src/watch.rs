//! Watches: events from the history and then as they happen, bookmarks, 410 as an event, and streams that break.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::faults::Break;
use crate::field_error::FieldError;
use crate::list::{invalid_options, parse_revision};
use crate::request::{Query, Request};
use crate::resource::ResourceType;
use crate::selector::Selector;
use crate::server::Shared;
use crate::state::State;
use crate::store::{Change, Key};
use crate::table::Form;
use crate::write::served;

/// How long a watch lasts that does not say: at least half an hour, as in the real server.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    resource: Arc<ResourceType>,
    namespace: Option<String>,
    selector: Selector,
    form: Form,
    wants_bookmarks: bool,
    revision: u64,
    waiting: VecDeque<Value>,
    newest: watch::Receiver<u64>,
    breaks: watch::Receiver<Option<Break>>,
    until: Instant,
    next_bookmark: Instant,
    has_sent_columns: bool,
    end: End,
}

/// How the stream goes on after what waits.
#[derive(Debug, PartialEq)]
enum End {
    Open,
    Closing,
    Broken,
}

/// What a stream sends next.
pub(crate) enum Chunk {
    Data(Bytes),
    /// The connection is torn.
    Reset,
}

impl Watch {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        state: &State,
        resource: &Arc<ResourceType>,
        namespace: Option<&str>,
        request: &Request,
    ) -> Result<Self, ApiError> {
        let query = &request.query;
        let selector = Selector::parse(resource, query.text("labelSelector"), query.text("fieldSelector"))?;
        let timeout =
            query.get("timeoutSeconds").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
        let now = Instant::now();
        let mut watch = Self {
            shared: Arc::clone(shared),
            resource: Arc::clone(resource),
            namespace: namespace.map(str::to_owned),
            selector,
            form: Form::parse(&request.accept)?,
            wants_bookmarks: query.flag("allowWatchBookmarks"),
            revision: state.store.revision(),
            waiting: VecDeque::new(),
            newest: state.store.subscribe(),
            breaks: shared.faults.subscribe_breaks(),
            until: now + timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
            next_bookmark: now + shared.settings.bookmark_interval,
            has_sent_columns: false,
            end: End::Open,
        };
        watch.newest.mark_unchanged();
        watch.breaks.mark_unchanged();
        watch.begin(state, query)?;
        if shared.faults.take_expired_watch() {
            watch.waiting.clear();
            watch.expire(state);
        }
        Ok(watch)
    }

    fn begin(&mut self, state: &State, query: &Query) -> Result<(), ApiError> {
        let text = query.text("resourceVersion");
        let streams_list = query.get("sendInitialEvents").is_some_and(|_| query.flag("sendInitialEvents"));
        check_options(query)?;
        let revision = if text.is_empty() { 0 } else { parse_revision(text)? };
        if streams_list && revision > state.store.revision() {
            return Err(ApiError::TooLarge { wanted: revision, current: state.store.revision() });
        }
        let skips_list = query.get("sendInitialEvents") == Some("false");
        if streams_list || (revision == 0 && !skips_list) {
            let id = self.resource.id();
            let all: Vec<Arc<Value>> = state
                .store
                .list(&id, self.namespace.as_deref())
                .filter(|(_, object)| self.selector.matches(object))
                .map(|(_, object)| Arc::clone(object))
                .collect();
            for object in all {
                let event = self.event("ADDED", &object);
                self.waiting.push_back(event);
            }
            if streams_list && self.wants_bookmarks {
                let bookmark = self.bookmark(json!({"k8s.io/initial-events-end": "true"}));
                self.waiting.push_back(bookmark);
            }
        } else if revision > 0 {
            self.revision = revision;
            self.catch_up(state);
        }
        Ok(())
    }

    /// The next piece of the stream; `None` when it has ended in good order.
    pub(crate) async fn next(&mut self) -> Option<Chunk> {
        loop {
            if let Some(mut event) = self.waiting.pop_front() {
                self.describe_columns_once(&mut event);
                return Some(Chunk::Data(line(&event)));
            }
            match self.end {
                End::Closing => return None,
                End::Broken => return Some(Chunk::Reset),
                End::Open => {}
            }
            tokio::select! {
                // What changes after a test has broken the stream is not told on it.
                biased;
                changed = self.breaks.changed() => {
                    changed.ok()?;
                    if let Some(chunk) = self.broken().await {
                        return Some(chunk);
                    }
                }
                () = tokio::time::sleep_until(self.until) => self.end = End::Closing,
                () = tokio::time::sleep_until(self.next_bookmark), if self.wants_bookmarks => {
                    self.next_bookmark = Instant::now() + self.shared.settings.bookmark_interval;
                    let shared = Arc::clone(&self.shared);
                    let state = shared.state.lock();
                    self.catch_up(&state);
                    if self.revision == state.store.revision() {
                        let bookmark = self.bookmark(Value::Null);
                        self.waiting.push_back(bookmark);
                    }
                }
                changed = self.newest.changed() => {
                    changed.ok()?;
                    let shared = Arc::clone(&self.shared);
                    self.catch_up(&shared.state.lock());
                }
            }
        }
    }

    /// Only the first table of a watch says what its columns are.
    fn describe_columns_once(&mut self, event: &mut Value) {
        if !matches!(self.form, Form::Table(_)) || event["object"]["kind"] != "Table" {
            return;
        }
        if self.has_sent_columns {
            event["object"]["columnDefinitions"] = Value::Null;
        }
        self.has_sent_columns = true;
    }

    async fn broken(&mut self) -> Option<Chunk> {
        let how = *self.breaks.borrow_and_update();
        match how? {
            Break::MidLine => {
                self.end = End::Broken;
                let whole = line(&self.bookmark(Value::Null));
                Some(Chunk::Data(whole.slice(..whole.len() / 2)))
            }
            Break::Close => {
                self.end = End::Closing;
                None
            }
            Break::Silent => std::future::pending().await,
        }
    }

    fn catch_up(&mut self, state: &State) {
        let Ok(changes) = state.store.changes_after(&self.resource.id(), self.revision) else {
            return self.expire(state);
        };
        for change in changes {
            if let Some(event) = self.event_of(&change) {
                self.waiting.push_back(event);
            }
        }
        // A watch may wait for a version that is still to come.
        self.revision = self.revision.max(state.store.revision());
        if !self.is_served(state) {
            self.end = End::Closing;
        }
    }

    /// A watch of custom objects ends with their definition, also if another one has taken its place.
    fn is_served(&self, state: &State) -> bool {
        let Self { resource, .. } = self;
        let now = state.registry.find(&resource.group, &resource.version, &resource.plural);
        now.is_some_and(|now| now.definition() == resource.definition())
    }

    fn expire(&mut self, state: &State) {
        let message = format!("too old resource version: {} ({})", self.revision, state.store.compacted());
        let status = ApiError::Expired { message, continue_token: None }.status();
        self.waiting.push_back(json!({"type": "ERROR", "object": status}));
        self.end = End::Closing;
    }

    /// What a change means to somebody who sees only what is selected.
    fn event_of(&self, change: &Change) -> Option<Value> {
        let key = Key::of(&change.object);
        if self.namespace.as_ref().is_some_and(|namespace| *namespace != key.namespace) {
            return None;
        }
        let selected = |object: &Value| self.selector.matches(object);
        let was_seen = change.before.as_deref().is_some_and(selected);
        let is_seen = !change.is_deletion && selected(&change.object);
        match (was_seen, is_seen) {
            (false, false) => None,
            (false, true) => Some(self.event("ADDED", &change.object)),
            (true, true) => Some(self.event("MODIFIED", &change.object)),
            (true, false) => Some(self.event("DELETED", &self.last_seen(change))),
        }
    }

    /// Of what leaves a selection, the last selected state is shown, with the revision of the change.
    fn last_seen(&self, change: &Change) -> Value {
        let mut last = change.before.as_deref().unwrap_or(&change.object).clone();
        crate::object::copy_meta(&mut last, &change.object, "resourceVersion");
        last
    }

    fn event(&self, kind: &str, object: &Value) -> Value {
        let object = served(&self.resource, object);
        json!({"type": kind, "object": self.form.one(&self.resource, &object)})
    }

    fn bookmark(&self, annotations: Value) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string(), "creationTimestamp": null});
        if annotations.is_object() {
            metadata["annotations"] = annotations;
        }
        let object = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata});
        json!({"type": "BOOKMARK", "object": self.form.bookmark(object)})
    }
}

fn check_options(query: &Query) -> Result<(), ApiError> {
    let rule = query.text("resourceVersionMatch");
    if query.get("sendInitialEvents").is_some() {
        if rule != "NotOlderThan" {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(invalid_options(FieldError::forbidden("resourceVersionMatch", detail)));
        }
        if query.flag("sendInitialEvents") && !query.flag("allowWatchBookmarks") {
            let detail = "sendInitialEvents requires setting allowWatchBookmarks to true";
            return Err(invalid_options(FieldError::forbidden("allowWatchBookmarks", detail)));
        }
    } else if !rule.is_empty() {
        let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(invalid_options(FieldError::forbidden("resourceVersionMatch", detail)));
    }
    Ok(())
}

fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}
