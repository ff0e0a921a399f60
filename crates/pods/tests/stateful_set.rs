//! StatefulSets.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::bench::{Bench, address, eventually, is_ready, phase, set};

fn all_ready(pods: &BTreeMap<String, Pod>, count: usize) -> bool {
    pods.len() == count && pods.values().all(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none())
}

fn revision(pod: &Pod) -> String {
    pod.labels()["controller-revision-hash"].clone()
}

#[tokio::test]
async fn a_parallel_set_starts_all_pods_before_any_is_ready() {
    let bench = Bench::start().await;
    ["web-0", "web-1", "web-2"].iter().for_each(|pod| bench.set_ready(pod, false));
    let made: StatefulSet = bench.apply(set(&bench, 3, "Parallel")).await;
    let pods =
        bench.until_pods(|pods| pods.len() == 3 && pods.values().all(|pod| phase(pod) == "Running")).await;
    assert!(pods.values().all(|pod| !is_ready(pod)));
    let addresses: BTreeSet<String> = pods.values().map(address).collect();
    assert_eq!(addresses.len(), 3);
    let nodes: BTreeSet<_> = pods.values().map(|pod| pod.spec.clone().unwrap().node_name.unwrap()).collect();
    assert_eq!(nodes.len(), 3, "one in each zone");
    let second = &pods["web-1"];
    assert_eq!(second.labels()["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(second.labels()["statefulset.kubernetes.io/pod-name"], "web-1");
    assert_eq!(Some(&second.owner_references()[0].uid), made.metadata.uid.as_ref());
    ["web-0", "web-1", "web-2"].iter().for_each(|pod| bench.set_ready(pod, true));
    let done = bench.until_set(|set| set.status.as_ref().unwrap().ready_replicas == Some(3)).await;
    let status = done.status.unwrap();
    assert_eq!((status.replicas, status.updated_replicas, status.available_replicas), (3, Some(3), Some(3)));
    assert_eq!(status.observed_generation, done.metadata.generation);
    assert_eq!(status.update_revision, Some(revision(second)));
}

#[tokio::test]
async fn an_ordered_set_starts_a_pod_when_those_before_it_are_ready() {
    let bench = Bench::start().await;
    bench.set_ready("web-0", false);
    let _: StatefulSet = bench.apply(set(&bench, 2, "OrderedReady")).await;
    let pods = bench.until_pods(|pods| pods.values().any(|pod| phase(pod) == "Running")).await;
    assert_eq!(pods.len(), 1);
    bench.set_ready("web-0", true);
    bench.until_pods(|pods| all_ready(pods, 2)).await;
}

#[tokio::test]
async fn a_rolling_update_waits_for_the_readiness_of_each_pod() {
    let bench = Bench::start().await;
    let _: StatefulSet = bench.apply(set(&bench, 3, "Parallel")).await;
    let before = bench.until_pods(|pods| all_ready(pods, 3)).await;
    bench.until_set(|set| set.status.as_ref().unwrap().ready_replicas == Some(3)).await;
    bench.set_ready("web-2", false);
    let mut changed = set(&bench, 3, "Parallel");
    changed["spec"]["template"]["metadata"]["annotations"] = json!({"version": "2"});
    let _: StatefulSet = bench.apply(changed).await;
    let old = revision(&before["web-0"]);
    let half = bench
        .until_pods(|pods| {
            // Nobody else is touched while the first one is not ready.
            assert!(["web-0", "web-1"].iter().all(|pod| pods[*pod].uid() == before[*pod].uid()));
            let first = pods.get("web-2");
            first.is_some_and(|pod| revision(pod) != old && phase(pod) == "Running")
        })
        .await;
    assert_ne!(half["web-2"].uid(), before["web-2"].uid());
    bench.set_ready("web-2", true);
    let after = bench
        .until_pods(|pods| {
            let waiting = pods.values().filter(|pod| !is_ready(pod)).count() + 3 - pods.len();
            assert!(waiting <= 1, "one at a time: {pods:#?}");
            all_ready(pods, 3) && pods.values().all(|pod| revision(pod) != old)
        })
        .await;
    let new = revision(&after["web-0"]);
    let is_done = |set: &StatefulSet| set.status.as_ref().unwrap().current_revision.as_ref() == Some(&new);
    let status = bench.until_set(is_done).await.status.unwrap();
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(3), Some(3)));
    // Back to what was: no third revision, the first one counts as the newest.
    let _: StatefulSet = bench.apply(set(&bench, 3, "Parallel")).await;
    bench.until_pods(|pods| all_ready(pods, 3) && pods.values().all(|pod| revision(pod) == old)).await;
    let revisions = bench.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap();
    let numbers: BTreeMap<String, i64> =
        revisions.iter().map(|revision| (revision.name_any(), revision.revision)).collect();
    assert_eq!(numbers, BTreeMap::from([(new, 2), (old, 3)]));
}

