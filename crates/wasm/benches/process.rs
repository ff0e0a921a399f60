//! What a guest costs for each entry, warm, with epochs on: the frame is there, the reply is checked and read. The
//! guest adds one to a number, so that what is measured is the way in and out.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wattle_frame::guest::{Effect, EntrySlot, Reply, RequestHeader, RequestWriter};
use wattle_wasm::compile::compile_here;
use wattle_wasm::{Call, Isolation, Module, Runtime, Warm, WarmLimits};

#[path = "../tests/guests/guest.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod guest;

fn request(entries: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    let header = RequestHeader { function: 0, now_ms: 0, map: "numbers", argument: b"", capacity: entries };
    let mut writer = RequestWriter::new(&mut buffer, &header).expect("a small frame");
    for entry in 0..entries {
        let key = (entry as u128).to_le_bytes();
        let value = Some(&[1; 8][..]);
        writer
            .push(&EntrySlot { key: &key, value, version: 1, ttl_ms: None, argument: None })
            .expect("a small frame");
    }
    writer.finish();
    buffer
}

fn read(reply: &Reply<'_>) {
    for answer in reply.answers() {
        match answer.effect {
            Effect::Put(value) => black_box(value.len()),
            other => unreachable!("the counter puts, it does not {other:?}"),
        };
    }
}

fn process(criterion: &mut Criterion) {
    let runtime = std::sync::Arc::new(Runtime::new(4).expect("the engine starts"));
    let artifact = compile_here(&guest::Guest::counter().module()).expect("the counter compiles");
    let module = Module::load(&runtime, &artifact, 16 << 20).expect("the counter loads");
    let mut warm = Warm::new(WarmLimits { calls: u64::MAX, ..WarmLimits::default() });
    let mut group = criterion.benchmark_group("process");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for entries in [1, 16, 256] {
        let frame = request(entries);
        group.throughput(Throughput::Elements(entries as u64));
        for isolation in [Isolation::Warm, Isolation::Fresh] {
            let call = Call { isolation, ..Call::default() };
            group.bench_function(format!("{isolation:?}/{entries}"), |bencher| {
                bencher.iter(|| {
                    warm.process(&module, black_box(&frame), &call, read).expect("the counter counts");
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, process);
criterion_main!(benches);
