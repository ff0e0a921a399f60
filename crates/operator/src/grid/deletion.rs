//! The end of a grid: its objects go with it, unless it holds something and nobody has said that this may be lost.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};

use super::blueprint;
use super::observe::{Founding, founding};
use super::status::conditions_of;
use crate::api::{Grid, GridDeletion, GridStatus, Phase};
use crate::apply::{apply_status, change, remove};
use crate::backoff;
use crate::context::Context;
use crate::error::Error;
use crate::manifests::{Founders, arbiter_set, new_secret, node_set, service_monitor};
use crate::reach::{client_of, ready_addresses};

/// What is in a grid that is to be deleted.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    Entries { map: String, entries: u64 },
    Unknown { why: String },
}

/// Succeeds when the grid may go: the objects that it owns follow it. Until then it fails softly, and is asked again.
pub(super) async fn delete(grids: &Api<Grid>, grid: &Grid, context: &Context) -> Result<Action, Error> {
    let why = match grid.spec.deletion_policy {
        GridDeletion::Delete => None,
        GridDeletion::Refuse => refusal(
            &content(grid, context).await.unwrap_or_else(|error| Content::Unknown { why: error.to_string() }),
        ),
    };
    let Some(why) = why else {
        bind(grid, context).await?;
        context.tell(grid, EventType::Normal, "Deleting", "the grid's objects go with it").await;
        return Ok(Action::await_change());
    };
    let before = grid.status.clone().unwrap_or_default();
    if before.message != why {
        context.tell(grid, EventType::Warning, "DeletionRefused", &why).await;
    }
    let mut conditions = conditions_of(grid, &before.conditions);
    conditions.tell("Degraded", true, "DeletionRefused", why.clone());
    let conditions = conditions.finish();
    let phase = Some(Phase::Deleting);
    let observed_generation = grid.metadata.generation;
    let status = GridStatus { observed_generation, phase, message: why.clone(), conditions, ..before };
    apply_status(grids, &grid.name_any(), &status).await?;
    Err(Error::DeletionRefused { why, retry: backoff::while_idle() })
}

/// Has all objects go with the Grid, as soon as that is gone.
async fn bind(grid: &Grid, context: &Context) -> Result<(), Error> {
    context.check_tenure()?;
    let blueprint = blueprint(grid, context)?.owned_by(grid);
    let sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), blueprint.namespace);
    let mut objects = blueprint.surroundings();
    if blueprint.spec.monitoring.service_monitor.enabled {
        objects.push(service_monitor(&blueprint));
    }
    if let Some(set) = sets.get_opt(blueprint.name).await? {
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).and_then(|n| u32::try_from(n).ok());
        objects.push(node_set(&blueprint, replicas.unwrap_or(1), &Founders::of(&set)));
    }
    objects.push(arbiter_set(&blueprint, &Founders::wanted(blueprint.spec)));
    for object in objects {
        change(&context.client, &object).await?;
    }
    if blueprint.spec.secret.is_none() {
        remove(&context.client, &new_secret(&blueprint, "")).await?;
    }
    Ok(())
}

fn refusal(content: &Content) -> Option<String> {
    let remedy = "set spec.deletionPolicy to Delete if it may be lost";
    match content {
        Content::Nothing => None,
        Content::Entries { map, entries } => {
            Some(format!("deletion refused: map {map} holds {entries} entries; {remedy}, or clear the maps"))
        }
        Content::Unknown { why } => {
            Some(format!("deletion refused: nobody can say whether the grid holds data ({why}); {remedy}"))
        }
    }
}

async fn content(grid: &Grid, context: &Context) -> Result<Content, Error> {
    let namespace = grid.namespace().ok_or(Error::Malformed { what: "no namespace" })?;
    let name = grid.name_any();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let addresses = ready_addresses(&pods, &name).await?;
    // A grid that came back with its volumes has been founded elsewhere.
    if founding(context, grid).await? == Founding::Ahead && addresses.is_empty() {
        return Ok(Content::Nothing);
    }
    let client = match client_of(&addresses, context.ports) {
        Ok(client) => client,
        Err(unreachable) => return Ok(Content::Unknown { why: unreachable.to_string() }),
    };
    Ok(entries(&client).await.unwrap_or_else(|error| Content::Unknown { why: error.to_string() }))
}

async fn entries(client: &wattle_client::Client) -> Result<Content, wattle_client::Error> {
    for map in client.maps().list().await? {
        let (_, figures) = client.maps().describe(&map.name).await?;
        if figures.entries > 0 {
            return Ok(Content::Entries { map: map.name, entries: figures.entries });
        }
    }
    Ok(Content::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_grid_goes_by_itself() {
        assert_eq!(refusal(&Content::Nothing), None);
        assert_eq!(
            refusal(&Content::Entries { map: "flights".into(), entries: 842 }).unwrap(),
            "deletion refused: map flights holds 842 entries; set spec.deletionPolicy to Delete if it may be lost, or clear the \
             maps"
        );
        let unknown = refusal(&Content::Unknown { why: "none of its pods is ready".into() }).unwrap();
        assert!(unknown.contains("(none of its pods is ready)"), "{unknown}");
    }
}
