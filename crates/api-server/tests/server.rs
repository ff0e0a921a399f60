//! A server for a test, and clients for it.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use wattle_api_server::{ApiServer, Settings};

/// Longer than anything here takes that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn start() -> ApiServer {
    ApiServer::start(Settings::default()).await.unwrap()
}

pub(crate) async fn admin(server: &ApiServer) -> Client {
    with_token(server, server.admin_token()).await
}

pub(crate) async fn with_token(server: &ApiServer, token: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(token)).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // A refusal is to be seen, not to be waited out.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

pub(crate) fn api(client: &Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

pub(crate) fn cluster_api(client: &Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::all_with(client.clone(), &resource)
}

pub(crate) fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
pub(crate) fn config_map(name: &str, data: Value) -> DynamicObject {
    object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}))
}

/// What the server refused with.
pub(crate) fn status<T: Debug>(result: kube::Result<T>) -> Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("no refusal: {other:?}"),
    }
}

pub(crate) fn check_refusal<T: Debug>(result: kube::Result<T>, code: u16, reason: &str, message: &str) {
    let status = status(result);
    assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (code, reason, message));
}

pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    tokio::time::timeout(DEADLINE, stream.next()).await.expect("nothing comes").expect("the stream has ended")
}
