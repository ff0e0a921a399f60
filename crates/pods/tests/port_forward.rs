//! `kubectl port-forward`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::DeleteParams;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bench::{DEADLINE, is_ready, pod};
use crate::kubectl::{Kubectl, Running};

/// What asks kubectl to speak SPDY without a WebSocket around it, as older ones do.
const SPDY: [(&str, &str); 1] = [("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")];

/// The local port of a forwarding that has begun.
async fn local(forwarding: &mut Running) -> u16 {
    let line = forwarding.line_with("Forwarding from 127.0.0.1:").await;
    line.trim_start_matches("Forwarding from 127.0.0.1:").split(' ').next().unwrap().parse().unwrap()
}

async fn ask(port: u16, request: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let ask = async {
            writer.write_all(request).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(ask, reader.read_to_end(&mut answer));
        read.unwrap();
    };
    timeout(DEADLINE, exchange).await.expect("it takes too long");
    answer
}

/// A connection that nobody answers on; kubectl closes it in good order, or with what it has not read.
async fn check_is_hung_up(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let read = timeout(DEADLINE, stream.read(&mut [0])).await.expect("it is not hung up");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn a_port_of_a_pod_is_forwarded_in_both_ways_to_speak() {
    let test = "port_forward::a_port_of_a_pod_is_forwarded_in_both_ways_to_speak";
    let Some(kubectl) = Kubectl::start(test).await else { return };
    let bench = &kubectl.bench;
    let _: Pod = bench.apply(pod(bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    for environment in [&[][..], &SPDY] {
        let mut forwarding = kubectl.begin("port-forward pod/a :7117", environment);
        let port = local(&mut forwarding).await;
        for _ in 0..3 {
            let answer = ask(port, b"GET /readyz HTTP/1.1\r\n\r\n").await;
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
        }
    }
    let asked: Vec<(&str, u16)> = bench
        .server
        .requests()
        .iter()
        .filter(|request| request.path.ends_with("/portforward"))
        .map(|request| (request.method, request.code))
        .collect();
    assert_eq!(asked, [("GET", 101), ("POST", 101)]);
}

#[tokio::test]
async fn a_service_is_forwarded_to_one_of_its_pods() {
    let test = "port_forward::a_service_is_forwarded_to_one_of_its_pods";
    let Some(kubectl) = Kubectl::start(test).await else { return };
    let bench = &kubectl.bench;
    let _: Pod = bench.apply(pod(bench, "a", &[])).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
        "selector": {"app": "sample"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    let _: Service = bench.apply(service).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let mut forwarding = kubectl.begin("port-forward service/web :80", &[]);
    let port = local(&mut forwarding).await;
    assert!(ask(port, b"GET /livez HTTP/1.1\r\n\r\n").await.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn many_connections_carry_much_at_once() {
    const CONNECTIONS: usize = 24;
    const BYTES: usize = 2 * 1024 * 1024;
    let test = "port_forward::many_connections_carry_much_at_once";
    let Some(kubectl) = Kubectl::start(test).await else { return };
    let bench = &kubectl.bench;
    let _: Pod = bench.apply(pod(bench, "a", &["--echo", "0.0.0.0:7118"])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let mut forwarding = kubectl.begin("port-forward a :7118", &[]);
    let port = local(&mut forwarding).await;
    let mut connections = JoinSet::new();
    for at in 0..CONNECTIONS {
        connections.spawn(async move {
            let said: Vec<u8> = (0..BYTES).map(|place| (place / 7 + at) as u8).collect();
            // What comes back comes after the end of what was said, too.
            assert!(ask(port, &said).await == said, "connection {at} lost or mixed up something");
        });
    }
    connections.join_all().await;
    // Who does not read holds up neither the others nor itself for good.
    let mut slow = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let blocked = timeout(Duration::from_secs(1), async {
        loop {
            slow.write_all(&[1; BYTES]).await.unwrap();
        }
    });
    blocked.await.expect_err("what nobody reads is taken for ever");
    drop(slow);
    assert_eq!(ask(port, b"hello").await, b"hello");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused_and_says_so() {
    let test = "port_forward::a_port_that_nobody_listens_on_is_refused_and_says_so";
    let Some(kubectl) = Kubectl::start(test).await else { return };
    let bench = &kubectl.bench;
    let _: Pod = bench.apply(pod(bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let mut forwarding = kubectl.begin("port-forward a :9", &[]);
    let port = local(&mut forwarding).await;
    check_is_hung_up(port).await;
    let (is_satisfied, errors) = forwarding.end().await;
    assert!(!is_satisfied && errors.contains("error forwarding port 9 to pod a, uid "), "{errors}");
    assert!(errors.contains(":9: connect: connection refused"), "{errors}");
    assert!(errors.ends_with("error: lost connection to pod\n"), "{errors}");
}

#[tokio::test]
async fn a_forwarded_connection_ends_with_its_pod() {
    let test = "port_forward::a_forwarded_connection_ends_with_its_pod";
    let Some(kubectl) = Kubectl::start(test).await else { return };
    let bench = &kubectl.bench;
    let _: Pod = bench.apply(pod(bench, "a", &["--echo", "0.0.0.0:7118"])).await;
    let pods = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let mut forwarding = kubectl.begin("port-forward a :7118", &[]);
    let port = local(&mut forwarding).await;
    let mut open = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    open.write_all(b"x").await.unwrap();
    assert_eq!(open.read_u8().await.unwrap(), b'x');
    bench.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
    bench.until_pods(|pods| pods.is_empty()).await;
    assert_eq!(timeout(DEADLINE, open.read(&mut [0])).await.unwrap().unwrap(), 0);
    // Another pod at the same address is not taken for it.
    bench.cluster.reuse_address(crate::bench::address(&pods["a"]).parse().unwrap()).unwrap();
    let _: Pod = bench.apply(pod(bench, "b", &["--echo", "0.0.0.0:7118"])).await;
    bench.until_pods(|pods| pods.get("b").is_some_and(is_ready)).await;
    check_is_hung_up(port).await;
    let (is_satisfied, errors) = forwarding.end().await;
    assert!(
        !is_satisfied && errors.contains("to pod a, uid ") && errors.contains("the pod is gone"),
        "{errors}"
    );
    let refused = kubectl.fails("port-forward a :7118").await;
    assert_eq!(refused, "Error from server (NotFound): pods \"a\" not found\n");
}

#[tokio::test]
async fn who_may_not_forward_ports_is_told() {
    let Some(kubectl) = Kubectl::start("port_forward::who_may_not_forward_ports_is_told").await else {
        return;
    };
    let bench = &kubectl.bench;
    let _: Pod = bench.apply(pod(bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    for line in [
        "create role reader --verb=get,list --resource=pods",
        "create rolebinding reader --role=reader --serviceaccount=default:bot",
    ] {
        kubectl.ok(line).await;
    }
    let token = bench.server.service_account_token("default", "bot", None);
    std::fs::write(bench.folder.path().join("kubeconfig"), bench.server.kubeconfig(&token)).unwrap();
    let refused = kubectl.fails("port-forward a :7117").await;
    let expected =
        "cannot create resource \"pods/portforward\" in API group \"\" in the namespace \"default\"";
    assert!(refused.contains(expected), "{refused}");
}
