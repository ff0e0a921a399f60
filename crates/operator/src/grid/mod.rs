//! Grids: their objects, their pods, and what is said of them.

mod carry_out;
mod deletion;
mod monitoring;
mod observe;
mod secret;
mod sets;
mod status;
mod trouble;

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt as _};

use self::observe::Founding;
use self::status::{News, Verdict};
use crate::api::Grid;
use crate::apply::apply;
use crate::backoff;
use crate::context::{Context, log_queue};
use crate::decision::{Step, decide};
use crate::error::Error;
use crate::manifests::{Blueprint, MEMBER_LABEL};
use crate::triggers::{api_in, controller};

const FINALIZER: &str = "wattle.dev/grid";

/// Reconciles until it is dropped.
pub(crate) async fn run(context: Arc<Context>, namespace: Option<&str>) {
    let client = &context.client;
    let pods = watcher::Config::default().labels(&format!("{MEMBER_LABEL}=true"));
    let sets = watcher::Config::default().labels("app.kubernetes.io/managed-by=wattle-operator");
    controller::<Grid>(client, namespace)
        .watches(api_in::<StatefulSet>(client, namespace), sets, |set| grid_of(&set))
        .watches(api_in::<Pod>(client, namespace), pods, |pod| grid_of(&pod))
        .run(reconcile, |grid, error, context| context.after_failure(&*grid, error), context.clone())
        .for_each(log_queue)
        .await;
}

/// The Grid that a set or a pod is of, by its labels.
fn grid_of<K: Resource>(object: &K) -> Option<ObjectRef<Grid>> {
    let grid = object.labels().get("app.kubernetes.io/instance")?;
    Some(ObjectRef::new(grid).within(object.namespace()?.as_str()))
}

async fn reconcile(grid: Arc<Grid>, context: Arc<Context>) -> Result<Action, Error> {
    if let Some(pause) = context.pause_before(&*grid) {
        return Ok(Action::requeue(pause));
    }
    let grids = context.api_beside::<Grid>(&*grid)?;
    let done = finalizer(&grids, FINALIZER, grid.clone(), |event| async {
        match event {
            Event::Apply(grid) => keep(&grids, &grid, &context).await,
            Event::Cleanup(grid) => deletion::delete(&grids, &grid, &context).await,
        }
    });
    context.finished("Grid", &*grid, done.await.map_err(Error::from))
}

/// Makes the grid what it should be, by one step at most, and says how far it is.
async fn keep(grids: &Api<Grid>, grid: &Grid, context: &Context) -> Result<Action, Error> {
    match advance(grids, grid, context).await {
        Ok(step) => Ok(Action::requeue(match step {
            Step::Rest => backoff::while_idle(),
            _ => backoff::while_busy(),
        })),
        Err(error) => {
            status::tell_failure(grids, grid, context, &error).await?;
            Err(error)
        }
    }
}

fn blueprint<'a>(grid: &'a Grid, context: &'a Context) -> Result<Blueprint<'a>, Error> {
    let blueprint = Blueprint::new(grid, &context.images, context.client.default_namespace());
    blueprint.ok_or(Error::Malformed { what: "no name or no uid" })
}

async fn advance(grids: &Api<Grid>, grid: &Grid, context: &Context) -> Result<Step, Error> {
    let founding = observe::founding(context, grid).await?;
    let blueprint = Blueprint { is_founded: founding == Founding::Done, ..blueprint(grid, context)? };
    secret::ensure(context, &blueprint, founding).await?;
    for object in blueprint.surroundings() {
        apply(&context.client, &object).await?;
    }
    let monitoring = monitoring::ensure(context, grid, &blueprint).await;
    let sets = sets::refresh(context, &blueprint, founding).await?;
    let seen = observe::observe(context, grid, sets, founding).await?;
    let step = decide(&seen.observed);
    let verdict = Verdict::of(grid, &seen, &step);
    status::tell(grids, grid, context, &News { seen: &seen, verdict, monitoring: Some(&monitoring) }).await?;
    let blueprint = Blueprint { is_founded: seen.observed.founded, ..blueprint };
    carry_out::carry_out(context, grid, &blueprint, (&seen, &step)).await?;
    Ok(step)
}
