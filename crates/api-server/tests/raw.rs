//! Requests as they are on the wire, for what no client library sends, and answers with nothing taken out of them.

use http_body_util::BodyExt as _;
use hyper::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What the server has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) media_type: String,
    pub(crate) text: String,
}

impl Answer {
    /// The body if it is JSON, else null.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn refused_with(&self, code: u16, message: &str) {
        assert_eq!((self.code, self.message().as_str()), (code, message), "{self:?}");
    }

    pub(crate) fn succeeded(&self) -> Value {
        assert!(self.code < 300, "{self:?}");
        self.json()
    }
}

pub(crate) async fn send(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.as_bytes().to_vec())).unwrap();
    let response = client.send(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        code: parts.status.as_u16(),
        media_type: parts.headers.get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned(),
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

pub(crate) async fn get(client: &Client, path: &str) -> Answer {
    send(client, "GET", path, &[], "").await
}

pub(crate) async fn delete(client: &Client, path: &str) -> Answer {
    send(client, "DELETE", path, &[], "").await
}

pub(crate) async fn post(client: &Client, path: &str, body: Value) -> Answer {
    send(client, "POST", path, &[("content-type", JSON)], &body.to_string()).await
}

pub(crate) async fn put(client: &Client, path: &str, body: Value) -> Answer {
    send(client, "PUT", path, &[("content-type", JSON)], &body.to_string()).await
}

pub(crate) async fn patch(client: &Client, path: &str, kind: &str, body: Value) -> Answer {
    send(client, "PATCH", path, &[("content-type", kind)], &body.to_string()).await
}

/// A ConfigMap that is there.
pub(crate) async fn made_map(client: &Client, name: &str) -> Value {
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}});
    post(client, MAPS, map).await.succeeded()
}
