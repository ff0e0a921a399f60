//! Create, update, patch and apply: every way an object comes to be stored, with the checks in the order of the real
//! server.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apply::{self, ManagerId};
use crate::auth::User;
use crate::decode::{self, FieldValidation};
use crate::error::{ApiError, Subject};
use crate::field_error::FieldError;
use crate::object;
use crate::patch::{PatchKind, go_value, json_merge, json_patch, strategic_merge};
use crate::resource::ResourceType;
use crate::state::{State, key, suffix, uid};
use crate::store::Key;
use crate::strategy::{self, Door};
use crate::{apply_config, custom, defaults, events, preconditions, time, validate, zero};

#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    pub(crate) manager: String,
    pub(crate) is_forced: bool,
    /// Fields that the body gives twice.
    pub(crate) duplicates: Vec<String>,
    /// Who writes.
    pub(crate) user: User,
}

#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) object: Arc<Value>,
    pub(crate) is_new: bool,
    pub(crate) warnings: Vec<String>,
}

/// One object, or the place for one, and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) resource: Arc<ResourceType>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) door: Door,
}

impl Place {
    fn key(&self) -> Key {
        key(&self.resource, self.namespace.as_deref(), &self.name)
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject::of(&self.resource, &self.name)
    }

    pub(crate) fn manager(&self, options: &WriteOptions, is_apply: bool) -> ManagerId {
        ManagerId {
            name: options.manager.clone(),
            is_apply,
            api_version: self.resource.api_version(),
            subresource: match self.door {
                Door::Main => "",
                Door::Status => "status",
                Door::Scale => "scale",
            }
            .to_owned(),
        }
    }
}

impl State {
    pub(crate) fn get(&self, place: &Place) -> Result<Arc<Value>, ApiError> {
        let found = self.store.get(&place.resource.id(), &place.key());
        found.cloned().ok_or_else(|| ApiError::NotFound(place.subject()))
    }

