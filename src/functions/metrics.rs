//! What is counted about functions, by name: handed to Prometheus by the registry, and to `DescribeFunction`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use wattle_core::name::Name;
use wattle_wasm::Stop;

use super::catalog::Catalog;

/// The metrics of all functions.
#[derive(Debug, Clone)]
pub(crate) struct FunctionMetrics {
    batches: Family<ByFunction, Counter>,
    entries: Family<ByOutcome, Counter>,
    stops: Family<ByStop, Counter>,
    /// Of all kinds: not registered, for it is the sum of `stops`.
    all_stops: Family<ByFunction, Counter>,
    execution: Family<ByFunction, Histogram, fn() -> Histogram>,
    starts: Family<ByStart, Counter>,
    instances: Family<ByFunction, Gauge>,
    memory: Family<ByFunction, Gauge>,
}

/// The metrics of one function, found once and then held, for it is counted on every call.
#[derive(Debug)]
pub(crate) struct Meters {
    /// Batches run.
    pub(crate) batches: Counter,
    /// Entries whose effect was applied.
    pub(crate) applied: Counter,
    /// Entries that were left as they were because the function refused or was stopped.
    pub(crate) not_applied: Counter,
    pub(crate) execution: Histogram,
    starts: Starts,
    name: String,
    stops: Family<ByStop, Counter>,
    all_stops: Counter,
}

/// What was counted about one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Batches run.
    pub(crate) batches: u64,
    /// Entries whose effect was applied.
    pub(crate) applied: u64,
    /// Entries that were left as they were because the function refused or was stopped.
    pub(crate) not_applied: u64,
    /// Batches that were stopped.
    pub(crate) stops: u64,
    /// Instances that exist now.
    pub(crate) instances: u64,
}

/// Whether a call found an instance or had to start one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Cold,
    Warm,
}

/// Which kind of thread ran a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunBy {
    /// The thread that it arrived on.
    Io,
    /// One of the compute pool.
    Compute,
}

/// A counter for each [`Start`] and [`RunBy`].
#[derive(Debug)]
struct Starts {
    cold_io: Counter,
    cold_compute: Counter,
    warm_io: Counter,
    warm_compute: Counter,
}

impl Starts {
    fn of(&self, start: Start, run_by: RunBy) -> &Counter {
        match (start, run_by) {
            (Start::Cold, RunBy::Io) => &self.cold_io,
            (Start::Cold, RunBy::Compute) => &self.cold_compute,
            (Start::Warm, RunBy::Io) => &self.warm_io,
            (Start::Warm, RunBy::Compute) => &self.warm_compute,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFunction {
    function: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    function: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStop {
    function: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStart {
    function: String,
    start: &'static str,
    thread: &'static str,
}

/// From a microsecond to a second, by fours.
fn execution_histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-6, 4.0, 11))
}

impl FunctionMetrics {
    /// Adds the metrics to a registry whose prefix is the grid's.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            batches: Family::default(),
            entries: Family::default(),
            stops: Family::default(),
            all_stops: Family::default(),
            execution: Family::new_with_constructor(execution_histogram),
            starts: Family::default(),
            instances: Family::default(),
            memory: Family::default(),
        };
        registry.register(
            "function_batches",
            "Batches of entries given to a function",
            metrics.batches.clone(),
        );
        registry.register("function_entries", "Entries processed, by outcome", metrics.entries.clone());
        registry.register("function_stops", "Batches that were stopped, by kind", metrics.stops.clone());
        let help = "Time that a function took for a batch";
        registry.register_with_unit("function_execution", help, Unit::Seconds, metrics.execution.clone());
        let help = "Batches by whether their instance was started for them (cold) or found (warm), and by the thread that ran them";
        registry.register("function_starts", help, metrics.starts.clone());
        let help = "Instances of a function's module that exist now";
        registry.register("function_instances", help, metrics.instances.clone());
        let help = "Linear memory of a function's instances";
        registry.register_with_unit("function_memory", help, Unit::Bytes, metrics.memory.clone());
        metrics
    }

    /// The metrics of one function.
    pub(crate) fn of(&self, name: &Name) -> Meters {
        let function = name.as_str().to_owned();
        let by_function = ByFunction { function: function.clone() };
        let outcome = |outcome| ByOutcome { function: function.clone(), outcome };
        let start = |start, thread| {
            self.starts.get_or_create_owned(&ByStart { function: function.clone(), start, thread })
        };
        Meters {
            batches: self.batches.get_or_create_owned(&by_function),
            applied: self.entries.get_or_create_owned(&outcome("applied")),
            not_applied: self.entries.get_or_create_owned(&outcome("not_applied")),
            execution: self.execution.get_or_create_owned(&by_function),
            starts: Starts {
                cold_io: start("cold", "io"),
                cold_compute: start("cold", "compute"),
                warm_io: start("warm", "io"),
                warm_compute: start("warm", "compute"),
            },
            stops: self.stops.clone(),
            all_stops: self.all_stops.get_or_create_owned(&by_function),
            name: function,
        }
    }

    /// Brings what is not counted but looked at up to date: before the metrics are read.
    pub(crate) fn refresh(&self, catalog: &Catalog) {
        self.instances.clear();
        self.memory.clear();
        for function in catalog.active() {
            let by_function = ByFunction { function: function.name().as_str().to_owned() };
            let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            self.instances.get_or_create(&by_function).set(whole(function.module().live_instances()));
            self.memory.get_or_create(&by_function).set(whole(function.module().live_memory_bytes()));
        }
    }
}

impl Meters {
    pub(crate) fn called(&self, start: Start, run_by: RunBy, took: Duration) {
        self.batches.inc();
        self.execution.observe(took.as_secs_f64());
        self.starts.of(start, run_by).inc();
    }

    pub(crate) fn stopped(&self, stop: &Stop) {
        let by_stop = ByStop { function: self.name.clone(), kind: stop.kind() };
        self.stops.get_or_create(&by_stop).inc();
        self.all_stops.inc();
    }

    pub(super) fn statistics(&self, instances: u64) -> Statistics {
        Statistics {
            batches: self.batches.get(),
            applied: self.applied.get(),
            not_applied: self.not_applied.get(),
            stops: self.all_stops.get(),
            instances,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_and_stops_appear_under_their_names() {
        let mut registry = Registry::with_prefix("wattle");
        let metrics = FunctionMetrics::register(&mut registry);
        let meters = metrics.of(&Name::new("debit").unwrap());
        meters.called(Start::Cold, RunBy::Compute, Duration::from_micros(30));
        meters.called(Start::Warm, RunBy::Io, Duration::from_micros(1));
        meters.stopped(&Stop::NoInstance);
        meters.applied.inc_by(256);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"wattle_function_batches_total{function="debit"} 2"#,
            r#"wattle_function_entries_total{function="debit",outcome="applied"} 256"#,
            r#"wattle_function_stops_total{function="debit",kind="no_instance"} 1"#,
            r#"wattle_function_starts_total{function="debit",start="cold",thread="compute"} 1"#,
            r#"wattle_function_starts_total{function="debit",start="warm",thread="io"} 1"#,
            r#"wattle_function_execution_seconds_count{function="debit"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
