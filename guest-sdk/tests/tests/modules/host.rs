//! The least that a host must do: build a module, make a component of it, and call it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use wasmtime::component::{Component, ComponentType, Instance, Lift, Linker, Lower};
use wasmtime::{Config, Engine, ResourceLimiter, Store, StoreContextMut};
use wattle_frame::guest::{Effect, EntrySlot, Reply, RequestHeader, RequestWriter};
use wit_component::ComponentEncoder;

const GUESTS: [&str; 2] = ["example-counter", "wattle-guest-tests"];

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "some levels only come from guests")]
pub(crate) enum Level {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
    #[component(name = "trace")]
    Trace,
    #[component(name = "other")]
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct FunctionInfo {
    pub(crate) name: String,
    #[component(name = "read-only")]
    pub(crate) read_only: bool,
    pub(crate) deterministic: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// What a function did to an entry, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Keep(Vec<u8>),
    Put(Vec<u8>, Vec<u8>),
    Fail(u32, String),
}

/// The module of a guest in Rust. All of them are built at the first call.
pub(crate) fn module(package: &str) -> Vec<u8> {
    static BUILT: LazyLock<()> = LazyLock::new(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--profile", "guest"]);
        build.args(["--target", "wasm32-unknown-unknown", "--target-dir"]).arg(target());
        for guest in GUESTS {
            build.args(["--package", guest]);
        }
        let status = build.current_dir(root()).status().expect("cargo starts");
        assert!(
            status.success(),
            "the guests build; `rustup target add wasm32-unknown-unknown` if it is missing"
        );
    });
    LazyLock::force(&BUILT);
    std::fs::read(module_path(package)).expect("the module is where cargo puts it")
}

pub(crate) fn module_path(package: &str) -> PathBuf {
    target().join("wasm32-unknown-unknown/guest").join(package.replace('-', "_")).with_extension("wasm")
}

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn target() -> PathBuf {
    root().join("target")
}

/// An instance of a module.
pub(crate) struct Guest {
    pub(crate) store: Store<Seen>,
    pub(crate) instance: Instance,
    frame: Vec<u8>,
}

/// What the host sees of a module besides its results.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) log: Vec<(Level, String)>,
    pub(crate) memory_bytes: usize,
}

impl ResourceLimiter for Seen {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_bytes = desired;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

impl Guest {
    pub(crate) fn start(module: &[u8]) -> Self {
        let component = ComponentEncoder::default().validate(true).module(module).unwrap().encode().unwrap();
        let mut config = Config::new();
        config.concurrency_support(false);
        let engine = Engine::new(&config).unwrap();
        let component = Component::new(&engine, &component).unwrap();
        let mut linker: Linker<Seen> = Linker::new(&engine);
        let write = |mut store: StoreContextMut<'_, Seen>, line: (Level, String)| {
            store.data_mut().log.push(line);
            Ok(())
        };
        linker.instance("wattle:grid/log@0.1.0").unwrap().func_wrap("write", write).unwrap();
        let mut store = Store::new(&engine, Seen::default());
        store.limiter(|seen| seen);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        Self { store, instance, frame: Vec::new() }
    }

    pub(crate) fn manifest(&mut self) -> Vec<FunctionInfo> {
        let manifest =
            self.instance.get_typed_func::<(), (Vec<FunctionInfo>,)>(&mut self.store, "manifest").unwrap();
        manifest.call(&mut self.store, ()).unwrap().0
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&mut self, frame: &[u8]) -> wasmtime::Result<Result<Vec<u8>, Failure>> {
        type Results = (Result<Vec<u8>, Failure>,);
        let process = self.instance.get_typed_func::<(&[u8],), Results>(&mut self.store, "process")?;
        Ok(process.call(&mut self.store, (frame,))?.0)
    }

    /// Runs a function on entries, each with a value or none.
    pub(crate) fn process(
        &mut self,
        function: u32,
        values: &[Option<&[u8]>],
        argument: &[u8],
    ) -> wasmtime::Result<Result<Vec<Outcome>, Failure>> {
        let mut frame = std::mem::take(&mut self.frame);
        let header = RequestHeader { function, now_ms: NOW_MS, map: "map", argument, capacity: values.len() };
        let mut writer = RequestWriter::new(&mut frame, &header).unwrap();
        for &value in values {
            let version = u64::from(value.is_some());
            writer.push(&EntrySlot { key: b"key", value, version, ttl_ms: None, argument: None }).unwrap();
        }
        writer.finish();
        let reply = self.send(&frame)?;
        self.frame = frame;
        Ok(reply.map(|reply| outcomes(&reply, values.len())))
    }
}

fn outcomes(reply: &[u8], count: usize) -> Vec<Outcome> {
    let reply = Reply::parse(reply, count).unwrap();
    let outcome = |answer: wattle_frame::guest::Answer<'_>| match answer.effect {
        Effect::Keep => Outcome::Keep(answer.response.to_vec()),
        Effect::Put(value) => Outcome::Put(value.to_vec(), answer.response.to_vec()),
        Effect::Fail { code, message } => Outcome::Fail(code, String::from_utf8(message.to_vec()).unwrap()),
        effect @ (Effect::PutWithTtl(..) | Effect::Remove) => panic!("no guest here does {effect:?}"),
    };
    reply.answers().map(outcome).collect()
}
