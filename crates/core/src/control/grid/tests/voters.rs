//! Who votes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::fixture::*;
use crate::ids::{MemberId, NodeId};
use crate::membership::Presence;

type Presences = BTreeMap<MemberId, Presence>;

fn nodes(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn check(grid: &Grid, presence: &Presences, now: &[u64], expected: &[u64]) {
    let desired = desired_voters(grid, &nodes(now), presence);
    assert_eq!(desired, nodes(expected), "of {now:?}");
    assert_eq!(desired_voters(grid, &desired, presence), desired, "who should vote stays");
}

fn add_node(grid: &mut Grid, nonce: u8, change: impl Fn(&mut NodeDescription)) {
    let mut joining = joining(nonce);
    change(&mut joining.description);
    join(grid, joining).unwrap();
}

#[test]
fn an_odd_number_votes_and_who_votes_already_stays() {
    for (count, expected) in
        (1..).zip([&[1][..], &[1], &[1, 2, 3], &[1, 2, 3], &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]])
    {
        let grid = grid_of(count, 1);
        check(&grid, &presence(&grid, Presence::Alive), &[1], expected);
    }
    let grid = grid_of(4, 1);
    check(&grid, &presence(&grid, Presence::Alive), &[2, 3, 4], &[2, 3, 4]);
}

#[test]
fn an_arbiter_makes_three() {
    let mut grid = grid_of(2, 1);
    add_node(&mut grid, 3, |node| node.role = Role::Arbiter);
    check(&grid, &presence(&grid, Presence::Alive), &[1], &[1, 2, 3]);
    add_node(&mut grid, 4, |_| {});
    check(&grid, &presence(&grid, Presence::Alive), &[1, 2, 4], &[1, 2, 3]);
}

#[test]
fn voters_are_in_zones_apart() {
    let mut grid = grid_of(1, 1);
    for (nonce, zone) in [(2, "a"), (3, "a"), (4, "a"), (5, "b"), (6, "b")] {
        add_node(&mut grid, nonce, |node| node.zone = Some(zone.into()));
    }
    grid.apply(&GridCommand::Forget { node: NodeId(1) }).unwrap();
    grid.apply(&GridCommand::Forget { node: NodeId(6) }).unwrap();
    check(&grid, &presence(&grid, Presence::Alive), &[2, 3, 4], &[2, 3, 5]);
}

#[test]
fn who_leaves_votes_no_more_and_two_are_one_voter() {
    let mut grid = grid_of(3, 1);
    grid.apply(&GridCommand::Drain { node: NodeId(1) }).unwrap();
    check(&grid, &presence(&grid, Presence::Alive), &[1, 2, 3], &[2]);
    grid.apply(&GridCommand::Drain { node: NodeId(2) }).unwrap();
    grid.apply(&GridCommand::Drain { node: NodeId(3) }).unwrap();
    check(&grid, &presence(&grid, Presence::Alive), &[2], &[2]);
}

#[test]
fn votes_go_only_where_most_answer() {
    let mut grid = grid_of(3, 1);
    let mut presence = presence(&grid, Presence::Suspect);
    presence.insert(member(2, 1), Presence::Alive);
    // One leads after another's death, and has not heard of all.
    grid.apply(&GridCommand::Drain { node: NodeId(3) }).unwrap();
    check(&grid, &presence, &[1, 2, 3], &[2]);
    grid.apply(&GridCommand::CancelDrain { node: NodeId(3) }).unwrap();
    grid.apply(&GridCommand::Drain { node: NodeId(2) }).unwrap();
    check(&grid, &presence, &[1, 2, 3], &[1, 2, 3]);
    presence.insert(member(3, 1), Presence::Alive);
    check(&grid, &presence, &[1, 2, 3], &[3]);
}

#[test]
fn the_dead_are_replaced_but_never_make_fewer_than_three() {
    let grid = grid_of(5, 1);
    let mut presence = presence(&grid, Presence::Alive);
    presence.insert(member(1, 1), Presence::Suspect);
    check(&grid, &presence, &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]);
    presence.insert(member(1, 1), Presence::Gone);
    check(&grid, &presence, &[1, 2, 3, 4, 5], &[2, 3, 4]);
    presence.insert(member(2, 1), Presence::Gone);
    presence.insert(member(3, 1), Presence::Gone);
    check(&grid, &presence, &[2, 3, 4], &[2, 4, 5]);
}
