//! The objects of a grid, field by field, and whether Kubernetes' types know all fields.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::api::{ListenAddress, Settings, Spread, Storage, Zones};

fn grid(change: impl FnOnce(&mut GridSpec)) -> Grid {
    let mut grid = Grid::new("flights", GridSpec { size: 3, ..GridSpec::default() });
    grid.metadata.namespace = Some("air".to_owned());
    grid.metadata.uid = Some("u-1".to_owned());
    change(&mut grid.spec);
    grid
}

fn images() -> Images {
    Images::parse("registry:5000/wattle:0.1.0", "")
}

fn made(grid: &Grid) -> Vec<Value> {
    let blueprint = Blueprint::new(grid, &images(), "wattle-system").unwrap();
    let mut objects = blueprint.surroundings();
    let founders = Founders::wanted(&grid.spec);
    objects.extend([
        node_set(&blueprint, 3, &founders),
        arbiter_set(&blueprint, &founders),
        new_secret(&blueprint, "sixteen letters!"),
    ]);
    objects
}

fn find(objects: &[Value], kind: &str, name: &str) -> Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).cloned().unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

#[track_caller]
fn check(object: &Value, pointer: &str, expected: &Value) {
    assert_eq!(object.pointer(pointer), Some(expected), "{pointer}");
}

fn known<K: Serialize + DeserializeOwned>(object: &Value) {
    let typed: K = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(&serde_json::to_value(typed).unwrap(), object);
}

#[test]
fn kubernetes_knows_every_field() {
    let full = grid(|spec| {
        spec.storage = Some(Storage { size: "1Gi".into(), storage_class_name: Some("fast".into()) });
        spec.image_pull_secrets = vec!["pull".into()];
        spec.pods.priority_class_name = Some("high".into());
        spec.pods.node_selector = [("disk".to_owned(), "ssd".to_owned())].into();
    });
    for grid in [grid(|_| {}), full] {
        for object in made(&grid) {
            match object["kind"].as_str().unwrap() {
                "ServiceAccount" => known::<ServiceAccount>(&object),
                "Role" => known::<Role>(&object),
                "RoleBinding" => known::<RoleBinding>(&object),
                "ConfigMap" => known::<ConfigMap>(&object),
                "Service" => known::<Service>(&object),
                "PodDisruptionBudget" => known::<PodDisruptionBudget>(&object),
                "NetworkPolicy" => known::<NetworkPolicy>(&object),
                "StatefulSet" => known::<StatefulSet>(&object),
                "Secret" => known::<Secret>(&object),
                other => panic!("{other} was not expected"),
            }
        }
    }
}

#[test]
fn every_object_says_whose_it_is() {
    let grid = grid(|_| {});
    let monitor = service_monitor(&Blueprint::new(&grid, &images(), "wattle-system").unwrap());
    for object in made(&grid).into_iter().chain([monitor]) {
        check(&object, "/metadata/namespace", &json!("air"));
        check(&object, "/metadata/labels/app.kubernetes.io~1instance", &json!("flights"));
        check(&object, "/metadata/annotations/wattle.dev~1grid-uid", &json!("u-1"));
        assert_eq!(object.pointer("/metadata/ownerReferences"), None, "it stays until the Grid may go");
    }
}

