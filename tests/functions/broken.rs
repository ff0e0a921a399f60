//! Calls on many entries over connections that break: the client repeats them, and each entry is processed once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wattle::config::RawConfig;
use wattle_client::{
    Answer, Client, InvokeStream, InvokeSummary, Operation, Options, Outcome, PutOptions, RawMap, Responses,
    UploadOptions,
};

use crate::harness::TestNode;
use crate::harness::examples::{example, upload};
use crate::harness::proxy::Proxy;

/// Far more in one partition than a message tells of, and some in most others.
fn keys() -> Vec<String> {
    (0..2500).map(|n| format!("{{t}}{n}")).chain((0..300).map(|n| format!("k{n}"))).collect()
}

/// Less than a message for each of the partitions takes.
const GOOD_FOR: &[u64] = &[1 << 10, 2 << 10, 3 << 10];

/// A node with a counter at zero for each key, and its map as it is seen over connections that break.
async fn scene() -> (TestNode, Proxy, RawMap, RawMap) {
    let node = TestNode::start();
    let client = node.client().await;
    upload(&client, "counter", "add").await;
    let map = client.raw_map("m");
    let put = |key: String| Operation::Put { key: key.into(), value: "0".into(), options: PutOptions::new() };
    let filled = map.batch(keys().into_iter().map(put).collect()).await.unwrap();
    assert!(filled.iter().all(Result::is_ok));
    let proxy = Proxy::cutting(&node, GOOD_FOR).await;
    let broken = Client::connect(Options::new(proxy.endpoint()).connections(1)).await.unwrap().raw_map("m");
    (node, proxy, map, broken)
}

async fn check_counted_once(map: &RawMap, proxy: &Proxy) {
    assert_eq!(proxy.connections(), GOOD_FOR.len() + 1, "each of the first ones broke");
    let get = |key: String| Operation::Get { key: key.into() };
    let values = map.batch(keys().into_iter().map(get).collect()).await.unwrap();
    for (key, value) in keys().iter().zip(values) {
        let Ok(Answer::Value(Some(found))) = value else { panic!("{key}: {value:?}") };
        assert_eq!(found.value, "1", "{key}");
    }
}

#[tokio::test]
async fn a_call_on_all_entries_goes_on_when_its_connection_breaks() {
    let (_node, proxy, map, broken) = scene().await;
    let mut parts = broken.invoke_all("add", "", Responses::Collect).await.unwrap();
    let (mut summary, mut resumed) = (InvokeSummary::default(), false);
    while let Some(part) = parts.next().await.unwrap() {
        resumed |= part.resumed;
        summary.add(part);
    }
    let counts = (summary.processed, summary.failed, summary.complete, summary.errors.len());
    assert_eq!(counts, (keys().len() as u64, 0, summary.partitions, 0));
    assert!(resumed);
    check_counted_once(&map, &proxy).await;
}

#[tokio::test]
async fn a_call_on_keys_goes_on_when_its_connection_breaks() {
    let (_node, proxy, map, broken) = scene().await;
    let mut parts = broken.invoke_keys("add", keys(), "").await.unwrap();
    let mut answers = BTreeMap::new();
    while let Some(part) = parts.next().await.unwrap() {
        assert!(part.error.is_none() && part.failed == 0 && !part.resumed, "{part:?}");
        assert_eq!(part.processed, part.entries.len() as u64);
        for entry in part.entries {
            let before = answers.insert(entry.key, entry.response.unwrap());
            assert_eq!(before, None, "each key is answered once");
        }
    }
    assert_eq!(answers.len(), keys().len());
    assert!(answers.values().all(|response| response == "1"));
    check_counted_once(&map, &proxy).await;
}

