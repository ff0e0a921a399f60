//! Nodes, classes, decisions and proposals.

use super::super::*;
use super::fixture::*;
use crate::ids::{Epoch, NodeId, PartitionId, ReplicationClass};
use crate::limits::{CLASSES, DECISIONS, NODES};
use crate::membership::Presence;
use crate::replication::{Change, Proposal, ProposalError};

#[test]
fn a_process_joins_once_however_often_it_asks() {
    let mut grid = grid(3);
    assert_eq!(join(&mut grid, joining(2)), Ok(member(2, 1)));
    let before = grid.clone();
    assert_eq!(join(&mut grid, joining(2)), Ok(member(2, 1)));
    assert_eq!(grid, before);
    assert_eq!(join(&mut grid, joining(3)), Ok(member(3, 1)));
}

#[test]
fn a_node_that_comes_back_is_another_member_and_holds_nothing() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    add(&mut grid, member(2, 1));
    let back = Joining { known: Some(member(1, 1)), nonce: JoinNonce([9; 16]), ..joining(1) };
    let joined = grid.apply(&GridCommand::Join(Box::new(back.clone())));
    let reborn = GridApplied::Joined { member: member(1, 2), partitions: vec![partition(0)] };
    assert_eq!(joined, Ok(reborn));
    let row = grid.row(partition(0)).unwrap();
    assert_eq!((row.assignment.primary, &row.assignment.in_sync), (None, &members(&[2])));
    assert_eq!((&row.assignment.wanted, row.preferred), (&members(&[2]), None));
    assert_eq!(join(&mut grid, back), Ok(member(1, 2)), "and again, the same");
}

#[test]
fn a_late_wish_of_an_earlier_process_ends_nobodys_life() {
    let mut grid = grid(1);
    let first = Joining { known: Some(member(1, 1)), ..joining(2) };
    let second = Joining { known: Some(member(1, 2)), ..joining(3) };
    assert_eq!(join(&mut grid, first.clone()), Ok(member(1, 2)));
    assert_eq!(join(&mut grid, second), Ok(member(1, 3)));
    let refused = GridRefusal::OtherIncarnation { known: member(1, 1), current: member(1, 3) };
    assert_eq!(join(&mut grid, first), Err(refused));
    assert_eq!(grid.node(NodeId(1)).unwrap().member, member(1, 3));
}

#[test]
fn numbers_of_nodes_are_never_used_again() {
    let mut grid = grid_of(3, 1);
    assert!(matches!(grid.apply(&GridCommand::Forget { node: NodeId(3) }), Ok(GridApplied::NodeGone { .. })));
    let back = Joining { known: Some(member(3, 1)), ..joining(4) };
    let gone = GridRefusal::NodeNotFound { node: NodeId(3) };
    assert_eq!(join(&mut grid, back), Err(gone.clone()), "it asks as a new one when it knows that");
    assert_eq!(join(&mut grid, joining(4)), Ok(member(4, 1)));
    assert_eq!(grid.apply(&GridCommand::Forget { node: NodeId(3) }), Err(gone));
}

#[test]
fn the_number_of_nodes_is_bounded() {
    let mut grid = grid(1);
    let nth = |n: usize| {
        let nonce = JoinNonce((n as u128).to_be_bytes());
        Joining { nonce, ..joining(0) }
    };
    (1..NODES).for_each(|n| assert_eq!(join(&mut grid, nth(n)), Ok(member(n as u64 + 1, 1))));
    assert_eq!(join(&mut grid, nth(NODES)), Err(GridRefusal::TooManyNodes));
    let back = Joining { known: Some(member(5, 1)), ..nth(NODES) };
    assert_eq!(join(&mut grid, back), Ok(member(5, 2)), "one that is there is none more");
}

#[test]
fn strangers_are_refused() {
    let mut grid = grid(1);
    let before = grid.clone();
    let meant = GridId([8; 16]);
    let other = GridRefusal::OtherGrid { here: ID, meant };
    assert_eq!(join(&mut grid, Joining { grid: meant, ..joining(2) }), Err(other));
    let node = Formats { oldest: 2, newest: 3 };
    let newer = NodeDescription { formats: node, ..description(2) };
    let incompatible = GridRefusal::Incompatible { grid: 1, node };
    assert_eq!(join(&mut grid, Joining { description: newer, ..joining(2) }), Err(incompatible));
    let long = NodeDescription { zone: Some("z".repeat(300)), ..description(2) };
    let too_long = GridRefusal::Description(TextTooLong { field: NodeText::Zone, bytes: 300 });
    assert_eq!(join(&mut grid, Joining { description: long, ..joining(2) }), Err(too_long));
    assert_eq!(grid, before);
}