#[test]
fn the_nodes_are_a_parallel_set_that_only_the_operator_rolls() {
    let objects = made(&grid(|_| {}));
    let set = find(&objects, "StatefulSet", "flights");
    for (pointer, expected) in [
        ("/spec/replicas", json!(3)),
        ("/spec/serviceName", json!("flights-nodes")),
        ("/spec/podManagementPolicy", json!("Parallel")),
        ("/spec/updateStrategy/type", json!("OnDelete")),
        ("/spec/template/metadata/labels/app.kubernetes.io~1component", json!("node")),
        ("/spec/template/metadata/labels/wattle.dev~1member", json!("true")),
        ("/spec/template/spec/terminationGracePeriodSeconds", json!(150)),
        ("/spec/template/spec/serviceAccountName", json!("flights")),
        ("/spec/template/spec/securityContext/runAsUser", json!(65532)),
        ("/spec/template/spec/containers/0/image", json!("registry:5000/wattle:0.1.0")),
        ("/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem", json!(true)),
        ("/spec/template/spec/containers/0/startupProbe/httpGet/path", json!("/livez")),
        ("/spec/template/spec/containers/0/livenessProbe/httpGet/path", json!("/livez")),
        (
            "/spec/template/spec/containers/0/readinessProbe/httpGet",
            json!({"path": "/readyz", "port": "http"}),
        ),
        ("/spec/template/spec/volumes/2", json!({"name": "tmp", "emptyDir": {}})),
        ("/spec/template/spec/volumes/1/secret/secretName", json!("flights-secret")),
    ] {
        check(&set, pointer, &expected);
    }
    assert_eq!(set.pointer("/spec/volumeClaimTemplates"), None);
    let arguments = set.pointer("/spec/template/spec/containers/0/args").unwrap();
    let expected = "serve --insecure --listen 0.0.0.0:7117 --peer-listen 0.0.0.0:7118 --http-listen 0.0.0.0:7119 --advertise \
                    $(POD_IP) --discovery kubernetes --service flights-nodes --grid flights --grid-secret-file \
                    /etc/wattle/secret/secret --config /etc/wattle/config/config.toml --stop-seconds 120 --log-format json";
    assert_eq!(arguments, &json!(expected.split_whitespace().collect::<Vec<_>>()));
    let set =
        find(&made(&grid(|spec| spec.pods.listen_address = ListenAddress::V6)), "StatefulSet", "flights");
    check(&set, "/spec/template/spec/containers/0/args/3", &json!("[::]:7117"));
}

#[test]
fn a_node_has_as_long_to_hand_over_as_the_grid_says() {
    let set = find(&made(&grid(|spec| spec.stop_seconds = Some(600))), "StatefulSet", "flights");
    check(&set, "/spec/template/spec/terminationGracePeriodSeconds", &json!(630));
    let arguments = set.pointer("/spec/template/spec/containers/0/args").unwrap().as_array().unwrap();
    let flag = arguments.iter().position(|argument| argument == "--stop-seconds").unwrap();
    assert_eq!(arguments[flag + 1], "600");
}

#[test]
fn services_find_nodes_before_they_are_ready_and_clients_after_that() {
    let objects = made(&grid(|_| {}));
    let nodes = find(&objects, "Service", "flights-nodes");
    check(&nodes, "/spec/publishNotReadyAddresses", &json!(true));
    check(&nodes, "/spec/clusterIP", &json!("None"));
    check(&nodes, "/spec/selector/wattle.dev~1member", &json!("true"));
    assert_eq!(nodes.pointer("/spec/selector/app.kubernetes.io~1component"), None);
    let ports = nodes["spec"]["ports"].as_array().unwrap();
    let ports: Vec<_> =
        ports.iter().map(|port| (port["name"].as_str().unwrap(), port["port"].as_u64().unwrap())).collect();
    assert_eq!(ports, [("api", 7117), ("peers", 7118), ("http", 7119)]);
    let clients = find(&objects, "Service", "flights");
    check(&clients, "/spec/selector/app.kubernetes.io~1component", &json!("node"));
    check(&find(&objects, "PodDisruptionBudget", "flights"), "/spec/maxUnavailable", &json!(1));
}

