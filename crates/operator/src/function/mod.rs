//! Functions of grids: their modules fetched, checked, uploaded and promoted.

mod plan;
mod refusals;
mod source;
mod told;

use std::sync::Arc;

use futures_util::StreamExt as _;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, ResourceExt as _};
use wattle_client::{Client, Error as GridError, Outcome, api as wire};

use self::plan::{FunctionPlan, VersionSettings, WantedVersion, plan};
use self::refusals::Refusals;
use self::source::fetch;
use self::told::{Told, tell};
use crate::api::{FunctionDeletion, Grid, GridFunction};
use crate::backoff;
use crate::context::{Context, log_queue};
use crate::duplicates::{Claims, owner_before};
use crate::error::Error;
use crate::map::grid_client;
use crate::operator::api_in;

const FINALIZER: &str = "wattle.dev/function";

impl Claims for GridFunction {
    fn claim(&self) -> (&str, &str) {
        (&self.spec.grid, self.function_name())
    }
}

/// What the reconcilers of functions share beside the context.
#[derive(Clone)]
struct Known {
    all: Store<GridFunction>,
    refusals: Refusals,
}

/// Reconciles until it is dropped.
pub(crate) async fn run(context: Arc<Context>, namespace: Option<&str>) {
    let client = &context.client;
    let controller = Controller::new(api_in::<GridFunction>(client, namespace), watcher::Config::default());
    let known = Known { all: controller.store(), refusals: Refusals::default() };
    let of_grid = {
        let all = known.all.clone();
        move |grid: Grid| {
            let is_of =
                |one: &GridFunction| one.spec.grid == grid.name_any() && one.namespace() == grid.namespace();
            let found = all.state_filter(|one| is_of(one));
            found.iter().map(|one| ObjectRef::from_obj(&**one)).collect::<Vec<_>>()
        }
    };
    controller
        .watches(api_in::<Grid>(client, namespace), watcher::Config::default(), of_grid)
        .run(
            move |function, context| reconcile(function, context, known.clone()),
            |function, error, context| context.after_failure(&*function, error),
            context.clone(),
        )
        .for_each(|done| {
            log_queue(done);
            std::future::ready(())
        })
        .await;
}

async fn reconcile(
    function: Arc<GridFunction>,
    context: Arc<Context>,
    known: Known,
) -> Result<Action, Error> {
    if let Some(pause) = context.pause_before(&*function) {
        return Ok(Action::requeue(pause));
    }
    let namespace = function.namespace().ok_or(Error::Malformed { what: "the namespace" })?;
    let functions: Api<GridFunction> = Api::namespaced(context.client.clone(), &namespace);
    let done = finalizer(&functions, FINALIZER, function.clone(), |event| async {
        match event {
            Event::Apply(function) => keep(&functions, &function, &context, &known).await,
            Event::Cleanup(function) => delete(&namespace, &function, &context, &known).await,
        }
    });
    context.finished("GridFunction", &*function, done.await.map_err(Error::from))
}

async fn keep(
    functions: &Api<GridFunction>,
    function: &GridFunction,
    context: &Context,
    known: &Known,
) -> Result<Action, Error> {
    let done = match owner_before(&known.all, function) {
        Some(other) => Ok(Told::Blocked {
            reason: "Duplicate",
            message: format!("GridFunction {other} has this function of the grid already"),
        }),
        None => put_right(function, context, known).await,
    };
    let told = match &done {
        Ok(told) => told,
        Err(error) => &Told::Blocked { reason: error.reason(), message: error.to_string() },
    };
    tell(functions, function, context, told).await?;
    let told = done?;
    Ok(Action::requeue(if told.is_ready() { backoff::while_idle() } else { backoff::while_busy() * 4 }))
}

