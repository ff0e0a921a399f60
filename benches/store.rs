//! Single operations and scans on the store of one node, without a network: through the partition alone, and through its
//! strand, as the node does it.

use std::hint::black_box;

use wattle_benches::{
    ENTRIES, KEY_BYTES, Key, VALUE_BYTES, access, drawn_keys, map, nanoseconds_each, partitions, put,
    resident_bytes, rounds, shuffled_keys, tell, tell_working_set,
};
use wattle_core::ids::{ClientId, RequestId};
use wattle_core::limits::PARTITIONS;
use wattle_core::map::MapDescriptor;
use wattle_core::partition::{Operation, Partition, Room, ScanEnd, Wanted, partition_of, prefetch};
use wattle_strand::{Bounds, ComputePool, Cost};

const VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
/// Operations of a message.
const TOGETHER: usize = 16;
const OTHER: [u8; VALUE_BYTES] = [b'w'; VALUE_BYTES];

fn main() {
    tell_working_set();
    let map = map();
    let mut partitions = filled(&map);
    gets(&mut partitions, &map);
    gets_together(&mut partitions, &map);
    puts(&mut partitions, &map);
    puts_together(&mut partitions, &map);
    recorded_puts(&mut partitions, &map);
    scans(&mut partitions, &map);
    through_strands(partitions, &map);
}

fn home<'p>(partitions: &'p mut [Partition], key: &[u8]) -> &'p mut Partition {
    &mut partitions[usize::from(partition_of(key, PARTITIONS))]
}

/// Writes every key once, and tells what that took, in time and in memory.
fn filled(map: &MapDescriptor) -> Vec<Partition> {
    let keys = shuffled_keys();
    let mut memory = 0;
    let mut kept = Vec::new();
    let figure = rounds(|_| {
        drop(std::mem::take(&mut kept));
        let mut partitions = partitions();
        let before = resident_bytes();
        let time = nanoseconds_each(ENTRIES, || {
            for key in &keys {
                home(&mut partitions, key).put(&access(map), &put(key, &VALUE)).expect("there is room");
            }
        });
        // The first round's: later ones reuse pages that the allocator has kept.
        if memory == 0 {
            memory = resident_bytes() - before;
        }
        kept = partitions;
        time
    });
    tell("put, new key", figure, ("ns", "-"));
    let over = memory as f64 / ENTRIES as f64 - (KEY_BYTES + VALUE_BYTES) as f64;
    tell("resident bytes over key and value", rounds(|_| over), ("B", "<= 64"));
    kept
}

fn gets(partitions: &mut [Partition], map: &MapDescriptor) {
    let figure = rounds(|round| {
        let keys = drawn_keys(round as u64 + 10);
        nanoseconds_each(ENTRIES, || {
            for key in &keys {
                let entry = home(partitions, key).get(&access(map), key).expect("every key has an entry");
                // The first byte of the value: without it nobody has read the entry.
                black_box(entry.value[0]);
            }
        })
    });
    tell("get", figure, ("ns", "<= 300"));
}

/// As the node runs the operations of one message: first it asks the memory for all of them.
fn together(partitions: &mut [Partition], map: &MapDescriptor, keys: &[Key]) {
    let at = |key: &Key| &partitions[usize::from(partition_of(key, PARTITIONS))];
    prefetch(keys.iter().map(|key| (at(key), map.id, &key[..])));
}

fn gets_together(partitions: &mut [Partition], map: &MapDescriptor) {
    let figure = rounds(|round| {
        let keys = drawn_keys(round as u64 + 60);
        nanoseconds_each(ENTRIES, || {
            for keys in keys.chunks(TOGETHER) {
                together(partitions, map, keys);
                for key in keys {
                    let entry = home(partitions, key).get(&access(map), key).expect("every key has an entry");
                    black_box(entry.value[0]);
                }
            }
        })
    });
    tell("get, 16 together", figure, ("ns", "<= 300"));
}

fn puts_together(partitions: &mut [Partition], map: &MapDescriptor) {
    let figure = rounds(|round| {
        let keys = drawn_keys(round as u64 + 70);
        nanoseconds_each(ENTRIES, || {
            for keys in keys.chunks(TOGETHER) {
                together(partitions, map, keys);
                for key in keys {
                    home(partitions, key).put(&access(map), &put(key, &OTHER)).expect("there is room");
                }
            }
        })
    });
    tell("put, 16 together", figure, ("ns", "<= 600"));
}

