//! What a cluster's controllers do behind the server, as far as deletion needs it: dependents of owners that are gone,
//! foreground and orphaning deletion, namespaces with all that is in them, and definitions with their custom objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::custom::{self, CLEANUP, Stage};
use crate::delete::{DeleteOptions, FOREGROUND, ORPHAN};
use crate::object;
use crate::resource::{ResourceId, ResourceType, split_api_version};
use crate::state::State;
use crate::store::Key;
use crate::strategy::Door;
use crate::write::Place;

struct Found {
    resource: Arc<ResourceType>,
    key: Key,
    object: Arc<Value>,
}

impl Found {
    fn place(&self) -> Place {
        Place {
            resource: Arc::clone(&self.resource),
            namespace: Some(self.key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: self.key.name.clone(),
            door: Door::Main,
        }
    }
}

impl State {
    /// One round; says whether anything was done, so that another one is due.
    pub(crate) fn collect(&mut self) -> bool {
        let all = self.everything();
        let uids: BTreeMap<String, usize> =
            all.iter().enumerate().map(|(at, found)| (object::uid(&found.object).to_owned(), at)).collect();
        let mut did_something = false;
        for found in &all {
            did_something |= self.collect_dependent(found, &all, &uids);
            did_something |= self.finish_owner(found, &all);
        }
        // After the dependents: what has owners of a kind that nobody serves any more is left alone.
        for found in all.iter().filter(|found| object::is_terminating(&found.object)) {
            if found.resource.is("", "namespaces") {
                did_something |= self.empty_namespace(found, &all);
            }
            if found.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
                did_something |= self.empty_definition(found, &all);
            }
        }
        did_something
    }

    fn everything(&self) -> Vec<Found> {
        let mut types: BTreeMap<ResourceId, Option<Arc<ResourceType>>> = BTreeMap::new();
        let mut all = Vec::new();
        for (id, key, object) in self.store.all() {
            let resource = types.entry(id.clone()).or_insert_with(|| self.registry.by_id(id));
            if let Some(resource) = resource {
                all.push(Found {
                    resource: Arc::clone(resource),
                    key: key.clone(),
                    object: Arc::clone(object),
                });
            }
        }
        all
    }

    /// Deletes what has owners of which none is left; lets go of owners that are gone while others stay.
    fn collect_dependent(&mut self, found: &Found, all: &[Found], uids: &BTreeMap<String, usize>) -> bool {
        let owners = object::owners(&found.object);
        if owners.is_empty() || object::is_terminating(&found.object) {
            return false;
        }
        let state_of = |owner: &Value| self.owner_state(owner, found, all, uids);
        let states: Vec<OwnerState> = owners.iter().map(state_of).collect();
        let stays = states.contains(&OwnerState::Stays);
        if !stays && states.contains(&OwnerState::Waits) {
            return self.delete_as(found, "Foreground");
        }
        if !stays {
            return self.delete_as(found, "Background");
        }
        if states.contains(&OwnerState::Gone) {
            let kept: Vec<Value> = owners
                .iter()
                .zip(&states)
                .filter(|(_, state)| **state != OwnerState::Gone)
                .map(|(owner, _)| owner.clone())
                .collect();
            return self.set_owners(found, &kept);
        }
        false
    }

    /// An owner counts as there only if the object of that kind and name has that uid, in the dependent's namespace
    /// or in none.
    fn owner_state(
        &self,
        owner: &Value,
        found: &Found,
        all: &[Found],
        uids: &BTreeMap<String, usize>,
    ) -> OwnerState {
        let (group, version) = split_api_version(object::text(owner, "/apiVersion"));
        let kind = object::text(owner, "/kind");
        if self.registry.by_kind(group, version, kind).is_none() {
            // A kind that nobody serves may come back: the real collector waits too.
            return OwnerState::Stays;
        }
        let Some(live) = uids.get(object::text(owner, "/uid")).map(|at| &all[*at]) else {
            return OwnerState::Gone;
        };
        let is_reachable = live.key.namespace.is_empty() || live.key.namespace == found.key.namespace;
        if !is_reachable || live.resource.kind != kind || live.key.name != object::text(owner, "/name") {
            return OwnerState::Gone;
        }
        let waits =
            object::is_terminating(&live.object) && object::finalizers(&live.object).contains(&FOREGROUND);
        if waits { OwnerState::Waits } else { OwnerState::Stays }
    }

    /// Takes off the finalizers that stand for foreground and orphaning deletion once they are fulfilled.
    fn finish_owner(&mut self, found: &Found, all: &[Found]) -> bool {
        if !object::is_terminating(&found.object) {
            return false;
        }
        let finalizers = object::finalizers(&found.object);
        let uid = object::uid(&found.object);
        let owns = |other: &&Found| object::owners(&other.object).iter().any(|owner| owner["uid"] == *uid);
        if finalizers.contains(&ORPHAN) {
            for dependent in all.iter().filter(owns) {
                let others = object::owners(&dependent.object).iter().filter(|owner| owner["uid"] != *uid);
                let others: Vec<Value> = others.cloned().collect();
                self.set_owners(dependent, &others);
            }
            return self.drop_finalizer(found, ORPHAN);
        }
        let blocks = |other: &Found| {
            object::owners(&other.object)
                .iter()
                .any(|owner| owner["uid"] == *uid && owner["blockOwnerDeletion"] == true)
        };
        if finalizers.contains(&FOREGROUND) && !all.iter().any(blocks) {
            return self.drop_finalizer(found, FOREGROUND);
        }
        false
    }

