//! A processor over all entries of a map: the guest, as the node runs it, next to the same logic in native Rust over the
//! same store. Epochs are on. The guest is `benches/guest`, built by the SDK.

use std::path::PathBuf;
use std::sync::Arc;

use wattle_benches::{
    ENTRIES, Key, VALUE_BYTES, access, map, nanoseconds_each, partitions, put, rounds, shuffled_keys, tell,
    tell_working_set,
};
use wattle_core::limits::{PARTITIONS, SCAN_ENTRIES};
use wattle_core::map::MapDescriptor;
use wattle_core::partition::{Effect, Partition, ScanEnd, Swept, TtlChoice, partition_of};
use wattle_frame::guest::{self, EntrySlot, Request, RequestHeader, RequestWriter};
use wattle_wasm::compile::compile_here;
use wattle_wasm::{Call, Module, Runtime, Warm, WarmLimits};

const MODULE: &str = "target/wasm32-unknown-unknown/guest/bench_record.wasm";

fn main() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(MODULE);
    let Ok(bytes) = std::fs::read(&path) else {
        println!(
            "{MODULE} is missing: cargo build --profile guest --target wasm32-unknown-unknown -p bench-record"
        );
        return;
    };
    tell_working_set();
    let map = map();
    let mut partitions = filled(&map);
    let native = rounds(|_| nanoseconds_each(ENTRIES, || natively(&mut partitions, &map)));
    tell("processor over all, native Rust", native, ("ns", "-"));
    let runtime = Arc::new(Runtime::new(4).expect("the engine starts"));
    let artifact = compile_here(&bytes).expect("the guest compiles");
    let module = Module::load(&runtime, &artifact, 16 << 20).expect("the guest loads");
    let mut warm = Warm::new(WarmLimits::default());
    let guest = rounds(|_| nanoseconds_each(ENTRIES, || by_guest(&mut partitions, &map, &mut warm, &module)));
    tell("processor over all, guest", guest, ("ns", "-"));
    let ratio = guest.median / native.median;
    tell("guest over native", rounds(|_| ratio), ("x", "<= 2.5"));
    check(&mut partitions, &map);
}

fn filled(map: &MapDescriptor) -> Vec<Partition> {
    let mut partitions = partitions();
    for key in shuffled_keys() {
        let home = &mut partitions[usize::from(partition_of(&key, PARTITIONS))];
        home.put(&access(map), &put(&key, &[0; VALUE_BYTES])).expect("there is room");
    }
    partitions
}

/// Takes the turns of a whole-map call.
fn turns(partition: &mut Partition, map: &MapDescriptor, mut turn: impl FnMut(&mut Partition, &Swept)) {
    let mut range = partition.scan_range(&access(map));
    loop {
        let swept = partition.sweep(&access(map), range, SCAN_ENTRIES);
        turn(partition, &swept);
        match swept.end {
            ScanEnd::More(rest) => range = rest,
            ScanEnd::Complete => return,
        }
    }
}

fn natively(partitions: &mut [Partition], map: &MapDescriptor) {
    for partition in partitions {
        turns(partition, map, |partition, swept| {
            for slot in &swept.slots {
                let entry = partition.entry_at(&access(map), *slot).expect("swept just now");
                let key: Key = entry.key.try_into().expect("every key is a short one");
                let mut record = [0; VALUE_BYTES];
                record.copy_from_slice(entry.value);
                let number = record.first_chunk_mut::<8>().expect("longer than eight bytes");
                *number = u64::from_le_bytes(*number).wrapping_add(1).to_le_bytes();
                let effect = Effect::Put { value: &record, ttl: TtlChoice::OfMap };
                partition.apply_at(&access(map), (*slot, &key), effect).expect("there is room");
            }
        });
    }
}

fn by_guest(partitions: &mut [Partition], map: &MapDescriptor, warm: &mut Warm, module: &Arc<Module>) {
    let mut buffer = Vec::new();
    for partition in partitions {
        turns(partition, map, |partition, swept| {
            let frame = frame(&mut buffer, partition, (map, swept));
            let apply = |reply: &guest::Reply<'_>| apply(partition, (map, swept, frame), reply);
            warm.process(module, frame, &Call::default(), apply).expect("the guest adds");
        });
    }
}

fn apply(
    partition: &mut Partition,
    (map, swept, frame): (&MapDescriptor, &Swept, &[u8]),
    reply: &guest::Reply<'_>,
) {
    let entries = Request::parse(frame).expect("written just now");
    for ((slot, entry), answer) in swept.slots.iter().zip(entries.entries()).zip(reply.answers()) {
        let key = entry.expect("written just now").key;
        let guest::Effect::Put(value) = answer.effect else { unreachable!("the guest puts") };
        let effect = Effect::Put { value, ttl: TtlChoice::OfMap };
        partition.apply_at(&access(map), (*slot, key), effect).expect("there is room");
    }
}

fn frame<'b>(
    buffer: &'b mut Vec<u8>,
    partition: &Partition,
    (map, swept): (&MapDescriptor, &Swept),
) -> &'b [u8] {
    let header = RequestHeader {
        function: 0,
        now_ms: wattle_benches::NOW.0,
        map: map.name.as_str(),
        argument: b"",
        capacity: swept.slots.len(),
    };
    let mut writer = RequestWriter::new(buffer, &header).expect("a small frame");
    for slot in &swept.slots {
        let entry = partition.entry_at(&access(map), *slot).expect("swept just now");
        let value = Some(entry.value);
        let slot =
            EntrySlot { key: entry.key, value, version: entry.version.0, ttl_ms: None, argument: None };
        writer.push(&slot).expect("a small frame");
    }
    writer.finish()
}

/// Every round of both has run on every entry.
fn check(partitions: &mut [Partition], map: &MapDescriptor) {
    let expected = (2 * wattle_benches::ROUNDS as u64).to_le_bytes();
    let mut seen = 0;
    for partition in partitions {
        turns(partition, map, |partition, swept| {
            for slot in &swept.slots {
                let entry = partition.entry_at(&access(map), *slot).expect("swept just now");
                assert_eq!(entry.value[..8], expected, "every entry is processed once a round");
                seen += 1;
            }
        });
    }
    assert_eq!(seen, ENTRIES);
}
