//! How many partitions are on their way at the same time.

use super::super::*;
use super::fixture::*;
use crate::limits::{MOVE_PATIENCE, MOVES};
use crate::membership::Presence;
use crate::replication::LocalTime;

#[test]
fn moves_that_do_not_go_on_leave_their_places() {
    let partitions = u16::try_from(MOVES).unwrap() * 4;
    let mut grid = grid_of(2, partitions);
    let alive = presence(&grid, Presence::Alive);
    let (start, mut reconciler) = (LocalTime::default(), Reconciler::default());
    // Both are heard, and do not hear each other: no partition gets its second copy.
    while let Some(command) = reconciler.next(start, &grid, &alive) {
        grid.apply(&command).unwrap();
    }
    assert!(grid.rows().all(|(_, row)| row.assignment.in_sync.len() == 1 && !row.is_complete()));
    join(&mut grid, joining(3)).unwrap();
    let alive = presence(&grid, Presence::Alive);
    assert_eq!(reconciler.next(start, &grid, &alive), None, "all places are taken");
    let late = start + MOVE_PATIENCE;
    let Some(GridCommand::Decide { decisions }) = reconciler.next(late, &grid, &alive) else {
        panic!("a node that joins gets its share")
    };
    assert_eq!(decisions.len(), MOVES);
    assert!(decisions.iter().all(|decision| matches!(decision.order, Order::Want { .. })));
}
