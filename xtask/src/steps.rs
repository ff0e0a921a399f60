//! A run of named steps: each is timed, a failed one does not stop the others, and the end says how each went.

use crate::failure::Failure;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    failure: Option<Failure>,
}

impl Steps {
    /// Runs one step; true when it succeeded.
    pub(crate) fn run(&mut self, name: &'static str, action: impl FnOnce() -> Result<(), Failure>) -> bool {
        println!("\n=== {name}");
        let start = Instant::now();
        let failure = action().err();
        let took = start.elapsed();
        match &failure {
            None => println!("=== {name}: ok in {}", seconds(took)),
            Some(failure) => println!("=== {name}: FAILED in {}: {failure}", seconds(took)),
        }
        let succeeded = failure.is_none();
        self.done.push(Step { name, took, failure });
        succeeded
    }

    /// Prints the summary.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        println!("\n{:<32} {:>9}", "step", "time");
        for step in &self.done {
            let result = match &step.failure {
                None => "ok".to_owned(),
                Some(failure) => format!("FAILED: {failure}"),
            };
            println!("{:<32} {:>9}  {result}", step.name, seconds(step.took));
        }
        let total: Duration = self.done.iter().map(|step| step.took).sum();
        println!("{:<32} {:>9}", "total", seconds(total));
        let failed: Vec<_> =
            self.done.iter().filter(|step| step.failure.is_some()).map(|step| step.name).collect();
        if failed.is_empty() { Ok(()) } else { Err(Failure::Steps { failed }) }
    }
}

/// `12.3 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_and_does_not_stop_the_next() {
        let mut steps = Steps::default();
        assert!(!steps.run("first", || Err(Failure::Violations { count: 3 })));
        assert!(steps.run("second", || Ok(())));
        match steps.finish() {
            Err(Failure::Steps { failed }) => assert_eq!(failed, ["first"]),
            other => panic!("expected a failed step, got {other:?}"),
        }
    }

    #[test]
    fn a_run_without_failures_succeeds() {
        let mut steps = Steps::default();
        steps.run("only", || Ok(()));
        assert!(steps.finish().is_ok());
    }
}
