//! Functions of grids: their modules fetched, checked, uploaded and promoted.

mod plan;
mod refusals;
mod source;
mod told;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::Store;
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;
use wattle_client::{Client, Error as GridError, api as wire};

use self::plan::{FunctionPlan, VersionSettings, WantedVersion, active, excess, plan};
use self::refusals::{Belief, Refusal, Refusals};
use self::source::fetch;
use self::told::{Told, tell};
use crate::api::{FunctionCapability, FunctionDeletion, Grid, GridFunction};
use crate::backoff;
use crate::claims::{Claims, of_grid, owner_before};
use crate::context::{Context, log_queue};
use crate::error::Error;
use crate::reach::{client_while_there, client_within, grid_client, ready_addresses, versions};
use crate::triggers::{controller, grids};

const FINALIZER: &str = "wattle.dev/function";

impl Claims for GridFunction {
    fn claim(&self) -> (&str, &str) {
        (&self.spec.grid, self.function_name())
    }
}

/// What a node's compiler may take by default, in CPU time.
const COMPILE_SECONDS: u64 = 60;
/// What else an upload takes, where the compiler does not have a processor of its own.
const UPLOAD_TIME: Duration = Duration::from_secs(60);

/// What the reconcilers of functions share beside the context.
#[derive(Clone)]
struct Known {
    all: Store<GridFunction>,
    refusals: Refusals,
}

/// Reconciles until it is dropped.
pub(crate) async fn run(context: Arc<Context>, namespace: Option<&str>) {
    let client = &context.client;
    let controller = controller::<GridFunction>(client, namespace);
    let known = Known { all: controller.store(), refusals: Refusals::default() };
    let those_of = {
        let all = known.all.clone();
        move |grid: Grid| of_grid(&all, &grid)
    };
    controller
        .watches_stream(grids(client, namespace), those_of)
        .run(
            move |function, context| reconcile(function, context, known.clone()),
            |function, error, context| context.after_failure(&*function, error),
            context.clone(),
        )
        .for_each(log_queue)
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
    let done = look_at(&function, &context, &known).await;
    context.finished("GridFunction", &*function, done)
}

async fn look_at(function: &GridFunction, context: &Context, known: &Known) -> Result<Action, Error> {
    let functions = context.api_beside::<GridFunction>(function)?;
    let _permit = context.fetches.acquire().await;
    // Others may have been fetched for minutes.
    let Some(function) = functions.get_opt(&function.name_any()).await?.map(Arc::new) else {
        return Ok(Action::await_change());
    };
    let done = finalizer(&functions, FINALIZER, function, |event| async {
        match event {
            Event::Apply(function) => keep(&functions, &function, context, known).await,
            Event::Cleanup(function) => {
                let done = delete(&function, context, known).await;
                if let Err(error) = &done {
                    let told = Told::Blocked { reason: error.reason(), message: error.to_string() };
                    tell(&functions, &function, context, &told).await?;
                }
                done
            }
        }
    });
    done.await.map_err(Error::from)
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
    Ok(Action::requeue(match &told {
        told if told.is_ready() => backoff::while_idle(),
        // Whoever serves it need not be asked all the time for something else.
        Told::NotFetched { .. } if function.spec.source.url.is_some() => backoff::while_idle(),
        _ => backoff::while_not_ready(),
    }))
}

