//! Who owns what of an object that was made without an apply.

use kube::Client;
use serde_json::{Value, json};

use crate::raw::post;
use crate::server::{admin, start};

async fn owned(client: &Client, path: &str, object: Value) -> Value {
    let made = post(client, &format!("{path}?fieldManager=maker"), object).await.succeeded();
    let entries = made["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["manager"]), (1, &json!("maker")), "{entries:?}");
    entries[0]["fieldsV1"].clone()
}

#[tokio::test]
async fn who_makes_an_object_owns_what_he_wrote_and_what_was_left_to_defaults() {
    let server = start().await;
    let client = admin(&server).await;
    let deployment = json!({"metadata": {"name": "web", "labels": {"a": "b"}}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    assert_eq!(
        owned(&client, "/apis/apps/v1/namespaces/default/deployments", deployment).await,
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {
            "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
            "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:imagePullPolicy": {},
                    "f:name": {}, "f:resources": {}, "f:terminationMessagePath": {},
                    "f:terminationMessagePolicy": {}}},
                "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                "f:terminationGracePeriodSeconds": {}}}}})
    );
    assert_eq!(
        owned(&client, "/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await,
        json!({"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}})
    );
}

#[tokio::test]
async fn what_the_server_hands_out_is_nobodys() {
    let server = start().await;
    let client = admin(&server).await;
    let services = "/api/v1/namespaces/default/services";
    let ports = json!({".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {},
        "f:targetPort": {}}});
    let service =
        json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    let mut expected = json!({"f:spec": {"f:internalTrafficPolicy": {}, "f:ports": ports, "f:selector": {},
        "f:sessionAffinity": {}, "f:type": {}}});
    assert_eq!(owned(&client, services, service.clone()).await, expected);
    let mut headless = service;
    headless["metadata"]["name"] = json!("headless");
    headless["spec"]["clusterIP"] = json!("None");
    expected["f:spec"]["f:clusterIP"] = json!({});
    assert_eq!(owned(&client, services, headless).await, expected);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]},
        "status": {"phase": "Running"}});
    let of_pod = owned(&client, "/api/v1/namespaces/default/pods", pod).await;
    assert_eq!((of_pod.get("f:status"), of_pod["f:spec"].get(".")), (None, None), "{of_pod}");
}
