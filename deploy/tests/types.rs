//! Objects read into k8s-openapi's types, which leave out what they do not know: what comes out again must be what went in.

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::helm::{Helm, VALUES};
use crate::objects;

type ReadBack = fn(&Value) -> serde_json::Result<Value>;

const TYPES: [(&str, &str, ReadBack); 9] = [
    row::<ConfigMap>(),
    row::<NetworkPolicy>(),
    row::<PodDisruptionBudget>(),
    row::<Role>(),
    row::<RoleBinding>(),
    row::<Secret>(),
    row::<Service>(),
    row::<ServiceAccount>(),
    row::<StatefulSet>(),
];

const fn row<T: Resource + Serialize + DeserializeOwned>() -> (&'static str, &'static str, ReadBack) {
    (T::API_VERSION, T::KIND, |object| serde_json::to_value(T::deserialize(object)?))
}

/// What the object's type does not know of it, or why it is no such object.
fn strange_fields(object: &Value) -> Vec<String> {
    let (api_version, kind) = (objects::text(object, "/apiVersion"), objects::text(object, "/kind"));
    let Some((.., read_back)) = TYPES.iter().find(|row| (row.0, row.1) == (api_version, kind)) else {
        return vec![format!("{api_version} {kind}")];
    };
    let mut found = Vec::new();
    match read_back(object) {
        Ok(read) => compare(object, &read, "", &mut found),
        Err(error) => found.push(error.to_string()),
    }
    found
}

fn compare(written: &Value, read: &Value, path: &str, found: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (name, value) in written {
                compare(value, read.get(name).unwrap_or(&Value::Null), &format!("{path}/{name}"), found);
            }
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                compare(written, read, &format!("{path}/{index}"), found);
            }
        }
        _ if written == read => {}
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn everything_that_is_rendered_is_what_the_types_of_kubernetes_say() {
    let test = "types::everything_that_is_rendered_is_what_the_types_of_kubernetes_say";
    let Some(helm) = Helm::find(test) else { return };
    for values in VALUES {
        let objects = helm.objects(values, &[]);
        let (ours, others): (Vec<_>, Vec<_>) =
            objects.iter().partition(|object| object["apiVersion"] != "monitoring.coreos.com/v1");
        assert!(ours.len() >= 6, "{values}: {:?}", objects::names(&objects));
        assert_eq!(others.len(), usize::from(values == "everything"));
        for object in ours {
            assert_eq!(strange_fields(object), [""; 0], "{values}: {object:#}");
        }
    }
}

#[test]
fn a_field_that_no_type_knows_is_noticed() {
    let service = |port: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [port]}});
    assert_eq!(strange_fields(&service(json!({"name": "api", "port": 1}))), [""; 0]);
    assert_eq!(strange_fields(&service(json!({"port": 1, "targetport": 2}))), ["/spec/ports/0/targetport"]);
    let [wrong] = &strange_fields(&service(json!({"port": "1"})))[..] else { panic!("a port may be a text") };
    assert!(wrong.contains("invalid type: string"), "{wrong}");
    let unknown = json!({"apiVersion": "v2", "kind": "Service"});
    assert_eq!(strange_fields(&unknown), ["v2 Service"]);
}
