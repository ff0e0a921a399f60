//! Maps and functions of a grid of one pod, as they change.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wattle_client::ContentType;

use super::operated::Operated;
use crate::harness::examples::example;
use crate::harness::wire::eventually;

fn digest(module: &[u8]) -> String {
    Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn maps_are_made_and_functions_replaced_in_a_grid_of_pods() {
    let grid = Operated::found(1, json!({})).await;
    let spec = json!({"grid": "g", "contentType": "Json", "ttl": "1h", "backups": 1});
    grid.apply("GridMap", "counts", &spec).await;
    grid.told("GridMap", "counts", "AsSpecified").await;
    let client = grid.client().await;
    let map = async || client.maps().list().await.unwrap().into_iter().find(|map| map.name == "counts");
    let options = map().await.unwrap().options.unwrap();
    assert_eq!((options.content_type(), options.ttl.unwrap().seconds), (ContentType::Json, 3600));
    grid.apply("GridMap", "counts", &json!({"grid": "g", "contentType": "Json", "backups": 1})).await;
    eventually(async || map().await.filter(|map| map.revision > 1)).await;
    grid.told("GridMap", "counts", "AsSpecified").await;

    let (first, second) = (example("flight-delay"), example("flight-delay-v2"));
    grid.make_modules(&[("first", &first), ("second", &second), ("text", b"no module")]).await;
    let function = |key: &str, sha256: Option<String>| {
        let source = json!({"configMap": {"name": "modules", "key": key}});
        match sha256 {
            Some(sha256) => json!({"grid": "g", "source": source, "sha256": sha256}),
            None => json!({"grid": "g", "source": source}),
        }
    };
    grid.apply("GridFunction", "delay", &function("first", None)).await;
    let (status, _) = grid.told("GridFunction", "delay", "Loaded").await;
    assert_eq!((&status["digest"], &status["loaded"]), (&json!(digest(&first)), &json!("1/1")));
    grid.apply("GridFunction", "delay", &function("second", Some(digest(&second)))).await;
    let (status, _) = grid.told("GridFunction", "delay", "Loaded").await;
    assert_eq!((&status["version"], &status["digest"]), (&json!(2), &json!(digest(&second))));
    grid.apply("GridFunction", "delay", &function("text", None)).await;
    let (_, message) = grid.told("GridFunction", "delay", "ModuleRefused").await;
    assert!(message.contains("WebAssembly"), "{message}");
    let (delay, _) = client.functions().describe("delay").await.unwrap();
    assert_eq!(delay.active, 2, "what cannot run replaces nothing");
    grid.apply("GridFunction", "delay", &function("first", Some(digest(&first)))).await;
    let (status, _) = grid.told("GridFunction", "delay", "Loaded").await;
    assert_eq!((&status["version"], &status["digest"]), (&json!(1), &json!(digest(&first))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_has_the_limits_and_capabilities_that_it_was_given() {
    let grid = Operated::found(2, json!({})).await;
    let module = example("counter");
    grid.make_modules(&[("counter", &module)]).await;
    let client = grid.client().await;
    let function = |export: &str, capabilities: Value| {
        let source = json!({"configMap": {"name": "modules", "key": "counter"}});
        let limits = json!({"cpuBudget": "20ms", "memoryBytes": 4_194_304, "freshInstances": true});
        json!({"grid": "g", "source": source, "export": export, "limits": limits, "capabilities": capabilities})
    };
    grid.apply("GridFunction", "count", &function("add", json!([]))).await;
    let (_, message) = grid.told("GridFunction", "count", "CapabilityMissing").await;
    assert!(message.starts_with("version 1 needs the capability Write"), "{message}");
    let map = client.raw_map("counts");
    let refused = map.invoke("count", "visits", "1").await.unwrap_err();
    assert!(refused.to_string().contains("has no active version"), "{refused}");
    grid.apply("GridFunction", "count", &function("read", json!([]))).await;
    let (status, _) = grid.told("GridFunction", "count", "Loaded").await;
    assert_eq!((&status["export"], &status["capabilities"]), (&json!("read"), &Value::Null));
    assert_eq!(status["loaded"], "2/2");
    let digests: Vec<&Value> =
        status["members"].as_array().unwrap().iter().map(|member| &member["digest"]).collect();
    assert_eq!(digests, [&json!(digest(&module)); 2]);
    let (there, _) = client.functions().describe("count").await.unwrap();
    let options = there.versions[1].options.unwrap();
    assert_eq!(options.cpu_budget.unwrap().nanos, 20_000_000);
    assert_eq!((options.memory_bytes, options.fresh_instances), (4 << 20, true));
    grid.apply("GridFunction", "count", &function("add", json!(["Write"]))).await;
    let (status, _) = grid.told("GridFunction", "count", "Loaded").await;
    assert_eq!((&status["version"], &status["capabilities"]), (&json!(1), &json!(["Write"])));
    assert_eq!(map.invoke("count", "visits", "2").await.unwrap().response, "2");
}
