//! FunctionService.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::Semaphore;
use tonic::{Request as Call, Response, Status, Streaming};
use wattle_core::control::{self, Applied, Command, FunctionKind, FunctionOptions, FunctionState, Promote};
use wattle_core::ids::ModuleHash;
use wattle_core::limits::{CPU_BUDGET, UPLOADS};
use wattle_core::name::Name;
use wattle_proto::v1;
use wattle_proto::v1::function_service_server::FunctionService;
use wattle_wasm::Module;

use super::convert::{duration, wire_duration};
use crate::failure::Failure;
use crate::functions::{PrepareError, Upload, UploadError, UploadedModule, Wanted, version_of};
use crate::grid::Grid;

/// Bytes of a module in a message.
const CHUNK: usize = 256 << 10;

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::DownloadModuleResponse, Status>> + Send>>;

/// FunctionService on this node.
#[derive(Debug, Clone)]
pub(crate) struct Functions {
    grid: Arc<Grid>,
    /// Each takes a thread that may block, of which the runtime has a number, until its module is compiled.
    uploads: Arc<Semaphore>,
    /// Each takes such a thread until its module is loaded.
    promotions: Arc<Semaphore>,
}

impl Functions {
    pub(crate) fn new(grid: Arc<Grid>) -> Self {
        let semaphore = || Arc::new(Semaphore::new(UPLOADS));
        Self { grid, uploads: semaphore(), promotions: semaphore() }
    }

    /// Loads the module of a version, so that no command waits for that; it is loaded as long as the caller holds it. A failure
    /// is told of by the command that needs the module.
    async fn loaded(
        &self,
        name: &Name,
        version: impl Fn(&control::Function) -> Option<u32>,
    ) -> Option<Arc<Module>> {
        let hash = self.grid.control.read(|state| {
            let function = state.function(name.as_str())?;
            Some(function.version(version(function)?)?.module)
        })?;
        let place = Arc::clone(&self.promotions).acquire_owned().await.ok()?;
        let grid = Arc::clone(&self.grid);
        let load = move || {
            let _place = place;
            grid.loader.ready(&hash).ok()
        };
        tokio::task::spawn_blocking(load).await.ok().flatten()
    }

    fn name(&self, name: &str) -> Result<Name, Failure> {
        let name = Name::new(name)?;
        let known = self.grid.control.read(|state| state.function(name.as_str()).is_some());
        let missing = || control::Refusal::FunctionNotFound { name: name.clone() };
        if known { Ok(name) } else { Err(Failure::Control(missing().into())) }
    }

    async fn change(&self, command: Command) -> Result<(v1::Function, u32), Failure> {
        match self.grid.propose(command).await? {
            Applied::Function(name, version) => Ok((self.describe(&name)?, version)),
            Applied::Map(_) | Applied::MapDeleted(_) | Applied::FunctionDeleted(_) | Applied::Unchanged => {
                Err(Failure::Internal { what: "a command about a function answered something else" })
            }
        }
    }

    fn describe(&self, name: &Name) -> Result<v1::Function, Failure> {
        let found = self.grid.control.read(|state| Some(wire_function(name, state.function(name.as_str())?)));
        found
            .ok_or_else(|| Failure::Control(control::Refusal::FunctionNotFound { name: name.clone() }.into()))
    }
}

#[tonic::async_trait]
impl FunctionService for Functions {
    async fn upload(
        &self,
        call: Call<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let (header, uploaded) = receive(call.into_inner()).await?;
        let name = Name::new(&header.name).map_err(Failure::from)?;
        let options = function_options(header.options.unwrap_or_default())?;
        let promote = if header.stage { Promote::Later } else { Promote::AtOnce };
        let grid = Arc::clone(&self.grid);
        let export = header.export;
        let held = grid.in_flight.take(uploaded.bytes.len())?;
        let full = Failure::TooManyUploads { limit: UPLOADS };
        let place = Arc::clone(&self.uploads).try_acquire_owned().map_err(|_| full)?;
        let added = tokio::task::spawn_blocking(move || {
            let _counted = (held, place);
            let added = add_version(&grid, (name, promote), (&uploaded, &export, &options));
            // Also of a module that was refused, and whether or not the caller still waits.
            remove_unused_modules(&grid);
            added
        });
        let panicked = Failure::Internal { what: "preparing a module panicked" };
        let Applied::Function(name, version) = added.await.map_err(|_| panicked)?? else {
            return Err(Failure::Internal { what: "an upload answered something else" }.into());
        };
        Ok(Response::new(v1::UploadResponse { function: Some(self.describe(&name)?), version }))
    }

