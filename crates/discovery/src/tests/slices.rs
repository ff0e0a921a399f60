//! What several slices say together.

use serde_json::{Value, json};

use crate::slices::{Slices, places};

fn slices(of: &[Value]) -> Slices {
    let mut slices = Slices::default();
    for (number, slice) in of.iter().enumerate() {
        let mut slice = slice.clone();
        slice["metadata"] = json!({"name": format!("s{number}")});
        slices.apply(serde_json::from_value(slice).unwrap());
    }
    slices
}

fn check(of: &[Value], expected: &[&str]) {
    assert_eq!(places(&slices(of).pods(None, 7117)), expected, "{of:?}");
}

fn four(endpoints: &Value) -> Value {
    json!({"addressType": "IPv4", "endpoints": endpoints, "ports": []})
}

fn at(address: &str, ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Value {
    let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
    json!({"addresses": [address], "conditions": conditions})
}

#[test]
fn who_is_not_ready_may_answer_and_who_has_ended_does_not() {
    let slice = four(&json!([
        at("10.0.0.1", Some(true), Some(true), Some(false)),
        at("10.0.0.2", Some(false), Some(false), Some(false)),
        at("10.0.0.3", Some(false), Some(true), Some(true)),
        at("10.0.0.4", Some(false), Some(false), Some(true)),
        at("10.0.0.5", None, None, None),
        // Serving is as ready is if it is not said, and ready is true.
        at("10.0.0.6", Some(false), None, Some(true)),
        at("10.0.0.7", None, None, Some(true)),
        {"addresses": ["10.0.0.8", "10.0.0.9"]},
        {"addresses": []},
    ]));
    let expected = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.7", "10.0.0.8"];
    check(&[slice], &expected.map(|host| format!("{host}:7117")).each_ref().map(String::as_str));
}

#[test]
fn a_pod_in_several_slices_is_one_and_who_has_its_address_now_counts() {
    let gone = four(&json!([at("10.0.0.1", Some(false), Some(false), Some(true))]));
    let new = four(&json!([at("10.0.0.1", Some(false), Some(false), Some(false))]));
    check(&[gone.clone(), new.clone()], &["10.0.0.1:7117"]);
    check(&[new.clone(), gone.clone()], &["10.0.0.1:7117"]);
    check(&[new.clone(), new], &["10.0.0.1:7117"]);
    check(&[gone], &[]);
}

#[test]
fn addresses_of_ipv6_are_taken_where_there_are_no_others() {
    let six = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}], "ports": []});
    check(std::slice::from_ref(&six), &["[fd00::1]:7117"]);
    check(&[six.clone(), four(&json!([{"addresses": ["10.0.0.1"]}]))], &["10.0.0.1:7117"]);
    let named = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["one.test"]}], "ports": []});
    check(&[named, six], &["[fd00::1]:7117", "one.test:7117"]);
}

#[test]
fn the_port_is_that_of_the_peers_or_the_only_one() {
    let with = |ports: Value| {
        let endpoints = json!([{"addresses": ["10.0.0.1"]}]);
        slices(&[json!({"addressType": "IPv4", "endpoints": endpoints, "ports": ports})])
    };
    let (api, peers) = (json!({"name": "api", "port": 1}), json!({"name": "peers", "port": 2}));
    for (ports, given, expected) in [
        (json!([api, peers]), None, "10.0.0.1:2"),
        (json!([api]), None, "10.0.0.1:1"),
        (json!([{"port": 3}]), None, "10.0.0.1:3"),
        (json!([api, {"name": "http", "port": 4}]), None, "10.0.0.1:7117"),
        (json!(null), None, "10.0.0.1:7117"),
        (json!([{"name": "peers", "port": 70000}]), None, "10.0.0.1:7117"),
        (json!([peers]), Some(5), "10.0.0.1:5"),
    ] {
        assert_eq!(places(&with(ports).pods(given, 7117)), [expected]);
    }
}
