//! Debian's redis-server beside the node, for the ratios: started here, loaded with redis-benchmark.

use super::Sample;
use super::cpu;
use crate::command::{output, program, shown, works};
use crate::failure::Failure;
use crate::node::free_port;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The same work as the counter of `examples/`: adds to a number that is kept as text.
const FUNCTION: &str = "#!lua name=bench\n\
    redis.register_function('add', function(keys, args)\n\
    return redis.call('INCRBY', keys[1], args[1])\n\
    end)";

#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    port: String,
}

/// One run of redis-benchmark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// What to send; `__rand_int__` becomes a random key.
    pub(crate) command: &'a [&'a str],
    pub(crate) connections: u32,
    pub(crate) depth: u32,
    pub(crate) operations: u64,
    pub(crate) keys: u64,
}

impl Redis {
    pub(crate) fn start() -> Result<Self, Failure> {
        let port = free_port().map_err(Failure::file("a free port"))?.to_string();
        let mut command = program("redis-server", &["--bind", "127.0.0.1", "--port", &port]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(std::env::temp_dir());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().map_err(|source| Failure::CannotStart { command: shown(&command), source })?;
        let redis = Self { child, port };
        let start = Instant::now();
        while !works(&mut redis.client(&["ping"])) {
            if start.elapsed() > START_DEADLINE {
                return Err(Failure::NodeDidNotStart { log: "redis-server does not answer".to_owned() });
            }
            thread::sleep(POLL);
        }
        output(&mut redis.client(&["function", "load", FUNCTION]))?;
        Ok(redis)
    }

    fn client(&self, arguments: &[&str]) -> std::process::Command {
        let mut client = program("redis-cli", &["-h", "127.0.0.1", "-p", &self.port]);
        client.args(arguments);
        client
    }

    pub(crate) fn run(&self, load: Load<'_>) -> Result<Sample, Failure> {
        let mut command = program("redis-benchmark", &["-h", "127.0.0.1", "-p", &self.port, "--csv"]);
        command.args(["-c", &load.connections.to_string(), "-P", &load.depth.to_string()]);
        command.args(["-n", &load.operations.to_string(), "-r", &load.keys.to_string()]);
        command.args(load.command);
        let server = cpu::of_process(self.child.id())?;
        let client = cpu::of_ended_children()?;
        let printed = output(&mut command)?;
        let per_operation = |used: Duration| used.as_secs_f64() * 1e6 / load.operations as f64;
        let server = per_operation(cpu::of_process(self.child.id())?.saturating_sub(server));
        let client = per_operation(cpu::of_ended_children()?.saturating_sub(client));
        let mut sample = parse(&printed).ok_or(Failure::Unexpected { command: shown(&command), printed })?;
        sample.server_us = Some(server);
        sample.client_us = Some(client);
        Ok(sample)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("redis-server could not be ended: {error}");
        }
    }
}

/// The last line is `"test","rps","avg","min","p50","p95","p99","max"` with times in milliseconds.
fn parse(csv: &str) -> Option<Sample> {
    let line = csv.lines().rfind(|line| line.starts_with('"'))?;
    let fields: Vec<&str> = line.trim_matches('"').split("\",\"").collect();
    let [_, rps, _, _, p50, _, p99, _] = fields[..] else { return None };
    let microseconds = |field: &str| field.parse::<f64>().ok().map(|milliseconds| milliseconds * 1000.0);
    Some(Sample {
        per_second: rps.parse().ok()?,
        p50_us: microseconds(p50)?,
        p99_us: microseconds(p99)?,
        p999_us: None,
        server_us: None,
        client_us: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_redis_benchmark_are_read() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
            \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
            \"GET\",\"87719.30\",\"0.311\",\"0.096\",\"0.295\",\"0.407\",\"0.623\",\"1.215\"\n";
        let sample = parse(csv).expect("figures");
        assert_eq!((sample.per_second, sample.p50_us, sample.p99_us), (87719.30, 295.0, 623.0));
    }

    #[test]
    fn other_output_has_no_figures() {
        assert!(parse("Could not connect\n").is_none());
        assert!(parse("\"test\",\"rps\"\n").is_none());
    }
}
