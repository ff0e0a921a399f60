//! `metadata.managedFields`: read, kept up with every write, and decided by on server-side apply.

use serde_json::{Value, json};

use super::field_set::FieldSet;
use super::typed;
use crate::error::ApiError;
use crate::object;
use crate::schema::Schema;
use crate::time;

/// Who writes, through which subresource and in which version.
#[derive(Debug, Clone)]
pub(crate) struct ManagerId {
    pub(crate) name: String,
    pub(crate) is_apply: bool,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

/// Who applies stays the same when the configuration comes in another version.
impl PartialEq for ManagerId {
    fn eq(&self, other: &Self) -> bool {
        let is_same_version = self.is_apply || self.api_version == other.api_version;
        is_same_version
            && self.is_apply == other.is_apply
            && self.name == other.name
            && self.subresource == other.subresource
    }
}

#[derive(Debug, Clone)]
struct Entry {
    manager: ManagerId,
    time: Option<String>,
    fields: FieldSet,
}

impl Entry {
    fn read(entry: &Value) -> Self {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        Self {
            manager: ManagerId {
                name: text("manager"),
                is_apply: entry["operation"] == "Apply",
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            },
            time: entry["time"].as_str().map(str::to_owned),
            fields: FieldSet::from_fields_v1(&entry["fieldsV1"]),
        }
    }

    fn write(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager.name,
            "operation": if self.manager.is_apply { "Apply" } else { "Update" },
            "apiVersion": self.manager.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_fields_v1(),
        });
        if let Some(time) = &self.time {
            entry["time"] = json!(time);
        }
        if !self.manager.subresource.is_empty() {
            entry["subresource"] = json!(self.manager.subresource);
        }
        entry
    }

    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager.name);
        if !self.manager.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.manager.subresource);
        }
        if !self.manager.is_apply {
            text += &format!(" using {}", self.manager.api_version);
        }
        text
    }
}

/// What nobody owns because the server sets it or it names the object.
fn unowned() -> FieldSet {
    FieldSet::from_fields_v1(&json!({
        "f:apiVersion": {}, "f:kind": {},
        "f:metadata": {
            "f:name": {}, "f:namespace": {}, "f:creationTimestamp": {}, "f:selfLink": {}, "f:uid": {},
            "f:generation": {}, "f:managedFields": {}, "f:resourceVersion": {}, "f:deletionTimestamp": {},
            "f:deletionGracePeriodSeconds": {},
        },
    }))
}

/// `metadata` itself counts as a field only through what is in it.
fn owned(set: &FieldSet) -> FieldSet {
    let metadata = FieldSet::from_fields_v1(&json!({"f:metadata": {}}));
    set.difference(&metadata).without_subtrees(&unowned())
}

fn entries(value: &Value) -> Vec<Entry> {
    object::list(value, "/metadata/managedFields").iter().map(Entry::read).collect()
}

fn without_managed_fields(value: &Value) -> Value {
    let mut bare = value.clone();
    if bare["metadata"].is_object() {
        object::meta_mut(&mut bare).remove("managedFields");
    }
    bare
}

/// Entries of appliers first, as the server sorts them; then by time and name.
fn store(value: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|left, right| {
        let key = |entry: &Entry| {
            (
                !entry.manager.is_apply,
                entry.time.clone(),
                entry.manager.name.clone(),
                entry.manager.subresource.clone(),
            )
        };
        key(left).cmp(&key(right))
    });
    if entries.is_empty() {
        object::meta_mut(value).remove("managedFields");
    } else {
        object::set_meta(value, "managedFields", entries.iter().map(Entry::write).collect());
    }
}

