//! The load generator that is part of the node's own binary, `wattle bench`.

use super::{Operation, Sample, Work};
use crate::command::{program, root, shown, works};
use crate::failure::Failure;
use crate::guests;
use crate::json::Json;
use crate::node::Node;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Adds to a number, like the function that redis-server gets.
pub(crate) const FUNCTION_CRATE: &str = "example-counter";
const FUNCTION: &str = "add";

/// Uploads the function. The load generator itself writes every key before it measures.
pub(crate) fn prepare(node: &Node) -> Result<(), Failure> {
    let module = root().join(guests::module(FUNCTION_CRATE));
    node.ask(&["function", "upload", FUNCTION, &module.to_string_lossy(), "--export", FUNCTION])?;
    Ok(())
}

/// What the load generator is to do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) work: Work,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) duration: Duration,
    /// Options beyond these.
    pub(crate) more: Vec<String>,
}

impl Load {
    pub(crate) fn with(mut self, option: &str, value: &impl ToString) -> Self {
        self.more.extend([option.to_owned(), value.to_string()]);
        self
    }

    fn command(&self, node: &Node) -> Command {
        let operation = match self.work.operation {
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Invoke => "invoke",
        };
        let mut command = node.client(&["bench", operation]);
        command.args([
            "--in-flight",
            &self.work.in_flight.to_string(),
            "--batch",
            &self.work.depth.to_string(),
        ]);
        command.args(["--keys", &self.keys.to_string(), "--value-bytes", &self.value_bytes.to_string()]);
        command.args(["--duration", &format!("{}ms", self.duration.as_millis())]);
        command.args(&self.more);
        command
    }

    /// Has it done to the end.
    pub(crate) fn run(&self, node: &Node) -> Result<Figures, Failure> {
        self.begin(node)?.finish()
    }

    pub(crate) fn begin(&self, node: &Node) -> Result<Running, Failure> {
        let mut command = self.command(node);
        let command_line = shown(&command);
        let child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Failure::CannotStart { command: command_line.clone(), source })?;
        Ok(Running { child: Some(child), command: command_line })
    }
}

/// A load generator at work. It ends with this.
#[derive(Debug)]
pub(crate) struct Running {
    child: Option<Child>,
    command: String,
}

impl Running {
    /// Waits until its time is over.
    pub(crate) fn finish(mut self) -> Result<Figures, Failure> {
        let child = self.child.take().expect("only this takes it");
        let command = self.command.clone();
        let output = child
            .wait_with_output()
            .map_err(|source| Failure::CannotStart { command: command.clone(), source })?;
        if !output.status.success() {
            return Err(Failure::Exited { command, status: output.status });
        }
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures = Json::parse(&printed).ok();
        figures.as_ref().and_then(Figures::pick).ok_or(Failure::Unexpected { command, printed })
    }

    /// Has it end now, with what it has measured so far.
    pub(crate) fn interrupt(self) -> Result<Figures, Failure> {
        if let Some(child) = &self.child
            && !works(&mut program("kill", &["-INT", &child.id().to_string()]))
        {
            println!("`{}` has ended before it was to", self.command);
        }
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            eprintln!("`{}` could not be ended: {error}", self.command);
        }
    }
}

/// What it says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) sample: Sample,
    /// Of the longest operation.
    pub(crate) longest: Duration,
    /// The longest time without any answer.
    pub(crate) longest_gap: Duration,
}

impl Figures {
    fn pick(printed: &Json) -> Option<Self> {
        let figure = |name: &str| printed.get(name).and_then(Json::number);
        let time = |name: &str| figure(name).map(|microseconds| Duration::from_micros(microseconds as u64));
        let sample = Sample {
            per_second: figure("per_second")?,
            p50_us: figure("p50_us")?,
            p99_us: figure("p99_us")?,
            p999_us: figure("p999_us"),
            server_us: figure("server_cpu_us"),
            client_us: figure("client_cpu_us"),
        };
        Some(Self { sample, longest: time("max_us")?, longest_gap: time("longest_gap_us")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_load_generator_prints_is_read() {
        let printed = r#"{"operations": 3, "seconds": 1.0, "per_second": 3.0, "p50_us": 10, "p99_us": 20,
            "p999_us": 30, "max_us": 40, "longest_gap_us": 2500000, "client_cpu_us": 1.5, "server_cpu_us": null}"#;
        let figures = Figures::pick(&Json::parse(printed).expect("valid")).expect("all figures");
        let sample = figures.sample;
        assert_eq!((sample.per_second, sample.p99_us, sample.p999_us), (3.0, 20.0, Some(30.0)));
        assert_eq!((sample.client_us, sample.server_us), (Some(1.5), None));
        assert_eq!((figures.longest, figures.longest_gap.as_millis()), (Duration::from_micros(40), 2500));
    }
}
