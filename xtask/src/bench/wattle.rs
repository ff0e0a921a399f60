//! The node under the load generator that is part of its own binary, `wattle bench`.

use super::{KEYS, LOAD, Operation, Sample, VALUE_BYTES, Work};
use crate::command::{output, root, shown};
use crate::failure::Failure;
use crate::guests;
use crate::json::Json;
use crate::node::Node;

/// Adds to a number, like the function that redis-server gets.
pub(crate) const FUNCTION_CRATE: &str = "example-counter";
const FUNCTION: &str = "add";

/// Uploads the function. The load generator itself writes every key before it measures.
pub(crate) fn prepare(node: &Node) -> Result<(), Failure> {
    let module = root().join(guests::module(FUNCTION_CRATE));
    node.ask(&["function", "upload", FUNCTION, &module.to_string_lossy(), "--export", FUNCTION])?;
    Ok(())
}

pub(crate) fn run(node: &Node, work: Work) -> Result<Sample, Failure> {
    let operation = match work.operation {
        Operation::Get => "get",
        Operation::Put => "put",
        Operation::Invoke => "invoke",
    };
    let mut command = node.client(&["bench", operation]);
    command.args(["--in-flight", &work.in_flight.to_string(), "--batch", &work.depth.to_string()]);
    command.args(["--keys", &KEYS.to_string(), "--value-bytes", &VALUE_BYTES.to_string()]);
    command.args(["--duration", &format!("{}s", LOAD.as_secs()), "--server-pid", &node.pid().to_string()]);
    let printed = output(&mut command)?;
    let figures = Json::parse(&printed).ok();
    figures.as_ref().and_then(sample).ok_or(Failure::Unexpected { command: shown(&command), printed })
}

fn sample(figures: &Json) -> Option<Sample> {
    let figure = |name: &str| figures.get(name).and_then(Json::number);
    Some(Sample {
        per_second: figure("per_second")?,
        p50_us: figure("p50_us")?,
        p99_us: figure("p99_us")?,
        p999_us: figure("p999_us"),
        server_us: figure("server_cpu_us"),
        client_us: figure("client_cpu_us"),
    })
}
