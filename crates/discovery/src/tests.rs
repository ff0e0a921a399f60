//! What is found, by a DNS server that the tests have. What Kubernetes says is tested beside.

use std::net::SocketAddr;

use dns_server::{DnsServer, a, aaaa, srv};

use super::*;

#[path = "tests/churn.rs"]
mod churn;
#[path = "tests/cluster.rs"]
mod cluster;
#[path = "tests/faults.rs"]
mod faults;
#[path = "tests/kubernetes.rs"]
mod kubernetes;
#[path = "tests/slices.rs"]
mod slices;

#[path = "tests/dns_server.rs"]
#[allow(dead_code, reason = "it is shared with the tests of whole nodes, which use more of it")]
mod dns_server;

fn service(server: &DnsServer, name: &str) -> Discovery {
    let service = DnsService::new(name.parse().unwrap(), 7117, Some(server.address())).unwrap();
    Discovery::new(Vec::new(), Some(Service::Dns(Box::new(service))))
}

async fn found(server: &DnsServer, name: &str) -> Vec<String> {
    service(server, name).addresses().await.unwrap()
}

#[tokio::test]
async fn the_ports_of_srv_records_go_before_the_nodes_own() {
    let server = DnsServer::start().await;
    server.set("wattle.test", vec![a("127.0.0.9"), srv("one.test", 7201), srv("two.test", 7202)]);
    server.set("one.test", vec![a("127.0.0.1")]);
    server.set("two.test", vec![aaaa("::1")]);
    assert_eq!(found(&server, "wattle.test").await, ["127.0.0.1:7201", "[::1]:7202"]);
}

#[tokio::test]
async fn addresses_have_the_port_that_was_said_or_the_nodes_own() {
    let server = DnsServer::start().await;
    server.set("wattle.test", vec![a("127.0.0.2"), a("127.0.0.1"), aaaa("::1")]);
    server.set("six.test", vec![aaaa("::1")]);
    assert_eq!(found(&server, "wattle.test").await, ["127.0.0.1:7117", "127.0.0.2:7117"]);
    assert_eq!(found(&server, "six.test").await, ["[::1]:7117"]);
    server.set("wattle.test", vec![a("127.0.0.1"), srv("one.test", 7201)]);
    assert_eq!(found(&server, "wattle.test:8000").await, ["127.0.0.1:8000"]);
}

#[tokio::test]
async fn who_is_said_to_be_there_and_has_no_address_is_not_left_out() {
    let server = DnsServer::start().await;
    server.set("wattle.test", vec![srv("one.test", 7201), srv("starts.test", 7202)]);
    server.set("one.test", vec![a("127.0.0.1")]);
    assert_eq!(found(&server, "wattle.test").await, ["127.0.0.1:7201", "starts.test:7202"]);
}

#[tokio::test]
async fn an_answer_that_nobody_is_there_is_one_and_no_answer_is_none() {
    let server = DnsServer::start().await;
    let looked_for = service(&server, "wattle.test");
    assert_eq!(looked_for.addresses().await.unwrap(), Vec::<String>::new());
    server.fail(true);
    let other = service(&server, "other.test");
    let error = other.addresses().await.unwrap_err();
    assert!(matches!(&error, LookupError::NoAnswer { name, .. } if name == "other.test"), "{error:?}");
    // The same question has another answer later.
    server.fail(false);
    server.set("other.test", vec![a("127.0.0.1")]);
    assert_eq!(other.addresses().await.unwrap(), ["127.0.0.1:7117"]);
    server.set("other.test", vec![a("127.0.0.1"), a("127.0.0.2")]);
    assert_eq!(other.addresses().await.unwrap(), ["127.0.0.1:7117", "127.0.0.2:7117"]);
}

#[tokio::test]
async fn places_that_were_given_are_kept_and_each_is_there_once() {
    let server = DnsServer::start().await;
    server.set("wattle.test", vec![a("127.0.0.1")]);
    let service = DnsService::new("wattle.test".parse().unwrap(), 7117, Some(server.address())).unwrap();
    let places = vec!["b:1".to_owned(), "127.0.0.1:7117".to_owned()];
    let both = Discovery::new(places, Some(Service::Dns(Box::new(service))));
    assert_eq!(both.addresses().await.unwrap(), ["127.0.0.1:7117", "b:1"]);
    assert!(!both.is_nowhere() && Discovery::default().is_nowhere());
}

#[tokio::test]
async fn a_grid_has_no_more_nodes_than_it_may() {
    let server = DnsServer::start().await;
    let addresses = |count: usize| {
        (0..count).map(|n| a(&format!("127.{}.{}.1", 1 + n / 256, n % 256))).collect::<Vec<_>>()
    };
    server.set("wattle.test", vec![srv("all.test", 1), srv("one.test", 1)]);
    server.set("one.test", vec![a("127.0.0.1")]);
    // As many as fit a datagram.
    server.set("all.test", addresses(60));
    assert_eq!(found(&server, "wattle.test").await.len(), 61);
    let many = (0..20).map(|port| srv("all.test", port)).collect();
    server.set("wattle.test", many);
    let error = service(&server, "wattle.test").addresses().await.unwrap_err();
    assert!(matches!(error, LookupError::TooMany { found: 1200, .. }), "{error:?}");
}

#[test]
fn a_service_has_a_name() {
    for text in ["", ":1", "a:b", "a:70000", "a b", ".", &"a".repeat(64)] {
        assert!(matches!(text.parse::<ServiceName>(), Err(ServiceError::NoName { .. })), "{text:?}");
    }
    for text in ["wattle", "wattle:7117", "_peer._tcp.wattle.default.svc.cluster.local"] {
        text.parse::<ServiceName>().unwrap();
    }
    let server: SocketAddr = "127.0.0.1:53".parse().unwrap();
    DnsService::new("wattle".parse().unwrap(), 1, Some(server)).unwrap();
}