fn puts(partitions: &mut [Partition], map: &MapDescriptor) {
    let figure = rounds(|round| {
        let keys = drawn_keys(round as u64 + 20);
        nanoseconds_each(ENTRIES, || {
            for key in &keys {
                home(partitions, key).put(&access(map), &put(key, &OTHER)).expect("there is room");
            }
        })
    });
    tell("put, key that has an entry", figure, ("ns", "<= 600"));
}

/// With a request id, as a client sends it: its record is kept, and dropped when the client has gone on.
fn recorded_puts(partitions: &mut [Partition], map: &MapDescriptor) {
    const IN_FLIGHT: u64 = 64;
    let client = ClientId { random: 7, issued: wattle_benches::NOW };
    let mut sequence = IN_FLIGHT;
    let figure = rounds(|round| {
        let keys = drawn_keys(round as u64 + 30);
        nanoseconds_each(ENTRIES, || {
            for key in &keys {
                sequence += 1;
                let oldest_pending = sequence - IN_FLIGHT;
                let id = RequestId { client, sequence, oldest_pending, repeated: false };
                let operations = std::iter::once(Ok((access(map), Operation::Put(put(key, &OTHER)))));
                let request = Some((&id, Room::UNLIMITED));
                let run =
                    home(partitions, key).run_part(request, operations, |_, done| drop(black_box(done)));
                run.expect("a new id");
            }
        })
    });
    tell("put with a completion record", figure, ("ns", "<= 600"));
}

fn scan(partition: &mut Partition, map: &MapDescriptor, mut visit: impl FnMut(&[u8], &[u8])) {
    let mut range = partition.scan_range(&access(map));
    let wanted = Wanted { prefix: b"", limit: u64::MAX };
    while let ScanEnd::More(rest) =
        partition.scan(&access(map), range, wanted, |entry| visit(entry.key, entry.value))
    {
        range = rest;
    }
}

fn scans(partitions: &mut [Partition], map: &MapDescriptor) {
    let figure = rounds(|_| {
        let mut seen = 0;
        let each = nanoseconds_each(ENTRIES, || {
            for partition in &mut *partitions {
                scan(partition, map, |key, value| {
                    seen += 1;
                    black_box((key[0], value[0]));
                });
            }
        });
        assert_eq!(seen, ENTRIES, "a scan sees every entry once");
        1000.0 / each
    });
    tell("scan, every key and value touched", figure, ("M/s", ">= 5"));
    let mut buffer = Vec::with_capacity(1 << 20);
    let figure = rounds(|_| {
        let each = nanoseconds_each(ENTRIES, || {
            for partition in &mut *partitions {
                buffer.clear();
                scan(partition, map, |key, value| {
                    buffer.extend_from_slice(key);
                    buffer.extend_from_slice(value);
                });
                black_box(&buffer);
            }
        });
        1000.0 / each
    });
    tell("scan, every key and value copied", figure, ("M/s", ">= 5"));
}

fn through_strands(partitions: Vec<Partition>, map: &MapDescriptor) {
    let pool = ComputePool::<Partition, ()>::new(1, || ()).expect("a thread");
    let bound = Cost { operations: 1024, bytes: 1 << 20 };
    let strand = |partition| pool.strand(partition, Bounds { keyed: bound, slow: bound });
    let strands: Vec<_> = partitions.into_iter().map(strand).collect();
    let home = |key: &[u8]| &strands[usize::from(partition_of(key, PARTITIONS))];
    let figure = rounds(|round| {
        let keys = drawn_keys(round as u64 + 40);
        nanoseconds_each(ENTRIES, || {
            for key in &keys {
                let first =
                    |partition: &mut Partition| partition.get(&access(map), key).map(|entry| entry.value[0]);
                let Ok(byte) = home(key).try_run(first) else { unreachable!("nobody else is here") };
                black_box(byte);
            }
        })
    });
    tell("get through a strand", figure, ("ns", "<= 300"));
    let figure = rounds(|round| {
        let keys = drawn_keys(round as u64 + 50);
        nanoseconds_each(ENTRIES, || {
            for key in &keys {
                let write =
                    |partition: &mut Partition| partition.put(&access(map), &put(key, &OTHER)).is_ok();
                let Ok(written) = home(key).try_run(write) else { unreachable!("nobody else is here") };
                assert!(written, "there is room");
            }
        })
    });
    tell("put through a strand", figure, ("ns", "<= 600"));
}
