//! What kubelets do with single pods.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::DeleteParams;
use kube::config::Kubeconfig;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::bench::{Bench, address, client, eventually, is_ready, phase, pod, restarts, sample, waits_for};

#[tokio::test]
async fn a_container_that_crashes_is_restarted_where_it_was() {
    let bench = Bench::start().await;
    let _: Pod = bench.apply(pod(&bench, "a", &[])).await;
    let before = bench.until_pods(|pods| pods.values().any(is_ready)).await;
    let process = bench.process("a").await;
    bench.cluster.kill_pod("default", "a").await.unwrap();
    process.ended().await;
    let after = bench.until_pods(|pods| restarts(&pods["a"]) == 1 && is_ready(&pods["a"])).await;
    assert_eq!(address(&after["a"]), address(&before["a"]));
    let status = &after["a"].status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
    let last = status.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("Error")));
    let conditions = after["a"].status.as_ref().unwrap().conditions.clone().unwrap();
    let mut types: Vec<String> = conditions.into_iter().map(|condition| condition.type_).collect();
    types.sort();
    assert_eq!(
        types,
        ["ContainersReady", "Initialized", "PodReadyToStartContainers", "PodScheduled", "Ready"]
    );
}

#[tokio::test]
async fn a_container_that_fails_again_and_again_has_to_wait() {
    let bench = Bench::start().await;
    let _: Pod = bench.apply(pod(&bench, "a", &["--exit", "3"])).await;
    let pods = bench.until_pods(|pods| waits_for(&pods["a"]) == Some("CrashLoopBackOff")).await;
    assert_eq!((phase(&pods["a"]), restarts(&pods["a"])), ("Running", 1));
    let mut once = pod(&bench, "b", &["--exit", "3"]);
    once["spec"]["restartPolicy"] = json!("Never");
    let _: Pod = bench.apply(once).await;
    bench.until_pods(|pods| pods.get("b").is_some_and(|pod| phase(pod) == "Failed")).await;
}

#[tokio::test]
async fn a_pod_has_its_grace_period_and_no_more() {
    let bench = Bench::start().await;
    let _: Pod = bench.apply(pod(&bench, "quick", &[])).await;
    let mut slow = pod(&bench, "slow", &["--ignore-sigterm"]);
    slow["spec"]["terminationGracePeriodSeconds"] = json!(300);
    let _: Pod = bench.apply(slow).await;
    bench.until_pods(|pods| pods.len() == 2 && pods.values().all(is_ready)).await;
    let process = bench.process("slow").await;
    let begun = Instant::now();
    for name in ["quick", "slow"] {
        bench.api::<Pod>().delete(name, &DeleteParams::default()).await.unwrap();
    }
    bench.until_pods(|pods| !pods.contains_key("quick")).await;
    assert!(bench.log("quick").contains("asked to stop"));
    // Who waits for it may shorten it.
    bench.api::<Pod>().delete("slow", &DeleteParams::default().grace_period(2)).await.unwrap();
    bench.until_pods(|pods| pods.is_empty()).await;
    process.ended().await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(bench.log("slow").contains("asked to stop"));
}

