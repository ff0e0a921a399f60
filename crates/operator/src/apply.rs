//! Server-side apply of whole objects, and of statuses.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;

/// Who owns the fields that the operator applies.
pub(crate) const MANAGER: &str = "wattle-operator";

/// Makes an object, or makes it what it should be again. Refused if one of its name is there that has another owner, or none.
pub(crate) async fn apply(client: &Client, object: &Value) -> Result<DynamicObject, Error> {
    let text = |pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .ok_or(Error::Malformed { what: "a name of an object" })
    };
    let (kind, name) = (text("/kind")?, text("/metadata/name")?);
    let api = api_of(client, text("/apiVersion")?, kind, text("/metadata/namespace")?);
    let owner = object.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str);
    if let Some(there) = api.get_opt(name).await? {
        let owners = there.metadata.owner_references.unwrap_or_default();
        if !owners.iter().any(|other| Some(other.uid.as_str()) == owner) {
            return Err(Error::NotOurs { kind: kind.to_owned(), name: name.to_owned() });
        }
    }
    Ok(api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await?)
}

fn api_of(client: &Client, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Says what became of an object.
pub(crate) async fn apply_status<K>(api: &Api<K>, name: &str, status: &impl Serialize) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await?;
    Ok(())
}
