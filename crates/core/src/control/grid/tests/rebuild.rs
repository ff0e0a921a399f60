//! A control group that was lost, and the one that is built anew.

use super::super::*;
use super::fixture::*;
use super::walk::{Walk, Zones};
use crate::control::{Applied, Command, GroupApplied, GroupCommand, GroupRefusal, GroupState};
use crate::ids::{Epoch, NodeId, Version};
use crate::limits::GENERATIONS;
use crate::map::MapOptions;
use crate::membership::Presence;
use crate::name::Name;
use crate::replication::{Change, LocalTime, Proposal, ProposalError};

/// Two nodes hold partition 0, the first decides.
fn held() -> Grid {
    let mut grid = grid_of(2, 2);
    begin(&mut grid, &[1, 2]);
    add(&mut grid, member(2, 1));
    grid
}

#[test]
fn the_new_group_outranks_all_that_the_lost_one_can_have_decided() {
    let remembered = held();
    let mut lost = remembered.clone();
    for to in [2, 1, 2] {
        decide(&mut lost, Order::FailOver { to: member(to, 1) }).unwrap();
    }
    let rebuilt = remembered.rebuilt(2, NodeId(2)).unwrap();
    assert_eq!((rebuilt.generation(), rebuilt.id()), (2, remembered.id()));
    assert!(rebuilt.version() > lost.version());
    for (partition, row) in rebuilt.rows() {
        let lost = &lost.row(partition).unwrap().assignment;
        assert!(row.assignment.version > lost.version && row.assignment.epoch > lost.epoch, "{partition}");
        let old = remembered.row(partition).unwrap();
        assert_eq!((row.assignment.primary, row.began), (old.assignment.primary, old.began));
        assert_eq!((&row.assignment.in_sync, &row.preferred), (&old.assignment.in_sync, &old.preferred));
    }
    let row = rebuilt.row(partition(0)).unwrap();
    let told = vec![(partition(0), CopyDuty::Assign(row))];
    assert_eq!(rebuilt.duties_of(member(1, 1), Some(&lost)), told, "whoever followed the lost group follows");
    assert_eq!(lost.duties_of(member(1, 1), Some(&rebuilt)), [], "and does not go back");
    assert_eq!(rebuilt.changes_since(lost.version()).partitions.len(), 2, "everything has changed");
}

#[test]
fn what_was_wished_of_the_lost_group_is_refused_by_the_new_one() {
    let remembered = held();
    let proposed = remembered.row(partition(0)).unwrap().assignment.version;
    let mut rebuilt = remembered.rebuilt(2, NodeId(2)).unwrap();
    let current = rebuilt.row(partition(0)).unwrap().assignment.version;
    for proposed in [proposed, proposed + 1] {
        let change = Change { remove: Some(member(2, 1)), ..Change::default() };
        let proposal = Proposal { by: member(1, 1), version: proposed, change };
        let refused = rebuilt.apply(&GridCommand::Propose { partition: partition(0), proposal });
        let source = ProposalError::Outdated { proposed, current };
        assert_eq!(refused, Err(GridRefusal::Proposal { partition: partition(0), source }));
    }
    let change = Change { remove: Some(member(2, 1)), ..Change::default() };
    propose(&mut rebuilt, change).unwrap();
}

#[test]
fn numbers_that_the_lost_group_gave_out_are_not_given_out_again() {
    let remembered = held();
    let mut lost = remembered.clone();
    assert_eq!(join(&mut lost, joining(3)), Ok(member(3, 1)));
    let mut rebuilt = remembered.rebuilt(2, NodeId(2)).unwrap();
    let new = join(&mut rebuilt, joining(4)).unwrap();
    assert_eq!(new, member(1_000_000_001, 1));
    // The one that nobody remembers comes back.
    let forgotten = Joining { known: Some(member(3, 1)), ..joining(3) };
    assert_eq!(join(&mut rebuilt, forgotten), Err(GridRefusal::NodeNotFound { node: NodeId(3) }));
    assert_eq!(join(&mut rebuilt, joining(3)), Ok(member(1_000_000_002, 1)));
    assert_eq!(rebuilt.node(new.node).map(|node| node.member), Some(new), "and is nobody else");
    let back = Joining { known: Some(member(2, 1)), ..joining(5) };
    assert_eq!(join(&mut rebuilt, back), Ok(member(2, 2)), "who is remembered comes back as the same node");
}

