//! The Rust client in a grid of several nodes: the table that it goes by, and a load that goes on while a node dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wattle_client::{
    Answer, Batch, Client, Operation, Options, Pipeline, PipelineOptions, PutOptions, RawMap, Responses,
    UploadOptions,
};
use wattle_core::partition::partition_of;
use wattle_proto::v1;
use wattle_proto::v1::grid_service_client::GridServiceClient;

use crate::harness::TestNode;
use crate::harness::examples::example;
use crate::harness::grid::{PARTITIONS, address, joined_to, processes, three};
use crate::harness::wire::eventually;

fn keys() -> impl Iterator<Item = String> {
    (0..100).map(|n| format!("k{n}"))
}

#[tokio::test]
async fn the_table_is_told_at_once_and_when_it_has_changed() {
    let nodes = three().await;
    let mut grid = GridServiceClient::connect(nodes[1].endpoint()).await.unwrap();
    let mut tables = grid.watch_table(v1::WatchTableRequest {}).await.unwrap().into_inner();
    let table = tables.message().await.unwrap().unwrap();
    let addresses: BTreeMap<u64, &str> =
        table.members.iter().map(|member| (member.node, member.address.as_str())).collect();
    let served: Vec<String> = nodes.iter().map(address).collect();
    assert_eq!(addresses.values().copied().collect::<Vec<_>>(), served);
    assert_eq!(addresses[&table.node], served[1], "who tells says who it is");
    let partitions = nodes[2].client().await.partitions().await.unwrap();
    let listed: Vec<u64> = partitions.partitions.iter().map(|partition| partition.primary.unwrap()).collect();
    assert_eq!(table.classes, [v1::ClassTable { class: 0, primaries: listed }]);
    let _fourth = joined_to(&nodes[0]);
    let mut last = table.clone();
    while last.members.len() < 4
        || last.classes[0].primaries.iter().all(|primary| addresses.contains_key(primary))
    {
        let next = tables.message().await.unwrap().unwrap();
        assert!(next.version > last.version);
        let without_version =
            |table: &v1::WatchTableResponse| v1::WatchTableResponse { version: 0, ..table.clone() };
        assert_ne!(without_version(&next), without_version(&last), "it says something new");
        last = next;
    }
}

/// How many gets all nodes have counted: one that is sent on is counted twice.
async fn gets(nodes: &[TestNode]) -> u64 {
    let mut sum = 0;
    for node in nodes {
        sum += node.metric(GETS).await;
    }
    sum
}

const GETS: &str = "wattle_map_operations_total{map=\"m\",operation=\"get\"}";

#[tokio::test]
async fn calls_on_keys_go_straight_to_the_primary() {
    let nodes = three().await;
    let client = nodes[0].client().await;
    let map = client.raw_map("m");
    for key in keys() {
        map.put(key.clone(), key).await.unwrap();
    }
    let read_all = async |client: &Client| {
        let before = gets(&nodes).await;
        for key in keys() {
            assert_eq!(client.raw_map("m").get(key.clone()).await.unwrap().unwrap().value, key);
        }
        gets(&nodes).await - before
    };
    // As soon as all members are connected.
    eventually(async || (read_all(&client).await == 100).then_some(())).await;
    let endpoint = Options::new(nodes[0].endpoint()).endpoints_only();
    let elsewhere = Client::connect(endpoint).await.unwrap();
    let partitions = elsewhere.partitions().await.unwrap().partitions;
    let sent_on = keys().filter(|key| {
        let place = usize::from(partition_of(key.as_bytes(), PARTITIONS));
        partitions[place].primary != Some(1)
    });
    assert_eq!(read_all(&elsewhere).await, 100 + sent_on.count() as u64);
}

