//! What becomes of partitions that nobody holds any more.

use super::super::*;
use super::fixture::*;
use crate::ids::{Epoch, NodeId, Version};
use crate::membership::Presence;
use crate::replication::{Change, LocalTime};

const COPY: Recovery = Recovery::Copy { epoch: Epoch { generation: 1, number: 1 }, last: Version(5) };

/// Partition 0 was held by node 1, and by node 2 until it was removed; then node 1 has lost its memory.
fn with_a_copy_outside() -> Grid {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    add(&mut grid, member(2, 1));
    propose(&mut grid, Change { remove: Some(member(2, 1)), ..Change::default() }).unwrap();
    join(&mut grid, Joining { known: Some(member(1, 1)), ..joining(8) }).unwrap();
    grid
}

fn recover(
    grid: &mut Grid,
    member: crate::ids::MemberId,
    from: Recovery,
) -> Result<GridApplied, GridRefusal> {
    let version = grid.row(partition(0)).unwrap().assignment.version;
    grid.apply(&GridCommand::RecoverLost { partition: partition(0), version, member, from })
}

fn refused(source: DecisionError) -> Result<GridApplied, GridRefusal> {
    Err(GridRefusal::Decision { partition: partition(0), source })
}

#[test]
fn who_has_lost_the_last_copy_makes_the_partition_lost_and_nobody_primary() {
    let mut grid = with_a_copy_outside();
    let row = grid.row(partition(0)).unwrap();
    assert!(row.is_lost());
    assert_eq!(row.assignment.primary, None);
    let to = member(2, 1);
    assert_eq!(decide(&mut grid, Order::FailOver { to }), Err(DecisionError::NotInSync { member: to }));
    let alive = presence(&grid, Presence::Alive);
    assert_eq!(
        Reconciler::default().next(LocalTime::default(), &grid, &alive),
        None,
        "somebody is to decide"
    );
}

#[test]
fn nobody_stays_for_what_is_lost() {
    let mut grid = with_a_copy_outside();
    let row = grid.row(partition(0)).unwrap();
    assert!(row.is_lost() && row.assignment.wanted.contains(&member(2, 1)));
    assert_eq!(grid.needs(member(2, 1), &presence(&grid, Presence::Alive)), 0);
    grid.apply(&GridCommand::Drain { node: NodeId(2) }).unwrap();
    let gone = GridApplied::NodeGone { node: NodeId(2), partitions: vec![partition(0)] };
    assert_eq!(grid.apply(&GridCommand::Leave { member: member(2, 1) }), Ok(gone));
}

#[test]
fn a_copy_that_no_set_counts_on_is_no_full_loss() {
    let mut grid = with_a_copy_outside();
    let refused = GridRefusal::NoFullLoss { live: 0, begun: 1, holders: 1 };
    assert_eq!(grid.apply(&GridCommand::StartEmpty), Err(refused));
}

#[test]
fn a_lost_partition_goes_on_with_a_copy_if_it_is_one() {
    let mut grid = with_a_copy_outside();
    assert_eq!(
        recover(&mut grid, member(1, 1), COPY),
        refused(DecisionError::NotAMember { member: member(1, 1) })
    );
    let (began, current) = (Some(Epoch { generation: 1, number: 1 }), Epoch { generation: 1, number: 1 });
    for number in [0, 2] {
        let epoch = Epoch { generation: 1, number };
        let no_copy = DecisionError::NoCopy { epoch, began, current };
        let from = Recovery::Copy { epoch, last: Version(5) };
        assert_eq!(recover(&mut grid, member(2, 1), from), refused(no_copy));
    }
    assert_eq!(recover(&mut grid, member(2, 1), COPY), Ok(GridApplied::Partitions(vec![partition(0)])));
    let row = grid.row(partition(0)).unwrap();
    assert_eq!((row.assignment.primary, row.assignment.epoch.number), (Some(member(2, 1)), 2));
    assert_eq!((row.began, &row.assignment.in_sync), (began, &members(&[2])), "its copies are good ones");
    assert_eq!(recover(&mut grid, member(1, 2), Recovery::Empty), refused(DecisionError::NotLost));
}

#[test]
fn a_lost_partition_that_begins_empty_makes_its_copies_void() {
    let mut grid = with_a_copy_outside();
    assert_eq!(
        recover(&mut grid, member(1, 2), Recovery::Empty),
        Ok(GridApplied::Partitions(vec![partition(0)]))
    );
    let row = grid.row(partition(0)).unwrap();
    assert_eq!(row.began, Some(Epoch { generation: 1, number: 2 }));
    grid.apply(&GridCommand::Forget { node: NodeId(1) }).unwrap();
    let no_copy = DecisionError::NoCopy {
        epoch: Epoch { generation: 1, number: 1 },
        began: Some(Epoch { generation: 1, number: 2 }),
        current: Epoch { generation: 1, number: 2 },
    };
    assert_eq!(recover(&mut grid, member(2, 1), COPY), refused(no_copy));
}

