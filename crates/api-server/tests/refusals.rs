//! What is refused, in which words, and what is only warned of: requests as they come, without a client between.

use kube::Client;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::core::Request;
use serde_json::{Value, json};

use crate::custom::{definition, grid};
use crate::server::{admin, cluster_api, start};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GRIDS: &str = "/apis/example.dev/v1/namespaces/default/grids";

struct Answered {
    code: u16,
    body: String,
    warnings: Vec<String>,
}

impl Answered {
    fn message(&self) -> String {
        let status: Value = serde_json::from_str(&self.body).unwrap();
        status["message"].as_str().unwrap_or_default().to_owned()
    }
}

async fn ask(client: &Client, method: &str, path: &str, media_type: &str, body: &str) -> Answered {
    let mut request =
        Request::new("/").list(&ListParams::default()).unwrap().map(|_| Body::from(body.as_bytes().to_vec()));
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = path.parse().unwrap();
    request.headers_mut().insert("content-type", media_type.parse().unwrap());
    let answer = client.send(request).await.unwrap();
    let code = answer.status().as_u16();
    let warnings =
        answer.headers().get_all("warning").iter().map(|one| one.to_str().unwrap().to_owned()).collect();
    let body = answer.into_body().collect_bytes().await.unwrap();
    Answered { code, body: String::from_utf8(body.to_vec()).unwrap(), warnings }
}

async fn post(client: &Client, path: &str, body: &str) -> Answered {
    ask(client, "POST", path, "application/json", body).await
}

async fn check(answer: impl Future<Output = Answered>, code: u16, message: &str) {
    let answer = answer.await;
    assert_eq!((answer.code, answer.message().as_str()), (code, message));
}

#[tokio::test]
async fn a_body_is_an_object_of_the_type_of_its_path() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    check(
        post(&client, MAPS, "{\"a\":"),
        400,
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: \
         unexpected end of JSON input ({\"a\":)",
    )
    .await;
    check(
        post(&client, GRIDS, "{\"spec\":{}}"),
        400,
        "the object provided is unrecognized (must be of type Grid): Object 'Kind' is missing in '{\"spec\":{}}' \
         ({\"spec\":{}})",
    )
    .await;
    check(
        post(&client, GRIDS, "{\"kind\":\"Grid\"}"),
        400,
        "the API version in the data () does not match the expected API version (example.dev/v1)",
    )
    .await;
    let of = |kind: &str, labels: &Value| {
        json!({"apiVersion": "example.dev/v1", "kind": kind, "metadata": {"name": "g", "labels": labels},
            "spec": {"size": 1}})
        .to_string()
    };
    check(
        post(&client, GRIDS, &of("Foo", &json!({}))),
        422,
        "Foo.example.dev \"g\" is invalid: kind: Invalid value: \"Foo\": must be Grid",
    )
    .await;
    check(
        post(&client, GRIDS, &of("Grid", &json!({"a": 1}))),
        400,
        "Grid in version \"v1\" cannot be handled as a Grid: json: cannot unmarshal number into Go struct field \
         ObjectMeta.labels of type string",
    )
    .await;
    check(
        ask(&client, "PUT", &format!("{MAPS}/a"), "application/json", "{}"),
        400,
        "the name of the object (a based on URL) was undeterminable: name must be provided",
    )
    .await;
}

#[tokio::test]
async fn a_field_that_comes_twice_is_warned_of_or_refused() {
    let server = start().await;
    let client = admin(&server).await;
    let twice = "{\"metadata\": {\"name\": \"a\"}, \"data\": {\"a\": \"1\", \"a\": \"2\"}}";
    check(
        post(&client, &format!("{MAPS}?fieldValidation=Strict"), twice),
        400,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.a\"",
    )
    .await;
    let made = post(&client, MAPS, twice).await;
    assert_eq!(
        (made.code, made.warnings),
        (201, vec!["299 - \"duplicate field \\\"data.a\\\"\"".to_owned()])
    );
}

#[tokio::test]
async fn a_finalizer_of_nobody_is_warned_of_once() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let mut new = serde_json::to_value(grid(&json!({"size": 1}))).unwrap();
    new["metadata"]["finalizers"] = json!(["foo"]);
    let made = post(&client, GRIDS, &new.to_string()).await;
    let warning = "299 - \"metadata.finalizers: \\\"foo\\\": prefer a domain-qualified finalizer name including a path (/) to \
        avoid accidental conflicts with other finalizer writers\"";
    assert_eq!((made.code, made.warnings), (201, vec![warning.to_owned()]));
    let path = format!("{GRIDS}/g");
    let patched =
        ask(&client, "PATCH", &path, "application/merge-patch+json", "{\"spec\":{\"size\":2}}").await;
    assert_eq!((patched.code, patched.warnings), (200, Vec::new()));
    let map = "{\"metadata\": {\"name\": \"a\", \"finalizers\": [\"foo\"]}}";
    check(
        post(&client, MAPS, map),
        422,
        "ConfigMap \"a\" is invalid: metadata.finalizers[0]: Invalid value: \"foo\": name is neither a standard finalizer \
         name nor is it fully qualified",
    )
    .await;
}