/// Writes the same account for each key.
async fn fill(map: &RawMap, keys: &[String], balance: u64) {
    let account = format!(r#"{{"owner":"o","balance":{balance}}}"#);
    let entries = keys.iter().map(|key| (key.clone(), account.clone()));
    for written in map.put_many(entries, PutOptions::new()).await.unwrap() {
        written.unwrap();
    }
}

/// More than a stream takes that nobody reads (2 MiB), and less than the answers of 3000 long keys.
const MOST: &[u64] = &[3 << 20];

/// Takes one from accounts that are empty, over a connection that breaks; as soon as something is told, all are paid in 5.
async fn check_refusals_stand(partitions: u16) {
    let keys: Vec<String> = (0..3000).map(|n| format!("{n:01000}")).collect();
    let node = TestNode::with(RawConfig { partitions: Some(partitions), ..RawConfig::default() });
    let client = node.client().await;
    upload(&client, "debit", "debit").await;
    let map = client.raw_map("accounts");
    fill(&map, &keys, 0).await;
    let proxy = Proxy::cutting(&node, MOST).await;
    let broken = Client::connect(Options::new(proxy.endpoint()).connections(1)).await.unwrap();
    let mut parts = broken.raw_map("accounts").invoke_keys("debit", keys.clone(), "1").await.unwrap();
    let mut told: BTreeMap<Bytes, &str> = BTreeMap::new();
    while let Some(part) = parts.next().await.unwrap() {
        if told.is_empty() {
            fill(&map, &keys, 5).await;
        }
        for entry in part.entries {
            let balance = match entry.response.map_err(|error| error.outcome()) {
                Ok(left) => {
                    assert_eq!(left, "4");
                    r#"{"owner":"o","balance":4}"#
                }
                Err(outcome) => {
                    assert_eq!(outcome, Some(Outcome::NotApplied));
                    r#"{"owner":"o","balance":5}"#
                }
            };
            assert_eq!(told.insert(entry.key, balance), None, "each key is answered once");
        }
    }
    assert_eq!(proxy.connections(), MOST.len() + 1, "the first one broke");
    assert_eq!(told.len(), keys.len());
    let values = map.get_many(keys.clone()).await.unwrap();
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(value.unwrap().value, told[key.as_bytes()], "{}", key.trim_start_matches('0'));
    }
}

#[tokio::test]
async fn a_key_that_was_told_to_be_refused_is_not_run_when_the_call_is_repeated() {
    check_refusals_stand(271).await;
}

#[tokio::test]
async fn a_key_of_a_partition_that_was_not_complete_is_told_what_became_of_it_in_the_end() {
    check_refusals_stand(1).await;
}

/// A function that only reads, and fails for each entry, over a connection that breaks.
struct Failing {
    node: TestNode,
    proxy: Proxy,
    keys: Vec<String>,
    broken: RawMap,
}

async fn upload_export(client: &Client, package: &str, export: &str) {
    let options = UploadOptions::new().export(export);
    client.functions().upload("f", example(package), &options).await.unwrap();
}

impl Failing {
    async fn start(partitions: u16) -> Self {
        let keys: Vec<String> = (0..3000).map(|n| format!("{n:01000}")).collect();
        let node = TestNode::with(RawConfig { partitions: Some(partitions), ..RawConfig::default() });
        let client = node.client().await;
        upload_export(&client, "debit", "balance").await;
        let zeros = keys.iter().map(|key| (key.clone(), "0"));
        for written in client.raw_map("m").put_many(zeros, PutOptions::new()).await.unwrap() {
            written.unwrap();
        }
        let proxy = Proxy::cutting(&node, MOST).await;
        let broken = Client::connect(Options::new(proxy.endpoint()).connections(1)).await.unwrap();
        Self { broken: broken.raw_map("m"), node, proxy, keys }
    }

    /// As soon as something is told, the name stands for a function that writes.
    async fn check_nothing_is_written(self, mut parts: InvokeStream) {
        let client = self.node.client().await;
        let mut flipped = false;
        let mut told = BTreeSet::new();
        while let Some(part) = parts.next().await.unwrap() {
            if !flipped {
                upload_export(&client, "counter", "add").await;
                flipped = true;
            }
            assert_eq!((part.failed, part.error.is_none()), (part.processed, true));
            for entry in part.entries {
                assert_eq!(entry.response.unwrap_err().outcome(), Some(Outcome::NotApplied));
                told.insert(entry.key);
            }
        }
        assert_eq!(self.proxy.connections(), MOST.len() + 1, "the first one broke");
        assert_eq!(told.len(), self.keys.len());
        for value in client.raw_map("m").get_many(self.keys).await.unwrap() {
            assert_eq!(value.unwrap().value, "0");
        }
    }
}

#[tokio::test]
async fn a_call_on_all_entries_that_only_reads_goes_on_so_when_the_name_moves_on() {
    let failing = Failing::start(1).await;
    let parts = failing.broken.invoke_all("f", "", Responses::Collect).await.unwrap();
    failing.check_nothing_is_written(parts).await;
}

#[tokio::test]
async fn a_call_on_keys_that_only_reads_goes_on_so_when_the_name_moves_on() {
    let failing = Failing::start(271).await;
    let parts = failing.broken.invoke_keys("f", failing.keys.clone(), "").await.unwrap();
    failing.check_nothing_is_written(parts).await;
}
