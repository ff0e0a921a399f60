//! A proposal is decided once.

use super::*;
use crate::proposal::Outcome;
use crate::replicated::Replicated;
use wattle_core::control::grid::{Decision, GridCommand, Order};
use wattle_core::ids::{GridTime, MemberId, PartitionId, ReplicationClass};
use wattle_core::limits::{CONTROL_DECIDED_PARTITIONS, CONTROL_DECISIONS, DECISIONS};

#[tokio::test(start_paused = true)]
async fn a_proposal_that_is_repeated_is_answered_the_same_and_decided_once() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let proposal = groups[0].proposal(create("m"));
    let first = decide(&groups, &proposal).await;
    assert_eq!(decide(&groups, &proposal).await, first);
    let refused = groups[1].proposal(create("m"));
    let refusal = decide(&groups, &refused).await;
    assert!(is_taken(&refusal), "{refusal:?}");
    let name = Name::new("m").unwrap();
    decide(
        &groups,
        &groups[0].proposal(Command::Catalog(catalog::Command::DeleteMap { name, at: GridTime::default() })),
    )
    .await
    .unwrap();
    assert_eq!(decide(&groups, &refused).await, refusal, "although it would be carried out now");
    assert_eq!(decide(&groups, &proposal).await, first);
    assert_same(&groups, 3).await;
    assert!(maps(&groups[2].decided().state).is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_leader_remembers_what_was_decided() {
    let network = TestNetwork::default();
    let groups = voters(&network, 3).await;
    let proposal = groups[0].proposal(create("m"));
    let first = decide(&groups, &proposal).await;
    let old = leader(&groups).await;
    network.cut_off(old.identity().voter.node);
    let rest: Vec<_> = groups.iter().filter(|group| !Arc::ptr_eq(group, &old)).cloned().collect();
    assert_eq!(decide(&rest, &proposal).await, first);
    assert_same(&rest, 1).await;
}

fn proposal(made_at: u64, nonce: u64) -> Proposal {
    Proposal {
        id: ProposalId { made_at: ControlVersion(made_at), nonce },
        command: create(format!("m{nonce}")),
    }
}

#[test]
fn what_is_not_remembered_is_not_decided_any_more() {
    let mut replicated = Replicated::new(first());
    let last = CONTROL_DECISIONS as u64;
    (0..last).for_each(|made_at| drop(replicated.decide(&proposal(made_at, made_at))));
    let first = replicated.decide(&proposal(0, 0));
    assert!(matches!(first, Outcome::Applied(_)), "{first:?}");
    replicated.decide(&proposal(last, last));
    assert_eq!(replicated.decide(&proposal(0, 0)), Outcome::Expired);
    assert_eq!(
        replicated.decide(&proposal(0, last + 1)),
        Outcome::Expired,
        "it may be one that is forgotten"
    );
    assert_eq!(replicated.version, ControlVersion(last + 1));
    let again = replicated.decide(&proposal(1, 1));
    assert!(matches!(again, Outcome::Applied(_)), "{again:?}");
    assert_eq!(replicated.version, ControlVersion(last + 1));
}

/// Names as many partitions as a command may.
fn large(nonce: u64) -> Proposal {
    let to = MemberId { node: NodeId(1), incarnation: 1 };
    let decision = |index| {
        let partition = PartitionId { class: ReplicationClass(0), index };
        Decision { partition, version: 0, order: Order::FailOver { to } }
    };
    let decisions = (0..DECISIONS).map(|index| decision(u16::try_from(index).unwrap())).collect();
    let id = ProposalId { made_at: ControlVersion(0), nonce };
    Proposal { id, command: Command::Grid(GridCommand::Decide { decisions }) }
}

#[test]
fn decisions_that_name_many_partitions_are_forgotten_earlier() {
    let mut replicated = Replicated::new(first());
    let bound = (CONTROL_DECIDED_PARTITIONS / DECISIONS) as u64;
    let outcomes: Vec<_> = (0..bound).map(|nonce| replicated.decide(&large(nonce))).collect();
    assert!(outcomes.iter().all(|outcome| outcome.partitions() == DECISIONS), "{:?}", outcomes[0]);
    assert_eq!(replicated.decide(&large(0)), outcomes[0]);
    assert_eq!(replicated.version, ControlVersion(bound));
    replicated.decide(&proposal(bound, bound));
    assert_eq!(replicated.decide(&large(0)), outcomes[0], "a small one more is within the bound");
    let late = Proposal { id: ProposalId { made_at: replicated.version, nonce: bound + 1 }, ..large(0) };
    replicated.decide(&late);
    assert_eq!(replicated.decide(&large(0)), Outcome::Expired);
    assert_eq!(replicated.decide(&large(1)), outcomes[1]);
    assert!(matches!(replicated.decide(&late), Outcome::Applied(_)));
}

#[tokio::test(start_paused = true)]
async fn a_log_of_few_large_entries_gives_way_to_a_snapshot() {
    let network = TestNetwork::default();
    let groups = voters(&network, 1).await;
    let bytes = wattle_core::limits::CONTROL_COMMAND_BYTES - 1024;
    for _ in 0..5 {
        assert_eq!(groups[0].status().snapshot_index, None);
        let refused = groups[0].propose(groups[0].proposal(large_command(bytes))).await;
        assert_eq!(
            refused,
            Err(ProposeError::Refused(Refusal::Catalog(catalog::Refusal::ReasonTooLong { bytes })))
        );
    }
    let lightened = groups[0].until(|status| status.purged_index == status.applied_index);
    within(Duration::from_secs(10), lightened).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn proposals_beyond_the_bounds_are_refused_at_once() {
    let network = TestNetwork::default();
    let groups = voters(&network, 1).await;
    let bytes = wattle_core::limits::CONTROL_COMMAND_BYTES;
    let large = large_command(bytes);
    let refused = groups[0].propose(groups[0].proposal(large)).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { bytes: found }) if found > bytes), "{refused:?}");
    let bound = wattle_core::limits::CONTROL_PROPOSALS;
    // None is taken from the queue before all have come.
    let proposals = (0..=bound).map(|map| {
        let (group, proposal) = (Arc::clone(&groups[0]), groups[0].proposal(create(format!("m{map}"))));
        tokio::spawn(async move { group.propose(proposal).await })
    });
    let mut busy = 0;
    for proposed in proposals.collect::<Vec<_>>() {
        match proposed.await.unwrap() {
            Ok(_) => {}
            Err(ProposeError::Busy) => busy += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(busy, 1);
}

/// Who follows is told of changes alone, each voter of as many at once as it likes: so what has changed nothing is not to be waited for.
#[tokio::test(start_paused = true)]
async fn the_last_decision_that_has_changed_something_is_known_also_from_a_snapshot() {
    let network = TestNetwork::default();
    let groups = voters(&network, 1).await;
    let group = &groups[0];
    group.propose(group.proposal(create("m"))).await.unwrap();
    let created = group.decided();
    assert_eq!(created.changed, created.version);
    assert!(is_taken(&group.propose(group.proposal(create("m"))).await));
    let refused = group.decided();
    assert_eq!((refused.changed, refused.version.0), (created.version, created.version.0 + 1));

    // An answer may name what was there before.
    let join = || group.proposal(Command::Grid(GridCommand::Join(Box::new(joining(2)))));
    let joined = group.propose(join()).await.unwrap();
    let before = group.decided();
    assert_eq!(before.changed, before.version);
    assert_eq!(group.propose(join()).await.unwrap(), joined);
    let again = group.decided();
    assert_eq!((again.changed, again.version.0), (before.version, before.version.0 + 1));

    let mut replicated = Replicated::new(first());
    assert_eq!(replicated.changed, replicated.version);
    replicated.decide(&group.proposal(create("n")));
    let changed = replicated.version;
    replicated.decide(&group.proposal(create("n")));
    let again = Replicated::from_snapshot(&replicated.to_snapshot()).unwrap();
    assert_eq!((again.changed, again.version.0), (changed, changed.0 + 1));
}
