//! Server-side apply of whole objects, and of statuses.

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, Preconditions,
};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Grid;
use crate::error::Error;
use crate::manifests::GRID_UID;

/// Who owns the fields that the operator applies.
pub(crate) const MANAGER: &str = "wattle-operator";
/// How often what must not have changed since it was read is tried again: whoever runs pods changes their set all the time.
pub(crate) const ATTEMPTS: u32 = 5;

/// Makes an object, or makes it what it should be again. Refused if one of its name is there that has another owner, or none.
pub(crate) async fn apply(client: &Client, object: &Value) -> Result<DynamicObject, Error> {
    let (api, name) = (api_of(client, object)?, text(object, "/metadata/name")?);
    if let Some(there) = api.get_opt(name).await?
        && !is_ours(&there, object)
    {
        return Err(Error::NotOurs { kind: text(object, "/kind")?.to_owned(), name: name.to_owned() });
    }
    Ok(api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await?)
}

/// Has an object go with its Grid, if it is there. One of its name that was made for another Grid, or for none, does not.
pub(crate) async fn own(client: &Client, grid: &Grid, object: &Value) -> Result<(), Error> {
    let (api, name) = (api_of(client, object)?, text(object, "/metadata/name")?);
    let owner = grid.controller_owner_ref(&()).ok_or(Error::Malformed { what: "no name or no uid" })?;
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let mut attempts = 0;
    loop {
        let there = find(&api, name).await?.filter(|there| is_ours(there, object));
        let Some(there) = there else { return Ok(()) };
        let mut owners = there.owner_references().to_vec();
        if owners.contains(&owner) {
            return Ok(());
        }
        owners.retain(|other| other.uid != owner.uid);
        owners.push(owner.clone());
        // Of the object that was read, and as it was: others may have given it owners since.
        let metadata = json!({
            "ownerReferences": owners, "uid": there.uid(), "resourceVersion": there.resource_version(),
        });
        attempts += 1;
        match api
            .patch(name, &params, &Patch::Merge(json!({"metadata": metadata})))
            .await
            .map_err(Error::from)
        {
            Err(Error::Refused { code: 409, .. }) if attempts < ATTEMPTS => {}
            done => return done.map(drop),
        }
    }
}

/// Deletes an object if it is there. One of its name that has another owner, or none, stays.
pub(crate) async fn remove(client: &Client, object: &Value) -> Result<(), Error> {
    let (api, name) = (api_of(client, object)?, text(object, "/metadata/name")?);
    let Some(there) = find(&api, name).await? else { return Ok(()) };
    if !is_ours(&there, object) || there.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let preconditions = Preconditions { uid: there.metadata.uid, resource_version: None };
    let deleted = api.delete(name, &DeleteParams::default().preconditions(preconditions)).await;
    ignore_absence(deleted.map(drop))
}

/// Of a kind that the cluster does not have there is none.
async fn find(api: &Api<DynamicObject>, name: &str) -> Result<Option<DynamicObject>, Error> {
    match api.get_opt(name).await.map_err(Error::from) {
        Err(Error::Refused { code: 404, .. }) => Ok(None),
        found => found,
    }
}

/// What is gone, or another one by now, needs no deleting.
pub(crate) fn ignore_absence(deleted: kube::Result<()>) -> Result<(), Error> {
    match deleted.map_err(Error::from) {
        Err(Error::Refused { code: 404 | 409, .. }) => Ok(()),
        other => other,
    }
}

/// Whether it was made for the same Grid.
fn is_ours(there: &DynamicObject, object: &Value) -> bool {
    let own = object.pointer("/metadata/annotations").and_then(|annotations| annotations.get(GRID_UID));
    let other = there.metadata.annotations.as_ref().and_then(|annotations| annotations.get(GRID_UID));
    other.is_some() && own.and_then(Value::as_str) == other.map(String::as_str)
}

fn text<'a>(object: &'a Value, pointer: &str) -> Result<&'a str, Error> {
    let text = object.pointer(pointer).and_then(Value::as_str);
    text.ok_or(Error::Malformed { what: "no name, kind or version" })
}

fn api_of(client: &Client, object: &Value) -> Result<Api<DynamicObject>, Error> {
    let api_version = text(object, "/apiVersion")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text(object, "/kind")?));
    Ok(Api::namespaced_with(client.clone(), text(object, "/metadata/namespace")?, &resource))
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
