//! What the chart's objects are for each way of using it.

use serde_json::{Value, json};

use crate::helm::Helm;
use crate::objects::{at, find, names, text, texts};

const TEMPLATE: &str = "/spec/template";
const CONTAINER: &str = "/spec/template/spec/containers/0";

#[test]
fn by_default_a_grid_has_all_its_objects_and_no_others() {
    let Some(helm) = Helm::find("chart::by_default_a_grid_has_all_its_objects_and_no_others") else { return };
    let objects = helm.objects("", &[]);
    let expected = [
        "ConfigMap/demo-config",
        "NetworkPolicy/demo",
        "PodDisruptionBudget/demo",
        "Role/demo",
        "RoleBinding/demo",
        "Secret/demo-secret",
        "Service/demo",
        "Service/demo-nodes",
        "ServiceAccount/demo",
        "StatefulSet/demo",
    ];
    assert_eq!(names(&objects), expected);
    let nodes = find(&objects, "StatefulSet/demo");
    let labels = json!({
        "app.kubernetes.io/name": "wattle", "app.kubernetes.io/instance": "demo",
        "app.kubernetes.io/component": "node", "wattle.dev/member": "true",
    });
    assert_eq!(*at(nodes, "/spec/template/metadata/labels"), labels);
    assert_eq!(*at(nodes, "/spec/selector/matchLabels"), labels);
    assert_eq!(text(nodes, "/spec/podManagementPolicy"), "Parallel");
    assert_eq!(text(nodes, "/spec/serviceName"), "demo-nodes");
    assert_eq!(*at(nodes, "/spec/template/spec/terminationGracePeriodSeconds"), 150);
    assert_eq!(text(nodes, &format!("{CONTAINER}/image")), "wattle:0.1.0");
    let expected = "serve --listen 0.0.0.0:7117 --peer-listen 0.0.0.0:7118 --http-listen 0.0.0.0:7119 --insecure --advertise $(POD_IP) \
                    --discovery kubernetes --service demo-nodes --grid demo --grid-secret-file /etc/wattle/secret/secret \
                    --config /etc/wattle/config/config.toml --stop-seconds 120 --log-format json";
    assert_eq!(texts(nodes, &format!("{CONTAINER}/args")).join(" "), expected);
    assert_eq!(config(&objects, "demo"), toml::toml! { bootstrap_expect = 3 });
    let headless = find(&objects, "Service/demo-nodes");
    assert_eq!(
        (text(headless, "/spec/clusterIP"), at(headless, "/spec/publishNotReadyAddresses")),
        ("None", &json!(true))
    );
    assert_eq!(at(headless, "/spec/selector").get("app.kubernetes.io/component"), None);
    let clients = find(&objects, "Service/demo");
    assert_eq!(text(clients, "/spec/selector/app.kubernetes.io~1component"), "node");
    assert_eq!(at(clients, "/spec/ports").as_array().unwrap().len(), 1);
}

/// The configuration file of the nodes.
fn config(objects: &[Value], name: &str) -> toml::Table {
    let map = find(objects, &format!("ConfigMap/{name}-config"));
    toml::from_str(text(map, "/data/config.toml")).unwrap()
}

#[test]
fn nodes_run_with_as_few_rights_as_can_be() {
    let Some(helm) = Helm::find("chart::nodes_run_with_as_few_rights_as_can_be") else { return };
    for values in crate::helm::VALUES {
        let objects = helm.objects(values, &[]);
        let sets = objects.iter().filter(|object| object["kind"] == "StatefulSet");
        for set in sets {
            let pod = at(set, "/spec/template/spec");
            let expected = json!({
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
            });
            assert_eq!(*at(pod, "/securityContext"), expected);
            let expected = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(*at(pod, "/containers/0/securityContext"), expected);
        }
    }
    let role = helm.objects("", &["--show-only", "templates/access.yaml"]);
    let expected = json!([
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["demo-nodes-grid"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["services"], "resourceNames": ["demo-nodes"], "verbs": ["get"]},
    ]);
    assert_eq!(*at(find(&role, "Role/demo"), "/rules"), expected);
}