#[tokio::test]
async fn a_pod_and_a_selector_stay_as_they_are() {
    let server = start().await;
    let client = admin(&server).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(post(&client, pods, &pod.to_string()).await.code, 201);
    let strategic = "application/strategic-merge-patch+json";
    let path = format!("{pods}/p");
    let image = json!({"spec": {"containers": [{"name": "c", "image": "i:2"}]}}).to_string();
    assert_eq!(ask(&client, "PATCH", &path, strategic, &image).await.code, 200);
    let other = json!({"spec": {"containers": [{"name": "d", "image": "i:2"}]}}).to_string();
    check(
        ask(&client, "PATCH", &path, strategic, &other),
        422,
        "Pod \"p\" is invalid: spec.containers: Forbidden: pod updates may not add or remove containers",
    )
    .await;
    let set = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    let sets = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(post(&client, sets, &set.to_string()).await.code, 201);
    let labels = json!({"a": "c"});
    let change =
        json!({"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}});
    check(
        ask(&client, "PATCH", &format!("{sets}/d"), "application/merge-patch+json", &change.to_string()),
        422,
        "Deployment.apps \"d\" is invalid: spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{\
         \"a\":\"c\"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: field is immutable",
    )
    .await;
}

#[tokio::test]
async fn a_pod_gets_its_node_by_a_binding_once() {
    let server = start().await;
    let client = admin(&server).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(post(&client, pods, &pod.to_string()).await.code, 201);
    let path = format!("{pods}/p");
    let moved = json!({"spec": {"nodeName": "n"}}).to_string();
    let patched = ask(&client, "PATCH", &path, "application/merge-patch+json", &moved).await;
    assert!(
        patched.message().starts_with("Pod \"p\" is invalid: spec: Forbidden: pod updates may not change")
    );
    let bind = async |target: &Value| {
        let binding = json!({"metadata": {"name": "p"}, "target": target}).to_string();
        post(&client, &format!("{path}/binding"), &binding).await
    };
    check(bind(&json!({})), 422, "Binding \"p\" is invalid: target.name: Required value").await;
    let to_node = json!({"kind": "Node", "name": "n"});
    assert_eq!(bind(&to_node).await.code, 201);
    let bound: Value = serde_json::from_str(&ask(&client, "GET", &path, "", "").await.body).unwrap();
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["status"]["conditions"][0]["type"]),
        (&json!("n"), &json!("PodScheduled"))
    );
    check(
        bind(&to_node),
        409,
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\"",
    )
    .await;
}

#[tokio::test]
async fn options_of_a_deletion_are_checked() {
    let server = start().await;
    let client = admin(&server).await;
    assert_eq!(post(&client, MAPS, "{\"metadata\": {\"name\": \"a\"}}").await.code, 201);
    let path = format!("{MAPS}/a");
    let delete = async |body: &str| ask(&client, "DELETE", &path, "application/json", body).await;
    check(
        delete("{\"propagationPolicy\": \"Foo\"}"),
        422,
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Foo\": supported values: \
         \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
    )
    .await;
    check(
        delete("{\"propagationPolicy\": \"Orphan\", \"orphanDependents\": true, \"dryRun\": [\"Some\"]}"),
        422,
        "DeleteOptions.meta.k8s.io \"\" is invalid: [propagationPolicy: Invalid value: \"Orphan\": orphanDependents and \
         deletionPropagation cannot be both set, dryRun: Unsupported value: []string{\"Some\"}: supported values: \"All\"]",
    )
    .await;
    assert_eq!(delete("").await.code, 200);
}

#[tokio::test]
async fn the_kind_of_an_established_definition_stays() {
    let server = start().await;
    let client = admin(&server).await;
    let definitions = cluster_api(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/grids.example.dev";
    let change = json!({"spec": {"scope": "Cluster", "names": {"kind": "Foo"}}}).to_string();
    check(
        ask(&client, "PATCH", path, "application/merge-patch+json", &change),
        422,
        "CustomResourceDefinition.apiextensions.k8s.io \"grids.example.dev\" is invalid: [spec.scope: Invalid value: \
         \"Cluster\": field is immutable, spec.names.kind: Invalid value: \"Foo\": field is immutable]",
    )
    .await;
}

#[tokio::test]
async fn answers_are_indented_on_request() {
    let server = start().await;
    let client = admin(&server).await;
    let dense = ask(&client, "GET", "/version", "", "").await.body;
    assert_eq!(dense.lines().count(), 1);
    let indented = ask(&client, "GET", "/version?pretty=true", "", "").await.body;
    assert!(indented.starts_with("{\n  \""), "{indented}");
}
