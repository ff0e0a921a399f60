//! How large the state can become, and what carries it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use wattle_core::control::grid::*;
use wattle_core::control::{FunctionKind, FunctionOptions, FunctionVersion, Promote};
use wattle_core::ids::{Epoch, MapId, MemberId, ModuleHash, PartitionId, ReplicationClass};
use wattle_core::limits::*;
use wattle_core::map::{ContentType, EvictionPolicy, MapDescriptor};
use wattle_core::replication::{Change, Proposal as Wish};

/// A byte that takes six in JSON.
const WIDE: &str = "\u{1}";

fn bytes(value: &impl serde::Serialize) -> usize {
    disk::json(value).len()
}

/// As many characters as a name may have.
fn name(number: usize) -> Name {
    Name::new(&format!("{number:0>NAME_BYTES$}")).unwrap()
}

fn upload(module: u8, export: String) -> Box<FunctionVersion> {
    Box::new(FunctionVersion {
        number: 0,
        module: ModuleHash([module | 0x80; 32]),
        size_bytes: u64::MAX,
        export,
        export_index: u32::MAX,
        kind: FunctionKind::SimpleEntryProcessor,
        read_only: false,
        deterministic: false,
        uploaded_ms: u64::MAX,
        options: FunctionOptions {
            cpu_budget: Duration::new(u64::MAX, 999_999_999),
            memory_bytes: u64::MAX,
            fresh_instances: false,
        },
    })
}

fn apply(state: &mut State, command: &Command) -> Applied {
    state.apply(command).unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"))
}

fn apply_grid(state: &mut State, command: GridCommand) -> Applied {
    apply(state, &Command::Grid(command))
}

fn add_function(state: &mut State, function: usize, version: Box<FunctionVersion>) {
    let (name, promote) = (name(function), Promote::AtOnce);
    apply(state, &Command::Catalog(catalog::Command::AddVersion { name, version, promote }));
}

fn member(node: u64) -> MemberId {
    MemberId { node: NodeId(node), incarnation: 1 }
}

/// So many nodes, and classes of so many copies, each with `partitions`.
fn grid(nodes: u128, copies: &[u8], partitions: u16) -> State {
    let mut state = grid_of(partitions);
    for nonce in 2..=nodes {
        apply_grid(&mut state, GridCommand::Join(Box::new(joining(nonce))));
    }
    for copies in copies {
        let options = ClassOptions { backups: copies - 1, min_in_sync: 1, partitions };
        apply_grid(&mut state, GridCommand::CreateClass { options });
    }
    state
}

fn version(state: &State, partition: PartitionId) -> u64 {
    state.grid().unwrap().row(partition).unwrap().assignment.version
}

/// A partition is held by these, the first of whom decides.
fn hold(state: &mut State, partition: PartitionId, nodes: &[u64]) {
    let wanted: BTreeSet<MemberId> = nodes.iter().map(|node| member(*node)).collect();
    let (by, version_now) = (member(nodes[0]), version(state, partition));
    let order = match version_now {
        0 => Order::Begin { wanted: wanted.clone(), primary: by },
        _ => Order::Want { wanted: wanted.clone(), primary: by },
    };
    let decisions = vec![Decision { partition, version: version_now, order }];
    apply_grid(state, GridCommand::Decide { decisions });
    let row = state.grid().unwrap().row(partition).unwrap().clone();
    for add in wanted.difference(&row.assignment.in_sync) {
        let (by, version) = (row.assignment.primary.unwrap(), version(state, partition));
        let proposal = Wish { by, version, change: Change { add: Some(*add), ..Change::default() } };
        apply_grid(state, GridCommand::Propose { partition, proposal });
    }
}

/// As many maps and functions as there may be, one version each.
fn with_catalog(mut state: State) -> State {
    for number in 0..MAPS.max(FUNCTIONS) {
        apply(&mut state, &create(name(number).as_str()));
        add_function(&mut state, number, upload(0, "process-account".into()));
    }
    state
}

/// A state of some MiB.
pub(super) fn large() -> State {
    with_catalog(grid(1, &[1, 3, 4], PARTITIONS_MAX))
}

#[test]
fn a_snapshot_of_a_large_grid_is_a_few_mib() {
    let mut state = grid(100, &[1, 3, 4], PARTITIONS);
    let partitions: Vec<PartitionId> = state.grid().unwrap().rows().map(|(partition, _)| partition).collect();
    for partition in &partitions {
        let copies = state.grid().unwrap().class(partition.class).unwrap().copies();
        let nodes: Vec<u64> =
            (0..copies as u64).map(|copy| 1 + (u64::from(partition.index) + copy) % 100).collect();
        hold(&mut state, *partition, &nodes);
    }
    let rows = bytes(&state.grid());
    let state = with_catalog(state);
    let usual = bytes(&state);
    let row = bytes(&state.grid().unwrap().row(partitions[0]).unwrap());
    let largest_tables = usual + (rows * usize::from(PARTITIONS_MAX / PARTITIONS));
    println!(
        "{MAPS} maps, {FUNCTIONS} functions, 100 nodes: {usual} bytes with 4 x {PARTITIONS} partitions, \
         of which the grid {rows}; {largest_tables} with 4 x {PARTITIONS_MAX}; a row {row}"
    );
    assert!(usual < 6 * MIB, "{usual}");
    assert!(largest_tables < 12 * MIB, "{largest_tables}");
}

