//! Nodes that still fetch and compile functions.

use super::super::*;
use super::fixture::*;
use crate::membership::Presence;
use crate::replication::LocalTime;

/// Does all that is to be done while all live.
fn settle(grid: &mut Grid, reconciler: &mut Reconciler) {
    while let Some(command) = reconciler.next(LocalTime::default(), grid, &presence(grid, Presence::Alive)) {
        grid.apply(&command).unwrap();
    }
}

#[test]
fn who_has_not_prepared_gets_no_partitions_and_they_lack_a_copy_until_then() {
    let mut grid = grid(2);
    let mut preparing = joining(2);
    preparing.description.prepares = true;
    assert_eq!(join(&mut grid, preparing.clone()), Ok(member(2, 1)));
    let mut reconciler = Reconciler::default();
    settle(&mut grid, &mut reconciler);
    let are_wanted = |grid: &Grid, nodes| grid.rows().all(|(_, row)| row.assignment.wanted == members(nodes));
    assert!(are_wanted(&grid, &[1]));
    assert_eq!(grid.partitions_in(PartitionState::UnderReplicated), 2);
    let description = NodeDescription { prepares: false, ..preparing.description };
    let describe = GridCommand::Describe { member: member(2, 1), description: Box::new(description) };
    grid.apply(&describe).unwrap();
    settle(&mut grid, &mut reconciler);
    assert!(are_wanted(&grid, &[1, 2]));
}