/// Has the grid run the module that was asked for, if it is not the one that runs already.
async fn put_right(function: &GridFunction, context: &Context, known: &Known) -> Result<Told, Error> {
    let blocked = |reason, message| Ok(Told::Blocked { reason, message });
    let settings = match VersionSettings::of(&function.spec) {
        Ok(settings) => settings,
        Err(error) => return blocked("BadDuration", error.to_string()),
    };
    let namespace = function.namespace();
    let client = match grid_client(namespace.as_deref(), &function.spec.grid, context).await? {
        Ok((_, client)) => client,
        Err((reason, message)) => return blocked(reason, message),
    };
    let name = function.function_name();
    let there = match client.functions().describe(name).await {
        Ok((there, _)) => Some(there),
        Err(GridError::FunctionNotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    // What the grid has need not be fetched: a rollback works while its source is away.
    if let Some(digest) = &function.spec.sha256 {
        let wanted = WantedVersion { digest: digest.clone(), settings: settings.clone() };
        let planned = plan(&wanted, there.as_ref());
        if planned != FunctionPlan::Upload {
            return point(&client, name, &planned, there).await;
        }
    }
    let namespace = namespace.unwrap_or_default();
    let module = match fetch(context, &namespace, &function.spec).await? {
        Ok(module) => module,
        Err(error) => return Ok(Told::NotFetched { reason: error.reason(), message: error.to_string() }),
    };
    let wanted = WantedVersion { digest: module.digest, settings };
    let planned = plan(&wanted, there.as_ref());
    if planned != FunctionPlan::Upload {
        return point(&client, name, &planned, there).await;
    }
    let uid = function.uid().unwrap_or_default();
    if let Some(message) = known.refusals.still(&uid, &wanted) {
        return Ok(Told::NotUploaded { reason: "ModuleRefused", message });
    }
    match client.functions().upload(name, module.bytes, &wanted.settings.upload()).await {
        Ok(uploaded) => told(&client, uploaded.function).await,
        Err(error @ GridError::ModuleRefused(_)) if is_final(&error) => {
            known.refusals.remember(uid, wanted, error.to_string());
            Ok(Told::NotUploaded { reason: "ModuleRefused", message: error.to_string() })
        }
        Err(error @ (GridError::TooLarge(_) | GridError::Refused(_))) => {
            Ok(Told::NotUploaded { reason: "UploadRefused", message: error.to_string() })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the module itself is why. One that was taken, and could not be loaded or copied yet, is another matter.
fn is_final(error: &GridError) -> bool {
    error.outcome() == Some(Outcome::NotApplied) && error.reason() != Some("MODULE_NOT_COPIED")
}

/// Points the name to the version, which the grid has.
async fn point(
    client: &Client,
    name: &str,
    planned: &FunctionPlan,
    there: Option<wire::Function>,
) -> Result<Told, Error> {
    match (planned, there) {
        (FunctionPlan::Promote(version), _) => {
            told(client, client.functions().promote(name, *version).await?).await
        }
        (_, Some(there)) => told(client, there).await,
        (_, None) => Err(Error::Malformed { what: "the function" }),
    }
}

async fn told(client: &Client, function: wire::Function) -> Result<Told, Error> {
    let members = client.status().await?.members;
    Ok(Told::Uploaded { function, members })
}

/// The function in the grid goes, unless it is to stay, or this object is not the one that owns it.
async fn delete(
    namespace: &str,
    function: &GridFunction,
    context: &Context,
    known: &Known,
) -> Result<Action, Error> {
    known.refusals.forget(&function.uid().unwrap_or_default());
    let stays = function.spec.deletion_policy == FunctionDeletion::Retain;
    if stays || owner_before(&known.all, function).is_some() {
        return Ok(Action::await_change());
    }
    match grid_client(Some(namespace), &function.spec.grid, context).await? {
        // With the grid the function has gone.
        Err(("GridNotFound", _)) => Ok(Action::await_change()),
        Err((_, why)) => Err(Error::DeletionRefused { why, retry: backoff::while_busy() }),
        Ok((_, client)) => match client.functions().delete(function.function_name()).await {
            Ok(()) | Err(GridError::FunctionNotFound(_)) => Ok(Action::await_change()),
            Err(error) => Err(error.into()),
        },
    }
}
