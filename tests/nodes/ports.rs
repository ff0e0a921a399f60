//! Nodes that find each other on a port of their own.

use tonic::Code;
use wattle::config::RawConfig;
use wattle_proto::internal::LinkRequest;
use wattle_proto::internal::peer_service_client::PeerServiceClient;
use wattle_proto::v1::StatusRequest;
use wattle_proto::v1::grid_service_client::GridServiceClient;

use crate::harness::TestNode;
use crate::harness::grid::{PARTITIONS, all_have_copies};

fn on_two_ports(join: Option<Vec<String>>) -> TestNode {
    TestNode::with(RawConfig {
        peer_listen: "127.0.0.1:0".parse().ok(),
        join,
        partitions: Some(PARTITIONS),
        ..RawConfig::default()
    })
}

/// What is said at a port to who would be a node.
async fn to_a_peer(address: &str) -> Code {
    let mut client = PeerServiceClient::connect(format!("http://{address}")).await.unwrap();
    let answered = client.link(tokio_stream::iter([LinkRequest::default()])).await;
    match answered {
        Ok(link) => link.into_inner().message().await.map_or_else(|status| status.code(), |_| Code::Ok),
        Err(status) => status.code(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_clients_have_a_port_each_and_neither_is_served_at_the_others() {
    let first = on_two_ports(None);
    let second = on_two_ports(Some(vec![first.peer_address()]));
    let client = second.client().await;
    all_have_copies(&client).await;
    // Calls go on to the other's port for clients.
    for key in 0..20 {
        client.raw_map("m").put(key.to_string(), "v").await.unwrap();
    }
    let status = client.status().await.unwrap();
    let addresses: Vec<String> = status.members.iter().map(|member| member.address.clone()).collect();
    assert_eq!(
        addresses.iter().map(|a| format!("http://{a}")).collect::<Vec<_>>(),
        [first.endpoint(), second.endpoint()]
    );
    let api = first.endpoint().replace("http://", "");
    assert_eq!(
        (to_a_peer(&api).await, to_a_peer(&first.peer_address()).await),
        (Code::Unimplemented, Code::Ok)
    );
    let mut at_peers = GridServiceClient::connect(format!("http://{}", first.peer_address())).await.unwrap();
    let refused = at_peers.status(StatusRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}