#[tokio::test]
async fn operations_of_batches_and_pipelines_go_straight_to_the_primary_in_their_order() {
    let nodes = three().await;
    let client = nodes[0].client().await;
    let pipeline = client.pipeline(PipelineOptions::new());
    let operations =
        |of: fn(Bytes) -> Operation| keys().map(|key| of(key.into())).collect::<Vec<Operation>>();
    let increments = operations(|key| Operation::Increment { key, delta: 1 });
    let reads = operations(|key| Operation::Get { key });
    // Until all nodes have heard of the map, writes wait for that, and overtake one another.
    check_increments(client.raw_map("m").batch(increments.clone()).await.unwrap().into_iter(), 1);
    // Each is counted once: by who decides.
    eventually(async || {
        let before = gets(&nodes).await;
        let answers = pipeline.submit(Batch::new("m", &reads).unwrap()).await.unwrap().await.unwrap();
        assert!(answers.answers().all(|answer| answer.is_ok()));
        (gets(&nodes).await - before == 100).then_some(())
    })
    .await;
    let mut pending = Vec::new();
    for _ in 0..100 {
        pending.push(pipeline.submit(Batch::new("m", &increments).unwrap()).await.unwrap());
    }
    for (round, pending) in (2..).zip(pending) {
        check_increments(pending.await.unwrap().answers(), round);
    }
    let before = gets(&nodes).await;
    let answers = client.raw_map("m").batch(reads.clone()).await.unwrap();
    assert_eq!((answers.len(), gets(&nodes).await - before), (100, 100));
    pipeline.close().await;
}

const WRITER_KEYS: usize = 8;
/// At once in a pipeline.
const PIPED_BATCHES: u64 = 3;
/// A failover of a busy machine is slower than that of an idle one.
const PATIENCE: Duration = Duration::from_secs(90);
const DEADLINE: Duration = Duration::from_secs(20);

/// Somebody who works until told to stop, and how often it has.
struct Worker {
    rounds: watch::Receiver<u64>,
    work: JoinHandle<()>,
}

/// Does rounds of work, numbered from 1, one after the other.
fn start<F>(stop: &Arc<AtomicBool>, work: impl Fn(u64) -> F + Send + 'static) -> Worker
where
    F: Future<Output = ()> + Send,
{
    let (done, rounds) = watch::channel(0);
    let stop = Arc::clone(stop);
    let work = tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let round = *done.borrow() + 1;
            work(round).await;
            done.send_replace(round);
        }
    });
    Worker { rounds, work }
}

/// Waits until each has done so many rounds more, or has failed.
async fn more(workers: &mut [Worker], rounds: u64) {
    let until: Vec<u64> = workers.iter().map(|worker| *worker.rounds.borrow() + rounds).collect();
    let all = async {
        for (worker, until) in workers.iter_mut().zip(until) {
            worker.rounds.wait_for(|rounds| *rounds >= until).await.ok();
        }
    };
    timeout(PATIENCE, all).await.expect("the work goes on");
}

fn writer_keys() -> impl Iterator<Item = String> {
    (0..WRITER_KEYS).map(|n| format!("w{n}"))
}

fn increments() -> Vec<Operation> {
    writer_keys().map(|key| Operation::Increment { key: key.into(), delta: 1 }).collect()
}

fn check_increments(answers: impl Iterator<Item = Result<Answer, wattle_client::Error>>, round: u64) {
    for answer in answers {
        let Ok(Answer::Incremented(incremented)) = answer else { panic!("{answer:?}") };
        assert_eq!(incremented.value, i64::try_from(round).unwrap(), "each took effect once");
    }
}

async fn put(map: RawMap, round: u64) {
    for key in writer_keys() {
        map.put(key, round.to_string()).await.unwrap();
    }
}

async fn increment(map: RawMap, round: u64) {
    for key in writer_keys() {
        assert_eq!(map.increment(key, 1).await.unwrap().value, i64::try_from(round).unwrap());
    }
}

async fn invoke(map: RawMap, round: u64) {
    for key in writer_keys() {
        assert_eq!(map.invoke("add", key, "1").await.unwrap().response, round.to_string());
    }
}

async fn batch(map: RawMap, round: u64) {
    check_increments(map.batch(increments()).await.unwrap().into_iter(), round);
}

async fn pipeline(client: Client, round: u64) {
    let pipeline = client.pipeline(PipelineOptions::new());
    let batch = Batch::new("pipelined", &increments()).unwrap();
    check_increments(pipeline.submit(batch).await.unwrap().await.unwrap().answers(), round);
    pipeline.close().await;
}

