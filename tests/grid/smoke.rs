//! The shortest way through everything.

use crate::harness::TestNode;

#[tokio::test]
async fn an_entry_that_was_put_can_be_read() {
    let node = TestNode::start();
    let client = node.client().await;
    let map = client.raw_map("m");
    map.put("k", "v").await.unwrap();
    assert_eq!(map.get("k").await.unwrap().unwrap().value, "v");
}
