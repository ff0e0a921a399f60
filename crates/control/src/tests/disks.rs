//! What is found after a restart, and on a disk that fails.

use super::*;
use crate::disk::{self, Write};
use crate::log_store::LogStore;
use crate::raft::{Entry, LogId, Payload, SnapshotMeta, Vote};
use crate::writer::Writer;
use openraft::storage::RaftLogStorage;
use openraft::{CommittedLeaderId, EntryPayload};
use wattle_core::control::grid::GridCommand;
use wattle_core::ids::GridTime;

#[tokio::test(start_paused = true)]
async fn a_lone_voter_goes_on_after_a_restart() {
    let (network, disk) = (TestNetwork::default(), FaultyDisk::new());
    let mut term = 0;
    for round in 0..3 {
        let group = start(&network, voter(1), on(&disk)).await;
        if round == 0 {
            group.create(first()).await.unwrap();
        }
        group.confirm_leadership().await.unwrap();
        assert!(group.status().term >= term);
        term = group.status().term;
        assert_eq!(group.decided().version, ControlVersion(round * 200));
        for map in 0..200 {
            group.propose(group.proposal(create(format!("m{round}-{map}")))).await.unwrap();
        }
        group.shutdown().await;
    }
    let contents = disk.open().unwrap().contents;
    assert!(
        contents.snapshot.is_some() && contents.entries.len() < 400,
        "{} entries",
        contents.entries.len()
    );
}

#[tokio::test(start_paused = true)]
async fn voters_keep_their_log_and_vote_over_a_restart_of_all() {
    let network = TestNetwork::default();
    let disks = [(); 3].map(|()| FaultyDisk::new());
    let mut groups = Vec::new();
    for (node, disk) in (1..).zip(&disks) {
        groups.push(start(&network, voter(node), on(disk)).await);
    }
    groups[0].create(first()).await.unwrap();
    groups[0].change_voters(&(1..=3).map(voter).collect()).await.unwrap();
    let proposal = groups[0].proposal(create("m"));
    let first = decide(&groups, &proposal).await;
    let term = leader(&groups).await.status().term;
    for group in &groups {
        network.remove(group.identity().voter.node);
        group.shutdown().await;
    }
    for disk in &disks {
        let vote = disk.open().unwrap().contents.vote.unwrap();
        assert_eq!(vote.leader_id.term, term);
    }
    let mut again = Vec::new();
    for (node, disk) in (1..).zip(&disks) {
        again.push(start(&network, voter(node), on(disk)).await);
    }
    assert_eq!(decide(&again, &proposal).await, first);
    assert_same(&again, 1).await;
}

#[test]
fn a_log_of_which_nothing_is_known_to_be_committed_can_be_read() {
    let faulty = FaultyDisk::new();
    let opened = faulty.open().unwrap();
    let entry = Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, voter(1)), 0),
        payload: EntryPayload::Normal(Payload::begin(first())),
    };
    let entry = (0, disk::json(&entry));
    disk::write(&opened.database, &[Write::Append(vec![entry], None)]).unwrap();
    drop(opened);
    let contents = faulty.open().unwrap().contents;
    assert_eq!((contents.entries.len(), contents.committed), (1, None));
    assert_eq!(faulty.open().unwrap().first_state().as_deref(), Some(&first()));
}

/// The disk of a lone voter with some maps.
async fn used_disk() -> Vec<u8> {
    let [_, closed] = used_disks().await;
    closed
}