    pub(crate) fn create(
        &mut self,
        mut place: Place,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let resource = Arc::clone(&place.resource);
        let (mut new, warnings) = decoded(&resource, body, options)?;
        place_in_namespace(&place, &mut new)?;
        if !object::resource_version(&new).is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::Internal(message.to_owned()));
        }
        if object::name(&new).is_empty()
            && let Some(prefix) = object::meta(&new, "generateName").filter(|prefix| !prefix.is_empty())
        {
            let name = format!("{prefix}{}", suffix());
            object::set_meta(&mut new, "name", json!(name));
        }
        place.name = object::name(&new).to_owned();
        let change = Change { place: &place, options, warnings, ownership: Ownership::ByChange };
        self.insert(new, change)
    }

    /// The rest of a create, also of one that an apply or an update asked for.
    fn insert(&mut self, mut new: Value, change: Change<'_>) -> Result<Written, ApiError> {
        let Change { place, options, mut warnings, ownership } = change;
        let resource = &place.resource;
        warnings.extend(validate::warnings(resource, &new, None));
        self.check_namespace(place)?;
        self.check_escalation(&options.user, resource, place.namespace.as_deref(), &new)?;
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            object::meta_mut(&mut new).remove(field);
        }
        object::set_meta(&mut new, "uid", json!(uid()));
        object::set_meta(&mut new, "creationTimestamp", json!(time::now()));
        let written = new.clone();
        defaults::apply(resource, &mut new);
        let mut declared = declared(resource, &written, &new);
        strategy::prepare_create(resource, &mut new);
        defaults::apply_status(resource, &mut new);
        self.assign(resource, &mut new);
        let mut errors = validate::validate(resource, &new);
        errors.extend(custom::validate(resource, &new, None));
        if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
            errors.extend(custom::validate_definition(&new, None));
        }
        refuse(place, errors)?;
        self.check_owner_references((place, &options.user), None, &new)?;
        if self.store.get(&resource.id(), &place.key()).is_some() {
            return Err(ApiError::AlreadyExists(place.subject()));
        }
        if ownership == Ownership::ByChange {
            let manager = place.manager(options, false);
            apply::record_update(resource.schema(), &zero::value(resource), &mut declared, &manager);
            object::copy_meta(&mut new, &declared, "managedFields");
        }
        let object = if options.dry_run { Arc::new(new) } else { self.commit(resource, new) };
        Ok(Written { object, is_new: true, warnings })
    }

    pub(crate) fn update(
        &mut self,
        place: &Place,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let (mut new, warnings) = decoded(&place.resource, body, options)?;
        check_name(place, &new)?;
        place_in_namespace(place, &mut new)?;
        let old = match self.store.get(&place.resource.id(), &place.key()) {
            Some(old) => Arc::clone(old),
            None if place.resource.creates_on_update && place.door == Door::Main => {
                let change = Change { place, options, warnings, ownership: Ownership::ByChange };
                return self.insert(new, change);
            }
            None => return Err(ApiError::NotFound(place.subject())),
        };
        preconditions::check_uid(place, &old, &new)?;
        let change = Change { place, options, warnings, ownership: Ownership::ByChange };
        self.replace(&old, new, change)
    }

    pub(crate) fn patch(
        &mut self,
        place: &Place,
        kind: PatchKind,
        patch: &Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        if kind == PatchKind::Apply {
            return self.apply(place, patch, options);
        }
        let old = self.get(place)?;
        let mut new = served(&place.resource, &old);
        match kind {
            PatchKind::Json => json_patch(&mut new, patch)?,
            PatchKind::Strategic => new = strategic_merge(place.resource.schema(), &new, patch),
            PatchKind::Merge | PatchKind::Apply => json_merge(&mut new, patch),
        }
        let warnings = conform_patched(&place.resource, &mut new, (kind, patch), options.validation)?;
        place_in_namespace(place, &mut new)?;
        check_name(place, &new)?;
        let change = Change { place, options, warnings, ownership: Ownership::ByChange };
        self.replace(&old, new, change)
    }

    fn apply(&mut self, place: &Place, config: &Value, options: &WriteOptions) -> Result<Written, ApiError> {
        let resource = &place.resource;
        let mut config = config.clone();
        apply_config::prepare((place, resource), &mut config, options)?;
        if resource.has_status && place.door == Door::Main {
            object::copy_field(&mut config, &json!({}), "status");
        }
        if place.door == Door::Status {
            object::copy_field(&mut config, &json!({}), "spec");
        }
        let old = self.store.get(&resource.id(), &place.key()).cloned();
        let manager = place.manager(options, true);
        let change = Change { place, options, warnings: Vec::new(), ownership: Ownership::Applied };
        let Some(old) = old else {
            if place.door == Door::Status {
                return Err(ApiError::NotFound(place.subject()));
            }
            if !object::uid(&config).is_empty() {
                let message = "uid mismatch: the provided object specified uid ".to_owned()
                    + object::uid(&config)
                    + ", and no existing object was found";
                return Err(ApiError::Conflict { subject: place.subject(), message });
            }
            let empty = json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}});
            let applied = apply::apply(resource.schema(), &empty, &config, &manager, options.is_forced)?;
            return self.insert(applied.object, change);
        };
        let live = served(resource, &old);
        let applied = apply::apply(resource.schema(), &live, &config, &manager, options.is_forced)?;
        self.replace(&old, applied.object, change)
    }

    /// The rest of every change of an object that is there.
    pub(crate) fn replace(
        &mut self,
        old: &Value,
        mut new: Value,
        change: Change<'_>,
    ) -> Result<Written, ApiError> {
        let Change { place, options, mut warnings, ownership } = change;
        let resource = &place.resource;
        preconditions::check_version(place, old, &new)?;
        warnings.extend(validate::warnings(resource, &new, Some(old)));
        self.check_escalation(&options.user, resource, place.namespace.as_deref(), &new)?;
        let before = served(resource, old);
        let changed_uid = preconditions::changed_uid(&before, &new);
        defaults::apply(resource, &mut new);
        if ownership == Ownership::ByChange {
            let sent = new["metadata"].get("managedFields").cloned();
            strategy::prepare_update(resource, place.door, &before, &mut new);
            if let Some(sent) = sent {
                object::set_meta(&mut new, "managedFields", sent);
            }
            apply::record_update(resource.schema(), &before, &mut new, &place.manager(options, false));
        } else {
            strategy::prepare_update(resource, place.door, &before, &mut new);
        }
        self.assign(resource, &mut new);
        let mut errors: Vec<FieldError> = changed_uid.into_iter().collect();
        errors.extend(validate::validate_metadata_update(&before, &new));
        errors.extend(validate::validate(resource, &new));
        errors.extend(strategy::refused_changes(resource, &before, &new));
        errors.extend(custom::validate(resource, &new, Some(&before)));
        if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
            errors.extend(custom::validate_definition(&new, Some(&before)));
        }
        refuse(place, errors)?;
        self.check_owner_references((place, &options.user), Some(&before), &new)?;
        object::set_meta(&mut new, "resourceVersion", json!(object::resource_version(old)));
        if same_but_for_times(&new, &before) {
            return Ok(Written { object: Arc::new(before), is_new: false, warnings });
        }
        let object = if options.dry_run { Arc::new(new) } else { self.commit(resource, new) };
        Ok(Written { object, is_new: false, warnings })
    }

    /// Stores an object, or lets it go if its deletion waited for nothing but this change: who watches is told that it is gone, and not of the
    /// change before.
    pub(crate) fn commit(&mut self, resource: &ResourceType, new: Value) -> Arc<Value> {
        let new = if events::is_event(resource) { events::stored(new) } else { new };
        let is_done = object::is_terminating(&new)
            && object::finalizers(&new).is_empty()
            && new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
            && object::list(&new, "/spec/finalizers").is_empty();
        if is_done {
            self.remove(resource, &Key::of(&new));
            return Arc::new(new);
        }
        let stored = self.store.put(&resource.id(), new);
        if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
            self.register(&stored);
        }
        stored
    }

    pub(crate) fn remove(&mut self, resource: &ResourceType, key: &Key) -> Option<Arc<Value>> {
        let removed = self.store.remove(&resource.id(), key)?;
        if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
            self.unregister(&removed);
        }
        Some(removed)
    }

    fn check_namespace(&self, place: &Place) -> Result<(), ApiError> {
        let Some(namespace) = place.namespace.as_deref().filter(|_| place.resource.is_namespaced) else {
            return Ok(());
        };
        let Some(namespaces) = self.registry.find("", "v1", "namespaces") else { return Ok(()) };
        let found = self.find(&namespaces, None, namespace);
        let found = found.ok_or_else(|| ApiError::NotFound(Subject::of(&namespaces, namespace)))?;
        if object::is_terminating(found) {
            return Err(ApiError::Forbidden {
                subject: place.subject(),
                message: format!(
                    "unable to create new content in namespace {namespace} because it is being terminated"
                ),
                causes: vec![json!({
                    "reason": "NamespaceTerminating",
                    "message": format!("namespace {namespace} is being terminated"),
                    "field": "metadata.namespace",
                })],
            });
        }
        Ok(())
    }
}

