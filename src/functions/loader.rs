//! Modules that are ready to run, by their hash: compiled once, and kept as artifacts, on disk when there is a data directory.
//! They are loaded as long as somebody holds them: an active function, a call, or whoever has just prepared one. A loaded module
//! costs a file descriptor. Its methods block; services call them where blocking is allowed.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use tonic::Code;
use wattle_core::ids::ModuleHash;
use wattle_core::limits;
use wattle_wasm::compile::{Artifact, CompileError, Compiler};
use wattle_wasm::{Instance, LoadError, Module, ModuleError, Runtime, Stop};

use super::files::{FileError, ModuleFiles};
use super::upload::UploadedModule;

const _: () = assert!(limits::MODULE_BYTES == wattle_wasm::limits::MODULE_BYTES);
const _: () = assert!(limits::NAME_BYTES == wattle_wasm::limits::NAME_BYTES);
const _: () = assert!(limits::GUEST_MEMORY_BYTES_MAX == wattle_wasm::limits::MAX_MEMORY_BYTES);
const _: () = assert!(limits::VALUE_BYTES_MAX + limits::RESPONSE_BYTES <= wattle_wasm::limits::REPLY_BYTES);

/// Makes modules ready to run, and keeps them.
#[derive(Debug)]
pub(crate) struct Loader {
    runtime: Arc<Runtime>,
    compiler: Compiler,
    files: Option<ModuleFiles>,
    /// What files would keep, where there are none.
    artifacts: DashMap<ModuleHash, Arc<Artifact>>,
    modules: DashMap<ModuleHash, Bytes>,
    loaded: DashMap<ModuleHash, Weak<Module>>,
    /// Held while unused modules are removed: one that is loaded meanwhile is stored after that. Only threads that may block
    /// come here.
    removal: Mutex<()>,
}

/// Why a module is not ready to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the module does not start within its function's memory: {0}")]
    Start(Stop),
    #[error("the module cannot be stored: {0}")]
    File(#[from] FileError),
    #[error("module {hash} is neither in memory nor stored")]
    Missing { hash: ModuleHash },
}

impl PrepareError {
    /// Whose fault it is, in gRPC's words.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Compile(CompileError::Child(_) | CompileError::Answer(_))
            | Self::Load(LoadError::Artifact { .. }) => Code::Internal,
            Self::File(_) => Code::Unavailable,
            Self::Start(Stop::NoInstance) | Self::Load(LoadError::Start(Stop::NoInstance)) => {
                Code::ResourceExhausted
            }
            Self::Compile(_) | Self::Load(_) | Self::Start(_) => Code::InvalidArgument,
            Self::Missing { .. } => Code::FailedPrecondition,
        }
    }

    /// A stable word, for programs.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Compile(error) => compile_reason(error),
            Self::Load(error) => load_reason(error),
            Self::Start(Stop::NoInstance) => "OVERLOADED",
            Self::Start(_) => "MODULE_DOES_NOT_START",
            Self::File(_) => "DATA_DIRECTORY",
            Self::Missing { .. } => "MODULE_MISSING",
        }
    }
}

fn compile_reason(error: &CompileError) -> &'static str {
    match error {
        CompileError::Refused(refusal) => module_reason(refusal),
        CompileError::Failed { .. } => "MODULE_DOES_NOT_COMPILE",
        CompileError::Time { .. } => "MODULE_COMPILE_TIME",
        CompileError::Memory { .. } => "MODULE_COMPILE_MEMORY",
        CompileError::Crash { .. } => "MODULE_COMPILER_CRASHED",
        CompileError::Child(_) | CompileError::Answer(_) => "COMPILER_UNAVAILABLE",
    }
}

fn module_reason(error: &ModuleError) -> &'static str {
    match error {
        ModuleError::TooLarge { .. } => "TOO_LARGE",
        ModuleError::NotWasm => "MODULE_NOT_WASM",
        ModuleError::Malformed { .. } => "MODULE_MALFORMED",
        ModuleError::TooMuch { .. } => "MODULE_TOO_COMPLEX",
        ModuleError::NoComponentType => "MODULE_WITHOUT_COMPONENT_TYPE",
        ModuleError::NotItsType { .. } => "MODULE_TYPE_MISMATCH",
        ModuleError::UnknownImport { .. } => "MODULE_UNKNOWN_IMPORT",
        ModuleError::NoKnownWorld { .. } => "MODULE_UNKNOWN_WORLD",
        ModuleError::OwnResources => "MODULE_OWN_RESOURCES",
    }
}

fn load_reason(error: &LoadError) -> &'static str {
    match error {
        LoadError::Artifact { .. } => "COMPILER_UNAVAILABLE",
        LoadError::Imports { .. } => "MODULE_UNKNOWN_IMPORT",
        LoadError::ExportType { .. } => "MODULE_TYPE_MISMATCH",
        LoadError::Start(Stop::NoInstance) => "OVERLOADED",
        LoadError::Start(_) => "MODULE_DOES_NOT_START",
        LoadError::FunctionCount { .. }
        | LoadError::FunctionName { .. }
        | LoadError::DuplicateName { .. } => "MODULE_BAD_MANIFEST",
    }
}

impl Loader {
    /// With `files`, modules survive a restart.
    pub(crate) fn new(runtime: Arc<Runtime>, compiler: Compiler, files: Option<ModuleFiles>) -> Self {
        let (artifacts, modules, loaded) = (DashMap::new(), DashMap::new(), DashMap::new());
        Self { runtime, compiler, files, artifacts, modules, loaded, removal: Mutex::new(()) }
    }

