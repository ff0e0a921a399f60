//! YAML instead of JSON, both ways.

use crate::raw::{APPLY, MAPS, get, made_map, put, send};
use crate::server::{admin, start};
use serde_json::json;

const YAML: &str = "application/yaml";
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  a: 'yes'\n";

#[tokio::test]
async fn objects_may_be_yaml() {
    let server = start().await;
    let client = admin(&server).await;
    let yaml = [("content-type", YAML)];
    let made = send(&client, "POST", MAPS, &yaml, MAP).await.succeeded();
    assert_eq!(made["data"], json!({"a": "yes"}));
    let path = format!("{MAPS}/a");
    let after = send(&client, "PUT", &path, &yaml, &MAP.replace("yes", "no")).await.succeeded();
    assert_eq!(after["data"], json!({"a": "no"}));
    assert_eq!(send(&client, "PUT", &path, &yaml, "a: [").await.code, 400);
    let apply = [("content-type", APPLY)];
    let applied = format!("{MAPS}/b?fieldManager=m");
    let config = MAP.replace("name: a", "name: b");
    assert_eq!(
        send(&client, "PATCH", &applied, &apply, &config).await.succeeded()["data"],
        json!({"a": "yes"})
    );
    let unquoted = config.replace('\'', "");
    send(&client, "PATCH", &applied, &apply, &unquoted).await.refused_with(
        500,
        "failed to create typed patch object (/b; /v1, Kind=ConfigMap): .data.a: expected string, got \
         &value.valueUnstructured{Value:true}",
    );
    let broken = send(&client, "PATCH", &applied, &apply, "a: [").await;
    let start = "error decoding YAML: error converting YAML to JSON: yaml: ";
    assert!(broken.code == 400 && broken.message().starts_with(start), "{broken:?}");
    assert!(!broken.message().contains('\n'), "{broken:?}");
}

#[tokio::test]
async fn answers_may_be_yaml() {
    let server = start().await;
    let client = admin(&server).await;
    made_map(&client, "a").await;
    let accept = [("accept", YAML)];
    for path in
        [format!("{MAPS}/a"), MAPS.to_owned(), format!("{MAPS}/b"), "/api/v1".to_owned(), "/nope".to_owned()]
    {
        let (json, yaml) = (get(&client, &path).await, send(&client, "GET", &path, &accept, "").await);
        assert_eq!(json.code, yaml.code, "{path}");
        if json.media_type.starts_with("text/") {
            assert_eq!(json.text, yaml.text, "{path}");
            continue;
        }
        assert_eq!(yaml.media_type, YAML, "{path}");
        // It is not JSON, and says the same.
        assert_eq!(yaml.json(), serde_json::Value::Null);
        let read: serde_json::Value = serde_saphyr::from_str(&yaml.text).unwrap();
        assert_eq!(read, json.json(), "{path}");
    }
    let map = json!({"metadata": {"name": "a"}});
    put(&client, &format!("{MAPS}/a"), map).await.succeeded();
    let watch = send(&client, "GET", &format!("{MAPS}?watch=true"), &accept, "").await;
    assert_eq!(watch.code, 406, "{watch:?}");
}