const MIB: usize = 1 << 20;

/// Every part as large as it may be, as often as it may be there.
#[test]
fn the_largest_snapshot_is_within_its_bound() {
    let mut state = grid(14, &[BACKUPS_MAX + 1], 1);
    let partition = PartitionId { class: ReplicationClass(1), index: 0 };
    hold(&mut state, partition, &[1, 2, 3, 4, 5, 6, 7]);
    hold(&mut state, partition, &[8, 9, 10, 11, 12, 13, 14]);
    // Every number of a row may have twenty digits.
    let row = widest(&serde_json::to_value(state.grid().unwrap().row(partition).unwrap()).unwrap());

    for module in 0..FUNCTION_VERSIONS {
        add_function(&mut state, 0, upload(u8::try_from(module).unwrap(), WIDE.repeat(NAME_BYTES)));
    }
    let because = WIDE.repeat(SUSPENSION_REASON_BYTES);
    let version = u32::try_from(FUNCTION_VERSIONS).unwrap();
    apply(&mut state, &Command::Catalog(catalog::Command::Suspend { name: name(0), version, because }));
    let function = bytes(&state.catalog().function(name(0).as_str())) + bytes(&name(0));

    let options = MapOptions {
        content_type: ContentType::MessagePack,
        ttl: Some(TTL_MAX),
        max_idle: Some(TTL_MAX),
        max_bytes: Some(u64::MAX),
        eviction: EvictionPolicy::None,
        class: ReplicationClass(u8::MAX),
    };
    let map = MapDescriptor { id: MapId(u64::MAX), name: name(0), revision: u64::MAX, options };
    let map = bytes(&map) + bytes(&name(0));

    let text = || WIDE.repeat(NODE_TEXT_BYTES);
    let description = NodeDescription {
        peer_address: text(),
        client_address: text(),
        zone: Some(text()),
        host: text(),
        version: text(),
        prepares: true,
        in_memory: false,
        ..joining(1).description
    };
    let described = GridCommand::Describe { member: member(1), description: Box::new(description) };
    apply_grid(&mut state, described);
    let node = widest(&serde_json::to_value(state.grid().unwrap().node(NodeId(1)).unwrap()).unwrap());

    let (epoch, class) = (Epoch { generation: u32::MAX, number: u64::MAX }, ReplicationClass(u8::MAX));
    let longest = DecisionError::NoCopy { epoch, began: Some(epoch), current: epoch };
    let refused = bytes(&(PartitionId { class, index: u16::MAX }, longest)) + 1;
    let decisions = CONTROL_DECIDED_PARTITIONS * refused + CONTROL_DECISIONS * (map + 200);

    let rows = CLASSES * usize::from(PARTITIONS_MAX) * row;
    let parts = [MAPS * map, FUNCTIONS * function, NODES * node, rows, decisions];
    println!("maps, functions, nodes, rows, decisions: {parts:?} bytes; a function {function}, a row {row}");
    let all: usize = parts.iter().sum();
    assert!(all < CONTROL_SNAPSHOT_BYTES, "{all} of {CONTROL_SNAPSHOT_BYTES}: {parts:?}");
}

/// Bytes of JSON whose every number has twenty digits, with a comma behind it.
fn widest(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => bytes(value) + 1,
        Value::Number(_) => 21,
        Value::Array(values) => 3 + values.iter().map(widest).sum::<usize>(),
        Value::Object(fields) => {
            3 + fields.iter().map(|(name, value)| bytes(name) + 1 + widest(value)).sum::<usize>()
        }
    }
}

#[test]
fn the_largest_commands_fit_the_log() {
    let wanted: BTreeSet<MemberId> = (0..=u64::from(BACKUPS_MAX))
        .map(|node| MemberId { node: NodeId(u64::MAX - node), incarnation: u64::MAX })
        .collect();
    let order = Order::Want { primary: *wanted.first().unwrap(), wanted };
    let partition = PartitionId { class: ReplicationClass(u8::MAX), index: u16::MAX };
    let decisions = vec![Decision { partition, version: u64::MAX, order }; DECISIONS];
    let decide = bytes(&Command::Grid(GridCommand::Decide { decisions }));
    println!("{DECISIONS} decisions: {decide} bytes");
    assert!(decide < CONTROL_COMMAND_BYTES, "{decide}");
    let version = upload(0, WIDE.repeat(NAME_BYTES));
    let (name, promote) = (name(0), Promote::Later);
    let add = bytes(&Command::Catalog(catalog::Command::AddVersion { name, version, promote }));
    assert!(add < CONTROL_COMMAND_BYTES, "{add}");
}
