//! Loader, catalog and thread together, with a guest that is a component from the start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use wattle_core::control::{Applied, Command, ControlState, FunctionOptions, FunctionVersion, Promote};
use wattle_core::ids::ModuleHash;
use wattle_core::limits::{BREAKER_STOPS, VALUE_BYTES};
use wattle_core::name::Name;
use wattle_frame::guest::{EntrySlot, RequestHeader, RequestWriter};
use wattle_wasm::Runtime;
use wattle_wasm::compile::{CompileLimits, Compiler, compile_here};

use super::loader::PrepareError;
use super::*;
use crate::control::DataDirectory;

/// Answers a call with one entry with one byte, which the guest was made with; traps when the grid time is 0.
fn guest(response: char) -> Vec<u8> {
    let text = format!(
        r#"(component
          (core module $m
            (memory (export "memory") 2)
            (data (i32.const 1024) "answer")
            (data (i32.const 2048) "\01\00\00\00\01\00\00\00\31\00\00\00\00\00\00\00")
            (data (i32.const 2064) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\30\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00")
            (data (i32.const 2096) "{response}")
            (data (i32.const 3072) "\08\0c\00\00\01\00\00\00\00\04\00\00\06\00\00\00\01\00\00\00")
            (data (i32.const 4096) "\00\00\00\00\00\08\00\00\31\00\00\00")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
            (func (export "manifest") (result i32) (i32.const 3072))
            (func (export "process") (param $frame i32) (param i32) (result i32)
              (if (i64.eqz (i64.load offset=16 (local.get $frame))) (then (unreachable)))
              (i32.const 4096)))
          (core instance $i (instantiate $m))
          (type $info-type (record (field "name" string) (field "read-only" bool) (field "deterministic" bool)))
          (export $info "function-info" (type $info-type))
          (type $failure-type (record (field "code" u32) (field "message" string)))
          (export $failure "failure" (type $failure-type))
          (func $manifest (result (list $info))
            (canon lift (core func $i "manifest") (memory (core memory $i "memory"))))
          (export "manifest" (func $manifest))
          (func $process (param "frame" (list u8)) (result (result (list u8) (error $failure)))
            (canon lift (core func $i "process") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc"))))
          (export "process" (func $process)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Grid times that the guest answers at, and traps at.
const GOOD: u64 = 1;
const BAD: u64 = 0;

struct Node {
    state: ControlState,
    runtime: Arc<Runtime>,
    loader: Loader,
    catalog: Arc<Catalog>,
    thread: GuestThread,
    tripped: mpsc::Receiver<Tripped>,
    data: DataDirectory,
    directory: Arc<tempfile::TempDir>,
}

impl Node {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(directory.path()).unwrap();
        Self::start_in(Arc::new(directory), data, ControlState::default())
    }

    fn start_in(directory: Arc<tempfile::TempDir>, data: DataDirectory, state: ControlState) -> Self {
        let runtime = Arc::new(Runtime::new(8).unwrap());
        let files = ModuleFiles::open(&data, runtime.engine_key()).unwrap();
        // Nothing is compiled in a child here: artifacts are put where the loader finds them.
        let nobody = PathBuf::from("/nonexistent");
        let compiler = Compiler::new(nobody, Vec::new(), 1, CompileLimits::default());
        let metrics = FunctionMetrics::register(&mut Registry::default());
        let (catalog, tripped) = Catalog::new(metrics);
        let thread = GuestThread::new(Arc::clone(&catalog), RunBy::Compute);
        let loader = Loader::new(Arc::clone(&runtime), compiler, Some(files));
        Self { state, runtime, loader, catalog, thread, tripped, data, directory }
    }

    fn restart(self) -> Self {
        let node = Self::start_in(self.directory, self.data, self.state);
        for (name, function) in node.state.functions() {
            node.catalog.follow(name, function, &node.loader).unwrap();
        }
        node
    }

    fn upload(&mut self, module: &[u8]) -> u32 {
        let hash = ModuleHash(Sha256::digest(module).into());
        let files = ModuleFiles::open(&self.data, self.runtime.engine_key()).unwrap();
        files.save_artifact(&hash, &compile_here(module).unwrap()).unwrap();
        let mut upload = Upload::new(Some(hash));
        upload.push(module).unwrap();
        let uploaded = upload.finish().unwrap();
        let options = FunctionOptions::default();
        let module = self.loader.prepare(&uploaded, options.memory_bytes).unwrap();
        let wanted = Wanted { export: "", options: &options, uploaded_ms: 7 };
        let version = Box::new(version_of(&uploaded, &module, wanted).unwrap());
        self.command(&Command::AddVersion { name: name(), version, promote: Promote::AtOnce })
    }

    fn command(&mut self, command: &Command) -> u32 {
        let Applied::Function(name, number) = self.state.apply(command).unwrap() else { panic!() };
        let function = self.state.function(name.as_str()).unwrap();
        self.catalog.follow(&name, function, &self.loader).unwrap();
        number
    }

    fn call(&mut self) -> char {
        let function = self.catalog.resolve("f").unwrap();
        self.run(&function, GOOD, 1).unwrap()
    }

    fn trap(&mut self, entries: usize) -> Stopped {
        let function = self.catalog.resolve("f").unwrap();
        self.run(&function, BAD, entries).unwrap_err()
    }

    fn run(&mut self, function: &ActiveFunction, now_ms: u64, entries: usize) -> Result<char, Stopped> {
        let mut buffer = Vec::new();
        let header = RequestHeader {
            function: function.export_index(),
            now_ms,
            map: "m",
            argument: b"",
            capacity: entries,
        };
        let mut writer = RequestWriter::new(&mut buffer, &header).unwrap();
        for _ in 0..entries {
            let entry = EntrySlot { key: b"k", value: None, version: 0, ttl_ms: None, argument: None };
            writer.push(&entry).unwrap();
        }
        let frame = writer.finish();
        self.thread.run(function, frame, VALUE_BYTES, |reply| char::from(reply.answer(0).response[0]))
    }
}

fn name() -> Name {
    Name::new("f").unwrap()
}

#[test]
fn a_name_flips_to_a_new_module_and_back_while_a_call_keeps_what_it_resolved() {
    let mut node = Node::start();
    assert_eq!(node.upload(&guest('a')), 1);
    assert_eq!(node.call(), 'a');
    let resolved = node.catalog.resolve("f").unwrap();
    assert_eq!(node.upload(&guest('b')), 2);
    assert_eq!(node.call(), 'b');
    assert_eq!(node.run(&resolved, GOOD, 1).unwrap(), 'a');
    node.command(&Command::Rollback { name: name() });
    assert_eq!(node.call(), 'a');
}

/// Also if it cannot be loaded here: it was replaced before the call.
#[test]
fn what_was_replaced_runs_no_more_even_if_what_replaces_it_cannot_be_loaded() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    let resolved = node.catalog.resolve("f").unwrap();
    let unknown = ModuleHash([7; 32]);
    let known = node.state.function("f").unwrap().versions[0].clone();
    let version = Box::new(FunctionVersion { module: unknown, ..known });
    let command = Command::AddVersion { name: name(), version, promote: Promote::AtOnce };
    node.state.apply(&command).unwrap();
    let follow = |node: &Node| {
        let function = node.state.function("f").unwrap();
        node.catalog.follow(&name(), function, &node.loader)
    };
    for _ in 0..2 {
        assert!(matches!(follow(&node), Err(PrepareError::Missing { hash }) if hash == unknown));
        let refused = node.catalog.resolve("f").unwrap_err();
        assert!(matches!(refused, NotCallable::NotLoaded { .. }), "{refused}");
    }
    assert_eq!(node.run(&resolved, GOOD, 1).unwrap(), 'a', "a call keeps what it has resolved");
    node.command(&Command::Rollback { name: name() });
    assert_eq!(node.call(), 'a');
}

/// This node has seen only the state before and the one behind.
#[test]
fn a_function_that_was_deleted_and_made_anew_is_another() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    node.state.apply(&Command::DeleteFunction { name: name() }).unwrap();
    assert_eq!(node.upload(&guest('b')), 1, "its versions count from one again");
    assert_eq!(node.call(), 'b');
}

#[test]
fn functions_survive_a_restart_by_their_files() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    node.upload(&guest('b'));
    let mut node = node.restart();
    assert_eq!(node.call(), 'b');
    node.command(&Command::Rollback { name: name() });
    assert_eq!(node.call(), 'a');
}

#[test]
fn a_function_that_keeps_being_stopped_is_suspended_until_it_is_promoted_again() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    for stop in 1..=BREAKER_STOPS {
        assert_eq!(node.trap(1).stop.kind(), "unreachable");
        let tripped = (stop == BREAKER_STOPS).then(|| Tripped { name: name(), version: 1 });
        assert_eq!(node.tripped.try_recv().ok(), tripped);
    }
    let refused = |node: &Node| node.catalog.resolve("f").unwrap_err();
    assert!(matches!(refused(&node), NotCallable::Suspended { .. }), "at once, before anything is committed");
    let because = "trapped".to_owned();
    node.command(&Command::Suspend { name: name(), version: 1, because: because.clone() });
    assert_eq!(refused(&node), NotCallable::Suspended { name: "f".to_owned(), because });
    node.command(&Command::Promote { name: name(), version: Some(1) });
    assert_eq!(node.call(), 'a');
}

#[test]
fn a_batch_that_is_stopped_does_not_count_until_its_entries_are_run_one_by_one() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    for _ in 0..2 * BREAKER_STOPS {
        let stopped = node.trap(2);
        assert!(stopped.may_be_one_entry());
    }
    assert!(node.tripped.try_recv().is_err());
    assert_eq!(node.call(), 'a');
}

