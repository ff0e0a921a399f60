//! Whole-map calls on maps that evict: entries of a batch may go to make room for others of it.

use std::collections::BTreeMap;

use super::*;

const POLICIES: [EvictionPolicy; 2] = [EvictionPolicy::Lru, EvictionPolicy::Lfu];

fn evicting(policy: EvictionPolicy, max_bytes: u64) -> MapDescriptor {
    map(MapOptions { max_bytes: Some(max_bytes), eviction: policy, ..MapOptions::default() })
}

fn all(p: &mut Partition, at: &Access<'_>) -> Vec<(Slot, Vec<u8>)> {
    let range = p.scan_range(at);
    let slots = p.sweep(at, range, 256).slots;
    slots.into_iter().map(|slot| (slot, p.entry_at(at, slot).unwrap().key.to_vec())).collect()
}

#[test]
fn a_full_map_refuses_or_evicts_by_its_policy() {
    let entry = 64 + 2 + 10;
    for policy in [EvictionPolicy::None, EvictionPolicy::Lru, EvictionPolicy::Lfu] {
        let options = MapOptions { max_bytes: Some(10 * entry), eviction: policy, ..MapOptions::default() };
        let (mut p, m) = (partition(), map(options));
        for i in 0..10_u8 {
            p.put(&at(&m, NOW), &put(&[0, i], &[0; 10])).unwrap();
        }
        let later = NOW.after(seconds(60));
        (0..20).for_each(|_| assert!(p.get(&at(&m, later), &[0, 0]).is_some()));
        let one_more = p.put(&at(&m, later), &put(&[1, 1], &[0; 10]));
        if policy == EvictionPolicy::None {
            assert_eq!(one_more, Err(Refusal::MapFull { share: 10 * entry }));
            assert!(p.put(&at(&m, later), &put(&[0, 3], &[1; 10])).is_ok(), "what does not grow is written");
        } else {
            assert!(one_more.is_ok());
            assert!(p.get(&at(&m, later), &[0, 0]).is_some(), "{policy:?} keeps what is used");
            assert_eq!(p.statistics(m.id).evictions, 1);
        }
        assert_eq!(p.entries(), 10);
        let huge = p.put(&at(&m, later), &put(b"huge", &[0; 1000]));
        assert_eq!(huge, Err(Refusal::MapFull { share: 10 * entry }), "{policy:?}");
        p.check_invariants();
    }
}

#[test]
fn a_batch_that_outgrows_its_map_writes_its_evicted_entries_anew() {
    for policy in POLICIES {
        let (mut p, m) = (partition(), evicting(policy, 100 * (64 + 1 + 10)));
        let at = at(&m, NOW);
        (0..100_u8).for_each(|key| drop(p.put(&at, &put(&[key], &[0; 10])).unwrap()));
        for (slot, key) in all(&mut p, &at) {
            let effect = Effect::Put { value: &[1; 40], ttl: TtlChoice::OfMap };
            assert_eq!(p.apply_at(&at, (slot, &key), effect), Ok(()), "{policy:?}");
            assert_eq!(p.entry_at(&at, slot).map(|entry| entry.key), Some(&key[..]), "it keeps its slot");
        }
        p.check_invariants();
        assert_eq!(p.entries(), 100 * (64 + 1 + 10) / (64 + 1 + 40));
        assert!(all(&mut p, &at).iter().all(|(_, key)| p.peek(&at, key).unwrap().value == [1; 40]));
    }
}

#[test]
fn an_entry_that_made_room_is_not_removed_again() {
    for policy in POLICIES {
        let (mut p, m) = (partition(), evicting(policy, 10 * (64 + 1 + 10)));
        let at = at(&m, NOW);
        (0..10_u8).for_each(|key| drop(p.put(&at, &put(&[key], &[0; 10])).unwrap()));
        let batch = all(&mut p, &at);
        let (first, others) = batch.split_first().unwrap();
        let grown = Effect::Put { value: &[1; 400], ttl: TtlChoice::OfMap };
        assert_eq!(p.apply_at(&at, (first.0, &first.1), grown), Ok(()));
        let (evicted, position) = (p.statistics(m.id).evictions, p.position());
        assert_eq!(evicted, 6, "{policy:?}");
        for (slot, key) in others {
            assert_eq!(p.apply_at(&at, (*slot, key), Effect::Remove), Ok(()), "{policy:?}");
        }
        assert_eq!((p.entries(), p.position().0 - position.0), (1, 9 - evicted), "{policy:?}");
        p.check_invariants();
    }
}

