//! Functions of a grid.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use wattle_api_server::{AnsweredRequest, ApiServer, Settings};
use wattle_operator::api::{FunctionCapability, Grid, GridFunction, GridFunctionStatus};
use wattle_proto::v1;

use crate::cluster::{Cluster, condition};

const FIRST: &[u8] = b"\0asm first";
const SECOND: &[u8] = b"\0asm second";
const THIRD: &[u8] = b"\0asm third";

fn digest(module: &[u8]) -> String {
    Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn with_grid() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.make::<Grid>(json!({"metadata": {"name": "g"}, "spec": {"size": 2}})).await;
    let both = |grid: &Grid| grid.status.as_ref().is_some_and(|status| status.members.len() == 3);
    cluster.until::<Grid>("g", both).await;
    let binary_data = [("first", FIRST), ("second", SECOND), ("third", THIRD)];
    let binary_data = binary_data.map(|(key, module)| (key.to_owned(), ByteString(module.to_vec())));
    let metadata = ObjectMeta { name: Some("modules".to_owned()), ..ObjectMeta::default() };
    let modules = ConfigMap { metadata, binary_data: Some(binary_data.into()), ..ConfigMap::default() };
    cluster.api::<ConfigMap>().create(&PostParams::default(), &modules).await.unwrap();
    cluster
}

fn from_map(key: &str) -> Value {
    json!({"configMap": {"name": "modules", "key": key}})
}

#[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
fn function(source: Value, sha256: Option<&str>) -> Value {
    let mut function = json!({"metadata": {"name": "debit"}, "spec": {"grid": "g", "source": source}});
    if let Some(sha256) = sha256 {
        function["spec"]["sha256"] = json!(sha256);
    }
    function
}

/// Waits until the function says this.
async fn told(cluster: &Cluster, status: &str, reason: &str) -> (GridFunctionStatus, String) {
    let function = cluster.until::<GridFunction>("debit", |function| {
        let Some(told) = &function.status else { return false };
        let (found, why, _) = condition(&told.conditions, "Ready");
        told.observed_generation == function.metadata.generation && (found, why) == (status, reason)
    });
    let told = function.await.status.unwrap();
    let message = condition(&told.conditions, "Ready").2.to_owned();
    (told, message)
}

/// Waits until the function was looked at from the beginning to the end since now: a first answer may be of a look that began before.
async fn looked_at_again(cluster: &Cluster) {
    // Only so many requests are remembered.
    cluster.server.forget_requests();
    let says = |asked: &AnsweredRequest| {
        asked.method == "PATCH" && asked.path.ends_with("/gridfunctions/debit/status")
    };
    cluster.until_asked_again(2, says).await;
}

#[tokio::test]
async fn a_function_is_uploaded_replaced_and_rolled_back() {
    let cluster = with_grid().await;
    cluster.make::<GridFunction>(function(from_map("first"), None)).await;
    let (status, message) = told(&cluster, "True", "Loaded").await;
    assert_eq!((status.version, status.digest.as_str()), (Some(1), digest(FIRST).as_str()));
    assert_eq!((status.loaded.as_str(), message.as_str()), ("2/2", "version 1 runs on all members: 2"));
    assert!(status.members.iter().all(|member| member.digest == digest(FIRST)), "{:?}", status.members);
    cluster
        .change::<GridFunction>("debit", json!({"source": from_map("second"), "sha256": digest(SECOND)}))
        .await;
    let (status, _) = told(&cluster, "True", "Loaded").await;
    assert_eq!((status.version, status.short_digest.as_str()), (Some(2), &digest(SECOND)[..12]));
    // The grid has the first module: going back needs no source.
    cluster.api::<ConfigMap>().delete("modules", &DeleteParams::default()).await.unwrap();
    cluster.change::<GridFunction>("debit", json!({"sha256": digest(FIRST)})).await;
    let (status, _) = told(&cluster, "True", "Loaded").await;
    assert_eq!((status.version, status.digest.as_str()), (Some(1), digest(FIRST).as_str()));
    assert_eq!(cluster.script.lock().uploads, 2);
}

#[tokio::test]
async fn a_member_that_runs_another_version_is_said_to() {
    let cluster = with_grid().await;
    cluster.script.lock().behind = Some((2, v1::RunningVersion { number: 7, module: digest(SECOND) }));
    cluster.make::<GridFunction>(function(from_map("first"), None)).await;
    let (status, message) = told(&cluster, "False", "Loading").await;
    assert!(message.starts_with("node 2 (") && message.ends_with("): it runs version 7 still"), "{message}");
    let digests: Vec<&str> = status.members.iter().map(|member| member.digest.as_str()).collect();
    assert_eq!((digests, status.loaded.as_str()), (vec![&*digest(FIRST), &digest(SECOND)], "1/2"));
    cluster.script.lock().behind = None;
    told(&cluster, "True", "Loaded").await;
}