    async fn list_functions(
        &self,
        _: Call<v1::ListFunctionsRequest>,
    ) -> Result<Response<v1::ListFunctionsResponse>, Status> {
        let all =
            |state: &control::ControlState| state.functions().map(|(n, f)| wire_function(n, f)).collect();
        let functions = self.grid.control.read(all);
        Ok(Response::new(v1::ListFunctionsResponse { functions }))
    }

    async fn describe_function(
        &self,
        call: Call<v1::DescribeFunctionRequest>,
    ) -> Result<Response<v1::DescribeFunctionResponse>, Status> {
        let name = self.name(&call.into_inner().name)?;
        let function = Some(self.describe(&name)?);
        let counted = self.grid.catalog.statistics(&name);
        let statistics = Some(v1::FunctionStatistics {
            batches: counted.batches,
            applied: counted.applied,
            not_applied: counted.not_applied,
            stops: counted.stops,
            instances: counted.instances,
        });
        Ok(Response::new(v1::DescribeFunctionResponse { function, statistics }))
    }

    async fn promote(&self, call: Call<v1::PromoteRequest>) -> Result<Response<v1::PromoteResponse>, Status> {
        let request = call.into_inner();
        let name = Name::new(&request.name).map_err(Failure::from)?;
        let version = (request.version > 0).then_some(request.version);
        let newest = |function: &control::Function| function.versions.last().map(|newest| newest.number);
        let _module = self.loaded(&name, |function| version.or_else(|| newest(function))).await;
        let (function, _) = self.change(Command::Promote { name, version }).await?;
        Ok(Response::new(v1::PromoteResponse { function: Some(function) }))
    }

    async fn rollback(
        &self,
        call: Call<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let name = Name::new(&call.into_inner().name).map_err(Failure::from)?;
        let _module = self.loaded(&name, |function| function.previous).await;
        let (function, _) = self.change(Command::Rollback { name }).await?;
        Ok(Response::new(v1::RollbackResponse { function: Some(function) }))
    }

    async fn delete_function(
        &self,
        call: Call<v1::DeleteFunctionRequest>,
    ) -> Result<Response<v1::DeleteFunctionResponse>, Status> {
        let name = Name::new(&call.into_inner().name).map_err(Failure::from)?;
        self.grid.propose(Command::DeleteFunction { name }).await?;
        let grid = Arc::clone(&self.grid);
        if tokio::task::spawn_blocking(move || remove_unused_modules(&grid)).await.is_err() {
            tracing::error!("removing unused modules panicked");
        }
        Ok(Response::new(v1::DeleteFunctionResponse {}))
    }

    type DownloadModuleStream = Chunks;

    async fn download_module(
        &self,
        call: Call<v1::DownloadModuleRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let problem = "64 hexadecimal digits are expected";
        let hash = ModuleHash::parse(&call.into_inner().module);
        let hash = hash.ok_or(Failure::Argument { field: "module", problem })?;
        let grid = Arc::clone(&self.grid);
        let stored = tokio::task::spawn_blocking(move || grid.loader.stored(&hash)).await;
        let stored = stored.map_err(|_| Failure::Internal { what: "reading a module panicked" })?;
        let missing = || Failure::ModuleNotFound { module: hash.to_string() };
        let module = stored.map_err(PrepareError::from).map_err(UploadError::from).map_err(Failure::from)?;
        let module = module.ok_or_else(missing)?;
        let chunk = |at: usize| module.slice(at..module.len().min(at + CHUNK));
        let chunks = (0..module.len()).step_by(CHUNK).map(chunk);
        let chunks: Vec<_> = chunks.map(|chunk| Ok(v1::DownloadModuleResponse { chunk })).collect();
        Ok(Response::new(stream::iter(chunks).boxed()))
    }
}

