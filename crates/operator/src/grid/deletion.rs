//! The end of a grid: its objects go with it, unless it holds something and nobody has said that this may be lost.

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};
use wattle_client::Client;

use super::blueprint;
use super::observe::{Founding, founding, observe};
use super::sets::sets;
use super::status::{News, Verdict, conditions_of, tell, tell_failure};
use crate::api::{Grid, GridDeletion, GridStatus, Phase};
use crate::apply::{apply_status, own, remove};
use crate::backoff;
use crate::context::Context;
use crate::error::Error;
use crate::manifests::{Founders, arbiter_set, new_secret, node_set, service_monitor};
use crate::reach::{CALL_TIME, ask, client_of, ready_addresses};

/// The collector of garbage takes it away when it has cut all objects loose that refer to a deleted one.
const ORPHANING: &str = "orphan";
const REFUSED: &str = "DeletionRefused";
const GOING: &str = "its objects go with it";

/// What is in a grid that is to be deleted.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    Entries { map: String, entries: u64 },
    Unknown { why: String },
}

/// Succeeds when the grid may go: the objects that it owns follow it. Until then it fails softly, and is asked again.
pub(super) async fn delete(grids: &Api<Grid>, grid: &Grid, context: &Context) -> Result<Action, Error> {
    // What the last look decided may not have come by way of the watch yet.
    let mut latest = grids.get(&grid.name_any()).await?;
    if latest.uid() != grid.uid() {
        return Err(not_yet("another Grid of this name is there by now"));
    }
    // Objects that become its own now are its own for good: who orphans what it had must be through.
    if latest.finalizers().iter().any(|finalizer| finalizer == ORPHANING) {
        return Err(not_yet("its dependents are being orphaned"));
    }
    let done = let_go(grids, &mut latest, context).await;
    match &done {
        Ok(()) | Err(Error::DeletionRefused { .. }) => {}
        Err(error) => tell_failure(grids, &latest, context, error).await?,
    }
    done.map(|()| Action::await_change())
}

fn not_yet(why: &str) -> Error {
    Error::DeletionRefused { why: why.to_owned(), retry: backoff::while_busy() }
}

/// Decides once: what is written after that cannot keep a grid some of whose objects are bound to go.
async fn let_go(grids: &Api<Grid>, grid: &mut Grid, context: &Context) -> Result<(), Error> {
    let is_allowed = |grid: &Grid| grid.status.as_ref().is_some_and(|status| status.deletion_allowed);
    if !is_allowed(grid) {
        if let Some(why) = objection(grid, context).await? {
            return Err(refuse(grids, grid, context, why).await?);
        }
        context.tell(grid, EventType::Normal, "Deleting", GOING).await;
        tell_going(grids, grid).await?;
    }
    bind(grid, context).await?;
    // Others may have finalizers, too. What kept it from going is past.
    if grid.status.as_ref().is_some_and(|status| status.message != GOING) {
        tell_going(grids, grid).await?;
    }
    Ok(())
}

async fn tell_going(grids: &Api<Grid>, grid: &mut Grid) -> Result<(), Error> {
    let before = grid.status.clone().unwrap_or_default();
    let mut conditions = conditions_of(grid, &before.conditions);
    for kind in ["Ready", "Degraded"] {
        conditions.tell(kind, false, "Deleting", GOING);
    }
    conditions.tell("Progressing", true, "Deleting", GOING);
    let status = GridStatus {
        observed_generation: grid.metadata.generation,
        phase: Some(Phase::Deleting),
        message: GOING.to_owned(),
        deletion_allowed: true,
        conditions: conditions.finish(),
        ..before
    };
    apply_status(grids, &grid.name_any(), &status).await?;
    grid.status = Some(status);
    Ok(())
}

/// Says why the grid stays, and how it is.
async fn refuse(grids: &Api<Grid>, grid: &Grid, context: &Context, why: String) -> Result<Error, Error> {
    let mut before = grid.status.iter().flat_map(|status| &status.conditions);
    // How many entries it holds changes all the time.
    if !before.any(|condition| condition.reason == REFUSED) {
        context.tell(grid, EventType::Warning, REFUSED, &why).await;
    }
    let founding = founding(context, grid).await?;
    let sets = sets(context, grid).await?;
    let seen = observe(context, grid, sets, founding).await?;
    let verdict = Verdict::deletion_refused(why.clone());
    tell(grids, grid, context, &News { seen: &seen, verdict, monitoring: None }).await?;
    Ok(Error::DeletionRefused { why, retry: backoff::while_not_ready() })
}

/// Why it may not go, if so.
async fn objection(grid: &Grid, context: &Context) -> Result<Option<String>, Error> {
    if grid.spec.deletion_policy == GridDeletion::Delete {
        return Ok(None);
    }
    let content = content(grid, context).await;
    let why = refusal(&content.unwrap_or_else(|error| Content::Unknown { why: error.to_string() }));
    let Some(why) = why else { return Ok(None) };
    // With its namespace the pods go, whatever becomes of the Grid.
    match has_namespace_gone(grid, context).await {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(why)),
        Err(error) => Ok(Some(format!("{why} ({error})"))),
    }
}

async fn has_namespace_gone(grid: &Grid, context: &Context) -> Result<bool, Error> {
    let name = grid.namespace().ok_or(Error::Malformed { what: "no namespace" })?;
    let namespace = Api::<Namespace>::all(context.client.clone()).get_opt(&name).await?;
    Ok(namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}

/// Has all objects go with the Grid, as soon as that is gone. What else is in them stays as it is: what the Grid asks for by now may be
/// refused.
async fn bind(grid: &Grid, context: &Context) -> Result<(), Error> {
    let blueprint = blueprint(grid, context)?;
    let founders = Founders::wanted(blueprint.spec);
    let mut objects = blueprint.surroundings();
    objects.push(node_set(&blueprint, blueprint.spec.nodes(), &founders));
    objects.push(arbiter_set(&blueprint, &founders));
    for object in objects {
        own(&context.client, grid, &object).await?;
    }
    match own(&context.client, grid, &service_monitor(&blueprint)).await {
        // Who may not ask for one has made none.
        Ok(()) | Err(Error::Forbidden(_)) => {}
        Err(error) => return Err(error),
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
    let addresses = ready_addresses(context, grid).await?;
    // A grid that came back with its volumes has been founded elsewhere.
    if founding(context, grid).await? == Founding::Ahead && addresses.is_empty() {
        return Ok(Content::Nothing);
    }
    let (informed, _) = ask(&addresses, context.ports, CALL_TIME).await?;
    entries(&client_of(&[informed], context.ports)?).await
}

/// As one member says, which knows of all maps that were made before it was asked what is decided.
async fn entries(member: &Client) -> Result<Content, Error> {
    for map in member.maps().list().await? {
        match member.maps().describe(&map.name).await {
            Ok((_, figures)) if figures.entries == 0 => {}
            Ok((_, figures)) => return Ok(Content::Entries { map: map.name, entries: figures.entries }),
            Err(error) => return Ok(Content::Unknown { why: format!("map {}: {error}", map.name) }),
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
