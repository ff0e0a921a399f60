//! Two objects that want to own one thing of a grid: the older one has it.

use kube::ResourceExt as _;
use kube::runtime::reflector::Store;

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