#[test]
fn a_member_describes_itself_but_stays_what_it_is() {
    let mut grid = grid(1);
    let mut describe = |member, description| {
        grid.apply(&GridCommand::Describe { member, description: Box::new(description) })
    };
    let moved = NodeDescription { peer_address: "10.0.0.9:1".into(), ..description(1) };
    assert_eq!(describe(member(1, 1), moved.clone()), Ok(GridApplied::Node(NodeId(1))));
    assert_eq!(describe(member(1, 1), moved), Ok(GridApplied::Unchanged));
    let earlier = GridRefusal::NotAMember { member: member(1, 2) };
    assert_eq!(describe(member(1, 2), description(1)), Err(earlier));
    let arbiter = NodeDescription { role: Role::Arbiter, ..description(1) };
    assert_eq!(describe(member(1, 1), arbiter), Err(GridRefusal::RoleChanged { node: NodeId(1) }));
}

#[test]
fn a_drain_can_be_called_off_and_ends_with_the_process() {
    let mut grid = grid(1);
    let node = NodeId(1);
    let state = |grid: &Grid| grid.node(node).unwrap().state;
    assert_eq!(grid.apply(&GridCommand::Drain { node }), Ok(GridApplied::Node(node)));
    assert_eq!(grid.apply(&GridCommand::Drain { node }), Ok(GridApplied::Unchanged));
    assert_eq!(state(&grid), NodeState::Draining);
    assert_eq!(grid.apply(&GridCommand::CancelDrain { node }), Ok(GridApplied::Node(node)));
    assert_eq!(state(&grid), NodeState::Joined);
    grid.apply(&GridCommand::Drain { node }).unwrap();
    join(&mut grid, Joining { known: Some(member(1, 1)), ..joining(2) }).unwrap();
    assert_eq!(state(&grid), NodeState::Joined);
}

#[test]
fn only_nodes_that_are_there_drain_stay_or_are_forgotten() {
    let mut grid = grid_of(2, 1);
    let before = grid.clone();
    let node = NodeId(3);
    for command in
        [GridCommand::Drain { node }, GridCommand::CancelDrain { node }, GridCommand::Forget { node }]
    {
        assert_eq!(grid.apply(&command), Err(GridRefusal::NodeNotFound { node }), "{command:?}");
    }
    assert_eq!(grid, before);
}

#[test]
fn who_is_forgotten_with_the_last_copy_leaves_the_partition_lost_and_its_name_behind() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    let forgotten = grid.apply(&GridCommand::Forget { node: NodeId(1) });
    assert_eq!(forgotten, Ok(GridApplied::NodeGone { node: NodeId(1), partitions: vec![partition(0)] }));
    let row = grid.row(partition(0)).unwrap();
    assert!(row.is_lost() && !row.names(member(1, 1)));
    assert_eq!(row.assignment.wanted, members(&[2]));
}

#[test]
fn nobody_leaves_with_the_last_copy() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    let leave = GridCommand::Leave { member: member(1, 1) };
    assert_eq!(grid.apply(&leave), Err(GridRefusal::NotDraining { member: member(1, 1) }));
    grid.apply(&GridCommand::Drain { node: NodeId(1) }).unwrap();
    let refused = GridRefusal::LastCopy { member: member(1, 1), partitions: 1 };
    assert_eq!(grid.apply(&leave), Err(refused));
    add(&mut grid, member(2, 1));
    let gone = GridApplied::NodeGone { node: NodeId(1), partitions: vec![partition(0)] };
    assert_eq!(grid.apply(&leave), Ok(gone));
    assert_eq!(grid.row(partition(0)).unwrap().assignment.primary, None);
}

