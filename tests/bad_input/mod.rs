//! What bad input gets: a clear error with a stable reason, and nothing lost or changed. Each test ends with a good
//! call on the same node and with the entry that was there before, byte for byte.

mod command_line;
mod config;
mod connections;
mod data_directory;
mod failing;
mod floods;
mod frames;
mod full_disk;
mod functions;
mod guests;
mod import;
mod lists;
mod maps;
mod modules;
mod output;
mod resources;

use std::fmt::Debug;
use std::path::Path;
use std::process::Output;

use tonic::Code;
use wattle::config::RawConfig;
use wattle_client::{Client, Error, Failure, Options, Outcome, RawMap, UploadOptions, Versioned};

use crate::harness::guest::Guest;
use crate::harness::{TestNode, run};

/// The map, key and value of the entry that is there before.
const MAP: &str = "before";
const KEY: &str = "entry";
const VALUE: &[u8] = b"\x2a\0\0\0\0\0\0\0";

/// A node with an entry, which what happens next must not change.
struct Scene {
    node: TestNode,
    client: Client,
    map: RawMap,
    before: Versioned<bytes::Bytes>,
}

/// What a refusal says.
struct Refusal {
    code: Code,
    reason: &'static str,
    /// Part of the message.
    says: &'static str,
    /// `None` of a read, which cannot change anything.
    outcome: Option<Outcome>,
}

const fn refusal(code: Code, reason: &'static str, says: &'static str) -> Refusal {
    Refusal { code, reason, says, outcome: Some(Outcome::NotApplied) }
}

impl Refusal {
    /// Of a call that only reads.
    const fn of_read(self) -> Self {
        Self { outcome: None, ..self }
    }
}

impl Scene {
    async fn start() -> Self {
        Self::on(TestNode::start()).await
    }

    async fn with(raw: RawConfig) -> Self {
        Self::on(TestNode::with(raw)).await
    }

    async fn on(node: TestNode) -> Self {
        // Nothing of it is in flight while it asks for nothing.
        let options = Options::new(node.endpoint()).endpoints_only();
        let client = Client::connect(options).await.expect("the node serves");
        let map = client.raw_map(MAP);
        map.put(KEY, VALUE).await.unwrap();
        let before = map.get(KEY).await.unwrap().unwrap();
        Self { node, client, map, before }
    }

    /// The call was refused as expected, changed nothing, and the node goes on. Answers the facts of the refusal.
    async fn check_refused<T: Debug>(&self, answer: Result<T, Error>, expected: Refusal) -> Failure {
        let failure = refused(answer, &expected);
        self.check_unharmed().await;
        failure
    }

    /// The entry is as it was, and the node does its work.
    async fn check_unharmed(&self) {
        assert_eq!(self.map.get(KEY).await.unwrap().as_ref(), Some(&self.before));
        let map = self.client.raw_map("good");
        let version = map.put("key", "value").await.unwrap();
        assert_eq!(map.get("key").await.unwrap(), Some(Versioned { value: "value".into(), version }));
    }

    /// Stops the node, and waits for that.
    async fn stop(self) {
        drop(self.client);
        drop(self.map);
        self.node.stop().await;
    }

    async fn upload(&self, name: &str, guest: &Guest) -> Result<u32, Error> {
        let uploaded = self.client.functions().upload(name, guest.module(), &UploadOptions::new()).await?;
        Ok(uploaded.version)
    }

    /// Runs this program against the node.
    async fn command(&self, arguments: &[&str]) -> Output {
        self.node.command(arguments).await
    }
}

/// The facts of a refusal that is as expected.
fn refused<T: Debug>(answer: Result<T, Error>, expected: &Refusal) -> Failure {
    let error = answer.expect_err("it is refused");
    let failure = error.failure().unwrap_or_else(|| panic!("not the node's word: {error:?}")).clone();
    let facts = (failure.code(), failure.reason(), failure.outcome());
    assert_eq!(facts, (expected.code, Some(expected.reason), expected.outcome), "{error}");
    assert!(failure.message().contains(expected.says), "{:?} lacks {:?}", failure.message(), expected.says);
    failure
}

/// The exit code and the standard error of a program.
fn complaint(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