/// The same while the voter runs, and after it has ended.
async fn used_disks() -> [Vec<u8>; 2] {
    let disk = FaultyDisk::new();
    let group = start(&TestNetwork::default(), voter(1), on(&disk)).await;
    group.create(first()).await.unwrap();
    for map in ["a", "b"] {
        group.propose(group.proposal(create(map))).await.unwrap();
    }
    let running = disk.bytes();
    group.shutdown().await;
    [running, disk.bytes()]
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_ends_the_voter_and_loses_nothing() {
    let bytes = used_disk().await;
    let mut found = [0, 0];
    for healthy in 0..1000 {
        let disk = FaultyDisk::holding(&bytes);
        let group = start(&TestNetwork::default(), voter(1), on(&disk)).await;
        group.confirm_leadership().await.unwrap();
        disk.fail_after(healthy);
        let proposal = group.proposal(create("c"));
        let proposed = group.propose(proposal.clone()).await;
        let role = group.status().role;
        // As a crash at this moment would leave it.
        let left = FaultyDisk::holding(&disk.bytes());
        group.shutdown().await;
        let group = start(&TestNetwork::default(), voter(1), on(&left)).await;
        group.confirm_leadership().await.unwrap();
        let maps = maps(&group.decided().state);
        if let Ok(applied) = proposed {
            assert_eq!(maps, ["a", "b", "c"], "after {healthy}");
            assert_eq!(group.propose(proposal).await, Ok(applied));
            assert!(found.iter().all(|count| *count > 0), "{found:?}");
            return;
        }
        let refused = matches!(proposed, Err(ProposeError::Ended | ProposeError::NotLeader { .. }));
        assert!(refused, "after {healthy}: {proposed:?}");
        assert_eq!(role, Role::Failed, "after {healthy}");
        assert_eq!(maps[..2], ["a", "b"], "after {healthy}");
        found[maps.len() - 2] += 1;
        group.propose(proposal).await.unwrap();
        assert_eq!(group.decided().version, ControlVersion(3), "after {healthy}: decided once");
        group.shutdown().await;
    }
    panic!("the proposal was never decided");
}

#[tokio::test(start_paused = true)]
async fn others_go_on_without_a_voter_whose_disk_is_full() {
    let network = TestNetwork::default();
    let disk = FaultyDisk::new();
    let full = start(&network, voter(1), on(&disk)).await;
    full.create(first()).await.unwrap();
    let mut groups = vec![full];
    for node in 2..=3 {
        groups.push(start(&network, voter(node), Storage::Memory).await);
    }
    groups[0].change_voters(&(1..=3).map(voter).collect()).await.unwrap();
    disk.fail_after(0);
    let proposal = groups[0].proposal(create("m"));
    let failed = groups[0].propose(proposal.clone()).await;
    assert!(matches!(failed, Err(ProposeError::Ended | ProposeError::NotLeader { .. })), "{failed:?}");
    decide(&groups, &proposal).await.unwrap();
    assert_same(&groups[1..], 1).await;
    assert_eq!(groups[0].status().role, Role::Failed);
    assert!(maps(&groups[0].decided().state).is_empty(), "it can still be read");
    // It comes back with what it had, as the same voter.
    groups[0].shutdown().await;
    groups[0] = start(&network, voter(1), on(&FaultyDisk::holding(&disk.bytes()))).await;
    assert_same(&groups, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_vote_is_waited_for_on_the_disk_and_that_it_has_won_is_not() {
    let disk = FaultyDisk::new();
    let Disk { database, contents, .. } = disk.open().unwrap();
    let (writer, run) = Writer::new(database);
    let writing = tokio::spawn(run);
    let mut log = LogStore::new(contents, Some(writer), Arc::default());
    log.save_vote(&Vote::new(2, voter(1))).await.unwrap();
    disk.fail_after(0);
    log.save_vote(&Vote::new_committed(2, voter(1))).await.unwrap();
    log.save_vote(&Vote::new_committed(2, voter(2))).await.unwrap_err();
    drop(log);
    writing.await.unwrap();
    let left = FaultyDisk::holding(&disk.bytes()).open().unwrap().contents;
    assert_eq!(left.vote.unwrap().leader_id, Vote::new(2, voter(1)).leader_id);
}

#[test]
fn a_file_has_one_owner_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("control.redb");
    let first = Disk::open(&path).unwrap();
    assert_eq!(first.identity(), None);
    let error = Disk::open(&path).unwrap_err();
    assert!(matches!(&error, DiskError::InUse { path: found } if *found == path), "{error:?}");
    drop(first);
    Disk::open(&path).unwrap();
    let files: Vec<_> =
        std::fs::read_dir(root.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["control.redb"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_grid_generation_or_voter_is_refused() {
    let bytes = used_disk().await;
    let own = Identity { group: GROUP, voter: voter(1) };
    let reborn = VoterId { incarnation: 2, ..own.voter };
    let others = [
        Identity { group: GroupId { grid: 1, ..GROUP }, ..own },
        Identity { group: GroupId { generation: 2, ..GROUP }, ..own },
        Identity { voter: voter(2), ..own },
        Identity { voter: reborn, ..own },
    ];
    for other in others {
        let disk = FaultyDisk::holding(&bytes);
        let options = Options { identity: other, ..options(own.voter, on(&disk)) };
        match ControlGroup::start(options, TestNetwork::default().of(NodeId(1))).await {
            Err(StartError::Disk(DiskError::OtherGroup { found, expected, .. })) => {
                assert_eq!((found, expected), (own.group, other.group));
            }
            Err(StartError::Disk(DiskError::OtherVoter { found, expected, .. })) => {
                assert_eq!((own.group, found, expected), (other.group, own.voter, other.voter));
            }
            unexpected => panic!("{unexpected:?}"),
        }
        assert_eq!(disk.open().unwrap().identity(), Some(own));
    }
}

/// Opens a used file that `damage` was done to.
async fn damaged(damage: impl FnOnce(&redb::WriteTransaction)) -> DiskError {
    let disk = FaultyDisk::holding(&used_disk().await);
    let opened = disk.open().unwrap();
    let transaction = opened.database.begin_write().unwrap();
    damage(&transaction);
    transaction.commit().unwrap();
    drop(opened);
    disk.open().unwrap_err()
}

const VOTER: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("voter");
const LOG: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("log");

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_named() {
    let error = damaged(|transaction| {
        transaction.open_table(VOTER).unwrap().insert("format", b"2".as_slice()).unwrap();
    });
    assert!(matches!(error.await, DiskError::NewerFormat { found: 2, .. }));
    let error = damaged(|transaction| {
        transaction.open_table(LOG).unwrap().insert(2, b"{".as_slice()).unwrap();
    })
    .await;
    assert!(matches!(error, DiskError::Unreadable { row: Row::Entry(2), .. }), "{error:?}");
    assert_eq!(error.to_string(), "entry 2 in the control log test cannot be read");
    let error = damaged(|transaction| {
        transaction.open_table(LOG).unwrap().remove(1).unwrap();
    });
    assert!(matches!(error.await, DiskError::Gap { missing: 1, found: 2, .. }));
    let error = damaged(|transaction| {
        transaction.open_table(VOTER).unwrap().insert("snapshot", b"null".as_slice()).unwrap();
    });
    let error = error.await;
    assert!(matches!(error, DiskError::Unreadable { row: Row::Voter("snapshot"), .. }), "{error:?}");
    let error = damaged(|transaction| {
        transaction.open_table(VOTER).unwrap().remove("format").unwrap();
    });
    assert!(matches!(error.await, DiskError::NoControlLog { .. }));
}

#[test]
fn a_file_that_is_no_log_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("control.redb");
    std::fs::write(&path, "not a log, but longer than the magic number of one").unwrap();
    assert!(matches!(Disk::open(&path), Err(DiskError::Open { .. })));
    assert_eq!(std::fs::read(&path).unwrap().len(), 50);
    std::fs::remove_file(&path).unwrap();
    drop(redb::Database::create(&path).unwrap());
    assert!(matches!(Disk::open(&path), Err(DiskError::NoControlLog { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_page_never_gives_another_log() {
    for bytes in used_disks().await {
        let whole = format!("{:?}", FaultyDisk::holding(&bytes).open().unwrap().contents);
        let mut refused = 0;
        for (number, page) in bytes.chunks(4096).enumerate() {
            let Some(used) = page.iter().rposition(|byte| *byte != 0) else { continue };
            let mut damaged = bytes.clone();
            damaged[number * 4096 + used / 2] ^= 0x10;
            match FaultyDisk::holding(&damaged).open() {
                Ok(disk) => assert_eq!(format!("{:?}", disk.contents), whole, "page {number}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0, "no page in use was damaged");
    }
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer_one() {
    let disk = FaultyDisk::new();
    let opened = disk.open().unwrap();
    let snapshot = |index| {
        let last_log_id = Some(LogId::new(CommittedLeaderId::new(1, voter(1)), index));
        Write::Snapshot(SnapshotMeta { last_log_id, ..Default::default() }, vec![index as u8].into())
    };
    for index in [5, 3] {
        disk::write(&opened.database, &[snapshot(index)]).unwrap();
    }
    drop(opened);
    let (meta, state) = disk.open().unwrap().contents.snapshot.unwrap();
    assert_eq!((meta.last_log_id.unwrap().index, state.as_ref()), (5, [5].as_slice()));
}

#[tokio::test(start_paused = true)]
async fn a_state_of_a_newer_format_is_refused() {
    let disk = FaultyDisk::holding(&used_disk().await);
    let opened = disk.open().unwrap();
    let meta = SnapshotMeta::default();
    disk::write(&opened.database, &[Write::Snapshot(meta, vec![2, b'{', b'}'].into())]).unwrap();
    drop(opened);
    let network = TestNetwork::default().of(NodeId(1));
    match ControlGroup::start(options(voter(1), on(&disk)), network).await {
        Err(StartError::Disk(DiskError::UnreadableSnapshot {
            source: SnapshotError::Format { found: 2 },
            ..
        })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_format_on_disk_is_this() {
    let id = LogId::new(CommittedLeaderId::new(3, voter(1)), 7);
    let entry = |payload| serde_json::to_string(&Entry { log_id: id, payload }).unwrap();
    let proposal = Proposal {
        id: ProposalId { made_at: ControlVersion(4), nonce: 9 },
        command: Command::Catalog(catalog::Command::DeleteMap {
            name: Name::new("m").unwrap(),
            at: GridTime::default(),
        }),
    };
    let drain = Command::Grid(GridCommand::Drain { node: NodeId(2) });
    let other = Proposal { command: drain, id: proposal.id };
    let proposals = EntryPayload::Normal(Payload::Proposals([proposal, other].into()));
    let head = r#"{"log_id":{"leader_id":{"term":3,"node_id":"1.1"},"index":7},"payload":"#;
    let first = r#"{"id":{"made_at":4,"nonce":9},"command":{"Catalog":{"DeleteMap":{"name":"m"}}}}"#;
    let second = r#"{"id":{"made_at":4,"nonce":9},"command":{"Grid":{"Drain":{"node":2}}}}"#;
    let written = format!(r#"{head}{{"Normal":{{"Proposals":[{first},{second}]}}}}}}"#);
    assert_eq!(entry(proposals), written);
    assert_eq!(entry(serde_json::from_str::<Entry>(&written).unwrap().payload), written);
    assert_eq!(entry(EntryPayload::Blank), format!(r#"{head}"Blank"}}"#));
    let members = openraft::Membership::new(vec![[voter(1), voter(2)].into()], ());
    assert_eq!(
        entry(EntryPayload::Membership(members)),
        format!(
            r#"{head}{{"Membership":{{"configs":[["1.1","2.1"]],"nodes":{{"1.1":{{}},"2.1":{{}}}}}}}}}}"#
        )
    );
    let vote = serde_json::to_string(&Vote::new_committed(3, voter(1))).unwrap();
    assert_eq!(vote, r#"{"leader_id":{"term":3,"node_id":"1.1"},"committed":true}"#);
}
