//! `kubectl logs`.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{Timestamp, ToSpan as _};
use kube::api::DeleteParams;
use serde_json::json;

use crate::bench::{is_ready, pod, pod_spec, restarts, waits_for};
use crate::kubectl::Kubectl;

#[tokio::test]
async fn each_life_of_a_container_has_its_log() {
    let Some(kubectl) = Kubectl::start("logs::each_life_of_a_container_has_its_log").await else { return };
    let bench = &kubectl.bench;
    let _: Pod = bench.apply(pod(bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let refused = kubectl.fails("logs a --previous").await;
    let expected =
        "Error from server (BadRequest): previous terminated container \"sample\" in pod \"a\" not found\n";
    assert_eq!(refused, expected);
    let first = kubectl.ok("logs a").await;
    assert!(first.starts_with("arguments: --listen") && first.ends_with(":7117\n"), "{first}");
    bench.cluster.kill_pod("default", "a").await.unwrap();
    bench.until_pods(|pods| restarts(&pods["a"]) == 1 && is_ready(&pods["a"])).await;
    let second = kubectl.ok("logs a -c sample").await;
    let process = |log: &str| log.lines().find(|line| line.starts_with("process: ")).unwrap().to_owned();
    assert_ne!(process(&second), process(&first));
    assert_eq!(kubectl.ok("logs pod/a --previous").await, first);
    // A pod of the same name begins with an empty log.
    bench.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
    bench.until_pods(|pods| pods.is_empty()).await;
    let _: Pod = bench.apply(pod(bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let third = kubectl.ok("logs a").await;
    assert_eq!(third.matches("process: ").count(), 1, "{third}");
}

#[tokio::test]
async fn a_part_of_a_log_can_be_asked_for() {
    let Some(kubectl) = Kubectl::start("logs::a_part_of_a_log_can_be_asked_for").await else { return };
    let bench = &kubectl.bench;
    let before = Timestamp::now();
    let _: Pod = bench.apply(pod(bench, "a", &[])).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let all = kubectl.ok("logs a").await;
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 4, "{all}");
    assert_eq!(kubectl.ok("logs a --tail=2").await, format!("{}\n{}\n", lines[2], lines[3]));
    assert_eq!(kubectl.ok("logs a --tail=0").await, "");
    assert_eq!(kubectl.ok("logs a --tail=9").await, all);
    assert_eq!(kubectl.ok("logs a --limit-bytes=9").await, "arguments");
    assert_eq!(kubectl.ok("logs a --since=1h").await, all);
    let later = Timestamp::now().checked_add(1.hours()).unwrap();
    assert_eq!(kubectl.ok(&format!("logs a --since-time={later:.0}")).await, "");
    let stamped = kubectl.ok("logs a --timestamps").await;
    for (stamped, line) in stamped.lines().zip(lines) {
        let (time, rest) = stamped.split_once(' ').unwrap();
        let time: Timestamp = time.parse().unwrap();
        assert!(before <= time && time <= Timestamp::now(), "{stamped}");
        assert_eq!(rest, line);
    }
}

#[tokio::test]
async fn a_log_is_followed_to_the_end_of_its_container() {
    let test = "logs::a_log_is_followed_to_the_end_of_its_container";
    let Some(kubectl) = Kubectl::start(test).await else { return };
    let bench = &kubectl.bench;
    let mut object = pod(bench, "a", &["--ignore-sigterm"]);
    object["spec"]["terminationGracePeriodSeconds"] = json!(3);
    let _: Pod = bench.apply(object).await;
    bench.until_pods(|pods| is_ready(&pods["a"])).await;
    let mut following = kubectl.begin("logs -f a --tail=1", &[]);
    let line = following.line().await.unwrap();
    assert!(line.starts_with("listening on"), "{line}");
    bench.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(following.line().await.as_deref(), Some("asked to stop"));
    assert_eq!(following.line().await, None);
    assert_eq!(following.end().await, (true, String::new()));
}

#[tokio::test]
async fn logs_are_found_by_what_owns_or_selects_their_pods() {
    let test = "logs::logs_are_found_by_what_owns_or_selects_their_pods";
    let Some(kubectl) = Kubectl::start(test).await else { return };
    let bench = &kubectl.bench;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "sample"}},
            "template": {"metadata": {"labels": {"app": "sample"}}, "spec": pod_spec(bench, &[])}}});
    let _: Deployment = bench.apply(deployment).await;
    let pods = bench.until_pods(|pods| pods.len() == 2 && pods.values().all(is_ready)).await;
    let log = kubectl.ok("logs deployment/web").await;
    assert_eq!(log.matches("listening on").count(), 1, "{log}");
    let logs = kubectl.ok("logs -l app=sample --prefix --tail=1").await;
    for name in pods.keys() {
        assert!(logs.contains(&format!("[pod/{name}/sample] listening on")), "{logs}");
    }
}