#[test]
fn peers_are_members_and_clients_are_anybody_or_those_who_are_named() {
    let policy = |change: fn(&mut GridSpec)| find(&made(&grid(change)), "NetworkPolicy", "flights");
    let open = policy(|_| {});
    check(&open, "/spec/ingress/1/from", &json!([{"namespaceSelector": {}}]));
    let members = json!({"matchLabels": {
        "app.kubernetes.io/name": "wattle", "app.kubernetes.io/instance": "flights", "wattle.dev/member": "true",
    }});
    check(&open, "/spec/podSelector", &members);
    check(
        &open,
        "/spec/ingress/0",
        &json!({"from": [{"podSelector": members}], "ports": [{"port": 7118, "protocol": "TCP"}]}),
    );
    let closed = policy(|spec| {
        let shop = json!({"podSelector": {"matchLabels": {"app": "shop"}}});
        spec.clients = Some(vec![serde_json::from_value(shop).unwrap()]);
    });
    let from = closed.pointer("/spec/ingress/1/from").unwrap();
    check(from, "/0/podSelector", &members);
    check(from, "/1/namespaceSelector/matchLabels/kubernetes.io~1metadata.name", &json!("wattle-system"));
    check(from, "/2/podSelector/matchLabels/app", &json!("shop"));
}

#[test]
fn a_service_monitor_selects_the_service_of_all_nodes() {
    let monitored = grid(|spec| {
        spec.monitoring.service_monitor.interval = "15s".into();
        let labels = [("release", "prometheus"), ("app.kubernetes.io/instance", "another")];
        spec.monitoring.service_monitor.labels =
            labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    });
    let monitor = service_monitor(&Blueprint::new(&monitored, &images(), "wattle-system").unwrap());
    check(&monitor, "/metadata/labels/release", &json!("prometheus"));
    check(&monitor, "/metadata/labels/app.kubernetes.io~1instance", &json!("flights"));
    check(&monitor, "/spec/endpoints/0", &json!({"port": "http", "path": "/metrics", "interval": "15s"}));
    let selected = monitor.pointer("/spec/selector/matchLabels").unwrap().as_object().unwrap();
    let selects =
        |service: &Value| selected.iter().all(|(key, value)| service["metadata"]["labels"][key] == *value);
    let objects = made(&monitored);
    assert!(selects(&find(&objects, "Service", "flights-nodes")));
    assert!(!selects(&find(&objects, "Service", "flights")));
}

#[test]
fn nodes_may_do_the_least() {
    let role = find(&made(&grid(|_| {})), "Role", "flights");
    assert_eq!(
        role["rules"],
        json!([
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["flights-nodes-grid"]},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["get"], "resourceNames": ["flights-nodes"]},
        ])
    );
}

#[test]
fn an_arbiter_is_a_small_node_that_clients_do_not_find() {
    let arbiter = find(&made(&grid(|_| {})), "StatefulSet", "flights-arbiter");
    check(&arbiter, "/spec/replicas", &json!(1));
    check(&arbiter, "/spec/serviceName", &json!("flights-nodes"));
    check(&arbiter, "/spec/template/metadata/labels/app.kubernetes.io~1component", &json!("arbiter"));
    check(&arbiter, "/spec/template/metadata/labels/wattle.dev~1member", &json!("true"));
    check(&arbiter, "/spec/template/spec/containers/0/resources/limits/memory", &json!("256Mi"));
    let arguments = arbiter.pointer("/spec/template/spec/containers/0/args").unwrap().as_array().unwrap();
    assert_eq!(arguments.last(), Some(&json!("--arbiter")));
    let has = |size| has_arbiter(&grid(|spec| spec.size = size).spec);
    assert_eq!([has(1), has(2), has(3)], [false, true, false]);
}

#[test]
fn storage_keeps_what_survives_a_node() {
    let stored = grid(|spec| {
        spec.storage = Some(Storage { size: "2Gi".into(), storage_class_name: None });
    });
    let set = find(&made(&stored), "StatefulSet", "flights");
    check(&set, "/spec/volumeClaimTemplates/0/spec/resources/requests/storage", &json!("2Gi"));
    check(&set, "/spec/template/spec/containers/0/volumeMounts/3/mountPath", &json!("/var/lib/wattle"));
    let arguments = set.pointer("/spec/template/spec/containers/0/args").unwrap().as_array().unwrap();
    assert!(arguments.ends_with(&[json!("--data-dir"), json!("/var/lib/wattle")]), "{arguments:?}");
    // Volumes may be those of a grid that comes back.
    let blueprint = Blueprint::new(&stored, &images(), "wattle-system").unwrap();
    for (is_founded, expected) in [(false, "Retain"), (true, "Delete")] {
        let blueprint = Blueprint { is_founded, ..blueprint.clone() };
        let set = node_set(&blueprint, 3, &Founders::wanted(&stored.spec));
        check(&set, "/spec/persistentVolumeClaimRetentionPolicy/whenScaled", &json!(expected));
    }
}

