//! Histories that can be, and histories that cannot.

use super::*;

/// Asked and answered at these times.
fn told(asked: u64, at: u64, action: Action, shown: Shown) -> Operation {
    let answer = Some(Answer { at: Time(at), shown });
    Operation { action, asked: Time(asked), answer }
}

fn untold(asked: u64, action: Action) -> Operation {
    Operation { action, asked: Time(asked), answer: None }
}

fn put(asked: u64, at: u64, value: i64, version: u64) -> Operation {
    told(asked, at, Action::Put(value), Shown::Written(Version(version)))
}

fn get(asked: u64, at: u64, value: i64, version: u64) -> Operation {
    told(asked, at, Action::Get, Shown::Found(Some((value, Version(version)))))
}

fn nothing(asked: u64, at: u64) -> Operation {
    told(asked, at, Action::Get, Shown::Found(None))
}

fn increment(asked: u64, at: u64, delta: i64, (sum, version): (i64, u64)) -> Operation {
    told(asked, at, Action::Increment(delta), Shown::Sum(sum, Version(version)))
}

fn set(asked: u64, at: u64, (expected, value): (u64, i64), shown: Shown) -> Operation {
    told(asked, at, Action::CompareAndSet { expected: Version(expected), value }, shown)
}

fn remove(asked: u64, at: u64, removed: bool) -> Operation {
    told(asked, at, Action::Remove, Shown::Removed(removed))
}

#[track_caller]
fn check(history: &[Operation], can_be: bool) {
    let finding = judge(history);
    assert_eq!(finding == Finding::Linearizable, can_be, "{finding:?}");
    assert_ne!(finding, Finding::Undecided);
}

#[test]
fn one_after_the_other_is_fine() {
    check(&[], true);
    check(&[put(0, 1, 7, 1), get(2, 3, 7, 1), increment(4, 5, 3, (10, 2)), get(6, 7, 10, 2)], true);
    check(&[increment(0, 1, 5, (5, 1)), remove(2, 3, true), nothing(4, 5), remove(6, 7, false)], true);
    let mismatch = set(4, 5, (9, 8), Shown::Mismatch(Version(1)));
    check(&[put(0, 1, 7, 1), mismatch, set(6, 7, (1, 8), Shown::Written(Version(2)))], true);
}

#[test]
fn what_overlaps_may_be_in_any_order() {
    check(&[put(0, 9, 7, 2), put(0, 9, 8, 1), get(10, 11, 7, 2)], true);
    check(&[put(0, 9, 7, 2), get(1, 2, 7, 2), get(3, 4, 7, 2)], true);
    check(&[put(0, 9, 7, 2), nothing(1, 2), get(3, 4, 7, 2)], true);
    check(&[put(0, 9, 7, 2), get(1, 2, 7, 2), nothing(3, 4)], false);
}

#[test]
fn a_lost_write_is_found() {
    check(&[put(0, 1, 7, 1), nothing(2, 3)], false);
    check(&[put(0, 1, 7, 1), put(2, 3, 8, 2), get(4, 5, 7, 1)], false);
    check(&[put(0, 1, 7, 1), remove(2, 3, false)], false);
    check(&[increment(0, 1, 5, (5, 1)), increment(2, 3, 2, (2, 2))], false);
}

#[test]
fn an_old_read_is_found() {
    check(&[put(0, 1, 7, 1), put(2, 5, 8, 2), get(3, 4, 8, 2), get(6, 7, 7, 1)], false);
    check(&[put(0, 1, 7, 1), put(2, 9, 8, 2), get(3, 4, 8, 2), get(5, 6, 7, 1)], false);
}

#[test]
fn an_increment_that_counts_twice_is_found() {
    check(&[increment(0, 1, 5, (5, 1)), get(2, 3, 10, 2)], false);
    check(&[untold(0, Action::Increment(5)), get(2, 3, 10, 2)], false);
    check(&[untold(0, Action::Increment(5)), get(2, 3, 5, 2)], true);
    check(&[untold(0, Action::Increment(5)), increment(1, 2, 1, (1, 1)), get(3, 4, 6, 2)], true);
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    check(&[get(0, 1, 7, 1)], false);
    check(&[untold(5, Action::Put(7)), get(0, 1, 7, 1)], false);
}