#[test]
fn scaling_replaces_no_pod_and_settings_replace_all() {
    let Some(helm) = Helm::find("chart::scaling_replaces_no_pod_and_settings_replace_all") else { return };
    let template = |objects: &[Value]| at(find(objects, "StatefulSet/demo"), TEMPLATE).clone();
    let three = helm.objects("", &[]);
    let five = helm.objects("", &["--set", "replicas=5"]);
    assert_eq!(template(&three), template(&five));
    assert_eq!(*at(find(&five, "StatefulSet/demo"), "/spec/replicas"), 5);
    assert_eq!(config(&five, "demo"), toml::toml! { bootstrap_expect = 5 });
    let other = helm.objects("", &["--set", "config.log_filter=debug"]);
    let (three, mut other) = (template(&three), template(&other));
    assert_ne!(three, other);
    let checksum = "/metadata/annotations/checksum~1config";
    *other.pointer_mut(checksum).unwrap() = at(&three, checksum).clone();
    assert_eq!(three, other);
}

#[test]
fn two_nodes_have_an_arbiter_unless_it_is_turned_off() {
    let Some(helm) = Helm::find("chart::two_nodes_have_an_arbiter_unless_it_is_turned_off") else { return };
    let objects = helm.objects("two-replicas", &[]);
    let expected = [
        "ConfigMap/pair-config",
        "NetworkPolicy/pair",
        "PodDisruptionBudget/pair",
        "Service/pair",
        "Service/pair-nodes",
        "StatefulSet/pair",
        "StatefulSet/pair-arbiter",
    ];
    assert_eq!(names(&objects), expected);
    let (nodes, arbiter) = (find(&objects, "StatefulSet/pair"), find(&objects, "StatefulSet/pair-arbiter"));
    let arguments = format!("{CONTAINER}/args");
    let mut expected = texts(nodes, &arguments);
    expected.push("--arbiter");
    assert_eq!(texts(arbiter, &arguments), expected);
    assert_eq!((at(nodes, "/spec/replicas"), at(arbiter, "/spec/replicas")), (&json!(2), &json!(1)));
    assert_eq!(text(arbiter, "/spec/template/metadata/labels/app.kubernetes.io~1component"), "arbiter");
    assert_eq!(text(arbiter, &format!("{CONTAINER}/resources/limits/memory")), "256Mi");
    for set in [nodes, arbiter] {
        assert_eq!(text(set, "/spec/template/spec/serviceAccountName"), "mine");
        assert_eq!(text(set, "/spec/template/spec/volumes/1/secret/secretName"), "pair-secret-of-mine");
        assert_eq!(text(set, "/spec/volumeClaimTemplates/0/spec/storageClassName"), "");
    }
    for more in [["--set", "arbiter.enabled=false"], ["--set", "replicas=3"], ["--set", "replicas=1"]] {
        let names = names(&helm.objects("two-replicas", &more));
        assert!(!names.contains(&"StatefulSet/pair-arbiter".to_owned()), "{more:?}: {names:?}");
    }
}

#[test]
fn nodes_that_keep_things_have_volumes() {
    let Some(helm) = Helm::find("chart::nodes_that_keep_things_have_volumes") else { return };
    let without = helm.objects("", &[]);
    let nodes = find(&without, "StatefulSet/demo");
    assert_eq!(nodes.pointer("/spec/volumeClaimTemplates"), None);
    assert!(!texts(nodes, &format!("{CONTAINER}/args")).contains(&"--data-dir"));
    let with = helm.objects("persistence", &[]);
    let nodes = find(&with, "StatefulSet/demo");
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "10Gi"}},
    }});
    assert_eq!(*at(nodes, "/spec/volumeClaimTemplates"), json!([claim]));
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Retain"});
    assert_eq!(*at(nodes, "/spec/persistentVolumeClaimRetentionPolicy"), policy);
    let arguments = texts(nodes, &format!("{CONTAINER}/args"));
    assert_eq!(arguments[arguments.len() - 2..], ["--data-dir", "/var/lib/wattle"]);
    let mounts = at(nodes, &format!("{CONTAINER}/volumeMounts")).as_array().unwrap();
    assert!(mounts.contains(&json!({"name": "data", "mountPath": "/var/lib/wattle"})), "{mounts:#?}");
    let expected = toml::toml! {
        bootstrap_expect = 3
        log_filter = "info,wattle=\"debug\""
        memory_bytes = 5_000_000_000_i64
    };
    assert_eq!(config(&with, "demo"), expected);
}

