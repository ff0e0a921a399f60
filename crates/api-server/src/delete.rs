//! Deletion: preconditions, grace, finalizers, propagation. What follows from it is the collector's.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::object;
use crate::request::dry_run_error;
use crate::resource::ResourceType;
use crate::state::State;
use crate::store::Key;
use crate::write::Place;
use crate::{custom, preconditions, time};

pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<String>,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// From the body of the request, else from its query.
    pub(crate) fn parse(body: &[u8], query: &crate::request::Query) -> Result<Self, ApiError> {
        let body = match crate::protobuf::decode_delete_options(body) {
            Some(options) => options,
            None if body.is_empty() => json!({}),
            None => crate::decode::parse(body)?,
        };
        Self::of(&body, query)
    }

    /// From the options themselves, else from the query.
    pub(crate) fn of(body: &Value, query: &crate::request::Query) -> Result<Self, ApiError> {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let mut options = Self {
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            propagation: text("/propagationPolicy")
                .or_else(|| query.get("propagationPolicy").map(str::to_owned)),
            grace_seconds: body["gracePeriodSeconds"].as_i64(),
            dry_run: query.get("dryRun") == Some("All") || !object::list(body, "/dryRun").is_empty(),
        };
        if options.grace_seconds.is_none() {
            options.grace_seconds = query.get("gracePeriodSeconds").and_then(|text| text.parse().ok());
        }
        let orphans = body["orphanDependents"] == true || query.flag("orphanDependents");
        if options.propagation.is_none() && orphans {
            options.propagation = Some("Orphan".to_owned());
        }
        let errors = option_errors(body, query, &options);
        if errors.is_empty() {
            return Ok(options);
        }
        Err(ApiError::Invalid { subject: Subject::options("DeleteOptions"), errors })
    }
}

fn option_errors(body: &Value, query: &crate::request::Query, options: &DeleteOptions) -> Vec<FieldError> {
    const POLICIES: [&str; 4] = ["Foreground", "Background", "Orphan", "nil"];
    let mut errors = Vec::new();
    let named = body.get("propagationPolicy").is_some_and(Value::is_string)
        || query.get("propagationPolicy").is_some();
    if let Some(policy) = options.propagation.as_ref().filter(|_| named) {
        if body["orphanDependents"].is_boolean() || query.get("orphanDependents").is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", &json!(policy), detail));
        }
        if !POLICIES[..3].contains(&policy.as_str()) {
            let supported = POLICIES.map(str::to_owned);
            errors.push(FieldError::not_supported("propagationPolicy", &json!(policy), &supported));
        }
    }
    let mut dry_runs: Vec<&str> = object::list(body, "/dryRun").iter().filter_map(Value::as_str).collect();
    dry_runs.extend(query.all("dryRun"));
    errors.extend(dry_run_error(&dry_runs));
    errors
}

/// What became of an object that was to be deleted.
#[derive(Debug)]
pub(crate) enum Deleted {
    Gone(Arc<Value>),
    Terminating(Arc<Value>),
}

impl State {
    pub(crate) fn delete(&mut self, place: &Place, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        let old = self.get(place)?;
        preconditions::check_deletion(place, &old, options)?;
        check_mortal(place)?;
        if place.resource.is("", "namespaces") && object::is_terminating(&old) {
            let message = "The system is ensuring all content is removed from this namespace.  Upon completion, \
                           this namespace will automatically be purged by the system.";
            return Err(ApiError::Conflict { subject: place.subject(), message: message.to_owned() });
        }
        let mut new = Value::clone(&old);
        if place.resource.is("apiextensions.k8s.io", "customresourcedefinitions")
            && !object::is_terminating(&old)
        {
            custom::begin_termination(&mut new);
            let object = if options.dry_run { Arc::new(new) } else { self.commit(&place.resource, new) };
            return Ok(Deleted::Terminating(object));
        }
        propagate(&mut new, options);
        let grace = grace(&place.resource, &old, options);
        let is_gone = grace == 0
            && object::finalizers(&new).is_empty()
            && object::list(&new, "/spec/finalizers").is_empty();
        if is_gone {
            if options.dry_run {
                return Ok(Deleted::Gone(old));
            }
            let removed = self.remove(&place.resource, &Key::of(&old)).unwrap_or(old);
            return Ok(Deleted::Gone(removed));
        }
        mark(&place.resource, &old, &mut new, grace);
        if options.dry_run {
            return Ok(Deleted::Terminating(Arc::new(new)));
        }
        if new == *old {
            return Ok(Deleted::Terminating(old));
        }
        Ok(Deleted::Terminating(self.store.put(&place.resource.id(), new)))
    }
}

/// Namespaces that the cluster itself lives in.
fn check_mortal(place: &Place) -> Result<(), ApiError> {
    const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
    if !place.resource.is("", "namespaces") || !IMMORTAL.contains(&place.name.as_str()) {
        return Ok(());
    }
    let message = "this namespace may not be deleted".to_owned();
    Err(ApiError::Forbidden { subject: place.subject(), message, causes: Vec::new() })
}

/// Foreground and orphaning deletion are finalizers that the collector takes off.
fn propagate(new: &mut Value, options: &DeleteOptions) {
    let wanted = match options.propagation.as_deref() {
        Some("Foreground") => Some(FOREGROUND),
        Some("Orphan") => Some(ORPHAN),
        Some(_) => None,
        None => return,
    };
    let mut finalizers: Vec<String> = object::finalizers(new)
        .into_iter()
        .filter(|one| *one != FOREGROUND && *one != ORPHAN)
        .map(str::to_owned)
        .collect();
    finalizers.extend(wanted.map(str::to_owned));
    object::set_finalizers(new, &finalizers);
}

/// Only pods that run somewhere take time to stop.
fn grace(resource: &ResourceType, old: &Value, options: &DeleteOptions) -> i64 {
    if !resource.is("", "pods") || object::text(old, "/spec/nodeName").is_empty() {
        return 0;
    }
    if matches!(object::text(old, "/status/phase"), "Succeeded" | "Failed") {
        return 0;
    }
    // A deletion that is under way can only be shortened.
    match running_grace(old) {
        Some(running) => options.grace_seconds.map_or(running, |wanted| wanted.min(running)),
        None => {
            let own = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
            options.grace_seconds.unwrap_or(own)
        }
    }
}

/// Of a deletion that is under way.
fn running_grace(old: &Value) -> Option<i64> {
    old["metadata"]["deletionGracePeriodSeconds"].as_i64().filter(|_| object::is_terminating(old))
}

fn mark(resource: &ResourceType, old: &Value, new: &mut Value, grace: i64) {
    if !object::is_terminating(old) {
        let at = time::seconds_since_epoch(SystemTime::now()) + grace.max(0) as u64;
        object::set_meta(new, "deletionTimestamp", json!(time::format(at)));
        if !resource.is("", "namespaces") {
            object::set_meta(new, "deletionGracePeriodSeconds", json!(grace));
        }
        if resource.tracks_generation || resource.is_custom() {
            object::set_meta(new, "generation", json!(object::generation(old) + 1));
        }
    } else if let Some(running) = running_grace(old).filter(|running| grace < *running) {
        let end = time::parse(object::text(old, "/metadata/deletionTimestamp")).unwrap_or(0);
        let sooner = u64::try_from(end - running + grace).unwrap_or(0);
        object::set_meta(new, "deletionTimestamp", json!(time::format(sooner)));
        object::set_meta(new, "deletionGracePeriodSeconds", json!(grace));
    }
    if resource.is("", "namespaces") {
        new["status"]["phase"] = json!("Terminating");
    }
}