/// What accompanies an object on its way in.
pub(crate) struct Change<'a> {
    pub(crate) place: &'a Place,
    pub(crate) options: &'a WriteOptions,
    pub(crate) warnings: Vec<String>,
    pub(crate) ownership: Ownership,
}

/// How a change finds out who owns what it touches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ownership {
    ByChange,
    Applied,
}

/// An object in the version that is asked for: versions differ in nothing but their name.
pub(crate) fn served(resource: &ResourceType, stored: &Value) -> Value {
    let mut object = stored.clone();
    if resource.is_custom() && object["apiVersion"] != *resource.api_version() {
        object["apiVersion"] = json!(resource.api_version());
        decode::prune(resource, &mut object);
    }
    if resource.is_custom() {
        custom::default_values(resource.schema(), &mut object);
    }
    if events::is_event(resource) {
        object = events::served(resource, object);
    }
    object
}

/// What somebody says who makes an object: what he has written, and the defaults, but nothing that the server hands out.
fn declared(resource: &ResourceType, written: &Value, completed: &Value) -> Value {
    let mut declared = completed.clone();
    object::meta_mut(&mut declared).remove("managedFields");
    if resource.has_status {
        object::copy_field(&mut declared, &json!({}), "status");
    }
    let handed_out = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => "clusterIPs",
        ("", "namespaces") => "finalizers",
        _ => return declared,
    };
    if written["spec"].get(handed_out).is_none()
        && let Some(spec) = declared["spec"].as_object_mut()
    {
        spec.remove(handed_out);
    }
    declared
}