#[test]
fn a_group_that_passes_others_over_outranks_them_and_does_not_descend_from_them() {
    let remembered = held();
    let passed_over = remembered.rebuilt(2, NodeId(1)).unwrap();
    let (built, twin) =
        (remembered.rebuilt(3, NodeId(2)).unwrap(), passed_over.rebuilt(3, NodeId(1)).unwrap());
    assert_eq!(built.generation(), 3);
    assert!(built.version() > passed_over.version() + 1_000_000);
    let epoch = |grid: &Grid| grid.row(partition(0)).unwrap().assignment.epoch;
    assert!(epoch(&built) > epoch(&passed_over));
    let mut later = built.clone();
    assert_eq!(join(&mut later, joining(4)), Ok(member(2_000_000_001, 1)));
    for (grid, other, descends) in [
        (&built, &remembered, true),
        (&later, &built, true),
        (&built, &passed_over, false),
        (&twin, &passed_over, true),
        (&twin, &built, false),
        (&built, &twin, false),
    ] {
        assert_eq!(grid.descends_from(other), descends);
    }
    let next = later.rebuilt(4, NodeId(1)).unwrap();
    assert!(next.descends_from(&built) && !next.descends_from(&twin));
}

#[test]
fn there_are_only_so_many_generations() {
    let most = held().rebuilt(GENERATIONS, NodeId(1)).unwrap();
    assert_eq!(most.rebuilt(GENERATIONS + 1, NodeId(1)), Err(GridRefusal::TooManyGenerations));
}

#[test]
fn a_dead_primary_has_a_successor_in_the_new_generation() {
    let mut rebuilt = held().rebuilt(2, NodeId(2)).unwrap();
    let mut presence = presence(&rebuilt, Presence::Alive);
    presence.insert(member(1, 1), Presence::Suspect);
    let next = Reconciler::default().next(LocalTime::default(), &rebuilt, &presence).unwrap();
    rebuilt.apply(&next).unwrap();
    let row = rebuilt.row(partition(0)).unwrap();
    assert_eq!(row.assignment.primary, Some(member(2, 1)));
    assert_eq!(row.assignment.epoch, Epoch { generation: 2, number: 3 });
}

#[test]
fn what_was_lost_stays_lost_and_goes_on_with_a_copy_of_the_generation_before() {
    let mut remembered = grid_of(2, 1);
    begin(&mut remembered, &[1, 2]);
    join(&mut remembered, Joining { known: Some(member(1, 1)), ..joining(8) }).unwrap();
    let mut rebuilt = remembered.rebuilt(2, NodeId(2)).unwrap();
    assert!(rebuilt.row(partition(0)).unwrap().is_lost());
    assert!(remembered.clone().apply(&GridCommand::StartEmpty).is_ok(), "nobody else has held anything");
    let refused = GridRefusal::NoFullLoss { live: 0, begun: 1, holders: 2 };
    assert_eq!(rebuilt.apply(&GridCommand::StartEmpty), Err(refused), "as far as is remembered");
    let version = rebuilt.row(partition(0)).unwrap().assignment.version;
    let from = Recovery::Copy { epoch: Epoch { generation: 1, number: 1 }, last: Version(5) };
    let recover = GridCommand::RecoverLost { partition: partition(0), version, member: member(2, 1), from };
    assert_eq!(rebuilt.apply(&recover), Ok(GridApplied::Partitions(vec![partition(0)])));
    let epoch = rebuilt.row(partition(0)).unwrap().assignment.epoch;
    assert_eq!(epoch, Epoch { generation: 2, number: 3 });
}

#[test]
fn a_group_is_built_anew_from_a_state_with_a_grid() {
    assert_eq!(GroupState::default().rebuilt(2, NodeId(1)), Err(GroupRefusal::NoGrid));
    let mut state = GroupState::default();
    state.apply(&GroupCommand::Create(Box::new(new_grid(1)))).unwrap();
    let map = |state: &mut GroupState, name| {
        let (name, options) = (Name::new(name).unwrap(), MapOptions::default());
        match state.apply(&GroupCommand::Catalog(Command::CreateMap { name, options })) {
            Ok(GroupApplied::Catalog(Applied::Map(map))) => map.id.0,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(map(&mut state, "old"), 1);
    let mut rebuilt = state.rebuilt(2, NodeId(1)).unwrap();
    assert_eq!(rebuilt.catalog().map("old"), state.catalog().map("old"));
    assert_eq!(map(&mut rebuilt, "new"), 1_000_000_001);
    let exists = GroupRefusal::GridExists { id: ID };
    assert_eq!(rebuilt.apply(&GroupCommand::Create(Box::new(new_grid(1)))), Err(exists));
    assert_eq!(rebuilt.grid().unwrap().nodes().map(Node::id).collect::<Vec<_>>(), [NodeId(1)]);
    let again = rebuilt.rebuilt(3, NodeId(1)).unwrap();
    assert_eq!(again.grid().unwrap().generation(), 3);
    assert!(again.grid().unwrap().version() > rebuilt.grid().unwrap().version());
}

#[test]
fn a_grid_whose_group_was_built_anew_comes_to_rest() {
    for seed in 0..10 {
        let mut walk = Walk::new(seed, Zones::None);
        for generation in 2..5 {
            (0..60).for_each(|_| walk.step());
            walk.world.grid = walk.world.grid.rebuilt(generation, NodeId(1)).unwrap();
        }
        walk.stop_faults();
        walk.come_to_rest();
        walk.check();
    }
}