/// Has the grid run the module that was asked for, if it is not the one that runs already.
async fn put_right(function: &GridFunction, context: &Context, known: &Known) -> Result<Told, Error> {
    let blocked = |reason, message| Ok(Told::Blocked { reason, message });
    let settings = match VersionSettings::of(&function.spec) {
        Ok(settings) => settings,
        Err(error) => return blocked("BadDuration", error.to_string()),
    };
    let (grid, client) = match grid_client(function, context).await? {
        Ok(both) => both,
        Err(why) => return blocked(why.reason(), why.to_string()),
    };
    let name = function.function_name();
    let there = match client.functions().describe(name).await {
        Ok((there, _)) => Some(there),
        Err(GridError::FunctionNotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let allowed = function.spec.capabilities.as_deref();
    let in_grid = InGrid { client, name, there, allowed, uid: function.uid().unwrap_or_default() };
    // What the grid has, or has refused, need not be fetched: a rollback works while its source is away.
    if let Some(digest) = &function.spec.sha256 {
        let wanted = WantedVersion { digest: digest.clone(), settings: settings.clone() };
        if let Some(told) = without_upload(&in_grid, &wanted, context, known).await? {
            return Ok(told);
        }
    }
    let module = match fetch(context, function).await? {
        Ok(module) => module,
        Err(error) => return Ok(Told::NotFetched { reason: error.reason(), message: error.to_string() }),
    };
    let wanted = WantedVersion { digest: module.digest, settings };
    if let Some(told) = without_upload(&in_grid, &wanted, context, known).await? {
        return Ok(told);
    }
    let uploader = uploader(&grid, context).await?;
    let options = wanted.settings.upload();
    // What a version can do is known when the grid has it: before that it must not run.
    let options = if allowed.is_some() { options.stage() } else { options };
    context.check_tenure()?;
    let uploaded = match uploader.functions().upload(name, module.bytes, &options).await {
        Ok(uploaded) => uploaded.function,
        Err(error) => return refused(&in_grid, wanted, error, known).await,
    };
    let in_grid = InGrid { there: Some(uploaded.clone()), ..in_grid };
    match without_upload(&in_grid, &wanted, context, known).await? {
        Some(told) => Ok(told),
        None => told(&in_grid.client, uploaded).await,
    }
}

/// A client that waits until the grid has compiled a module.
async fn uploader(grid: &Grid, context: &Context) -> Result<Client, Error> {
    let addresses = ready_addresses(context, grid).await?;
    let seconds = grid.spec.settings.compile_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let time = Duration::from_secs(seconds.unwrap_or(COMPILE_SECONDS)) + UPLOAD_TIME;
    client_within(&addresses, context.ports, time).map_err(Error::from)
}

/// A function as its grid knows it.
struct InGrid<'a> {
    client: Client,
    name: &'a str,
    there: Option<wire::Function>,
    /// What it may do, if that is limited.
    allowed: Option<&'a [FunctionCapability]>,
    /// Of the object.
    uid: String,
}

/// Has calls run the version if the grid has it. None if it has to be uploaded, and the grid has not refused it yet.
async fn without_upload(
    in_grid: &InGrid<'_>,
    wanted: &WantedVersion,
    context: &Context,
    known: &Known,
) -> Result<Option<Told>, Error> {
    let InGrid { client, name, there, allowed, uid } = in_grid;
    if let Some(there) = there {
        let plan = plan(wanted, there);
        if let Some(told) = too_capable(&plan, there, *allowed) {
            return Ok(Some(told));
        }
        match plan {
            FunctionPlan::Nothing => return told(client, there.clone()).await.map(Some),
            FunctionPlan::Promote(version) => {
                context.check_tenure()?;
                return told(client, client.functions().promote(name, version).await?).await.map(Some);
            }
            FunctionPlan::Upload => {}
        }
    }
    let Some(refusal) = known.refusals.of(uid, wanted) else { return Ok(None) };
    let versions = versions(&client.status().await?.members);
    Ok(refusal.holds(&versions, Instant::now()).then(|| refusal.told()))
}

/// What is to be said of a version that could do what it may not.
fn too_capable(
    plan: &FunctionPlan,
    there: &wire::Function,
    allowed: Option<&[FunctionCapability]>,
) -> Option<Told> {
    let (number, state) = match plan {
        FunctionPlan::Nothing => (there.active, "runs already: set the source back"),
        FunctionPlan::Promote(number) => (*number, "does not run"),
        FunctionPlan::Upload => return None,
    };
    let version = there.versions.iter().find(|version| version.number == number)?;
    let capability = excess(allowed, version)?;
    let mut message = format!(
        "version {number} needs the capability {capability:?}, which spec.capabilities does not have, and {state}"
    );
    let running = active(there).filter(|running| running.number != number);
    if let Some(running) = running.filter(|running| excess(allowed, running).is_some()) {
        message += &format!("; version {}, which runs, needs it too", running.number);
    }
    Some(Told::NotUploaded { reason: "CapabilityMissing", message })
}

async fn refused(
    in_grid: &InGrid<'_>,
    wanted: WantedVersion,
    error: GridError,
    known: &Known,
) -> Result<Told, Error> {
    let belief = Belief::of(error.outcome(), error.reason());
    let reason = match &error {
        GridError::ModuleRefused(_) if belief != Belief::None => "ModuleRefused",
        GridError::TooLarge(_) | GridError::Refused(_) => "UploadRefused",
        _ => return Err(error.into()),
    };
    let versions = versions(&in_grid.client.status().await?.members);
    let (message, at) = (error.to_string(), Instant::now());
    let refusal = Refusal { wanted, versions, belief, reason, message, at };
    let told = refusal.told();
    known.refusals.remember(in_grid.uid.clone(), refusal);
    Ok(told)
}

async fn told(client: &Client, function: wire::Function) -> Result<Told, Error> {
    let members = client.status_about(&function.name).await?.members;
    Ok(Told::Uploaded { function, members })
}

/// The function in the grid goes, unless it is to stay, or this object is not the one that owns it.
async fn delete(function: &GridFunction, context: &Context, known: &Known) -> Result<Action, Error> {
    known.refusals.forget(&function.uid().unwrap_or_default());
    let stays = function.spec.deletion_policy == FunctionDeletion::Retain;
    if stays || owner_before(&known.all, function).is_some() {
        return Ok(Action::await_change());
    }
    // With its grid the function has gone.
    let Some(client) = client_while_there(function, context).await? else {
        return Ok(Action::await_change());
    };
    context.check_tenure()?;
    match client.functions().delete(function.function_name()).await {
        Ok(()) | Err(GridError::FunctionNotFound(_)) => Ok(Action::await_change()),
        Err(error) => Err(error.into()),
    }
}
