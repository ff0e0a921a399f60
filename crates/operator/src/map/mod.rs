//! Maps of grids, and their options.

mod plan;

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, ResourceExt as _};
use wattle_client::{Client, Error as GridError, api as wire};

use self::plan::{MapPlan, plan, replication, shortage};
use crate::api::{Grid, GridMap, GridMapStatus, MapDeletion};
use crate::apply::apply_status;
use crate::backoff;
use crate::conditions::Conditions;
use crate::context::{Context, log_queue};
use crate::duplicates::{Claims, owner_before};
use crate::error::Error;
use crate::operator::api_in;
use crate::reach::{client_of, ready_addresses};

const FINALIZER: &str = "wattle.dev/map";

impl Claims for GridMap {
    fn claim(&self) -> (&str, &str) {
        (&self.spec.grid, self.map_name())
    }
}

/// Reconciles until it is dropped.
pub(crate) async fn run(context: Arc<Context>, namespace: Option<&str>) {
    let client = &context.client;
    let controller = Controller::new(api_in::<GridMap>(client, namespace), watcher::Config::default());
    let all = controller.store();
    let of_grid = {
        let all = all.clone();
        move |grid: Grid| {
            let is_of =
                |map: &GridMap| map.spec.grid == grid.name_any() && map.namespace() == grid.namespace();
            let found: Vec<_> =
                all.state().iter().filter(|map| is_of(map)).map(|map| ObjectRef::from_obj(&**map)).collect();
            found
        }
    };
    controller
        .watches(api_in::<Grid>(client, namespace), watcher::Config::default(), of_grid)
        .run(
            move |map, context| reconcile(map, context, all.clone()),
            |map, error, context| context.after_failure(&*map, error),
            context.clone(),
        )
        .for_each(|done| {
            log_queue(done);
            std::future::ready(())
        })
        .await;
}

async fn reconcile(map: Arc<GridMap>, context: Arc<Context>, all: Store<GridMap>) -> Result<Action, Error> {
    if let Some(pause) = context.pause_before(&*map) {
        return Ok(Action::requeue(pause));
    }
    let namespace = map.namespace().ok_or(Error::Malformed { what: "no namespace" })?;
    let maps: Api<GridMap> = Api::namespaced(context.client.clone(), &namespace);
    let done = finalizer(&maps, FINALIZER, map.clone(), |event| async {
        match event {
            Event::Apply(map) => keep(&maps, &map, &context, &all).await,
            Event::Cleanup(map) => {
                let done = delete(&namespace, &map, &context, &all).await;
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
    Ok(Action::requeue(if told.ready { backoff::while_idle() } else { backoff::while_busy() * 4 }))
}

async fn put_right(map: &GridMap, context: &Context) -> Result<Told, Error> {
    let (grid, client) = match grid_client(map.namespace().as_deref(), &map.spec.grid, context).await? {
        Ok(both) => both,
        Err((reason, message)) => return Ok(Told::not_ready(reason, message)),
    };
    let name = map.map_name();
    let replication = match replication(&map.spec, &grid.spec) {
        Ok(replication) => replication,
        Err(error) => return Ok(Told::not_ready("ClassNotFound", error.to_string())),
    };
    let shortage = shortage(replication, grid.spec.nodes()).unwrap_or_default();
    // Describing it would ask for its entries, which are refused while too few copies are in sync.
    let there = client.maps().list().await?.into_iter().find(|map| map.name == name);
    let as_specified = |map| Told {
        ready: true,
        reason: "AsSpecified",
        message: format!("the map is as specified{shortage}"),
        map: Some(map),
    };
    let planned = match plan(&map.spec, replication, there.as_ref()) {
        Ok(planned) => planned,
        Err(error) => return Ok(Told::not_ready("BadDuration", error.to_string())),
    };
    match planned {
        MapPlan::Nothing => Ok(Told { map: there, ..as_specified(wire::Map::default()) }),
        MapPlan::Create(options) => {
            let made = client.maps().create(name, &options).await?;
            context.tell(map, EventType::Normal, "Created", &format!("map {name} is made in the grid")).await;
            Ok(as_specified(made))
        }
        MapPlan::Update { changes, what } => {
            let changed = client.maps().update(name, &changes).await?;
            context.tell(map, EventType::Normal, "Updated", &format!("{what} of map {name} changed")).await;
            Ok(as_specified(changed))
        }
        MapPlan::Refuse { why } => Ok(Told { map: there, ..Told::not_ready("CannotChangeLive", why) }),
    }
}

/// A Grid and a client of it, if it is there and can be asked; else what to say.
pub(crate) async fn grid_client(
    namespace: Option<&str>,
    name: &str,
    context: &Context,
) -> Result<Result<(Grid, Client), (&'static str, String)>, Error> {
    let namespace = namespace.ok_or(Error::Malformed { what: "no namespace" })?;
    let grids: Api<Grid> = Api::namespaced(context.client.clone(), namespace);
    let Some(grid) = grids.get_opt(name).await? else {
        return Ok(Err(("GridNotFound", format!("there is no Grid {name} in namespace {namespace}"))));
    };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let addresses = ready_addresses(&pods, name).await?;
    Ok(match client_of(&addresses, context.ports) {
        Ok(client) => Ok((grid, client)),
        Err(unreachable) => Err(("GridNotReady", format!("Grid {name} cannot be asked: {unreachable}"))),
    })
}

async fn tell(maps: &Api<GridMap>, map: &GridMap, context: &Context, told: &Told) -> Result<(), Error> {
    let before = map.status.clone().unwrap_or_default();
    let generation = map.metadata.generation;
    let was_ready = before.conditions.iter().find(|condition| condition.type_ == "Ready");
    let is_news =
        was_ready.is_none_or(|before| before.reason != told.reason || before.message != told.message);
    if !told.ready && is_news {
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
async fn delete(
    namespace: &str,
    map: &GridMap,
    context: &Context,
    all: &Store<GridMap>,
) -> Result<Action, Error> {
    if map.spec.deletion_policy == MapDeletion::Retain || owner_before(all, map).is_some() {
        return Ok(Action::await_change());
    }
    match grid_client(Some(namespace), &map.spec.grid, context).await? {
        // With the grid the map has gone.
        Err(("GridNotFound", _)) => Ok(Action::await_change()),
        Err((_, why)) => Err(Error::DeletionRefused { why, retry: backoff::while_busy() }),
        Ok((_, client)) => match client.maps().delete(map.map_name()).await {
            Ok(()) | Err(GridError::MapNotFound(_)) => Ok(Action::await_change()),
            Err(error) => Err(error.into()),
        },
    }
}
