//! The written form: what is in a log is read for ever, and what is not understood is no guess.

use super::super::*;
use super::fixture::*;
use crate::control::state::tests::upload;
use crate::control::{
    Applied, Command, GroupApplied, GroupCommand, GroupRefusal, GroupState, Promote, Refusal,
};
use crate::ids::Version;
use crate::ids::{Epoch, NodeId};
use crate::name::Name;
use crate::replication::{Change, Proposal, ProposalError};

fn check(command: GridCommand, written: &str) {
    let command = GroupCommand::Grid(command);
    let written = format!(r#"{{"Grid":{written}}}"#);
    assert_eq!(serde_json::to_string(&command).unwrap(), written);
    assert_eq!(serde_json::from_str::<GroupCommand>(&written).unwrap(), command);
}

#[test]
fn commands_are_written_so() {
    let grid = GridId([1; 16]);
    let (mut joining, text) = (joining(2), "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1");
    (joining.grid, joining.known, joining.description.zone) = (grid, Some(member(2, 3)), Some("a".into()));
    joining.description.prepares = true;
    check(
        GridCommand::Join(Box::new(joining)),
        &format!(
            concat!(
                r#"{{"Join":{{"grid":[{}],"nonce":[2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2],"#,
                r#""known":{{"node":2,"incarnation":3}},"description":{{"peer_address":"10.0.0.2:7118","#,
                r#""client_address":"10.0.0.2:7117","zone":"a","host":"host-2","version":"0.1.0","#,
                r#""formats":{{"oldest":1,"newest":1}},"role":"Data","prepares":true}}}}}}"#
            ),
            text
        ),
    );
    let who = r#"{"node":1,"incarnation":1}"#;
    let order = Order::Want { wanted: members(&[1]), primary: member(1, 1) };
    check(
        GridCommand::Decide { decisions: vec![Decision { partition: partition(4), version: 9, order }] },
        &format!(
            concat!(
                r#"{{"Decide":{{"decisions":[{{"partition":{{"class":0,"index":4}},"version":9,"#,
                r#""order":{{"Want":{{"wanted":[{}],"primary":{}}}}}}}]}}}}"#
            ),
            who, who
        ),
    );
    let change = Change { add: Some(member(1, 1)), ..Change::default() };
    let proposal = Proposal { by: member(1, 1), version: 9, change };
    check(
        GridCommand::Propose { partition: partition(4), proposal },
        &format!(
            concat!(
                r#"{{"Propose":{{"partition":{{"class":0,"index":4}},"proposal":{{"by":{},"version":9,"#,
                r#""change":{{"add":{},"remove":null,"successor":null}}}}}}}}"#
            ),
            who, who
        ),
    );
    let from = Recovery::Copy { epoch: Epoch { generation: 1, number: 2 }, last: Version(3) };
    check(
        GridCommand::RecoverLost { partition: partition(4), version: 9, member: member(1, 1), from },
        &format!(
            concat!(
                r#"{{"RecoverLost":{{"partition":{{"class":0,"index":4}},"version":9,"member":{},"#,
                r#""from":{{"Copy":{{"epoch":{{"generation":1,"number":2}},"last":3}}}}}}}}"#
            ),
            who
        ),
    );
    check(GridCommand::StartEmpty, r#""StartEmpty""#);
    check(GridCommand::Drain { node: NodeId(3) }, r#"{"Drain":{"node":3}}"#);
}

#[test]
fn catalog_commands_are_written_so() {
    let (name, promote) = (Name::new("f").unwrap(), Promote::AtOnce);
    let command = GroupCommand::Catalog(Command::AddVersion { name, version: upload(1), promote });
    let hash = ["1"; 32].join(",");
    let written = format!(
        concat!(
            r#"{{"Catalog":{{"AddVersion":{{"name":"f","version":{{"number":0,"module":[{}],"size_bytes":1,"#,
            r#""export":"f","export_index":0,"kind":"EntryProcessor","read_only":false,"deterministic":false,"#,
            r#""uploaded_ms":0,"options":{{"cpu_budget":{{"secs":0,"nanos":10000000}},"memory_bytes":16777216,"#,
            r#""fresh_instances":false}}}},"promote":"AtOnce"}}}}}}"#
        ),
        hash
    );
    assert_eq!(serde_json::to_string(&command).unwrap(), written);
    assert_eq!(serde_json::from_str::<GroupCommand>(&written).unwrap(), command);
}

fn check_applied(applied: &GroupApplied, written: &str) {
    assert_eq!(serde_json::to_string(applied).unwrap(), written);
    assert_eq!(&serde_json::from_str::<GroupApplied>(written).unwrap(), applied);
}

fn check_refused(refused: GridRefusal, written: &str) {
    let refused = GroupRefusal::Grid(refused);
    let written = format!(r#"{{"Grid":{written}}}"#);
    assert_eq!(serde_json::to_string(&refused).unwrap(), written);
    assert_eq!(serde_json::from_str::<GroupRefusal>(&written).unwrap(), refused);
}

#[test]
fn what_was_decided_is_written_so() {
    check_applied(&GroupApplied::Created(member(1, 1)), r#"{"Created":{"node":1,"incarnation":1}}"#);
    check_applied(&GroupApplied::Catalog(Applied::Unchanged), r#"{"Catalog":"Unchanged"}"#);
    let joined = GridApplied::Joined { member: member(2, 1), partitions: vec![partition(3)] };
    check_applied(
        &GroupApplied::Grid(joined),
        r#"{"Grid":{"Joined":{"member":{"node":2,"incarnation":1},"partitions":[{"class":0,"index":3}]}}}"#,
    );
    let refused = vec![(partition(1), DecisionError::Outdated { decided: 2, current: 3 })];
    check_applied(
        &GroupApplied::Grid(GridApplied::Decided { partitions: vec![], refused }),
        concat!(
            r#"{"Grid":{"Decided":{"partitions":[],"#,
            r#""refused":[[{"class":0,"index":1},{"Outdated":{"decided":2,"current":3}}]]}}}"#
        ),
    );
    let refused = GroupRefusal::Catalog(Refusal::TooManyMaps);
    let written = r#"{"Catalog":"TooManyMaps"}"#;
    assert_eq!(serde_json::to_string(&refused).unwrap(), written);
    assert_eq!(serde_json::from_str::<GroupRefusal>(written).unwrap(), refused);
    let source = ProposalError::TooFew { left: 1, min_in_sync: 2 };
    check_refused(
        GridRefusal::Proposal { partition: partition(4), source },
        concat!(
            r#"{"Proposal":{"partition":{"class":0,"index":4},"#,
            r#""source":{"TooFew":{"left":1,"min_in_sync":2}}}}"#
        ),
    );
    let source = DecisionError::IsPrimary { member: member(1, 1) };
    check_refused(
        GridRefusal::Decision { partition: partition(4), source },
        concat!(
            r#"{"Decision":{"partition":{"class":0,"index":4},"#,
            r#""source":{"IsPrimary":{"member":{"node":1,"incarnation":1}}}}}"#
        ),
    );
    let long = TextTooLong { field: NodeText::PeerAddress, bytes: 300 };
    check_refused(GridRefusal::Description(long), r#"{"Description":{"field":"PeerAddress","bytes":300}}"#);
    let class = InvalidClass::MinInSync { backups: 1, min_in_sync: 3 };
    check_refused(GridRefusal::Class(class), r#"{"Class":{"MinInSync":{"backups":1,"min_in_sync":3}}}"#);
}

#[test]
fn a_state_is_written_so() {
    let mut state = GroupState::default();
    assert_eq!(
        serde_json::to_string(&state).unwrap(),
        r#"{"grid":null,"catalog":{"maps":{},"functions":{},"last_map":0}}"#
    );
    state.apply(&GroupCommand::Create(Box::new(new_grid(1)))).unwrap();
    let order = Order::Begin { wanted: members(&[1]), primary: member(1, 1) };
    let decisions = vec![Decision { partition: partition(0), version: 0, order }];
    state.apply(&GroupCommand::Grid(GridCommand::Decide { decisions })).unwrap();
    let (seven, one) = (["7"; 16].join(","), ["1"; 16].join(","));
    let who = r#"{"node":1,"incarnation":1}"#;
    let epoch = r#"{"generation":1,"number":1}"#;
    let node = format!(
        concat!(
            r#"{{"member":{},"nonce":[{}],"state":"Joined","description":{{"#,
            r#""peer_address":"10.0.0.1:7118","client_address":"10.0.0.1:7117","zone":null,"host":"host-1","#,
            r#""version":"0.1.0","formats":{{"oldest":1,"newest":1}},"role":"Data"}},"has_held":true}}"#
        ),
        who, one
    );
    let row = format!(
        concat!(
            r#"{{"assignment":{{"version":1,"epoch":{},"primary":{},"in_sync":[{}],"wanted":[{}]}},"#,
            r#""began":{},"preferred":{},"changed":3}}"#
        ),
        epoch, who, who, who, epoch, who
    );
    let written = format!(
        concat!(
            r#"{{"grid":{{"id":[{}],"name":"test","generation":1,"format":1,"on_full_loss":"StartEmpty","#,
            r#""version":3,"nodes":{{"1":{}}},"nodes_changed":2,"last_node":1,"classes":[{{"options":"#,
            r#"{{"backups":1,"min_in_sync":1,"partitions":1}},"rows":[{}]}}]}},"#,
            r#""catalog":{{"maps":{{}},"functions":{{}},"last_map":0}}}}"#
        ),
        seven, node, row
    );
    assert_eq!(serde_json::to_string(&state).unwrap(), written);
    assert_eq!(serde_json::from_str::<GroupState>(&written).unwrap(), state);
}

#[test]
fn what_is_not_understood_is_an_error() {
    for unknown in [
        r#"{"Grid":"Explode"}"#,
        r#"{"Grid":{"Drain":{"node":3,"gently":true}}}"#,
        r#"{"Grid":{"CreateClass":{"options":{"backups":1,"min_in_sync":1,"partitions":1,"colour":2}}}}"#,
    ] {
        let error = serde_json::from_str::<GroupCommand>(unknown).unwrap_err().to_string();
        assert!(error.starts_with("unknown "), "{error}");
    }
}

#[test]
fn a_grid_survives_its_written_form() {
    let mut grid = grid_of(3, 2);
    begin(&mut grid, &[1, 2]);
    add(&mut grid, member(2, 1));
    let written = serde_json::to_string(&grid).unwrap();
    assert_eq!(serde_json::from_str::<Grid>(&written).unwrap(), grid);
    let delta = grid.changes_since(0);
    let written = serde_json::to_string(&delta).unwrap();
    assert_eq!(serde_json::from_str::<Delta>(&written).unwrap(), delta);
}
