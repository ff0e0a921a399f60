//! `wattle bench`: a load generator that keeps a fixed number of messages in flight.
//!
//! It counts operations, not messages; the time of an operation is that of the message that carried it. Keys are drawn
//! uniformly. CPU time is that of whole processes, from the first operation to the last.

mod cpu;
mod load;
mod operations;
mod progress;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use wattle_client::{Client, ContentType, Error, MapOptions, partition_of};

use super::output;
use super::quantity::duration;
use super::remote::{Format, Remote};
use load::Measured;
use operations::{Keys, Operations, key};
use progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
The entries are written first, unless the map has them. invoke runs --function on keys of a
map of its own. Ctrl-C ends it early: it prints what was measured until then. JSON output:
per_second, p50_us, p99_us, p999_us, max_us, longest_gap_us (the longest time without any
answer), and client_cpu_us and server_cpu_us, which are CPU time for one operation.")]
pub(super) struct Bench {
    /// What to do
    #[arg(value_enum)]
    operation: Kind,
    /// The map to work on
    #[arg(long)]
    map: Option<String>,
    /// The function that invoke runs
    #[arg(long, default_value = "add")]
    function: String,
    /// What the function is given
    #[arg(long, default_value = "1")]
    argument: String,
    /// Messages in flight
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: u32,
    /// Operations in one message: 1 is a call for each, more is a pipeline
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// How many keys there are
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_bytes: u32,
    /// How long to measure
    #[arg(long, value_parser = duration, default_value = "5s", value_name = "DURATION")]
    duration: Duration,
    /// Only keys that this node decides about as it begins, of a map with one backup
    #[arg(long, value_name = "NUMBER")]
    of_node: Option<u64>,
    /// Measure the CPU time of these processes too, as a sum
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    server_pid: Vec<u32>,
}

/// The class of maps with one backup.
const CLASS: u32 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Get,
    Put,
    Invoke,
}

impl Bench {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        remote.block_on(self.bench(remote))
    }

    async fn bench(&self, remote: &Remote) -> anyhow::Result<()> {
        let connections = self.connections as usize;
        let client = remote.connect_with(|options| options.connections(connections)).await?;
        let operations = self.operations(Keys::Below(self.keys));
        prepare(&client, &operations, self.keys).await?;
        let operations = match self.of_node {
            None => operations,
            Some(node) => self.operations(keys_of(node, &client, self.keys).await?),
        };
        let server = self.server_cpu()?;
        let own = cpu::own();
        let measured = self.measure(&client, &operations).await?;
        let client_cpu = cpu::own().saturating_sub(own);
        let server_cpu = match server {
            Some(before) => self.server_cpu()?.map(|now| now.saturating_sub(before)),
            None => None,
        };
        Ok(print(remote.output, &measured, client_cpu, server_cpu)?)
    }

    fn server_cpu(&self) -> anyhow::Result<Option<Duration>> {
        let used = self.server_pid.iter().map(|&pid| cpu::of_process(pid));
        let used = used.collect::<anyhow::Result<Vec<_>>>()?;
        Ok((!used.is_empty()).then(|| used.iter().sum()))
    }

    fn operations(&self, keys: Keys) -> Operations {
        let default = if self.operation == Kind::Invoke { "bench-counters" } else { "bench" };
        Operations {
            kind: self.operation,
            map: self.map.clone().unwrap_or_else(|| default.to_owned()),
            function: self.function.clone(),
            argument: self.argument.clone().into(),
            keys,
            value: vec![b'x'; self.value_bytes as usize].into(),
        }
    }

    async fn measure(&self, client: &Client, operations: &Operations) -> anyhow::Result<Measured> {
        let in_flight = self.in_flight as usize;
        let progress = Progress::begin(self.duration);
        let load = async {
            if self.batch == 1 {
                return load::unary(client, operations, in_flight, &progress).await;
            }
            let shape = load::PipelineShape {
                pipelines: self.connections as usize,
                in_flight,
                batch: self.batch as usize,
            };
            load::pipelined(client, operations, shape, &progress).await
        };
        tokio::select! {
            measured = load => measured,
            broken_off = progress.watch_interrupts() => match broken_off? {},
        }
    }
}

fn print(
    format: Format,
    measured: &Measured,
    client: Duration,
    server: Option<Duration>,
) -> std::io::Result<()> {
    let count = measured.operations.max(1) as f64;
    let each = |cpu: Duration| (cpu.as_secs_f64() * 1e6 / count * 1000.0).round() / 1000.0;
    let per_second = (measured.operations as f64 / measured.elapsed.as_secs_f64()).round();
    let quantile = |quantile: f64| measured.latency.value_at_quantile(quantile);
    match format {
        Format::Json => output::json(&json!({
            "operations": measured.operations,
            "seconds": measured.elapsed.as_secs_f64(),
            "per_second": per_second,
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "max_us": measured.latency.max(),
            "longest_gap_us": u64::try_from(measured.longest_gap.as_micros()).unwrap_or(u64::MAX),
            "client_cpu_us": each(client),
            "server_cpu_us": server.map(each),
        })),
        Format::Table => output::facts([
            ("operations", measured.operations.to_string()),
            ("per second", per_second.to_string()),
            ("p50", format!("{} µs", quantile(0.5))),
            ("p99", format!("{} µs", quantile(0.99))),
            ("p99.9", format!("{} µs", quantile(0.999))),
            ("longest", format!("{} µs", measured.latency.max())),
            ("longest gap", format!("{} µs", measured.longest_gap.as_micros())),
            ("client CPU", format!("{} µs for each", each(client))),
            ("server CPU", server.map_or("-".to_owned(), |server| format!("{} µs for each", each(server)))),
        ]),
    }
}

/// Creates the map and writes every key once, unless that was done before. Counters begin by themselves.
async fn prepare(client: &Client, operations: &Operations, keys: u64) -> anyhow::Result<()> {
    let map = client.raw_map(&operations.map);
    let size = match map.size().await {
        Err(Error::MapNotFound(_)) => {
            client
                .maps()
                .create(&operations.map, &MapOptions::new().content_type(ContentType::Bytes))
                .await?;
            0
        }
        size => size?,
    };
    if operations.kind != Kind::Invoke && size < keys {
        load::fill(client, operations, keys).await?;
    }
    Ok(())
}

/// Those of the keys that a node decides about now.
async fn keys_of(node: u64, client: &Client, keys: u64) -> anyhow::Result<Keys> {
    let listed = client.partitions().await?.partitions;
    let primaries: Vec<Option<u64>> =
        listed.iter().filter(|listed| listed.class == CLASS).map(|listed| listed.primary).collect();
    let is_its = |number: &u64| {
        let partition = partition_of(&key(*number), primaries.len());
        partition.is_some_and(|partition| primaries[partition] == Some(node))
    };
    let its: Vec<u64> = (0..keys).filter(is_its).collect();
    let deciding: BTreeSet<u64> = primaries.iter().flatten().copied().collect();
    anyhow::ensure!(!its.is_empty(), "node {node} decides about none of the keys: nodes {deciding:?} do");
    Ok(Keys::These(its))
}
