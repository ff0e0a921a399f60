//! Per key, all calls behave as if they ran one after the other, in an order that agrees with real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use wattle_client::{Answer, Batch, Client, Error, Operation, PipelineOptions, PutOptions, RawMap};

use crate::harness::TestNode;
use crate::harness::examples::upload;

const TASKS: usize = 8;
const ROUNDS: usize = 60;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// Runs one task for each of several clients, every client with connections of its own.
async fn concurrently<F>(node: &TestNode, work: impl Fn(Client, usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        tasks.spawn(work(node.client().await, number));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task fails");
    }
}

async fn increments_by_calls(map: &RawMap) {
    let mut last = [0; KEYS.len()];
    for round in 0..ROUNDS {
        let key = round % KEYS.len();
        let counted = map.increment(KEYS[key], 1).await.unwrap();
        assert!(counted.value > last[key], "who has waited for an answer sees a later one");
        last[key] = counted.value;
    }
}

async fn increments_by_pipeline(client: &Client) {
    let pipeline = client.pipeline(PipelineOptions::default());
    let mut pending = Vec::new();
    let add = |round: usize| Operation::Increment { key: KEYS[round % KEYS.len()].into(), delta: 1 };
    for chunk in (0..ROUNDS).collect::<Vec<_>>().chunks(5) {
        let operations: Vec<_> = chunk.iter().map(|round| add(*round)).collect();
        pending.push(pipeline.submit(Batch::new("m", &operations).unwrap()).await.unwrap());
    }
    for answers in pending {
        for answer in answers.await.unwrap().answers() {
            assert!(matches!(answer.unwrap(), Answer::Incremented(_)));
        }
    }
    pipeline.close().await;
}

#[tokio::test]
async fn increments_of_many_connections_add_up_exactly() {
    let node = TestNode::start();
    concurrently(&node, |client, number| async move {
        if number % 2 == 0 {
            increments_by_calls(&client.raw_map("m")).await;
        } else {
            increments_by_pipeline(&client).await;
        }
    })
    .await;
    let map = node.client().await.raw_map("m");
    let each = TASKS * ROUNDS / KEYS.len();
    for key in KEYS {
        assert_eq!(map.get(key).await.unwrap().unwrap().value, each.to_string());
    }
}

/// Adds one by compare-and-set; how often it succeeded.
async fn set_if_unchanged(map: &RawMap, key: &'static str) -> u64 {
    let mut applied = 0;
    let mut newest = 0;
    for _ in 0..ROUNDS {
        let entry = map.get(key).await.unwrap().unwrap();
        assert!(entry.version >= newest, "versions rise");
        let next: u64 = std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap() + 1;
        let unchanged = PutOptions::new().if_version(entry.version);
        match map.put_with(key, next.to_string(), unchanged).await {
            Ok(version) => {
                assert!(version > entry.version);
                newest = version;
                applied += 1;
            }
            Err(Error::VersionMismatch { current, .. }) => newest = current.expect("it says which is there"),
            Err(error) => panic!("{error}"),
        }
    }
    applied
}

#[tokio::test]
async fn compare_and_set_loses_no_update() {
    let node = TestNode::start();
    let map = node.client().await.raw_map("m");
    for key in KEYS {
        map.put(key, "0").await.unwrap();
    }
    let applied: Arc<[AtomicU64; KEYS.len()]> = Arc::default();
    concurrently(&node, |client, number| {
        let applied = Arc::clone(&applied);
        async move {
            let key = number % KEYS.len();
            let successes = set_if_unchanged(&client.raw_map("m"), KEYS[key]).await;
            applied[key].fetch_add(successes, Ordering::Relaxed);
        }
    })
    .await;
    for (key, applied) in KEYS.into_iter().zip(applied.iter()) {
        let applied = applied.load(Ordering::Relaxed);
        assert!(applied >= ROUNDS as u64, "one of the contenders always succeeds");
        assert_eq!(map.get(key).await.unwrap().unwrap().value, applied.to_string());
    }
}

#[tokio::test]
async fn processors_and_increments_on_one_key_add_up_exactly() {
    let node = TestNode::start();
    upload(&node.client().await, "counter", "add").await;
    // In the partition of "a".
    let before = node.client().await.raw_map("m").put("{a}", "").await.unwrap();
    concurrently(&node, |client, number| async move {
        let map = client.raw_map("m");
        for _ in 0..ROUNDS {
            if number % 2 == 0 {
                map.invoke("add", "a", "").await.unwrap();
            } else {
                map.increment("a", 1).await.unwrap();
            }
        }
    })
    .await;
    let map = node.client().await.raw_map("m");
    let entry = map.get("a").await.unwrap().unwrap();
    assert_eq!(entry.value, (TASKS * ROUNDS).to_string());
    assert_eq!(
        entry.version - before,
        (TASKS * ROUNDS) as u64,
        "every change has a version of its own, and no other"
    );
}

/// The values that were the first of their keys.
async fn put_what_is_absent(map: &RawMap, number: usize) -> Vec<String> {
    let mut won = Vec::new();
    for round in 0..ROUNDS {
        let value = format!("{round} {number}");
        match map.put_with(format!("k{round}"), value.clone(), PutOptions::new().if_absent()).await {
            Ok(_) => won.push(value),
            Err(Error::AlreadyExists(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    won
}

#[tokio::test]
async fn put_if_absent_has_one_winner() {
    let node = TestNode::start();
    let winners: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
    concurrently(&node, |client, number| {
        let winners = Arc::clone(&winners);
        async move {
            let won = put_what_is_absent(&client.raw_map("m"), number).await;
            winners.lock().extend(won);
        }
    })
    .await;
    let map = node.client().await.raw_map("m");
    let winners = std::mem::take(&mut *winners.lock());
    assert_eq!(winners.len(), ROUNDS);
    for value in winners {
        let round = value.split(' ').next().unwrap();
        assert_eq!(map.get(format!("k{round}")).await.unwrap().unwrap().value, value);
    }
}