#[test]
fn a_member_is_needed_until_others_who_live_hold_everything() {
    let mut grid = grid_of(3, 1);
    let mut presence = presence(&grid, Presence::Alive);
    begin(&mut grid, &[1, 2]);
    add(&mut grid, member(2, 1));
    assert_eq!([1, 2, 3].map(|node| grid.needs(member(node, 1), &presence)), [1, 1, 0]);
    decide(&mut grid, Order::Want { wanted: members(&[2, 3]), primary: member(2, 1) }).unwrap();
    propose(&mut grid, Change { successor: Some(member(2, 1)), ..Change::default() }).unwrap();
    assert_eq!(grid.needs(member(1, 1), &presence), 1, "it is a second copy");
    add(&mut grid, member(3, 1));
    assert_eq!([1, 2, 3].map(|node| grid.needs(member(node, 1), &presence)), [0, 1, 1]);
    presence.insert(member(2, 1), Presence::Suspect);
    assert_eq!(grid.needs(member(1, 1), &presence), 0);
    presence.insert(member(3, 1), Presence::Suspect);
    assert_eq!(grid.needs(member(1, 1), &presence), 1, "it may be the last that lives");
    decide(&mut grid, Order::Want { wanted: members(&[3]), primary: member(3, 1) }).unwrap();
    presence.insert(member(2, 1), Presence::Alive);
    assert_eq!(grid.needs(member(1, 1), &presence), 1, "the other that lives may leave, too");
}

#[test]
fn a_class_is_made_once_and_classes_are_few() {
    let mut grid = grid(5);
    let mut create = |backups, partitions| {
        let options = ClassOptions { backups, min_in_sync: 1, partitions };
        grid.apply(&GridCommand::CreateClass { options })
    };
    assert_eq!(create(1, 9), Ok(GridApplied::Class(ReplicationClass(0))), "standard is there");
    for (number, backups) in (1..).zip([0, 2, 3]) {
        assert_eq!(create(backups, 9), Ok(GridApplied::Class(ReplicationClass(number))));
    }
    assert_eq!(create(2, 9), Ok(GridApplied::Class(ReplicationClass(2))));
    assert_eq!(create(4, 9), Err(GridRefusal::TooManyClasses));
    assert_eq!(create(7, 9), Err(GridRefusal::Class(InvalidClass::Backups { backups: 7 })));
    assert_eq!(grid.classes().count(), CLASSES);
    assert_eq!(grid.rows().count(), 5 + 3 * 9);
}

#[test]
fn a_partition_begins_once_and_on_one_member() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    let row = grid.row(partition(0)).unwrap();
    assert_eq!((&row.assignment.in_sync, &row.assignment.wanted), (&members(&[1]), &members(&[1, 2])));
    assert_eq!(row.began, Some(Epoch { generation: 1, number: 1 }));
    assert_eq!((row.assignment.epoch, row.assignment.primary), (row.began.unwrap(), Some(member(1, 1))));
    let again = Order::Begin { wanted: members(&[2]), primary: member(2, 1) };
    assert_eq!(decide(&mut grid, again), Err(DecisionError::HasBegun));
}

#[test]
fn a_decision_on_an_older_version_is_refused() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    let version = grid.row(partition(0)).unwrap().assignment.version;
    add(&mut grid, member(2, 1));
    let outdated = DecisionError::Outdated { decided: version, current: version + 1 };
    let to = member(2, 1);
    assert_eq!(decide_on(&mut grid, version, Order::FailOver { to }), Err(outdated));
    assert_eq!(decide_on(&mut grid, version + 1, Order::FailOver { to }), Ok(()));
    let Row { assignment, preferred, .. } = grid.row(partition(0)).unwrap();
    assert_eq!((assignment.primary, assignment.epoch.number), (Some(to), 2));
    assert_eq!(*preferred, Some(to), "it does not hand over at once to the one who is dead");
    assert_eq!(assignment.in_sync, members(&[1, 2]), "the old one stays until its successor removes it");
}

#[test]
fn only_who_is_in_sync_becomes_primary() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    let not_in_sync = DecisionError::NotInSync { member: member(2, 1) };
    assert_eq!(decide(&mut grid, Order::FailOver { to: member(2, 1) }), Err(not_in_sync));
    let reigns = DecisionError::IsPrimary { member: member(1, 1) };
    assert_eq!(decide(&mut grid, Order::FailOver { to: member(1, 1) }), Err(reigns));
}

#[test]
fn only_members_that_hold_data_are_wanted_and_not_too_many() {
    let mut grid = grid_of(3, 1);
    let arbiter = NodeDescription { role: Role::Arbiter, ..description(4) };
    join(&mut grid, Joining { description: arbiter, ..joining(4) }).unwrap();
    begin(&mut grid, &[1]);
    let mut want = |nodes: &[u64], primary| {
        decide(&mut grid, Order::Want { wanted: members(nodes), primary: member(primary, 1) })
    };
    assert_eq!(want(&[1, 4], 1), Err(DecisionError::NotAMember { member: member(4, 1) }));
    assert_eq!(want(&[1, 5], 1), Err(DecisionError::NotAMember { member: member(5, 1) }));
    assert_eq!(want(&[1, 2, 3], 1), Err(DecisionError::Wanted { wanted: 3, copies: 2 }));
    assert_eq!(want(&[], 1), Err(DecisionError::Wanted { wanted: 0, copies: 2 }));
    assert_eq!(want(&[2, 3], 1), Err(DecisionError::Wanted { wanted: 2, copies: 2 }));
    assert_eq!(want(&[2, 3], 3), Ok(()));
}

