//! A group that was lost, and the one that is built anew.

use super::*;
use std::collections::BTreeSet;

#[tokio::test(start_paused = true)]
async fn a_group_that_is_built_anew_goes_on_and_is_deaf_to_the_lost_one() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    decide(&groups, &groups[0].proposal(create("old"))).await.unwrap();
    assert_same(&groups, 1).await;
    let (lost, survivor) = (&groups[..2], &groups[2]);
    lost.iter().for_each(|group| network.cut_off(group.identity().voter.node));
    let state = survivor.decided().state.rebuilt(2, NodeId(3)).unwrap();
    survivor.shutdown().await;
    let stale = survivor.proposal(create("stale"));
    let group = successor(&state, 3);
    let anew = begin(&network, group, 3).await;
    anew.create(state).await.unwrap();
    let first = anew.decided().version;
    assert_eq!(first, ControlVersion(1 << 40), "beyond all that the lost group can have come to");
    anew.propose(anew.proposal(create("new"))).await.unwrap();
    assert_eq!(anew.decided().version, ControlVersion((1 << 40) + 1));
    assert_eq!(anew.propose(stale).await, Err(ProposeError::Expired), "nobody knows what became of it");
    // The lost ones were not lost after all, and go on by themselves.
    network.heal();
    decide(lost, &lost[0].proposal(create("stray"))).await.unwrap();
    assert_same(lost, 2).await;
    let status = anew.status();
    assert_eq!((status.role, status.voters), (Role::Leader, BTreeSet::from([voter(3)])));
    assert_eq!(maps(&anew.decided().state), ["new", "old"]);
    assert_eq!(maps(&lost[0].decided().state), ["old", "stray"]);
}

#[tokio::test(start_paused = true)]
async fn voters_of_a_lost_group_hear_of_the_one_that_has_taken_its_place() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let state = groups[2].decided().state.rebuilt(2, NodeId(3)).unwrap();
    groups[2].shutdown().await;
    let group = successor(&state, 3);
    let anew = begin(&network, group, 3).await;
    anew.create(state.clone()).await.unwrap();
    // The one that leads asks it, and it asks the other.
    assert_eq!(groups[0].until_succeeded().await, group);
    anew.add_learner(voter(2)).await.unwrap_err();
    assert_eq!(groups[1].successor(), Some(group));
    assert_eq!(anew.successor(), None, "the old group is none of it");

    // What is built twice, on both sides of a cut, stays two.
    let other = begin(&network, successor(&state, 2), 2).await;
    other.create(state).await.unwrap();
    anew.add_learner(voter(2)).await.unwrap_err();
    assert_eq!((anew.successor(), other.successor()), (None, None));
    assert_eq!(other.status().role, Role::Leader);
}

/// The group that goes on from a state, built by a node.
fn successor(state: &State, founder: u64) -> GroupId {
    GroupId { generation: state.grid().unwrap().generation(), founder: NodeId(founder), ..GROUP }
}

async fn begin(network: &TestNetwork, group: GroupId, node: u64) -> Arc<ControlGroup> {
    let identity = Identity { group, voter: voter(node) };
    let options = Options { identity, ..options(voter(node), Storage::Memory) };
    network.add(NodeId(node), ControlGroup::start(options, network.of(NodeId(node))).await.unwrap())
}