#[test]
fn the_peers_port_is_for_the_grids_own_pods_alone() {
    let Some(helm) = Helm::find("chart::the_peers_port_is_for_the_grids_own_pods_alone") else { return };
    let members = json!({
        "app.kubernetes.io/name": "wattle", "app.kubernetes.io/instance": "demo", "wattle.dev/member": "true",
    });
    let rules = |values: &str, more: &[&str]| {
        let objects = helm.objects(values, more);
        let policy = find(&objects, "NetworkPolicy/demo").clone();
        assert_eq!(*at(&policy, "/spec/podSelector/matchLabels"), members);
        at(&policy, "/spec/ingress").clone()
    };
    let own = json!({"from": [{"podSelector": {"matchLabels": members}}], "ports": [{"port": 7117}, {"port": 7118}]});
    let expected = json!([
        own,
        {"from": [{"podSelector": {}}], "ports": [{"port": 7117}]},
        {"ports": [{"port": 7119}]},
    ]);
    assert_eq!(rules("", &[]), expected);
    let shop = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}, "podSelector": {"matchLabels": {"app": "till"}},
    });
    let expected = json!([
        own,
        {"from": [shop, {"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 7117}]},
        {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}], "ports": [{"port": 7119}]},
    ]);
    assert_eq!(rules("network", &[]), expected);
    let everybody = rules("", &["--set-json", "networkPolicy.api.from=[]"]);
    assert_eq!(everybody, json!([own, {"ports": [{"port": 7117}]}, {"ports": [{"port": 7119}]}]));
    let without = names(&helm.objects("", &["--set", "networkPolicy.enabled=false"]));
    assert!(!without.contains(&"NetworkPolicy/demo".to_owned()), "{without:?}");
}

#[test]
fn what_is_said_of_pods_arrives_there_and_what_selects_them_stays() {
    let test = "chart::what_is_said_of_pods_arrives_there_and_what_selects_them_stays";
    let Some(helm) = Helm::find(test) else { return };
    let objects = helm.objects("everything", &[]);
    let nodes = find(&objects, "StatefulSet/demo");
    for object in &objects {
        assert_eq!(text(object, "/metadata/labels/app.kubernetes.io~1instance"), "demo");
        assert_eq!(text(object, "/metadata/labels/team"), "storage");
        assert_eq!(text(object, "/metadata/annotations/example.com~1contact"), "storage");
    }
    let pod = at(nodes, TEMPLATE);
    assert_eq!(text(pod, "/metadata/labels/cost"), "high");
    assert_eq!(text(pod, "/metadata/annotations/example.com~1pod"), "true");
    assert_eq!(text(pod, "/spec/serviceAccountName"), "accountant");
    assert_eq!(text(pod, "/spec/priorityClassName"), "important");
    assert_eq!(text(pod, "/spec/nodeSelector/kubernetes.io~1arch"), "amd64");
    assert_eq!(text(pod, "/spec/tolerations/0/key"), "dedicated");
    assert_eq!(*at(pod, "/spec/imagePullSecrets"), json!([{"name": "registry"}]));
    assert_eq!(*at(pod, "/spec/terminationGracePeriodSeconds"), 330);
    // Numbers of a values file are quantities, too.
    assert_eq!(text(pod, "/spec/containers/0/resources/limits/cpu"), "3.5");
    let keys = at(pod, "/spec/topologySpreadConstraints").as_array().unwrap();
    let keys: Vec<&str> = keys.iter().map(|constraint| text(constraint, "/topologyKey")).collect();
    assert_eq!(keys, ["topology.kubernetes.io/zone", "example.com/rack"]);
    let arguments = texts(nodes, &format!("{CONTAINER}/args"));
    assert_eq!(arguments[..3], ["serve", "--listen", "[::]:7117"]);
    assert_eq!(arguments[arguments.len() - 2..], ["--zone", "rack-7"]);
    assert_eq!(config(&objects, "demo").len(), 10);
    let monitor = find(&objects, "ServiceMonitor/demo");
    let selected = at(monitor, "/spec/selector/matchLabels").as_object().unwrap();
    let headless = at(find(&objects, "Service/demo-nodes"), "/metadata/labels").as_object().unwrap();
    assert!(selected.iter().all(|label| headless.iter().any(|other| other == label)), "{selected:?}");
}
