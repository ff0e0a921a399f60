//! What the command line does when nobody takes its output, or when there is no room for it.

use std::fs::File;
use std::process::{Output, Stdio};

use wattle_client::{ContentType, MapOptions, RawMap, UploadOptions};
use wattle_core::limits::CPU_BUDGET_MAX;

use super::{KEY, MAP, Scene, complaint};
use crate::harness::examples::slow_counter;

const ENTRIES: usize = 60;
const CALL: [&str; 5] = ["invoke", "count", "--map", "counters", "--all"];

/// A standard output that fails at once: a pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A standard output that fails at once: a full disk.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

impl Scene {
    async fn command_into(&self, stdout: Stdio, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_wattle"));
        command.args(arguments).args(["--endpoint", &self.node.endpoint()]).kill_on_drop(true);
        command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().await.unwrap()
    }

    /// Entries that a function counts up, slowly.
    async fn counters(&self) -> RawMap {
        let options = UploadOptions::new().cpu_budget(CPU_BUDGET_MAX);
        self.client.functions().upload("count", slow_counter().module(), &options).await.unwrap();
        let map = self.client.raw_map("counters");
        for n in 0..ENTRIES {
            map.put(n.to_string(), 0_u64.to_le_bytes().to_vec()).await.unwrap();
        }
        map
    }
}

/// The complaint of a command that may take long enough to tell of its progress.
fn complaint_of_slow(output: &Output) -> (Option<i32>, String) {
    let (code, text) = complaint(output);
    (code, text.split_inclusive('\n').filter(|line| !line.ends_with("/s\n")).collect())
}

async fn check_all_counted(map: &RawMap) {
    for n in 0..ENTRIES {
        let entry = map.get(n.to_string()).await.unwrap().unwrap();
        assert_eq!(entry.value.as_ref(), 1_u64.to_le_bytes(), "{n}");
    }
}

#[tokio::test]
async fn a_call_whose_output_is_closed_goes_on_to_its_end() {
    let scene = Scene::start().await;
    let counters = scene.counters().await;
    let output = scene.command_into(closed(), &[&CALL[..], &["--responses"]].concat()).await;
    assert_eq!(complaint_of_slow(&output), (Some(0), String::new()));
    check_all_counted(&counters).await;
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_call_whose_output_finds_no_room_goes_on_and_tells_what_became_of_the_entries() {
    let scene = Scene::start().await;
    let counters = scene.counters().await;
    let output = scene.command_into(full(), &[&CALL[..], &["--responses"]].concat()).await;
    let expected = "error: the output could not be written: No space left on device (os error 28); \
                    the call went on to its end: 60 entries processed, 271 of 271 partitions complete\n";
    assert_eq!(complaint_of_slow(&output), (Some(1), expected.to_owned()));
    check_all_counted(&counters).await;
    scene.check_unharmed().await;
}

#[tokio::test]
async fn an_answer_that_finds_no_room_comes_after_the_change() {
    let scene = Scene::start().await;
    let expected = "error: the output could not be written: No space left on device (os error 28)
hint: what the command was to change, it has changed: only its answer is missing\n";
    let output = scene.command_into(full(), &["map", "put", "new", "key", "value"]).await;
    assert_eq!(complaint(&output), (Some(1), expected.to_owned()));
    assert_eq!(scene.client.raw_map("new").get("key").await.unwrap().unwrap().value, "value");
    let output = scene.command_into(full(), &["map", "get", MAP, KEY, "--raw"]).await;
    assert_eq!(complaint(&output), (Some(1), expected.to_owned()));
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_error() {
    let scene = Scene::start().await;
    let export = |format| ["map", "export", "objects", "-", "--format", format];
    let json = MapOptions::new().content_type(ContentType::Json);
    scene.client.maps().create("objects", &json).await.unwrap();
    // More than buffers hold.
    let object = format!(r#"{{"a": "{}"}}"#, "a".repeat(100_000));
    scene.client.raw_map("objects").put("key", object).await.unwrap();
    let commands: [&[&str]; 4] =
        [&["map", "list"], &["map", "get", MAP, KEY, "--raw"], &export("csv"), &export("ndjson")];
    for command in commands {
        assert_eq!(complaint(&scene.command_into(closed(), command).await), (Some(0), String::new()));
    }
    let mut completions = tokio::process::Command::new(env!("CARGO_BIN_EXE_wattle"));
    completions.args(["completions", "bash"]).stdout(closed()).stderr(Stdio::piped());
    let output = completions.spawn().unwrap().wait_with_output().await.unwrap();
    assert_eq!(complaint(&output), (Some(0), String::new()));
    scene.check_unharmed().await;
}