#[tokio::test]
async fn what_can_do_more_than_it_may_never_runs() {
    let cluster = with_grid().await;
    let mut reader = function(from_map("first"), None);
    reader["spec"]["capabilities"] = json!([]);
    cluster.make::<GridFunction>(reader).await;
    let (status, message) = told(&cluster, "False", "CapabilityMissing").await;
    assert_eq!(
        message,
        "version 1 needs the capability Write, which spec.capabilities does not have, and does not run"
    );
    assert_eq!((status.version, cluster.script.lock().functions["debit"].active), (None, 0));
    cluster.change::<GridFunction>("debit", json!({"capabilities": ["Write"]})).await;
    let (status, _) = told(&cluster, "True", "Loaded").await;
    assert_eq!((status.version, status.capabilities), (Some(1), vec![FunctionCapability::Write]));
    cluster.change::<GridFunction>("debit", json!({"capabilities": []})).await;
    let (_, message) = told(&cluster, "False", "CapabilityMissing").await;
    assert!(message.ends_with("and runs already: set the source back"), "{message}");
    cluster.change::<GridFunction>("debit", json!({"source": from_map("second")})).await;
    let is_said = |function: &GridFunction| {
        let conditions = function.status.clone().unwrap_or_default().conditions;
        condition(&conditions, "Ready").2.ends_with("and does not run; version 1, which runs, needs it too")
    };
    cluster.until::<GridFunction>("debit", is_said).await;
    cluster.script.lock().read_only = true;
    cluster.change::<GridFunction>("debit", json!({"source": from_map("third")})).await;
    let (status, _) = told(&cluster, "True", "Loaded").await;
    assert_eq!((status.version, status.capabilities), (Some(3), Vec::new()));
    assert_eq!(cluster.script.lock().uploads, 3, "no version is uploaded twice");
}

#[tokio::test]
async fn another_module_than_was_meant_is_not_uploaded() {
    let cluster = with_grid().await;
    cluster.make::<GridFunction>(function(from_map("first"), Some(&digest(SECOND)))).await;
    let (status, message) = told(&cluster, "False", "DigestMismatch").await;
    let (expected, found) = (digest(SECOND), digest(FIRST));
    assert_eq!(message, format!("expected sha256 {expected}, found {found} in 10 bytes"));
    assert_eq!(condition(&status.conditions, "Fetched").0, "False");
    assert_eq!(cluster.script.lock().uploads, 0);
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let cluster = with_grid().await;
    cluster.make::<GridFunction>(function(from_map("fourth"), None)).await;
    let (_, message) = told(&cluster, "False", "SourceMissing").await;
    assert_eq!(message, "ConfigMap modules has no key \"fourth\"; it has first, second, third");
    cluster
        .change::<GridFunction>(
            "debit",
            json!({"source": {"configMap": null, "secret": {"name": "s", "key": "k"}}}),
        )
        .await;
    let (_, message) = told(&cluster, "False", "SourceMissing").await;
    assert_eq!(message, "there is no Secret s in the namespace");
    let data = [("k".to_owned(), ByteString(FIRST.to_vec()))];
    let metadata = ObjectMeta { name: Some("s".to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, data: Some(data.into()), ..Secret::default() };
    cluster.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    told(&cluster, "True", "Loaded").await;
}

#[tokio::test]
async fn a_module_that_does_not_compile_is_said_to_and_not_tried_for_ever() {
    let cluster = with_grid().await;
    let why = ("MODULE_UNKNOWN_IMPORT", "unknown import: env.now".to_owned());
    cluster.script.lock().refuse_modules = Some(why);
    cluster.make::<GridFunction>(function(from_map("first"), None)).await;
    let (status, message) = told(&cluster, "False", "ModuleRefused").await;
    let final_answer = "it is not tried again before the module, its settings or the nodes' version change";
    assert!(message.contains("unknown import: env.now") && message.ends_with(final_answer), "{message}");
    assert_eq!(condition(&status.conditions, "Fetched").0, "True");
    // Any change of the grid has it looked at again.
    cluster.change::<Grid>("g", json!({"size": 3})).await;
    looked_at_again(&cluster).await;
    assert_eq!(cluster.script.lock().uploads, 1);
    cluster.script.lock().refuse_modules = None;
    cluster.change::<GridFunction>("debit", json!({"source": from_map("second")})).await;
    told(&cluster, "True", "Loaded").await;
}

#[tokio::test]
async fn other_nodes_are_asked_again_about_a_module_that_was_refused() {
    let cluster = with_grid().await;
    let why = ("EXPORT_NOT_FOUND", "the module has no function \"sub\"".to_owned());
    cluster.script.lock().refuse_modules = Some(why);
    cluster.make::<GridFunction>(function(from_map("first"), Some(&digest(FIRST)))).await;
    told(&cluster, "False", "UploadRefused").await;
    // It is said again, without being fetched.
    cluster.api::<ConfigMap>().delete("modules", &DeleteParams::default()).await.unwrap();
    cluster.change::<Grid>("g", json!({"size": 3})).await;
    looked_at_again(&cluster).await;
    let function = cluster.api::<GridFunction>().get("debit").await.unwrap();
    let conditions = function.status.unwrap().conditions;
    assert_eq!(condition(&conditions, "Ready").1, "UploadRefused");
    cluster.script.lock().refuse_modules = None;
    cluster.change::<Grid>("g", json!({"version": "0.2.0"})).await;
    // Nodes of another version might take it: so it is looked for.
    told(&cluster, "False", "SourceMissing").await;
}

#[tokio::test]
async fn a_member_that_cannot_load_it_is_named() {
    let cluster = with_grid().await;
    let problem =
        v1::FunctionProblem { function: "debit".into(), problem: "compiling took more than 60 s".into() };
    cluster.script.lock().not_loaded = Some((2, problem));
    cluster.make::<GridFunction>(function(from_map("first"), None)).await;
    let (status, message) = told(&cluster, "False", "NotLoaded").await;
    assert!(
        message.starts_with("node 2 (127.") && message.ends_with("compiling took more than 60 s"),
        "{message}"
    );
    assert_eq!(status.loaded, "1/2");
    cluster.script.lock().not_loaded = None;
    told(&cluster, "True", "Loaded").await;
}

#[tokio::test]
async fn a_url_is_followed_and_held_against_its_digest() {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/moved", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/module")]) }))
        .route("/module", get(|| async { FIRST }));
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let cluster = with_grid().await;
    let url = |path| json!({"url": {"address": format!("{base}/{path}")}});
    cluster.make::<GridFunction>(function(url("missing"), Some(&digest(FIRST)))).await;
    let (_, message) = told(&cluster, "False", "FetchFailed").await;
    assert_eq!(message, format!("{base}/missing answers 404 Not Found"));
    cluster.change::<GridFunction>("debit", json!({"source": url("moved")})).await;
    let (status, _) = told(&cluster, "True", "Loaded").await;
    assert_eq!(status.digest, digest(FIRST));
    server.abort();
}