#[test]
fn an_evicted_entry_that_does_not_fit_any_more_is_refused_alone() {
    let (mut p, m) = (partition(), evicting(EvictionPolicy::Lru, 3 * (64 + 1 + 10)));
    let at = at(&m, NOW);
    (0..3_u8).for_each(|key| drop(p.put(&at, &put(&[key], &[0; 10])).unwrap()));
    let batch = all(&mut p, &at);
    let results = batch.iter().zip([150, 161, 1]).map(|((slot, key), size)| {
        let value = vec![1; size];
        p.apply_at(&at, (*slot, key), Effect::Put { value: &value, ttl: TtlChoice::OfMap })
    });
    let full = Refusal::MapFull { share: 3 * (64 + 1 + 10) };
    assert_eq!(results.collect::<Vec<_>>(), [Ok(()), Err(full), Ok(())]);
    p.check_invariants();
}

#[test]
fn a_map_of_a_few_entries_among_many_that_are_gone_evicts() {
    for policy in POLICIES {
        let (mut p, m) = (partition(), evicting(policy, 10_000 * (64 + 4)));
        let at = at(&m, NOW);
        (0..9_000_u32).for_each(|key| drop(p.put(&at, &put(&key.to_be_bytes(), b"")).unwrap()));
        for key in (0..9_000_u32).filter(|key| key % 1000 != 0) {
            p.remove(&at, &Remove { key: &key.to_be_bytes(), if_version: None, previous: Previous::Ignore })
                .unwrap();
        }
        let huge = vec![0; 9_999 * (64 + 4)];
        assert!(p.put(&at, &put(b"huge", &huge)).is_ok(), "{policy:?}");
        assert_eq!((p.entries(), p.statistics(m.id).evictions), (1, 9), "{policy:?}");
        p.check_invariants();
    }
}

proptest! {
    /// Whatever entries grow to, and whoever makes room for whom.
    #[test]
    fn a_pass_over_an_evicting_map_comes_to_each_key_once(
        sizes in prop::collection::vec((0..60_usize, prop::option::weighted(0.8, 0..300_usize)), 1..80),
        max_bytes in 64..6_000_u64,
        batch in 1..80_usize,
        lfu in any::<bool>(),
    ) {
        let m = evicting(if lfu { EvictionPolicy::Lfu } else { EvictionPolicy::Lru }, max_bytes);
        let (mut p, at) = (partition(), at(&m, NOW));
        for (key, (size, _)) in (0_u8..).zip(&sizes) {
            let _full = p.put(&at, &put(&[key], &vec![0; *size]));
        }
        let (mut range, mut runs) = (p.scan_range(&at), BTreeMap::new());
        loop {
            let swept = p.sweep(&at, range, batch);
            let keys = swept.slots.iter().map(|slot| (*slot, p.entry_at(&at, *slot).unwrap().key.to_vec()));
            for (slot, key) in keys.collect::<Vec<_>>() {
                *runs.entry(key[0]).or_insert(0) += 1;
                let value = sizes[usize::from(key[0])].1.map(|size| vec![1; size]);
                let effect = value.as_ref().map_or(Effect::Remove, |value| Effect::Put { value, ttl: TtlChoice::OfMap });
                let applied = p.apply_at(&at, (slot, &key), effect);
                let written = p.peek(&at, &key).map(|entry| entry.value.to_vec());
                prop_assert!(applied.is_err() || written == value, "{key:?}: {applied:?}, {written:?}");
                p.check_invariants();
            }
            prop_assert!(p.statistics(m.id).bytes <= max_bytes);
            let ScanEnd::More(rest) = swept.end else { break };
            range = rest;
        }
        prop_assert!(runs.values().all(|runs| *runs == 1), "{runs:?}");
    }
}
