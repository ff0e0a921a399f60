//! Connections that say nothing, and more of them than a node has files for.

use std::collections::HashMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wattle::config::RawConfig;
use wattle_client::{Client, UploadOptions};
use wattle_core::limits::{
    CONNECTION_CALLS, CONNECTIONS, CONNECTIONS_MIN, FILES_RESERVED_SHARE, FIRST_BYTES_TIME,
};

use super::Scene;
use crate::harness::guest::Guest;
use crate::harness::process::ProcessNode;
use crate::harness::wire::{eventually, get};

/// Waits until the node has closed a connection.
async fn closed(stream: &mut TcpStream) {
    // It may greet with its settings before. A reset is an end, too.
    let mut greeting = Vec::new();
    let end = timeout(4 * FIRST_BYTES_TIME, stream.read_to_end(&mut greeting)).await;
    drop(end.expect("the node closes it"));
}

#[tokio::test]
async fn connections_that_do_not_say_what_they_speak_are_closed() {
    let probes = RawConfig { http_listen: "127.0.0.1:0".parse().ok(), ..RawConfig::default() };
    let scene = Scene::with(probes).await;
    let api = scene.node.endpoint().trim_start_matches("http://").to_owned();
    for address in [api, scene.node.http_address()] {
        let mut silent = TcpStream::connect(&address).await.unwrap();
        let mut halting = TcpStream::connect(&address).await.unwrap();
        halting.write_all(b"PRI * HTTP/2.0").await.unwrap();
        tokio::join!(closed(&mut silent), closed(&mut halting));
    }
    // The client has been silent for longer than that, too.
    scene.check_unharmed().await;
}

async fn metrics(address: &str) -> Vec<u8> {
    get(address, "/metrics").await
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let scene = Scene::start().await;
    let api = scene.node.endpoint().trim_start_matches("http://").to_owned();
    for path in ["/", "/healthz", "/metric", "/wattle.v1.NoService/Call"] {
        let answer = get(&api, path).await;
        assert!(answer.starts_with(b"HTTP/1.1 404 "), "{path}: {}", String::from_utf8_lossy(&answer));
    }
    assert!(get(&api, "/readyz").await.starts_with(b"HTTP/1.1 200 "));
    scene.check_unharmed().await;
}

#[tokio::test]
async fn metrics_move_to_the_port_of_their_own() {
    let apart = RawConfig { http_listen: "127.0.0.1:0".parse().ok(), ..RawConfig::default() };
    let scene = Scene::with(apart).await;
    assert!(metrics(&scene.node.http_address()).await.starts_with(b"HTTP/1.1 200 OK"));
    let answer = metrics(scene.node.endpoint().trim_start_matches("http://")).await;
    assert!(!answer.starts_with(b"HTTP/1"), "{}", String::from_utf8_lossy(&answer));
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_node_with_little_memory_takes_few_connections() {
    let little = RawConfig { memory_bytes: Some(32 << 20), ..RawConfig::default() };
    let scene = Scene::with(little).await;
    let address = scene.node.endpoint().trim_start_matches("http://").to_owned();
    let mut open = Vec::new();
    // The client has some already: so the last is too much, and gets to know it at once.
    for _ in 0..CONNECTIONS_MIN {
        open.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut last = open.pop().unwrap();
    let read = timeout(FIRST_BYTES_TIME / 2, last.read(&mut [0])).await.expect("it is refused at once");
    assert_eq!(read.unwrap_or(0), 0);
    drop(open);
    scene.check_unharmed().await;
}

#[tokio::test]
async fn connections_past_the_limit_are_refused_and_what_is_open_goes_on() {
    const FILES: u64 = 120;
    let node = ProcessNode::start().await;
    let client = node.client().await;
    let map = client.raw_map("m");
    map.put("k", "v").await.unwrap();
    node.limit_open_files(FILES);
    let limit = usize::try_from(FILES - FILES / FILES_RESERVED_SHARE).unwrap();
    assert!(limit < CONNECTIONS);
    let mut silent = Vec::new();
    for _ in 0..limit {
        silent.push(TcpStream::connect(node.address()).await.unwrap());
    }
    // The client has some of them already: so the last is too much, and gets to know it at once.
    let mut last = silent.pop().unwrap();
    let read = timeout(FIRST_BYTES_TIME / 2, last.read(&mut [0])).await.expect("it is refused at once");
    assert_eq!(read.unwrap_or(0), 0);
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "v");
    let options = UploadOptions::new();
    client.functions().upload("count", Guest::counter().module(), &options).await.unwrap();
    map.invoke("count", "k", "").await.unwrap();
    // The silent ones make room by and by.
    let another =
        eventually(async || Client::connect(format!("http://{}", node.address()).as_str()).await.ok()).await;
    assert_eq!(another.raw_map("m").size().await.unwrap(), 1);
    drop(silent);
    node.stop().await;
}

/// The settings that a node greets an HTTP/2 connection with, by their numbers.
async fn settings(address: &str) -> HashMap<u16, u32> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    let [0, 0, length, 4, ..] = header else { panic!("no settings: {header:?}") };
    let mut payload = vec![0; length.into()];
    stream.read_exact(&mut payload).await.unwrap();
    let setting = |pair: &[u8]| {
        let (number, value) = pair.split_at(2);
        (u16::from_be_bytes(number.try_into().unwrap()), u32::from_be_bytes(value.try_into().unwrap()))
    };
    payload.chunks(6).map(setting).collect()
}

#[tokio::test]
async fn a_connection_has_so_many_calls_at_a_time() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let scene = Scene::start().await;
    let settings = settings(scene.node.endpoint().trim_start_matches("http://")).await;
    assert_eq!(settings.get(&MAX_CONCURRENT_STREAMS), Some(&CONNECTION_CALLS), "{settings:?}");
    scene.check_unharmed().await;
}