    /// Makes an uploaded module ready, stores it, and tries that it starts with this much memory. The caller holds
    /// on to it until a function refers to it, or it may be removed as unused.
    pub(crate) fn prepare(
        &self,
        uploaded: &UploadedModule,
        memory_bytes: u64,
    ) -> Result<Arc<Module>, PrepareError> {
        let module = match self.get(&uploaded.hash) {
            Some(module) => module,
            None => self.load(&uploaded.hash, || Ok(&uploaded.bytes))?,
        };
        let memory_bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        Instance::new(&module, memory_bytes).map_err(PrepareError::Start)?;
        // Loaded and held: so it is not removed again.
        self.store(uploaded)?;
        Ok(module)
    }

    /// Stores a module that a function refers to, or whose caller holds it.
    pub(crate) fn store(&self, uploaded: &UploadedModule) -> Result<(), FileError> {
        match &self.files {
            Some(files) => files.save_module(&uploaded.hash, &uploaded.bytes)?,
            None => drop(self.modules.insert(uploaded.hash, Bytes::copy_from_slice(&uploaded.bytes))),
        }
        Ok(())
    }

    /// Whether a module is stored here.
    pub(crate) fn has(&self, hash: &ModuleHash) -> bool {
        self.files.as_ref().map_or_else(|| self.modules.contains_key(hash), |files| files.has_module(hash))
    }

    /// A module as it was uploaded, if it is stored here.
    pub(crate) fn stored(&self, hash: &ModuleHash) -> Result<Option<Bytes>, FileError> {
        match &self.files {
            Some(files) if files.has_module(hash) => Ok(Some(files.load_module(hash)?.into())),
            Some(_) => Ok(None),
            None => Ok(self.modules.get(hash).map(|module| module.clone())),
        }
    }

    /// A module of a function that exists: loaded already, or as it was stored.
    pub(crate) fn ready(&self, hash: &ModuleHash) -> Result<Arc<Module>, PrepareError> {
        if let Some(module) = self.get(hash) {
            return Ok(module);
        }
        self.load(hash, || self.stored(hash)?.ok_or(PrepareError::Missing { hash: *hash }))
    }

    /// Forgets modules that no function refers to, here and on disk.
    pub(crate) fn remove_unused(&self, is_used: impl Fn(&ModuleHash) -> bool) -> Result<(), FileError> {
        let _removal = self.removal.lock();
        self.loaded.retain(|_, module| module.strong_count() > 0);
        // In this order: whoever holds a module lets go of it when a function refers to it.
        let is_kept = |hash: &ModuleHash| self.loaded.contains_key(hash) || is_used(hash);
        self.artifacts.retain(|hash, _| is_kept(hash));
        self.modules.retain(|hash, _| is_kept(hash));
        self.files.as_ref().map_or(Ok(()), |files| files.remove_unused(is_kept))
    }

    fn get(&self, hash: &ModuleHash) -> Option<Arc<Module>> {
        self.loaded.get(hash).and_then(|module| module.upgrade())
    }

    /// As one who has not found it loaded; somebody else may load it at the same time.
    pub(super) fn load<B: AsRef<[u8]>>(
        &self,
        hash: &ModuleHash,
        bytes: impl FnOnce() -> Result<B, PrepareError>,
    ) -> Result<Arc<Module>, PrepareError> {
        let stored = match &self.files {
            Some(files) => files.load_artifact(hash).map(Arc::new),
            None => self.artifacts.get(hash).map(|artifact| Arc::clone(&artifact)),
        };
        if let Some(artifact) = stored {
            match self.load_artifact(&artifact) {
                Ok(module) => {
                    let module = self.hold(hash, module);
                    if self.files.is_none() {
                        // It may have been removed just before.
                        self.artifacts.insert(*hash, artifact);
                    }
                    return Ok(module);
                }
                // It may be an artifact of a processor with other features: make another.
                Err(error @ LoadError::Artifact { .. }) => {
                    tracing::warn!(module = %hash, %error, "artifact dropped");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let artifact = Arc::new(self.compiler.compile(bytes()?.as_ref())?);
        let module = self.load_artifact(&artifact).map_err(|error| match error {
            // What the engine has just compiled and does not take is larger than its instances may be.
            LoadError::Artifact { message } => PrepareError::Compile(CompileError::Failed { message }),
            error => PrepareError::Load(error),
        })?;
        let module = self.hold(hash, module);
        match &self.files {
            Some(files) => files.save_artifact(hash, &artifact)?,
            None => drop(self.artifacts.insert(*hash, artifact)),
        }
        Ok(module)
    }

    /// From now on the module is not removed, as long as the caller holds what this returns: the one that somebody else has loaded
    /// meanwhile, if anybody still holds it.
    fn hold(&self, hash: &ModuleHash, module: Arc<Module>) -> Arc<Module> {
        let _removal = self.removal.lock();
        if let Some(held) = self.get(hash) {
            return held;
        }
        self.loaded.insert(*hash, Arc::downgrade(&module));
        module
    }

    /// The manifest may take as much memory as any function may; what this one may is tried by itself.
    fn load_artifact(&self, artifact: &Artifact) -> Result<Arc<Module>, LoadError> {
        Module::load(&self.runtime, artifact, limits::GUEST_MEMORY_BYTES_MAX)
    }
}