    fn empty_namespace(&mut self, namespace: &Found, all: &[Found]) -> bool {
        let content: Vec<&Found> =
            all.iter().filter(|found| found.key.namespace == namespace.key.name).collect();
        if !content.is_empty() {
            return self.delete_all(&content);
        }
        let Ok(current) = self.get(&namespace.place()) else { return false };
        let mut new = Value::clone(&current);
        new["spec"] = json!({});
        self.commit(&namespace.resource, new);
        true
    }

    /// One step of what apiextensions-apiserver's `pkg/controller/finalizer` does.
    fn empty_definition(&mut self, definition: &Found, all: &[Found]) -> bool {
        if !object::finalizers(&definition.object).contains(&CLEANUP) {
            return false;
        }
        if !Stage::InProgress.is_of(&definition.object) {
            return self.change(definition, |object| Stage::InProgress.enter(object));
        }
        let defined = custom::defined(&definition.object);
        let is_of = |found: &&Found| found.resource.is_custom() && found.resource.id() == defined;
        let content: Vec<&Found> = all.iter().filter(is_of).collect();
        if !content.is_empty() {
            return self.delete_all(&content);
        }
        self.change(definition, |object| {
            Stage::Completed.enter(object);
            object::drop_finalizer(object, CLEANUP);
        })
    }

    fn delete_all(&mut self, content: &[&Found]) -> bool {
        let mut did_something = false;
        for found in content.iter().filter(|found| !object::is_terminating(&found.object)) {
            did_something |= self.delete_as(found, "Background");
        }
        did_something
    }

    fn delete_as(&mut self, found: &Found, propagation: &str) -> bool {
        let options = DeleteOptions {
            uid: Some(object::uid(&found.object).to_owned()),
            propagation: Some(propagation.to_owned()),
            ..DeleteOptions::default()
        };
        self.delete(&found.place(), &options).is_ok()
    }

    fn set_owners(&mut self, found: &Found, owners: &[Value]) -> bool {
        self.change(found, |object| {
            if owners.is_empty() {
                object::meta_mut(object).remove("ownerReferences");
            } else {
                object::set_meta(object, "ownerReferences", json!(owners));
            }
        })
    }

    fn drop_finalizer(&mut self, found: &Found, finalizer: &str) -> bool {
        self.change(found, |object| object::drop_finalizer(object, finalizer))
    }

    fn change(&mut self, found: &Found, change: impl FnOnce(&mut Value)) -> bool {
        let Ok(current) = self.get(&found.place()) else { return false };
        if object::uid(&current) != object::uid(&found.object) {
            return false;
        }
        let mut new = Value::clone(&current);
        change(&mut new);
        self.commit(&found.resource, new);
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum OwnerState {
    Stays,
    /// It is being deleted in the foreground and waits for this one.
    Waits,
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (State, Place) {
        let mut state = State::new();
        state.add(
            "apps",
            "v1",
            "statefulsets",
            json!({"metadata": {"namespace": "kube-node-lease", "name": "web"}, "spec": {}}),
        );
        let resource = state.registry.find("apps", "v1", "statefulsets").unwrap();
        let place = Place {
            resource,
            namespace: Some("kube-node-lease".to_owned()),
            name: "web".to_owned(),
            door: Door::Main,
        };
        let uid = object::uid(&state.get(&place).unwrap()).to_owned();
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": uid,
            "controller": true, "blockOwnerDeletion": true}]);
        state.add(
            "",
            "v1",
            "pods",
            json!({"metadata": {"namespace": "kube-node-lease", "name": "web-0",
            "ownerReferences": owner}, "spec": {"containers": []}}),
        );
        (state, place)
    }

    fn pods(state: &State) -> Vec<Arc<Value>> {
        state.store.list(&crate::state::id("", "pods"), None).map(|(_, pod)| Arc::clone(pod)).collect()
    }

    fn settle(state: &mut State) {
        for _ in 0..10 {
            if !state.collect() {
                return;
            }
        }
        panic!("the collector finds no end");
    }

    fn delete(state: &mut State, place: &Place, propagation: &str) {
        let options = DeleteOptions { propagation: Some(propagation.to_owned()), ..DeleteOptions::default() };
        state.delete(place, &options).unwrap();
    }

    #[test]
    fn dependents_go_after_their_owner() {
        let (mut state, place) = state();
        settle(&mut state);
        assert_eq!(pods(&state).len(), 1);
        delete(&mut state, &place, "Background");
        assert!(state.get(&place).is_err());
        settle(&mut state);
        assert_eq!(pods(&state).len(), 0);
    }

    #[test]
    fn an_owner_waits_for_its_dependents_in_the_foreground() {
        let (mut state, place) = state();
        delete(&mut state, &place, "Foreground");
        assert_eq!(object::finalizers(&state.get(&place).unwrap()), [FOREGROUND]);
        settle(&mut state);
        assert!(state.get(&place).is_err() && pods(&state).is_empty());
    }

    #[test]
    fn orphans_stay_without_an_owner() {
        let (mut state, place) = state();
        delete(&mut state, &place, "Orphan");
        settle(&mut state);
        assert!(state.get(&place).is_err());
        assert_eq!(object::owners(&pods(&state)[0]).len(), 0);
    }

    #[test]
    fn a_namespace_goes_with_all_that_is_in_it() {
        let (mut state, _) = state();
        let resource = state.registry.find("", "v1", "namespaces").unwrap();
        let place = Place { resource, namespace: None, name: "kube-node-lease".to_owned(), door: Door::Main };
        delete(&mut state, &place, "Background");
        assert_eq!(state.get(&place).unwrap()["status"]["phase"], "Terminating");
        settle(&mut state);
        assert!(state.get(&place).is_err() && pods(&state).is_empty());
    }
}