/// Writes down who owns what after a create, update or patch. A list of managed fields that the writer emptied stays
/// empty of others.
pub(crate) fn record_update(schema: Schema<'_>, old: &Value, new: &mut Value, manager: &ManagerId) {
    // A client may clear the list (`[]` or `[{}]`); anything else it sends is what it read.
    let was_cleared = new["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|list| list.iter().all(|entry| entry.as_object().is_none_or(serde_json::Map::is_empty)));
    let mut all = if was_cleared { Vec::new() } else { entries(old) };
    let (before, after) = (without_managed_fields(old), without_managed_fields(new));
    let comparison = typed::compare(schema, &before, &after);
    let gained = owned(&comparison.added.union(&comparison.modified));
    for entry in &mut all {
        entry.fields = entry.fields.difference(&comparison.removed);
        if entry.manager != *manager {
            entry.fields = entry.fields.difference(&gained);
        }
    }
    if !gained.is_empty() {
        match all.iter_mut().find(|entry| entry.manager == *manager) {
            Some(entry) => {
                entry.fields = entry.fields.union(&gained);
                entry.time = Some(time::now());
            }
            None => all.push(Entry { manager: manager.clone(), time: Some(time::now()), fields: gained }),
        }
    }
    store(new, all);
}

/// What server-side apply made of an object.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) object: Value,
}