#[test]
fn what_was_not_answered_may_take_effect_late_or_never() {
    let untold = untold(0, Action::Put(7));
    check(&[untold, nothing(1, 2), nothing(5, 6)], true);
    check(&[untold, nothing(1, 2), get(5, 6, 7, 3)], true);
    check(&[untold, get(1, 2, 7, 3), nothing(5, 6)], false);
    check(&[untold, put(1, 2, 8, 1), get(3, 4, 7, 3), get(5, 6, 8, 1)], false);
}

#[test]
fn two_who_expect_the_same_version_do_not_both_win() {
    let first = put(0, 1, 7, 1);
    let won = |value, version| set(2, 9, (1, value), Shown::Written(Version(version)));
    check(&[first, won(8, 2), won(9, 3)], false);
    check(&[first, won(8, 2), set(2, 9, (1, 9), Shown::Mismatch(Version(2)))], true);
    check(&[first, set(2, 3, (1, 9), Shown::Mismatch(Version(1)))], false);
    check(&[set(0, 1, (0, 7), Shown::Written(Version(1))), remove(2, 3, true), nothing(4, 5)], true);
    check(&[first, set(2, 3, (0, 9), Shown::Written(Version(2)))], false);
}

#[test]
fn a_sum_without_a_version_counts_once() {
    let counted = |asked, delta, sum| told(asked, asked + 1, Action::Increment(delta), Shown::Counted(sum));
    check(&[put(0, 1, 7, 1), counted(2, 3, 10), get(4, 5, 10, 2), counted(6, 1, 11)], true);
    check(&[counted(0, 3, 3), counted(2, 3, 3)], false);
    check(&[counted(0, 3, 3), get(2, 3, 6, 1)], false);
    check(&[put(0, 1, 7, 5), counted(2, 3, 10), get(4, 5, 10, 4)], false);
}

#[test]
fn versions_that_do_not_rise_are_found() {
    check(&[put(0, 1, 7, 5), put(2, 3, 8, 4)], false);
    check(&[put(0, 1, 7, 5), get(2, 3, 7, 6)], false);
    check(&[put(0, 1, 7, 5), remove(2, 3, true), put(4, 5, 8, 5)], false);
    check(&[put(0, 1, 7, 5), untold(2, Action::Put(8)), get(3, 4, 8, 5)], false);
}

/// Twelve puts at a time, again and again: an order is found without trying all.
#[test]
fn many_at_a_time_are_decided() {
    let mut history = Vec::new();
    let mut version = 0;
    for round in 0..20 {
        let start = round * 100;
        for _ in 0..12 {
            version += 1;
            let value = i64::try_from(version).unwrap();
            history.push(put(start, start + 50, value, version));
        }
        if round % 7 == 0 {
            history.push(untold(start, Action::Increment(1)));
        }
        history.push(get(start + 60, start + 61, i64::try_from(version).unwrap(), version));
    }
    check(&history, true);
    let old = get(5000, 5001, 3, 3);
    history.push(old);
    check(&history, false);
}

/// Forty writes that nobody has heard of again, of which a few took effect, and a long history after them.
#[test]
fn many_without_an_answer_are_decided() {
    let mut history: Vec<Operation> = (0..40).map(|value| untold(value as u64, Action::Put(value))).collect();
    for round in 0..200 {
        let (at, version) = (100 + round * 10, 10 + round * 2);
        let value = 1000 + i64::try_from(round).unwrap();
        history.push(put(at, at + 1, value, version));
        if round % 20 == 7 {
            history.push(get(at + 2, at + 3, i64::try_from(round / 20).unwrap(), version + 1));
        }
    }
    check(&history, true);
}