pub(crate) fn decoded(
    resource: &ResourceType,
    mut body: Value,
    options: &WriteOptions,
) -> Result<(Value, Vec<String>), ApiError> {
    decode::identify(resource, &mut body)?;
    let warnings =
        decode::conform_beside(resource, &mut body, options.validation, options.duplicates.clone())?;
    object::meta_mut(&mut body);
    Ok((body, warnings))
}

/// An object stays under the name of its path.
pub(crate) fn check_name(place: &Place, new: &Value) -> Result<(), ApiError> {
    let name = object::name(new);
    if name == place.name {
        return Ok(());
    }
    if name.is_empty() {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            place.name
        )));
    }
    Err(ApiError::BadRequest(format!(
        "the name of the object ({name}) does not match the name on the URL ({})",
        place.name
    )))
}

pub(crate) fn place_in_namespace(place: &Place, new: &mut Value) -> Result<(), ApiError> {
    let Some(namespace) = place.namespace.as_deref().filter(|_| place.resource.is_namespaced) else {
        object::meta_mut(new).remove("namespace");
        return Ok(());
    };
    let given = object::namespace(new);
    if !given.is_empty() && given != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::BadRequest(message.to_owned()));
    }
    object::set_meta(new, "namespace", json!(namespace));
    Ok(())
}

fn refuse(place: &Place, errors: Vec<FieldError>) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid { subject: place.subject(), errors }) }
}

/// Brings what a patch has made into the form of its type, as after decoding it; says what to warn of.
pub(crate) fn conform_patched(
    resource: &ResourceType,
    new: &mut Value,
    (kind, patch): (PatchKind, &Value),
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    // Of a strategic patch the server shows what it was parsed into, of others what they have made.
    let shown = if kind == PatchKind::Strategic { go_value(patch) } else { new.to_string() };
    let refused = |why: &str| {
        let error = FieldError::invalid("patch", &json!(shown), why);
        ApiError::Invalid { subject: Subject::new(("", ""), "", ""), errors: vec![error] }
    };
    decode::identify(resource, new)?;
    let unknown = decode::conform(resource, new, FieldValidation::Warn).map_err(|error| match error {
        ApiError::BadRequest(why) => {
            let frame = format!(" cannot be handled as a {}: ", resource.kind);
            refused(why.split_once(&frame).map_or(&*why, |(_, why)| why))
        }
        other => other,
    })?;
    match validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            Err(refused(&format!("strict decoding error: {}", unknown.join(", "))))
        }
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict | FieldValidation::Warn => Ok(unknown),
    }
}

/// A change that changes nothing but when somebody wrote is none.
fn same_but_for_times(new: &Value, old: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        for entry in
            object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut).into_iter().flatten()
        {
            entry["time"] = Value::Null;
        }
        object
    };
    bare(new) == bare(old)
}
