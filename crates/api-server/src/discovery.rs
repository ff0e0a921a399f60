//! What there is: groups, versions and resources, one document each or all in one.

use serde_json::{Value, json};

use crate::registry::Registry;
use crate::resource::{ResourceType, api_version};

/// Whether an `Accept` header prefers all in one document, and in which of its versions.
pub(crate) fn aggregated_version(accept: &str) -> Option<&'static str> {
    let first = accept.split(',').next()?;
    if !first.contains("as=APIGroupDiscoveryList") || !first.contains("g=apidiscovery.k8s.io") {
        return None;
    }
    if first.contains("v=v2beta1") { Some("v2beta1") } else { first.contains("v=v2").then_some("v2") }
}

pub(crate) fn media_type(version: &str) -> String {
    format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")
}

/// All groups but the core one (`/apis`), or the core one alone (`/api`), with their resources.
pub(crate) fn aggregated(registry: &Registry, is_core: bool, version: &str) -> Value {
    let items: Vec<Value> = registry
        .groups()
        .into_iter()
        .filter(|(group, _)| group.is_empty() == is_core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = registry
                        .in_version(&group, version)
                        .iter()
                        .map(|one| aggregated_resource(one))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items,
    })
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_resource(resource: &ResourceType) -> Value {
    let own = kind(&resource.group, &resource.version, &resource.kind);
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": own,
        "scope": if resource.is_namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subresources: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|(name, response, verbs)| json!({"subresource": name, "responseKind": response, "verbs": verbs}))
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = json!(subresources);
    }
    entry
}

/// With what they answer, and their verbs.
fn subresources(resource: &ResourceType) -> Vec<(&'static str, Value, &'static [&'static str])> {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    const CREATE: &[&str] = &["create"];
    let mut all = Vec::new();
    if resource.is("", "pods") {
        all.push(("binding", kind("", "v1", "Binding"), CREATE));
        all.push(("eviction", kind("policy", "v1", "Eviction"), CREATE));
        all.push(("log", kind("", "v1", "Pod"), &["get"]));
        all.push(("portforward", kind("", "v1", "PodPortForwardOptions"), &["create", "get"]));
    }
    if resource.scale.is_some() {
        all.push(("scale", kind("autoscaling", "v1", "Scale"), CHANGE));
    }
    if resource.has_status {
        all.push(("status", kind(&resource.group, &resource.version, &resource.kind), CHANGE));
    }
    if resource.is("", "serviceaccounts") {
        all.push(("token", kind("authentication.k8s.io", "v1", "TokenRequest"), CREATE));
    }
    all
}

/// Everything that is served without a type: the document at `/`.
pub(crate) fn paths(registry: &Registry) -> Value {
    let mut paths = crate::health::paths();
    paths.extend(["/api", "/apis", "/openapi/v3", "/version"].map(str::to_owned));
    for (group, versions) in registry.groups() {
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        paths.extend(versions.iter().map(|version| format!("{root}/{version}")));
        paths.push(root);
    }
    paths.sort();
    paths.dedup();
    json!({"paths": paths})
}

pub(crate) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

pub(crate) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = registry
        .groups()
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| describe(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn describe(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

pub(crate) fn group(registry: &Registry, name: &str) -> Option<Value> {
    let groups = registry.groups();
    let (name, versions) = groups.iter().find(|(group, _)| group == name)?;
    let mut group = describe(name, versions);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Some(group)
}

pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let types = registry.in_version(group, version);
    if types.is_empty() {
        return None;
    }
    let mut entries = Vec::new();
    for resource in &types {
        entries.push(entry(resource));
        for (name, response, verbs) in subresources(resource) {
            let mut entry = json!({
                "name": format!("{}/{name}", resource.plural), "singularName": "",
                "namespaced": resource.is_namespaced, "kind": response["kind"], "verbs": verbs,
            });
            if response["group"] != *resource.group {
                entry["group"] = response["group"].clone();
                entry["version"] = response["version"].clone();
            }
            entries.push(entry);
        }
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version),
        "resources": entries,
    }))
}

fn entry(resource: &ResourceType) -> Value {
    let mut entry = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.is_namespaced,
        "kind": resource.kind, "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    entry
}

pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "32", "gitVersion": "v1.32.0",
        "gitCommit": "70d3cc986aa8221cd1dfb1121852688902d3bf53", "gitTreeState": "clean",
        "buildDate": "2024-12-11T17:59:15Z", "goVersion": "go1.23.3", "compiler": "gc",
        "platform": "linux/amd64",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_of_pods_are_listed_as_by_the_real_server() {
        let all = resources(&Registry::new(), "", "v1").unwrap();
        let entries = all["resources"].as_array().unwrap().iter();
        let of_pods: Vec<&Value> =
            entries.filter(|entry| entry["name"].as_str().unwrap().starts_with("pods/")).collect();
        let entry = |name: &str, kind: &str, verbs: &[&str]| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": verbs});
        let mut eviction = entry("pods/eviction", "Eviction", &["create"]);
        eviction["group"] = json!("policy");
        eviction["version"] = json!("v1");
        let expected = [
            entry("pods/binding", "Binding", &["create"]),
            eviction,
            entry("pods/log", "Pod", &["get"]),
            entry("pods/portforward", "PodPortForwardOptions", &["create", "get"]),
            entry("pods/status", "Pod", &["get", "patch", "update"]),
        ];
        assert_eq!(of_pods, expected.iter().collect::<Vec<_>>());
    }
}
