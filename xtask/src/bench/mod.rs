//! `cargo xtask bench`, in three parts: the benchmarks inside one process; the load generator against a node, next to redis-benchmark
//! against Debian's redis-server, in turns, five rounds, the median of each figure; and a grid of several nodes.
//!
//! Figures are for reading, not for passing: nothing here fails because it is slow. Both servers get the same number
//! of operations in flight, the same keys and values, and share this machine's cores with their load generator.

mod cpu;
mod grid;
mod in_process;
mod options;
mod redis;
mod report;
mod wattle;

use crate::command::{output, program};
use crate::failure::Failure;
use crate::guests;
use crate::node::{self, Node};
use crate::prerequisites;
pub(crate) use options::Options;
use options::Part;
use redis::Redis;
use report::{Report, Row};
use std::path::Path;
use std::time::Duration;
use wattle::Load;

/// The rounds of which the median is taken.
const ROUNDS: usize = 5;
/// Uniformly random keys out of these: the working set is this many entries of a short key and `VALUE_BYTES`.
const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 100;
/// What the benchmarks inside one process run over all entries.
const IN_PROCESS_GUEST: &str = "bench-record";
/// How long the load generator works on one figure.
const LOAD: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// redis-benchmark does not say it.
    pub(crate) p999_us: Option<f64>,
    /// CPU time of the server for one operation.
    pub(crate) server_us: Option<f64>,
    /// The same of the load generator.
    pub(crate) client_us: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Put,
    Invoke,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) operation: Operation,
    /// Operations in one message of a pipeline; 1 for single calls.
    pub(crate) depth: u32,
    /// Messages in flight.
    pub(crate) in_flight: u32,
    /// How many operations redis-benchmark gets: about three seconds of them.
    redis_operations: u64,
}

const fn work(operation: Operation, depth: u32, in_flight: u32, redis_operations: u64) -> Work {
    Work { operation, depth, in_flight, redis_operations }
}

impl Work {
    /// As much of it as one figure takes.
    fn load(self, keys: u64) -> Load {
        Load { work: self, keys, value_bytes: VALUE_BYTES, duration: LOAD, more: Vec::new() }
    }
}

const WORKS: [Work; 8] = [
    work(Operation::Get, 1, 64, 250_000),
    work(Operation::Put, 1, 64, 250_000),
    work(Operation::Invoke, 1, 64, 250_000),
    work(Operation::Get, 16, 50, 1_800_000),
    work(Operation::Put, 16, 50, 1_800_000),
    work(Operation::Invoke, 16, 50, 700_000),
    work(Operation::Get, 128, 50, 2_600_000),
    work(Operation::Put, 128, 50, 2_600_000),
];

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    prerequisites::guest_target()?;
    let mut report = Report::default();
    let measured = measure(options, &mut report);
    // What was measured before a failure is worth keeping.
    report.save()?;
    measured
}

fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    describe_machine(report)?;
    if options.dev {
        report.line("a quickly built node: its figures say nothing about the fast one");
    }
    guests::build_rust(&[wattle::FUNCTION_CRATE.to_owned(), IN_PROCESS_GUEST.to_owned()])?;
    let binary = node::build(options.dev)?;
    for part in &options.parts {
        match part {
            Part::InProcess => in_process::run(report)?,
            Part::Node => {
                empty_node(&binary, report)?;
                under_load(&binary, report)?;
            }
            Part::Backups => grid::backups(&binary, options, report)?,
            Part::Failover => grid::failover(&binary, options, report)?,
            Part::Rebalance => grid::rebalance(&binary, options, report)?,
        }
    }
    Ok(())
}

fn describe_machine(report: &mut Report) -> Result<(), Failure> {
    let commit = output(&mut program("git", &["describe", "--always", "--dirty"]))?;
    let kernel = output(&mut program("uname", &["-sr"]))?;
    let cpus = std::fs::read_to_string("/proc/cpuinfo").map_err(Failure::file("/proc/cpuinfo"))?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    report.line(format!("commit {}", commit.trim()));
    report.line(format!("{cores} × {}, {}", model.trim_start_matches(['\t', ':', ' ']), kernel.trim()));
    Ok(())
}

/// How soon an empty node listens, and what it holds then.
fn empty_node(binary: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut starts = Vec::new();
    let mut bytes = Vec::new();
    for _ in 0..ROUNDS {
        let node = Node::start(binary)?;
        starts.push(node.started_in.as_secs_f64() * 1000.0);
        bytes.push(cpu::resident_bytes(node.pid())? as f64 / f64::from(1 << 20));
    }
    report.title("an empty node");
    report.line(format!("listens after {:.0} ms, holds {:.1} MiB", median(starts), median(bytes)));
    Ok(())
}

fn under_load(binary: &Path, report: &mut Report) -> Result<(), Failure> {
    let node = Node::start(binary)?;
    let redis = start_redis()?;
    wattle::prepare(&node)?;
    if let Some(redis) = &redis {
        println!("filling redis-server");
        redis.run(fill_redis())?;
    }
    let mut rows: Vec<Row> = WORKS.iter().map(|&work| Row::new(work)).collect();
    for round in 1..=ROUNDS {
        println!("round {round} of {ROUNDS}");
        for row in &mut rows {
            let load = row.work.load(KEYS).with("--server-pid", &node.pid());
            row.wattle.push(load.run(&node)?.sample);
            if let Some(redis) = &redis {
                row.redis.push(run_redis(redis, row.work)?);
            }
        }
    }
    report.title("over the network, on this machine");
    report
        .line(format!("{KEYS} keys, uniformly random, {VALUE_BYTES}-byte values, median of {ROUNDS} rounds"));
    report.table(&rows);
    Ok(())
}

fn start_redis() -> Result<Option<Redis>, Failure> {
    let programs = ["redis-server", "redis-cli", "redis-benchmark"];
    if programs.iter().all(|name| prerequisites::debian_program(name, &["redis-server"])) {
        return Redis::start().map(Some);
    }
    println!(
        "redis-server is missing and cannot be installed from here: no ratios (Debian: apt-get install redis-server)"
    );
    Ok(None)
}

const REDIS_VALUE: &str = {
    const BYTES: [u8; VALUE_BYTES] = [b'x'; VALUE_BYTES];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => panic!("letters are UTF-8"),
    }
};
const REDIS_KEY: &str = "key:__rand_int__";

/// Four draws for each key leave under two in a hundred unset.
fn fill_redis() -> redis::Load<'static> {
    redis::Load {
        command: &["set", REDIS_KEY, REDIS_VALUE],
        connections: 50,
        depth: 128,
        operations: 4 * KEYS,
        keys: KEYS,
    }
}

fn run_redis(redis: &Redis, work: Work) -> Result<Sample, Failure> {
    let command: &[&str] = match work.operation {
        Operation::Get => &["get", REDIS_KEY],
        Operation::Put => &["set", REDIS_KEY, REDIS_VALUE],
        Operation::Invoke => &["fcall", "add", "1", "counter:__rand_int__", "1"],
    };
    let operations = work.redis_operations;
    redis.run(redis::Load { command, connections: work.in_flight, depth: work.depth, operations, keys: KEYS })
}

/// The middle of an odd number of values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(vec![9.0, 1.0, 5.0, 7.0, 3.0]), 5.0);
        assert!(median(Vec::new()).is_nan());
    }
}
