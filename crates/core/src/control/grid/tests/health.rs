//! Which partitions are said to lack copies.

use super::super::*;
use super::fixture::*;
use crate::ids::NodeId;

fn check(grid: &Grid, expected: PartitionState) {
    let found = grid.health().find(|(id, _, _)| *id == partition(0)).map(|(_, _, state)| state);
    assert_eq!(found, Some(expected));
}

fn forget(grid: &mut Grid, node: u64) {
    grid.apply(&GridCommand::Forget { node: NodeId(node) }).unwrap();
}

#[test]
fn a_partition_is_told_by_who_holds_it() {
    let mut grid = grid_of(3, 2);
    check(&grid, PartitionState::NotBegun);
    begin(&mut grid, &[1, 2]);
    check(&grid, PartitionState::UnderReplicated);
    add(&mut grid, member(2, 1));
    check(&grid, PartitionState::Ok);
    assert_eq!(
        grid.health().map(|(partition, _, state)| (partition, state)).collect::<Vec<_>>(),
        [(partition(0), PartitionState::Ok), (partition(1), PartitionState::NotBegun)]
    );
    assert_eq!(PartitionState::ALL.map(|state| grid.partitions_in(state)), [0, 0, 1, 1]);
    // Two hold it, and one of them should be another.
    let order = Order::Want { wanted: members(&[1, 3]), primary: member(1, 1) };
    assert_eq!(decide(&mut grid, order), Ok(()));
    check(&grid, PartitionState::UnderReplicated);
    add(&mut grid, member(3, 1));
    // Its primary is gone, and nobody was named in its place.
    forget(&mut grid, 1);
    check(&grid, PartitionState::UnderReplicated);
    assert_eq!(decide(&mut grid, Order::FailOver { to: member(2, 1) }), Ok(()));
    check(&grid, PartitionState::Ok);
    forget(&mut grid, 3);
    // One node is left, and it holds the partition.
    check(&grid, PartitionState::Ok);
    forget(&mut grid, 2);
    check(&grid, PartitionState::Lost);
}

#[test]
fn who_drains_is_no_place_for_a_copy() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1]);
    check(&grid, PartitionState::UnderReplicated);
    grid.apply(&GridCommand::Drain { node: NodeId(2) }).unwrap();
    check(&grid, PartitionState::Ok);
}

#[test]
fn a_partition_whose_holders_are_all_silent_is_unreachable() {
    let mut grid = grid_of(3, 1);
    let check = |grid: &Grid, answering: &[u64], expected| {
        let row = grid.row(partition(0)).unwrap();
        assert_eq!(row.is_unreachable(&members(answering)), expected, "{answering:?}");
    };
    check(&grid, &[1], false);
    begin(&mut grid, &[1, 2]);
    add(&mut grid, member(2, 1));
    check(&grid, &[2, 3], false);
    check(&grid, &[3], true);
    forget(&mut grid, 1);
    check(&grid, &[1, 3], true);
    forget(&mut grid, 2);
    check(&grid, &[3], false);
}
