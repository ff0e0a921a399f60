//! Three nodes of the image that find one another by the EndpointSlices of a cluster, with what the plain manifests give their pods.

use super::cluster::{BY_NAME, Cluster};
use super::network::NETWORK;
use crate::command::{output, run, shown};
use crate::failure::Failure;
use crate::image::engine::answer;
use crate::json::Json;

const NODES: [&str; 3] = ["wattle-check-pod-0", "wattle-check-pod-1", "wattle-check-pod-2"];
const NAMESPACE: &str = "wattle";
const SECRET: &str = "a secret of sixteen bytes or more";

pub(super) fn check(cluster: &Cluster<'_>, image: &str) -> Result<(), Failure> {
    cluster.run(&["create", "namespace", NAMESPACE])?;
    cluster.run(&["apply", "--filename", "/deploy/manifests/grid.yaml"])?;
    cluster.write("slice.json", slice().as_bytes())?;
    cluster.run(&["apply", "--namespace", NAMESPACE, "--filename", "/check/slice.json"])?;
    // The folders that pods have mounted.
    let config = output(&mut cluster.field(NAMESPACE, "configmap/wattle-config", "{.data.config\\.toml}"))?;
    cluster.write("etc/config/config.toml", config.as_bytes())?;
    cluster.write("etc/secret/secret", SECRET.as_bytes())?;
    for (index, name) in NODES.iter().enumerate() {
        start(cluster, image, name, &address(index))?;
    }
    for (index, name) in NODES.iter().enumerate() {
        let http = format!("{}:7119", address(index));
        for path in ["/livez", "/readyz", "/safez"] {
            cluster.network.wait_for_answer(NETWORK, &http, path, "200 ")?;
        }
        cluster.network.check_rights(name)?;
    }
    check_grid(cluster)
}

/// Which the network gives nobody by itself so soon.
fn address(index: usize) -> String {
    format!("198.18.117.{}", 100 + index)
}

fn zone(index: usize) -> String {
    format!("zone-{index}")
}

/// What the cluster would say of the pods, who are not ready, for they wait for each other.
fn slice() -> String {
    let endpoint = |index| {
        let (address, zone) = (address(index), zone(index));
        format!(
            r#"{{"addresses":["{address}"],"zone":"{zone}","conditions":{{"ready":false,"serving":false,"terminating":false}}}}"#
        )
    };
    let endpoints: Vec<String> = (0..NODES.len()).map(endpoint).collect();
    let endpoints = endpoints.join(",");
    format!(
        r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
        "metadata":{{"name":"wattle-nodes-1","labels":{{"kubernetes.io/service-name":"wattle-nodes"}}}},
        "ports":[{{"name":"api","port":7117}},{{"name":"peers","port":7118}},{{"name":"http","port":7119}}],
        "endpoints":[{endpoints}]}}"#
    )
}

fn start(cluster: &Cluster<'_>, image: &str, name: &str, address: &str) -> Result<(), Failure> {
    let mut node = cluster.pod(name, BY_NAME, (NAMESPACE, "wattle"))?;
    node.args(["--ip", address, "--memory", "1g", "--tmpfs", "/tmp"]);
    node.args(["--volume", &format!("{}:/etc/wattle:ro", cluster.file("etc").display())]);
    // Without POD_NAMESPACE the service is where the files of the service account say.
    node.args(["--env", &format!("POD_IP={address}"), "--env", &format!("POD_NAME={name}")]);
    let arguments = cluster.arguments(NAMESPACE, "statefulset/wattle")?;
    node.arg(image).args(arguments.iter().map(|argument| argument.replace("$(POD_IP)", address)));
    run(&mut node)
}

/// All are members, in the zones that the slice says, of the grid that one of them has written down.
fn check_grid(cluster: &Cluster<'_>) -> Result<(), Failure> {
    let [first, _, third] = NODES;
    let mut members = cluster.network.wattle(first, &["grid", "members", "--output", "json"]);
    let printed = output(&mut members)?;
    let mut found = places(&printed).unwrap_or_default();
    found.sort();
    let expected: Vec<_> =
        (0..NODES.len()).map(|index| (format!("{}:7117", address(index)), zone(index))).collect();
    if found != expected {
        return Err(Failure::Unexpected { command: shown(&members), printed });
    }
    let fence = "{.metadata.ownerReferences[0].kind} {.data.grid}";
    let mut fence = cluster.field(NAMESPACE, "configmap/wattle-nodes-grid", fence);
    let printed = answer(&mut fence)?;
    println!("the grid's ConfigMap: {printed}");
    let Some(grid) = printed.strip_prefix("Service ").filter(|grid| !grid.is_empty()) else {
        return Err(Failure::Unexpected { command: shown(&fence), printed });
    };
    let mut status = cluster.network.wattle(third, &["grid", "status", "--output", "json"]);
    let printed = output(&mut status)?;
    let said = Json::parse(&printed).ok();
    if said.as_ref().and_then(|said| said.get("id")?.text()) == Some(grid) {
        return Ok(());
    }
    Err(Failure::Unexpected { command: shown(&status), printed })
}

/// Where the members are, and in which zones.
fn places(printed: &str) -> Option<Vec<(String, String)>> {
    let Ok(Json::List(members)) = Json::parse(printed) else { return None };
    let text = |member: &Json, name| member.get(name)?.text().map(str::to_owned);
    members.iter().map(|member| Some((text(member, "address")?, text(member, "zone")?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_has_every_node_in_a_zone_of_its_own() {
        let slice = Json::parse(&slice()).unwrap();
        let Some(Json::List(endpoints)) = slice.get("endpoints") else { panic!("{slice:?}") };
        let zones: Vec<_> = endpoints.iter().filter_map(|endpoint| endpoint.get("zone")?.text()).collect();
        assert_eq!(zones, ["zone-0", "zone-1", "zone-2"]);
    }

    #[test]
    fn a_member_without_a_zone_is_in_no_place() {
        let places = |zone| places(&format!(r#"[{{"address":"a:1","zone":{zone}}}]"#));
        assert_eq!(places(r#""z""#), Some(vec![("a:1".to_owned(), "z".to_owned())]));
        assert_eq!(places("null"), None);
    }
}