#[test]
fn instances_of_a_replaced_module_are_dropped() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    node.call();
    let old = node.catalog.resolve("f").unwrap();
    assert_eq!(old.module().live_instances(), 1);
    node.upload(&guest('b'));
    node.call();
    assert_eq!(old.module().live_instances(), 0);
}

#[test]
fn a_module_in_use_is_not_removed_and_one_that_nobody_uses_is() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    let used = node.catalog.resolve("f").unwrap();
    node.catalog.remove("f");
    node.loader.remove_unused(|_| false).unwrap();
    assert_eq!(node.run(&used, GOOD, 1).unwrap(), 'a');
    let hash = ModuleHash(Sha256::digest(guest('a')).into());
    assert!(node.loader.ready(&hash).is_ok());
    drop(used);
    node.thread = GuestThread::new(Arc::clone(&node.catalog), RunBy::Compute);
    node.loader.remove_unused(|_| false).unwrap();
    assert!(matches!(node.loader.ready(&hash), Err(PrepareError::Missing { .. })));
}

#[test]
fn only_active_modules_stay_loaded_and_others_come_back() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    let module = |node: &Node| Arc::downgrade(node.catalog.resolve("f").unwrap().module());
    let first = module(&node);
    assert_eq!(node.call(), 'a');
    let resolved = node.catalog.resolve("f").unwrap();
    node.upload(&guest('b'));
    let second = module(&node);
    assert_eq!(node.run(&resolved, GOOD, 1).unwrap(), 'a');
    drop(resolved);
    assert_eq!(node.call(), 'b');
    assert!(first.upgrade().is_none(), "nobody needs it any more");
    node.command(&Command::Rollback { name: name() });
    assert_eq!(node.call(), 'a');
    assert!(second.upgrade().is_none(), "it is staged again");
}