/// Several batches at once in a pipeline that lasts. What has to be sent again may come behind what was submitted later.
async fn piped(pipeline: Arc<Pipeline>, round: u64) {
    let mut pending = Vec::new();
    for _ in 0..PIPED_BATCHES {
        pending.push(pipeline.submit(Batch::new("piped", &increments()).unwrap()).await.unwrap());
    }
    let mut values = vec![BTreeSet::new(); WRITER_KEYS];
    for pending in pending {
        for (values, answer) in values.iter_mut().zip(pending.await.unwrap().answers()) {
            let Ok(Answer::Incremented(incremented)) = answer else { panic!("{answer:?}") };
            values.insert(u64::try_from(incremented.value).unwrap());
        }
    }
    let expected: BTreeSet<u64> = ((round - 1) * PIPED_BATCHES + 1..=round * PIPED_BATCHES).collect();
    assert!(values.iter().all(|values| *values == expected), "each took effect once: {values:?}");
}

async fn invoke_keys(map: RawMap) {
    let summary = map.invoke_keys("add", writer_keys(), "1").await.unwrap().finish().await.unwrap();
    assert_eq!(
        (summary.processed, summary.failed, summary.errors.len()),
        (WRITER_KEYS as u64, 0, 0),
        "{summary:?}"
    );
}

async fn invoke_all(map: RawMap) {
    let summary = map.invoke_all("add", "1", Responses::Discard).await.unwrap().finish().await.unwrap();
    assert_eq!((summary.processed, summary.failed, summary.errors.len()), (100, 0, 0), "{summary:?}");
    assert_eq!(summary.complete, summary.partitions);
}

fn all_kinds_of_work(client: &Client, stop: &Arc<AtomicBool>) -> Vec<(&'static str, Worker)> {
    let on = |name: &'static str| client.raw_map(name);
    let (put_map, incremented, invoked) = (on("put"), on("incremented"), on("invoked"));
    let (batched, keyed, all, piping) = (on("batched"), on("keyed"), on("all"), client.clone());
    let lasting = Arc::new(client.pipeline(PipelineOptions::new()));
    vec![
        ("put", start(stop, move |round| put(put_map.clone(), round))),
        ("incremented", start(stop, move |round| increment(incremented.clone(), round))),
        ("invoked", start(stop, move |round| invoke(invoked.clone(), round))),
        ("batched", start(stop, move |round| batch(batched.clone(), round))),
        ("pipelined", start(stop, move |round| pipeline(piping.clone(), round))),
        ("piped", start(stop, move |round| piped(Arc::clone(&lasting), round))),
        ("keyed", start(stop, move |_| invoke_keys(keyed.clone()))),
        ("all", start(stop, move |_| invoke_all(all.clone()))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_and_each_takes_effect_once_when_a_node_is_killed() {
    let [first, second, third] = processes().await;
    let url = |address: &str| format!("http://{address}");
    let options = Options::new(url(first.address())).endpoint(url(second.address()));
    let options = options.endpoint(url(third.address())).timeout(DEADLINE);
    let client = Client::connect(options).await.unwrap();
    let upload = UploadOptions::new().export("add");
    client.functions().upload("add", example("counter"), &upload).await.unwrap();
    for key in keys() {
        client.raw_map("all").put_with(key, "0", PutOptions::new()).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (names, mut workers): (Vec<_>, Vec<_>) = all_kinds_of_work(&client, &stop).into_iter().unzip();
    more(&mut workers, 3).await;
    first.kill().await;
    more(&mut workers, 5).await;
    stop.store(true, Ordering::Relaxed);
    let checked = third.client().await;
    for (name, worker) in names.into_iter().zip(workers) {
        worker.work.await.unwrap_or_else(|panic| panic!("{name}: {panic}"));
        let rounds = *worker.rounds.borrow();
        let keys: Vec<String> = if name == "all" { keys().collect() } else { writer_keys().collect() };
        for key in keys {
            let found = checked.raw_map(name).get(key.clone()).await.unwrap().unwrap().value;
            let times = if name == "piped" { PIPED_BATCHES } else { 1 };
            assert_eq!(found, (rounds * times).to_string(), "{name} {key}");
        }
    }
    second.stop().await;
    third.stop().await;
}
