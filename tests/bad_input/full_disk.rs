//! A data directory that takes no more writes while its node runs.

use tonic::Code;
use wattle_client::{Client, Error, MapOptions, Outcome, UploadOptions, Versioned};

use super::{KEY, MAP, Refusal, VALUE, refusal, refused};
use crate::harness::guest::Guest;
use crate::harness::process::ProcessNode;

async fn upload(client: &Client, name: &str, guest: &Guest) -> Result<u32, Error> {
    let uploaded = client.functions().upload(name, guest.module(), &UploadOptions::new()).await?;
    Ok(uploaded.version)
}

fn unwritable(says: &'static str) -> Refusal {
    refusal(Code::Unavailable, "DATA_DIRECTORY", says)
}

fn missing(reason: &'static str) -> Refusal {
    refusal(Code::NotFound, reason, "there is no").of_read()
}

#[tokio::test]
async fn a_full_disk_refuses_definitions_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let node = ProcessNode::with_data(root.path()).await;
    let client = node.client().await;
    let (map, maps, functions) = (client.raw_map(MAP), client.maps(), client.functions());
    map.put(KEY, VALUE).await.unwrap();
    upload(&client, "count", &Guest::counter()).await.unwrap();
    let (defined, uploaded) = (maps.list().await.unwrap(), functions.list().await.unwrap());

    // Less than the padded module takes, and enough for what the engine maps of it.
    node.limit_files(Some(128 << 10));
    let padding = format!(r#"(@custom "padding" "{}")"#, "x".repeat(256 << 10));
    let large = Guest::counter().with(&padding);
    refused(upload(&client, "large", &large).await, &unwritable("the module cannot be stored"));
    node.limit_files(Some(0));
    // Whether it is on the disk in part cannot be seen now; if it is, it is taken back later.
    let in_doubt = Refusal { outcome: Some(Outcome::InDoubt), ..unwritable("the control log") };
    refused(maps.create("new", &MapOptions::new()).await, &in_doubt);
    refused(client.raw_map("new").put(KEY, VALUE).await, &unwritable("the control log"));
    refused(maps.delete(MAP).await, &unwritable("the control log"));
    refused(functions.delete("count").await, &unwritable("the control log"));
    assert_eq!((maps.list().await.unwrap(), functions.list().await.unwrap()), (defined, uploaded));
    refused(maps.describe("new").await, &missing("MAP_NOT_FOUND"));
    refused(functions.describe("large").await, &missing("FUNCTION_NOT_FOUND"));
    assert_eq!(map.get(KEY).await.unwrap().unwrap().value, VALUE);
    let version = map.put("other", "value").await.unwrap();
    assert_eq!(map.get("other").await.unwrap(), Some(Versioned { value: "value".into(), version }));
    assert_eq!(map.invoke("count", KEY, "").await.unwrap().response, 43_u64.to_le_bytes()[..]);

    node.limit_files(None);
    maps.create("new", &MapOptions::new()).await.unwrap();
    assert_eq!(upload(&client, "large", &large).await.unwrap(), 1);
    let (defined, uploaded) = (maps.list().await.unwrap(), functions.list().await.unwrap());
    drop((map, maps, functions, client));
    node.stop().await;
    let node = ProcessNode::with_data(root.path()).await;
    let client = node.client().await;
    let kept = (client.maps().list().await.unwrap(), client.functions().list().await.unwrap());
    assert_eq!(kept, (defined, uploaded), "what was refused has not come back");
    node.stop().await;
}