#[tokio::test]
async fn refusals_of_logs_read_as_in_a_cluster() {
    let Some(kubectl) = Kubectl::start("logs::refusals_of_logs_read_as_in_a_cluster").await else { return };
    let bench = &kubectl.bench;
    let mut two = pod(bench, "two", &[]);
    let mut other = two["spec"]["containers"][0].clone();
    other["name"] = json!("other");
    other["image"] = json!("nobody/has:1");
    two["spec"]["containers"].as_array_mut().unwrap().push(other);
    let _: Pod = bench.apply(two).await;
    let waits = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone());
        statuses.is_some_and(|all| all.len() == 2 && all[0].ready && all[1].image_id.is_empty())
    };
    bench.until_pods(|pods| waits(&pods["two"]) && waits_for(&pods["two"]).is_none()).await;
    let check = async |arguments: &str, expected: &str| {
        let refused = kubectl.fails(arguments).await;
        assert_eq!(refused, format!("{expected}\n"), "{arguments}");
    };
    check("logs one", "error: error from server (NotFound): pods \"one\" not found in namespace \"default\"")
        .await;
    check("logs two -c third", "error: container third is not valid for pod two").await;
    let expected = "Error from server (BadRequest): container \"other\" in pod \"two\" is waiting to start: image can't be pulled";
    check("logs two -c other", expected).await;
    let raw = "get --raw /api/v1/namespaces/default/pods/two/log";
    let expected = "Error from server (BadRequest): a container name must be specified for pod two, choose one of: [sample other]";
    check(raw, expected).await;
    let invalid = kubectl.fails(&format!("{raw}?container=sample&tailLines=-1")).await;
    assert!(
        invalid.contains("is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"),
        "{invalid}"
    );
    let node = bench.api::<Pod>().get("two").await.unwrap().spec.unwrap().node_name.unwrap();
    bench.cluster.fail_node(&node).await.unwrap();
    let unreachable = kubectl.fails("logs two -c sample").await;
    assert!(unreachable.starts_with("Error from server: Get \"http://127."), "{unreachable}");
    bench.cluster.restore_node(&node).await.unwrap();
    bench.until_pods(|pods| is_started_again(&pods["two"])).await;
    let log = kubectl.ok("logs two -c sample").await;
    assert!(log.contains("listening on"), "{log}");
    let token = bench.server.service_account_token("default", "bot", None);
    std::fs::write(bench.folder.path().join("kubeconfig"), bench.server.kubeconfig(&token)).unwrap();
    let expected = "Error from server (Forbidden): pods \"two\" is forbidden: User \"system:serviceaccount:default:bot\" \
                    cannot get resource \"pods/log\" in API group \"\" in the namespace \"default\"";
    check(raw, expected).await;
}

fn is_started_again(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.into_iter().any(|one| one.name == "sample" && one.restart_count == 1 && one.ready)
}
