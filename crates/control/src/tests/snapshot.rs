//! The bytes of a snapshot.

use wattle_core::ids::GridTime;

use super::*;
use crate::proposal::Outcome;
use crate::replicated::Replicated;

fn decided() -> Replicated {
    let mut replicated = Replicated::new(first());
    for (nonce, map) in [(7, "m"), (8, "m")] {
        let id = ProposalId { made_at: ControlVersion(0), nonce };
        replicated.decide(&Proposal { id, command: create(map) });
    }
    replicated
}

/// What is in the state is written down in `wattle-core`.
#[test]
fn a_snapshot_is_these_bytes() {
    let replicated = decided();
    let state = serde_json::to_string(&replicated.state).unwrap();
    let options = r#"{"content_type":"Bytes","ttl":null,"max_idle":null,"max_bytes":null,"eviction":"None"}"#;
    let map = format!(r#"{{"id":1,"name":"m","revision":1,"options":{options}}}"#);
    let made = format!(r#"[{{"made_at":0,"nonce":7}},{{"Applied":{{"Catalog":{{"Map":{map}}}}}}}]"#);
    let refused = r#"[{"made_at":0,"nonce":8},{"Refused":{"Catalog":{"MapExists":{"name":"m"}}}}]"#;
    let json =
        format!(r#"{{"begun":true,"version":2,"changed":1,"state":{state},"decisions":[{made},{refused}]}}"#);
    let bytes = [&[1], json.as_bytes()].concat();
    let snapshot = replicated.to_snapshot();
    assert_eq!(snapshot, bytes, "{}", String::from_utf8_lossy(&snapshot));
    assert_eq!(Replicated::from_snapshot(&bytes).unwrap(), replicated);
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let sound = decided().to_snapshot();
    assert!(matches!(Replicated::from_snapshot(&[]), Err(SnapshotError::Empty)));
    let newer = [&[2], &sound[1..]].concat();
    assert!(matches!(Replicated::from_snapshot(&newer), Err(SnapshotError::Format { found: 2 })));
    let cut = Replicated::from_snapshot(&sound[..sound.len() - 1]);
    assert!(matches!(cut, Err(SnapshotError::Malformed(_))));
    let text = String::from_utf8(sound.to_vec()).unwrap();
    let unknown = text.replacen("\"begun\"", "\"colour\":1,\"begun\"", 1);
    assert!(matches!(Replicated::from_snapshot(unknown.as_bytes()), Err(SnapshotError::Malformed(_))));
}

/// A voter that has a snapshot instead of the log must not decide what was decided before.
#[test]
fn a_snapshot_remembers_what_was_decided() {
    let mut replicated = Replicated::from_snapshot(&decided().to_snapshot()).unwrap();
    let id = ProposalId { made_at: ControlVersion(0), nonce: 8 };
    let command = Command::Catalog(catalog::Command::DeleteMap {
        name: Name::new("m").unwrap(),
        at: GridTime::default(),
    });
    let again = replicated.decide(&Proposal { id, command });
    assert!(matches!(again, Outcome::Refused(Refusal::Catalog(_))), "{again:?}");
    assert_eq!(replicated, decided());
}
