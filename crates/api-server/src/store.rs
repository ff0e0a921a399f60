//! All objects as JSON, one revision that counts every change, and a bounded history of changes for watches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::object;
use crate::resource::ResourceId;

/// Changes that a watch can still ask for.
const MAX_HISTORY: usize = 10_000;

/// Ordered as lists are: by namespace, then name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn of(value: &Value) -> Self {
        Self { namespace: object::namespace(value).to_owned(), name: object::name(value).to_owned() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) resource: ResourceId,
    pub(crate) before: Option<Arc<Value>>,
    /// What is there now, or what was there last, with the revision of this change.
    pub(crate) object: Arc<Value>,
    pub(crate) is_deletion: bool,
}

#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<ResourceId, BTreeMap<Key, Arc<Value>>>,
    revision: u64,
    history: VecDeque<Change>,
    /// Watches must begin at this revision or later.
    compacted: u64,
    newest: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new() -> Self {
        // A real server's first object is not the first revision of its etcd either.
        let revision = 1;
        Self {
            objects: BTreeMap::new(),
            revision,
            history: VecDeque::new(),
            compacted: 0,
            newest: watch::Sender::new(revision),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision a watch can begin at.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub(crate) fn get(&self, resource: &ResourceId, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(resource)?.get(key)
    }

    /// All objects of a type in a namespace, or everywhere.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &ResourceId,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        self.objects
            .get(resource)
            .into_iter()
            .flatten()
            .filter(move |(key, _)| namespace.is_none_or(|wanted| wanted == key.namespace))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&ResourceId, &Key, &Arc<Value>)> {
        self.objects
            .iter()
            .flat_map(|(resource, objects)| objects.iter().map(move |(key, value)| (resource, key, value)))
    }

    /// Stores an object with a new resource version and says what is stored.
    pub(crate) fn put(&mut self, resource: &ResourceId, mut value: Value) -> Arc<Value> {
        self.revision += 1;
        object::set_meta(&mut value, "resourceVersion", json!(self.revision.to_string()));
        let value = Arc::new(value);
        let objects = self.objects.entry(resource.clone()).or_default();
        let before = objects.insert(Key::of(&value), Arc::clone(&value));
        self.record(resource, before, Arc::clone(&value), false);
        value
    }

    /// Takes an object away and says what it was, with the resource version of its deletion.
    pub(crate) fn remove(&mut self, resource: &ResourceId, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.get_mut(resource)?.remove(key)?;
        self.revision += 1;
        let mut last = Value::clone(&before);
        object::set_meta(&mut last, "resourceVersion", json!(self.revision.to_string()));
        let last = Arc::new(last);
        self.record(resource, Some(before), Arc::clone(&last), true);
        Some(last)
    }

    /// Changes of a type after a revision; `Err` if history no longer says.
    pub(crate) fn changes_after(
        &self,
        resource: &ResourceId,
        revision: u64,
    ) -> Result<Vec<Change>, Compacted> {
        if revision < self.compacted {
            return Err(Compacted);
        }
        let from = self.history.partition_point(|change| change.revision <= revision);
        Ok(self.history.range(from..).filter(|change| change.resource == *resource).cloned().collect())
    }

    /// Forgets all changes so far: older watches and continue tokens have expired.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.revision;
        self.newest.send_replace(self.revision);
    }

    /// Lets a test reach a revision without a change, as changes of other types would.
    pub(crate) fn advance(&mut self, by: u64) {
        self.revision += by;
        self.newest.send_replace(self.revision);
    }

    fn record(
        &mut self,
        resource: &ResourceId,
        before: Option<Arc<Value>>,
        object: Arc<Value>,
        is_deletion: bool,
    ) {
        let change =
            Change { revision: self.revision, resource: resource.clone(), before, object, is_deletion };
        self.history.push_back(change);
        if self.history.len() > MAX_HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.revision;
        }
        self.newest.send_replace(self.revision);
    }
}

/// The history does not reach back that far.
#[derive(Debug, PartialEq)]
pub(crate) struct Compacted;

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> ResourceId {
        ResourceId { group: String::new(), plural: "pods".to_owned() }
    }

    fn pod(name: &str) -> Value {
        json!({"metadata": {"namespace": "default", "name": name}})
    }

    #[test]
    fn every_change_has_a_revision_of_its_own() {
        let mut store = Store::new();
        let first = store.put(&pods(), pod("a"));
        let second = store.put(&pods(), pod("a"));
        let last = store.remove(&pods(), &Key::of(&pod("a"))).unwrap();
        let versions = [first, second, last].map(|value| object::resource_version(&value).to_owned());
        assert_eq!(versions, ["2", "3", "4"]);
        let changes = store.changes_after(&pods(), 2).unwrap();
        assert_eq!(changes.iter().map(|change| change.revision).collect::<Vec<_>>(), [3, 4]);
        assert!(changes[1].is_deletion && changes[0].before.is_some());
    }

    #[test]
    fn what_is_compacted_cannot_be_watched() {
        let mut store = Store::new();
        store.put(&pods(), pod("a"));
        store.compact();
        assert_eq!(store.changes_after(&pods(), 1).unwrap_err(), Compacted);
        assert_eq!(store.changes_after(&pods(), 2).unwrap().len(), 0);
    }

    #[test]
    fn lists_are_in_the_order_of_their_keys() {
        let mut store = Store::new();
        for name in ["b", "a", "c"] {
            store.put(&pods(), pod(name));
        }
        let names: Vec<&str> = store.list(&pods(), Some("default")).map(|(key, _)| &*key.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(store.list(&pods(), Some("other")).count(), 0);
    }
}