#[tokio::test]
async fn a_frozen_pod_is_killed_by_its_liveness_probe() {
    let bench = Bench::start().await;
    let mut object = pod(&bench, "a", &[]);
    object["spec"]["terminationGracePeriodSeconds"] = json!(1);
    object["spec"]["containers"][0]["livenessProbe"] =
        json!({"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2});
    let _: Pod = bench.apply(object).await;
    let pods = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    bench.cluster.freeze_pod("default", "a").await.unwrap();
    bench.until_pods(|pods| !is_ready(&pods["a"])).await;
    bench.cluster.thaw_pod("default", "a").await.unwrap();
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    bench.cluster.freeze_pod("default", "a").await.unwrap();
    let before = restarts(&pods["a"]);
    bench.until_pods(|pods| restarts(&pods["a"]) > before && is_ready(&pods["a"])).await;
    let mut stream = tokio::net::TcpStream::connect((address(&pods["a"]), 7117)).await.unwrap();
    stream.write_all(b"GET /ill HTTP/1.1\r\n\r\n").await.unwrap();
    let before = before + 1;
    bench.until_pods(|pods| restarts(&pods["a"]) > before && is_ready(&pods["a"])).await;
}

#[tokio::test]
async fn volumes_and_variables_are_what_the_manifest_says() {
    let bench = Bench::start().await;
    let mut object =
        pod(&bench, "a", &["--key=/etc/sample/secret/key", "--map", "/etc/sample/map/file", "$(FROM_MAP)"]);
    let spec = &mut object["spec"];
    spec["volumes"] = json!([
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "map", "configMap": {"name": "m", "items": [{"key": "one", "path": "file"}]}},
        {"name": "scratch", "emptyDir": {}}]);
    let container = &mut spec["containers"][0];
    container["volumeMounts"] = json!([{"name": "secret", "mountPath": "/etc/sample/secret"},
        {"name": "map", "mountPath": "/etc/sample/map"}, {"name": "scratch", "mountPath": "/tmp"}]);
    let from_map = json!({"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "two"}}});
    container["env"].as_array_mut().unwrap().push(from_map);
    let _: Pod = bench.apply(object).await;
    let waiting = bench.until_pods(|pods| waits_for(&pods["a"]) == Some("ContainerCreating")).await;
    assert_eq!(phase(&waiting["a"]), "Pending");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"one": "1", "two": "2"}});
    let _: ConfigMap = bench.apply(map).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "hidden"}});
    let _: Secret = bench.apply(secret).await;
    let pods = bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let arguments = bench.logged("a", "arguments:");
    let words: Vec<&str> = arguments.split(' ').collect();
    assert_eq!(words[1], format!("{}:7117", address(&pods["a"])));
    let key = words[2].strip_prefix("--key=").unwrap();
    assert_eq!(std::fs::read_to_string(key).unwrap(), "hidden");
    assert_eq!(std::fs::read_to_string(words[4]).unwrap(), "1");
    assert_eq!(words[5], "2");
    bench.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
    bench.until_pods(|pods| pods.is_empty()).await;
    eventually(|| (!std::path::Path::new(key).exists()).then_some(())).await;
}

#[tokio::test]
async fn a_process_finds_its_server_as_its_service_account() {
    let lifetime = Duration::from_secs(3);
    let bench =
        Bench::start_with(|settings| wattle_pods::Settings { token_lifetime: lifetime, ..settings }).await;
    let _: Pod = bench.apply(pod(&bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let path = bench.logged("a", "kubeconfig:");
    let token = std::path::Path::new(&path).with_file_name("token");
    let first = std::fs::read_to_string(&token).unwrap();
    let own = client(Kubeconfig::read_from(&path).unwrap()).await;
    assert_eq!(own.default_namespace(), "default");
    let refused = Api::<Secret>::default_namespaced(own).get("s").await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert!(status.message.contains("system:serviceaccount:default:default"), "{}", status.message);
    eventually(|| std::fs::read_to_string(&token).ok().filter(|now| *now != first)).await;
}

#[tokio::test]
async fn an_image_that_nobody_has_is_waited_for() {
    let bench = Bench::start().await;
    let mut object = pod(&bench, "a", &[]);
    object["spec"]["containers"][0]["image"] = json!("example.com/other:2");
    let _: Pod = bench.apply(object).await;
    bench.until_pods(|pods| waits_for(&pods["a"]) == Some("ErrImagePull")).await;
    bench.cluster.set_image("other:2", sample()).unwrap();
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
}

#[tokio::test]
async fn pods_run_on_while_their_server_cannot_be_reached() {
    let bench = Bench::start().await;
    let _: Pod = bench.apply(pod(&bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let process = bench.process("a").await;
    bench.server.faults().start_outage(wattle_api_server::Outage::Refused);
    bench.cluster.kill_pod("default", "a").await.unwrap();
    process.ended().await;
    // It is started again although nobody can be asked.
    eventually(|| (bench.log("a").matches("listening on").count() == 2).then_some(())).await;
    bench.server.faults().end_outage();
    bench.until_pods(|pods| restarts(&pods["a"]) == 1 && is_ready(&pods["a"])).await;
}

#[tokio::test]
async fn no_process_is_left_when_a_cluster_stops_or_is_dropped() {
    let bench = Bench::start().await;
    let _: Pod = bench.apply(pod(&bench, "a", &["--ignore-sigterm"])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let process = bench.process("a").await;
    bench.cluster.stop().await.unwrap();
    process.ended().await;
    let bench = Bench::start().await;
    let _: Pod = bench.apply(pod(&bench, "a", &["--ignore-sigterm"])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let process = bench.process("a").await;
    drop(bench.cluster);
    process.ended().await;
}