#[test]
fn a_grid_whose_every_copy_is_gone_starts_empty_under_new_epochs() {
    let mut grid = grid_of(1, 2);
    let alive = presence(&grid, Presence::Alive);
    let mut reconciler = Reconciler::default();
    let begin = reconciler.next(LocalTime::default(), &grid, &alive).unwrap();
    grid.apply(&begin).unwrap();
    assert_eq!(reconciler.next(LocalTime::default(), &grid, &alive), None);
    join(&mut grid, Joining { known: Some(member(1, 1)), ..joining(2) }).unwrap();
    let alive = presence(&grid, Presence::Alive);
    assert_eq!(reconciler.next(LocalTime::default(), &grid, &alive), Some(GridCommand::StartEmpty));
    let both = vec![partition(0), partition(1)];
    assert_eq!(grid.apply(&GridCommand::StartEmpty), Ok(GridApplied::Partitions(both.clone())));
    let begin = reconciler.next(LocalTime::default(), &grid, &alive).unwrap();
    assert_eq!(grid.apply(&begin), Ok(GridApplied::Decided { partitions: both, refused: vec![] }));
    for (_, row) in grid.rows() {
        assert_eq!((row.assignment.primary, row.assignment.epoch.number), (Some(member(1, 2)), 2));
        assert_eq!(row.began, Some(row.assignment.epoch));
    }
}

#[test]
fn a_grid_that_holds_what_it_has_lost_does_not_start_empty() {
    let mut grid = grid_of(1, 1);
    begin(&mut grid, &[1]);
    let hold = GridCommand::SetOnFullLoss(OnFullLoss::Hold);
    assert_eq!(grid.apply(&hold), Ok(GridApplied::OnFullLoss(OnFullLoss::Hold)));
    assert_eq!(grid.apply(&hold), Ok(GridApplied::Unchanged));
    join(&mut grid, Joining { known: Some(member(1, 1)), ..joining(2) }).unwrap();
    assert_eq!(
        Reconciler::default().next(LocalTime::default(), &grid, &presence(&grid, Presence::Alive)),
        None
    );
    assert_eq!(grid.apply(&GridCommand::StartEmpty), Err(GridRefusal::Held));
    assert_eq!(
        recover(&mut grid, member(1, 2), Recovery::Empty),
        Ok(GridApplied::Partitions(vec![partition(0)]))
    );
}

#[test]
fn a_grid_with_one_copy_left_does_not_start_empty() {
    let mut grid = grid_of(2, 2);
    begin(&mut grid, &[1]);
    let order = Order::Begin { wanted: members(&[2]), primary: member(2, 1) };
    let decisions = vec![Decision { partition: partition(1), version: 0, order }];
    grid.apply(&GridCommand::Decide { decisions }).unwrap();
    join(&mut grid, Joining { known: Some(member(1, 1)), ..joining(8) }).unwrap();
    let refused = GridRefusal::NoFullLoss { live: 1, begun: 2, holders: 1 };
    assert_eq!(grid.apply(&GridCommand::StartEmpty), Err(refused));
}

#[test]
fn a_class_without_backups_begins_elsewhere_when_its_holder_is_gone_for_long() {
    let mut grid = grid_of(2, 1);
    let options = ClassOptions { backups: 0, min_in_sync: 1, partitions: 1 };
    grid.apply(&GridCommand::CreateClass { options }).unwrap();
    let mut reconciler = Reconciler::default();
    let mut presence = presence(&grid, Presence::Alive);
    while let Some(command) = reconciler.next(LocalTime::default(), &grid, &presence) {
        grid.apply(&command).unwrap();
    }
    let (alone, row) = grid.rows().last().unwrap();
    let (holder, version) = (row.assignment.primary.unwrap(), row.assignment.version);
    let other = member(3 - holder.node.0, 1);
    presence.insert(holder, Presence::Suspect);
    let begins = |command: &GridCommand| match command {
        GridCommand::Decide { decisions } => decisions.iter().any(|decision| decision.partition == alone),
        other => panic!("{other:?}"),
    };
    assert!(
        !reconciler.next(LocalTime::default(), &grid, &presence).is_some_and(|command| begins(&command)),
        "it may come back"
    );
    presence.insert(holder, Presence::Gone);
    while let Some(command) = reconciler.next(LocalTime::default(), &grid, &presence) {
        grid.apply(&command).unwrap();
    }
    let row = grid.row(alone).unwrap();
    assert_eq!((row.assignment.primary, row.began), (Some(other), Some(row.assignment.epoch)));
    assert_eq!(row.assignment.version, version + 1);
    let elsewhere = Order::BeginElsewhere { on: member(1, 1) };
    assert_eq!(decide(&mut grid, elsewhere), Err(DecisionError::HasBackups));
}