#[test]
fn settings_change_the_template_and_the_size_of_a_grid_that_is_there_does_not() {
    let set = |change: fn(&mut GridSpec)| find(&made(&grid(change)), "StatefulSet", "flights");
    let template = |change: fn(&mut GridSpec)| set(change).pointer("/spec/template").cloned();
    let plain = template(|_| {});
    let before: StatefulSet = serde_json::from_value(set(|_| {})).unwrap();
    let larger = grid(|spec| spec.size = 5);
    let blueprint = Blueprint::new(&larger, &images(), "wattle-system").unwrap();
    let kept = node_set(&blueprint, 3, &Founders::of(&before));
    assert_eq!(kept.pointer("/spec/template").cloned(), plain);
    // Pods that wait for three nodes would not found a grid of five.
    assert_ne!(template(|spec| spec.size = 5), plain);
    assert_ne!(
        template(|spec| spec.settings = Settings { memory_bytes: Some(1), ..Settings::default() }),
        plain
    );
    assert_ne!(template(|spec| spec.version = Some("0.2.0".into())), plain);
    let config = find(&made(&grid(|spec| spec.size = 5)), "ConfigMap", "flights-config");
    check(&config, "/data/config.toml", &json!("bootstrap_expect = 5\n"));
}

#[test]
fn zones_are_preferred_demanded_or_ignored() {
    let spread = |spread| {
        let grid = grid(|spec| spec.zones = Zones { spread, ..Zones::default() });
        let set = find(&made(&grid), "StatefulSet", "flights");
        let constraints =
            set.pointer("/spec/template/spec/topologySpreadConstraints").unwrap().as_array().unwrap().clone();
        let shown =
            |one: &Value| format!("{} {}", one["topologyKey"], one["whenUnsatisfiable"]).replace('"', "");
        constraints.iter().map(shown).collect::<Vec<_>>()
    };
    let machines = "kubernetes.io/hostname ScheduleAnyway".to_owned();
    assert_eq!(
        spread(Spread::Prefer),
        ["topology.kubernetes.io/zone ScheduleAnyway".to_owned(), machines.clone()]
    );
    assert_eq!(
        spread(Spread::Require),
        ["topology.kubernetes.io/zone DoNotSchedule".to_owned(), machines.clone()]
    );
    assert_eq!(spread(Spread::Ignore), [machines]);
}

#[test]
fn the_image_is_that_of_the_grid_or_of_the_operator() {
    let image = |change: fn(&mut GridSpec)| images().of(&grid(change).spec);
    assert_eq!(image(|_| {}), "registry:5000/wattle:0.1.0");
    assert_eq!(image(|spec| spec.version = Some("2".into())), "registry:5000/wattle:2");
    assert_eq!(image(|spec| spec.image = Some("own@sha256:1".into())), "own@sha256:1");
    let parsed =
        |image: &str, change: fn(&mut GridSpec)| Images::parse(image, "0.3.0").of(&grid(change).spec);
    let newer: fn(&mut GridSpec) = |spec| spec.version = Some("2".into());
    assert_eq!(parsed("registry:5000/wattle", |_| {}), "registry:5000/wattle:0.3.0");
    assert_eq!(parsed("wattle:1@sha256:ab", |_| {}), "wattle:1@sha256:ab");
    assert_eq!(parsed("wattle:1@sha256:ab", newer), "wattle:2");
    assert_eq!(parsed("registry:5000/wattle", newer), "registry:5000/wattle:2");
}
