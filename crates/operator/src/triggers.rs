//! When objects are looked at: when people have changed what they ask for, and when a grid has changed in what matters to others. Not when a
//! status is written: most are the operator's own, and one that counts something would have it look again at once, for ever.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use futures_util::{Stream, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::{
    Controller, Predicate, PredicateConfig, WatchStreamExt as _, controller, reflector, watcher,
};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::Grid;

/// Objects of a kind that are looked at at once: for each, members of its grid are asked.
const LOOKS: u16 = 32;

/// Of a namespace, or of all.
pub(crate) fn api_in<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A controller of the objects of a kind.
pub(crate) fn controller<K>(client: &Client, namespace: Option<&str>) -> Controller<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let (all, writer) = reflector::store();
    // In one piece: what is made between two pages would be looked at before it can be found.
    let config = watcher::Config { page_size: None, ..watcher::Config::default() };
    let changes = watcher(api_in::<K>(client, namespace), config);
    let changes = reflector(writer, changes).applied_objects();
    let changes = changes.predicate_filter(asked_for, PredicateConfig::default());
    Controller::for_stream(changes, all).with_config(controller::Config::default().concurrency(LOOKS))
}

/// Grids, for whoever has something in them.
pub(crate) fn grids(
    client: &Client,
    namespace: Option<&str>,
) -> impl Stream<Item = Result<Grid, watcher::Error>> + Send + 'static {
    let grids = watcher(api_in::<Grid>(client, namespace), watcher::Config::default());
    grids
        .map_ok(mark_deleted)
        .touched_objects()
        .predicate_filter(asked_for.combine(serving), PredicateConfig::default())
}

/// One that is gone is as it was last, and would not be told from that.
fn mark_deleted(event: watcher::Event<Grid>) -> watcher::Event<Grid> {
    match event {
        watcher::Event::Delete(mut grid) => {
            grid.metadata.generation = None;
            watcher::Event::Delete(grid)
        }
        other => other,
    }
}

/// What people, and those who delete, ask for.
fn asked_for<K: Resource>(object: &K) -> Option<u64> {
    let metadata = object.meta();
    Some(hash(&(metadata.generation, metadata.deletion_timestamp.is_some(), object.finalizers())))
}

/// Who serves, and what they run.
fn serving(grid: &Grid) -> Option<u64> {
    let status = grid.status.as_ref()?;
    let available = status.conditions.iter().find(|condition| condition.type_ == "Available");
    let members = status.members.iter().map(|member| (member.node, &member.pod, &member.version));
    let members: Vec<_> = members.collect();
    Some(hash(&(available.map(|condition| &condition.status), status.size, members)))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::api::{GridMember, GridSpec, GridStatus};

    #[test]
    fn what_is_asked_for_and_who_serves_is_told_from_what_is_said() {
        let mut first = Grid::new("g", GridSpec::default());
        first.metadata.generation = Some(1);
        first.status = Some(GridStatus::default());
        let check = |change: fn(&mut Grid), asks: bool, serves: bool| {
            let mut second = first.clone();
            change(&mut second);
            assert_eq!(asked_for(&first) != asked_for(&second), asks, "{second:?}");
            assert_eq!(serving(&first) != serving(&second), serves, "{second:?}");
        };
        check(|grid| grid.metadata.resource_version = Some("2".into()), false, false);
        check(|grid| grid.status.as_mut().unwrap().message = "2 partitions lack copies".into(), false, false);
        check(|grid| grid.metadata.generation = Some(2), true, false);
        check(|grid| grid.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)), true, false);
        check(|grid| grid.metadata.finalizers = Some(vec!["wattle.dev/grid".into()]), true, false);
        check(|grid| grid.status = None, false, true);
        let gone = mark_deleted(watcher::Event::Delete(first.clone()));
        assert!(matches!(gone, watcher::Event::Delete(gone) if asked_for(&gone) != asked_for(&first)));
        check(|grid| grid.status.as_mut().unwrap().members.push(GridMember::default()), false, true);
    }
}