#[tokio::test]
async fn a_server_of_https_is_trusted_for_its_authority_alone() {
    let settings = Settings { tls: true, anonymous_is_admin: true, ..Settings::default() };
    let other = ApiServer::start(settings).await.unwrap();
    let cluster = with_grid().await;
    let url = |authority: Value| json!({"url": {"address": format!("{}/version", other.url()), "authority": authority}});
    cluster.make::<GridFunction>(function(url(Value::Null), Some(&digest(FIRST)))).await;
    let (_, message) = told(&cluster, "False", "FetchFailed").await;
    assert!(message.contains("invalid peer certificate: UnknownIssuer"), "{message}");
    let data = [("ca.pem".to_owned(), other.authority().unwrap().to_owned())];
    let metadata = ObjectMeta { name: Some("authority".to_owned()), ..ObjectMeta::default() };
    let authority = ConfigMap { metadata, data: Some(data.into()), ..ConfigMap::default() };
    cluster.api::<ConfigMap>().create(&PostParams::default(), &authority).await.unwrap();
    let source = url(json!({"name": "authority", "key": "ca.pem"}));
    cluster.change::<GridFunction>("debit", json!({"source": source})).await;
    // It has answered: what it says is not the module.
    let (_, message) = told(&cluster, "False", "DigestMismatch").await;
    assert!(message.ends_with("it does not begin as WebAssembly does"), "{message}");
}

#[tokio::test]
async fn a_deleted_function_goes_unless_it_is_to_stay() {
    let cluster = with_grid().await;
    for (policy, stays) in [("Retain", true), ("Delete", false)] {
        let mut kept = function(from_map("first"), None);
        kept["spec"]["deletionPolicy"] = json!(policy);
        cluster.make::<GridFunction>(kept).await;
        told(&cluster, "True", "Loaded").await;
        cluster.api::<GridFunction>().delete("debit", &DeleteParams::default()).await.unwrap();
        cluster.until_gone::<GridFunction>("debit").await;
        assert_eq!(cluster.script.lock().functions.contains_key("debit"), stays, "{policy}");
    }
}
