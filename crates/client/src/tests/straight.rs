//! Which node a call goes to.

use super::*;

/// A table of one partition that `primary` decides about, as the member `teller` says it.
fn table(grid: &'static str, members: &[&TestNode], primary: u64, teller: u64) -> v1::WatchTableResponse {
    let numbered = (1..).zip(members);
    let member =
        |(node, at): (u64, &&TestNode)| v1::MemberAddress { node, incarnation: 1, address: at.address() };
    v1::WatchTableResponse {
        grid_id: Bytes::from_static(grid.as_bytes()),
        node: teller,
        incarnation: 1,
        generation: 1,
        version: 1,
        members: numbered.map(member).collect(),
        classes: vec![v1::ClassTable { class: 0, primaries: vec![primary] }],
        maps: Vec::new(),
    }
}

/// Two members, of which the second decides, and which answer puts.
async fn two() -> [TestNode; 2] {
    let nodes = [TestNode::start().await, TestNode::start().await];
    for (teller, node) in (1..).zip(&nodes) {
        node.script.tables.lock().unwrap().push(table("g", &[&nodes[0], &nodes[1]], 2, teller));
        node.script.puts.lock().unwrap().extend((0..100_000).map(|version| Ok(written(version))));
    }
    nodes
}

fn puts(node: &TestNode) -> usize {
    node.script.put_requests.lock().unwrap().len()
}

async fn put_until(client: &Client, is_seen: impl Fn() -> bool) {
    let map = client.raw_map("m");
    let until = async {
        while !is_seen() {
            map.put("k", "v").await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("it happens by itself");
}

#[tokio::test]
async fn a_call_on_a_key_goes_straight_to_who_decides_as_soon_as_that_is_connected() {
    let [given, primary] = two().await;
    let client = given.client().await;
    put_until(&client, || puts(&primary) > 0).await;
    let before = puts(&given);
    put_until(&client, || puts(&primary) > 50).await;
    assert_eq!(puts(&given), before, "all go straight");
}

#[tokio::test]
async fn who_only_takes_endpoints_does_not_ask_for_the_table() {
    let [given, primary] = two().await;
    let client = Client::connect(given.options().endpoints_only()).await.unwrap();
    put_until(&client, || puts(&given) > 50).await;
    assert_eq!((puts(&primary), *given.script.table_requests.lock().unwrap()), (0, 0));
}

#[tokio::test]
async fn somebody_else_at_a_members_address_is_asked_nothing() {
    for (grid, teller) in [("another", 2), ("g", 9)] {
        let [given, primary] = two().await;
        *primary.script.tables.lock().unwrap() = vec![table(grid, &[&given, &primary], 2, teller)];
        let client = given.client().await;
        // It was connected to, found to be another, and tried again.
        put_until(&client, || *primary.script.table_requests.lock().unwrap() > 1).await;
        assert_eq!(puts(&primary), 0, "{grid} {teller}");
    }
}

#[tokio::test]
async fn who_does_not_decide_any_more_is_not_asked_again_by_the_same_table() {
    let [given, primary] = two().await;
    let client = given.client().await;
    put_until(&client, || puts(&primary) > 0).await;
    let refused = (0..2).map(|_| Err(refusal(Code::Unavailable, "NOT_OWNER")));
    *primary.script.puts.lock().unwrap() = refused.collect();
    let before = (puts(&given), puts(&primary));
    client.raw_map("m").put("k", "v").await.unwrap();
    assert_eq!((puts(&given), puts(&primary)), (before.0 + 1, before.1 + 1));
    let last = |node: &TestNode| node.script.put_requests.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last(&given), last(&primary), "it is the same request");
}

#[tokio::test]
async fn members_are_asked_when_no_endpoint_answers_any_more() {
    let [given, other] = two().await;
    *other.script.tables.lock().unwrap() = vec![table("g", &[&given, &other], 1, 2)];
    *given.script.tables.lock().unwrap() = vec![table("g", &[&given, &other], 1, 1)];
    let client = given.client().await;
    put_until(&client, || *given.script.table_requests.lock().unwrap() > 0).await;
    let gone = || Err(Status::unavailable("as if nobody were there"));
    *given.script.puts.lock().unwrap() = std::iter::repeat_with(gone).take(100_000).collect();
    put_until(&client, || puts(&other) > 10).await;
}

#[tokio::test]
async fn nobody_waits_for_a_member_that_cannot_be_reached() {
    let given = TestNode::start().await;
    // It accepts, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut told = table("g", &[&given], 2, 1);
    let address = silent.local_addr().unwrap().to_string();
    told.members.push(v1::MemberAddress { node: 2, incarnation: 1, address });
    given.script.tables.lock().unwrap().push(told);
    given.script.puts.lock().unwrap().extend((0..100_000).map(|version| Ok(written(version))));
    let client = given.client().await;
    let accepted = tokio::spawn(async move { silent.accept().await.unwrap() });
    put_until(&client, || accepted.is_finished()).await;
    let before = puts(&given);
    put_until(&client, || puts(&given) > before + 50).await;
}