/// Merges a configuration into the live object, drops what its manager no longer applies, and refuses to take what
/// others own unless it is forced to.
pub(crate) fn apply(
    schema: Schema<'_>,
    live: &Value,
    config: &Value,
    manager: &ManagerId,
    is_forced: bool,
) -> Result<Applied, ApiError> {
    let mut all = entries(live);
    let old = without_managed_fields(live);
    let config_set = owned(&typed::to_set(schema, config));
    let last = all.iter().find(|entry| entry.manager == *manager).map(|entry| entry.fields.clone());
    all.retain(|entry| entry.manager != *manager);
    let merged = typed::merge(Some(schema), &old, config);
    let others = all.iter().fold(config_set.clone(), |set, entry| set.union(&entry.fields));
    let mut new = match &last {
        Some(last) => prune(schema, &merged, last, &others),
        None => merged,
    };
    let comparison = typed::compare(schema, &old, &new);
    let changed = comparison.added.union(&comparison.modified);
    let conflicts: Vec<(String, FieldSet)> = all
        .iter()
        .map(|entry| (entry.shown(), entry.fields.intersection(&changed)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !is_forced && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    for entry in &mut all {
        entry.fields = entry.fields.difference(&changed).difference(&comparison.removed);
    }
    let time = entries(live)
        .into_iter()
        .find(|entry| entry.manager == *manager && entry.fields == config_set && old == new)
        .and_then(|entry| entry.time);
    all.push(Entry {
        manager: manager.clone(),
        time: Some(time.unwrap_or_else(time::now)),
        fields: config_set,
    });
    store(&mut new, all);
    Ok(Applied { object: new })
}

/// Takes away what the manager applied last time and nobody applies or owns now.
fn prune(schema: Schema<'_>, merged: &Value, last: &FieldSet, owned_now: &FieldSet) -> Value {
    let named = |set: &FieldSet| set.with_inner_members(&mut |path| typed::ends_at_named_field(schema, path));
    let (last, owned_now) = (named(last), named(owned_now));
    let Some(pruned) = typed::remove(Some(schema), merged, &last) else { return merged.clone() };
    let all = named(&typed::to_set(schema, merged));
    let kept = named(&typed::to_set(schema, &pruned)).union(&owned_now);
    let gone = all.difference(&kept).intersection(&last);
    typed::remove(Some(schema), merged, &gone).unwrap_or_else(|| merged.clone())
}

fn conflict(conflicts: &[(String, FieldSet)]) -> ApiError {
    let mut causes = Vec::new();
    for (manager, fields) in conflicts {
        for path in fields.paths() {
            causes.push(json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {manager}"),
                "field": path,
            }));
        }
    }
    let message = if causes.len() == 1 {
        let (manager, fields) = &conflicts[0];
        format!("Apply failed with 1 conflict: conflict with {manager}: {}", fields.paths().concat())
    } else {
        let mut lines = Vec::new();
        let mut sorted: Vec<_> = conflicts.iter().collect();
        sorted.sort_by(|left, right| left.0.cmp(&right.0));
        for (manager, fields) in sorted {
            lines.push(format!("conflicts with {manager}:"));
            lines.extend(fields.paths().iter().map(|path| format!("- {path}")));
        }
        format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n"))
    };
    ApiError::ApplyConflict { message, causes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn manager(name: &str, is_apply: bool) -> ManagerId {
        ManagerId {
            name: name.to_owned(),
            is_apply,
            api_version: "apps/v1".to_owned(),
            subresource: String::new(),
        }
    }

    fn deployment(containers: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"template": {"spec": {"containers": containers}}}})
    }

    fn applied(live: &Value, config: &Value, name: &str, is_forced: bool) -> Result<Value, ApiError> {
        let kind = Registry::new().find("apps", "v1", "deployments").unwrap();
        apply(kind.schema(), live, config, &manager(name, true), is_forced).map(|applied| applied.object)
    }

    fn empty() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
    }

    #[test]
    fn items_of_keyed_lists_are_owned_one_by_one() {
        let ours = deployment(&json!([{"name": "web", "image": "web:1"}]));
        let live = applied(&empty(), &ours, "ours", false).unwrap();
        let theirs = deployment(&json!([{"name": "sidecar", "image": "proxy:1"}]));
        let live = applied(&live, &theirs, "theirs", false).unwrap();
        assert_eq!(live["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
        let gone = applied(&live, &empty(), "ours", false).unwrap();
        assert_eq!(
            gone["spec"]["template"]["spec"]["containers"],
            json!([{"name": "sidecar", "image": "proxy:1"}])
        );
        assert_eq!(gone["metadata"]["labels"], json!({"app": "web"}), "the other one applies it too");
    }

    #[test]
    fn fields_no_longer_applied_are_removed() {
        let first = deployment(&json!([{"name": "web", "image": "web:1", "workingDir": "/srv"}]));
        let live = applied(&empty(), &first, "ours", false).unwrap();
        let second = deployment(&json!([{"name": "web", "image": "web:2"}]));
        let live = applied(&live, &second, "ours", false).unwrap();
        assert_eq!(
            live["spec"]["template"]["spec"]["containers"],
            json!([{"name": "web", "image": "web:2"}])
        );
    }

    #[test]
    fn a_conflict_names_manager_and_fields() {
        let kind = Registry::new().find("apps", "v1", "deployments").unwrap();
        let mut live = deployment(&json!([{"name": "web", "image": "web:1"}]));
        live["spec"]["replicas"] = json!(3);
        record_update(kind.schema(), &empty(), &mut live, &manager("kubectl-scale", false));
        let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 5}});
        let error = applied(&live, &config, "ours", false).unwrap_err();
        assert_eq!(
            error.message(),
            "Apply failed with 1 conflict: conflict with \"kubectl-scale\" using apps/v1: .spec.replicas"
        );
        assert_eq!(
            error.status()["details"]["causes"],
            json!([{"reason": "FieldManagerConflict", "field": ".spec.replicas",
                "message": "conflict with \"kubectl-scale\" using apps/v1"}])
        );
        let forced = applied(&live, &config, "ours", true).unwrap();
        assert_eq!(forced["spec"]["replicas"], 5);
        let owners: Vec<&str> = object::list(&forced, "/metadata/managedFields")
            .iter()
            .filter(|entry| entry["fieldsV1"]["f:spec"].get("f:replicas").is_some())
            .filter_map(|entry| entry["manager"].as_str())
            .collect();
        assert_eq!(owners, ["ours"]);
    }

    #[test]
    fn the_same_value_is_shared_without_a_conflict() {
        let config = deployment(&json!([{"name": "web", "image": "web:1"}]));
        let live = applied(&empty(), &config, "one", false).unwrap();
        let live = applied(&live, &config, "two", false).unwrap();
        let after = applied(&live, &empty(), "one", false).unwrap();
        assert_eq!(after["spec"], config["spec"], "the other one still applies it");
    }

    #[test]
    fn an_update_owns_what_it_changed() {
        let kind = Registry::new().find("apps", "v1", "deployments").unwrap();
        let config = deployment(&json!([{"name": "web", "image": "web:1"}]));
        let live = applied(&empty(), &config, "ours", false).unwrap();
        let mut new = live.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
        record_update(kind.schema(), &live, &mut new, &manager("editor", false));
        let entries = object::list(&new, "/metadata/managedFields");
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[1]["fieldsV1"],
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"web\"}": {"f:image": {}}}}}}})
        );
        assert!(
            entries[0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"]
                .get("f:image")
                .is_none()
        );
    }
}
