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
    let state = survivor.decided().state.rebuilt().unwrap();
    survivor.shutdown().await;
    let group = GroupId { generation: state.grid().unwrap().generation(), ..GROUP };
    let options =
        Options { identity: Identity { group, voter: voter(3) }, ..options(voter(3), Storage::Memory) };
    let anew = ControlGroup::start(options, network.of(NodeId(3))).await.unwrap();
    let anew = network.add(NodeId(3), anew);
    anew.create(state).await.unwrap();
    anew.propose(anew.proposal(create("new"))).await.unwrap();
    // The lost ones were not lost after all, and go on by themselves.
    network.heal();
    decide(lost, &lost[0].proposal(create("stray"))).await.unwrap();
    assert_same(lost, 2).await;
    let status = anew.status();
    assert_eq!((status.role, status.voters), (Role::Leader, BTreeSet::from([voter(3)])));
    assert_eq!(maps(&anew.decided().state), ["new", "old"]);
    assert_eq!(maps(&lost[0].decided().state), ["old", "stray"]);
}
