//! The StatefulSets of a grid: one of the pods that hold data, one of the arbiter.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::observe::Founding;
use crate::api::Grid;
use crate::apply::{ATTEMPTS, apply};
use crate::context::Context;
use crate::error::Error;
use crate::manifests::{Blueprint, Founders, arbiter_name, arbiter_set, node_set};

#[derive(Debug)]
pub(super) struct Sets {
    pub(super) nodes: Option<StatefulSet>,
    pub(super) arbiter: Option<StatefulSet>,
}

/// How many pods a set is to have.
pub(super) fn replicas(set: &StatefulSet) -> Option<u32> {
    u32::try_from(set.spec.as_ref()?.replicas?).ok()
}

/// The sets that are there, as they are.
pub(super) async fn sets(context: &Context, grid: &Grid) -> Result<Sets, Error> {
    let (name, sets) = (grid.name_any(), context.api_beside::<StatefulSet>(grid)?);
    Ok(Sets { nodes: sets.get_opt(&name).await?, arbiter: sets.get_opt(&arbiter_name(&name)).await? })
}

/// Gives the sets that are there the newest template. How many pods they have stays.
pub(super) async fn refresh(
    context: &Context,
    blueprint: &Blueprint<'_>,
    founding: Founding,
) -> Result<Sets, Error> {
    let (client, namespace) = (&context.client, blueprint.namespace);
    let founders = |set: &StatefulSet| match founding {
        Founding::Done => Founders::of(set),
        Founding::Ahead => Founders::wanted(blueprint.spec),
    };
    let newest = |set: &StatefulSet| node_set(blueprint, replicas(set).unwrap_or(1), &founders(set));
    let nodes = renew(client, (namespace, blueprint.name), newest).await?;
    let newest = |set: &StatefulSet| arbiter_set(blueprint, &founders(set));
    let arbiter = renew(client, (namespace, &arbiter_name(blueprint.name)), newest).await?;
    // What is left of an arbiter that goes is seen by its pod.
    Ok(Sets { nodes, arbiter: arbiter.filter(|set| set.metadata.deletion_timestamp.is_none()) })
}

/// Applies a set anew, unless it has changed since it was read: how many pods it has may be another's newer decision.
async fn renew(
    client: &Client,
    (namespace, name): (&str, &str),
    newest: impl Fn(&StatefulSet) -> Value,
) -> Result<Option<StatefulSet>, Error> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let mut attempts = 0;
    loop {
        let Some(there) = sets.get_opt(name).await? else { return Ok(None) };
        if there.metadata.deletion_timestamp.is_some() {
            return Ok(Some(there));
        }
        let mut object = newest(&there);
        object["metadata"]["resourceVersion"] = json!(there.resource_version());
        // One that is gone is not made again.
        object["metadata"]["uid"] = json!(there.uid());
        attempts += 1;
        match apply(client, &object).await {
            Err(Error::Refused { code: 409, .. }) if attempts < ATTEMPTS => {}
            applied => {
                let set = serde_json::to_value(applied?).and_then(serde_json::from_value);
                return set.map(Some).map_err(|_| Error::Malformed { what: "not a StatefulSet" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use hyper::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use parking_lot::Mutex;
    use tower::service_fn;

    use super::*;
    use crate::manifests::GRID_UID;

    fn set(version: u32, replicas: u32) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"replicas": replicas},
            "metadata": {"name": "g", "namespace": "n", "uid": "u", "resourceVersion": version.to_string(), "annotations": {GRID_UID: "1"}}})
    }

    fn response(code: StatusCode, body: &Value) -> Response<Body> {
        let mut response = Response::new(Body::from(body.to_string().into_bytes()));
        *response.status_mut() = code;
        response
    }

    /// An API server with one set of three pods. Somebody gives it five right before it is first patched.
    async fn answer(request: Request<Body>, there: Arc<Mutex<Value>>) -> Response<Body> {
        if request.method() == Method::GET {
            return response(StatusCode::OK, &there.lock());
        }
        let patch: Value =
            serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        let mut there = there.lock();
        if there["spec"]["replicas"] == 3 {
            *there = set(2, 5);
        }
        if patch["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"] {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
                "message": "the object has been modified"});
            return response(StatusCode::CONFLICT, &status);
        }
        *there = patch;
        response(StatusCode::OK, &there)
    }

    #[tokio::test]
    async fn a_set_that_changed_since_it_was_read_is_read_again() {
        let there = Arc::new(Mutex::new(set(1, 3)));
        let shared = there.clone();
        let server = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(answer(request, shared).await) }
        });
        let newest = |there: &StatefulSet| {
            let mut newest = set(0, replicas(there).unwrap());
            newest["spec"]["serviceName"] = json!("new");
            newest
        };
        let renewed = renew(&Client::new(server, "n"), ("n", "g"), newest).await.unwrap().unwrap();
        assert_eq!(replicas(&renewed), Some(5));
        assert_eq!(there.lock()["spec"], json!({"replicas": 5, "serviceName": "new"}));
    }
}
