//! What the command line says when a call does not succeed.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use wattle_core::limits::BREAKER_STOPS;

use super::{KEY, MAP, Scene, complaint, text};
use crate::harness::examples::example;
use crate::harness::guest::Guest;

/// Refuses its entry with the guest SDK's code for an argument that cannot be read, and says `xxxx`.
const UNREADABLE: &str = "
  (i32.store (i32.const 4096) (i32.const 0x78787878))
  (i32.store8 (i32.const 2048) (i32.const 1))
  (i32.store offset=8 (i32.const 2048) (i32.const 0xffff0002))
  (i32.store offset=12 (i32.const 2048) (i32.const 4096))
  (i32.store offset=16 (i32.const 2048) (i32.const 4))
  (i32.const 2048)";

#[tokio::test]
async fn of_all_entries_that_failed_people_are_shown_ten() {
    let scene = Scene::start().await;
    scene.upload("refusing", &Guest::simple(UNREADABLE)).await.unwrap();
    for n in 0..12 {
        scene.client.raw_map("many").put(n.to_string(), "0").await.unwrap();
    }
    let invoke = ["invoke", "refusing", "--map", "many", "--all"];
    let output = scene.command(&invoke).await;
    let (code, said) = complaint(&output);
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("the function failed for 12 of 12 entries"), "{said}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 12, "{shown}");
    assert!(lines[..10].iter().all(|line| line.ends_with("\terror: the function failed: xxxx")), "{shown}");
    let last = ["… and 2 more", "0 entries processed, 12 failed, 271 of 271 partitions complete"];
    assert_eq!(lines[10..], last);
    for more in [&["--responses"][..], &["--output", "json"]] {
        let output = scene.command(&[&invoke[..], more].concat()).await;
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(shown.matches("the function failed: xxxx").count(), 12, "{shown}");
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn what_the_guest_sdk_could_not_read_comes_with_a_hint_and_no_number() {
    let scene = Scene::start().await;
    let value = UNREADABLE.replace("0xffff0002", "0xffff0001");
    for (function, refusing, hint) in [
        ("argument", UNREADABLE, "where JSON is expected, text is typed with its quotes, as in '\"alice\"'"),
        ("value", &value, "the entry is not what this function keeps: is it the right map?"),
    ] {
        scene.upload(function, &Guest::simple(refusing)).await.unwrap();
        let output = scene.command(&["invoke", function, "--map", MAP, "--key", KEY]).await;
        let expected = format!("error: the function failed: xxxx\nhint: {hint}\n");
        assert_eq!(complaint(&output), (Some(6), expected));
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_map_that_is_there_comes_with_what_can_change_about_it() {
    let scene = Scene::start().await;
    let output = scene.command(&["map", "create", MAP, "--content-type", "json"]).await;
    let expected = "error: there is a map before already
hint: `wattle map update` changes --ttl, --max-idle, --max-bytes and --eviction; the rest is for life\n";
    assert_eq!(complaint(&output), (Some(4), expected.to_owned()));
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_module_of_several_functions_comes_with_the_flag_that_names_one() {
    let scene = Scene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counter.wasm");
    std::fs::write(&file, example("counter")).unwrap();
    let upload = ["function", "upload", "f", text(&file)];
    for arguments in [&upload[..], &[&upload[..], &["--export", "none"]].concat()] {
        let (code, said) = complaint(&scene.command(arguments).await);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("\"add\"") && said.contains("hint: --export NAME says which"), "{said}");
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_suspension_is_told_once_with_what_lifts_it() {
    let scene = Scene::start().await;
    scene.upload("bad", &Guest::doing("(unreachable)")).await.unwrap();
    for _ in 0..BREAKER_STOPS {
        scene.map.invoke("bad", KEY, "").await.unwrap_err();
    }
    let output = scene.command(&["invoke", "bad", "--map", MAP, "--key", KEY]).await;
    let expected = "error: function bad is suspended: it was stopped too often; \
                    `wattle function promote bad` lifts this, as does another module\n";
    assert_eq!(complaint(&output), (Some(6), expected.to_owned()));
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_map_that_is_not_there_is_told_of_once() {
    let scene = Scene::start().await;
    let expected = "error: there is no map none; a write creates it, or `wattle map create none`
hint: `wattle map list` shows the maps there are\n";
    let output = scene.command(&["map", "get", "none", "key"]).await;
    assert_eq!(complaint(&output), (Some(3), expected.to_owned()));
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_node_that_goes_away_under_a_watch_is_named() {
    let scene = Scene::start().await;
    let endpoint = scene.node.endpoint();
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_wattle"));
    watch.args(["map", "watch", MAP, "--output", "json", "--timeout", "1s", "--endpoint", &endpoint]);
    watch.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().expect("a watch begins with a token");
    assert!(first.contains("token"), "{first}");
    scene.stop().await;
    let mut said = String::new();
    watch.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(watch.wait().await.unwrap().code(), Some(5), "{said}");
    assert!(said.starts_with(&format!("error: no connection to {endpoint}: ")), "{said}");
    assert!(said.contains(&format!("hint: is a node running at {endpoint}?")), "{said}");
}
