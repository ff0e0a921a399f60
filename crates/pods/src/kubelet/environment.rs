//! Variables of a container: its own, from ConfigMaps and Secrets, and from the downward API.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod};

use super::rewrite::expand;
use super::unprepared::Unprepared;
use super::volumes::{Contents, Sources, found};
use crate::object;

/// Where a pod runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) host: Ipv4Addr,
}

/// `given` are the cluster's own, which the container's may replace.
pub(crate) async fn variables(
    sources: Sources<'_>,
    pod: &Pod,
    place: Place,
    container: &Container,
    given: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Unprepared> {
    let mut variables: BTreeMap<String, String> = given.into_iter().collect();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        for (key, value) in all_of(sources, source).await? {
            variables.insert(format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned());
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &variables)),
            (None, Some(source)) => value_from(sources, pod, place, source).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

async fn all_of(sources: Sources<'_>, source: &EnvFromSource) -> Result<Contents, Unprepared> {
    if let Some(map) = &source.config_map_ref {
        return found("configmap", map.name.clone(), sources.config_map(&map.name).await?, map.optional);
    }
    match &source.secret_ref {
        Some(secret) => {
            found("secret", secret.name.clone(), sources.secret(&secret.name).await?, secret.optional)
        }
        None => Ok(Contents::new()),
    }
}

async fn value_from(
    sources: Sources<'_>,
    pod: &Pod,
    place: Place,
    source: &EnvVarSource,
) -> Result<Option<String>, Unprepared> {
    if let Some(field) = &source.field_ref {
        let value = field_of(pod, place, &field.field_path);
        return value.map(Some).ok_or_else(|| Unprepared::NoField(field.field_path.clone()));
    }
    let (kind, name, key, contents, optional) = if let Some(map) = &source.config_map_key_ref {
        let contents =
            found("configmap", map.name.clone(), sources.config_map(&map.name).await?, map.optional)?;
        ("configmap", &map.name, &map.key, contents, map.optional)
    } else if let Some(secret) = &source.secret_key_ref {
        let contents =
            found("secret", secret.name.clone(), sources.secret(&secret.name).await?, secret.optional)?;
        ("secret", &secret.name, &secret.key, contents, secret.optional)
    } else {
        return Err(Unprepared::Feature("the source of a variable".to_owned()));
    };
    match contents.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => Err(Unprepared::NoKey { kind, name: name.clone(), key: key.clone() }),
    }
}

fn field_of(pod: &Pod, place: Place, path: &str) -> Option<String> {
    let spec = pod.spec.as_ref();
    let quoted = |list: &str| {
        let rest = path.strip_prefix("metadata.")?.strip_prefix(list)?;
        Some(rest.strip_prefix("['")?.strip_suffix("']")?.to_owned())
    };
    if let Some(name) = quoted("labels") {
        return Some(object::label(&pod.metadata, &name).to_owned());
    }
    if let Some(name) = quoted("annotations") {
        let annotations = pod.metadata.annotations.as_ref();
        return Some(annotations.and_then(|all| all.get(&name)).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => object::name(&pod.metadata).to_owned(),
        "metadata.namespace" => object::namespace(&pod.metadata).to_owned(),
        "metadata.uid" => object::uid(&pod.metadata).to_owned(),
        "spec.nodeName" => object::node_name(pod).to_owned(),
        "spec.serviceAccountName" => spec?.service_account_name.clone().unwrap_or_default(),
        "status.podIP" | "status.podIPs" => place.address.to_string(),
        "status.hostIP" | "status.hostIPs" => place.host.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_the_pod_are_known() {
        let pod = json!({"metadata": {"name": "web-0", "labels": {"a.b/c": "d"}}, "spec": {"nodeName": "n", "containers": []}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let place = Place { address: Ipv4Addr::new(127, 0, 0, 9), host: Ipv4Addr::LOCALHOST };
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(field_of(&pod, place, path).as_deref(), expected, "{path}");
        };
        check("metadata.name", Some("web-0"));
        check("metadata.labels['a.b/c']", Some("d"));
        check("metadata.annotations['none']", Some(""));
        check("status.podIP", Some("127.0.0.9"));
        check("spec.nodeName", Some("n"));
        check("spec.containers", None);
    }
}
