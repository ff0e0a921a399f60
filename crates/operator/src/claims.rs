//! Objects that own one thing of a grid each: of two that want the same, the older one has it.

use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::api::Grid;

/// What stands for one thing in a grid.
pub(crate) trait Claims: kube::Resource<DynamicType = ()> + Clone + 'static {
    /// The grid, and what it is called there.
    fn claim(&self) -> (&str, &str);
}

/// The name of the object that owns what this one claims, if it is another.
pub(crate) fn owner_before<K: Claims>(all: &Store<K>, object: &K) -> Option<String> {
    let age = |one: &K| (one.creation_timestamp(), one.uid());
    let is_before = |other: &K| {
        other.namespace() == object.namespace()
            && other.claim() == object.claim()
            && other.uid() != object.uid()
            && age(other) < age(object)
    };
    all.find(|other| is_before(other)).map(|other| other.name_any())
}

/// The objects that claim something of this grid.
pub(crate) fn of_grid<K: Claims>(all: &Store<K>, grid: &Grid) -> Vec<ObjectRef<K>> {
    let is_of = |one: &K| one.claim().0 == grid.name_any() && one.namespace() == grid.namespace();
    all.state_filter(|one| is_of(one)).iter().map(|one| ObjectRef::from_obj(&**one)).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    use super::*;
    use crate::api::GridMap;

    /// An object for the map `m` of the grid `g`, made at this second.
    fn object(name: &str, made: i64, uid: &str) -> GridMap {
        let made = Timestamp::from_second(made).unwrap().to_string();
        let metadata = json!({"name": name, "namespace": "n", "creationTimestamp": made, "uid": uid});
        let object = json!({"apiVersion": "wattle.dev/v1alpha1", "kind": "GridMap", "metadata": metadata,
            "spec": {"grid": "g", "name": "m"}});
        serde_json::from_value(object).unwrap()
    }

    /// Of two objects, who is said to own what each of them claims.
    fn check(objects: [&GridMap; 2], expected: [Option<&str>; 2]) {
        let (all, mut writer) = reflector::store();
        for object in objects {
            writer.apply_watcher_event(&watcher::Event::Apply(object.clone()));
        }
        let found = objects.map(|object| owner_before(&all, object));
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{objects:?}");
    }

    #[test]
    fn the_older_object_owns_what_two_claim() {
        let (older, newer) = (object("b", 1, "y"), object("a", 2, "x"));
        check([&older, &newer], [None, Some("b")]);
        check([&newer, &older], [Some("b"), None]);
        let (first, second) = (object("b", 1, "x"), object("a", 1, "y"));
        check([&first, &second], [None, Some("b")]);
    }

    #[test]
    fn objects_that_claim_different_things_own_both() {
        let (older, newer) = (object("b", 1, "y"), object("a", 2, "x"));
        let changed = |change: fn(&mut GridMap)| {
            let mut changed = newer.clone();
            change(&mut changed);
            changed
        };
        check([&older, &changed(|map| map.metadata.namespace = Some("other".into()))], [None, None]);
        check([&older, &changed(|map| map.spec.grid = "other".into())], [None, None]);
        check([&older, &changed(|map| map.spec.name = None)], [None, None]);
    }
}