#[tokio::test]
async fn a_partition_keeps_the_first_pods_and_on_delete_leaves_all_alone() {
    let bench = Bench::start().await;
    let _: StatefulSet = bench.apply(set(&bench, 2, "Parallel")).await;
    let before = bench.until_pods(|pods| all_ready(pods, 2)).await;
    bench.until_set(|set| set.status.as_ref().unwrap().ready_replicas == Some(2)).await;
    let mut changed = set(&bench, 2, "Parallel");
    changed["spec"]["template"]["metadata"]["annotations"] = json!({"version": "2"});
    changed["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    let _: StatefulSet = bench.apply(changed.clone()).await;
    let split =
        bench.until_pods(|pods| all_ready(pods, 2) && pods["web-1"].uid() != before["web-1"].uid()).await;
    assert_eq!(split["web-0"].uid(), before["web-0"].uid());
    let set = bench.until_set(|set| set.status.as_ref().unwrap().updated_replicas == Some(1)).await;
    assert_eq!(set.status.unwrap().current_revision, Some(revision(&before["web-0"])));
    // A pod below the partition comes back as it was.
    bench.api::<Pod>().delete("web-0", &DeleteParams::default()).await.unwrap();
    let again =
        bench.until_pods(|pods| all_ready(pods, 2) && pods["web-0"].uid() != before["web-0"].uid()).await;
    assert_eq!(revision(&again["web-0"]), revision(&before["web-0"]));
    changed["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let _: StatefulSet = bench.apply(changed).await;
    bench.api::<Pod>().delete("web-0", &DeleteParams::default()).await.unwrap();
    let last =
        bench.until_pods(|pods| all_ready(pods, 2) && pods["web-0"].uid() != again["web-0"].uid()).await;
    assert_eq!(revision(&last["web-0"]), revision(&split["web-1"]));
}

#[tokio::test]
async fn claims_outlive_their_pods_until_the_policy_says_otherwise() {
    let bench = Bench::start().await;
    let mut stateful = set(&bench, 2, "Parallel");
    let spec = &mut stateful["spec"];
    spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}]);
    spec["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete", "whenScaled": "Retain"});
    let container = &mut spec["template"]["spec"]["containers"][0];
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/var/lib/sample"}]);
    container["args"]
        .as_array_mut()
        .unwrap()
        .extend(["--count-starts-in", "/var/lib/sample/starts"].map(|word| json!(word)));
    let _: StatefulSet = bench.apply(stateful).await;
    bench.until_pods(|pods| all_ready(pods, 2)).await;
    let folder = bench.cluster.claim("default", "data-web-1");
    assert_eq!(std::fs::read_to_string(folder.join("starts")).unwrap(), "started\n");
    let scale = |replicas: u32| Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let sets = bench.api::<StatefulSet>();
    sets.patch_scale("web", &PatchParams::default(), &scale(1)).await.unwrap();
    let pods = bench.until_pods(|pods| pods.len() == 1).await;
    assert!(pods.contains_key("web-0"), "the highest goes first");
    let claims = bench.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap();
    let claims: Vec<String> = claims.iter().map(|claim| claim.name_any()).collect();
    assert_eq!(claims, ["data-web-0", "data-web-1"]);
    sets.patch_scale("web", &PatchParams::default(), &scale(2)).await.unwrap();
    bench.until_pods(|pods| all_ready(pods, 2)).await;
    assert_eq!(std::fs::read_to_string(folder.join("starts")).unwrap(), "started\nstarted\n");
    // A claim that is deleted stays while its pod uses it; then both are made anew.
    let claims = bench.api::<PersistentVolumeClaim>();
    let old = claims.delete("data-web-1", &DeleteParams::default()).await.unwrap().left().unwrap();
    bench.api::<Pod>().delete("web-0", &DeleteParams::default()).await.unwrap();
    bench.until_pods(|pods| pods.get("web-0").is_none_or(|pod| !is_ready(pod))).await;
    bench.until_pods(|pods| all_ready(pods, 2)).await;
    assert!(folder.join("starts").exists());
    bench.api::<Pod>().delete("web-1", &DeleteParams::default()).await.unwrap();
    let is_new = |claim: &PersistentVolumeClaim| claim.uid() != old.uid();
    bench
        .until("app=sample", |claims: &BTreeMap<String, PersistentVolumeClaim>| {
            claims.get("data-web-1").is_some_and(is_new)
        })
        .await;
    bench.until_pods(|pods| all_ready(pods, 2)).await;
    assert_eq!(std::fs::read_to_string(folder.join("starts")).unwrap(), "started\n");
    sets.delete("web", &DeleteParams::background()).await.unwrap();
    bench.until::<PersistentVolumeClaim>("app=sample", |claims| claims.is_empty()).await;
    assert!(!folder.exists());
    bench.until_pods(|pods| pods.is_empty()).await;
    eventually(|| (!bench.cluster.claim("default", "data-web-0").exists()).then_some(())).await;
}
