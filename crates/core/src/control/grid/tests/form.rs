//! The written form: what is in a log is read for ever, and what is not understood is no guess.

use super::super::*;
use super::fixture::*;
use crate::control::GroupCommand;
use crate::ids::Version;
use crate::ids::{Epoch, NodeId};
use crate::replication::{Change, Proposal};

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
    check(
        GridCommand::Join(Box::new(joining)),
        &format!(
            concat!(
                r#"{{"Join":{{"grid":[{}],"nonce":[2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2],"#,
                r#""known":{{"node":2,"incarnation":3}},"description":{{"peer_address":"10.0.0.2:7118","#,
                r#""client_address":"10.0.0.2:7117","zone":"a","host":"host-2","version":"0.1.0","#,
                r#""formats":{{"oldest":1,"newest":1}},"role":"Data"}}}}}}"#
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
