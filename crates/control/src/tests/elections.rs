//! How long a group is without a leader.

use tokio::time::Instant;

use super::*;

/// Ends the leader; who is left, and the term that it led in.
async fn kill_leader(network: &TestNetwork, groups: &mut Vec<Arc<ControlGroup>>) -> u64 {
    let dead = leader(groups).await;
    let term = dead.status().term;
    network.remove(dead.identity().voter.node);
    dead.shutdown().await;
    groups.retain(|group| !Arc::ptr_eq(group, &dead));
    term
}

/// How long `count` voters have no leader after theirs has died, and how many terms that takes.
async fn failover(count: u64, voting: Duration) -> (Duration, u64) {
    let network = TestNetwork::default();
    let mut groups = voters(&network, count).await;
    decide(&groups, &groups[0].proposal(create("before"))).await.unwrap();
    assert_same(&groups, 1).await;
    network.slow_down_votes(voting);
    let term = kill_leader(&network, &mut groups).await;
    let killed = Instant::now();
    decide(&groups, &groups[0].proposal(create("after"))).await.unwrap();
    (killed.elapsed(), leader(&groups).await.status().term - term)
}

#[tokio::test(start_paused = true)]
async fn the_leader_is_replaced_by_the_first_who_wants_to_lead() {
    let Timing { election, heartbeat, .. } = Timing::default();
    for _ in 0..20 {
        let (gap, terms) = failover(3, Duration::ZERO).await;
        assert!(gap > election.start - 2 * heartbeat && gap < election.end + heartbeat, "{gap:?}");
        assert_eq!(terms, 1);
    }
}

#[test]
fn short_leases_make_elections_short() {
    for (term, start, end) in [(10_000, 600, 1000), (600, 600, 1000), (480, 480, 800), (200, 400, 666)] {
        let election = Timing::beside_leases_of(Duration::from_millis(term)).election;
        assert_eq!((election.start.as_millis(), election.end.as_millis()), (start, end));
    }
}

#[tokio::test(start_paused = true)]
async fn votes_that_take_longer_than_an_election_end_with_a_leader() {
    for voters in [3, 5] {
        for voting in [700, 1200, 2500].map(Duration::from_millis) {
            let (gap, terms) = failover(voters, voting).await;
            assert!(gap < Duration::from_secs(20), "{voters} voters, {voting:?}: {gap:?}");
            assert!(terms <= 10, "{voters} voters, {voting:?}: {terms}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_cut_off_for_long_holds_up_the_others_for_one_election() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let old = leader(&groups).await;
    let other = groups.iter().find(|group| !Arc::ptr_eq(group, &old)).unwrap();
    network.cut_off(other.identity().voter.node);
    let alone = other.until(|status| status.term > old.status().term + 10);
    within(Duration::from_secs(120), alone).await.unwrap();
    network.heal();
    let healed = Instant::now();
    decide(&groups, &groups[0].proposal(create("m"))).await.unwrap();
    assert_same(&groups, 1).await;
    assert!(healed.elapsed() < Duration::from_secs(4), "{:?}", healed.elapsed());
}

/// Its votes are refused, and each that it asks for ends those that somebody else asks for.
#[tokio::test(start_paused = true)]
async fn who_has_the_shorter_log_leaves_the_election_to_who_has_the_longer_one() {
    for _ in 0..20 {
        let network = TestNetwork::default();
        let mut groups = voters(&network, 3).await;
        // Of those that stay the one with the higher number has missed something: its votes go before the other's of the same term.
        let old = leader(&groups).await;
        let behind = groups.iter().rfind(|group| !Arc::ptr_eq(group, &old)).unwrap();
        network.cut_off(behind.identity().voter.node);
        old.propose(old.proposal(create("missed"))).await.unwrap();
        network.remove(old.identity().voter.node);
        network.heal();
        let killed = Instant::now();
        old.shutdown().await;
        groups.retain(|group| !Arc::ptr_eq(group, &old));
        decide(&groups, &groups[0].proposal(create("after"))).await.unwrap();
        assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
        assert_same(&groups, 2).await;
    }
}