#[test]
fn another_preferred_primary_leaves_proposals_valid() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    let before = grid.row(partition(0)).unwrap().clone();
    let order = Order::Want { wanted: members(&[1, 2]), primary: member(2, 1) };
    assert_eq!(decide(&mut grid, order.clone()), Ok(()));
    let row = grid.row(partition(0)).unwrap();
    assert_eq!((&row.assignment, row.preferred), (&before.assignment, Some(member(2, 1))));
    let version = row.assignment.version;
    let decisions = vec![Decision { partition: partition(0), version, order }];
    let nothing = GridApplied::Decided { partitions: vec![], refused: vec![] };
    assert_eq!(grid.apply(&GridCommand::Decide { decisions }), Ok(nothing));
}

#[test]
fn a_proposal_keeps_to_the_class_and_to_members() {
    let mut grid = grid_of(2, 1);
    begin(&mut grid, &[1, 2]);
    let stranger = Change { add: Some(member(2, 2)), ..Change::default() };
    let refused = DecisionError::NotAMember { member: member(2, 2) };
    let refused = GridRefusal::Decision { partition: partition(0), source: refused };
    assert_eq!(propose(&mut grid, stranger), Err(refused));
    let class = grid.apply(&GridCommand::CreateClass { options: ClassOptions::durable(1) });
    assert_eq!(class, Ok(GridApplied::Class(ReplicationClass(1))));
    let durable = PartitionId { class: ReplicationClass(1), index: 0 };
    let order = Order::Begin { wanted: members(&[1, 2]), primary: member(1, 1) };
    let decisions = vec![Decision { partition: durable, version: 0, order }];
    grid.apply(&GridCommand::Decide { decisions }).unwrap();
    let mut propose = |version, change| {
        let proposal = Proposal { by: member(1, 1), version, change };
        grid.apply(&GridCommand::Propose { partition: durable, proposal })
    };
    let joins = Change { add: Some(member(2, 1)), ..Change::default() };
    assert_eq!(propose(1, joins), Ok(GridApplied::Partitions(vec![durable])));
    let source = ProposalError::TooFew { left: 1, min_in_sync: 2 };
    let goes = Change { remove: Some(member(2, 1)), ..Change::default() };
    assert_eq!(propose(2, goes), Err(GridRefusal::Proposal { partition: durable, source }));
}

#[test]
fn decisions_of_a_command_are_bounded() {
    let mut grid = grid(1);
    let order = Order::FailOver { to: member(1, 1) };
    let absent = Decision { partition: partition(1), version: 0, order };
    let mut decide =
        |decisions| grid.apply(&GridCommand::Decide { decisions: vec![absent.clone(); decisions] });
    let refused = vec![(partition(1), DecisionError::NotFound); DECISIONS];
    assert_eq!(decide(DECISIONS), Ok(GridApplied::Decided { partitions: vec![], refused }));
    let too_many = GridRefusal::TooManyDecisions { decisions: DECISIONS + 1 };
    assert_eq!(decide(DECISIONS + 1), Err(too_many));
}

#[test]
fn a_delta_has_what_changed_and_nothing_else() {
    let mut grid = grid_of(2, 3);
    let all = grid.changes_since(0);
    assert_eq!((all.partitions.len(), all.members.map(|members| members.nodes.len())), (3, Some(2)));
    let version = grid.version();
    assert_eq!(grid.changes_since(version), Delta { version, members: None, partitions: vec![] });
    begin(&mut grid, &[1]);
    let row = grid.row(partition(0)).unwrap().clone();
    let delta = Delta { version: version + 1, members: None, partitions: vec![(partition(0), row)] };
    assert_eq!(grid.changes_since(version), delta);
    grid.apply(&GridCommand::Drain { node: NodeId(2) }).unwrap();
    let members = grid.changes_since(version + 1).members.unwrap();
    assert_eq!(members.nodes[1].state, NodeState::Draining);
}