/// Makes a module ready, and its function refer to it. Blocks.
fn add_version(
    grid: &Grid,
    (name, promote): (Name, Promote),
    (uploaded, export, options): (&UploadedModule, &str, &FunctionOptions),
) -> Result<Applied, Failure> {
    let module = grid.loader.prepare(uploaded, options.memory_bytes).map_err(UploadError::from)?;
    let uploaded_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let uploaded_ms = u64::try_from(uploaded_ms).unwrap_or(u64::MAX);
    let version = Box::new(version_of(uploaded, &module, Wanted { export, options, uploaded_ms })?);
    let add = |promote| {
        let command = Command::AddVersion { name: name.clone(), version: version.clone(), promote };
        tokio::runtime::Handle::current().block_on(grid.propose(command))
    };
    // First other nodes fetch and compile it, while calls go on with what the name stands for; then the name moves on.
    let state = grid.control.decided();
    if state.grid().is_some_and(|table| table.nodes().len() > 1) {
        let staged = add(Promote::Later);
        match &staged {
            // What it is to replace may be what cannot be loaded.
            Ok(_) | Err(Failure::NotLoaded { .. }) => {}
            Err(_) => return staged,
        }
        tokio::runtime::Handle::current().block_on(grid.is_copied(uploaded.hash))?;
        if promote == Promote::Later {
            return staged;
        }
    }
    let applied = add(promote);
    // It is held until a function refers to it: so it cannot be removed as unused before.
    drop(module);
    applied
}

/// What no function refers to any more is forgotten. A failure leaves files behind, and the next time removes them. Blocks.
fn remove_unused_modules(grid: &Grid) {
    let used = |hash: &ModuleHash| grid.control.read(|state| state.uses_module(hash));
    if let Err(error) = grid.loader.remove_unused(used) {
        tracing::warn!(%error, "unused modules could not be removed");
    }
}

/// The header and the whole module.
async fn receive(
    mut messages: Streaming<v1::UploadRequest>,
) -> Result<(v1::UploadHeader, UploadedModule), Status> {
    use v1::upload_request::Part;
    let problem = "the first message carries the header, the others chunks";
    let out_of_order = || Failure::Argument { field: "part", problem };
    let Some(v1::UploadRequest { part: Some(Part::Header(header)) }) = messages.message().await? else {
        return Err(out_of_order().into());
    };
    let problem = "64 hexadecimal digits are expected";
    let expected = match header.sha256.as_str() {
        "" => None,
        text => Some(ModuleHash::parse(text).ok_or(Failure::Argument { field: "sha256", problem })?),
    };
    let mut upload = Upload::new(expected);
    while let Some(message) = messages.message().await? {
        let Some(Part::Chunk(chunk)) = message.part else { return Err(out_of_order().into()) };
        upload.push(&chunk).map_err(Failure::from)?;
    }
    Ok((header, upload.finish().map_err(Failure::from)?))
}

fn function_options(options: v1::FunctionOptions) -> Result<FunctionOptions, Failure> {
    let default = FunctionOptions::default();
    let budget = options.cpu_budget.map(|budget| duration("cpu_budget", budget)).transpose()?;
    Ok(FunctionOptions {
        cpu_budget: budget.unwrap_or(CPU_BUDGET),
        memory_bytes: if options.memory_bytes == 0 { default.memory_bytes } else { options.memory_bytes },
        fresh_instances: options.fresh_instances,
    })
}

fn wire_function(name: &Name, function: &control::Function) -> v1::Function {
    let (state, because) = match &function.state {
        FunctionState::Staged => (v1::FunctionState::Staged, String::new()),
        FunctionState::Active(_) => (v1::FunctionState::Active, String::new()),
        FunctionState::Suspended { because, .. } => (v1::FunctionState::Suspended, because.clone()),
    };
    v1::Function {
        name: name.to_string(),
        state: state.into(),
        active: function.active().unwrap_or(0),
        previous: function.previous.unwrap_or(0),
        versions: function.versions.iter().map(wire_version).collect(),
        suspended_because: because,
    }
}

fn wire_version(version: &control::FunctionVersion) -> v1::FunctionVersion {
    let kind = match version.kind {
        FunctionKind::EntryProcessor => v1::FunctionKind::EntryProcessor,
        FunctionKind::SimpleEntryProcessor => v1::FunctionKind::SimpleEntryProcessor,
    };
    let millis = i64::try_from(version.uploaded_ms).unwrap_or(i64::MAX);
    let nanos = i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
    v1::FunctionVersion {
        number: version.number,
        module: version.module.to_string(),
        size_bytes: version.size_bytes,
        export: version.export.clone(),
        kind: kind.into(),
        read_only: version.read_only,
        deterministic: version.deterministic,
        uploaded: Some(prost_types::Timestamp { seconds: millis / 1000, nanos }),
        options: Some(v1::FunctionOptions {
            cpu_budget: Some(wire_duration(version.options.cpu_budget)),
            memory_bytes: version.options.memory_bytes,
            fresh_instances: version.options.fresh_instances,
        }),
    }
}
