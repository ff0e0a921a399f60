//! All metrics but those of functions, which `functions::metrics` has: names, labels, and how they are brought up to date.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use wattle_core::control::grid::PartitionState;
use wattle_core::partition::{Partition, Statistics};

use crate::failure::Failure;
use crate::functions::FunctionMetrics;
use crate::grid::Grid;
use crate::maps::Map;
use crate::peering::Links;

/// The metrics of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    functions: FunctionMetrics,
    maps: MapMetrics,
    held: Gauge,
    limit: Gauge,
    in_flight: Gauge,
    inbox_operations: Family<ByLane, Gauge>,
    inbox_bytes: Family<ByLane, Gauge>,
    waiting: Gauge,
    members: Gauge,
    partitions: Family<ByState, Gauge>,
    links: Arc<Links>,
    peer_sent: Family<ByPurpose, Counter>,
}

#[derive(Debug, Default)]
struct MapMetrics {
    entries: Family<ByMap, Gauge>,
    bytes: Family<ByMap, Gauge>,
    operations: Family<ByOperation, Counter>,
    evictions: Family<ByMap, Counter>,
    expirations: Family<ByMap, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMap {
    map: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    map: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLane {
    lane: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPurpose {
    purpose: &'static str,
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What is counted elsewhere.
fn store(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

impl Metrics {
    /// All metrics; those of functions are handed to the catalog, too.
    pub(crate) fn new(links: Arc<Links>) -> Self {
        let mut registry = Registry::with_prefix("wattle");
        let functions = FunctionMetrics::register(&mut registry);
        registry.register("build", "This version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let maps = MapMetrics::default();
        registry.register("map_entries", "Entries of a map", maps.entries.clone());
        registry.register_with_unit(
            "map",
            "What the entries of a map cost in memory",
            Unit::Bytes,
            maps.bytes.clone(),
        );
        registry.register("map_operations", "Operations on a map since the start", maps.operations.clone());
        registry.register("map_evictions", "Entries that made room for others", maps.evictions.clone());
        registry.register("map_expirations", "Entries whose time had come", maps.expirations.clone());
        let (held, limit, waiting) = (Gauge::default(), Gauge::default(), Gauge::default());
        let in_flight = Gauge::default();
        let help = "Memory held by requests and answers in flight";
        registry.register_with_unit("in_flight", help, Unit::Bytes, in_flight.clone());
        registry.register_with_unit("memory_held", "Memory held by partitions", Unit::Bytes, held.clone());
        registry.register_with_unit(
            "memory_limit",
            "Memory past which writes are refused",
            Unit::Bytes,
            limit.clone(),
        );
        let (inbox_operations, inbox_bytes) = (Family::default(), Family::default());
        registry.register("inbox_operations", "Operations that wait in inboxes", inbox_operations.clone());
        registry.register_with_unit("inbox", "Bytes that wait in inboxes", Unit::Bytes, inbox_bytes.clone());
        registry.register("compute_waiting", "Partitions that wait for a compute thread", waiting.clone());
        let (members, partitions) = (Gauge::default(), Family::default());
        registry.register("grid_members", "Members of the grid, as this node knows it", members.clone());
        let help = "Partitions of the grid by their state, as this node knows it";
        registry.register("partitions", help, partitions.clone());
        let peer_sent = Family::default();
        let help = "What this node has sent to others, without what gRPC, HTTP/2 and TCP add";
        registry.register_with_unit("peer_sent", help, Unit::Bytes, peer_sent.clone());
        Self {
            registry,
            functions,
            maps,
            held,
            limit,
            in_flight,
            inbox_operations,
            inbox_bytes,
            waiting,
            members,
            partitions,
            links,
            peer_sent,
        }
    }

    pub(crate) fn functions(&self) -> FunctionMetrics {
        self.functions.clone()
    }

    /// The metrics as text, as they are now.
    pub(crate) async fn text(&self, grid: &Grid) -> Result<String, Failure> {
        self.functions.refresh(&grid.catalog);
        self.refresh_partitions(grid);
        self.refresh_table(grid);
        self.refresh_links();
        self.maps.refresh(grid).await?;
        let mut text = String::new();
        let failed = |_| Failure::Internal { what: "metrics could not be written" };
        text::encode(&mut text, &self.registry).map_err(failed)?;
        Ok(text)
    }

    fn refresh_table(&self, grid: &Grid) {
        let decided = grid.control.decided();
        let Some(table) = decided.grid() else { return };
        self.members.set(whole(table.nodes().len() as u64));
        for state in PartitionState::ALL {
            let label = match state {
                PartitionState::Ok => "ok",
                PartitionState::UnderReplicated => "under_replicated",
                PartitionState::Lost => "lost",
                PartitionState::NotBegun => "not_begun",
            };
            let by_state = ByState { state: label };
            self.partitions.get_or_create(&by_state).set(whole(table.partitions_in(state) as u64));
        }
    }

    fn refresh_links(&self) {
        let figures = self.links.figures();
        for (purpose, bytes) in [
            // What a copy is made of that is brought in sync, apart from what is written meanwhile.
            ("copying", figures.sent_chunk_bytes),
            ("replication", figures.sent_bytes.saturating_sub(figures.sent_chunk_bytes)),
            ("calls", figures.sent_call_bytes),
            ("heartbeats", figures.sent_heartbeat_bytes),
            ("control", figures.sent_control_bytes),
        ] {
            store(&self.peer_sent.get_or_create(&ByPurpose { purpose }), bytes);
        }
    }

    fn refresh_partitions(&self, grid: &Grid) {
        self.held.set(whole(grid.partitions.memory().held()));
        self.limit.set(whole(grid.partitions.memory().limit()));
        self.in_flight.set(whole(grid.in_flight.held() as u64));
        self.waiting.set(whole(grid.partitions.waiting_for_pool() as u64));
        let mut lanes = [("keyed", 0, 0), ("slow", 0, 0)];
        for strand in grid.partitions.strands() {
            let depth = strand.depth();
            for (lane, cost) in lanes.iter_mut().zip([depth.keyed, depth.slow]) {
                lane.1 += cost.operations as u64;
                lane.2 += cost.bytes as u64;
            }
        }
        for (lane, operations, bytes) in lanes {
            self.inbox_operations.get_or_create(&ByLane { lane }).set(whole(operations));
            self.inbox_bytes.get_or_create(&ByLane { lane }).set(whole(bytes));
        }
    }
}

impl MapMetrics {
    async fn refresh(&self, grid: &Grid) -> Result<(), Failure> {
        // A deleted map is no longer told of.
        self.entries.clear();
        self.bytes.clear();
        self.operations.clear();
        self.evictions.clear();
        self.expirations.clear();
        let maps = grid.maps.all();
        let mut sums = vec![Statistics::default(); maps.len()];
        for partition in grid.partitions.ids() {
            let ids: Arc<[_]> = maps.iter().map(|map| map.descriptor.id).collect();
            let read = move |partition: &Partition| {
                ids.iter().map(|id| partition.statistics(*id)).collect::<Vec<_>>()
            };
            for (sum, part) in sums.iter_mut().zip(grid.partitions.look(partition, read).await?) {
                sum.entries += part.entries;
                sum.bytes += part.bytes;
                sum.evictions += part.evictions;
                sum.expirations += part.expirations;
            }
        }
        for (map, sum) in maps.iter().zip(sums) {
            self.set(map, &sum);
        }
        Ok(())
    }

    fn set(&self, map: &Map, sum: &Statistics) {
        let name = map.descriptor.name.to_string();
        let by_map = ByMap { map: name.clone() };
        self.entries.get_or_create(&by_map).set(whole(sum.entries));
        self.bytes.get_or_create(&by_map).set(whole(sum.bytes));
        store(&self.evictions.get_or_create(&by_map), sum.evictions);
        store(&self.expirations.get_or_create(&by_map), sum.expirations);
        let counters = map.counters();
        for (operation, counter) in [
            ("get", &counters.gets),
            ("put", &counters.puts),
            ("remove", &counters.removals),
            ("invoke", &counters.invocations),
            ("other", &counters.others),
        ] {
            let by_operation = ByOperation { map: name.clone(), operation };
            store(&self.operations.get_or_create(&by_operation), counter.load(Ordering::Relaxed));
        }
    }
}