/// The upload comes between the look at a module that nobody uses and its removal.
#[test]
fn a_module_that_is_uploaded_while_it_is_removed_stays() {
    let mut node = Node::start();
    node.upload(&guest('a'));
    node.catalog.remove("f");
    let hash = ModuleHash(Sha256::digest(guest('a')).into());
    let mut upload = Upload::new(Some(hash));
    upload.push(&guest('a')).unwrap();
    let uploaded = upload.finish().unwrap();
    let loader = &node.loader;
    let (done, is_done) = std::sync::mpsc::channel();
    let upload = || {
        let module = loader.prepare(&uploaded, FunctionOptions::default().memory_bytes).unwrap();
        done.send(()).unwrap();
        module
    };
    std::thread::scope(|scope| {
        let uploading = std::cell::OnceCell::new();
        let is_used = |_: &ModuleHash| {
            uploading.get_or_init(|| {
                let thread = scope.spawn(upload);
                // If all is well, it goes on only after the removal.
                is_done.recv_timeout(Duration::from_millis(200)).ok();
                thread
            });
            false
        };
        loader.remove_unused(is_used).unwrap();
        let _held = uploading.into_inner().expect("it was asked for").join().unwrap();
        let files = ModuleFiles::open(&node.data, node.runtime.engine_key()).unwrap();
        assert_eq!(files.load_module(&hash).unwrap(), guest('a'));
    });
}

/// Two uploads of the same bytes, neither of which saw the other's module when it looked.
#[test]
fn a_module_that_is_uploaded_twice_stays_as_long_as_either_upload_holds_it() {
    let mut node = Node::start();
    let bytes = guest('a');
    node.upload(&bytes);
    let hash = ModuleHash(Sha256::digest(&bytes).into());
    let first = node.loader.load(&hash, || Ok(&bytes)).unwrap();
    let second = node.loader.load(&hash, || Ok(&bytes)).unwrap();
    node.catalog.remove("f");
    drop(second);
    node.loader.remove_unused(|_| false).unwrap();
    let files = ModuleFiles::open(&node.data, node.runtime.engine_key()).unwrap();
    assert_eq!(files.load_module(&hash).unwrap(), bytes);
    assert!(Arc::ptr_eq(&first, &node.loader.ready(&hash).unwrap()));
}

#[test]
fn a_name_that_leads_nowhere_says_so() {
    let node = Node::start();
    assert_eq!(node.catalog.resolve("g").unwrap_err(), NotCallable::NotFound { name: "g".to_owned() });
}
