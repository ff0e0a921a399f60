//! Voters come and go.

use std::collections::BTreeSet;

use super::*;

fn set(nodes: impl IntoIterator<Item = u64>) -> BTreeSet<VoterId> {
    nodes.into_iter().map(voter).collect()
}

#[tokio::test(start_paused = true)]
async fn voters_become_one_three_five_three_and_one() {
    let network = TestNetwork::default();
    let mut groups = Vec::new();
    for node in 1..=5 {
        groups.push(start(&network, voter(node), Storage::Memory).await);
    }
    groups[0].create(first()).await.unwrap();
    let mut had_votes = BTreeSet::new();
    // The last steps leave out whoever leads.
    for (step, voters) in [set(1..=3), set(1..=5), set(3..=5), set([5])].into_iter().enumerate() {
        let lead = leader(&groups).await;
        lead.change_voters(&voters).await.unwrap();
        had_votes.extend(&voters);
        let steps_down = !voters.contains(&lead.identity().voter);
        if steps_down {
            had_votes.remove(&lead.identity().voter);
            // Whether it knows by now that it does not lead or not.
            let refused = lead.add_learner(lead.identity().voter).await;
            assert!(matches!(refused, Err(ChangeError::NotLeader { .. })), "{refused:?}");
        }
        let stayed = lead.until(|status| steps_down == (status.role == Role::Learner));
        within(Duration::from_secs(1), stayed).await.unwrap();
        decide(&groups, &groups[0].proposal(create(format!("m{step}")))).await.unwrap();
        let lead = leader(&groups).await;
        within(Duration::from_secs(5), lead.until(|status| status.voters == voters)).await.unwrap();
        assert!(voters.contains(&lead.identity().voter), "{step}: {lead:?}");
        // Who had a vote goes on hearing what is decided, but for those who led.
        assert_eq!(lead.status().learners, had_votes.difference(&voters).copied().collect());
    }
    for learner in had_votes.into_iter().filter(|learner| learner.node.0 != 5) {
        groups[4].remove_learner(learner).await.unwrap();
    }
    assert_eq!(groups[4].status().learners, BTreeSet::new());
    assert_eq!(maps(&groups[4].decided().state), ["m0", "m1", "m2", "m3"]);
    assert_eq!(groups[4].status().role, Role::Leader);
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_does_not_answer_is_not_made_one() {
    let network = TestNetwork::default();
    let groups = voters(&network, 1).await;
    let patience = Timing::default().patience;
    let behind = groups[0].change_voters(&set([1, 2])).await;
    assert_eq!(behind, Err(ChangeError::Behind { voter: voter(2), patience }));
    assert_eq!((groups[0].status().voters, groups[0].status().learners), (set([1]), set([])));
    decide(&groups, &groups[0].proposal(create("m"))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn voters_are_changed_by_the_leader_and_one_change_at_a_time() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let lead = leader(&groups).await;
    let follower = groups.iter().find(|group| !Arc::ptr_eq(group, &lead)).unwrap();
    let leader = Some(lead.identity().voter);
    assert_eq!(follower.change_voters(&set([1])).await, Err(ChangeError::NotLeader { leader }));
    assert_eq!(lead.change_voters(&set([])).await, Err(ChangeError::NoVoters));
    let (own, all) = (set([lead.identity().voter.node.0]), set(1..=3));
    let (first, second) = tokio::join!(lead.change_voters(&own), lead.change_voters(&all));
    assert_eq!((first, second), (Ok(()), Err(ChangeError::InProgress)));
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_lost_its_memory_has_no_vote_and_is_heard_no_more() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let lead = leader(&groups).await;
    let node = groups.iter().find(|group| !Arc::ptr_eq(group, &lead)).unwrap().identity().voter.node;
    network.remove(node);
    let reborn = VoterId { node, incarnation: 2 };
    let forgetful = start(&network, reborn, Storage::Memory).await;
    decide(&groups, &lead.proposal(create("m"))).await.unwrap();
    // Time enough for elections.
    let elected = forgetful.until(|status| status.role != Role::Learner);
    tokio::time::timeout(Duration::from_secs(5), elected).await.unwrap_err();
    // It was asked as the voter that it was, and has refused: it voted for nobody and took nothing.
    let status = forgetful.status();
    assert_eq!((status.role, status.term, status.last_index), (Role::Learner, 0, None));
    let others = set(1..=3).into_iter().filter(|voter| voter.node != node);
    let voters: BTreeSet<_> = others.chain([reborn]).collect();
    lead.change_voters(&voters).await.unwrap();
    assert_eq!(maps(&forgetful.decided().state), ["m"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_no_majority_takes_is_given_up_and_gone_on_with_later() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let lead = leader(&groups).await;
    network.cut_off(lead.identity().voter.node);
    let own = set([lead.identity().voter.node.0]);
    let patience = Timing::default().patience;
    let given_up = within(2 * patience, lead.change_voters(&own)).await;
    assert_eq!(given_up, Err(ChangeError::InProgress));
    network.heal();
    let lead = leader(&groups).await;
    lead.change_voters(&own).await.unwrap();
    let alone = leader(&groups).await;
    assert_eq!(alone.status().voters, own);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_left_half_done_is_seen_and_gone_on_with_though_a_voter_dies() {
    let network = TestNetwork::default();
    let mut groups = voters(&network, 3).await;
    assert_eq!(groups[0].status().electorates, [set(1..=3)]);
    network.cut_off(NodeId(2));
    let given_up = groups[0].change_voters(&set(1..=2)).await;
    assert_eq!(given_up, Err(ChangeError::InProgress));
    network.heal();
    decide(&groups, &groups[0].proposal(create("between"))).await.unwrap();
    let between = leader(&groups).await.status();
    assert_eq!((between.voters, between.electorates), (set(1..=3), vec![set(1..=3), set(1..=2)]));
    network.remove(NodeId(3));
    groups.remove(2).shutdown().await;
    let lead = leader(&groups).await;
    lead.change_voters(&set(1..=2)).await.unwrap();
    assert_eq!(lead.status().electorates, [set(1..=2)]);
    decide(&groups, &groups[0].proposal(create("after"))).await.unwrap();
}
