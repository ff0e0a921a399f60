//! Leaders, deaths and cut links.

use std::collections::BTreeSet;

use super::*;
use wattle_core::control::grid::{Decision, DecisionError, GridApplied, GridCommand, Order};
use wattle_core::ids::{MemberId, PartitionId, ReplicationClass};
use wattle_core::limits::CONTROL_COMMAND_BYTES;

#[tokio::test(start_paused = true)]
async fn a_lone_voter_decides_without_waiting_for_an_election() {
    let begin = tokio::time::Instant::now();
    let groups = voters(&TestNetwork::default(), 1).await;
    let made = decide(&groups, &groups[0].proposal(create("m"))).await;
    assert!(matches!(made, Ok(Applied::Catalog(catalog::Applied::Map(map))) if map.name.as_str() == "m"));
    assert_eq!(tokio::time::Instant::now(), begin, "no timer was waited for");
    let decided = groups[0].decided();
    assert_eq!(
        (decided.created, decided.version, maps(&decided.state)),
        (true, ControlVersion(1), vec!["m".into()])
    );
    assert_eq!(groups[0].status().role, Role::Leader);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_created_once() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    for group in &groups {
        assert_eq!(group.create(first()).await, Err(CreateError::Exists));
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_begins_with_the_state_it_is_given() {
    let network = TestNetwork::default();
    let mut state = first();
    state.apply(&create("old")).unwrap();
    let group = start(&network, voter(1), Storage::Memory).await;
    group.create(state.clone()).await.unwrap();
    assert_eq!(*group.decided().state, state);
    let refused = group.propose(group.proposal(create("old"))).await;
    assert!(is_taken(&refused), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn three_voters_survive_the_death_of_their_leader() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    decide(&groups, &groups[0].proposal(create("before"))).await.unwrap();
    let dead = leader(&groups).await;
    let node = dead.status().leader.unwrap().node;
    network.remove(node);
    dead.shutdown().await;
    assert_eq!(dead.status().role, Role::Ended);
    let rest: Vec<_> = groups.iter().filter(|group| group.status().role != Role::Ended).cloned().collect();
    let killed = tokio::time::Instant::now();
    decide(&rest, &rest[0].proposal(create("after"))).await.unwrap();
    let gap = killed.elapsed();
    assert!(gap < Duration::from_millis(1500), "{gap:?}");
    assert_same(&rest, 2).await;
    assert_eq!(maps(&rest[1].decided().state), ["after", "before"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_heard_and_hears_nobody_is_replaced() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let deaf = leader(&groups).await;
    let rest: Vec<_> = groups.iter().filter(|group| !Arc::ptr_eq(group, &deaf)).cloned().collect();
    network.deafen(deaf.identity().voter.node);
    let deafened = tokio::time::Instant::now();
    // It has something to say all the time, which the others take.
    let said = tokio::spawn({
        let deaf = Arc::clone(&deaf);
        async move { deaf.propose(deaf.proposal(create("said"))).await }
    });
    decide(&rest, &rest[0].proposal(create("decided"))).await.unwrap();
    let gap = deafened.elapsed();
    assert!(gap < Duration::from_secs(4), "{gap:?}");
    assert!(maps(&rest[0].decided().state).contains(&"decided".to_owned()));
    assert_eq!(maps(&deaf.decided().state), [""; 0]);
    network.heal();
    assert_same(&groups, 1).await;
    // It is told that it leads no more, or what the others have made of what it said.
    drop(within(Duration::from_secs(10), said).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_minority_decides_nothing_and_loses_nothing() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let old = leader(&groups).await;
    network.cut_off(old.status().leader.unwrap().node);
    let lost = old.proposal(create("minority"));
    tokio::time::timeout(Duration::from_secs(5), old.propose(lost.clone())).await.unwrap_err();
    assert_eq!(old.confirm_leadership().await, Err(ConfirmError::NoMajority));
    let rest: Vec<_> = groups.iter().filter(|group| !Arc::ptr_eq(group, &old)).cloned().collect();
    decide(&rest, &rest[0].proposal(create("majority"))).await.unwrap();
    assert!(maps(&old.decided().state).is_empty());
    let waiting = old.propose(old.proposal(create("waiting")));
    let (deposed, ()) = tokio::join!(within(Duration::from_secs(10), waiting), async { network.heal() });
    assert!(matches!(deposed, Err(ProposeError::NotLeader { .. })), "{deposed:?}");
    assert_same(&groups, 1).await;
    assert_eq!(maps(&old.decided().state), ["majority"]);
    decide(&groups, &lost).await.unwrap();
    assert_same(&groups, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_cut_off_catches_up_by_the_log() {
    assert_eq!(catches_up(10).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_cut_off_for_long_catches_up_by_a_snapshot() {
    assert_eq!(catches_up(400).await, 1);
}

/// One entry for each map. Returns how many pieces of snapshots were sent.
async fn catches_up(entries: u64) -> usize {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let lead = leader(&groups).await;
    let follower = groups.iter().find(|group| !Arc::ptr_eq(group, &lead)).unwrap();
    network.cut_off(follower.identity().voter.node);
    for number in 0..entries {
        decide(&groups, &lead.proposal(create(format!("m{number}")))).await.unwrap();
    }
    assert_eq!(follower.decided().version, ControlVersion(0));
    network.heal();
    assert_same(&groups, entries).await;
    network.pieces()
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_is_sent_in_pieces() {
    let network = TestNetwork::default();
    let group = start(&network, voter(1), Storage::Memory).await;
    let state = size::large();
    let bytes = serde_json::to_vec(&state).unwrap().len();
    assert!(bytes > CONTROL_COMMAND_BYTES, "it fits no entry: {bytes}");
    group.create(state).await.unwrap();
    let learner = start(&network, voter(2), Storage::Memory).await;
    network.shake(7, 20, Duration::from_millis(50));
    while group.add_learner(voter(2)).await.is_err() {}
    assert_eq!(learner.decided(), group.decided());
    assert!(network.pieces() >= 2);
    let largest = network.largest();
    assert!(largest < wattle_core::limits::CONTROL_PIECE_BYTES + 4096, "{largest}");
}

#[tokio::test(start_paused = true)]
async fn every_voter_decides_the_same_while_messages_are_lost() {
    for seed in 0..5 {
        let network = TestNetwork::default();
        let groups = voters(&network, 5).await;
        network.shake(seed, 20, Duration::from_millis(40));
        let proposals: Vec<_> =
            (0..40).map(|map| groups[0].proposal(create(format!("m{}", map % 30)))).collect();
        let mut made = BTreeSet::new();
        for (number, proposal) in proposals.iter().enumerate() {
            match number {
                10 => network.cut_off(NodeId(1)),
                20 => network.heal(),
                25 => network.shake(seed + 100, 30, Duration::from_millis(20)),
                _ => {}
            }
            match decide(&groups, proposal).await {
                Ok(Applied::Catalog(catalog::Applied::Map(map))) => {
                    assert!(made.insert(map.id), "seed {seed}: {map:?} was made twice")
                }
                taken => assert!(number >= 30 && is_taken(&taken), "seed {seed}: {number}: {taken:?}"),
            }
        }
        network.heal();
        assert_same(&groups, 40).await;
        assert_eq!(groups[0].decided().state.catalog().maps().len(), 30, "seed {seed}");
        assert_eq!(groups[0].decided().version, ControlVersion(40), "seed {seed}: decided once each");
    }
}

#[tokio::test(start_paused = true)]
async fn the_observer_is_told_of_every_change_in_order() {
    let network = TestNetwork::default();
    let (observer, told) = recorder();
    let options = Options { observer, ..options(voter(1), Storage::Memory) };
    let group = ControlGroup::start(options, network.of(NodeId(1))).await.unwrap();
    group.create(first()).await.unwrap();
    let proposals = ["a", "b", "a", "c"].map(|map| group.propose(group.proposal(create(map))));
    let [a, b, twice, c] = proposals;
    let (a, b, twice, c) = tokio::join!(a, b, twice, c);
    assert!(is_taken(&twice), "{twice:?}");
    let applied = vec![a.unwrap(), b.unwrap(), c.unwrap()];
    let told = std::mem::take(&mut *told.lock());
    assert_eq!(told[0], (0, Change::Replaced));
    let changes = told[1..].iter().flat_map(|(_, change)| match change {
        Change::Decided(changes) => changes.clone(),
        Change::Replaced => panic!("{told:?}"),
    });
    assert_eq!(changes.collect::<Vec<_>>(), applied);
    assert_eq!(told.last().unwrap().0, 4);
    assert!(told.len() <= 3, "proposals that wait share an entry: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_woken_for_what_changes_nothing() {
    let network = TestNetwork::default();
    let (observer, told) = recorder();
    let options = Options { observer, ..options(voter(1), Storage::Memory) };
    let group = ControlGroup::start(options, network.of(NodeId(1))).await.unwrap();
    group.create(first()).await.unwrap();
    let grid = |command| group.proposal(Command::Grid(command));
    group.propose(group.proposal(create("a"))).await.unwrap();
    group.propose(grid(GridCommand::Drain { node: NodeId(1) })).await.unwrap();
    let mut watch = group.watch();
    let before = watch.borrow_and_update().state.clone();
    told.lock().clear();
    assert!(is_taken(&group.propose(group.proposal(create("a"))).await));
    let drained = group.propose(grid(GridCommand::Drain { node: NodeId(1) })).await;
    assert_eq!(drained, Ok(Applied::Grid(GridApplied::Unchanged)));
    let partition = PartitionId { class: ReplicationClass(0), index: 99 };
    let order = Order::FailOver { to: MemberId { node: NodeId(1), incarnation: 1 } };
    let decisions = vec![Decision { partition, version: 0, order }];
    let (partitions, refused) = (vec![], vec![(partition, DecisionError::NotFound)]);
    let decided = group.propose(grid(GridCommand::Decide { decisions })).await;
    assert_eq!(decided, Ok(Applied::Grid(GridApplied::Decided { partitions, refused })));
    assert!(!watch.has_changed().unwrap());
    assert_eq!(*told.lock(), []);
    assert_eq!(group.decided().version, ControlVersion(5), "but whoever asks sees that it was decided");
    assert!(before.is_same(&group.decided().state));
    group.propose(group.proposal(create("b"))).await.unwrap();
    assert!(watch.has_changed().unwrap());
    assert_eq!(told.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proposal_whose_entry_a_snapshot_took_the_place_of_is_answered() {
    let network = TestNetwork::default();
    let groups = voters(&network, 5).await;
    let old = leader(&groups).await;
    network.cut_off(old.identity().voter.node);
    let waiting = tokio::spawn({
        let (old, proposal) = (Arc::clone(&old), old.proposal(create("waiting")));
        async move { old.propose(proposal).await }
    });
    old.until(|status| status.last_index > status.applied_index).await.unwrap();
    let mut rest: Vec<_> = groups.iter().filter(|group| !Arc::ptr_eq(group, &old)).cloned().collect();
    for number in 0..400 {
        decide(&rest, &rest[0].proposal(create(format!("m{number}")))).await.unwrap();
    }
    // The one that leads then has never heard of the old leader's entry.
    let next = leader(&rest).await;
    rest.retain(|group| !Arc::ptr_eq(group, &next));
    next.shutdown().await;
    leader(&rest).await;
    network.heal();
    let answer = within(Duration::from_secs(10), waiting).await.unwrap();
    assert!(matches!(answer, Err(ProposeError::NotLeader { .. })), "{answer:?}");
    rest.push(old);
    assert_same(&rest, 400).await;
    assert!(network.pieces() > 0);
}

#[tokio::test(start_paused = true)]
async fn large_entries_are_sent_one_by_one() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let lead = leader(&groups).await;
    let follower = groups.iter().find(|group| !Arc::ptr_eq(group, &lead)).unwrap();
    network.cut_off(follower.identity().voter.node);
    let bytes = wattle_core::limits::CONTROL_BATCH_BYTES * 3 / 4;
    for _ in 0..4 {
        decide(&groups, &lead.proposal(large_command(bytes))).await.unwrap_err();
    }
    network.heal();
    assert_same(&groups, 4).await;
    assert!(network.largest() < bytes + 4096, "{}", network.largest());
}

#[tokio::test(start_paused = true)]
async fn entries_that_take_longer_than_a_heartbeat_are_sent_once_and_arrive() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let lead = leader(&groups).await;
    network.slow_down(Duration::from_millis(150));
    let (since, term) = (tokio::time::Instant::now(), lead.status().term);
    let large = lead.proposal(large_command(CONTROL_COMMAND_BYTES - 100));
    let decided = lead.propose(large).await;
    assert!(matches!(decided, Err(ProposeError::Refused(_))), "{decided:?}");
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!((network.large(), lead.status().term), (2, term), "once to each, and nobody else was elected");
    assert_same(&groups, 1).await;
}
