//! Maps of grids, and their options.

mod plan;

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::Store;
use kube::{Api, ResourceExt as _};
use wattle_client::{Error as GridError, api as wire};

use self::plan::{MapPlan, Shortage, plan, replication, shortage};
use crate::api::{Grid, GridMap, GridMapStatus, MapDeletion};
use crate::apply::apply_status;
use crate::backoff;
use crate::claims::{Claims, of_grid, owner_before};
use crate::conditions::{Conditions, is_news};
use crate::context::{Context, log_queue};
use crate::error::Error;
use crate::reach::{client_while_there, grid_client};
use crate::triggers::{controller, grids};

const FINALIZER: &str = "wattle.dev/map";

impl Claims for GridMap {
    fn claim(&self) -> (&str, &str) {
        (&self.spec.grid, self.map_name())
    }
}

/// Reconciles until it is dropped.
pub(crate) async fn run(context: Arc<Context>, namespace: Option<&str>) {
    let client = &context.client;
    let controller = controller::<GridMap>(client, namespace);
    let all = controller.store();
    let those_of = {
        let all = all.clone();
        move |grid: Grid| of_grid(&all, &grid)
    };
    controller
        .watches_stream(grids(client, namespace), those_of)
        .run(
            move |map, context| reconcile(map, context, all.clone()),
            |map, error, context| context.after_failure(&*map, error),
            context.clone(),
        )
        .for_each(log_queue)
        .await;
}

async fn reconcile(map: Arc<GridMap>, context: Arc<Context>, all: Store<GridMap>) -> Result<Action, Error> {
    if let Some(pause) = context.pause_before(&*map) {
        return Ok(Action::requeue(pause));
    }
    let maps = context.api_beside::<GridMap>(&*map)?;
    let done = finalizer(&maps, FINALIZER, map.clone(), |event| async {
        match event {
            Event::Apply(map) => keep(&maps, &map, &context, &all).await,
            Event::Cleanup(map) => {
                let done = delete(&map, &context, &all).await;
                if let Err(error) = &done {
                    tell(&maps, &map, &context, &Told::not_ready(error.reason(), error.to_string())).await?;
                }
                done
            }
        }
    });
    context.finished("GridMap", &*map, done.await.map_err(Error::from))
}

/// What came of it, for the status.
struct Told {
    ready: bool,
    reason: &'static str,
    message: String,
    map: Option<wire::Map>,
}

impl Told {
    fn not_ready(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, reason, message: message.into(), map: None }
    }

    fn as_specified(map: wire::Map, shortage: Option<Shortage>) -> Self {
        let (ready, reason, message) = match shortage {
            None => (true, "AsSpecified", "the map is as specified".to_owned()),
            Some(Shortage { is_served: true, what }) => {
                (true, "AsSpecified", format!("the map is as specified; {what}"))
            }
            Some(Shortage { is_served: false, what }) => (false, "TooFewNodes", what),
        };
        Self { ready, reason, message, map: Some(map) }
    }
}

async fn keep(
    maps: &Api<GridMap>,
    map: &GridMap,
    context: &Context,
    all: &Store<GridMap>,
) -> Result<Action, Error> {
    let done = match owner_before(all, map) {
        Some(other) => {
            Ok(Told::not_ready("Duplicate", format!("GridMap {other} has this map of the grid already")))
        }
        None => put_right(map, context).await,
    };
    let told = match &done {
        Ok(told) => told,
        Err(error) => &Told::not_ready(error.reason(), error.to_string()),
    };
    tell(maps, map, context, told).await?;
    let told = done?;
    Ok(Action::requeue(if told.ready { backoff::while_idle() } else { backoff::while_not_ready() }))
}

async fn put_right(map: &GridMap, context: &Context) -> Result<Told, Error> {
    let (grid, client) = match grid_client(map, context).await? {
        Ok(both) => both,
        Err(why) => return Ok(Told::not_ready(why.reason(), why.to_string())),
    };
    let name = map.map_name();
    let replication = match replication(&map.spec, &grid.spec) {
        Ok(replication) => replication,
        Err(error) => return Ok(Told::not_ready("ClassNotFound", error.to_string())),
    };
    let shortage = shortage(replication, nodes(&grid));
    // Describing it would ask for its entries, which are refused while too few copies are in sync.
    let there = client.maps().list().await?.into_iter().find(|map| map.name == name);
    let as_specified = |map| Told::as_specified(map, shortage);
    let planned = match plan(&map.spec, replication, there.as_ref()) {
        Ok(planned) => planned,
        Err(error) => return Ok(Told::not_ready("BadDuration", error.to_string())),
    };
    match planned {
        MapPlan::Nothing => Ok(as_specified(there.unwrap_or_default())),
        MapPlan::Create(options) => {
            context.check_tenure()?;
            let made = client.maps().create(name, &options).await?;
            context.tell(map, EventType::Normal, "Created", &format!("map {name} is made in the grid")).await;
            Ok(as_specified(made))
        }
        MapPlan::Update { changes, what } => {
            context.check_tenure()?;
            let changed = client.maps().update(name, &changes).await?;
            context.tell(map, EventType::Normal, "Updated", &format!("{what} of map {name} changed")).await;
            Ok(as_specified(changed))
        }
        MapPlan::Refuse { why } => Ok(Told { map: there, ..Told::not_ready("CannotChangeLive", why) }),
    }
}

/// How many there are, if fewer than there will be.
fn nodes(grid: &Grid) -> u32 {
    let there = grid.status.as_ref().and_then(|status| u32::try_from(status.size).ok());
    there.map_or(grid.spec.nodes(), |there| there.min(grid.spec.nodes()).max(1))
}

async fn tell(maps: &Api<GridMap>, map: &GridMap, context: &Context, told: &Told) -> Result<(), Error> {
    let before = map.status.clone().unwrap_or_default();
    let generation = map.metadata.generation;
    if !told.ready && is_news(&before.conditions, told.reason, &told.message) {
        context.tell(map, EventType::Warning, told.reason, &told.message).await;
    }
    let mut conditions = Conditions::new(&before.conditions, generation, Timestamp::now());
    conditions.tell("Ready", told.ready, told.reason, told.message.as_str());
    let conditions = conditions.finish();
    let number = |number: u64| i64::try_from(number).ok();
    let known = told.map.as_ref();
    let status = GridMapStatus {
        observed_generation: generation,
        name: map.map_name().to_owned(),
        id: known.map_or(before.id, |map| number(map.id)),
        revision: known.map_or(before.revision, |map| number(map.revision)),
        conditions,
    };
    apply_status(maps, &map.name_any(), &status).await
}

/// The map in the grid stays, unless it is to go and this object is the one that owns it.
async fn delete(map: &GridMap, context: &Context, all: &Store<GridMap>) -> Result<Action, Error> {
    if map.spec.deletion_policy == MapDeletion::Retain || owner_before(all, map).is_some() {
        return Ok(Action::await_change());
    }
    // With its grid the map has gone.
    let Some(client) = client_while_there(map, context).await? else {
        return Ok(Action::await_change());
    };
    context.check_tenure()?;
    match client.maps().delete(map.map_name()).await {
        Ok(()) | Err(GridError::MapNotFound(_)) => Ok(Action::await_change()),
        Err(error) => Err(error.into()),
    }
}
