//! Members without a disk that do not come back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::*;
use super::fixture::*;
use crate::ids::{MemberId, NodeId};
use crate::limits::DISMISSAL_TIME;
use crate::membership::Presence;
use crate::replication::{Change, LocalTime};

/// Nodes 1 to 3, of which the third, without a disk, was added to partition 0 beside the first and is silent now.
fn with_a_silent_third() -> (Grid, BTreeMap<MemberId, Presence>) {
    let mut grid = grid_of(2, 1);
    let mut third = joining(3);
    third.description.in_memory = true;
    join(&mut grid, third).unwrap();
    begin(&mut grid, &[1, 3]);
    add(&mut grid, member(3, 1));
    let mut presence = presence(&grid, Presence::Alive);
    presence.insert(member(3, 1), Presence::Gone);
    (grid, presence)
}

/// As the primary does whose copies are where they should be.
fn remove_third(grid: &mut Grid) {
    decide(grid, Order::Want { wanted: members(&[1, 2]), primary: member(1, 1) }).unwrap();
    propose(grid, Change { remove: Some(member(3, 1)), ..Change::default() }).unwrap();
    add(grid, member(2, 1));
}

const DISMISS: GridCommand = GridCommand::Dismiss { member: MemberId { node: NodeId(3), incarnation: 1 } };

#[test]
fn who_is_silent_for_long_and_holds_nothing_is_dismissed() {
    let (mut grid, presence) = with_a_silent_third();
    remove_third(&mut grid);
    let mut reconciler = Reconciler::default();
    let start = LocalTime::default() + DISMISSAL_TIME;
    assert_eq!(reconciler.next(start, &grid, &presence), None);
    let nearly = start + (DISMISSAL_TIME - Duration::from_millis(1));
    assert_eq!(reconciler.next(nearly, &grid, &presence), None);
    // It is heard of again, and the time begins anew.
    let mut back = presence.clone();
    back.insert(member(3, 1), Presence::Alive);
    reconciler.next(nearly, &grid, &back);
    assert_eq!(reconciler.next(start + DISMISSAL_TIME, &grid, &presence), None);
    let later = start + 2 * DISMISSAL_TIME;
    assert_eq!(reconciler.next(later, &grid, &presence), Some(DISMISS));
    let gone = GridApplied::NodeGone { node: NodeId(3), partitions: Vec::new() };
    assert_eq!(grid.apply(&DISMISS), Ok(gone));
    assert_eq!(reconciler.next(later, &grid, &presence), None);
    assert_eq!(grid.apply(&DISMISS), Err(GridRefusal::NotAMember { member: member(3, 1) }));
}

#[test]
fn who_may_hold_what_is_needed_stays() {
    let (mut grid, presence) = with_a_silent_third();
    let refused = Err(GridRefusal::Needed { member: member(3, 1) });
    assert_eq!(grid.apply(&DISMISS), refused, "it is in sync");
    let ages = |grid: &Grid| {
        let mut reconciler = Reconciler::default();
        reconciler.next(LocalTime::default(), grid, &presence);
        reconciler.next(LocalTime::default() + 2 * DISMISSAL_TIME, grid, &presence)
    };
    assert_ne!(ages(&grid), Some(DISMISS));
    remove_third(&mut grid);
    let held = grid.clone();
    // The others lose their memory.
    for node in [1, 2] {
        join(
            &mut grid,
            Joining { known: Some(member(node, 1)), ..joining(u8::try_from(node).unwrap() + 10) },
        )
        .unwrap();
    }
    assert!(grid.row(partition(0)).unwrap().is_lost());
    assert_eq!(grid.apply(&DISMISS), refused, "people may look for a copy");
    let mut with_disk = held;
    let description = Box::new(description(3));
    with_disk.apply(&GridCommand::Describe { member: member(3, 1), description }).unwrap();
    assert_eq!(with_disk.apply(&DISMISS), refused, "it may come back");
    assert_eq!(ages(&with_disk), None);
}
